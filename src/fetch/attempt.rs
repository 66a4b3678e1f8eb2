//! Layers 8 and 9: one attempt at one question, within the source's timeout, and why it may bring no answer.
//!
//! Innermost, so that each attempt has the whole timeout and the wait for the ledger is not counted.

use std::sync::Arc;
use std::time::SystemTime;

use super::read::check;
use super::transport::{SendError, Transport};
use crate::clock::Clock;
use crate::finding::{NotAsked, NotAskedReason, OutcomeBody, SourceError, SourceErrorKind};
use crate::source::{Answer, Question, Source, SourceSettings};
use crate::store::{StoreError, StoreErrorKind};

/// Why an attempt brought no answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AttemptError {
    /// The source was asked and failed, or could not be reached for the moment.
    Source(SourceError),
    /// The source cannot be reached, and a retry would not help: its certificate is not trusted, its name does not exist.
    Unreachable(SourceError),
    /// Something of ours failed, so the source was not asked; a retry would not help.
    Local(SourceError),
    /// A limit of ours held the attempt back.
    NotAttempted(NotAsked),
}

impl AttemptError {
    /// Nobody waits any more, or the time is up.
    pub(super) fn no_time() -> Self {
        Self::NotAttempted(NotAsked::new(NotAskedReason::Deadline, "no time was left before the deadline"))
    }

    /// The ledger cannot be reached: without it nothing leaves.
    pub(super) fn ledger_unreachable(source: &str, error: &StoreError) -> Self {
        tracing::error!(source, %error, "nothing can be recorded, so nothing is asked");
        let why = match error.kind {
            StoreErrorKind::Full => "the disk is full, so that no quota can be recorded",
            StoreErrorKind::Gone => "the store's file was moved, deleted or replaced",
            StoreErrorKind::Busy | StoreErrorKind::Unavailable | StoreErrorKind::Corrupt | StoreErrorKind::Rejected => {
                "the ledger cannot be reached"
            }
        };
        Self::Local(SourceError::unavailable(format!("{why}: the source was not asked")))
    }

    /// As the body of an outcome of which nothing else is known.
    pub(super) fn into_body(self) -> OutcomeBody {
        match self {
            Self::Source(error) | Self::Unreachable(error) | Self::Local(error) => OutcomeBody::Error(error),
            Self::NotAttempted(not_asked) => OutcomeBody::NotAsked(not_asked),
        }
    }

    /// As an error, for where the source was asked before: "not asked" would be untrue there.
    pub(super) fn into_error(self, now: SystemTime) -> SourceError {
        match self {
            Self::Source(error) | Self::Unreachable(error) | Self::Local(error) => error,
            Self::NotAttempted(not_asked) => {
                let late = not_asked.reason == NotAskedReason::Deadline;
                let kind = if late { SourceErrorKind::Timeout } else { SourceErrorKind::QuotaExhausted };
                let wait = not_asked.until.and_then(|until| until.duration_since(now).ok());
                SourceError::new(kind, not_asked.detail).retry_after(wait)
            }
        }
    }
}

impl From<SendError> for AttemptError {
    fn from(SendError { error, is_permanent, .. }: SendError) -> Self {
        if is_permanent { Self::Unreachable(error) } else { Self::Source(error) }
    }
}

/// The quota is used up until this moment.
pub(super) fn quota_spent(detail: &str, until: SystemTime) -> NotAsked {
    NotAsked { until: Some(until), ..NotAsked::new(NotAskedReason::QuotaSpent, detail) }
}

/// Whether the question may be sent, within the time of one attempt: a name may take its time to resolve.
pub(super) async fn check_may_send(
    transport: &dyn Transport,
    clock: &dyn Clock,
    settings: &SourceSettings,
    question: &Question,
) -> Result<(), AttemptError> {
    let allowed = clock.timeout(settings.timeout, transport.may_send(question)).await;
    let late = || Err(SendError::not_sent(timed_out(settings, "the source's name was not resolved")));
    Ok(allowed.unwrap_or_else(late)?)
}

/// Sends the question, and judges whether what came is an answer or a refusal, which the layers above must know.
pub(super) async fn send(
    transport: &dyn Transport,
    clock: &dyn Clock,
    settings: &SourceSettings,
    source: &Arc<dyn Source>,
    question: &Question,
) -> Result<Answer, SendError> {
    let answer = clock.timeout(settings.timeout, transport.send(question)).await;
    // How far the question came by then is not known: it counts as sent.
    let answer = answer.unwrap_or_else(|| Err(SendError::sent(timed_out(settings, "no answer"))))?;
    check(source, answer).await.map_err(SendError::sent)
}

pub(super) fn timed_out(settings: &SourceSettings, what: &str) -> SourceError {
    SourceError::new(SourceErrorKind::Timeout, format!("{what} within {} ms", settings.timeout.as_millis()))
}
