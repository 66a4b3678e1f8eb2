//! `history.proto` and `history_service.proto`: which verdicts to read, and what they say.

use super::indicator::{read_disposition, read_reliability, read_type, write_reliability, write_type};
use super::source::read_patch;
use super::verdict::source_name;
use super::{NamedField, Violations, read_name, read_period, read_sources, write_duration};
use crate::error::{Reason, Violation};
use crate::finding::Reliability;
use crate::indicator::IndicatorType;
use crate::pb;
use crate::settings::Change;
use crate::statistics::{
    CalibrationBin, CalibrationReport, Estimate, Lead, LearnedRow, PairSummary, Performance, ReliabilitySuggestion,
    SourceComparison, SourceSummary,
};
use crate::store::VerdictFilter;
use crate::verdict::{ClaimShares, LetterRow};

/// Most sources and letters that one request names.
const MOST_SOURCES: usize = 128;

/// Which verdicts to read: what the store can tell, and the type of the indicator.
pub fn read_filter(
    filter: Option<pb::HistoryFilter>,
    violations: &mut Violations,
) -> (VerdictFilter, Option<IndicatorType>) {
    let filter = filter.unwrap_or_default();
    let mut inner = Violations::default();
    let (from, until) = read_period(filter.from_time, filter.until_time, &mut inner);
    let indicator_type = inner.check(read_type(filter.indicator_type, "indicator_type")).flatten();
    let disposition = inner.check(read_disposition(filter.disposition, "disposition")).flatten();
    violations.add_nested(inner, "filter");
    (VerdictFilter { indicator: None, disposition, from, until }, indicator_type)
}

/// The sources that a request names, each once.
pub fn read_named_sources(names: &[String], violations: &mut Violations) -> Vec<NamedField> {
    if names.len() > MOST_SOURCES {
        violations.add(Violation::new("sources", Reason::TooMany, format!("at most {MOST_SOURCES} sources")));
        return Vec::new();
    }
    read_sources(names, "sources", violations)
}

/// The name of the policy, if there is one.
pub fn read_policy(name: &str, violations: &mut Violations) -> Option<String> {
    if name.is_empty() { None } else { violations.check(read_name(name, "policies", "policy")) }
}

/// The name of the one source that a request is about.
pub fn read_source(name: &str, violations: &mut Violations) -> Option<String> {
    violations.check(read_name(name, "sources", "source"))
}

/// Other letters, each with its source.
pub fn read_letters(letters: &[pb::ReplayedLetter], violations: &mut Violations) -> Vec<(NamedField, Reliability)> {
    if letters.len() > MOST_SOURCES {
        violations.add(Violation::new("letters", Reason::TooMany, format!("at most {MOST_SOURCES} letters")));
        return Vec::new();
    }
    let mut read: Vec<(NamedField, Reliability)> = Vec::new();
    for (place, letter) in letters.iter().enumerate() {
        let (field, field_of_letter) = (format!("letters[{place}].source"), format!("letters[{place}].reliability"));
        let name = violations.check(read_name(&letter.source, "sources", &field));
        let reliability = violations.check(read_reliability(letter.reliability, &field_of_letter));
        if reliability == Some(None) {
            violations.add(Violation::new(field_of_letter, Reason::FieldRequired, "a letter is needed: A+ to F"));
        }
        let Some(name) = name else { continue };
        if read.iter().any(|(known, _)| known.name == name) {
            violations.add(Violation::invalid(&field, "the same source has a letter already"));
        }
        // One without a letter is looked for all the same: its name may be wrong, too.
        read.push((NamedField { name, field }, reliability.flatten().unwrap_or(Reliability::F)));
    }
    read
}

/// A source with other options, and the place in the request where it stands.
pub struct ReplayedOptions {
    /// Its name and its options, as a change that is only to be checked.
    pub change: Change,
    /// The path of the message.
    pub field: String,
}

