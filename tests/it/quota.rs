use std::sync::Arc;
use std::time::Duration;

use concord::clock::{Clock, ManualClock};
use concord::pb;
use tempfile::TempDir;

use crate::harness::{Refusing, Replay, TestServer, indicator, malicious_virustotal, start_time, virustotal_at};

#[tokio::test]
async fn four_a_minute_is_never_five_and_the_refusal_says_when_the_window_resets() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    for last in 1..=4 {
        server.enrich(&format!("198.51.100.{last}")).await;
    }
    let fifth = server.enrich("198.51.100.5").await;
    assert_eq!(virustotal.calls(), 4);
    assert_eq!(fifth.not_asked("virustotal"), pb::NotAskedReason::QuotaSpent);
    assert!(fifth.verdict.partial);
    let pb::outcome::Result::NotAsked(not_asked) = fifth.outcome("virustotal") else { panic!() };
    let until = not_asked.until.unwrap();
    let resets_at = prost_types::Timestamp::from(start_time() + Duration::from_secs(60));
    assert!((resets_at.seconds..=resets_at.seconds + 1).contains(&until.seconds), "{until:?}");
    server.clock.advance(Duration::from_secs(61));
    let sixth = server.enrich("198.51.100.5").await;
    assert_eq!(sixth.verdict.disposition(), pb::Disposition::Malicious);
    server.stop().await;
}

#[tokio::test]
async fn a_restart_does_not_give_units_back() {
    let virustotal = malicious_virustotal().await;
    let folder = Arc::new(TempDir::new().unwrap());
    let clock = Arc::new(ManualClock::new(start_time()));
    let configuration = virustotal_at(virustotal.address);
    let server = TestServer::start_on(folder.clone(), clock.clone(), &configuration).await;
    for last in 1..=3 {
        server.enrich(&format!("198.51.100.{last}")).await;
    }
    server.stop().await;
    let server = TestServer::start_on(folder, clock, &configuration).await;
    let fourth = server.enrich("198.51.100.4").await;
    assert_eq!(fourth.verdict.disposition(), pb::Disposition::Malicious, "{:?}", fourth.verdict.outcomes);
    let fifth = server.enrich("198.51.100.5").await;
    assert_eq!(fifth.not_asked("virustotal"), pb::NotAskedReason::QuotaSpent);
    assert_eq!(virustotal.calls(), 4);
    server.stop().await;
}

#[tokio::test]
async fn two_sources_with_one_credential_share_its_quota() {
    let virustotal = malicious_virustotal().await;
    let second = virustotal_at(virustotal.address).replace("[sources.virustotal]", "[sources.second]");
    let server = TestServer::start(&(virustotal_at(virustotal.address) + &second)).await;
    for last in 1..=3 {
        server.enrich(&format!("198.51.100.{last}")).await;
    }
    assert_eq!(virustotal.calls(), 4);
    server.stop().await;
}

#[tokio::test]
async fn a_plan_shows_cost_and_asks_nobody() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let plan = async |value: &str| {
        let request = pb::PlanEnrichmentRequest { indicator: Some(indicator(value)), ..Default::default() };
        server.enrichment().plan_enrichment(request).await.unwrap().into_inner()
    };
    let before = plan("198.51.100.7").await;
    assert_eq!(before.units, 1);
    let Some(pb::source_plan::Action::Call(call)) = &before.sources[0].action else { panic!("{before:?}") };
    assert!(call.discloses);
    assert_eq!(call.quota[0].left, 4);
    assert_eq!(virustotal.calls(), 0);
    server.enrich("198.51.100.7").await;
    let after = plan("198.51.100.7").await;
    assert_eq!(after.units, 0);
    assert!(matches!(after.sources[0].action, Some(pb::source_plan::Action::Cached(_))));
    let withheld = plan("10.0.0.1").await;
    let Some(pb::source_plan::Action::NotAsked(not_asked)) = &withheld.sources[0].action else { panic!() };
    assert_eq!(not_asked.reason(), pb::NotAskedReason::PrivateAddress);
    server.stop().await;
}

