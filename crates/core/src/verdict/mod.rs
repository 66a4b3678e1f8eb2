//! Fusion: outcomes and a policy become a verdict that explains itself. Pure: no clock, no I/O, no text, and the order of the
//! outcomes does not matter.
//!
//! Formulas and numbers: `docs/fusion.md`. `policy/` holds the numbers. `judge.rs` applies a policy to outcomes: `weighted.rs`
//! adds evidence (`evidence.rs` weighs one report, `family.rs` pools sources that share data), `claims.rs` has the rules that
//! look at claims alone. `fuse.rs` makes the verdict, `analysis.rs` what would change it, `pending.rs` what sources not asked
//! yet could do, `compare.rs` compares two,
//! `feedback.rs` adds what analysts say, `explain/` writes the sentences when somebody reads them. How an answer becomes a claim is up to the kinds in `sources`.

#![warn(missing_docs)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use strum::IntoStaticStr;

use crate::finding::{Disposition, Outcome, Reliability, Strength};
use crate::indicator::Indicator;

mod analysis;
mod change;
mod check;
mod claims;
mod compare;
mod evidence;
mod explain;
mod family;
mod feedback;
mod flips;
mod fuse;
mod judge;
mod margins;
mod pending;
mod policy;
mod report;
mod weighted;

pub use change::{Analysis, Assumption, Flip, LeaveOneOut, Margin, Newcomers, Reach, ReportChange};
pub use check::MOST_SOURCE_ROWS;
pub use compare::{
    BeforeAfter, Cause, Comparison, DispositionCause, Part, TermChange, TermState, ThresholdChange, compare,
};
pub use evidence::probability as probability_at;
pub use explain::percent;
pub use explain::{
    comparison_summary, flip_sentence, margin_sentence, pending_sentence, policy_sentence, reach_sentence, sentence,
    summary, term_change_sentence,
};
pub use feedback::{ActiveFeedback, AnalystJudgement, AnalystWord, Feedback, Retraction};
pub use fuse::{fuse, fuse_without_analysis};
pub use pending::{PendingSource, Prospect, reach};
pub use policy::{
    Calibration, ClaimShares, ConflictNumbers, Decay, LearnedCoverage, LetterRow, LetterTable, LetterWeights, MeanRule,
    Policy, Rule, RuleKind, SourceRow, Thresholds, TypeNumbers, WeightedRule,
};

/// What all sources together say of an indicator, and why. Immutable.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The indicator that was looked up, in normal form.
    pub indicator: Indicator,
    /// The judgement: an analyst's, where one pinned it, else what the sources together say.
    pub disposition: Disposition,
    /// What the sources together say of it, whatever analysts say.
    pub sources_disposition: Disposition,
    /// The analyst's word that is the verdict.
    pub pin: Option<AnalystWord>,
    /// What else analysts say of it, the newest first. It decides nothing.
    pub feedback: Vec<AnalystWord>,
    /// Whether the sources leave it unknown only because fewer of the asked sources answered than the policy wants.
    pub lacks_coverage: bool,
    /// Probability that the indicator is malicious, 0 to 1; `None` under a policy without one.
    pub probability: Option<f64>,
    /// Weighted mean of the claims, 0 (benign) to 1 (malicious); `None` under every policy but one of that rule, and where
    /// no claim has weight.
    pub mean: Option<f64>,
    /// Log-odds of `probability` in micro-nats: the exact sum of all contributions. `None` together with it.
    pub log_odds_micro: Option<i64>,
    /// Share of the asked sources that answered, 0 to 1; 0 if none was asked.
    pub coverage: f64,
    /// How far the sources contradict each other; `None` under a policy that does not measure it.
    pub conflict: Option<Conflict>,
    /// The terms of the sum: prior, calibration, then each source that was asked, in order of name. Empty under a policy
    /// without a sum.
    pub contributions: Vec<Contribution>,
    /// The source whose claim alone decided what the sources say, under a policy in which one does.
    pub deciding_source: Option<String>,
    /// What would change it; empty where that was not asked for.
    pub analysis: Analysis,
    /// The outcome of each source, in order of name; shared with whoever judges the same outcomes again.
    pub outcomes: Vec<Arc<Outcome>>,
    /// The policy that judged.
    pub policy: PolicyRef,
    /// Whether an opinion that was expected is missing: an error, quota spent, or no time left.
    pub partial: bool,
    /// The time for which it was judged, at which the enrichment began; ages count back from here.
    pub judged_time: SystemTime,
}

impl Verdict {
    /// What a source says under the rule of the verdict. Only the rule `xsoar` has its own reading of a finding.
    fn claim_of(&self, outcome: &Outcome) -> Option<Disposition> {
        let finding = outcome.body.finding()?;
        match &finding.xsoar {
            Some(xsoar) if self.policy.rule == RuleKind::Xsoar => Some(xsoar.claim),
            _ => Some(finding.claim),
        }
    }
}

/// Which policy, and which revision of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PolicyRef {
    /// Name without `policies/`.
    pub name: String,
    /// Revision, from 1; a changed policy has a new one.
    pub revision: u32,
    /// The word of its rule: `weighted`, `xsoar`.
    pub rule: RuleKind,
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
    /// The evidence on its way to the term; `None` for the prior and the calibration.
    pub weighing: Option<Weighing>,
}

/// The evidence of one source on the way to its term, in micro-nats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weighing {
    /// As if the source had affirmed its claim just now.
    pub fresh: i64,
    /// At its age.
    pub own: i64,
    /// Beside the others of its family; with the calibration it is the term.
    pub pooled: i64,
}

impl Contribution {
    /// The term of the prior or of the calibration.
    fn without_source(term: Term, micro_nats: i64) -> Self {
        Self {
            term,
            reliability: None,
            claim: None,
            strength: None,
            age: None,
            micro_nats,
            agrees: None,
            weighing: None,
        }
    }
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
