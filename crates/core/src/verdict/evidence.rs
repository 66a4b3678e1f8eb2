//! The evidence of one report: reliability letter, strength and age become signed micro-nats.
//!
//! Formulas: `docs/fusion.md`, "Letters" and "One claim". How reports of several sources go together is in `family.rs`.

use std::time::Duration;

use super::policy::{Calibration, Decay, LearnedCoverage, LetterRow, SourceRow, TypeNumbers, WeightedRule};
use super::report::Report;
use crate::finding::{Reliability, Strength};

/// Log-odds are whole micro-nats (millionths of a nat), so that sums are exact in any order.
const MICRO: f64 = 1e6;

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
pub fn probability(log_odds_micro: i64) -> f64 {
    1.0 / (1.0 + (-nats(log_odds_micro)).exp())
}

/// Evidence after the scale of a calibration.
pub(super) fn scaled(calibration: Calibration, micro: i64) -> i64 {
    if calibration.scale == 1.0 { micro } else { (calibration.scale * micro as f64).round_ties_even() as i64 }
}

/// The log-odds of the prior with the calibration's own term: what a verdict without evidence has.
pub(super) fn calibrated_prior(calibration: Calibration, prior: f64) -> i64 {
    micro(calibration.shift) + scaled(calibration, logit_micro(prior))
}

/// The share of a claim that still holds at `age`.
pub(super) fn remaining(decay: Option<&Decay>, age: Duration) -> f64 {
    match decay {
        None => 1.0,
        Some(Decay::HalfLife { grace, half_life }) => {
            let over = age.saturating_sub(*grace);
            if over.is_zero() { 1.0 } else { (-over.as_secs_f64() / half_life.as_secs_f64()).exp2() }
        }
        Some(Decay::Polynomial { lifetime, speed }) => {
            let share = age.as_secs_f64() / lifetime.as_secs_f64();
            if share >= 1.0 { 0.0 } else { 1.0 - share.powf(speed.recip()) }
        }
    }
}

/// Weighs the reports of one source about indicators of one type.
#[derive(Clone, Copy)]
pub(super) struct Weigher<'a> {
    rule: &'a WeightedRule,
    numbers: &'a TypeNumbers,
    letter: Reliability,
    row: Option<&'a SourceRow>,
}

impl<'a> Weigher<'a> {
    pub(super) fn new(rule: &'a WeightedRule, numbers: &'a TypeNumbers, source: &str, letter: Reliability) -> Self {
        Self { rule, numbers, letter, row: rule.source(source) }
    }

    /// The share of evidence that a claim of this strength and age still carries, and how far its strength is above full.
    fn keep(&self, strength: Option<Strength>, age: Duration) -> f64 {
        let sure = strength.map_or(1.0, |strength| (strength.get() / Strength::FULL.get()).min(1.0));
        sure * remaining(self.numbers.decay.as_ref(), age)
    }

    /// Evidence before family pooling, in micro-nats: positive towards malicious. 0 for a report that carries none and for
    /// a source with the letter F that has no row of its own.
    pub(super) fn weigh(&self, report: Report, strength: Option<Strength>, age: Duration) -> i64 {
        let lambda = self.full_evidence(report, strength);
        if lambda == 0 {
            return 0;
        }
        let keep = self.keep(strength, age);
        if keep == 1.0 { lambda } else { micro(discounted(nats(lambda), 1.0 - keep, self.numbers.prior)) }
    }

    /// The least and the greatest evidence that any answer of the source, at most so strong, can carry.
    pub(super) fn bounds(&self, greatest: Strength) -> (i64, i64) {
        let (mut least, mut most) = (0, 0);
        for report in [Report::Benign, Report::NoRecord, Report::Suspicious, Report::Malicious] {
            // The next better letter may be the weaker one, in a policy of the user's own.
            for strength in [None, Some(greatest)] {
                let evidence = self.weigh(report, strength, Duration::ZERO);
                (least, most) = (least.min(evidence), most.max(evidence));
            }
        }
        (least, most)
    }

    /// The evidence of a fresh claim; above full strength it moves towards that of the next better letter. A row of the
    /// source's own stays.
    fn full_evidence(&self, report: Report, strength: Option<Strength>) -> i64 {
        if report == Report::NoRecord {
            return self.row.and_then(|row| row.coverage).map_or(0, |coverage| self.silence(coverage));
        }
        if let Some(claims) = self.row.and_then(|row| row.claims.as_ref()) {
            return of_row(claims, report);
        }
        let own = self.letter_evidence(self.letter, report);
        let full = Strength::FULL.get();
        let beyond = strength.map_or(0.0, |strength| (strength.get() - full) / (1.0 - full)).clamp(0.0, 1.0);
        if beyond == 0.0 {
            return own;
        }
        let better = self.letter_evidence(next_better(self.letter), report);
        (own as f64 + (better - own) as f64 * beyond).round_ties_even() as i64
    }

