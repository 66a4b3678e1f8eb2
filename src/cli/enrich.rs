//! `concord enrich`.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use tonic::Request;

use super::args::{Client, Enrich, EnrichArgs, Output};
use super::connect::Connection;
use super::input::{self, Input};
use super::verdict_read::read;
use super::{Failure, table};
use crate::convert::indicator::write_tlp;
use crate::convert::write_duration;
use crate::export;
use crate::indicator::redact_text;
use crate::pb;
use crate::pb::batch_enrich_response::Result as Wire;
use crate::settings::NO_SOURCE_HINT;
use crate::verdict::Verdict;

/// Most indicators in one call, the limit of the protocol.
const CHUNK_INDICATORS: usize = 1000;
/// Most bytes of indicators in one call: a quarter of what a server accepts by default.
const CHUNK_BYTES: usize = 1024 * 1024;
/// From this number of indicators on, a bar shows the progress on a terminal, and the time-out is the server's.
const MANY: usize = 5;

pub(super) async fn run(client: &Client, enrich: Enrich) -> Result<ExitCode, Failure> {
    let inputs = input::indicators(&enrich.options)?;
    let report = Connection::with(client, async |connection| ask(connection, &enrich, &inputs).await).await?;
    if report.not_stored > 0 {
        eprintln!("concord: the server could not store {} of the verdicts; its log says why", report.not_stored);
    }
    if report.without_sources {
        eprintln!("concord: {NO_SOURCE_HINT}");
    }
    Ok(report.exit_code(enrich.exit_code))
}

