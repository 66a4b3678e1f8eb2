//! The rules that look at claims alone: `xsoar`, `worst`, `majority` and `mean`. No probability, no contributions.
//!
//! Claims of "unknown" count in none of them. `xsoar` follows the public script of Cortex XSOAR: the most reliable source
//! decides, whatever its letter, and a tie goes to the worse claim. Where a finding says what Cortex XSOAR's own integration
//! computes from the same answer, `xsoar` judges by that claim.

use std::sync::Arc;

use smallvec::SmallVec;

use super::policy::{MeanRule, Rule};
use super::report::Change;
use crate::finding::{Disposition, Outcome, OutcomeBody, Reliability};

/// A rule over the claims of outcomes. Prepared once, so that other claims of a few sources are judged without reading all.
pub(super) struct Claims<'a> {
    rule: &'a Rule,
    /// Letter and claim of each source; unknown where it says nothing.
    claims: SmallVec<[(Reliability, Disposition); 16]>,
    /// The claims that take a side, the one that decides first. Empty under a rule that counts all claims.
    ranked: SmallVec<[Rank; 16]>,
    /// How many claims there are of each disposition, by its score.
    counts: [usize; 4],
}

/// The place of a claim in the order in which sources decide: by the rule, then by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    by_rule: [u8; 2],
    source: usize,
    claim: Disposition,
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
    pub(super) fn new(rule: &'a Rule, outcomes: &[Arc<Outcome>]) -> Self {
        let claims: SmallVec<[_; 16]> = outcomes
            .iter()
            .map(|outcome| (outcome.reliability, claim_under(rule, &outcome.body).unwrap_or_default()))
            .collect();
        let mut counts = [0; 4];
        claims.iter().for_each(|(_, claim)| counts[score(*claim)] += 1);
        let mut claims = Self { rule, claims, ranked: SmallVec::new(), counts };
        claims.ranked = (0..outcomes.len()).filter_map(|source| claims.rank(source, claims.claim(source))).collect();
        claims.ranked.sort_unstable();
        claims
    }

    /// What a source says under this rule; unknown where it says nothing.
    pub(super) fn claim(&self, source: usize) -> Disposition {
        self.claims[source].1
    }

    /// The disposition if these sources had claimed something else, and what decided it.
    pub(super) fn judge_with(&self, changes: &[Change]) -> (Disposition, Decision) {
        match self.rule {
            Rule::Xsoar | Rule::Worst => self.first(changes),
            Rule::Majority => {
                let mut counts = self.counts;
                for change in changes {
                    counts[score(self.claim(change.source))] -= 1;
                    counts[score(change.claim)] += 1;
                }
                (majority(&counts), Decision::default())
            }
            Rule::Mean(rule) => self.mean(rule, changes),
            Rule::Weighted(_) => (Disposition::Unknown, Decision::default()),
        }
    }

    /// Where a claim of this source stands among those that may decide; `None` if it cannot.
    fn rank(&self, source: usize, claim: Disposition) -> Option<Rank> {
        let (reliability, harmless) = (self.claims[source].0 as u8, u8::MAX - claim.dbot_score());
        let by_rule = match self.rule {
            Rule::Xsoar => [reliability, harmless],
            Rule::Worst => [harmless, reliability],
            Rule::Majority | Rule::Mean(_) | Rule::Weighted(_) => return None,
        };
        (claim != Disposition::Unknown).then_some(Rank { by_rule, source, claim })
    }

    /// The claim of the source that comes first.
    fn first(&self, changes: &[Change]) -> (Disposition, Decision) {
        let is_changed = |rank: &&Rank| changes.iter().any(|change| change.source == rank.source);
        let unchanged = self.ranked.iter().find(|rank| !is_changed(rank)).copied();
        let changed = changes.iter().filter_map(|change| self.rank(change.source, change.claim));
        match changed.chain(unchanged).min() {
            Some(first) => (first.claim, Decision { source: Some(first.source), mean: None }),
            None => (Disposition::Unknown, Decision::default()),
        }
    }

    fn mean(&self, rule: &MeanRule, changes: &[Change]) -> (Disposition, Decision) {
        let (mut sum, mut total) = (0.0, 0.0);
        for (source, (reliability, claim)) in self.claims.iter().enumerate() {
            let claim = changes.iter().find(|change| change.source == source).map_or(*claim, |change| change.claim);
            if claim == Disposition::Unknown {
                continue;
            }
            let weight = rule.weights.of(*reliability);
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
        let leader = majority(&self.counts);
        [Disposition::Benign, Disposition::Suspicious, Disposition::Malicious].into_iter().any(|other| {
            let mut counts = self.counts;
            counts[score(other)] += further;
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

fn score(claim: Disposition) -> usize {
    usize::from(claim.dbot_score())
}

/// The most frequent claim; a tie goes to the worse one, and no claim to unknown.
fn majority(counts: &[usize; 4]) -> Disposition {
    let count = |claim: Disposition| counts[score(claim)];
    let sides = [Disposition::Benign, Disposition::Suspicious, Disposition::Malicious];
    // Of equals `max_by_key` takes the last, which is the worst.
    sides.into_iter().filter(|claim| count(*claim) > 0).max_by_key(|claim| count(*claim)).unwrap_or_default()
}
