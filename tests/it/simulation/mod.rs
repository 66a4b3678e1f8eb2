//! Engine and pipelines in seeded worlds under virtual time: services that fail, hang, answer late or refuse, callers that hurry
//! or leave, clocks that are set, crashes. After each schedule, `promises.rs` says which promise it broke.
//!
//! `cargo test simulation` runs some thousand seeds; `CONCORD_SEEDS=0..1000000 cargo test --release simulation` those. A seed that
//! fails is named, with the command that runs it alone. The hash tables of the program and the choices of `tokio::select!` have
//! seeds of their own, so that a schedule may differ from run to run where events are due at the same moment.

mod promises;
mod random;
mod source;
mod world;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use concord::finding::Disposition;
use concord::indicator::Tlp;
use concord::source::EnrichMode;
use concord::store::Disclosure;
use promises::broken_promise;
use source::Arrival;
use world::{Answered, Counts, History, NEVER_SENT, PRIVATE, PUBLIC, Trouble, World, indicator};

/// Seeds of a run that names none.
const SEEDS: Range<u64> = 0..2_000;

#[expect(clippy::disallowed_methods, reason = "the seeds are chosen by whoever runs the tests")]
fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("CONCORD_SEEDS") else { return SEEDS };
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or_else(|| panic!("CONCORD_SEEDS={text}: not of the form FROM..TO"))
}

#[test]
fn no_schedule_breaks_a_promise() {
    let seeds = seeds();
    let count = seeds.end - seeds.start;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(seeds.start);
    let run = || {
        let mut met = Counts::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return met;
            }
            let history = World::new(seed).run();
            if let Some(broken) = broken_promise(&history) {
                // No other thread needs to go on.
                next.store(seeds.end, Ordering::Relaxed);
                let History { trouble, steps, .. } = history;
                panic!(
                    "seed {seed}, {trouble:?}, {steps:?}: {broken}\n\
                     alone: CONCORD_SEEDS={seed}..{} cargo test --test it simulation",
                    seed + 1
                );
            }
            met.add(&history);
        }
    };
    let mut met = Counts::default();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        for thread in running {
            met += thread.join().expect("the thread says which seed failed");
        }
    });
    println!("{count} schedules: {met:?}");
    assert!(met.shows_everything() || count < 1_000, "the schedules do not meet what they should: {met:?}");
}

/// A history of a calm world in which all is well, with a decisive verdict of an address that all may ask about.
fn calm() -> (History, usize) {
    let histories = (0..1_000).map(|seed| World::new(seed).run()).filter(|history| history.trouble == Trouble::Calm);
    let decisive = |answered: &Answered| {
        answered.request.mode == EnrichMode::Decisive
            && answered.request.tlp != Tlp::Red
            && answered.request.indicator.value() == PUBLIC[0]
            && matches!(&answered.result, Some(Ok(_)))
    };
    let mut found = histories.filter_map(|history| Some((history.answers.iter().position(decisive)?, history)));
    let (position, history) = found.next().expect("one in a thousand worlds");
    assert_eq!(broken_promise(&history), None);
    (history, position)
}

#[test]
fn every_promise_notices_a_history_that_breaks_it() {
    let broken = |change: &dyn Fn(&mut History, usize)| {
        let (mut history, position) = calm();
        change(&mut history, position);
        broken_promise(&history).expect("it is noticed")
    };
    let asked = |value: &str, times: u64| {
        broken(&|history, _| {
            let at = history.answers[0].at;
            (0..times).for_each(|_| history.services[0].arrive(Arrival { at, indicator: value.to_owned() }));
        })
    };
    assert!(asked(PUBLIC[0], 1_001).contains("calls within a minute"));
    assert!(asked(NEVER_SENT, 1).contains("that is not in the ledger"));
    let forbidden = broken(&|history, _| {
        let at = history.answers[0].at;
        history.services[0].arrive(Arrival { at, indicator: PRIVATE.to_owned() });
        let disclosure = history.disclosures[0].clone();
        let source = history.services[0].name.clone();
        let indicator = indicator(PRIVATE);
        history.disclosures.push(Disclosure { indicator, source, ..disclosure });
    });
    assert!(forbidden.contains("10.0.0.7 was asked about"), "{forbidden}");
    assert!(broken(&|history, _| history.disclosures.clear()).contains("not in the ledger"));
    let late = broken(&|history, _| history.answers[0].at = history.answers[0].deadline + Duration::from_nanos(1));
    assert!(late.contains("late by 1ns"), "{late}");
    assert!(broken(&|history, _| history.verdicts.clear()).contains("is in the history None times"));
    let twice = broken(&|history, position| history.answers.push(history.answers[position].clone()));
    assert!(twice.contains("of two requests"), "{twice}");
    assert!(broken(&|history, _| history.forgotten = 1).contains("never end"));
    let differs = broken(&|history, _| {
        for (_, complete) in &mut history.complete {
            *complete = match complete {
                Disposition::Malicious => Disposition::Benign,
                Disposition::Unknown | Disposition::Benign | Disposition::Suspicious => Disposition::Malicious,
            };
        }
    });
    assert!(differs.contains("decisive says"), "{differs}");
    let dear = broken(&|history, position| {
        history.answers[position].request.mode = EnrichMode::Frugal { budget: 1 };
        let Some(Ok(enriched)) = &mut history.answers[position].result else { return };
        enriched.receipts[0].1.units = 2;
    });
    assert!(dear.contains("units of 1"), "{dear}");
}
