//! Load estimation: decides whether a new request can still be answered before its deadline. The cost of an enrichment
//! is measured continuously, so that the estimate fits the machine and the current mix of requests.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tonic::Request;

use super::auth::Owner;
use crate::clock::{Clock, Monotonic};
use crate::error::Error;
use crate::sync::lock;

/// How often the cost is measured.
const SAMPLE_PERIOD: Duration = Duration::from_millis(50);
/// Assumed cost of an enrichment before the first measurement.
const INITIAL_COST: Duration = Duration::from_micros(500);
/// Lower bound of the cost. Without it, a phase of cached answers would let in more requests than can be answered once
/// they have to ask sources.
const MIN_COST: Duration = Duration::from_micros(100);
/// A request is refused if the backlog takes longer than its remaining time divided by this.
const BACKLOG_DIVISOR: u32 = 2;
/// An admitted request is refused if it does not begin within its remaining time, less its margin, divided by this.
const BEGIN_DIVISOR: u32 = 3;
/// Upper bound of the delay that refused requests are told because of each other.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);
/// A cheaper sample lowers the cost by at most `1 / DECAY_DIVISOR` of it, so that the estimate is not too low when a
/// burst of costly requests follows a quiet phase.
const DECAY_DIVISOR: u32 = 16;
/// One sample raises the cost to at most this many times its value.
const MAX_RISE_FACTOR: u32 = 4;

/// The slots that a request occupies. A request acquires more of them for concurrent work and for large bodies.
pub(crate) trait Slots: Send + Sync + fmt::Debug {
    /// Acquires up to `wanted` more slots and returns how many it got. `None`: so few are free that the work would take
    /// too long with them.
    fn grow(&self, wanted: usize) -> Option<usize>;
}

/// The memory that an answer may occupy until its client has read it. It is accounted for in slots of its request, each
/// of which stands for a fixed number of bytes.
#[derive(Debug)]
pub(crate) struct AnswerMemory {
    slots: Option<Arc<dyn Slots>>,
    bytes: usize,
}

impl AnswerMemory {
    const BYTES_PER_SLOT: usize = 64 * 1024;

    /// Accounts for the answer in the slots of this request. A request without slots has no bound.
    pub(crate) fn from_request<T>(request: &Request<T>) -> Self {
        Self::new(request.extensions().get::<Arc<dyn Slots>>().cloned())
    }

    pub(super) fn new(slots: Option<Arc<dyn Slots>>) -> Self {
        Self { slots, bytes: Self::BYTES_PER_SLOT }
    }

    /// Reserves memory for an answer of this total size, and returns whether there is enough.
    pub(crate) fn reserve(&mut self, bytes: usize) -> bool {
        let Some(slots) = &self.slots else { return true };
        while self.bytes < bytes && slots.grow(1) == Some(1) {
            self.bytes += Self::BYTES_PER_SLOT;
        }
        bytes <= self.bytes
    }
}

/// The error for an answer that does not fit into the memory that is left.
pub(crate) fn out_of_answer_memory() -> Error {
    Error::Exhausted {
        subject: "answers in memory".into(),
        message: "the requests in flight leave too little memory for an answer of this size".into(),
        retry_after: Some(Duration::from_secs(1)),
    }
}

/// The enrichments in flight, and the estimated cost of one.
#[derive(Debug)]
pub(crate) struct Load {
    clock: Arc<dyn Clock>,
    workers: Handle,
    worker_count: u32,
    in_flight: Mutex<InFlight>,
    /// Enrichments that began plus those that ended since the last sample. Half of it estimates how many were worked
    /// on.
    transitions: AtomicUsize,
    /// Estimated cost of one enrichment, in nanoseconds of worker time.
    cost: AtomicU64,
    sampled: Mutex<Sample>,
}

#[derive(Debug, Default)]
struct InFlight {
    total: usize,
    owners: HashMap<Owner, usize>,
    /// When the next refused request is to be tried again.
    next_retry: Monotonic,
}

impl InFlight {
    fn add(&mut self, owner: &Owner, enrichments: usize) {
        self.total += enrichments;
        *self.owners.entry(owner.clone()).or_default() += enrichments;
    }

    fn remove(&mut self, owner: &Owner, enrichments: usize) {
        self.total = self.total.saturating_sub(enrichments);
        if let Some(count) = self.owners.get_mut(owner) {
            *count = count.saturating_sub(enrichments);
            if *count == 0 {
                self.owners.remove(owner);
            }
        }
    }

