//! Random outcomes for the laws. Cases are random, but always the same ones.

use concord::finding::{Disposition, Family, NotAskedReason, Outcome, OutcomeBody, Reliability, Strength};
use concord::indicator::IndicatorType;
use concord::verdict::{Calibration, LearnedCoverage, Policy, SourceRow, WeightedRule};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use strum::VariantArray;

use super::build::{aged, changed, claim, failed, in_family, not_asked, outcome, policy, strong};

pub const SIDES: [Disposition; 3] = [Disposition::Benign, Disposition::Suspicious, Disposition::Malicious];

/// Claims from benign to malicious, with "takes no side" where it belongs in evidence.
pub const BY_HARM: [Disposition; 4] =
    [Disposition::Benign, Disposition::Unknown, Disposition::Suspicious, Disposition::Malicious];

pub fn config() -> ProptestConfig {
    ProptestConfig { cases: 1500, failure_persistence: None, rng_seed: RngSeed::Fixed(20), ..ProptestConfig::default() }
}

pub fn any_type() -> impl Strategy<Value = IndicatorType> {
    select(IndicatorType::VARIANTS)
}

pub fn any_letter() -> impl Strategy<Value = Reliability> {
    select(Reliability::VARIANTS)
}

pub fn any_strength() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![Just(None), (0..=100_u32).prop_map(|percent| Some(f64::from(percent) / 100.0))]
}

pub fn any_family() -> impl Strategy<Value = Option<Family>> {
    let name = || select(&["f", "g", "h"][..]).prop_map(String::from);
    // An empty key becomes the name of the source.
    let any_key = || select(&["", "", "f", "k", "l"][..]).prop_map(String::from);
    prop_oneof![
        Just(None),
        (name(), any_key()).prop_map(|(name, key)| Some(Family::declared(name, key))),
        (name(), any_key()).prop_map(|(name, key)| Some(Family::republished(name, key))),
        name().prop_map(|name| Some(Family::same_kind(name))),
    ]
}

/// What the kind of a source might declare that says this.
pub fn greatest_strength(outcome: &Outcome) -> Strength {
    let strength = outcome.body.finding().and_then(|finding| finding.strength);
    strength.map_or(Strength::FULL, |strength| strength.max(Strength::FULL))
}

/// A claim of a source, whose name is given later.
pub fn any_claim() -> impl Strategy<Value = Outcome> {
    (any_letter(), select(Disposition::VARIANTS), any_strength(), -3..400_i64, any_family()).prop_map(
        |(letter, disposition, strength, days, family)| {
            let outcome = aged(strong(claim("", letter, disposition), strength), days);
            match family {
                Some(family) => in_family(outcome, family),
                None => outcome,
            }
        },
    )
}

pub fn any_silence() -> impl Strategy<Value = Outcome> {
    let no_record = |letter| outcome("", letter, OutcomeBody::NoRecord);
    prop_oneof![
        any_letter().prop_map(no_record),
        any_letter().prop_map(|letter| failed("", letter)),
        (any_letter(), select(NotAskedReason::VARIANTS)).prop_map(|(letter, reason)| not_asked("", letter, reason)),
    ]
}

/// Gives each outcome a name of its own, and a family of its own where it has none.
pub fn named(outcomes: Vec<Outcome>, prefix: &str) -> Vec<Outcome> {
    (0..)
        .zip(outcomes)
        .map(|(number, mut outcome): (u32, _)| {
            outcome.source = format!("{prefix}{number:02}");
            if outcome.family.name.is_empty() {
                outcome.family = Family::same_kind(outcome.source.clone());
            } else if outcome.family.independence_key.is_empty() {
                outcome.family.independence_key.clone_from(&outcome.source);
            }
            outcome
        })
        .collect()
}

pub fn any_claims() -> impl Strategy<Value = Vec<Outcome>> {
    proptest::collection::vec(any_claim(), 0..10).prop_map(|outcomes| named(outcomes, "s"))
}

pub fn any_silences() -> impl Strategy<Value = Vec<Outcome>> {
    proptest::collection::vec(any_silence(), 0..6).prop_map(|outcomes| named(outcomes, "t"))
}

/// Every built-in policy, some of them with numbers that only a user sets.
pub fn any_policy() -> impl Strategy<Value = Policy> {
    let built_in = select(&["weighted", "xsoar", "worst", "majority", "mean"][..]).prop_map(policy);
    let with_coverage = (built_in.clone(), 0..=100_u32).prop_map(|(mut policy, percent)| {
        policy.minimum_coverage = f64::from(percent) / 100.0;
        policy
    });
    let numbers = (any_priors(), -1.0..1.0_f64, 30..200_u32, 0..=10_u32, 0..60_u32, any::<bool>());
    let tuned = numbers.prop_map(|(priors, shift, scale, rho, silence, odd_letters)| {
        changed(|rule| {
            set_priors(rule, priors);
            if odd_letters {
                // Users may find a source of a better letter to be the weaker one.
                (rule.letters.a, rule.letters.c) = (rule.letters.d, rule.letters.a);
            }
            rule.calibration = Calibration { shift, scale: f64::from(scale) / 100.0 };
            rule.family_correlation = f64::from(rho) / 10.0;
            // A wide band, so that most priors stay unknown after the calibration.
            rule.thresholds.suspicious = 0.45;
            rule.thresholds.benign = 0.02;
            let coverage = LearnedCoverage { if_malicious: f64::from(silence) / 100.0, if_benign: 0.1 };
            rule.sources = vec![SourceRow { source: "t00".into(), claims: None, coverage: Some(coverage) }];
        })
    });
    prop_oneof![2 => built_in, 1 => with_coverage, 2 => tuned.prop_filter("a valid policy", is_valid)]
}

pub fn any_priors() -> impl Strategy<Value = [f64; 4]> {
    [0.03..0.4_f64, 0.03..0.4_f64, 0.03..0.4_f64, 0.03..0.4_f64]
}

pub fn set_priors(rule: &mut WeightedRule, priors: [f64; 4]) {
    let types = [&mut rule.ip, &mut rule.domain, &mut rule.url, &mut rule.file];
    types.into_iter().zip(priors).for_each(|(numbers, prior)| numbers.prior = prior);
}

pub fn is_valid(policy: &Policy) -> bool {
    policy.violations().is_empty()
}
