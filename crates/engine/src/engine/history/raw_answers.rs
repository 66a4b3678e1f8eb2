//! Raw answers behind recorded findings: loads those that are still stored, and reads them again.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::try_join_all;

use crate::error::Error;
use crate::fetch::{SourceCache, read_stored};
use crate::finding::OutcomeBody;
use crate::indicator::{Indicator, from_hex};
use crate::source::{Answer, AnswerBody, Lookup, Reading, Source};
use crate::store::VerdictRecord;

/// A raw answer.
pub(super) type Body = Arc<[u8]>;

/// Verdicts whose raw answers are in memory together.
pub(super) const MOST_TOGETHER: usize = 64;

/// The raw answers of a source behind a verdict; `None` where one is no longer stored, or there are none.
pub(super) async fn load(
    answers: &SourceCache,
    record: &VerdictRecord,
    source: &str,
) -> Result<Option<Vec<Body>>, Error> {
    let of_source = record.answers.iter().filter(|(name, _)| name == source);
    let stored = try_join_all(of_source.map(async |(_, hash)| match from_hex(hash) {
        Some(hash) => answers.raw_answer(&hash).await,
        None => Ok(None),
    }));
    let stored: Option<Vec<Body>> = stored.await?.into_iter().collect();
    Ok(stored.filter(|stored| !stored.is_empty()))
}

/// What the source says by these answers; `None` where they cannot be read.
pub(super) fn read_again(
    source: &dyn Source,
    indicator: &Indicator,
    received: SystemTime,
    stored: &[Body],
) -> Option<OutcomeBody> {
    let answers: Vec<Answer> = stored.iter().map(|stored| answer_again(stored, received)).collect();
    read_as_far(source, &Lookup::new(indicator.clone()), &answers)
}

/// A stored answer as it was received. Only answers with a finding are read again, so that it was a success.
fn answer_again(stored: &Body, received: SystemTime) -> Answer {
    let body = AnswerBody::Http { status: 200, headers: Vec::new(), body: stored.to_vec() };
    Answer { received, ttl: None, body }
}

/// Reads as many of the answers as the source asks for; without the next one the partial finding counts, as in a look-up.
fn read_as_far(source: &dyn Source, lookup: &Lookup, answers: &[Answer]) -> Option<OutcomeBody> {
    for count in 1..=answers.len() {
        match read_stored(source, lookup, answers.get(..count)?).ok()? {
            Reading::Found(finding) => return Some(OutcomeBody::Finding(finding)),
            Reading::NoRecord => return Some(OutcomeBody::NoRecord),
            Reading::More { partial_finding, .. } if count == answers.len() => {
                return partial_finding.map(OutcomeBody::Finding);
            }
            Reading::More { .. } => {}
        }
    }
    None
}
