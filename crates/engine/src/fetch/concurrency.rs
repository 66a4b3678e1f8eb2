//! Layer 7, concurrency: how many calls to one source are under way at once. The limit is halved when the source times out,
//! refuses or fails, and grows again by one per round of answers while it answers as quickly as usual.
//!
//! It is inside the quota, so that a call that waits for a unit, which may take hours, holds no place. The unit of a call that
//! gets no place is given back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::attempt::AttemptError;
use super::breaker::{AttemptResult, CircuitBreaker};
use super::fair_queue::{Claim, Claims, FairQueue};
use super::waiters::Waiters;
use crate::clock::{Clock, Monotonic};
use crate::finding::{NotAsked, NotAskedReason};
use crate::source::Priority;
use crate::sync::lock;

/// A call that takes longer than this many times the usual is slow, so that the limit does not grow.
const SLOW_FACTOR: u32 = 2;
/// Differences below this do not make a call slow.
const LATENCY_TOLERANCE: Duration = Duration::from_millis(20);
/// A call that takes longer than usual changes what is usual by this fraction of the difference.
const LATENCY_SMOOTHING: u32 = 32;

/// The concurrency of one source, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencyStatus {
    /// Maximum of calls at once as of now, at least 1.
    pub limit: usize,
    /// Calls under way.
    pub in_flight: usize,
    /// Calls that wait for a place.
    pub waiting: usize,
}

/// The places for calls to one source, shared by all its pipelines. The next place goes to the higher priority, and to the
/// callers of one priority in turn.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit(Mutex<Limit>);

#[derive(Debug)]
struct Limit {
    /// The limit; a fraction is on its way to the next place.
    limit: f64,
    max: usize,
    /// Places taken. More than the limit after it fell, until calls end.
    in_flight: usize,
    queue: FairQueue<WaitingCall>,
    /// Calls in the queue that do not wait any more.
    left: usize,
    /// The least latency of late, which slow calls raise little by little.
    usual_latency: Option<Duration>,
    /// Calls that began before cannot halve the limit again.
    halved_at: Option<Monotonic>,
}

#[derive(Debug)]
struct WaitingCall {
    claim: Claim,
    reply: oneshot::Sender<Place>,
}

impl Claims for WaitingCall {
    fn claim(&self) -> &Claim {
        &self.claim
    }
}

