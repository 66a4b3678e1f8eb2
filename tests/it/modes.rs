//! The modes of an enrichment: complete, decisive and frugal.

use std::time::Duration;

use concord::clock::Clock;
use concord::pb;
use concord::pb::stream_enrich_response::Event;
use futures_util::StreamExt;

use crate::harness::{Enriched, Replay, TestServer, indicator, malicious_virustotal, report, violated, virustotal_at};

/// Four VirusTotal keys of these letters, each an opinion of its own, at one address.
fn sources(address: std::net::SocketAddr, letters: &[(&str, &str)]) -> String {
    let source = |(name, letter): &(&str, &str)| {
        let head = format!("[sources.{name}]\nreliability = \"{letter}\"");
        virustotal_at(address)
            .replace("[sources.virustotal]", &head)
            .replace("s3cret-credential", &format!("s3cret-credential-{name}"))
    };
    letters.iter().map(source).collect()
}

const LETTERS: [(&str, &str); 2] = [("first", "A+"), ("weightless", "F")];

fn options(mode: pb::EnrichMode) -> pb::EnrichOptions {
    pb::EnrichOptions { mode: mode.into(), ..Default::default() }
}

async fn enrich(server: &TestServer, value: &str, options: pb::EnrichOptions) -> Enriched {
    server.enrich_as(pb::EnrichRequest { indicator: Some(indicator(value)), options: Some(options) }).await
}

#[tokio::test]
async fn a_decisive_enrichment_leaves_out_who_cannot_change_the_verdict_and_says_so() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&sources(virustotal.address, &LETTERS)).await;
    let decisive = enrich(&server, "198.51.100.7", options(pb::EnrichMode::Decisive)).await;
    assert_eq!(virustotal.calls(), 1);
    assert_eq!(decisive.not_asked("weightless"), pb::NotAskedReason::VerdictSettled);
    let pb::outcome::Result::NotAsked(not_asked) = decisive.outcome("weightless") else { panic!() };
    assert_eq!(not_asked.detail, "no answer of it can change malicious");
    assert!(!decisive.verdict.partial, "it lacks nothing that was wanted");
    assert_eq!(decisive.receipt.units, 1);
    assert_eq!(decisive.receipt.saved, Some(pb::SavedUnits { cached: 0, shared: 0, settled: 1 }));
    server.stop().await;
}

#[tokio::test]
async fn a_complete_request_is_not_answered_by_a_decisive_verdict_and_a_decisive_one_by_a_complete() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&sources(virustotal.address, &LETTERS)).await;
    enrich(&server, "198.51.100.7", options(pb::EnrichMode::Decisive)).await;
    let again = enrich(&server, "198.51.100.7", options(pb::EnrichMode::Decisive)).await;
    assert!(again.receipt.verdict_from_cache);
    assert_eq!(again.receipt.saved, Some(pb::SavedUnits { cached: 1, shared: 0, settled: 1 }));
    let complete = server.enrich("198.51.100.7").await;
    assert!(!complete.receipt.verdict_from_cache);
    assert_eq!(virustotal.calls(), 2, "the one that was left out is asked now");
    assert_eq!(complete.receipt.saved, Some(pb::SavedUnits { cached: 1, shared: 0, settled: 0 }));
    server.enrich("198.51.100.8").await;
    let reused = enrich(&server, "198.51.100.8", options(pb::EnrichMode::Decisive)).await;
    assert!(reused.receipt.verdict_from_cache);
    server.stop().await;
}

#[tokio::test]
async fn enriching_one_asks_all_and_a_batch_asks_who_decides() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&sources(virustotal.address, &LETTERS)).await;
    server.enrich("198.51.100.7").await;
    assert_eq!(virustotal.calls(), 2);
    let request = pb::BatchEnrichRequest { indicators: vec![indicator("198.51.100.8")], options: None };
    let answers = server.enrichment().batch_enrich(request.clone()).await.unwrap().into_inner();
    assert_eq!(answers.count().await, 1);
    assert_eq!(virustotal.calls(), 3);
    let with_relations = pb::BatchEnrichRequest {
        indicators: vec![indicator("198.51.100.9")],
        options: Some(pb::EnrichOptions { relations: Some(Default::default()), ..Default::default() }),
    };
    let answers = server.enrichment().batch_enrich(with_relations).await.unwrap().into_inner();
    assert_eq!(answers.count().await, 1);
    assert_eq!(virustotal.calls(), 5, "who wants relations wants all that is known");
    server.stop().await;
}

