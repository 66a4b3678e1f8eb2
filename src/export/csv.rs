//! Verdicts as CSV (RFC 4180), one record each, for spreadsheets and shells.
//!
//! Spreadsheets run a cell that looks like a formula, and much of a verdict's text comes from strangers: such a cell
//! gets an apostrophe in front. Numbers are ours and stay numbers.

use super::rfc3339;
use crate::finding::Outcome;
use crate::verdict::Verdict;

const COLUMNS: [&str; 20] = [
    "type",
    "indicator",
    "disposition",
    "dbot_score",
    "probability",
    "log_odds_micro",
    "coverage",
    "conflict_mass",
    "conflict_flagged",
    "partial",
    "deciding_source",
    "sources_asked",
    "sources_answered",
    "sources",
    "policy",
    "policy_revision",
    "judged_time",
    "summary",
    "name",
    "text",
];

/// The record of column names, with its CRLF.
pub fn csv_header() -> String {
    record(COLUMNS)
}

/// One verdict as one record with its CRLF, in the order of [`csv_header`].
///
/// The column `sources` names each source with its claim, or with its result if it made none: `a=malicious b=no_record`.
/// `name` is the resource name under which the verdict is stored, `text` what was submitted; each empty if not known.
pub fn csv_row(verdict: &Verdict, name: &str, text: &str) -> String {
    let asked = verdict.outcomes.iter().filter(|outcome| outcome.body.was_attempted()).count();
    let answered = verdict.outcomes.iter().filter(|outcome| outcome.body.is_answer()).count();
    let cells: [String; COLUMNS.len()] = [
        defused(verdict.indicator.indicator_type().as_str()),
        defused(&verdict.indicator.redacted()),
        defused(verdict.disposition.as_str()),
        verdict.disposition.dbot_score().to_string(),
        optional(verdict.probability),
        optional(verdict.log_odds_micro),
        verdict.coverage.to_string(),
        optional(verdict.conflict.map(|conflict| conflict.mass)),
        optional(verdict.conflict.map(|conflict| conflict.flagged)),
        verdict.partial.to_string(),
        defused(verdict.deciding_source.as_deref().unwrap_or_default()),
        asked.to_string(),
        answered.to_string(),
        defused(&sources(&verdict.outcomes)),
        defused(&verdict.policy.name),
        verdict.policy.revision.to_string(),
        rfc3339(verdict.judged_time),
        defused(&verdict.summary),
        defused(name),
        defused(text),
    ];
    record(cells)
}

fn record(cells: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    // Writing to memory does not fail, and text stays UTF-8.
    let written = writer.write_record(cells).ok().and_then(|()| writer.into_inner().ok());
    written.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

fn optional(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn sources(outcomes: &[Outcome]) -> String {
    let result = |outcome: &Outcome| {
        let claim = outcome.body.claim();
        format!("{}={}", outcome.source, claim.map_or(outcome.body.as_str(), |claim| claim.as_str()))
    };
    outcomes.iter().map(result).collect::<Vec<_>>().join(" ")
}

/// A text that no spreadsheet runs as a formula and that sends no control sequence to a terminal.
fn defused(text: &str) -> String {
    let control = |c: char| c.is_control() && !matches!(c, '\t' | '\r' | '\n');
    let text = text.replace(control, "\u{fffd}");
    if text.starts_with(starts_formula) { format!("'{text}") } else { text }
}

/// Characters with which spreadsheets start a formula, also after a tab or line end, and in full width.
fn starts_formula(first: char) -> bool {
    matches!(first, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠')
}

#[cfg(test)]
mod tests {
    use super::super::sample::{compatible, weighted};
    use super::*;

    fn text(raw: &str) -> String {
        record([defused(raw)]).trim_end_matches("\r\n").to_owned()
    }

    #[test]
    fn header_and_rows_are_as_the_golden_file_has_them() {
        let rows = [csv_header(), csv_row(&weighted(), "verdicts/v1", "192.0.2[.]1"), csv_row(&compatible(), "", "")];
        let got = rows.concat().replace("\r\n", "\n");
        assert_eq!(got, include_str!("../../tests/golden/export/verdicts.csv"), "got\n{got}");
    }

    #[test]
    fn a_cell_that_looks_like_a_formula_is_defused() {
        assert_eq!(text("=HYPERLINK(\"http://example.com\")"), "\"'=HYPERLINK(\"\"http://example.com\"\")\"");
        for start in ["=", "+", "-", "@", "\t"] {
            assert_eq!(text(&format!("{start}1")), format!("'{start}1"));
        }
        assert_eq!(text("1-1"), "1-1");
    }

    #[test]
    fn commas_quotes_and_line_ends_are_quoted() {
        assert_eq!(text("a,b"), "\"a,b\"");
        assert_eq!(text("say \"no\""), "\"say \"\"no\"\"\"");
        assert_eq!(text("two\nlines"), "\"two\nlines\"");
        assert_eq!(text("plain"), "plain");
        assert_eq!(text("a\u{1b}[31mb\u{9b}"), "a\u{fffd}[31mb\u{fffd}");
    }

    #[test]
    fn negative_evidence_stays_a_number() {
        let mut verdict = weighted();
        verdict.log_odds_micro = Some(-1_658_228);
        assert!(csv_row(&verdict, "", "").contains(",-1658228,"));
    }
}
