//! Layer 7, quota: every attempt acquires a unit before anything is sent. The unit is stored durably, so that a crash
//! never leads to more calls than a window allows.
//!
//! A used-up quota gives the outcome "not asked". While the ledger cannot be reached, nothing is sent.

use std::sync::Arc;

use super::account::AccountState;
use super::acquirer::{AcquireError, Acquisition, Call, UnitAcquirer, UnitGuard};
use super::attempt::{AttemptError, quota_spent};
use super::observe::SourceCounters;
use super::waiters::Waiters;
use crate::clock::Clock;
use crate::source::QuotaWindow;
use crate::store::{Acquired, Disclosure, Ledger, WindowUse};

/// Acquires units of one account on behalf of one source.
pub(super) struct Quota {
    pub(super) source: String,
    pub(super) account: String,
    pub(super) state: Arc<AccountState>,
    /// The windows of the settings.
    pub(super) windows: Vec<QuotaWindow>,
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

    /// Acquires a unit of every window, and records what the call discloses in the same transaction.
    pub(super) async fn acquire(
        &self,
        waiters: &Arc<Waiters>,
        disclosures: Vec<Disclosure>,
    ) -> Result<UnitGuard, AttemptError> {
        // A source without windows acquires units too: another source may share its account, or it may get windows
        // later.
        let call =
            Call { account: self.account.clone(), source: self.source.clone(), windows: self.windows(), disclosures };
        match self.acquirer.acquire(call, waiters).await {
            Ok(Acquisition { acquired: Acquired::Granted(windows), unit }) => {
                waiters.count_unit(windows);
                self.counters.count_unit();
                Ok(unit)
            }
            Ok(Acquisition { acquired: Acquired::Spent(window), .. }) => {
                waiters.note_window(window);
                Err(AttemptError::NotAttempted(quota_spent(&window.describe(), window.resets_at)))
            }
            Err(AcquireError::Abandoned(error)) => Err(error),
            Err(AcquireError::Ledger(error)) => Err(AttemptError::ledger_unreachable(&self.source, &error)),
        }
    }

    /// Gives back the unit of a call that did not reach the source. If that fails, the unit stays spent.
    pub(super) async fn give_back(&self, waiters: &Waiters, unit: UnitGuard) {
        if let Some(windows) = unit.give_back().await {
            waiters.uncount_unit(windows);
            self.counters.count_returned_unit();
        }
    }

    /// The current use of the windows. Empty if there are none, or the ledger cannot be reached.
    pub(super) async fn usage(&self) -> Vec<WindowUse> {
        let windows = self.windows();
        if windows.is_empty() {
            return Vec::new();
        }
        let usage = self.ledger.usage(&self.account, &windows, self.clock.now()).await;
        usage.unwrap_or_else(|error| {
            tracing::error!(source = self.source, %error, "the ledger cannot be reached");
            Vec::new()
        })
    }
}