#[tokio::test]
async fn a_frugal_enrichment_spends_its_budget_and_is_partial() {
    let virustotal = Replay::start(Box::new(|_| (404, serde_json::json!({})))).await;
    let letters = [("first", "B"), ("second", "C"), ("third", "D")];
    let server = TestServer::start(&sources(virustotal.address, &letters)).await;
    for (value, budget) in [("198.51.100.7", 0), ("198.51.100.8", 2)] {
        let before = virustotal.calls();
        let wanted = pb::EnrichOptions { budget: Some(budget), ..options(pb::EnrichMode::Frugal) };
        let frugal = enrich(&server, value, wanted).await;
        assert_eq!(u32::try_from(virustotal.calls() - before).unwrap(), budget);
        assert_eq!(frugal.receipt.units, budget);
        assert_eq!(frugal.not_asked("third"), pb::NotAskedReason::Budget);
        assert!(frugal.verdict.partial);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_failing_source_is_not_asked_again_at_the_expense_of_a_budget() {
    let down = Replay::start(Box::new(|_| (503, serde_json::json!({})))).await;
    let server = TestServer::start(&sources(down.address, &[("first", "B")])).await;
    server.clock.skip_sleeps(Duration::from_secs(2));
    let wanted = pb::EnrichOptions { budget: Some(1), ..options(pb::EnrichMode::Frugal) };
    let frugal = enrich(&server, "198.51.100.7", wanted).await;
    assert_eq!((down.calls(), frugal.receipt.units), (1, 1));
    let pb::outcome::Result::Error(_) = frugal.outcome("first") else { panic!("{frugal:?}") };
    server.stop().await;
}

#[tokio::test]
async fn a_source_whose_quota_is_spent_does_not_keep_a_verdict_from_being_settled() {
    let virustotal = malicious_virustotal().await;
    let spent = sources(virustotal.address, &[("weightless", "F")]) + "quota = { minute = 1 }\n";
    let server = TestServer::start(&(sources(virustotal.address, &[("first", "A+")]) + &spent)).await;
    server.enrich("198.51.100.7").await;
    let decisive = enrich(&server, "198.51.100.8", options(pb::EnrichMode::Decisive)).await;
    assert_eq!(decisive.not_asked("weightless"), pb::NotAskedReason::VerdictSettled);
    assert!(!decisive.verdict.partial);
    server.stop().await;
}

#[tokio::test]
async fn a_plan_shows_the_waves_and_asks_nobody() {
    let virustotal = malicious_virustotal().await;
    let letters = [("a", "A"), ("b", "B"), ("c", "B"), ("d", "C"), ("weightless", "F")];
    let server = TestServer::start(&sources(virustotal.address, &letters)).await;
    let plan = async |options: pb::EnrichOptions| {
        let request = pb::PlanEnrichmentRequest { indicator: Some(indicator("198.51.100.7")), options: Some(options) };
        server.enrichment().plan_enrichment(request).await.unwrap().into_inner()
    };
    let complete = plan(pb::EnrichOptions::default()).await;
    assert_eq!((complete.waves.len(), complete.units), (1, 5));
    let decisive = plan(options(pb::EnrichMode::Decisive)).await;
    let total: u32 = decisive.waves.iter().map(|wave| wave.units).sum();
    assert_eq!(decisive.units, decisive.waves[0].units, "the first wave may settle it");
    assert_eq!(decisive.max_units, total);
    let weightless = decisive.sources.iter().find(|source| source.source == "sources/weightless").unwrap();
    assert_eq!(weightless.wave, 0);
    let Some(pb::source_plan::Action::NotAsked(not_asked)) = &weightless.action else { panic!("{weightless:?}") };
    assert_eq!(not_asked.reason(), pb::NotAskedReason::VerdictSettled);
    let frugal = plan(pb::EnrichOptions { budget: Some(1), ..options(pb::EnrichMode::Frugal) }).await;
    assert_eq!((frugal.units, frugal.max_units), (1, 1));
    assert_eq!(virustotal.calls(), 0);
    server.stop().await;
}

#[tokio::test]
async fn the_stream_counts_who_is_not_asked_as_waiting_until_the_verdict_is_settled() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&sources(virustotal.address, &LETTERS)).await;
    let request = pb::StreamEnrichRequest {
        indicator: Some(indicator("198.51.100.7")),
        options: Some(options(pb::EnrichMode::Decisive)),
    };
    let stream = server.enrichment().stream_enrich(request).await.unwrap().into_inner();
    let events: Vec<_> = stream.map(|event| event.unwrap().event.unwrap()).collect().await;
    let waiting: Vec<_> = events
        .iter()
        .filter_map(|event| if let Event::Progress(progress) = event { Some(progress.waiting) } else { None })
        .collect();
    assert_eq!(waiting, [1, 0]);
    server.stop().await;
}

