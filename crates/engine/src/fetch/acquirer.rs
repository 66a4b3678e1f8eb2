//! Acquires quota units for all waiting calls in one statement of the ledger. A call that comes to nothing does not
//! pay: calls that nobody waits for any more are skipped, and a unit that cannot be delivered to its call is given
//! back.
//!
//! If a window is used up, calls whose callers have time until it opens wait in a `lines.rs` queue; the others are refused.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio_util::task::TaskTracker;

use super::attempt::AttemptError;
use super::fair_queue::Claim;
use super::gathering::Gathering;
use super::lines::{AcquireError, Call, Lines, Next, Waiting};
use super::reported::ReportedPermit;
use super::terms::Refusal;
use super::waiters::Waiters;
use crate::clock::{Clock, Monotonic};
use crate::source::{CallerBudgets, QuotaLimits};
use crate::store::{Acquire, Acquired, Ledger, StoreError, Unit, WindowUse};
use crate::sync::lock;

/// From this number of waiting calls on, those whose callers have left are removed while the ledger hangs. How many wait beside
/// them is bounded by the requests that the server admits, each with one call a source.
const PURGE_FROM: usize = 4096;
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
    budgets: Mutex<Arc<CallerBudgets>>,
    /// Wakes the task that works on the queue.
    changed: Notify,
    gathering: Gathering,
}

#[derive(Default)]
struct Queue {
    lines: Lines<Acquisition>,
    /// Whether a task is working on the queue.
    is_running: bool,
    /// Duration of the last statement.
    took: Duration,
    /// Calls after the last removal of those whose callers had left.
    remained: usize,
    /// Both clocks at the last acquisition, or at the start.
    clocks: Option<(SystemTime, Monotonic)>,
}

/// A unit, and the use of the windows after it, as they apply to the priority of the call.
pub(super) struct Acquisition {
    pub(super) uses: Vec<WindowUse>,
    pub(super) unit: UnitGuard,
}

/// A unit whose call is in flight. Dropping the guard records the end of the call, from which the unit's window is
/// counted.
pub(super) struct UnitGuard {
    unit: Option<Unit>,
    permit: Option<ReportedPermit>,
    limits: QuotaLimits,
    acquirer: Arc<UnitAcquirer>,
}

impl UnitAcquirer {
    /// Acquires units from this ledger.
    pub fn new(ledger: Arc<dyn Ledger>, clock: Arc<dyn Clock>, tracker: TaskTracker) -> Arc<Self> {
        // Otherwise a clock that is set forward before the first call would go unnoticed.
        let queue = Queue { clocks: Some((clock.now(), clock.monotonic())), ..Queue::default() };
        Arc::new(Self {
            ledger,
            clock,
            tracker,
            queue: queue.into(),
            budgets: Mutex::default(),
            changed: Notify::new(),
            gathering: Gathering::default(),
        })
    }

