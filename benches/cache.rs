//! What a million cached outcomes take in memory, and what a restart with a hundred thousand asks again. Prints figures,
//! and fails if they miss their limits. `cargo bench --bench cache -- 100000` takes so many outcomes instead.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use concord::clock::{Clock, SystemClock};
use concord::fetch::{
    LookupRequest, PipelineParts, RemotePipeline, SendError, SourceCache, SourceCounters, SourceGuards, SourcePipeline,
    Transport, UnitAcquirer,
};
use concord::indicator::{Form, Indicator, Tlp};
use concord::source::{Answer, AnswerBody, Lookup, Priority, Question, Source, SourceSettings, SourceView};
use concord::sources;
use concord::store::{
    self, AnswerCache, AnswerStore, BoxFuture, CacheDigest, CachedRow, Durability, Memory, RawAnswer,
};
use futures_util::future;
use tokio_util::task::TaskTracker;

const FOUND: &str = include_str!("../tests/fixtures/sources/virustotal/hit.json");
const NOT_FOUND: &str = include_str!("../tests/fixtures/sources/virustotal/miss.json");
/// Outcomes in memory, of which four in five are "no record".
const IN_MEMORY: u32 = 1_000_000;
/// What a million may take. Fewer are only reported, since they share what does not grow.
const MAX_MEMORY: u64 = 600 << 20;
/// Outcomes that a restart knows.
const STORED: u32 = 100_000;

/// Answers every fifth question with a report, the others with "not found".
#[derive(Debug, Default)]
struct FakeVirusTotal {
    calls: AtomicU64,
}

impl Transport for FakeVirusTotal {
    fn send<'a>(&'a self, question: &'a Question) -> future::BoxFuture<'a, Result<Answer, SendError>> {
        let path = match question {
            Question::Http(http) => http.url.path(),
            Question::Dns(_) | Question::List(_) => "",
        };
        let (status, body) = match path.rsplit_once("/ip_addresses/") {
            Some((_, address)) if self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(5) => {
                (200, FOUND.replace("192.0.2.10", address))
            }
            // Also whatever is asked about the key.
            Some(_) | None => (404, NOT_FOUND.to_owned()),
        };
        let body = AnswerBody::Http { status, headers: Vec::new(), body: body.into_bytes() };
        Box::pin(async move { Ok(Answer { received: SystemClock.now(), ttl: None, body }) })
    }
}

/// A store that keeps nothing, so that only the memory of the cache is measured.
struct Nowhere;

impl AnswerCache for Nowhere {
    fn put_cached(&self, _: Vec<CachedRow>) -> BoxFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn cached(&self, _: CacheDigest) -> BoxFuture<'_, Option<Arc<[u8]>>> {
        Box::pin(async { Ok(None) })
    }

    fn delete_cached(&self, _: CacheDigest) -> BoxFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn prune_cached(&self, _: SystemTime) -> BoxFuture<'_, u64> {
        Box::pin(async { Ok(0) })
    }
}

impl AnswerStore for Nowhere {
    fn keep_answers(&self, _: Vec<RawAnswer>) -> BoxFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn answer<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<RawAnswer>> {
        Box::pin(async { Ok(None) })
    }

    fn prune_answers(&self, _: SystemTime, _: u64) -> BoxFuture<'_, u64> {
        Box::pin(async { Ok(0) })
    }
}

/// VirusTotal without quota over a cache.
struct Bench {
    source: Arc<dyn Source>,
    settings: Arc<SourceSettings>,
    transport: Arc<FakeVirusTotal>,
    tracker: TaskTracker,
    clock: Arc<dyn Clock>,
}

impl Bench {
    fn new() -> Self {
        let kind = sources::find("virustotal").expect("the kind");
        let settings = SourceSettings {
            quota: Vec::new(),
            credential: Some("key".to_owned().into()),
            ..SourceSettings::from_defaults(kind.about(), "virustotal")
        };
        let source = kind.build(&SourceView::new(&settings)).expect("the defaults are enough");
        let (transport, tracker) = (Arc::default(), TaskTracker::new());
        Self { source, settings: Arc::new(settings), transport, tracker, clock: Arc::new(SystemClock) }
    }

