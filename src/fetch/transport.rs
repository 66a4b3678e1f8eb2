//! How a question leaves and its answer comes back.

use std::fmt;

use futures_util::future::BoxFuture;

use crate::finding::SourceError;
use crate::source::{Answer, Question};

/// Why a question brought no answer, and how far it came, which decides what it cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendError {
    /// The failure.
    pub error: SourceError,
    /// Whether anything of the question may have reached the source, which then has counted it.
    pub is_sent: bool,
    /// Whether it would fail the same way moments later, whatever its kind says.
    pub is_permanent: bool,
}

impl SendError {
    /// The question left, at least in part.
    pub fn sent(error: SourceError) -> Self {
        Self { error, is_sent: true, is_permanent: false }
    }

    /// Nothing of the question reached the source.
    pub fn not_sent(error: SourceError) -> Self {
        Self { is_sent: false, ..Self::sent(error) }
    }
}

/// Sends questions to a source outside: by HTTP, by DNS, or from a script in tests.
pub trait Transport: Send + Sync + fmt::Debug + 'static {
    /// Whether the question may be sent at all, as far as known before anything is paid or recorded.
    ///
    /// The error says why not.
    fn may_send<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<(), SendError>> {
        let _ = question;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Sends one question once and waits for its answer; the caller bounds the time and drops the future to give up.
    fn send<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Answer, SendError>>;
}
