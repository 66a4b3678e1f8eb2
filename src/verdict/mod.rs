//! Fusion: turns outcomes and a policy into a verdict that explains itself. Pure functions without clock or I/O; the
//! order of the outcomes does not matter.
//!
//! Formulas and numbers are in `docs/fusion.md`. `policy.rs` holds the numbers, `evidence.rs` weighs one claim,
//! `family.rs` pools sources that share data, `fuse.rs` adds the terms, `xsoar.rs` is the rule compatible with Cortex
//! XSOAR, and `explain.rs` writes the sentences. The kinds in `sources` turn answers into claims.

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

/// What all sources together say about an indicator, and why. Immutable.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The indicator that was looked up, in normal form.
    pub indicator: Indicator,
    /// The combined claim of all sources.
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
    /// The terms of the sum: prior, calibration, then each source that was asked, in order of name. Empty under a
    /// policy without a sum.
    pub contributions: Vec<Contribution>,
    /// The source whose claim alone decided, under a policy in which one does.
    pub deciding_source: Option<String>,
    /// The outcome of each source, in order of name.
    pub outcomes: Vec<Outcome>,
    /// The policy that was applied.
    pub policy: PolicyRef,
    /// Whether an expected opinion is missing because of an error, a used-up quota, or a lack of time.
    pub partial: bool,
    /// The time for which the verdict was made; ages are relative to it.
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
    /// Whether a person should look into it, since the weaker side exceeds both limits of the policy.
    pub flagged: bool,
}

/// One term of the verdict's sum; together the terms are the comparison of the sources.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// The prior, the calibration, or the source's name.
    pub term: Term,
    /// The source's reliability letter.
    pub reliability: Option<Reliability>,
    /// The source's claim; `None` if it made none.
    pub claim: Option<Disposition>,
    /// How sure the source is of it.
    pub strength: Option<Strength>,
    /// Time since the source last affirmed it.
    pub age: Option<Duration>,
    /// Evidence in micro-nats: positive towards malicious, negative towards benign.
    pub micro_nats: i64,
    /// Whether claim and verdict are on the same side; `None` if either takes no side.
    pub agrees: Option<bool>,
    /// The term in one readable sentence.
    pub sentence: String,
}

/// The origin of a [`Contribution`].
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
