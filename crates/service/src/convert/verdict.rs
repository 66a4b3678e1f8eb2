//! `verdict.proto`: verdicts, outcomes, findings. Requests hold none of them; `cli` reads them back from answers.

use std::collections::BTreeMap;

use super::feedback::write_word;
use super::indicator::{write as write_indicator, write_disposition, write_reliability};
use super::{unknown_enum, write_duration, write_timestamp};
use crate::error::Violation;
use crate::finding::{
    Fact, FactValue, FamilyBasis, Finding, NotAsked, NotAskedReason, Outcome, OutcomeBody, SourceError, SourceErrorKind,
};
use crate::pb;
use crate::store::VerdictRecord;
use crate::verdict::{
    Assumption, Contribution, Flip, LeaveOneOut, Margin, Reach, ReportChange, Term, Verdict, flip_sentence,
    margin_sentence, policy_sentence, reach_sentence, sentence, summary,
};

/// How much of a verdict to return; each view includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum View {
    #[default]
    Basic,
    Full,
    Raw,
}

/// Raw answers by source, in the order of the calls.
pub type RawAnswers = BTreeMap<String, Vec<String>>;

pub fn read_view(number: i32, field: &str) -> Result<View, Violation> {
    match pb::View::try_from(number) {
        Ok(pb::View::Unspecified | pb::View::Basic) => Ok(View::Basic),
        Ok(pb::View::Full) => Ok(View::Full),
        Ok(pb::View::Raw) => Ok(View::Raw),
        Err(_) => Err(unknown_enum(number, "1 (BASIC), 2 (FULL), 3 (RAW)", field)),
    }
}

/// A verdict as it is stored. `stored` is false for one that could not be, which has no name.
pub fn write_record(record: &VerdictRecord, stored: bool, view: View, raw: &RawAnswers) -> pb::Verdict {
    let mut verdict = write(&record.verdict, view, raw);
    if stored {
        verdict.name = format!("verdicts/{}", record.id);
    }
    verdict.create_time = Some(write_timestamp(record.create_time));
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
        summary: summary(verdict),
        probability: verdict.probability,
        log_odds_micro_nats: verdict.log_odds_micro,
        coverage: verdict.coverage,
        conflict: verdict.conflict.map(|conflict| pb::Conflict { mass: conflict.mass, flagged: conflict.flagged }),
        contributions: verdict.contributions.iter().map(|term| write_contribution(verdict, term)).collect(),
        deciding_source: verdict.deciding_source.as_ref().map(|name| source_name(name)).unwrap_or_default(),
        outcomes: verdict.outcomes.iter().map(|outcome| write_outcome(outcome, view, raw_of(outcome))).collect(),
        policy: format!("policies/{}", verdict.policy.name),
        policy_revision: verdict.policy.revision,
        partial: verdict.partial,
        dbot_score: u32::from(verdict.disposition.dbot_score()),
        create_time: None,
        judged_time: Some(write_timestamp(verdict.judged_time)),
        rule: verdict.policy.rule.as_str().to_owned(),
        lacks_coverage: verdict.lacks_coverage,
        mean: verdict.mean,
        leave_one_out: verdict.analysis.leave_one_out.iter().map(write_leave_one_out).collect(),
        flips: verdict.analysis.flips.iter().map(write_flip).collect(),
        margins: verdict.analysis.margins.iter().map(write_margin).collect(),
        sources_disposition: write_disposition(verdict.sources_disposition).into(),
        pin: verdict.pin.as_ref().map(write_word),
        feedback: verdict.feedback.iter().map(write_word).collect(),
        reach: Some(write_reach(&verdict.analysis.reach, reach_sentence(verdict))),
    }
}

fn write_leave_one_out(left_out: &LeaveOneOut) -> pb::LeaveOneOut {
    pb::LeaveOneOut {
        source: source_name(&left_out.source),
        micro_nats: left_out.micro_nats,
        disposition: write_disposition(left_out.disposition).into(),
    }
}

convert_enum!(write_assumption: Assumption <=> Assumption { MissingAnswers, WrongAnswers });

fn write_flip(flip: &Flip) -> pb::Flip {
    let change = |change: &ReportChange| pb::ReportChange {
        source: source_name(&change.source),
        from: change.from.map_or(pb::Disposition::Unspecified, write_disposition).into(),
        to: write_disposition(change.to).into(),
    };
    pb::Flip {
        disposition: write_disposition(flip.disposition).into(),
        assumption: write_assumption(flip.assumption).into(),
        changes: flip.changes.iter().map(change).collect(),
        log_odds_micro_nats: flip.log_odds_micro,
        sentence: flip_sentence(flip),
    }
}

