//! A verdict as JSON: every member, numbers exact, times in RFC 3339, absent values as `null`.

use std::time::Duration;

use serde_json::{Value, json};

use super::rfc3339;
use crate::finding::{Fact, FactValue, Family, Finding, NotAsked, Outcome, OutcomeBody, Relation, SourceError};
use crate::indicator::Indicator;
use crate::verdict::{Contribution, Term, Verdict};

/// The verdict as a JSON object. Durations are in seconds, evidence in micro-nats, shares and probabilities 0 to 1.
///
/// Whole numbers beyond 2^53, which JavaScript cannot hold, can occur in facts only.
pub fn verdict_to_json(verdict: &Verdict) -> Value {
    json!({
        "indicator": indicator(&verdict.indicator),
        "disposition": verdict.disposition.as_str(),
        "dbot_score": verdict.disposition.dbot_score(),
        "summary": verdict.summary,
        "probability": verdict.probability,
        "log_odds_micro": verdict.log_odds_micro,
        "coverage": verdict.coverage,
        "conflict": verdict.conflict.map(|conflict| json!({ "mass": conflict.mass, "flagged": conflict.flagged })),
        "contributions": verdict.contributions.iter().map(contribution).collect::<Value>(),
        "deciding_source": verdict.deciding_source,
        "outcomes": verdict.outcomes.iter().map(outcome).collect::<Value>(),
        "policy": { "name": verdict.policy.name, "revision": verdict.policy.revision },
        "partial": verdict.partial,
        "judged_time": rfc3339(verdict.judged_time),
    })
}

fn indicator(indicator: &Indicator) -> Value {
    json!({
        "type": indicator.indicator_type().as_str(),
        "form": indicator.form().as_str(),
        "value": indicator.redacted(),
    })
}

fn contribution(contribution: &Contribution) -> Value {
    let source = match &contribution.term {
        Term::Prior | Term::Calibration => None,
        Term::Source(name) => Some(name),
    };
    json!({
        "term": <&str>::from(&contribution.term),
        "source": source,
        "reliability": contribution.reliability.map(|letter| letter.as_str()),
        "claim": contribution.claim.map(|claim| claim.as_str()),
        "strength": contribution.strength.map(|strength| strength.get()),
        "age_seconds": contribution.age.map(|age| age.as_secs()),
        "micro_nats": contribution.micro_nats,
        "agrees": contribution.agrees,
        "sentence": contribution.sentence,
    })
}

/// At most one of `finding`, `error` and `not_asked` is an object; for "no record" none is. `result` names which.
fn outcome(outcome: &Outcome) -> Value {
    let (error, not_asked) = match &outcome.body {
        OutcomeBody::Finding(_) | OutcomeBody::NoRecord => (None, None),
        OutcomeBody::Error(error) => (Some(source_error(error)), None),
        OutcomeBody::NotAsked(not_asked) => (None, Some(self::not_asked(not_asked))),
    };
    json!({
        "source": outcome.source,
        "kind": outcome.kind,
        "reliability": outcome.reliability.as_str(),
        "family": family(&outcome.family),
        "time": rfc3339(outcome.time),
        "result": outcome.body.as_str(),
        "finding": outcome.body.finding().map(finding),
        "error": error,
        "not_asked": not_asked,
    })
}

/// The delay is rounded up, so that nobody who waits that long asks too early.
fn source_error(error: &SourceError) -> Value {
    let seconds = |delay: Duration| delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
    json!({
        "kind": error.kind.as_str(),
        "detail": error.detail,
        "retry_after_seconds": error.retry_after.map(seconds),
    })
}

fn not_asked(not_asked: &NotAsked) -> Value {
    json!({
        "reason": not_asked.reason.as_str(),
        "detail": not_asked.detail,
        "until": not_asked.until.map(rfc3339),
    })
}

fn family(family: &Family) -> Value {
    json!({
        "name": family.name,
        "basis": <&str>::from(family.basis),
        "independence_key": family.independence_key,
    })
}

fn finding(finding: &Finding) -> Value {
    json!({
        "claim": finding.claim.as_str(),
        "strength": finding.strength.map(|strength| strength.get()),
        "observed_time": finding.observed_time.map(rfc3339),
        "reasons": finding.reasons,
        "facts": finding.facts.iter().map(fact).collect::<Value>(),
        "relations": finding.relations.iter().map(relation).collect::<Value>(),
        "tags": finding.tags,
        "permalink": finding.permalink,
    })
}

/// The type is written beside the value, since JSON has no times and does not tell integers from other numbers.
fn fact(fact: &Fact) -> Value {
    let (kind, value) = match &fact.value {
        FactValue::Text(text) => ("text", json!(text)),
        FactValue::Integer(number) => ("integer", json!(number)),
        FactValue::Number(number) => ("number", json!(number)),
        FactValue::Flag(flag) => ("flag", json!(flag)),
        FactValue::Time(time) => ("time", json!(rfc3339(*time))),
        FactValue::List(list) => ("list", json!(list)),
    };
    json!({ "name": fact.name, "type": kind, "value": value })
}

fn relation(relation: &Relation) -> Value {
    json!({ "relation": relation.relation, "indicator": indicator(&relation.indicator) })
}

#[cfg(test)]
mod tests {
    use super::super::sample::{compatible, weighted};
    use super::*;

    /// Compared as values: the order of members is not promised.
    fn golden(text: &str, verdict: &Verdict) {
        let expected: Value = serde_json::from_str(text).unwrap();
        let got = verdict_to_json(verdict);
        assert_eq!(got, expected, "got {got:#}");
    }

    #[test]
    fn every_member_of_a_weighted_verdict_is_written() {
        golden(include_str!("../../tests/golden/export/weighted.json"), &weighted());
    }

    #[test]
    fn a_verdict_without_probability_says_so_with_null() {
        golden(include_str!("../../tests/golden/export/xsoar.json"), &compatible());
    }

    #[test]
    fn the_terms_that_are_written_add_up_exactly() {
        let written = verdict_to_json(&weighted());
        let terms = written["contributions"].as_array().unwrap();
        let sum: i64 = terms.iter().map(|term| term["micro_nats"].as_i64().unwrap()).sum();
        assert_eq!(Some(sum), written["log_odds_micro"].as_i64());
    }
}
