//! The steps of a conversation, and the raw answers behind them, which are kept in the store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use tokio_util::task::TaskTracker;

use super::backlog::Backlog;
use super::lookup::{AnswerHash, AnswerTime};
use crate::clock::Monotonic;
use crate::indicator::hex;
use crate::source::{Answer, AnswerBody, DnsAnswer};
use crate::store::{AnswerStore, CacheDigest, RawAnswer, StoreError};

/// Answers that are stored in one write, so that a quota unit does not wait for a long one.
const GROUP: usize = 64;

/// A question and the answer to it, each by its digest.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) question: CacheDigest,
    pub(super) hash: AnswerHash,
    /// HTTP status; `None` if the answer came by DNS.
    pub(super) status: Option<u16>,
    pub(super) time: AnswerTime,
    pub(super) ttl: Option<Duration>,
}

/// A step with its answer.
pub(super) type AnsweredStep = (Step, Answer);

/// The hashes under which the answers of these steps are stored.
pub(super) fn hashes(steps: &[Step]) -> Vec<AnswerHash> {
    steps.iter().map(|step| step.hash).collect()
}

/// Raw answers: stored in the background, so that no look-up waits for it. They are found also before they are stored.
/// Clones share them.
#[derive(Clone)]
pub(super) struct RawAnswers {
    waiting: Backlog<AnswerHash, RawAnswer>,
    store: Arc<dyn AnswerStore>,
    tracker: TaskTracker,
}

impl RawAnswers {
    pub(super) fn new(store: Arc<dyn AnswerStore>, tracker: TaskTracker) -> Self {
        Self { waiting: Backlog::default(), store, tracker }
    }

    /// Starts storing the answer to the question with this digest, and returns the step that it belongs to.
    pub(super) fn store(&self, source: &str, question: CacheDigest, answer: &Answer, received: Monotonic) -> Step {
        let body = raw_bytes(&answer.body);
        let mut hash = AnswerHash::default();
        hash.copy_from_slice(digest::digest(&digest::SHA256, &body).as_ref());
        let raw = RawAnswer { hash: hex(&hash), source: source.to_owned(), received: answer.received, body };
        let (length, raw_answers) = (raw.body.len(), self.clone());
        let write = move |answers: Vec<RawAnswer>| {
            let raw_answers = raw_answers.clone();
            async move { raw_answers.write(answers).await }
        };
        if !self.waiting.add((hash, raw), length, &self.tracker, write) {
            note_not_stored("too many are waiting to be stored", 1);
        }
        let status = match answer.body {
            AnswerBody::Http { status, .. } => Some(status),
            AnswerBody::Dns(_) | AnswerBody::List(_) | AnswerBody::Failed(_) => None,
        };
        let time = AnswerTime { wall: answer.received, monotonic: received };
        Step { question, hash, status, time, ttl: answer.ttl }
    }

    async fn write(&self, mut answers: Vec<RawAnswer>) {
        while !answers.is_empty() {
            let rest = answers.split_off(answers.len().min(GROUP));
            let group = std::mem::replace(&mut answers, rest);
            let count = group.len() as u64;
            if let Err(error) = self.store.keep_answers(group).await {
                note_not_stored(&error.to_string(), count);
            }
        }
    }

    /// The body of the answer with this hash; `None` if it was pruned.
    ///
    /// # Errors
    /// If the store cannot read it.
    pub(super) async fn body(&self, hash: &AnswerHash) -> Result<Option<Arc<[u8]>>, StoreError> {
        let raw = match self.waiting.get(hash) {
            Some(raw) => Some(raw),
            None => self.store.answer(&hex(hash)).await?,
        };
        Ok(raw.map(|raw| raw.body))
    }

    /// The steps with their answers, up to the first answer that is gone. The headers of answers are not kept.
    pub(super) async fn answered(&self, steps: &[Step]) -> Vec<AnsweredStep> {
        let mut answered = Vec::with_capacity(steps.len());
        for step in steps {
            let Ok(Some(body)) = self.body(&step.hash).await else { break };
            let body = match step.status {
                Some(status) => AnswerBody::Http { status, headers: Vec::new(), body: body.to_vec() },
                None => AnswerBody::Dns(dns_answer(&body)),
            };
            answered.push((step.clone(), Answer { received: step.time.wall, ttl: step.ttl, body }));
        }
        answered
    }
}

impl fmt::Debug for RawAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawAnswers").finish_non_exhaustive()
    }
}

fn note_not_stored(why: &str, count: u64) {
    tracing::warn!(why, count, "raw answers could not be stored");
    metrics::counter!("concord_raw_answers_not_stored_total").increment(count);
}

fn raw_bytes(body: &AnswerBody) -> Arc<[u8]> {
    let text = match body {
        AnswerBody::Http { body, .. } => return body.as_slice().into(),
        AnswerBody::Dns(DnsAnswer::Addresses(addresses)) => {
            addresses.iter().map(|address| format!("A {address}\n")).collect()
        }
        AnswerBody::Dns(DnsAnswer::NxDomain) => "NXDOMAIN\n".to_owned(),
        AnswerBody::Dns(DnsAnswer::Failure(code)) => format!("{code}\n"),
        // Neither is stored.
        AnswerBody::List(_) | AnswerBody::Failed(_) => String::new(),
    };
    text.into_bytes().into()
}

/// Reverses [`raw_bytes`] for an answer by DNS.
fn dns_answer(body: &[u8]) -> DnsAnswer {
    let text = String::from_utf8_lossy(body);
    let addresses = text.lines().map(|line| line.strip_prefix("A ").and_then(|address| address.parse().ok()));
    match addresses.collect() {
        Some(addresses) => DnsAnswer::Addresses(addresses),
        None if text == "NXDOMAIN\n" => DnsAnswer::NxDomain,
        None => DnsAnswer::Failure(text.trim_end().to_owned()),
    }
}

/// Size of the body of an answer, in bytes.
pub(super) fn body_length(answer: &Answer) -> usize {
    match &answer.body {
        AnswerBody::Http { body, .. } => body.len(),
        AnswerBody::Dns(_) | AnswerBody::List(_) | AnswerBody::Failed(_) => 64,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_answer_by_dns_is_stored_so_that_it_can_be_read_again() {
        let addresses = vec![Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 4)];
        let failure = DnsAnswer::Failure("SERVFAIL".into());
        let all = [DnsAnswer::Addresses(addresses), DnsAnswer::Addresses(Vec::new()), DnsAnswer::NxDomain, failure];
        for answer in all {
            assert_eq!(dns_answer(&raw_bytes(&AnswerBody::Dns(answer.clone()))), answer);
        }
    }
}