async fn ask(connection: &Connection, enrich: &Enrich, inputs: &[Input]) -> Result<Report, Failure> {
    let bar = bar(inputs.len());
    let mut report = Report::new(enrich.output, bar.clone());
    let mut place = 0;
    while let Some(chunk) = chunk(inputs.get(place..).unwrap_or_default()) {
        let request = request(enrich, chunk.iter().map(Input::indicator).collect());
        let mut answers = connection.enrichment().batch_enrich(request).await?.into_inner();
        if place == 0 {
            report.begin()?;
        }
        while let Some(answer) = answers.message().await? {
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

/// The first inputs, as many as fit into one call.
fn chunk(inputs: &[Input]) -> Option<&[Input]> {
    let mut bytes = 0;
    let fits = |input: &&Input| {
        bytes += input.value.len();
        bytes <= CHUNK_BYTES
    };
    let fitting = inputs.iter().take(CHUNK_INDICATORS).take_while(fits).count();
    // One that is too large by itself is sent, so that the server refuses it alone.
    inputs.get(..fitting.max(1))
}

fn request(enrich: &Enrich, indicators: Vec<pb::Indicator>) -> Request<pb::BatchEnrichRequest> {
    let many = indicators.len() > MANY;
    let mut request = Request::new(pb::BatchEnrichRequest {
        indicators,
        options: Some(pb::EnrichOptions {
            policy: enrich.policy.as_ref().map(|name| full_name(name, "policies")).unwrap_or_default(),
            view: match enrich.output {
                Output::Table => pb::View::Basic.into(),
                Output::Json | Output::Jsonl | Output::Csv => pb::View::Full.into(),
            },
            ..options(&enrich.options)
        }),
    });
    if !many {
        request.set_timeout(enrich.options.timeout);
    }
    request
}

/// The options that `enrich` and `plan` share.
pub(super) fn options(args: &EnrichArgs) -> pb::EnrichOptions {
    pb::EnrichOptions {
        sources: args.sources.iter().map(|name| full_name(name, "sources")).collect(),
        tlp: write_tlp(args.tlp).into(),
        max_age: args.max_age.map(write_duration),
        ..Default::default()
    }
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

/// Prints the answers in the order of the request (lines of JSON as they come), and sums them up.
struct Report {
    output: Output,
    bar: ProgressBar,
    next: usize,
    waiting: BTreeMap<usize, String>,
    printed: bool,
    worst: i32,
    failed: usize,
    /// Verdicts that the server could not store.
    not_stored: usize,
    /// Whether a verdict has no source, because none is configured.
    without_sources: bool,
}

impl Report {
    fn new(output: Output, bar: ProgressBar) -> Self {
        let waiting = BTreeMap::new();
        let (next, printed, worst, failed, not_stored, without_sources) = (0, false, 0, 0, 0, false);
        Self { output, bar, next, waiting, printed, worst, failed, not_stored, without_sources }
    }

    fn begin(&mut self) -> Result<(), Failure> {
        match self.output {
            Output::Csv => self.print(&export::csv_header()),
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

    /// An indicator without a verdict, as a message for people and as a document in its place for machines.
    fn refused(&mut self, input: Option<&Input>, error: &pb::BatchError) -> String {
        self.failed += 1;
        let text = redact_text(input.map(|input| input.text.as_str()).unwrap_or_default());
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
        self.not_stored += usize::from(verdict.name.is_empty());
        if self.output == Output::Table {
            return Ok(table::verdict(&verdict, answer.receipt.as_ref()));
        }
        let (name, verdict) = read(&verdict).map_err(|error| unreadable(&error))?;
        let receipt = answer.receipt.clone().unwrap_or_default();
        // The receipt masks the user and password of a URL, but does not know the path of a file.
        let text = input.filter(|input| input.is_file()).map_or(receipt.text.as_str(), |input| &input.text);
        let whole = || with_receipt(document(&name, &verdict), text, &receipt);
        Ok(match self.output {
            Output::Csv => export::csv_row(&verdict, &name, text),
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
        self.bar.suspend(|| super::print(text))
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

/// The document with its receipt: the text, how it was understood, and what it cost.
fn with_receipt(mut document: serde_json::Value, text: &str, receipt: &pb::Receipt) -> serde_json::Value {
    let sources = receipt.sources.iter().map(|source| {
        serde_json::json!({
            "source": source.source.trim_start_matches("sources/"),
            "from_cache": source.from_cache,
            "shared": source.shared,
            "units": source.units,
            "note": source.note,
        })
    });
    let receipt = serde_json::json!({
        "text": text,
        "notes": receipt.notes,
        "from_cache": receipt.verdict_from_cache,
        "units": receipt.sources.iter().map(|source| u64::from(source.units)).sum::<u64>(),
        "sources": sources.collect::<Vec<_>>(),
    });
    if let Some(members) = document.as_object_mut() {
        members.insert("receipt".into(), receipt);
    }
    document
}

/// A verdict as a document, with its name.
pub(super) fn document(name: &str, verdict: &Verdict) -> serde_json::Value {
    let mut document = export::verdict_to_json(verdict);
    if let Some(members) = document.as_object_mut().filter(|_| !name.is_empty()) {
        members.insert("name".into(), name.into());
    }
    document
}

/// A document as an element of a list.
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
        while let Some(next) = chunk(rest) {
            sizes.push(next.len());
            rest = rest.get(next.len()..).unwrap_or_default();
        }
        sizes
    }

    #[test]
    fn verdicts_that_were_not_stored_are_counted() {
        let mut report = Report::new(Output::Table, ProgressBar::hidden());
        for name in ["verdicts/v1", "", ""] {
            let verdict = pb::Verdict { name: name.into(), ..Default::default() };
            let bytes = prost::Message::encode_to_vec(&verdict).into();
            report.answer(None, &pb::EnrichResponse { verdict: bytes, ..Default::default() }).unwrap();
        }
        assert_eq!(report.not_stored, 2);
    }

    #[test]
    fn a_call_carries_neither_too_many_indicators_nor_too_many_bytes() {
        assert_eq!(sizes(&[10; 2500]), [1000, 1000, 500]);
        assert_eq!(sizes(&[8192; 300]), [128, 128, 44]);
        assert_eq!(sizes(&[CHUNK_BYTES + 1, 1]), [1, 1], "one that is too large goes by itself");
        assert_eq!(sizes(&[]), [0; 0]);
    }
}
