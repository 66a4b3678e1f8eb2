//! `concord compare engines` and `concord compare vendors`: what the history says of the engines inside VirusTotal.

use std::path::Path;

use super::super::Failure;
use super::super::args::CompareHistory;
use super::super::connect::Connection;
use super::super::enrich::full_name;
use super::super::json::print_messages;
use super::super::plot::EnginePlot;
use super::super::table::{self, source_id};
use super::{interval, result_of, right, share, write_filter, write_picture};
use crate::pb;
use crate::pb::compare_engines_response::Event as CompareEvent;
use crate::pb::suggest_preferred_vendors_response::Event as SuggestEvent;
use crate::verdict::percent;

pub(super) async fn compare_engines(
    connection: &Connection,
    source: Option<&str>,
    history: &CompareHistory,
    plot: Option<&Path>,
) -> Result<(), Failure> {
    let request = pb::CompareEnginesRequest {
        filter: Some(write_filter(&history.filter)),
        source: source.map(|source| full_name(source, "sources")).unwrap_or_default(),
    };
    let stream = connection.history().compare_engines(request).await?.into_inner();
    let comparison = result_of(stream, |message| {
        Some(match message.event? {
            CompareEvent::Progress(progress) => Err(progress),
            CompareEvent::Comparison(comparison) => Ok(comparison),
        })
    });
    let comparison = comparison.await?;
    if let Some(file) = plot {
        write_picture(file, engine_plot(&comparison).svg())?;
    }
    print_messages(history.output, "EngineComparison", &[comparison], |comparisons| {
        comparisons.iter().map(comparison_text).collect()
    })
}

/// The picture: engines with identical labels side by side, then the others, those with most hits first.
fn engine_plot(comparison: &pb::EngineComparison) -> EnginePlot {
    let group = |engine: &pb::EngineStatistics| {
        comparison.same_labels.iter().position(|group| group.engines.contains(&engine.engine)).unwrap_or(usize::MAX)
    };
    let mut engines: Vec<&pb::EngineStatistics> = comparison.engines.iter().collect();
    engines.sort_by_key(|engine| (group(engine), -engine.hits));
    let place = |name: &str| engines.iter().position(|engine| engine.engine == name);
    let mut cells = vec![vec![None; engines.len()]; engines.len()];
    for pair in &comparison.pairs {
        let Some((one, other)) = place(&pair.first).zip(place(&pair.second)) else { continue };
        cells[one.min(other)][one.max(other)] = Some(pair.jaccard);
        cells[one.max(other)][one.min(other)] = pair.equal_share.as_ref().map(|share| share.value);
    }
    let coverage = comparison.coverage.unwrap_or_default();
    let all = (coverage.with_all_engines + coverage.with_hits_only).max(1) as f64;
    let shares = |share: &dyn Fn(&pb::EngineStatistics) -> f64| engines.iter().map(|engine| share(engine)).collect();
    let false_share = |engine: &pb::EngineStatistics| match engine.true_hits + engine.false_hits {
        0 => 0.0,
        labelled => engine.false_hits as f64 / labelled as f64,
    };
    EnginePlot {
        names: engines.iter().map(|engine| engine.engine.clone()).collect(),
        groups: comparison.same_labels.iter().map(|group| group.engines.len()).collect(),
        cells,
        bars: vec![
            ("hits".to_owned(), shares(&|engine| engine.hits as f64 / all)),
            ("lone hits".to_owned(), shares(&|engine| engine.lone_hits as f64 / all)),
            ("agrees with merged".to_owned(), shares(&|engine| engine.agreement_with_merged.unwrap_or_default())),
            ("false among labelled hits".to_owned(), shares(&false_share)),
        ],
    }
}

/// What the numbers are made from, in a sentence for each.
fn coverage_text(source: &str, coverage: &pb::EngineCoverage) -> String {
    let source = source_id(source);
    let known = coverage.with_all_engines + coverage.with_hits_only;
    let mut text = format!(
        "{} verdicts, {} with a finding of {source}; {known} of these hold what its engines say\n",
        coverage.verdicts, coverage.findings
    );
    let notes = [
        (coverage.with_hits_only, "name only the engines that object: their hits count, silence is not known"),
        (coverage.read_again, "were read again from their raw answers"),
        (coverage.pruned, "would say more, but their raw answers are no longer stored"),
        (coverage.unreadable, "would say more, but their raw answers do not, or could not be read"),
        (coverage.left_out, "do not name the engines that say malicious, and are left out"),
    ];
    for (count, note) in notes.into_iter().filter(|(count, _)| *count > 0) {
        text += &format!("{count} {note}\n");
    }
    text
}

