//! A policy applied to one outcome a source, as numbers: the disposition as it is, and as it would be if some sources
//! reported something else. What the explanation of a verdict asks, it asks here.

use std::sync::Arc;
use std::time::SystemTime;

use super::claims::Claims;
use super::policy::{Policy, Rule};
use super::report::{Change, Report};
use super::weighted::Weighted;
use crate::finding::{Disposition, Outcome, OutcomeBody};
use crate::indicator::IndicatorType;

/// A policy applied to outcomes, one a source, in order of name.
pub(super) struct Judge<'a> {
    pub(super) outcomes: &'a [Arc<Outcome>],
    pub(super) model: Model<'a>,
    minimum_coverage: f64,
    coverage: Coverage,
}

/// The policy's rule over these outcomes.
pub(super) enum Model<'a> {
    Weighted(Weighted<'a>),
    Claims(Claims<'a>),
}

/// How many sources were asked, and how many of them answered.
#[derive(Clone, Copy, Default)]
pub(super) struct Coverage {
    asked: usize,
    answered: usize,
}

/// What a policy makes of outcomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Assessment {
    pub(super) disposition: Disposition,
    /// Whether the disposition is unknown only because too few of the asked sources answered.
    pub(super) lacks_coverage: bool,
    /// Log-odds in micro-nats, under a rule that has them.
    pub(super) log_odds: Option<i64>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        policy: &'a Policy,
        indicator_type: IndicatorType,
        at: SystemTime,
        outcomes: &'a [Arc<Outcome>],
    ) -> Self {
        let model = match &policy.rule {
            Rule::Weighted(rule) => Model::Weighted(Weighted::new(rule, indicator_type, at, outcomes)),
            Rule::Xsoar | Rule::Worst | Rule::Majority | Rule::Mean(_) => {
                Model::Claims(Claims::new(&policy.rule, outcomes))
            }
        };
        Self { outcomes, model, minimum_coverage: policy.minimum_coverage, coverage: Coverage::of(outcomes) }
    }

    /// The assessment on the outcomes as they are.
    pub(super) fn judge(&self) -> Assessment {
        self.judge_with(&[])
    }

    /// The assessment if these sources had reported something else. A source that was silent has answered then.
    pub(super) fn judge_with(&self, changes: &[Change]) -> Assessment {
        let mut coverage = self.coverage;
        for change in changes {
            let body = &self.outcomes[change.source].body;
            coverage.asked += usize::from(!body.was_attempted());
            coverage.answered += usize::from(!body.is_answer());
        }
        self.judge_at(coverage, changes)
    }

    /// The assessment without one source, as if it had not been asked.
    pub(super) fn judge_without(&self, source: usize) -> Assessment {
        let body = &self.outcomes[source].body;
        let mut coverage = self.coverage;
        coverage.asked -= usize::from(body.was_attempted());
        coverage.answered -= usize::from(body.is_answer());
        self.judge_at(coverage, &[Change { source, claim: Disposition::Unknown, micro: 0 }])
    }

    /// The assessment if these sources were asked and failed.
    pub(super) fn judge_failing(&self, sources: &[usize]) -> Assessment {
        let mut coverage = self.coverage;
        coverage.asked += sources.iter().filter(|source| !self.outcomes[**source].body.was_attempted()).count();
        self.judge_at(coverage, &[])
    }

    fn judge_at(&self, coverage: Coverage, changes: &[Change]) -> Assessment {
        let (disposition, log_odds) = match &self.model {
            Model::Weighted(model) => {
                let log_odds = model.log_odds_with(changes);
                (model.disposition(log_odds), Some(log_odds))
            }
            Model::Claims(model) => (model.judge_with(changes).0, None),
        };
        let lacks_coverage = disposition != Disposition::Unknown && coverage.share() < self.minimum_coverage;
        let disposition = if lacks_coverage { Disposition::Unknown } else { disposition };
        Assessment { disposition, lacks_coverage, log_odds }
    }

    /// Whether too few answers alone can make a verdict unknown.
    pub(super) fn has_minimum_coverage(&self) -> bool {
        self.minimum_coverage > 0.0
    }

    /// The share of the asked sources that answered.
    pub(super) fn coverage(&self) -> f64 {
        self.coverage.share()
    }

    /// What this source would weigh with another claim: as strong and as old as the one that it made, else fresh and full.
    pub(super) fn change(&self, source: usize, claim: Disposition) -> Change {
        let micro = match &self.model {
            Model::Weighted(model) => model.own_evidence(source, Report::of_claim(claim)),
            Model::Claims(_) => 0,
        };
        Change { source, claim, micro }
    }

    /// What the source says under this rule; `None` where it said nothing.
    pub(super) fn claim(&self, source: usize) -> Option<Disposition> {
        let body = &self.outcomes[source].body;
        match &self.model {
            Model::Weighted(_) => body.claim(),
            Model::Claims(model) => body.finding().map(|_| model.claim(source)),
        }
    }
}

impl Coverage {
    fn of(outcomes: &[Arc<Outcome>]) -> Self {
        let count = |is: fn(&OutcomeBody) -> bool| outcomes.iter().filter(|outcome| is(&outcome.body)).count();
        Self { asked: count(OutcomeBody::was_attempted), answered: count(OutcomeBody::is_answer) }
    }

    fn share(self) -> f64 {
        if self.asked == 0 { 0.0 } else { self.answered as f64 / self.asked as f64 }
    }
}
