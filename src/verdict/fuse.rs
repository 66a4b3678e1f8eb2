//! The judgement: one vote a source, then the rule of the policy. Here the weighted rule, which adds log-odds in
//! integer micro-nats.

use std::cmp::{Ordering, Reverse};
use std::time::{Duration, SystemTime};

use super::evidence::{self, Claim};
use super::family::{Evidence, pool};
use super::policy::{Calibration, ConflictNumbers, Policy, Rule, Thresholds, TypeNumbers, WeightedRule};
use super::{Conflict, Contribution, PolicyRef, Term, Verdict, explain, xsoar};
use crate::finding::{Disposition, Finding, Outcome, OutcomeBody};
use crate::indicator::{Indicator, IndicatorType};

/// What a rule finds.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    pub disposition: Disposition,
    pub probability: Option<f64>,
    pub log_odds_micro: Option<i64>,
    pub conflict: Option<Conflict>,
    pub contributions: Vec<Contribution>,
    pub deciding_source: Option<String>,
}

/// Judges: what all outcomes together say of the indicator at this moment. Cannot fail, and the order of the outcomes
/// does not matter.
///
/// Of several outcomes of one source only one counts: an answer before a failure, then the newest, then the worst.
pub fn fuse(policy: &Policy, indicator: &Indicator, at: SystemTime, outcomes: Vec<Outcome>) -> Verdict {
    let outcomes = one_vote_a_source(outcomes, at);
    let judgement = match &policy.rule {
        Rule::Weighted(rule) => weighted(rule, indicator.indicator_type(), at, &outcomes),
        Rule::Xsoar => xsoar::judge(&outcomes),
    };
    Verdict {
        indicator: indicator.clone(),
        summary: explain::summary(&judgement, &outcomes),
        disposition: judgement.disposition,
        probability: judgement.probability,
        log_odds_micro: judgement.log_odds_micro,
        coverage: coverage(&outcomes),
        conflict: judgement.conflict,
        contributions: judgement.contributions,
        deciding_source: judgement.deciding_source,
        policy: PolicyRef { name: policy.name.clone(), revision: policy.revision },
        partial: outcomes.iter().any(|outcome| outcome.body.leaves_verdict_partial()),
        outcomes,
        judged_time: at,
    }
}

/// Time since the source last affirmed its claim. A clock ahead of ours makes nothing younger than now.
pub(super) fn age(outcome: &Outcome, finding: &Finding, at: SystemTime) -> Duration {
    at.duration_since(finding.observed_time.unwrap_or(outcome.time)).unwrap_or_default()
}

/// Whether the source was asked, whatever came of it.
pub(super) fn was_asked(outcome: &Outcome) -> bool {
    match outcome.body {
        OutcomeBody::Finding(_) | OutcomeBody::NoRecord | OutcomeBody::Error(_) => true,
        OutcomeBody::NotAsked(_) => false,
    }
}

fn one_vote_a_source(mut outcomes: Vec<Outcome>, at: SystemTime) -> Vec<Outcome> {
    outcomes.sort_by(|left, right| left.source.cmp(&right.source).then_with(|| by_precedence(left, right, at)));
    outcomes.dedup_by(|later, kept| later.source == kept.source);
    outcomes
}

/// Which of two outcomes of one source counts; the first of the order does. Whatever the rules leave equal is decided
/// by the whole content, so that no order of arrival can show.
fn by_precedence(left: &Outcome, right: &Outcome, at: SystemTime) -> Ordering {
    precedence(left, at).cmp(&precedence(right, at)).then_with(|| format!("{left:?}").cmp(&format!("{right:?}")))
}

/// Answers, then the newest, then the worst claim, then the least reliable and the least sure.
fn precedence(outcome: &Outcome, at: SystemTime) -> impl Ord + use<> {
    let (rank, age, claim, strength) = match &outcome.body {
        OutcomeBody::Finding(finding) => (0, age(outcome, finding, at), Some(finding.claim), finding.strength),
        OutcomeBody::NoRecord => (0, at.duration_since(outcome.time).unwrap_or_default(), None, None),
        OutcomeBody::Error(_) => (1, at.duration_since(outcome.time).unwrap_or_default(), None, None),
        OutcomeBody::NotAsked(_) => (2, at.duration_since(outcome.time).unwrap_or_default(), None, None),
    };
    (rank, age, Reverse(claim), Reverse(outcome.reliability), strength)
}

