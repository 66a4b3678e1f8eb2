use std::collections::BTreeSet;

use concord::pb;
use concord::pb::batch_enrich_response::Result as Wire;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tempfile::TempDir;
use tokio_stream::StreamExt;

use crate::harness::{
    DEADLINE, Replay, TestServer, indicator, malicious_virustotal, report, virustotal_at, with_deadline,
};

async fn batch(server: &TestServer, values: &[&str]) -> Vec<pb::BatchEnrichResponse> {
    let request = pb::BatchEnrichRequest {
        indicators: values.iter().map(|value| indicator(value)).collect(),
        ..Default::default()
    };
    let stream = server.enrichment().batch_enrich(request).await.unwrap().into_inner();
    let mut answers: Vec<_> = stream.map(Result::unwrap).collect().await;
    answers.sort_by_key(|answer| answer.index);
    answers
}

#[tokio::test]
async fn a_bad_indicator_does_not_fail_the_rest_and_every_position_is_answered_once() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let answers = batch(&server, &["198.51.100.7", "not an indicator", "198.51.100.8"]).await;
    let places: Vec<_> = answers.iter().map(|answer| answer.index).collect();
    assert_eq!(places, [0, 1, 2]);
    let Some(Wire::Error(error)) = &answers[1].result else { panic!("{:?}", answers[1]) };
    assert_eq!((error.field.as_str(), error.reason.as_str()), ("indicators[1].value", "INDICATOR_INVALID"));
    for good in [&answers[0], &answers[2]] {
        let Some(Wire::Answer(answer)) = &good.result else { panic!("{good:?}") };
        assert_eq!(answer.decode_verdict().unwrap().disposition(), pb::Disposition::Malicious);
    }
    server.stop().await;
}

