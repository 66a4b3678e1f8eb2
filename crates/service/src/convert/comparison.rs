//! `comparison.proto`: what differs between two verdicts.

use super::indicator::{write as write_indicator, write_disposition, write_reliability};
use super::verdict::source_name;
use super::write_duration;
use crate::finding::OutcomeKind;
use crate::pb;
use crate::store::VerdictRecord;
use crate::verdict::{
    Cause, Comparison, DispositionCause, Part, Term, TermChange, TermState, ThresholdChange, comparison_summary,
    probability_at, term_change_sentence,
};

convert_enum!(
    write_disposition_cause: DispositionCause <=> DispositionCause {
        Evidence, Thresholds, EvidenceAndThresholds, Coverage, Rule, Pin,
    }
);
convert_enum!(write_outcome_kind: OutcomeKind <=> OutcomeKind { Finding, NoRecord, Error, NotAsked });
convert_enum!(
    write_cause: ChangeCause <=> Cause {
        Appeared, Gone, Outcome, Claim, Letter, Strength, Age, Family, Calibration, Policy,
    }
);

/// The comparison of two verdicts as they are stored.
pub fn write(before: &VerdictRecord, after: &VerdictRecord, comparison: &Comparison) -> pb::VerdictComparison {
    let deciding = |source: &Option<String>| source.as_deref().map(source_name).unwrap_or_default();
    let cause = comparison.cause.map_or(pb::DispositionCause::Unspecified, write_disposition_cause);
    let Comparison { disposition, log_odds_micro, policy, deciding_source, coverage, .. } = comparison;
    pb::VerdictComparison {
        before: format!("verdicts/{}", before.id),
        after: format!("verdicts/{}", after.id),
        indicator: Some(write_indicator(&after.verdict.indicator)),
        disposition_before: write_disposition(disposition.before).into(),
        disposition_after: write_disposition(disposition.after).into(),
        cause: cause.into(),
        log_odds_before_micro_nats: log_odds_micro.before,
        log_odds_after_micro_nats: log_odds_micro.after,
        difference_micro_nats: comparison.difference_micro,
        policy_before: format!("policies/{}", policy.before.name),
        policy_revision_before: policy.before.revision,
        policy_after: format!("policies/{}", policy.after.name),
        policy_revision_after: policy.after.revision,
        thresholds: comparison.thresholds.iter().map(write_threshold).collect(),
        deciding_source_before: deciding(&deciding_source.before),
        deciding_source_after: deciding(&deciding_source.after),
        coverage_before: coverage.before,
        coverage_after: coverage.after,
        terms: comparison.terms.iter().map(write_term).collect(),
        summary: comparison_summary(comparison),
    }
}

fn write_threshold(threshold: &ThresholdChange) -> pb::ThresholdChange {
    let shown = |micro_nats| (probability_at(micro_nats) * 1e6).round() / 1e6;
    pb::ThresholdChange {
        disposition: write_disposition(threshold.disposition).into(),
        before: shown(threshold.micro_nats.before),
        after: shown(threshold.micro_nats.after),
    }
}

fn write_term(change: &TermChange) -> pb::TermChange {
    let term = match &change.term {
        Term::Prior => pb::term_change::Term::Prior(true),
        Term::Calibration => pb::term_change::Term::Calibration(true),
        Term::Source(source) => pb::term_change::Term::Source(source_name(source)),
    };
    let part = |part: &Part| pb::ChangePart { causes: write_causes(&part.causes), micro_nats: part.micro_nats };
    pb::TermChange {
        term: Some(term),
        before: change.before.as_ref().map(write_state),
        after: change.after.as_ref().map(write_state),
        difference_micro_nats: change.difference_micro,
        causes: write_causes(&change.causes),
        parts: change.parts.iter().map(part).collect(),
        sentence: term_change_sentence(change),
    }
}

fn write_causes(causes: &[Cause]) -> Vec<i32> {
    causes.iter().map(|cause| write_cause(*cause).into()).collect()
}

fn write_state(state: &TermState) -> pb::TermState {
    pb::TermState {
        micro_nats: state.micro_nats,
        outcome: state.outcome.map_or(pb::OutcomeKind::Unspecified, write_outcome_kind).into(),
        reliability: state.reliability.map_or(pb::Reliability::Unspecified, write_reliability).into(),
        claim: state.claim.map_or(pb::Disposition::Unspecified, write_disposition).into(),
        strength: state.strength.map(|strength| strength.get()),
        age: state.age.map(write_duration),
    }
}
