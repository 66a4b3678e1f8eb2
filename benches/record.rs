//! What recording costs: enrichments of eight sources with their quota units, disclosures, raw answers, cached outcomes and
//! verdict, in the durable store and, to compare, in memory. The sources are not asked over a network, so the difference is the
//! store's. Prints figures. `cargo bench --bench record -- 500` makes so many enrichments of each kind instead.

#![expect(clippy::disallowed_methods, reason = "a bench lives in real time")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use concord::clock::{Clock, SystemClock};
use concord::fetch::{
    LookupRequest, PipelineParts, RemotePipeline, SendError, SourceCache, SourceCounters, SourceGuards, SourcePipeline,
    Transport, UnitAcquirer,
};
use concord::indicator::{Form, Indicator, Tlp, hex};
use concord::source::{
    Answer, AnswerBody, Lookup, Priority, Question, QuotaPer, QuotaWindow, SourceSettings, SourceView,
};
use concord::sources;
use concord::store::{self, Durability, Memory, Store, VerdictRecord, new_id};
use concord::verdict::{Policy, Verdict, fuse};
use futures_util::future::{self, join_all};
use tokio_util::task::TaskTracker;

const REPORT: &str = include_str!("../tests/fixtures/sources/abuseipdb/hit.json");
const SOURCES: u32 = 8;
const ENRICHMENTS: u32 = 2_000;
/// Callers that make enrichments at the same time.
const CALLERS: [u32; 2] = [1, 8];
/// Verdicts that are stored without the rest, and how many of them wait at any time.
const VERDICTS: u32 = 20_000;
const WAITING: u32 = 64;

/// Answers every question with a report after a short while, which is longer for later sources.
#[derive(Debug)]
struct FakeSource(u32);

impl Transport for FakeSource {
    fn send<'a>(&'a self, question: &'a Question) -> future::BoxFuture<'a, Result<Answer, SendError>> {
        Box::pin(async move {
            SystemClock.sleep(Duration::from_millis(2 + u64::from(self.0 / 2))).await;
            let url = match question {
                Question::Http(http) => http.url.as_str(),
                Question::Dns(_) | Question::List(_) => "",
            };
            let address = url.split("ipAddress=").nth(1).and_then(|rest| rest.split('&').next()).unwrap_or_default();
            // No two answers are equal.
            let body = REPORT.replace("198.51.100.7", address) + &" ".repeat(self.0 as usize);
            let body = AnswerBody::Http { status: 200, headers: Vec::new(), body: body.into_bytes() };
            Ok(Answer { received: SystemClock.now(), ttl: None, body })
        })
    }
}

/// Eight sources over one store.
struct Bench {
    store: Arc<dyn Store>,
    pipelines: Vec<SourcePipeline>,
    tracker: TaskTracker,
    policy: Policy,
}

impl Bench {
    fn new(store: Arc<dyn Store>) -> Self {
        let (clock, tracker): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), TaskTracker::new());
        let cache = SourceCache::new(64 << 20, store.clone(), store.clone(), &SystemClock, tracker.clone());
        let acquirer = UnitAcquirer::new(store.clone(), clock.clone(), tracker.clone());
        let kind = sources::find("abuseipdb").expect("the kind");
        let pipeline = |number: u32| {
            let name = format!("source-{number}");
            let settings = Arc::new(SourceSettings {
                quota: vec![QuotaWindow { per: QuotaPer::Day, limit: 100_000_000 }],
                credential: Some("key".to_owned().into()),
                ..SourceSettings::from_defaults(kind.about(), &name)
            });
            let source = kind.build(&SourceView::new(&settings)).expect("the defaults are enough");
            SourcePipeline::Remote(Arc::new(RemotePipeline::new(PipelineParts {
                family: source.family(None),
                source,
                account: name.clone(),
                account_state: Arc::default(),
                guards: Arc::new(SourceGuards::new(&settings)),
                settings,
                transport: Arc::new(FakeSource(number)),
                withhold: Arc::new(|_| None),
                acquirer: acquirer.clone(),
                ledger: store.clone(),
                clock: clock.clone(),
                cache: cache.clone(),
                tracker: tracker.clone(),
                counters: Arc::new(SourceCounters::new(&name)),
            })))
        };
        let pipelines = (0..SOURCES).map(pipeline).collect();
        Self { store, pipelines, tracker, policy: Policy::built_in()[0].clone() }
    }

    async fn enrich(&self, number: u32) {
        let address = std::net::Ipv4Addr::from(0x0b00_0000 + number).to_string();
        let indicator = Indicator::from_normal(Form::Ipv4, &address).expect("an address");
        let request = LookupRequest {
            lookup: Lookup::new(indicator.clone()),
            deadline: SystemClock.monotonic() + Duration::from_secs(60),
            max_age: None,
            priority: Priority::Interactive,
            max_units: None,
            caller: "bench".into(),
            tlp: Tlp::Green,
        };
        let fetched = join_all(self.pipelines.iter().map(|pipeline| pipeline.look_up(request.clone()))).await;
        assert!(fetched.iter().all(|fetched| fetched.outcome.body.is_answer() && !fetched.receipt.from_cache));
        let answers = fetched
            .iter()
            .flat_map(|fetched| fetched.receipt.answers.iter().map(|hash| (fetched.outcome.source.clone(), hex(hash))));
        let answers = answers.collect();
        let outcomes: Vec<_> = fetched.into_iter().map(|fetched| fetched.outcome).collect();
        let verdict = fuse(&self.policy, &indicator, SystemClock.now(), outcomes);
        self.store.append(record(verdict, answers)).await.expect("stored");
    }
}

