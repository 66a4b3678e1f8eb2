//! A day of a free key: 4 calls a minute and 500 a day, 10,000 requests, and a process that ends three times with calls under
//! way. The source must never see one call too many, and the units must not be wasted.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use concord::clock::{Clock, ManualClock};
use concord::fetch::{
    LookupRequest, PipelineParts, SendError, SourceCache, SourceCounters, SourceGuards, SourcePipeline, Transport,
    UnitAcquirer,
};
use concord::finding::{Family, NotAskedReason, OutcomeBody};
use concord::indicator::{Form, Indicator, Tlp};
use concord::source::{Answer, AnswerBody, Lookup, Priority, Question, QuotaPer, QuotaWindow, SourceSettings};
use concord::store::{self, Durability, Store};
use futures_util::future::BoxFuture;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::{Word, about, pipeline, settings};

const DAY: Duration = Duration::from_secs(86_400);
const REQUESTS: u32 = 10_000;
/// Midnight of UTC.
const START: Duration = Duration::from_secs(20_717 * 86_400);

/// What the source sees: when each call arrived. It can stop answering.
struct Arrivals {
    clock: ManualClock,
    times: watch::Sender<Vec<SystemTime>>,
    hangs: AtomicBool,
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Arrivals")
    }
}

impl Transport for Arrivals {
    fn send<'a>(&'a self, _: &'a Question) -> BoxFuture<'a, Result<Answer, SendError>> {
        Box::pin(async move {
            self.times.send_modify(|times| times.push(self.clock.now()));
            if self.hangs.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let body = AnswerBody::Http { status: 200, headers: Vec::new(), body: b"none".to_vec() };
            Ok(Answer { received: self.clock.now(), ttl: None, body })
        })
    }
}

/// The day, over all lives of the process.
struct Day {
    folder: tempfile::TempDir,
    clock: ManualClock,
    arrivals: Arc<Arrivals>,
    settings: SourceSettings,
}

/// One life of the process.
struct Life {
    runtime: Runtime,
    store: Arc<dyn Store>,
    pipeline: SourcePipeline,
}

