//! How fast the history is read: verdicts judged again from their findings, the same with raw answers read again, and the
//! comparison of the sources, and all values of a threshold. Prints figures, and fails if they miss their limits. `cargo bench --bench
//! history -- 20000` takes so many verdicts instead; more than 100,000 are only compared, over the API, with the memory that it takes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use concord::clock::{Clock, Monotonic, SystemClock};
use concord::engine::{History, HistoryFilter, ReplayChange, ThresholdTrial};
use concord::finding::{Disposition, Family, Finding, Outcome, OutcomeBody, Reliability};
use concord::indicator::{Indicator, Tlp};
use concord::pb::history_service_client::HistoryServiceClient;
use concord::server::{Listen, Running};
use concord::settings::{Environment, Flags, LoadInput, load};
use concord::source::{OptionValue, Source, SourceSettings, SourceView};
use concord::store::{DataDirectory, Durability, RawAnswer, VerdictRecord, open};
use concord::verdict::{Policy, fuse};
use concord::{pb, sources};
use futures_util::future::join_all;
use hyper_util::rt::TokioIo;
use tonic::transport::Endpoint;
use tower::service_fn;

const FOUND: &str = include_str!("../tests/fixtures/sources/virustotal/hit.json");
const VERDICTS: u32 = 100_000;
/// Sources of each verdict.
const SOURCES: u32 = 8;
/// A report of VirusTotal behind one verdict in so many.
const RAW_EVERY: u32 = 10;
/// Verdicts that are fused; the history repeats them on other indicators. A multiple of `RAW_EVERY`.
const FUSED: u32 = 5_000;
/// The longest that judging 100,000 verdicts again may take.
const LONGEST_REPLAY: Duration = Duration::from_secs(10);
/// The fewest raw answers that must be read again in a second.
const LEAST_RAW: f64 = 5_000.0;

fn main() {
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(VERDICTS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(count));
}

async fn run(count: u32) {
    let folder = tempfile::tempdir().expect("a folder");
    fill(&folder.path().join("data"), count).await;
    let running = start(folder.path()).await;
    let history = running.engine().history();
    if count > VERDICTS {
        compare_many(&running).await;
        running.stop().await;
        return;
    }

    let policy = history.policy("xsoar", 0).await.expect("it is built in");
    let (took, judged) = replay(&history, ReplayChange { policy: Some(policy), ..ReplayChange::default() }).await;
    println!("replay from findings: {judged} verdicts in {took:.2?}");
    assert!(count < VERDICTS || took < LONGEST_REPLAY, "a replay must take less than {LONGEST_REPLAY:?}");

    let sources = BTreeMap::from([("source-00".to_owned(), virustotal())]);
    let (with_raw, _) = replay(&history, ReplayChange { sources, ..ReplayChange::default() }).await;
    let (without, _) = replay(&history, ReplayChange::default()).await;
    let raw = count / RAW_EVERY;
    let each_second = f64::from(raw) / with_raw.saturating_sub(without).as_secs_f64();
    println!("raw answers read again: {raw} in {with_raw:.2?} less {without:.2?}, {each_second:.0} a second");
    assert!(each_second > LEAST_RAW, "at least {LEAST_RAW} raw answers must be read in a second");

    let began = SystemClock.monotonic();
    let mut scan =
        history.try_threshold(HistoryFilter::default(), every_threshold()).await.expect("there are verdicts");
    while scan.advance().await.expect("the store is read").is_some() {}
    let report = scan.finish().expect("there are answers");
    println!(
        "all values of a threshold: {} findings, {} without raw answers, in {:.2?}",
        report.curve.findings,
        report.pruned,
        since(began)
    );

    let began = SystemClock.monotonic();
    let mut analysis = history.analyze(HistoryFilter::default(), [], None).await.expect("there are verdicts");
    while analysis.advance().await.expect("the store is read").is_some() {}
    let comparison = analysis.finish().expect("there are verdicts").statistics;
    let letters = concord::verdict::WeightedRule::built_in().letters;
    let comparison = comparison.finish(&letters);
    println!(
        "comparison of {} sources: {} verdicts in {:.2?}",
        comparison.sources.len(),
        comparison.verdicts,
        since(began)
    );
    running.stop().await;
}

fn since(began: Monotonic) -> Duration {
    SystemClock.monotonic().since(began)
}

async fn replay(history: &History, change: ReplayChange) -> (Duration, u64) {
    let began = SystemClock.monotonic();
    let mut replay = history.replay(HistoryFilter::default(), change).await.expect("there are verdicts");
    while replay.advance().await.expect("the store is read").is_some() {}
    (since(began), replay.finish().expect("there are verdicts").replayed)
}

/// Compares all sources over the API: how long it takes, what it needs beyond what was resident before, and that whoever leaves frees
/// the place of the next.
async fn compare_many(running: &Running) {
    use concord::pb::compare_sources_response::Event;
    let mut stream = Some(TokioIo::new(running.connect()));
    let connector = service_fn(move |_| {
        let stream = stream.take().ok_or(std::io::ErrorKind::NotConnected);
        async move { Ok::<_, std::io::Error>(stream?) }
    });
    let channel = Endpoint::from_static("http://local").connect_with_connector(connector).await.expect("a connection");
    let mut client = HistoryServiceClient::new(channel).max_decoding_message_size(64 * 1024 * 1024);
    let request = pb::CompareSourcesRequest::default;

    forget_peak();
    let before = resident("VmRSS");
    let began = SystemClock.monotonic();
    let mut answers = client.compare_sources(request()).await.expect("it is answered").into_inner();
    let mut progress = 0;
    while let Some(answer) = answers.message().await.expect("it goes on") {
        match answer.event.expect("an event") {
            Event::Progress(made) => {
                progress += 1;
                if progress == 100 {
                    let remaining = made.remaining.expect("it is known");
                    println!(
                        "after {:.1?} {} of {} are read; {} s to go",
                        since(began),
                        made.read,
                        made.total,
                        remaining.seconds
                    );
                }
            }
            Event::Comparison(comparison) => println!(
                "compared over the API: {} verdicts in {:.1?}, {progress} times progress",
                comparison.verdicts,
                since(began)
            ),
        }
    }
    println!("resident memory: {before} MiB before, {} MiB at its greatest", resident("VmHWM"));

    let mut left = client.compare_sources(request()).await.expect("it is answered").into_inner();
    left.message().await.expect("it goes on").expect("progress");
    drop(left);
    let began = SystemClock.monotonic();
    let mut next = client.compare_sources(request()).await.expect("it is answered").into_inner();
    next.message().await.expect("it goes on").expect("progress");
    println!("after the caller left, the next one had its first progress in {:.2?}", since(began));
}

