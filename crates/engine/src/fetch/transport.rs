//! The interface for sending a question and receiving its answer.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::clock::Clock;
use crate::finding::SourceError;
use crate::source::{Answer, EgressRules, Question, SourceSettings, TransportKind};

/// Why a question got no answer, and whether it was sent, which decides whether its quota unit is spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendError {
    /// The error.
    pub error: SourceError,
    /// Whether any part of the question may have reached the source, which may then count it against the quota.
    pub is_sent: bool,
    /// Whether a retry would fail the same way, even if the kind of the error is transient.
    pub is_permanent: bool,
}

impl SendError {
    /// An error after the question was sent, at least in part.
    pub fn sent(error: SourceError) -> Self {
        Self { error, is_sent: true, is_permanent: false }
    }

    /// An error before any part of the question reached the source.
    pub fn not_sent(error: SourceError) -> Self {
        Self { is_sent: false, ..Self::sent(error) }
    }
}

/// Makes the transport of a source with these settings: [`transport_for`](super::transport_for), but in tests.
pub type TransportFactory = dyn Fn(TransportKind, &SourceSettings, EgressRules, Arc<dyn Clock>) -> Result<Arc<dyn Transport>, SourceError>
    + Send
    + Sync;

/// Sends questions to a remote source over HTTP or DNS; tests use scripted implementations.
pub trait Transport: Send + Sync + fmt::Debug + 'static {
    /// Checks whether the question may be sent, as far as this is known before anything is paid or recorded.
    ///
    /// # Errors
    /// Why the question must not be sent.
    fn may_send<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<(), SendError>> {
        let _ = question;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Sends one question once and waits for its answer. The caller bounds the time, and drops the future to cancel.
    fn send<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Answer, SendError>>;
}
