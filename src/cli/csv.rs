//! Verdicts as CSV (RFC 4180), one record each, for spreadsheets and shells. Column names are stable: new ones are
//! added, none is changed.
//!
//! Spreadsheets run a cell that looks like a formula, and much of a verdict's text comes from outside: such a cell
//! gets an apostrophe in front. Numbers are ours and stay numbers.

use super::table;
use crate::pb;

const COLUMNS: [&str; 21] = [
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
    "error",
    "text",
];

/// The record of column names, with its CRLF.
pub(super) fn header() -> String {
    record(COLUMNS)
}

/// One verdict as one record with its CRLF, in the order of [`header`].
///
/// The column `sources` names each source with its claim, or with its result if it made none: `a=malicious b=no_record`.
/// `text` is what was submitted; empty if not known.
pub(super) fn row(verdict: &pb::Verdict, text: &str) -> String {
    use pb::outcome::Result as Wire;
    let count = |is: fn(&Wire) -> bool| {
        verdict.outcomes.iter().filter_map(|outcome| outcome.result.as_ref()).filter(|result| is(result)).count()
    };
    let asked = count(|result| !matches!(result, Wire::NotAsked(_)));
    let answered = count(|result| matches!(result, Wire::Finding(_) | Wire::NoRecord(_)));
    let indicator = verdict.indicator.clone().unwrap_or_default();
    let cells: [String; COLUMNS.len()] = [
        table::words(indicator.r#type().as_str_name(), "INDICATOR_TYPE_"),
        escape_formula(&indicator.value),
        table::disposition(verdict.disposition).to_owned(),
        verdict.dbot_score.to_string(),
        optional(verdict.probability),
        optional(verdict.log_odds_micro_nats),
        verdict.coverage.to_string(),
        optional(verdict.conflict.map(|conflict| conflict.mass)),
        optional(verdict.conflict.map(|conflict| conflict.flagged)),
        verdict.partial.to_string(),
        escape_formula(table::source_id(&verdict.deciding_source)),
        asked.to_string(),
        answered.to_string(),
        escape_formula(&sources(&verdict.outcomes)),
        escape_formula(verdict.policy.trim_start_matches("policies/")),
        verdict.policy_revision.to_string(),
        verdict.judged_time.as_ref().map(table::exact_moment).unwrap_or_default(),
        escape_formula(&verdict.summary),
        escape_formula(&verdict.name),
        String::new(),
        escape_formula(text),
    ];
    record(cells)
}

/// The record of an indicator without a verdict: the text that was submitted and why it was refused.
pub(super) fn refused(text: &str, why: &str) -> String {
    let mut cells: [String; COLUMNS.len()] = std::array::from_fn(|_| String::new());
    let [.., error, submitted] = &mut cells;
    (*error, *submitted) = (escape_formula(why), escape_formula(text));
    record(cells)
}

/// What a record says was submitted; `None` if it is no record of this form.
pub(super) fn submitted(record: &str) -> Option<String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(record.as_bytes());
    let cells = reader.records().next()?.ok()?;
    cells.get(COLUMNS.len() - 1).filter(|_| cells.len() == COLUMNS.len()).map(str::to_owned)
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

fn sources(outcomes: &[pb::Outcome]) -> String {
    use pb::outcome::Result as Wire;
    let result = |outcome: &pb::Outcome| {
        let result = match &outcome.result {
            Some(Wire::Finding(finding)) => table::disposition(finding.claim),
            Some(Wire::NoRecord(_)) => "no_record",
            Some(Wire::Error(_)) => "error",
            Some(Wire::NotAsked(_)) => "not_asked",
            None => "",
        };
        format!("{}={result}", table::source_id(&outcome.source))
    };
    outcomes.iter().map(result).collect::<Vec<_>>().join(" ")
}

/// A text that no spreadsheet runs as a formula and that sends no control sequence to a terminal.
pub(super) fn escape_formula(text: &str) -> String {
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
    use super::*;

    fn text(raw: &str) -> String {
        record([escape_formula(raw)]).trim_end_matches("\r\n").to_owned()
    }

    fn outcome(source: &str, result: pb::outcome::Result) -> pb::Outcome {
        pb::Outcome { source: format!("sources/{source}"), result: Some(result), ..Default::default() }
    }

    fn weighted() -> pb::Verdict {
        use pb::outcome::Result as Wire;
        let found = pb::Finding { claim: pb::Disposition::Malicious.into(), ..Default::default() };
        pb::Verdict {
            name: "verdicts/v1".into(),
            indicator: Some(pb::Indicator { r#type: pb::IndicatorType::Ip.into(), value: "192.0.2.1".into() }),
            disposition: pb::Disposition::Malicious.into(),
            dbot_score: 3,
            summary: "malicious (80.5 %): 1 of 3 sources says malicious, 1 has no record, 1 failed".into(),
            probability: Some(0.805),
            log_odds_micro_nats: Some(1_417_547),
            coverage: 0.625,
            conflict: Some(pb::Conflict { mass: 0.0, flagged: false }),
            outcomes: vec![
                outcome("a", Wire::Finding(found)),
                outcome("b", Wire::NoRecord(pb::NoRecord {})),
                outcome("c", Wire::Error(pb::SourceError::default())),
                outcome("d", Wire::NotAsked(pb::NotAsked::default())),
            ],
            policy: "policies/weighted".into(),
            policy_revision: 1,
            partial: true,
            judged_time: Some(prost_types::Timestamp { seconds: 1_748_779_200, nanos: 0 }),
            ..Default::default()
        }
    }

    /// A verdict that one source decided.
    fn compatible() -> pb::Verdict {
        let value = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".into();
        pb::Verdict {
            name: String::new(),
            indicator: Some(pb::Indicator { r#type: pb::IndicatorType::File.into(), value }),
            disposition: pb::Disposition::Benign.into(),
            dbot_score: 1,
            summary: "@benign, \"a\" decides".into(),
            probability: None,
            log_odds_micro_nats: None,
            conflict: None,
            deciding_source: "sources/a".into(),
            outcomes: Vec::new(),
            policy: "policies/xsoar".into(),
            policy_revision: 2,
            partial: false,
            ..weighted()
        }
    }

    #[test]
    fn header_and_rows_are_as_the_golden_file_has_them() {
        let rows = [
            header(),
            row(&weighted(), "192.0.2[.]1"),
            row(&compatible(), ""),
            refused("10.0.0.0/8", "\"10.0.0.0/8\" is a network"),
        ];
        let got = rows.concat().replace("\r\n", "\n");
        assert_eq!(got, include_str!("../../tests/golden/verdicts.csv"), "got\n{got}");
    }

    #[test]
    fn a_cell_that_looks_like_a_formula_gets_an_apostrophe() {
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
        verdict.log_odds_micro_nats = Some(-1_658_228);
        assert!(row(&verdict, "").contains(",-1658228,"));
    }
}