/// Sources with other options.
pub fn read_options(sources: Vec<pb::ReplayedOptions>, violations: &mut Violations) -> Vec<ReplayedOptions> {
    if sources.len() > MOST_SOURCES {
        violations.add(Violation::new("sources", Reason::TooMany, format!("at most {MOST_SOURCES} sources")));
        return Vec::new();
    }
    let mut read: Vec<ReplayedOptions> = Vec::new();
    for (place, replayed) in sources.into_iter().enumerate() {
        let field = format!("sources[{place}]");
        let name = violations.check(read_name(&replayed.source, "sources", &format!("{field}.source")));
        let options = replayed.options.filter(|options| !options.fields.is_empty());
        if options.is_none() {
            let message = "at least one option is needed: malicious_threshold_ip = 5";
            violations.add(Violation::new(format!("{field}.options"), Reason::FieldRequired, message));
        }
        let Some((name, options)) = name.zip(options) else { continue };
        if read.iter().any(|known| known.change.name == name) {
            violations.add(Violation::invalid(format!("{field}.source"), "the same source has options already"));
            continue;
        }
        let mut inner = Violations::default();
        let patch = read_patch(&pb::Source { options: Some(options), ..Default::default() }, &mut inner);
        violations.add_nested(inner, &field);
        read.push(ReplayedOptions { change: Change { name, patch, ..Change::default() }, field });
    }
    read
}

/// What the verdicts say of all sources.
pub fn write_comparison(comparison: &SourceComparison) -> pb::SourceComparison {
    let name = |place: usize| comparison.sources.get(place).map(|source| source_name(&source.name)).unwrap_or_default();
    let family = |family: &Vec<String>| pb::SuggestedFamily {
        sources: family.iter().map(|source| source_name(source)).collect(),
    };
    pb::SourceComparison {
        verdicts: count(comparison.verdicts),
        labelled_malicious: count(comparison.labelled_malicious),
        labelled_benign: count(comparison.labelled_benign),
        pairable: count(comparison.pairable),
        alpha_ordinal: comparison.alpha_ordinal,
        alpha_nominal: comparison.alpha_nominal,
        ac1: comparison.ac1,
        sources: comparison.sources.iter().map(write_source).collect(),
        pairs: comparison.pairs.iter().map(|pair| write_pair(pair, name(pair.first), name(pair.second))).collect(),
        suggested_families: comparison.suggested_families.iter().map(family).collect(),
        left_out: count(comparison.left_out),
        verdicts_with_units: count(comparison.verdicts_with_units),
    }
}

fn write_source(source: &SourceSummary) -> pb::SourceStatistics {
    pb::SourceStatistics {
        source: source_name(&source.name),
        reliability: write_reliability(source.reliability).into(),
        family: source.family.clone(),
        asked: count(source.asked()),
        answered: count(source.answered()),
        malicious: count(source.claims.malicious),
        suspicious: count(source.claims.suspicious),
        benign: count(source.claims.benign),
        unknown: count(source.claims.unknown),
        no_record: count(source.no_record),
        failed: count(source.failed),
        not_asked: count(source.not_asked),
        coverage: source.coverage,
        decisive: count(source.decisive),
        lone_alarms: count(source.lone_alarms),
        agreement_with_merged: source.agreement_with_merged,
        lead: source.lead.map(write_lead),
        units: count(source.units),
        units_per_decisive: source.units_per_decisive,
        median_latency: source.median_latency.map(write_duration),
        slow_latency: source.slow_latency.map(write_duration),
        performance: source.performance.as_ref().map(write_performance),
        lead_basis: lead_basis(source).into(),
    }
}

fn lead_basis(source: &SourceSummary) -> pb::LeadBasis {
    match (source.lead, source.has_listing_dates) {
        (None, _) => pb::LeadBasis::Unspecified,
        (Some(_), true) => pb::LeadBasis::ListingDate,
        (Some(_), false) => pb::LeadBasis::ClaimTime,
    }
}

fn write_lead(lead: Lead) -> pb::Lead {
    pb::Lead { median_days: lead.median_days, indicators: count(lead.indicators) }
}

/// An estimate with its bounds.
pub fn write_estimate(estimate: Estimate) -> pb::Estimate {
    pb::Estimate { value: estimate.value, low: estimate.low, high: estimate.high }
}

/// A detector against the labels.
pub fn write_performance(performance: &Performance) -> pb::SourcePerformance {
    pb::SourcePerformance {
        true_alarms: count(performance.counts.true_alarms),
        missed: count(performance.counts.missed),
        false_alarms: count(performance.counts.false_alarms),
        true_silence: count(performance.counts.true_silence),
        precision: performance.precision.map(write_estimate),
        recall: performance.recall.map(write_estimate),
        specificity: performance.specificity.map(write_estimate),
        balanced_accuracy: performance.balanced_accuracy,
        positive_likelihood_ratio: performance.positive_likelihood_ratio.map(write_estimate),
        negative_likelihood_ratio: performance.negative_likelihood_ratio.map(write_estimate),
    }
}