fn coverage(outcomes: &[Outcome]) -> f64 {
    let asked = outcomes.iter().filter(|outcome| was_asked(outcome)).count();
    let answered = outcomes.iter().filter(|outcome| outcome.body.is_answer()).count();
    if asked == 0 { 0.0 } else { answered as f64 / asked as f64 }
}

/// Adds prior, calibration and every source's evidence.
fn weighted(rule: &WeightedRule, indicator_type: IndicatorType, at: SystemTime, outcomes: &[Outcome]) -> Judgement {
    let numbers = rule.of_type(indicator_type);
    let asked: Vec<&Outcome> = outcomes.iter().filter(|outcome| was_asked(outcome)).collect();
    let own: Vec<i64> = asked.iter().map(|outcome| own_evidence(rule, numbers, at, outcome)).collect();
    let evidence: Vec<Evidence<'_>> =
        asked.iter().zip(&own).map(|(outcome, micro)| Evidence { family: &outcome.family, micro: *micro }).collect();
    let pooled = pool(rule.family_correlation, &evidence);
    let terms: Vec<i64> = pooled.iter().map(|micro| scaled(rule.calibration, *micro)).collect();

    let prior = evidence::logit_micro(numbers.prior);
    let correction = correction(rule.calibration, prior);
    let log_odds = prior + correction + terms.iter().sum::<i64>();
    let probability = evidence::probability(log_odds);
    let disposition = disposition(rule.thresholds, probability);

    let mut contributions = vec![
        unsourced(Term::Prior, prior, explain::prior(indicator_type, numbers.prior)),
        unsourced(Term::Calibration, correction, explain::calibration(correction)),
    ];
    for (((outcome, own), pooled), term) in asked.iter().zip(&own).zip(&pooled).zip(&terms) {
        let weights = explain::Weights { own: *own, pooled: *pooled, term: *term };
        contributions.push(sourced(numbers, at, outcome, weights, disposition));
    }
    Judgement {
        disposition,
        probability: Some(probability),
        log_odds_micro: Some(log_odds),
        conflict: Some(conflict(rule.conflict, &terms)),
        contributions,
        deciding_source: None,
    }
}

fn own_evidence(rule: &WeightedRule, numbers: &TypeNumbers, at: SystemTime, outcome: &Outcome) -> i64 {
    match &outcome.body {
        OutcomeBody::Finding(finding) => {
            let claim = Claim {
                letter: outcome.reliability,
                disposition: finding.claim,
                strength: finding.strength,
                age: age(outcome, finding, at),
            };
            evidence::weigh(rule, numbers, claim)
        }
        OutcomeBody::NoRecord | OutcomeBody::Error(_) | OutcomeBody::NotAsked(_) => 0,
    }
}

fn scaled(calibration: Calibration, micro: i64) -> i64 {
    (calibration.scale * micro as f64).round_ties_even() as i64
}

/// The term that makes prior and scaled contributions add up to the corrected log-odds.
fn correction(calibration: Calibration, prior: i64) -> i64 {
    evidence::micro(calibration.shift) + scaled(calibration, prior) - prior
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
    let supported = |micro: i64| 1.0 - (-evidence::nats(micro)).exp();
    let (weaker, stronger) = (pro.min(contra), pro.max(contra));
    Conflict {
        mass: supported(pro) * supported(contra),
        flagged: weaker >= numbers.floor_micro && weaker as f64 >= numbers.ratio * stronger as f64,
    }
}

fn unsourced(term: Term, micro_nats: i64, sentence: String) -> Contribution {
    Contribution { term, reliability: None, claim: None, strength: None, age: None, micro_nats, agrees: None, sentence }
}

fn sourced(
    numbers: &TypeNumbers,
    at: SystemTime,
    outcome: &Outcome,
    weights: explain::Weights,
    verdict: Disposition,
) -> Contribution {
    let finding = match &outcome.body {
        OutcomeBody::Finding(finding) => Some(finding),
        OutcomeBody::NoRecord | OutcomeBody::Error(_) | OutcomeBody::NotAsked(_) => None,
    };
    Contribution {
        term: Term::Source(outcome.source.clone()),
        reliability: Some(outcome.reliability),
        claim: finding.map(|finding| finding.claim),
        strength: finding.and_then(|finding| finding.strength),
        age: finding.map(|finding| age(outcome, finding, at)),
        micro_nats: weights.term,
        agrees: finding.and_then(|finding| agrees(finding.claim, verdict)),
        sentence: explain::source(numbers, at, outcome, weights),
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