    /// How long a request should wait that is refused now: for the backlog, and for those that were refused before it.
    fn retry_after(&mut self, now: Monotonic, backlog: Duration, cost: Duration) -> Duration {
        let retry = self.next_retry.max(now + backlog).min(now + MAX_RETRY_AFTER.max(backlog));
        self.next_retry = retry + cost;
        retry.since(now)
    }

    /// How many enrichments are served before a new one of this owner, if the workers serve the owners in turn: all of
    /// its own, and of every other owner at most one more than it has itself.
    fn ahead_of(&self, owner: &Owner) -> usize {
        let own = self.owners.get(owner).copied().unwrap_or_default();
        self.owners.iter().map(|(other, count)| if other == owner { own } else { (*count).min(own + 1) }).sum()
    }
}

/// The time of a measurement, and the total busy time of the workers up to then.
#[derive(Debug)]
struct Sample {
    at: Monotonic,
    busy: Duration,
}

impl Load {
    /// Estimates the load of the runtime that runs the requests.
    pub(crate) fn new(workers: Handle, clock: Arc<dyn Clock>) -> Arc<Self> {
        let sample = Sample { at: clock.monotonic(), busy: busy(&workers) };
        Arc::new(Self {
            clock,
            worker_count: u32::try_from(workers.metrics().num_workers()).unwrap_or(1).max(1),
            workers,
            in_flight: Mutex::default(),
            transitions: AtomicUsize::new(0),
            cost: AtomicU64::new(nanos(INITIAL_COST)),
            sampled: Mutex::new(sample),
        })
    }

    /// Admits a request that arrives now, if it can be answered in the time `left` until its deadline. Of other owners'
    /// work only as much counts as this owner has itself, so that a caller with much work in flight does not keep
    /// others out.
    ///
    /// # Errors
    /// [`Error::Exhausted`] if the backlog leaves too little time.
    pub(crate) fn admit(self: &Arc<Self>, owner: &Owner, left: Duration) -> Result<Admitted, Error> {
        self.sample();
        let mut in_flight = lock(&self.in_flight);
        let (total, ahead) = (in_flight.total, in_flight.ahead_of(owner));
        let backlog = self.time_for(ahead + 1);
        // An idle server always admits: the cost may be outdated, and refusing would measure nothing that corrects it.
        if total > 0 && backlog > left / BACKLOG_DIVISOR {
            return Err(Error::Exhausted {
                subject: "time before the deadline".into(),
                message: format!("the requests in flight take {} ms to answer", backlog.as_millis()),
                retry_after: Some(in_flight.retry_after(self.clock.monotonic(), backlog, self.time_for(1))),
            });
        }
        in_flight.add(owner, 1);
        drop(in_flight);
        self.transitions.fetch_add(1, Ordering::Relaxed);
        let arrived = self.clock.monotonic();
        // All work in flight competes for the workers, whoever owns it. The request still keeps half of its time.
        let margin = self.time_for(total + 1).min(left / BACKLOG_DIVISOR);
        Ok(Admitted(Arc::new(AdmittedState {
            arrived,
            begin_by: arrived + left.saturating_sub(margin) / BEGIN_DIVISOR,
            ahead: total,
            margin,
            owner: owner.clone(),
            size: AtomicUsize::new(1),
            load: self.clone(),
        })))
    }

    /// Estimated time in which all workers together complete this many enrichments.
    fn time_for(&self, enrichments: usize) -> Duration {
        let cost = Duration::from_nanos(self.cost.load(Ordering::Relaxed));
        cost.saturating_mul(u32::try_from(enrichments).unwrap_or(u32::MAX)) / self.worker_count
    }

    /// Raises the cost if this many enrichments took at least this time.
    fn raise_cost(&self, time: Duration, enrichments: usize) {
        let cost = time * self.worker_count / u32::try_from(enrichments).unwrap_or(u32::MAX).max(1);
        let before = Duration::from_nanos(self.cost.load(Ordering::Relaxed));
        if cost > before {
            self.cost.store(nanos(cost.min(before * MAX_RISE_FACTOR)), Ordering::Relaxed);
        }
    }

    fn enter(&self, owner: &Owner, enrichments: usize) {
        lock(&self.in_flight).add(owner, enrichments);
        self.transitions.fetch_add(enrichments, Ordering::Relaxed);
    }

    fn leave(&self, owner: &Owner, enrichments: usize) {
        lock(&self.in_flight).remove(owner, enrichments);
        self.transitions.fetch_add(enrichments, Ordering::Relaxed);
    }

