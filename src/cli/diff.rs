//! `concord verdict diff`.

use comfy_table::{Cell, CellAlignment, Table};

use super::Failure;
use super::args::ListOutput;
use super::connect::Connection;
use super::enrich::full_name;
use super::json::print_messages;
use super::table::{
    cell, colour, disposition, fitted, letter, painted, paragraph, plain, printable, short_age, source_id, trim_lines,
    words,
};
use crate::pb;
use crate::pb::term_change::Term;

pub(super) async fn print_difference(
    connection: &Connection,
    before: &str,
    after: &str,
    output: ListOutput,
) -> Result<(), Failure> {
    let [before, after] = [before, after].map(|name| full_name(name, "verdicts"));
    let request = pb::CompareVerdictsRequest { before, after };
    let comparison = connection.verdicts().compare_verdicts(request).await?.into_inner().comparison.unwrap_or_default();
    print_messages(output, "VerdictComparison", &[comparison], |comparisons| {
        comparisons.iter().map(comparison_text).collect()
    })
}

/// The dispositions, the terms side by side, and what is different about each.
fn comparison_text(comparison: &pb::VerdictComparison) -> String {
    let value = comparison.indicator.as_ref().map(|indicator| indicator.value.as_str()).unwrap_or_default();
    let [before, after] = [comparison.disposition_before, comparison.disposition_after].map(disposition);
    let arrow = if before == after { String::new() } else { format!("{} -> ", painted(before, colour(before))) };
    let mut text = format!("{arrow}{}  {}\n", painted(after, colour(after)), printable(value));
    text += &paragraph(&printable(&comparison.summary), "  ");
    if !comparison.terms.is_empty() {
        text += &fitted(terms(comparison), None);
    }
    let sentences = comparison.terms.iter().map(|term| &term.sentence).filter(|sentence| !sentence.is_empty());
    text.extend(sentences.map(|sentence| paragraph(&printable(sentence), "  ")));
    text += &paragraph(&printable(&format!("{} -> {}", comparison.before, comparison.after)), "  ");
    trim_lines(&text)
}

fn terms(comparison: &pb::VerdictComparison) -> Table {
    let mut table = plain(&["  SOURCE", "BEFORE", "AFTER", "NATS BEFORE", "NATS AFTER", "DIFFERENCE", "BY"]);
    for term in &comparison.terms {
        let state = |state: &Option<pb::TermState>| state.as_ref().and_then(|state| state.micro_nats);
        // A policy that corrects nothing, as in the table of a verdict.
        let is_empty = matches!(term.term, Some(Term::Calibration(_)))
            && [state(&term.before), state(&term.after)].iter().all(|micro| micro.unwrap_or_default() == 0);
        if is_empty {
            continue;
        }
        let causes: Vec<String> = term.causes().map(|cause| words(cause.as_str_name(), "CHANGE_CAUSE_")).collect();
        table.add_row(vec![
            cell(format!("  {}", name(term))),
            cell(said(term.before.as_ref())),
            cell(said(term.after.as_ref())),
            nats(state(&term.before)),
            nats(state(&term.after)),
            nats(term.difference_micro_nats),
            Cell::new(causes.join(", ")),
        ]);
    }
    if let Some(difference) = comparison.difference_micro_nats {
        let (before, after) = (comparison.log_odds_before_micro_nats, comparison.log_odds_after_micro_nats);
        let empty = || Cell::new("");
        table.add_row(vec![
            Cell::new("  (sum)"),
            empty(),
            empty(),
            nats(before),
            nats(after),
            nats(Some(difference)),
            empty(),
        ]);
    }
    table
}

fn name(term: &pb::TermChange) -> &str {
    match &term.term {
        Some(Term::Prior(_)) => "(prior)",
        Some(Term::Calibration(_)) => "(calibration)",
        Some(Term::Source(source)) => source_id(source),
        None => "",
    }
}

/// What a source said in one of the verdicts: `malicious (B, 3d)`.
fn said(state: Option<&pb::TermState>) -> String {
    let Some(state) = state else { return "-".to_owned() };
    let what = match state.outcome() {
        pb::OutcomeKind::Unspecified => return String::new(),
        pb::OutcomeKind::Finding => disposition(state.claim).to_owned(),
        other @ (pb::OutcomeKind::NoRecord | pb::OutcomeKind::Error | pb::OutcomeKind::NotAsked) => {
            words(other.as_str_name(), "OUTCOME_KIND_")
        }
    };
    let age = state.age.as_ref().map(|age| format!(", {}", short_age(age))).unwrap_or_default();
    format!("{what} ({}{age})", letter(state.reliability))
}

fn nats(micro_nats: Option<i64>) -> Cell {
    let text = match micro_nats {
        None => String::new(),
        Some(0) => "0".to_owned(),
        Some(micro) => format!("{:+.3}", micro as f64 / 1e6),
    };
    Cell::new(text).set_alignment(CellAlignment::Right)
}
