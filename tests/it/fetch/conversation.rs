//! Conversations of several steps.

use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use concord::clock::Clock;
use concord::fetch::{LookupRequest, PipelineParts};
use concord::finding::{Disposition, Finding, NotAskedReason, OutcomeBody, SourceError, SourceErrorKind};
use concord::source::{About, Answer, Lookup, OptionValue, Probe, Question, QuotaPer, QuotaWindow, Reading, Source};

use super::{Harness, SECOND, ScriptedReply, about, error, finding, not_asked, pipeline, question, settings};

#[tokio::test(start_paused = true)]
async fn each_step_pays_and_is_named_in_the_receipt() {
    let harness = Harness::per_minute(4, &[ScriptedReply::says("more 3"), ScriptedReply::says("found 9")]);
    let fetched = harness.look_up().await;
    assert_eq!(finding(&fetched.outcome).0, Disposition::Malicious);
    assert_eq!((fetched.receipt.units, fetched.receipt.answers.len()), (2, 2));
    assert_eq!(harness.ledger.disclosures.lock().unwrap().len(), 1, "one conversation, one disclosure");
}

#[tokio::test(start_paused = true)]
async fn a_later_step_that_fails_returns_the_partial_finding() {
    let harness = Harness::new(&[ScriptedReply::says("more 9"), ScriptedReply::status(401, None)]);
    let (claim, reasons) = finding(&harness.look_up().await.outcome);
    assert_eq!(claim, Disposition::Malicious);
    assert_eq!(reasons, ["the source says 9", "incomplete: unauthorized: HTTP status 401"]);
}

#[tokio::test(start_paused = true)]
async fn a_later_step_that_cannot_be_paid_returns_the_partial_finding_and_is_asked_alone_next_time() {
    let harness = Harness::per_minute(1, &[ScriptedReply::says("more 9"), ScriptedReply::says("found 2")]);
    let first = harness.look_up().await;
    assert!(finding(&first.outcome).1[1].contains("1 of 1 call per minute is used"));
    harness.clock.sleep(60 * SECOND).await;
    let second = harness.look_up().await;
    assert_eq!(finding(&second.outcome).0, Disposition::Suspicious);
    assert_eq!((second.receipt.units, second.receipt.from_cache, harness.transport.calls()), (1, false, 2));
}

#[tokio::test(start_paused = true)]
async fn an_empty_first_step_and_a_second_that_cannot_be_paid_are_an_error_and_not_no_record() {
    let harness = Harness::per_minute(1, &[ScriptedReply::says("more")]);
    let error = error(&harness.look_up().await.outcome);
    assert_eq!((error.kind, error.retry_after), (SourceErrorKind::QuotaExhausted, Some(60 * SECOND)));
}

