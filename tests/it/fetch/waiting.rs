//! Who gets a unit when there are fewer than calls: what is reserved, who waits, and in which order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use concord::clock::Clock;
use concord::fetch::{Fetched, LookupRequest};
use concord::finding::{NotAsked, NotAskedReason};
use concord::source::{Priority, Question, QuotaPer, QuotaWindow, reserved_calls};
use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::task::JoinHandle;

use super::{Harness, SECOND, ScriptedReply, about, not_asked, settings};

const MINUTE: Duration = Duration::from_secs(60);

impl Harness {
    /// A source that allows so many calls a minute and finds something at every address.
    fn scarce(limit: u64) -> Self {
        Self::per_minute(limit, &[ScriptedReply::says("found 9")])
    }

    /// A request of this priority and caller about 192.0.2.`last`.
    fn request_of(&self, priority: Priority, caller: &str, last: u8, time: Duration) -> LookupRequest {
        LookupRequest { priority, caller: caller.into(), ..self.request_for(&format!("192.0.2.{last}"), time) }
    }

    /// Begins such a look-up with an hour's time, and lets it come as far as it can.
    async fn queue(&self, priority: Priority, caller: &str, last: u8) -> JoinHandle<Fetched> {
        let look_up = self.begin(self.request_of(priority, caller, last, 60 * MINUTE));
        self.clock.sleep(Duration::from_millis(1)).await;
        look_up
    }

    /// The last number of each address in the order in which the source was asked.
    fn asked(&self) -> Vec<u8> {
        let asked = self.transport.asked.lock().unwrap();
        asked.iter().map(|(_, question)| last_number(question)).collect()
    }
}

fn last_number(question: &Question) -> u8 {
    let Question::Http(http) = question else { panic!("no HTTP: {question:?}") };
    http.url.path().rsplit('.').next().unwrap().parse().unwrap()
}

