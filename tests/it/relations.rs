//! Related indicators, the premium check and what they cost, over the API.

use concord::pb;
use concord::pb::source_plan::Action;
use serde_json::{Value, json};

use crate::harness::{DEADLINE, Enriched, Replay, TestServer, indicator, report, virustotal_at, with_deadline};

/// A report with these relationships: name, and descriptors as type and identifier.
pub fn related(malicious: u64, relationships: &[(&str, &[(&str, &str)])]) -> (u16, Value) {
    let mut body = report(malicious, 0);
    for (name, descriptors) in relationships {
        let data: Vec<_> = descriptors.iter().map(|(kind, id)| json!({"type": kind, "id": id})).collect();
        body["data"]["relationships"][name] = json!({"data": data});
    }
    (200, body)
}

/// `example.com` has two files that talk to it, one of which talks to two addresses, one of them private.
pub fn web(path: &str) -> (u16, Value) {
    let (first, second) = ("a".repeat(64), "b".repeat(64));
    match path {
        "example.com" => related(
            0,
            &[
                ("communicating_files", &[("file", &first), ("file", &second)]),
                ("subdomains", &[("domain", "www.example.com")]),
            ],
        ),
        path if path == first => related(
            60,
            &[
                ("contacted_ips", &[("ip_address", "10.0.0.1"), ("ip_address", "203.0.113.9")]),
                ("contacted_domains", &[("domain", "example.com")]),
            ],
        ),
        _ => related(0, &[]),
    }
}

pub fn wanted(names: &[&str], max_calls: u32, depth: u32) -> Option<pb::EnrichOptions> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let relations = Some(pb::RelationOptions { names, max_calls, depth });
    Some(pb::EnrichOptions { relations, ..Default::default() })
}

pub async fn graph(server: &TestServer, value: &str, options: Option<pb::EnrichOptions>) -> pb::RelationGraph {
    let request = pb::EnrichRequest { indicator: Some(indicator(value)), options };
    server.enrichment().enrich(request).await.unwrap().into_inner().graph.expect("a graph")
}

pub fn values(graph: &pb::RelationGraph) -> Vec<&str> {
    graph.nodes.iter().map(|node| node.indicator.as_ref().unwrap().value.as_str()).collect()
}

pub fn edges(graph: &pb::RelationGraph) -> Vec<String> {
    let value = |place: u32| &graph.nodes[place as usize].indicator.as_ref().unwrap().value[..3];
    let shown = |edge: &pb::RelationEdge| format!("{} {} {}", value(edge.from), edge.relation, value(edge.to));
    graph.edges.iter().map(shown).collect()
}

/// One premium VirusTotal at this address.
pub fn premium_at(source: &Replay) -> String {
    format!("{}tier = \"premium\"\nquota = {{ minute = 100 }}\n", virustotal_at(source.address))
}