    /// Does `work`, which is about to ask for units: if it does so at once, in the same statement as others that are.
    pub fn announce<F: Future + Unpin>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        self.gathering.announce(work)
    }

    /// Applies these budgets from the next unit on.
    pub fn set_budgets(&self, budgets: CallerBudgets) {
        *lock(&self.budgets) = Arc::new(budgets);
    }

    /// The units that callers may spend in a day.
    pub fn budgets(&self) -> Arc<CallerBudgets> {
        lock(&self.budgets).clone()
    }

    /// Acquires a unit for this call, batched with all other waiting calls. If a window is used up, waits for it to open as
    /// long as the callers have time.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        call: Call,
        waiters: &Arc<Waiters>,
    ) -> Result<Acquisition, AcquireError> {
        let acquired = self.wait_for_unit(call, waiters).await;
        waiters.resume(self.clock.monotonic());
        acquired
    }

    async fn wait_for_unit(self: &Arc<Self>, call: Call, waiters: &Arc<Waiters>) -> Result<Acquisition, AcquireError> {
        // Callers without budget. Somebody else who waits for the same may pay.
        let mut over_budget: Vec<String> = Vec::new();
        let mut refused = None;
        loop {
            waiters.close_if_abandoned(self.clock.monotonic()).map_err(AcquireError::Abandoned)?;
            let Some(claim) = waiters.claim(&over_budget) else {
                return Err(refused.unwrap_or_else(|| AcquireError::Abandoned(AttemptError::no_time())));
            };
            let priority = claim.priority;
            let mut taken = self.enqueue(claim, call.clone(), waiters);
            // Once nobody waits, or somebody with a higher priority, the call leaves its place in the queue.
            let moved = async {
                while waiters.claim(&over_budget).is_some_and(|claim| claim.priority <= priority) {
                    waiters.changed().await;
                }
            };
            tokio::select! {
                biased;
                taken = &mut taken => {
                    let ended = || Err(AcquireError::Ledger(StoreError::unavailable("the server is shutting down")));
                    match taken.unwrap_or_else(|_| ended()) {
                        Err(AcquireError::Refused(Refusal { caller: Some(caller), not_asked, window })) => {
                            over_budget.push(caller.clone());
                            let caller = Some(caller);
                            refused = Some(AcquireError::Refused(Refusal { not_asked, window, caller }));
                            continue;
                        }
                        taken => return taken,
                    }
                }
                () = moved => {}
            }
            // What was delivered just now is used, or given back where nobody waits any more.
            taken.close();
            if let Ok(Ok(acquired)) = taken.try_recv() {
                return Ok(acquired);
            }
            drop(taken);
            self.changed.notify_one();
        }
    }

    /// Adds the call to the queue, and starts the task that works on it if none runs.
    fn enqueue(
        self: &Arc<Self>,
        claim: Claim,
        call: Call,
        waiters: &Arc<Waiters>,
    ) -> oneshot::Receiver<Result<Acquisition, AcquireError>> {
        let (reply, taken) = oneshot::channel();
        let mut queue = lock(&self.queue);
        if queue.lines.len() >= PURGE_FROM.max(2 * queue.remained) {
            queue.lines.remove_left();
            queue.remained = queue.lines.len();
        }
        let (now, took) = (self.clock.monotonic(), queue.took);
        let waiting = Waiting { claim, call, waiters: waiters.clone(), reply };
        let is_open = queue.lines.push(waiting, took, now);
        let begin = !std::mem::replace(&mut queue.is_running, true);
        drop(queue);
        if begin {
            self.tracker.spawn(self.clone().work_on_queue());
        } else if is_open {
            self.changed.notify_one();
        }
        taken
    }

    /// Records the end of a call. Until this succeeds the unit counts as in use, so transient failures are retried until the
    /// server stops; then what counts as in use is forgotten in any case.
    async fn settle(&self, unit: Unit, ended: SystemTime) {
        while let Err(error) = self.ledger.settle(unit.clone(), ended).await {
            tracing::warn!(source = unit.source, %error, "the end of a call could not be recorded");
            if !error.is_transient() || self.tracker.is_closed() {
                return;
            }
            self.clock.sleep(SETTLE_RETRY_DELAY).await;
        }
    }

    async fn work_on_queue(self: Arc<Self>) {
        loop {
            // The other sources of the request are about to ask too, and one statement costs little more for all than for one.
            self.gathering.wait().await;
            let (next, took) = {
                let mut queue = lock(&self.queue);
                let next = queue.lines.next(self.clock.monotonic());
                queue.is_running = !matches!(next, Next::Nothing);
                (next, queue.took)
            };
            match next {
                Next::Acquire(batch) => self.acquire_batch(batch, took).await,
                Next::Wait(wait) => {
                    tokio::select! {
                        () = self.clock.sleep(wait) => {}
                        () = self.changed.notified() => {}
                    }
                }
                Next::Nothing => return,
            }
        }
    }

    /// If the wall clock was set forward since the last acquisition, the time that it would show otherwise.
    fn set_forward(&self, now: SystemTime, monotonic: Monotonic) -> Option<SystemTime> {
        let (wall, before) = lock(&self.queue).clocks?;
        let expected = wall.checked_add(monotonic.since(before))?;
        now.duration_since(expected).is_ok_and(|gain| gain > CLOCK_DRIFT).then_some(expected)
    }

    async fn acquire_batch(self: &Arc<Self>, batch: Vec<Waiting<Acquisition>>, took: Duration) {
        let (now, begun) = (self.clock.now(), self.clock.monotonic());
        let set_forward = self.set_forward(now, begun);
        let budgets = self.budgets();
        let mut calls = Vec::with_capacity(batch.len());
        let mut asking = Vec::with_capacity(batch.len());
        let mut refused = Vec::new();
        for waiting in batch {
            // A call without time for the statement itself could not use the unit.
            let in_time = waiting.waiters.close_if_abandoned(begun).and_then(|()| {
                if waiting.waiters.time_left(begun) > took { Ok(()) } else { Err(AttemptError::no_time()) }
            });
            if let Err(error) = in_time {
                waiting.refuse(AcquireError::Abandoned(error));
                continue;
            }
            let Call { terms, state, source, disclosures } = waiting.call.clone();
            let permit = match state.reported().take(waiting.claim.priority, terms.reserve, begun) {
                Ok(permit) => permit,
                Err(held) => {
                    let refusal = Refusal { not_asked: held.refusal(&*self.clock), window: None, caller: None };
                    refused.push((waiting, refusal, held.wait(begun)));
                    continue;
                }
            };
            let budget = budgets.limit(&waiting.claim.caller);
            let charged_to = budget.map(|_| waiting.claim.caller.clone());
            let unit = Unit { account: terms.account.clone(), source, at: now, charged_to };
            let limits = terms.limits_for(waiting.claim.priority, now);
            calls.push(Acquire { unit: unit.clone(), limits, budget, disclosures });
            asking.push((unit, permit, waiting));
        }
        if asking.is_empty() {
            return lock(&self.queue).lines.put_back(refused, took, begun);
        }
        let acquired = match set_forward {
            Some(from) => match self.ledger.follow_clock_forward(from, now).await {
                Ok(()) => self.ledger.acquire(calls).await,
                Err(error) => Err(error),
            },
            None => self.ledger.acquire(calls).await,
        };
        let ended = self.clock.monotonic();
        let took = ended.since(begun);
        lock(&self.queue).took = took;
        let acquired = match acquired {
            Ok(acquired) => acquired,
            Err(error) => {
                lock(&self.queue).lines.put_back(refused, took, begun);
                return asking
                    .into_iter()
                    .for_each(|(.., waiting)| waiting.refuse(AcquireError::Ledger(error.clone())));
            }
        };
        lock(&self.queue).clocks = Some((now, begun));
        for ((unit, permit, waiting), acquired) in asking.into_iter().zip(acquired) {
            match acquired {
                Acquired::Granted(uses) => self.deliver(unit, permit, waiting, uses),
                Acquired::OverBudget(day) => {
                    let caller = waiting.claim.caller.clone();
                    metrics::counter!("concord_caller_budget_refusals_total", "caller" => caller).increment(1);
                    let refusal = Refusal::over_budget(&waiting.claim.caller, &day);
                    waiting.refuse(AcquireError::Refused(refusal));
                }
                Acquired::Spent(window) => {
                    let refusal = waiting.call.terms.refusal(waiting.claim.priority, &window, now);
                    let until = refusal.not_asked.until.unwrap_or(window.resets_at);
                    let wait = until.duration_since(now).unwrap_or_default();
                    refused.push((waiting, refusal, wait));
                }
            }
        }
        lock(&self.queue).lines.put_back(refused, took, begun);
    }

    /// Lets the calls that wait for a unit of this account ask for one, since there may be some again.
    pub fn reopen(&self, account: &str) {
        lock(&self.queue).lines.open(account);
        self.changed.notify_one();
    }

    fn deliver(
        self: &Arc<Self>,
        unit: Unit,
        permit: ReportedPermit,
        waiting: Waiting<Acquisition>,
        uses: Vec<WindowUse>,
    ) {
        let limits = waiting.call.terms.limits.clone();
        let unit = UnitGuard { unit: Some(unit), permit: Some(permit), limits, acquirer: self.clone() };
        if let Err(Ok(undelivered)) = waiting.reply.send(Ok(Acquisition { uses, unit })) {
            self.tracker.spawn(async move { undelivered.unit.give_back().await });
        }
    }
}

