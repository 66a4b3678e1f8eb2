//! The judge: outcomes and a policy in, a verdict with its explanation out. Pure: no clock, no I/O, and the order of
//! the outcomes does not matter.
//!
//! Formulas and numbers: `docs/fusion.md`. `policy.rs` holds the numbers, `evidence.rs` weighs one claim, `family.rs`
//! pools those that are not independent, `fuse.rs` adds, `xsoar.rs` is the compatible rule, `explain.rs` the sentences.
//! How an answer becomes a claim is not decided here but in `sources`.

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

pub use fuse::fuse;
pub use policy::{
    Ageing, Calibration, ClaimShares, ConflictNumbers, LetterRow, LetterTable, Policy, Rule, Thresholds, TypeNumbers,
    WeightedRule,
};

/// What all sources together say of an indicator, and exactly why. Never changed once made.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What was looked up, in normal form.
    pub indicator: Indicator,
    /// What we say of it.
    pub disposition: Disposition,
    /// One line that an analyst reads first.
    pub summary: String,
    /// Probability that the indicator is malicious, 0 to 1; `None` under a policy that has none.
    pub probability: Option<f64>,
    /// Log-odds of that probability in micro-nats: the exact sum of all contributions. `None` as above.
    pub log_odds_micro: Option<i64>,
    /// Share of the asked sources that answered, 0 to 1; 0 if none was asked.
    pub coverage: f64,
    /// How far the sources contradict each other; `None` under a policy that does not measure it.
    pub conflict: Option<Conflict>,
    /// The terms of the sum: prior, calibration, then one a source in order of name. Empty under a policy without.
    pub contributions: Vec<Contribution>,
    /// The source whose word alone decided, under a policy in which one does.
    pub deciding_source: Option<String>,
    /// What came of asking each source, in order of name.
    pub outcomes: Vec<Outcome>,
    /// The policy that judged.
    pub policy: PolicyRef,
    /// Whether a source that was meant to speak did not.
    pub partial: bool,
    /// The moment for which it was judged; ages count back from here.
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
    /// Whether a person should look: the weaker side has at least 1 nat and at least 0.4 of the stronger.
    pub flagged: bool,
}

/// One term of the verdict's sum; together the terms are the comparison of the sources.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// Whose term it is.
    pub term: Term,
    /// The source's letter.
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
    /// What is known of indicators of this type before any source is asked.
    Prior,
    /// The correction by which the policy was fitted to feedback.
    Calibration,
    /// The source of this name.
    Source(String),
}
