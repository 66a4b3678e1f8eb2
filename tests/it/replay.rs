//! Replays with other options of a source: stored raw answers are read again, and nobody is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use concord::clock::ManualClock;
use concord::pb;
use concord::pb::replay_verdicts_response::Event;
use concord::store::{DataDirectory, Durability, Retention, open};
use prost_types::value::Kind;
use tempfile::TempDir;
use tonic::Code;

use crate::harness::{Replay, TestServer, report, start_time, violated, virustotal_at};
use crate::verdict_diff::concord;

/// A VirusTotal of whose engines as many call an address malicious as its last byte says.
async fn graded_virustotal() -> Replay {
    let of_address = |path: &str| path.rsplit('.').next().and_then(|last| last.parse().ok()).unwrap_or(0);
    Replay::start(Box::new(move |path| (200, report(of_address(path), 0)))).await
}

fn addresses() -> impl Iterator<Item = String> {
    (1..=14).map(|last| format!("198.51.100.{last}"))
}

fn options(source: &str, option: &str, value: f64) -> pb::ReplayedOptions {
    let value = prost_types::Value { kind: Some(Kind::NumberValue(value)) };
    let fields = BTreeMap::from([(option.to_owned(), value)]);
    pb::ReplayedOptions { source: source.into(), options: Some(prost_types::Struct { fields }) }
}

fn with_threshold(value: f64) -> pb::ReplayVerdictsRequest {
    pb::ReplayVerdictsRequest {
        sources: vec![options("sources/virustotal", "malicious_threshold_ip", value)],
        ..Default::default()
    }
}

/// The configuration of this VirusTotal, with quota for all addresses.
fn configuration(virustotal: &Replay) -> String {
    virustotal_at(virustotal.address) + "quota = { minute = 1000 }\n"
}

async fn replay(server: &TestServer, request: pb::ReplayVerdictsRequest) -> (BTreeMap<String, i32>, pb::ReplaySummary) {
    let mut stream = server.history().replay_verdicts(request).await.unwrap().into_inner();
    let mut flips = BTreeMap::new();
    loop {
        match stream.message().await.unwrap().expect("a summary comes").event.unwrap() {
            Event::Progress(_) => {}
            Event::Flip(flip) => drop(flips.insert(flip.indicator.unwrap().value, flip.after)),
            Event::Summary(summary) => return (flips, summary),
        }
    }
}

#[tokio::test]
async fn another_threshold_flips_what_it_would_have_flipped_and_nobody_is_asked() {
    let virustotal = graded_virustotal().await;
    let server = TestServer::start(&configuration(&virustotal)).await;
    let strict = configuration(&virustotal) + "options.malicious_threshold_ip = 5\n";
    let strict = TestServer::start(&strict).await;
    let mut expected = BTreeMap::new();
    for address in addresses() {
        let before = server.enrich(&address).await.verdict.disposition;
        let after = strict.enrich(&address).await.verdict.disposition;
        if before != after {
            expected.insert(address, after);
        }
    }
    assert!(!expected.is_empty());
    let calls = virustotal.calls();
    let (flips, summary) = replay(&server, with_threshold(5.0)).await;
    assert_eq!(flips, expected);
    assert_eq!((summary.replayed, summary.flipped), (14, expected.len() as i64));
    assert_eq!((summary.pruned.len(), summary.unreadable.len()), (0, 0));
    assert_eq!(virustotal.calls(), calls, "a replay asks nobody");
    let source = server.sources().get_source(pb::GetSourceRequest { name: "sources/virustotal".into() }).await;
    let options = source.unwrap().into_inner().source.unwrap().options.unwrap();
    assert_ne!(
        options.fields.get("malicious_threshold_ip").and_then(|value| value.kind.clone()),
        Some(Kind::NumberValue(5.0))
    );
    strict.stop().await;
    server.stop().await;
}

