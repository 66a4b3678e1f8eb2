//! Tables for people: a verdict with its sources side by side, and lists. Colour only on a terminal.

use std::time::SystemTime;

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table};

use crate::convert::indicator::{read_disposition, read_reliability};
use crate::convert::read_duration;
use crate::finding::Disposition;
use crate::pb;

/// Width without a terminal.
const PLAIN_WIDTH: u16 = 140;
/// A terminal that reports less does not know its width.
const LEAST_WIDTH: u16 = 40;
/// Narrowest column of wrapped text. Where less is left, the text goes below its row.
const LEAST_WRAPPED: usize = 30;
const INDENT: &str = "        ";

/// A table without lines.
pub(super) fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none_or(|width| width < LEAST_WIDTH) {
        table.set_width(PLAIN_WIDTH);
    }
    table.set_header(header.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    table
}

/// The table as text, fitted to the terminal. Only the column `wrapped` is broken over lines, beside the others where there
/// is room, else below its rows; the others stay whole, so that they can be copied.
pub(super) fn fitted(mut table: Table, wrapped: Option<usize>) -> String {
    let width = usize::from(table.width().unwrap_or(PLAIN_WIDTH));
    let widths = table.column_max_content_widths();
    let whole: Vec<usize> = (0..widths.len()).filter(|place| Some(*place) != wrapped).collect();
    let taken: usize = whole.iter().filter_map(|place| widths.get(*place)).map(|width| usize::from(*width) + 2).sum();
    for place in whole {
        constrain(&mut table, place, ColumnConstraint::ContentWidth);
    }
    match wrapped {
        Some(wrapped) if taken + LEAST_WRAPPED > width => below(table, wrapped, width),
        Some(_) | None => trim_lines(&table.to_string()),
    }
}

/// The table with the texts of one column below its rows.
fn below(mut table: Table, column: usize, width: usize) -> String {
    let text = |row: &Row| row.cell_iter().nth(column).map(Cell::content).unwrap_or_default();
    let texts: Vec<String> = table.row_iter().map(text).collect();
    constrain(&mut table, column, ColumnConstraint::Hidden);
    let rows = table.to_string();
    // The header has no text; every row is one line, since its columns are whole.
    let texts = std::iter::once(String::new()).chain(texts);
    let mut out = String::new();
    for (row, text) in rows.lines().zip(texts) {
        out.push_str(&format!("{row}\n"));
        wrap(&text, width.saturating_sub(INDENT.len()))
            .lines()
            .for_each(|line| out.push_str(&format!("{INDENT}{line}\n")));
    }
    trim_lines(&out)
}

fn wrap(text: &str, width: usize) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(PLAIN_WIDTH)).add_row([text]);
    let lines = table.to_string();
    lines.lines().map(|line| format!("{}\n", line.trim())).collect()
}

fn constrain(table: &mut Table, place: usize, constraint: ColumnConstraint) {
    if let Some(column) = table.column_mut(place) {
        column.set_constraint(constraint);
    }
}

/// A text from outside without characters that control the terminal or reverse the direction of text.
pub(super) fn printable(text: &str) -> String {
    let is_bidi = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || is_bidi(c) { '\u{fffd}' } else { c }).collect()
}

pub(super) fn shortened(text: &str) -> String {
    const LONGEST: usize = 120;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A cell that shows a text from outside.
pub(super) fn cell(text: impl AsRef<str>) -> Cell {
    Cell::new(printable(text.as_ref()))
}

/// A row of cells that show texts from outside.
pub(super) fn row<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> Vec<Cell> {
    cells.into_iter().map(cell).collect()
}

pub(super) fn verdict(verdict: &pb::Verdict, receipt: Option<&pb::Receipt>) -> String {
    let mut text = headline(verdict);
    for note in receipt.map(|receipt| receipt.notes.as_slice()).unwrap_or_default() {
        text.push_str(&format!("  note: {}\n", printable(note)));
    }
    text.push_str(&fitted(sources(verdict, receipt), Some(8)));
    text.push_str(&footer(verdict));
    trim_lines(&text)
}

fn headline(verdict: &pb::Verdict) -> String {
    let disposition = disposition(verdict.disposition);
    let indicator = verdict.indicator.as_ref().map(|indicator| indicator.value.as_str()).unwrap_or_default();
    let mut table = Table::new();
    table.load_style(NOTHING).add_row(vec![coloured(disposition).add_attribute(Attribute::Bold), cell(indicator)]);
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 1));
    }
    let head = table.to_string();
    format!("{}\n  {}\n", head.trim(), printable(&verdict.summary))
}

