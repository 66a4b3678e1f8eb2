//! What the cache keeps, for how long, and what makes it ask anew.

use std::time::Duration;

use tower::ServiceExt;

use super::super::cache::keep;
use super::super::trip::{Concluded, Party, Trip};
use super::{Act, Bench, SECOND, about, error, finding, settings};
use crate::finding::{Disposition, OutcomeBody, Reliability, SourceErrorKind};
use crate::source::{CacheTtl, OptionValue, TransportKind};

#[tokio::test(start_paused = true)]
async fn a_kept_finding_is_answered_without_a_call_and_with_its_age() {
    let bench = Bench::per_minute(4, &[Act::says("found 9")]);
    let first = bench.look_up().await;
    tokio::time::sleep(30 * SECOND).await;
    let second = bench.look_up().await;
    assert_eq!((first.receipt.from_cache, first.receipt.units), (false, 1));
    assert_eq!((second.receipt.from_cache, second.receipt.units, second.receipt.age), (true, 0, 30 * SECOND));
    assert_eq!(second.outcome, first.outcome);
    assert_eq!(second.receipt.answers, first.receipt.answers);
    assert_eq!((bench.stage.calls(), bench.stack.counters().cache_hits), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn no_record_is_kept_for_its_own_shorter_time() {
    let bench = Bench::new(&[Act::says("none")]);
    bench.look_up().await;
    tokio::time::sleep(599 * SECOND).await;
    assert!(bench.look_up().await.receipt.from_cache);
    tokio::time::sleep(SECOND).await;
    assert!(!bench.look_up().await.receipt.from_cache);
    assert_eq!(bench.stage.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_answers_own_time_to_live_bounds_how_long_it_is_kept() {
    let bench = Bench::new(&[Act::says("found 9").for_at_most(20 * SECOND)]);
    // Whoever keeps more than this answer, as a whole verdict, must know of it.
    assert_eq!(bench.look_up().await.receipt.ttl, Some(20 * SECOND));
    assert_eq!(bench.look_up().await.receipt.ttl, Some(20 * SECOND));
    tokio::time::sleep(20 * SECOND).await;
    assert!(!bench.look_up().await.receipt.from_cache);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_stepped_back_by_more_than_a_correction_makes_nothing_young() {
    let bench = Bench::new(&[Act::says("found 9")]);
    bench.look_up().await;
    bench.clock.step_back(30 * SECOND);
    assert!(bench.look_up().await.receipt.from_cache);
    bench.clock.step_back(60 * SECOND);
    assert!(!bench.look_up().await.receipt.from_cache);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_never_kept() {
    let bench = Bench::new(&[Act::status(401, None), Act::says("found 9")]);
    assert_eq!(error(&bench.look_up().await.outcome).kind, SourceErrorKind::Unauthorized);
    assert_eq!(finding(&bench.look_up().await.outcome).0, Disposition::Malicious);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_wants_younger_answers_gets_them() {
    let bench = Bench::new(&[Act::says("found 9")]);
    bench.look_up().await;
    tokio::time::sleep(10 * SECOND).await;
    let mut request = bench.request();
    request.max_age = Some(11 * SECOND);
    assert!(bench.stack.look_up(request.clone()).await.receipt.from_cache);
    request.max_age = Some(Duration::ZERO);
    assert!(!bench.stack.look_up(request).await.receipt.from_cache);
    assert_eq!(bench.stage.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn another_threshold_reads_the_kept_answer_again_without_paying() {
    let mut bench = Bench::per_minute(4, &[Act::says("found 7")]);
    let before = bench.look_up().await;
    assert_eq!(finding(&before.outcome).0, Disposition::Malicious);
    let mut stricter = settings(&about());
    stricter.options.insert("threshold".into(), OptionValue::Integer(8));
    bench.change(about(), stricter);
    tokio::time::sleep(SECOND).await;
    let after = bench.look_up().await;
    assert_eq!(finding(&after.outcome).0, Disposition::Suspicious);
    assert_eq!(after.outcome.time, before.outcome.time);
    assert_eq!((after.receipt.from_cache, after.receipt.units), (true, 0));
    assert_eq!((bench.stage.calls(), bench.books.takes.lock().unwrap().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn another_fetch_revision_address_or_tier_forgets() {
    let mut bench = Bench::new(&[Act::says("found 9")]);
    bench.look_up().await;
    let mut newer = about();
    newer.fetch_revision = 2;
    bench.change(newer, settings(&about()));
    assert!(!bench.look_up().await.receipt.from_cache);
    let mut elsewhere = settings(&about());
    elsewhere.base_url = url::Url::parse("https://other.example.com").ok();
    bench.change(about(), elsewhere);
    assert!(!bench.look_up().await.receipt.from_cache);
    let mut premium = settings(&about());
    premium.tier = "premium".into();
    bench.change(about(), premium);
    assert!(!bench.look_up().await.receipt.from_cache);
}

#[tokio::test(start_paused = true)]
async fn a_kept_answer_carries_the_letter_of_now() {
    let mut bench = Bench::new(&[Act::says("found 9")]);
    bench.look_up().await;
    let mut trusted = settings(&about());
    trusted.reliability = Reliability::A;
    bench.change(about(), trusted);
    let fetched = bench.look_up().await;
    assert_eq!((fetched.receipt.from_cache, fetched.outcome.reliability), (true, Reliability::A));
}

#[tokio::test(start_paused = true)]
async fn a_new_rating_revision_rereads_and_then_rests() {
    let mut bench = Bench::new(&[Act::says("found 9")]);
    bench.look_up().await;
    let mut newer = about();
    newer.rating_revision = 2;
    bench.change(newer, settings(&about()));
    assert!(bench.look_up().await.receipt.from_cache);
    assert!(bench.look_up().await.receipt.from_cache);
    assert_eq!(bench.stage.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn kept_answers_that_cannot_be_read_any_more_are_asked_anew() {
    let mut bench = Bench::per_minute(4, &[Act::says("none")]);
    bench.look_up().await;
    let mut strict = settings(&about());
    strict.options.insert("strict".into(), OptionValue::Flag(true));
    bench.change(about(), strict);
    bench.stage.play(&[Act::says("found 9")]);
    let fetched = bench.look_up().await;
    assert_eq!(finding(&fetched.outcome).0, Disposition::Malicious);
    assert_eq!(
        (fetched.receipt.from_cache, fetched.receipt.answers.hashes().count(), bench.stage.calls()),
        (false, 1, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn an_option_that_changes_the_question_asks_anew() {
    let mut bench = Bench::new(&[Act::says("found 9")]);
    bench.look_up().await;
    let mut deeper = settings(&about());
    deeper.options.insert("depth".into(), OptionValue::Text("deep".into()));
    bench.change(about(), deeper);
    assert!(!bench.look_up().await.receipt.from_cache);
    assert_eq!(bench.stage.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn half_a_conversation_does_not_push_out_a_whole_one() {
    let bench = Bench::per_minute(3, &[Act::says("more 9"), Act::says("found 9"), Act::says("more 9")]);
    bench.look_up().await;
    let mut anew = bench.request();
    anew.max_age = Some(Duration::ZERO);
    let half = bench.stack.look_up(anew).await;
    assert_eq!(finding(&half.outcome).1.len(), 2);
    let kept = bench.look_up().await;
    assert_eq!((kept.receipt.from_cache, finding(&kept.outcome).1.len()), (true, 1));
}

#[tokio::test(start_paused = true)]
async fn a_list_is_not_cached() {
    let mut list = about();
    list.transport = TransportKind::List;
    let bench = Bench::with(list.clone(), settings(&list), &[Act::says("found 9")]);
    bench.look_up().await;
    assert!(!bench.look_up().await.receipt.from_cache);
    assert!(bench.books.disclosures.lock().unwrap().is_empty(), "a list tells nobody");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_keeps_nothing_is_asked_each_time() {
    let mut forgetful = settings(&about());
    forgetful.cache_ttl = CacheTtl { finding: Duration::ZERO, no_record: Duration::ZERO };
    let bench = Bench::with(about(), forgetful, &[Act::says("found 9")]);
    bench.look_up().await;
    bench.look_up().await;
    assert_eq!(bench.stage.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn planning_sees_how_old_the_kept_answer_is() {
    let bench = Bench::new(&[Act::says("found 9")]);
    let request = bench.request();
    let now = request.deadline - 60 * SECOND;
    assert_eq!(bench.stack.kept(&request.lookup, None, now), None);
    bench.look_up().await;
    let kept = bench.stack.kept(&request.lookup, None, now + 5 * SECOND).map(|kept| kept.age);
    assert_eq!(kept, Some(5 * SECOND));
    assert_eq!(bench.stack.kept(&request.lookup, Some(5 * SECOND), now + 5 * SECOND), None);
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_of_another_question_answers_none_without_a_call() {
    let mut bench = Bench::new(&[Act::says("found 9")]);
    let request = bench.request();
    let now = request.deadline - 60 * SECOND;
    bench.look_up().await;
    let mut stricter = settings(&about());
    stricter.options.insert("threshold".into(), OptionValue::Integer(10));
    bench.change(about(), stricter);
    let reread = bench.stack.from_kept(&request.lookup, None).unwrap();
    assert_eq!(finding(&reread.outcome).0, Disposition::Suspicious);
    assert!(bench.stack.kept(&request.lookup, None, now).is_some());
    let mut deeper = settings(&about());
    deeper.options.insert("depth".into(), OptionValue::Text("deep".into()));
    bench.change(about(), deeper);
    assert!(bench.stack.from_kept(&request.lookup, None).is_none());
    assert!(bench.stack.kept(&request.lookup, None, now).is_none());
}

#[tokio::test(start_paused = true)]
async fn raw_answers_are_stored_under_their_hash() {
    let bench = Bench::new(&[Act::says("none")]);
    let fetched = bench.look_up().await;
    bench.settle().await;
    let raw = bench.books.raw.lock().unwrap().clone();
    assert_eq!(raw.len(), 1);
    assert_eq!(raw[0].body, b"none");
    // SHA-256 of the four bytes "none".
    assert_eq!(raw[0].hash, "140bedbf9c3f6d56a9846d2ba7088798683f4da0c248231336e6a05679e4fdfe");
    assert_eq!(fetched.receipt.answers.hashes().collect::<Vec<_>>(), [raw[0].hash.as_str()]);
    assert_eq!(fetched.receipt.answers.bodies().collect::<Vec<_>>(), [raw[0].body.clone()]);
    assert!(matches!(fetched.outcome.body, OutcomeBody::NoRecord));
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_begins_just_after_another_ended_finds_its_result() {
    let bench = Bench::new(&[Act::says("found 9")]);
    let first = bench.look_up().await;
    let request = bench.request();
    let (party, _seat) = Party::begin(request.deadline, request.deadline, None);
    let key = bench.stack.shelf.key(&request.lookup);
    let below = tower::service_fn(|trip: Trip| async move {
        Ok::<_, std::convert::Infallible>(Concluded::nothing(OutcomeBody::NoRecord, trip.request.deadline))
    });
    let write = keep(&bench.stack.site, &bench.stack.shelf, below);
    let Ok(concluded) = write.oneshot(Trip { request, key, kept: None, party }).await;
    assert_eq!((concluded.body, concluded.from_cache), (first.outcome.body, true));
}
