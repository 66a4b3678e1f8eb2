//! What sources that have not answered could still do to a verdict: what decides whom to ask next.
//!
//! Formulas: `docs/fusion.md`, "What would change it", and `docs/planning.md`.

use std::sync::Arc;
use std::time::SystemTime;

use super::Reach;
use super::analysis::{self, Missing, can_change};
use super::evidence::{Weigher, scaled};
use super::fuse::one_outcome_per_source;
use super::judge::Judge;
use super::policy::{Policy, Rule};
use crate::finding::{
    Disposition, Family, Finding, NotAsked, NotAskedReason, Outcome, OutcomeBody, Reliability, Strength,
};
use crate::indicator::{Indicator, IndicatorType};

/// Swing of a source under a rule that counts all sources alike.
const EQUAL_SWING: i64 = 1_000_000;

/// A source whose answer has not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingSource {
    /// Its name, without `sources/`.
    pub name: String,
    /// Its reliability.
    pub reliability: Reliability,
    /// The greatest strength that its answer can have.
    pub greatest_strength: Strength,
    /// The sources of which it is not independent.
    pub family: Family,
}

/// Whether answers that are still to come, or that are missing among the outcomes, could change what the outcomes say.
pub fn reach(
    policy: &Policy,
    indicator: &Indicator,
    at: SystemTime,
    outcomes: Vec<impl Into<Arc<Outcome>>>,
    pending: &[PendingSource],
) -> Reach {
    let silent = pending.iter().map(|source| silent(source, at));
    let outcomes = one_outcome_per_source(outcomes.into_iter().map(Into::into).chain(silent), at);
    let judge = Judge::new(policy, indicator.indicator_type(), at, &outcomes);
    analysis::reach(&judge, &missing(&outcomes, pending))
}

/// A verdict in the making: the outcomes so far, and the policies that are to judge them.
#[derive(Clone, Debug)]
pub struct Prospect<'a> {
    policies: &'a [&'a Policy],
    indicator_type: IndicatorType,
    at: SystemTime,
    outcomes: Vec<Arc<Outcome>>,
}

impl<'a> Prospect<'a> {
    /// The verdict of these outcomes at this time. The first policy is the one that gives the verdict; the others judge the
    /// same outcomes beside it.
    pub fn new(
        policies: &'a [&'a Policy],
        indicator_type: IndicatorType,
        at: SystemTime,
        outcomes: impl IntoIterator<Item: Into<Arc<Outcome>>>,
    ) -> Self {
        Self {
            policies,
            indicator_type,
            at,
            outcomes: one_outcome_per_source(outcomes.into_iter().map(Into::into), at),
        }
    }

    /// What the first policy makes of the outcomes so far.
    pub fn disposition(&self) -> Disposition {
        let judge = |policy| Judge::new(policy, self.indicator_type, self.at, &self.outcomes).judge();
        self.policies.first().map(|policy| judge(policy).disposition).unwrap_or_default()
    }

    /// Whether nothing that these sources answer, and no failure of theirs, changes what any of the policies says.
    pub fn is_settled(&self, pending: &[&PendingSource]) -> bool {
        let silent = pending.iter().map(|source| silent(source, self.at));
        let outcomes = one_outcome_per_source(self.outcomes.iter().cloned().chain(silent), self.at);
        let missing = missing(&outcomes, pending.iter().copied());
        let mut policies = self.policies.iter();
        policies.all(|policy| !can_change(&Judge::new(policy, self.indicator_type, self.at, &outcomes), &missing))
    }

    /// Whether there are answers of the sources in `asked` after which those in `rest` could change nothing: if all said
    /// malicious, or all benign.
    pub fn could_settle(&self, asked: &[&PendingSource], rest: &[&PendingSource]) -> bool {
        [Disposition::Malicious, Disposition::Benign].into_iter().any(|claim| {
            let mut then = self.clone();
            then.outcomes.extend(asked.iter().map(|source| claiming(source, claim, self.at)));
            then.is_settled(rest)
        })
    }

    /// How far the possible answers of a source move the verdict: under the weighted rule from its least to its greatest
    /// evidence, in micro-nats; under the others the weight that they give its letter. Only swings under one policy can be
    /// compared.
    pub fn swing(&self, source: &PendingSource) -> i64 {
        match self.policies.first().map(|policy| &policy.rule) {
            Some(Rule::Weighted(rule)) => {
                let numbers = rule.of_type(self.indicator_type);
                let (least, most) =
                    Weigher::new(rule, numbers, &source.name, source.reliability).bounds(source.greatest_strength);
                scaled(rule.calibration, most) - scaled(rule.calibration, least)
            }
            Some(Rule::Xsoar) => i64::from(u8::MAX) - source.reliability as i64,
            Some(Rule::Mean(rule)) => (rule.weights.of(source.reliability) * EQUAL_SWING as f64) as i64,
            Some(Rule::Worst | Rule::Majority) | None => EQUAL_SWING,
        }
    }

    /// Whether a source without swing may matter, since the share of sources that answer counts.
    pub fn counts_answers(&self) -> bool {
        self.policies.iter().any(|policy| policy.minimum_coverage > 0.0)
    }
}

/// The places of the pending sources among the outcomes.
fn missing<'s>(outcomes: &[Arc<Outcome>], pending: impl IntoIterator<Item = &'s PendingSource>) -> Vec<Missing> {
    let place = |pending: &PendingSource| {
        let source = outcomes.iter().position(|outcome| outcome.source == pending.name)?;
        Some(Missing { source, greatest_strength: pending.greatest_strength })
    };
    pending.into_iter().filter_map(place).collect()
}

/// A source whose answer has not come, as an outcome.
fn silent(source: &PendingSource, at: SystemTime) -> Arc<Outcome> {
    with_body(source, at, OutcomeBody::NotAsked(NotAsked::new(NotAskedReason::Deadline, "")))
}

fn claiming(source: &PendingSource, claim: Disposition, at: SystemTime) -> Arc<Outcome> {
    with_body(source, at, OutcomeBody::Finding(Finding::new(claim, None, "")))
}

fn with_body(source: &PendingSource, at: SystemTime, body: OutcomeBody) -> Arc<Outcome> {
    Arc::new(Outcome {
        source: source.name.clone(),
        kind: String::new(),
        reliability: source.reliability,
        family: source.family.clone(),
        time: at,
        body,
    })
}
