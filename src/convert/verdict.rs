//! `verdict.proto`: verdicts, outcomes, findings. Only written, never read from a client.

use std::collections::BTreeMap;

use super::indicator::{write as write_indicator, write_disposition, write_reliability};
use super::{duration, timestamp, unknown_enum};
use crate::error::Violation;
use crate::finding::{
    Fact, FactValue, FamilyBasis, Finding, NotAsked, NotAskedReason, Outcome, OutcomeBody, SourceError, SourceErrorKind,
};
use crate::pb;
use crate::store::VerdictRecord;
use crate::verdict::{Contribution, Term, Verdict};

/// How much of a verdict is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum View {
    /// Disposition, explanation, each outcome's claim and reasons.
    #[default]
    Basic,
    /// Also facts, relations and tags.
    Full,
    /// Also the raw answers.
    Raw,
}

/// Raw answers by source, in order of asking.
pub type RawAnswers = BTreeMap<String, Vec<String>>;

/// Reads a view; unspecified is basic.
///
/// # Errors
/// For an unknown number.
pub fn read_view(number: i32, field: &str) -> Result<View, Violation> {
    match pb::View::try_from(number) {
        Ok(pb::View::Unspecified | pb::View::Basic) => Ok(View::Basic),
        Ok(pb::View::Full) => Ok(View::Full),
        Ok(pb::View::Raw) => Ok(View::Raw),
        Err(_) => Err(unknown_enum(number, "1 (BASIC), 2 (FULL), 3 (RAW)", field)),
    }
}

/// A verdict as it is kept. `kept` is false for one that has no name.
pub fn write_record(record: &VerdictRecord, kept: bool, view: View, raw: &RawAnswers) -> pb::Verdict {
    let mut verdict = write(&record.verdict, view, raw);
    if kept {
        verdict.name = format!("verdicts/{}", record.id);
    }
    verdict.create_time = Some(timestamp(record.create_time));
    verdict
}

/// A verdict without name and time of creation.
pub fn write(verdict: &Verdict, view: View, raw: &RawAnswers) -> pb::Verdict {
    let none = Vec::new();
    let raw_of = |outcome: &Outcome| raw.get(&outcome.source).unwrap_or(&none).clone();
    pb::Verdict {
        name: String::new(),
        indicator: Some(write_indicator(&verdict.indicator)),
        disposition: write_disposition(verdict.disposition).into(),
        summary: verdict.summary.clone(),
        probability: verdict.probability,
        log_odds_micro_nats: verdict.log_odds_micro,
        coverage: verdict.coverage,
        conflict: verdict.conflict.map(|conflict| pb::Conflict { mass: conflict.mass, flagged: conflict.flagged }),
        contributions: verdict.contributions.iter().map(write_contribution).collect(),
        deciding_source: verdict.deciding_source.as_ref().map(|name| source_name(name)).unwrap_or_default(),
        outcomes: verdict.outcomes.iter().map(|outcome| write_outcome(outcome, view, raw_of(outcome))).collect(),
        policy: format!("policies/{}", verdict.policy.name),
        policy_revision: verdict.policy.revision,
        partial: verdict.partial,
        dbot_score: u32::from(verdict.disposition.dbot_score()),
        create_time: None,
        judged_time: Some(timestamp(verdict.judged_time)),
    }
}

/// The resource name of a source.
pub fn source_name(source: &str) -> String {
    format!("sources/{source}")
}

fn write_contribution(contribution: &Contribution) -> pb::Contribution {
    let term = match &contribution.term {
        Term::Prior => pb::contribution::Term::Prior(true),
        Term::Calibration => pb::contribution::Term::Calibration(true),
        Term::Source(name) => pb::contribution::Term::Source(source_name(name)),
    };
    let claim = contribution.claim.map_or(pb::Disposition::Unspecified, write_disposition);
    let reliability = contribution.reliability.map_or(pb::Reliability::Unspecified, write_reliability);
    pb::Contribution {
        term: Some(term),
        reliability: reliability.into(),
        claim: claim.into(),
        strength: contribution.strength.map(|strength| strength.get()),
        age: contribution.age.map(duration),
        micro_nats: contribution.micro_nats,
        agrees: contribution.agrees,
        sentence: contribution.sentence.clone(),
    }
}

