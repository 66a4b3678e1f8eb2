//! What a source would have said at each value of a threshold: stored raw answers are read again, and nobody is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use concord::pb;
use concord::pb::suggest_threshold_response::Event;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::harness::{Replay, TestServer, report, start_time, violated, virustotal_at};
use crate::verdict_diff::concord;

/// As many addresses, of the n-th of which n engines say malicious.
const ADDRESSES: i64 = 70;
/// From this address on, the other source says malicious, and benign before.
const OTHER_FROM: i64 = 21;
/// From this address on, analysts say malicious, and benign before.
const MALICIOUS_FROM: i64 = 31;

fn last_byte(path: &str) -> i64 {
    path.rsplit('.').next().and_then(|last| last.parse().ok()).unwrap_or_default()
}

fn greynoise(path: &str) -> Value {
    let is_malicious = last_byte(path) >= OTHER_FROM;
    json!({
        "ip": path, "noise": is_malicious, "riot": !is_malicious, "name": "unknown", "message": "Success",
        "classification": if is_malicious { "malicious" } else { "benign" }, "last_seen": "2026-09-20",
        "link": format!("https://viz.greynoise.io/ip/{path}"),
    })
}

/// The upstreams, and the configuration of their sources.
struct World {
    virustotal: Replay,
    other: Replay,
    configuration: String,
}

async fn world() -> World {
    let virustotal = Replay::start(Box::new(|path| (200, report(last_byte(path) as u64, 0)))).await;
    let other = Replay::start(Box::new(|path| (200, greynoise(path)))).await;
    let configuration = format!(
        "{}quota = {{ minute = 1000 }}\n[sources.other]\nkind = \"greynoise\"\nreliability = \"A\"\nbase_url = \"http://{}\"\n\
         quota = {{ minute = 1000 }}\n",
        virustotal_at(virustotal.address),
        other.address
    );
    World { virustotal, other, configuration }
}

async fn fill(server: &TestServer, count: i64) {
    for last in 1..=count {
        server.enrich(&format!("198.51.100.{last}")).await;
    }
}

