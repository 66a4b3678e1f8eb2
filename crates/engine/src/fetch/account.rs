//! Layer 6: suspends an account after its source reported that the quota is used up or the credential is wrong. This
//! layer is outside the quota layer, so that no unit is spent on a question that the source would refuse.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::attempt::{AttemptError, quota_spent};
use super::reported::{ReportedQuota, ReportedWindows};
use crate::clock::{Clock, Monotonic};
use crate::finding::{NotAsked, SourceError, SourceErrorKind};
use crate::source::{Allowance, Priority, QuotaWindow, RateLimit};
use crate::sync::lock;

/// Why a source that reported its quota as used up is not asked.
const SUSPENDED: &str = "the source says that its quota is used up";

/// Duration of a suspension if the source names none.
const DEFAULT_SUSPENSION: Duration = Duration::from_secs(60);
/// A source may suspend its account for at least this long, even if all its quota windows are shorter.
const MIN_SUSPENSION_LIMIT: Duration = Duration::from_secs(86_400);

/// Time until an allowance is read again after a transient failure, or after a reading close to the start of a window.
pub(super) const READ_AGAIN: Duration = Duration::from_secs(300);
/// Minimum time between two readings of an allowance.
const MIN_READING_INTERVAL: Duration = Duration::from_secs(60);

/// The suspension of an account, and its allowance as reported by the source. It outlives the pipelines that use the
/// account, so that a change of settings does not lose them.
#[derive(Debug, Default)]
pub struct AccountState {
    /// By a refusal of the source.
    suspended_until: Mutex<Option<Monotonic>>,
    /// By its last report that a window is used up; a report that more is allowed by now ends it.
    used_up_until: Mutex<Option<Monotonic>>,
    /// What the source said when it refused the credential.
    refused_credential: Mutex<Option<String>>,
    readings: Mutex<AllowanceReadings>,
    reported: Arc<ReportedWindows>,
}

impl AccountState {
    /// The wall time until which the account is not asked, because it is suspended or its answers say that no calls are left;
    /// `None` if it is asked.
    pub fn suspended_until(&self, clock: &dyn Clock) -> Option<SystemTime> {
        let now = clock.monotonic();
        let held = self.reported.held(Priority::Interactive, 0, now);
        let held = held.and_then(|held| clock.now().checked_add(held.wait(now)));
        self.suspension(clock).max(held)
    }

    /// Why the account is not asked, if it is suspended.
    pub(super) fn refusal(&self, clock: &dyn Clock) -> Option<NotAsked> {
        Some(quota_spent(SUSPENDED, self.suspension(clock)?))
    }

    fn suspension(&self, clock: &dyn Clock) -> Option<SystemTime> {
        let until = (*lock(&self.suspended_until)).max(*lock(&self.used_up_until));
        let left = until?.since(clock.monotonic());
        if left.is_zero() { None } else { clock.now().checked_add(left) }
    }

    /// What the source reports in its answers of the calls that are left.
    pub fn reported_quota(&self, clock: &dyn Clock) -> Vec<ReportedQuota> {
        self.reported.status(clock)
    }

    pub(super) fn reported(&self) -> &Arc<ReportedWindows> {
        &self.reported
    }

    /// Takes note of what an answer reports of the quota. Returns whether calls are left of which none were.
    pub(super) fn note_reported(&self, limits: &[RateLimit], windows: &[QuotaWindow], clock: &dyn Clock) -> bool {
        self.reported.note(limits, longest_suspension(windows), clock)
    }

    /// The error for questions under a credential that the source has refused, since it would refuse it again.
    pub fn credential_refusal(&self) -> Option<SourceError> {
        let said = lock(&self.refused_credential).clone()?;
        let detail = format!("the credential was refused ({said}): not asked until the source is changed or tested");
        Some(SourceError::new(SourceErrorKind::Unauthorized, detail))
    }

    /// The allowance that the source reported, if it was read.
    pub fn allowance(&self) -> Option<Arc<Allowance>> {
        lock(&self.readings).allowance.clone()
    }

    /// Why the allowance could not be read last time, if so.
    pub fn allowance_failure(&self) -> Option<String> {
        lock(&self.readings).failure.clone()
    }

    /// The windows that apply: those of the settings, bounded by the allowance.
    pub(super) fn windows(&self, configured: &[QuotaWindow]) -> Vec<QuotaWindow> {
        self.allowance().map_or_else(|| configured.to_vec(), |allowance| allowance.bound(configured))
    }

    /// Forgets that the source refused the credential.
    pub fn forget_credential_refusal(&self) {
        *lock(&self.refused_credential) = None;
    }

    /// Lifts the suspension, forgets what answers reported and the refusal of the credential, and has the allowance read again.
    pub fn lift(&self) {
        self.reported.forget();
        self.readings().expire();
        *lock(&self.suspended_until) = None;
        *lock(&self.used_up_until) = None;
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
            self.suspend(now + wait.min(longest_suspension(windows)));
            // The source may report which window is used up, and thus when the suspension can end.
            self.readings().expire();
        }
    }

    /// The readings of the allowance, locked.
    pub(super) fn readings(&self) -> MutexGuard<'_, AllowanceReadings> {
        lock(&self.readings)
    }

    /// Notes until when a window is used up by the source's latest report; `None`: none is.
    pub(super) fn note_used_up(&self, until: Option<Monotonic>) {
        *lock(&self.used_up_until) = until;
    }

    /// Suspends the account until this moment, or keeps a longer suspension.
    pub(super) fn suspend(&self, until: Monotonic) {
        let mut suspended = lock(&self.suspended_until);
        // Of two calls in flight, the one with the shorter wait must not shorten the suspension.
        *suspended = (*suspended).max(Some(until));
    }
}

/// The longest time for which a source may suspend an account with these windows.
fn longest_suspension(windows: &[QuotaWindow]) -> Duration {
    let longest = windows.iter().map(|window| window.per.longest()).max().unwrap_or_default();
    longest.max(MIN_SUSPENSION_LIMIT)
}

/// The readings of an account's allowance: the last result, and when the next one is due.
#[derive(Debug, Default)]
pub(super) struct AllowanceReadings {
    allowance: Option<Arc<Allowance>>,
    /// Why the last reading failed.
    failure: Option<String>,
    /// When the last reading began.
    begun: Option<Monotonic>,
    /// When the next reading is due; `None`: at once.
    due: Option<Monotonic>,
}

impl AllowanceReadings {
    pub(super) fn is_due(&self, now: Monotonic) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// Notes that a reading begins. Another one is due later in case this one is aborted.
    pub(super) fn begin(&mut self, now: Monotonic) {
        (self.begun, self.due) = (Some(now), Some(now + READ_AGAIN));
    }

    pub(super) fn succeed(&mut self, allowance: Allowance, due: Monotonic) {
        (self.allowance, self.failure, self.due) = (Some(Arc::new(allowance)), None, Some(due));
    }

    pub(super) fn fail(&mut self, why: String, due: Monotonic) {
        (self.failure, self.due) = (Some(why), Some(due));
    }

    pub(super) fn schedule(&mut self, due: Monotonic) {
        self.due = Some(due);
    }

    /// Makes a reading due as soon as the interval permits, since the last one may be outdated.
    fn expire(&mut self) {
        self.due = self.begun.map(|begun| begun + MIN_READING_INTERVAL).min(self.due);
    }
}
