use std::time::Duration;

use concord::pb;
use concord::pb::stream_enrich_response::Event;
use serde_json::json;
use tokio_stream::StreamExt;

use crate::harness::{
    DEADLINE, Replay, TestServer, indicator, malicious_virustotal, report, start_time, virustotal_at, with_deadline,
};

#[tokio::test]
async fn a_lone_virustotal_with_sixty_engines_is_malicious_for_each_of_the_four_types() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let hash = "d41d8cd98f00b204e9800998ecf8427e";
    for value in ["198.51.100.7", "evil.example.com", "http://evil.example.com/a", hash] {
        let enriched = server.enrich(value).await;
        assert_eq!(enriched.verdict.disposition(), pb::Disposition::Malicious, "{value}: {}", enriched.verdict.summary);
        assert_eq!(enriched.verdict.dbot_score, 3);
    }
    server.stop().await;
}

#[tokio::test]
async fn contributions_add_up_exactly_to_the_log_odds() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let verdict = server.enrich("198.51.100.7").await.verdict;
    let sum: i64 = verdict.contributions.iter().map(|one| one.micro_nats).sum();
    assert_eq!(Some(sum), verdict.log_odds_micro_nats);
    assert!(verdict.contributions.iter().all(|one| !one.sentence.is_empty()));
    server.stop().await;
}

#[tokio::test]
async fn not_found_is_unknown_and_never_benign() {
    let nothing = Replay::start(Box::new(|_| (404, json!({ "error": { "code": "NotFoundError" } })))).await;
    let server = TestServer::start(&virustotal_at(nothing.address)).await;
    let enriched = server.enrich("198.51.100.7").await;
    assert_eq!(enriched.verdict.disposition(), pb::Disposition::Unknown);
    assert!(matches!(enriched.outcome("virustotal"), pb::outcome::Result::NoRecord(_)));
    assert!(!enriched.verdict.partial);
    server.stop().await;
}

#[tokio::test]
async fn every_fault_of_a_source_is_an_outcome_and_the_others_verdict_stands() {
    use pb::SourceErrorKind as Kind;
    let faults: [(u16, serde_json::Value, Kind); 6] = [
        (200, json!("{\"data\": {\"attributes\""), Kind::Malformed),
        (200, json!("<html><body>Service page</body></html>"), Kind::Malformed),
        (200, json!(""), Kind::Malformed),
        (200, json!({ "data": { "attributes": { "last_analysis_stats": { "malicious": "many" } } } }), Kind::Malformed),
        (401, json!({ "error": { "code": "WrongCredentialsError" } }), Kind::Unauthorized),
        (500, json!("oops"), Kind::Unavailable),
    ];
    for (status, body, kind) in faults {
        let answer = body.clone();
        let broken = Replay::start(Box::new(move |_| (status, answer.clone()))).await;
        let good = malicious_virustotal().await;
        let second = virustotal_at(good.address).replace("[sources.virustotal]", "[sources.second]");
        let server = TestServer::start(&(virustotal_at(broken.address) + &second)).await;
        server.clock.skip_sleeps(Duration::from_secs(1));
        let enriched = server.enrich("198.51.100.7").await;
        let pb::outcome::Result::Error(error) = enriched.outcome("virustotal") else { panic!("{body}: no error") };
        assert_eq!(error.kind(), kind, "{body}");
        assert_eq!(enriched.verdict.disposition(), pb::Disposition::Malicious, "{body}");
        assert!(enriched.verdict.partial, "{body}");
        server.stop().await;
    }
}

