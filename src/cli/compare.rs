//! `concord compare`: what the history of verdicts says of the sources; `engines.rs` of the engines inside one.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use comfy_table::{Cell, CellAlignment};
use indicatif::{ProgressBar, ProgressStyle};
use tonic::Streaming;

use super::Failure;
use super::args::{Client, Compare, CompareHistory, HistoryArgs};
use super::connect::Connection;
use super::enrich::full_name;
use super::history::since;
use super::json::print_messages;
use super::plot::{CurvePlot, CurvePoint, PlotError, SourcePlot};
use super::table::{self, letter, source_id};
use crate::convert::indicator::{write_disposition, write_type};
use crate::pb;
use crate::pb::compare_sources_response::Event as CompareEvent;
use crate::pb::fit_calibration_response::Event as FitEvent;
use crate::pb::suggest_reliability_response::Event as SuggestEvent;
use crate::verdict::percent;

mod engines;
mod threshold;

pub(super) use threshold::{curve_picture, curve_summary};

/// Pairs in the table, the most alike first; JSON has all.
const MOST_PAIRS: usize = 15;

pub(super) async fn run(client: &Client, command: Compare) -> Result<ExitCode, Failure> {
    let done = Connection::with(client, async |connection| match &command {
        Compare::Sources { sources, history, plot } => {
            compare_sources(connection, sources, history, plot.as_deref()).await
        }
        Compare::Engines { source, history, plot } => {
            engines::compare_engines(connection, source.as_deref(), history, plot.as_deref()).await
        }
        Compare::Vendors { source, history } => engines::suggest_vendors(connection, source.as_deref(), history).await,
        Compare::Letters { history, policy, without_labels } => {
            suggest_letters(connection, history, policy.as_deref(), *without_labels).await
        }
        Compare::Calibration { history, policy, plot } => {
            fit_calibration(connection, history, policy.as_deref(), plot.as_deref()).await
        }
        Compare::Threshold { source, option, history, plot } => {
            threshold::run(connection, source, option.as_deref(), history, plot.as_deref()).await
        }
    });
    done.await.map(|()| ExitCode::SUCCESS)
}

/// Which verdicts to read.
pub(super) fn write_filter(filter: &HistoryArgs) -> pb::HistoryFilter {
    pb::HistoryFilter {
        from_time: since(filter.since),
        until_time: None,
        indicator_type: filter.indicator_type.map_or(0, |indicator_type| write_type(indicator_type).into()),
        disposition: filter.disposition.map_or(0, |disposition| write_disposition(disposition).into()),
    }
}

/// Shows how far the history was read, on a terminal.
pub(super) struct ReadingBar(ProgressBar);

