//! Who shares a conversation, and what happens when those who wait leave.

use std::time::Duration;

use concord::clock::Clock;
use concord::fetch::LookupRequest;
use concord::finding::{Disposition, NotAskedReason, SourceError, SourceErrorKind};
use concord::indicator::Tlp;
use futures_util::FutureExt;

use super::{Harness, SECOND, ScriptedReply, error, finding, not_asked};

#[tokio::test(start_paused = true)]
async fn a_hundred_identical_requests_share_one_call_and_the_next_needs_none() {
    let harness = Harness::per_minute(4, &[ScriptedReply::says("found 9").after(SECOND)]);
    let all: Vec<_> = (0..100).map(|_| harness.begin(harness.request())).collect();
    let mut units = 0;
    for look_up in all {
        let fetched = look_up.await.unwrap();
        assert_eq!(finding(&fetched.outcome).0, Disposition::Malicious);
        units += fetched.receipt.units;
    }
    assert_eq!((harness.transport.calls(), units), (1, 1));
    assert!(harness.look_up().await.receipt.from_cache);
    let counters = harness.parts.counters.snapshot();
    assert_eq!((counters.calls, counters.shared, counters.cache_hits, counters.units), (1, 99, 1, 1));
    assert_eq!(harness.ledger.disclosures.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_caller_that_shares_a_call_is_recorded_once() {
    let harness = Harness::new(&[
        ScriptedReply::says("more 9").after(2 * SECOND),
        ScriptedReply::says("found 9").after(2 * SECOND),
    ]);
    let asks = |caller: &str| harness.begin(LookupRequest { caller: caller.into(), ..harness.request() });
    let early = [asks("ann"), asks("bob"), asks("ann")];
    harness.clock.sleep(SECOND).await;
    let late = [asks("cid"), asks("bob"), asks("cid")];
    for look_up in early.into_iter().chain(late) {
        assert_eq!(finding(&look_up.await.unwrap().outcome).0, Disposition::Malicious);
    }
    let callers: Vec<_> =
        harness.ledger.disclosures.lock().unwrap().iter().map(|disclosure| disclosure.caller.clone()).collect();
    assert_eq!(callers, ["ann", "bob", "cid"]);
    // Who is there before the call leaves is on record before it does.
    assert_eq!(
        harness.log.lock().unwrap()[..],
        ["taken", "disclosed", "disclosed", "sent", "disclosed", "taken", "sent"]
    );
    assert_eq!(harness.transport.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_joins_gets_the_answer_even_if_the_ledger_is_unreachable() {
    let harness = Harness::new(&[ScriptedReply::says("found 9").after(2 * SECOND)]);
    let first = harness.begin(harness.request());
    harness.clock.sleep(SECOND).await;
    *harness.ledger.unreachable.lock().unwrap() = true;
    let late = harness.begin(LookupRequest { caller: "late".into(), ..harness.request() });
    assert_eq!(finding(&late.await.unwrap().outcome).0, Disposition::Malicious);
    first.await.unwrap();
    assert_eq!(harness.ledger.disclosures.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_tlp_is_another_entry() {
    let harness = Harness::new(&[ScriptedReply::says("found 9").after(SECOND)]);
    let one = harness.begin(harness.request());
    let other = harness.begin(LookupRequest { tlp: Tlp::Amber, ..harness.request() });
    one.await.unwrap();
    other.await.unwrap();
    let mut tlps: Vec<_> = harness.ledger.disclosures.lock().unwrap().iter().map(|disclosure| disclosure.tlp).collect();
    tlps.sort();
    assert_eq!(tlps, [Tlp::Green, Tlp::Amber]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_identical_requests_on_several_threads_share_one_call() {
    let harness = Harness::new(&[ScriptedReply::says("found 9")]);
    let all: Vec<_> = (0..100).map(|_| harness.begin(harness.request())).collect();
    for look_up in all {
        look_up.await.unwrap();
    }
    assert_eq!(harness.transport.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn different_indicators_are_different_calls() {
    let harness = Harness::new(&[ScriptedReply::says("found 9").after(SECOND)]);
    let one = harness.begin(harness.request_for("192.0.2.1", 60 * SECOND));
    let other = harness.begin(harness.request_for("192.0.2.2", 60 * SECOND));
    assert!(!one.await.unwrap().receipt.shared && !other.await.unwrap().receipt.shared);
    assert_eq!(harness.transport.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_with_more_time_is_not_cut_by_one_with_less() {
    let harness = Harness::new(&[ScriptedReply::says("found 9").after(5 * SECOND)]);
    let hasty = harness.begin(harness.request_for("192.0.2.1", 2 * SECOND));
    harness.clock.sleep(SECOND).await;
    let patient = harness.begin(harness.request_for("192.0.2.1", 10 * SECOND));
    let hasty = hasty.await.unwrap();
    assert_eq!(error(&hasty.outcome).kind, SourceErrorKind::Timeout);
    assert_eq!(hasty.receipt.latency, 2 * SECOND);
    let patient = patient.await.unwrap();
    assert_eq!(finding(&patient.outcome).0, Disposition::Malicious);
    assert_eq!((patient.receipt.shared, patient.receipt.latency, harness.transport.calls()), (true, 4 * SECOND, 1));
}

#[tokio::test(start_paused = true)]
async fn a_paid_call_fills_the_cache_although_every_waiter_has_left() {
    let harness = Harness::per_minute(4, &[ScriptedReply::says("found 9").after(5 * SECOND)]);
    let waiter = harness.begin(harness.request());
    harness.clock.sleep(SECOND).await;
    waiter.abort();
    harness.clock.sleep(5 * SECOND).await;
    assert!(harness.look_up().await.receipt.from_cache);
    assert_eq!(harness.transport.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_further_attempt_begins_when_the_last_waiter_has_left() {
    let harness = Harness::new(&[
        ScriptedReply::fails(SourceError::unavailable("down")).after(5 * SECOND),
        ScriptedReply::says("found 9"),
    ]);
    let waiter = harness.begin(harness.request());
    harness.clock.sleep(SECOND).await;
    waiter.abort();
    harness.tasks().await;
    assert_eq!(harness.transport.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_further_step_begins_when_the_last_waiter_has_left() {
    let harness = Harness::new(&[ScriptedReply::says("more 9").after(5 * SECOND), ScriptedReply::says("found 9")]);
    let waiter = harness.begin(harness.request());
    harness.clock.sleep(SECOND).await;
    waiter.abort();
    harness.tasks().await;
    assert_eq!(harness.transport.calls(), 1);
    // What was paid is not lost: only the second step is asked now.
    assert_eq!(finding(&harness.look_up().await.outcome).0, Disposition::Malicious);
    assert_eq!(harness.transport.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_comes_back_during_a_paid_call_joins_it() {
    let harness = Harness::new(&[ScriptedReply::says("more 9").after(5 * SECOND), ScriptedReply::says("found 9")]);
    let waiter = harness.begin(harness.request());
    harness.clock.sleep(SECOND).await;
    waiter.abort();
    harness.clock.sleep(SECOND).await;
    let fetched = harness.look_up().await;
    assert!(fetched.receipt.shared);
    assert_eq!(finding(&fetched.outcome).1, vec!["the source says 9"]);
    assert_eq!(harness.transport.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_source_is_asked_after_the_deadline() {
    let harness = Harness::per_minute(4, &[ScriptedReply::says("found 9")]);
    let fetched = harness.pipeline.look_up(harness.request_for("192.0.2.1", Duration::ZERO)).await;
    assert_eq!(not_asked(&fetched.outcome).reason, NotAskedReason::Deadline);
    assert_eq!((harness.transport.calls(), harness.ledger.acquired_at.lock().unwrap().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_while_the_source_is_asked_is_a_timeout() {
    let harness = Harness::per_minute(4, &[ScriptedReply::says("found 9").after(5 * SECOND)]);
    let fetched = harness.pipeline.look_up(harness.request_for("192.0.2.1", SECOND)).await;
    let error = error(&fetched.outcome);
    assert_eq!((error.kind, error.detail.as_str()), (SourceErrorKind::Timeout, "no answer before the deadline"));
    assert_eq!(fetched.receipt.units, 1);
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_the_partial_finding_is_returned() {
    let harness = Harness::new(&[ScriptedReply::says("more 9"), ScriptedReply::says("found 9").after(5 * SECOND)]);
    let fetched = harness.pipeline.look_up(harness.request_for("192.0.2.1", SECOND)).await;
    let (claim, reasons) = finding(&fetched.outcome);
    assert_eq!(claim, Disposition::Malicious);
    assert_eq!(reasons[1], "incomplete: no answer before the deadline");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_kind_is_an_error_and_does_not_affect_others() {
    let harness = Harness::new(&[ScriptedReply::says("fault"), ScriptedReply::says("found 9")]);
    let error = error(&harness.look_up().await.outcome);
    assert_eq!(error.kind, SourceErrorKind::Unavailable);
    assert!(error.detail.contains("fault of this server"));
    assert_eq!(finding(&harness.look_up().await.outcome).0, Disposition::Malicious);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_asks_anew_does_not_join_one_that_rereads() {
    let harness = Harness::new(&[
        ScriptedReply::says("more 9").after(SECOND),
        ScriptedReply::status(403, None),
        ScriptedReply::says("found 2"),
    ]);
    harness.look_up().await;
    let reread = harness.begin(harness.request());
    let mut request = harness.request();
    request.max_age = Some(Duration::ZERO);
    let anew = harness.begin(request);
    assert!(!reread.await.unwrap().receipt.shared && !anew.await.unwrap().receipt.shared);
    assert_eq!(harness.transport.calls(), 4);
}

#[test]
fn metrics_have_labels_for_source_and_outcome() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let harness = Harness::per_minute(4, &[ScriptedReply::status(503, None), ScriptedReply::says("none")]);
            harness.look_up().await;
            harness.look_up().await;
            harness.transport.script(&[ScriptedReply::unreachable(true)]);
            harness.pipeline.look_up(harness.request_for("192.0.2.2", 60 * SECOND)).await;
        });
    });
    let text = handle.render();
    for line in [
        r#"concord_source_calls_total{source="word",outcome="unavailable"} 2"#,
        r#"concord_source_calls_total{source="word",outcome="answer"} 1"#,
        r#"concord_source_quota_units_total{source="word"} 3"#,
        r#"concord_source_quota_units_returned_total{source="word"} 1"#,
        r#"concord_source_lookups_total{source="word",outcome="no_record",from="source"} 1"#,
        r#"concord_source_lookups_total{source="word",outcome="no_record",from="cache"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_the_conversation_of_a_caller_who_has_just_left() {
    let harness = Harness::new(&[ScriptedReply::says("found 9").after(SECOND)]);
    let mut look_up = Box::pin(harness.look_up());
    tokio::select! {
        _ = &mut look_up => panic!("it takes a second"),
        () = harness.clock.sleep(SECOND / 2) => {}
    }
    harness.parts.tracker.close();
    assert!(harness.parts.tracker.wait().now_or_never().is_none(), "the call is under way");
    drop(look_up);
    harness.tasks().await;
    assert!(harness.look_up().await.receipt.from_cache);
    assert_eq!(harness.transport.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_cancels_nothing_that_another_waits_for() {
    let harness = Harness::new(&[ScriptedReply::says("more 9").after(5 * SECOND), ScriptedReply::says("found 9")]);
    let (leaves, stays) = (harness.begin(harness.request()), harness.begin(harness.request()));
    harness.clock.sleep(SECOND).await;
    leaves.abort();
    assert_eq!(finding(&stays.await.unwrap().outcome).1, vec!["the source says 9"]);
    assert_eq!(harness.transport.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_callers_about_an_uncached_indicator_cause_one_call() {
    let harness = Harness::per_minute(4, &[ScriptedReply::says("found 9").after(SECOND)]);
    let callers: Vec<_> = (0..10_000).map(|_| harness.begin(harness.request())).collect();
    for caller in callers {
        assert!(caller.await.unwrap().outcome.body.is_answer());
    }
    assert_eq!((harness.transport.calls(), harness.ledger.acquired_at.lock().unwrap().len()), (1, 1));
}
