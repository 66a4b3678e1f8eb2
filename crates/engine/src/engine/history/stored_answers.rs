//! The raw answers behind the findings of verdicts, as far as they are still stored.

use std::collections::BTreeMap;

use super::raw_answers;
use crate::error::Error;
use crate::fetch::SourceCache;
use crate::finding::Outcome;
use crate::store::VerdictRecord;

/// Why a finding cannot be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnusableAnswer {
    /// Its raw answers are no longer stored.
    Pruned,
    /// Its raw answers could not be read.
    Unreadable,
}

/// The raw answers behind the findings of one verdict that are read again, by source; `None` where one is no longer stored.
pub(super) struct StoredAnswers(BTreeMap<String, Option<Vec<raw_answers::Body>>>);

impl StoredAnswers {
    pub(super) fn bytes(&self) -> usize {
        self.0.values().flatten().flatten().map(|answer| answer.len()).sum()
    }

    /// The answers behind this outcome; `None`: it is not to be read again.
    pub(super) fn of_outcome(&self, outcome: &Outcome) -> Option<Result<&[raw_answers::Body], UnusableAnswer>> {
        Some(self.0.get(&outcome.source)?.as_deref().ok_or(UnusableAnswer::Pruned))
    }
}

/// The raw answers behind each of these verdicts, of the sources that are wanted.
pub(super) async fn stored_answers(
    cache: &SourceCache,
    records: impl Iterator<Item = &VerdictRecord>,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<StoredAnswers>, Error> {
    let of_record = async |record: &VerdictRecord| {
        let mut answers = BTreeMap::new();
        for outcome in record.verdict.outcomes.iter().filter(|outcome| outcome.body.finding().is_some()) {
            if is_wanted(&outcome.source) {
                let stored = raw_answers::load(cache, record, &outcome.source).await?;
                answers.insert(outcome.source.clone(), stored);
            }
        }
        Ok::<_, Error>(StoredAnswers(answers))
    };
    let mut all = Vec::new();
    for record in records {
        all.push(of_record(record).await?);
    }
    Ok(all)
}
