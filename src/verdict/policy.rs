//! Policies: the numbers with which outcomes are fused. `docs/fusion.md` gives the reason for each.
//!
//! Nothing is computed here: see `evidence.rs` (one claim), `family.rs` (family pooling) and `fuse.rs` (the sum).

use std::time::Duration;

use crate::finding::Reliability;
use crate::indicator::IndicatorType;

const DAY: u64 = 24 * 60 * 60;

/// The rules by which outcomes become a verdict. A changed policy has a new revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Name without `policies/`.
    pub name: String,
    /// One line on what it does.
    pub summary: String,
    /// Revision, from 1.
    pub revision: u32,
    /// How outcomes are fused into a verdict.
    pub rule: Rule,
}

/// How outcomes become a verdict.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a server holds a handful of policies")]
pub enum Rule {
    /// Log-odds fusion: the evidence of all sources is added.
    Weighted(WeightedRule),
    /// The most reliable source decides; in a tie, the worse claim.
    Xsoar,
}

/// The numbers of log-odds fusion.
///
/// For every type the prior must lie between the thresholds of benign and suspicious: that makes a verdict without
/// evidence *unknown*.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedRule {
    /// The shares of claims by letter.
    pub letters: LetterTable,
    /// Prior and decay of addresses.
    pub ip: TypeNumbers,
    /// Prior and decay of domain names.
    pub domain: TypeNumbers,
    /// Prior and decay of URLs.
    pub url: TypeNumbers,
    /// Prior and decay of files.
    pub file: TypeNumbers,
    /// Correlation inside a family that a user or a kind declares, 0 (independent) to 1 (one opinion).
    pub family_correlation: f64,
    /// Probabilities at which the disposition changes.
    pub thresholds: Thresholds,
    /// When a conflict is flagged.
    pub conflict: ConflictNumbers,
    /// Correction by feedback.
    pub calibration: Calibration,
}

/// The shares of claims by letter. F has none: it means that there is no basis to judge, so it carries no evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct LetterTable {
    /// A+
    pub a_plus: LetterRow,
    /// A
    pub a: LetterRow,
    /// B
    pub b: LetterRow,
    /// C
    pub c: LetterRow,
    /// D
    pub d: LetterRow,
    /// E
    pub e: LetterRow,
}

/// How often a source of one letter makes each claim, given that it takes a side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LetterRow {
    /// About indicators that are malicious.
    pub if_malicious: ClaimShares,
    /// About indicators that are benign.
    pub if_benign: ClaimShares,
}

/// Shares of the three claims, each above 0, together 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClaimShares {
    /// Share of "benign".
    pub benign: f64,
    /// Share of "suspicious".
    pub suspicious: f64,
    /// Share of "malicious".
    pub malicious: f64,
}

/// Prior and decay of one type of indicator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TypeNumbers {
    /// Probability that an indicator of this type is malicious before any source is asked, 0 to 1.
    pub prior: f64,
    /// How claims lose evidence with age; `None` if they do not.
    pub decay: Option<Decay>,
}

/// How claims lose evidence with age (`docs/fusion.md`, "One claim").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decay {
    /// Age up to which a claim counts in full.
    pub grace: Duration,
    /// Time beyond the grace in which the remaining share halves; above zero.
    pub half_life: Duration,
}

/// Probabilities at which the disposition changes. Between `benign` and `suspicious` it is unknown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// At least this: malicious.
    pub malicious: f64,
    /// At least this: suspicious.
    pub suspicious: f64,
    /// At most this: benign.
    pub benign: f64,
}

/// When a conflict is flagged: both conditions must hold (`docs/fusion.md`, "Contradiction").
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConflictNumbers {
    /// Minimum evidence of the weaker side, in micro-nats.
    pub floor_micro: i64,
    /// Minimum ratio of the weaker side to the stronger.
    pub ratio: f64,
}

/// Platt scaling `a + b L` of the log-odds, spread over the terms so that they still add up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// `a`, in nats.
    pub shift: f64,
    /// `b`, above 0.
    pub scale: f64,
}

impl Policy {
    /// The policies that are built in, the default (`weighted`) first.
    pub fn built_in() -> Vec<Self> {
        vec![
            Self {
                name: "weighted".into(),
                summary: "Adds up the evidence of all sources, each weighed by its letter, its age and what it shares \
                          with others."
                    .into(),
                revision: 2,
                rule: Rule::Weighted(WeightedRule::built_in()),
            },
            Self {
                name: "xsoar".into(),
                summary:
                    "Judges as Cortex XSOAR does: the most reliable source decides, a tie goes to the worse claim."
                        .into(),
                revision: 2,
                rule: Rule::Xsoar,
            },
        ]
    }
}

