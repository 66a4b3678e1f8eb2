//! Layer 6: leaves an account alone after its source said that the quota is used up or the credential is wrong. Above the
//! quota, so that nothing is spent on a question that would be refused.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::attempt::{AttemptError, quota_spent};
use crate::clock::{Clock, Monotonic};
use crate::finding::{NotAsked, SourceError, SourceErrorKind};
use crate::source::QuotaWindow;
use crate::sync::lock;

/// Why a source that said "enough" is not asked.
const SUSPENDED: &str = "the source says that its quota is used up";

/// How long an account is left alone whose source does not say until when.
const DEFAULT_SUSPENSION: Duration = Duration::from_secs(60);
/// A source may always ask to be left alone for so long, whatever its windows are.
const ALWAYS_BELIEVED: Duration = Duration::from_secs(86_400);

/// Until when an account is left alone. It outlives the pipelines on it, so that new settings do not forget what the
/// source said.
#[derive(Debug, Default)]
pub struct AccountState {
    suspended_until: Mutex<Option<Monotonic>>,
    /// What the source said when it refused the credential.
    refused_credential: Mutex<Option<String>>,
}

impl AccountState {
    /// The wall time until which the account is left alone, if that is still to come.
    pub fn suspended_until(&self, clock: &dyn Clock) -> Option<SystemTime> {
        let left = (*lock(&self.suspended_until))?.since(clock.monotonic());
        if left.is_zero() { None } else { clock.now().checked_add(left) }
    }

    /// Why the account is left alone, if it is.
    pub(super) fn refusal(&self, clock: &dyn Clock) -> Option<NotAsked> {
        Some(quota_spent(SUSPENDED, self.suspended_until(clock)?))
    }

    /// Why no question is asked under this credential: the source refused it, and would refuse it again.
    pub fn credential_refusal(&self) -> Option<SourceError> {
        let said = lock(&self.refused_credential).clone()?;
        let detail = format!("the credential was refused ({said}): not asked until the source is changed or tested");
        Some(SourceError::new(SourceErrorKind::Unauthorized, detail))
    }

    /// Asks again at once, whatever the source said.
    pub fn lift(&self) {
        *lock(&self.suspended_until) = None;
        *lock(&self.refused_credential) = None;
    }

    /// Takes note of a source that says "enough": it is believed at once, whatever our own count says, but for no longer
    /// than its longest window or a day.
    pub(super) fn note<T>(&self, result: &Result<T, AttemptError>, windows: &[QuotaWindow], now: Monotonic) {
        let Err(AttemptError::Source(error)) = result else { return };
        if error.kind == SourceErrorKind::Unauthorized {
            *lock(&self.refused_credential) = Some(error.detail.clone());
        }
        if error.kind == SourceErrorKind::QuotaExhausted {
            // "Enough, and come back at once" does not say when.
            let wait = error.retry_after.filter(|wait| !wait.is_zero()).unwrap_or(DEFAULT_SUSPENSION);
            let longest = windows.iter().map(|window| window.per.longest()).max().unwrap_or_default();
            let wait = wait.min(longest.max(ALWAYS_BELIEVED));
            let mut until = lock(&self.suspended_until);
            // Of two calls in flight, the shorter wait must not cut the longer one short.
            *until = (*until).max(Some(now + wait));
        }
    }
}
