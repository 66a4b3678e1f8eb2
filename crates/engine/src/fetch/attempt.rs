//! Layers 8 and 9: one attempt at one question within the source's timeout, and the reasons why it may fail.
//!
//! These layers are the innermost, so that each attempt has the whole timeout and waiting for the ledger does not
//! count.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::read::check;
use super::transport::{SendError, Transport};
use crate::clock::Clock;
use crate::finding::{NotAsked, NotAskedReason, OutcomeBody, SourceError, SourceErrorKind};
use crate::source::{Answer, HttpMethod, HttpQuestion, Question, RateLimit, Source, SourceSettings};
use crate::store::{StoreError, StoreErrorKind};

/// A line that sends a file more slowly is given up.
const MIN_UPLOAD_BYTES_PER_SECOND: u64 = 128 * 1024;
/// For a file however small, since the source also works on it before it answers.
const MIN_UPLOAD_TIME: Duration = Duration::from_secs(60);

/// Why an attempt returned no answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AttemptError {
    /// The source was asked and failed, or was temporarily unreachable.
    Source(SourceError),
    /// The source is unreachable in a way that a retry does not change: its certificate is not trusted, or its name
    /// does not exist.
    Unreachable(SourceError),
    /// Concord itself failed, so the source was not asked. A retry would not help.
    Local(SourceError),
    /// A limit such as the quota or the deadline prevented the attempt.
    NotAttempted(NotAsked),
}

impl AttemptError {
    /// Nobody waits any more, or the time is up.
    pub(super) fn no_time() -> Self {
        Self::NotAttempted(NotAsked::new(NotAskedReason::Deadline, "no time was left before the deadline"))
    }

    /// The ledger cannot be reached. Without a record of its cost and disclosure no call is made.
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

    /// Converts into an outcome body, for a conversation without any earlier answer.
    pub(super) fn into_body(self) -> OutcomeBody {
        match self {
            Self::Source(error) | Self::Unreachable(error) | Self::Local(error) => OutcomeBody::Error(error),
            Self::NotAttempted(not_asked) => OutcomeBody::NotAsked(not_asked),
        }
    }

    /// Converts into an error, for a conversation in which the source was asked before, so that "not asked" would be
    /// wrong.
    pub(super) fn into_error(self, now: SystemTime) -> SourceError {
        match self {
            Self::Source(error) | Self::Unreachable(error) | Self::Local(error) => error,
            Self::NotAttempted(not_asked) => {
                let kind = if not_asked.reason == NotAskedReason::Deadline {
                    SourceErrorKind::Timeout
                } else if not_asked.reason == NotAskedReason::CircuitOpen {
                    SourceErrorKind::Unavailable
                } else {
                    SourceErrorKind::QuotaExhausted
                };
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

/// The outcome for a quota that is used up until this time.
pub(super) fn quota_spent(detail: impl Into<String>, until: SystemTime) -> NotAsked {
    NotAsked { until: Some(until), ..NotAsked::new(NotAskedReason::QuotaSpent, detail) }
}

/// Checks whether the question may be sent. Bounded by the timeout of an attempt, since this may resolve a name.
pub(super) async fn check_may_send(
    transport: &dyn Transport,
    clock: &dyn Clock,
    settings: &SourceSettings,
    question: &Question,
) -> Result<(), AttemptError> {
    let allowed = clock.timeout(settings.timeout, transport.may_send(question)).await;
    let late = || Err(SendError::not_sent(timed_out(settings.timeout, "the source's name was not resolved")));
    Ok(allowed.unwrap_or_else(late)?)
}

/// What came of sending a question.
pub(super) struct SendOutcome {
    /// The answer, or why there is none; a refusal is none.
    pub(super) answer: Result<Answer, SendError>,
    /// What the headers report of the quota, those of a refusal too.
    pub(super) rate_limits: Vec<RateLimit>,
}

/// Sends the question, and decides whether the response is an answer or a refusal, since the layers outside this one
/// depend on it.
pub(super) async fn send(
    transport: &dyn Transport,
    clock: &dyn Clock,
    settings: &SourceSettings,
    source: &Arc<dyn Source>,
    question: &Question,
) -> SendOutcome {
    let limit = settings.timeout + upload_time(question);
    let answer = clock.timeout(limit, transport.send(question)).await;
    // After a timeout it is not known whether the source received the question, so it counts as sent.
    let answer = answer.unwrap_or_else(|| Err(SendError::sent(timed_out(limit, "no answer"))));
    let rate_limits = answer.as_ref().map(RateLimit::read).unwrap_or_default();
    let answer = match answer {
        Ok(answer) => check(source, answer).await.map_err(SendError::sent),
        Err(error) => Err(error),
    };
    SendOutcome { answer, rate_limits }
}

/// Time that an attempt has beside the timeout of the settings: that in which the file is sent over a slow line.
fn upload_time(question: &Question) -> Duration {
    match question {
        Question::Http(HttpQuestion { method: HttpMethod::PostFile { file, .. }, .. }) => {
            MIN_UPLOAD_TIME + Duration::from_secs(file.size / MIN_UPLOAD_BYTES_PER_SECOND)
        }
        Question::Http(_) | Question::Dns(_) | Question::List(_) => Duration::ZERO,
    }
}

pub(super) fn timed_out(limit: Duration, what: &str) -> SourceError {
    SourceError::new(SourceErrorKind::Timeout, format!("{what} within {} ms", limit.as_millis()))
}