impl UnitGuard {
    /// Gives the unit back, for a call that did not reach the source. Returns the remaining use of the windows; `None`
    /// if the unit could not be given back.
    pub(super) async fn give_back(mut self) -> Option<Vec<WindowUse>> {
        let unit = self.unit.take()?;
        let source = unit.source.clone();
        let given_back = self.acquirer.ledger.give_back(unit.clone(), &self.limits).await;
        match given_back {
            Ok(uses) => {
                drop(self.permit.take());
                self.acquirer.reopen(&unit.account);
                uses
            }
            Err(error) => {
                tracing::warn!(source, %error, "a quota unit could not be given back");
                // The unit stays acquired; dropping the guard records the end of its call.
                self.unit = Some(unit);
                None
            }
        }
    }
}

impl Drop for UnitGuard {
    fn drop(&mut self) {
        let Some(unit) = self.unit.take() else { return };
        self.permit.take().into_iter().for_each(ReportedPermit::spend);
        // Without a runtime the process is ending, and the in-memory state of units in flight ends with it.
        let Ok(runtime) = Handle::try_current() else { return };
        let (acquirer, ended) = (self.acquirer.clone(), self.acquirer.clock.now());
        let mut settled = Box::pin(async move { acquirer.settle(unit, ended).await });
        // It waits for the store only where the call ended in another window than it began in.
        if (&mut settled).now_or_never().is_none() {
            self.acquirer.tracker.spawn_on(settled, &runtime);
        }
    }
}

