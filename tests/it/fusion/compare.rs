//! Two verdicts compared: the differences add up, and each says what it comes from.

use std::time::Duration;

use concord::finding::{Disposition, Family, Outcome, OutcomeBody, Reliability};
use concord::indicator::IndicatorType;
use concord::verdict::{
    Calibration, Cause, Comparison, DispositionCause, Policy, Term, TermChange, Verdict, compare, comparison_summary,
    fuse, term_change_sentence,
};
use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
use proptest::sample::select;

use super::build::{DAY, aged, changed, claim, failed, in_family, indicator, judge, now, outcome, policy, strong};
use super::random::{any_claims, any_silences, any_type, config};

/// A fitted policy of another revision.
fn revised() -> Policy {
    let policy = changed(|rule| {
        rule.calibration = Calibration { shift: 0.31, scale: 1.27 };
        rule.ip.prior = 0.21;
        rule.thresholds.malicious = 0.9;
    });
    Policy { revision: policy.revision + 1, ..policy }
}

fn policies() -> Vec<Policy> {
    vec![policy("weighted"), revised()]
}

fn total(comparison: &Comparison) -> i64 {
    comparison.terms.iter().filter_map(|term| term.difference_micro).sum()
}

fn term<'c>(comparison: &'c Comparison, source: &str) -> &'c TermChange {
    let wanted = Term::Source(source.into());
    comparison.terms.iter().find(|term| term.term == wanted).expect("the source is in the comparison")
}

