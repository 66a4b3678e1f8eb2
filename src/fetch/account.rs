//! Layer 6: suspends an account after its source reported that the quota is used up or the credential is wrong. This
//! layer is outside the quota layer, so that no unit is spent on a question that the source would refuse.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::attempt::{AttemptError, quota_spent};
use crate::clock::{Clock, Monotonic};
use crate::finding::{NotAsked, SourceError, SourceErrorKind};
use crate::source::QuotaWindow;
use crate::sync::lock;

/// Why a source that reported its quota as used up is not asked.
const SUSPENDED: &str = "the source says that its quota is used up";

/// Duration of a suspension if the source names none.
const DEFAULT_SUSPENSION: Duration = Duration::from_secs(60);
/// A source may suspend its account for at least this long, even if all its quota windows are shorter.
const MIN_SUSPENSION_LIMIT: Duration = Duration::from_secs(86_400);

/// The suspension of an account. It outlives the pipelines that use the account, so that a change of settings does not
/// lift it.
#[derive(Debug, Default)]
pub struct AccountState {
    suspended_until: Mutex<Option<Monotonic>>,
    /// What the source said when it refused the credential.
    refused_credential: Mutex<Option<String>>,
}

impl AccountState {
    /// The wall time until which the account is suspended; `None` if it is not.
    pub fn suspended_until(&self, clock: &dyn Clock) -> Option<SystemTime> {
        let left = (*lock(&self.suspended_until))?.since(clock.monotonic());
        if left.is_zero() { None } else { clock.now().checked_add(left) }
    }

    /// Why the account is not asked, if it is suspended.
    pub(super) fn refusal(&self, clock: &dyn Clock) -> Option<NotAsked> {
        Some(quota_spent(SUSPENDED, self.suspended_until(clock)?))
    }

    /// The error for questions under a credential that the source has refused, since it would refuse it again.
    pub fn credential_refusal(&self) -> Option<SourceError> {
        let said = lock(&self.refused_credential).clone()?;
        let detail = format!("the credential was refused ({said}): not asked until the source is changed or tested");
        Some(SourceError::new(SourceErrorKind::Unauthorized, detail))
    }

    /// Lifts the suspension and forgets the refusal of the credential.
    pub fn lift(&self) {
        *lock(&self.suspended_until) = None;
        *lock(&self.refused_credential) = None;
    }

    /// Suspends the account if the source reported a used-up quota or a wrong credential. The source's report overrides
    /// our own count, but it suspends the account for at most a day, or for the longest quota window if that is longer.
    pub(super) fn note<T>(&self, result: &Result<T, AttemptError>, windows: &[QuotaWindow], now: Monotonic) {
        let Err(AttemptError::Source(error)) = result else { return };
        if error.kind == SourceErrorKind::Unauthorized {
            *lock(&self.refused_credential) = Some(error.detail.clone());
        }
        if error.kind == SourceErrorKind::QuotaExhausted {
            // A wait of zero contradicts the refusal, so it counts as unknown.
            let wait = error.retry_after.filter(|wait| !wait.is_zero()).unwrap_or(DEFAULT_SUSPENSION);
            let longest = windows.iter().map(|window| window.per.longest()).max().unwrap_or_default();
            let wait = wait.min(longest.max(MIN_SUSPENSION_LIMIT));
            let mut until = lock(&self.suspended_until);
            // Of two calls in flight, the one with the shorter wait must not shorten the suspension.
            *until = (*until).max(Some(now + wait));
        }
    }
}