impl WeightedRule {
    /// The numbers of the built-in policy `weighted`.
    pub fn built_in() -> Self {
        Self {
            letters: LetterTable::built_in(),
            ip: TypeNumbers::fading(0.19, 14, 30),
            domain: TypeNumbers::fading(0.20, 30, 60),
            url: TypeNumbers::fading(0.25, 14, 14),
            file: TypeNumbers { prior: 0.25, decay: None },
            family_correlation: 0.7,
            thresholds: Thresholds { malicious: 0.80, suspicious: 0.27, benign: 0.10 },
            conflict: ConflictNumbers { floor_micro: 1_000_000, ratio: 0.4 },
            calibration: Calibration::NONE,
        }
    }

    /// Prior and decay of this type.
    pub fn of_type(&self, indicator_type: IndicatorType) -> &TypeNumbers {
        match indicator_type {
            IndicatorType::Ip => &self.ip,
            IndicatorType::Domain => &self.domain,
            IndicatorType::Url => &self.url,
            IndicatorType::File => &self.file,
        }
    }
}

impl LetterTable {
    fn built_in() -> Self {
        Self {
            a_plus: LetterRow::new([0.005, 0.045, 0.95], [0.980, 0.015, 0.005]),
            a: LetterRow::new([0.12, 0.08, 0.80], [0.946, 0.030, 0.024]),
            b: LetterRow::new([0.23, 0.12, 0.65], [0.910, 0.060, 0.030]),
            c: LetterRow::new([0.32, 0.16, 0.52], [0.820, 0.100, 0.080]),
            d: LetterRow::new([0.40, 0.20, 0.40], [0.660, 0.160, 0.180]),
            e: LetterRow::new([0.48, 0.20, 0.32], [0.580, 0.180, 0.240]),
        }
    }

    /// The row of a letter; F has none.
    pub fn row(&self, letter: Reliability) -> Option<&LetterRow> {
        match letter {
            Reliability::APlus => Some(&self.a_plus),
            Reliability::A => Some(&self.a),
            Reliability::B => Some(&self.b),
            Reliability::C => Some(&self.c),
            Reliability::D => Some(&self.d),
            Reliability::E => Some(&self.e),
            Reliability::F => None,
        }
    }
}

impl LetterRow {
    /// Shares of benign, suspicious and malicious, in the order of the table in `docs/fusion.md`.
    const fn new(if_malicious: [f64; 3], if_benign: [f64; 3]) -> Self {
        let [benign, suspicious, malicious] = if_malicious;
        let if_malicious = ClaimShares { benign, suspicious, malicious };
        let [benign, suspicious, malicious] = if_benign;
        Self { if_malicious, if_benign: ClaimShares { benign, suspicious, malicious } }
    }
}

impl TypeNumbers {
    const fn fading(prior: f64, grace_days: u64, half_life_days: u64) -> Self {
        let grace = Duration::from_secs(grace_days * DAY);
        Self { prior, decay: Some(Decay { grace, half_life: Duration::from_secs(half_life_days * DAY) }) }
    }
}

impl Calibration {
    /// No correction: the policy was not fitted.
    pub const NONE: Self = Self { shift: 0.0, scale: 1.0 };
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    #[test]
    fn every_prior_lies_between_benign_and_suspicious_so_that_no_evidence_is_unknown() {
        let rule = WeightedRule::built_in();
        for &indicator_type in IndicatorType::VARIANTS {
            let prior = rule.of_type(indicator_type).prior;
            assert!(rule.thresholds.benign < prior, "{indicator_type:?}");
            assert!(prior < rule.thresholds.suspicious, "{indicator_type:?}");
        }
        assert!(rule.thresholds.suspicious < rule.thresholds.malicious);
    }

    #[test]
    fn the_shares_of_every_letter_add_up_to_one() {
        let letters = LetterTable::built_in();
        for row in Reliability::VARIANTS.iter().filter_map(|letter| letters.row(*letter)) {
            for shares in [row.if_malicious, row.if_benign] {
                assert!((shares.benign + shares.suspicious + shares.malicious - 1.0).abs() < 1e-12, "{row:?}");
            }
        }
    }
}
