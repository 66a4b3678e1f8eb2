//! The numbers by which outcomes become a verdict. `docs/fusion.md` gives the reason of each.
//!
//! Nothing is computed here. `built_in.rs` holds the policies that every installation has.

use std::time::Duration;

use strum::{Display, EnumDiscriminants, EnumString, IntoStaticStr, VariantArray, VariantNames};

use crate::finding::Reliability;
use crate::indicator::IndicatorType;

mod built_in;

/// The rules by which outcomes become a verdict. A changed policy has a new revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Name without `policies/`.
    pub name: String,
    /// One line on what it does.
    pub summary: String,
    /// Revision, from 1.
    pub revision: u32,
    /// Least share of the asked sources that must have answered, 0 to 1. Below it the disposition is unknown. 0: no limit.
    pub minimum_coverage: f64,
    /// How outcomes become a verdict.
    pub rule: Rule,
}

/// How outcomes become a verdict.
#[derive(Clone, Debug, PartialEq, EnumDiscriminants)]
#[strum_discriminants(
    name(RuleKind),
    derive(Hash, PartialOrd, Ord, Display, EnumString, IntoStaticStr, VariantNames, VariantArray),
    strum(serialize_all = "snake_case"),
    doc = "Which rule a policy has."
)]
#[expect(clippy::large_enum_variant, reason = "a server holds a handful of policies")]
pub enum Rule {
    /// Log-odds fusion: the evidence of all sources is added.
    Weighted(WeightedRule),
    /// The most reliable source wins, a tie goes to the worse claim.
    Xsoar,
    /// The worst claim wins, whoever makes it.
    Worst,
    /// The most frequent claim wins, a tie goes to the worse claim.
    Majority,
    /// The mean of the claims, weighted by the letters.
    Mean(MeanRule),
}

impl Rule {
    /// Which rule it is.
    pub fn kind(&self) -> RuleKind {
        self.into()
    }
}

impl RuleKind {
    /// The word used in files and outputs, in snake_case.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The numbers of log-odds fusion.
///
/// For every type the prior must lie between the thresholds of benign and suspicious: that makes a verdict without
/// evidence *unknown*.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedRule {
    /// The shares of claims by letter.
    pub letters: LetterTable,
    /// Sources that have a row of their own, in order of name.
    pub sources: Vec<SourceRow>,
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

/// How often a source makes each claim, given that it takes a side.
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

/// What is known of one source beyond its letter.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceRow {
    /// Name of the source, without `sources/`.
    pub source: String,
    /// Its shares of claims, in place of those of its letter. Strength above [`crate::finding::Strength::FULL`] does not
    /// move them. `None`: its letter's.
    pub claims: Option<LetterRow>,
    /// How much of either side it has a record of; `None`: "no record" carries no evidence.
    pub coverage: Option<LearnedCoverage>,
}

/// Shares of the indicators of which a source has a record, each 0 or above and below 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearnedCoverage {
    /// Among those that are malicious.
    pub if_malicious: f64,
    /// Among those that are benign.
    pub if_benign: f64,
}

/// Prior and decay of one type of indicator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TypeNumbers {
    /// Probability that an indicator of this type is malicious before any source is asked, 0 to 1.
    pub prior: f64,
    /// How claims lose evidence with age; `None`: they do not.
    pub decay: Option<Decay>,
}

/// How claims lose evidence with age (`docs/fusion.md`, "One claim").
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decay {
    /// The remaining share halves again and again.
    HalfLife {
        /// Age up to which a claim counts in full.
        grace: Duration,
        /// Time beyond the grace in which the remaining share halves; above zero.
        half_life: Duration,
    },
    /// The remaining share is `1 - (age / lifetime)^(1 / speed)`, as MISP's decaying models have it.
    Polynomial {
        /// Age from which a claim carries no evidence (MISP's tau); above zero.
        lifetime: Duration,
        /// How steeply it falls at first (MISP's delta); above 0. 1 is a straight line, more falls faster at first.
        speed: f64,
    },
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
    /// Least evidence of the weaker side in micro-nats.
    pub floor_micro: i64,
    /// Least share that the weaker side has of the stronger.
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

/// The numbers of the weighted mean: benign counts 0, suspicious 0.5, malicious 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanRule {
    /// Weight of a claim by letter, each 0 or above.
    pub weights: LetterWeights,
    /// Least mean that is malicious.
    pub malicious: f64,
    /// Least mean that is suspicious; a mean below it is benign.
    pub suspicious: f64,
}

/// Weight of a claim by its source's letter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LetterWeights {
    /// A+
    pub a_plus: f64,
    /// A
    pub a: f64,
    /// B
    pub b: f64,
    /// C
    pub c: f64,
    /// D
    pub d: f64,
    /// E
    pub e: f64,
    /// F
    pub f: f64,
}

impl WeightedRule {
    /// Prior and decay of this type.
    pub fn of_type(&self, indicator_type: IndicatorType) -> &TypeNumbers {
        match indicator_type {
            IndicatorType::Ip => &self.ip,
            IndicatorType::Domain => &self.domain,
            IndicatorType::Url => &self.url,
            IndicatorType::File => &self.file,
        }
    }

    /// The row of a source that has one of its own.
    pub fn source(&self, source: &str) -> Option<&SourceRow> {
        let place = self.sources.binary_search_by(|row| row.source.as_str().cmp(source)).ok()?;
        self.sources.get(place)
    }
}

impl LetterTable {
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

impl LetterWeights {
    /// The weight of a letter.
    pub fn of(&self, letter: Reliability) -> f64 {
        match letter {
            Reliability::APlus => self.a_plus,
            Reliability::A => self.a,
            Reliability::B => self.b,
            Reliability::C => self.c,
            Reliability::D => self.d,
            Reliability::E => self.e,
            Reliability::F => self.f,
        }
    }
}

impl Calibration {
    /// No correction: the policy was not fitted.
    pub const NONE: Self = Self { shift: 0.0, scale: 1.0 };
}
