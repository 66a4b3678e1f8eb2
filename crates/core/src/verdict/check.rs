//! What is wrong with a policy that a user writes: everything at once, each with the path of its field.

use std::time::Duration;

use strum::VariantArray;

use super::evidence;
use super::policy::{
    Calibration, ClaimShares, Decay, LetterRow, MeanRule, Policy, Rule, SourceRow, Thresholds, WeightedRule,
};
use super::report::Report;
use crate::error::{Reason, Violation};
use crate::finding::Reliability;
use crate::indicator::IndicatorType;

/// Shares are written in decimals, so that their sum may be a little off.
const SHARES_TOLERANCE: f64 = 1e-6;
/// Beyond this a probability of 0 or 1 would be shown, or a sum of many sources would no longer be exact.
const MAX_SHIFT: f64 = 20.0;
const MAX_SCALE: f64 = 10.0;
/// Least share of a claim. With it no claim has more than 6.9 nats.
const LEAST_SHARE: f64 = 0.001;
const LONGEST_DECAY: Duration = Duration::from_secs(100 * 365 * 86_400);
const MAX_SPEED: f64 = 100.0;
const LONGEST_SUMMARY: usize = 200;
/// The most rows of sources in a policy.
pub const MOST_SOURCE_ROWS: usize = 1000;

impl Policy {
    /// Everything that is wrong with the numbers, with paths from the policy on: `weighted.thresholds.malicious`. Empty for a
    /// policy that can judge.
    pub fn violations(&self) -> Vec<Violation> {
        let mut check = Check::default();
        if self.summary.chars().count() > LONGEST_SUMMARY || self.summary.contains(char::is_control) {
            check.refuse("summary", format!("must be one line of at most {LONGEST_SUMMARY} characters"));
        }
        check.share("minimum_coverage", self.minimum_coverage);
        match &self.rule {
            Rule::Weighted(rule) => check.weighted(rule),
            Rule::Mean(rule) => check.mean(rule),
            Rule::Xsoar | Rule::Worst | Rule::Majority => {}
        }
        check.violations
    }
}

#[derive(Default)]
struct Check {
    violations: Vec<Violation>,
}

impl Check {
    fn refuse(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.violations.push(Violation::new(field, Reason::FieldInvalid, message));
    }

    /// A number from 0 to 1.
    fn share(&mut self, field: &str, value: f64) -> bool {
        self.within(field, value, 0.0, 1.0)
    }

    fn within(&mut self, field: &str, value: f64, least: f64, most: f64) -> bool {
        // NaN is in no range.
        let is_within = (least..=most).contains(&value);
        if !is_within {
            self.refuse(field, format!("must be from {least} to {most}, not {value}"));
        }
        is_within
    }

    fn weighted(&mut self, rule: &WeightedRule) {
        for letter in Reliability::VARIANTS {
            if let Some(row) = rule.letters.row(*letter) {
                self.row(&format!("weighted.letters.{}", letter.key()), row);
            }
        }
        self.source_rows(&rule.sources);
        self.within("weighted.family_correlation", rule.family_correlation, 0.0, 1.0);
        self.share("weighted.conflict.ratio", rule.conflict.ratio);
        if rule.conflict.floor_micro < 0 {
            self.refuse("weighted.conflict.floor_micro_nats", "must not be negative");
        }
        let Calibration { shift, scale } = rule.calibration;
        let shift_is_good = self.within("weighted.calibration.shift", shift, -MAX_SHIFT, MAX_SHIFT);
        let scale_is_good = self.within("weighted.calibration.scale", scale, 0.01, MAX_SCALE);
        let thresholds_are_good = self.thresholds(&rule.thresholds);
        for indicator_type in IndicatorType::VARIANTS {
            let (path, numbers) = (format!("weighted.{}", indicator_type.as_str()), rule.of_type(*indicator_type));
            if let Some(decay) = &numbers.decay {
                self.decay(&format!("{path}.decay"), decay);
            }
            let field = format!("{path}.prior");
            let prior_is_good = self.within(&field, numbers.prior, 0.001, 0.999);
            if prior_is_good && shift_is_good && scale_is_good && thresholds_are_good {
                self.prior(&field, rule, numbers.prior);
            }
        }
    }

    /// The prior must be *unknown* by the thresholds, also after calibration, so that silence never judges.
    fn prior(&mut self, field: &str, rule: &WeightedRule, prior: f64) {
        let Thresholds { suspicious, benign, .. } = rule.thresholds;
        let calibrated = evidence::probability(evidence::calibrated_prior(rule.calibration, prior));
        if benign < calibrated && calibrated < suspicious {
            return;
        }
        let after = if rule.calibration == Calibration::NONE { "" } else { " after calibration" };
        let message = format!(
            "is {calibrated:.3}{after}, which without any evidence would already be a verdict: it must lie above \
             thresholds.benign ({benign}) and below thresholds.suspicious ({suspicious})"
        );
        self.refuse(field, message);
    }

