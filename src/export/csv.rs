//! Verdicts as CSV (RFC 4180): one row a verdict, for spreadsheets and shells.
//!
//! Spreadsheets run a cell that looks like a formula, and much of a verdict's text comes from strangers: such a cell
//! gets an apostrophe in front. Numbers are ours and stay numbers.

use super::json::result_word;
use super::rfc3339;
use crate::finding::{Outcome, OutcomeBody};
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

/// The names of the columns, without a line end.
pub fn csv_header() -> String {
    COLUMNS.join(",")
}

/// One verdict as one record in the order of [`csv_header`], without a line end (RFC 4180 ends records with CRLF).
///
/// The column `sources` names each source with its claim, or with what came instead of one: `a=malicious b=no_record`.
///
/// `name` is the one under which the verdict is kept, `text` what was sent to be looked up; each empty where not known.
pub fn csv_row(verdict: &Verdict, name: &str, sent: &str) -> String {
    let asked = verdict.outcomes.iter().filter(|outcome| !matches!(outcome.body, OutcomeBody::NotAsked(_))).count();
    let answered = verdict.outcomes.iter().filter(|outcome| outcome.body.is_answer()).count();
    let cells: [String; COLUMNS.len()] = [
        text(verdict.indicator.indicator_type().as_str()),
        text(&verdict.indicator.redacted()),
        text(verdict.disposition.as_str()),
        verdict.disposition.dbot_score().to_string(),
        optional(verdict.probability),
        optional(verdict.log_odds_micro),
        verdict.coverage.to_string(),
        optional(verdict.conflict.map(|conflict| conflict.mass)),
        optional(verdict.conflict.map(|conflict| conflict.flagged)),
        verdict.partial.to_string(),
        text(verdict.deciding_source.as_deref().unwrap_or_default()),
        asked.to_string(),
        answered.to_string(),
        text(&sources(&verdict.outcomes)),
        text(&verdict.policy.name),
        verdict.policy.revision.to_string(),
        rfc3339(verdict.judged_time),
        text(&verdict.summary),
        text(name),
        text(sent),
    ];
    cells.join(",")
}

fn optional(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn sources(outcomes: &[Outcome]) -> String {
    let said = |outcome: &Outcome| match outcome.body.claim() {
        Some(claim) => format!("{}={claim}", outcome.source),
        None => format!("{}={}", outcome.source, result_word(&outcome.body)),
    };
    outcomes.iter().map(said).collect::<Vec<_>>().join(" ")
}

/// A cell of text that no spreadsheet runs and no reader splits.
fn text(raw: &str) -> String {
    // Nor may it steer a terminal on which it is looked at.
    let steers = |c: char| c.is_control() && !matches!(c, '\t' | '\r' | '\n');
    let raw = &raw.replace(steers, "\u{fffd}");
    let cell = if raw.starts_with(starts_formula) { format!("'{raw}") } else { raw.to_owned() };
    if cell.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

/// Characters with which spreadsheets start a formula, also after a tab or line end, and in full width.
fn starts_formula(first: char) -> bool {
    matches!(first, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠')
}

#[cfg(test)]
mod tests {
    use super::super::sample::{compatible, weighted};
    use super::*;

    #[test]
    fn header_and_rows_are_as_the_golden_file_has_them() {
        let got = [csv_header(), csv_row(&weighted(), "verdicts/v1", "192.0.2[.]1"), csv_row(&compatible(), "", "")]
            .join("\n");
        assert_eq!(got, include_str!("../../tests/golden/export/verdicts.csv").trim_end(), "got\n{got}");
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
