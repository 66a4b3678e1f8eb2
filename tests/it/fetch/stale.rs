//! Findings that are used after their time: while the source is asked again, and if it fails or cannot be asked.

use std::time::Duration;

use concord::clock::Clock;
use concord::fetch::Fetched;
use concord::finding::{Disposition, NotAskedReason, OutcomeBody, SourceError};
use concord::source::{CacheTtl, OptionValue, QuotaPer, QuotaWindow, SourceSettings};

use super::{Harness, SECOND, ScriptedReply, about, error, finding, not_asked, settings};

const HOUR: Duration = Duration::from_secs(3600);

/// A source that says `found 9`, then these; whose findings last an hour, and so long beyond it.
fn harness(revalidate: Duration, if_error: Duration, then: &[ScriptedReply]) -> Harness {
    let mut settings = settings(&about());
    let ttl = CacheTtl::new(HOUR, HOUR);
    settings.cache_ttl = CacheTtl { stale_while_revalidate: revalidate, stale_if_error: if_error, ..ttl };
    with_settings(settings, then)
}

fn with_settings(settings: SourceSettings, then: &[ScriptedReply]) -> Harness {
    let replies: Vec<_> = [ScriptedReply::says("found 9")].iter().chain(then).cloned().collect();
    Harness::with(about(), settings, &replies)
}

fn down() -> ScriptedReply {
    ScriptedReply::status(403, None)
}

