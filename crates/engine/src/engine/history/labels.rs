//! What analysts said of indicators, as labels. Only they make labels: a verdict never does.
//!
//! An address changes hands, so that a label holds near its time alone. It belongs to the verdict that the analyst named, else to the
//! one nearest in time; and for a source that gave no answer there, to the nearest in which it did.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime};

use crate::error::Error;
use crate::indicator::Indicator;
use crate::statistics::Label;
use crate::store::{Cursor, FeedbackFilter, PageLimit, Store, VerdictFilter, VerdictRecord};
use crate::verdict::Feedback;

/// Labels that are kept in memory, the newest.
const MOST_LABELS: usize = 200_000;
const PAGE: PageLimit = PageLimit { rows: 1_000, bytes: 4 * 1024 * 1024 };
/// Days between a label and the verdicts that it can belong to.
pub const JOINED_DAYS: u64 = 30;
const JOINED_WITHIN: Duration = Duration::from_secs(JOINED_DAYS * 86_400);

/// The labels that no verdict has been given yet.
#[derive(Default)]
pub(super) struct Labels {
    /// By indicator; its verdicts were not looked for yet.
    waiting: HashMap<u64, Word>,
    /// By verdict.
    joined: HashMap<String, JoinedLabel>,
}

/// What an analyst said of an indicator.
struct Word {
    label: Label,
    verdict: Option<String>,
    expire_time: Option<SystemTime>,
}

/// A label that belongs to a verdict, or to what some of its sources say.
#[derive(Clone)]
pub(super) struct JoinedLabel {
    label: Label,
    is_of_verdict: bool,
    sources: Vec<String>,
}

/// How far a verdict is from what the label is about, the named one first; of two as near the earlier one comes first.
type Distance = (bool, Duration, SystemTime, Reverse<String>);

impl Labels {
    /// The newest word on each indicator that was not retracted.
    pub(super) async fn load(store: &dyn Store) -> Result<Self, Error> {
        let mut waiting = HashMap::new();
        let mut after = None;
        loop {
            let unretracted = FeedbackFilter { unretracted: true, ..FeedbackFilter::default() };
            let listed = store.list_feedback(unretracted, PAGE, after).await?;
            after = listed.rows.last().map(|last| Cursor { time: last.create_time, id: last.id.clone() });
            for feedback in listed.rows {
                waiting.entry(number_of(&feedback.indicator)).or_insert_with(|| Word::new(feedback));
            }
            if !listed.has_more || waiting.len() >= MOST_LABELS {
                return Ok(Self { waiting, joined: HashMap::new() });
            }
        }
    }

    /// Finds the verdicts that the labels of these indicators belong to, which may lie outside what is read.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(super) async fn join(&mut self, store: &dyn Store, records: &[VerdictRecord]) -> Result<(), Error> {
        for record in records {
            let indicator = &record.verdict.indicator;
            if let Some(word) = self.waiting.remove(&number_of(indicator)) {
                self.join_word(store, indicator, &word).await?;
            }
        }
        Ok(())
    }

    async fn join_word(&mut self, store: &dyn Store, indicator: &Indicator, word: &Word) -> Result<(), Error> {
        let named = match &word.verdict {
            Some(id) => store.verdict(id).await?,
            None => None,
        };
        let about = named.map_or(word.label.time, |named| named.create_time);
        let until = about + JOINED_WITHIN;
        let filter = VerdictFilter {
            indicator: Some(indicator.clone()),
            disposition: None,
            from: about.checked_sub(JOINED_WITHIN),
            until: Some(word.expire_time.map_or(until, |expires| expires.min(until))),
        };
        let mut nearest: Option<Distance> = None;
        let mut nearest_of_source: BTreeMap<String, Distance> = BTreeMap::new();
        let mut after = None;
        loop {
            let listed = store.verdicts(filter.clone(), PAGE, after).await?;
            after = listed.rows.last().map(|last| Cursor { time: last.create_time, id: last.id.clone() });
            for record in &listed.rows {
                let distance = word.distance(record, about);
                for outcome in record.verdict.outcomes.iter().filter(|outcome| outcome.body.is_answer()) {
                    let of_source = nearest_of_source.entry(outcome.source.clone());
                    let of_source = of_source.or_insert_with(|| distance.clone());
                    if distance < *of_source {
                        *of_source = distance.clone();
                    }
                    if nearest.as_ref().is_none_or(|nearest| distance < *nearest) {
                        nearest = Some(distance.clone());
                    }
                }
            }
            if !listed.has_more {
                break;
            }
        }
        for (source, (_, _, _, Reverse(verdict))) in nearest_of_source {
            self.joined_to(verdict, word.label).sources.push(source);
        }
        if let Some((_, _, _, Reverse(verdict))) = nearest {
            self.joined_to(verdict, word.label).is_of_verdict = true;
        }
        Ok(())
    }

    fn joined_to(&mut self, verdict: String, label: Label) -> &mut JoinedLabel {
        let joined = || JoinedLabel { label, is_of_verdict: false, sources: Vec::new() };
        self.joined.entry(verdict).or_insert_with(joined)
    }

    /// The label of a verdict, or of some of its sources, given out once. Its page must have been joined.
    pub(super) fn take(&mut self, verdict: &str) -> Option<JoinedLabel> {
        self.joined.remove(verdict)
    }
}

impl Word {
    fn new(feedback: Feedback) -> Self {
        Self {
            label: Label::new(feedback.judgement, feedback.create_time),
            verdict: feedback.verdict,
            expire_time: feedback.expire_time,
        }
    }

    fn distance(&self, record: &VerdictRecord, about: SystemTime) -> Distance {
        let (is_named, made) = (self.verdict.as_deref() == Some(record.id.as_str()), record.create_time);
        let apart = made.duration_since(about).or_else(|_| about.duration_since(made)).unwrap_or_default();
        (!is_named, apart, made, Reverse(record.id.clone()))
    }
}

impl JoinedLabel {
    /// The label, where it belongs to the verdict as a whole: of all verdicts to one.
    pub(super) fn of_verdict(&self) -> Option<Label> {
        self.is_of_verdict.then_some(self.label)
    }

    /// The label, where it belongs to what this source says: of all verdicts to one.
    pub(super) fn of_source(&self, source: &str) -> Option<Label> {
        self.sources.iter().any(|each| each == source).then_some(self.label)
    }
}

/// A number that stands for an indicator as it is stored.
pub(super) fn number_of(indicator: &Indicator) -> u64 {
    let mut hasher = DefaultHasher::new();
    (indicator.form(), indicator.redacted()).hash(&mut hasher);
    hasher.finish()
}