    fn letter_evidence(&self, letter: Reliability, report: Report) -> i64 {
        self.rule.letters.row(letter).map_or(0, |row| of_row(row, report))
    }

    /// The evidence of "no record": at most half of what the source's "benign" carries, on either side.
    fn silence(&self, coverage: LearnedCoverage) -> i64 {
        let lambda = micro(((1.0 - coverage.if_malicious) / (1.0 - coverage.if_benign)).ln());
        let cap = self.full_evidence(Report::Benign, None).abs() / 2;
        lambda.clamp(-cap, cap)
    }
}

/// The log-likelihood ratio of a claim by a source with this row.
pub(super) fn of_row(row: &LetterRow, report: Report) -> i64 {
    let (malicious, benign) = (row.if_malicious, row.if_benign);
    match report {
        Report::None | Report::NoRecord => 0,
        Report::Benign => micro((malicious.benign / benign.benign).ln()),
        Report::Suspicious => micro((malicious.suspicious / benign.suspicious).ln()),
        Report::Malicious => micro((malicious.malicious / benign.malicious).ln()),
    }
}

/// Evidence of a claim that, with probability `phi`, has nothing to do with the indicator as it is today.
fn discounted(lambda: f64, phi: f64, prior: f64) -> f64 {
    let x = lambda.exp();
    let stray_benign = phi * (1.0 - prior);
    let stray_malicious = phi * prior;
    (((1.0 - stray_benign) * x + stray_benign) / ((1.0 - stray_malicious) + stray_malicious * x)).ln()
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

    fn evidence(letter: Reliability, report: Report, strength: Option<Strength>) -> i64 {
        let rule = WeightedRule::built_in();
        Weigher::new(&rule, &rule.domain, "x", letter).weigh(report, strength, Duration::ZERO)
    }

    #[test]
    fn a_fresh_claim_weighs_what_the_table_says_of_its_letter() {
        let fresh = |letter, report| evidence(letter, report, None);
        assert_eq!(fresh(Reliability::APlus, Report::Malicious), 5_247_024);
        assert_eq!(fresh(Reliability::A, Report::Benign), -2_064_751);
        assert_eq!(fresh(Reliability::B, Report::Malicious), 3_075_775);
        assert_eq!(fresh(Reliability::F, Report::Malicious), 0);
        assert_eq!(fresh(Reliability::APlus, Report::None), 0);
        assert_eq!(fresh(Reliability::APlus, Report::NoRecord), 0);
    }

    #[test]
    fn the_highest_strength_reaches_the_next_better_letter_and_a_plus_stays() {
        let strongest = |letter| evidence(letter, Report::Malicious, Some(Strength::MAX));
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
    fn a_polynomial_decay_gives_the_shares_of_misps_published_models() {
        let phishing = Decay::Polynomial { lifetime: 3 * DAY, speed: 2.3 };
        let nids = Decay::Polynomial { lifetime: 120 * DAY, speed: 2.0 };
        // Base score 80, threshold 30: expired where 80 times the share falls below 30.
        let score = |decay: &Decay, days: f64| 80.0 * remaining(Some(decay), Duration::from_secs_f64(days * 86_400.0));
        assert!(score(&phishing, 1.01) > 30.0 && score(&phishing, 1.02) < 30.0);
        assert!(score(&nids, 46.8) > 30.0 && score(&nids, 46.9) < 30.0);
        assert_eq!(remaining(Some(&nids), 120 * DAY), 0.0);
        assert_eq!(remaining(Some(&nids), Duration::ZERO), 1.0);
    }

    #[test]
    fn silence_weighs_what_the_source_is_known_to_cover_and_never_more_than_half_its_benign() {
        let mut rule = WeightedRule::built_in();
        let silence = |rule: &WeightedRule| {
            Weigher::new(rule, &rule.domain, "x", Reliability::A).weigh(Report::NoRecord, None, Duration::ZERO)
        };
        let mut cover = |if_malicious, if_benign| {
            let coverage = Some(LearnedCoverage { if_malicious, if_benign });
            rule.sources = vec![SourceRow { source: "x".into(), claims: None, coverage }];
            silence(&rule)
        };
        // ln(.5 / .8)
        assert_eq!(cover(0.5, 0.2), -470_004);
        assert_eq!(cover(0.9, 0.2), -1_032_375, "half of 2.064751");
        assert_eq!(cover(0.2, 0.5), 470_004, "who covers benign ones better speaks against by silence");
        assert_eq!(cover(0.3, 0.3), 0);
    }

    #[test]
    fn rounding_goes_half_to_even() {
        assert_eq!(micro(0.000_000_5), 0);
        assert_eq!(micro(0.000_001_5), 2);
        assert_eq!(micro(-0.000_001_5), -2);
    }
}