fn write_pair(pair: &PairSummary, first: String, second: String) -> pb::SourcePair {
    pb::SourcePair {
        first,
        second,
        joint: count(pair.joint),
        agreement: pair.agreement,
        kappa: pair.kappa.map(write_estimate),
        quadratic_kappa: pair.quadratic_kappa.map(write_estimate),
        jaccard: pair.jaccard,
        lead: pair.lead.map(write_lead),
        residual_correlation: pair.copying.map(|copying| copying.correlation),
    }
}

/// A suggestion, which was learned from labels alone or also from what the sources say together.
pub fn write_suggestion(suggestion: &ReliabilitySuggestion, from_labels: bool) -> pb::ReliabilitySuggestion {
    let learned = &suggestion.learned;
    let evidence =
        |side: usize| pb::LearnedEvidence { nats: learned.evidence[side], deviation: learned.deviation[side] };
    pb::ReliabilitySuggestion {
        source: source_name(&suggestion.source),
        indicator_type: suggestion.indicator_type.map_or(0, |indicator_type| write_type(indicator_type).into()),
        rated: write_reliability(suggestion.rated).into(),
        behaves_like: write_reliability(suggestion.behaves_like).into(),
        best: write_reliability(suggestion.best).into(),
        worst: write_reliability(suggestion.worst).into(),
        labels: count(learned.labels),
        from_labels,
        is_inverted: suggestion.is_inverted,
        malicious: Some(evidence(2)),
        suspicious: Some(evidence(1)),
        benign: Some(evidence(0)),
        claims: Some(write_row(learned)),
        sentence: sentence(suggestion, from_labels),
        effective_labels: learned.effective_labels,
    }
}

fn write_row(learned: &LearnedRow) -> pb::LetterRow {
    let shares = |ClaimShares { benign, suspicious, malicious }| pb::ClaimShares {
        benign: Some(benign),
        suspicious: Some(suspicious),
        malicious: Some(malicious),
    };
    let LetterRow { if_malicious, if_benign } = learned.claims;
    pb::LetterRow { if_malicious: Some(shares(if_malicious)), if_benign: Some(shares(if_benign)) }
}

/// `virustotal, rated B, behaves like C (B to D) on ip, n = 212`.
fn sentence(suggestion: &ReliabilitySuggestion, from_labels: bool) -> String {
    let ReliabilitySuggestion { source, rated, behaves_like, best, worst, learned, .. } = suggestion;
    let on =
        suggestion.indicator_type.map(|indicator_type| format!(" on {}", indicator_type.as_str())).unwrap_or_default();
    let range = if best == worst { String::new() } else { format!(" ({best} to {worst})") };
    let behaves = if suggestion.is_inverted {
        "says the opposite of the truth".to_owned()
    } else {
        format!("behaves like {behaves_like}{range}")
    };
    let labels = format!("n = {:.0}", learned.effective_labels);
    let basis = match (from_labels, learned.labels) {
        (true, _) => labels,
        (false, 0) => "without labels".to_owned(),
        (false, _) => format!("from what the sources say together and {labels}"),
    };
    format!("{source}, rated {rated}, {behaves}{on}, {basis}")
}

/// How well probabilities hold. `prior` is that of the policy for the type.
pub fn write_calibration(report: &CalibrationReport, prior: Option<f64>) -> pb::CalibrationReport {
    let bin = |bin: &CalibrationBin| pb::CalibrationBin {
        probability: bin.probability,
        share: Some(write_estimate(bin.share)),
        labels: count(bin.count),
    };
    let fit = report.fit.as_ref();
    pb::CalibrationReport {
        indicator_type: report.indicator_type.map_or(0, |indicator_type| write_type(indicator_type).into()),
        labels: count(report.labels),
        malicious: count(report.malicious),
        curve: report.curve.iter().map(bin).collect(),
        brier: report.brier,
        expected_calibration_error: report.expected_error,
        calibration: fit
            .map(|fit| pb::Calibration { shift: Some(fit.calibration.shift), scale: Some(fit.calibration.scale) }),
        fitted_brier: fit.map(|fit| fit.brier),
        log_loss: fit.map(|fit| fit.loss_before),
        fitted_log_loss: fit.map(|fit| fit.loss_after),
        prior,
    }
}

/// A count as the protocol has it.
pub fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