fn sources(verdict: &pb::Verdict, receipt: Option<&pb::Receipt>) -> Table {
    let mut table = plain(&["  SOURCE", "LETTER", "SAYS", "STRENGTH", "AGE", "WEIGHT", "AGREES", "FROM", "WHY"]);
    for contribution in &verdict.contributions {
        match &contribution.term {
            Some(pb::contribution::Term::Source(_)) | None => {}
            Some(_) => {
                let name = term_name(contribution);
                let cells = [format!("  {name}"), String::new(), String::new(), String::new(), String::new()];
                let mut row: Vec<Cell> = cells.into_iter().map(Cell::new).collect();
                row.push(weight(contribution.micro_nats));
                row.extend([Cell::new(""), Cell::new(""), cell(&contribution.sentence)]);
                table.add_row(row);
            }
        }
    }
    for outcome in &verdict.outcomes {
        table.add_row(source_row(outcome, verdict, receipt));
    }
    table
}

fn source_row(outcome: &pb::Outcome, verdict: &pb::Verdict, receipt: Option<&pb::Receipt>) -> Vec<Cell> {
    let contribution = verdict
        .contributions
        .iter()
        .find(|term| matches!(&term.term, Some(pb::contribution::Term::Source(source)) if *source == outcome.source));
    let source_receipt =
        receipt.and_then(|receipt| receipt.sources.iter().find(|source| source.source == outcome.source));
    let name = outcome.source.trim_start_matches("sources/");
    let decides = if verdict.deciding_source == outcome.source { "* " } else { "  " };
    let finding = match &outcome.result {
        Some(pb::outcome::Result::Finding(finding)) => Some(finding),
        _ => None,
    };
    let strength = finding.and_then(|finding| finding.strength).map(|strength| format!("{strength:.2}"));
    let age = contribution.and_then(|term| term.age.as_ref()).map(short_age);
    vec![
        cell(format!("{decides}{name}")),
        Cell::new(letter(outcome.reliability)),
        says(outcome),
        Cell::new(strength.unwrap_or_default()),
        Cell::new(age.unwrap_or_default()),
        contribution.map_or_else(|| Cell::new(""), |term| weight(term.micro_nats)),
        Cell::new(match contribution.and_then(|term| term.agrees) {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        }),
        Cell::new(obtained(source_receipt, outcome)),
        cell(with_note(why(outcome), source_receipt)),
    ]
}

fn says(outcome: &pb::Outcome) -> Cell {
    use pb::outcome::Result as Wire;
    match &outcome.result {
        Some(Wire::Finding(finding)) => coloured(disposition(finding.claim)),
        Some(Wire::NoRecord(_)) => Cell::new("no record"),
        Some(Wire::Error(_)) => Cell::new("error").fg(Color::Magenta),
        Some(Wire::NotAsked(_)) => Cell::new("not asked"),
        None => Cell::new(""),
    }
}

fn why(outcome: &pb::Outcome) -> String {
    use pb::outcome::Result as Wire;
    match &outcome.result {
        Some(Wire::Finding(finding)) => finding.reasons.join("; "),
        Some(Wire::NoRecord(_)) => "nothing on this indicator".into(),
        Some(Wire::Error(error)) => {
            format!("{}: {}", words(error.kind().as_str_name(), "SOURCE_ERROR_KIND_"), error.detail)
        }
        Some(Wire::NotAsked(not_asked)) => {
            let reason = words(not_asked.reason().as_str_name(), "NOT_ASKED_REASON_");
            let until = not_asked.until.as_ref().map(|until| format!(", until {}", moment(until)));
            format!("{reason}: {}{}", not_asked.detail, until.unwrap_or_default())
        }
        None => String::new(),
    }
}

/// The reason, with the note of the receipt.
fn with_note(why: String, receipt: Option<&pb::SourceReceipt>) -> String {
    let note = receipt.map(|receipt| receipt.note.as_str()).unwrap_or_default();
    // A list that is not fresh may say so in its reason already.
    let is_repeated = note.rsplit_once(": ").is_some_and(|(_, reason)| why.contains(reason));
    if note.is_empty() || is_repeated { why } else { format!("{why} ({note})") }
}

/// How the outcome was obtained.
fn obtained(receipt: Option<&pb::SourceReceipt>, outcome: &pb::Outcome) -> &'static str {
    use pb::outcome::Result as Wire;
    match (receipt, &outcome.result) {
        (Some(receipt), _) if receipt.from_cache => "cache",
        (Some(receipt), _) if receipt.shared => "shared",
        (Some(receipt), _) if receipt.called => "asked",
        // An answer without a call: a list.
        (Some(_), Some(Wire::Finding(_) | Wire::NoRecord(_))) => "local",
        (Some(_), _) | (None, _) => "",
    }
}

fn footer(verdict: &pb::Verdict) -> String {
    let mut parts = vec![format!("{} (revision {})", verdict.policy, verdict.policy_revision)];
    if let Some(conflict) = verdict.conflict.as_ref().filter(|conflict| conflict.flagged) {
        parts.push(format!("the sources contradict each other (K = {:.2}): look yourself", conflict.mass));
    }
    if verdict.partial {
        parts.push("partial: a source that was meant to speak did not".into());
    }
    parts.push(if verdict.name.is_empty() { "not kept".into() } else { verdict.name.clone() });
    format!("  {}\n", printable(&parts.join(" | ")))
}

