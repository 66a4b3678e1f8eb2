//! What a walk along relations pays for, and what it does not.

use concord::pb;
use serde_json::{Value, json};

use crate::harness::{Replay, TestServer, indicator, report, virustotal_at};
use crate::relations::{checked, edges, finding, graph, premium_at, related, values, wanted, web};

/// Descriptors of so many files, the first with this number.
fn files(first: usize, count: usize) -> Value {
    let file = |number: usize| json!({"type": "file", "id": format!("{number:064x}")});
    (first..first + count).map(file).collect()
}

/// A report with so many communicating files and a further page, whose pages have 40 each and never end.
fn endless(count: usize) -> crate::harness::Answers {
    Box::new(move |path| match path {
        "communicating_files" => (200, json!({"data": files(1_000, 40), "meta": {"cursor": "more"}})),
        "192.0.2.1" => {
            let mut body = report(0, 0);
            let further = json!({"data": files(0, count), "meta": {"cursor": "next"}});
            body["data"]["relationships"] = json!({"communicating_files": further});
            (200, body)
        }
        _ => related(0, &[]),
    })
}

#[tokio::test]
async fn a_walk_asks_only_about_indicators_that_a_wanted_relationship_leads_on_from() {
    let source = Replay::start(Box::new(web)).await;
    let server = TestServer::start(&virustotal_at(source.address)).await;
    let graph = graph(&server, "example.com", wanted(&["communicating_files", "contacted_ips"], 20, 3)).await;
    assert_eq!(
        edges(&graph),
        [
            "exa communicated-by aaa",
            "exa communicated-by bbb",
            "aaa communicates-with 10.",
            "aaa communicates-with 203"
        ]
    );
    // Addresses have communicating files, too.
    assert_eq!((source.calls(), graph.calls), (4, 3), "{:?}", source.paths());
    // The walk has paid for the report on this file.
    let graph = self::graph(&server, &"a".repeat(64), wanted(&["contacted_ips"], 20, 3)).await;
    assert_eq!((edges(&graph).len(), source.calls(), graph.calls), (2, 4, 0), "{:?}", source.paths());
    server.stop().await;
}

#[tokio::test]
async fn a_walk_that_cannot_begin_is_refused() {
    let source = Replay::start(Box::new(web)).await;
    let server = TestServer::start(&virustotal_at(source.address)).await;
    let request =
        pb::EnrichRequest { indicator: Some(indicator("example.com")), options: wanted(&["contacted_ips"], 20, 2) };
    let refused = server.enrichment().enrich(request).await.unwrap_err();
    assert!(refused.message().contains("options.relations.names: no walk begins with any of them"), "{refused:?}");
    assert_eq!(source.calls(), 0);
    server.stop().await;
}

#[tokio::test]
async fn pages_that_a_finding_cannot_hold_are_not_paid_for() {
    let source = Replay::start(endless(240)).await;
    let server = TestServer::start(&virustotal_at(source.address)).await;
    let graph = graph(&server, "192.0.2.1", wanted(&[], 10, 1)).await;
    assert_eq!(source.calls(), 2, "the report and one page");
    assert_eq!(values(&graph).len(), 1 + 256);
    assert!(graph.notes.iter().any(|note| note.contains("256")), "{:?}", graph.notes);
    server.stop().await;
}

#[tokio::test]
async fn a_walk_keeps_half_of_its_calls_from_further_pages() {
    let source = Replay::start(endless(40)).await;
    let server = TestServer::start(&(virustotal_at(source.address) + "quota = { minute = 100 }\n")).await;
    let graph = graph(&server, "192.0.2.1", wanted(&[], 6, 2)).await;
    let pages = source.paths().iter().filter(|path| path.ends_with("/relationships/communicating_files")).count();
    assert_eq!((pages, source.calls(), graph.calls), (3, 1 + 6, 3), "{:?}", source.paths());
    server.stop().await;
}

#[tokio::test]
async fn the_premium_check_is_no_call_of_a_walk_and_a_related_indicator_takes_one() {
    let source = Replay::start(Box::new(|path| match path {
        "example.com" => related(0, &[("subdomains", &[("domain", "www.example.com")])]),
        "www.example.com" => related(60, &[]),
        _ => (200, json!({"data": []})),
    }))
    .await;
    let server = TestServer::start(&premium_at(&source)).await;
    let graph = graph(&server, "example.com", wanted(&[], 1, 2)).await;
    assert_eq!((source.calls(), graph.calls), (4 + 1, 1), "{:?}", graph.notes);
    let node = &graph.nodes[1];
    assert_eq!((node.disposition(), node.verdict.as_str()), (pb::Disposition::Malicious, ""));
    server.stop().await;
}

#[tokio::test]
async fn what_a_walk_paid_is_not_paid_again_by_a_look_up_of_the_related_indicator() {
    let none = &[("downloaded_files", &[] as &[u64]), ("communicating_files", &[]), ("referrer_files", &[])];
    let related_files = checked(0, none);
    let source = Replay::start(Box::new(move |path| match path {
        "example.com" => related(0, &[("subdomains", &[("domain", "www.example.com")])]),
        path => related_files(path),
    }))
    .await;
    let server = TestServer::start(&premium_at(&source)).await;
    graph(&server, "example.com", wanted(&[], 1, 2)).await;
    let before = source.calls();
    let enriched = server.enrich("www.example.com").await;
    assert_eq!(source.calls() - before, 3, "its related files, and not its report: {:?}", source.paths());
    assert_eq!(enriched.receipt.sources[0].units, 3);
    server.stop().await;
}

