//! What a verdict says would change it does change it, and nothing else does: every statement is checked by judging again.

use std::time::Duration;

use concord::finding::{Disposition, Family, Finding, NotAskedReason, Outcome, OutcomeBody, Reliability, Strength};
use concord::indicator::IndicatorType;
use concord::verdict::{Assumption, Flip, PendingSource, Policy, Reach, Rule, Verdict, WeightedRule, fuse, reach};
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_assert_ne, prop_oneof, proptest};
use proptest::sample::select;
use strum::VariantArray;

use super::build::{changed, claim, in_family, indicator, not_asked, now, policy};
use super::random::{
    SIDES, any_claim, any_claims, any_letter, any_policy, any_priors, any_silences, any_type, config,
    greatest_strength, is_valid, named, set_priors,
};

/// The weighted policy with a prior of its own for each type, and with a shift in whole micro-nats.
fn any_weighted() -> impl Strategy<Value = Policy> {
    let policy = (any_priors(), -1_000_000..1_000_000_i64).prop_map(|(priors, shift)| {
        changed(|rule| {
            set_priors(rule, priors);
            rule.calibration.shift = shift as f64 / 1e6;
        })
    });
    policy.prop_filter("a valid policy", is_valid)
}

fn any_outcomes() -> impl Strategy<Value = Vec<Outcome>> {
    (any_claims(), any_silences()).prop_map(|(mut claims, silences)| {
        claims.extend(silences);
        claims
    })
}

fn judged(policy: &Policy, kind: IndicatorType, outcomes: &[Outcome]) -> Verdict {
    fuse(policy, &indicator(kind), now(), outcomes.to_vec())
}

/// The outcome with another report: as strong and as old as before, or fresh and full where there was no answer.
fn reporting(outcome: &Outcome, to: Disposition) -> Outcome {
    let mut outcome = outcome.clone();
    match &mut outcome.body {
        OutcomeBody::Finding(finding) => finding.claim = to,
        body => *body = OutcomeBody::Finding(Finding::new(to, None, "instead")),
    }
    outcome
}

fn flipped(outcomes: &[Outcome], flip: &Flip) -> Vec<Outcome> {
    let change = |outcome: &Outcome| {
        let change = flip.changes.iter().find(|change| change.source == outcome.source);
        change.map_or_else(|| outcome.clone(), |change| reporting(outcome, change.to))
    };
    outcomes.iter().map(change).collect()
}

fn may_change(outcome: &Outcome, assumption: Assumption) -> bool {
    match assumption {
        Assumption::WrongAnswers => outcome.body.is_answer(),
        Assumption::MissingAnswers => outcome.body.leaves_verdict_partial(),
    }
}

/// Every disposition that one other report, or two, lead to.
fn reachable(
    policy: &Policy,
    kind: IndicatorType,
    outcomes: &[Outcome],
    assumption: Assumption,
    two: bool,
) -> Vec<Disposition> {
    let open: Vec<usize> = (0..outcomes.len()).filter(|place| may_change(&outcomes[*place], assumption)).collect();
    let mut found = Vec::new();
    for (number, place) in open.iter().enumerate() {
        for to in Disposition::VARIANTS {
            let mut changed = outcomes.to_vec();
            changed[*place] = reporting(&outcomes[*place], *to);
            if !two {
                found.push(judged(policy, kind, &changed).disposition);
                continue;
            }
            for other in &open[number + 1..] {
                for to in Disposition::VARIANTS {
                    let mut changed = changed.clone();
                    changed[*other] = reporting(&outcomes[*other], *to);
                    found.push(judged(policy, kind, &changed).disposition);
                }
            }
        }
    }
    found
}

fn any_completion() -> impl Strategy<Value = Vec<Outcome>> {
    let silent = (any_letter(), any::<bool>()).prop_map(|(letter, asked)| {
        let body = if asked { OutcomeBody::NoRecord } else { super::build::failed("", letter).body };
        super::build::outcome("", letter, body)
    });
    proptest::collection::vec(prop_oneof![3 => any_claim().boxed(), 1 => silent.boxed()], 1..5)
        .prop_map(|outcomes| named(outcomes, "p"))
}