/// A weight in nats, with its sign.
fn weight(micro_nats: i64) -> Cell {
    let nats = micro_nats as f64 / 1e6;
    let cell = Cell::new(format!("{nats:+.3}")).set_alignment(CellAlignment::Right);
    match micro_nats {
        1.. => cell.fg(Color::Red),
        0 => cell,
        _ => cell.fg(Color::Green),
    }
}

fn term_name(contribution: &pb::Contribution) -> &'static str {
    match &contribution.term {
        Some(pb::contribution::Term::Prior(_)) => "(prior)",
        Some(pb::contribution::Term::Calibration(_)) => "(calibration)",
        Some(pb::contribution::Term::Source(_)) | None => "",
    }
}

pub(super) fn coloured(word: &'static str) -> Cell {
    let cell = Cell::new(word);
    match word {
        "malicious" => cell.fg(Color::Red),
        "suspicious" => cell.fg(Color::Yellow),
        "benign" => cell.fg(Color::Green),
        _ => cell,
    }
}

/// The disposition of this number, or nothing for one that is unspecified or unknown.
pub(super) fn disposition(number: i32) -> &'static str {
    read_disposition(number, "").ok().flatten().map_or("", Disposition::as_str)
}

/// The reliability of this number, or nothing for one that is unspecified or unknown.
pub(super) fn letter(number: i32) -> String {
    read_reliability(number, "").ok().flatten().map(|letter| letter.to_string()).unwrap_or_default()
}

/// A TLP label as people write it: `AMBER+STRICT`.
pub(super) fn tlp(label: pb::Tlp) -> String {
    words(label.as_str_name(), "TLP_").to_uppercase().replace(' ', "+")
}

/// The name of an enum value in words: `quota spent`.
pub(super) fn words(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', " ")
}

/// A time in RFC 3339 to the second.
pub(super) fn moment(time: &prost_types::Timestamp) -> String {
    let time = SystemTime::try_from(*time).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// A duration in its largest unit: `3d`, `45s`.
pub(super) fn short_age(duration: &prost_types::Duration) -> String {
    let seconds = u64::try_from(duration.seconds).unwrap_or_default();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A duration with its units: `1day 2h`.
pub(super) fn written(duration: &prost_types::Duration) -> String {
    let duration = read_duration(*duration, "").unwrap_or_default();
    humantime::format_duration(duration).to_string()
}

/// Removes the padding of the last column.
fn trim_lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// What is left, window by window: `3 of 4 left this minute, 412 of 500 left this day`.
pub(super) fn left(quota: &[pb::QuotaUse]) -> String {
    let windows = quota.iter().map(|window| {
        let period = words(window.period().as_str_name(), "QUOTA_PERIOD_");
        format!("{} of {} left this {period}", window.left, window.limit)
    });
    windows.collect::<Vec<_>>().join(", ")
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

    #[test]
    fn columns_stay_whole_and_wrapped_text_goes_below_its_row_where_it_is_narrow() {
        let table = |width| {
            let mut table = plain(&["INDICATOR", "WHY"]);
            table.set_width(width).add_row(["files.example.com/a-long-place", "three engines of a hundred say so"]);
            table
        };
        let wide = fitted(table(80), Some(1));
        assert_eq!(wide.lines().count(), 2, "{wide}");
        let narrow = fitted(table(50), Some(1));
        let lines: Vec<_> = narrow.lines().map(str::trim).collect();
        assert_eq!(lines, ["INDICATOR", "files.example.com/a-long-place", "three engines of a hundred say so"]);
        let narrower = fitted(table(25), Some(1));
        assert!(narrower.contains("files.example.com/a-long-place"), "{narrower}");
        assert!(narrower.lines().skip(2).all(|line| line.len() <= 25), "{narrower}");
    }

    #[test]
    fn what_sources_say_cannot_control_the_terminal() {
        let evil = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}txt";
        let finding = pb::Finding { reasons: vec![evil.into()], ..Default::default() };
        let outcome = pb::Outcome {
            source: format!("sources/{evil}"),
            result: Some(pb::outcome::Result::Finding(finding)),
            ..Default::default()
        };
        let indicator = pb::Indicator { value: evil.into(), ..Default::default() };
        let verdict = pb::Verdict {
            indicator: Some(indicator),
            summary: evil.into(),
            name: evil.into(),
            outcomes: vec![outcome],
            ..Default::default()
        };
        let receipt = pb::Receipt { notes: vec![evil.into()], ..Default::default() };
        let shown = super::verdict(&verdict, Some(&receipt));
        let controls = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!shown.contains(controls), "{shown:?}");
        assert!(shown.contains("owned"));
    }
}