#[tokio::test]
async fn nobody_is_asked_about_a_pinned_indicator_unless_all_are() {
    let virustotal = Replay::start(Box::new(|_| (200, report(0, 0)))).await;
    let server = TestServer::start(&sources(virustotal.address, &LETTERS)).await;
    let pinned = pb::RecordFeedbackRequest {
        indicator: Some(indicator("198.51.100.7")),
        judgement: pb::Judgement::TruePositive.into(),
        author: "ana".into(),
        reason: "seen in an incident".into(),
        pin: true,
        expire_time: Some((server.clock.now() + Duration::from_secs(86_400)).into()),
        ..Default::default()
    };
    server.verdicts().record_feedback(pinned).await.unwrap();
    let decisive = enrich(&server, "198.51.100.7", options(pb::EnrichMode::Decisive)).await;
    assert_eq!((virustotal.calls(), decisive.verdict.disposition()), (0, pb::Disposition::Malicious));
    assert_eq!(decisive.not_asked("first"), pb::NotAskedReason::Pinned);
    assert_eq!(decisive.receipt.saved.map(|saved| saved.settled), Some(2));
    let start = "malicious: pinned by ana (caller local) until ";
    let end = " (\"seen in an incident\"); 2 sources were not asked since it is pinned: first, weightless";
    let summary = decisive.verdict.summary;
    assert!(summary.starts_with(start) && summary.ends_with(end), "{summary}");
    server.enrich("198.51.100.7").await;
    assert_eq!(virustotal.calls(), 2);
    server.stop().await;
}

#[tokio::test]
async fn modes_and_budgets_without_meaning_are_refused_by_name() {
    let server = TestServer::start("").await;
    let refused = async |mode: i32, budget: Option<u32>| {
        let options = pb::EnrichOptions { mode, budget, ..Default::default() };
        let request = pb::EnrichRequest { indicator: Some(indicator("198.51.100.7")), options: Some(options) };
        violated(&server.enrichment().enrich(request).await.unwrap_err())
    };
    let frugal = pb::EnrichMode::Frugal.into();
    assert_eq!(refused(9, None).await, ["options.mode"]);
    assert_eq!(refused(frugal, None).await, ["options.budget"]);
    assert_eq!(refused(frugal, Some(1001)).await, ["options.budget"]);
    assert_eq!(refused(0, Some(1)).await, ["options.budget"]);
    assert_eq!(refused(pb::EnrichMode::Decisive.into(), Some(1)).await, ["options.budget"]);
    server.stop().await;
}

#[tokio::test]
async fn a_source_that_hangs_keeps_no_more_of_a_budget_than_it_spends() {
    let nothing = || (404, serde_json::json!({ "error": { "code": "NotFoundError", "message": "none" } }));
    let held = Replay::held(Box::new(move |_| nothing())).await;
    let quick = Replay::start(Box::new(move |_| nothing())).await;
    let configuration = sources(held.address, &[("first", "A+")]) + &sources(quick.address, &[("second", "B")]);
    let server = TestServer::start(&configuration).await;
    // Each may ask for two pages more, which only the first is granted.
    let relations = pb::RelationOptions { max_calls: 2, ..Default::default() };
    let wanted = pb::EnrichOptions { budget: Some(3), relations: Some(relations), ..options(pb::EnrichMode::Frugal) };
    let passes = async {
        held.called(1).await;
        // Longer than a wave is waited for.
        server.clock.advance(Duration::from_secs(4));
        server.sources().list_sources(pb::ListSourcesRequest::default()).await.unwrap();
        held.release();
    };
    let (frugal, ()) = tokio::join!(enrich(&server, "198.51.100.7", wanted), passes);
    assert!(matches!(frugal.outcome("first"), pb::outcome::Result::NoRecord(_)), "{frugal:?}");
    assert!(matches!(frugal.outcome("second"), pb::outcome::Result::NoRecord(_)), "{frugal:?}");
    assert_eq!((held.calls(), quick.calls()), (1, 1));
    server.stop().await;
}
