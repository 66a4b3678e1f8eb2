//! One seeded world: its services, requests, steps of the clock and crashes, and what happened in it.

use std::ops::AddAssign;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use concord::clock::{Clock, ManualClock, Monotonic};
use concord::engine::{Engine, EnrichRequest, Enriched, Parts, Rules};
use concord::error::Error;
use concord::fetch::SourceCache;
use concord::finding::Disposition;
use concord::indicator::{Indicator, Tlp};
use concord::settings::{Config, Environment, Flags, LoadInput, NeverSendRules, PolicyRegistry, Registry, load};
use concord::source::{EnrichMode, Kind, Priority, RelationsWanted};
use concord::store::{
    Disclosure, DisclosureFilter, Ledger, Memory, PageLimit, Sealer, Store, VerdictFilter, VerdictRecord, VerdictStore,
};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use super::random::Random;
use super::source::{Service, Simulated, Temper};
use crate::harness::start_time;

/// Addresses that callers ask about; some must not be asked outside.
pub const PUBLIC: [&str; 5] = ["198.51.100.1", "198.51.100.2", "203.0.113.3", "203.0.113.4", "192.0.2.5"];
pub const NEVER_SENT: &str = "198.51.100.66";
pub const PRIVATE: &str = "10.0.0.7";
/// Beyond everything that a request may take: longer means that somebody waits for ever.
const PATIENCE: Duration = Duration::from_secs(3_600);
const CACHE_BYTES: u64 = 1 << 20;

/// What is special about a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// All services are well, and quota is ample.
    Calm,
    /// Services have every temper, and quota is scarce.
    Services,
    /// The same, and the wall clock is set forward and back.
    Clock,
    /// The same as `Services`, and the process is killed.
    Crashes,
}

pub struct World {
    random: Random,
    clock: ManualClock,
    services: Vec<Arc<Service>>,
    config: Config,
    kinds: [Arc<dyn Kind>; 1],
    history: History,
    _folder: TempDir,
}

/// All that happened.
#[derive(Debug)]
pub struct History {
    pub trouble: Trouble,
    /// Calls that each service allows a minute, in order.
    pub quotas: Vec<u64>,
    pub services: Vec<Arc<Service>>,
    pub answers: Vec<Answered>,
    pub disclosures: Vec<Disclosure>,
    pub verdicts: Vec<VerdictRecord>,
    /// Requests that still waited an hour after the last began.
    pub forgotten: usize,
    pub crashes: usize,
    pub steps: Vec<Step>,
    /// In a calm world: the disposition of each address when all sources are asked.
    pub complete: Vec<(String, Disposition)>,
}

/// One request and its end.
#[derive(Clone, Debug)]
pub struct Answered {
    pub request: EnrichRequest,
    pub deadline: Monotonic,
    pub at: Monotonic,
    /// How many outcomes were reported of each source while it was asked.
    pub progress: Vec<String>,
    /// `None`: the caller left.
    pub result: Option<Result<Enriched, Error>>,
}

/// One setting of the wall clock.
#[derive(Clone, Debug)]
pub struct Step {
    after: Duration,
    by: Duration,
    is_forward: bool,
}

