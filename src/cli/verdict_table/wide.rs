//! Every source that was asked, with all that is known of how it came to its weight.

use comfy_table::{Cell, Color, Table};

use super::weight;
use crate::cli::table::{cell, disposition, letter, plain, source_id, words};
use crate::pb;
use crate::pb::contribution::Term;
use crate::pb::outcome::Result as Wire;
use crate::verdict::percent;

/// One row a term: the prior, each source that was asked, and their sum.
pub(super) fn table(verdict: &pb::Verdict, receipt: Option<&pb::Receipt>) -> Table {
    let mut rows = plain(&["  SOURCE", "LETTER", "SAYS", "WEIGHT (nats)", "AGREES", "FROM", "WHY"]);
    let unsourced = |name: &str, micro_nats: i64, why: &str| {
        let name = Cell::new(format!("  {name}"));
        let (letter, says, agrees, from) = (Cell::new(""), Cell::new(""), Cell::new(""), Cell::new(""));
        vec![name, letter, says, weight(micro_nats), agrees, from, cell(why)]
    };
    for contribution in &verdict.contributions {
        let name = match &contribution.term {
            Some(Term::Prior(_)) => "(prior)",
            // The policy corrects nothing.
            Some(Term::Calibration(_)) if contribution.micro_nats == 0 => continue,
            Some(Term::Calibration(_)) => "(calibration)",
            Some(Term::Source(_)) | None => continue,
        };
        rows.add_row(unsourced(name, contribution.micro_nats, &contribution.sentence));
    }
    for outcome in verdict.outcomes.iter().filter(|outcome| was_asked(outcome)) {
        rows.add_row(source_row(outcome, verdict, receipt));
    }
    if let (Some(sum), Some(probability)) = (verdict.log_odds_micro_nats, verdict.probability) {
        let why = format!("the log-odds of a probability of {}", percent(probability));
        rows.add_row(unsourced("(sum)", sum, &why));
    }
    rows
}

pub(super) fn was_asked(outcome: &pb::Outcome) -> bool {
    !matches!(outcome.result, Some(Wire::NotAsked(_)))
}

fn source_row(outcome: &pb::Outcome, verdict: &pb::Verdict, receipt: Option<&pb::Receipt>) -> Vec<Cell> {
    let is_of_source =
        |term: &&pb::Contribution| matches!(&term.term, Some(Term::Source(source)) if *source == outcome.source);
    let contribution = verdict.contributions.iter().find(is_of_source);
    let source_receipt =
        receipt.and_then(|receipt| receipt.sources.iter().find(|source| source.source == outcome.source));
    let decides = if verdict.deciding_source == outcome.source { "* " } else { "  " };
    vec![
        cell(format!("{decides}{}", source_id(&outcome.source))),
        Cell::new(letter(outcome.reliability)),
        claim_cell(outcome, verdict),
        contribution.map_or_else(|| Cell::new(""), |term| weight(term.micro_nats)),
        Cell::new(match contribution.and_then(|term| term.agrees) {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        }),
        Cell::new(obtained(source_receipt, outcome)),
        cell(with_note(why(outcome, verdict, contribution), source_receipt)),
    ]
}

/// What Cortex XSOAR's integration computes, where the policy judges by it and it differs from what the source says.
pub(super) fn judged_as_xsoar<'a>(finding: &'a pb::Finding, verdict: &pb::Verdict) -> Option<&'a pb::XsoarClaim> {
    finding.xsoar.as_ref().filter(|xsoar| verdict.rule == "xsoar" && xsoar.claim != finding.claim)
}

pub(super) fn claim_cell(outcome: &pb::Outcome, verdict: &pb::Verdict) -> Cell {
    match &outcome.result {
        Some(Wire::Finding(finding)) => {
            let claim = judged_as_xsoar(finding, verdict).map_or(finding.claim, |xsoar| xsoar.claim);
            Cell::new(disposition(claim))
        }
        Some(Wire::NoRecord(_)) => Cell::new("no record"),
        Some(Wire::Error(_)) => Cell::new("error").fg(Color::Yellow),
        Some(Wire::NotAsked(_)) | None => Cell::new(""),
    }
}

