//! Layer 7, quota: every attempt acquires a unit before anything is sent. The unit is stored durably, so that a crash
//! never leads to more calls than a window allows.
//!
//! A used-up quota gives the outcome "not asked". While the ledger cannot be reached, nothing is sent.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::account::AccountState;
use super::acquirer::{Acquisition, UnitAcquirer, UnitGuard};
use super::attempt::AttemptError;
use super::forecast::{RecentCalls, runs_out};
use super::lines::{AcquireError, Call};
use super::observe::SourceCounters;
use super::terms::Terms;
use super::waiters::Waiters;
use crate::clock::Clock;
use crate::finding::NotAsked;
use crate::source::{Priority, QuotaLimits, QuotaPer, QuotaWindow, QuotaZone, RateLimit};
use crate::store::{Disclosure, Ledger, WindowUse, spent_window};

const HOUR: Duration = Duration::from_secs(3_600);

/// Acquires units of one account on behalf of one source.
pub(super) struct Quota {
    pub(super) source: String,
    pub(super) account: String,
    pub(super) state: Arc<AccountState>,
    /// The windows of the settings.
    pub(super) windows: Vec<QuotaWindow>,
    /// The zone of their calendar.
    pub(super) zone: QuotaZone,
    /// Percentage of each window that only interactive requests may spend.
    pub(super) reserve: u32,
    /// Whether background requests are spread over the day.
    pub(super) is_paced: bool,
    pub(super) acquirer: Arc<UnitAcquirer>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Arc<SourceCounters>,
}

impl Quota {
    /// The windows that apply now.
    pub(super) fn windows(&self) -> Vec<QuotaWindow> {
        self.state.windows(&self.windows)
    }

    fn limits(&self) -> QuotaLimits {
        QuotaLimits { windows: self.windows(), zone: self.zone.clone() }
    }

    /// The limits that apply now.
    fn terms(&self) -> Terms {
        Terms { account: self.account.clone(), limits: self.limits(), reserve: self.reserve, is_paced: self.is_paced }
    }

    /// Acquires a unit of every window, and records what the call discloses in the same transaction.
    pub(super) async fn acquire(
        &self,
        waiters: &Arc<Waiters>,
        disclosures: Vec<Disclosure>,
    ) -> Result<UnitGuard, AttemptError> {
        // A source without windows acquires units too: another source may share its account, or it may get windows
        // later.
        let terms = Arc::new(self.terms());
        let (state, source) = (self.state.clone(), self.source.clone());
        let call = Call { terms: terms.clone(), state, source, disclosures };
        match self.acquirer.acquire(call, waiters).await {
            Ok(Acquisition { uses, unit }) => {
                waiters.count_unit(terms.whole(uses));
                self.counters.count_unit();
                Ok(unit)
            }
            Err(AcquireError::Refused(refusal)) => {
                refusal.window.into_iter().for_each(|window| waiters.note_window(window));
                Err(AttemptError::NotAttempted(refusal.not_asked))
            }
            Err(AcquireError::Abandoned(error)) => Err(error),
            Err(AcquireError::Ledger(error)) => Err(AttemptError::ledger_unreachable(&self.source, &error)),
        }
    }

    /// Why no unit is available for this priority now, given the use of the whole windows.
    pub(super) fn refusal(&self, priority: Priority, usage: &[WindowUse]) -> Option<NotAsked> {
        let spent = spent_window(&self.uses_for(priority, usage));
        let now = self.clock.now();
        let spent = spent.map(|window| self.terms().refusal(priority, &window, now).not_asked);
        let held = || self.state.reported().held(priority, self.reserve, self.clock.monotonic());
        spent.or_else(|| Some(held()?.refusal(&*self.clock)))
    }

    /// The units that are left for this priority in the scarcest window, given the use of the whole windows.
    pub(super) fn units_left(&self, priority: Priority, usage: &[WindowUse]) -> Option<u64> {
        let uses = self.uses_for(priority, usage);
        let left = uses.iter().map(|window| window.limit.saturating_sub(window.used));
        left.chain(self.reported_left(priority).map(|(left, _)| left)).min()
    }

    /// The share that is left of the scarcest window, from 0 to 1, given the use of the whole windows.
    pub(super) fn share_left(&self, priority: Priority, usage: &[WindowUse]) -> f64 {
        let share = |window: &WindowUse| window.limit.saturating_sub(window.used) as f64 / window.limit.max(1) as f64;
        let reported = self.reported_left(priority).map_or(1.0, |(_, share)| share);
        usage.iter().map(share).fold(reported, f64::min)
    }

    fn reported_left(&self, priority: Priority) -> Option<(u64, f64)> {
        self.state.reported().left(priority, self.reserve, self.clock.monotonic())
    }

    /// Takes note of what an answer reports of the quota.
    pub(super) fn note_reported(&self, limits: &[RateLimit]) {
        if self.state.note_reported(limits, &self.windows(), &*self.clock) {
            self.acquirer.reopen(&self.account);
        }
    }

    /// Lets calls ask for units again that wait for an account that has been lifted.
    pub(super) fn reopen(&self) {
        self.acquirer.reopen(&self.account);
    }

    /// The use of the windows as they apply to this priority, given the use of the whole windows.
    fn uses_for(&self, priority: Priority, usage: &[WindowUse]) -> Vec<WindowUse> {
        let terms = self.terms();
        let windows = terms.limits_for(priority, self.clock.now()).windows;
        let limit = |window: &WindowUse| windows.iter().find(|other| other.per == window.per).map(|other| other.limit);
        usage.iter().map(|window| WindowUse { limit: limit(window).unwrap_or(window.limit), ..*window }).collect()
    }

    /// Gives back the unit of a call that did not reach the source. If that fails, the unit stays spent.
    pub(super) async fn give_back(&self, waiters: &Waiters, unit: UnitGuard) {
        if let Some(windows) = unit.give_back().await {
            waiters.uncount_unit(windows);
            self.counters.count_returned_unit();
        }
    }

    /// When the day's quota will be used up at the pace of the last hour, given the use of the whole windows. `None`: not before it
    /// ends, or it is already.
    pub(super) async fn runs_out(&self, usage: &[WindowUse]) -> Option<SystemTime> {
        let day = usage.iter().find(|window| window.per == QuotaPer::Day)?;
        let now = self.clock.now();
        let hour = vec![QuotaWindow { per: QuotaPer::Hour, limit: u64::MAX }];
        let limits = QuotaLimits { windows: hour, zone: self.zone.clone() };
        let current = *self.ledger.usage(&self.account, &limits, now).await.ok()?.first()?;
        // Counts all calls since the hour before began.
        let both = *self.ledger.usage(&self.account, &limits, now.checked_sub(HOUR)?).await.ok()?.first()?;
        let passed = HOUR.saturating_sub(current.resets_at.duration_since(now).unwrap_or_default());
        let before = both.used.saturating_sub(current.used);
        runs_out(day, RecentCalls { before, current: current.used, passed }, now)
    }

    /// The current use of the windows. Empty if there are none, or the ledger cannot be reached.
    pub(super) async fn usage(&self) -> Vec<WindowUse> {
        let limits = self.limits();
        if limits.windows.is_empty() {
            return Vec::new();
        }
        let usage = self.ledger.usage(&self.account, &limits, self.clock.now()).await;
        usage.unwrap_or_else(|error| {
            tracing::error!(source = self.source, %error, "the ledger cannot be reached");
            Vec::new()
        })
    }
}
