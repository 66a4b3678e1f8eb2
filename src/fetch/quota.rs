//! Layer 7, quota: every attempt takes a unit before it leaves, durably, so that a crash never overshoots a window.
//!
//! Our own refusal is "not asked". A ledger that cannot be reached lets nothing out.

use std::sync::Arc;

use super::acquirer::{AcquireError, Acquisition, Call, UnitAcquirer, UnitGuard};
use super::attempt::{AttemptError, quota_spent};
use super::observe::SourceCounters;
use super::waiters::Waiters;
use crate::clock::Clock;
use crate::source::QuotaWindow;
use crate::store::{Acquired, Disclosure, Ledger, WindowUse};

/// Takes the units of one account on behalf of one source.
pub(super) struct Quota {
    pub(super) source: String,
    pub(super) account: String,
    pub(super) windows: Vec<QuotaWindow>,
    pub(super) acquirer: Arc<UnitAcquirer>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Arc<SourceCounters>,
}

impl Quota {
    /// Takes a unit of every window, with the record of what its call discloses.
    pub(super) async fn acquire(
        &self,
        waiters: &Arc<Waiters>,
        disclosures: Vec<Disclosure>,
    ) -> Result<UnitGuard, AttemptError> {
        // Without windows too: another source may share the account, or get windows later.
        let call = Call {
            account: self.account.clone(),
            source: self.source.clone(),
            windows: self.windows.clone(),
            disclosures,
        };
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

    /// Gives a unit back whose call reached nobody. One that cannot be given back stays taken.
    pub(super) async fn give_back(&self, waiters: &Waiters, unit: UnitGuard) {
        if let Some(windows) = unit.give_back().await {
            waiters.uncount_unit(windows);
            self.counters.count_returned_unit();
        }
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