#[tokio::test]
async fn the_answer_comes_before_the_deadline_with_what_is_there_by_then() {
    let slow = Replay::held(Box::new(|_| (200, report(60, 0)))).await;
    let quick = malicious_virustotal().await;
    let second = virustotal_at(quick.address).replace("[sources.virustotal]", "[sources.quick]");
    let server = TestServer::start(&(virustotal_at(slow.address) + &second)).await;
    let request = pb::StreamEnrichRequest { indicator: Some(indicator("198.51.100.7")), ..Default::default() };
    let mut stream = server.enrichment().stream_enrich(with_deadline(request)).await.unwrap().into_inner();
    let Some(Event::Progress(first)) = stream.message().await.unwrap().unwrap().event else { panic!("no progress") };
    assert_eq!(first.outcome.unwrap().source, "sources/quick");
    server.pass_when_called(&slow, 1, DEADLINE).await;
    let events: Vec<_> = stream.map(|event| event.unwrap().event.unwrap()).collect().await;
    let Some(Event::Final(streamed)) = events.last().cloned() else { panic!("{events:?}") };

    // Another indicator, or the call that is still under way might be shared.
    let request = pb::EnrichRequest { indicator: Some(indicator("198.51.100.8")), ..Default::default() };
    // What the quick one says of it is cached, so that it is there whenever the clock moves.
    let options = Some(pb::EnrichOptions { sources: vec!["sources/quick".into()], ..Default::default() });
    server.enrich_as(pb::EnrichRequest { options, ..request.clone() }).await;
    let mut client = server.enrichment();
    let alone = client.enrich(with_deadline(request));
    let (alone, ()) = tokio::join!(alone, server.pass_when_called(&slow, 2, DEADLINE));
    for answer in [streamed, alone.unwrap().into_inner()] {
        let verdict = answer.decode_verdict().unwrap();
        assert!(verdict.partial);
        assert_eq!(verdict.disposition(), pb::Disposition::Malicious);
        let late = verdict.outcomes.iter().find(|one| one.source == "sources/virustotal").unwrap();
        let Some(pb::outcome::Result::Error(error)) = &late.result else { panic!("{late:?}") };
        assert_eq!(error.kind(), pb::SourceErrorKind::Timeout);
    }
    slow.release();
    server.stop().await;
}

#[tokio::test]
async fn a_cached_verdict_is_the_same_bytes_and_the_same_name() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let request = pb::EnrichRequest { indicator: Some(indicator("198.51.100.7")), ..Default::default() };
    let first = server.enrichment().enrich(request.clone()).await.unwrap().into_inner();
    let second = server.enrichment().enrich(request).await.unwrap().into_inner();
    assert_eq!(first.verdict, second.verdict);
    assert!(!first.decode_verdict().unwrap().name.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn max_age_zero_asks_anew() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let anew = pb::EnrichRequest {
        indicator: Some(indicator("198.51.100.7")),
        options: Some(pb::EnrichOptions {
            max_age: Some(prost_types::Duration { seconds: 0, nanos: 0 }),
            ..Default::default()
        }),
    };
    server.enrich("198.51.100.7").await;
    server.enrich_as(anew).await;
    assert_eq!(virustotal.calls(), 2);
    server.stop().await;
}

#[tokio::test]
async fn cached_answers_expire() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    server.enrich("198.51.100.7").await;
    server.clock.advance(Duration::from_secs(23 * 3600));
    let kept = server.enrich("198.51.100.7").await;
    assert!(kept.receipt.sources[0].from_cache);
    assert_eq!(virustotal.calls(), 1);
    server.clock.advance(Duration::from_secs(2 * 3600));
    server.enrich("198.51.100.7").await;
    assert_eq!(virustotal.calls(), 2);
    server.stop().await;
}

