//! A verdict for people: the sources side by side, why each weighs what it weighs, and what was not asked.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment};

use super::table::{
    abbreviated, by, cell, colour, coloured, cut, disposition, fitted, hanging_in, moment, painted, paragraph_in,
    plain, printable, shortened, source_id, trim_lines, width, words,
};
use crate::finding::counted;
use crate::pb;
use crate::pb::outcome::Result as Wire;

mod compact;
mod explain;
mod wide;

/// Facts that analysts look for first.
const FIRST_FACTS: [&str; 5] = ["as_number", "as_owner", "country", "engines_malicious", "last_seen"];
/// Longest indicator in a list, one a line.
const LONGEST_VALUE: usize = 64;

/// Most columns of the compact table, however wide the terminal is.
const COMPACT_WIDTH: usize = 80;

/// How much of a verdict is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Detail {
    /// What decides, in at most eighty columns. Long names, reasons and indicators are shortened.
    #[default]
    Compact,
    /// Every term in a sentence, and all that would change the verdict.
    Explain,
    /// Every source with every column.
    Wide,
}

impl Detail {
    /// The columns that a verdict may take.
    fn width(self) -> usize {
        match self {
            Self::Compact => width().min(COMPACT_WIDTH),
            Self::Explain | Self::Wide => width(),
        }
    }
}

/// The whole verdict. Facts are shown where wanted and sent.
pub(super) fn verdict(verdict: &pb::Verdict, receipt: Option<&pb::Receipt>, detail: Detail, facts: bool) -> String {
    let width = detail.width();
    let mut text = headline(verdict, detail);
    let lines = |text: &mut String, lines: Vec<String>| {
        lines.iter().for_each(|line| text.push_str(&hanging_in(width, &printable(line))));
    };
    let notes = receipt.map(|receipt| receipt.notes.as_slice()).unwrap_or_default();
    lines(&mut text, notes.iter().map(|note| format!("note: {note}")).collect());
    lines(&mut text, verdict.feedback.iter().map(analyst_word).collect());
    match detail {
        Detail::Compact => {
            lines(&mut text, explain::first_changes(verdict));
            text.extend(compact::table(verdict, receipt, width));
            lines(&mut text, compact::silent(verdict));
        }
        Detail::Explain => {
            lines(&mut text, explain::changes(verdict));
            text.extend(explain::table(verdict).map(|table| fitted(table, Some(3))));
        }
        Detail::Wide => {
            lines(&mut text, explain::first_changes(verdict));
            if verdict.outcomes.iter().any(wide::was_asked) || !verdict.contributions.is_empty() {
                text.push_str(&fitted(wide::table(verdict, receipt), Some(6)));
            }
        }
    }
    text.push_str(&hanging_in(width, &printable(&not_asked(&verdict.outcomes))));
    if facts {
        verdict.outcomes.iter().for_each(|outcome| text.push_str(&facts_of(outcome, width)));
    }
    text.push_str(&footer(verdict, receipt, width));
    trim_lines(&text)
}

/// What other policies make of the same outcomes, one row each. They are compared with what the sources say under the policy of
/// the verdict, which a pin hides.
pub(super) fn comparisons(comparisons: &[pb::PolicyComparison], verdict: &pb::Verdict, detail: Detail) -> String {
    if comparisons.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    if verdict.pin.is_some() {
        let sources = disposition(verdict.sources_disposition);
        text += &hanging_in(
            detail.width(),
            &format!("other policies, compared with what the sources say ({sources}), not with the pin:"),
        );
    }
    let mut rows = plain(&["  POLICY", "SAYS", "AGREES", "WHY"]);
    rows.set_width(u16::try_from(detail.width()).unwrap_or(u16::MAX));
    for comparison in comparisons {
        let policy = comparison.policy.strip_prefix("policies/").unwrap_or(&comparison.policy);
        let policy = match detail {
            Detail::Compact => abbreviated(policy, compact::LONGEST_NAME),
            Detail::Explain | Detail::Wide => policy.to_owned(),
        };
        rows.add_row(vec![
            cell(format!("  {policy}")),
            coloured(disposition(comparison.disposition)),
            Cell::new(if comparison.agrees { "yes" } else { "no" }),
            cell(&comparison.sentence),
        ]);
    }
    text + &fitted(rows, Some(3))
}

