//! The steps of a conversation, and the raw answers in them as they are stored.

use std::sync::Arc;

use aws_lc_rs::digest;
use tokio_util::task::TaskTracker;

use crate::clock::Monotonic;
use crate::indicator::hex;
use crate::source::{Answer, AnswerBody, DnsAnswer, Question};
use crate::store::{AnswerStore, RawAnswer};

/// A question, its answer, and the hash under which the raw answer is stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) question: Question,
    pub(super) answer: Answer,
    pub(super) received: Monotonic,
    pub(super) hash: String,
}

/// The raw answers behind an outcome, in order of asking. Clones share them. A look-up in a list has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawAnswers(Arc<[Step]>);

impl RawAnswers {
    pub(super) fn new(steps: &Arc<[Step]>) -> Self {
        Self(steps.clone())
    }

    /// The hashes under which they are stored.
    pub fn hashes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|step| step.hash.as_str())
    }

    /// Bytes of all of them together.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|step| body_length(&step.answer)).sum()
    }

    /// What the source said, as it is stored. It may not be in the store yet: nobody waits for that.
    pub fn bodies(&self) -> impl Iterator<Item = Vec<u8>> {
        self.0.iter().map(|step| raw_bytes(&step.answer.body))
    }
}

/// Stores raw answers in tasks of their own, so that no look-up waits for it.
pub(super) struct RawAnswerWriter {
    pub(super) source: String,
    pub(super) store: Arc<dyn AnswerStore>,
    pub(super) tracker: TaskTracker,
}

impl RawAnswerWriter {
    /// Begins to store the answer and returns its hash.
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
        // A list is at hand anyway: its pipeline stores nothing.
        AnswerBody::List(_) => Vec::new(),
    }
}

/// Bytes of the body of an answer.
pub(super) fn body_length(answer: &Answer) -> usize {
    match &answer.body {
        AnswerBody::Http { body, .. } => body.len(),
        AnswerBody::Dns(_) | AnswerBody::List(_) => 64,
    }
}