/// A value of the process's status, in MiB.
fn resident(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1_024
}

/// Lets the greatest resident memory begin anew.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Every value of a threshold up to a thousand.
fn every_threshold() -> ThresholdTrial {
    let variants = (1..=1_000).map(|value| (value, virustotal_with(i64::try_from(value).expect("it is small"))));
    ThresholdTrial { source: "source-00".into(), present: 10, variants: variants.collect() }
}

/// A VirusTotal with another threshold.
fn virustotal() -> Arc<dyn Source> {
    virustotal_with(5)
}

fn virustotal_with(threshold: i64) -> Arc<dyn Source> {
    let kind = sources::find("virustotal").expect("the kind");
    let mut settings = SourceSettings {
        credential: Some("key".to_owned().into()),
        ..SourceSettings::from_defaults(kind.about(), "source-00")
    };
    settings.options.insert("malicious_threshold_ip".into(), OptionValue::Integer(threshold));
    kind.build(&SourceView::new(&settings)).expect("it is built")
}

async fn fill(data: &Path, count: u32) {
    let directory = DataDirectory::open(data).expect("a data directory");
    let store = open(&directory.database_path(), Durability::Normal).expect("a store");
    let policy = Policy::built_in().remove(0);
    // Younger than any retention.
    let began = SystemClock.now() - Duration::from_secs(u64::from(count) + 3_600);
    let fused: Vec<VerdictRecord> = (0..FUSED).map(|number| record(&policy, number, began)).collect();
    let at = |number: u32| began + Duration::from_secs(u64::from(number));
    for group in (0..count).collect::<Vec<_>>().chunks(500) {
        let records = group.iter().map(|number| {
            let mut record = fused[*number as usize % fused.len()].clone();
            let indicator = Indicator::parse(&address(*number)).expect("an address").indicator;
            (record.id, record.create_time) = (format!("{number:08}"), at(*number));
            (record.verdict.indicator, record.verdict.judged_time) = (indicator, at(*number));
            record.answers.iter_mut().for_each(|(_, hash)| *hash = format!("{number}"));
            record
        });
        join_all(records.map(|record| store.append(Arc::new(record))))
            .await
            .into_iter()
            .for_each(|stored| stored.expect("stored"));
        let raw = group.iter().filter(|number| number.is_multiple_of(RAW_EVERY)).map(|number| RawAnswer {
            hash: format!("{number}"),
            source: "source-00".into(),
            received: began,
            body: FOUND.replace("192.0.2.10", &address(*number)).into_bytes().into(),
        });
        store.keep_answers(raw.collect()).await.expect("stored");
    }
    store.close().await.expect("closed");
}

fn address(number: u32) -> String {
    let [_, second, third, fourth] = number.to_be_bytes();
    format!("10.{second}.{third}.{fourth}")
}

fn record(policy: &Policy, number: u32, at: SystemTime) -> VerdictRecord {
    let letters = [Reliability::A, Reliability::B, Reliability::C, Reliability::D];
    let claims = [Disposition::Malicious, Disposition::Benign, Disposition::Suspicious, Disposition::Unknown];
    let outcomes: Vec<Outcome> = (0..SOURCES)
        .map(|source| {
            let mixed = number.wrapping_mul(2_654_435_761).rotate_left(source * 5) as usize;
            let finding = Finding::new(claims[mixed % 4], None, "60 of 94 engines say malicious (threshold 10)");
            Outcome {
                source: format!("source-{source:02}"),
                kind: "virustotal".into(),
                reliability: letters[source as usize % 4],
                family: Family::same_kind(format!("source-{source:02}")),
                time: at,
                body: if source > 0 && mixed.is_multiple_of(7) {
                    OutcomeBody::NoRecord
                } else {
                    OutcomeBody::Finding(finding)
                },
            }
        })
        .collect();
    let indicator = Indicator::parse(&address(number)).expect("an address").indicator;
    let has_raw = number.is_multiple_of(RAW_EVERY);
    VerdictRecord {
        id: format!("{number:08}"),
        create_time: at,
        caller: "bench".into(),
        tlp: Tlp::Amber,
        verdict: fuse(policy, &indicator, at, outcomes),
        answers: if has_raw { vec![("source-00".into(), format!("{number}"))] } else { Vec::new() },
        units: Some((0..SOURCES).map(|source| (format!("source-{source:02}"), 1)).collect()),
    }
}

async fn start(folder: &Path) -> Running {
    let flags = Flags { data_directory: Some(folder.join("data")), ..Flags::default() };
    let input = LoadInput { file: None, environment: Environment::new(), flags, kinds: sources::all() };
    let config = load(input).expect("the configuration is read");
    let running = Running::start(&config, sources::all(), Arc::new(SystemClock), Listen::InProcess).await;
    running.expect("the server starts")
}
