//! Reads the allowance of an account, as the source reports it: on first use, every hour while the account is used, and after
//! the source reported that the quota is used up. Readings run in the background: no answer waits for one, none costs a unit,
//! and a failure has no other effect than a warning. At another address than the kind's own, only `TestSource` reads it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::task::TaskTracker;

use super::account::{AccountState, READ_AGAIN};
use super::attempt;
use super::observe::SourceCounters;
use super::transport::Transport;
use crate::clock::Clock;
use crate::finding::SourceError;
use crate::source::{Allowance, Question, QuotaLimits, QuotaPer, QuotaWindow, Source, SourceSettings};
use crate::store::{Ledger, StoreError, WindowUse, spent_window};

/// How long a reading is valid.
const READ_EVERY: Duration = Duration::from_secs(3_600);

/// Reads the allowance of one source's account.
pub(super) struct AllowanceReader {
    pub(super) source: Arc<dyn Source>,
    pub(super) settings: Arc<SourceSettings>,
    pub(super) account: String,
    pub(super) state: Arc<AccountState>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tracker: TaskTracker,
    pub(super) counters: Arc<SourceCounters>,
}

impl AllowanceReader {
    /// Starts a reading in the background if one is due. The question may show the credential in its path, which a mirror or
    /// a gateway may log, so that other addresses than the kind's own get it only when a user asks for it.
    pub(super) fn read_if_due(self: &Arc<Self>) {
        if !self.source.about().is_own_address(self.settings.base_url.as_ref()) {
            return;
        }
        let now = self.clock.monotonic();
        let mut readings = self.state.readings();
        if !readings.is_due(now) {
            return;
        }
        let Some(question) = self.source.allowance_question() else { return };
        readings.begin(now);
        let reader = self.clone();
        self.tracker.spawn(async move { reader.read(question).await });
    }

    /// Reads for `TestSource`, whether a reading is due or not.
    pub(super) async fn read_now(&self) {
        let Some(question) = self.source.allowance_question() else { return };
        self.state.readings().begin(self.clock.monotonic());
        self.read(question).await;
    }

    async fn read(&self, question: Question) {
        let asked = self.clock.now();
        let allowance = self.ask(&question).await;
        self.counters.count_allowance_reading(allowance.as_ref().err());
        let now = self.clock.monotonic();
        let allowance = match allowance {
            Ok(allowance) => allowance,
            Err(error) => {
                tracing::warn!(source = self.settings.name, %error, "the allowance of the credential could not be read");
                let again = if error.kind.is_transient() { READ_AGAIN } else { READ_EVERY };
                return self.state.readings().fail(error.to_string(), now + again);
            }
        };
        let used = allowance.windows.iter().map(|allowed| (allowed.window.per, allowed.used)).collect();
        let windows: Vec<_> = allowance.windows.iter().map(|allowed| allowed.window).collect();
        self.state.readings().succeed(allowance, now + READ_EVERY);
        match self.raise(used, windows, asked).await {
            Ok((is_complete, uses)) => {
                if !is_complete {
                    self.state.readings().schedule(now + READ_AGAIN);
                }
                self.note_used_up(spent_window(&uses).as_ref());
            }
            Err(error) => {
                tracing::error!(source = self.settings.name, %error, "the reported use could not be recorded");
            }
        }
    }

    /// Records the reported use. Returns whether that was possible for every window, and the use of each afterwards.
    async fn raise(
        &self,
        used: Vec<(QuotaPer, u64)>,
        windows: Vec<QuotaWindow>,
        asked: SystemTime,
    ) -> Result<(bool, Vec<WindowUse>), StoreError> {
        let zone = self.settings.quota_zone.clone();
        let is_complete = self.ledger.raise(&self.account, used, zone.clone(), asked).await?;
        let limits = QuotaLimits { windows, zone };
        Ok((is_complete, self.ledger.usage(&self.account, &limits, self.clock.now()).await?))
    }

    /// Asks without a unit and without a disclosure: the source does not count this question, and it names no indicator.
    async fn ask(&self, question: &Question) -> Result<Allowance, SourceError> {
        let (transport, clock) = (&*self.transport, &*self.clock);
        let may_send = attempt::check_may_send(transport, clock, &self.settings, question).await;
        may_send.map_err(|error| error.into_error(clock.now()))?;
        let answer = attempt::send(transport, clock, &self.settings, &self.source, question).await.answer;
        self.source.read_allowance(&answer.map_err(|failure| failure.error)?)
    }

    /// Suspends the account until this window resets, since the source would refuse everything before; `None` ends what an
    /// earlier report began.
    fn note_used_up(&self, spent: Option<&WindowUse>) {
        let wait = |spent: &WindowUse| spent.resets_at.duration_since(self.clock.now()).unwrap_or_default();
        self.state.note_used_up(spent.map(|spent| self.clock.monotonic() + wait(spent)));
        self.counters.note_suspension(self.state.suspended_until(&*self.clock));
    }
}
