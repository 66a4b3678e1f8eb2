//! `concord plan` and `concord usage`.

use std::process::ExitCode;

use super::args::{Client, EnrichArgs};
use super::connect::Connection;
use super::enrich::{full_name, options};
use super::input::{self, Input};
use super::{Failure, print, table};
use crate::indicator::redact_text;
use crate::pb;

pub(super) async fn run(client: &Client, args: EnrichArgs) -> Result<ExitCode, Failure> {
    let inputs = input::indicators(&args)?;
    let failed = Connection::with(client, async |connection| plan(connection, &args, &inputs).await).await?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints the plan of each input; true where one has none.
async fn plan(connection: &Connection, args: &EnrichArgs, inputs: &[Input]) -> Result<bool, Failure> {
    let mut failed = false;
    for input in inputs {
        let request = pb::PlanEnrichmentRequest { indicator: Some(input.indicator()), options: Some(options(args)) };
        let planned = connection.enrichment().plan_enrichment(request).await;
        match planned.map_err(|status| (status.message().to_owned(), Failure::from(status))) {
            Ok(plan) => print_plan(&plan.into_inner())?,
            Err((_, failure)) if failure.unanswered => return Err(failure),
            Err((message, _)) => {
                failed = true;
                eprintln!("concord: {}: {}", table::printable(&redact_text(&input.text)), table::printable(&message));
            }
        }
    }
    Ok(failed)
}

fn print_plan(plan: &pb::PlanEnrichmentResponse) -> Result<(), Failure> {
    use pb::source_plan::Action;
    let indicator = plan.indicator.as_ref().map(|indicator| indicator.value.as_str()).unwrap_or_default();
    let mut rows = table::plain(&["  SOURCE", "KIND", "WOULD", "UNITS", "TELLS OUTSIDE", "WHY"]);
    for source in &plan.sources {
        let (would, units, tells, why) = match &source.action {
            Some(Action::Call(call)) => (
                "be asked",
                call.units.to_string(),
                if call.discloses { "yes" } else { "no" },
                table::left(&call.quota),
            ),
            Some(Action::Cached(cached)) => {
                let age = cached.age.as_ref().map(table::short_age).unwrap_or_default();
                ("answer from cache", "0".into(), "no", format!("kept for {age}"))
            }
            Some(Action::NotAsked(not_asked)) => {
                let reason = table::words(not_asked.reason().as_str_name(), "NOT_ASKED_REASON_");
                ("not be asked", "0".into(), "no", format!("{reason}: {}", not_asked.detail))
            }
            None => ("", String::new(), "", String::new()),
        };
        let name = format!("  {}", source.source.trim_start_matches("sources/"));
        rows.add_row(table::row([&name, &source.kind, would, &units, tells, &why]));
    }
    let notes: String = plan.notes.iter().map(|note| format!("  note: {}\n", table::printable(note))).collect();
    let units = if plan.units == 1 { "1 quota unit".to_owned() } else { format!("{} quota units", plan.units) };
    let indicator = table::printable(indicator);
    print(&format!("{indicator}: {units}\n{notes}{}\n", table::fitted(rows, Some(5))))
}

pub(super) async fn usage(client: &Client, sources: Vec<String>) -> Result<ExitCode, Failure> {
    let sources: Vec<_> = sources.iter().map(|name| full_name(name, "sources")).collect();
    let usage = Connection::with(client, async |connection| {
        Ok(connection.sources().get_usage(pb::GetUsageRequest { sources }).await?.into_inner().usage)
    });
    print(&format!("since this server started:\n{}", usage_table(&usage.await?)))?;
    Ok(ExitCode::SUCCESS)
}

/// What the sources cost and what was saved.
pub(super) fn usage_table(usage: &[pb::SourceUsage]) -> String {
    let mut rows = table::plain(&["SOURCE", "CALLS", "UNITS", "SAVED BY CACHE", "SAVED BY SHARING", "QUOTA"]);
    for source in usage {
        let counters = [source.calls, source.units, source.saved_by_cache, source.saved_by_sharing];
        let mut row = vec![source.source.trim_start_matches("sources/").to_owned()];
        row.extend(counters.map(|counter| counter.to_string()));
        row.push(table::left(&source.quota));
        rows.add_row(table::row(row));
    }
    table::fitted(rows, Some(5))
}
