//! One source of eight hangs: the other seven answer in time, before its circuit opens and after.

use std::sync::Arc;
use std::time::Duration;

use concord::clock::Clock;
use concord::engine::{EnrichRequest, Progress};
use concord::finding::{NotAskedReason, Outcome, OutcomeBody};
use concord::indicator::{Form, Indicator, Tlp};
use concord::pb;
use concord::source::{EnrichMode, Priority, RelationsWanted};
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::harness::{Replay, TestServer, malicious_virustotal, report, violated};

const OTHERS: usize = 7;

/// A source with a key and a quota of its own.
fn source(name: &str, replay: &Replay) -> String {
    format!(
        "[sources.{name}]\nkind = \"virustotal\"\ncredential = \"key-of-{name}\"\nbase_url = \"http://{}\"\n\
         quota = {{ minute = 1000 }}\ntimeout = \"1s\"\n",
        replay.address
    )
}

fn request(address: &str, server: &TestServer, time: Duration) -> EnrichRequest {
    let deadline = server.clock.monotonic() + time;
    EnrichRequest {
        indicator: Indicator::from_normal(Form::Ipv4, address).unwrap(),
        sources: Vec::new(),
        policy: None,
        compare_policies: Vec::new(),
        mode: EnrichMode::default(),
        tlp: Tlp::Green,
        max_age: None,
        priority: Priority::Interactive,
        relations: RelationsWanted::default(),
        caller: "tester".into(),
        budget: Some(server.engine().budget(Some(deadline), Duration::ZERO).unwrap()),
    }
}

/// Looks an address up with this much time. So much of it passes once all others have answered and the source that hangs was
/// called this often.
async fn look_up(
    server: &TestServer,
    hanging: &Replay,
    calls: usize,
    time: Duration,
    passes: Duration,
) -> Vec<Arc<Outcome>> {
    let request = request(&format!("198.51.100.{calls}"), server, time);
    let (answered, mut answers) = watch::channel(0);
    let mut count = |_: Progress<'_>| answered.send_modify(|answers| *answers += 1);
    let pass = async {
        answers.wait_for(|answers| *answers >= OTHERS).await.unwrap();
        hanging.called(calls).await;
        server.clock.advance(passes);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        enriched = server.engine().enrich(&request, Some(&mut count)) => enriched.unwrap().record.verdict.outcomes.clone(),
        () = pass => unreachable!("it never ends"),
    }
}

async fn circuit_state(server: &TestServer) -> pb::CircuitState {
    let name = pb::GetSourceRequest { name: "sources/hanging".into() };
    let shown = server.sources().get_source(name).await.unwrap().into_inner().source.unwrap();
    shown.circuit.unwrap().state()
}

async fn usage(server: &TestServer) -> (u64, u64) {
    let usage = server.engine().usage(&["hanging".to_owned()]).await.unwrap();
    (usage[0].counters.calls, usage[0].counters.units)
}

async fn configure(server: &TestServer, source: pb::Source) -> Result<pb::Source, tonic::Status> {
    let source = Some(pb::Source { name: "sources/hanging".into(), ..source });
    let request = pb::ConfigureSourceRequest { source, ..Default::default() };
    Ok(server.sources().configure_source(request).await?.into_inner().source.unwrap())
}

#[tokio::test]
async fn a_source_that_hangs_keeps_no_caller_from_the_other_seven_and_costs_nothing_once_its_circuit_is_open() {
    let hanging = Replay::held(Box::new(|_| (200, report(60, 0)))).await;
    let others = join_all((0..OTHERS).map(|_| malicious_virustotal())).await;
    let mut configuration = source("hanging", &hanging);
    others.iter().enumerate().for_each(|(number, other)| configuration += &source(&format!("other-{number}"), other));
    let server = TestServer::start(&configuration).await;
    let findings =
        |outcomes: &[Arc<Outcome>]| outcomes.iter().filter(|outcome| outcome.body.finding().is_some()).count();
    let of_hanging =
        |outcomes: &[Arc<Outcome>]| outcomes.iter().find(|one| one.source == "hanging").unwrap().body.clone();

    // Closed: a caller is answered at its deadline, with what the others say.
    let half = Duration::from_millis(500);
    let outcomes = look_up(&server, &hanging, 1, half, half).await;
    assert_eq!((findings(&outcomes), of_hanging(&outcomes).was_attempted()), (OTHERS, true));
    assert_eq!(usage(&server).await, (1, 1));

    // Callers with more time see the source time out, until its circuit opens.
    let mut calls = 1;
    while circuit_state(&server).await == pb::CircuitState::Closed {
        calls += 1;
        assert!(calls <= 6, "five timeouts open it");
        let outcomes = look_up(&server, &hanging, calls, Duration::from_millis(1060), Duration::from_secs(1)).await;
        assert_eq!(findings(&outcomes), OTHERS);
    }

    // Open: no time has to pass, no call is made and no unit is spent.
    let (before, made) = (usage(&server).await, hanging.calls());
    for last in 1..=20 {
        let request = request(&format!("203.0.113.{last}"), &server, half);
        let enriched = server.engine().enrich(&request, None).await.unwrap();
        let outcomes = &enriched.record.verdict.outcomes;
        assert_eq!(findings(outcomes), OTHERS);
        match of_hanging(outcomes) {
            OutcomeBody::NotAsked(not_asked) => assert_eq!(not_asked.reason, NotAskedReason::CircuitOpen),
            other => panic!("asked: {other:?}"),
        }
    }
    assert_eq!((usage(&server).await, hanging.calls()), (before, made));

    // What does not change how it is asked leaves the circuit open; what does closes it.
    let letter = pb::Source { reliability: pb::Reliability::C.into(), ..Default::default() };
    assert!(configure(&server, letter).await.is_ok());
    assert_eq!(circuit_state(&server).await, pb::CircuitState::Open);
    let timeout = Some(prost_types::Duration { seconds: 2, nanos: 0 });
    assert!(configure(&server, pb::Source { timeout, ..Default::default() }).await.is_ok());
    assert_eq!(circuit_state(&server).await, pb::CircuitState::Closed);
}

#[tokio::test]
async fn the_maximum_of_calls_at_once_is_from_one_to_a_thousand() {
    let hanging = Replay::held(Box::new(|_| (200, report(60, 0)))).await;
    let server = TestServer::start(&source("hanging", &hanging)).await;
    let with = |max| pb::Source { max_concurrency: Some(max), ..Default::default() };
    for max in [0, 1001, u32::MAX] {
        let refused = configure(&server, with(max)).await.unwrap_err();
        assert_eq!(violated(&refused), ["source.max_concurrency"]);
    }
    for max in [1, 1000] {
        assert_eq!(configure(&server, with(max)).await.unwrap().max_concurrency, Some(max));
        let name = pb::GetSourceRequest { name: "sources/hanging".into() };
        let shown = server.sources().get_source(name).await.unwrap().into_inner().source.unwrap();
        assert_eq!(shown.concurrency.unwrap().limit, max);
    }
}