/// The verdict on one line: what it is, of what, and why. Cut where a terminal is narrower.
pub(super) fn line(verdict: &pb::Verdict, longest_value: usize) -> String {
    let disposition = disposition(verdict.disposition);
    let value = value(verdict);
    let partial = if verdict.partial { "partial; " } else { "" };
    let longest = longest_value.min(LONGEST_VALUE);
    let rest = printable(&format!("{value:longest$}  {partial}{}", summary(verdict)));
    let room = width().saturating_sub(12);
    let rest = if is_terminal() { cut(&rest, room) } else { rest };
    let padding = " ".repeat(12_usize.saturating_sub(disposition.len()));
    format!("{}{padding}{}\n", painted(disposition, colour(disposition)), rest.trim_end())
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}

fn value(verdict: &pb::Verdict) -> String {
    let value = verdict.indicator.as_ref().map(|indicator| indicator.value.as_str()).unwrap_or_default();
    printable(&shortened(value))
}

fn headline(verdict: &pb::Verdict, detail: Detail) -> String {
    let disposition = disposition(verdict.disposition);
    let value = verdict.indicator.as_ref().map(|indicator| indicator.value.as_str()).unwrap_or_default();
    let value = match detail {
        Detail::Compact => cut(&printable(value), detail.width().saturating_sub(disposition.len() + 2)),
        Detail::Explain | Detail::Wide => printable(value),
    };
    let head = format!("{}  {value}\n", painted(disposition, colour(disposition)));
    head + &paragraph_in(detail.width(), &printable(&summary(verdict)), "  ")
}

/// What an analyst says beside the verdict.
fn analyst_word(word: &pb::AnalystWord) -> String {
    let judgement = words(word.judgement().as_str_name(), "JUDGEMENT_");
    let until = word.expire_time.as_ref().map(|end| format!(", until {}", moment(end))).unwrap_or_default();
    let by = by(&word.author, &word.caller);
    format!("feedback: {by} says {judgement}: {} ({}{until})", word.reason, word.feedback)
}

/// The summary without the disposition, which stands before it.
fn summary(verdict: &pb::Verdict) -> String {
    let summary = verdict.summary.as_str();
    let rest = summary.strip_prefix(disposition(verdict.disposition)).unwrap_or(summary);
    let rest = rest.trim_start_matches([':', ' ']);
    match rest.strip_prefix('(').and_then(|rest| rest.split_once("): ")) {
        Some((probability, why)) => format!("{probability}: {why}"),
        None => rest.to_owned(),
    }
}

/// Who was not asked, by reason; empty where everybody was.
fn not_asked(outcomes: &[pb::Outcome]) -> String {
    let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for outcome in outcomes {
        if let Some(Wire::NotAsked(not_asked)) = &outcome.result {
            reasons.entry(not_asked_reason(not_asked)).or_default().push(source_id(&outcome.source));
        }
    }
    let reasons: Vec<String> =
        reasons.iter().map(|(reason, sources)| format!("{} ({reason})", sources.join(", "))).collect();
    if reasons.is_empty() { String::new() } else { format!("not asked: {}", reasons.join("; ")) }
}

/// Why a source was not asked, and until when.
pub(super) fn not_asked_reason(not_asked: &pb::NotAsked) -> String {
    let reason = words(not_asked.reason().as_str_name(), "NOT_ASKED_REASON_");
    let detail = if not_asked.detail.is_empty() { String::new() } else { format!(": {}", not_asked.detail) };
    let until = not_asked.until.as_ref().map(|until| format!(", until {}", moment(until)));
    format!("{reason}{detail}{}", until.unwrap_or_default())
}