impl ConcurrencyLimit {
    /// As many places as the settings allow.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Limit {
            limit: max as f64,
            max,
            in_flight: 0,
            queue: FairQueue::default(),
            left: 0,
            usual_latency: None,
            halved_at: None,
        })))
    }

    /// Waits for a place for as long as anybody waits for the call and the circuit is not open.
    ///
    /// # Errors
    /// Why there is no place, if nobody waits any more.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        breaker: &CircuitBreaker,
        waiters: &Waiters,
        clock: &dyn Clock,
    ) -> Result<Place, AttemptError> {
        let mut place = match self.take_free() {
            Some(place) => place,
            None => {
                let place = self.wait(breaker, waiters, clock).await;
                waiters.resume(clock.monotonic());
                place?
            }
        };
        place.begin_call(clock.monotonic());
        Ok(place)
    }

    /// A place that nobody waits for.
    fn take_free(self: &Arc<Self>) -> Option<Place> {
        let mut state = lock(&self.0);
        (state.in_flight < state.whole()).then(|| self.take(&mut state))
    }

    fn take(self: &Arc<Self>, state: &mut Limit) -> Place {
        state.in_flight += 1;
        Place { limit: Some(self.clone()), begun: Monotonic::default() }
    }

    async fn wait(
        self: &Arc<Self>,
        breaker: &CircuitBreaker,
        waiters: &Waiters,
        clock: &dyn Clock,
    ) -> Result<Place, AttemptError> {
        let refusal = self.refusal();
        waiters.pause(clock.monotonic(), refusal.clone());
        // Otherwise the call is to be the probe.
        let was_closed = breaker.is_closed();
        let mut turn = None;
        loop {
            let left = waiters.time_left(clock.monotonic());
            let claim = waiters.claim(&[]).filter(|_| !left.is_zero());
            let Some(claim) = claim else {
                waiters.close_if_abandoned(clock.monotonic())?;
                return Err(AttemptError::NotAttempted(refusal));
            };
            // It moves up where somebody with a higher priority joined.
            let current = turn.take_if(|turn: &mut Turn| turn.claim.priority >= claim.priority);
            let current = turn.insert(current.unwrap_or_else(|| self.enqueue(claim)));
            tokio::select! {
                biased;
                // The sender is in the queue, which outlives this.
                place = &mut current.place => {
                    current.is_over = true;
                    return place.map_err(|_| AttemptError::no_time());
                }
                () = breaker.opened(), if was_closed => {
                    let refusal = breaker.refusal(clock);
                    return Err(refusal.map_or_else(AttemptError::no_time, AttemptError::NotAttempted));
                }
                // If nobody waits any more, the unit is given back at once.
                () = waiters.changed() => {}
                () = clock.sleep(left) => {}
            }
        }
    }

    fn enqueue(self: &Arc<Self>, claim: Claim) -> Turn {
        let (reply, place) = oneshot::channel();
        let mut state = lock(&self.0);
        state.queue.push(WaitingCall { claim: claim.clone(), reply });
        // One may have come free since.
        self.serve(&mut state);
        Turn { limit: self.clone(), claim, place, is_over: false }
    }

    /// Gives the free places to the calls whose turn it is.
    fn serve(self: &Arc<Self>, state: &mut Limit) {
        while state.in_flight < state.whole()
            && let Some(next) = state.next()
        {
            if let Err(undelivered) = next.reply.send(self.take(state)) {
                // Its drop would lock the state again.
                undelivered.forget();
                state.in_flight -= 1;
                state.left = state.left.saturating_sub(1);
            }
        }
    }

    /// Why a call that got no place was not made.
    fn refusal(&self) -> NotAsked {
        let limit = self.status().limit;
        let calls = if limit == 1 { "1 call is".to_owned() } else { format!("{limit} calls are") };
        let detail = format!("{calls} made to the source at once, and no place came free before the deadline");
        NotAsked::new(NotAskedReason::Deadline, detail)
    }

    /// Bounds the limit by the settings.
    pub(super) fn set_max(self: &Arc<Self>, max: usize) {
        let mut state = lock(&self.0);
        if state.max != max {
            // A limit that nothing has lowered follows the settings up as well.
            let was_lowered = state.limit < state.max as f64;
            state.max = max;
            state.limit = if was_lowered { state.limit.min(max as f64) } else { max as f64 };
            self.serve(&mut state);
        }
    }

    /// The state, for display.
    pub(super) fn status(&self) -> ConcurrencyStatus {
        let state = lock(&self.0);
        let waiting = state.queue.len().saturating_sub(state.left);
        ConcurrencyStatus { limit: state.whole(), in_flight: state.in_flight, waiting }
    }
}

impl Limit {
    fn whole(&self) -> usize {
        (self.limit as usize).max(1)
    }

    fn next(&mut self) -> Option<WaitingCall> {
        self.queue.pop(Priority::Interactive).or_else(|| self.queue.pop(Priority::Background))
    }

    /// Counts a call as one that left, and removes those once they are the most.
    fn leave(&mut self) {
        self.left += 1;
        if self.left * 2 > self.queue.len() {
            for priority in [Priority::Interactive, Priority::Background] {
                drop(self.queue.remove_unless(priority, |call| !call.reply.is_closed()));
            }
            self.left = 0;
        }
    }