#[tokio::test]
async fn duplicates_are_asked_once_and_answered_each_with_their_own_text() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let answers = batch(&server, &["198.51.100.7", "198.51.100[.]7", " 198.51.100.7 "]).await;
    assert_eq!(answers.len(), 3);
    assert_eq!(virustotal.calls(), 1);
    let receipts: Vec<_> = answers
        .iter()
        .map(|answer| match &answer.result {
            Some(Wire::Answer(answer)) => answer.decode_receipt().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(receipts[1].text, "198.51.100[.]7");
    assert_eq!(receipts.iter().map(|receipt| receipt.sources[0].units).sum::<u32>(), 1);
    server.stop().await;
}

#[tokio::test]
async fn an_empty_and_an_oversized_batch_are_refused_whole() {
    let server = TestServer::start("").await;
    let empty = server.enrichment().batch_enrich(pb::BatchEnrichRequest::default()).await.unwrap_err();
    assert!(empty.message().contains("at least one indicator"), "{}", empty.message());
    let many = pb::BatchEnrichRequest { indicators: vec![indicator("198.51.100.7"); 1001], ..Default::default() };
    let refused = server.enrichment().batch_enrich(many).await.unwrap_err();
    assert!(refused.message().contains("1001 indicators; at most 1000"), "{}", refused.message());
    server.stop().await;
}

#[tokio::test]
async fn a_batch_ends_before_its_deadline_and_answers_every_position() {
    let hung = Replay::held(Box::new(|_| (200, report(60, 0)))).await;
    let server = TestServer::start(&(virustotal_at(hung.address) + "quota = { minute = 1000 }\n")).await;
    let values: Vec<_> = (0..60).map(|n| indicator(&format!("198.51.100.{n}"))).collect();
    let request = pb::BatchEnrichRequest { indicators: values, ..Default::default() };
    let stream = server.enrichment().batch_enrich(with_deadline(request)).await.unwrap().into_inner();
    let answers = stream.collect::<Vec<_>>();
    let (answers, ()) = tokio::join!(answers, server.pass_when_called(&hung, 1, DEADLINE));
    assert_eq!(answers.len(), 60);
    for answer in answers {
        let Some(Wire::Answer(answer)) = answer.unwrap().result else { panic!("an indicator has no verdict") };
        let verdict = answer.decode_verdict().unwrap();
        assert!(verdict.partial);
        assert_eq!(verdict.disposition(), pb::Disposition::Unknown);
    }
    hung.release();
    server.stop().await;
}

#[tokio::test]
async fn nothing_further_starts_after_the_caller_disconnects() {
    let slow = Replay::held(Box::new(|_| (200, report(60, 0)))).await;
    let server = TestServer::start(&(virustotal_at(slow.address) + "quota = { minute = 1000 }\n")).await;
    let indicators = (0..200).map(|n| indicator(&format!("198.51.100.{n}"))).collect();
    let request = pb::BatchEnrichRequest { indicators, ..Default::default() };
    let mut stream = server.enrichment().batch_enrich(request).await.unwrap().into_inner();
    slow.release_one();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    // The server reads frames in order: when it answers this, it knows that the stream is gone.
    server.sources().list_sources(pb::ListSourcesRequest::default()).await.unwrap();
    slow.release();
    // A stop waits for what is under way; if all were to be asked, it would be two hundred.
    server.stop().await;
    assert!(slow.calls() < 100, "{} calls", slow.calls());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_indicators_of_a_batch_get_the_quota_that_is_left() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let values: Vec<String> = (1..=40).map(|last| format!("198.51.100.{last}")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let dispositions: Vec<pb::Disposition> = batch(&server, &values)
        .await
        .into_iter()
        .map(|answer| match answer.result.unwrap() {
            Wire::Answer(answer) => answer.decode_verdict().unwrap().disposition(),
            Wire::Error(error) => panic!("{error:?}"),
        })
        .collect();
    // One of the four of a minute is reserved for people.
    let expected: Vec<_> =
        (1..=40).map(|place| if place <= 3 { pb::Disposition::Malicious } else { pb::Disposition::Unknown }).collect();
    assert_eq!(dispositions, expected);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_counts_as_in_flight_until_it_ends() {
    let slow = Replay::held(Box::new(|_| (200, report(60, 0)))).await;
    let configuration = format!("limits.max_in_flight = 1\n{}", virustotal_at(slow.address));
    let server = TestServer::start(&configuration).await;
    let request = pb::BatchEnrichRequest { indicators: vec![indicator("198.51.100.7")], ..Default::default() };
    let first = server.enrichment().batch_enrich(request.clone()).await.unwrap();
    let refused = server.enrichment().batch_enrich(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    drop(first);
    slow.release();
    server.stop().await;
}

#[tokio::test]
async fn a_unary_call_a_stream_and_a_batch_about_one_indicator_share_one_call() {
    let virustotal = Replay::held(Box::new(|_| (200, report(20, 0)))).await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let unary = server.enrich("198.51.100.7");
    let streamed = async {
        let request = pb::StreamEnrichRequest { indicator: Some(indicator("198.51.100.7")), ..Default::default() };
        let stream = server.enrichment().stream_enrich(with_deadline(request)).await.unwrap().into_inner();
        stream.map(Result::unwrap).collect::<Vec<_>>().await
    };
    let released = async {
        virustotal.called(1).await;
        virustotal.release();
    };
    let (unary, streamed, batch, ()) = tokio::join!(unary, streamed, batch(&server, &["198.51.100.7"]), released);
    assert_eq!(unary.verdict.disposition(), pb::Disposition::Malicious);
    assert!(matches!(streamed.last().unwrap().event, Some(pb::stream_enrich_response::Event::Final(_))));
    assert!(matches!(batch[0].result, Some(Wire::Answer(_))));
    assert_eq!(virustotal.calls(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_restarted_server_asks_for_nothing_that_it_knew() {
    let virustotal = malicious_virustotal().await;
    let configuration = virustotal_at(virustotal.address);
    let server = TestServer::start(&configuration).await;
    let before = server.enrich("198.51.100.7").await;
    let (folder, clock) = (server.folder.clone(), server.clock.clone());
    server.stop().await;
    let server = TestServer::start_on(folder, clock, &configuration).await;
    let after = server.enrich("198.51.100.7").await;
    assert_eq!(after.verdict.outcomes, before.verdict.outcomes);
    assert!(after.receipt.sources[0].from_cache);
    let raw = pb::EnrichOptions { view: pb::View::Raw.into(), ..Default::default() };
    let request = pb::EnrichRequest { indicator: Some(indicator("198.51.100.7")), options: Some(raw) };
    let raw = server.enrich_as(request).await;
    let pb::outcome::Result::Finding(finding) = raw.outcome("virustotal") else { panic!("{raw:?}") };
    assert_eq!(finding.raw.len(), 1, "raw answers are read from the store");
    assert_eq!(virustotal.calls(), 1);
    server.stop().await;
}

/// Lists of these letters, claims and strengths; the last two are mirrors of the one before.
const LISTS: [(&str, &str, f64); 8] = [
    ("A+", "benign", 0.85),
    ("A", "benign", 0.6),
    ("B", "malicious", 1.0),
    ("C", "malicious", 0.85),
    ("D", "suspicious", 0.9),
    ("B", "suspicious", 0.85),
    ("C", "suspicious", 0.7),
    ("F", "malicious", 0.85),
];

/// Which of the lists name each of so many hosts, as the bits of a number.
fn drawn(hosts: usize) -> Vec<u32> {
    let config = Config { rng_seed: RngSeed::Fixed(13), failure_persistence: None, ..Config::default() };
    let on_lists = proptest::collection::vec(0..1_u32 << LISTS.len(), hosts);
    on_lists.new_tree(&mut TestRunner::new(config)).unwrap().current()
}

fn configured_lists(folder: &TempDir, on_lists: &[u32]) -> String {
    let lists = LISTS.iter().enumerate().map(|(place, (letter, claim, strength))| {
        let path = folder.path().join(format!("{place}.txt"));
        let named = on_lists.iter().enumerate().filter(|(_, bits)| *bits & (1 << place) != 0);
        let lines: String = named.map(|(host, _)| format!("h{host}.example.com\n")).collect();
        std::fs::write(&path, lines).unwrap();
        let family = if place < 5 { "" } else { "family = \"mirror\"\n" };
        format!(
            "[sources.list{place}]\nkind = \"list\"\nreliability = \"{letter}\"\n{family}options.path = {path:?}\n\
             options.type = \"domain\"\noptions.claim = \"{claim}\"\noptions.strength = {strength}\n",
        )
    });
    lists.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_batch_an_indicator_has_the_verdict_that_it_has_alone_under_every_policy() {
    const OF_EACH_POLICY: usize = 220;
    let policies = ["weighted", "xsoar", "worst", "majority", "mean"];
    let on_lists = drawn(OF_EACH_POLICY * policies.len());
    let folder = TempDir::new().unwrap();
    let server = TestServer::start(&configured_lists(&folder, &on_lists)).await;
    let mut dispositions = BTreeSet::new();
    for (turn, policy) in policies.into_iter().enumerate() {
        let hosts = turn * OF_EACH_POLICY..(turn + 1) * OF_EACH_POLICY;
        // Every ninth is sent a second time, written otherwise.
        let again = hosts.clone().step_by(9).map(|host| format!("h{host}.example[.]com"));
        let values: Vec<String> = hosts.map(|host| format!("h{host}.example.com")).chain(again).collect();
        let options = Some(pb::EnrichOptions {
            policy: format!("policies/{policy}"),
            mode: pb::EnrichMode::Complete.into(),
            view: pb::View::Full.into(),
            // No verdict is reused, so that each is judged anew.
            max_age: Some(prost_types::Duration::default()),
            ..Default::default()
        });
        let indicators = values.iter().map(|value| indicator(value)).collect();
        let request = pb::BatchEnrichRequest { indicators, options: options.clone() };
        let stream = server.enrichment().batch_enrich(request).await.unwrap().into_inner();
        let answers: Vec<_> = stream.map(Result::unwrap).collect().await;
        assert_eq!(answers.len(), values.len());
        for answer in answers {
            let value = &values[usize::try_from(answer.index).unwrap()];
            let Some(Wire::Answer(answer)) = answer.result else { panic!("{value}: {:?}", answer.result) };
            let in_batch = answer.decode_verdict().unwrap();
            let request = pb::EnrichRequest { indicator: Some(indicator(value)), options: options.clone() };
            let alone = server.enrich_as(request).await.verdict;
            assert_ne!(in_batch.name, alone.name, "{value}");
            dispositions.insert(alone.disposition);
            assert_eq!(pb::Verdict { name: String::new(), ..in_batch }, pb::Verdict { name: String::new(), ..alone });
        }
    }
    assert_eq!(dispositions.len(), 4, "every disposition occurs");
    server.stop().await;
}

#[tokio::test]
async fn a_batch_that_a_shutdown_cuts_short_ends_as_unavailable_and_what_was_begun_is_answered() {
    let slow = Replay::held(Box::new(|_| (200, report(60, 0)))).await;
    let server = TestServer::start(&(virustotal_at(slow.address) + "quota = { minute = 1000 }\n")).await;
    let indicators = (0..100).map(|n| indicator(&format!("198.51.100.{n}"))).collect();
    let request = pb::BatchEnrichRequest { indicators, ..Default::default() };
    let mut stream = server.enrichment().batch_enrich(request).await.unwrap().into_inner();
    slow.called(1).await;
    let read = async {
        let mut answers = Vec::new();
        loop {
            match stream.message().await {
                Ok(Some(answer)) => answers.push(answer),
                Ok(None) => panic!("it looks complete after {} answers", answers.len()),
                Err(status) => return (answers, status),
            }
        }
    };
    let stop = server.stop();
    tokio::pin!(stop);
    // The first poll begins the shutdown, which waits for what is under way.
    assert!(futures_util::poll!(stop.as_mut()).is_pending());
    slow.release();
    let ((answers, status), ()) = tokio::join!(read, stop);
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    assert!(!answers.is_empty() && answers.len() < 100, "{} answers", answers.len());
    assert_eq!(slow.calls(), answers.len());
    for answer in answers {
        let Some(Wire::Answer(answer)) = answer.result else { panic!("{answer:?}") };
        let verdict = answer.decode_verdict().unwrap();
        assert_eq!((verdict.disposition(), verdict.name.is_empty()), (pb::Disposition::Malicious, false));
    }
}
