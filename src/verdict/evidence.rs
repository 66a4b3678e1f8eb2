//! What one claim alone weighs: letter, strength and age become signed evidence in micro-nats.
//!
//! Formulas: `docs/fusion.md`, "One claim". How claims of several sources go together stands in `family.rs`.

use std::time::Duration;

use super::policy::{Ageing, LetterTable, TypeNumbers, WeightedRule};
use crate::finding::{Disposition, Reliability, Strength};

/// Log-odds are counted in these: a millionth of a nat, as integers, so that sums are exact in any order.
const MICRO: f64 = 1e6;

/// A claim as the judge sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub letter: Reliability,
    pub disposition: Disposition,
    pub strength: Option<Strength>,
    pub age: Duration,
}

/// Nats to the nearest micro-nat, half to even.
pub(super) fn micro(nats: f64) -> i64 {
    (nats * MICRO).round_ties_even() as i64
}

/// Micro-nats to nats.
pub(super) fn nats(micro: i64) -> f64 {
    micro as f64 / MICRO
}

/// The log-odds of a probability in micro-nats.
pub(super) fn logit_micro(probability: f64) -> i64 {
    micro((probability / (1.0 - probability)).ln())
}

/// The probability with these log-odds.
pub(super) fn probability(log_odds_micro: i64) -> f64 {
    1.0 / (1.0 + (-nats(log_odds_micro)).exp())
}

/// The share of a claim that still speaks of today after `age`: 1 within the grace, half of it each half-life beyond.
pub(super) fn remaining(ageing: Option<&Ageing>, age: Duration) -> f64 {
    let Some(ageing) = ageing else { return 1.0 };
    let over = age.saturating_sub(ageing.grace);
    if over.is_zero() { 1.0 } else { (-over.as_secs_f64() / ageing.half_life.as_secs_f64()).exp2() }
}

/// Evidence of one claim before any pooling: positive towards malicious, 0 where it takes no side or cannot be judged.
pub(super) fn weigh(rule: &WeightedRule, numbers: &TypeNumbers, claim: Claim) -> i64 {
    let lambda = full_evidence(&rule.letters, claim);
    if lambda == 0 {
        return 0;
    }
    let full = Strength::FULL.get();
    let sure = claim.strength.map_or(1.0, |strength| (strength.get() / full).min(1.0));
    let keep = sure * remaining(numbers.ageing.as_ref(), claim.age);
    micro(discounted(nats(lambda), 1.0 - keep, numbers.prior))
}

/// Evidence of a claim that may, with probability `phi`, be a draw that has nothing to do with the indicator today.
fn discounted(lambda: f64, phi: f64, prior: f64) -> f64 {
    let x = lambda.exp();
    let stray_benign = phi * (1.0 - prior);
    let stray_malicious = phi * prior;
    (((1.0 - stray_benign) * x + stray_benign) / ((1.0 - stray_malicious) + stray_malicious * x)).ln()
}

/// The letter's evidence for the claim; above the full strength it moves towards that of the next better letter.
fn full_evidence(letters: &LetterTable, claim: Claim) -> i64 {
    let own = letter_evidence(letters, claim.letter, claim.disposition);
    let full = Strength::FULL.get();
    let beyond = claim.strength.map_or(0.0, |strength| (strength.get() - full) / (1.0 - full)).clamp(0.0, 1.0);
    if beyond == 0.0 {
        return own;
    }
    let better = letter_evidence(letters, next_better(claim.letter), claim.disposition);
    (own as f64 + (better - own) as f64 * beyond).round_ties_even() as i64
}

/// How much likelier a malicious indicator is to get this claim from a source of this letter, as a logarithm.
fn letter_evidence(letters: &LetterTable, letter: Reliability, claim: Disposition) -> i64 {
    let Some(row) = letters.row(letter) else { return 0 };
    let (malicious, benign) = (row.if_malicious, row.if_benign);
    match claim {
        Disposition::Unknown => 0,
        Disposition::Benign => micro((malicious.benign / benign.benign).ln()),
        Disposition::Suspicious => micro((malicious.suspicious / benign.suspicious).ln()),
        Disposition::Malicious => micro((malicious.malicious / benign.malicious).ln()),
    }
}

/// The letter whose evidence the strongest claims reach. A+ has none above it, and no strength gives F a basis.
fn next_better(letter: Reliability) -> Reliability {
    match letter {
        Reliability::APlus | Reliability::A => Reliability::APlus,
        Reliability::B => Reliability::A,
        Reliability::C => Reliability::B,
        Reliability::D => Reliability::C,
        Reliability::E => Reliability::D,
        Reliability::F => Reliability::F,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn claim(letter: Reliability, disposition: Disposition) -> Claim {
        Claim { letter, disposition, strength: None, age: Duration::ZERO }
    }

    #[test]
    fn a_fresh_claim_weighs_what_the_table_says_of_its_letter() {
        let rule = WeightedRule::built_in();
        let of = |letter, disposition| weigh(&rule, &rule.domain, claim(letter, disposition));
        assert_eq!(of(Reliability::APlus, Disposition::Malicious), 5_247_024);
        assert_eq!(of(Reliability::A, Disposition::Benign), -2_064_751);
        assert_eq!(of(Reliability::B, Disposition::Malicious), 3_075_775);
        assert_eq!(of(Reliability::F, Disposition::Malicious), 0);
        assert_eq!(of(Reliability::APlus, Disposition::Unknown), 0);
    }

    #[test]
    fn the_highest_strength_reaches_the_next_better_letter_and_a_plus_stays() {
        let rule = WeightedRule::built_in();
        let at_most = |letter| {
            let strongest = Claim { strength: Some(Strength::MAX), ..claim(letter, Disposition::Malicious) };
            weigh(&rule, &rule.ip, strongest)
        };
        assert_eq!(at_most(Reliability::B), 3_506_558);
        assert_eq!(at_most(Reliability::APlus), 5_247_024);
        assert_eq!(at_most(Reliability::F), 0);
    }

    #[test]
    fn a_claim_counts_in_full_to_the_end_of_its_grace_and_half_after_one_half_life() {
        let rule = WeightedRule::built_in();
        let ageing = rule.url.ageing.as_ref();
        assert_eq!(remaining(ageing, 14 * DAY), 1.0);
        assert_eq!(remaining(ageing, 28 * DAY), 0.5);
        assert_eq!(remaining(rule.file.ageing.as_ref(), 4000 * DAY), 1.0);
    }

    #[test]
    fn rounding_goes_half_to_even() {
        assert_eq!(micro(0.000_000_5), 0);
        assert_eq!(micro(0.000_001_5), 2);
        assert_eq!(micro(-0.000_001_5), -2);
    }
}
