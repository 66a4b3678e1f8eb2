//! What keeps calls from a source that cannot bear them: circuit breaker, concurrency limit and retry budget. They outlive the
//! pipelines, so that a change of settings does not lose what was learned, unless it changes where the source is asked.

use std::sync::Arc;

use super::account::AccountState;
use super::attempt::AttemptError;
use super::breaker::{AttemptResult, CircuitBreaker, CircuitPermit, CircuitStatus};
use super::concurrency::{ConcurrencyLimit, ConcurrencyStatus, Place};
use super::retry::RetryBudget;
use super::waiters::Waiters;
use crate::clock::{Clock, Monotonic};
use crate::finding::NotAsked;
use crate::source::{Answer, SourceSettings};

/// The guards of one source.
#[derive(Debug)]
pub struct SourceGuards {
    pub(super) breaker: Arc<CircuitBreaker>,
    concurrency: Arc<ConcurrencyLimit>,
    pub(super) retry_budget: RetryBudget,
}

/// The state of the guards of one source, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardStatus {
    /// Its circuit.
    pub circuit: CircuitStatus,
    /// Its calls at once.
    pub concurrency: ConcurrencyStatus,
}

impl SourceGuards {
    /// Guards that have seen no attempt yet.
    pub fn new(settings: &SourceSettings) -> Self {
        Self {
            breaker: Arc::new(CircuitBreaker::new(&settings.name)),
            concurrency: ConcurrencyLimit::new(settings.max_concurrency as usize),
            retry_budget: RetryBudget::default(),
        }
    }

    /// Applies changed settings of the same source.
    pub fn apply(&self, settings: &SourceSettings) {
        self.concurrency.set_max(settings.max_concurrency as usize);
    }

    /// The state, for display.
    pub fn status(&self, clock: &dyn Clock) -> GuardStatus {
        GuardStatus { circuit: self.breaker.status(clock), concurrency: self.concurrency.status() }
    }

    /// Why no call would be made now.
    pub(super) fn refusal(&self, clock: &dyn Clock) -> Option<NotAsked> {
        self.breaker.refusal(clock)
    }

    /// Admits one attempt that has its unit. It may have to wait for its place.
    ///
    /// # Errors
    /// The circuit is open, the account was suspended while the attempt waited, or no place came free while anybody waited.
    pub(super) async fn admit(
        &self,
        account: &AccountState,
        waiters: &Waiters,
        clock: &dyn Clock,
    ) -> Result<Admission, AttemptError> {
        // First, so that nobody waits for a place with a source that is left alone.
        self.refusal(clock).map_or(Ok(()), |refusal| Err(AttemptError::NotAttempted(refusal)))?;
        let place = self.concurrency.acquire(&self.breaker, waiters, clock).await?;
        if waiters.has_paused()
            && let Some(refusal) = account.refusal(clock)
        {
            return Err(AttemptError::NotAttempted(refusal));
        }
        // Waiting and recording take time, so all waiters may have left by now.
        waiters.close_if_abandoned(clock.monotonic())?;
        let permit = self.breaker.admit(clock).map_err(AttemptError::NotAttempted)?;
        Ok(Admission { permit, place })
    }
}

/// One attempt that is under way.
#[derive(Debug)]
pub(super) struct Admission {
    // Dropped in this order: the circuit knows the result before another call gets the place.
    permit: CircuitPermit,
    place: Place,
}

impl Admission {
    /// Notes that the call begins now, from when its latency is measured.
    pub(super) fn begin_call(&mut self, now: Monotonic) {
        self.place.begin_call(now);
    }

    /// Takes the result of the attempt.
    pub(super) fn record(self, result: &Result<Answer, AttemptError>, now: Monotonic) {
        let result = AttemptResult::of(result);
        self.permit.record(result, now);
        if let Some(result) = result {
            self.place.record(result, now);
        }
    }
}