/// The same outcomes, received and affirmed this long after the time for which they are judged.
fn arriving(mut outcomes: Vec<Outcome>, seconds: u64) -> Vec<Outcome> {
    for outcome in &mut outcomes {
        outcome.time = now() + Duration::from_secs(seconds);
        if let OutcomeBody::Finding(finding) = &mut outcome.body {
            finding.observed_time = None;
        }
    }
    outcomes
}

fn pending(outcomes: &[Outcome]) -> Vec<PendingSource> {
    outcomes
        .iter()
        .map(|outcome| PendingSource {
            name: outcome.source.clone(),
            reliability: outcome.reliability,
            greatest_strength: greatest_strength(outcome),
            family: outcome.family.clone(),
        })
        .collect()
}

fn reach_of(policy: &Policy, kind: IndicatorType, outcomes: &[Outcome], pending: &[PendingSource]) -> Reach {
    reach(policy, &indicator(kind), now(), outcomes.to_vec(), pending)
}

/// What the judge says of the outcomes alone.
fn so_far(policy: &Policy, kind: IndicatorType, outcomes: &[Outcome]) -> Disposition {
    judged(policy, kind, outcomes).disposition
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn leaving_a_source_out_does_what_the_verdict_says(
        policy in any_policy(), kind in any_type(), outcomes in any_outcomes(),
    ) {
        let verdict = judged(&policy, kind, &outcomes);
        let answered = outcomes.iter().filter(|outcome| outcome.body.is_answer()).count();
        prop_assert_eq!(verdict.analysis.leave_one_out.len(), answered);
        for left_out in &verdict.analysis.leave_one_out {
            let others: Vec<_> =
                outcomes.iter().filter(|outcome| outcome.source != left_out.source).cloned().collect();
            let without = judged(&policy, kind, &others);
            prop_assert_eq!(left_out.disposition, without.disposition);
            let moved = verdict.log_odds_micro.zip(without.log_odds_micro).map(|(with, without)| with - without);
            prop_assert_eq!(left_out.micro_nats, moved);
        }
    }

    #[test]
    fn every_flip_leads_where_it_says(policy in any_policy(), kind in any_type(), outcomes in any_outcomes()) {
        let verdict = judged(&policy, kind, &outcomes);
        for flip in &verdict.analysis.flips {
            let then = judged(&policy, kind, &flipped(&outcomes, flip));
            prop_assert_eq!(flip.disposition, then.disposition, "{:?}", flip);
            prop_assert_ne!(flip.disposition, verdict.disposition);
            prop_assert_eq!(flip.log_odds_micro, then.log_odds_micro);
            for change in &flip.changes {
                let outcome = outcomes.iter().find(|outcome| outcome.source == change.source);
                prop_assert!(outcome.is_some_and(|outcome| may_change(outcome, flip.assumption)), "{:?}", flip);
                prop_assert_ne!(change.from, Some(change.to));
            }
        }
    }

    #[test]
    fn no_change_of_a_flip_is_superfluous(policy in any_policy(), kind in any_type(), outcomes in any_outcomes()) {
        let verdict = judged(&policy, kind, &outcomes);
        for flip in &verdict.analysis.flips {
            for spared in 0..flip.changes.len() {
                let mut fewer = flip.clone();
                fewer.changes.remove(spared);
                let then = judged(&policy, kind, &flipped(&outcomes, &fewer));
                prop_assert_ne!(then.disposition, flip.disposition, "{:?}", flip);
            }
        }
    }

    #[test]
    fn no_newcomer_does_otherwise_than_a_margin_says(
        policy in any_weighted(), kind in any_type(), outcomes in any_outcomes(),
    ) {
        let verdict = judged(&policy, kind, &outcomes);
        for margin in &verdict.analysis.margins {
            let Some(example) = margin.example else { continue };
            let mut more = outcomes.clone();
            more.extend((0..example.count).map(|number| claim(&format!("new{number}"), example.reliability, example.claim)));
            prop_assert_eq!(judged(&policy, kind, &more).disposition, margin.disposition, "{:?}", margin);
        }
    }

    #[test]
    fn a_margin_is_the_least_evidence_that_reaches_its_disposition(
        policy in any_weighted(), kind in any_type(), outcomes in any_outcomes(),
    ) {
        let verdict = judged(&policy, kind, &outcomes);
        prop_assert_eq!(verdict.analysis.margins.len(), 3);
        // The shift of the calibration moves the sum by exactly that much.
        let moved = |micro: i64| {
            let mut policy = policy.clone();
            if let Rule::Weighted(rule) = &mut policy.rule {
                rule.calibration.shift = (rule.calibration.shift * 1e6 + micro as f64).round() / 1e6;
            }
            judged(&policy, kind, &outcomes)
        };
        for margin in &verdict.analysis.margins {
            let then = moved(margin.micro_nats);
            prop_assert_eq!(then.log_odds_micro, verdict.log_odds_micro.map(|sum| sum + margin.micro_nats));
            prop_assert_eq!(then.disposition, margin.disposition);
            let less = moved(margin.micro_nats - margin.micro_nats.signum());
            prop_assert_ne!(less.disposition, margin.disposition);
        }
    }

    #[test]
    fn no_answer_changes_what_is_said_to_be_settled(
        policy in any_policy(), kind in any_type(), outcomes in any_outcomes(), completion in any_completion(),
        seconds in proptest::option::of(0..600_u64),
    ) {
        // Answers also arrive after the time for which all of them are judged.
        let completion = seconds.map_or(completion.clone(), |seconds| arriving(completion, seconds));
        let now = so_far(&policy, kind, &outcomes);
        let reach = reach_of(&policy, kind, &outcomes, &pending(&completion));
        let mut complete = outcomes.clone();
        complete.extend(completion.clone());
        if !reach.can_change {
            prop_assert_eq!(so_far(&policy, kind, &complete), now);
        }
        for outcome in &completion {
            if !reach.sources.contains(&outcome.source) {
                let mut one_more = outcomes.clone();
                one_more.push(outcome.clone());
                prop_assert_eq!(so_far(&policy, kind, &one_more), now, "{}", outcome.source);
            }
        }
    }

    #[test]
    fn what_is_said_to_be_open_can_be_changed_by_some_answer(
        kind in any_type(), name in select(&["weighted", "xsoar", "worst", "majority", "mean"][..]),
        outcomes in any_outcomes(), completion in any_completion(),
    ) {
        let policy = policy(name);
        let now = so_far(&policy, kind, &outcomes);
        let pending = pending(&completion);
        if reach_of(&policy, kind, &outcomes, &pending).can_change {
            let changed = SIDES.iter().any(|side| {
                let mut complete = outcomes.clone();
                complete.extend(pending.iter().map(|source| {
                    let outcome = super::build::strong(claim(&source.name, source.reliability, *side), Some(1.0));
                    in_family(outcome, source.family.clone())
                }));
                so_far(&policy, kind, &complete) != now
            });
            prop_assert!(changed);
        }
    }

    #[test]
    fn a_worse_claim_never_makes_a_verdict_better(
        kind in any_type(), name in select(&["weighted", "xsoar", "worst", "mean"][..]), claims in any_claims(), extra in any_claim(),
    ) {
        let policy = policy(name);
        let place = |disposition| {
            [Disposition::Benign, Disposition::Unknown, Disposition::Suspicious, Disposition::Malicious]
                .iter()
                .position(|other| *other == disposition)
        };
        let judged: Vec<_> = SIDES
            .iter()
            .map(|side| {
                let mut outcomes = claims.clone();
                outcomes.push(reporting(&Outcome { source: "x".into(), ..extra.clone() }, *side));
                place(so_far(&policy, kind, &outcomes))
            })
            .collect();
        prop_assert!(judged.is_sorted(), "{:?}", judged);
    }

    #[test]
    fn under_every_policy_silence_is_unknown(policy in any_policy(), kind in any_type(), letters in proptest::collection::vec(any_letter(), 0..6)) {
        let silent = letters.into_iter().map(|letter| super::build::failed("", letter)).collect();
        prop_assert_eq!(so_far(&policy, kind, &named(silent, "f")), Disposition::Unknown);
    }

    #[test]
    fn too_few_answers_make_any_verdict_unknown_and_it_says_so(
        kind in any_type(), name in select(&["weighted", "xsoar", "worst", "majority", "mean"][..]),
        outcomes in any_outcomes(), percent in 0..=100_u32,
    ) {
        let plain = judged(&policy(name), kind, &outcomes);
        let strict = Policy { minimum_coverage: f64::from(percent) / 100.0, ..policy(name) };
        let verdict = judged(&strict, kind, &outcomes);
        let lacks = plain.disposition != Disposition::Unknown && plain.coverage < strict.minimum_coverage;
        prop_assert_eq!(verdict.lacks_coverage, lacks);
        prop_assert_eq!(verdict.disposition, if lacks { Disposition::Unknown } else { plain.disposition });
        prop_assert_eq!(verdict.probability, plain.probability);
    }
}

