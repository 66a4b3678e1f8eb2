//! How busy the server is, and whether a request can still be answered before its deadline. What an enrichment costs is
//! measured, so that the answer fits the machine and what is asked of it.

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
/// What an enrichment costs before the first measurement.
const INITIAL_COST: Duration = Duration::from_micros(500);
/// The cost is never taken for less: a phase of cached answers must not let in more than can be asked.
const MIN_COST: Duration = Duration::from_micros(100);
/// A request is refused where the work under way takes more than this part of its time.
const BACKLOG_DIVISOR: u32 = 2;
/// A cheaper sample lowers the cost by at most one part in this many, so that a burst is not met unprepared.
const DECAY_DIVISOR: u32 = 16;
/// How many times dearer one sample can make an enrichment.
const MAX_RISE_FACTOR: u32 = 4;

/// The slots that a request holds. One that does several things at once takes more.
pub(crate) trait Slots: Send + Sync + fmt::Debug {
    /// Takes up to so many more slots, and says how many. `None`: so few are free that what needs them would take too long.
    fn grow(&self, wanted: usize) -> Option<usize>;
}

/// The room for an answer, which is in memory until its client has read it: the slots of its request, each for so many bytes.
#[derive(Debug)]
pub(crate) struct AnswerMemory {
    slots: Option<Arc<dyn Slots>>,
    bytes: usize,
}

impl AnswerMemory {
    const BYTES_PER_SLOT: usize = 64 * 1024;

    /// In the slots of this request. A request that did not come over the network has no bound.
    pub(crate) fn from_request<T>(request: &Request<T>) -> Self {
        Self::new(request.extensions().get::<Arc<dyn Slots>>().cloned())
    }

    pub(super) fn new(slots: Option<Arc<dyn Slots>>) -> Self {
        Self { slots, bytes: Self::BYTES_PER_SLOT }
    }

    /// Whether there is room for an answer of so many bytes in all; takes the slots that it needs.
    pub(crate) fn reserve(&mut self, bytes: usize) -> bool {
        let Some(slots) = &self.slots else { return true };
        while self.bytes < bytes && slots.grow(1) == Some(1) {
            self.bytes += Self::BYTES_PER_SLOT;
        }
        bytes <= self.bytes
    }
}

/// The refusal of an answer for which there is no room.
pub(crate) fn out_of_answer_memory() -> Error {
    Error::Exhausted {
        subject: "answers in memory".into(),
        message: "the requests under way leave no room for an answer as large".into(),
        retry_after: Some(Duration::from_secs(1)),
    }
}

/// The enrichments under way and what one of them costs.
#[derive(Debug)]
pub(crate) struct Load {
    clock: Arc<dyn Clock>,
    workers: Handle,
    in_flight: Mutex<InFlight>,
    /// Enrichments that began or ended since the last sample: each is half of one.
    transitions: AtomicUsize,
    /// Nanoseconds of a worker.
    cost: AtomicU64,
    sampled: Mutex<Sample>,
}

#[derive(Debug, Default)]
struct InFlight {
    total: usize,
    owners: HashMap<Owner, usize>,
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

    /// How many come before one more of this owner where all take turns: of each other no more than it has itself.
    fn ahead_of(&self, owner: &Owner) -> usize {
        let own = self.owners.get(owner).copied().unwrap_or_default();
        self.owners.iter().map(|(other, count)| if other == owner { own } else { (*count).min(own + 1) }).sum()
    }
}

/// When the cost was measured, and for how long the workers had been busy by then.
#[derive(Debug)]
struct Sample {
    at: Monotonic,
    busy: Duration,
}

impl Load {
    /// Of the runtime that works on requests.
    pub(crate) fn new(workers: Handle, clock: Arc<dyn Clock>) -> Arc<Self> {
        let sample = Sample { at: clock.monotonic(), busy: busy(&workers) };
        Arc::new(Self {
            clock,
            workers,
            in_flight: Mutex::default(),
            transitions: AtomicUsize::new(0),
            cost: AtomicU64::new(nanos(INITIAL_COST)),
            sampled: Mutex::new(sample),
        })
    }

    /// Lets a request in that arrives now and whose caller waits for so long. Of the work under way only as much of others'
    /// counts as its owner has itself, so that one caller with much keeps no other out.
    ///
    /// # Errors
    /// [`Error::Exhausted`] where the work under way would not leave time for it.
    pub(crate) fn admit(self: &Arc<Self>, owner: &Owner, left: Duration) -> Result<Admitted, Error> {
        self.sample();
        let mut in_flight = lock(&self.in_flight);
        let (total, ahead) = (in_flight.total, in_flight.ahead_of(owner));
        let backlog = self.time_for(ahead + 1);
        // Where nothing is under way nothing can be learned by refusing: the cost may be a thing of the past.
        if total > 0 && backlog > left / BACKLOG_DIVISOR {
            return Err(Error::Exhausted {
                subject: "time before the deadline".into(),
                message: format!("the requests under way take {} ms to answer", backlog.as_millis()),
                retry_after: Some(backlog),
            });
        }
        in_flight.add(owner, 1);
        drop(in_flight);
        self.transitions.fetch_add(1, Ordering::Relaxed);
        Ok(Admitted(Arc::new(AdmittedState {
            arrived: self.clock.monotonic(),
            // All of it is in the way, whoever's it is; what is more than half of the time cannot be waited for.
            margin: self.time_for(total + 1).min(left / BACKLOG_DIVISOR),
            owner: owner.clone(),
            size: AtomicUsize::new(1),
            load: self.clone(),
        })))
    }