use Priority::{Background, Interactive};

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_a_unit_that_comes_free_before_its_deadline() {
    let harness = Harness::scarce(1);
    harness.look_up().await;
    harness.clock.sleep(20 * SECOND).await;
    // Longer than all attempts of a conversation may take: the wait does not count.
    let waited = harness.pipeline.look_up(harness.request_for("192.0.2.2", 60 * SECOND)).await;
    assert!(waited.outcome.body.finding().is_some(), "{waited:?}");
    assert_eq!(harness.transport.times(), [Duration::ZERO, MINUTE]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_is_made_while_a_call_waits_for_its_unit_keeps_it_from_leaving() {
    let mut harness = Harness::scarce(1);
    let is_forbidden = Arc::new(AtomicBool::new(false));
    let rule = is_forbidden.clone();
    harness.withhold(move |indicator| {
        let is_meant = indicator.value() == "192.0.2.2" && rule.load(Ordering::SeqCst);
        is_meant.then(|| NotAsked::new(NotAskedReason::NeverSend, "never-send rule 192.0.2.2"))
    });
    harness.look_up().await;
    let waiting = harness.queue(Interactive, "person", 2).await;
    is_forbidden.store(true, Ordering::SeqCst);
    let next = harness.queue(Interactive, "person", 3).await;
    let refused = waiting.await.unwrap();
    assert_eq!(not_asked(&refused.outcome).reason, NotAskedReason::NeverSend);
    assert_eq!(refused.receipt.units, 0);
    // The unit is given back, to the next in line.
    assert!(next.await.unwrap().outcome.body.finding().is_some());
    assert_eq!(harness.asked(), [1, 3]);
    assert_eq!(harness.transport.times(), [Duration::ZERO, MINUTE]);
}

#[tokio::test(start_paused = true)]
async fn background_requests_leave_the_reserve_to_people() {
    let harness = Harness::scarce(5);
    for last in 1..=4 {
        let served = harness.pipeline.look_up(harness.request_of(Background, "job", last, SECOND)).await;
        assert!(served.outcome.body.finding().is_some(), "{last}");
    }
    let now = harness.clock.now();
    let refused = harness.pipeline.look_up(harness.request_of(Background, "job", 5, SECOND)).await;
    let refusal = not_asked(&refused.outcome);
    assert_eq!((refusal.reason, refusal.until), (NotAskedReason::QuotaReserve, Some(now + MINUTE)));
    assert_eq!(refusal.detail, "4 of 5 calls per minute are used; 1 call reserved for interactive requests");
    assert_eq!((refused.receipt.quota[0].limit, refused.receipt.quota[0].used), (5, 4), "the whole window");
    let person = harness.pipeline.look_up(harness.request_of(Interactive, "person", 6, SECOND)).await;
    assert!(person.outcome.body.finding().is_some());
    let refused = harness.pipeline.look_up(harness.request_of(Interactive, "person", 7, SECOND)).await;
    assert_eq!(not_asked(&refused.outcome).reason, NotAskedReason::QuotaSpent);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_a_unit_holds_no_place_that_a_person_needs() {
    let mut settings = settings(&about());
    settings.quota = vec![QuotaWindow { per: QuotaPer::Minute, limit: 2 }];
    settings.max_concurrency = 1;
    let harness = Harness::with(about(), settings, &[ScriptedReply::says("found 9")]);
    harness.queue(Background, "job", 1).await.await.unwrap();
    let job = harness.queue(Background, "job", 2).await;
    let person = harness.pipeline.look_up(harness.request_of(Interactive, "person", 3, SECOND)).await;
    assert!(person.outcome.body.finding().is_some(), "{person:?}");
    assert!(job.await.unwrap().outcome.body.finding().is_some());
    assert_eq!(harness.asked(), [1, 3, 2]);
}

#[tokio::test(start_paused = true)]
async fn with_a_reserve_of_zero_background_requests_may_use_all_and_of_100_nothing() {
    for (reserve, calls) in [(0, 5), (100, 0)] {
        let mut settings = settings(&about());
        settings.quota = vec![QuotaWindow { per: QuotaPer::Minute, limit: 5 }];
        settings.quota_reserve = reserve;
        let harness = Harness::with(about(), settings, &[ScriptedReply::says("found 9")]);
        for last in 1..=6 {
            harness.pipeline.look_up(harness.request_of(Background, "job", last, SECOND)).await;
        }
        assert_eq!(harness.transport.calls(), calls, "{reserve} %");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_one_call_gets_one_of_the_next_two_units() {
    let harness = Harness::scarce(1);
    harness.look_up().await;
    for last in 10..110 {
        harness.queue(Interactive, "busy", last).await;
    }
    harness.queue(Interactive, "other", 2).await.await.unwrap();
    let asked = harness.asked();
    assert!(asked.len() <= 3, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn people_are_served_before_jobs_that_have_waited_longer() {
    let harness = Harness::scarce(2);
    harness.look_up().await;
    let job = harness.queue(Background, "job", 2).await;
    let mut people = vec![harness.queue(Interactive, "person", 3).await];
    people.push(harness.queue(Interactive, "person", 4).await);
    for look_up in people {
        look_up.await.unwrap();
    }
    job.await.unwrap();
    assert_eq!(harness.asked(), [1, 3, 4, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_person_who_joins_a_waiting_job_takes_it_to_the_front() {
    let harness = Harness::scarce(2);
    harness.look_up().await;
    let begun = harness.clock.monotonic();
    let job = harness.queue(Background, "job", 2).await;
    let person = harness.queue(Interactive, "person", 2).await;
    assert!(person.await.unwrap().outcome.body.finding().is_some());
    assert!(harness.clock.monotonic().since(begun) < SECOND, "the reserve is the person's");
    job.await.unwrap();
    assert_eq!(harness.asked(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_frees_its_place_and_pays_nothing() {
    let harness = Harness::scarce(1);
    harness.look_up().await;
    let leaver = harness.queue(Interactive, "leaver", 2).await;
    let stayer = harness.queue(Interactive, "stayer", 3).await;
    leaver.abort();
    stayer.await.unwrap();
    harness.tasks().await;
    assert_eq!(harness.transport.times(), [Duration::ZERO, MINUTE]);
    assert_eq!(harness.asked(), [1, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_window_that_opens_causes_no_rush() {
    let harness = Harness::scarce(4);
    let mut look_ups = Vec::new();
    for last in 1..=100 {
        look_ups.push(harness.queue(Interactive, "busy", last).await);
    }
    harness.clock.sleep(10 * MINUTE).await;
    let (asked, granted) = (*harness.ledger.asked.lock().unwrap(), harness.transport.calls());
    assert!(granted >= 40, "{granted}");
    assert!(asked <= granted + 4 * 45, "{asked} were asked for, {granted} granted");
    look_ups.iter().for_each(JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_given_back_goes_to_the_one_who_waits() {
    let replies = [ScriptedReply::unreachable(true).after(5 * SECOND), ScriptedReply::says("found 9")];
    let harness = Harness::per_minute(1, &replies);
    let first = harness.begin(harness.request_for("192.0.2.1", 30 * SECOND));
    harness.clock.sleep(SECOND).await;
    let second = harness.pipeline.look_up(harness.request_of(Interactive, "other", 2, 10 * MINUTE)).await;
    assert!(second.outcome.body.finding().is_some());
    assert_eq!(harness.transport.times(), [Duration::ZERO, 5 * SECOND]);
    first.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn callers_that_wait_get_an_error_when_the_ledger_fails() {
    let harness = Harness::scarce(1);
    harness.look_up().await;
    let waiting = harness.queue(Interactive, "person", 2).await;
    *harness.ledger.unreachable.lock().unwrap() = true;
    let outcome = waiting.await.unwrap().outcome;
    assert!(super::error(&outcome).detail.contains("the ledger cannot be reached"), "{outcome:?}");
    assert_eq!(harness.transport.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_hangs_keeps_nobody_beyond_the_deadline() {
    let harness = Harness::scarce(1);
    harness.look_up().await;
    *harness.ledger.hangs.lock().unwrap() = true;
    let begun = harness.clock.monotonic();
    let outcome = harness.pipeline.look_up(harness.request_for("192.0.2.2", 90 * SECOND)).await.outcome;
    assert!(harness.clock.monotonic().since(begun) <= 90 * SECOND);
    assert!(outcome.body.finding().is_none());
    assert_eq!(harness.transport.calls(), 1);
}

/// A look-up of a random schedule.
#[derive(Clone, Debug)]
struct Arrival {
    delay: Duration,
    caller: u8,
    priority: Priority,
    patience: Duration,
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let priority = prop::sample::select(vec![Background, Interactive]);
    (0_u64..40, 0_u8..3, priority, 1_u64..200).prop_map(|(delay, caller, priority, patience)| Arrival {
        delay: Duration::from_secs(delay),
        caller,
        priority,
        patience: Duration::from_secs(patience),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_window_is_exceeded_no_reserve_taken_and_nobody_waits_beyond_the_deadline(
        limit in 1_u64..6,
        arrivals in prop::collection::vec(arrival(), 1..40),
    ) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let harness = Harness::scarce(limit);
            let mut look_ups = Vec::new();
            for (arrival, last) in arrivals.iter().zip(1_u8..) {
                harness.clock.sleep(arrival.delay).await;
                let caller = arrival.caller.to_string();
                let request = harness.request_of(arrival.priority, &caller, last, arrival.patience);
                let (deadline, clock) = (request.deadline, harness.clock.clone());
                let look_up = harness.begin(request);
                look_ups.push(harness.parts.tracker.spawn(async move {
                    let fetched = look_up.await.unwrap();
                    (fetched, clock.monotonic() <= deadline)
                }));
            }
            for look_up in look_ups {
                let (fetched, in_time) = look_up.await.unwrap();
                assert!(in_time, "{fetched:?}");
            }
            let asked = harness.transport.asked.lock().unwrap().clone();
            for (place, (time, question)) in asked.iter().enumerate() {
                let within = asked[..=place].iter().filter(|(other, _)| *other + MINUTE > *time).count() as u64;
                assert!(within <= limit, "{within} within a minute");
                if arrivals[usize::from(last_number(question)) - 1].priority == Background {
                    let unreserved = limit - reserved_calls(limit, 20);
                    assert!(within <= unreserved, "{within} of {unreserved} unreserved");
                }
            }
        });
    }
}
