//! What answers report of the calls that are left, and what follows from it.

use std::time::Duration;

use concord::clock::Clock;
use concord::finding::NotAskedReason;
use concord::source::{Priority, QuotaPer, QuotaWindow};

use super::{Harness, SECOND, ScriptedReply, about, not_asked, settings};

const MINUTE: Duration = Duration::from_secs(60);

/// An answer that reports so many calls left of ten, until the window turns.
fn reports(remaining: u64, reset: u64) -> ScriptedReply {
    let reply = ScriptedReply::says("found 9").with_header("x-ratelimit-limit", 10);
    reply.with_header("x-ratelimit-remaining", remaining).with_header("x-ratelimit-reset", reset)
}

impl Harness {
    fn reported_left(&self) -> Vec<u64> {
        self.pipeline.reported_quota().iter().map(|window| window.left).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_reports_no_call_left_holds_the_account_until_the_window_turns() {
    let harness = Harness::new(&[reports(0, 3600), ScriptedReply::says("found 9")]);
    harness.look_up().await;
    let turns = harness.clock.now() + 60 * MINUTE;
    assert_eq!((harness.suspended_until(), harness.reported_left()), (Some(turns), vec![0]));
    let refused = harness.pipeline.look_up(harness.request_for("192.0.2.2", 30 * SECOND)).await;
    let refusal = not_asked(&refused.outcome);
    assert_eq!((refusal.reason, refusal.until), (NotAskedReason::QuotaSpent, Some(turns)));
    assert_eq!(refusal.detail, "0 of 10 calls are left, as the source reports");
    assert_eq!(harness.pipeline.quota_refusal(Priority::Interactive, &[]), Some(refusal));
    // No unit is spent on it, and the next one is asked once the window has turned.
    assert_eq!((harness.transport.calls(), harness.ledger.acquired_at.lock().unwrap().len()), (1, 1));
    harness.clock.sleep(60 * MINUTE).await;
    assert_eq!(harness.suspended_until(), None);
    let asked = harness.pipeline.look_up(harness.request_for("192.0.2.2", 30 * SECOND)).await;
    assert!(asked.outcome.body.finding().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_time_waits_for_the_window_to_turn() {
    let harness = Harness::new(&[reports(0, 7), ScriptedReply::says("found 9")]);
    harness.look_up().await;
    let waited = harness.pipeline.look_up(harness.request_for("192.0.2.2", 30 * SECOND)).await;
    assert!(waited.outcome.body.finding().is_some());
    assert_eq!(harness.transport.times(), [Duration::ZERO, 7 * SECOND]);
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_are_under_way_than_are_left() {
    let replies = [reports(3, 60), ScriptedReply::says("found 9").after(SECOND)];
    let harness = Harness::new(&replies);
    harness.look_up().await;
    let look_ups: Vec<_> =
        (2..=9).map(|last| harness.begin(harness.request_for(&format!("192.0.2.{last}"), 5 * SECOND))).collect();
    let mut refused = 0;
    for look_up in look_ups {
        refused += usize::from(look_up.await.unwrap().outcome.body.finding().is_none());
    }
    assert_eq!((harness.transport.calls(), refused), (4, 5));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_reports_too() {
    let refusal = ScriptedReply::status(429, None).with_header("x-ratelimit-remaining", 0);
    let harness = Harness::new(&[refusal.with_header("x-ratelimit-reset", 29_241)]);
    harness.look_up().await;
    assert_eq!(harness.suspended_until(), Some(harness.clock.now() + 29_241 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn what_is_reported_never_raises_what_is_set() {
    let mut settings = settings(&about());
    settings.quota = vec![QuotaWindow { per: QuotaPer::Day, limit: 2 }];
    let harness = Harness::with(about(), settings, &[reports(9, 60)]);
    for last in 1..=4 {
        harness.pipeline.look_up(harness.request_for(&format!("192.0.2.{last}"), SECOND)).await;
    }
    assert_eq!(harness.transport.calls(), 2);
    let usage = harness.pipeline.quota_usage().await;
    assert_eq!((usage[0].limit, usage[0].used), (2, 2));
    assert_eq!(harness.pipeline.units_left(Priority::Interactive, &usage), Some(0));
}

#[tokio::test(start_paused = true)]
async fn the_units_and_the_share_that_are_left_are_the_least_of_both() {
    let harness = Harness::per_minute(100, &[reports(3, 60)]);
    harness.look_up().await;
    let usage = harness.pipeline.quota_usage().await;
    assert_eq!(harness.pipeline.units_left(Priority::Interactive, &usage), Some(3));
    assert_eq!(harness.pipeline.units_left(Priority::Background, &usage), Some(1), "two of ten are reserved");
    assert_eq!(harness.pipeline.share_left(Priority::Interactive, &usage), 0.3);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_reaches_nobody_is_given_back() {
    let harness = Harness::new(&[reports(1, 60), ScriptedReply::unreachable(true), ScriptedReply::says("found 9")]);
    for last in 1..=3 {
        harness.pipeline.look_up(harness.request_for(&format!("192.0.2.{last}"), SECOND)).await;
    }
    assert_eq!((harness.transport.calls(), harness.reported_left()), (3, vec![0]));
}

#[tokio::test(start_paused = true)]
async fn a_test_of_the_source_forgets_the_report_and_lets_those_who_wait_ask() {
    let harness = Harness::new(&[reports(0, 600), ScriptedReply::says("found 9")]);
    harness.look_up().await;
    let waiting = harness.begin(harness.request_for("192.0.2.2", 60 * MINUTE));
    harness.clock.sleep(SECOND).await;
    assert_eq!(harness.transport.calls(), 1);
    assert_eq!(harness.pipeline.probe("tester").await.connectivity, Ok(()));
    assert!(waiting.await.unwrap().outcome.body.finding().is_some());
    assert_eq!(harness.transport.times(), [Duration::ZERO, SECOND, SECOND]);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_calls_are_left_again_lets_those_who_wait_ask() {
    // When the window turns is not known, so that one call a minute finds out.
    let unknown = |remaining: u64| ScriptedReply::says("found 9").with_header("ratelimit-remaining", remaining);
    let harness = Harness::new(&[unknown(0), unknown(70)]);
    harness.look_up().await;
    let waiting: Vec<_> =
        (2..=5).map(|last| harness.begin(harness.request_for(&format!("192.0.2.{last}"), 10 * MINUTE))).collect();
    for look_up in waiting {
        assert!(look_up.await.unwrap().outcome.body.finding().is_some());
    }
    let times = harness.transport.times();
    assert_eq!((times.len(), times[1]), (5, MINUTE));
    assert!(times[4] < 61 * SECOND, "{times:?}");
}
