//! Background requests are spread over the day, if the settings want it; people are not held.

use std::sync::Arc;
use std::time::Duration;

use concord::clock::Clock;
use concord::finding::NotAskedReason;
use concord::source::{Priority, QuotaPer, QuotaWindow};
use concord::store::Memory;

use super::{Harness, SECOND, ScriptedReply, about, not_asked, settings};

const HOUR: Duration = Duration::from_secs(3_600);

/// A source that allows so many calls a day, spread or not, a minute before the day begins in UTC.
async fn spread(limit: u64, is_paced: bool, zone: &str) -> Harness {
    let mut settings = settings(&about());
    settings.quota = vec![QuotaWindow { per: QuotaPer::Day, limit }];
    settings.quota_pacing = is_paced;
    settings.quota_zone = zone.parse().unwrap();
    let harness = Harness::with(about(), settings, &[ScriptedReply::says("found 9")]);
    let harness = harness.over(Arc::new(Memory::new()));
    // The clock of the tests begins at 22:13:20.
    harness.clock.sleep(HOUR + 46 * 60 * SECOND + 40 * SECOND).await;
    harness
}

impl Harness {
    /// One look-up of an address that was not looked up before.
    async fn one_more(&self, priority: Priority, number: usize, patience: Duration) -> Option<NotAskedReason> {
        let mut request = self.request_for(&format!("10.{}.{}.1", number / 256, number % 256), patience);
        request.priority = priority;
        let outcome = self.pipeline.look_up(request).await.outcome;
        outcome.body.finding().is_none().then(|| not_asked(&outcome).reason)
    }
}

use Priority::{Background, Interactive};

#[tokio::test(start_paused = true)]
async fn background_requests_never_have_more_than_their_share_of_the_day_and_all_of_it_in_the_end() {
    let harness = spread(100, true, "UTC").await;
    let begun = harness.clock.monotonic();
    for number in 0..24 * 20 {
        harness.one_more(Background, number, SECOND).await;
        let hours = harness.clock.monotonic().since(begun).as_secs_f64() / 3_600.0;
        let share = 80.0 * hours / 24.0;
        let calls = harness.transport.calls() as f64;
        assert!(calls <= share + 1.0 && calls + 1.0 >= share, "{calls} after {hours} hours");
        harness.clock.sleep(180 * SECOND).await;
    }
    // A fifth is the reserve of people.
    assert_eq!(harness.transport.calls(), 80);
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_the_first_who_come_have_all_that_is_not_reserved() {
    let harness = spread(10, false, "UTC").await;
    for number in 0..10 {
        harness.one_more(Background, number, SECOND).await;
    }
    assert_eq!(harness.transport.calls(), 8);
}

#[tokio::test(start_paused = true)]
async fn people_are_not_held_and_what_they_use_is_not_spent_twice() {
    let harness = spread(100, true, "UTC").await;
    for number in 0..40 {
        assert_eq!(harness.one_more(Interactive, number, SECOND).await, None);
    }
    assert_eq!(harness.one_more(Background, 100, SECOND).await, Some(NotAskedReason::Pacing));
    // 40 of 80 calls are the share of twelve hours.
    harness.clock.sleep(12 * HOUR - SECOND).await;
    assert_eq!(harness.one_more(Background, 101, Duration::from_millis(1)).await, Some(NotAskedReason::Pacing));
    harness.clock.sleep(SECOND).await;
    assert_eq!(harness.one_more(Background, 102, SECOND).await, None);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_used_before_may_be_used_later() {
    let harness = spread(100, true, "UTC").await;
    harness.clock.sleep(6 * HOUR).await;
    let mut asked = 0;
    while harness.one_more(Background, asked, SECOND).await.is_none() {
        asked += 1;
    }
    assert_eq!(asked, 21);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_when_the_next_call_may_be_made_and_who_has_time_waits_for_it() {
    let harness = spread(120, true, "UTC").await;
    assert_eq!(harness.one_more(Background, 0, SECOND).await, None);
    let next = harness.clock.now() + 15 * 60 * SECOND;
    let mut request = harness.request_for("192.0.2.1", SECOND);
    request.priority = Background;
    let refused = harness.pipeline.look_up(request.clone()).await;
    let refusal = not_asked(&refused.outcome);
    assert_eq!((refusal.reason, refusal.until), (NotAskedReason::Pacing, Some(next)));
    assert_eq!(refusal.detail, "1 of 120 calls per day is used; background requests are spread over the day");
    assert_eq!((refused.receipt.quota[0].limit, refused.receipt.quota[0].used), (120, 1), "the whole window");
    let usage = harness.pipeline.quota_usage().await;
    assert_eq!(harness.pipeline.quota_refusal(Background, &usage), Some(refusal));
    assert_eq!(harness.pipeline.quota_refusal(Interactive, &usage), None);
    assert_eq!(harness.pipeline.units_left(Background, &usage), Some(0));
    request.deadline = harness.clock.monotonic() + HOUR;
    let waited = harness.pipeline.look_up(request).await;
    assert!(waited.outcome.body.finding().is_some(), "{waited:?}");
    assert_eq!(harness.clock.now(), next);
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_ask_one_by_one_in_the_rhythm_of_the_day() {
    let harness = spread(120, true, "UTC").await;
    let mut look_ups = Vec::new();
    for last in 1..=50 {
        let mut request = harness.request_for(&format!("192.0.2.{last}"), 3 * HOUR);
        request.priority = Background;
        look_ups.push(harness.begin(request));
    }
    for look_up in look_ups {
        look_up.await.unwrap();
    }
    let times = harness.transport.times();
    assert_eq!(times.len(), 12, "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 15 * 60 * SECOND), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn the_day_is_that_of_the_sources_zone() {
    let harness = spread(100, true, "Asia/Tokyo").await;
    let mut asked = 0;
    while harness.one_more(Background, asked, SECOND).await.is_none() {
        asked += 1;
    }
    assert_eq!(asked, 31, "nine of 24 hours have passed there");
}
