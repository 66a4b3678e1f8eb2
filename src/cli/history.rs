//! `concord verdict` and `concord disclosures`.

use std::process::ExitCode;

use comfy_table::Cell;

use super::args::{Client, Disclosures, Output, Verdict, VerdictList};
use super::connect::Connection;
use super::enrich::{document, full_name, indented};
use super::{Failure, say};
use crate::clock::{Clock, SystemClock};
use crate::convert::indicator::write_disposition;
use crate::convert::timestamp;
use crate::convert::verdict_read::read;
use crate::export;
use crate::pb;
use crate::table;

/// A page is at most this long.
const LONGEST_PAGE: usize = 1000;

/// Lists or shows verdicts.
pub(super) async fn verdicts(client: &Client, command: Verdict) -> Result<ExitCode, Failure> {
    let done = Connection::with(client, async |connection| match &command {
        Verdict::List(list) => list_verdicts(connection, list).await,
        Verdict::Show { name, output } => show(connection, name, *output).await,
    });
    done.await.map(|()| ExitCode::SUCCESS)
}

async fn list_verdicts(connection: &Connection, list: &VerdictList) -> Result<(), Failure> {
    let mut verdicts = Vec::new();
    let mut request = pb::ListVerdictsRequest {
        indicator: list.indicator.clone().map(|value| pb::Indicator { r#type: 0, value }),
        disposition: list.disposition.map_or(0, |disposition| write_disposition(disposition).into()),
        from_time: list.since.and_then(|since| SystemClock.now().checked_sub(since)).map(timestamp),
        page_size: page_size(list.limit),
        view: pb::View::Full.into(),
        ..Default::default()
    };
    loop {
        let page = connection.verdicts().list_verdicts(request.clone()).await?.into_inner();
        verdicts.extend(page.verdicts);
        if page.next_page_token.is_empty() || verdicts.len() >= list.limit {
            break;
        }
        request.page_token = page.next_page_token;
    }
    verdicts.truncate(list.limit);
    match list.output {
        Output::Table => print_list(&verdicts)?,
        Output::Json | Output::Jsonl | Output::Csv => say(&machine(&verdicts, list.output)?)?,
    }
    Ok(())
}

fn page_size(limit: usize) -> i32 {
    i32::try_from(limit.clamp(1, LONGEST_PAGE)).unwrap_or(1)
}

fn print_list(verdicts: &[pb::Verdict]) -> Result<(), Failure> {
    let mut rows = table::plain(&["TIME", "DISPOSITION", "INDICATOR", "SUMMARY", "NAME"]);
    for verdict in verdicts {
        let value = verdict.indicator.as_ref().map(|indicator| indicator.value.as_str()).unwrap_or_default();
        rows.add_row(vec![
            Cell::new(verdict.create_time.as_ref().map(table::moment).unwrap_or_default()),
            table::coloured(table::disposition_of(verdict.disposition)),
            table::cell(table::shortened(value)),
            table::cell(&verdict.summary),
            table::cell(&verdict.name),
        ]);
    }
    say(&table::fitted(rows, Some(3)))
}

async fn show(connection: &Connection, name: &str, output: Output) -> Result<(), Failure> {
    let request = pb::GetVerdictRequest { name: full_name(name, "verdicts"), view: pb::View::Full.into() };
    let verdict = connection.verdicts().get_verdict(request).await?.into_inner().verdict.unwrap_or_default();
    match output {
        Output::Table => say(&table::verdict(&verdict, None)),
        Output::Json | Output::Jsonl | Output::Csv => say(&machine(&[verdict], output)?),
    }
}

/// Verdicts as machines read them.
fn machine(verdicts: &[pb::Verdict], output: Output) -> Result<String, Failure> {
    let unreadable = |error| Failure::new(format!("the server's answer cannot be read: {error}"));
    let verdicts = verdicts.iter().map(read).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let documents = verdicts.iter().map(|(name, verdict)| document(name, verdict));
    Ok(match output {
        Output::Csv => std::iter::once(export::csv_header())
            .chain(verdicts.iter().map(|(name, one)| export::csv_row(one, name, "")))
            .map(|row| row + "\r\n")
            .collect(),
        Output::Json => format!("[\n{}\n]\n", documents.map(|one| indented(&one)).collect::<Vec<_>>().join(",\n")),
        Output::Jsonl | Output::Table => documents.map(|one| format!("{one}\n")).collect(),
    })
}

/// Shows what was told to whom.
pub(super) async fn disclosures(client: &Client, filter: Disclosures) -> Result<ExitCode, Failure> {
    let request = pb::ListDisclosuresRequest {
        indicator: filter.indicator.map(|value| pb::Indicator { r#type: 0, value }),
        source: filter.source.map(|name| full_name(&name, "sources")).unwrap_or_default(),
        page_size: page_size(filter.limit),
        ..Default::default()
    };
    let listed =
        Connection::with(client, async |connection| list_disclosures(connection, request.clone(), filter.limit).await);
    let mut rows = table::plain(&["TIME", "INDICATOR", "SOURCE", "TO", "FOR", "TLP"]);
    for one in listed.await? {
        let tlp = table::words(one.tlp().as_str_name(), "TLP_").to_uppercase().replace(' ', "+");
        rows.add_row(table::row([
            one.time.as_ref().map(table::moment).unwrap_or_default(),
            one.indicator.map(|indicator| indicator.value).unwrap_or_default(),
            one.source.trim_start_matches("sources/").to_owned(),
            one.to,
            one.caller,
            tlp,
        ]));
    }
    say(&table::fitted(rows, None))?;
    Ok(ExitCode::SUCCESS)
}

/// At most so many, from as many pages as it takes.
async fn list_disclosures(
    connection: &Connection,
    mut request: pb::ListDisclosuresRequest,
    limit: usize,
) -> Result<Vec<pb::Disclosure>, Failure> {
    let mut disclosures = Vec::new();
    loop {
        let page = connection.sources().list_disclosures(request.clone()).await?.into_inner();
        disclosures.extend(page.disclosures);
        if page.next_page_token.is_empty() || disclosures.len() >= limit {
            break;
        }
        request.page_token = page.next_page_token;
    }
    disclosures.truncate(limit);
    Ok(disclosures)
}