fn record(verdict: Verdict, answers: Vec<(String, String)>) -> Arc<VerdictRecord> {
    let (create_time, caller) = (verdict.judged_time, "bench".to_owned());
    let units = Some(verdict.outcomes.iter().map(|outcome| (outcome.source.clone(), 1)).collect());
    let (id, tlp) = (new_id(SystemTime::now()), Tlp::Green);
    Arc::new(VerdictRecord { id, create_time, caller, tlp, verdict, answers, units })
}

/// What this process has used so far.
#[derive(Clone, Debug, Default)]
struct Used {
    /// Time on a processor by the beginning of the threads' names.
    threads: [(&'static str, f64); 4],
    /// Bytes and calls of writing.
    written: f64,
    writes: f64,
}

impl Used {
    fn now() -> Self {
        let mut threads = [("store-writer", 0.0), ("store-reader", 0.0), ("store-check", 0.0), ("", 0.0)];
        for task in fs::read_dir("/proc/self/task").expect("Linux").flatten() {
            let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
            let (name, ran) = (read("comm"), read("schedstat"));
            let ran = ran.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or_default();
            if let Some((_, total)) = threads.iter_mut().find(|(begins, _)| name.starts_with(begins)) {
                *total += ran / 1e3;
            }
        }
        let io = fs::read_to_string("/proc/self/io").expect("Linux");
        let number = |name: &str| {
            let line = io.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|number| number.trim().parse().ok()).expect("a number")
        };
        Self { threads, written: number("wchar:"), writes: number("syscw:") }
    }

    fn print_since(&self, before: &Self, each: f64) {
        let threads = self.threads.iter().zip(&before.threads);
        let total: f64 = threads.clone().map(|((_, now), (_, then))| now - then).sum();
        print!("   CPU µs {:.0}", total / each);
        for ((name, now), (_, then)) in threads {
            print!(", {} {:.0}", if name.is_empty() { "others" } else { name }, (now - then) / each);
        }
        println!(
            "; written {:.1} KB in {:.1} calls",
            (self.written - before.written) / each / 1e3,
            (self.writes - before.writes) / each
        );
    }
}

async fn enrichments(what: &str, store: Arc<dyn Store>, count: u32) {
    let bench = Arc::new(Bench::new(store));
    for (round, callers) in CALLERS.into_iter().enumerate() {
        let next = Arc::new(AtomicU32::new(0));
        let (before, begun) = (Used::now(), Instant::now());
        let caller = |_| {
            let (bench, next) = (bench.clone(), next.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return took;
                    }
                    let begun = Instant::now();
                    // Indicators come in no order.
                    bench.enrich((round as u32 * count + number).wrapping_mul(40_503) % (1 << 24)).await;
                    took.push(begun.elapsed());
                }
            })
        };
        let took = join_all((0..callers).map(caller)).await;
        let mut took: Vec<Duration> = took.into_iter().flat_map(|took| took.expect("a caller")).collect();
        let elapsed = begun.elapsed();
        bench.tracker.close();
        bench.tracker.wait().await;
        bench.tracker.reopen();
        took.sort_unstable();
        let percentile = |part: usize| took[(took.len() - 1) * part / 100];
        println!(
            "{what}, {callers} callers: {:.0} a second, p50 {:.2?}, p99 {:.2?}",
            f64::from(count) / elapsed.as_secs_f64(),
            percentile(50),
            percentile(99)
        );
        Used::now().print_since(&before, f64::from(count));
    }
}

/// How many verdicts are stored in a second.
async fn verdicts(store: Arc<dyn Store>, count: u32) {
    let bench = Bench::new(Arc::new(Memory::new()));
    bench.enrich(1).await;
    let listed = bench.store.verdicts(Default::default(), store::PageLimit::rows(1), None).await.expect("listed");
    let sample = Arc::new(listed.rows.into_iter().next().expect("it was stored"));
    let (before, begun) = (Used::now(), Instant::now());
    let caller = |_| {
        let (store, sample) = (store.clone(), sample.clone());
        tokio::spawn(async move {
            for _ in 0..count / WAITING {
                store.append(record(sample.verdict.clone(), sample.answers.clone())).await.expect("stored");
            }
        })
    };
    join_all((0..WAITING).map(caller)).await;
    println!("verdicts alone: {:.0} a second", f64::from(count) / begun.elapsed().as_secs_f64());
    Used::now().print_since(&before, f64::from(count));
}

fn size_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let count = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(ENRICHMENTS);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("concord.db");
    enrichments("in memory", Arc::new(Memory::new()), count).await;
    let store = store::open(&path, Durability::Normal).expect("opens");
    let empty = size_of(&path);
    enrichments("durable", store.clone(), count).await;
    store.close().await.expect("closed");
    let all = f64::from(count * CALLERS.len() as u32);
    println!("{:.1} KB of the file for each enrichment", (size_of(&path) - empty) as f64 / all / 1e3);
    let store = store::open(&folder.path().join("verdicts.db"), Durability::Normal).expect("opens");
    verdicts(store.clone(), VERDICTS.min(count * 10)).await;
    store.close().await.expect("closed");
}
