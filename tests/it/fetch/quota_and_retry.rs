//! What is paid, when, and what a refusal brings; what is tried again and what is not.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use concord::clock::Clock;
use concord::finding::{Disposition, NotAskedReason, SourceError, SourceErrorKind};
use concord::source::{QuotaPer, QuotaWindow};

use super::{Harness, SECOND, ScriptedReply, about, error, finding, not_asked, settings};

fn down() -> ScriptedReply {
    ScriptedReply::fails(SourceError::unavailable("down"))
}

#[tokio::test(start_paused = true)]
async fn four_a_minute_are_never_five_in_any_sixty_seconds() {
    let harness = Harness::per_minute(4, &[ScriptedReply::says("found 9")]);
    for number in 0..60_u32 {
        let address = format!("192.0.2.{number}");
        harness.pipeline.look_up(harness.request_for(&address, 60 * SECOND)).await;
        harness.clock.sleep(7 * SECOND).await;
    }
    let times = harness.transport.times();
    assert!(times.len() > 20, "the quota is used: {}", times.len());
    for five in times.windows(5) {
        assert!(five[4] - five[0] >= 60 * SECOND, "five calls within {:?}", five[4] - five[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_spent_quota_is_not_asked_and_says_until_when() {
    let harness = Harness::per_minute(1, &[ScriptedReply::says("found 9")]);
    harness.look_up().await;
    harness.clock.sleep(20 * SECOND).await;
    let request = harness.request_for("192.0.2.2", 30 * SECOND);
    let now = harness.clock.now();
    let refused = harness.pipeline.look_up(request).await;
    let not_asked = not_asked(&refused.outcome);
    assert_eq!(not_asked.reason, NotAskedReason::QuotaSpent);
    assert_eq!(not_asked.until, Some(now + 40 * SECOND));
    assert_eq!(not_asked.detail, "1 of 1 call per minute is used");
    assert_eq!((harness.transport.calls(), refused.receipt.units, refused.receipt.quota.len()), (1, 0, 1));
    assert_eq!(harness.pipeline.quota_usage().await[0].used, 1);
}

#[tokio::test(start_paused = true)]
async fn unit_and_disclosure_are_recorded_before_the_call_is_made() {
    let harness = Harness::per_minute(4, &[down(), ScriptedReply::says("found 9")]);
    harness.look_up().await;
    let log = harness.log.lock().unwrap().clone();
    assert_eq!(log, ["taken", "disclosed", "sent", "taken", "sent"]);
    let disclosure = harness.ledger.disclosures.lock().unwrap()[0].clone();
    assert_eq!((disclosure.to.as_str(), disclosure.caller.as_str()), ("source.example.com", "tester"));
}

#[tokio::test(start_paused = true)]
async fn a_slow_ledger_costs_no_second_unit_and_the_one_counts_from_when_its_call_ended() {
    let harness = Harness::per_minute(4, &[ScriptedReply::says("found 9").after(SECOND)]);
    *harness.ledger.lags.lock().unwrap() = vec![2 * SECOND];
    let begun = harness.clock.now();
    assert_eq!(harness.look_up().await.receipt.units, 1);
    harness.tasks().await;
    assert_eq!(harness.log.lock().unwrap()[..], ["taken", "disclosed", "sent"]);
    assert_eq!(harness.ledger.acquired_at.lock().unwrap()[..], [begun]);
    assert_eq!(harness.ledger.settled_at.lock().unwrap()[..], [begun + 3 * SECOND]);
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_together_pay_in_one_statement() {
    let harness = Harness::per_minute(9, &[ScriptedReply::says("found 9")]);
    *harness.ledger.lags.lock().unwrap() = vec![SECOND];
    let look_ups = (1..=5).map(|last| harness.begin(harness.request_for(&format!("192.0.2.{last}"), 60 * SECOND)));
    for look_up in look_ups.collect::<Vec<_>>() {
        assert_eq!(look_up.await.unwrap().receipt.units, 1);
    }
    assert_eq!((harness.ledger.statements(), harness.transport.calls()), (1, 5));
}

#[tokio::test(start_paused = true)]
async fn a_caller_without_time_for_the_ledger_does_not_pay() {
    let harness = Harness::per_minute(9, &[ScriptedReply::says("found 9")]);
    *harness.ledger.lags.lock().unwrap() = vec![2 * SECOND];
    harness.look_up().await;
    let late = harness.pipeline.look_up(harness.request_for("192.0.2.2", SECOND)).await;
    assert_eq!(not_asked(&late.outcome).reason, NotAskedReason::Deadline);
    assert_eq!((harness.ledger.acquired_at.lock().unwrap().len(), harness.transport.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_while_the_unit_is_recorded_causes_no_call() {
    let harness = Harness::per_minute(4, &[ScriptedReply::says("found 9")]);
    *harness.ledger.lags.lock().unwrap() = vec![SECOND / 4];
    let late = harness.pipeline.look_up(harness.request_for("192.0.2.1", SECOND / 10)).await;
    assert_eq!(not_asked(&late.outcome).reason, NotAskedReason::Deadline);
    harness.tasks().await;
    assert_eq!((harness.transport.calls(), harness.ledger.acquired_at.lock().unwrap().len()), (0, 0), "given back");
}

#[tokio::test(start_paused = true)]
async fn the_longer_of_two_waits_that_a_source_asks_for_holds() {
    let replies =
        [ScriptedReply::status(429, Some(3600)).after(SECOND), ScriptedReply::status(429, None).after(2 * SECOND)];
    let harness = Harness::new(&replies);
    let one = harness.begin(harness.request_for("192.0.2.1", 60 * SECOND));
    let other = harness.begin(harness.request_for("192.0.2.2", 60 * SECOND));
    one.await.unwrap();
    other.await.unwrap();
    let left = harness.suspended_until().unwrap().duration_since(harness.clock.now()).unwrap();
    assert!(left > 3000 * SECOND, "{left:?}");
    // Nor do other settings on the same account forget it.
    let mut harness = harness;
    harness.change(about(), settings(&about()));
    assert_eq!(not_asked(&harness.look_up().await.outcome).reason, NotAskedReason::QuotaSpent);
    assert_eq!(harness.transport.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_asks_for_no_wait_still_pauses_the_account() {
    let harness = Harness::new(&[ScriptedReply::status(429, Some(0))]);
    harness.look_up().await;
    let second = harness.pipeline.look_up(harness.request_for("192.0.2.2", 60 * SECOND)).await;
    assert_eq!(not_asked(&second.outcome).reason, NotAskedReason::QuotaSpent);
    assert_eq!(harness.transport.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn setting_the_wall_clock_does_not_change_how_long_a_source_is_suspended() {
    let harness = Harness::new(&[ScriptedReply::status(429, None), ScriptedReply::says("found 9")]);
    harness.look_up().await;
    for wall in [SystemTime::UNIX_EPOCH, harness.clock.now() + 86_400 * SECOND] {
        harness.clock.set_wall(wall);
        assert_eq!(harness.suspended_until(), Some(wall + 60 * SECOND));
        assert_eq!(not_asked(&harness.look_up().await.outcome).reason, NotAskedReason::QuotaSpent);
    }
    harness.clock.sleep(60 * SECOND).await;
    assert_eq!(harness.suspended_until(), None);
    assert_eq!(finding(&harness.look_up().await.outcome).0, Disposition::Malicious);
}

#[tokio::test(start_paused = true)]
async fn every_attempt_pays() {
    let harness = Harness::per_minute(2, &[down()]);
    let fetched = harness.look_up().await;
    assert_eq!((harness.transport.calls(), fetched.receipt.units), (2, 2));
    // The third attempt was not paid for; what the source did before is the truth about it.
    assert_eq!(error(&fetched.outcome).kind, SourceErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_did_not_reach_the_source_gives_its_unit_back_and_is_retried() {
    let replies = [ScriptedReply::unreachable(false), ScriptedReply::says("found 9")];
    let harness = Harness::per_minute(1, &replies);
    let fetched = harness.look_up().await;
    assert_eq!(finding(&fetched.outcome).0, Disposition::Malicious);
    assert_eq!(harness.log.lock().unwrap()[..], ["taken", "disclosed", "sent", "given back", "taken", "sent"]);
    assert_eq!((fetched.receipt.units, fetched.receipt.quota[0].used), (1, 1));
    let down = Harness::per_minute(1, &[ScriptedReply::unreachable(false)]);
    let fetched = down.look_up().await;
    assert_eq!(error(&fetched.outcome).detail, "no connection");
    assert_eq!((down.transport.calls(), fetched.receipt.units, fetched.receipt.quota[0].used), (3, 0, 0));
    let counted = down.parts.counters.snapshot();
    assert_eq!((counted.calls, counted.units, down.pipeline.quota_usage().await[0].used), (3, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_cannot_be_reached_is_tried_once_and_costs_nothing() {
    let harness = Harness::per_minute(1, &[ScriptedReply::unreachable(true)]);
    for _ in 0..2 {
        let fetched = harness.look_up().await;
        assert_eq!(error(&fetched.outcome).detail, "no connection", "the cause, and no spent quota");
        assert_eq!((fetched.receipt.units, harness.pipeline.quota_usage().await[0].used), (0, 0));
    }
    assert_eq!(harness.transport.calls(), 2);
    let probe = harness.pipeline.probe("tester").await;
    assert_eq!(probe.connectivity.map_err(|error| error.kind), Err(SourceErrorKind::Unavailable));
    assert_eq!((harness.transport.calls(), harness.ledger.acquired_at.lock().unwrap().len()), (3, 0));
    let later = Harness::per_minute(9, &[down(), ScriptedReply::unreachable(true)]);
    assert_eq!(error(&later.look_up().await.outcome).detail, "no connection", "the last word");
    assert_eq!((later.transport.calls(), later.pipeline.quota_usage().await[0].used), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_the_ledger_cannot_take_back_stays_spent() {
    let harness = Harness::per_minute(2, &[ScriptedReply::unreachable(true).after(SECOND)]);
    let looking_up = harness.begin(harness.request_for("192.0.2.1", 60 * SECOND));
    harness.clock.sleep(SECOND / 2).await;
    *harness.ledger.unreachable.lock().unwrap() = true;
    let fetched = looking_up.await.unwrap();
    assert_eq!((error(&fetched.outcome).detail.as_str(), fetched.receipt.units), ("no connection", 1));
    assert_eq!(harness.ledger.acquired_at.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_call_is_recorded_once_the_ledger_is_back() {
    let harness = Harness::per_minute(2, &[ScriptedReply::says("found 9").after(SECOND)]);
    let looking_up = harness.begin(harness.request_for("192.0.2.1", 60 * SECOND));
    harness.clock.sleep(SECOND / 2).await;
    *harness.ledger.unreachable.lock().unwrap() = true;
    looking_up.await.unwrap();
    let ended = harness.clock.now();
    harness.clock.sleep(7 * SECOND).await;
    assert!(harness.ledger.settled_at.lock().unwrap().is_empty());
    *harness.ledger.unreachable.lock().unwrap() = false;
    harness.clock.sleep(5 * SECOND).await;
    assert_eq!(harness.ledger.settled_at.lock().unwrap()[..], [ended]);
}

#[tokio::test(start_paused = true)]
async fn a_unit_stays_spent_although_its_attempt_is_dropped() {
    let harness = Harness::per_minute(1, &[ScriptedReply::says("found 9").after(5 * SECOND)]);
    let clock: Arc<dyn Clock> = Arc::new(harness.clock.clone());
    let dropped = clock.timeout(SECOND, harness.pipeline.probe("tester")).await;
    assert!(dropped.is_none());
    assert_eq!(harness.ledger.acquired_at.lock().unwrap().len(), 1);
    let later = harness.pipeline.look_up(harness.request_for("192.0.2.2", 30 * SECOND)).await;
    assert_eq!(not_asked(&later.outcome).reason, NotAskedReason::QuotaSpent);
}

#[tokio::test(start_paused = true)]
async fn no_call_is_made_while_the_ledger_is_unreachable() {
    let harness = Harness::per_minute(4, &[ScriptedReply::says("found 9")]);
    *harness.ledger.unreachable.lock().unwrap() = true;
    let error = error(&harness.look_up().await.outcome);
    assert_eq!(error.kind, SourceErrorKind::Unavailable);
    assert!(error.detail.contains("ledger"));
    assert_eq!(harness.transport.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_without_a_record_of_the_disclosure() {
    // No quota: the disclosure alone needs the ledger.
    let harness = Harness::new(&[ScriptedReply::says("found 9")]);
    *harness.ledger.unreachable.lock().unwrap() = true;
    assert_eq!(error(&harness.look_up().await.outcome).kind, SourceErrorKind::Unavailable);
    assert_eq!(harness.transport.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_retried_twice_with_growing_waits() {
    let harness = Harness::new(&[ScriptedReply::status(503, None)]);
    let fetched = harness.look_up().await;
    assert_eq!(error(&fetched.outcome).kind, SourceErrorKind::Unavailable);
    let times = harness.transport.times();
    assert_eq!(times.len(), 3);
    let (first, second) = (times[1], times[2] - times[1]);
    assert!(first >= Duration::from_millis(100) && first <= Duration::from_millis(201), "{first:?}");
    assert!(second >= Duration::from_millis(200) && second <= Duration::from_millis(401), "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_is_not_retried() {
    for status in [400, 401, 403, 302] {
        let harness = Harness::new(&[ScriptedReply::status(status, None)]);
        harness.look_up().await;
        assert_eq!(harness.transport.calls(), 1, "status {status}");
    }
    let harness = Harness::new(&[ScriptedReply::says("gibberish")]);
    assert_eq!(error(&harness.look_up().await.outcome).kind, SourceErrorKind::Malformed);
    assert_eq!(harness.transport.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_the_source_asks_for_is_kept_if_it_fits() {
    let harness = Harness::new(&[ScriptedReply::status(503, Some(7)), ScriptedReply::says("found 9")]);
    assert_eq!(finding(&harness.look_up().await.outcome).0, Disposition::Malicious);
    let times = harness.transport.times();
    assert!(times[1] >= 7 * SECOND && times[1] < 8 * SECOND, "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_does_not_fit_the_time_left_is_not_begun() {
    let harness = Harness::new(&[ScriptedReply::status(503, Some(7)), ScriptedReply::says("found 9")]);
    let fetched = harness.pipeline.look_up(harness.request_for("192.0.2.1", 5 * SECOND)).await;
    let error = error(&fetched.outcome);
    assert_eq!((error.kind, error.retry_after), (SourceErrorKind::Unavailable, Some(7 * SECOND)));
    assert_eq!(fetched.receipt.latency, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_failing_source_does_not_get_three_times_as_many_calls() {
    // One attempt in three fails, which opens no circuit.
    let replies = [down(), ScriptedReply::says("found 9"), ScriptedReply::says("found 9")];
    let replies: Vec<_> = replies.iter().cycle().take(150).cloned().collect();
    let harness = Harness::new(&replies);
    for number in 0..100_u32 {
        harness.pipeline.look_up(harness.request_for(&format!("192.0.2.{number}"), 60 * SECOND)).await;
    }
    assert_eq!(
        harness.transport.calls(),
        100 + 14,
        "five retries in hand, and one for every ten questions after the first"
    );
}

#[tokio::test(start_paused = true)]
async fn a_source_that_reports_a_spent_quota_is_suspended_as_long_as_it_asks() {
    let harness = Harness::per_minute(100, &[ScriptedReply::status(429, Some(90)), ScriptedReply::says("found 9")]);
    let first = harness.look_up().await;
    let error = error(&first.outcome);
    assert_eq!((error.kind, error.retry_after), (SourceErrorKind::QuotaExhausted, Some(90 * SECOND)));
    harness.clock.sleep(89 * SECOND).await;
    let second = not_asked(&harness.look_up().await.outcome);
    assert_eq!((second.reason, second.until), (NotAskedReason::QuotaSpent, harness.suspended_until()));
    assert_eq!((harness.transport.calls(), harness.ledger.acquired_at.lock().unwrap().len()), (1, 1));
    harness.clock.sleep(2 * SECOND).await;
    assert_eq!(finding(&harness.look_up().await.outcome).0, Disposition::Malicious);
}

#[tokio::test(start_paused = true)]
async fn an_extreme_wait_is_limited_to_the_longest_window_or_a_day() {
    let harness = Harness::new(&[ScriptedReply::status(429, Some(u64::MAX))]);
    harness.look_up().await;
    let left = |harness: &Harness| harness.suspended_until().unwrap().duration_since(harness.clock.now()).unwrap();
    assert_eq!(left(&harness), 86_400 * SECOND);
    let mut settings = settings(&about());
    settings.quota = vec![QuotaWindow { per: QuotaPer::Week, limit: 9 }];
    let weekly = Harness::with(about(), settings, &[ScriptedReply::status(429, Some(u64::MAX))]);
    weekly.look_up().await;
    assert_eq!(left(&weekly), 7 * 86_400 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn test_source_asks_a_suspended_source() {
    let harness = Harness::new(&[ScriptedReply::status(429, Some(3600)), ScriptedReply::says("none")]);
    harness.look_up().await;
    assert!(harness.suspended_until().is_some());
    assert_eq!(harness.pipeline.probe("tester").await.connectivity, Ok(()));
    assert_eq!((harness.suspended_until(), harness.transport.calls()), (None, 2));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_the_sources_timeout_and_all_have_a_bound() {
    let mut quick = settings(&about());
    quick.timeout = 2 * SECOND;
    let harness = Harness::with(about(), quick, &[ScriptedReply::says("found 9").after(100 * SECOND)]);
    let fetched = harness.look_up().await;
    let error = error(&fetched.outcome);
    assert_eq!((error.kind, error.detail.as_str()), (SourceErrorKind::Timeout, "no answer within 2000 ms"));
    assert_eq!(harness.transport.calls(), 2, "the third would begin after twice the timeout");
    assert!(fetched.receipt.latency <= 6 * SECOND, "{:?}", fetched.receipt.latency);
}

#[tokio::test(start_paused = true)]
async fn a_probe_pays_but_discloses_nobody() {
    let harness = Harness::per_minute(1, &[ScriptedReply::says("none")]);
    assert_eq!(harness.pipeline.probe("tester").await.connectivity, Ok(()));
    assert_eq!(harness.ledger.acquired_at.lock().unwrap().len(), 1);
    assert!(harness.ledger.disclosures.lock().unwrap().is_empty());
    let again = harness.pipeline.probe("tester").await.connectivity;
    assert_eq!(again.map_err(|error| error.kind), Err(SourceErrorKind::QuotaExhausted));
    assert_eq!(harness.transport.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_probe_without_time_left_has_timed_out_and_not_spent_its_quota() {
    let harness = Harness::per_minute(1, &[ScriptedReply::says("none")]);
    harness.ledger.lags.lock().unwrap().push(21 * SECOND);
    let connectivity = harness.pipeline.probe("tester").await.connectivity;
    assert_eq!(connectivity.map_err(|error| error.kind), Err(SourceErrorKind::Timeout));
    assert_eq!(harness.transport.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_hangs_is_not_waited_for_beyond_the_total_time() {
    let harness = Harness::per_minute(4, &[ScriptedReply::says("found 9")]);
    *harness.ledger.hangs.lock().unwrap() = true;
    let fetched = harness.look_up().await;
    assert_eq!(not_asked(&fetched.outcome).reason, NotAskedReason::Deadline);
    assert_eq!((fetched.receipt.latency, harness.transport.calls()), (30 * SECOND, 0));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_cannot_be_written_costs_nothing() {
    let harness = Harness::per_minute(4, &[ScriptedReply::says("found 9")]);
    let fetched = harness.pipeline.look_up(harness.request_for("198.51.100.66", SECOND)).await;
    assert_eq!(error(&fetched.outcome).kind, SourceErrorKind::BadQuestion);
    assert_eq!((harness.transport.calls(), fetched.receipt.units), (0, 0));
}
