//! `concord enrich`.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use tonic::Request;

use super::args::{Client, Enrich, EnrichArgs, Output};
use super::connect::Connection;
use super::input::{self, Input};
use super::{Failure, say};
use crate::convert::duration;
use crate::convert::indicator::write_tlp;
use crate::convert::verdict_read::read;
use crate::export;
use crate::indicator::masked_text;
use crate::pb;
use crate::pb::batch_enrich_response::Result as Wire;
use crate::settings::NO_SOURCE_HINT;
use crate::table;
use crate::verdict::Verdict;

/// Most indicators in one call, as the protocol has it.
const AT_ONCE: usize = 1000;
/// Most bytes of indicators in one call: a quarter of what a server takes unless it is set to less.
const BYTES_AT_ONCE: usize = 1024 * 1024;
/// From so many on, a bar shows the progress on a terminal.
const MANY: usize = 5;

/// Looks up everything that the arguments name.
pub(super) async fn run(client: &Client, enrich: Enrich) -> Result<ExitCode, Failure> {
    let inputs = input::indicators(&enrich.options)?;
    let report = Connection::with(client, async |connection| ask(connection, &enrich, &inputs).await).await?;
    if report.not_kept > 0 {
        eprintln!("concord: the server could not keep {} of the verdicts; its log says why", report.not_kept);
    }
    if report.without_sources {
        eprintln!("concord: {NO_SOURCE_HINT}");
    }
    Ok(report.exit_code(enrich.exit_code))
}

/// Asks and prints.
async fn ask(connection: &Connection, enrich: &Enrich, inputs: &[Input]) -> Result<Report, Failure> {
    let bar = bar(inputs.len());
    let mut report = Report::new(enrich.output, bar.clone());
    let mut place = 0;
    while let Some(chunk) = chunk(inputs.get(place..).unwrap_or_default()) {
        let request = request(enrich, chunk.iter().map(Input::indicator).collect());
        let answers = connection.enrichment().batch_enrich(request).await.map_err(Failure::from);
        let mut answers = answers.map_err(|error| if place == 0 { error } else { error.midway() })?.into_inner();
        if place == 0 {
            report.begin()?;
        }
        while let Some(answer) = answers.message().await.map_err(|status| Failure::from(status).midway())? {
            let index = place + usize::try_from(answer.index).unwrap_or_default();
            bar.inc(1);
            report.add(index, inputs.get(index), answer.result)?;
        }
        place += chunk.len();
    }
    bar.finish_and_clear();
    report.end()?;
    Ok(report)
}

/// As many as fit into one call, from the first on.
fn chunk(inputs: &[Input]) -> Option<&[Input]> {
    let mut bytes = 0;
    let fits = |input: &&Input| {
        bytes += input.value.len();
        bytes <= BYTES_AT_ONCE
    };
    let fitting = inputs.iter().take(AT_ONCE).take_while(fits).count();
    // One that is too large by itself is sent all the same: the server says so of it alone.
    inputs.get(..fitting.max(1))
}

fn request(enrich: &Enrich, indicators: Vec<pb::Indicator>) -> Request<pb::BatchEnrichRequest> {
    let many = indicators.len() > MANY;
    let EnrichArgs { sources, tlp, max_age, timeout, .. } = &enrich.options;
    let mut request = Request::new(pb::BatchEnrichRequest {
        indicators,
        sources: sources.iter().map(|name| full_name(name, "sources")).collect(),
        policy: enrich.policy.as_ref().map(|name| full_name(name, "policies")).unwrap_or_default(),
        tlp: write_tlp(*tlp).into(),
        max_age: max_age.map(duration),
        view: match enrich.output {
            Output::Table => pb::View::Basic.into(),
            Output::Json | Output::Jsonl | Output::Csv => pb::View::Full.into(),
        },
        request_id: String::new(),
    });
    // The time is for each indicator; a large batch takes as long as it takes.
    if !many {
        request.set_timeout(*timeout);
    }
    request
}

