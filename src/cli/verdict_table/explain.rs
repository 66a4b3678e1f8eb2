//! Every term of the sum in a sentence, the verdict without each source, and all that would change it.

use comfy_table::{Cell, Table};

use super::weight;
use crate::cli::table::{cell, disposition, plain, source_id};
use crate::pb;
use crate::pb::contribution::Term;

/// One row a term, with what the verdict would be without it.
pub(super) fn table(verdict: &pb::Verdict) -> Option<Table> {
    if verdict.contributions.is_empty() && verdict.leave_one_out.is_empty() {
        return None;
    }
    let mut rows = plain(&["  TERM", "WEIGHT (nats)", "WITHOUT IT", "WHY"]);
    for term in &verdict.contributions {
        let (name, source) = match &term.term {
            Some(Term::Prior(_)) => ("(prior)", ""),
            Some(Term::Calibration(_)) => ("(calibration)", ""),
            Some(Term::Source(source)) => (source_id(source), source.as_str()),
            None => continue,
        };
        rows.add_row(vec![
            cell(format!("  {name}")),
            weight(term.micro_nats),
            cell(without(verdict, source)),
            cell(&term.sentence),
        ]);
    }
    if verdict.contributions.is_empty() {
        for left_out in &verdict.leave_one_out {
            let name = cell(format!("  {}", source_id(&left_out.source)));
            rows.add_row(vec![name, Cell::new(""), cell(without(verdict, &left_out.source)), Cell::new("")]);
        }
    }
    if let Some(sum) = verdict.log_odds_micro_nats {
        rows.add_row(vec![cell("  (sum)"), weight(sum), Cell::new(""), Cell::new("")]);
    }
    Some(rows)
}

/// The disposition without this source, and by how much the sum would be another.
fn without(verdict: &pb::Verdict, source: &str) -> String {
    let Some(left_out) = verdict.leave_one_out.iter().find(|left_out| left_out.source == source) else {
        return String::new();
    };
    let moved = left_out.micro_nats.filter(|micro| *micro != 0);
    let moved = moved.map(|micro| format!(" ({:+.3})", -micro as f64 / 1e6)).unwrap_or_default();
    format!("{}{moved}", disposition(left_out.disposition))
}

/// Every statement on what would change the verdict.
pub(super) fn changes(verdict: &pb::Verdict) -> Vec<String> {
    let reach = verdict.reach.iter().map(|reach| reach.sentence.clone()).filter(|sentence| !sentence.is_empty());
    let flips = verdict.flips.iter().map(|flip| flip.sentence.clone());
    let margins = margins(verdict).map(|margin| margin.sentence.clone());
    reach.chain(flips).chain(margins).collect()
}

/// The distances to other dispositions. What an analyst pinned is changed by none of them.
fn margins(verdict: &pb::Verdict) -> impl Iterator<Item = &pb::Margin> {
    verdict.margins.iter().filter(|_| verdict.pin.is_none())
}

/// The two or three statements that an analyst reads before the numbers.
pub(super) fn first_changes(verdict: &pb::Verdict) -> Vec<String> {
    let reach = verdict.reach.iter().map(|reach| &reach.sentence).find(|sentence| !sentence.is_empty());
    let wrong = pb::Assumption::WrongAnswers;
    let flip = verdict.flips.iter().find(|flip| flip.assumption() == wrong).map(|flip| &flip.sentence);
    let margin = margins(verdict).find(|margin| margin.sources > 0).map(|margin| &margin.sentence);
    [reach, flip, margin].into_iter().flatten().cloned().collect()
}