    /// How long so many enrichments take, all workers together.
    fn time_for(&self, enrichments: usize) -> Duration {
        let cost = Duration::from_nanos(self.cost.load(Ordering::Relaxed));
        let workers = u32::try_from(self.workers.metrics().num_workers()).unwrap_or(1).max(1);
        cost.saturating_mul(u32::try_from(enrichments).unwrap_or(u32::MAX)) / workers
    }

    fn enter(&self, owner: &Owner, enrichments: usize) {
        lock(&self.in_flight).add(owner, enrichments);
        self.transitions.fetch_add(enrichments, Ordering::Relaxed);
    }

    fn leave(&self, owner: &Owner, enrichments: usize) {
        lock(&self.in_flight).remove(owner, enrichments);
        self.transitions.fetch_add(enrichments, Ordering::Relaxed);
    }

    /// Measures the cost anew, if that is due.
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
        // The workers do other things too: one sample does not count for more than a burst could explain.
        let measured = (spent * 2).checked_div(transitions).unwrap_or_default().min(before * MAX_RISE_FACTOR);
        let cost = measured.max(before - before / DECAY_DIVISOR).max(MIN_COST);
        self.cost.store(nanos(cost), Ordering::Relaxed);
    }
}

/// For how long the workers have been busy since they began, all together.
fn busy(workers: &Handle) -> Duration {
    let metrics = workers.metrics();
    (0..metrics.num_workers()).map(|worker| metrics.worker_total_busy_duration(worker)).sum()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A request that was let in. It counts as under way until the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Admitted(Arc<AdmittedState>);

#[derive(Debug)]
struct AdmittedState {
    arrived: Monotonic,
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

    /// The time before the deadline in which all that was under way when it arrived can be answered.
    pub(crate) fn margin(&self) -> Duration {
        self.0.margin
    }

    /// Counts as so many enrichments from now on; says how long they take.
    pub(crate) fn set_size(&self, enrichments: usize) -> Duration {
        // It holds the place that it was let in with.
        let enrichments = enrichments.max(1);
        let before = self.0.size.swap(enrichments, Ordering::Relaxed);
        self.0.load.enter(&self.0.owner, enrichments.saturating_sub(before));
        self.0.load.time_for(enrichments)
    }
}

impl Admitted {
    /// One of its enrichments is answered; what is left of it goes on.
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
    async fn a_request_is_refused_once_what_is_under_way_takes_half_its_time() {
        let load = load(Duration::from_millis(10));
        let admitted: Vec<_> = (0..5).map(|_| load.admit(&caller(), Duration::from_millis(100)).unwrap()).collect();
        let refused = load.admit(&caller(), Duration::from_millis(100)).unwrap_err();
        let Error::Exhausted { retry_after, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(retry_after, Some(Duration::from_millis(60)));
        assert!(load.admit(&caller(), Duration::from_millis(200)).is_ok(), "who has more time is let in");
        drop(admitted);
        assert!(load.admit(&caller(), Duration::from_millis(100)).is_ok(), "there is room again");
    }

    #[tokio::test]
    async fn a_cost_that_is_out_of_date_keeps_nobody_out() {
        let clock = Arc::new(ManualClock::new(std::time::SystemTime::UNIX_EPOCH));
        let load = Load::new(Handle::current(), clock.clone());
        load.cost.store(nanos(Duration::from_secs(60)), Ordering::Relaxed);
        let first = load.admit(&caller(), Duration::from_millis(100)).unwrap();
        assert!(load.admit(&caller(), Duration::from_millis(100)).is_err(), "while something is under way");
        drop(first);
        assert!(load.admit(&caller(), Duration::from_millis(100)).is_ok(), "alone");
        for _ in 0..200 {
            clock.advance(SAMPLE_PERIOD);
            load.sample();
        }
        let other = load.admit(&caller(), Duration::from_millis(100)).unwrap();
        assert!(load.admit(&caller(), Duration::from_millis(100)).is_ok(), "it sinks while nothing is measured");
        drop(other);
    }

    #[tokio::test]
    async fn nothing_stays_under_way_of_a_batch_however_many_of_it_could_be_read() {
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
    async fn the_margin_grows_with_what_is_under_way() {
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
    async fn one_caller_with_much_under_way_keeps_no_other_out() {
        let load = load(Duration::from_millis(10));
        let (heavy, light) = (caller(), Owner::Caller("light".into()));
        let of_heavy: Vec<_> = (0..50).map(|_| load.admit(&heavy, Duration::from_secs(1)).unwrap()).collect();
        assert!(load.admit(&heavy, Duration::from_secs(1)).is_err());
        let of_light: Vec<_> = (0..2).map(|_| load.admit(&light, Duration::from_millis(100)).unwrap()).collect();
        assert_eq!(of_light[0].margin(), Duration::from_millis(50), "it waits for the others no longer than it can");
        assert!(
            load.admit(&light, Duration::from_millis(100)).is_err(),
            "three of it and three of the other take 60 ms"
        );
        drop((of_heavy, of_light));
        assert!(lock(&load.in_flight).owners.is_empty());
    }
}
