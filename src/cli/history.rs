//! `concord verdict` and `concord disclosures`.

use std::process::ExitCode;
use std::time::Duration;

use comfy_table::Cell;

use super::args::{Client, Disclosures, Output, Verdict, VerdictList};
use super::connect::Connection;
use super::enrich::full_name;
use super::json::{document, lines, list, print_messages};
use super::verdict_table::{self, Detail};
use super::{Failure, csv, dbot, diff, print, table};
use crate::clock::{Clock, SystemClock};
use crate::convert::indicator::write_disposition;
use crate::convert::write_timestamp;
use crate::pb;

const LONGEST_PAGE: usize = 1000;

pub(super) async fn verdicts(client: &Client, command: Verdict) -> Result<ExitCode, Failure> {
    let done = Connection::with(client, async |connection| match &command {
        Verdict::List(list) => list_verdicts(connection, list).await,
        Verdict::Show { name, facts, detail, output } => show(connection, name, detail.detail(), *facts, *output).await,
        Verdict::Diff { before, after, output } => diff::print_difference(connection, before, after, *output).await,
    });
    done.await.map(|()| ExitCode::SUCCESS)
}

async fn list_verdicts(connection: &Connection, list: &VerdictList) -> Result<(), Failure> {
    let request = pb::ListVerdictsRequest {
        indicator: list.indicator.clone().map(|value| pb::Indicator { r#type: 0, value }),
        disposition: list.disposition.map_or(0, |disposition| write_disposition(disposition).into()),
        from_time: since(list.since),
        page_size: page_size(list.limit),
        view: pb::View::Full.into(),
        ..Default::default()
    };
    let verdicts = all_pages(list.limit, async |page_token| {
        let request = pb::ListVerdictsRequest { page_token, ..request.clone() };
        let page = connection.verdicts().list_verdicts(request).await?.into_inner();
        Ok((page.verdicts, page.next_page_token))
    });
    let verdicts = verdicts.await?;
    match list.output {
        Output::Table => print_list(&verdicts)?,
        Output::Json | Output::Jsonl | Output::Csv | Output::Dbot => print(&document_text(&verdicts, list.output)?)?,
    }
    Ok(())
}

/// The moment this long before now.
pub(super) fn since(time: Option<Duration>) -> Option<prost_types::Timestamp> {
    time.and_then(|time| SystemClock.now().checked_sub(time)).map(write_timestamp)
}

pub(super) fn page_size(limit: usize) -> i32 {
    i32::try_from(limit.clamp(1, LONGEST_PAGE)).unwrap_or(1)
}

/// At most `limit` entries, from as many pages as it takes. `fetch` gets the token of a page, and returns its entries and
/// the token of the next.
pub(super) async fn all_pages<T>(
    limit: usize,
    fetch: impl AsyncFn(String) -> Result<(Vec<T>, String), Failure>,
) -> Result<Vec<T>, Failure> {
    let (mut all, mut token) = fetch(String::new()).await?;
    while !token.is_empty() && all.len() < limit {
        let (page, next) = fetch(token).await?;
        all.extend(page);
        token = next;
    }
    all.truncate(limit);
    Ok(all)
}

fn print_list(verdicts: &[pb::Verdict]) -> Result<(), Failure> {
    let mut rows = table::plain(&["TIME", "DISPOSITION", "INDICATOR", "SUMMARY", "NAME"]);
    for verdict in verdicts {
        let value = verdict.indicator.as_ref().map(|indicator| indicator.value.as_str()).unwrap_or_default();
        rows.add_row(vec![
            Cell::new(verdict.create_time.as_ref().map(table::moment).unwrap_or_default()),
            table::coloured(table::disposition(verdict.disposition)),
            table::cell(table::shortened(value)),
            table::cell(&verdict.summary),
            table::cell(&verdict.name),
        ]);
    }
    print(&table::fitted(rows, Some(3)))
}

async fn show(connection: &Connection, name: &str, detail: Detail, facts: bool, output: Output) -> Result<(), Failure> {
    let request = pb::GetVerdictRequest { name: full_name(name, "verdicts"), view: pb::View::Full.into() };
    let verdict = connection.verdicts().get_verdict(request).await?.into_inner().verdict.unwrap_or_default();
    match output {
        Output::Table => print(&verdict_table::verdict(&verdict, None, detail, facts)),
        Output::Json | Output::Jsonl | Output::Csv | Output::Dbot => print(&document_text(&[verdict], output)?),
    }
}

fn document_text(verdicts: &[pb::Verdict], output: Output) -> Result<String, Failure> {
    if output == Output::Csv {
        let rows = verdicts.iter().map(|verdict| csv::row(verdict, ""));
        return Ok(std::iter::once(csv::header()).chain(rows).collect());
    }
    if output == Output::Dbot {
        return Ok(list(&verdicts.iter().map(dbot::context).collect::<Vec<_>>()));
    }
    let documents: Vec<_> = verdicts.iter().map(|verdict| document("Verdict", verdict)).collect::<Result<_, _>>()?;
    Ok(if output == Output::Json { list(&documents) } else { lines(&documents) })
}

pub(super) async fn disclosures(client: &Client, filter: Disclosures) -> Result<ExitCode, Failure> {
    let request = pb::ListDisclosuresRequest {
        indicator: filter.indicator.map(|value| pb::Indicator { r#type: 0, value }),
        source: filter.source.map(|name| full_name(&name, "sources")).unwrap_or_default(),
        from_time: since(filter.since),
        page_size: page_size(filter.limit),
        ..Default::default()
    };
    let disclosures = Connection::with(client, async |connection| {
        let fetch = async |page_token| {
            let request = pb::ListDisclosuresRequest { page_token, ..request.clone() };
            let page = connection.sources().list_disclosures(request).await?.into_inner();
            Ok((page.disclosures, page.next_page_token))
        };
        all_pages(filter.limit, fetch).await
    });
    print_messages(filter.output, "Disclosure", &disclosures.await?, disclosure_table)?;
    Ok(ExitCode::SUCCESS)
}

fn disclosure_table(disclosures: &[pb::Disclosure]) -> String {
    let mut rows = table::plain(&["TIME", "INDICATOR", "SOURCE", "TO", "FOR", "TLP"]);
    for disclosure in disclosures {
        rows.add_row(table::row([
            disclosure.time.as_ref().map(table::moment).unwrap_or_default(),
            disclosure.indicator.as_ref().map(|indicator| indicator.value.clone()).unwrap_or_default(),
            table::source_id(&disclosure.source).to_owned(),
            disclosure.to.clone(),
            disclosure.caller.clone(),
            table::tlp(disclosure.tlp()),
        ]));
    }
    table::fitted(rows, None)
}
