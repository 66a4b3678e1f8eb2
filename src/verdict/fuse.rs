//! Fusion: reduces the outcomes to one per source, then applies the policy's rule. The weighted rule adds log-odds in
//! whole micro-nats.
//!
//! Formulas: `docs/fusion.md`, "The sum" and "Contradiction".

use std::cmp::{Ordering, Reverse};
use std::time::{Duration, SystemTime};

use super::evidence::{self, logit_micro, micro, nats};
use super::explain::{self, Evidence, Weakness};
use super::family::pool;
use super::policy::{Calibration, ConflictNumbers, Policy, Rule, Thresholds, WeightedRule};
use super::{Conflict, Contribution, PolicyRef, Term, Verdict, xsoar};
use crate::finding::{Disposition, Finding, Outcome, OutcomeBody};
use crate::indicator::Indicator;

/// Fuses all outcomes into a verdict about the indicator at this time. Cannot fail, and does not depend on the order of
/// the outcomes.
///
/// Of several outcomes of one source only one counts: an answer takes precedence over a failure, then the newest, then
/// the worst.
pub fn fuse(policy: &Policy, indicator: &Indicator, at: SystemTime, outcomes: Vec<Outcome>) -> Verdict {
    let outcomes = one_outcome_per_source(outcomes, at);
    let mut verdict = Verdict {
        indicator: indicator.clone(),
        disposition: Disposition::Unknown,
        summary: String::new(),
        probability: None,
        log_odds_micro: None,
        coverage: coverage(&outcomes),
        conflict: None,
        contributions: Vec::new(),
        deciding_source: None,
        partial: outcomes.iter().any(|outcome| outcome.body.leaves_verdict_partial()),
        outcomes,
        policy: PolicyRef { name: policy.name.clone(), revision: policy.revision },
        judged_time: at,
    };
    let weaknesses = match &policy.rule {
        Rule::Weighted(rule) => judge(rule, &mut verdict),
        Rule::Xsoar => {
            xsoar::judge(&mut verdict);
            Vec::new()
        }
    };
    verdict.summary = explain::summary(&verdict, &weaknesses);
    verdict
}

/// Time since the source last affirmed its claim; zero if its clock is ahead of ours.
fn age(outcome: &Outcome, finding: &Finding, at: SystemTime) -> Duration {
    at.duration_since(finding.observed_time.unwrap_or(outcome.time)).unwrap_or_default()
}

fn one_outcome_per_source(mut outcomes: Vec<Outcome>, at: SystemTime) -> Vec<Outcome> {
    outcomes.sort_by(|left, right| left.source.cmp(&right.source).then_with(|| by_precedence(left, right, at)));
    outcomes.dedup_by(|later, first| later.source == first.source);
    outcomes
}

/// Orders two outcomes of one source; the lesser one counts. If the rules leave them equal, their whole content
/// decides, so that the result does not depend on the order of arrival.
fn by_precedence(left: &Outcome, right: &Outcome, at: SystemTime) -> Ordering {
    precedence(left, at).cmp(&precedence(right, at)).then_with(|| format!("{left:?}").cmp(&format!("{right:?}")))
}

/// The rules: answers first, then the newest, then the worst claim, then the least reliable and the least strong.
fn precedence(outcome: &Outcome, at: SystemTime) -> impl Ord + use<> {
    let rank = match outcome.body {
        OutcomeBody::Finding(_) | OutcomeBody::NoRecord => 0,
        OutcomeBody::Error(_) => 1,
        OutcomeBody::NotAsked(_) => 2,
    };
    let finding = outcome.body.finding();
    let age = match finding {
        Some(finding) => age(outcome, finding, at),
        None => at.duration_since(outcome.time).unwrap_or_default(),
    };
    let strength = finding.and_then(|finding| finding.strength);
    (rank, age, Reverse(outcome.body.claim()), Reverse(outcome.reliability), strength)
}

fn coverage(outcomes: &[Outcome]) -> f64 {
    let asked = outcomes.iter().filter(|outcome| outcome.body.was_attempted()).count();
    let answered = outcomes.iter().filter(|outcome| outcome.body.is_answer()).count();
    if asked == 0 { 0.0 } else { answered as f64 / asked as f64 }
}

