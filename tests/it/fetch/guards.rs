//! When a source is left alone, who tries it again, and how many calls are made at once.

use std::time::Duration;

use concord::clock::Clock;
use concord::fetch::{CircuitState, CircuitStatus};
use concord::finding::{Disposition, NotAskedReason, SourceError, SourceErrorKind};
use concord::source::Priority;

use super::{Harness, SECOND, ScriptedReply, about, error, finding, not_asked, settings};

/// No answer before the source's timeout of ten seconds.
fn hangs() -> ScriptedReply {
    ScriptedReply::says("found 9").after(600 * SECOND)
}

fn circuit(harness: &Harness) -> CircuitStatus {
    harness.pipeline.guard_status().unwrap().circuit
}

/// A source that hung until its circuit opened.
async fn hung() -> Harness {
    let harness = Harness::per_minute(100, &[hangs()]);
    for last in 1..=5 {
        assert_eq!(circuit(&harness).state, CircuitState::Closed);
        let address = format!("192.0.2.{last}");
        harness.pipeline.look_up(harness.request_for(&address, SECOND / 2)).await;
        harness.clock.sleep(10 * SECOND).await;
    }
    harness.tasks().await;
    assert_eq!(circuit(&harness).state, CircuitState::Open);
    harness
}

async fn pass_pause(harness: &Harness) {
    let next = circuit(harness).next_probe.unwrap().duration_since(harness.clock.now()).unwrap();
    harness.clock.sleep(next).await;
    assert_eq!(circuit(harness).state, CircuitState::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn a_hung_source_is_left_alone_and_costs_neither_time_nor_units() {
    let harness = hung().await;
    let (calls, units) = (harness.transport.calls(), harness.parts.counters.snapshot().units);
    let fetched = harness.pipeline.look_up(harness.request_for("192.0.2.9", SECOND / 2)).await;
    let refused = not_asked(&fetched.outcome);
    let status = circuit(&harness);
    assert_eq!((refused.reason, refused.until), (NotAskedReason::CircuitOpen, status.next_probe));
    assert!(refused.detail.contains("after 5 timeouts in a row; next try at "), "{}", refused.detail);
    assert_eq!((fetched.receipt.latency, fetched.receipt.units), (Duration::ZERO, 0));
    assert_eq!((harness.transport.calls(), harness.parts.counters.snapshot().units), (calls, units));
    assert_eq!((status.why.as_str(), status.attempts, status.failures), ("5 timeouts in a row", 5, 5));
    assert_eq!(harness.pipeline.quota_refusal(Priority::Interactive, &[]), Some(refused), "a plan says it too");
}

#[tokio::test(start_paused = true)]
async fn callers_in_a_hurry_open_no_circuit_of_a_source_that_answers() {
    let harness = Harness::new(&[ScriptedReply::says("found 9").after(3 * SECOND / 10)]);
    for last in 1..=50 {
        let address = format!("192.0.2.{last}");
        harness.pipeline.look_up(harness.request_for(&address, SECOND / 10)).await;
    }
    harness.tasks().await;
    let status = circuit(&harness);
    assert_eq!((status.state, status.attempts, status.failures), (CircuitState::Closed, 50, 0));
}

#[tokio::test(start_paused = true)]
async fn one_call_is_the_probe_and_its_answer_closes_the_circuit() {
    let harness = hung().await;
    pass_pause(&harness).await;
    harness.transport.script(&[ScriptedReply::says("found 9").after(SECOND)]);
    let calls = harness.transport.calls();
    let look_ups: Vec<_> =
        (1..=20).map(|last| harness.begin(harness.request_for(&format!("198.51.100.{last}"), 60 * SECOND))).collect();
    let mut answered = 0;
    for look_up in look_ups {
        let outcome = look_up.await.unwrap().outcome;
        if outcome.body.is_answer() {
            answered += 1;
        } else {
            assert_eq!(not_asked(&outcome).reason, NotAskedReason::CircuitOpen);
        }
    }
    assert_eq!((answered, harness.transport.calls()), (1, calls + 1));
    assert_eq!(circuit(&harness), CircuitStatus::default());
    assert_eq!(finding(&harness.look_up().await.outcome).0, Disposition::Malicious);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_makes_the_pause_longer_up_to_five_minutes() {
    let harness = hung().await;
    let since = circuit(&harness).since;
    let mut pauses = Vec::new();
    for last in 1..=8 {
        pass_pause(&harness).await;
        let failed = harness.pipeline.look_up(harness.request_for(&format!("198.51.100.{last}"), 60 * SECOND)).await;
        assert_eq!(error(&failed.outcome).kind, SourceErrorKind::Timeout, "and it is not tried again at once");
        pauses.push(circuit(&harness).next_probe.unwrap().duration_since(harness.clock.now()).unwrap());
    }
    assert!(pauses[0] >= 10 * SECOND && pauses[0] <= 20 * SECOND, "{pauses:?}");
    assert!(pauses[7] >= 150 * SECOND && pauses.iter().all(|pause| *pause <= 300 * SECOND), "{pauses:?}");
    assert_eq!(circuit(&harness).since, since);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_not_made_lets_the_next_caller_try() {
    let harness = hung().await;
    pass_pause(&harness).await;
    harness.transport.script(&[ScriptedReply::says("found 9")]);
    // The ledger takes so long that its caller leaves before the call.
    *harness.ledger.lags.lock().unwrap() = vec![2 * SECOND];
    let left = harness.pipeline.look_up(harness.request_for("198.51.100.1", SECOND)).await;
    assert_eq!(not_asked(&left.outcome).reason, NotAskedReason::Deadline);
    harness.tasks().await;
    assert_eq!(circuit(&harness).state, CircuitState::HalfOpen);
    let next = harness.pipeline.look_up(harness.request_for("198.51.100.2", 60 * SECOND)).await;
    assert_eq!(finding(&next.outcome).0, Disposition::Malicious);
}

#[tokio::test(start_paused = true)]
async fn refusals_of_the_quota_the_credential_and_the_question_are_no_failures() {
    for status in [400, 401, 403, 429] {
        let harness = Harness::new(&[ScriptedReply::status(status, Some(1))]);
        for last in 1..=30 {
            harness.pipeline.look_up(harness.request_for(&format!("192.0.2.{last}"), 60 * SECOND)).await;
            harness.clock.sleep(2 * SECOND).await;
        }
        let circuit = circuit(&harness);
        assert_eq!((circuit.state, circuit.failures), (CircuitState::Closed, 0), "status {status}");
    }
}

#[tokio::test(start_paused = true)]
async fn missing_connections_server_errors_and_unreadable_answers_open_the_circuit() {
    let replies = [
        ScriptedReply::unreachable(true),
        ScriptedReply::status(503, None),
        ScriptedReply::says("gibberish"),
        ScriptedReply::fails(SourceError::unavailable("the answer broke off")),
    ];
    for reply in replies {
        let harness = Harness::new(std::slice::from_ref(&reply));
        for last in 1..=10 {
            harness.pipeline.look_up(harness.request_for(&format!("192.0.2.{last}"), 60 * SECOND)).await;
        }
        assert_eq!((circuit(&harness).state, harness.transport.calls()), (CircuitState::Open, 10), "{reply:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_test_of_the_source_closes_its_circuit() {
    let harness = hung().await;
    harness.transport.script(&[ScriptedReply::says("found 9")]);
    assert_eq!(harness.pipeline.probe("tester").await.connectivity, Ok(()));
    assert_eq!(circuit(&harness).state, CircuitState::Closed);
    assert_eq!(finding(&harness.look_up().await.outcome).0, Disposition::Malicious);
}

#[tokio::test(start_paused = true)]
async fn other_pipelines_of_the_same_source_know_the_circuit() {
    let mut harness = hung().await;
    harness.change(about(), settings(&about()));
    assert_eq!(not_asked(&harness.look_up().await.outcome).reason, NotAskedReason::CircuitOpen);
}

/// A source that two calls at once may be made to, each of which takes a second.
fn narrow() -> Harness {
    let mut settings = settings(&about());
    settings.max_concurrency = 2;
    Harness::with(about(), settings, &[ScriptedReply::says("found 9").after(SECOND)])
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_their_place_in_order() {
    let harness = narrow();
    let requests = (1..=6).map(|last| harness.request_for(&format!("192.0.2.{last}"), 60 * SECOND));
    let look_ups: Vec<_> = requests.map(|request| harness.begin(request)).collect();
    harness.clock.sleep(SECOND / 2).await;
    let status = harness.pipeline.guard_status().unwrap().concurrency;
    assert_eq!((status.limit, status.in_flight, status.waiting), (2, 2, 4));
    assert_eq!(harness.transport.calls(), 2);
    for (place, look_up) in look_ups.into_iter().enumerate() {
        let fetched = look_up.await.unwrap();
        assert_eq!(finding(&fetched.outcome).0, Disposition::Malicious);
        assert_eq!(fetched.receipt.latency, SECOND * (place as u32 / 2 + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_deadline_passes_while_it_waits_for_a_place_learns_why_and_pays_nothing() {
    let harness = narrow();
    let first: Vec<_> =
        (1..=2).map(|last| harness.begin(harness.request_for(&format!("192.0.2.{last}"), 60 * SECOND))).collect();
    harness.clock.sleep(SECOND / 10).await;
    let late = harness.pipeline.look_up(harness.request_for("192.0.2.9", SECOND / 2)).await;
    let refused = not_asked(&late.outcome);
    assert_eq!(refused.reason, NotAskedReason::Deadline);
    assert_eq!(refused.detail, "2 calls are made to the source at once, and no place came free before the deadline");
    for look_up in first {
        look_up.await.unwrap();
    }
    harness.tasks().await;
    assert_eq!((harness.transport.calls(), harness.ledger.acquired_at.lock().unwrap().len()), (2, 2));
    assert_eq!(harness.pipeline.guard_status().unwrap().concurrency.waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_while_it_waits_for_a_place_gives_its_unit_back_at_once() {
    let harness = narrow();
    for last in 1..=2 {
        harness.begin(harness.request_for(&format!("192.0.2.{last}"), 60 * SECOND));
    }
    let left = harness.begin(harness.request_for("192.0.2.9", 60 * SECOND));
    harness.clock.sleep(SECOND / 10).await;
    assert_eq!(harness.ledger.acquired_at.lock().unwrap().len(), 3);
    left.abort();
    harness.clock.sleep(SECOND / 10).await;
    let status = harness.pipeline.guard_status().unwrap().concurrency;
    assert_eq!((status.in_flight, status.waiting), (2, 0));
    assert_eq!(harness.ledger.acquired_at.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_a_place_are_answered_as_soon_as_the_circuit_opens() {
    let mut settings = settings(&about());
    settings.max_concurrency = 5;
    let harness = Harness::with(about(), settings, &[hangs()]);
    let begun = harness.clock.monotonic();
    let look_ups: Vec<_> =
        (1..=40).map(|last| harness.begin(harness.request_for(&format!("192.0.2.{last}"), 60 * SECOND))).collect();
    let mut refused = 0;
    for look_up in look_ups {
        let outcome = look_up.await.unwrap().outcome;
        if outcome.body.was_attempted() {
            assert_eq!(error(&outcome).kind, SourceErrorKind::Timeout);
        } else {
            assert_eq!(not_asked(&outcome).reason, NotAskedReason::CircuitOpen);
            refused += 1;
        }
    }
    assert_eq!((refused, harness.transport.calls()), (35, 5));
    let waited = harness.clock.monotonic().since(begun);
    assert!(waited < 11 * SECOND, "the timeout of the first five, and what a retry waits: {waited:?}");
}
