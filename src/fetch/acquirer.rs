//! Acquires quota units for all waiting calls in one statement of the ledger. A call that comes to nothing does not
//! pay: calls that nobody waits for any more are skipped, and a unit that cannot be delivered to its call is given
//! back.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::attempt::AttemptError;
use super::waiters::Waiters;
use crate::clock::{Clock, Monotonic};
use crate::source::QuotaWindow;
use crate::store::{Acquire, Acquired, Disclosure, Ledger, StoreError, Unit, WindowUse};
use crate::sync::lock;

/// Maximum of units that are acquired in one statement.
const BATCH: usize = 1024;
/// Maximum of calls that wait for the ledger, so that a ledger that hangs does not fill the memory.
const MAX_WAITING: usize = 8192;
/// If the wall clock gains more than this on the monotonic clock between two acquisitions, it counts as set forward.
const CLOCK_DRIFT: Duration = Duration::from_secs(1);
/// Delay before recording the end of a call is retried.
const SETTLE_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Acquires units for all pipelines.
pub struct UnitAcquirer {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    tracker: TaskTracker,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether a task is working on the queue.
    is_running: bool,
    /// Duration of the last statement.
    took: Duration,
    /// Both clocks at the last acquisition.
    clocks: Option<(SystemTime, Monotonic)>,
}

/// A call that waits for its unit.
struct Waiting {
    call: Call,
    waiters: Arc<Waiters>,
    reply: oneshot::Sender<Result<Acquisition, AcquireError>>,
}

/// What a call spends, and what it discloses to the source.
pub(super) struct Call {
    pub(super) account: String,
    pub(super) source: String,
    pub(super) windows: Vec<QuotaWindow>,
    pub(super) disclosures: Vec<Disclosure>,
}

/// The result of an acquisition: a unit, or the quota window that is used up.
pub(super) struct Acquisition {
    pub(super) acquired: Acquired,
    pub(super) unit: UnitGuard,
}

/// Why the ledger was not asked, or failed.
pub(super) enum AcquireError {
    /// Nobody waits any more, or the time is up.
    Abandoned(AttemptError),
    /// The ledger cannot be reached.
    Ledger(StoreError),
}

/// A unit whose call is in flight. Dropping the guard records the end of the call, from which the unit's window is
/// counted.
pub(super) struct UnitGuard {
    unit: Option<Unit>,
    windows: Vec<QuotaWindow>,
    acquirer: Arc<UnitAcquirer>,
}

impl UnitAcquirer {
    /// Acquires units from this ledger.
    pub fn new(ledger: Arc<dyn Ledger>, clock: Arc<dyn Clock>, tracker: TaskTracker) -> Arc<Self> {
        Arc::new(Self { ledger, clock, tracker, queue: Mutex::default() })
    }

