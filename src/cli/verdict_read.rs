//! Reads a verdict back from the protocol, for `export`. What a view left out is empty.

use std::time::{Duration, SystemTime};

use crate::convert::indicator::{read as read_indicator, read_disposition, read_reliability};
use crate::convert::verdict::{read_error_kind, read_family_basis, read_not_asked_reason};
use crate::convert::{Violations, read_duration, read_timestamp};
use crate::error::Violation;
use crate::finding::{
    Disposition, Fact, FactValue, Family, Finding, NotAsked, Outcome, OutcomeBody, Relation, Reliability, SourceError,
    Strength,
};
use crate::indicator::Indicator;
use crate::pb;
use crate::verdict::{Conflict, Contribution, PolicyRef, Term, Verdict};

/// Reads a verdict and its name. Fails where a newer server sends what this version does not know.
pub(super) fn read(wire: &pb::Verdict) -> Result<(String, Verdict), Violation> {
    let verdict = Verdict {
        indicator: indicator(wire.indicator.as_ref())?,
        disposition: disposition(wire.disposition)?,
        summary: wire.summary.clone(),
        probability: wire.probability,
        log_odds_micro: wire.log_odds_micro_nats,
        coverage: wire.coverage,
        conflict: wire.conflict.map(|conflict| Conflict { mass: conflict.mass, flagged: conflict.flagged }),
        contributions: wire.contributions.iter().map(contribution).collect::<Result<_, _>>()?,
        deciding_source: Some(bare(&wire.deciding_source)).filter(|name| !name.is_empty()),
        outcomes: wire.outcomes.iter().map(outcome).collect::<Result<_, _>>()?,
        policy: PolicyRef {
            name: wire.policy.trim_start_matches("policies/").to_owned(),
            revision: wire.policy_revision,
        },
        partial: wire.partial,
        judged_time: moment(wire.judged_time.as_ref(), "judged_time")?,
    };
    Ok((wire.name.clone(), verdict))
}

fn bare(source: &str) -> String {
    source.trim_start_matches("sources/").to_owned()
}

fn indicator(wire: Option<&pb::Indicator>) -> Result<Indicator, Violation> {
    let parsed = read_indicator(wire, "indicator", &mut Violations::default());
    parsed.map(|parsed| parsed.indicator).ok_or_else(|| newer("indicator"))
}

fn disposition(number: i32) -> Result<Disposition, Violation> {
    read_disposition(number, "disposition").map(Option::unwrap_or_default)
}

fn moment(time: Option<&prost_types::Timestamp>, field: &str) -> Result<SystemTime, Violation> {
    time.map_or(Ok(SystemTime::UNIX_EPOCH), |time| read_timestamp(*time, field))
}

fn duration(duration: Option<&prost_types::Duration>, field: &str) -> Result<Option<Duration>, Violation> {
    duration.map(|duration| read_duration(*duration, field)).transpose()
}

fn contribution(wire: &pb::Contribution) -> Result<Contribution, Violation> {
    let term = match &wire.term {
        Some(pb::contribution::Term::Prior(_)) => Term::Prior,
        Some(pb::contribution::Term::Calibration(_)) => Term::Calibration,
        Some(pb::contribution::Term::Source(source)) => Term::Source(bare(source)),
        None => return Err(newer("contributions.term")),
    };
    Ok(Contribution {
        term,
        reliability: read_reliability(wire.reliability, "contributions.reliability")?,
        claim: read_disposition(wire.claim, "contributions.claim")?,
        strength: wire.strength.map(Strength::clamped),
        age: duration(wire.age.as_ref(), "contributions.age")?,
        micro_nats: wire.micro_nats,
        agrees: wire.agrees,
        sentence: wire.sentence.clone(),
    })
}

fn outcome(wire: &pb::Outcome) -> Result<Outcome, Violation> {
    use pb::outcome::Result as Wire;
    let body = match &wire.result {
        Some(Wire::Finding(found)) => OutcomeBody::Finding(finding(found)?),
        Some(Wire::NoRecord(_)) => OutcomeBody::NoRecord,
        Some(Wire::Error(failed)) => OutcomeBody::Error(error(failed)?),
        Some(Wire::NotAsked(rule)) => OutcomeBody::NotAsked(not_asked(rule)?),
        None => return Err(newer("outcomes.result")),
    };
    Ok(Outcome {
        source: bare(&wire.source),
        kind: wire.kind.clone(),
        reliability: read_reliability(wire.reliability, "outcomes.reliability")?.unwrap_or(Reliability::F),
        family: family(wire)?,
        time: moment(wire.time.as_ref(), "outcomes.time")?,
        body,
    })
}

fn family(wire: &pb::Outcome) -> Result<Family, Violation> {
    let basis = read_family_basis(wire.family_basis, "outcomes.family_basis")?;
    let basis = basis.ok_or_else(|| newer("outcomes.family_basis"))?;
    Ok(Family { name: wire.family.clone(), basis, independence_key: wire.independence_key.clone() })
}

