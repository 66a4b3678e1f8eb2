//! Who shares a conversation, and what happens when those who wait leave.

use std::time::Duration;

use super::{Act, Bench, SECOND, error, finding, not_asked};
use crate::fetch::Request;
use crate::finding::{Disposition, NotAskedReason, SourceError, SourceErrorKind};
use crate::indicator::Tlp;

#[tokio::test(start_paused = true)]
async fn a_hundred_same_requests_are_one_call_and_the_next_is_none() {
    let bench = Bench::per_minute(4, &[Act::says("found 9").after(SECOND)]);
    let all: Vec<_> = (0..100).map(|_| bench.begin(bench.request())).collect();
    let mut units = 0;
    for one in all {
        let fetched = one.await.unwrap();
        assert_eq!(finding(&fetched.outcome).0, Disposition::Malicious);
        units += fetched.receipt.units;
    }
    assert_eq!((bench.stage.calls(), units), (1, 1));
    assert!(bench.look_up().await.receipt.from_cache);
    let counters = bench.stack.counters();
    assert_eq!((counters.calls, counters.shared, counters.cache_hits, counters.units), (1, 99, 1, 1));
    assert_eq!(bench.books.disclosures.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn everybody_who_shares_a_call_is_on_record_once() {
    let bench = Bench::new(&[Act::says("more 9").after(2 * SECOND), Act::says("found 9").after(2 * SECOND)]);
    let asks = |caller: &str| bench.begin(Request { caller: caller.into(), ..bench.request() });
    let early = [asks("ann"), asks("bob"), asks("ann")];
    tokio::time::sleep(SECOND).await;
    let late = [asks("cid"), asks("bob"), asks("cid")];
    for one in early.into_iter().chain(late) {
        assert_eq!(finding(&one.await.unwrap().outcome).0, Disposition::Malicious);
    }
    let callers: Vec<_> = bench.books.disclosures.lock().unwrap().iter().map(|one| one.caller.clone()).collect();
    assert_eq!(callers, ["ann", "bob", "cid"]);
    // Who is there before the call leaves is on record before it does.
    assert_eq!(
        bench.log.lock().unwrap()[..],
        ["taken", "disclosed", "disclosed", "sent", "disclosed", "taken", "sent"]
    );
    assert_eq!(bench.stage.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_joins_a_call_under_way_gets_its_answer_though_the_ledger_is_away() {
    let bench = Bench::new(&[Act::says("found 9").after(2 * SECOND)]);
    let first = bench.begin(bench.request());
    tokio::time::sleep(SECOND).await;
    *bench.books.away.lock().unwrap() = true;
    let late = bench.begin(Request { caller: "late".into(), ..bench.request() });
    assert_eq!(finding(&late.await.unwrap().outcome).0, Disposition::Malicious);
    first.await.unwrap();
    assert_eq!(bench.books.disclosures.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_tlp_is_another_entry() {
    let bench = Bench::new(&[Act::says("found 9").after(SECOND)]);
    let one = bench.begin(bench.request());
    let other = bench.begin(Request { tlp: Tlp::Amber, ..bench.request() });
    one.await.unwrap();
    other.await.unwrap();
    let mut tlps: Vec<_> = bench.books.disclosures.lock().unwrap().iter().map(|one| one.tlp).collect();
    tlps.sort();
    assert_eq!(tlps, [Tlp::Green, Tlp::Amber]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_same_requests_are_one_call_on_several_threads_too() {
    let bench = Bench::new(&[Act::says("found 9")]);
    let all: Vec<_> = (0..100).map(|_| bench.begin(bench.request())).collect();
    for one in all {
        one.await.unwrap();
    }
    assert_eq!(bench.stage.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn different_indicators_are_different_calls() {
    let bench = Bench::new(&[Act::says("found 9").after(SECOND)]);
    let one = bench.begin(bench.request_for("192.0.2.1", 60 * SECOND));
    let other = bench.begin(bench.request_for("192.0.2.2", 60 * SECOND));
    assert!(!one.await.unwrap().receipt.shared && !other.await.unwrap().receipt.shared);
    assert_eq!(bench.stage.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_with_more_time_is_not_cut_by_one_with_less() {
    let bench = Bench::new(&[Act::says("found 9").after(5 * SECOND)]);
    let hasty = bench.begin(bench.request_for("192.0.2.1", 2 * SECOND));
    tokio::time::sleep(SECOND).await;
    let patient = bench.begin(bench.request_for("192.0.2.1", 10 * SECOND));
    let hasty = hasty.await.unwrap();
    assert_eq!(error(&hasty.outcome).kind, SourceErrorKind::Timeout);
    assert_eq!(hasty.receipt.latency, 2 * SECOND);
    let patient = patient.await.unwrap();
    assert_eq!(finding(&patient.outcome).0, Disposition::Malicious);
    assert_eq!((patient.receipt.shared, patient.receipt.latency, bench.stage.calls()), (true, 4 * SECOND, 1));
}

#[tokio::test(start_paused = true)]
async fn a_paid_call_fills_the_cache_though_every_waiter_has_left() {
    let bench = Bench::per_minute(4, &[Act::says("found 9").after(5 * SECOND)]);
    let waiter = bench.begin(bench.request());
    tokio::time::sleep(SECOND).await;
    waiter.abort();
    tokio::time::sleep(5 * SECOND).await;
    assert!(bench.look_up().await.receipt.from_cache);
    assert_eq!(bench.stage.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_further_attempt_begins_when_the_last_waiter_has_left() {
    let bench = Bench::new(&[Act::fails(SourceError::unavailable("down")).after(5 * SECOND), Act::says("found 9")]);
    let waiter = bench.begin(bench.request());
    tokio::time::sleep(SECOND).await;
    waiter.abort();
    bench.settle().await;
    assert_eq!(bench.stage.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_further_step_begins_when_the_last_waiter_has_left() {
    let bench = Bench::new(&[Act::says("more 9").after(5 * SECOND), Act::says("found 9")]);
    let waiter = bench.begin(bench.request());
    tokio::time::sleep(SECOND).await;
    waiter.abort();
    bench.settle().await;
    assert_eq!(bench.stage.calls(), 1);
    // What was paid is not lost: only the second step is asked now.
    assert_eq!(finding(&bench.look_up().await.outcome).0, Disposition::Malicious);
    assert_eq!(bench.stage.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_during_a_paid_call_joins_it() {
    let bench = Bench::new(&[Act::says("more 9").after(5 * SECOND), Act::says("found 9")]);
    let waiter = bench.begin(bench.request());
    tokio::time::sleep(SECOND).await;
    waiter.abort();
    tokio::time::sleep(SECOND).await;
    let fetched = bench.look_up().await;
    assert!(fetched.receipt.shared);
    assert_eq!(finding(&fetched.outcome).1, vec!["the source says 9"]);
    assert_eq!(bench.stage.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_passed_deadline_asks_nobody() {
    let bench = Bench::per_minute(4, &[Act::says("found 9")]);
    let fetched = bench.stack.look_up(bench.request_for("192.0.2.1", Duration::ZERO)).await;
    assert_eq!(not_asked(&fetched.outcome).reason, NotAskedReason::Deadline);
    assert_eq!((bench.stage.calls(), bench.books.takes.lock().unwrap().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_while_the_source_is_asked_is_a_timeout() {
    let bench = Bench::per_minute(4, &[Act::says("found 9").after(5 * SECOND)]);
    let fetched = bench.stack.look_up(bench.request_for("192.0.2.1", SECOND)).await;
    let error = error(&fetched.outcome);
    assert_eq!((error.kind, error.detail.as_str()), (SourceErrorKind::Timeout, "no answer before the deadline"));
    assert_eq!(fetched.receipt.units, 1);
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_what_is_known_so_far_stands() {
    let bench = Bench::new(&[Act::says("more 9"), Act::says("found 9").after(5 * SECOND)]);
    let fetched = bench.stack.look_up(bench.request_for("192.0.2.1", SECOND)).await;
    let (claim, reasons) = finding(&fetched.outcome);
    assert_eq!(claim, Disposition::Malicious);
    assert_eq!(reasons[1], "incomplete: no answer before the deadline");
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_a_kind_is_an_error_and_stands_in_nobodys_way() {
    let bench = Bench::new(&[Act::says("fault"), Act::says("found 9")]);
    let error = error(&bench.look_up().await.outcome);
    assert_eq!(error.kind, SourceErrorKind::Unavailable);
    assert!(error.detail.contains("fault of this server"));
    assert_eq!(finding(&bench.look_up().await.outcome).0, Disposition::Malicious);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_asks_anew_does_not_join_one_that_rereads() {
    let bench = Bench::new(&[Act::says("more 9").after(SECOND), Act::status(401, None), Act::says("found 2")]);
    bench.look_up().await;
    let reread = bench.begin(bench.request());
    let mut request = bench.request();
    request.max_age = Some(Duration::ZERO);
    let anew = bench.begin(request);
    assert!(!reread.await.unwrap().receipt.shared && !anew.await.unwrap().receipt.shared);
    assert_eq!(bench.stage.calls(), 4);
}

#[test]
fn what_is_counted_bears_source_and_outcome() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let bench = Bench::per_minute(4, &[Act::status(503, None), Act::says("none")]);
            bench.look_up().await;
            bench.look_up().await;
        });
    });
    let text = handle.render();
    for line in [
        r#"concord_source_calls_total{source="word",outcome="unavailable"} 1"#,
        r#"concord_source_calls_total{source="word",outcome="answer"} 1"#,
        r#"concord_source_quota_units_total{source="word"} 2"#,
        r#"concord_source_lookups_total{source="word",outcome="no_record",from="source"} 1"#,
        r#"concord_source_lookups_total{source="word",outcome="no_record",from="cache"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}