impl ReadingBar {
    pub(super) fn new() -> Self {
        let style = ProgressStyle::with_template("{bar:30} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        Self(bar.with_style(style))
    }

    pub(super) fn show(&self, progress: &pb::HistoryProgress) {
        let left = progress.remaining.as_ref().map(|left| format!(", about {} left", table::short_age(left)));
        if progress.is_waiting {
            self.0.set_message("waits until another history is read");
            return;
        }
        self.0.set_length(u64::try_from(progress.total).unwrap_or_default());
        self.0.set_position(u64::try_from(progress.read).unwrap_or_default());
        let text = format!("{} of {} verdicts read{}", progress.read, progress.total, left.unwrap_or_default());
        self.0.set_message(text);
    }
}

impl Drop for ReadingBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// The result at the end of a stream of progress. `sort` tells one from the other.
async fn result_of<M, R>(
    mut stream: Streaming<M>,
    sort: impl Fn(M) -> Option<Result<R, pb::HistoryProgress>>,
) -> Result<R, Failure> {
    let bar = ReadingBar::new();
    while let Some(message) = stream.message().await? {
        match sort(message) {
            Some(Ok(result)) => return Ok(result),
            Some(Err(progress)) => bar.show(&progress),
            None => {}
        }
    }
    Err(Failure::new("the server ended without a result"))
}

async fn compare_sources(
    connection: &Connection,
    sources: &[String],
    history: &CompareHistory,
    plot: Option<&Path>,
) -> Result<(), Failure> {
    let request = pb::CompareSourcesRequest {
        filter: Some(write_filter(&history.filter)),
        sources: sources.iter().map(|source| full_name(source, "sources")).collect(),
    };
    let stream = connection.history().compare_sources(request).await?.into_inner();
    let comparison = result_of(stream, |message| {
        Some(match message.event? {
            CompareEvent::Progress(progress) => Err(progress),
            CompareEvent::Comparison(comparison) => Ok(comparison),
        })
    });
    let comparison = comparison.await?;
    if let Some(file) = plot {
        write_picture(file, source_picture(&comparison))?;
    }
    print_messages(history.output, "SourceComparison", &[comparison], |comparisons| {
        comparisons.iter().map(comparison_text).collect()
    })
}

/// Writes a picture, anew where the file exists.
fn write_picture(file: &Path, svg: Result<String, PlotError>) -> Result<(), Failure> {
    let svg = svg.map_err(|error| Failure::new(format!("{}: cannot be drawn: {error}", file.display())))?;
    std::fs::write(file, svg).map_err(|error| Failure::io(file.display(), &error))
}

/// The comparison as a picture.
pub(super) fn source_picture(comparison: &pb::SourceComparison) -> Result<String, PlotError> {
    source_plot(comparison).svg()
}

fn source_plot(comparison: &pb::SourceComparison) -> SourcePlot {
    let names: Vec<String> = comparison.sources.iter().map(|source| source_id(&source.source).to_owned()).collect();
    let place = |source: &str| comparison.sources.iter().position(|each| each.source == source);
    let mut agreement = vec![vec![None; names.len()]; names.len()];
    for (place, row) in agreement.iter_mut().enumerate() {
        row[place] = Some(1.0);
    }
    for pair in &comparison.pairs {
        let kappa = pair.quadratic_kappa.as_ref().map(|kappa| kappa.value);
        if let (Some(first), Some(second)) = (place(&pair.first), place(&pair.second)) {
            (agreement[first][second], agreement[second][first]) = (kappa, kappa);
        }
    }
    let mut outlined = Vec::new();
    for family in &comparison.suggested_families {
        let members: Vec<usize> = family.sources.iter().filter_map(|source| place(source)).collect();
        for (before, second) in members.iter().enumerate() {
            outlined.extend(members[..before].iter().map(|first| (*first, *second)));
        }
    }
    let all = comparison.verdicts.max(1) as f64;
    let shares = |share: &dyn Fn(&pb::SourceStatistics) -> f64| comparison.sources.iter().map(share).collect();
    let bars = vec![
        ("coverage".to_owned(), shares(&|source| source.coverage)),
        ("decisive".to_owned(), shares(&|source| source.decisive as f64 / all)),
    ];
    SourcePlot { names, agreement, outlined, bars }
}

fn curve_plot(reports: &pb::CalibrationReports) -> CurvePlot {
    let all = reports.reports.first().cloned().unwrap_or_default();
    let point = |bin: &pb::CalibrationBin| {
        let share = bin.share.unwrap_or_default();
        CurvePoint {
            probability: bin.probability,
            share: share.value,
            low: share.low,
            high: share.high,
            labels: bin.labels,
        }
    };
    CurvePlot {
        title: format!("{}, revision {}, {} labels", reports.policy, reports.policy_revision, all.labels),
        points: all.curve.iter().map(point).collect(),
    }
}

/// The comparison for people: totals, sources, pairs, families.
pub(super) fn comparison_text(comparison: &pb::SourceComparison) -> String {
    let labels = comparison.labelled_malicious + comparison.labelled_benign;
    let mut text = format!(
        "{} verdicts, {labels} labelled ({} malicious, {} benign); {} with the opinions of several sources: alpha {}, AC1 {}\n\n",
        comparison.verdicts,
        comparison.labelled_malicious,
        comparison.labelled_benign,
        comparison.pairable,
        number(comparison.alpha_ordinal),
        number(comparison.ac1),
    );
    text += &source_table(comparison);
    if labels > 0 {
        text += &format!("\n{}", performance_table(comparison));
    }
    text += &format!("\n{}", pair_table(comparison));
    if comparison.left_out > 0 {
        text += &format!("{} outcomes are left out: only 128 sources are compared\n", comparison.left_out);
    }
    text + &families_text(comparison)
}

/// The comparison in short: the sources, and who should be one family.
pub(super) fn source_text(comparison: &pb::SourceComparison) -> String {
    source_table(comparison) + &families_text(comparison)
}

fn families_text(comparison: &pb::SourceComparison) -> String {
    let line = |family: &pb::SuggestedFamily| {
        let names: Vec<&str> = family.sources.iter().map(|source| source_id(source)).collect();
        format!("\nShare data, and should be one family: {}\n", names.join(", "))
    };
    comparison.suggested_families.iter().map(line).collect()
}

fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

fn share(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), percent)
}

