//! The steps of a conversation, and the form in which their raw answers are stored.

use std::sync::Arc;

use aws_lc_rs::digest;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Monotonic};
use crate::finding::SourceError;
use crate::indicator::hex;
use crate::source::{Answer, AnswerBody, DnsAnswer, Question};
use crate::store::{AnswerStore, RawAnswer};

/// A question, its answer, and the hash under which the raw answer is stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) question: Question,
    pub(super) answer: Answer,
    pub(super) received: Monotonic,
    /// `None` if there is no answer.
    pub(super) hash: Option<String>,
}

impl Step {
    /// A further question that failed.
    pub(super) fn failed(question: Question, error: SourceError, clock: &dyn Clock) -> Self {
        let answer = Answer { received: clock.now(), ttl: None, body: AnswerBody::Failed(error) };
        Self { question, answer, received: clock.monotonic(), hash: None }
    }

    /// Bytes that it takes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        let pairs = |pairs: &[(String, String)]| -> usize {
            pairs.iter().map(|(name, value)| size_of::<(String, String)>() + name.len() + value.len()).sum()
        };
        let question = match &self.question {
            Question::Http(question) => question.url.as_str().len() + pairs(&question.headers),
            Question::Dns(question) => question.name.len() + question.zone.len(),
            Question::List(_) => 0,
        };
        let headers = match &self.answer.body {
            AnswerBody::Http { headers, .. } => pairs(headers),
            AnswerBody::Dns(_) | AnswerBody::List(_) | AnswerBody::Failed(_) => 0,
        };
        size_of::<Self>() + question + headers + body_length(&self.answer) + self.hash.as_ref().map_or(0, String::len)
    }
}

/// The raw answers behind an outcome, in the order of the questions. Clones share them. A look-up in a list has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawAnswers(Arc<[Step]>);

impl RawAnswers {
    pub(super) fn new(steps: &Arc<[Step]>) -> Self {
        Self(steps.clone())
    }

    /// The hashes under which the answers are stored.
    pub fn hashes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|step| step.hash.as_deref())
    }

    /// Total size in bytes.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|step| body_length(&step.answer)).sum()
    }

    /// The answers in the form in which they are stored. They may not be in the store yet, since writing runs in the
    /// background.
    pub fn bodies(&self) -> impl Iterator<Item = Vec<u8>> {
        self.0.iter().filter(|step| step.hash.is_some()).map(|step| raw_bytes(&step.answer.body))
    }
}

/// Stores raw answers in background tasks, so that no look-up waits for it.
pub(super) struct RawAnswerWriter {
    pub(super) source: String,
    pub(super) store: Arc<dyn AnswerStore>,
    pub(super) tracker: TaskTracker,
}

impl RawAnswerWriter {
    /// Starts storing the answer and returns its hash.
    pub(super) fn store(&self, answer: &Answer) -> String {
        let body = raw_bytes(&answer.body);
        let hash = hex(digest::digest(&digest::SHA256, &body).as_ref());
        let source = self.source.clone();
        let raw = RawAnswer { hash: hash.clone(), source: source.clone(), received: answer.received, body };
        let store = self.store.clone();
        self.tracker.spawn(async move {
            if let Err(error) = store.keep_answer(raw).await {
                tracing::warn!(source, %error, "a raw answer could not be stored");
            }
        });
        hash
    }
}

fn raw_bytes(body: &AnswerBody) -> Vec<u8> {
    match body {
        AnswerBody::Http { body, .. } => body.clone(),
        AnswerBody::Dns(DnsAnswer::Addresses(addresses)) => {
            addresses.iter().map(|address| format!("A {address}\n")).collect::<String>().into_bytes()
        }
        AnswerBody::Dns(DnsAnswer::NxDomain) => b"NXDOMAIN\n".to_vec(),
        AnswerBody::Dns(DnsAnswer::Failure(code)) => format!("{code}\n").into_bytes(),
        // Neither is stored.
        AnswerBody::List(_) | AnswerBody::Failed(_) => Vec::new(),
    }
}

/// Size of the body of an answer, in bytes.
pub(super) fn body_length(answer: &Answer) -> usize {
    match &answer.body {
        AnswerBody::Http { body, .. } => body.len(),
        AnswerBody::Dns(_) | AnswerBody::List(_) | AnswerBody::Failed(_) => 64,
    }
}