/// The source's own reasons, and why they weigh what they weigh.
fn why(outcome: &pb::Outcome, verdict: &pb::Verdict, contribution: Option<&pb::Contribution>) -> String {
    match &outcome.result {
        Some(Wire::Finding(finding)) => {
            if let Some(xsoar) = judged_as_xsoar(finding, verdict) {
                return format!("as Cortex XSOAR rates it: {}; here {}", xsoar.reason, disposition(finding.claim));
            }
            let mut parts = finding.reasons.clone();
            match (contribution, finding.strength) {
                (Some(contribution), _) => parts.extend(weighing(outcome, contribution)),
                (None, Some(strength)) => parts.push(format!("with strength {strength:.2}")),
                (None, None) => {}
            }
            parts.join("; ")
        }
        Some(Wire::NoRecord(_)) => "nothing on this indicator".into(),
        Some(Wire::Error(error)) => {
            format!("{}: {}", words(error.kind().as_str_name(), "SOURCE_ERROR_KIND_"), error.detail)
        }
        Some(Wire::NotAsked(_)) | None => String::new(),
    }
}

/// The sentence of the term, without the source, its claim and the weight, which have columns.
fn weighing(outcome: &pb::Outcome, contribution: &pb::Contribution) -> Option<String> {
    let sentence = contribution.sentence.trim_end_matches('.');
    let who = format!(
        "{} ({}) says {}",
        source_id(&outcome.source),
        letter(outcome.reliability),
        disposition(contribution.claim)
    );
    let Some(rest) = sentence.strip_prefix(&who) else {
        return Some(sentence.to_owned()).filter(|sentence| !sentence.ends_with("takes no side"));
    };
    let rest = match rest.rsplit_once(": ") {
        Some((rest, weight)) if weight.ends_with(" nats") || weight == "no evidence" => rest,
        Some(_) | None => rest,
    };
    Some(rest.trim_start_matches([',', ' ']).to_owned()).filter(|rest| !rest.is_empty())
}

/// The reason, with the note of the receipt.
pub(super) fn with_note(why: String, receipt: Option<&pb::SourceReceipt>) -> String {
    let notes = receipt.map(|receipt| [receipt.stale.as_str(), receipt.note.as_str()]).unwrap_or_default();
    let note = notes.into_iter().find(|note| !note.is_empty()).unwrap_or_default();
    // A list that is not fresh may say so in its reason already.
    let is_repeated = note.rsplit_once(": ").is_some_and(|(_, reason)| why.contains(reason));
    if note.is_empty() || is_repeated { why } else { format!("{why} ({note})") }
}

/// How the outcome was obtained.
fn obtained(receipt: Option<&pb::SourceReceipt>, outcome: &pb::Outcome) -> &'static str {
    match (receipt, &outcome.result) {
        (Some(receipt), _) if receipt.from_cache => "cache",
        (Some(receipt), _) if receipt.shared => "shared",
        (Some(receipt), _) if receipt.called => "asked",
        // An answer without a call: a list.
        (Some(_), Some(Wire::Finding(_) | Wire::NoRecord(_))) => "local",
        (Some(_), _) | (None, _) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_list_is_not_fresh_is_shown_once() {
        let note = "the copy in use is not fresh: line 3: no entry";
        let receipt = pb::SourceReceipt { note: note.into(), ..Default::default() };
        let shown = |why: &str| with_note(why.into(), Some(&receipt));
        assert_eq!(
            shown("the last reload was not taken: line 3: no entry"),
            "the last reload was not taken: line 3: no entry"
        );
        assert_eq!(shown("the list names it"), format!("the list names it ({note})"));
    }
}