/// The weighted rule: adds prior, calibration and the evidence of every source that was asked. Returns the claims that
/// count for less than they seem.
fn judge(rule: &WeightedRule, verdict: &mut Verdict) -> Vec<Weakness> {
    let (indicator_type, at) = (verdict.indicator.indicator_type(), verdict.judged_time);
    let numbers = rule.of_type(indicator_type);
    let asked: Vec<&Outcome> = verdict.outcomes.iter().filter(|outcome| outcome.body.was_attempted()).collect();
    let weigh = |outcome: &Outcome, age: &dyn Fn(&Finding) -> Duration| match outcome.body.finding() {
        Some(finding) => evidence::of_finding(rule, numbers, outcome.reliability, finding, age(finding)),
        None => 0,
    };
    let own_evidence = |outcome: &Outcome| weigh(outcome, &|finding| age(outcome, finding, at));
    let own: Vec<_> = asked.iter().map(|outcome| (&outcome.family, own_evidence(outcome))).collect();
    let pooled = pool(rule.family_correlation, &own);
    let terms: Vec<i64> = pooled.iter().map(|micro| scaled(rule.calibration, *micro)).collect();

    let prior = logit_micro(numbers.prior);
    let calibration = calibration_term(rule.calibration, prior);
    let log_odds = prior + calibration + terms.iter().sum::<i64>();
    let probability = evidence::probability(log_odds);
    let disposition = disposition(rule.thresholds, probability);

    let mut contributions = vec![
        unsourced(Term::Prior, prior, explain::prior(indicator_type, numbers.prior)),
        unsourced(Term::Calibration, calibration, explain::calibration(calibration)),
    ];
    let mut weaknesses = Vec::new();
    for (((outcome, (_, own)), pooled), term) in asked.iter().zip(&own).zip(&pooled).zip(&terms) {
        let evidence = Evidence { fresh: weigh(outcome, &|_| Duration::ZERO), own: *own, pooled: *pooled };
        let mut contribution = sourced(outcome, *term, disposition, at);
        contribution.sentence = explain::source(outcome, &contribution, evidence);
        contributions.push(contribution);
        weaknesses.extend(explain::weakness(outcome, evidence));
    }
    verdict.disposition = disposition;
    verdict.probability = Some(probability);
    verdict.log_odds_micro = Some(log_odds);
    verdict.conflict = Some(conflict(rule.conflict, &terms));
    verdict.contributions = contributions;
    weaknesses
}

fn scaled(calibration: Calibration, micro: i64) -> i64 {
    (calibration.scale * micro as f64).round_ties_even() as i64
}

/// The calibration term, which makes prior and scaled contributions add up to the calibrated log-odds.
fn calibration_term(calibration: Calibration, prior: i64) -> i64 {
    micro(calibration.shift) + scaled(calibration, prior) - prior
}

fn disposition(thresholds: Thresholds, probability: f64) -> Disposition {
    if probability >= thresholds.malicious {
        Disposition::Malicious
    } else if probability >= thresholds.suspicious {
        Disposition::Suspicious
    } else if probability <= thresholds.benign {
        Disposition::Benign
    } else {
        Disposition::Unknown
    }
}

fn conflict(numbers: ConflictNumbers, terms: &[i64]) -> Conflict {
    let pro: i64 = terms.iter().filter(|term| **term > 0).sum();
    let contra: i64 = -terms.iter().filter(|term| **term < 0).sum::<i64>();
    let support = |micro: i64| 1.0 - (-nats(micro)).exp();
    let (weaker, stronger) = (pro.min(contra), pro.max(contra));
    Conflict {
        mass: support(pro) * support(contra),
        flagged: weaker >= numbers.floor_micro && weaker as f64 >= numbers.ratio * stronger as f64,
    }
}

fn unsourced(term: Term, micro_nats: i64, sentence: String) -> Contribution {
    Contribution { term, reliability: None, claim: None, strength: None, age: None, micro_nats, agrees: None, sentence }
}

/// The contribution of a source, without its sentence.
fn sourced(outcome: &Outcome, micro_nats: i64, verdict: Disposition, at: SystemTime) -> Contribution {
    let finding = outcome.body.finding();
    Contribution {
        reliability: Some(outcome.reliability),
        claim: finding.map(|finding| finding.claim),
        strength: finding.and_then(|finding| finding.strength),
        age: finding.map(|finding| age(outcome, finding, at)),
        agrees: finding.and_then(|finding| agrees(finding.claim, verdict)),
        ..unsourced(Term::Source(outcome.source.clone()), micro_nats, String::new())
    }
}

fn agrees(claim: Disposition, verdict: Disposition) -> Option<bool> {
    Some(points_to_harm(claim)? == points_to_harm(verdict)?)
}

fn points_to_harm(disposition: Disposition) -> Option<bool> {
    match disposition {
        Disposition::Unknown => None,
        Disposition::Benign => Some(false),
        Disposition::Suspicious | Disposition::Malicious => Some(true),
    }
}