fn source_table(comparison: &pb::SourceComparison) -> String {
    let header = [
        "SOURCE",
        "LETTER",
        "COVERAGE",
        "MALICIOUS",
        "SUSPICIOUS",
        "BENIGN",
        "DECISIVE",
        "ALONE",
        "AGREES",
        "DAYS EARLY",
        "UNITS",
        "UNITS/DECISIVE",
        "LATENCY",
        "FAILED",
    ];
    let mut rows = table::plain(&header);
    let is_known = comparison.verdicts_with_units > 0;
    for source in &comparison.sources {
        rows.add_row(vec![
            table::cell(source_id(&source.source)),
            Cell::new(letter(source.reliability)),
            right(percent(source.coverage)),
            right(source.malicious),
            right(source.suspicious),
            right(source.benign),
            right(source.decisive),
            right(source.lone_alarms),
            right(share(source.agreement_with_merged)),
            right(days(source.lead.as_ref())),
            right(if is_known { source.units.to_string() } else { "-".to_owned() }),
            right(source.units_per_decisive.map_or_else(|| "-".to_owned(), |units| format!("{units:.1}"))),
            right(source.median_latency.as_ref().map_or_else(|| "-".to_owned(), milliseconds)),
            right(source.failed),
        ]);
    }
    table::fitted(rows, None) + &units_text(comparison) + &lead_text(comparison)
}

/// In how many verdicts the units are known, where that is not in all.
fn units_text(comparison: &pb::SourceComparison) -> String {
    let pb::SourceComparison { verdicts, verdicts_with_units, .. } = comparison;
    if verdicts_with_units == verdicts {
        return String::new();
    }
    format!("Units are known of {verdicts_with_units} of {verdicts} verdicts: earlier ones do not say what they cost\n")
}

/// From when the days of "days early" count, which is not the same for all.
fn lead_text(comparison: &pb::SourceComparison) -> String {
    let with_lead = comparison.sources.iter().filter(|source| source.lead.is_some());
    let (listed, affirmed): (Vec<_>, Vec<_>) =
        with_lead.partition(|source| source.lead_basis() == pb::LeadBasis::ListingDate);
    let names = |sources: &[&pb::SourceStatistics]| {
        sources.iter().map(|source| source_id(&source.source)).collect::<Vec<_>>().join(", ")
    };
    let affirmed_from = "from when it affirmed its claim, which may be long after it first made it";
    match (listed.is_empty(), affirmed.is_empty()) {
        (true, true) => String::new(),
        (true, false) => format!("Days early: of each source {affirmed_from}\n"),
        (false, true) => "Days early: of each source from the day of listing\n".to_owned(),
        (false, false) => {
            format!("Days early: of {} from the day of listing, of the others {affirmed_from}\n", names(&listed))
        }
    }
}

fn days(lead: Option<&pb::Lead>) -> String {
    lead.map_or_else(|| "-".to_owned(), |lead| format!("{:+.1}", lead.median_days))
}

fn milliseconds(time: &prost_types::Duration) -> String {
    format!("{} ms", time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000)
}

fn performance_table(comparison: &pb::SourceComparison) -> String {
    let header = ["SOURCE", "LABELS", "PRECISION", "RECALL", "SPECIFICITY", "BALANCED", "LR+", "LR-"];
    let mut rows = table::plain(&header);
    for source in &comparison.sources {
        let Some(performance) = &source.performance else { continue };
        let labels = performance.true_alarms + performance.missed + performance.false_alarms + performance.true_silence;
        rows.add_row(vec![
            table::cell(source_id(&source.source)),
            right(labels),
            right(interval(performance.precision.as_ref())),
            right(interval(performance.recall.as_ref())),
            right(interval(performance.specificity.as_ref())),
            right(number(performance.balanced_accuracy)),
            right(interval(performance.positive_likelihood_ratio.as_ref())),
            right(interval(performance.negative_likelihood_ratio.as_ref())),
        ]);
    }
    table::fitted(rows, None)
}