/// What the source reports beside its claim: the facts that analysts look for first, then its tags and the others, and
/// last its own page.
fn facts_of(outcome: &pb::Outcome, width: usize) -> String {
    let Some(Wire::Finding(finding)) = &outcome.result else { return String::new() };
    let rank = |fact: &&pb::Fact| FIRST_FACTS.iter().position(|name| *name == fact.name).unwrap_or(FIRST_FACTS.len());
    let mut facts: Vec<&pb::Fact> = finding.facts.iter().collect();
    facts.sort_by_key(rank);
    let (first, others) = facts.split_at(facts.iter().filter(|fact| rank(fact) < FIRST_FACTS.len()).count());
    let written = |facts: &[&pb::Fact]| -> Vec<String> {
        facts.iter().map(|fact| format!("{} {}", words(&fact.name, ""), fact_value(fact))).collect()
    };
    let mut parts = written(first);
    if !finding.tags.is_empty() {
        parts.push(format!("tags {}", finding.tags.join(", ")));
    }
    parts.extend(written(others));
    let mut text = String::new();
    if !parts.is_empty() {
        text.push_str(&hanging_in(width, &printable(&format!("{}: {}", source_id(&outcome.source), parts.join("; ")))));
    }
    if !finding.permalink.is_empty() {
        // Whole, so that it can be copied.
        text.push_str(&format!("  {}: {}\n", printable(source_id(&outcome.source)), printable(&finding.permalink)));
    }
    text
}

fn fact_value(fact: &pb::Fact) -> String {
    use pb::fact::Value;
    match &fact.value {
        Some(Value::Text(text)) => text.clone(),
        Some(Value::Integer(number)) => number.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Flag(flag)) => if *flag { "yes" } else { "no" }.to_owned(),
        Some(Value::Time(time)) => moment(time),
        Some(Value::List(list)) => list.values.join(", "),
        None => String::new(),
    }
}

/// What a reader must know before acting, and which policy judged.
fn footer(verdict: &pb::Verdict, receipt: Option<&pb::Receipt>, width: usize) -> String {
    let mut warnings = Vec::new();
    if let Some(conflict) = verdict.conflict.as_ref().filter(|conflict| conflict.flagged) {
        warnings.push(format!("the sources contradict each other (K = {:.2}): look yourself", conflict.mass));
    }
    if verdict.partial {
        warnings.push("partial: a source that was meant to speak did not".to_owned());
    }
    let mut text = String::new();
    for warning in &warnings {
        for line in paragraph_in(width, warning, "  ").lines() {
            text.push_str(&format!("{}\n", painted(line, Some(clap::builder::styling::AnsiColor::Yellow))));
        }
    }
    text.push_str(&receipt.and_then(cost).map(|cost| paragraph_in(width, &cost, "  ")).unwrap_or_default());
    let name = if verdict.name.is_empty() { "not stored" } else { &verdict.name };
    let policy = format!("{} (revision {}) | {name}", verdict.policy, verdict.policy_revision);
    text + &paragraph_in(width, &printable(&policy), "  ")
}

/// What was spent and what was saved: `spent 2 units; saved 3: 1 cached, 2 settled`. `None`: neither.
pub(super) fn cost(receipt: &pb::Receipt) -> Option<String> {
    let saved = receipt.saved.unwrap_or_default();
    let by = [(saved.cached, "cached"), (saved.shared, "shared"), (saved.settled, "settled")];
    let all = by.iter().map(|(units, _)| units).sum::<u32>();
    let by: Vec<String> =
        by.iter().filter(|(units, _)| *units > 0).map(|(units, what)| format!("{units} {what}")).collect();
    match (receipt.units, all) {
        (0, 0) => None,
        (spent, 0) => Some(format!("spent {}", counted(spent, "unit"))),
        (spent, _) => Some(format!("spent {}; saved {all}: {}", counted(spent, "unit"), by.join(", "))),
    }
}

