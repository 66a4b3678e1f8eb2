//! What a look-up of several indicators came to: the totals, the exit code, and the answers in the order of the request.

use std::collections::BTreeMap;
use std::process::ExitCode;

use prost::Message;

use super::answer_file::AnswerFile;
use super::args::Output;
use super::input::Input;
use super::progress::Progress;
use super::verdict_table::{self, Detail};
use super::{Failure, csv, dbot, json, table, try_print};
use crate::finding::counted;
use crate::indicator::redact_text;
use crate::pb;
use crate::pb::batch_enrich_response::Result as Wire;

/// How one look-up ended, the mildest first. The worst of all look-ups decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    Benign,
    Unknown,
    /// A source that should have answered did not.
    Partial,
    /// No source was asked and none answered from cache.
    Unasked,
    /// There is no verdict.
    Refused,
    Suspicious,
    Malicious,
}

impl Ending {
    fn new(verdict: &pb::Verdict) -> Self {
        use pb::outcome::Result as Outcome;
        let spoke = |outcome: &pb::Outcome| !matches!(outcome.result, Some(Outcome::NotAsked(_)) | None);
        match verdict.disposition() {
            pb::Disposition::Malicious => Self::Malicious,
            pb::Disposition::Suspicious => Self::Suspicious,
            _ if !verdict.outcomes.iter().any(spoke) => Self::Unasked,
            _ if verdict.partial => Self::Partial,
            pb::Disposition::Benign => Self::Benign,
            pb::Disposition::Unknown | pb::Disposition::Unspecified => Self::Unknown,
        }
    }

    fn exit_code(self) -> u8 {
        match self {
            Self::Benign => 0,
            Self::Refused => 1,
            Self::Unknown => 3,
            Self::Partial => 4,
            Self::Unasked => 5,
            Self::Suspicious => 10,
            Self::Malicious => 20,
        }
    }
}

/// What all look-ups came to.
#[derive(Default)]
pub(super) struct Totals {
    indicators: usize,
    dispositions: BTreeMap<i32, usize>,
    partial: usize,
    unasked: usize,
    refused: usize,
    /// Of each source that quota held back: from how many indicators, and until when at the latest.
    held_back: BTreeMap<String, (usize, Option<prost_types::Timestamp>)>,
    worst: Option<Ending>,
    /// Verdicts that the server could not store.
    pub(super) not_stored: usize,
    /// Whether a verdict has no source, because none is configured.
    pub(super) without_sources: bool,
}

impl Totals {
    pub(super) fn add(&mut self, verdict: &pb::Verdict) {
        let ending = Ending::new(verdict);
        self.indicators += 1;
        *self.dispositions.entry(verdict.disposition).or_default() += 1;
        self.partial += usize::from(verdict.partial);
        self.unasked += usize::from(ending == Ending::Unasked);
        self.worst = self.worst.max(Some(ending));
        self.without_sources |= verdict.outcomes.is_empty();
        self.not_stored += usize::from(verdict.name.is_empty());
        for (source, not_asked) in held_back(verdict) {
            self.hold_back(source, not_asked);
        }
    }

    pub(super) fn hold_back(&mut self, source: &str, not_asked: &pb::NotAsked) {
        let (held, until) = self.held_back.entry(table::source_id(source).to_owned()).or_default();
        *held += 1;
        let later = |time: &prost_types::Timestamp| until.is_none_or(|until| until.seconds < time.seconds);
        if let Some(time) = not_asked.until.filter(later) {
            *until = Some(time);
        }
    }

    fn refuse(&mut self) {
        self.indicators += 1;
        self.refused += 1;
        self.worst = self.worst.max(Some(Ending::Refused));
    }

    pub(super) fn exit_code(&self, by_verdict: bool) -> ExitCode {
        match self.worst {
            Some(worst) if by_verdict => ExitCode::from(worst.exit_code()),
            _ if self.refused > 0 => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        }
    }

