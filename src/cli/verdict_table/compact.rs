//! What an analyst needs first, in eighty columns: the sources that took a side, what decides on top, and the others by what
//! they did instead.

use comfy_table::Cell;

use super::weight;
use super::wide::{claim_cell, judged_as_xsoar, with_note};
use crate::cli::table::{abbreviated, cell, cut, disposition, fitted_with, letter, plain, printable, source_id, words};
use crate::pb;
use crate::pb::contribution::Term;
use crate::pb::outcome::Result as Wire;

/// Most characters of a name. What is longer is abbreviated here and whole in the wide table.
pub(super) const LONGEST_NAME: usize = 24;
/// Least columns of the reasons; in a narrower terminal they go below their rows.
const LEAST_REASON: usize = 20;

/// One row for each source with a finding, the weightiest first, in this many columns.
pub(super) fn table(verdict: &pb::Verdict, receipt: Option<&pb::Receipt>, width: usize) -> Option<String> {
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
    let (mut rows, mut reasons) = (plain(header), Vec::with_capacity(found.len()));
    rows.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    for (outcome, finding, micro) in found {
        let decides = if is_other(outcome) { "  " } else { "* " };
        let mut row = vec![
            cell(format!("{decides}{}", abbreviated(source_id(&outcome.source), LONGEST_NAME))),
            Cell::new(letter(outcome.reliability)),
            claim_cell(outcome, verdict),
        ];
        if has_weights {
            row.push(micro.map_or_else(|| Cell::new(""), weight));
        }
        rows.add_row(row);
        reasons.push(printable(&why(outcome, finding, verdict, receipt)));
    }
    let taken: usize = rows.column_max_content_widths().iter().map(|width| usize::from(*width) + 2).sum();
    // The last header is that of the reasons, which have no cells yet.
    let taken = taken - "WHY".len() - 2;
    let room = width.saturating_sub(taken + 2);
    for (row, reason) in rows.row_iter_mut().zip(reasons) {
        row.add_cell(Cell::new(if taken + LEAST_REASON > width { reason } else { cut(&reason, room) }));
    }
    Some(fitted_with(rows, Some(header.len() - 1), LEAST_REASON))
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