/// A weight in nats, with its sign.
fn weight(micro_nats: i64) -> Cell {
    let text = if micro_nats == 0 { "0".to_owned() } else { format!("{:+.3}", micro_nats as f64 / 1e6) };
    Cell::new(text).set_alignment(CellAlignment::Right)
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::pb::contribution::Term;

    fn finding(source: &str, finding: pb::Finding) -> pb::Outcome {
        let reliability = pb::Reliability::B.into();
        let result = Some(Wire::Finding(finding));
        pb::Outcome { source: format!("sources/{source}"), reliability, result, ..Default::default() }
    }

    fn not_asked_for(source: &str, reason: pb::NotAskedReason, detail: &str) -> pb::Outcome {
        let not_asked = pb::NotAsked { reason: reason.into(), detail: detail.into(), until: None };
        let result = Some(Wire::NotAsked(not_asked));
        pb::Outcome { source: format!("sources/{source}"), result, ..Default::default() }
    }

    fn faded() -> pb::Verdict {
        let claim = pb::Disposition::Malicious.into();
        let found = pb::Finding {
            claim,
            reasons: vec!["1 of 94 engines says malicious".into()],
            facts: vec![
                pb::Fact { name: "size".into(), value: Some(pb::fact::Value::Integer(7)) },
                pb::Fact { name: "country".into(), value: Some(pb::fact::Value::Text("NL".into())) },
            ],
            tags: vec!["botnet".into()],
            permalink: "https://example.com/page".into(),
            ..Default::default()
        };
        let term = |term, micro_nats, sentence: &str| pb::Contribution {
            term: Some(term),
            micro_nats,
            sentence: sentence.into(),
            claim,
            ..Default::default()
        };
        pb::Verdict {
            name: "verdicts/v1".into(),
            indicator: Some(pb::Indicator { r#type: 0, value: "192.0.2.1".into() }),
            disposition: pb::Disposition::Unknown.into(),
            summary: "unknown (17.8 %): 1 of 1 source says malicious (1 faded)".into(),
            probability: Some(0.178),
            log_odds_micro_nats: Some(-1_530_000),
            contributions: vec![
                term(Term::Prior(true), -1_658_228, "The prior."),
                term(Term::Calibration(true), 0, "No correction."),
                term(
                    Term::Source("sources/vt".into()),
                    128_228,
                    "vt (B) says malicious, affirmed 90 days ago; with age 4.2 % of its evidence still counts: +0.128 nats.",
                ),
            ],
            outcomes: vec![
                not_asked_for("a", pb::NotAskedReason::PrivateAddress, "192.0.2.1 is private"),
                not_asked_for("b", pb::NotAskedReason::PrivateAddress, "192.0.2.1 is private"),
                not_asked_for("c", pb::NotAskedReason::Disabled, ""),
                finding("vt", found),
            ],
            policy: "policies/weighted".into(),
            policy_revision: 1,
            partial: true,
            ..Default::default()
        }
    }

    #[test]
    fn a_verdict_is_shown_once_and_each_weight_with_its_reason_and_the_sum() {
        let shown = super::verdict(&faded(), None, Detail::Wide, false);
        let expected = "unknown  192.0.2.1
  17.8 %: 1 of 1 source says malicious (1 faded)
   SOURCE   LETTER  SAYS       WEIGHT (nats)  AGREES  FROM  WHY
   (prior)                            -1.658                The prior.
   vt       B       malicious         +0.128                1 of 94 engines says malicious; affirmed 90 days ago; with age 4.2 % of its
                                                            evidence still counts
   (sum)                              -1.530                the log-odds of a probability of 17.8 %
  not asked: c (disabled); a, b (private address: 192.0.2.1 is private)
";
        assert!(shown.starts_with(expected), "{shown}");
        assert!(shown.contains("\u{1b}[1m\u{1b}[33m  partial: "), "a warning is coloured: {shown:?}");
        assert!(shown.ends_with("\n  policies/weighted (revision 1) | verdicts/v1\n"), "{shown}");
        let line = line(&faded(), 9);
        assert_eq!(line, "unknown     192.0.2.1  partial; 17.8 %: 1 of 1 source says malicious (1 faded)\n");
    }

    /// What the widest of everything would be.
    fn worst_case() -> pb::Verdict {
        let name = |number: usize| format!("sources/{:x<60}{number:03}", "a-name-");
        let long =
            "a very long reason, 理由理由理由理由理由理由理由理由理由理由理由理由, that says all at once ".repeat(4);
        let value = "http://www.example.com/".to_owned() + &"path/".repeat(60);
        let claims = [pb::Disposition::Malicious, pb::Disposition::Suspicious, pb::Disposition::Benign];
        let letters = [pb::Reliability::APlus, pb::Reliability::B, pb::Reliability::F];
        let outcome = |number: usize, result| pb::Outcome {
            source: name(number),
            reliability: letters[number % 3].into(),
            result: Some(result),
            ..Default::default()
        };
        let found = |number: usize| {
            let claim = claims[number % 3].into();
            outcome(number, Wire::Finding(pb::Finding { claim, reasons: vec![long.clone()], ..Default::default() }))
        };
        let error = pb::SourceError { detail: long.clone(), ..Default::default() };
        let not_asked = pb::NotAsked { detail: long.clone(), ..Default::default() };
        let others = [Wire::NoRecord(Default::default()), Wire::Error(error), Wire::NotAsked(not_asked)];
        let others = others.into_iter().zip(90..).map(|(result, number)| outcome(number, result));
        let term = |number: usize| pb::Contribution {
            term: Some(Term::Source(name(number))),
            micro_nats: -12_345_678,
            ..Default::default()
        };
        let sentence = |what: &str| format!("{what} if {} said malicious instead of benign, {long}", name(0));
        let word = pb::AnalystWord { author: "x".repeat(128), reason: long.clone(), ..Default::default() };
        pb::Verdict {
            name: format!("verdicts/{}", "v".repeat(40)),
            indicator: Some(pb::Indicator { r#type: 0, value }),
            disposition: pb::Disposition::Suspicious.into(),
            summary: format!("suspicious (50.0 %): {long}"),
            contributions: (0..12).map(term).collect(),
            deciding_source: name(3),
            outcomes: (0..12).map(found).chain(others).collect(),
            feedback: vec![word],
            reach: Some(pb::Reach { sentence: sentence("It would change"), ..Default::default() }),
            flips: vec![pb::Flip {
                assumption: pb::Assumption::WrongAnswers.into(),
                sentence: sentence("It would be benign"),
                ..Default::default()
            }],
            margins: vec![pb::Margin { sources: 1, sentence: sentence("It would be"), ..Default::default() }],
            conflict: Some(pb::Conflict { mass: 0.5, flagged: true }),
            partial: true,
            policy: format!("policies/{}", "p".repeat(63)),
            ..Default::default()
        }
    }

    #[test]
    fn whatever_a_verdict_holds_its_compact_table_fits_eighty_columns() {
        let verdict = worst_case();
        let receipt = pb::Receipt { notes: vec!["a note ".repeat(30)], units: 12, ..Default::default() };
        let comparison = pb::PolicyComparison {
            policy: verdict.policy.clone(),
            disposition: verdict.disposition,
            sentence: verdict.summary.clone(),
            ..Default::default()
        };
        let shown = super::verdict(&verdict, Some(&receipt), Detail::Compact, true)
            + &comparisons(&[comparison], &verdict, Detail::Compact);
        let shown = anstream::adapter::strip_str(&shown).to_string();
        for line in shown.lines() {
            assert!(line.width() <= 80, "{} columns: {line}\n{shown}", line.width());
        }
        for part in ["* a-name-xxxxx…xxxxxxxx003", "-12.346", "suspicious", "http://www.example.com/path/path"] {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
        let wide = super::verdict(&verdict, Some(&receipt), Detail::Wide, false);
        let name = source_id(&verdict.deciding_source);
        assert!(wide.contains(name) && !wide.contains("a-name-xxxxx…"), "{wide}");
        let value = &verdict.indicator.as_ref().unwrap().value;
        assert!(wide.contains(value.as_str()), "{wide}");
    }

    #[test]
    fn facts_are_shown_where_wanted_what_analysts_look_for_first_and_the_page_whole() {
        assert!(!super::verdict(&faded(), None, Detail::Compact, false).contains("country"));
        let shown = super::verdict(&faded(), None, Detail::Compact, true);
        let facts = "  vt: country NL; tags botnet; size 7\n  vt: https://example.com/page\n";
        assert!(shown.contains(facts), "{shown}");
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
        let details = [Detail::Compact, Detail::Explain, Detail::Wide];
        let shown = details.map(|detail| super::verdict(&verdict, Some(&receipt), detail, true)).concat()
            + &line(&verdict, 100);
        let controls = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!shown.contains(controls), "{shown:?}");
        assert!(shown.contains("owned"));
    }
}