    fn adapt(&mut self, result: AttemptResult, begun: Monotonic, now: Monotonic) {
        if result.is_overload() {
            // Calls that were under way together count once.
            if self.halved_at.is_none_or(|halved| begun >= halved) {
                self.limit = (self.limit / 2.0).max(1.0);
                self.halved_at = Some(now);
            }
            return;
        }
        let latency = now.since(begun);
        let usual = self.usual_latency.unwrap_or(latency);
        self.usual_latency =
            Some(if latency < usual { latency } else { usual + (latency - usual) / LATENCY_SMOOTHING });
        let is_slow = latency > usual * SLOW_FACTOR + LATENCY_TOLERANCE;
        // A limit that is not needed says nothing about what the source can bear.
        let is_used = self.in_flight * 2 >= self.whole();
        if !is_slow && is_used {
            self.limit = (self.limit + 1.0 / self.limit).min(self.max as f64);
        }
    }
}

/// A place of a call. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    limit: Option<Arc<ConcurrencyLimit>>,
    begun: Monotonic,
}

impl Place {
    /// Notes that the call begins now.
    pub(super) fn begin_call(&mut self, now: Monotonic) {
        self.begun = now;
    }

    /// Adapts the limit to the result of the call.
    pub(super) fn record(&self, result: AttemptResult, now: Monotonic) {
        let Some(limit) = &self.limit else { return };
        let mut state = lock(&limit.0);
        state.adapt(result, self.begun, now);
        limit.serve(&mut state);
    }

    /// Drops it without freeing the place.
    fn forget(mut self) {
        self.limit = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(limit) = self.limit.take() else { return };
        let mut state = lock(&limit.0);
        state.in_flight = state.in_flight.saturating_sub(1);
        limit.serve(&mut state);
    }
}

/// A call's turn in the queue. Dropping it leaves the queue, and frees a place that was given to it meanwhile.
struct Turn {
    limit: Arc<ConcurrencyLimit>,
    claim: Claim,
    place: oneshot::Receiver<Place>,
    is_over: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = lock(&self.limit.0);
        self.place.close();
        let given = self.place.try_recv().ok();
        if given.is_none() {
            state.leave();
        }
        // Before the place, whose drop locks it again.
        drop(state);
        drop(given);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(100);

    fn place(limit: &Arc<ConcurrencyLimit>, now: Monotonic) -> Place {
        let mut place = limit.take_free().expect("a free place");
        place.begin_call(now);
        place
    }

    fn claim(priority: Priority, caller: &str) -> Claim {
        Claim { priority, caller: caller.to_owned() }
    }

    /// Takes the places that were given to these turns, in the order of the turns.
    fn served(turns: &mut [(usize, Turn)]) -> Vec<(usize, Place)> {
        let given = turns.iter_mut().filter_map(|(number, turn)| {
            let place = turn.place.try_recv().ok()?;
            turn.is_over = true;
            Some((*number, place))
        });
        given.collect()
    }

    #[test]
    fn people_get_the_next_place_and_the_callers_of_one_priority_take_turns() {
        let limit = ConcurrencyLimit::new(1);
        let mut under_way = vec![(0, place(&limit, Monotonic::default()))];
        let (busy, other) = (claim(Priority::Background, "busy"), claim(Priority::Background, "other"));
        let person = claim(Priority::Interactive, "person");
        let claims = [&busy, &busy, &busy, &other, &person, &person];
        let mut turns: Vec<_> =
            claims.into_iter().enumerate().map(|(number, claim)| (number, limit.enqueue(claim.clone()))).collect();
        assert_eq!(limit.status(), ConcurrencyStatus { limit: 1, in_flight: 1, waiting: 6 });
        let mut order = Vec::new();
        while under_way.pop().is_some() {
            under_way = served(&mut turns);
            assert!(under_way.len() <= 1);
            order.extend(under_way.iter().map(|(number, _)| *number));
        }
        assert_eq!(order, [4, 5, 0, 3, 1, 2]);
        assert_eq!(limit.status(), ConcurrencyStatus { limit: 1, in_flight: 0, waiting: 0 });
    }