    /// A pipeline whose ledger is empty, so that it takes no memory.
    fn pipeline(&self, cache: &SourceCache) -> SourcePipeline {
        let ledger = Arc::new(Memory::new());
        SourcePipeline::Remote(Arc::new(RemotePipeline::new(PipelineParts {
            source: self.source.clone(),
            settings: self.settings.clone(),
            family: self.source.family(None),
            account: "account".into(),
            account_state: Arc::default(),
            guards: Arc::new(SourceGuards::new(&self.settings)),
            transport: self.transport.clone(),
            withhold: Arc::new(|_| None),
            acquirer: UnitAcquirer::new(ledger.clone(), self.clock.clone(), self.tracker.clone()),
            ledger,
            clock: self.clock.clone(),
            cache: cache.clone(),
            tracker: self.tracker.clone(),
            counters: Arc::new(SourceCounters::new("virustotal")),
        })))
    }

    /// Looks up so many addresses. Returns how many of them came from the cache.
    async fn look_up(&self, cache: &SourceCache, addresses: u32) -> u32 {
        let (mut pipeline, mut cached) = (self.pipeline(cache), 0);
        for number in 0..addresses {
            if number % 10_000 == 0 {
                pipeline = self.pipeline(cache);
            }
            let address = std::net::Ipv4Addr::from(0x0b00_0000 + number).to_string();
            let indicator = Indicator::from_normal(Form::Ipv4, &address).expect("an address");
            let request = LookupRequest {
                lookup: Lookup::new(indicator),
                deadline: self.clock.monotonic() + Duration::from_secs(60),
                max_age: None,
                priority: Priority::Interactive,
                max_units: None,
                caller: "bench".into(),
                tlp: Tlp::Green,
            };
            let fetched = pipeline.look_up(request).await;
            assert!(fetched.outcome.body.is_answer(), "{:?}", fetched.outcome.body);
            cached += u32::from(fetched.receipt.from_cache);
        }
        self.tracker.close();
        self.tracker.wait().await;
        self.tracker.reopen();
        cached
    }
}

/// Memory of this process in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number") * 1024
}

async fn memory(outcomes: u32) {
    let (bench, nowhere) = (Bench::new(), Arc::new(Nowhere));
    let cache = |bytes| SourceCache::new(bytes, nowhere.clone(), nowhere.clone(), &SystemClock, bench.tracker.clone());
    bench.look_up(&cache(1 << 20), 20_000).await;
    let (before, large) = (resident(), cache(2 << 30));
    let begun = SystemClock.monotonic();
    bench.look_up(&large, outcomes).await;
    let took = resident() - before;
    println!("{outcomes} outcomes: {} MiB, {:?}", took >> 20, SystemClock.monotonic().since(begun));
    let begun = SystemClock.monotonic();
    assert_eq!(bench.look_up(&large, outcomes).await, outcomes, "all are cached");
    println!("{outcomes} hits: {:?}", SystemClock.monotonic().since(begun));
    assert!(outcomes < IN_MEMORY || took <= MAX_MEMORY, "{took} bytes");
}

async fn restart(folder: &Path, outcomes: u32) {
    let bench = Bench::new();
    let path = folder.join("concord.db");
    for run in ["first", "second"] {
        let begun = SystemClock.monotonic();
        let store = store::open(&path, Durability::Normal).expect("opens");
        let cache = SourceCache::new(1 << 20, store.clone(), store.clone(), &SystemClock, bench.tracker.clone());
        bench.transport.calls.store(0, Ordering::Relaxed);
        bench.look_up(&cache, outcomes).await;
        store.close().await.expect("closed");
        let calls = bench.transport.calls.load(Ordering::Relaxed);
        println!("{run} run of {outcomes}: {calls} calls, {:?}", SystemClock.monotonic().since(begun));
        assert!(run == "first" || calls == 0, "a restart asks again");
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let number = std::env::args().find_map(|argument| argument.parse().ok());
    memory(number.unwrap_or(IN_MEMORY)).await;
    let folder = tempfile::tempdir().expect("a folder");
    restart(folder.path(), number.unwrap_or(STORED)).await;
}