#[tokio::test]
async fn the_relations_of_a_report_are_a_graph_without_a_further_call() {
    let source = Replay::start(Box::new(web)).await;
    let server = TestServer::start(&virustotal_at(source.address)).await;
    let graph = graph(&server, "example.com", wanted(&[], 0, 1)).await;
    assert_eq!(edges(&graph), ["exa communicated-by aaa", "exa communicated-by bbb", "exa supra-domain-of www"]);
    assert_eq!(graph.edges[0].reverse, "communicates-with");
    assert_eq!(graph.edges[0].source_names, ["communicating_files"]);
    assert_eq!(graph.edges[0].sources, ["sources/virustotal"]);
    assert_eq!((source.calls(), graph.calls), (1, 0));
    assert!(!graph.nodes[0].verdict.is_empty(), "its own verdict is stored");
    // From cache, verdict and graph alike.
    assert_eq!(edges(&self::graph(&server, "example.com", wanted(&[], 0, 1)).await).len(), 3);
    assert_eq!(source.calls(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_walk_goes_breadth_first_pays_each_call_and_never_asks_about_a_private_address() {
    let source = Replay::start(Box::new(web)).await;
    let server = TestServer::start(&virustotal_at(source.address)).await;
    server.enrich(&"a".repeat(64)).await;
    let graph = graph(&server, "example.com", wanted(&[], 10, 3)).await;
    // The file that is asked about already costs no call.
    assert_eq!(values(&graph)[1..3], ["a".repeat(64).as_str(), "b".repeat(64).as_str()]);
    assert_eq!(values(&graph)[3..], ["www.example.com", "10.0.0.1", "203.0.113.9"]);
    assert_eq!(graph.nodes.iter().map(|node| node.depth).collect::<Vec<_>>(), [0, 1, 1, 1, 2, 2]);
    // The relation back to the first is the same one, seen from the other end.
    assert_eq!(edges(&graph).len(), 5, "{:?}", edges(&graph));
    let private = &graph.nodes[4];
    assert_eq!(private.not_expanded.as_ref().expect("a reason").reason(), pb::NotAskedReason::PrivateAddress);
    assert!(!source.paths().iter().any(|path| path.contains("10.0.0.1")), "{:?}", source.paths());
    assert_eq!(graph.nodes[1].disposition(), pb::Disposition::Malicious);
    assert_eq!(graph.nodes[2].disposition(), pb::Disposition::Unknown);
    assert_eq!(graph.calls as usize, source.calls() - 2, "{:?}", graph.notes);
    server.stop().await;
}

#[tokio::test]
async fn a_walk_makes_no_more_calls_than_allowed_and_says_what_it_left_out() {
    let source = Replay::start(Box::new(web)).await;
    let server = TestServer::start(&virustotal_at(source.address)).await;
    let graph = graph(&server, "example.com", wanted(&[], 1, 3)).await;
    assert_eq!((source.calls(), graph.calls), (2, 1));
    assert_eq!(graph.notes, ["not every related indicator was asked about: 1 calls were allowed and 1 made"]);
    server.stop().await;
}

#[tokio::test]
async fn a_walk_ends_with_the_deadline_and_the_verdict_is_there() {
    let source = Replay::held(Box::new(web)).await;
    let server = TestServer::start(&virustotal_at(source.address)).await;
    source.release_one();
    let request = pb::EnrichRequest { indicator: Some(indicator("example.com")), options: wanted(&[], 9, 2) };
    let mut client = server.enrichment();
    let answer = client.enrich(with_deadline(request));
    let (answer, ()) = tokio::join!(answer, server.pass_when_called(&source, 2, DEADLINE));
    let answer = answer.unwrap().into_inner();
    assert!(!answer.decode_verdict().unwrap().partial);
    let graph = answer.graph.expect("a graph");
    assert_eq!(graph.nodes.len(), 4);
    assert!(graph.notes.iter().any(|note| note.contains("time")), "{:?}", graph.notes);
    source.release();
    server.stop().await;
}

#[tokio::test]
async fn further_pages_are_asked_for_as_far_as_calls_are_allowed() {
    let source = Replay::start(Box::new(|path| match path {
        "communicating_files" => {
            (200, json!({"data": [{"type": "file", "id": "c".repeat(64)}], "meta": {"cursor": "more"}}))
        }
        _ => {
            let (status, mut body) = related(0, &[("communicating_files", &[("file", &"a".repeat(64))])]);
            body["data"]["relationships"]["communicating_files"]["meta"] = json!({"cursor": "next"});
            (status, body)
        }
    }))
    .await;
    let server = TestServer::start(&virustotal_at(source.address)).await;
    let options = wanted(&["communicating_files"], 1, 1);
    let request = pb::EnrichRequest { indicator: Some(indicator("192.0.2.1")), options };
    let answer = server.enrichment().enrich(request).await.unwrap().into_inner();
    assert_eq!(answer.decode_receipt().unwrap().sources[0].units, 2);
    assert_eq!(values(&answer.graph.unwrap()).len(), 3);
    assert_eq!(source.calls(), 2);
    // Without pages it is another look-up.
    assert_eq!(values(&graph(&server, "192.0.2.1", wanted(&[], 0, 1)).await).len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn further_pages_and_a_walk_share_the_calls_that_are_allowed() {
    let source = Replay::start(Box::new(|path| match path {
        "communicating_files" => (200, json!({"data": []})),
        _ => {
            let (status, mut body) =
                related(0, &[("communicating_files", &[("file", &"a".repeat(64)), ("file", &"b".repeat(64))])]);
            body["data"]["relationships"]["communicating_files"]["meta"] = json!({"cursor": "next"});
            (status, body)
        }
    }))
    .await;
    let server = TestServer::start(&virustotal_at(source.address)).await;
    let graph = graph(&server, "192.0.2.1", wanted(&[], 2, 2)).await;
    assert_eq!(source.calls(), 3, "the report, one page and one of the two files");
    assert!(graph.notes.iter().any(|note| note.contains("not every related")), "{:?}", graph.notes);
    server.stop().await;
}

#[tokio::test]
async fn names_that_no_source_has_and_walks_of_many_are_refused_by_field() {
    let source = Replay::start(Box::new(web)).await;
    let server = TestServer::start(&virustotal_at(source.address)).await;
    let options = wanted(&["subdomainz", "similar_files"], 0, 1);
    let request = pb::EnrichRequest { indicator: Some(indicator("example.com")), options };
    let refused = server.enrichment().enrich(request).await.unwrap_err();
    assert!(refused.message().contains("options.relations.names[1]: \"subdomainz\""), "{}", refused.message());
    assert!(refused.message().contains("did you mean subdomains?"), "{}", refused.message());
    assert!(refused.message().contains("options.relations.names[0]"), "of another type: {}", refused.message());
    let request = pb::BatchEnrichRequest { indicators: vec![indicator("example.com")], options: wanted(&[], 0, 2) };
    let refused = server.enrichment().batch_enrich(request).await.unwrap_err();
    assert!(refused.message().contains("options.relations.depth"), "{}", refused.message());
    assert_eq!(source.calls(), 0);
    server.stop().await;
}

/// Answers with a report of so many malicious engines, and to each relationship with files of so many.
pub fn checked(report_malicious: u64, files: &'static [(&'static str, &'static [u64])]) -> crate::harness::Answers {
    Box::new(move |path| match files.iter().find(|(name, _)| *name == path) {
        Some((_, files)) => {
            let file =
                |malicious: &u64| json!({"type": "file", "attributes": report(*malicious, 0)["data"]["attributes"]});
            (200, json!({"data": files.iter().map(file).collect::<Vec<_>>()}))
        }
        None => (200, report(report_malicious, 0)),
    })
}

async fn premium(answers: crate::harness::Answers) -> (usize, pb::Disposition, u32) {
    let source = Replay::start(answers).await;
    let server = TestServer::start(&premium_at(&source)).await;
    let request = pb::PlanEnrichmentRequest { indicator: Some(indicator("192.0.2.1")), options: None };
    let plan = server.enrichment().plan_enrichment(request).await.unwrap().into_inner();
    assert_eq!((plan.units, plan.max_units), (1, 4));
    let Some(Action::Call(call)) = &plan.sources[0].action else { panic!("{plan:?}") };
    assert_eq!((call.units, call.max_units), (1, 4));
    let answer = server.enrich("192.0.2.1").await;
    let pb::outcome::Result::Finding(finding) = answer.outcome("virustotal").clone() else { panic!("{answer:?}") };
    server.stop().await;
    (source.calls(), finding.claim(), answer.receipt.sources[0].units)
}

#[tokio::test]
async fn the_premium_check_makes_one_to_four_calls_as_documented_and_each_is_paid() {
    use pb::Disposition::{Malicious, Unknown};
    assert_eq!(premium(checked(60, &[])).await, (1, Malicious, 1));
    assert_eq!(premium(checked(0, &[("downloaded_files", &[20, 20, 20])])).await, (2, Malicious, 2));
    let third = &[("downloaded_files", &[] as &[u64]), ("communicating_files", &[20, 20, 20])];
    assert_eq!(premium(checked(0, third)).await, (3, Malicious, 3));
    let none = &[("downloaded_files", &[] as &[u64]), ("communicating_files", &[]), ("referrer_files", &[1])];
    assert_eq!(premium(checked(0, none)).await, (4, Unknown, 4));
}

#[tokio::test]
async fn a_key_that_is_not_premium_wastes_one_call_until_it_is_tested() {
    let source = Replay::start(Box::new(|path| match path {
        "downloaded_files" => (403, json!({"error": {"code": "ForbiddenError", "message": "no"}})),
        _ => (200, report(5, 0)),
    }))
    .await;
    let server = TestServer::start(&premium_at(&source)).await;
    let first = server.enrich("192.0.2.1").await;
    let pb::outcome::Result::Finding(finding) = first.outcome("virustotal") else { panic!("{first:?}") };
    assert_eq!(finding.claim(), pb::Disposition::Suspicious);
    assert!(finding.reasons.iter().any(|reason| reason.contains("premium")), "{:?}", finding.reasons);
    assert!(!first.verdict.partial);
    assert_eq!(source.calls(), 2);
    server.enrich("192.0.2.2").await;
    assert_eq!(source.calls(), 3);
    let request = pb::TestSourceRequest { name: "sources/virustotal".into(), ..Default::default() };
    server.sources().test_source(request).await.unwrap();
    server.enrich("192.0.2.3").await;
    assert_eq!(source.calls(), 6, "the test lifts it");
    server.stop().await;
}

#[tokio::test]
async fn warnings_stand_in_the_answer_to_a_change_and_premium_options_need_a_premium_key() {
    let source = Replay::start(Box::new(web)).await;
    let server = TestServer::start(&virustotal_at(source.address)).await;
    let change = |options: Value| {
        let fields = options.as_object().unwrap().iter().map(|(name, value)| {
            let kind = match value {
                Value::Bool(flag) => prost_types::value::Kind::BoolValue(*flag),
                Value::Number(number) => prost_types::value::Kind::NumberValue(number.as_f64().unwrap()),
                other => {
                    let text = |item: &Value| prost_types::Value {
                        kind: Some(prost_types::value::Kind::StringValue(item.as_str().unwrap().to_owned())),
                    };
                    let values = other.as_array().unwrap().iter().map(text).collect();
                    prost_types::value::Kind::ListValue(prost_types::ListValue { values })
                }
            };
            (name.clone(), prost_types::Value { kind: Some(kind) })
        });
        let options = Some(prost_types::Struct { fields: fields.collect() });
        let source = pb::Source { name: "sources/virustotal".into(), options, ..Default::default() };
        pb::ConfigureSourceRequest {
            source: Some(source),
            update_mask: Some(prost_types::FieldMask { paths: vec!["options".into()] }),
            ..Default::default()
        }
    };
    let options = json!({"preferred_vendors": ["Kasperski", "ESET-NOD32"], "preferred_threshold": 3});
    let changed = server.sources().configure_source(change(options)).await.unwrap().into_inner().source.unwrap();
    assert_eq!(changed.warnings.len(), 2, "{:?}", changed.warnings);
    assert!(changed.warnings[0].contains("can never be reached"), "{:?}", changed.warnings);
    assert!(changed.warnings[1].contains("did you mean Kaspersky"), "{:?}", changed.warnings);
    for options in [json!({"relationship_check": true}), json!({"relationships_ip": ["urls"]})] {
        let refused = server.sources().configure_source(change(options)).await.unwrap_err();
        assert!(refused.message().contains("premium"), "{}", refused.message());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_refused_key_is_not_asked_again_until_the_source_is_tested_and_never_looks_like_unknown() {
    let source = Replay::start(Box::new(|_| {
        (401, json!({"error": {"code": "WrongCredentialsError", "message": "Wrong API key"}}))
    }))
    .await;
    let server = TestServer::start(&virustotal_at(source.address)).await;
    for value in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        let answer = server.enrich(value).await;
        let pb::outcome::Result::Error(error) = answer.outcome("virustotal") else { panic!("{answer:?}") };
        assert_eq!(error.kind(), pb::SourceErrorKind::Unauthorized);
        assert!(answer.verdict.partial);
    }
    assert_eq!(source.calls(), 1, "it wastes calls");
    let request = pb::GetSourceRequest { name: "sources/virustotal".into() };
    let shown = server.sources().get_source(request).await.unwrap().into_inner().source.unwrap();
    assert_eq!(shown.state(), pb::SourceState::CredentialRefused);
    assert!(shown.state_detail.contains("WrongCredentialsError"), "{}", shown.state_detail);
    let request = pb::TestSourceRequest { name: "sources/virustotal".into(), ..Default::default() };
    server.sources().test_source(request).await.unwrap();
    assert_eq!(source.calls(), 2, "the test asks");
    // Another setting may be what its user changed for it.
    let count = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(7.0)) };
    let options = Some(prost_types::Struct { fields: [("malicious_threshold_ip".to_owned(), count)].into() });
    let changed = pb::Source { name: "sources/virustotal".into(), options, ..Default::default() };
    let request = pb::ConfigureSourceRequest { source: Some(changed), ..Default::default() };
    server.sources().configure_source(request).await.unwrap();
    server.enrich("192.0.2.4").await;
    assert_eq!(source.calls(), 3, "a change of the source asks");
    server.stop().await;
}

/// `web`, with a comment on everything and resolutions that are answered with this status.
fn web_with_details(resolutions: u16) -> impl Fn(&str) -> (u16, Value) + Send + Sync {
    move |path| match path {
        "comments" => (200, json!({"data": [{"type": "comment", "attributes": {"text": "seen as a c2"}}]})),
        "resolutions" if resolutions == 200 => (200, json!({"data": [{"attributes": {"ip_address": "192.0.2.7"}}]})),
        "resolutions" => (resolutions, json!({"error": {"code": "ForbiddenError"}})),
        path => web(path),
    }
}

/// One VirusTotal at this address that is asked for comments and resolutions.
fn detailed_at(source: &Replay) -> String {
    format!(
        "{}quota = {{ minute = 100 }}\noptions = {{ comments = true, resolutions = true }}\n",
        virustotal_at(source.address)
    )
}

/// Enriches with the facts in the answer.
async fn enrich_fully(server: &TestServer, value: &str) -> Enriched {
    let options = Some(pb::EnrichOptions { view: pb::View::Full.into(), ..Default::default() });
    server.enrich_as(pb::EnrichRequest { indicator: Some(indicator(value)), options }).await
}

pub fn finding(enriched: &Enriched) -> &pb::Finding {
    let pb::outcome::Result::Finding(finding) = enriched.outcome("virustotal") else { panic!("{enriched:?}") };
    finding
}

fn facts(finding: &pb::Finding) -> Vec<&str> {
    let names = finding.facts.iter().map(|fact| fact.name.as_str());
    names.filter(|name| ["comments", "resolutions"].contains(name)).collect()
}

#[tokio::test]
async fn details_cost_a_call_each_that_the_plan_shows_and_the_cache_keeps() {
    let source = Replay::start(Box::new(web_with_details(200))).await;
    let server = TestServer::start(&detailed_at(&source)).await;
    let request = pb::PlanEnrichmentRequest { indicator: Some(indicator("example.com")), ..Default::default() };
    let plan = server.enrichment().plan_enrichment(request).await.unwrap().into_inner();
    let Some(Action::Call(call)) = &plan.sources[0].action else { panic!("{plan:?}") };
    assert_eq!((call.units, call.max_units), (1, 3));
    let enriched = enrich_fully(&server, "example.com").await;
    assert_eq!(facts(finding(&enriched)), ["resolutions", "comments"]);
    assert_eq!((source.calls(), enriched.receipt.sources[0].units), (3, 3));
    enrich_fully(&server, "example.com").await;
    assert_eq!(source.calls(), 3);
    server.stop().await;
}

#[tokio::test]
async fn a_detail_that_fails_is_a_reason_and_one_that_is_refused_is_not_asked_for_again() {
    for (status, calls) in [(403, 3 + 2), (503, 3 + 3)] {
        let source = Replay::start(Box::new(web_with_details(status))).await;
        let server = TestServer::start(&detailed_at(&source)).await;
        server.clock.skip_sleeps(std::time::Duration::from_secs(1));
        for domain in ["example.com", "example.net", "example.com"] {
            let enriched = enrich_fully(&server, domain).await;
            let finding = finding(&enriched);
            assert_eq!(finding.claim(), pb::Disposition::Unknown);
            let reason = finding.reasons.last().unwrap();
            let why = if status == 403 { "refused this key" } else { "resolutions could not be read: HTTP status 503" };
            assert!(reason.contains(why), "{reason}");
            assert_eq!(facts(finding), ["comments"]);
        }
        assert_eq!(source.calls(), calls, "status {status}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_plan_counts_the_premium_check_and_every_detail_that_is_on() {
    let source = Replay::start(Box::new(web)).await;
    let details = "options = { comments = true, resolutions = true, behaviour = true }\n";
    let server = TestServer::start(&(premium_at(&source) + details)).await;
    let file = "a".repeat(64);
    // Files have no premium check; addresses and domains no behaviour, URLs no resolutions.
    for (value, most) in [("example.com", 6), ("192.0.2.1", 6), ("http://example.com/a", 5), (file.as_str(), 3)] {
        let request = pb::PlanEnrichmentRequest { indicator: Some(indicator(value)), options: None };
        let plan = server.enrichment().plan_enrichment(request).await.unwrap().into_inner();
        assert_eq!((plan.units, plan.max_units), (1, most), "{value}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_withheld_indicator_gets_what_is_cached_though_a_detail_was_switched_on_since() {
    let source = Replay::start(Box::new(web_with_details(200))).await;
    let server = TestServer::start(&virustotal_at(source.address)).await;
    server.enrich("example.com").await;
    let on = prost_types::Value { kind: Some(prost_types::value::Kind::BoolValue(true)) };
    let options = Some(prost_types::Struct { fields: [("comments".to_owned(), on)].into() });
    let changed = pb::Source { name: "sources/virustotal".into(), options, ..Default::default() };
    let request = pb::ConfigureSourceRequest { source: Some(changed), ..Default::default() };
    server.sources().configure_source(request).await.unwrap();
    let options = Some(pb::EnrichOptions { tlp: pb::Tlp::Red.into(), ..Default::default() });
    let request = pb::EnrichRequest { indicator: Some(indicator("example.com")), options };
    let withheld = server.enrich_as(request.clone()).await;
    let reason = finding(&withheld).reasons.last().unwrap();
    assert_eq!(reason, "comments could not be read: not asked, since only the cache was used");
    assert_eq!((source.calls(), withheld.receipt.sources[0].units), (1, 0));
    // Once it was asked for, the withheld one gets it too.
    assert_eq!(facts(finding(&enrich_fully(&server, "example.com").await)), ["comments"]);
    let withheld = server.enrich_as(request).await;
    assert!(!finding(&withheld).reasons.iter().any(|reason| reason.contains("not asked")), "{withheld:?}");
    assert_eq!(source.calls(), 2);
    server.stop().await;
}
