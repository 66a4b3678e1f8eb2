//! How long it takes to read a report of some ninety engines into a finding, over what it takes to read the same body into typed
//! structs that borrow from it.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use concord::indicator::{Form, Indicator};
use concord::source::{Answer, AnswerBody, Lookup, SourceSettings, SourceView};
use concord::sources;
use criterion::{Criterion, criterion_group, criterion_main};
use typed_report::Typed;

#[path = "shared/typed_report.rs"]
mod typed_report;

const REPORT: &[u8] = include_bytes!("../tests/fixtures/sources/virustotal/hit.json");

/// A report as large as real ones: the fixture's engines, padded to ninety.
fn report() -> Vec<u8> {
    let mut report: serde_json::Value = serde_json::from_slice(REPORT).expect("the fixture is JSON");
    let results = &mut report["data"]["attributes"]["last_analysis_results"];
    for number in 0..90 {
        let name = format!("Engine {number}");
        results[&name] = serde_json::json!({"category": "malicious", "engine_name": name, "method": "blacklist"});
    }
    serde_json::to_vec(&report).expect("JSON")
}

fn read_report(criterion: &mut Criterion) {
    let kind = sources::find("virustotal").expect("the kind");
    let settings = SourceSettings::from_defaults(kind.about(), "bench");
    let source = kind.build(&SourceView::new(&settings)).expect("the defaults are enough");
    let indicator = Indicator::from_normal(Form::Ipv4, "192.0.2.10").expect("an address");
    let lookup = Lookup::new(indicator);
    let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_564_800);
    let typed = report();
    let body = AnswerBody::Http { status: 200, headers: Vec::new(), body: report() };
    let answers = [Answer { received, ttl: None, body }];
    let mut group = criterion.benchmark_group("a VirusTotal report of 100 engines");
    group.bench_function("by serde_json into structs", |bencher| {
        bencher.iter(|| serde_json::from_slice::<Typed<'_>>(black_box(&typed)).map(drop));
    });
    group.bench_function("into a finding", |bencher| {
        bencher.iter(|| source.read(black_box(&lookup), black_box(&answers)));
    });
    group.finish();
}

criterion_group!(benches, read_report);
criterion_main!(benches);