/// A request to come.
struct Request {
    begins: Duration,
    time: Duration,
    leaves: Option<Duration>,
    request: EnrichRequest,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let trouble = *random.pick(&[
            Trouble::Calm,
            Trouble::Services,
            Trouble::Services,
            Trouble::Clock,
            Trouble::Clock,
            Trouble::Crashes,
        ]);
        let clock = ManualClock::following_tokio(start_time() + random.millis(0, 86_400_000));
        let tempers = [Temper::Well, Temper::Flaky, Temper::Slow, Temper::ComesAndGoes, Temper::Refusing];
        let count = 2 + random.below(4) as usize;
        let (mut services, mut quotas) = (Vec::new(), Vec::new());
        let mut text = format!("never_send = [\"{NEVER_SENT}\"]\n");
        for number in 0..count {
            let temper = if trouble == Trouble::Calm { Temper::Well } else { *random.pick(&tempers) };
            let quota = if trouble == Trouble::Calm { 1_000 } else { 2 + random.below(6) };
            let reliability = *random.pick(&["A", "B", "C", "D"]);
            let reserve = *random.pick(&[0, 20, 50]);
            let stale = random.below(2);
            text += &format!(
                "[sources.s{number}]\nkind = \"simulated\"\nreliability = \"{reliability}\"\n\
                 base_url = \"https://s{number}.example.com\"\nquota = {{ minute = {quota} }}\n\
                 quota_reserve = {reserve}\nstale_while_revalidate = \"{stale}h\"\n"
            );
            services.push(Arc::new(Service::new(format!("s{number}"), seed, temper, clock.clone())));
            quotas.push(quota);
        }
        let (folder, kinds) = (TempDir::new().unwrap(), [Simulated::kind()]);
        let config = configuration(&folder, &text, &kinds);
        let history = History {
            trouble,
            quotas,
            services: services.clone(),
            answers: Vec::new(),
            disclosures: Vec::new(),
            verdicts: Vec::new(),
            forgotten: 0,
            crashes: 0,
            steps: Vec::new(),
            complete: Vec::new(),
        };
        Self { random, clock, services, config, kinds, history, _folder: folder }
    }

    /// Lives through its phases, each of one process.
    pub fn run(mut self) -> History {
        let crashes = if self.history.trouble == Trouble::Crashes { 1 + self.random.below(3) as usize } else { 0 };
        let mut store = Arc::new(Memory::new());
        for phase in 0..=crashes {
            let crash = (phase < crashes).then(|| self.random.millis(100, 90_000));
            self.phase(&store, crash);
            if crash.is_some() {
                store = Arc::new(store.reopened());
            }
        }
        self.history.crashes = crashes;
        let all = async {
            let rows = PageLimit::rows(100_000);
            let disclosures = store.disclosures(DisclosureFilter::default(), rows, None).await.unwrap();
            let verdicts = store.verdicts(VerdictFilter::default(), rows, None).await.unwrap();
            (disclosures.rows, verdicts.rows)
        };
        (self.history.disclosures, self.history.verdicts) = futures_util::FutureExt::now_or_never(all).unwrap();
        self.history
    }

    /// One process, until all is answered or it is killed.
    fn phase(&mut self, store: &Arc<Memory>, crash: Option<Duration>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let answers: Arc<Mutex<Vec<Answered>>> = Arc::default();
        runtime.block_on(async {
            let (engine, tracker) = self.engine(store.clone()).await;
            let mut requests = tokio::task::JoinSet::new();
            for request in self.requests() {
                let (engine, clock, answers) = (engine.clone(), self.clock.clone(), answers.clone());
                requests.spawn(async move {
                    let answered = request.run(&engine, &clock).await;
                    answers.lock().unwrap().push(answered);
                });
            }
            self.history.steps = self.steps();
            for step in self.history.steps.clone() {
                let clock = self.clock.clone();
                requests.spawn(async move {
                    clock.sleep(step.after).await;
                    let now = clock.now();
                    clock.set_wall(if step.is_forward { now + step.by } else { now - step.by });
                });
            }
            if let Some(crash) = crash {
                self.clock.sleep(crash).await;
                return;
            }
            let clock: &dyn Clock = &self.clock;
            let all = async { while requests.join_next().await.is_some() {} };
            let _ = clock.timeout(PATIENCE, all).await;
            self.history.forgotten = requests.len();
            if self.history.trouble == Trouble::Calm {
                self.history.complete = complete(&engine).await;
            }
            engine.release();
            tracker.close();
            let _ = clock.timeout(PATIENCE, tracker.wait()).await;
        });
        drop(runtime);
        self.history.answers.append(&mut answers.lock().unwrap());
    }

    async fn engine(&self, store: Arc<Memory>) -> (Arc<Engine>, TaskTracker) {
        let store: Arc<dyn Store> = store;
        let (clock, tracker): (Arc<dyn Clock>, _) = (Arc::new(self.clock.clone()), TaskTracker::new());
        let sealer = Sealer::from_base64(&"A".repeat(43).into()).unwrap();
        let registry = Registry::open(&self.config, &self.kinds, store.clone(), Arc::new(sealer)).await.unwrap();
        let policies = PolicyRegistry::open(&self.config, store.clone(), clock.clone()).await.unwrap();
        let never_send = Arc::new(NeverSendRules::open(&self.config, store.clone()).await.unwrap());
        let services = self.services.clone();
        let engine = Engine::new(Parts {
            registry: Arc::new(registry),
            policies: Arc::new(policies),
            store: store.clone(),
            clock: clock.clone(),
            cache: SourceCache::new(CACHE_BYTES, store.clone(), store.clone(), &*clock, tracker.clone()),
            transports: Arc::new(move |_, settings, _, _| {
                let service = services.iter().find(|service| service.name == settings.name);
                Ok(service.expect("a service for each source").clone())
            }),
            tracker: tracker.clone(),
            rules: Rules {
                never_send,
                internal_suffixes: Vec::new(),
                egress: self.config.egress(false),
                default_deadline: self.config.default_deadline,
                caller_budgets: self.config.caller_budgets.clone(),
            },
        });
        engine.load_feedback().await.unwrap();
        (Arc::new(engine), tracker)
    }

    /// Single requests and batches, in no order.
    fn requests(&mut self) -> Vec<Request> {
        let random = &mut self.random;
        let mut requests = Vec::new();
        for _ in 0..4 + random.below(12) {
            let (begins, time) = (random.millis(0, 120_000), random.millis(50, 20_000));
            let caller = random.pick(&["soar", "intake", "analyst"]).to_string();
            let is_batch = random.chance(20);
            let size = if is_batch { 2 + random.below(6) } else { 1 };
            let mode = match random.below(3) {
                0 => EnrichMode::Complete,
                1 => EnrichMode::Decisive,
                _ => EnrichMode::Frugal { budget: 1 + random.below(4) as u32 },
            };
            for _ in 0..size {
                let value = match random.below(12) {
                    0 => NEVER_SENT,
                    1 => PRIVATE,
                    _ => random.pick(&PUBLIC),
                };
                let tlp = if random.chance(8) { Tlp::Red } else { Tlp::default() };
                let request = EnrichRequest {
                    indicator: indicator(value),
                    sources: Vec::new(),
                    policy: None,
                    compare_policies: Vec::new(),
                    mode,
                    tlp,
                    max_age: random.chance(15).then(|| random.millis(0, 60_000)),
                    priority: if is_batch { Priority::Background } else { Priority::Interactive },
                    relations: RelationsWanted::default(),
                    caller: caller.clone(),
                    budget: None,
                };
                let leaves = random.chance(10).then(|| random.millis(0, 5_000));
                requests.push(Request { begins, time, leaves, request });
            }
        }
        requests
    }

    /// When the wall clock is set, and to what.
    fn steps(&mut self) -> Vec<Step> {
        let count = if self.history.trouble == Trouble::Clock { 1 + self.random.below(4) } else { 0 };
        let random = &mut self.random;
        let step = |_| {
            let by = match random.below(3) {
                0 => random.millis(1, 3_000),
                1 => random.millis(1, 90_000),
                _ => Duration::from_secs(86_400),
            };
            let is_forward = random.chance(50);
            Step { after: random.millis(0, 120_000), by, is_forward }
        };
        (0..count).map(step).collect()
    }
}

