use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use concord::clock::ManualClock;
use concord::pb;
use tempfile::TempDir;

use crate::harness::{
    Replay, TestServer, indicator, malicious_virustotal, report, start_time, violated, virustotal_at,
};

#[tokio::test]
async fn a_verdict_is_stored_as_it_was_given_and_survives_a_restart() {
    let virustotal = malicious_virustotal().await;
    let folder = Arc::new(TempDir::new().unwrap());
    let clock = Arc::new(ManualClock::new(start_time()));
    let configuration = virustotal_at(virustotal.address);
    let server = TestServer::start_on(folder.clone(), clock.clone(), &configuration).await;
    let given = server.enrich("198.51.100.7").await.verdict;
    server.stop().await;
    let server = TestServer::start_on(folder, clock, &configuration).await;
    let request = pb::GetVerdictRequest { name: given.name.clone(), view: 0 };
    let kept = server.verdicts().get_verdict(request).await.unwrap().into_inner().verdict.unwrap();
    assert_eq!(kept, given);
    let raw = pb::GetVerdictRequest { name: given.name.clone(), view: pb::View::Raw.into() };
    let raw = server.verdicts().get_verdict(raw).await.unwrap().into_inner().verdict.unwrap();
    let Some(pb::outcome::Result::Finding(finding)) = &raw.outcomes[0].result else { panic!() };
    assert!(finding.raw[0].contains("last_analysis_stats"));
    server.stop().await;
}

#[tokio::test]
async fn verdicts_are_listed_newest_first_page_by_page_and_by_filter() {
    let virustotal = malicious_virustotal().await;
    let quota = virustotal_at(virustotal.address) + "quota = { minute = 100 }\n";
    let server = TestServer::start(&quota).await;
    for last in 1..=5 {
        server.enrich(&format!("198.51.100.{last}")).await;
        server.clock.advance(Duration::from_secs(10));
    }
    server.enrich("10.0.0.1").await;
    let list =
        async |request: pb::ListVerdictsRequest| server.verdicts().list_verdicts(request).await.unwrap().into_inner();

    let mut values = Vec::new();
    let mut request = pb::ListVerdictsRequest { page_size: 4, ..Default::default() };
    loop {
        let page = list(request.clone()).await;
        values.extend(page.verdicts.into_iter().map(|one| one.indicator.unwrap().value));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(values, ["10.0.0.1", "198.51.100.5", "198.51.100.4", "198.51.100.3", "198.51.100.2", "198.51.100.1"]);

    let of = |disposition: pb::Disposition| pb::ListVerdictsRequest {
        disposition: disposition.into(),
        ..Default::default()
    };
    assert_eq!(list(of(pb::Disposition::Malicious)).await.verdicts.len(), 5);
    assert_eq!(list(of(pb::Disposition::Unknown)).await.verdicts.len(), 1);
    assert_eq!(list(of(pb::Disposition::Benign)).await.verdicts.len(), 0);
    let of_one = pb::ListVerdictsRequest { indicator: Some(indicator("198.51.100.3")), ..Default::default() };
    assert_eq!(list(of_one).await.verdicts.len(), 1);
    let window = pb::ListVerdictsRequest {
        from_time: Some((start_time() + Duration::from_secs(10)).into()),
        until_time: Some((start_time() + Duration::from_secs(30)).into()),
        ..Default::default()
    };
    assert_eq!(list(window).await.verdicts.len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_token_with_other_parameters_is_refused() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    server.enrich("198.51.100.1").await;
    server.enrich("198.51.100.2").await;
    let first = pb::ListVerdictsRequest { page_size: 1, ..Default::default() };
    let token = server.verdicts().list_verdicts(first).await.unwrap().into_inner().next_page_token;
    let other = pb::ListVerdictsRequest {
        page_size: 1,
        page_token: token,
        disposition: pb::Disposition::Malicious.into(),
        ..Default::default()
    };
    let refused = server.verdicts().list_verdicts(other).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn two_verdicts_are_compared_and_the_differences_add_up() {
    let answer = Arc::new(AtomicU64::new(60));
    let virustotal = {
        let answer = answer.clone();
        Replay::start(Box::new(move |_| (200, report(answer.load(Ordering::SeqCst), 0)))).await
    };
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let before = server.enrich("198.51.100.7").await.verdict;
    answer.store(0, Ordering::SeqCst);
    server.clock.advance(Duration::from_secs(40 * 86_400));
    let after = server.enrich("198.51.100.7").await.verdict;
    let request = pb::CompareVerdictsRequest { before: before.name.clone(), after: after.name.clone() };
    let comparison = server.verdicts().compare_verdicts(request).await.unwrap().into_inner().comparison.unwrap();
    assert_eq!(comparison.disposition_before(), pb::Disposition::Malicious);
    assert_eq!(comparison.disposition_after(), after.disposition());
    assert_eq!(comparison.cause(), pb::DispositionCause::Evidence);
    let difference = after.log_odds_micro_nats.unwrap() - before.log_odds_micro_nats.unwrap();
    assert_eq!(comparison.difference_micro_nats, Some(difference));
    assert_eq!(comparison.terms.iter().filter_map(|term| term.difference_micro_nats).sum::<i64>(), difference);
    let virustotal = comparison.terms.last().unwrap();
    assert_eq!(virustotal.causes, [i32::from(pb::ChangeCause::Claim)]);
    assert!(virustotal.sentence.contains("said malicious before and now"), "{}", virustotal.sentence);
    server.stop().await;
}

#[tokio::test]
async fn verdicts_of_two_indicators_are_not_compared_and_the_field_is_named() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let [one, other] = [server.enrich("198.51.100.1").await.verdict, server.enrich("198.51.100.2").await.verdict];
    let compare = async |before: &str, after: &str| {
        let request = pb::CompareVerdictsRequest { before: before.into(), after: after.into() };
        server.verdicts().compare_verdicts(request).await.unwrap_err()
    };
    let refused = compare(&one.name, &other.name).await;
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert_eq!(violated(&refused), ["after"]);
    assert!(refused.message().contains("198.51.100.2") && refused.message().contains("198.51.100.1"), "{refused}");
    let missing = compare(&one.name, "verdicts/nothing").await;
    assert_eq!(missing.code(), tonic::Code::NotFound);
    let both = compare("", "sources/a").await;
    assert_eq!((both.code(), violated(&both)), (tonic::Code::InvalidArgument, vec!["before".into(), "after".into()]));
    server.stop().await;
}