/// `0.89 (0.81-0.94)`.
fn interval(estimate: Option<&pb::Estimate>) -> String {
    let written = |estimate: &pb::Estimate| format!("{:.2} ({:.2}-{:.2})", estimate.value, estimate.low, estimate.high);
    estimate.map_or_else(|| "-".to_owned(), written)
}

fn pair_table(comparison: &pb::SourceComparison) -> String {
    // Two sources that say the same of everything have no kappa, however alike they are: their Jaccard index shows them.
    let is_shown = |pair: &&pb::SourcePair| pair.agreement.is_some() || pair.residual_correlation.is_some();
    let mut pairs: Vec<&pb::SourcePair> = comparison.pairs.iter().filter(is_shown).collect();
    let beyond = |pair: &pb::SourcePair| pair.residual_correlation.unwrap_or(f64::MIN);
    let jaccard = |pair: &pb::SourcePair| pair.jaccard.unwrap_or_default();
    pairs.sort_by(|one, other| beyond(other).total_cmp(&beyond(one)).then(jaccard(other).total_cmp(&jaccard(one))));
    let header = ["PAIR", "JOINT", "AGREE", "KAPPA", "QUADRATIC", "JACCARD", "BEYOND THE TRUTH", "DAYS EARLY"];
    let mut rows = table::plain(&header);
    for pair in pairs.iter().take(MOST_PAIRS) {
        rows.add_row(vec![
            table::cell(format!("{} - {}", source_id(&pair.first), source_id(&pair.second))),
            right(pair.joint),
            right(share(pair.agreement)),
            right(interval(pair.kappa.as_ref())),
            right(interval(pair.quadratic_kappa.as_ref())),
            right(number(pair.jaccard)),
            right(number(pair.residual_correlation)),
            right(days(pair.lead.as_ref())),
        ]);
    }
    let hidden = comparison.pairs.len() - pairs.len().min(MOST_PAIRS);
    let note = if hidden == 0 {
        String::new()
    } else {
        format!("{hidden} more pairs: with fewer than 20 joint answers, or less alike; -o json has all\n")
    };
    table::fitted(rows, None) + &note
}

async fn suggest_letters(
    connection: &Connection,
    history: &CompareHistory,
    policy: Option<&str>,
    without_labels: bool,
) -> Result<(), Failure> {
    let request = pb::SuggestReliabilityRequest {
        filter: Some(write_filter(&history.filter)),
        policy: policy.map(|policy| full_name(policy, "policies")).unwrap_or_default(),
        without_labels,
    };
    let stream = connection.history().suggest_reliability(request).await?.into_inner();
    let suggestions = result_of(stream, |message| {
        Some(match message.event? {
            SuggestEvent::Progress(progress) => Err(progress),
            SuggestEvent::Suggestions(suggestions) => Ok(suggestions),
        })
    });
    let suggestions = suggestions.await?.suggestions;
    print_messages(history.output, "ReliabilitySuggestion", &suggestions, letter_table)
}

