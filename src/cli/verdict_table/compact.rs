//! What an analyst needs first, in eighty columns: the sources that took a side, what decides on top, and the others by what
//! they did instead.

use comfy_table::{Cell, Table};

use super::wide::{claim_cell, judged_as_xsoar, with_note};
use super::{is_terminal, weight};
use crate::cli::table::{cell, disposition, letter, plain, printable, source_id, width, words};
use crate::pb;
use crate::pb::contribution::Term;
use crate::pb::outcome::Result as Wire;

/// Width where there is no terminal to fill.
const PLAIN_WIDTH: usize = 80;

/// One row for each source with a finding, the weightiest first.
pub(super) fn table(verdict: &pb::Verdict, receipt: Option<&pb::Receipt>) -> Option<Table> {
    let mut found: Vec<(&pb::Outcome, &pb::Finding, Option<i64>)> = verdict
        .outcomes
        .iter()
        .filter_map(|outcome| match &outcome.result {
            Some(Wire::Finding(finding)) => Some((outcome, finding, micro_nats(verdict, outcome))),
            Some(Wire::NoRecord(_) | Wire::Error(_) | Wire::NotAsked(_)) | None => None,
        })
        .collect();
    if found.is_empty() {
        return None;
    }
    let is_other = |outcome: &pb::Outcome| outcome.source != verdict.deciding_source;
    found.sort_by_key(|(outcome, finding, micro)| {
        let micro = micro.map_or(0, i64::unsigned_abs);
        (is_other(outcome), std::cmp::Reverse((micro, finding.claim)), outcome.reliability)
    });
    let has_weights = !verdict.contributions.is_empty();
    let header: &[&str] = if has_weights {
        &["  SOURCE", "LETTER", "SAYS", "WEIGHT", "WHY"]
    } else {
        &["  SOURCE", "LETTER", "SAYS", "WHY"]
    };
    let longest =
        found.iter().map(|(outcome, ..)| source_id(&outcome.source).chars().count()).max().unwrap_or_default();
    // The other columns: name and mark, letter, longest claim, weight, and the gaps between.
    let taken = (longest + 4).max(9) + 7 + 12 + if has_weights { 9 } else { 0 };
    let room = (if is_terminal() { width() } else { PLAIN_WIDTH }).saturating_sub(taken + 1);
    let mut rows = plain(header);
    for (outcome, finding, micro) in found {
        let decides = if is_other(outcome) { "  " } else { "* " };
        let mut row = vec![
            cell(format!("{decides}{}", source_id(&outcome.source))),
            Cell::new(letter(outcome.reliability)),
            claim_cell(outcome, verdict),
        ];
        if has_weights {
            row.push(micro.map_or_else(|| Cell::new(""), weight));
        }
        row.push(cell(cut(&why(outcome, finding, verdict, receipt), room)));
        rows.add_row(row);
    }
    Some(rows)
}

fn micro_nats(verdict: &pb::Verdict, outcome: &pb::Outcome) -> Option<i64> {
    let is_of = |term: &&pb::Contribution| matches!(&term.term, Some(Term::Source(name)) if *name == outcome.source);
    verdict.contributions.iter().find(is_of).map(|term| term.micro_nats)
}

fn why(outcome: &pb::Outcome, finding: &pb::Finding, verdict: &pb::Verdict, receipt: Option<&pb::Receipt>) -> String {
    if let Some(xsoar) = judged_as_xsoar(finding, verdict) {
        return format!("as Cortex XSOAR rates it: {}; here {}", xsoar.reason, disposition(finding.claim));
    }
    let receipts = receipt.map(|receipt| receipt.sources.as_slice()).unwrap_or_default();
    let receipt = receipts.iter().find(|receipt| receipt.source == outcome.source);
    with_note(finding.reasons.join("; "), receipt)
}

fn cut(text: &str, room: usize) -> String {
    match text.char_indices().nth(room.saturating_sub(1)) {
        Some((end, _)) if text.chars().count() > room => format!("{}…", text.get(..end).unwrap_or_default().trim_end()),
        Some(_) | None => text.to_owned(),
    }
}

/// The sources that answered with nothing, and those that failed, one line each.
pub(super) fn silent(verdict: &pb::Verdict) -> Vec<String> {
    let mut silent = Vec::new();
    let mut lines = Vec::new();
    for outcome in &verdict.outcomes {
        let source = source_id(&outcome.source);
        match &outcome.result {
            Some(Wire::NoRecord(_)) => silent.push(source),
            Some(Wire::Error(error)) => {
                let kind = words(error.kind().as_str_name(), "SOURCE_ERROR_KIND_");
                lines.push(printable(&format!("failed: {source} ({kind}: {})", error.detail)));
            }
            Some(Wire::Finding(_) | Wire::NotAsked(_)) | None => {}
        }
    }
    if !silent.is_empty() {
        lines.insert(0, printable(&format!("no record: {}", silent.join(", "))));
    }
    lines
}
