//! Asking in waves: what it leaves out can never change the disposition.

use std::collections::BTreeSet;
use std::time::Duration;

use concord::engine::waves::{Candidate, LAST_WAVE, Price, Step, StopReason, expected_waves, next_wave};
use concord::finding::{Disposition, Outcome, Reliability, Strength};
use concord::indicator::IndicatorType;
use concord::verdict::{PendingSource, Policy, Prospect, fuse};
use proptest::prelude::{Just, Strategy, any, proptest};
use proptest::{prop_assert, prop_assert_eq, prop_oneof};

use super::build::{claim, indicator, now, policy};
use super::random::{any_claim, any_claims, any_silence, any_type, config, greatest_strength, named};

#[path = "../../../benches/plan/trace.rs"]
mod trace;

const POLICIES: [&str; 5] = ["weighted", "xsoar", "worst", "majority", "mean"];

fn any_policy() -> impl Strategy<Value = Policy> {
    (proptest::sample::select(&POLICIES[..]), prop_oneof![3 => Just(0.0), 1 => Just(0.5)])
        .prop_map(|(name, minimum_coverage)| Policy { minimum_coverage, ..policy(name) })
}

fn any_price() -> impl Strategy<Value = Price> {
    (1..3_u32, 0..3_u32, 0..=4_u32, proptest::option::of(1..3000_u64)).prop_map(|(units, more, quarters, millis)| {
        Price {
            units,
            max_units: units + more,
            left: f64::from(quarters) / 4.0,
            latency: millis.map(Duration::from_millis),
        }
    })
}

/// What sources would answer, with their prices.
fn any_answers() -> impl Strategy<Value = Vec<(Outcome, Price)>> {
    let answer = prop_oneof![3 => any_claim().boxed(), 1 => any_silence().boxed()];
    proptest::collection::vec((answer, any_price()), 0..7).prop_map(|answers| {
        let (outcomes, prices): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        named(outcomes, "p").into_iter().zip(prices).collect()
    })
}

fn candidate((outcome, price): &(Outcome, Price)) -> Candidate {
    let source = PendingSource {
        name: outcome.source.clone(),
        reliability: outcome.reliability,
        greatest_strength: greatest_strength(outcome),
        family: outcome.family.clone(),
    };
    Candidate { source, price: *price }
}

/// Everything that is known once nobody is asked any more.
struct Ended {
    outcomes: Vec<Outcome>,
    asked: usize,
    units: u32,
    waves: u32,
    stop: Option<StopReason>,
}

fn ask(
    policies: &[&Policy],
    kind: IndicatorType,
    known: &[Outcome],
    answers: &[(Outcome, Price)],
    budget: Option<u32>,
) -> Ended {
    let mut rest = answers.to_vec();
    let mut ended = Ended { outcomes: known.to_vec(), asked: 0, units: 0, waves: 0, stop: None };
    while !rest.is_empty() {
        let prospect = Prospect::new(policies, kind, now(), ended.outcomes.clone());
        let candidates: Vec<_> = rest.iter().map(candidate).collect();
        let left = budget.map(|budget| budget.checked_sub(ended.units).expect("never above the budget"));
        match next_wave(&prospect, ended.waves + 1, &candidates, &[], left) {
            Step::Stop(reason) => {
                ended.stop = Some(reason);
                break;
            }
            Step::Ask(asked) => {
                assert!(!asked.is_empty(), "a wave asks somebody");
                let places: BTreeSet<usize> = asked.iter().map(|asked| asked.candidate).collect();
                assert_eq!(places.len(), asked.len(), "nobody is asked twice");
                for asked in &asked {
                    let (outcome, price) = &rest[asked.candidate];
                    ended.units += asked.max_units.unwrap_or(price.max_units);
                    ended.outcomes.push(outcome.clone());
                }
                ended.asked += asked.len();
                ended.waves += 1;
                let mut place = 0;
                rest.retain(|_| {
                    place += 1;
                    !places.contains(&(place - 1))
                });
            }
        }
    }
    ended
}

fn disposition(policy: &Policy, kind: IndicatorType, outcomes: &[Outcome]) -> Disposition {
    fuse(policy, &indicator(kind), now(), outcomes.to_vec()).disposition
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_decisive_verdict_has_the_disposition_of_the_complete_one(
        policy in any_policy(), kind in any_type(), known in any_claims(), answers in any_answers(),
    ) {
        let ended = ask(&[&policy], kind, &known, &answers, None);
        let complete: Vec<_> = known.iter().chain(answers.iter().map(|(outcome, _)| outcome)).cloned().collect();
        prop_assert_eq!(disposition(&policy, kind, &ended.outcomes), disposition(&policy, kind, &complete));
        prop_assert!(ended.asked <= answers.len());
        prop_assert!(ended.stop.is_none_or(|stop| stop == StopReason::Settled));
        // One more asks who could not be asked before.
        prop_assert!(ended.waves <= LAST_WAVE + 1, "{} waves", ended.waves);
    }

    #[test]
    fn what_is_settled_is_settled_under_every_policy_that_judges(
        first in any_policy(), second in any_policy(), kind in any_type(), known in any_claims(), answers in any_answers(),
    ) {
        let ended = ask(&[&first, &second], kind, &known, &answers, None);
        let complete: Vec<_> = known.iter().chain(answers.iter().map(|(outcome, _)| outcome)).cloned().collect();
        for policy in [&first, &second] {
            prop_assert_eq!(disposition(policy, kind, &ended.outcomes), disposition(policy, kind, &complete));
        }
    }

    #[test]
    fn a_frugal_enrichment_never_spends_above_its_budget(
        policy in any_policy(), kind in any_type(), known in any_claims(), answers in any_answers(), budget in 0..12_u32,
    ) {
        let frugal = ask(&[&policy], kind, &known, &answers, Some(budget));
        prop_assert!(frugal.units <= budget);
        if frugal.stop == Some(StopReason::Settled) {
            let complete: Vec<_> = known.iter().chain(answers.iter().map(|(outcome, _)| outcome)).cloned().collect();
            prop_assert_eq!(disposition(&policy, kind, &frugal.outcomes), disposition(&policy, kind, &complete));
        }
    }

    #[test]
    fn the_order_of_the_sources_does_not_matter(
        policy in any_policy(), kind in any_type(), known in any_claims(), answers in any_answers(), turn in any::<usize>(),
    ) {
        let names = |answers: &[(Outcome, Price)]| {
            let candidates: Vec<_> = answers.iter().map(candidate).collect();
            let policies = [&policy];
            let prospect = Prospect::new(&policies, kind, now(), known.clone());
            let (waves, stop) = expected_waves(&prospect, &candidates, &[], None);
            let name = |place: &usize| candidates[*place].source.name.clone();
            let waves: Vec<BTreeSet<String>> = waves.iter().map(|wave| wave.iter().map(name).collect()).collect();
            (waves, stop)
        };
        let mut turned = answers.clone();
        if !turned.is_empty() {
            turned.rotate_left(turn % answers.len());
        }
        prop_assert_eq!(names(&answers), names(&turned));
    }
}