impl Day {
    fn new(is_paced: bool) -> Self {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + START);
        let (times, hangs) = (watch::Sender::new(Vec::new()), AtomicBool::new(false));
        let mut settings = settings(&about());
        let windows = [(QuotaPer::Minute, 4), (QuotaPer::Day, 500)];
        settings.quota = windows.map(|(per, limit)| QuotaWindow { per, limit }).into();
        settings.quota_pacing = is_paced;
        let arrivals = Arc::new(Arrivals { clock: clock.clone(), times, hangs });
        Self { folder: tempfile::tempdir().unwrap(), clock, arrivals, settings }
    }

    fn begin_life(&self) -> Life {
        let store = store::open(&self.folder.path().join("concord.db"), Durability::Normal).unwrap();
        let (clock, tracker): (Arc<dyn Clock>, _) = (Arc::new(self.clock.clone()), TaskTracker::new());
        let settings = Arc::new(self.settings.clone());
        let parts = PipelineParts {
            source: Arc::new(Word { about: about(), options: settings.options.clone() }),
            family: Family::same_kind("word"),
            account: "account".into(),
            account_state: Arc::default(),
            guards: Arc::new(SourceGuards::new(&settings)),
            transport: self.arrivals.clone(),
            withhold: Arc::new(|_| None),
            acquirer: UnitAcquirer::new(store.clone(), clock.clone(), tracker.clone()),
            ledger: store.clone(),
            cache: SourceCache::new(1 << 20, store.clone(), store.clone(), &*clock, tracker.clone()),
            clock,
            tracker,
            counters: Arc::new(SourceCounters::new("word")),
            settings,
        };
        let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
        Life { runtime, store, pipeline: pipeline(parts) }
    }

    /// A request about an address of its own, whose caller has no time to wait.
    fn request(&self, number: u32, priority: Priority) -> LookupRequest {
        let address = format!("10.{}.{}.1", number / 256, number % 256);
        LookupRequest {
            lookup: Lookup::new(Indicator::from_normal(Form::Ipv4, &address).unwrap()),
            deadline: self.clock.monotonic() + Duration::from_millis(1),
            max_age: None,
            priority,
            max_units: None,
            caller: format!("caller {}", number % 3),
            tlp: Tlp::Green,
        }
    }

    /// Ends the process while two calls are under way, if there are units for them.
    fn crash(&self, life: Life, number: u32, priority: Priority) {
        let Life { runtime, store, pipeline } = life;
        self.arrivals.hangs.store(true, Ordering::Relaxed);
        for call in 0..2 {
            let (request, pipeline) = (self.request(number + call, priority), pipeline.clone());
            let before = self.arrivals.times.borrow().len();
            let mut arrived = self.arrivals.times.subscribe();
            runtime.block_on(async {
                tokio::select! {
                    refused = pipeline.look_up(request) => assert!(matches!(refused.outcome.body, OutcomeBody::NotAsked(_))),
                    _ = arrived.wait_for(|times| times.len() > before) => {}
                }
            });
        }
        drop(runtime);
        drop((pipeline, store));
        self.arrivals.hangs.store(false, Ordering::Relaxed);
    }

    /// All requests of the day, evenly, with three crashes. Returns how many were refused for which reason.
    fn run(&self, priority: Priority) -> Vec<NotAskedReason> {
        let mut life = self.begin_life();
        let refusals = Mutex::new(Vec::new());
        for number in 0..REQUESTS {
            if [150, 700, 6_000].contains(&number) {
                self.crash(life, REQUESTS + 2 * number, priority);
                life = self.begin_life();
            }
            let outcome = life.runtime.block_on(life.pipeline.look_up(self.request(number, priority))).outcome;
            match outcome.body {
                OutcomeBody::NoRecord => {}
                OutcomeBody::NotAsked(not_asked) => refusals.lock().unwrap().push(not_asked.reason),
                OutcomeBody::Finding(_) | OutcomeBody::Error(_) => panic!("{number}: {outcome:?}"),
            }
            self.clock.advance(DAY / REQUESTS);
        }
        refusals.into_inner().unwrap()
    }

    /// When each call arrived, since midnight.
    fn arrivals(&self) -> Vec<Duration> {
        let midnight = SystemTime::UNIX_EPOCH + START;
        self.arrivals.times.borrow().iter().map(|time| time.duration_since(midnight).unwrap()).collect()
    }
}

#[track_caller]
fn check_minutes(arrivals: &[Duration], limit: usize) {
    for pair in arrivals.windows(limit + 1) {
        assert!(pair[limit] - pair[0] >= Duration::from_secs(60), "{} calls within a minute: {pair:?}", limit + 1);
    }
}

#[test]
fn a_day_of_ten_thousand_requests_and_three_crashes_uses_every_unit_and_not_one_more() {
    let day = Day::new(false);
    let refusals = day.run(Priority::Interactive);
    let arrivals = day.arrivals();
    check_minutes(&arrivals, 4);
    assert_eq!(arrivals.len(), 500, "units were used");
    assert!(refusals.iter().all(|reason| *reason == NotAskedReason::QuotaSpent));
}

#[test]
fn a_paced_day_of_ten_thousand_requests_and_three_crashes_spreads_what_background_work_may_use() {
    let day = Day::new(true);
    day.run(Priority::Background);
    let arrivals = day.arrivals();
    // A fifth of both windows is the reserve of people.
    check_minutes(&arrivals, 3);
    assert_eq!(arrivals.len(), 400, "units were used");
    for hour in 1..=24_u32 {
        let used = arrivals.iter().filter(|time| **time < hour * DAY / 24).count() as f64;
        let share = 400.0 * f64::from(hour) / 24.0;
        assert!((share - 4.0..=share + 1.0).contains(&used), "{used} by the end of hour {hour}, {share} are its share");
    }
}
