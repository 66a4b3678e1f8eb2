//! `engines.proto`: what the history says of the engines inside a source.

use super::history::{count, write_estimate, write_performance};
use super::indicator::write as write_indicator;
use super::verdict::source_name;
use crate::indicator::Indicator;
use crate::pb;
use crate::statistics::{
    ChangedVerdicts, EngineComparison, EnginePairSummary, EngineSummary, PreferredVendor, PreferredVendors, SameLabels,
};

/// What the verdicts say of the engines of this source.
pub fn write_engine_comparison(
    source: &str,
    coverage: pb::EngineCoverage,
    comparison: &EngineComparison,
) -> pb::EngineComparison {
    let pair = |pair: &EnginePairSummary| {
        let name = |place: usize| comparison.engines.get(place).map(|engine| engine.name.clone()).unwrap_or_default();
        pb::EnginePair {
            first: name(pair.first),
            second: name(pair.second),
            joint_hits: count(pair.joint_hits),
            jaccard: pair.jaccard,
            labelled_joint_hits: count(pair.labelled),
            equal_labels: count(pair.equal),
            equal_share: pair.equal_share().map(write_estimate),
        }
    };
    pb::EngineComparison {
        source: source_name(source),
        coverage: Some(coverage),
        labelled_malicious: count(comparison.labelled_malicious),
        labelled_benign: count(comparison.labelled_benign),
        engines: comparison.engines.iter().map(write_engine).collect(),
        pairs: comparison.pairs.iter().map(pair).collect(),
        same_labels: comparison.same_labels.iter().map(write_group).collect(),
        left_out_results: count(comparison.left_out),
    }
}

fn write_engine(engine: &EngineSummary) -> pb::EngineStatistics {
    pb::EngineStatistics {
        engine: engine.name.clone(),
        hits: count(engine.hits),
        lone_hits: count(engine.lone_hits),
        suspicious: count(engine.suspicious),
        opinions: count(engine.opinions),
        agreement_with_merged: engine.agreement_with_merged,
        kappa: engine.kappa.map(write_estimate),
        true_hits: count(engine.true_hits),
        false_hits: count(engine.false_hits),
        precision: engine.precision.map(write_estimate),
        performance: engine.performance.as_ref().map(write_performance),
    }
}

fn write_group(group: &SameLabels) -> pb::SameLabelGroup {
    pb::SameLabelGroup { engines: group.engines.clone(), least_share: group.least_share }
}

/// The list suggested for this source; `missed` and `raised` are the indicators of its examples.
pub fn write_preferred_vendors(
    source: &str,
    coverage: pb::EngineCoverage,
    suggestion: &PreferredVendors,
    missed: &[(String, Indicator)],
    raised: &[(String, Indicator)],
) -> pb::PreferredVendorsSuggestion {
    let vendor = |vendor: &PreferredVendor| pb::SuggestedVendor {
        engine: vendor.name.clone(),
        kept_without: count(vendor.kept_without),
    };
    pb::PreferredVendorsSuggestion {
        source: source_name(source),
        coverage: Some(coverage),
        vendors: suggestion.vendors.iter().map(vendor).collect(),
        threshold: count(suggestion.threshold),
        learned_from: count(suggestion.learned_from),
        malicious: count(suggestion.malicious),
        kept: count(suggestion.kept),
        missed: Some(write_changed(&suggestion.missed, missed)),
        raised: Some(write_changed(&suggestion.raised, raised)),
        best_single_engine: suggestion.best_single.0.clone(),
        best_single_kept: count(suggestion.best_single.1),
        performance: suggestion.performance.as_ref().map(write_performance),
        same_labels: suggestion.same_labels.iter().map(write_group).collect(),
        setting: setting(source, suggestion),
    }
}

fn write_changed(changed: &ChangedVerdicts, examples: &[(String, Indicator)]) -> pb::ChangedVerdicts {
    let example = |(verdict, indicator): &(String, Indicator)| pb::ChangedVerdict {
        verdict: format!("verdicts/{verdict}"),
        indicator: Some(write_indicator(indicator)),
    };
    pb::ChangedVerdicts { count: count(changed.count), examples: examples.iter().map(example).collect() }
}

/// The list as it stands in a configuration file.
fn setting(source: &str, suggestion: &PreferredVendors) -> String {
    // Any Unicode text that JSON quotes is a basic string of TOML, too.
    let names = suggestion.vendors.iter().map(|vendor| serde_json::Value::from(vendor.name.as_str()).to_string());
    format!(
        "[sources.{source}]\noptions.preferred_vendors = [{}]\noptions.preferred_threshold = {}\n",
        names.collect::<Vec<_>>().join(", "),
        suggestion.threshold
    )
}