fn comparison_text(comparison: &pb::EngineComparison) -> String {
    let mut text = coverage_text(&comparison.source, &comparison.coverage.unwrap_or_default());
    let (malicious, benign) = (comparison.labelled_malicious, comparison.labelled_benign);
    text += &format!("{} labelled ({malicious} malicious, {benign} benign)\n\n", malicious + benign);
    let header = ["ENGINE", "HITS", "ALONE", "SUSPICIOUS", "OPINIONS", "AGREES", "KAPPA", "TRUE", "FALSE", "PRECISION"];
    let mut rows = table::plain(&header);
    for engine in &comparison.engines {
        rows.add_row(vec![
            table::cell(&engine.engine),
            right(engine.hits),
            right(engine.lone_hits),
            right(engine.suspicious),
            right(engine.opinions),
            right(share(engine.agreement_with_merged)),
            right(interval(engine.kappa.as_ref())),
            right(engine.true_hits),
            right(engine.false_hits),
            right(interval(engine.precision.as_ref())),
        ]);
    }
    text += &table::fitted(rows, None);
    text += &groups_text(&comparison.same_labels);
    if comparison.left_out_results > 0 {
        let left_out = comparison.left_out_results;
        text += &format!("\n{left_out} results of engines beyond 128 are left out\n");
    }
    text
}

fn groups_text(groups: &[pb::SameLabelGroup]) -> String {
    let line = |group: &pb::SameLabelGroup| {
        let (engines, share) = (table::printable(&group.engines.join(", ")), percent(group.least_share));
        format!("\nGive identical labels ({share} and more), and are one opinion: {engines}\n")
    };
    groups.iter().map(line).collect()
}

pub(super) async fn suggest_vendors(
    connection: &Connection,
    source: Option<&str>,
    history: &CompareHistory,
) -> Result<(), Failure> {
    let request = pb::SuggestPreferredVendorsRequest {
        filter: Some(write_filter(&history.filter)),
        source: source.map(|source| full_name(source, "sources")).unwrap_or_default(),
    };
    let stream = connection.history().suggest_preferred_vendors(request).await?.into_inner();
    let suggestion = result_of(stream, |message| {
        Some(match message.event? {
            SuggestEvent::Progress(progress) => Err(progress),
            SuggestEvent::Suggestion(suggestion) => Ok(suggestion),
        })
    });
    print_messages(history.output, "PreferredVendorsSuggestion", &[suggestion.await?], |suggestions| {
        suggestions.iter().map(suggestion_text).collect()
    })
}

fn suggestion_text(suggestion: &pb::PreferredVendorsSuggestion) -> String {
    let source = source_id(&suggestion.source);
    let mut text = coverage_text(&suggestion.source, &suggestion.coverage.unwrap_or_default());
    let of_verdicts = |kept: i64| {
        let all = suggestion.learned_from;
        format!("{kept} of {all} verdicts ({})", percent(kept as f64 / all.max(1) as f64))
    };
    text += &format!(
        "\nMalicious where {} of these {} say so: this keeps {}, of which {} are malicious\n\n",
        suggestion.threshold,
        suggestion.vendors.len(),
        of_verdicts(suggestion.kept),
        suggestion.malicious,
    );
    let mut rows = table::plain(&["ENGINE", "KEPT WITHOUT IT"]);
    for vendor in &suggestion.vendors {
        rows.add_row(vec![table::cell(&vendor.engine), right(vendor.kept_without)]);
    }
    text += &table::fitted(rows, None);
    let (best, kept) = (table::printable(&suggestion.best_single_engine), of_verdicts(suggestion.best_single_kept));
    text += &format!("\nThe best single engine, {best}, keeps {kept}\n");
    if let Some(performance) = &suggestion.performance {
        let (precision, recall) = (interval(performance.precision.as_ref()), interval(performance.recall.as_ref()));
        text += &format!("By what analysts said the list has precision {precision} and recall {recall}\n");
    }
    text += &groups_text(&suggestion.same_labels);
    text += &changed_text("malicious verdicts on which the list would not say malicious", suggestion.missed.as_ref());
    text += &changed_text("other verdicts on which it would", suggestion.raised.as_ref());
    let names: Vec<&str> = suggestion.vendors.iter().map(|vendor| vendor.engine.as_str()).collect();
    text + &format!(
        "\nNothing is applied. To try it on the past:\n\n  concord replay --set 'sources/{source}.preferred_vendors={}' --set \
         sources/{source}.preferred_threshold={}\n\nTo set it, in the configuration file:\n\n{}",
        table::printable(&serde_json::Value::from(names).to_string()).replace('\'', "'\\''"),
        suggestion.threshold,
        suggestion.setting
    )
}

fn changed_text(what: &str, changed: Option<&pb::ChangedVerdicts>) -> String {
    let Some(changed) = changed.filter(|changed| changed.count > 0) else { return String::new() };
    let mut rows = table::plain(&["INDICATOR", "NAME"]);
    for example in &changed.examples {
        let indicator = example.indicator.as_ref().map(|indicator| table::shortened(&indicator.value));
        rows.add_row(vec![table::cell(indicator.unwrap_or_default()), table::cell(&example.verdict)]);
    }
    format!("\n{} {what}; at most ten of them:\n\n{}", changed.count, table::fitted(rows, None))
}
