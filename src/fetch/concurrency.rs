//! Layer 7, concurrency: how many calls to one source are under way at once. The limit is halved when the source times out,
//! refuses or fails, and grows again by one per round of answers while it answers as quickly as usual.
//!
//! It is inside the quota, so that a call that waits for a unit, which may take hours, holds no place. The unit of a call that
//! gets no place is given back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::attempt::AttemptError;
use super::breaker::{AttemptResult, CircuitBreaker};
use super::waiters::Waiters;
use crate::clock::{Clock, Monotonic};
use crate::finding::{NotAsked, NotAskedReason};
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

/// The places for calls to one source, shared by all its pipelines. Whoever waits longest gets the next place.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    places: Arc<Semaphore>,
    state: Mutex<Limit>,
}

#[derive(Debug)]
struct Limit {
    /// The limit; a fraction is on its way to the next place.
    limit: f64,
    max: usize,
    /// Places that exist, free or taken. More than the limit after it fell, until calls end.
    places: usize,
    in_flight: usize,
    waiting: usize,
    /// The least latency of late, which slow calls raise little by little.
    usual_latency: Option<Duration>,
    /// Calls that began before cannot halve the limit again.
    halved_at: Option<Monotonic>,
}

impl ConcurrencyLimit {
    /// As many places as the settings allow.
    pub(super) fn new(max: usize) -> Arc<Self> {
        let state = Limit {
            limit: max as f64,
            max,
            places: max,
            in_flight: 0,
            waiting: 0,
            usual_latency: None,
            halved_at: None,
        };
        Arc::new(Self { places: Arc::new(Semaphore::new(max)), state: Mutex::new(state) })
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
        let permit = match self.places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let permit = self.wait(breaker, waiters, clock).await;
                waiters.resume(clock.monotonic());
                permit?
            }
        };
        lock(&self.state).in_flight += 1;
        Ok(Place { permit: Some(permit), limit: self.clone(), begun: clock.monotonic() })
    }

    async fn wait(
        self: &Arc<Self>,
        breaker: &CircuitBreaker,
        waiters: &Waiters,
        clock: &dyn Clock,
    ) -> Result<OwnedSemaphorePermit, AttemptError> {
        let _waiting = Waiting::begin(self);
        let refusal = self.refusal();
        waiters.pause(clock.monotonic(), refusal.clone());
        // Otherwise the call is to be the probe.
        let was_closed = breaker.is_closed();
        let acquire = self.places.clone().acquire_owned();
        tokio::pin!(acquire);
        loop {
            let left = waiters.time_left(clock.monotonic());
            if left.is_zero() {
                waiters.close_if_abandoned(clock.monotonic())?;
                return Err(AttemptError::NotAttempted(refusal));
            }
            tokio::select! {
                biased;
                // The semaphore is never closed.
                permit = &mut acquire => return permit.map_err(|_| AttemptError::no_time()),
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

    /// Why a call that got no place was not made.
    fn refusal(&self) -> NotAsked {
        let limit = self.status().limit;
        let calls = if limit == 1 { "1 call is".to_owned() } else { format!("{limit} calls are") };
        let detail = format!("{calls} made to the source at once, and no place came free before the deadline");
        NotAsked::new(NotAskedReason::Deadline, detail)
    }

    /// Bounds the limit by the settings.
    pub(super) fn set_max(&self, max: usize) {
        let mut state = lock(&self.state);
        if state.max != max {
            // A limit that nothing has lowered follows the settings up as well.
            let was_lowered = state.limit < state.max as f64;
            state.max = max;
            state.limit = if was_lowered { state.limit.min(max as f64) } else { max as f64 };
            self.resize(&mut state);
        }
    }

    /// The state, for display.
    pub(super) fn status(&self) -> ConcurrencyStatus {
        let state = lock(&self.state);
        ConcurrencyStatus { limit: state.whole(), in_flight: state.in_flight, waiting: state.waiting }
    }

    /// Makes or removes places until there are as many as the limit. A taken place is removed when its call ends.
    fn resize(&self, state: &mut Limit) {
        let wanted = state.whole();
        if wanted > state.places {
            self.places.add_permits(wanted - state.places);
            state.places = wanted;
        } else {
            state.places -= self.places.forget_permits(state.places - wanted);
        }
    }
}

impl Limit {
    fn whole(&self) -> usize {
        (self.limit as usize).max(1)
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
    permit: Option<OwnedSemaphorePermit>,
    limit: Arc<ConcurrencyLimit>,
    begun: Monotonic,
}

impl Place {
    /// Notes that the call begins now.
    pub(super) fn begin_call(&mut self, now: Monotonic) {
        self.begun = now;
    }

    /// Adapts the limit to the result of the call.
    pub(super) fn record(&self, result: AttemptResult, now: Monotonic) {
        let mut state = lock(&self.limit.state);
        state.adapt(result, self.begun, now);
        self.limit.resize(&mut state);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = lock(&self.limit.state);
        state.in_flight = state.in_flight.saturating_sub(1);
        if state.places > state.whole()
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
            state.places -= 1;
        }
    }
}

/// Counts a call as waiting until it is dropped.
struct Waiting<'a>(&'a ConcurrencyLimit);

impl<'a> Waiting<'a> {
    fn begin(limit: &'a ConcurrencyLimit) -> Self {
        lock(&limit.state).waiting += 1;
        Self(limit)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.waiting = state.waiting.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(100);

    fn place(limit: &Arc<ConcurrencyLimit>, now: Monotonic) -> Place {
        let permit = limit.places.clone().try_acquire_owned().expect("a free place");
        lock(&limit.state).in_flight += 1;
        Place { permit: Some(permit), limit: limit.clone(), begun: now }
    }

    #[test]
    fn timeouts_of_calls_under_way_together_halve_the_limit_once_and_answers_raise_it_to_the_maximum() {
        let (limit, mut now) = (ConcurrencyLimit::new(8), Monotonic::default());
        let calls: Vec<_> = (0..8).map(|_| place(&limit, now)).collect();
        now = now + MOMENT;
        calls.iter().for_each(|call| call.record(AttemptResult::TimedOut, now));
        assert_eq!(limit.status().limit, 4);
        drop(calls);
        assert_eq!((limit.places.available_permits(), limit.status().in_flight), (4, 0));
        for _ in 0..100 {
            let calls: Vec<_> = (0..limit.status().limit).map(|_| place(&limit, now)).collect();
            now = now + MOMENT;
            calls.iter().for_each(|call| call.record(AttemptResult::Answered, now));
        }
        assert_eq!((limit.status().limit, limit.places.available_permits()), (8, 8));
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
        drop(calls);
        assert_eq!((limit.status().limit, limit.places.available_permits()), (2, 2));
        limit.set_max(6);
        assert_eq!((limit.status().limit, limit.places.available_permits()), (6, 6));
    }
}
