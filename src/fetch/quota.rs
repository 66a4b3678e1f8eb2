//! Layer 7, quota: every attempt takes a unit before it leaves, durably, so that a crash never overshoots a window.
//!
//! Our own refusal is "not asked". A ledger that cannot be reached lets nothing out.

use std::sync::Arc;

use super::attempt::{AttemptError, quota_spent};
use super::lookup::AnswerTime;
use super::observe::SourceCounters;
use super::waiters::Waiters;
use crate::clock::Clock;
use crate::finding::SourceError;
use crate::source::QuotaWindow;
use crate::store::{Acquire, Acquired, Ledger, UNIT_VALID_FOR, WindowUse};

/// How many further units are taken for one call where the ledger is slow, before the call is given up.
const MAX_RENEWALS: u32 = 2;

/// Takes the units of one account on behalf of one source.
pub(super) struct Quota {
    pub(super) source: String,
    pub(super) account: String,
    pub(super) windows: Vec<QuotaWindow>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Arc<SourceCounters>,
}

impl Quota {
    /// Takes a unit of every window, and says when.
    pub(super) async fn acquire(&self, waiters: &Waiters) -> Result<AnswerTime, AttemptError> {
        let acquired_at = AnswerTime::now(&*self.clock);
        match self.ledger.acquire(self.unit(acquired_at)).await {
            Ok(Acquired::Granted(_)) if self.windows.is_empty() => {}
            Ok(Acquired::Granted(windows)) => {
                waiters.count_unit(windows);
                self.counters.count_unit();
            }
            Ok(Acquired::Spent(window)) => {
                waiters.note_window(window);
                return Err(AttemptError::NotAttempted(quota_spent(&window.describe(), window.resets_at)));
            }
            Err(error) => return Err(AttemptError::ledger_unreachable(&self.source, &error)),
        }
        Ok(acquired_at)
    }

    /// Gives a unit back whose call reached nobody. One that cannot be given back stays taken.
    pub(super) async fn give_back(&self, waiters: &Waiters, acquired_at: AnswerTime) {
        match self.ledger.give_back(self.unit(acquired_at)).await {
            Ok(Some(windows)) if !self.windows.is_empty() => {
                waiters.uncount_unit(windows);
                self.counters.count_returned_unit();
            }
            Ok(Some(_) | None) => {}
            Err(error) => tracing::warn!(source = self.source, %error, "a quota unit could not be given back"),
        }
    }

    /// Without windows too: another source may share the account, or get windows later.
    fn unit(&self, acquired_at: AnswerTime) -> Acquire {
        Acquire {
            account: self.account.clone(),
            source: self.source.clone(),
            windows: self.windows.clone(),
            at: acquired_at.wall,
        }
    }

    /// Takes another unit where the ledger was so slow that the call would leave in another window than it was counted in.
    /// One unit is lost, and no window is overshot. Says when the unit was taken that counts.
    pub(super) async fn renew_if_late(
        &self,
        waiters: &Waiters,
        mut acquired_at: AnswerTime,
    ) -> Result<AnswerTime, AttemptError> {
        for renewal in 0..=MAX_RENEWALS {
            // The windows follow the wall clock, which goes on while the machine sleeps; the monotonic clock does not.
            let by_wall = self.clock.now().duration_since(acquired_at.wall).unwrap_or_default();
            let late = self.clock.monotonic().since(acquired_at.monotonic).max(by_wall);
            if late <= UNIT_VALID_FOR {
                return Ok(acquired_at);
            }
            tracing::warn!(source = self.source, ?late, "the ledger is slow, so a unit was taken in vain");
            if renewal < MAX_RENEWALS {
                waiters.close_if_abandoned(self.clock.monotonic())?;
                acquired_at = self.acquire(waiters).await?;
            }
        }
        Err(AttemptError::Local(SourceError::unavailable("the ledger is too slow, so the source was not asked")))
    }

    /// How much of the windows is used now. Empty if there are none, or the ledger cannot be reached.
    pub(super) async fn usage(&self) -> Vec<WindowUse> {
        if self.windows.is_empty() {
            return Vec::new();
        }
        let usage = self.ledger.usage(&self.account, &self.windows, self.clock.now()).await;
        usage.unwrap_or_else(|error| {
            tracing::error!(source = self.source, %error, "the ledger cannot be reached");
            Vec::new()
        })
    }
}
