//! What the source says of the account: read beside the look-ups, and what follows from it.

use std::time::Duration;

use concord::clock::Clock;
use concord::finding::{Disposition, NotAskedReason, Outcome};
use concord::source::{OptionValue, QuotaPer, QuotaWindow};

use super::{Harness, SECOND, ScriptedReply, about, finding, not_asked, settings};

const HOUR: Duration = Duration::from_secs(3_600);

/// A source that tells this of its account.
fn telling(replies: &[ScriptedReply], allowances: &[ScriptedReply]) -> Harness {
    let mut settings = settings(&about());
    settings.options.insert("allowance".into(), OptionValue::Flag(true));
    let harness = Harness::with(about(), settings, replies);
    *harness.transport.allowances.lock().unwrap() = allowances.to_vec();
    harness
}

impl Harness {
    /// Looks up the address that ends so, and waits for what is done beside it.
    async fn look_up_and_rest(&self, last: u8) -> Outcome {
        let fetched = self.pipeline.look_up(self.request_for(&format!("192.0.2.{last}"), 60 * SECOND)).await;
        self.tasks().await;
        fetched.outcome
    }

    fn allowance_readings(&self) -> usize {
        self.transport.allowance_readings.lock().unwrap().len()
    }

    /// The limit and the use of each window.
    async fn usage(&self) -> Vec<(QuotaPer, u64, u64)> {
        let usage = self.pipeline.quota_usage().await;
        usage.iter().map(|window| (window.per, window.limit, window.used)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_read_when_the_source_is_first_used_and_every_hour_while_it_is_and_costs_nothing() {
    let harness = telling(&[ScriptedReply::says("found 9")], &[ScriptedReply::says("0 of 500")]);
    assert_eq!(harness.usage().await, [], "nothing is set, and nothing known");
    harness.look_up_and_rest(1).await;
    assert_eq!((harness.allowance_readings(), harness.usage().await), (1, vec![(QuotaPer::Day, 500, 1)]));
    harness.clock.sleep(HOUR - SECOND).await;
    harness.look_up_and_rest(2).await;
    // What is cached uses nothing.
    harness.look_up_and_rest(2).await;
    assert_eq!(harness.allowance_readings(), 1);
    harness.clock.sleep(5 * HOUR).await;
    assert_eq!(harness.allowance_readings(), 1, "nobody asks");
    harness.look_up_and_rest(3).await;
    assert_eq!(harness.allowance_readings(), 2);
    let units = harness.ledger.acquired_at.lock().unwrap().len();
    assert_eq!((harness.transport.calls(), units, harness.parts.counters.snapshot().calls), (3, 3, 3));
    assert_eq!(harness.ledger.disclosures.lock().unwrap().len(), 3, "none of it discloses anything");
}

#[tokio::test(start_paused = true)]
async fn no_answer_waits_for_it() {
    let late = ScriptedReply::says("0 of 500").after(9 * SECOND);
    let harness = telling(&[ScriptedReply::says("found 9")], &[late]);
    let fetched = harness.look_up().await;
    assert_eq!((finding(&fetched.outcome).0, fetched.receipt.latency), (Disposition::Malicious, Duration::ZERO));
    assert_eq!(harness.usage().await, []);
    harness.tasks().await;
    assert_eq!(harness.usage().await, [(QuotaPer::Day, 500, 1)]);
}

#[tokio::test(start_paused = true)]
async fn what_the_source_allows_bounds_what_is_set_and_never_exceeds_it() {
    let mut harness = telling(&[ScriptedReply::says("found 9")], &[ScriptedReply::says("0 of 2")]);
    harness.look_up_and_rest(1).await;
    harness.look_up_and_rest(2).await;
    assert_eq!(not_asked(&harness.look_up_and_rest(3).await).reason, NotAskedReason::QuotaSpent);
    assert_eq!(harness.transport.calls(), 2);
    let mut lower = (*harness.parts.settings).clone();
    lower.quota = vec![QuotaWindow { per: QuotaPer::Day, limit: 1 }];
    harness.change(about(), lower);
    assert_eq!(harness.usage().await, [(QuotaPer::Day, 1, 2)]);
}

#[tokio::test(start_paused = true)]
async fn what_others_spend_with_the_same_credential_counts_here() {
    let harness = telling(&[ScriptedReply::says("found 9")], &[ScriptedReply::says("7 of 9")]);
    harness.look_up_and_rest(1).await;
    // Those seven were used when nothing of ours had left.
    assert_eq!(harness.usage().await, [(QuotaPer::Day, 9, 8)]);
    harness.look_up_and_rest(2).await;
    assert_eq!(not_asked(&harness.look_up_and_rest(3).await).reason, NotAskedReason::QuotaSpent);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_says_enough_is_left_alone_until_the_window_turns_that_is_used_up() {
    let replies = [ScriptedReply::says("found 9"), ScriptedReply::status(429, None), ScriptedReply::says("found 9")];
    let harness = telling(&replies, &[ScriptedReply::says("0 of 500"), ScriptedReply::says("500 of 500")]);
    harness.look_up_and_rest(1).await;
    harness.clock.sleep(60 * SECOND).await;
    harness.look_up_and_rest(2).await;
    assert_eq!(harness.allowance_readings(), 2, "it is read again at once");
    let left = harness.suspended_until().unwrap().duration_since(harness.clock.now()).unwrap();
    assert!(left > 23 * HOUR && left <= 24 * HOUR, "{left:?}");
    harness.clock.sleep(2 * HOUR).await;
    assert_eq!(not_asked(&harness.look_up_and_rest(3).await).reason, NotAskedReason::QuotaSpent);
    assert_eq!(harness.transport.calls(), 2);
    harness.clock.sleep(22 * HOUR).await;
    assert_eq!(harness.suspended_until(), None);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_more_is_allowed_by_now_ends_what_the_report_before_it_began() {
    let replies = [ScriptedReply::says("found 9"), ScriptedReply::status(429, None), ScriptedReply::says("found 9")];
    let allowances = ["0 of 500", "500 of 500", "500 of 1000"].map(ScriptedReply::says);
    let harness = telling(&replies, &allowances);
    harness.look_up_and_rest(1).await;
    harness.clock.sleep(60 * SECOND).await;
    harness.look_up_and_rest(2).await;
    assert!(harness.suspended_until().is_some());
    harness.clock.sleep(HOUR).await;
    assert_eq!(not_asked(&harness.look_up_and_rest(3).await).reason, NotAskedReason::QuotaSpent);
    assert_eq!((harness.allowance_readings(), harness.suspended_until()), (3, None), "quota was bought");
    assert_eq!(finding(&harness.look_up_and_rest(4).await).0, Disposition::Malicious);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_says_enough_while_no_window_is_used_up_is_left_alone_for_a_minute() {
    let replies = [ScriptedReply::status(429, None), ScriptedReply::says("found 9")];
    let harness = telling(&replies, &[ScriptedReply::says("9 of 500")]);
    harness.look_up_and_rest(1).await;
    let left = harness.suspended_until().unwrap().duration_since(harness.clock.now()).unwrap();
    assert_eq!(left, 60 * SECOND);
    harness.clock.sleep(60 * SECOND).await;
    assert_eq!(finding(&harness.look_up_and_rest(1).await).0, Disposition::Malicious);
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_fails_changes_nothing_is_said_and_is_tried_again() {
    let allowances =
        [ScriptedReply::status(503, None), ScriptedReply::status(403, None), ScriptedReply::says("0 of 500")];
    let harness = telling(&[ScriptedReply::says("found 9")], &allowances);
    assert_eq!(finding(&harness.look_up_and_rest(1).await).0, Disposition::Malicious);
    assert!(harness.pipeline.allowance_failure().unwrap().contains("503"));
    harness.clock.sleep(299 * SECOND).await;
    harness.look_up_and_rest(2).await;
    assert_eq!(harness.allowance_readings(), 1);
    harness.clock.sleep(SECOND).await;
    harness.look_up_and_rest(3).await;
    assert_eq!(harness.allowance_readings(), 2);
    assert!(harness.pipeline.allowance_failure().unwrap().contains("403"));
    harness.clock.sleep(HOUR - SECOND).await;
    harness.look_up_and_rest(4).await;
    assert_eq!(harness.allowance_readings(), 2, "a refusal is no passing failure");
    harness.clock.sleep(SECOND).await;
    harness.look_up_and_rest(5).await;
    assert_eq!((harness.pipeline.allowance_failure(), harness.usage().await.len()), (None, 1));
    assert_eq!((harness.suspended_until(), harness.pipeline.credential_refusal()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn at_another_address_than_the_kinds_own_only_a_test_reads_it() {
    let mut elsewhere = settings(&about());
    elsewhere.options.insert("allowance".into(), OptionValue::Flag(true));
    elsewhere.base_url = "https://mirror.example.com".parse().ok();
    let harness = Harness::with(about(), elsewhere, &[ScriptedReply::says("found 9")]);
    *harness.transport.allowances.lock().unwrap() = vec![ScriptedReply::says("7 of 500")];
    harness.look_up_and_rest(1).await;
    assert_eq!(harness.allowance_readings(), 0, "the credential may stand in the path of the question");
    harness.pipeline.probe("tester").await;
    let usage = harness.usage().await;
    // The test itself may be counted before or after what is reported.
    assert!(matches!(usage[..], [(QuotaPer::Day, 500, 7 | 8)]), "{usage:?}");
    assert_eq!(harness.allowance_readings(), 1);
    harness.clock.sleep(HOUR).await;
    harness.look_up_and_rest(2).await;
    assert_eq!(harness.allowance_readings(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_test_reads_it_whenever_it_was_read_last() {
    let harness =
        telling(&[ScriptedReply::says("none")], &[ScriptedReply::says("0 of 9"), ScriptedReply::says("0 of 500")]);
    harness.look_up_and_rest(1).await;
    assert_eq!(harness.pipeline.probe("tester").await.connectivity, Ok(()));
    assert_eq!((harness.allowance_readings(), harness.usage().await), (2, vec![(QuotaPer::Day, 500, 2)]));
}