    #[test]
    fn whoever_leaves_the_queue_keeps_no_place_not_even_one_that_it_just_got() {
        let limit = ConcurrencyLimit::new(1);
        let first = place(&limit, Monotonic::default());
        let mut turns: Vec<_> =
            (0..5).map(|number| (number, limit.enqueue(claim(Priority::Background, "any")))).collect();
        drop(turns.remove(1));
        assert_eq!(limit.status().waiting, 4);
        drop(first);
        // Its place was given to it, and it leaves without having looked.
        drop(turns.remove(0));
        let given = served(&mut turns);
        assert_eq!(given.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2]);
        assert_eq!(limit.status(), ConcurrencyStatus { limit: 1, in_flight: 1, waiting: 2 });
        drop(turns);
        drop(given);
        assert_eq!(limit.status(), ConcurrencyStatus { limit: 1, in_flight: 0, waiting: 0 });
        assert!(limit.take_free().is_some());
    }

    #[test]
    fn timeouts_of_calls_under_way_together_halve_the_limit_once_and_answers_raise_it_to_the_maximum() {
        let (limit, mut now) = (ConcurrencyLimit::new(8), Monotonic::default());
        let calls: Vec<_> = (0..8).map(|_| place(&limit, now)).collect();
        now = now + MOMENT;
        calls.iter().for_each(|call| call.record(AttemptResult::TimedOut, now));
        assert_eq!(limit.status().limit, 4);
        drop(calls);
        assert_eq!(limit.status().in_flight, 0);
        for _ in 0..100 {
            let calls: Vec<_> = (0..limit.status().limit).map(|_| place(&limit, now)).collect();
            now = now + MOMENT;
            calls.iter().for_each(|call| call.record(AttemptResult::Answered, now));
        }
        assert_eq!((limit.status().limit, limit.status().in_flight), (8, 0));
    }

    #[test]
    fn the_limit_never_falls_below_one_and_does_not_grow_while_answers_are_slow_or_few() {
        let (limit, mut now) = (ConcurrencyLimit::new(8), Monotonic::default());
        let mut call = |limit: &Arc<ConcurrencyLimit>, result, took: Duration| {
            let call = place(limit, now);
            now = now + took;
            call.record(result, now);
        };
        for _ in 0..6 {
            call(&limit, AttemptResult::RateLimited, MOMENT);
        }
        assert_eq!(limit.status().limit, 1);
        call(&limit, AttemptResult::Answered, MOMENT);
        assert_eq!(limit.status().limit, 2);
        call(&limit, AttemptResult::Answered, 5 * MOMENT);
        call(&limit, AttemptResult::Answered, 5 * MOMENT);
        call(&limit, AttemptResult::Answered, 5 * MOMENT);
        assert_eq!(limit.status().limit, 2, "they took longer than usual");
        for _ in 0..100 {
            call(&limit, AttemptResult::Answered, MOMENT);
        }
        assert_eq!(limit.status().limit, 3, "one call at a time does not need more");
    }

    #[test]
    fn a_lower_maximum_holds_at_once_for_new_calls_and_a_higher_one_is_followed() {
        let (limit, now) = (ConcurrencyLimit::new(4), Monotonic::default());
        let calls: Vec<_> = (0..4).map(|_| place(&limit, now)).collect();
        limit.set_max(2);
        assert!(limit.take_free().is_none());
        drop(calls);
        let calls: Vec<_> = std::iter::from_fn(|| limit.take_free()).collect();
        assert_eq!((calls.len(), limit.status().limit), (2, 2));
        limit.set_max(6);
        assert_eq!(
            (std::iter::from_fn(|| limit.take_free()).take(9).collect::<Vec<_>>().len(), limit.status().limit),
            (4, 6)
        );
    }
}