async fn label(server: &TestServer) {
    for last in 1..=ADDRESSES {
        let is_malicious = last >= MALICIOUS_FROM;
        let judgement = if is_malicious { pb::Judgement::TruePositive } else { pb::Judgement::Benign };
        let request = pb::RecordFeedbackRequest {
            indicator: Some(pb::Indicator { r#type: 0, value: format!("198.51.100.{last}") }),
            judgement: judgement.into(),
            author: "alice".into(),
            reason: "seen in an incident".into(),
            ..Default::default()
        };
        server.verdicts().record_feedback(request).await.unwrap();
    }
}

fn request(source: &str, option: &str) -> pb::SuggestThresholdRequest {
    pb::SuggestThresholdRequest { filter: None, source: source.into(), option: option.into() }
}

async fn suggest(server: &TestServer, request: pb::SuggestThresholdRequest) -> Result<pb::ThresholdCurve, Status> {
    let mut stream = server.history().suggest_threshold(request).await?.into_inner();
    let mut read = 0;
    loop {
        match stream.message().await?.expect("a curve comes").event.unwrap() {
            Event::Progress(progress) => {
                assert!(progress.read > read && progress.read <= progress.total);
                read = progress.read;
            }
            Event::Curve(curve) => {
                assert!(stream.message().await?.is_none(), "the curve is the last message");
                return Ok(curve);
            }
        }
    }
}

fn value(estimate: Option<pb::Estimate>) -> f64 {
    estimate.expect("there are labels").value
}

#[tokio::test]
async fn each_value_counts_what_it_would_have_called_malicious_and_nobody_is_asked() {
    let World { virustotal, other, configuration } = world().await;
    let server = TestServer::start(&configuration).await;
    fill(&server, ADDRESSES).await;
    label(&server).await;
    let calls = (virustotal.calls(), other.calls());
    let curve = suggest(&server, request("sources/virustotal", "malicious_threshold_ip")).await.unwrap();
    assert_eq!((virustotal.calls(), other.calls()), calls, "nobody is asked");
    assert_eq!((curve.present, curve.findings, curve.pruned, curve.unreadable), (10, ADDRESSES, 0, 0));
    assert!(curve.changes_malicious);
    assert_eq!(curve.indicator_types, [i32::from(pb::IndicatorType::Ip)]);
    assert_eq!(curve.distinct_values, ADDRESSES + 1, "one for each number of engines, and one above all");
    assert!(curve.points.len() <= 35 && curve.points.is_sorted_by_key(|point| point.value));
    assert_eq!(curve.points.iter().filter(|point| point.value == curve.present).count(), 1);
    for point in &curve.points {
        assert_eq!(point.malicious, ADDRESSES + 1 - point.value, "at {}", point.value);
        assert_eq!(point.malicious + point.suspicious + point.benign + point.unknown, ADDRESSES);
        let performance = point.performance.unwrap();
        let malicious = ADDRESSES + 1 - MALICIOUS_FROM;
        let found = (ADDRESSES + 1 - point.value.max(MALICIOUS_FROM)).max(0);
        assert!((value(performance.recall) - found as f64 / malicious as f64).abs() < 1e-9, "at {}", point.value);
        if point.malicious > 0 {
            assert!((value(performance.precision) - found as f64 / point.malicious as f64).abs() < 1e-9);
        }
    }
    assert_eq!(curve.best_by_labels, Some(MALICIOUS_FROM));
    assert_eq!(curve.best_by_agreement, Some(OTHER_FROM));
    server.stop().await;
}

#[tokio::test]
async fn the_counts_of_a_value_are_those_of_a_source_that_has_it() {
    let World { virustotal: _virustotal, other: _other, configuration } = world().await;
    let server = TestServer::start(&configuration).await;
    fill(&server, 25).await;
    let curve = suggest(&server, request("sources/virustotal", "malicious_threshold_ip")).await.unwrap();
    for wanted in [3, 17] {
        let configuration =
            configuration.replacen("quota", &format!("options.malicious_threshold_ip = {wanted}\nquota"), 1);
        let with_value = TestServer::start(&configuration).await;
        fill(&with_value, 25).await;
        let request = pb::CompareSourcesRequest::default();
        let mut stream = with_value.history().compare_sources(request).await.unwrap().into_inner();
        let mut source = None;
        while let Some(message) = stream.message().await.unwrap() {
            if let Some(pb::compare_sources_response::Event::Comparison(comparison)) = message.event {
                source = comparison.sources.into_iter().find(|source| source.source == "sources/virustotal");
            }
        }
        let source = source.unwrap();
        let point = curve.points.iter().find(|point| point.value == wanted).unwrap();
        let tried = (point.malicious, point.suspicious, point.benign, point.unknown);
        assert_eq!(tried, (source.malicious, source.suspicious, source.benign, source.unknown));
        with_value.stop().await;
    }
    assert_eq!((curve.best_by_labels, curve.points[0].performance), (None, None), "there are no labels");
    server.stop().await;
}

#[tokio::test]
async fn a_threshold_that_another_bounds_is_tried_up_to_it() {
    let score = |_: &str| {
        let data = json!({
            "ipAddress": "198.51.100.1", "isPublic": true, "ipVersion": 4, "isWhitelisted": false,
            "abuseConfidenceScore": 31, "countryCode": "NL", "usageType": null, "isp": null, "domain": null,
            "hostnames": [], "isTor": false, "totalReports": 4, "numDistinctUsers": 2,
            "lastReportedAt": "2026-09-20T10:00:00+00:00",
        });
        (200, json!({ "data": data }))
    };
    let abuseipdb = Replay::start(Box::new(score)).await;
    let configuration = format!(
        "[sources.abuseipdb]\nkind = \"abuseipdb\"\ncredential = \"s3cret-credential\"\nbase_url = \"http://{}\"\n\
         quota = {{ minute = 1000 }}\noptions.malicious_threshold = 60\n",
        abuseipdb.address
    );
    let server = TestServer::start(&configuration).await;
    fill(&server, 20).await;
    let curve = suggest(&server, request("sources/abuseipdb", "suspicious_threshold")).await.unwrap();
    let points: Vec<_> = curve.points.iter().map(|point| (point.value, point.suspicious)).collect();
    assert_eq!(points, [(25, 20), (31, 20), (32, 0)], "the present value, the score, and the first above it");
    assert!(!curve.changes_malicious);
    let curve = suggest(&server, request("sources/abuseipdb", "malicious_threshold")).await.unwrap();
    assert_eq!(curve.points.first().map(|point| (point.value, point.malicious)), Some((31, 20)));
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_tried_is_refused_with_what_would_do() {
    let World { virustotal: _virustotal, other: _other, configuration } = world().await;
    let lists =
        "[sources.ours]\nkind = \"list\"\noptions.path = \"/lists/ours\"\n[sources.bare]\nkind = \"virustotal\"\n";
    let server = TestServer::start(&format!("{configuration}{lists}")).await;
    let empty = suggest(&server, request("sources/virustotal", "malicious_threshold_ip")).await.unwrap_err();
    assert_eq!(empty.code(), Code::FailedPrecondition);
    assert!(empty.message().contains("no verdict matches"), "{}", empty.message());
    fill(&server, 19).await;
    let unknown = suggest(&server, request("sources/nobody", "malicious_threshold_ip")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    for (source, option, field, hint) in [
        ("sources/virustotal", "malicious_treshold_ip", "option", "did you mean malicious_threshold_ip?"),
        ("sources/virustotal", "rating", "option", "it is no threshold of which other values can be tried"),
        ("sources/virustotal", "", "option", "a threshold is needed: malicious_threshold_ip, "),
        ("sources/ours", "strength", "option", "list has no thresholds"),
        ("sources/bare", "malicious_threshold_ip", "source", "it is not configured"),
        ("virustotal", "malicious_threshold_ip", "source", "sources/"),
    ] {
        let refused = suggest(&server, request(source, option)).await.unwrap_err();
        assert_eq!((refused.code(), violated(&refused)), (Code::InvalidArgument, vec![field.to_owned()]), "{option}");
        assert!(refused.message().contains(hint), "{}", refused.message());
    }
    let few = suggest(&server, request("sources/virustotal", "malicious_threshold_ip")).await.unwrap_err();
    assert_eq!(few.code(), Code::FailedPrecondition);
    assert!(
        few.message().contains("19 of its findings") && few.message().contains("20 are needed"),
        "{}",
        few.message()
    );
    let later = pb::HistoryFilter {
        from_time: Some((start_time() + Duration::from_secs(86_400)).into()),
        ..Default::default()
    };
    let nothing =
        pb::SuggestThresholdRequest { filter: Some(later), ..request("sources/virustotal", "malicious_threshold_ip") };
    assert_eq!(suggest(&server, nothing).await.unwrap_err().code(), Code::FailedPrecondition);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_threshold_is_asked_for_and_drawn_as_it_is_typed() {
    let World { virustotal: _virustotal, other: _other, configuration } = world().await;
    let server = TestServer::listen(&configuration).await;
    fill(&server, ADDRESSES).await;
    label(&server).await;
    let picture = server.folder.path().join("threshold.svg");
    let file = picture.display().to_string();
    let output =
        concord(&server, &["compare", "threshold", "virustotal", "malicious_threshold_ip", "--plot", &file]).await;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(shown.starts_with("virustotal.malicious_threshold_ip, now 10: 70 findings on ip read again"), "{shown}");
    for note in ["now", "best by labels", "most like the rest", "concord source set virustotal --option"] {
        assert!(shown.contains(note), "{note}: {shown}");
    }
    let svg = std::fs::read_to_string(&picture).unwrap();
    for text in ["virustotal.malicious_threshold_ip", "precision", "recall", "now", "best by labels"] {
        assert!(svg.contains(text), "{text}");
    }
    for (typed, said) in [
        (&["compare", "threshold", "virustotal", "gti"][..], "it is no threshold"),
        (&["compare", "threshold", "virustotal"], "a threshold is needed: malicious_threshold_ip, "),
    ] {
        let output = concord(&server, typed).await;
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{said}");
    }
    // The suggested command is one that can be typed.
    let set = ["source", "set", "virustotal", "--option", "malicious_threshold_ip=31"];
    let output = concord(&server, &set).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let curve = suggest(&server, request("sources/virustotal", "malicious_threshold_ip")).await.unwrap();
    assert_eq!(curve.present, 31);
    let kinds = server.sources().list_source_kinds(pb::ListSourceKindsRequest::default()).await.unwrap().into_inner();
    let thresholds = kinds
        .kinds
        .iter()
        .map(|kind| (kind.kind.as_str(), kind.options.iter().filter(|option| option.is_threshold).count()));
    let thresholds: BTreeMap<&str, usize> = thresholds.collect();
    assert_eq!((thresholds["virustotal"], thresholds["abuseipdb"], thresholds["list"]), (14, 2, 0));
    server.stop().await;
}
