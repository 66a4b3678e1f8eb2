//! Fusion: one outcome a source, then the policy's rule.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;
use std::time::SystemTime;

use super::analysis::analyze;
use super::judge::{Judge, Model};
use super::policy::Policy;
use super::report::age_of_finding;
use super::weighted::Weighted;
use super::{Analysis, Contribution, PolicyRef, Term, Verdict, evidence};
use crate::finding::{Disposition, Outcome, OutcomeBody};
use crate::indicator::Indicator;

/// What all outcomes together say of the indicator at this time, with what would change it. Cannot fail, and the order of
/// the outcomes does not matter.
///
/// Of several outcomes of one source only one counts: an answer before a failure, then the newest, then the worst.
pub fn fuse(policy: &Policy, indicator: &Indicator, at: SystemTime, outcomes: Vec<impl Into<Arc<Outcome>>>) -> Verdict {
    fused(policy, indicator, at, outcomes, analyze)
}

/// As [`fuse`], without what would change it.
pub fn fuse_without_analysis(
    policy: &Policy,
    indicator: &Indicator,
    at: SystemTime,
    outcomes: Vec<impl Into<Arc<Outcome>>>,
) -> Verdict {
    fused(policy, indicator, at, outcomes, |_| Analysis::default())
}

fn fused(
    policy: &Policy,
    indicator: &Indicator,
    at: SystemTime,
    outcomes: Vec<impl Into<Arc<Outcome>>>,
    analyze: fn(&Judge<'_>) -> Analysis,
) -> Verdict {
    let outcomes = one_outcome_per_source(outcomes.into_iter().map(Into::into), at);
    let judge = Judge::new(policy, indicator.indicator_type(), at, &outcomes);
    let assessment = judge.judge();
    let mut verdict = Verdict {
        indicator: indicator.clone(),
        disposition: assessment.disposition,
        sources_disposition: assessment.disposition,
        pin: None,
        feedback: Vec::new(),
        lacks_coverage: assessment.lacks_coverage,
        probability: assessment.log_odds.map(evidence::probability),
        mean: None,
        log_odds_micro: assessment.log_odds,
        coverage: judge.coverage(),
        conflict: None,
        contributions: Vec::new(),
        deciding_source: None,
        partial: outcomes.iter().any(|outcome| outcome.body.leaves_verdict_partial()),
        analysis: analyze(&judge),
        outcomes: Vec::new(),
        policy: PolicyRef { name: policy.name.clone(), revision: policy.revision, rule: policy.rule.kind() },
        judged_time: at,
    };
    match &judge.model {
        Model::Weighted(model) => {
            verdict.conflict = Some(model.conflict());
            verdict.contributions = contributions(model, &outcomes, assessment.disposition);
        }
        Model::Claims(model) => {
            let (_, decision) = model.judge_with(&[]);
            verdict.deciding_source = decision.source.map(|source| outcomes[source].source.clone());
            verdict.mean = decision.mean;
        }
    }
    drop(judge);
    verdict.outcomes = outcomes;
    verdict
}

pub(super) fn one_outcome_per_source(
    outcomes: impl Iterator<Item = Arc<Outcome>>,
    at: SystemTime,
) -> Vec<Arc<Outcome>> {
    let mut outcomes: Vec<_> = outcomes.collect();
    outcomes.sort_by(|left, right| left.source.cmp(&right.source).then_with(|| by_precedence(left, right, at)));
    outcomes.dedup_by(|later, first| later.source == first.source);
    outcomes
}

/// Which of two outcomes of one source counts: the lesser. What the rules leave equal is decided by the whole content,
/// so that the order of arrival cannot show.
fn by_precedence(left: &Outcome, right: &Outcome, at: SystemTime) -> Ordering {
    precedence(left, at).cmp(&precedence(right, at)).then_with(|| format!("{left:?}").cmp(&format!("{right:?}")))
}

/// Answers, then the newest, then the worst claim, then the least reliable and the least sure.
fn precedence(outcome: &Outcome, at: SystemTime) -> impl Ord + use<> {
    let rank = match outcome.body {
        OutcomeBody::Finding(_) | OutcomeBody::NoRecord => 0,
        OutcomeBody::Error(_) => 1,
        OutcomeBody::NotAsked(_) => 2,
    };
    let finding = outcome.body.finding();
    let age = match finding {
        Some(finding) => age_of_finding(outcome, finding, at),
        None => at.duration_since(outcome.time).unwrap_or_default(),
    };
    let strength = finding.and_then(|finding| finding.strength);
    (rank, age, Reverse(outcome.body.claim()), Reverse(outcome.reliability), strength)
}

/// The terms of the sum: prior, calibration, then each source that was asked.
fn contributions(model: &Weighted<'_>, outcomes: &[Arc<Outcome>], verdict: Disposition) -> Vec<Contribution> {
    let mut contributions = Vec::with_capacity(outcomes.len() + 2);
    contributions.push(Contribution::without_source(Term::Prior, model.prior));
    contributions.push(Contribution::without_source(Term::Calibration, model.calibration));
    for (source, outcome) in outcomes.iter().enumerate().filter(|(_, outcome)| outcome.body.was_attempted()) {
        let finding = outcome.body.finding();
        contributions.push(Contribution {
            term: Term::Source(outcome.source.clone()),
            reliability: Some(outcome.reliability),
            claim: finding.map(|finding| finding.claim),
            strength: finding.and_then(|finding| finding.strength),
            age: finding.map(|_| model.age(source)),
            micro_nats: model.term(source),
            agrees: finding.and_then(|finding| agrees(finding.claim, verdict)),
            weighing: Some(model.weighing(source)),
        });
    }
    contributions
}

/// Whether a claim points the same way as a verdict; `None` where either takes no side.
pub(super) fn agrees(claim: Disposition, verdict: Disposition) -> Option<bool> {
    Some(points_to_harm(claim)? == points_to_harm(verdict)?)
}

fn points_to_harm(disposition: Disposition) -> Option<bool> {
    match disposition {
        Disposition::Unknown => None,
        Disposition::Benign => Some(false),
        Disposition::Suspicious | Disposition::Malicious => Some(true),
    }
}