#[tokio::test(start_paused = true)]
async fn an_endless_conversation_ends_after_six_steps() {
    let harness = Harness::new(&[ScriptedReply::says("more 9")]);
    let (claim, reasons) = finding(&harness.look_up().await.outcome);
    assert_eq!((claim, harness.transport.calls()), (Disposition::Malicious, 6));
    assert!(reasons[1].contains("more than 6 questions"));
    let harness = Harness::new(&[ScriptedReply::says("more")]);
    assert_eq!(error(&harness.look_up().await.outcome).kind, SourceErrorKind::Malformed);
    assert_eq!(harness.transport.calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_changed_threshold_rereads_every_step() {
    let mut harness = Harness::new(&[ScriptedReply::says("more 3"), ScriptedReply::says("found 7")]);
    harness.look_up().await;
    let mut stricter = settings(&about());
    stricter.options.insert("threshold".into(), OptionValue::Integer(8));
    harness.change(about(), stricter);
    let fetched = harness.look_up().await;
    assert_eq!(finding(&fetched.outcome).0, Disposition::Suspicious);
    assert_eq!((fetched.receipt.answers.len(), harness.transport.calls()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn slow_steps_are_bounded_together_and_the_partial_finding_is_returned() {
    let mut quick = settings(&about());
    quick.timeout = 2 * SECOND;
    let slow = ScriptedReply::says("more 9").after(SECOND + SECOND / 2);
    let harness = Harness::with(about(), quick, &[slow]);
    let fetched = harness.look_up().await;
    assert_eq!(finding(&fetched.outcome).0, Disposition::Malicious);
    assert!(fetched.receipt.latency <= 6 * SECOND, "{:?}", fetched.receipt.latency);
    assert_eq!(harness.transport.calls(), 3);
}

/// A source with an optional question after the first, and this quota per minute.
fn with_an_optional_question(per_minute: u64, replies: &[ScriptedReply]) -> Harness {
    let mut settings = settings(&about());
    settings.options.insert("extra".into(), OptionValue::Flag(true));
    settings.quota = vec![QuotaWindow { per: QuotaPer::Minute, limit: per_minute }];
    Harness::with(about(), settings, replies)
}

#[tokio::test(start_paused = true)]
async fn an_optional_question_that_fails_is_asked_once_and_leaves_an_outcome_that_is_cached_as_whole() {
    let failures = [
        (ScriptedReply::status(503, None), "HTTP status 503"),
        (ScriptedReply::status(400, None), "HTTP status 400"),
        (ScriptedReply::fails(SourceError::new(SourceErrorKind::TooLarge, "too large")), "too large"),
        (ScriptedReply::says("found 9").after(11 * SECOND), "no answer within 10000 ms"),
    ];
    for (failure, why) in failures {
        let harness = with_an_optional_question(100, &[ScriptedReply::says("found 7"), failure]);
        let first = harness.look_up().await;
        let (claim, reasons) = finding(&first.outcome);
        assert_eq!(claim, Disposition::Malicious);
        assert!(reasons[1].contains(why), "{reasons:?}");
        assert_eq!((first.receipt.units, first.receipt.answers.len()), (2, 1), "{why}");
        // Longer than "no record" is kept.
        harness.clock.sleep(3_000 * SECOND).await;
        let second = harness.look_up().await;
        assert_eq!((second.receipt.from_cache, harness.transport.calls()), (true, 2), "{why}");
        assert_eq!(second.outcome, first.outcome);
    }
}

#[tokio::test(start_paused = true)]
async fn an_optional_question_that_no_quota_is_left_for_is_asked_by_the_next_look_up() {
    let replies = [ScriptedReply::says("found 7"), ScriptedReply::says("found 2")];
    let own_count = with_an_optional_question(1, &replies);
    let refused = [replies[0].clone(), ScriptedReply::status(429, None), replies[1].clone()];
    let by_source = with_an_optional_question(100, &refused);
    for (harness, calls) in [(own_count, 2), (by_source, 3)] {
        let (claim, reasons) = finding(&harness.look_up().await.outcome);
        assert_eq!(claim, Disposition::Malicious);
        assert!(reasons[1].starts_with("incomplete: "), "{reasons:?}");
        harness.clock.sleep(60 * SECOND).await;
        let second = harness.look_up().await;
        assert_eq!((finding(&second.outcome).0, second.receipt.units), (Disposition::Suspicious, 1));
        assert_eq!(harness.transport.calls(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_asked_again_after_a_change_of_settings_and_nothing_else_is() {
    let replies = [ScriptedReply::says("found 7"), ScriptedReply::status(503, None), ScriptedReply::says("found 9")];
    let mut harness = with_an_optional_question(100, &replies);
    harness.look_up().await;
    let mut changed = (*harness.parts.settings).clone();
    changed.options.insert("threshold".into(), OptionValue::Integer(8));
    harness.change(about(), changed);
    let lookup = harness.request().lookup;
    assert!(harness.pipeline.cached(&lookup, None).await.is_none(), "a call would be needed");
    let (part, is_whole) = harness.pipeline.cached_in_part(&lookup, None).await.unwrap();
    assert!(!is_whole && part.receipt.ttl == Some(Duration::ZERO), "nobody may keep it");
    assert_eq!(finding(&part.outcome).1, ["the source says 7", "no more: not asked, since only the cache was used"]);
    let fetched = harness.look_up().await;
    assert_eq!(finding(&fetched.outcome).1, ["the source says 9"]);
    assert_eq!((fetched.receipt.units, harness.transport.calls()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn no_record_stays_no_record() {
    let harness = Harness::new(&[ScriptedReply::says("none")]);
    assert_eq!(harness.look_up().await.outcome.body, OutcomeBody::NoRecord);
}

#[tokio::test(start_paused = true)]
async fn a_first_step_that_cannot_be_paid_is_not_asked() {
    let harness = Harness::per_minute(1, &[ScriptedReply::says("found 9")]);
    harness.pipeline.look_up(harness.request_for("192.0.2.9", SECOND)).await;
    assert_eq!(not_asked(&harness.look_up().await.outcome).reason, NotAskedReason::QuotaSpent);
}

/// A kind that finds what it is given, and notes on which thread it reads how much.
struct NotesThread {
    about: About,
    read: Mutex<Vec<(usize, ThreadId)>>,
}

impl Source for NotesThread {
    fn about(&self) -> &About {
        &self.about
    }

    fn ask(&self, _: &Lookup) -> Result<Question, SourceError> {
        Ok(question("any", 1))
    }

    fn read(&self, _: &Lookup, answers: &[Answer]) -> Result<Reading, SourceError> {
        let length = answers[0].http()?.1.len();
        self.read.lock().unwrap().push((length, thread::current().id()));
        Ok(Reading::Found(Finding {
            tags: vec!["tag".into(); length],
            ..Finding::new(Disposition::Benign, None, "read")
        }))
    }

    fn probe(&self) -> Vec<Question> {
        Vec::new()
    }

    fn read_probe(&self, _: &[Result<Answer, SourceError>]) -> Probe {
        Probe::new(Ok(()), None, String::new())
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_is_read_off_the_thread_that_serves_and_no_finding_exceeds_its_bounds() {
    let (small, large) = ("x".repeat(1_000), "x".repeat(1 << 20));
    let harness = Harness::new(&[ScriptedReply::says(&small), ScriptedReply::says(&large)]);
    let source = Arc::new(NotesThread { about: about(), read: Mutex::default() });
    let pipeline = pipeline(PipelineParts { source: source.clone(), ..harness.parts.clone() });
    let here = thread::current().id();
    for length in [small.len(), large.len()] {
        let request = LookupRequest { max_age: Some(Duration::ZERO), ..harness.request() };
        let (_, reasons) = finding(&pipeline.look_up(request).await.outcome);
        let left_out = format!("left out of a large answer: {} tags", length - 128);
        assert_eq!(reasons, ["read", left_out.as_str()]);
    }
    let read = source.read.lock().unwrap();
    assert_eq!(read[0], (small.len(), here));
    assert!(read[1].0 == large.len() && read[1].1 != here, "{read:?}");
}
