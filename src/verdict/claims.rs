//! The rules that look at claims alone: `xsoar`, `worst`, `majority` and `mean`. No probability, no contributions.
//!
//! Claims of "unknown" count in none of them. `xsoar` follows the public script of Cortex XSOAR: the most reliable source
//! decides, whatever its letter, and a tie goes to the worse claim. Where a finding says what Cortex XSOAR's own integration
//! computes from the same answer, `xsoar` judges by that claim.

use std::cmp::Reverse;
use std::sync::Arc;

use super::policy::{MeanRule, Rule};
use super::report::Change;
use crate::finding::{Disposition, Outcome, OutcomeBody};

/// A rule over the claims of outcomes.
pub(super) struct Claims<'a> {
    rule: &'a Rule,
    outcomes: &'a [Arc<Outcome>],
}

/// What a rule over claims says, and with what.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Decision {
    /// Index of the source whose claim alone decided.
    pub(super) source: Option<usize>,
    /// The weighted mean.
    pub(super) mean: Option<f64>,
}

impl<'a> Claims<'a> {
    pub(super) fn new(rule: &'a Rule, outcomes: &'a [Arc<Outcome>]) -> Self {
        Self { rule, outcomes }
    }

    /// What a source says under this rule; unknown where it says nothing.
    pub(super) fn claim(&self, source: usize) -> Disposition {
        claim_under(self.rule, &self.outcomes[source].body).unwrap_or_default()
    }

    /// The disposition if these sources had claimed something else, and what decided it.
    pub(super) fn judge_with(&self, changes: &[Change]) -> (Disposition, Decision) {
        let claims = (0..self.outcomes.len())
            .map(|source| {
                let change = changes.iter().find(|change| change.source == source);
                (source, change.map_or_else(|| self.claim(source), |change| change.claim))
            })
            .filter(|(_, claim)| *claim != Disposition::Unknown);
        match self.rule {
            Rule::Xsoar => self.decided_by(claims, |letter, claim| (letter, Reverse(claim))),
            Rule::Worst => self.decided_by(claims, |letter, claim| (Reverse(claim), letter)),
            Rule::Majority => (majority(&count(claims.map(|(_, claim)| claim))), Decision::default()),
            Rule::Mean(rule) => self.mean(rule, claims),
            Rule::Weighted(_) => (Disposition::Unknown, Decision::default()),
        }
    }

    /// The claim of the source that comes first by this order, of equals the first by name.
    fn decided_by<K: Ord>(
        &self,
        claims: impl Iterator<Item = (usize, Disposition)>,
        key: impl Fn(crate::finding::Reliability, Disposition) -> K,
    ) -> (Disposition, Decision) {
        let first = claims.min_by_key(|(source, claim)| (key(self.outcomes[*source].reliability, *claim), *source));
        match first {
            Some((source, claim)) => (claim, Decision { source: Some(source), mean: None }),
            None => (Disposition::Unknown, Decision::default()),
        }
    }

    fn mean(&self, rule: &MeanRule, claims: impl Iterator<Item = (usize, Disposition)>) -> (Disposition, Decision) {
        let (mut sum, mut total) = (0.0, 0.0);
        for (source, claim) in claims {
            let weight = rule.weights.of(self.outcomes[source].reliability);
            total += weight;
            sum += weight
                * match claim {
                    Disposition::Unknown | Disposition::Benign => 0.0,
                    Disposition::Suspicious => 0.5,
                    Disposition::Malicious => 1.0,
                };
        }
        if total == 0.0 {
            return (Disposition::Unknown, Decision::default());
        }
        let mean = sum / total;
        let disposition = if mean >= rule.malicious {
            Disposition::Malicious
        } else if mean >= rule.suspicious {
            Disposition::Suspicious
        } else {
            Disposition::Benign
        };
        (disposition, Decision { source: None, mean: Some(mean) })
    }

    /// Whether answers of this many further sources could change a majority.
    pub(super) fn majority_can_change(&self, further: usize) -> bool {
        let counts = count((0..self.outcomes.len()).map(|source| self.claim(source)));
        let leader = majority(&counts);
        [Disposition::Benign, Disposition::Suspicious, Disposition::Malicious].into_iter().any(|other| {
            let mut counts = counts;
            counts[usize::from(other.dbot_score())] += further;
            other != leader && majority(&counts) == other
        })
    }

    pub(super) fn is_majority(&self) -> bool {
        matches!(self.rule, Rule::Majority)
    }
}

/// What a source says under this rule.
pub(super) fn claim_under(rule: &Rule, body: &OutcomeBody) -> Option<Disposition> {
    let finding = body.finding()?;
    match (rule, &finding.xsoar) {
        (Rule::Xsoar, Some(xsoar)) => Some(xsoar.claim),
        _ => Some(finding.claim),
    }
}

/// How many claims there are of each disposition, by its score.
fn count(claims: impl Iterator<Item = Disposition>) -> [usize; 4] {
    let mut counts = [0; 4];
    for claim in claims {
        counts[usize::from(claim.dbot_score())] += 1;
    }
    counts
}

/// The most frequent claim; a tie goes to the worse one, and no claim to unknown.
fn majority(counts: &[usize; 4]) -> Disposition {
    let count = |claim: Disposition| counts[usize::from(claim.dbot_score())];
    let sides = [Disposition::Benign, Disposition::Suspicious, Disposition::Malicious];
    // Of equals `max_by_key` takes the last, which is the worst.
    sides.into_iter().filter(|claim| count(*claim) > 0).max_by_key(|claim| count(*claim)).unwrap_or_default()
}
