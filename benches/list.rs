//! A list of a million names and a hundred thousand networks: how long it takes to load, what it keeps in memory, and how long a
//! look-up takes.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use concord::clock::{Clock, SystemClock};
use concord::fetch::{ListPipeline, ListReader, LookupRequest, SourceCounters, SourcePipeline};
use concord::finding::{Family, OutcomeBody};
use concord::indicator::{Form, Indicator, Tlp};
use concord::source::{EgressRules, ListIndex, Lookup, OptionValue, Priority, Source, SourceSettings, SourceView};
use concord::sources;
use criterion::{Criterion, criterion_group, criterion_main};
use tempfile::NamedTempFile;
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;

// The server's allocator, since the memory of the index is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAMES: u64 = 1_000_000;
const NETWORKS: u64 = 100_000;

fn indicator(form: Form, value: &str) -> Indicator {
    Indicator::from_normal(form, value).expect("written in its normal form")
}

/// Numbers that look random and are always the same.
fn scattered(number: u64) -> u64 {
    let mixed = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb)
}

fn name(number: u64) -> String {
    let zones = ["com", "net", "org", "ru", "xyz", "top", "info", "co.uk", "com.br", "de"];
    let words = ["secure", "login", "update", "mail", "cdn", "static", "shop", "track"];
    let random = scattered(number);
    let word = words[usize::try_from(random >> 8 & 7).expect("small")];
    let zone = zones[usize::try_from(random >> 16 & 0xff).expect("small") % zones.len()];
    if random.is_multiple_of(3) { format!("www.{word}-{number}.{zone}") } else { format!("{word}{number}.{zone}") }
}

/// A network of a length from 12 to 28 for IPv4, which nine in ten are, or from 32 to 64.
fn network(number: u64) -> String {
    let [a, b, c, d, e, f, ..] = scattered(number).to_be_bytes();
    if number.is_multiple_of(10) {
        let (first, second) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        return format!("2001:{first:x}:{second:x}::/{}", 32 + e % 33);
    }
    format!("{}.{b}.{c}.{d}/{}", 1 + a % 223, 12 + (e ^ f) % 17)
}

fn million() -> String {
    let mut text = String::new();
    for number in 0..NAMES {
        text.push_str(&name(number));
        text.push('\n');
        if number < NETWORKS {
            text.push_str(&network(number));
            text.push('\n');
        }
    }
    text
}

fn settings(path: &Path) -> SourceSettings {
    let mut settings = SourceSettings::from_defaults(sources::find("list").expect("the kind").about(), "bench");
    settings.options.insert("path".into(), OptionValue::Path(path.to_owned()));
    settings
}

fn list(settings: &SourceSettings) -> Arc<dyn Source> {
    sources::find("list").expect("the kind").build(&SourceView::new(settings)).expect("a list")
}

/// The way of a look-up from the engine to the list and back.
fn pipeline(file: &NamedTempFile) -> SourcePipeline {
    let settings = Arc::new(settings(file.path()));
    let (source, clock) = (list(&settings), Arc::new(SystemClock));
    let (rules, tracker) = (EgressRules::default(), TaskTracker::new());
    let reader = ListReader::new(source.clone(), settings.clone(), rules, clock.clone(), tracker).expect("a list");
    let (family, counters) = (Family::same_kind("list"), Arc::new(SourceCounters::new("bench")));
    SourcePipeline::List(Arc::new(ListPipeline::new(source, settings, family, Arc::new(reader), clock, counters)))
}

fn request(indicator: Indicator) -> LookupRequest {
    LookupRequest {
        lookup: Lookup::new(indicator),
        deadline: SystemClock.monotonic() + Duration::from_secs(60),
        max_age: None,
        max_units: None,
        priority: Priority::Interactive,
        caller: "bench".into(),
        tlp: Tlp::Green,
    }
}

/// A value of the process's status, in MiB.
fn resident(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1_024
}

/// Loads the list once and tells what that took.
fn load(text: &str) -> ListIndex {
    let (list, before) = (list(&settings(Path::new("list.txt"))), resident("VmRSS"));
    let begun = SystemClock.monotonic();
    let index = list.index(text.as_bytes()).expect("a list");
    let took = SystemClock.monotonic().since(begun);
    let (kept, greatest) = (resident("VmRSS") - before, resident("VmHWM") - before);
    println!("{} entries of {} MB loaded in {took:.0?}", index.len(), text.len() / 1_000_000);
    println!("resident memory: {kept} MiB more, {greatest} MiB at its greatest");
    index
}

fn bench(criterion: &mut Criterion) {
    let text = million();
    let index = load(&text);
    let cases = [
        ("name, hit", Form::Domain, name(NAMES / 2), true),
        ("name below an entry, hit", Form::Domain, format!("a.b.{}", name(NAMES / 3)), true),
        ("name, miss", Form::Domain, "a.b.c.example.org".into(), false),
        ("hash, miss", Form::Sha256, "f".repeat(64), false),
        ("address, miss", Form::Ipv4, "240.0.0.1".into(), false),
    ];
    for (name, form, value, hit) in cases {
        let wanted = indicator(form, &value);
        assert_eq!(index.find(&wanted).is_some(), hit, "{name}");
        criterion.bench_function(name, |bencher| bencher.iter(|| index.find(black_box(&wanted))));
    }
    // Others each time, so that they are not in the processor's cache.
    let names: Vec<_> =
        (0..NAMES).step_by(7).map(|number| indicator(Form::Domain, &name(scattered(number) % NAMES))).collect();
    let addresses: Vec<_> = (0..NAMES)
        .step_by(7)
        .map(|number| {
            let [a, b, c, d, ..] = scattered(!number).to_be_bytes();
            indicator(Form::Ipv4, &format!("{}.{b}.{c}.{d}", 1 + a % 223))
        })
        .collect();
    for (name, wanted) in [("names all over the list, hits", names), ("addresses anywhere", addresses)] {
        let mut next = wanted.iter().cycle();
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| next.next().and_then(|wanted| index.find(black_box(wanted))));
        });
    }
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &text).expect("it is written");
    let (runtime, pipeline) = (Runtime::new().expect("a runtime"), pipeline(&file));
    let wanted = indicator(Form::Domain, &name(NAMES / 2));
    let look_up = || runtime.block_on(pipeline.look_up(request(wanted.clone())));
    assert!(matches!(look_up().outcome.body, OutcomeBody::Finding(_)));
    criterion.bench_function("name, hit, through the pipeline of its source", |bencher| bencher.iter(look_up));
    let list = list(&settings(file.path()));
    let index = || list.index(black_box(text.as_bytes())).map(|index| index.len());
    let mut group = criterion.benchmark_group("loading");
    group
        .sample_size(10)
        .bench_function("a million names and a hundred thousand networks", |bencher| bencher.iter(index));
}

criterion_group!(benches, bench);
criterion_main!(benches);