#[tokio::test]
async fn more_pages_of_the_same_report_cost_only_the_pages() {
    let source = Replay::start(endless(40)).await;
    let server = TestServer::start(&(virustotal_at(source.address) + "quota = { minute = 100 }\n")).await;
    server.enrich("192.0.2.1").await;
    graph(&server, "192.0.2.1", wanted(&[], 2, 1)).await;
    assert_eq!(source.calls(), 1 + 2, "{:?}", source.paths());
    server.stop().await;
    // Likewise the other way round.
    let source = Replay::start(endless(40)).await;
    let server = TestServer::start(&(virustotal_at(source.address) + "quota = { minute = 100 }\n")).await;
    graph(&server, "192.0.2.1", wanted(&[], 2, 1)).await;
    server.enrich("192.0.2.1").await;
    assert_eq!(source.calls(), 1 + 2, "{:?}", source.paths());
    server.stop().await;
}

#[tokio::test]
async fn what_a_refused_question_left_out_is_asked_once_the_source_was_tested() {
    let (is_premium, answers) = (std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)), report(5, 0));
    let shown = is_premium.clone();
    let source = Replay::start(Box::new(move |path| match path {
        "downloaded_files" if !shown.load(std::sync::atomic::Ordering::SeqCst) => {
            (403, json!({"error": {"code": "ForbiddenError", "message": "no"}}))
        }
        "downloaded_files" => {
            let file = json!({"type": "file", "attributes": report(20, 0)["data"]["attributes"]});
            (200, json!({"data": [file, file, file]}))
        }
        _ => (200, answers.clone()),
    }))
    .await;
    let server = TestServer::start(&premium_at(&source)).await;
    for _ in 0..2 {
        let refused = server.enrich("192.0.2.1").await;
        assert_eq!(finding(&refused).claim(), pb::Disposition::Suspicious);
        assert_eq!(source.calls(), 2, "the report, and one that is refused");
    }
    is_premium.store(true, std::sync::atomic::Ordering::SeqCst);
    let request = pb::TestSourceRequest { name: "sources/virustotal".into(), ..Default::default() };
    server.sources().test_source(request).await.unwrap();
    let before = source.calls();
    let checked = server.enrich("192.0.2.1").await;
    assert_eq!(finding(&checked).claim(), pb::Disposition::Malicious);
    assert_eq!((source.calls() - before, checked.receipt.sources[0].units), (1, 1), "{:?}", source.paths());
    server.stop().await;
}

/// A VirusTotal at this address that allows many calls.
fn ample(source: &Replay) -> String {
    virustotal_at(source.address) + "quota = { minute = 100 }\n"
}

#[tokio::test]
async fn only_pages_of_the_wanted_relationships_are_paid_for_and_they_come_first() {
    let source = Replay::start(Box::new(|path| match path {
        "communicating_files" | "referrer_files" => {
            (200, json!({"data": files(1_000, 40), "meta": {"cursor": "more"}}))
        }
        _ => {
            let mut body = report(0, 0);
            let further = |first: usize| json!({"data": files(first, 40), "meta": {"cursor": "next"}});
            body["data"]["relationships"] = json!({"communicating_files": further(0), "referrer_files": further(500)});
            (200, body)
        }
    }))
    .await;
    let server = TestServer::start(&ample(&source)).await;
    graph(&server, "192.0.2.1", wanted(&["referrer_files"], 3, 1)).await;
    let pages = source.paths().iter().filter(|path| path.ends_with("/relationships/referrer_files")).count();
    assert_eq!((pages, source.calls()), (3, 4), "{:?}", source.paths());
    server.stop().await;
}

#[tokio::test]
async fn two_sources_share_the_calls_for_pages() {
    let (first, second) = (Replay::start(endless(40)).await, Replay::start(endless(40)).await);
    let another = ample(&second).replace("[sources.virustotal]", "[sources.another]");
    let server = TestServer::start(&(ample(&first) + &another)).await;
    graph(&server, "192.0.2.1", wanted(&[], 4, 1)).await;
    assert_eq!((first.calls(), second.calls()), (1 + 2, 1 + 2));
    server.stop().await;
}

#[tokio::test]
async fn what_was_paid_for_a_graph_serves_for_as_long_as_the_report_and_every_other_number_of_pages() {
    let source = Replay::start(endless(40)).await;
    let server = TestServer::start(&ample(&source)).await;
    let hours = |hours: u64| server.clock.advance(std::time::Duration::from_secs(3_600 * hours));
    graph(&server, "192.0.2.1", wanted(&[], 2, 1)).await;
    hours(3);
    server.enrich("192.0.2.1").await;
    assert_eq!(source.calls(), 1 + 2, "{:?}", source.paths());
    graph(&server, "192.0.2.1", wanted(&[], 4, 1)).await;
    assert_eq!(source.calls(), 1 + 4, "two more pages: {:?}", source.paths());
    // After its time, the report is paid once for both.
    hours(22);
    server.enrich("192.0.2.1").await;
    assert_eq!(source.calls(), 5 + 1, "{:?}", source.paths());
    graph(&server, "192.0.2.1", wanted(&[], 1, 1)).await;
    assert_eq!(source.calls(), 6 + 1, "{:?}", source.paths());
    server.stop().await;
}

#[tokio::test]
async fn a_related_indicator_that_the_tier_cannot_lead_on_from_is_not_asked_about() {
    let source = Replay::start(Box::new(web)).await;
    let server = TestServer::start(&ample(&source)).await;
    let graph = graph(&server, "example.com", wanted(&["communicating_files", "similar_files"], 20, 3)).await;
    assert_eq!((edges(&graph).len(), source.calls(), graph.calls), (2, 1, 0), "{:?}", source.paths());
    server.stop().await;
}
