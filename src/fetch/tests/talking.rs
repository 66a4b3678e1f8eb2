//! Conversations of several steps.

use super::{Act, Bench, SECOND, about, error, finding, not_asked, settings};
use crate::finding::{Disposition, NotAskedReason, OutcomeBody, SourceErrorKind};
use crate::source::OptionValue;

#[tokio::test(start_paused = true)]
async fn each_step_pays_and_is_named_in_the_receipt() {
    let bench = Bench::per_minute(4, &[Act::says("more 3"), Act::says("found 9")]);
    let fetched = bench.look_up().await;
    assert_eq!(finding(&fetched.outcome).0, Disposition::Malicious);
    assert_eq!((fetched.receipt.units, fetched.receipt.answers.hashes().count()), (2, 2));
    assert_eq!(bench.books.disclosures.lock().unwrap().len(), 1, "one conversation, one disclosure");
}

#[tokio::test(start_paused = true)]
async fn a_later_step_that_fails_leaves_standing_what_is_known() {
    let bench = Bench::new(&[Act::says("more 9"), Act::status(401, None)]);
    let (claim, reasons) = finding(&bench.look_up().await.outcome);
    assert_eq!(claim, Disposition::Malicious);
    assert_eq!(reasons, ["the source says 9", "incomplete: unauthorized: HTTP status 401"]);
}

#[tokio::test(start_paused = true)]
async fn a_later_step_that_cannot_be_paid_leaves_standing_what_is_known_and_is_asked_alone_next_time() {
    let bench = Bench::per_minute(1, &[Act::says("more 9"), Act::says("found 2")]);
    let first = bench.look_up().await;
    assert!(finding(&first.outcome).1[1].contains("1 of 1 calls per minute are used"));
    tokio::time::sleep(60 * SECOND).await;
    let second = bench.look_up().await;
    assert_eq!(finding(&second.outcome).0, Disposition::Suspicious);
    assert_eq!((second.receipt.units, second.receipt.from_cache, bench.stage.calls()), (1, false, 2));
}

#[tokio::test(start_paused = true)]
async fn a_first_step_that_tells_nothing_and_a_second_that_cannot_be_paid_is_an_error_not_silence() {
    let bench = Bench::per_minute(1, &[Act::says("more")]);
    let error = error(&bench.look_up().await.outcome);
    assert_eq!((error.kind, error.retry_after), (SourceErrorKind::QuotaExhausted, Some(60 * SECOND)));
}

#[tokio::test(start_paused = true)]
async fn an_endless_conversation_ends_after_six_steps() {
    let bench = Bench::new(&[Act::says("more 9")]);
    let (claim, reasons) = finding(&bench.look_up().await.outcome);
    assert_eq!((claim, bench.stage.calls()), (Disposition::Malicious, 6));
    assert!(reasons[1].contains("more than 6 questions"));
    let bench = Bench::new(&[Act::says("more")]);
    assert_eq!(error(&bench.look_up().await.outcome).kind, SourceErrorKind::Malformed);
    assert_eq!(bench.stage.calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_changed_threshold_rereads_every_step() {
    let mut bench = Bench::new(&[Act::says("more 3"), Act::says("found 7")]);
    bench.look_up().await;
    let mut stricter = settings(&about());
    stricter.options.insert("threshold".into(), OptionValue::Integer(8));
    bench.change(about(), stricter);
    let fetched = bench.look_up().await;
    assert_eq!(finding(&fetched.outcome).0, Disposition::Suspicious);
    assert_eq!((fetched.receipt.answers.hashes().count(), bench.stage.calls()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn slow_steps_are_bounded_together_and_what_is_known_stands() {
    let mut quick = settings(&about());
    quick.timeout = 2 * SECOND;
    let slow = Act::says("more 9").after(SECOND + SECOND / 2);
    let bench = Bench::with(about(), quick, &[slow]);
    let fetched = bench.look_up().await;
    assert_eq!(finding(&fetched.outcome).0, Disposition::Malicious);
    assert!(fetched.receipt.latency <= 6 * SECOND, "{:?}", fetched.receipt.latency);
    assert_eq!(bench.stage.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn no_record_stays_no_record() {
    let bench = Bench::new(&[Act::says("none")]);
    assert_eq!(bench.look_up().await.outcome.body, OutcomeBody::NoRecord);
}

#[tokio::test(start_paused = true)]
async fn a_first_step_that_cannot_be_paid_is_not_asked() {
    let bench = Bench::per_minute(1, &[Act::says("found 9")]);
    bench.stack.look_up(bench.request_for("192.0.2.9", SECOND)).await;
    assert_eq!(not_asked(&bench.look_up().await.outcome).reason, NotAskedReason::QuotaSpent);
}
