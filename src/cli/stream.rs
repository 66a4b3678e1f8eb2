//! `concord enrich --stream`: what each source says as it answers, and whether the others can still change the disposition.

use std::process::ExitCode;

use tonic::Request;

use super::args::{Client, Enrich, Output};
use super::connect::Connection;
use super::enrich::{all_options, print_hints};
use super::input::{self, Input};
use super::progress::Progress;
use super::report::{Layout, Report};
use super::table::{disposition, hanging, letter, paragraph, printable, source_id, words};
use super::verdict_table::not_asked_reason;
use super::{Failure, json, print};
use crate::pb;
use crate::pb::batch_enrich_response::Result as Wire;
use crate::pb::stream_enrich_response::Event;
use crate::verdict::percent;

pub(super) async fn run(client: &Client, enrich: &Enrich) -> Result<ExitCode, Failure> {
    let documents = match enrich.output {
        Output::Table => false,
        Output::Jsonl => true,
        Output::Json | Output::Csv | Output::Dbot => {
            return Err(Failure::new("--stream prints a table or -o jsonl, one document an event"));
        }
    };
    let mut inputs = input::indicators(&enrich.options)?;
    let (Some(input), true) = (inputs.pop(), inputs.is_empty()) else {
        return Err(Failure::new("--stream is about one indicator: leave it out, or name only one"));
    };
    if let Some(refusal) = input.refusal {
        return Err(Failure::new(refusal));
    }
    Connection::with(client, async |connection| {
        let mut request = Request::new(pb::StreamEnrichRequest {
            indicator: Some(input.indicator()),
            options: Some(all_options(enrich, 1)),
        });
        request.set_timeout(enrich.options.lookup.timeout);
        let mut events = connection.enrichment().stream_enrich(request).await?.into_inner();
        let mut last = None;
        while let Some(response) = events.message().await? {
            if documents {
                print(&format!("{}\n", json::document("StreamEnrichResponse", &response)?))?;
            }
            match response.event {
                Some(Event::Progress(progress)) if !documents => print(&text(&progress))?,
                Some(Event::Final(answer)) => last = Some(answer),
                Some(Event::Progress(_)) | None => {}
            }
        }
        let answer = last.ok_or_else(|| Failure::new("the server ended the stream without a verdict"))?;
        finish(enrich, &input, answer)
    })
    .await
}

/// Sums the verdict up, and shows it where it was not printed as a document.
fn finish(enrich: &Enrich, input: &Input, answer: pb::EnrichResponse) -> Result<ExitCode, Failure> {
    let verdict = answer
        .decode_verdict()
        .map_err(|error| Failure::new(format!("the server's answer cannot be read: {error}")))?;
    let layout = Layout {
        output: enrich.output,
        short: false,
        facts: enrich.facts,
        detail: enrich.detail.detail(),
        ends_with_reader: !enrich.exit_code,
    };
    let mut report = Report::new(layout, Progress::new(Some(1), 0), None);
    match enrich.output {
        Output::Jsonl => report.totals.add(&verdict),
        Output::Table | Output::Json | Output::Csv | Output::Dbot => {
            print("\n")?;
            report.begin()?;
            report.add(0, input, Wire::Answer(answer), Some(&verdict))?;
            report.end()?;
        }
    }
    print_hints(&report.totals);
    Ok(report.totals.exit_code(enrich.exit_code))
}

/// What a source answered, what is known so far, and what the others can still do.
fn text(progress: &pb::EnrichProgress) -> String {
    let said = progress.outcome.as_ref().map(said).unwrap_or_default();
    let so_far = progress.verdict_so_far.as_ref().map(|verdict| {
        let chance = verdict.probability.map(|probability| format!(" ({})", percent(probability))).unwrap_or_default();
        format!("so far {}{chance}", disposition(verdict.disposition))
    });
    let awaited = (progress.waiting > 0).then(|| format!("{} awaited", progress.waiting));
    let state: Vec<String> = so_far.into_iter().chain(awaited).collect();
    let reach = progress.reach.as_ref().map(|reach| reach.sentence.as_str()).unwrap_or_default();
    let first = hanging(&printable(&format!("{said}; {}", state.join(", "))));
    if reach.is_empty() { first } else { first + &paragraph(&printable(reach), "    ") }
}

fn said(outcome: &pb::Outcome) -> String {
    use pb::outcome::Result as Outcome;
    let source = source_id(&outcome.source);
    match &outcome.result {
        Some(Outcome::Finding(finding)) if finding.claim() == pb::Disposition::Unknown => {
            format!("{source} ({}) takes no side", letter(outcome.reliability))
        }
        Some(Outcome::Finding(finding)) => {
            format!("{source} ({}) says {}", letter(outcome.reliability), disposition(finding.claim))
        }
        Some(Outcome::NoRecord(_)) => format!("{source} has no record"),
        Some(Outcome::Error(error)) => {
            let kind = words(error.kind().as_str_name(), "SOURCE_ERROR_KIND_");
            format!("{source} failed ({kind}: {})", error.detail)
        }
        Some(Outcome::NotAsked(not_asked)) => format!("{source} was not asked ({})", not_asked_reason(not_asked)),
        None => source.to_owned(),
    }
}
