//! What would change a verdict: each source left out, the smallest set of other reports, the distance to each threshold,
//! and whether a missing answer could still change it.
//!
//! Definitions: `docs/fusion.md`, "What would change it".

use super::change::{Analysis, LeaveOneOut, Reach};
use super::judge::{Judge, Model};
use super::report::Change;
use super::weighted::Weighted;
use super::{flips, margins};
use crate::finding::{Disposition, Strength};

/// A source that has given no answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    /// Its place among the outcomes.
    pub(super) source: usize,
    /// The greatest strength that its answer can have.
    pub(super) greatest_strength: Strength,
}

pub(super) fn analyze(judge: &Judge<'_>) -> Analysis {
    let missing: Vec<usize> =
        (0..judge.outcomes.len()).filter(|source| judge.outcomes[*source].body.leaves_verdict_partial()).collect();
    Analysis {
        leave_one_out: leave_one_out(judge),
        flips: flips::flips(judge, &missing),
        margins: margins::margins(judge),
        // Of an outcome alone nobody knows how sure its source can be.
        reach: reach(
            judge,
            &missing.into_iter().map(|source| Missing { source, greatest_strength: Strength::MAX }).collect::<Vec<_>>(),
        ),
    }
}

fn leave_one_out(judge: &Judge<'_>) -> Vec<LeaveOneOut> {
    let with = judge.judge();
    let answered = (0..judge.outcomes.len()).filter(|source| judge.outcomes[*source].body.is_answer());
    answered
        .map(|source| {
            let without = judge.judge_without(source);
            LeaveOneOut {
                source: judge.outcomes[source].source.clone(),
                micro_nats: with.log_odds.zip(without.log_odds).map(|(with, without)| with - without),
                disposition: without.disposition,
            }
        })
        .collect()
}

/// What answers of these sources, which have given none, could still change. Exact: no answer does what is ruled out here
/// (`docs/fusion.md`, "What would change it").
pub(super) fn reach(judge: &Judge<'_>, missing: &[Missing]) -> Reach {
    let sources = missing.iter().filter(|missing| can_change(judge, &[**missing]));
    Reach {
        can_change: can_change(judge, missing),
        sources: sources.map(|missing| judge.outcomes[missing.source].source.clone()).collect(),
    }
}

/// Whether answers of these sources together, or their failures, could change the disposition.
pub(super) fn can_change(judge: &Judge<'_>, missing: &[Missing]) -> bool {
    let now = judge.judge().disposition;
    if missing.is_empty() {
        return false;
    }
    // Were they asked and failed, coverage would fall.
    let sources: Vec<usize> = missing.iter().map(|missing| missing.source).collect();
    if judge.judge_failing(&sources).disposition != now {
        return true;
    }
    match &judge.model {
        Model::Claims(model) if model.is_majority() => {
            model.majority_can_change(sources.len()) || extremes(judge, missing).iter().any(|then| *then != now)
        }
        Model::Claims(_) | Model::Weighted(_) => extremes(judge, missing).iter().any(|then| *then != now),
    }
}

/// The dispositions if all these sources spoke as much as they can for benign, and as much as they can for malicious.
/// Whatever they say lies between, since every rule but the majority is monotone.
fn extremes(judge: &Judge<'_>, missing: &[Missing]) -> [Disposition; 2] {
    [Disposition::Benign, Disposition::Malicious].map(|claim| {
        let change = |missing: &Missing| {
            let micro = match &judge.model {
                Model::Weighted(model) => extreme(model, *missing, claim),
                Model::Claims(_) => 0,
            };
            Change { source: missing.source, claim, micro }
        };
        let changes: Vec<_> = missing.iter().map(change).collect();
        let assessment = judge.judge_with(&changes);
        match (&judge.model, assessment.log_odds) {
            (Model::Weighted(model), Some(log_odds)) if !assessment.lacks_coverage && model.rounding() > 0 => {
                let widened = if claim == Disposition::Benign { -model.rounding() } else { model.rounding() };
                model.disposition(log_odds + widened)
            }
            _ => assessment.disposition,
        }
    })
}

fn extreme(model: &Weighted<'_>, missing: Missing, claim: Disposition) -> i64 {
    let (least, most) = model.bounds(missing.source, missing.greatest_strength);
    if claim == Disposition::Benign { least } else { most }
}
