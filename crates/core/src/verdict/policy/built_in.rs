//! The policies that every installation has.

use std::time::Duration;

use super::{
    Calibration, ClaimShares, ConflictNumbers, Decay, LetterRow, LetterTable, LetterWeights, MeanRule, Policy, Rule,
    Thresholds, TypeNumbers, WeightedRule,
};

const DAY: u64 = 24 * 60 * 60;

impl Policy {
    /// The policies that are built in, the default (`weighted`) first.
    pub fn built_in() -> Vec<Self> {
        let built_in = |name: &str, revision, rule, summary: &str| Self {
            name: name.into(),
            summary: summary.into(),
            revision,
            minimum_coverage: 0.0,
            rule,
        };
        vec![
            built_in(
                "weighted",
                2,
                Rule::Weighted(WeightedRule::built_in()),
                "Adds up the evidence of all sources, each weighed by its letter, its age and what it shares with others.",
            ),
            built_in(
                "xsoar",
                2,
                Rule::Xsoar,
                "Judges as Cortex XSOAR does: the most reliable source decides, a tie goes to the worse claim.",
            ),
            built_in("worst", 1, Rule::Worst, "Takes the worst claim, however reliable the source that makes it."),
            built_in(
                "majority",
                1,
                Rule::Majority,
                "Takes the claim that most sources make, a tie goes to the worse claim; letters do not matter.",
            ),
            built_in(
                "mean",
                1,
                Rule::Mean(MeanRule::built_in()),
                "Takes the mean of the claims, each weighted by its source's letter.",
            ),
        ]
    }
}

impl WeightedRule {
    /// The numbers of the built-in policy `weighted`.
    pub fn built_in() -> Self {
        Self {
            letters: LetterTable::built_in(),
            sources: Vec::new(),
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
}

impl MeanRule {
    /// The numbers of the built-in policy `mean`: the weights are those of MISP's taxonomy of the Admiralty scale, where F
    /// has none here, since it says that there is no basis to judge.
    pub fn built_in() -> Self {
        let weights = LetterWeights { a_plus: 1.0, a: 1.0, b: 0.75, c: 0.5, d: 0.25, e: 0.0, f: 0.0 };
        Self { weights, malicious: 0.75, suspicious: 0.25 }
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
}

impl LetterRow {
    /// Shares of benign, suspicious and malicious, in this order as the table in `docs/fusion.md` has them.
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
        Self { prior, decay: Some(Decay::HalfLife { grace, half_life: Duration::from_secs(half_life_days * DAY) }) }
    }
}