fn priced(name: &str, letter: Reliability, price: Price) -> (Outcome, Price) {
    (claim(name, letter, Disposition::Malicious), price)
}

fn unit() -> Price {
    Price { units: 1, max_units: 1, left: 1.0, latency: Some(Duration::from_millis(100)) }
}

fn first_wave(answers: &[(Outcome, Price)]) -> Vec<String> {
    let policy = policy("weighted");
    let policies = [&policy];
    let prospect = Prospect::new(&policies, IndicatorType::Domain, now(), [] as [Outcome; 0]);
    let candidates: Vec<_> = answers.iter().map(candidate).collect();
    match next_wave(&prospect, 1, &candidates, &[], None) {
        Step::Ask(asked) => asked.iter().map(|asked| candidates[asked.candidate].source.name.clone()).collect(),
        Step::Stop(reason) => panic!("{reason:?}"),
    }
}

#[test]
fn the_most_reliable_are_asked_first_and_at_equal_reliability_the_cheapest() {
    use Reliability::{A, B, D};
    let of_letters = first_wave(&[priced("d", D, unit()), priced("b", B, unit()), priced("a", A, unit())]);
    assert_eq!(of_letters[0], "a");
    let dear = Price { units: 3, max_units: 3, ..unit() };
    assert_eq!(first_wave(&[priced("dear", B, dear), priced("cheap", B, unit())])[0], "cheap");
    let scarce = Price { left: 0.1, ..unit() };
    assert_eq!(first_wave(&[priced("a-scarce", B, scarce), priced("plenty", B, unit())])[0], "plenty");
    let slow = Price { latency: Some(Duration::from_secs(4)), ..unit() };
    assert_eq!(first_wave(&[priced("a-slow", B, slow), priced("swift", B, unit())])[0], "swift");
}

#[test]
fn who_cannot_be_asked_now_comes_last_and_holds_nobody_up() {
    use Reliability::{A, E};
    let spent = Price { left: 0.0, ..unit() };
    assert_eq!(first_wave(&[priced("spent", A, spent), priced("e", E, unit())]), ["e"]);
    assert_eq!(first_wave(&[priced("spent", A, spent)]), ["spent"], "nobody else is left");
}

#[test]
fn a_source_that_weighs_nothing_is_not_asked() {
    let policy = policy("weighted");
    let answers = [priced("a", Reliability::A, unit()), priced("f", Reliability::F, unit())];
    let ended = ask(&[&policy], IndicatorType::Domain, &[], &answers, None);
    assert_eq!((ended.asked, ended.stop), (1, Some(StopReason::Settled)));
}

#[test]
fn a_budget_of_nothing_asks_nobody_and_a_dear_source_gives_way_to_a_cheap_one() {
    let policy = policy("weighted");
    let dear = Price { units: 3, max_units: 3, ..unit() };
    let answers = [priced("a", Reliability::A, dear), priced("d", Reliability::D, unit())];
    let with = |budget| ask(&[&policy], IndicatorType::Domain, &[], &answers, Some(budget));
    assert_eq!((with(0).asked, with(0).stop), (0, Some(StopReason::Budget)));
    let two = with(2);
    assert_eq!((two.asked, two.outcomes[0].source.as_str(), two.stop), (1, "d", Some(StopReason::Budget)));
}

#[test]
fn a_source_of_several_questions_gets_what_is_left_of_the_budget() {
    let policy = policy("weighted");
    let policies = [&policy];
    let prospect = Prospect::new(&policies, IndicatorType::Domain, now(), [] as [Outcome; 0]);
    let pages = Price { units: 1, max_units: 5, ..unit() };
    let candidates = [candidate(&priced("a", Reliability::A, pages))];
    let Step::Ask(asked) = next_wave(&prospect, 1, &candidates, &[], Some(3)) else { panic!("it is asked") };
    assert_eq!(asked[0].max_units, Some(3));
}

#[test]
fn a_day_of_requests_has_the_same_dispositions_for_fewer_calls() {
    for coverage in [1.0, 0.6, 0.3] {
        let counts = trace::run(2_000, 400, coverage, Strength::FULL);
        assert_eq!(counts.identical, 2_000, "{coverage}");
        assert!(counts.decisive < counts.complete && counts.complete < counts.without_cache, "{counts:?}");
        assert!(counts.waves <= 3 * counts.asking && counts.asking > 0, "{counts:?}");
    }
}