#[tokio::test]
async fn usage_and_sources_show_until_when_a_source_is_suspended() {
    let full = Replay::start(Box::new(|_| (429, serde_json::json!({})))).await;
    let server = TestServer::start(&virustotal_at(full.address)).await;
    let suspended = async || {
        let usage = server.sources().get_usage(pb::GetUsageRequest::default()).await.unwrap().into_inner().usage;
        let listed = server.sources().list_sources(pb::ListSourcesRequest::default()).await.unwrap().into_inner();
        let got = pb::GetSourceRequest { name: "sources/virustotal".into() };
        let got = server.sources().get_source(got).await.unwrap().into_inner().source.unwrap();
        assert_eq!(usage[0].suspended_until_time, listed.sources[0].suspended_until_time);
        assert_eq!(usage[0].suspended_until_time, got.suspended_until_time);
        usage[0].suspended_until_time
    };
    assert_eq!(suspended().await, None);
    server.enrich("198.51.100.7").await;
    let until = server.clock.now() + Duration::from_secs(60);
    assert_eq!(suspended().await, Some(until.into()), "a minute where it does not say when");
    server.clock.advance(Duration::from_secs(60));
    assert_eq!(suspended().await, None);
    server.stop().await;
}

#[tokio::test]
async fn usage_says_what_was_spent_and_what_was_saved() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let anew = pb::EnrichRequest {
        indicator: Some(indicator("198.51.100.7")),
        options: Some(pb::EnrichOptions {
            max_age: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
            ..Default::default()
        }),
    };
    server.enrich_as(anew.clone()).await;
    server.enrich_as(anew).await;
    let usage = server.sources().get_usage(pb::GetUsageRequest::default()).await.unwrap().into_inner().usage;
    assert_eq!((usage[0].calls, usage[0].units, usage[0].saved_by_cache), (1, 1, 1));
    let day = usage[0].quota.iter().find(|window| window.period() == pb::QuotaPeriod::Day).unwrap();
    assert_eq!((day.used, day.left), (1, 499));
    server.stop().await;
}

#[tokio::test]
async fn a_week_is_set_in_the_file_or_over_the_api_and_resets_on_monday() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&(virustotal_at(virustotal.address) + "quota = { week = 1 }\n")).await;
    server.enrich("198.51.100.1").await;
    let second = server.enrich("198.51.100.2").await;
    let pb::outcome::Result::NotAsked(not_asked) = second.outcome("virustotal") else { panic!() };
    assert_eq!(not_asked.until.unwrap().seconds, 1_790_553_600, "2026-09-28T00:00:00Z");
    let week = pb::QuotaWindow { period: pb::QuotaPeriod::Week.into(), limit: 2 };
    let source = pb::Source { name: "sources/virustotal".into(), quota: vec![week], ..Default::default() };
    let request = pb::ConfigureSourceRequest { source: Some(source), ..Default::default() };
    server.sources().configure_source(request).await.unwrap();
    server.enrich("198.51.100.2").await;
    let usage = server.sources().get_usage(pb::GetUsageRequest::default()).await.unwrap().into_inner().usage;
    let uses: Vec<_> = usage[0].quota.iter().map(|window| (window.period(), window.used, window.left)).collect();
    assert_eq!((uses, virustotal.calls()), (vec![(pb::QuotaPeriod::Week, 2, 0)], 2));
    server.stop().await;
}

#[tokio::test]
async fn a_source_that_cannot_be_reached_costs_nothing_and_says_why() {
    let refusing = Refusing::new();
    let server = TestServer::start(&(virustotal_at(refusing.address()) + "quota = { minute = 1 }\n")).await;
    server.clock.skip_sleeps(Duration::from_secs(1));
    for last in 1..=2 {
        let answer = server.enrich(&format!("198.51.100.{last}")).await;
        let pb::outcome::Result::Error(error) = answer.outcome("virustotal") else { panic!("{last}") };
        assert_eq!(error.kind(), pb::SourceErrorKind::Unavailable);
        assert!(error.detail.contains("refused"), "{}", error.detail);
    }
    let usage = server.sources().get_usage(pb::GetUsageRequest::default()).await.unwrap().into_inner().usage;
    assert_eq!((usage[0].units, usage[0].quota[0].used), (0, 0));
    server.stop().await;
}