/// An outcome, with its raw answers where they are wanted.
pub fn write_outcome(outcome: &Outcome, view: View, raw: Vec<String>) -> pb::Outcome {
    use pb::outcome::Result as Wire;
    let result = match &outcome.body {
        OutcomeBody::Finding(finding) => Wire::Finding(write_finding(finding, view, raw)),
        OutcomeBody::NoRecord => Wire::NoRecord(pb::NoRecord {}),
        OutcomeBody::Error(error) => Wire::Error(write_error(error)),
        OutcomeBody::NotAsked(not_asked) => Wire::NotAsked(write_not_asked(not_asked)),
    };
    pb::Outcome {
        source: source_name(&outcome.source),
        kind: outcome.kind.clone(),
        reliability: write_reliability(outcome.reliability).into(),
        family: outcome.family.name.clone(),
        family_basis: write_basis(outcome.family.basis).into(),
        independence_key: outcome.family.independence_key.clone(),
        time: Some(timestamp(outcome.time)),
        result: Some(result),
    }
}

fn write_basis(basis: FamilyBasis) -> pb::FamilyBasis {
    match basis {
        FamilyBasis::SameKind => pb::FamilyBasis::SameKind,
        FamilyBasis::Republished => pb::FamilyBasis::Republished,
        FamilyBasis::Declared => pb::FamilyBasis::Declared,
    }
}

fn write_finding(finding: &Finding, view: View, raw: Vec<String>) -> pb::Finding {
    let mut written = pb::Finding {
        claim: write_disposition(finding.claim).into(),
        strength: finding.strength.map(|strength| strength.get()),
        observed_time: finding.observed_time.map(timestamp),
        reasons: finding.reasons.clone(),
        permalink: finding.permalink.clone().unwrap_or_default(),
        raw,
        ..Default::default()
    };
    if view >= View::Full {
        written.facts = finding.facts.iter().map(write_fact).collect();
        written.tags = finding.tags.clone();
        written.relations = finding
            .relations
            .iter()
            .map(|relation| pb::Relation {
                relation: relation.relation.clone(),
                indicator: Some(write_indicator(&relation.indicator)),
            })
            .collect();
    }
    written
}

fn write_fact(fact: &Fact) -> pb::Fact {
    use pb::fact::Value as Wire;
    let value = match &fact.value {
        FactValue::Text(text) => Wire::Text(text.clone()),
        FactValue::Integer(number) => Wire::Integer(*number),
        FactValue::Number(number) => Wire::Number(*number),
        FactValue::Flag(flag) => Wire::Flag(*flag),
        FactValue::Time(time) => Wire::Time(timestamp(*time)),
        FactValue::List(values) => Wire::List(pb::TextList { values: values.clone() }),
    };
    pb::Fact { name: fact.name.clone(), value: Some(value) }
}

/// A source's failure.
pub fn write_error(error: &SourceError) -> pb::SourceError {
    use pb::SourceErrorKind as Wire;
    let kind = match error.kind {
        SourceErrorKind::Unauthorized => Wire::Unauthorized,
        SourceErrorKind::Forbidden => Wire::Forbidden,
        SourceErrorKind::BadQuestion => Wire::BadQuestion,
        SourceErrorKind::QuotaExhausted => Wire::QuotaExhausted,
        SourceErrorKind::Refused => Wire::Refused,
        SourceErrorKind::Unavailable => Wire::Unavailable,
        SourceErrorKind::Timeout => Wire::Timeout,
        SourceErrorKind::Malformed => Wire::Malformed,
        SourceErrorKind::TooLarge => Wire::TooLarge,
    };
    pb::SourceError { kind: kind.into(), detail: error.detail.clone(), retry_after: error.retry_after.map(duration) }
}

/// Why a source was not asked.
pub fn write_not_asked(not_asked: &NotAsked) -> pb::NotAsked {
    use pb::NotAskedReason as Wire;
    let reason = match not_asked.reason {
        NotAskedReason::TypeUnsupported => Wire::TypeUnsupported,
        NotAskedReason::Disabled => Wire::Disabled,
        NotAskedReason::NotConfigured => Wire::NotConfigured,
        NotAskedReason::Tlp => Wire::Tlp,
        NotAskedReason::NeverSend => Wire::NeverSend,
        NotAskedReason::PrivateAddress => Wire::PrivateAddress,
        NotAskedReason::InternalName => Wire::InternalName,
        NotAskedReason::UrlCredentials => Wire::UrlCredentials,
        NotAskedReason::QuotaSpent => Wire::QuotaSpent,
        NotAskedReason::Deadline => Wire::Deadline,
    };
    pb::NotAsked { reason: reason.into(), detail: not_asked.detail.clone(), until: not_asked.until.map(timestamp) }
}