fn write_margin(margin: &Margin) -> pb::Margin {
    let example = margin.example;
    let reliability = example.map_or(pb::Reliability::Unspecified, |example| write_reliability(example.reliability));
    let claim = example.map_or(pb::Disposition::Unspecified, |example| write_disposition(example.claim));
    pb::Margin {
        disposition: write_disposition(margin.disposition).into(),
        micro_nats: margin.micro_nats,
        sources: example.map_or(0, |example| example.count),
        reliability: reliability.into(),
        claim: claim.into(),
        sentence: margin_sentence(margin),
    }
}

/// What another policy makes of the outcomes of a verdict.
pub fn write_comparison(other: &Verdict, verdict: &Verdict) -> pb::PolicyComparison {
    pb::PolicyComparison {
        policy: format!("policies/{}", other.policy.name),
        policy_revision: other.policy.revision,
        rule: other.policy.rule.as_str().to_owned(),
        disposition: write_disposition(other.disposition).into(),
        agrees: other.disposition == verdict.sources_disposition,
        probability: other.probability,
        mean: other.mean,
        deciding_source: other.deciding_source.as_ref().map(|name| source_name(name)).unwrap_or_default(),
        sentence: policy_sentence(other),
    }
}

/// What missing answers could still change, with its sentence.
pub fn write_reach(reach: &Reach, sentence: String) -> pb::Reach {
    pb::Reach {
        can_change: reach.can_change,
        sources: reach.sources.iter().map(|source| source_name(source)).collect(),
        sentence,
    }
}

/// The resource name of a source.
pub fn source_name(source: &str) -> String {
    format!("sources/{source}")
}

fn write_contribution(verdict: &Verdict, contribution: &Contribution) -> pb::Contribution {
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
        age: contribution.age.map(write_duration),
        micro_nats: contribution.micro_nats,
        agrees: contribution.agrees,
        sentence: sentence(verdict, contribution),
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
        family_basis: write_family_basis(outcome.family.basis).into(),
        independence_key: outcome.family.independence_key.clone(),
        time: Some(write_timestamp(outcome.time)),
        result: Some(result),
    }
}

fn write_finding(finding: &Finding, view: View, raw: Vec<String>) -> pb::Finding {
    let mut written = pb::Finding {
        claim: write_disposition(finding.claim).into(),
        strength: finding.strength.map(|strength| strength.get()),
        observed_time: finding.observed_time.map(write_timestamp),
        reasons: finding.reasons.clone(),
        permalink: finding.permalink.clone().unwrap_or_default(),
        xsoar: finding
            .xsoar
            .as_ref()
            .map(|xsoar| pb::XsoarClaim { claim: write_disposition(xsoar.claim).into(), reason: xsoar.reason.clone() }),
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
                relation: relation.name.as_str().to_owned(),
                indicator: Some(write_indicator(&relation.indicator)),
                reverse: relation.name.reverse().as_str().to_owned(),
                source_name: relation.source_name.clone(),
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
        FactValue::Time(time) => Wire::Time(write_timestamp(*time)),
        FactValue::List(values) => Wire::List(pb::TextList { values: values.clone() }),
    };
    pb::Fact { name: fact.name.clone(), value: Some(value) }
}

convert_enum!(
    write_error_kind: SourceErrorKind <=> SourceErrorKind {
        Unauthorized, Forbidden, BadQuestion, QuotaExhausted, Refused, Unavailable, Timeout, Malformed, TooLarge,
    }
);
convert_enum!(
    write_not_asked_reason: NotAskedReason <=> NotAskedReason {
        TypeUnsupported, Disabled, NotConfigured, Tlp, NeverSend, PrivateAddress, InternalName, UrlCredentials,
        QuotaSpent, Deadline, VerdictSettled, Budget, QuotaReserve, CircuitOpen, CallerBudget, Pacing, Pinned,
    }
);

convert_enum!(
    write_family_basis: FamilyBasis <=> FamilyBasis { SameKind, Republished, Declared }
);

pub fn write_error(error: &SourceError) -> pb::SourceError {
    let kind = write_error_kind(error.kind).into();
    pb::SourceError { kind, detail: error.detail.clone(), retry_after: error.retry_after.map(write_duration) }
}

pub fn write_not_asked(not_asked: &NotAsked) -> pb::NotAsked {
    let reason = write_not_asked_reason(not_asked.reason).into();
    pb::NotAsked { reason, detail: not_asked.detail.clone(), until: not_asked.until.map(write_timestamp) }
}
