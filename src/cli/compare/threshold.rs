//! `concord compare threshold`: what a source would have said at each value of a threshold.

use std::path::Path;

use comfy_table::Cell;

use super::{interval, number, result_of, right, share, write_filter, write_picture};
use crate::cli::Failure;
use crate::cli::args::CompareHistory;
use crate::cli::connect::Connection;
use crate::cli::enrich::full_name;
use crate::cli::json::print_messages;
use crate::cli::plot::{PlotError, PlottedValue, Series, ThresholdPlot};
use crate::cli::table::{self, source_id};
use crate::pb;
use crate::pb::suggest_threshold_response::Event;
use crate::verdict::percent;

pub(super) async fn run(
    connection: &Connection,
    source: &str,
    option: Option<&str>,
    history: &CompareHistory,
    plot: Option<&Path>,
) -> Result<(), Failure> {
    let request = pb::SuggestThresholdRequest {
        filter: Some(write_filter(&history.filter)),
        source: full_name(source, "sources"),
        option: option.unwrap_or_default().trim_start_matches("options.").to_owned(),
    };
    let stream = connection.history().suggest_threshold(request).await?.into_inner();
    let curve = result_of(stream, |message| {
        Some(match message.event? {
            Event::Progress(progress) => Err(progress),
            Event::Curve(curve) => Ok(curve),
        })
    });
    let curve = curve.await?;
    if let Some(file) = plot {
        write_picture(file, curve_picture(&curve))?;
    }
    print_messages(history.output, "ThresholdCurve", &[curve], |curves| curves.iter().map(curve_text).collect())
}

fn of(count: i64, all: i64) -> f64 {
    count as f64 / all.max(1) as f64
}

/// The types that are counted, as words between findings and the rest of a sentence.
fn on_types(curve: &pb::ThresholdCurve) -> String {
    let types = curve.indicator_types().map(|known| table::words(known.as_str_name(), "INDICATOR_TYPE_"));
    let types: Vec<String> = types.collect();
    if types.is_empty() { String::new() } else { format!(" on {}", types.join(", ")) }
}

/// The curve for people.
fn curve_text(curve: &pb::ThresholdCurve) -> String {
    heading(curve) + &point_table(curve, |_| true) + &explanation(curve)
}

fn heading(curve: &pb::ThresholdCurve) -> String {
    let (source, option) = (source_id(&curve.source), &curve.option);
    let mut text = format!(
        "{source}.{option}, now {}: {} findings{} read again, {} answers of no record\n",
        curve.present,
        curve.findings,
        on_types(curve),
        curve.no_record
    );
    if curve.pruned > 0 {
        text += &format!("{} findings left out: their raw answers are no longer stored\n", curve.pruned);
    }
    if curve.unreadable > 0 {
        text += &format!("{} findings left out: their raw answers could not be read\n", curve.unreadable);
    }
    if curve.distinct_values <= 1 {
        text += "No value would have changed anything that it said.\n";
    }
    text
}

/// The curve in short: its present and its best values.
pub(in crate::cli) fn curve_summary(curve: &pb::ThresholdCurve) -> String {
    let is_shown = |point: &pb::ThresholdPoint| !notes(curve, point.value).is_empty();
    heading(curve) + &point_table(curve, is_shown) + &explanation(curve)
}

fn point_table(curve: &pb::ThresholdCurve, is_shown: impl Fn(&pb::ThresholdPoint) -> bool) -> String {
    let header = ["VALUE", "MALICIOUS", "SUSPICIOUS", "BENIGN", "LIKE THE REST", "KAPPA", "PRECISION", "RECALL", ""];
    let mut rows = table::plain(&header);
    for point in curve.points.iter().filter(|point| is_shown(point)) {
        let performance = point.performance.unwrap_or_default();
        rows.add_row(vec![
            right(point.value),
            right(percent(of(point.malicious, curve.findings))),
            right(percent(of(point.suspicious, curve.findings))),
            right(percent(of(point.benign, curve.findings))),
            right(share(point.agreement)),
            right(number(point.quadratic_kappa)),
            right(interval(performance.precision.as_ref())),
            right(interval(performance.recall.as_ref())),
            Cell::new(notes(curve, point.value)),
        ]);
    }
    format!("\n{}", table::fitted(rows, None))
}