/// The same cause seen from the other side.
fn mirrored(cause: Cause) -> Cause {
    match cause {
        Cause::Appeared => Cause::Gone,
        Cause::Gone => Cause::Appeared,
        other => other,
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_differences_add_up_exactly_and_so_do_the_parts_of_each(
        kind in any_type(), claims in any_claims(), silences in any_silences(), others in any_claims(),
        policies in (select(policies()), select(policies())), later in 0..90_u64,
    ) {
        let [mut earlier, mut now_said] = [claims, others];
        earlier.extend(silences);
        now_said.truncate(6);
        let before = fuse(&policies.0, &indicator(kind), now(), earlier);
        let after = fuse(&policies.1, &indicator(kind), now() + Duration::from_secs(later * DAY), now_said);
        let comparison = compare(&before, &after);
        let difference = after.log_odds_micro.unwrap() - before.log_odds_micro.unwrap();
        prop_assert_eq!(comparison.difference_micro, Some(difference));
        prop_assert_eq!(total(&comparison), difference);
        for term in &comparison.terms {
            let parts: i64 = term.parts.iter().map(|part| part.micro_nats).sum();
            prop_assert_eq!(Some(parts), term.difference_micro);
            prop_assert!(term.parts.iter().all(|part| !part.causes.is_empty() && part.micro_nats != 0));
            prop_assert_eq!(term.causes.is_empty(), term_change_sentence(term).is_empty());
        }
    }

    #[test]
    fn a_verdict_compared_with_itself_has_no_change(
        kind in any_type(), claims in any_claims(), silences in any_silences(),
        name in select(&["weighted", "xsoar"][..]),
    ) {
        let mut outcomes = claims;
        outcomes.extend(silences);
        let verdict = fuse(&policy(name), &indicator(kind), now(), outcomes);
        let comparison = compare(&verdict, &verdict);
        prop_assert_eq!(comparison.cause, None);
        prop_assert!(comparison.thresholds.is_empty());
        prop_assert!(comparison.terms.iter().all(|term| term.causes.is_empty() && term.parts.is_empty()));
        prop_assert!(comparison.difference_micro.is_none_or(|difference| difference == 0));
    }

    #[test]
    fn swapped_verdicts_have_the_opposite_differences(
        kind in any_type(), claims in any_claims(), others in any_claims(),
        policies in (select(policies()), select(policies())),
    ) {
        let before = fuse(&policies.0, &indicator(kind), now(), claims);
        let after = fuse(&policies.1, &indicator(kind), now(), others);
        let (there, back) = (compare(&before, &after), compare(&after, &before));
        prop_assert_eq!(there.difference_micro.map(|difference| -difference), back.difference_micro);
        prop_assert_eq!(there.cause, back.cause);
        for (there, back) in there.terms.iter().zip(&back.terms) {
            prop_assert_eq!(there.difference_micro.map(|difference| -difference), back.difference_micro);
            let parts: Vec<_> = there
                .parts
                .iter()
                .map(|part| (part.causes.iter().copied().map(mirrored).collect::<Vec<_>>(), -part.micro_nats))
                .collect();
            let opposite: Vec<_> = back.parts.iter().map(|part| (part.causes.clone(), part.micro_nats)).collect();
            prop_assert_eq!(parts, opposite);
        }
    }
}

fn judged(outcomes: Vec<Outcome>) -> Verdict {
    judge(IndicatorType::Domain, outcomes)
}

#[test]
fn each_term_says_what_its_difference_comes_from() {
    let mirror = |outcome: Outcome| in_family(outcome.clone(), Family::declared("mirror", outcome.source));
    let malicious = |source: &str, letter| claim(source, letter, Disposition::Malicious);
    let before = judged(vec![
        malicious("aged", Reliability::B),
        malicious("gone", Reliability::C),
        failed("outcome", Reliability::B),
        claim("claim", Reliability::B, Disposition::Benign),
        malicious("letter", Reliability::C),
        strong(malicious("strength", Reliability::C), Some(0.5)),
        mirror(malicious("family", Reliability::C)),
        outcome("same", Reliability::A, OutcomeBody::NoRecord),
        claim("silent", Reliability::F, Disposition::Benign),
    ]);
    let after = judged(vec![
        aged(malicious("aged", Reliability::B), 120),
        malicious("appeared", Reliability::C),
        malicious("outcome", Reliability::B),
        malicious("claim", Reliability::B),
        malicious("letter", Reliability::B),
        strong(malicious("strength", Reliability::C), Some(0.8)),
        mirror(malicious("family", Reliability::C)),
        mirror(malicious("family2", Reliability::B)),
        outcome("same", Reliability::A, OutcomeBody::NoRecord),
        malicious("silent", Reliability::F),
    ]);
    let comparison = compare(&before, &after);
    let sentences: Vec<String> =
        comparison.terms.iter().map(term_change_sentence).filter(|sentence| !sentence.is_empty()).collect();
    let expected = [
        "aged (B) still says malicious; age 120 instead of 0 days: -1.981 nats.",
        "appeared (C) was not among the sources before and says malicious: +1.872 nats.",
        "claim (B) said benign before and now says malicious: +4.451 nats.",
        "family (C) still says malicious; the others of its family: -1.541 nats.",
        "family2 (B) was not among the sources before and says malicious: +3.076 nats.",
        "gone (C) said malicious and is not among the sources any more: -1.872 nats.",
        "letter (B) still says malicious; letter B instead of C: +1.204 nats.",
        "outcome (B) failed before and now says malicious: +3.076 nats.",
        "silent (F) said benign before and now says malicious: no evidence.",
        "strength (C) still says malicious; strength 0.80 instead of 0.50: +0.597 nats.",
    ];
    assert_eq!(sentences, expected, "{sentences:#?}");
    assert_eq!(term(&comparison, "silent").causes, [Cause::Claim], "shown although it weighs nothing");
    assert!(term(&comparison, "same").causes.is_empty());
    assert_eq!(total(&comparison), comparison.difference_micro.unwrap());
}

#[test]
fn a_disposition_can_change_by_the_thresholds_alone() {
    let said = || vec![claim("a", Reliability::B, Disposition::Malicious)];
    let stricter = Policy { revision: 9, ..changed(|rule| rule.thresholds.malicious = 0.95) };
    let before = judged(said());
    let after = fuse(&stricter, &indicator(IndicatorType::Domain), now(), said());
    let comparison = compare(&before, &after);
    assert_eq!(comparison.cause, Some(DispositionCause::Thresholds));
    assert_eq!(comparison.difference_micro, Some(0));
    let expected = "It went from malicious (84.4 %) to suspicious (84.4 %), by the thresholds of the policy alone; judged \
                    by policy weighted revision 9 instead of weighted revision 2; malicious now begins at 95.0 % instead \
                    of 80.0 %.";
    assert_eq!(comparison_summary(&comparison), expected);
    let fewer = compare(&before, &fuse(&stricter, &indicator(IndicatorType::Domain), now(), Vec::<Outcome>::new()));
    assert_eq!(fewer.cause, Some(DispositionCause::EvidenceAndThresholds));
    let silent = compare(&before, &judged(vec![]));
    assert_eq!(silent.cause, Some(DispositionCause::Evidence));
}

#[test]
fn under_a_rule_without_a_sum_claims_and_the_deciding_source_are_compared() {
    let xsoar = |outcomes| fuse(&policy("xsoar"), &indicator(IndicatorType::Domain), now(), outcomes);
    let before = xsoar(vec![claim("a", Reliability::B, Disposition::Malicious), failed("b", Reliability::A)]);
    let after = xsoar(vec![
        aged(claim("a", Reliability::B, Disposition::Malicious), 300),
        claim("b", Reliability::A, Disposition::Benign),
    ]);
    let comparison = compare(&before, &after);
    assert_eq!(comparison.difference_micro, None);
    assert!(term(&comparison, "a").causes.is_empty(), "age does not matter under this rule");
    assert_eq!(term(&comparison, "b").causes, [Cause::Outcome]);
    assert_eq!(
        comparison_summary(&comparison),
        "It went from malicious to benign, by what the sources say; b decides instead of a."
    );
    let other = compare(&before, &judged(vec![]));
    assert_eq!(other.cause, Some(DispositionCause::Rule));
}