/// Checks that the finding of the first call was used at this age, and says why.
fn assert_stale(fetched: &Fetched, age: Duration, why: &str) {
    let (claim, reasons) = finding(&fetched.outcome);
    assert_eq!((claim, fetched.receipt.age, fetched.receipt.from_cache), (Disposition::Malicious, age, true));
    let stale = fetched.receipt.stale.as_deref().unwrap_or_default();
    assert!(stale.contains(why), "{stale}");
    assert_eq!(reasons.last(), Some(&format!("stale: {stale}")));
    assert_eq!(fetched.receipt.ttl, Some(Duration::ZERO), "a verdict with it is not reused");
    assert_eq!(fetched.receipt.answers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_old_finding_is_used_at_once_while_the_source_is_asked_again_once() {
    let harness = harness(HOUR, Duration::ZERO, &[ScriptedReply::says("found 2").after(SECOND)]);
    let first = harness.look_up().await;
    harness.clock.sleep(HOUR + 5 * SECOND).await;
    for _ in 0..10 {
        let stale = harness.look_up().await;
        assert_stale(&stale, HOUR + 5 * SECOND, "the source answered 1h 5s ago; it is asked again in the background");
        assert_eq!((stale.outcome.time, stale.receipt.latency), (first.outcome.time, Duration::ZERO));
        assert_eq!((stale.receipt.called, stale.receipt.units), (false, 0));
    }
    harness.tasks().await;
    let fresh = harness.look_up().await;
    assert_eq!((finding(&fresh.outcome).0, fresh.receipt.stale), (Disposition::Suspicious, None));
    assert_eq!(harness.transport.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn after_its_time_to_be_asked_again_in_the_background_the_caller_waits() {
    let harness = harness(HOUR, Duration::ZERO, &[ScriptedReply::says("found 2")]);
    harness.look_up().await;
    harness.clock.sleep(2 * HOUR).await;
    let fetched = harness.look_up().await;
    assert_eq!((fetched.receipt.called, finding(&fetched.outcome).0), (true, Disposition::Suspicious));
}

#[tokio::test(start_paused = true)]
async fn an_old_finding_stands_in_for_a_source_that_fails_and_says_so() {
    let harness = harness(Duration::ZERO, HOUR, &[down()]);
    harness.look_up().await;
    harness.clock.sleep(2 * HOUR - SECOND).await;
    let stale = harness.look_up().await;
    assert_stale(&stale, 2 * HOUR - SECOND, "asking again failed: forbidden");
    assert!(stale.receipt.called, "the source was asked all the same");
    harness.clock.sleep(SECOND).await;
    assert!(matches!(harness.look_up().await.outcome.body, OutcomeBody::Error(_)), "its bound is over");
}

#[tokio::test(start_paused = true)]
async fn an_old_finding_stands_in_where_the_quota_is_used_up() {
    let mut settings = settings(&about());
    settings.quota = vec![QuotaWindow { per: QuotaPer::Day, limit: 1 }];
    let harness = with_settings(settings, &[]);
    harness.look_up().await;
    harness.clock.sleep(HOUR).await;
    assert_stale(&harness.look_up().await, HOUR, "not asked again: 1 of 1 call per day is used");
    assert_eq!(harness.transport.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_old_finding_stands_in_at_the_deadline() {
    let harness = harness(Duration::ZERO, HOUR, &[ScriptedReply::says("found 2").after(5 * SECOND)]);
    harness.look_up().await;
    harness.clock.sleep(HOUR).await;
    let fetched = harness.pipeline.look_up(harness.request_for("192.0.2.1", SECOND)).await;
    assert_stale(&fetched, HOUR + SECOND, "asking again failed: timeout: no answer before the deadline");
}

#[tokio::test(start_paused = true)]
async fn no_record_never_outlives_its_time() {
    let mut settings = settings(&about());
    settings.cache_ttl.stale_while_revalidate = 24 * HOUR;
    let none = ScriptedReply::says("none");
    let harness = Harness::with(about(), settings, &[none, down()]);
    harness.look_up().await;
    harness.clock.sleep(600 * SECOND).await;
    let fetched = harness.look_up().await;
    error(&fetched.outcome);
    assert_eq!(fetched.receipt.stale, None);
}

#[tokio::test(start_paused = true)]
async fn the_age_that_a_request_allows_bounds_what_is_stale_too() {
    let harness = harness(HOUR, HOUR, &[down()]);
    harness.look_up().await;
    harness.clock.sleep(HOUR + 10 * SECOND).await;
    let mut request = harness.request();
    request.max_age = Some(HOUR + 10 * SECOND);
    error(&harness.pipeline.look_up(request.clone()).await.outcome);
    request.max_age = Some(HOUR + 20 * SECOND);
    assert_stale(&harness.pipeline.look_up(request).await, HOUR + 10 * SECOND, "in the background");
}

#[tokio::test(start_paused = true)]
async fn without_the_settings_nothing_is_used_after_its_time() {
    let harness = harness(Duration::ZERO, Duration::ZERO, &[down()]);
    harness.look_up().await;
    harness.clock.sleep(HOUR).await;
    error(&harness.look_up().await.outcome);
}

#[tokio::test(start_paused = true)]
async fn an_old_finding_is_rated_as_the_settings_are_now() {
    let mut harness = harness(Duration::ZERO, HOUR, &[down()]);
    harness.look_up().await;
    let mut stricter = (*harness.parts.settings).clone();
    stricter.options.insert("threshold".into(), OptionValue::Integer(10));
    harness.change(about(), stricter);
    harness.clock.sleep(HOUR).await;
    let fetched = harness.look_up().await;
    assert_eq!(finding(&fetched.outcome).0, Disposition::Suspicious);
    assert!(fetched.receipt.stale.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_old_finding_stands_in_after_a_restart_too() {
    let mut harness = harness(Duration::ZERO, HOUR, &[ScriptedReply::fails(SourceError::unavailable("down"))]);
    harness.look_up().await;
    harness.restart().await;
    harness.clock.sleep(HOUR).await;
    assert!(harness.look_up().await.receipt.stale.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_request_without_time_gets_the_old_finding() {
    let harness = harness(Duration::ZERO, HOUR, &[]);
    harness.look_up().await;
    harness.clock.sleep(HOUR).await;
    let late = harness.pipeline.look_up(harness.request_for("192.0.2.1", Duration::ZERO)).await;
    assert_stale(&late, HOUR, "no time was left before the deadline");
    let other = harness.pipeline.look_up(harness.request_for("192.0.2.2", Duration::ZERO)).await;
    assert_eq!(not_asked(&other.outcome).reason, NotAskedReason::Deadline);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_was_cut_short_does_not_take_the_place_of_an_old_finding() {
    let harness = harness(Duration::ZERO, HOUR, &[ScriptedReply::says("more"), down(), down()]);
    harness.look_up().await;
    harness.clock.sleep(HOUR).await;
    assert_stale(&harness.look_up().await, HOUR, "asking again failed");
    harness.clock.sleep(SECOND).await;
    assert_stale(&harness.look_up().await, HOUR + SECOND, "asking again failed");
    assert_eq!(harness.transport.calls(), 4);
}