    /// Updates the cost if the last sample is old enough.
    fn sample(&self) {
        let now = self.clock.monotonic();
        let mut sampled = lock(&self.sampled);
        if now.since(sampled.at) < SAMPLE_PERIOD {
            return;
        }
        let total = busy(&self.workers);
        let spent = total.saturating_sub(sampled.busy);
        *sampled = Sample { at: now, busy: total };
        let transitions = u32::try_from(self.transitions.swap(0, Ordering::Relaxed)).unwrap_or(u32::MAX);
        let before = Duration::from_nanos(self.cost.load(Ordering::Relaxed));
        // The workers also do other work, which a single sample may wrongly attribute to enrichments.
        let measured = (spent * 2).checked_div(transitions).unwrap_or_default().min(before * MAX_RISE_FACTOR);
        let cost = measured.max(before - before / DECAY_DIVISOR).max(MIN_COST);
        self.cost.store(nanos(cost), Ordering::Relaxed);
    }
}

/// Total busy time of all workers since their start.
fn busy(workers: &Handle) -> Duration {
    let metrics = workers.metrics();
    (0..metrics.num_workers()).map(|worker| metrics.worker_total_busy_duration(worker)).sum()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// An admitted request. It counts as in flight until the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Admitted(Arc<AdmittedState>);

#[derive(Debug)]
struct AdmittedState {
    arrived: Monotonic,
    /// A request that begins later would hardly be answered before its deadline.
    begin_by: Monotonic,
    /// How many were in flight when it arrived.
    ahead: usize,
    margin: Duration,
    owner: Owner,
    size: AtomicUsize,
    load: Arc<Load>,
}

impl Admitted {
    /// When the request arrived.
    pub(crate) fn arrived(&self) -> Monotonic {
        self.0.arrived
    }

    /// How long before its deadline the request must stop waiting for sources: the time needed to answer everything
    /// that was in flight when it arrived.
    pub(crate) fn margin(&self) -> Duration {
        self.0.margin
    }

    /// Why an admitted request is refused after all: it has waited too long for a worker. The estimated cost was too low
    /// then, and is raised.
    pub(crate) fn refusal(&self) -> Option<Error> {
        let state = &self.0;
        let now = state.load.clock.monotonic();
        if now < state.begin_by {
            return None;
        }
        let waited = now.since(state.arrived);
        state.load.raise_cost(waited, state.ahead + 1);
        Some(Error::Exhausted {
            subject: "time before the deadline".into(),
            message: format!("no worker was free for {} ms", waited.as_millis()),
            retry_after: Some(waited * 2),
        })
    }

    /// Counts the request as this many enrichments from now on, and returns the time that these take.
    pub(crate) fn set_size(&self, enrichments: usize) -> Duration {
        // The request was admitted as one enrichment and stays at least that.
        let enrichments = enrichments.max(1);
        let before = self.0.size.swap(enrichments, Ordering::Relaxed);
        self.0.load.enter(&self.0.owner, enrichments.saturating_sub(before));
        self.0.load.time_for(enrichments)
    }
}

impl Admitted {
    /// Records that one of its enrichments is answered.
    pub(crate) fn finish_one(&self) {
        if self.0.size.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |size| size.checked_sub(1)).is_ok() {
            self.0.load.leave(&self.0.owner, 1);
        }
    }
}