    fn thresholds(&mut self, thresholds: &Thresholds) -> bool {
        let Thresholds { malicious, suspicious, benign } = *thresholds;
        let mut is_good = true;
        for (name, value) in [("malicious", malicious), ("suspicious", suspicious), ("benign", benign)] {
            is_good &= self.within(&format!("weighted.thresholds.{name}"), value, 0.0001, 0.9999);
        }
        if is_good && !(benign < suspicious && suspicious < malicious) {
            is_good = false;
            let message = format!(
                "must rise from benign over suspicious to malicious, but they are {benign}, {suspicious} and {malicious}"
            );
            self.refuse("weighted.thresholds", message);
        }
        is_good
    }

    fn decay(&mut self, path: &str, decay: &Decay) {
        let mut span = |field: &str, span: Duration, least: Duration| {
            if span < least || span > LONGEST_DECAY {
                let least = if least.is_zero() { "zero" } else { "one second" };
                self.refuse(format!("{path}.{field}"), format!("must be from {least} to 100 years"));
            }
        };
        const SECOND: Duration = Duration::from_secs(1);
        match decay {
            Decay::HalfLife { grace, half_life } => {
                span("half_life.grace", *grace, Duration::ZERO);
                span("half_life.half_life", *half_life, SECOND);
            }
            Decay::Polynomial { lifetime, speed } => {
                span("polynomial.lifetime", *lifetime, SECOND);
                self.within(&format!("{path}.polynomial.speed"), *speed, 0.01, MAX_SPEED);
            }
        }
    }

    /// A row whose claims point the right way: malicious above suspicious above benign.
    fn row(&mut self, path: &str, row: &LetterRow) {
        let is_good = self.shares(&format!("{path}.if_malicious"), row.if_malicious)
            & self.shares(&format!("{path}.if_benign"), row.if_benign);
        if !is_good {
            return;
        }
        let of = |report| evidence::of_row(row, report);
        let (benign, suspicious, malicious) = (of(Report::Benign), of(Report::Suspicious), of(Report::Malicious));
        if !(benign <= 0 && 0 <= suspicious && suspicious <= malicious) {
            let message = format!(
                "the claims point the wrong way: ln(if_malicious / if_benign) must be at most 0 for benign, at least 0 for \
                 suspicious, and no less for malicious; it is {:.2}, {:.2} and {:.2}",
                evidence::nats(benign),
                evidence::nats(suspicious),
                evidence::nats(malicious)
            );
            self.refuse(path, message);
        }
    }

    fn shares(&mut self, path: &str, shares: ClaimShares) -> bool {
        let ClaimShares { benign, suspicious, malicious } = shares;
        let mut is_good = true;
        for (name, share) in [("benign", benign), ("suspicious", suspicious), ("malicious", malicious)] {
            is_good &= self.within(&format!("{path}.{name}"), share, LEAST_SHARE, 1.0);
        }
        let sum = benign + suspicious + malicious;
        if is_good && (sum - 1.0).abs() > SHARES_TOLERANCE {
            is_good = false;
            self.refuse(path, format!("the three shares must add up to 1, not {sum}"));
        }
        is_good
    }

    fn source_rows(&mut self, rows: &[SourceRow]) {
        if rows.len() > MOST_SOURCE_ROWS {
            self.refuse("weighted.sources", format!("holds more than {MOST_SOURCE_ROWS} sources"));
        }
        for row in rows {
            let path = format!("weighted.sources.{}", row.source);
            if row.claims.is_none() && row.coverage.is_none() {
                self.refuse(&path, "holds neither claims nor coverage");
            }
            if let Some(claims) = &row.claims {
                self.row(&format!("{path}.claims"), claims);
            }
            if let Some(coverage) = row.coverage {
                for (name, share) in [("if_malicious", coverage.if_malicious), ("if_benign", coverage.if_benign)] {
                    self.within(&format!("{path}.coverage.{name}"), share, 0.0, 0.999);
                }
            }
        }
        for pair in rows.windows(2) {
            if let [left, right] = pair
                && left.source == right.source
            {
                self.refuse(format!("weighted.sources.{}", right.source), "is there twice");
            }
        }
    }

    fn mean(&mut self, rule: &MeanRule) {
        for letter in Reliability::VARIANTS {
            self.within(&format!("mean.weights.{}", letter.key()), rule.weights.of(*letter), 0.0, 1000.0);
        }
        let is_good =
            self.share("mean.malicious", rule.malicious) & self.within("mean.suspicious", rule.suspicious, 0.001, 1.0);
        if is_good && rule.suspicious >= rule.malicious {
            self.refuse("mean.suspicious", format!("must be below mean.malicious, which is {}", rule.malicious));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_that_is_built_in_passes_the_checks_of_a_users_own() {
        for policy in Policy::built_in() {
            assert_eq!(policy.violations(), [], "{}", policy.name);
        }
    }
}