impl Request {
    async fn run(self, engine: &Engine, clock: &ManualClock) -> Answered {
        clock.sleep(self.begins).await;
        let deadline = clock.monotonic() + self.time;
        let mut request = self.request;
        let mut progress = Vec::new();
        let result = match engine.budget(Some(deadline), Duration::ZERO) {
            Err(late) => Some(Err(late)),
            Ok(budget) => {
                request.budget = Some(budget);
                let mut note = |done: concord::engine::Progress<'_>| progress.push(done.outcome.source.clone());
                let enriching = engine.enrich(&request, Some(&mut note));
                let time: &dyn Clock = clock;
                time.timeout(self.leaves.unwrap_or(PATIENCE), enriching).await
            }
        };
        Answered { request, deadline, at: clock.monotonic(), progress, result }
    }
}

pub fn indicator(value: &str) -> Indicator {
    Indicator::parse(value).expect("an address").indicator
}

/// What all sources together say of each address.
async fn complete(engine: &Engine) -> Vec<(String, Disposition)> {
    let mut dispositions = Vec::new();
    for value in PUBLIC {
        let request = EnrichRequest {
            indicator: indicator(value),
            sources: Vec::new(),
            policy: None,
            compare_policies: Vec::new(),
            mode: EnrichMode::Complete,
            tlp: Tlp::default(),
            max_age: None,
            priority: Priority::Interactive,
            relations: RelationsWanted::default(),
            caller: "simulation".into(),
            budget: None,
        };
        let enriched = engine.enrich(&request, None).await.expect("it answers");
        assert!(!enriched.record.verdict.partial, "a calm world has no partial verdict at the end");
        dispositions.push((value.to_owned(), enriched.record.verdict.disposition));
    }
    dispositions
}

fn configuration(folder: &TempDir, text: &str, kinds: &[Arc<dyn Kind>]) -> Config {
    let file = folder.path().join("concord.toml");
    std::fs::write(&file, text).unwrap();
    let flags = Flags { data_directory: Some(folder.path().join("data")), ..Flags::default() };
    load(LoadInput { file: Some(file), environment: Environment::new(), flags, kinds }).unwrap()
}

/// How much of everything the schedules met, so that a simulation that does nothing is noticed.
#[derive(Debug, Default)]
pub struct Counts {
    requests: usize,
    answered: usize,
    partial: usize,
    left: usize,
    refused: usize,
    crashes: usize,
    calls: usize,
    settled: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let Self { requests, answered, partial, left, refused, crashes, calls, settled } = other;
        self.requests += requests;
        self.answered += answered;
        self.partial += partial;
        self.left += left;
        self.refused += refused;
        self.crashes += crashes;
        self.calls += calls;
        self.settled += settled;
    }
}

impl Counts {
    pub fn add(&mut self, history: &History) {
        self.crashes += history.crashes;
        self.calls += history.services.iter().map(|service| service.arrivals().len()).sum::<usize>();
        for answered in &history.answers {
            self.requests += 1;
            match &answered.result {
                None => self.left += 1,
                Some(Err(_)) => self.refused += 1,
                Some(Ok(enriched)) => {
                    self.answered += 1;
                    self.partial += usize::from(enriched.record.verdict.partial);
                    self.settled += usize::from(super::promises::is_settled(&enriched.record.verdict));
                }
            }
        }
    }

    pub fn shows_everything(&self) -> bool {
        let Self { requests, answered, partial, left, refused: _, crashes, calls, settled } = self;
        [requests, answered, partial, left, crashes, calls, settled].into_iter().all(|count| *count > 0)
    }
}
