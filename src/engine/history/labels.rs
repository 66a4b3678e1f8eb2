//! What analysts said of indicators, as labels. Only they make labels: a verdict never does.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::error::Error;
use crate::indicator::Indicator;
use crate::statistics::Label;
use crate::store::{Cursor, FeedbackFilter, PageLimit, Store};

/// Labels that are kept in memory, the newest.
const MOST_LABELS: usize = 200_000;
const PAGE: PageLimit = PageLimit { rows: 1_000, bytes: 4 * 1024 * 1024 };

/// The labels that no verdict has been given yet.
#[derive(Default)]
pub(super) struct Labels {
    of_indicator: HashMap<u64, Label>,
}

impl Labels {
    /// The newest word on each indicator that was not retracted, also where it has expired: it was found once.
    pub(super) async fn load(store: &dyn Store) -> Result<Self, Error> {
        let mut of_indicator = HashMap::new();
        let mut after = None;
        loop {
            let listed = store.list_feedback(FeedbackFilter::default(), PAGE, after).await?;
            after = listed.rows.last().map(|last| Cursor { time: last.create_time, id: last.id.clone() });
            for feedback in listed.rows.into_iter().filter(|feedback| feedback.retraction.is_none()) {
                let label = Label::new(feedback.judgement, feedback.create_time);
                of_indicator.entry(number_of(&feedback.indicator)).or_insert(label);
            }
            if !listed.has_more || of_indicator.len() >= MOST_LABELS {
                return Ok(Self { of_indicator });
            }
        }
    }

    /// The label of an indicator, given out once: to the newest of its verdicts, so that each label counts once.
    pub(super) fn take(&mut self, indicator: u64) -> Option<Label> {
        self.of_indicator.remove(&indicator)
    }
}

/// A number that stands for an indicator as it is stored.
pub(super) fn number_of(indicator: &Indicator) -> u64 {
    let mut hasher = DefaultHasher::new();
    (indicator.form(), indicator.redacted()).hash(&mut hasher);
    hasher.finish()
}