/// `sources/vt` of `vt`, and of itself.
pub(super) fn full_name(name: &str, collection: &str) -> String {
    if name.starts_with(&format!("{collection}/")) { name.to_owned() } else { format!("{collection}/{name}") }
}

fn bar(length: usize) -> ProgressBar {
    if length < MANY || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(u64::try_from(length).unwrap_or(u64::MAX)).with_style(style)
}

/// Prints each answer in the order of the request, as soon as those before it are there (a line of JSON at once), and
/// remembers the worst.
struct Report {
    output: Output,
    bar: ProgressBar,
    next: usize,
    waiting: BTreeMap<usize, String>,
    printed: bool,
    worst: i32,
    failed: usize,
    /// Verdicts that the server could not keep.
    not_kept: usize,
    /// Whether a verdict rests on no source at all, because there is none.
    without_sources: bool,
}

impl Report {
    fn new(output: Output, bar: ProgressBar) -> Self {
        Self {
            output,
            bar,
            next: 0,
            waiting: BTreeMap::new(),
            printed: false,
            worst: 0,
            failed: 0,
            not_kept: 0,
            without_sources: false,
        }
    }

    fn begin(&mut self) -> Result<(), Failure> {
        match self.output {
            Output::Csv => self.print(&format!("{}\r\n", export::csv_header())),
            Output::Json => self.print("[\n"),
            Output::Table | Output::Jsonl => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        if self.output == Output::Json { self.print("\n]\n") } else { Ok(()) }
    }

    fn add(&mut self, index: usize, input: Option<&Input>, result: Option<Wire>) -> Result<(), Failure> {
        let text = match result {
            Some(Wire::Answer(answer)) => self.answer(input, &answer)?,
            Some(Wire::Error(error)) => self.refused(input, &error),
            None => String::new(),
        };
        if self.output == Output::Jsonl {
            return self.print(&text);
        }
        self.waiting.insert(index, text);
        while let Some(text) = self.waiting.remove(&self.next) {
            self.next += 1;
            self.print_next(&text)?;
        }
        Ok(())
    }

    /// An indicator without a verdict: told to whoever sits there, and to machines in its place.
    fn refused(&mut self, input: Option<&Input>, error: &pb::BatchError) -> String {
        self.failed += 1;
        let text = masked_text(input.map(|input| input.text.as_str()).unwrap_or_default());
        self.bar.suspend(|| {
            eprintln!("concord: {}: {}", table::shortened(&table::printable(&text)), table::printable(&error.message))
        });
        let document = serde_json::json!({
            "receipt": { "text": text },
            "error": { "reason": error.reason, "message": error.message },
        });
        match self.output {
            Output::Json => indented(&document),
            Output::Jsonl => format!("{document}\n"),
            Output::Table | Output::Csv => String::new(),
        }
    }

    fn answer(&mut self, input: Option<&Input>, answer: &pb::EnrichResponse) -> Result<String, Failure> {
        let unreadable =
            |error: &dyn std::fmt::Display| Failure::new(format!("the server's answer cannot be read: {error}"));
        let verdict = answer.decode_verdict().map_err(|error| unreadable(&error))?;
        self.worst = self.worst.max(verdict.disposition);
        self.without_sources |= verdict.outcomes.is_empty();
        self.not_kept += usize::from(verdict.name.is_empty());
        if self.output == Output::Table {
            return Ok(table::verdict(&verdict, answer.receipt.as_ref()));
        }
        let (name, verdict) = read(&verdict).map_err(|error| unreadable(&error))?;
        let receipt = answer.receipt.clone().unwrap_or_default();
        // The receipt masks what a URL may hold as user and password; the path of a file it does not know.
        let text = input.filter(|input| input.is_file()).map_or(receipt.text.as_str(), |input| &input.text);
        let whole = || come_by(document(&name, &verdict), text, &receipt);
        Ok(match self.output {
            Output::Csv => format!("{}\r\n", export::csv_row(&verdict, &name, text)),
            Output::Json => indented(&whole()),
            Output::Jsonl | Output::Table => format!("{}\n", whole()),
        })
    }

    fn print_next(&mut self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        let between = match self.output {
            Output::Table => "\n",
            Output::Json => ",\n",
            Output::Jsonl | Output::Csv => "",
        };
        let between = if self.printed { between } else { "" };
        self.printed = true;
        self.print(&format!("{between}{text}"))
    }

    fn print(&self, text: &str) -> Result<(), Failure> {
        self.bar.suspend(|| say(text))
    }

    fn exit_code(&self, by_verdict: bool) -> ExitCode {
        let worst = pb::Disposition::try_from(self.worst).unwrap_or_default();
        match worst {
            pb::Disposition::Malicious if by_verdict => ExitCode::from(20),
            pb::Disposition::Suspicious if by_verdict => ExitCode::from(10),
            _ if self.failed > 0 => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        }
    }
}

/// The document with what was sent, how it was understood, and what it cost.
fn come_by(mut document: serde_json::Value, text: &str, receipt: &pb::Receipt) -> serde_json::Value {
    let sources = receipt.sources.iter().map(|one| {
        serde_json::json!({
            "source": one.source.trim_start_matches("sources/"),
            "from_cache": one.from_cache,
            "shared": one.shared,
            "units": one.units,
            "note": one.note,
        })
    });
    let receipt = serde_json::json!({
        "text": text,
        "notes": receipt.notes,
        "from_cache": receipt.verdict_from_cache,
        "units": receipt.sources.iter().map(|one| u64::from(one.units)).sum::<u64>(),
        "sources": sources.collect::<Vec<_>>(),
    });
    if let Some(members) = document.as_object_mut() {
        members.insert("receipt".into(), receipt);
    }
    document
}

/// A verdict as a document, with the name under which it is kept.
pub(super) fn document(name: &str, verdict: &Verdict) -> serde_json::Value {
    let mut document = export::verdict_to_json(verdict);
    if let Some(members) = document.as_object_mut().filter(|_| !name.is_empty()) {
        members.insert("name".into(), name.into());
    }
    document
}

/// A document within a list.
pub(super) fn indented(document: &serde_json::Value) -> String {
    let text = serde_json::to_string_pretty(document).unwrap_or_else(|_| document.to_string());
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(lengths: &[usize]) -> Vec<usize> {
        let inputs: Vec<Input> = lengths.iter().map(|length| "a".repeat(*length).into()).collect();
        let mut rest = inputs.as_slice();
        let mut sizes = Vec::new();
        while let Some(one) = chunk(rest) {
            sizes.push(one.len());
            rest = rest.get(one.len()..).unwrap_or_default();
        }
        sizes
    }

    #[test]
    fn verdicts_that_were_not_kept_are_counted() {
        let mut report = Report::new(Output::Table, ProgressBar::hidden());
        for name in ["verdicts/v1", "", ""] {
            let verdict = pb::Verdict { name: name.into(), ..Default::default() };
            let bytes = prost::Message::encode_to_vec(&verdict).into();
            report.answer(None, &pb::EnrichResponse { verdict: bytes, ..Default::default() }).unwrap();
        }
        assert_eq!(report.not_kept, 2);
    }

    #[test]
    fn a_call_carries_neither_too_many_indicators_nor_too_many_bytes() {
        assert_eq!(sizes(&[10; 2500]), [1000, 1000, 500]);
        assert_eq!(sizes(&[8192; 300]), [128, 128, 44]);
        assert_eq!(sizes(&[BYTES_AT_ONCE + 1, 1]), [1, 1], "one that is too large goes by itself");
        assert_eq!(sizes(&[]), [0; 0]);
    }
}
