//! What one source reports, as the rules see it.

use std::time::{Duration, SystemTime};

use crate::finding::{Disposition, Finding, Outcome, OutcomeBody, Strength};

/// What a source reports, as far as it can carry evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Report {
    /// A claim of "benign".
    Benign,
    /// Nothing: it failed, was not asked, or knows the indicator and takes no side.
    None,
    /// Asked, and it has no record. Evidence only where the policy knows how much the source covers.
    NoRecord,
    /// A claim of "suspicious".
    Suspicious,
    /// A claim of "malicious".
    Malicious,
}

impl Report {
    /// The report of a finding with this claim.
    pub(super) fn of_claim(claim: Disposition) -> Self {
        match claim {
            Disposition::Unknown => Self::None,
            Disposition::Benign => Self::Benign,
            Disposition::Suspicious => Self::Suspicious,
            Disposition::Malicious => Self::Malicious,
        }
    }
}

/// Another report of one source than the one that it gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Index of its outcome.
    pub(super) source: usize,
    /// What it reports instead; unknown: nothing that carries evidence.
    pub(super) claim: Disposition,
    /// The evidence of that before family pooling, under the weighted rule.
    pub(super) micro: i64,
}

/// What an outcome reports, how sure it is and how old.
pub(super) fn reported(outcome: &Outcome, at: SystemTime) -> (Report, Option<Strength>, Duration) {
    match &outcome.body {
        OutcomeBody::Finding(finding) => {
            (Report::of_claim(finding.claim), finding.strength, age_of_finding(outcome, finding, at))
        }
        OutcomeBody::NoRecord => (Report::NoRecord, None, at.duration_since(outcome.time).unwrap_or_default()),
        OutcomeBody::Error(_) | OutcomeBody::NotAsked(_) => (Report::None, None, Duration::ZERO),
    }
}

/// Time since the source last affirmed its claim; zero if its clock is ahead of ours.
pub(super) fn age_of_finding(outcome: &Outcome, finding: &Finding, at: SystemTime) -> Duration {
    at.duration_since(finding.observed_time.unwrap_or(outcome.time)).unwrap_or_default()
}