fn finding(wire: &pb::Finding) -> Result<Finding, Violation> {
    let relation = |wire: &pb::Relation| {
        let indicator = indicator(wire.indicator.as_ref())?;
        Ok::<_, Violation>(Relation { relation: wire.relation.clone(), indicator })
    };
    Ok(Finding {
        claim: disposition(wire.claim)?,
        strength: wire.strength.map(Strength::clamped),
        observed_time: wire
            .observed_time
            .as_ref()
            .map(|time| read_timestamp(*time, "outcomes.finding.observed_time"))
            .transpose()?,
        reasons: wire.reasons.clone(),
        facts: wire.facts.iter().map(fact).collect::<Result<_, _>>()?,
        relations: wire.relations.iter().map(relation).collect::<Result<_, _>>()?,
        tags: wire.tags.clone(),
        permalink: Some(wire.permalink.clone()).filter(|link| !link.is_empty()),
    })
}

fn fact(wire: &pb::Fact) -> Result<Fact, Violation> {
    use pb::fact::Value as Wire;
    let value = match &wire.value {
        Some(Wire::Text(text)) => FactValue::Text(text.clone()),
        Some(Wire::Integer(number)) => FactValue::Integer(*number),
        Some(Wire::Number(number)) => FactValue::Number(*number),
        Some(Wire::Flag(flag)) => FactValue::Flag(*flag),
        Some(Wire::Time(time)) => FactValue::Time(read_timestamp(*time, "outcomes.finding.facts.time")?),
        Some(Wire::List(list)) => FactValue::List(list.values.clone()),
        None => return Err(newer("outcomes.finding.facts.value")),
    };
    Ok(Fact { name: wire.name.clone(), value })
}

fn error(wire: &pb::SourceError) -> Result<SourceError, Violation> {
    let kind = read_error_kind(wire.kind, "outcomes.error.kind")?.ok_or_else(|| newer("outcomes.error.kind"))?;
    let retry_after = duration(wire.retry_after.as_ref(), "outcomes.error.retry_after")?;
    Ok(SourceError { kind, detail: wire.detail.clone(), retry_after })
}

fn not_asked(wire: &pb::NotAsked) -> Result<NotAsked, Violation> {
    let reason = read_not_asked_reason(wire.reason, "outcomes.not_asked.reason")?;
    let reason = reason.ok_or_else(|| newer("outcomes.not_asked.reason"))?;
    let until = wire.until.as_ref().map(|until| read_timestamp(*until, "outcomes.not_asked.until")).transpose()?;
    Ok(NotAsked { reason, detail: wire.detail.clone(), until })
}

fn newer(field: &str) -> Violation {
    Violation::invalid(field, "unknown to this version; the server is newer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::verdict::{View, write};
    use crate::finding::NotAskedReason;

    fn sample() -> Verdict {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let mut found = Finding::new(Disposition::Malicious, Some(Strength::FULL), "60 of 94 engines say malicious");
        found.facts = vec![
            Fact::new("country", "NL"),
            Fact::new("malicious", 60_u64),
            Fact::new("score", 0.5),
            Fact::new("tor", true),
            Fact::new("seen", at),
            Fact::new("names", vec!["a".to_owned()]),
        ];
        let outcome = |source: &str, body| Outcome {
            source: source.into(),
            kind: "virustotal".into(),
            reliability: Reliability::B,
            family: match source {
                "a" => Family::same_kind("virustotal"),
                "b" => Family::republished("virustotal", "collector"),
                _ => Family::declared("ours", "virustotal"),
            },
            time: at,
            body,
        };
        let failure = SourceError::unavailable("no route").retry_after(Some(Duration::from_secs(3)));
        let outcomes = vec![
            outcome("a", OutcomeBody::Finding(found)),
            outcome("b", OutcomeBody::NoRecord),
            outcome("c", OutcomeBody::Error(failure)),
            outcome("d", OutcomeBody::NotAsked(NotAsked::new(NotAskedReason::QuotaSpent, "4 of 4"))),
        ];
        let indicator = Indicator::parse("192.0.2.7").unwrap().indicator;
        let policy = crate::verdict::Policy::built_in().remove(0);
        crate::verdict::fuse(&policy, &indicator, at, outcomes)
    }

    #[test]
    fn a_verdict_survives_the_wire_whole() {
        let verdict = sample();
        let (_, back) = read(&write(&verdict, View::Full, &Default::default())).unwrap();
        assert_eq!(back, verdict);
    }

    #[test]
    fn the_basic_view_leaves_out_facts_and_nothing_of_the_explanation() {
        let verdict = sample();
        let (_, back) = read(&write(&verdict, View::Basic, &Default::default())).unwrap();
        assert_eq!(back.contributions, verdict.contributions);
        let OutcomeBody::Finding(found) = &back.outcomes[0].body else { panic!("the first outcome is a finding") };
        assert!(found.facts.is_empty());
        assert_eq!(found.reasons, ["60 of 94 engines say malicious"]);
    }
}