#[tokio::test]
async fn the_stream_sends_each_outcome_and_ends_with_the_answer() {
    let virustotal = malicious_virustotal().await;
    let second = virustotal_at(virustotal.address).replace("[sources.virustotal]", "[sources.second]");
    let server = TestServer::start(&(virustotal_at(virustotal.address) + &second)).await;
    let request = pb::StreamEnrichRequest { indicator: Some(indicator("198.51.100.7")), ..Default::default() };
    let stream = server.enrichment().stream_enrich(request).await.unwrap().into_inner();
    let events: Vec<_> = stream.map(|event| event.unwrap().event.unwrap()).collect().await;
    assert_eq!(events.len(), 3);
    let Event::Progress(first) = &events[0] else { panic!("{:?}", events[0]) };
    assert_eq!(first.waiting, 1);
    assert_eq!(first.verdict_so_far.as_ref().unwrap().disposition(), pb::Disposition::Malicious);
    // The other key of the same service is the same opinion: it can only contradict.
    let reach = first.reach.as_ref().unwrap();
    assert_eq!((reach.can_change, first.final_early), (true, false));
    assert_eq!(reach.sources.len(), 1);
    assert!(reach.sentence.ends_with(" could still change it."), "{}", reach.sentence);
    let Event::Progress(second) = &events[1] else { panic!("{:?}", events[1]) };
    assert_eq!((second.waiting, second.final_early), (0, false), "nobody is awaited");
    assert!(!second.reach.as_ref().unwrap().can_change);
    let Event::Final(last) = &events[2] else { panic!("{:?}", events[2]) };
    assert_eq!(last.decode_verdict().unwrap().outcomes.len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn the_stream_says_when_no_answer_can_change_the_verdict_any_more() {
    let quick = malicious_virustotal().await;
    let slow = Replay::held(Box::new(|_| (200, report(0, 0)))).await;
    // What cannot be judged weighs nothing, whatever it says.
    let other = virustotal_at(slow.address).replace("[sources.virustotal]", "[sources.other]\nreliability = \"F\"");
    let server = TestServer::start(&(virustotal_at(quick.address) + &other)).await;
    let request = pb::StreamEnrichRequest { indicator: Some(indicator("198.51.100.7")), ..Default::default() };
    let mut stream = server.enrichment().stream_enrich(with_deadline(request)).await.unwrap().into_inner();
    let Some(Event::Progress(first)) = stream.message().await.unwrap().unwrap().event else { panic!("no progress") };
    assert_eq!((first.waiting, first.final_early), (1, true));
    let sentence = "No answer still to come can change it: it stays malicious.".to_owned();
    assert_eq!(first.reach, Some(pb::Reach { sentence, ..Default::default() }));
    let so_far = first.verdict_so_far.unwrap();
    assert_eq!(so_far.reach, None, "only of the sources that are awaited");
    // In so many days the claim would have lost its weight.
    server.clock.set_wall(start_time() + Duration::from_secs(4000 * 86_400));
    slow.release();
    let events: Vec<_> = stream.map(|event| event.unwrap().event.unwrap()).collect().await;
    let Some(Event::Final(last)) = events.last() else { panic!("{events:?}") };
    let verdict = last.decode_verdict().unwrap();
    assert_eq!((verdict.disposition(), verdict.judged_time), (so_far.disposition(), so_far.judged_time));
    server.stop().await;
}

#[tokio::test]
async fn other_policies_judge_the_same_outcomes_beside_the_verdict() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let policies = ["mean", "worst", "xsoar", "weighted"].map(|name| format!("policies/{name}"));
    let options = pb::EnrichOptions { compare_policies: policies.clone().into(), ..Default::default() };
    let request = pb::EnrichRequest { indicator: Some(indicator("198.51.100.7")), options: Some(options) };
    let mut client = server.enrichment();
    for calls in [1, 1] {
        let answer = client.enrich(request.clone()).await.unwrap().into_inner();
        let names: Vec<_> = answer.comparisons.iter().map(|other| other.policy.clone()).collect();
        assert_eq!(names, policies);
        for other in &answer.comparisons {
            assert_eq!(other.disposition(), pb::Disposition::Malicious, "{other:?}");
            assert!(other.agrees && !other.sentence.is_empty());
        }
        assert_eq!(answer.comparisons[0].mean, Some(1.0));
        assert_eq!(answer.comparisons[1].deciding_source, "sources/virustotal");
        assert_eq!(answer.comparisons[3].probability, answer.decode_verdict().unwrap().probability);
        assert_eq!(virustotal.calls(), calls, "comparing costs no call");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_xsoar_policy_names_the_source_that_decides_and_has_no_probability() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let request = pb::EnrichRequest {
        indicator: Some(indicator("198.51.100.7")),
        options: Some(pb::EnrichOptions { policy: "policies/xsoar".into(), ..Default::default() }),
    };
    let verdict = server.enrich_as(request).await.verdict;
    assert_eq!(verdict.deciding_source, "sources/virustotal");
    assert_eq!(verdict.probability, None);
    assert!(verdict.contributions.is_empty());
    assert_eq!(verdict.dbot_score, 3);
    server.stop().await;
}

#[tokio::test]
async fn the_raw_view_shows_the_answer_that_was_just_paid_for_also_before_it_is_stored() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&(virustotal_at(virustotal.address) + "quota = {}\n")).await;
    for last in 1..=20 {
        let indicator = Some(indicator(&format!("198.51.100.{last}")));
        let request = pb::EnrichRequest {
            indicator,
            options: Some(pb::EnrichOptions { view: pb::View::Raw.into(), ..Default::default() }),
        };
        let enriched = server.enrich_as(request).await;
        let pb::outcome::Result::Finding(finding) = enriched.outcome("virustotal") else { panic!("{enriched:?}") };
        assert_eq!(finding.raw.len(), 1, "{last}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_full_view_shows_facts_and_the_raw_view_the_answer_itself() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let finding_in = |view: pb::View| {
        let request = pb::EnrichRequest {
            indicator: Some(indicator("198.51.100.7")),
            options: Some(pb::EnrichOptions { view: view.into(), ..Default::default() }),
        };
        async {
            let enriched = server.enrich_as(request).await;
            match enriched.outcome("virustotal") {
                pb::outcome::Result::Finding(finding) => finding.clone(),
                other => panic!("{other:?}"),
            }
        }
    };
    let basic = finding_in(pb::View::Basic).await;
    assert!(basic.facts.is_empty() && basic.raw.is_empty() && !basic.reasons.is_empty());
    let full = finding_in(pb::View::Full).await;
    assert!(!full.facts.is_empty() && full.raw.is_empty());
    let raw = finding_in(pb::View::Raw).await;
    assert!(raw.raw[0].contains("last_analysis_stats"));
    server.stop().await;
}

#[tokio::test]
async fn the_xsoar_policy_judges_by_what_that_integration_computes_from_the_same_answer() {
    // Four engines object: no evidence here, and good there.
    let source = Replay::start(Box::new(|_| (200, report(4, 0)))).await;
    let server = TestServer::start(&virustotal_at(source.address)).await;
    let weighted = server.enrich("192.0.2.1").await.verdict;
    assert_eq!(weighted.disposition(), pb::Disposition::Unknown);
    let options = pb::EnrichOptions { policy: "policies/xsoar".into(), ..Default::default() };
    let request = pb::EnrichRequest { indicator: Some(indicator("192.0.2.1")), options: Some(options) };
    let as_there = server.enrich_as(request).await;
    assert_eq!(as_there.verdict.disposition(), pb::Disposition::Benign);
    assert_eq!(as_there.verdict.deciding_source, "sources/virustotal");
    assert_eq!(as_there.verdict.summary, "benign: virustotal (B) decides; 1 of 1 source says benign: virustotal (B)");
    let pb::outcome::Result::Finding(finding) = as_there.outcome("virustotal") else { panic!("{as_there:?}") };
    assert_eq!(finding.claim(), pb::Disposition::Unknown);
    let there = finding.xsoar.as_ref().expect("what that integration computes");
    assert_eq!(
        (there.claim(), there.reason.as_str()),
        (pb::Disposition::Benign, "4 engines malicious or suspicious (threshold 5)")
    );
    assert_eq!(source.calls(), 1);
    server.stop().await;
}
