//! A verdict for people: the sources side by side, why each weighs what it weighs, and what was not asked.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment, Color, Table};

use super::table::{
    cell, colour, disposition, fitted, hanging, letter, moment, painted, paragraph, plain, printable, shortened,
    source_id, trim_lines, width, words,
};
use crate::pb;
use crate::pb::contribution::Term;
use crate::pb::outcome::Result as Wire;
use crate::verdict::percent;

/// Facts that analysts look for first.
const FIRST_FACTS: [&str; 5] = ["as_number", "as_owner", "country", "engines_malicious", "last_seen"];
/// Longest indicator in a list, one a line.
const LONGEST_VALUE: usize = 64;

/// The whole verdict. Facts are shown where wanted and sent.
pub(super) fn verdict(verdict: &pb::Verdict, receipt: Option<&pb::Receipt>, facts: bool) -> String {
    let mut text = headline(verdict);
    for note in receipt.map(|receipt| receipt.notes.as_slice()).unwrap_or_default() {
        text.push_str(&hanging(&printable(&format!("note: {note}"))));
    }
    for word in &verdict.feedback {
        text.push_str(&hanging(&printable(&analyst_word(word))));
    }
    if verdict.outcomes.iter().any(was_asked) || !verdict.contributions.is_empty() {
        text.push_str(&fitted(sources(verdict, receipt), Some(6)));
    }
    text.push_str(&hanging(&printable(&not_asked(&verdict.outcomes))));
    if facts {
        verdict.outcomes.iter().for_each(|outcome| text.push_str(&facts_of(outcome)));
    }
    text.push_str(&footer(verdict));
    trim_lines(&text)
}

/// The verdict on one line: what it is, of what, and why. Cut where a terminal is narrower.
pub(super) fn line(verdict: &pb::Verdict, longest_value: usize) -> String {
    let disposition = disposition(verdict.disposition);
    let value = value(verdict);
    let partial = if verdict.partial { "partial; " } else { "" };
    let longest = longest_value.min(LONGEST_VALUE);
    let rest = printable(&format!("{value:longest$}  {partial}{}", summary(verdict)));
    let room = width().saturating_sub(12);
    let rest = match rest.char_indices().nth(room.saturating_sub(1)) {
        Some((end, _)) if rest.chars().count() > room && is_terminal() => {
            format!("{}…", rest.get(..end).unwrap_or_default())
        }
        Some(_) | None => rest,
    };
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

fn headline(verdict: &pb::Verdict) -> String {
    let disposition = disposition(verdict.disposition);
    let value = verdict.indicator.as_ref().map(|indicator| indicator.value.as_str()).unwrap_or_default();
    let head = format!("{}  {}\n", painted(disposition, colour(disposition)), printable(value));
    head + &paragraph(&printable(&summary(verdict)), "  ")
}

/// What an analyst says beside the verdict.
fn analyst_word(word: &pb::AnalystWord) -> String {
    let judgement = words(word.judgement().as_str_name(), "JUDGEMENT_");
    let until = word.expire_time.as_ref().map(|end| format!(", until {}", moment(end))).unwrap_or_default();
    format!("feedback: {} says {judgement}: {} ({}{until})", word.author, word.reason, word.feedback)
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

/// One row a term: the prior, each source that was asked, and their sum.
fn sources(verdict: &pb::Verdict, receipt: Option<&pb::Receipt>) -> Table {
    let mut table = plain(&["  SOURCE", "LETTER", "SAYS", "WEIGHT (nats)", "AGREES", "FROM", "WHY"]);
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
        table.add_row(unsourced(name, contribution.micro_nats, &contribution.sentence));
    }
    for outcome in verdict.outcomes.iter().filter(|outcome| was_asked(outcome)) {
        table.add_row(source_row(outcome, verdict, receipt));
    }
    if let (Some(sum), Some(probability)) = (verdict.log_odds_micro_nats, verdict.probability) {
        let why = format!("the log-odds of a probability of {}", percent(probability));
        table.add_row(unsourced("(sum)", sum, &why));
    }
    table
}

fn was_asked(outcome: &pb::Outcome) -> bool {
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
fn judged_as_xsoar<'a>(finding: &'a pb::Finding, verdict: &pb::Verdict) -> Option<&'a pb::XsoarClaim> {
    finding.xsoar.as_ref().filter(|xsoar| verdict.policy == "policies/xsoar" && xsoar.claim != finding.claim)
}

fn claim_cell(outcome: &pb::Outcome, verdict: &pb::Verdict) -> Cell {
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
fn with_note(why: String, receipt: Option<&pb::SourceReceipt>) -> String {
    let note = receipt.map(|receipt| receipt.note.as_str()).unwrap_or_default();
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
fn facts_of(outcome: &pb::Outcome) -> String {
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
        text.push_str(&hanging(&printable(&format!("{}: {}", source_id(&outcome.source), parts.join("; ")))));
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
fn footer(verdict: &pb::Verdict) -> String {
    let mut warnings = Vec::new();
    if let Some(conflict) = verdict.conflict.as_ref().filter(|conflict| conflict.flagged) {
        warnings.push(format!("the sources contradict each other (K = {:.2}): look yourself", conflict.mass));
    }
    if verdict.partial {
        warnings.push("partial: a source that was meant to speak did not".to_owned());
    }
    let mut text = String::new();
    for warning in &warnings {
        for line in paragraph(warning, "  ").lines() {
            text.push_str(&format!("{}\n", painted(line, Some(clap::builder::styling::AnsiColor::Yellow))));
        }
    }
    let name = if verdict.name.is_empty() { "not stored" } else { &verdict.name };
    let policy = format!("{} (revision {}) | {name}", verdict.policy, verdict.policy_revision);
    text + &paragraph(&printable(&policy), "  ")
}

/// A weight in nats, with its sign.
fn weight(micro_nats: i64) -> Cell {
    let text = if micro_nats == 0 { "0".to_owned() } else { format!("{:+.3}", micro_nats as f64 / 1e6) };
    Cell::new(text).set_alignment(CellAlignment::Right)
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
        let shown = super::verdict(&faded(), None, false);
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

    #[test]
    fn facts_are_shown_where_wanted_what_analysts_look_for_first_and_the_page_whole() {
        assert!(!super::verdict(&faded(), None, false).contains("country"));
        let shown = super::verdict(&faded(), None, true);
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
        let shown = super::verdict(&verdict, Some(&receipt), true) + &line(&verdict, 100);
        let controls = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!shown.contains(controls), "{shown:?}");
        assert!(shown.contains("owned"));
    }
}