impl fmt::Debug for UnitAcquirer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnitAcquirer").field("waiting", &lock(&self.queue).lines.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;
    use crate::clock::ManualClock;
    use crate::fetch::terms::Terms;
    use crate::source::Priority;
    use crate::store::{Maintenance, Memory};

    fn acquirer(clock: &Arc<ManualClock>, store: &Arc<Memory>) -> Arc<UnitAcquirer> {
        UnitAcquirer::new(store.clone(), clock.clone(), TaskTracker::new())
    }

    fn call() -> Call {
        let account = "account".to_owned();
        let terms = Terms { account, limits: QuotaLimits::default(), reserve: 0, is_paced: false };
        Call { terms: Arc::new(terms), state: Arc::default(), source: "source".to_owned(), disclosures: Vec::new() }
    }

    fn claim() -> Claim {
        Claim { priority: Priority::Interactive, caller: "caller".to_owned() }
    }

    #[test]
    fn a_unit_that_outlives_the_runtime_is_dropped_without_a_panic() {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let clock = Arc::new(ManualClock::new(SystemTime::UNIX_EPOCH));
        let end = clock.monotonic() + Duration::from_secs(9);
        let acquirer = acquirer(&clock, &Arc::default());
        let (waiters, _guard) = Waiters::begin(end, end, claim(), None, None);
        let Ok(acquisition) = runtime.block_on(acquirer.acquire(call(), &waiters)) else {
            panic!("nothing is used up")
        };
        drop(runtime);
        drop(acquisition);
    }

    #[tokio::test]
    async fn the_end_of_a_call_is_not_recorded_for_ever_once_the_server_stops() {
        let (clock, store) = (Arc::new(ManualClock::new(SystemTime::UNIX_EPOCH)), Arc::new(Memory::new()));
        clock.skip_sleeps(SETTLE_RETRY_DELAY);
        let end = clock.monotonic() + Duration::from_secs(9);
        let acquirer = acquirer(&clock, &store);
        let (waiters, _guard) = Waiters::begin(end, end, claim(), None, None);
        let Ok(acquisition) = acquirer.acquire(call(), &waiters).await else { panic!("nothing is used up") };
        store.close().await.unwrap();
        acquirer.tracker.close();
        drop(acquisition);
        acquirer.tracker.wait().await;
        assert_eq!(clock.monotonic() + Duration::from_secs(9), end, "it was not retried");
    }

    #[tokio::test]
    async fn any_number_of_calls_may_wait_and_those_whose_callers_left_take_no_room() {
        let clock = Arc::new(ManualClock::new(SystemTime::UNIX_EPOCH));
        let end = clock.monotonic() + Duration::from_secs(9);
        let acquirer = acquirer(&clock, &Arc::default());
        let (waiters, _guard) = Waiters::begin(end, end, claim(), None, None);
        let count = 3 * PURGE_FROM;
        // The task that works on the queue does not run before this test waits.
        let mut replies: Vec<_> = (0..count).map(|_| acquirer.enqueue(claim(), call(), &waiters)).collect();
        assert_eq!(lock(&acquirer.queue).lines.len(), count);
        for _ in 0..count {
            drop(acquirer.enqueue(claim(), call(), &waiters));
        }
        assert!(lock(&acquirer.queue).lines.len() <= 2 * count);
        let last = replies.pop().unwrap();
        assert!(last.await.unwrap().is_ok());
    }
}
