//! Callers who ask for the same verdict at the same time.

use std::time::Duration;

use concord::pb;

use crate::harness::{Enriched, Replay, TestServer, indicator, malicious_virustotal, report, virustotal_at};

fn question() -> pb::EnrichRequest {
    pb::EnrichRequest { indicator: Some(indicator("198.51.100.7")), ..Default::default() }
}

/// Returns once the server has taken all calls that were made before on the same connection.
async fn all_have_arrived(server: &TestServer) {
    server.sources().list_sources(pb::ListSourcesRequest::default()).await.unwrap();
}

/// So many callers, who all wait before the source answers the first call.
async fn ask_at_once(server: &TestServer, source: &Replay, callers: usize) -> Vec<Enriched> {
    let calls = (0..callers).map(|_| server.enrich("198.51.100.7"));
    let answer = async {
        source.called(1).await;
        all_have_arrived(server).await;
        source.release();
    };
    tokio::join!(futures_util::future::join_all(calls), answer).0
}

#[tokio::test]
async fn a_hundred_concurrent_callers_cause_one_call_and_the_next_caller_none() {
    let virustotal = Replay::held(Box::new(|_| (200, report(60, 0)))).await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let answers = ask_at_once(&server, &virustotal, 100).await;
    assert_eq!(virustotal.calls(), 1);
    assert!(answers.iter().all(|one| one.verdict.disposition() == pb::Disposition::Malicious));
    let name = &answers[0].verdict.name;
    assert!(answers.iter().all(|one| one.verdict.name == *name));
    let stored = server.verdicts().list_verdicts(pb::ListVerdictsRequest::default()).await.unwrap().into_inner();
    assert_eq!(stored.verdicts.len(), 1, "one verdict is stored, which the others share");
    let shared = answers.iter().filter(|one| one.receipt.sources[0].shared && one.receipt.verdict_from_cache);
    assert_eq!(shared.count(), 99);
    let units: u32 = answers.iter().flat_map(|one| &one.receipt.sources).map(|source| source.units).sum();
    assert_eq!(units, 1, "one unit is paid, by one of the hundred");
    let next = server.enrich("198.51.100.7").await;
    assert!(next.receipt.verdict_from_cache);
    assert_eq!(virustotal.calls(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_caller_who_leaves_does_not_fail_those_who_wait_for_its_verdict() {
    let virustotal = Replay::held(Box::new(|_| (200, report(60, 0)))).await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let mut client = server.enrichment();
    {
        let first = client.enrich(question());
        tokio::pin!(first);
        tokio::select! {
            _ = &mut first => panic!("the source has not answered"),
            () = virustotal.called(1) => {}
        }
    }
    let waiting = (0..3).map(|_| server.enrich("198.51.100.7"));
    let answer = async {
        all_have_arrived(&server).await;
        virustotal.release();
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(waiting), answer);
    assert!(answers.iter().all(|one| one.verdict.disposition() == pb::Disposition::Malicious));
    assert_eq!(virustotal.calls(), 1, "the answer of a call that is made is for whoever waits");
    server.stop().await;
}

#[tokio::test]
async fn a_caller_with_less_time_than_the_one_it_waits_for_leaves_with_what_is_known() {
    let slow = Replay::held(Box::new(|_| (200, report(60, 0)))).await;
    let quick = malicious_virustotal().await;
    let second = virustotal_at(quick.address).replace("[sources.virustotal]", "[sources.quick]");
    let server = TestServer::start(&(virustotal_at(slow.address) + &second)).await;
    // What the quick one says is cached, so that it is there whenever the clock moves.
    let options = Some(pb::EnrichOptions { sources: vec!["sources/quick".into()], ..Default::default() });
    server.enrich_as(pb::EnrichRequest { options, ..question() }).await;
    let patient = server.enrich("198.51.100.7");
    let hasty = async {
        slow.called(1).await;
        let mut request = tonic::Request::new(question());
        request.set_timeout(Duration::from_secs(1));
        let mut client = server.enrichment();
        let hasty = client.enrich(request);
        let pass = async {
            all_have_arrived(&server).await;
            server.clock.advance(Duration::from_secs(1));
        };
        let (hasty, ()) = tokio::join!(hasty, pass);
        slow.release();
        hasty.unwrap().into_inner().decode_verdict().unwrap()
    };
    let (patient, hasty) = tokio::join!(patient, hasty);
    assert!(hasty.partial && !patient.verdict.partial);
    assert_eq!(hasty.disposition(), pb::Disposition::Malicious, "by what the quick one says");
    assert_ne!(hasty.name, patient.verdict.name);
    server.stop().await;
}

#[tokio::test]
async fn a_failed_call_is_not_made_again_for_those_who_waited_for_it() {
    let virustotal = Replay::held(Box::new(|_| (200, serde_json::json!("no report")))).await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let answers = ask_at_once(&server, &virustotal, 20).await;
    assert_eq!(virustotal.calls(), 1);
    let failed = |one: &Enriched| matches!(one.outcome("virustotal"), pb::outcome::Result::Error(_));
    assert!(answers.iter().all(|one| one.verdict.partial && failed(one)));
    server.enrich("198.51.100.7").await;
    assert_eq!(virustotal.calls(), 2, "a failure is not cached");
    server.stop().await;
}

#[tokio::test]
async fn each_caller_who_shares_a_call_is_recorded_with_what_was_disclosed() {
    let virustotal = Replay::held(Box::new(|_| (200, report(60, 0)))).await;
    let tokens = "[tokens]\nann = \"3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0\"\n\
                  bob = \"16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4\"\n";
    let server = TestServer::listen(&(tokens.to_owned() + &virustotal_at(virustotal.address))).await;
    let ask = async |token: &str| {
        let mut request = tonic::Request::new(question());
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        server.enrichment().enrich(request).await.unwrap();
    };
    let answer = async {
        virustotal.called(1).await;
        // Both calls are on one connection, whose frames the server reads in order.
        let mut request = tonic::Request::new(pb::ListSourcesRequest::default());
        request.metadata_mut().insert("authorization", "Bearer token".parse().unwrap());
        server.sources().list_sources(request).await.unwrap();
        virustotal.release();
    };
    tokio::join!(ask("token"), ask("second"), ask("second"), answer);
    assert_eq!(virustotal.calls(), 1);
    let mut request = tonic::Request::new(pb::ListDisclosuresRequest::default());
    request.metadata_mut().insert("authorization", "Bearer token".parse().unwrap());
    let disclosures = server.sources().list_disclosures(request).await.unwrap().into_inner().disclosures;
    let mut callers: Vec<_> = disclosures.iter().map(|disclosure| disclosure.caller.as_str()).collect();
    callers.sort_unstable();
    assert_eq!(callers, ["ann", "bob"]);
    server.stop().await;
}

#[tokio::test]
async fn who_has_more_time_does_not_get_a_failure_that_only_lack_of_time_left_without_a_retry() {
    let virustotal = Replay::held(Box::new(|_| (503, serde_json::json!("busy")))).await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let mut client = server.enrichment();
    let hasty = async {
        let mut request = tonic::Request::new(question());
        request.set_timeout(Duration::from_millis(190));
        client.enrich(request).await.unwrap();
    };
    let patient = async {
        virustotal.called(1).await;
        let patient = server.enrich("198.51.100.7");
        let answer = async {
            all_have_arrived(&server).await;
            virustotal.release_one();
            // The one with little time does not try again; the other asks anew.
            virustotal.called(2).await;
            server.clock.skip_sleeps(Duration::from_secs(1));
            virustotal.release();
        };
        tokio::join!(patient, answer).0
    };
    let ((), patient) = tokio::join!(hasty, patient);
    assert!(virustotal.calls() >= 3, "it is tried again");
    assert!(patient.verdict.partial);
    server.stop().await;
}
