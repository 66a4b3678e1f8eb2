//! The evidence of one claim, in signed micro-nats, from reliability letter, strength and age.
//!
//! Formulas: `docs/fusion.md`, "Letters" and "One claim". `family.rs` combines the claims of several sources.

use std::time::Duration;

use super::policy::{Decay, LetterTable, TypeNumbers, WeightedRule};
use crate::finding::{Disposition, Finding, Reliability, Strength};

/// Log-odds are whole micro-nats (millionths of a nat), so that sums are exact in any order.
const MICRO: f64 = 1e6;

/// Converts nats to the nearest micro-nat, rounding half to even.
pub(super) fn micro(nats: f64) -> i64 {
    (nats * MICRO).round_ties_even() as i64
}

/// Converts micro-nats to nats.
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

/// The share of a claim that still counts at `age`: 1 within the grace period, halved for each half-life beyond it.
pub(super) fn remaining(decay: Option<&Decay>, age: Duration) -> f64 {
    let Some(decay) = decay else { return 1.0 };
    let over = age.saturating_sub(decay.grace);
    if over.is_zero() { 1.0 } else { (-over.as_secs_f64() / decay.half_life.as_secs_f64()).exp2() }
}

/// Evidence of one finding before family pooling, in micro-nats: positive towards malicious, 0 for a claim of unknown
/// and for a source with the letter F.
pub(super) fn of_finding(
    rule: &WeightedRule,
    numbers: &TypeNumbers,
    letter: Reliability,
    finding: &Finding,
    age: Duration,
) -> i64 {
    let lambda = full_evidence(&rule.letters, letter, finding);
    if lambda == 0 {
        return 0;
    }
    let full = Strength::FULL.get();
    let sure = finding.strength.map_or(1.0, |strength| (strength.get() / full).min(1.0));
    let keep = sure * remaining(numbers.decay.as_ref(), age);
    micro(discounted(nats(lambda), 1.0 - keep, numbers.prior))
}

/// Evidence of a claim that, with probability `phi`, has nothing to do with the indicator as it is today.
fn discounted(lambda: f64, phi: f64, prior: f64) -> f64 {
    let x = lambda.exp();
    let stray_benign = phi * (1.0 - prior);
    let stray_malicious = phi * prior;
    (((1.0 - stray_benign) * x + stray_benign) / ((1.0 - stray_malicious) + stray_malicious * x)).ln()
}

/// The letter's evidence for the claim. A strength above full moves it towards the evidence of the next better letter.
fn full_evidence(letters: &LetterTable, letter: Reliability, finding: &Finding) -> i64 {
    let own = letter_evidence(letters, letter, finding.claim);
    let full = Strength::FULL.get();
    let beyond = finding.strength.map_or(0.0, |strength| (strength.get() - full) / (1.0 - full)).clamp(0.0, 1.0);
    if beyond == 0.0 {
        return own;
    }
    let better = letter_evidence(letters, next_better(letter), finding.claim);
    (own as f64 + (better - own) as f64 * beyond).round_ties_even() as i64
}

/// The log-likelihood ratio of a claim by a source of this letter.
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

/// The letter whose evidence the strongest claims reach. A+ has none above it, and F has no evidence whatever the
/// strength.
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

    fn evidence(letter: Reliability, claim: Disposition, strength: Option<Strength>) -> i64 {
        let rule = WeightedRule::built_in();
        of_finding(&rule, &rule.domain, letter, &Finding::new(claim, strength, ""), Duration::ZERO)
    }

    #[test]
    fn a_fresh_claim_has_the_evidence_of_its_letter_in_the_table() {
        let fresh = |letter, claim| evidence(letter, claim, None);
        assert_eq!(fresh(Reliability::APlus, Disposition::Malicious), 5_247_024);
        assert_eq!(fresh(Reliability::A, Disposition::Benign), -2_064_751);
        assert_eq!(fresh(Reliability::B, Disposition::Malicious), 3_075_775);
        assert_eq!(fresh(Reliability::F, Disposition::Malicious), 0);
        assert_eq!(fresh(Reliability::APlus, Disposition::Unknown), 0);
    }

    #[test]
    fn the_highest_strength_reaches_the_next_better_letter_and_a_plus_stays() {
        let strongest = |letter| evidence(letter, Disposition::Malicious, Some(Strength::MAX));
        assert_eq!(strongest(Reliability::B), 3_506_558);
        assert_eq!(strongest(Reliability::APlus), 5_247_024);
        assert_eq!(strongest(Reliability::F), 0);
    }

    #[test]
    fn a_claim_counts_in_full_to_the_end_of_its_grace_and_half_after_one_half_life() {
        let rule = WeightedRule::built_in();
        let decay = rule.url.decay.as_ref();
        assert_eq!(remaining(decay, 14 * DAY), 1.0);
        assert_eq!(remaining(decay, 28 * DAY), 0.5);
        assert_eq!(remaining(rule.file.decay.as_ref(), 4000 * DAY), 1.0);
    }

    #[test]
    fn rounding_goes_half_to_even() {
        assert_eq!(micro(0.000_000_5), 0);
        assert_eq!(micro(0.000_001_5), 2);
        assert_eq!(micro(-0.000_001_5), -2);
    }
}
