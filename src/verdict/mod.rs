//! Fusion: outcomes and a policy become a verdict that explains itself. Pure: no clock, no I/O, and the order of the
//! outcomes does not matter.
//!
//! Formulas and numbers: `docs/fusion.md`. `policy.rs` holds the numbers, `evidence.rs` weighs one claim, `family.rs`
//! pools sources that share data, `fuse.rs` adds, `xsoar.rs` is the compatible rule, `explain.rs` writes the sentences.
//! How an answer becomes a claim is up to the kinds in `sources`.

#![warn(missing_docs)]

use std::time::{Duration, SystemTime};

use strum::IntoStaticStr;

use crate::finding::{Disposition, Outcome, Reliability, Strength};
use crate::indicator::Indicator;

mod evidence;
mod explain;
mod family;
mod fuse;
mod policy;
mod xsoar;

pub(crate) use explain::percent;
pub use fuse::fuse;
pub use policy::{
    Calibration, ClaimShares, ConflictNumbers, Decay, LetterRow, LetterTable, Policy, Rule, Thresholds, TypeNumbers,
    WeightedRule,
};

/// What all sources together say of an indicator, and why. Immutable.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The indicator that was looked up, in normal form.
    pub indicator: Indicator,
    /// What the sources together say of it.
    pub disposition: Disposition,
    /// One line that an analyst reads first.
    pub summary: String,
    /// Probability that the indicator is malicious, 0 to 1; `None` under a policy without one.
    pub probability: Option<f64>,
    /// Log-odds of `probability` in micro-nats: the exact sum of all contributions. `None` together with it.
    pub log_odds_micro: Option<i64>,
    /// Share of the asked sources that answered, 0 to 1; 0 if none was asked.
    pub coverage: f64,
    /// How far the sources contradict each other; `None` under a policy that does not measure it.
    pub conflict: Option<Conflict>,
    /// The terms of the sum: prior, calibration, then each source that was asked, in order of name. Empty under a policy
    /// without a sum.
    pub contributions: Vec<Contribution>,
    /// The source whose claim alone decided, under a policy in which one does.
    pub deciding_source: Option<String>,
    /// The outcome of each source, in order of name.
    pub outcomes: Vec<Outcome>,
    /// The policy that judged.
    pub policy: PolicyRef,
    /// Whether an opinion that was expected is missing: an error, quota spent, or no time left.
    pub partial: bool,
    /// The time for which it was judged; ages count back from here.
    pub judged_time: SystemTime,
}

/// Which policy, and which revision of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PolicyRef {
    /// Name without `policies/`.
    pub name: String,
    /// Revision, from 1; a changed policy has a new one.
    pub revision: u32,
}

/// How far the sources contradict each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conflict {
    /// `K = (1 - e^-E+)(1 - e^-E-)`, 0 to 1, of the evidence for and against (Dempster's conflict mass).
    pub mass: f64,
    /// Whether a person should look: the weaker side is above both limits of the policy.
    pub flagged: bool,
}

/// One term of the verdict's sum; together the terms are the comparison of the sources.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// The prior, the calibration, or the source's name.
    pub term: Term,
    /// The source's reliability letter.
    pub reliability: Option<Reliability>,
    /// The source's claim; `None` where it made none.
    pub claim: Option<Disposition>,
    /// How sure the source is of it.
    pub strength: Option<Strength>,
    /// Time since the source last affirmed it.
    pub age: Option<Duration>,
    /// Evidence in micro-nats: positive towards malicious, negative towards benign.
    pub micro_nats: i64,
    /// Whether the claim points the same way as the verdict; `None` where either takes no side.
    pub agrees: Option<bool>,
    /// The term in one readable sentence.
    pub sentence: String,
}

/// Whose term a [`Contribution`] is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Term {
    /// The log-odds assumed for indicators of this type before any source is asked.
    Prior,
    /// The correction by which the policy was fitted to feedback.
    Calibration,
    /// The source of this name.
    Source(String),
}