    /// Acquires a unit for this call, batched with all other waiting calls.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        call: Call,
        waiters: &Arc<Waiters>,
    ) -> Result<Acquisition, AcquireError> {
        let (reply, taken) = oneshot::channel();
        let begin = {
            let mut queue = lock(&self.queue);
            if queue.waiting.len() >= MAX_WAITING {
                queue.waiting.retain(|waiting| !waiting.reply.is_closed());
                if queue.waiting.len() >= MAX_WAITING {
                    return Err(AcquireError::Ledger(StoreError::unavailable("too many calls wait for the ledger")));
                }
            }
            queue.waiting.push(Waiting { call, waiters: waiters.clone(), reply });
            !std::mem::replace(&mut queue.is_running, true)
        };
        if begin {
            self.tracker.spawn(self.clone().acquire_all());
        }
        let ended = || Err(AcquireError::Ledger(StoreError::unavailable("the server is shutting down")));
        taken.await.unwrap_or_else(|_| ended())
    }

    /// Records the end of a call. Until this succeeds the unit counts as in use, so transient failures are retried.
    async fn settle(&self, unit: Unit, ended: SystemTime) {
        while let Err(error) = self.ledger.settle(unit.clone(), ended).await {
            tracing::warn!(source = unit.source, %error, "the end of a call could not be recorded");
            if !error.is_transient() {
                return;
            }
            self.clock.sleep(SETTLE_RETRY_DELAY).await;
        }
    }

    async fn acquire_all(self: Arc<Self>) {
        loop {
            let (batch, took) = {
                let mut queue = lock(&self.queue);
                let count = queue.waiting.len().min(BATCH);
                let batch: Vec<_> = queue.waiting.drain(..count).collect();
                queue.is_running = !batch.is_empty();
                (batch, queue.took)
            };
            if batch.is_empty() {
                return;
            }
            self.acquire_batch(batch, took).await;
        }
    }

    /// If the wall clock was set forward since the last acquisition, the time that it would show otherwise.
    fn set_forward(&self, now: SystemTime, monotonic: Monotonic) -> Option<SystemTime> {
        let (wall, before) = lock(&self.queue).clocks?;
        let expected = wall.checked_add(monotonic.since(before))?;
        now.duration_since(expected).is_ok_and(|gain| gain > CLOCK_DRIFT).then_some(expected)
    }

    async fn acquire_batch(self: &Arc<Self>, batch: Vec<Waiting>, took: Duration) {
        let (now, begun) = (self.clock.now(), self.clock.monotonic());
        let set_forward = self.set_forward(now, begun);
        let mut calls = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for Waiting { call, waiters, reply } in batch {
            // A call without time for the statement itself could not use the unit.
            let in_time = waiters
                .close_if_abandoned(begun)
                .and_then(|()| if waiters.time_left(begun) > took { Ok(()) } else { Err(AttemptError::no_time()) });
            if let Err(error) = in_time {
                // Sending fails if the caller no longer waits.
                let _ = reply.send(Err(AcquireError::Abandoned(error)));
                continue;
            }
            let unit = Unit { account: call.account, source: call.source, at: now };
            waiting.push((unit.clone(), call.windows.clone(), reply));
            calls.push(Acquire { unit, windows: call.windows, disclosures: call.disclosures });
        }
        let acquired = match set_forward {
            Some(from) => match self.ledger.follow_clock_forward(from, now).await {
                Ok(()) => self.ledger.acquire(calls).await,
                Err(error) => Err(error),
            },
            None => self.ledger.acquire(calls).await,
        };
        if acquired.is_ok() {
            lock(&self.queue).clocks = Some((now, begun));
        }
        lock(&self.queue).took = self.clock.monotonic().since(begun);
        match acquired {
            Ok(acquired) => {
                for ((unit, windows, reply), acquired) in waiting.into_iter().zip(acquired) {
                    let unit = match &acquired {
                        Acquired::Granted(_) => UnitGuard { unit: Some(unit), windows, acquirer: self.clone() },
                        Acquired::Spent(_) => UnitGuard { unit: None, windows, acquirer: self.clone() },
                    };
                    if let Err(Ok(undelivered)) = reply.send(Ok(Acquisition { acquired, unit })) {
                        self.tracker.spawn(async move { undelivered.unit.give_back().await });
                    }
                }
            }
            Err(error) => {
                for (_, _, reply) in waiting {
                    // Sending fails if the caller no longer waits.
                    let _ = reply.send(Err(AcquireError::Ledger(error.clone())));
                }
            }
        }
    }
}

impl UnitGuard {
    /// Gives the unit back, for a call that did not reach the source. Returns the remaining use of the windows; `None`
    /// if the unit could not be given back.
    pub(super) async fn give_back(mut self) -> Option<Vec<WindowUse>> {
        let unit = self.unit.take()?;
        let source = unit.source.clone();
        self.acquirer.ledger.give_back(unit.clone(), &self.windows).await.unwrap_or_else(|error| {
            tracing::warn!(source, %error, "a quota unit could not be given back");
            // The unit stays acquired; dropping the guard records the end of its call.
            self.unit = Some(unit);
            None
        })
    }
}

impl Drop for UnitGuard {
    fn drop(&mut self) {
        let Some(unit) = self.unit.take() else { return };
        // Without a runtime the process is ending, and the in-memory state of units in flight ends with it.
        let Ok(runtime) = Handle::try_current() else { return };
        let (acquirer, ended) = (self.acquirer.clone(), self.acquirer.clock.now());
        self.acquirer.tracker.spawn_on(async move { acquirer.settle(unit, ended).await }, &runtime);
    }
}

impl fmt::Debug for UnitAcquirer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnitAcquirer").field("waiting", &lock(&self.queue).waiting.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;
    use crate::clock::ManualClock;
    use crate::store::Memory;

    #[test]
    fn a_unit_that_outlives_the_runtime_is_dropped_without_a_panic() {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let clock = Arc::new(ManualClock::new(SystemTime::UNIX_EPOCH));
        let acquirer = UnitAcquirer::new(Arc::new(Memory::new()), clock, TaskTracker::new());
        let end = Monotonic::default() + Duration::from_secs(9);
        let (waiters, _guard) = Waiters::begin(end, end, None);
        let (account, source) = ("account".to_owned(), "source".to_owned());
        let call = Call { account, source, windows: Vec::new(), disclosures: Vec::new() };
        let Ok(acquisition) = runtime.block_on(acquirer.acquire(call, &waiters)) else { panic!("nothing is used up") };
        assert!(matches!(acquisition.acquired, Acquired::Granted(_)));
        drop(runtime);
        drop(acquisition);
    }
}