/// Pairs are many: fewer cases, each with all its pairs.
mod exhaustive {
    use super::*;

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 1000, ..config() })]

        #[test]
        fn no_smaller_set_leads_where_a_flip_leads(
            policy in any_policy(), kind in any_type(),
            outcomes in proptest::collection::vec(any_claim(), 0..5).prop_map(|outcomes| named(outcomes, "s")),
            silences in proptest::collection::vec(any_letter(), 0..3), one_family in any::<bool>(),
        ) {
            let mut outcomes = outcomes;
            if one_family {
                for outcome in &mut outcomes {
                    outcome.family = Family::declared("shared", outcome.source.clone());
                }
            }
            let silent: Vec<_> =
                silences.into_iter().map(|letter| not_asked("", letter, NotAskedReason::QuotaSpent)).collect();
            outcomes.extend(named(silent, "t"));
            let verdict = judged(&policy, kind, &outcomes);
            for assumption in Assumption::VARIANTS {
                let size = |disposition| {
                    let is_it = |flip: &&Flip| flip.assumption == *assumption && flip.disposition == disposition;
                    verdict.analysis.flips.iter().find(is_it).map(|flip| flip.changes.len())
                };
                for disposition in reachable(&policy, kind, &outcomes, *assumption, false) {
                    prop_assert!(disposition == verdict.disposition || size(disposition) == Some(1));
                }
                for disposition in reachable(&policy, kind, &outcomes, *assumption, true) {
                    let found = disposition == verdict.disposition || size(disposition).is_some_and(|size| size <= 2);
                    prop_assert!(found, "{:?} by two: {:?}", disposition, verdict.analysis.flips);
                }
            }
        }
    }
}

#[test]
fn a_source_that_joins_no_family_cannot_reach_further_than_its_letter() {
    let rule = WeightedRule::built_in();
    assert!(matches!(policy("weighted").rule, Rule::Weighted(built_in) if built_in == rule));
    // One F source that is missing can change nothing, whatever it says.
    let outcomes = [claim("a", Reliability::B, Disposition::Malicious)];
    let missing = PendingSource {
        name: "f".into(),
        reliability: Reliability::F,
        greatest_strength: Strength::MAX,
        family: Family::same_kind("f"),
    };
    let reach = reach_of(&policy("weighted"), IndicatorType::Ip, &outcomes, &[missing]);
    assert_eq!(reach, Reach::default());
}