impl Drop for AdmittedState {
    fn drop(&mut self) {
        let size = *self.size.get_mut();
        self.load.leave(&self.owner, size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn caller() -> Owner {
        Owner::Caller("soar".into())
    }

    fn load(cost: Duration) -> Arc<Load> {
        let load = Load::new(Handle::current(), Arc::new(ManualClock::new(std::time::SystemTime::UNIX_EPOCH)));
        load.cost.store(nanos(cost), Ordering::Relaxed);
        load
    }

    #[tokio::test]
    async fn a_request_is_refused_once_the_backlog_takes_half_its_time() {
        let load = load(Duration::from_millis(10));
        let admitted: Vec<_> = (0..5).map(|_| load.admit(&caller(), Duration::from_millis(100)).unwrap()).collect();
        let refused = load.admit(&caller(), Duration::from_millis(100)).unwrap_err();
        let Error::Exhausted { retry_after, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(retry_after, Some(Duration::from_millis(60)));
        let refused = load.admit(&caller(), Duration::from_millis(100)).unwrap_err();
        let Error::Exhausted { retry_after, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(retry_after, Some(Duration::from_millis(70)), "after the one that was refused before");
        assert!(load.admit(&caller(), Duration::from_millis(200)).is_ok(), "a request with more time is admitted");
        drop(admitted);
        assert!(load.admit(&caller(), Duration::from_millis(100)).is_ok(), "the backlog is gone");
    }

    #[tokio::test]
    async fn an_outdated_cost_keeps_nobody_out() {
        let clock = Arc::new(ManualClock::new(std::time::SystemTime::UNIX_EPOCH));
        let load = Load::new(Handle::current(), clock.clone());
        load.cost.store(nanos(Duration::from_secs(60)), Ordering::Relaxed);
        let first = load.admit(&caller(), Duration::from_millis(100)).unwrap();
        assert!(load.admit(&caller(), Duration::from_millis(100)).is_err(), "while a request is in flight");
        drop(first);
        assert!(load.admit(&caller(), Duration::from_millis(100)).is_ok(), "alone");
        for _ in 0..200 {
            clock.advance(SAMPLE_PERIOD);
            load.sample();
        }
        let other = load.admit(&caller(), Duration::from_millis(100)).unwrap();
        assert!(load.admit(&caller(), Duration::from_millis(100)).is_ok(), "the cost decays while nothing is measured");
        drop(other);
    }

    #[tokio::test]
    async fn a_finished_batch_leaves_nothing_in_flight_however_many_of_its_indicators_were_valid() {
        let load = load(Duration::from_millis(1));
        for indicators in [0, 1, 5] {
            let batch = load.admit(&caller(), Duration::from_secs(1)).unwrap();
            batch.set_size(indicators);
            assert_eq!(lock(&load.in_flight).total, indicators.max(1));
            (0..indicators).for_each(|_| batch.finish_one());
            assert_eq!(lock(&load.in_flight).total, usize::from(indicators == 0));
            drop(batch);
            assert_eq!(lock(&load.in_flight).total, 0);
        }
    }

    #[tokio::test]
    async fn the_margin_grows_with_the_requests_in_flight() {
        let load = load(Duration::from_millis(1));
        let first = load.admit(&caller(), Duration::from_secs(1)).unwrap();
        let second = load.admit(&caller(), Duration::from_secs(1)).unwrap();
        assert_eq!((first.margin(), second.margin()), (Duration::from_millis(1), Duration::from_millis(2)));
    }

    #[tokio::test]
    async fn a_batch_counts_by_its_indicators_until_it_ends() {
        let load = load(Duration::from_millis(1));
        let batch = load.admit(&caller(), Duration::from_secs(1)).unwrap();
        assert_eq!(batch.set_size(300), Duration::from_millis(300));
        assert!(load.admit(&caller(), Duration::from_millis(500)).is_err());
        drop(batch);
        assert!(load.admit(&caller(), Duration::from_millis(500)).is_ok());
    }

    #[tokio::test]
    async fn a_caller_with_many_requests_in_flight_keeps_no_other_out() {
        let load = load(Duration::from_millis(10));
        let (heavy, light) = (caller(), Owner::Caller("light".into()));
        let of_heavy: Vec<_> = (0..50).map(|_| load.admit(&heavy, Duration::from_secs(1)).unwrap()).collect();
        assert!(load.admit(&heavy, Duration::from_secs(1)).is_err());
        let of_light: Vec<_> = (0..2).map(|_| load.admit(&light, Duration::from_millis(100)).unwrap()).collect();
        assert_eq!(of_light[0].margin(), Duration::from_millis(50), "at most half of its time");
        assert!(
            load.admit(&light, Duration::from_millis(100)).is_err(),
            "three of its own and three of the other's take 60 ms"
        );
        drop((of_heavy, of_light));
        assert!(lock(&load.in_flight).owners.is_empty());
    }

    #[tokio::test]
    async fn a_request_that_waits_too_long_for_a_worker_is_refused_and_raises_the_cost() {
        let clock = Arc::new(ManualClock::new(std::time::SystemTime::UNIX_EPOCH));
        let load = Load::new(Handle::current(), clock.clone());
        load.cost.store(nanos(Duration::from_millis(1)), Ordering::Relaxed);
        let admitted = load.admit(&caller(), Duration::from_millis(301)).unwrap();
        clock.advance(Duration::from_millis(99));
        assert!(admitted.refusal().is_none());
        clock.advance(Duration::from_millis(1));
        assert!(matches!(admitted.refusal(), Some(Error::Exhausted { retry_after: Some(_), .. })));
        assert_eq!(
            load.cost.load(Ordering::Relaxed),
            nanos(Duration::from_millis(4)),
            "at most four times in one step"
        );
    }
}
