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
async fn a_suspension_outlives_a_change_of_settings_that_leaves_where_and_as_whom_the_source_is_asked() {
    let full = Replay::start(Box::new(|_| (429, serde_json::json!({})))).await;
    let server = TestServer::start("allowed_networks = [\"127.0.0.0/8\"]\n").await;
    let configure = async |source: pb::Source, paths: &[&str]| {
        let update_mask = Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).into()).collect() });
        let source = pb::Source { name: "sources/own".into(), ..source };
        let request =
            pb::ConfigureSourceRequest { source: Some(source), update_mask, allow_missing: true, ..Default::default() };
        server.sources().configure_source(request).await.unwrap();
    };
    let base_url = format!("http://{}", full.address);
    let credential = pb::Source { kind: "virustotal".into(), base_url, credential: "k1".into(), ..Default::default() };
    configure(credential, &["kind", "base_url", "credential"]).await;
    server.enrich("198.51.100.1").await;
    configure(pb::Source { reliability: pb::Reliability::C.into(), ..Default::default() }, &["reliability"]).await;
    assert_eq!(server.enrich("198.51.100.2").await.not_asked("own"), pb::NotAskedReason::QuotaSpent);
    assert_eq!(full.calls(), 1);
    configure(pb::Source { tier: "premium".into(), ..Default::default() }, &["tier"]).await;
    server.enrich("198.51.100.3").await;
    assert_eq!(full.calls(), 2, "another plan may allow more");
    server.stop().await;
}

