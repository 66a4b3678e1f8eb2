//! What is cached, for how long, and what makes the source be asked anew.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use concord::clock::Clock;
use concord::finding::{Disposition, OutcomeBody, Reliability, SourceErrorKind};
use concord::indicator::hex;
use concord::source::{CacheTtl, OptionValue};

use super::{Harness, SECOND, ScriptedReply, about, error, finding, settings};

#[tokio::test(start_paused = true)]
async fn a_cached_finding_is_answered_without_a_call_and_with_its_age() {
    let harness = Harness::per_minute(4, &[ScriptedReply::says("found 9")]);
    let first = harness.look_up().await;
    harness.clock.sleep(30 * SECOND).await;
    let second = harness.look_up().await;
    assert_eq!((first.receipt.from_cache, first.receipt.units), (false, 1));
    assert_eq!((second.receipt.from_cache, second.receipt.units, second.receipt.age), (true, 0, 30 * SECOND));
    assert_eq!(second.outcome, first.outcome);
    assert_eq!(second.receipt.answers, first.receipt.answers);
    assert_eq!((harness.transport.calls(), harness.parts.counters.snapshot().cache_hits), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn no_record_is_cached_for_its_own_shorter_time() {
    let harness = Harness::new(&[ScriptedReply::says("none")]);
    harness.look_up().await;
    harness.clock.sleep(599 * SECOND).await;
    assert!(harness.look_up().await.receipt.from_cache);
    harness.clock.sleep(SECOND).await;
    assert!(!harness.look_up().await.receipt.from_cache);
    assert_eq!(harness.transport.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_time_to_live_of_an_answer_bounds_how_long_it_is_cached() {
    let harness = Harness::new(&[ScriptedReply::says("found 9").with_ttl(20 * SECOND)]);
    // Whoever keeps more than this answer, as a whole verdict, must know of it.
    assert_eq!(harness.look_up().await.receipt.ttl, Some(20 * SECOND));
    assert_eq!(harness.look_up().await.receipt.ttl, Some(20 * SECOND));
    harness.clock.sleep(20 * SECOND).await;
    assert!(!harness.look_up().await.receipt.from_cache);
}

#[tokio::test(start_paused = true)]
async fn setting_the_wall_clock_makes_no_answer_younger_or_older() {
    let harness = Harness::new(&[ScriptedReply::says("found 9")]);
    harness.look_up().await;
    harness.clock.sleep(30 * SECOND).await;
    for wall in [SystemTime::UNIX_EPOCH, harness.clock.now() + 86_400 * SECOND] {
        harness.clock.set_wall(wall);
        let receipt = harness.look_up().await.receipt;
        assert_eq!((receipt.from_cache, receipt.age), (true, 30 * SECOND));
    }
    harness.clock.set_wall(SystemTime::UNIX_EPOCH);
    harness.clock.sleep(3570 * SECOND).await;
    assert!(!harness.look_up().await.receipt.from_cache);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_never_cached() {
    let harness = Harness::new(&[ScriptedReply::status(403, None), ScriptedReply::says("found 9")]);
    assert_eq!(error(&harness.look_up().await.outcome).kind, SourceErrorKind::Forbidden);
    assert_eq!(finding(&harness.look_up().await.outcome).0, Disposition::Malicious);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_wants_younger_answers_gets_them() {
    let harness = Harness::new(&[ScriptedReply::says("found 9")]);
    harness.look_up().await;
    harness.clock.sleep(10 * SECOND).await;
    let mut request = harness.request();
    request.max_age = Some(11 * SECOND);
    assert!(harness.pipeline.look_up(request.clone()).await.receipt.from_cache);
    request.max_age = Some(Duration::ZERO);
    assert!(!harness.pipeline.look_up(request).await.receipt.from_cache);
    assert_eq!(harness.transport.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn another_threshold_reads_the_cached_answer_again_without_paying() {
    let mut harness = Harness::per_minute(4, &[ScriptedReply::says("found 7")]);
    let before = harness.look_up().await;
    assert_eq!(finding(&before.outcome).0, Disposition::Malicious);
    let mut stricter = settings(&about());
    stricter.options.insert("threshold".into(), OptionValue::Integer(8));
    harness.change(about(), stricter);
    harness.clock.sleep(SECOND).await;
    let after = harness.look_up().await;
    assert_eq!(finding(&after.outcome).0, Disposition::Suspicious);
    assert_eq!(after.outcome.time, before.outcome.time);
    assert_eq!((after.receipt.from_cache, after.receipt.units), (true, 0));
    assert_eq!((harness.transport.calls(), harness.ledger.acquired_at.lock().unwrap().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn another_fetch_revision_address_or_tier_misses_the_cache() {
    let mut harness = Harness::new(&[ScriptedReply::says("found 9")]);
    harness.look_up().await;
    let mut newer = about();
    newer.fetch_revision = 2;
    harness.change(newer, settings(&about()));
    assert!(!harness.look_up().await.receipt.from_cache);
    let mut elsewhere = settings(&about());
    elsewhere.base_url = url::Url::parse("https://other.example.com").ok();
    harness.change(about(), elsewhere);
    assert!(!harness.look_up().await.receipt.from_cache);
    let mut premium = settings(&about());
    premium.tier = "premium".into();
    harness.change(about(), premium);
    assert!(!harness.look_up().await.receipt.from_cache);
}

#[tokio::test(start_paused = true)]
async fn a_cached_answer_has_the_current_reliability_letter() {
    let mut harness = Harness::new(&[ScriptedReply::says("found 9")]);
    harness.look_up().await;
    let mut trusted = settings(&about());
    trusted.reliability = Reliability::A;
    harness.change(about(), trusted);
    let fetched = harness.look_up().await;
    assert_eq!((fetched.receipt.from_cache, fetched.outcome.reliability), (true, Reliability::A));
}

#[tokio::test(start_paused = true)]
async fn a_new_rating_revision_reads_a_cached_answer_again_once() {
    let mut harness = Harness::new(&[ScriptedReply::says("found 9")]);
    harness.look_up().await;
    let mut newer = about();
    newer.rating_revision = 2;
    harness.change(newer, settings(&about()));
    assert!(harness.look_up().await.receipt.from_cache);
    assert!(harness.look_up().await.receipt.from_cache);
    assert_eq!(harness.transport.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn cached_answers_that_cannot_be_read_any_more_are_asked_anew() {
    let mut harness = Harness::per_minute(4, &[ScriptedReply::says("none")]);
    harness.look_up().await;
    let mut strict = settings(&about());
    strict.options.insert("strict".into(), OptionValue::Flag(true));
    harness.change(about(), strict);
    harness.transport.script(&[ScriptedReply::says("found 9")]);
    let fetched = harness.look_up().await;
    assert_eq!(finding(&fetched.outcome).0, Disposition::Malicious);
    assert_eq!((fetched.receipt.from_cache, fetched.receipt.answers.len(), harness.transport.calls()), (false, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_option_that_changes_the_question_asks_anew() {
    let mut harness = Harness::new(&[ScriptedReply::says("found 9")]);
    harness.look_up().await;
    let mut deeper = settings(&about());
    deeper.options.insert("depth".into(), OptionValue::Text("deep".into()));
    harness.change(about(), deeper);
    assert!(!harness.look_up().await.receipt.from_cache);
    assert_eq!(harness.transport.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_partial_conversation_does_not_replace_a_complete_one() {
    let harness = Harness::per_minute(
        3,
        &[ScriptedReply::says("more 9"), ScriptedReply::says("found 9"), ScriptedReply::says("more 9")],
    );
    harness.look_up().await;
    let mut anew = harness.request();
    anew.max_age = Some(Duration::ZERO);
    let half = harness.pipeline.look_up(anew).await;
    assert_eq!(finding(&half.outcome).1.len(), 2);
    let kept = harness.look_up().await;
    assert_eq!((kept.receipt.from_cache, finding(&kept.outcome).1.len()), (true, 1));
}

#[tokio::test(start_paused = true)]
async fn a_source_whose_answers_are_not_cached_is_asked_each_time() {
    let mut forgetful = settings(&about());
    forgetful.cache_ttl = CacheTtl::new(Duration::ZERO, Duration::ZERO);
    let harness = Harness::with(about(), forgetful, &[ScriptedReply::says("found 9")]);
    harness.look_up().await;
    harness.look_up().await;
    assert_eq!(harness.transport.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn planning_sees_how_old_the_cached_answer_is() {
    let harness = Harness::new(&[ScriptedReply::says("found 9")]);
    let lookup = harness.request().lookup;
    let age = async |max_age| harness.pipeline.cached(&lookup, max_age).await.map(|cached| cached.receipt.age);
    assert_eq!(age(None).await, None);
    harness.look_up().await;
    harness.clock.sleep(5 * SECOND).await;
    assert_eq!(age(None).await, Some(5 * SECOND));
    assert_eq!(age(Some(5 * SECOND)).await, None);
}

#[tokio::test(start_paused = true)]
async fn cached_answers_to_another_question_are_not_used() {
    let mut harness = Harness::new(&[ScriptedReply::says("found 9")]);
    let lookup = harness.request().lookup;
    harness.look_up().await;
    let mut stricter = settings(&about());
    stricter.options.insert("threshold".into(), OptionValue::Integer(10));
    harness.change(about(), stricter);
    let reread = harness.pipeline.cached(&lookup, None).await.unwrap();
    assert_eq!(finding(&reread.outcome).0, Disposition::Suspicious);
    let mut deeper = settings(&about());
    deeper.options.insert("depth".into(), OptionValue::Text("deep".into()));
    harness.change(about(), deeper);
    assert!(harness.pipeline.cached(&lookup, None).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn raw_answers_are_stored_under_their_hash() {
    let harness = Harness::new(&[ScriptedReply::says("none")]);
    let fetched = harness.look_up().await;
    harness.tasks().await;
    let raw = harness.ledger.raw_answers.lock().unwrap().clone();
    assert_eq!(raw.len(), 1);
    assert_eq!(*raw[0].body, *b"none");
    // SHA-256 of the four bytes "none".
    assert_eq!(raw[0].hash, "140bedbf9c3f6d56a9846d2ba7088798683f4da0c248231336e6a05679e4fdfe");
    assert_eq!(hex(&fetched.receipt.answers[0]), raw[0].hash);
    let body = harness.parts.cache.raw_answer(&fetched.receipt.answers[0]).await.unwrap().unwrap();
    assert_eq!(*body, *raw[0].body);
    assert!(matches!(fetched.outcome.body, OutcomeBody::NoRecord));
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_begins_just_after_another_ended_finds_its_result() {
    let mut harness = Harness::new(&[ScriptedReply::says("found 9").after(SECOND)]);
    let first = harness.begin(harness.request());
    // A pipeline of its own does not join, and has the same cache. The first ends while the second reads the store.
    harness.change(about(), settings(&about()));
    let ended = harness.clock.sleep(SECOND);
    let second = async {
        ended.await;
        harness.rows.is_slow.store(true, Ordering::Relaxed);
        harness.look_up().await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((second.outcome.body, second.receipt.from_cache), (first.unwrap().outcome.body, true));
    assert_eq!(harness.transport.calls(), 1);
}