/// Removes all raw answers from the store of a server that is not running, and says how many there were.
pub async fn prune_answers(folder: &TempDir) -> u64 {
    let directory = DataDirectory::open(&folder.path().join("data")).unwrap();
    let store = open(&directory.database_path(), Durability::Normal).unwrap();
    let day = std::time::Duration::from_secs(86_400);
    let retention = Retention {
        answers_age: 365 * day,
        answers_bytes: 0,
        verdicts_age: 365 * day,
        disclosures_age: 365 * day,
        store_bytes: u64::MAX,
    };
    let pruned = store.prune(retention, start_time()).await.unwrap().answers;
    store.close().await.unwrap();
    pruned
}

#[tokio::test]
async fn findings_whose_answers_were_pruned_count_as_recorded_and_are_reported() {
    let virustotal = graded_virustotal().await;
    let configuration = configuration(&virustotal);
    let folder = Arc::new(TempDir::new().unwrap());
    let clock = Arc::new(ManualClock::new(start_time()));
    let server = TestServer::start_on(folder.clone(), clock.clone(), &configuration).await;
    for address in addresses() {
        server.enrich(&address).await;
    }
    server.stop().await;
    assert_eq!(prune_answers(&folder).await, 14);
    let server = TestServer::start_on(folder, clock, &configuration).await;
    let (flips, summary) = replay(&server, with_threshold(5.0)).await;
    assert!(flips.is_empty(), "{flips:?}");
    let pruned: Vec<_> = summary.pruned.iter().map(|kept| (kept.source.as_str(), kept.count)).collect();
    assert_eq!(pruned, [("sources/virustotal", 14)]);
    server.stop().await;
}

#[tokio::test]
async fn options_that_cannot_be_meant_so_are_refused_with_their_field() {
    let virustotal = graded_virustotal().await;
    let list = "[sources.ours]\nkind = \"list\"\noptions.path = \"/lists/ours\"\n";
    let server = TestServer::start(&format!("{}{list}", configuration(&virustotal))).await;
    server.enrich("198.51.100.7").await;
    let request = pb::ReplayVerdictsRequest {
        sources: vec![
            options("sources/virustotal", "malicious_treshold_ip", 5.0),
            options("sources/nobody", "malicious_threshold_ip", 5.0),
            options("sources/ours", "path", 5.0),
            pb::ReplayedOptions { source: "sources/virustotal".into(), options: None },
        ],
        ..Default::default()
    };
    let refused = server.history().replay_verdicts(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let mut fields = violated(&refused);
    fields.sort();
    let expected = [
        "sources[0].options.malicious_treshold_ip",
        "sources[1].source",
        "sources[2].options.path",
        "sources[3].options",
    ];
    assert_eq!(fields, expected);
    let over_lists = pb::ReplayVerdictsRequest {
        sources: vec![pb::ReplayedOptions {
            source: "sources/ours".into(),
            options: Some(prost_types::Struct {
                fields: BTreeMap::from([(
                    "claim".to_owned(),
                    prost_types::Value { kind: Some(Kind::StringValue("malicious".into())) },
                )]),
            }),
        }],
        ..Default::default()
    };
    let refused = server.history().replay_verdicts(over_lists).await.unwrap_err();
    assert!(refused.message().contains("came over HTTP"), "{}", refused.message());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_threshold_is_tried_as_it_is_typed() {
    let virustotal = graded_virustotal().await;
    let server = TestServer::listen(&configuration(&virustotal)).await;
    for address in addresses() {
        server.enrich(&address).await;
    }
    let output = concord(&server, &["replay", "--set", "sources/virustotal.malicious_threshold_ip=5"]).await;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(shown.contains("14 verdicts judged again") && shown.contains("198.51.100.7"), "{shown}");
    let output = concord(&server, &["replay", "--set", "malicious_threshold_ip"]).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("write SOURCE.OPTION=VALUE"));
    server.stop().await;
}
