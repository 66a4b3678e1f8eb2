//! How a question leaves and its answer comes back.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::finding::SourceError;
use crate::source::{Answer, Question};

/// Sends questions to a source outside: by HTTP, by DNS, or from a script in tests.
pub trait Transport: Send + Sync + fmt::Debug + 'static {
    /// Whether the question may be sent at all, as far as known before anything is paid or recorded.
    ///
    /// The error says why not.
    fn may_send<'a>(
        &'a self,
        question: &'a Question,
    ) -> Pin<Box<dyn Future<Output = Result<(), SourceError>> + Send + 'a>> {
        let _ = question;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Sends one question once and waits for its answer; the caller bounds the time and drops the future to give up.
    fn send<'a>(
        &'a self,
        question: &'a Question,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, SourceError>> + Send + 'a>>;
}