fn notes(curve: &pb::ThresholdCurve, value: i64) -> String {
    let notes = [
        (value == curve.present, "now"),
        (curve.best_by_labels == Some(value), "best by labels"),
        (curve.best_by_agreement == Some(value), "most like the rest"),
    ];
    notes.into_iter().filter(|(holds, _)| *holds).map(|(_, note)| note).collect::<Vec<_>>().join(", ")
}

fn explanation(curve: &pb::ThresholdCurve) -> String {
    let mut text = String::new();
    let shown = i64::try_from(curve.points.len()).unwrap_or_default();
    if curve.distinct_values > shown {
        text += &format!("{shown} of {} values that differ; a curve has no room for all\n", curve.distinct_values);
    }
    if curve.distinct_values > 1 {
        text += "Between two values it says what it says at the greater one.\n";
    }
    let alarm = if curve.changes_malicious { "malicious" } else { "malicious or suspicious" };
    if curve.points.iter().any(|point| point.performance.is_some()) {
        text += &format!("Precision and recall are those of its claims of {alarm}, by what analysts said.\n");
    } else {
        text += "No analyst has said anything of these indicators, so that there is no precision or recall.\n";
    }
    let best = curve.best_by_labels.or(curve.best_by_agreement);
    if let Some(best) = best.filter(|best| *best != curve.present) {
        let (source, option) = (source_id(&curve.source), &curve.option);
        text += &format!(
            "Nothing is applied. To see what it changes: concord replay --set {source}.{option}={best}\n\
             To set it: concord source set {source} --option {option}={best}\n"
        );
    }
    text
}

/// The curve as a picture.
pub(in crate::cli) fn curve_picture(curve: &pb::ThresholdCurve) -> Result<String, PlotError> {
    threshold_plot(curve).svg()
}

fn threshold_plot(curve: &pb::ThresholdCurve) -> ThresholdPlot {
    let values = curve.points.iter().map(|point| PlottedValue {
        value: point.value,
        is_present: point.value == curve.present,
        is_best: Some(point.value) == curve.best_by_labels.or(curve.best_by_agreement),
    });
    let series = |title: &str, of_point: &dyn Fn(&pb::ThresholdPoint) -> Option<pb::Estimate>| Series {
        title: title.to_owned(),
        points: curve
            .points
            .iter()
            .map(|point| of_point(point).map(|estimate| (estimate.value, estimate.low, estimate.high)))
            .collect(),
    };
    let exact = |value: f64| pb::Estimate { value, low: value, high: value };
    let shares = vec![
        series("malicious", &|point| Some(exact(of(point.malicious, curve.findings)))),
        series("suspicious", &|point| Some(exact(of(point.suspicious, curve.findings)))),
        series("agrees with the rest", &|point| point.agreement.map(exact)),
    ];
    let mut panels = vec![("share of its findings".to_owned(), shares)];
    if curve.points.iter().any(|point| point.performance.is_some()) {
        let performance = |of: fn(&pb::SourcePerformance) -> Option<pb::Estimate>| {
            move |point: &pb::ThresholdPoint| point.performance.as_ref().and_then(of)
        };
        let alarm = if curve.changes_malicious { "malicious" } else { "malicious or suspicious" };
        panels.push((
            format!("claims of {alarm} against labels"),
            vec![
                series("precision", &performance(|performance| performance.precision)),
                series("recall", &performance(|performance| performance.recall)),
            ],
        ));
    }
    ThresholdPlot {
        title: format!("{}.{}: {} findings{}", source_id(&curve.source), curve.option, curve.findings, on_types(curve)),
        values: values.collect(),
        best: if curve.best_by_labels.is_some() { "best by labels" } else { "most like the rest" },
        panels,
    }
}