#[tokio::test]
async fn what_answers_report_is_shown_and_holds_the_source_until_the_window_turns() {
    let virustotal = malicious_virustotal().await;
    virustotal.send_headers(&[
        ("x-rate-limit-window", "hour"),
        ("x-rate-limit-limit", "100"),
        ("x-rate-limit-remaining", "0"),
        ("x-rate-limit-reset-after", "566"),
    ]);
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    assert_eq!(server.enrich("198.51.100.1").await.verdict.disposition(), pb::Disposition::Malicious);
    let turns = server.clock.now() + Duration::from_secs(566);
    let expected = pb::ReportedQuota {
        period: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        limit: Some(100),
        left: 0,
        reset_time: Some(turns.into()),
        report_time: Some(server.clock.now().into()),
    };
    let usage = server.sources().get_usage(pb::GetUsageRequest::default()).await.unwrap().into_inner().usage;
    assert_eq!((&usage[0].reported_quota, usage[0].suspended_until_time), (&vec![expected], Some(turns.into())));
    let listed = server.sources().list_sources(pb::ListSourcesRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.sources[0].reported_quota, [expected]);
    let request = pb::PlanEnrichmentRequest { indicator: Some(indicator("198.51.100.2")), ..Default::default() };
    let plan = server.enrichment().plan_enrichment(request).await.unwrap().into_inner();
    let Some(pb::source_plan::Action::NotAsked(not_asked)) = &plan.sources[0].action else { panic!("{plan:?}") };
    assert_eq!(not_asked.detail, "0 of 100 calls per hour are left, as the source reports");
    assert_eq!(server.enrich("198.51.100.2").await.not_asked("virustotal"), pb::NotAskedReason::QuotaSpent);
    assert_eq!(virustotal.calls(), 1);
    server.clock.advance(Duration::from_secs(566));
    server.enrich("198.51.100.2").await;
    assert_eq!(virustotal.calls(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_caller_has_its_budget_for_the_day_over_all_sources_across_restarts_and_sees_what_is_left() {
    let virustotal = malicious_virustotal().await;
    let folder = Arc::new(TempDir::new().unwrap());
    let clock = Arc::new(ManualClock::new(start_time()));
    let second = virustotal_at(virustotal.address).replace("[sources.virustotal]", "[sources.second]");
    let budget = |units: u64| format!("[caller_budget]\nunits_per_day = {units}\n");
    let configuration = virustotal_at(virustotal.address) + &second;
    let server = TestServer::start_on(folder.clone(), clock.clone(), &(configuration.clone() + &budget(3))).await;
    server.enrich("198.51.100.1").await;
    let left = async |server: &TestServer| {
        let usage = server.sources().get_usage(pb::GetUsageRequest::default()).await.unwrap().into_inner();
        usage.caller_budget.map(|budget| (budget.caller, budget.limit, budget.used, budget.left))
    };
    assert_eq!(left(&server).await, Some(("local".to_owned(), 3, 2, 1)));
    server.stop().await;
    let server = TestServer::start_on(folder, clock, &(configuration + &budget(3))).await;
    assert_eq!(left(&server).await, Some(("local".to_owned(), 3, 2, 1)));
    let plan = async || {
        let request = pb::PlanEnrichmentRequest { indicator: Some(indicator("198.51.100.2")), ..Default::default() };
        server.enrichment().plan_enrichment(request).await.unwrap().into_inner()
    };
    let before = plan().await;
    assert_eq!((before.caller_units_left, before.units, before.max_units), (Some(1), 1, 1), "of the two that it takes");
    // One of the two is asked.
    let answer = server.enrich("198.51.100.2").await;
    assert!(answer.verdict.partial);
    assert_eq!((virustotal.calls(), answer.receipt.units), (3, 1));
    let refused = server.enrich("198.51.100.3").await;
    for source in ["virustotal", "second"] {
        assert_eq!(refused.not_asked(source), pb::NotAskedReason::CallerBudget);
    }
    let after = plan().await;
    let of_second = after.sources.iter().find(|source| source.source == "sources/second").unwrap();
    assert!(matches!(
        of_second.action,
        Some(pb::source_plan::Action::NotAsked(_) | pb::source_plan::Action::Cached(_))
    ));
    assert_eq!((after.units, after.caller_units_left), (0, Some(0)));
    server.clock.advance(Duration::from_secs(86_400));
    assert_eq!(left(&server).await, Some(("local".to_owned(), 3, 0, 3)));
    server.stop().await;
}

#[tokio::test]
async fn a_pace_that_ends_the_day_too_early_is_said_once_and_shown_until_it_is_slower() {
    let virustotal = malicious_virustotal().await;
    let quota = "quota = { day = 40 }\n";
    let server = TestServer::start(&(virustotal_at(virustotal.address) + quota)).await;
    let runs_out = async || {
        let usage = server.sources().get_usage(pb::GetUsageRequest::default()).await.unwrap().into_inner().usage;
        usage[0].quota[0].runs_out_time.map(|time| time.seconds)
    };
    assert_eq!(runs_out().await, None);
    for last in 1..=10 {
        server.enrich(&format!("198.51.100.{last}")).await;
    }
    // Ten an hour, at 14:13:20 UTC: the other thirty last for three hours.
    let ends = prost_types::Timestamp::from(server.clock.now() + Duration::from_secs(3 * 3_600)).seconds;
    assert_eq!(runs_out().await, Some(ends));
    let sentence = ("virustotal".to_owned(), "at this pace the day's quota ends at 17:13 UTC".to_owned());
    assert_eq!(server.engine().note_forecasts().await, [sentence]);
    assert_eq!(server.engine().note_forecasts().await, []);
    server.clock.advance(Duration::from_secs(2 * 3_600));
    assert_eq!(runs_out().await, None, "nobody asks any more");
    for last in 11..=25 {
        server.enrich(&format!("198.51.100.{last}")).await;
    }
    assert!(runs_out().await.is_some());
    assert_eq!(server.engine().note_forecasts().await, [], "once a day");
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
async fn a_day_turns_in_the_zone_of_the_source_and_a_change_of_the_zone_forgets_no_call() {
    let virustotal = malicious_virustotal().await;
    let zone = "quota = { day = 1 }\nquota_time_zone = \"America/New_York\"\n";
    let server = TestServer::start(&(virustotal_at(virustotal.address) + zone)).await;
    server.enrich("198.51.100.1").await;
    let until = async |value: &str| {
        let answer = server.enrich(value).await;
        let pb::outcome::Result::NotAsked(not_asked) = answer.outcome("virustotal") else { panic!("{answer:?}") };
        not_asked.until.unwrap().seconds
    };
    assert_eq!(until("198.51.100.2").await, 1_790_049_600, "2026-09-22T04:00:00Z");
    let set = async |zone: &str| {
        let source =
            pb::Source { name: "sources/virustotal".into(), quota_time_zone: zone.into(), ..Default::default() };
        let request = pb::ConfigureSourceRequest { source: Some(source), ..Default::default() };
        server.sources().configure_source(request).await.unwrap().into_inner().source.unwrap().quota_time_zone
    };
    assert_eq!(set("asia/tokyo").await, "Asia/Tokyo");
    assert_eq!(until("198.51.100.2").await, 1_790_002_800, "2026-09-21T15:00:00Z");
    server.clock.advance(Duration::from_secs(3_600));
    server.enrich("198.51.100.2").await;
    assert_eq!(virustotal.calls(), 2);
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

/// What VirusTotal says of a key: used and allowed in an hour, a day and a month.
fn quotas(hour: [u64; 2], day: [u64; 2], month: [u64; 2]) -> serde_json::Value {
    let quota = |[used, allowed]: [u64; 2]| serde_json::json!({"user": {"used": used, "allowed": allowed}});
    let (hour, day, month) = (quota(hour), quota(day), quota(month));
    serde_json::json!({"data": {"api_requests_hourly": hour, "api_requests_daily": day, "api_requests_monthly": month}})
}

async fn test_virustotal(server: &TestServer) -> pb::TestSourceResponse {
    let test = pb::TestSourceRequest { name: "sources/virustotal".into(), ..Default::default() };
    server.sources().test_source(test).await.unwrap().into_inner()
}

async fn quota_of_virustotal(server: &TestServer) -> Vec<(pb::QuotaPeriod, u64, u64)> {
    let usage = server.sources().get_usage(pb::GetUsageRequest::default()).await.unwrap().into_inner().usage;
    usage[0].quota.iter().map(|window| (window.period(), window.used, window.limit)).collect()
}

async fn warnings_of_virustotal(server: &TestServer) -> Vec<String> {
    let got = pb::GetSourceRequest { name: "sources/virustotal".into() };
    let got = server.sources().get_source(got).await.unwrap().into_inner().source.unwrap().warnings;
    let listed = server.sources().list_sources(pb::ListSourcesRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.sources[0].warnings, got);
    got
}

#[tokio::test]
async fn a_premium_key_says_what_it_may_spend_and_what_others_spent_with_it() {
    let virustotal = malicious_virustotal().await;
    virustotal.tell_quotas(200, quotas([3, 6_000], [70, 20_000], [900, 600_000]));
    let server = TestServer::start(&(virustotal_at(virustotal.address) + "tier = \"premium\"\n")).await;
    assert_eq!(quota_of_virustotal(&server).await, []);
    test_virustotal(&server).await;
    let (hour, day, month) = (pb::QuotaPeriod::Hour, pb::QuotaPeriod::Day, pb::QuotaPeriod::Month);
    let read = quota_of_virustotal(&server).await;
    let limits: Vec<_> = read.iter().map(|(period, _, limit)| (*period, *limit)).collect();
    assert_eq!(limits, [(hour, 6_000), (day, 20_000), (month, 600_000)]);
    // With the call of the test itself or without, as it left after or before.
    assert!((3..=4).contains(&read[0].1) && (70..=71).contains(&read[1].1) && (900..=901).contains(&read[2].1));
    assert_eq!(warnings_of_virustotal(&server).await, Vec::<String>::new());
    server.stop().await;
}

#[tokio::test]
async fn the_reported_use_of_a_key_outlives_the_server_and_another_address_is_only_asked_for_it_by_a_test() {
    let virustotal = malicious_virustotal().await;
    let folder = Arc::new(TempDir::new().unwrap());
    let clock = Arc::new(ManualClock::new(start_time()));
    let configuration = virustotal_at(virustotal.address);
    virustotal.tell_quotas(200, quotas([1, 240], [444, 500], [444, 15_500]));
    let server = TestServer::start_on(folder.clone(), clock.clone(), &configuration).await;
    server.enrich("198.51.100.1").await;
    test_virustotal(&server).await;
    clock.advance(Duration::from_secs(3_600));
    server.enrich("198.51.100.2").await;
    // Which waits for what is done in the background.
    server.stop().await;
    assert_eq!((virustotal.quota_readings(), virustotal.calls()), (1, 3));
    let server = TestServer::start_on(folder, clock, &configuration).await;
    let day = quota_of_virustotal(&server).await.into_iter().find(|window| window.0 == pb::QuotaPeriod::Day);
    assert!(day.is_some_and(|(_, used, limit)| (444..=447).contains(&used) && limit == 500), "{day:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_tier_that_the_key_does_not_have_stands_in_the_state_of_the_source() {
    let virustotal = malicious_virustotal().await;
    virustotal.tell_quotas(200, quotas([0, 240], [0, 500], [0, 15_500]));
    let server = TestServer::start(&(virustotal_at(virustotal.address) + "tier = \"premium\"\n")).await;
    assert_eq!(warnings_of_virustotal(&server).await, Vec::<String>::new(), "nothing was asked yet");
    test_virustotal(&server).await;
    let warnings = warnings_of_virustotal(&server).await;
    assert_eq!(
        warnings,
        ["its credential is of tier free, but the source is declared as premium: set tier = \"free\""]
    );
    server.stop().await;
}

#[tokio::test]
async fn a_quota_that_cannot_be_read_harms_nothing_and_is_said() {
    let virustotal = malicious_virustotal().await;
    virustotal.tell_quotas(403, serde_json::json!({"error": {"code": "ForbiddenError"}}));
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    test_virustotal(&server).await;
    assert_eq!(server.enrich("198.51.100.1").await.verdict.disposition(), pb::Disposition::Malicious);
    let warnings = warnings_of_virustotal(&server).await;
    assert!(warnings[0].starts_with("the allowance of its credential could not be read"), "{warnings:?}");
    assert!(warnings[0].contains("403") && !warnings[0].contains("s3cret"), "{warnings:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_key_whose_day_is_used_up_by_others_is_left_alone_until_the_day_turns() {
    let virustotal = malicious_virustotal().await;
    virustotal.tell_quotas(200, quotas([9, 240], [500, 500], [900, 15_500]));
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    test_virustotal(&server).await;
    let refused = server.enrich("198.51.100.1").await;
    let pb::outcome::Result::NotAsked(not_asked) = refused.outcome("virustotal") else { panic!("{refused:?}") };
    assert_eq!(not_asked.until.unwrap().seconds, 1_790_035_200, "2026-09-22T00:00:00Z");
    let got = pb::GetSourceRequest { name: "sources/virustotal".into() };
    let got = server.sources().get_source(got).await.unwrap().into_inner().source.unwrap();
    assert_eq!(got.suspended_until_time.map(|time| time.seconds), Some(1_790_035_200));
    server.stop().await;
}

#[tokio::test]
async fn a_clock_that_jumps_a_day_either_way_neither_stops_the_service_nor_makes_it_overspend() {
    const DAY: Duration = Duration::from_secs(86_400);
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&(virustotal_at(virustotal.address) + "quota = { minute = 2 }\n")).await;
    let (right, mut number) = (server.clock.now(), 0);
    let mut ask = async || {
        number += 1;
        let answer = server.enrich(&format!("198.51.100.{number}")).await;
        assert!(!answer.verdict.name.is_empty(), "its verdict is stored");
        virustotal.calls()
    };
    assert_eq!((ask().await, ask().await, ask().await), (1, 2, 2));
    for wrong in [right - DAY, right + DAY, right] {
        server.clock.set_wall(wrong);
        assert_eq!(ask().await, 2, "a minute has not passed, whatever the clock says");
    }
    server.clock.advance(Duration::from_secs(3_600));
    assert_eq!(ask().await, 3);
    server.stop().await;
}

#[tokio::test]
async fn the_metrics_count_what_spent_budgets_of_callers_refused() {
    let virustotal = malicious_virustotal().await;
    let budget = "[caller_budget]\nunits_per_day = 1\n";
    let server = TestServer::listen(&(virustotal_at(virustotal.address) + budget)).await;
    server.enrich("198.51.100.1").await;
    assert_eq!(server.enrich("198.51.100.2").await.not_asked("virustotal"), pb::NotAskedReason::CallerBudget);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let metrics = http.get(format!("http://{}/metrics", server.address())).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("concord_caller_budget_refusals_total{caller=\"anonymous\"} "), "{metrics}");
    server.stop().await;
}
