//! Tables and words for people. `verdict_table.rs` writes verdicts.

use anstream::ColorChoice;
use clap::builder::styling::{AnsiColor, Style};
use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Row, Table};
use jiff::Timestamp;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::convert::indicator::{read_disposition, read_reliability};
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
    if matches!(ColorChoice::global(), ColorChoice::Always | ColorChoice::AlwaysAnsi) {
        table.enforce_styling();
    }
    table.set_header(header.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    table
}

/// The width of the terminal, or the one used without.
pub(super) fn width() -> usize {
    usize::from(plain(&[]).width().unwrap_or(PLAIN_WIDTH))
}

/// A text broken into indented lines of the terminal's width.
pub(super) fn paragraph(text: &str, indent: &str) -> String {
    paragraph_in(width(), text, indent)
}

/// As [`paragraph`], of this width.
pub(super) fn paragraph_in(width: usize, text: &str, indent: &str) -> String {
    wrap(text, width.saturating_sub(indent.len())).lines().map(|line| format!("{indent}{line}\n")).collect()
}

/// As [`paragraph`], indented by two, and the lines after the first by four.
pub(super) fn hanging(text: &str) -> String {
    hanging_in(width(), text)
}

/// As [`hanging`], of this width.
pub(super) fn hanging_in(width: usize, text: &str) -> String {
    let lines = wrap(text, width.saturating_sub(4));
    let indents = std::iter::once("  ").chain(std::iter::repeat("    "));
    indents.zip(lines.lines()).map(|(indent, line)| format!("{indent}{line}\n")).collect()
}

/// The table as text, fitted to the terminal. Only the column `wrapped` is broken over lines, beside the others where there
/// is room, else below its rows; the others stay whole, so that they can be copied.
pub(super) fn fitted(table: Table, wrapped: Option<usize>) -> String {
    fitted_with(table, wrapped, LEAST_WRAPPED)
}

/// As [`fitted`], where the text stays beside the others if it has this many columns.
pub(super) fn fitted_with(mut table: Table, wrapped: Option<usize>, least: usize) -> String {
    let width = usize::from(table.width().unwrap_or(PLAIN_WIDTH));
    let widths = table.column_max_content_widths();
    let whole: Vec<usize> = (0..widths.len()).filter(|place| Some(*place) != wrapped).collect();
    let taken: usize = whole.iter().filter_map(|place| widths.get(*place)).map(|width| usize::from(*width) + 2).sum();
    for place in whole {
        constrain(&mut table, place, ColumnConstraint::ContentWidth);
    }
    match wrapped {
        Some(wrapped) if taken + least > width => text_below_rows(table, wrapped, width),
        Some(_) | None => trim_lines(&table.to_string()),
    }
}

/// The table with the texts of one column below its rows.
fn text_below_rows(mut table: Table, column: usize, width: usize) -> String {
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

/// `vt` of `sources/vt`.
pub(super) fn source_id(name: &str) -> &str {
    name.strip_prefix("sources/").unwrap_or(name)
}

pub(super) fn shortened(text: &str) -> String {
    const MAX_CELL: usize = 120;
    match text.char_indices().nth(MAX_CELL) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The text in this many columns, cut at its end.
pub(super) fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or_default();
        used < room
    };
    let kept: String = text.chars().take_while(fits).collect();
    format!("{}…", kept.trim_end())
}

/// A name in this many characters. Names of one family often differ at their ends alone, so that its middle is left out.
pub(super) fn abbreviated(name: &str, room: usize) -> String {
    let count = name.chars().count();
    if count <= room {
        return name.to_owned();
    }
    let end = room.saturating_sub(1) / 2;
    let start = room.saturating_sub(1) - end;
    name.chars().take(start).chain(['…']).chain(name.chars().skip(count - end)).collect()
}

/// A cell that shows a text from outside.
pub(super) fn cell(text: impl AsRef<str>) -> Cell {
    Cell::new(printable(text.as_ref()))
}