    /// One line for people, where there is something to sum up.
    pub(super) fn line(&self) -> Option<String> {
        if self.indicators < 2 {
            return None;
        }
        let of_disposition = |(number, count): (&i32, &usize)| format!("{count} {}", table::disposition(*number));
        let mut parts: Vec<String> = self.dispositions.iter().rev().map(of_disposition).collect();
        let others =
            [(self.refused, "refused"), (self.partial, "partial"), (self.unasked, "about which nobody was asked")];
        parts.extend(others.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
        Some(format!("{} indicators: {}{}", self.indicators, parts.join(", "), self.held_back()))
    }

    /// Which sources quota held back, from how many indicators and until when.
    pub(super) fn held_back(&self) -> String {
        let source = |(name, (count, until)): (&String, &(usize, Option<prost_types::Timestamp>))| {
            let until = until.as_ref().map(|until| format!(", until {}", table::moment(until))).unwrap_or_default();
            format!("{} ({}{until})", table::printable(name), counted(*count, "indicator"))
        };
        match self.held_back.is_empty() {
            true => String::new(),
            false => {
                format!("; held back by quota: {}", self.held_back.iter().map(source).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// The sources that quota kept from being asked.
pub(super) fn held_back(verdict: &pb::Verdict) -> impl Iterator<Item = (&str, &pb::NotAsked)> {
    verdict.outcomes.iter().filter_map(|outcome| match &outcome.result {
        Some(pb::outcome::Result::NotAsked(not_asked)) if lacks_quota(not_asked) => {
            Some((outcome.source.as_str(), not_asked))
        }
        Some(_) | None => None,
    })
}

/// Whether a source was not asked for want of a unit, which comes free later.
pub(super) fn lacks_quota(not_asked: &pb::NotAsked) -> bool {
    matches!(not_asked.reason(), pb::NotAskedReason::QuotaSpent | pb::NotAskedReason::QuotaReserve)
}

/// How answers are printed.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) output: Output,
    /// One line an indicator in a table.
    pub(super) short: bool,
    pub(super) facts: bool,
    /// How much a table shows of each verdict.
    pub(super) detail: Detail,
    /// Whether a reader that is gone ends the command. It does not where the exit code says what was found.
    pub(super) ends_with_reader: bool,
}

/// Prints the answers in the order of the inputs (lines of JSON on standard output as they come), and sums them up.
pub(super) struct Report {
    layout: Layout,
    pub(super) progress: Progress,
    /// Where the answers go; `None`: standard output.
    file: Option<AnswerFile>,
    /// The longest value so far, in characters.
    longest: usize,
    next: usize,
    /// Answers to later inputs than the next; at most those of one call.
    waiting: BTreeMap<usize, String>,
    begun: bool,
    printed: bool,
    pub(super) totals: Totals,
}

impl Report {
    pub(super) fn new(layout: Layout, progress: Progress, file: Option<AnswerFile>) -> Self {
        let next = file.as_ref().map_or(0, |file| file.answered);
        let begun = file.as_ref().is_some_and(|file| !file.is_empty());
        let (waiting, totals) = (BTreeMap::new(), Totals::default());
        Self { layout, progress, file, longest: 0, next, waiting, begun, printed: false, totals }
    }

    /// Makes room in the table for the values of these inputs.
    pub(super) fn make_room(&mut self, inputs: &[Input]) {
        let longest = inputs.iter().map(|input| input.value.chars().count()).max().unwrap_or_default();
        self.longest = self.longest.max(longest);
    }

    /// Prints what stands above the answers; called once the first call is accepted.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        match self.layout.output {
            _ if std::mem::replace(&mut self.begun, true) => Ok(()),
            Output::Csv => self.print(&csv::header()),
            Output::Json | Output::Dbot => self.print("[\n"),
            Output::Table | Output::Jsonl => Ok(()),
        }
    }

    /// Inputs whose answers are printed, also by earlier commands.
    pub(super) fn answered(&self) -> usize {
        self.progress.done() - self.waiting.len()
    }

    /// Whether a call was accepted.
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.progress.finish();
        match self.layout.output {
            _ if !self.begun => Ok(()),
            Output::Json | Output::Dbot => self.print("\n]\n"),
            Output::Table | Output::Jsonl | Output::Csv => Ok(()),
        }
    }

    /// Adds the answer to this input, which has this index among all.
    pub(super) fn add(
        &mut self,
        index: usize,
        input: &Input,
        result: Wire,
        verdict: Option<&pb::Verdict>,
    ) -> Result<(), Failure> {
        let receipt = match &result {
            Wire::Answer(answer) => answer
                .decode_receipt()
                .map_err(|error| Failure::new(format!("the server's answer cannot be read: {error}")))?,
            Wire::Error(_) => pb::Receipt::default(),
        };
        let units = receipt.sources.iter().map(|source| source.units).sum();
        let text = match (result, verdict) {
            (Wire::Answer(answer), Some(verdict)) => self.answer(index, input, answer, (verdict, receipt))?,
            (Wire::Error(error), _) => self.refused(index, input, error)?,
            (Wire::Answer(_), None) => String::new(),
        };
        self.progress.add(units);
        if self.layout.output == Output::Jsonl && self.file.is_none() {
            return self.print(&text);
        }
        self.waiting.insert(index, text);
        while let Some(text) = self.waiting.remove(&self.next) {
            self.next += 1;
            self.print_next(&text)?;
        }
        Ok(())
    }

    /// An indicator without a verdict: a message for people, and in its place a document or row for machines.
    fn refused(&mut self, index: usize, input: &Input, mut error: pb::BatchError) -> Result<String, Failure> {
        self.totals.refuse();
        error.text = redact_text(&input.text);
        let text = table::shortened(&table::printable(&error.text));
        self.notice(&format!("{text}: {}", table::printable(&error.message)));
        match self.layout.output {
            Output::Json | Output::Jsonl => self.document(index, Wire::Error(error)),
            Output::Csv => Ok(csv::refused(&error.text, &error.message)),
            // Entry context has no place for it.
            Output::Table | Output::Dbot => Ok(String::new()),
        }
    }

    fn answer(
        &mut self,
        index: usize,
        input: &Input,
        mut answer: pb::EnrichResponse,
        (verdict, mut receipt): (&pb::Verdict, pb::Receipt),
    ) -> Result<String, Failure> {
        self.totals.add(verdict);
        // The receipt masks the user and password of a URL, but does not know the path of a file.
        if input.is_file() {
            receipt.text = input.text.clone();
            answer.receipt = receipt.encode_to_vec().into();
        }
        match self.layout.output {
            Output::Table if self.layout.short => Ok(verdict_table::line(verdict, self.longest)),
            Output::Table => {
                let Layout { detail, facts, .. } = self.layout;
                let table = verdict_table::verdict(verdict, Some(&receipt), detail, facts);
                Ok(table + &verdict_table::comparisons(&answer.comparisons, verdict, detail))
            }
            Output::Dbot => Ok(json::indented(&dbot::context(verdict))),
            Output::Csv => Ok(csv::row(verdict, &receipt.text)),
            Output::Json | Output::Jsonl => self.document(index, Wire::Answer(answer)),
        }
    }

    fn document(&self, index: usize, result: Wire) -> Result<String, Failure> {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let response = pb::BatchEnrichResponse { index, result: Some(result) };
        let document = json::document("BatchEnrichResponse", &response)?;
        Ok(if self.layout.output == Output::Json { json::indented(&document) } else { format!("{document}\n") })
    }

    fn print_next(&mut self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        let between = match self.layout.output {
            Output::Table if !self.layout.short => "\n",
            Output::Json | Output::Dbot => ",\n",
            Output::Table | Output::Jsonl | Output::Csv => "",
        };
        let between = if self.printed { between } else { "" };
        self.printed = true;
        self.print(&format!("{between}{text}"))
    }

    /// A message for people, beside the answers.
    pub(super) fn notice(&self, text: &str) {
        self.progress.suspend(|| eprintln!("concord: {text}"));
    }

    fn print(&mut self, text: &str) -> Result<(), Failure> {
        match &mut self.file {
            Some(file) => file.write(text),
            None => self.progress.suspend(|| try_print(text, self.layout.ends_with_reader)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(disposition: pb::Disposition, partial: bool, result: pb::outcome::Result) -> pb::Verdict {
        let outcome = pb::Outcome { source: "sources/vt".into(), result: Some(result), ..Default::default() };
        pb::Verdict {
            name: "verdicts/v1".into(),
            disposition: disposition.into(),
            partial,
            outcomes: vec![outcome],
            ..Default::default()
        }
    }

    fn no_record(disposition: pb::Disposition, partial: bool) -> pb::Verdict {
        verdict(disposition, partial, pb::outcome::Result::NoRecord(pb::NoRecord {}))
    }

    fn spent() -> pb::Verdict {
        let until = Some(prost_types::Timestamp { seconds: 1_790_000_060, nanos: 0 });
        let not_asked = pb::NotAsked { reason: pb::NotAskedReason::QuotaSpent.into(), until, ..Default::default() };
        verdict(pb::Disposition::Unknown, true, pb::outcome::Result::NotAsked(not_asked))
    }

    #[test]
    fn only_what_is_benign_and_whole_ends_with_zero_and_the_worst_decides() {
        use pb::Disposition as D;
        let steps = [
            (no_record(D::Benign, false), 0),
            (no_record(D::Unknown, false), 3),
            (no_record(D::Benign, true), 4),
            (spent(), 5),
            (no_record(D::Suspicious, true), 10),
            (no_record(D::Malicious, true), 20),
        ];
        let mut totals = Totals::default();
        for (verdict, code) in &steps {
            totals.add(verdict);
            assert_eq!(totals.worst.map(Ending::exit_code), Some(*code));
            assert_eq!(totals.exit_code(false), ExitCode::SUCCESS);
        }
        let mut totals = Totals::default();
        totals.add(&spent());
        totals.refuse();
        assert_eq!(totals.worst.map(Ending::exit_code), Some(1));
        assert_eq!(totals.exit_code(false), ExitCode::FAILURE);
        totals.add(&no_record(D::Suspicious, false));
        assert_eq!(totals.worst.map(Ending::exit_code), Some(10));
    }

    #[test]
    fn the_last_line_says_how_many_of_each_and_who_was_held_back_until_when() {
        let mut totals = Totals::default();
        totals.add(&no_record(pb::Disposition::Malicious, false));
        assert_eq!(totals.line(), None, "one verdict needs no sum");
        totals.add(&spent());
        totals.add(&spent());
        totals.refuse();
        let expected = "4 indicators: 1 malicious, 2 unknown, 1 refused, 2 partial, 2 about which nobody was asked; \
                        held back by quota: vt (2 indicators, until 2026-09-21T14:14:20Z)";
        assert_eq!(totals.line().unwrap(), expected);
    }

    #[test]
    fn verdicts_that_were_not_stored_are_counted() {
        let mut totals = Totals::default();
        for name in ["verdicts/v1", "", ""] {
            totals.add(&pb::Verdict { name: name.into(), ..Default::default() });
        }
        assert_eq!(totals.not_stored, 2);
    }
}