/// The suggestions for people.
pub(super) fn letter_table(suggestions: &[pb::ReliabilitySuggestion]) -> String {
    let mut rows =
        table::plain(&["SOURCE", "ON", "RATED", "LIKE", "RANGE", "LABELS", "MALICIOUS", "SUSPICIOUS", "BENIGN", ""]);
    for suggestion in suggestions {
        let evidence = |learned: Option<pb::LearnedEvidence>| {
            let learned = learned.unwrap_or_default();
            right(format!("{:+.2} ± {:.2}", learned.nats, learned.deviation))
        };
        let of_type = match suggestion.indicator_type() {
            pb::IndicatorType::Unspecified => "all".to_owned(),
            some => table::words(some.as_str_name(), "INDICATOR_TYPE_"),
        };
        // Letters are numbered from the best to the worst.
        let is_within = (suggestion.best..=suggestion.worst).contains(&suggestion.rated);
        let note = match (suggestion.is_inverted, is_within) {
            (true, _) => "says the opposite of the truth",
            (false, false) => "another letter",
            (false, true) => "",
        };
        rows.add_row(vec![
            table::cell(source_id(&suggestion.source)),
            Cell::new(of_type),
            Cell::new(letter(suggestion.rated)),
            Cell::new(letter(suggestion.behaves_like)),
            Cell::new(format!("{} to {}", letter(suggestion.best), letter(suggestion.worst))),
            right(format!("{:.0}", suggestion.effective_labels)),
            evidence(suggestion.malicious),
            evidence(suggestion.suspicious),
            evidence(suggestion.benign),
            Cell::new(note),
        ]);
    }
    let basis = match suggestions.iter().all(|suggestion| suggestion.from_labels) {
        true => "Learned from what analysts said.\n",
        false => {
            "Learned from what the sources say together, and from labels where there are any.\n\
             This is weaker than labels alone: sources that err together confirm each other.\n"
        }
    };
    table::fitted(rows, None) + basis
}

async fn fit_calibration(
    connection: &Connection,
    history: &CompareHistory,
    policy: Option<&str>,
    plot: Option<&Path>,
) -> Result<(), Failure> {
    let request = pb::FitCalibrationRequest {
        filter: Some(write_filter(&history.filter)),
        policy: policy.map(|policy| full_name(policy, "policies")).unwrap_or_default(),
    };
    let stream = connection.history().fit_calibration(request).await?.into_inner();
    let reports = result_of(stream, |message| {
        Some(match message.event? {
            FitEvent::Progress(progress) => Err(progress),
            FitEvent::Reports(reports) => Ok(reports),
        })
    });
    let reports = reports.await?;
    if let Some(file) = plot {
        write_picture(file, curve_plot(&reports).svg())?;
    }
    print_messages(history.output, "CalibrationReports", &[reports], |reports| {
        reports.iter().map(calibration_text).collect()
    })
}

fn calibration_text(reports: &pb::CalibrationReports) -> String {
    let mut text = format!("{}, revision {}\n\n", reports.policy, reports.policy_revision);
    let mut rows = table::plain(&[
        "ON",
        "LABELS",
        "MALICIOUS",
        "SHARE",
        "PRIOR",
        "BRIER",
        "ERROR",
        "SHIFT",
        "SCALE",
        "BRIER THEN",
    ]);
    for report in &reports.reports {
        let of_type = match report.indicator_type() {
            pb::IndicatorType::Unspecified => "all".to_owned(),
            some => table::words(some.as_str_name(), "INDICATOR_TYPE_"),
        };
        let fit = |value: Option<f64>| right(value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}")));
        rows.add_row(vec![
            Cell::new(of_type),
            right(report.labels),
            right(report.malicious),
            right(percent(report.malicious as f64 / report.labels.max(1) as f64)),
            right(share(report.prior)),
            right(format!("{:.3}", report.brier)),
            right(format!("{:.3}", report.expected_calibration_error)),
            fit(report.calibration.as_ref().and_then(|calibration| calibration.shift)),
            fit(report.calibration.as_ref().and_then(|calibration| calibration.scale)),
            fit(report.fitted_brier),
        ]);
    }
    text += &table::fitted(rows, None);
    if reports.reports.iter().any(|report| report.calibration.is_none()) {
        text += "A fit needs 30 labels of malicious and 30 of benign indicators.\n";
    }
    text += "SHIFT fits the probabilities to the SHARE of malicious among what analysts chose to label. Where that is far from PRIOR,\n\
             which the policy takes for all that is looked up, label a random sample first.\n";
    if let Some(all) = reports.reports.first() {
        let mut rows = table::plain(&["PROBABILITY", "ARE MALICIOUS", "LABELS"]);
        for bin in &all.curve {
            rows.add_row(vec![
                right(format!("{:.2}", bin.probability)),
                right(interval(bin.share.as_ref())),
                right(bin.labels),
            ]);
        }
        text += &format!("\n{}", table::fitted(rows, None));
    }
    text
}