/// A row of cells that show texts from outside.
pub(super) fn row<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> Vec<Cell> {
    cells.into_iter().map(cell).collect()
}

/// A text in this colour, bold where it heads something. Without a terminal the colour is taken out again.
pub(super) fn painted(text: &str, colour: Option<AnsiColor>) -> String {
    match colour {
        Some(colour) => {
            let style = Style::new().fg_color(Some(colour.into())).bold();
            format!("{style}{text}{style:#}")
        }
        None => text.to_owned(),
    }
}

/// The colour of a verdict; evidence has none.
pub(super) fn colour(word: &str) -> Option<AnsiColor> {
    match word {
        "malicious" => Some(AnsiColor::Red),
        "suspicious" => Some(AnsiColor::Yellow),
        "benign" => Some(AnsiColor::Green),
        _ => None,
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
    Timestamp::from_second(time.seconds).map(|time| time.to_string()).unwrap_or_default()
}

/// A time in RFC 3339, as exact as it is.
pub(super) fn exact_moment(time: &prost_types::Timestamp) -> String {
    Timestamp::new(time.seconds, time.nanos).map(|time| time.to_string()).unwrap_or_default()
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

/// Removes the padding of the last column.
pub(super) fn trim_lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// That a source said "enough", and until when it is not asked.
pub(super) fn suspended(until: &prost_types::Timestamp) -> String {
    format!("says its quota is used up, not asked until {}", moment(until))
}

/// That a source is left alone since it keeps failing, and until when; empty while its circuit is closed.
pub(super) fn circuit(circuit: &pb::Circuit) -> String {
    let since = circuit.since_time.as_ref().map(moment).unwrap_or_default();
    let next = circuit.next_probe_time.as_ref().map(moment).unwrap_or_default();
    let reason = printable(&circuit.reason);
    match circuit.state() {
        pb::CircuitState::Unspecified | pb::CircuitState::Closed => String::new(),
        pb::CircuitState::Open => format!("circuit open since {since} after {reason}, next try at {next}"),
        pb::CircuitState::HalfOpen => {
            format!("circuit half-open (open since {since} after {reason}): the next call tries it")
        }
    }
}

/// What is left, window by window: `3 of 4 left this minute, 412 of 500 left this day`.
pub(super) fn left(quota: &[pb::QuotaUse]) -> String {
    let windows = quota.iter().map(|window| {
        let period = words(window.period().as_str_name(), "QUOTA_PERIOD_");
        let ends = window.runs_out_time.as_ref().map(|time| format!(", at this pace until {}", moment(time)));
        format!("{} of {} left this {period}{}", window.left, window.limit, ends.unwrap_or_default())
    });
    windows.collect::<Vec<_>>().join(", ")
}

/// What answers report of the calls that are left: `reported: 37 of 1000 left per day until 2026-09-22T00:00:00Z`; empty if
/// nothing.
pub(super) fn reported(windows: &[pb::ReportedQuota]) -> String {
    let windows = windows.iter().map(|window| {
        let of = window.limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
        let period = window.period.as_ref().map(|period| format!(" per {}", short_age(period))).unwrap_or_default();
        let until = window.reset_time.as_ref().map(|time| format!(" until {}", moment(time))).unwrap_or_default();
        format!("reported: {}{of} left{period}{until}", window.left)
    });
    windows.collect::<Vec<_>>().join(", ")
}

/// Who says so: the author, and the caller where it is another.
pub(super) fn by(author: &str, caller: &str) -> String {
    if caller.is_empty() || author == caller { author.to_owned() } else { format!("{author} (caller {caller})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_at_its_end_and_a_name_in_its_middle() {
        assert_eq!(abbreviated("virustotal", 10), "virustotal");
        assert_eq!(cut("twelve of them", 14), "twelve of them");
        assert_eq!(cut("twelve of them", 9), "twelve o…");
        assert_eq!(cut("理由理由", 6), "理由…", "these take two columns each");
        assert_eq!(abbreviated("virustotal-of-the-team-in-bonn", 16), "virustot…in-bonn");
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
}
