//! `concord plan` and `concord usage`.

use std::process::ExitCode;

use super::args::{Client, EnrichArgs};
use super::connect::Connection;
use super::enrich::full_name;
use super::input::{self, Input};
use super::{Failure, say};
use crate::convert::duration;
use crate::convert::indicator::write_tlp;
use crate::indicator::masked_text;
use crate::pb;
use crate::table;

/// Shows who would be asked, without asking anybody.
pub(super) async fn run(client: &Client, options: EnrichArgs) -> Result<ExitCode, Failure> {
    let inputs = input::indicators(&options)?;
    let failed = Connection::with(client, async |connection| plan(connection, &options, &inputs).await).await?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints the plan of each; true where one has none.
async fn plan(connection: &Connection, options: &EnrichArgs, inputs: &[Input]) -> Result<bool, Failure> {
    let mut failed = false;
    for (place, input) in inputs.iter().enumerate() {
        let planned = connection.enrichment().plan_enrichment(request(options, input.indicator())).await;
        match planned.map_err(|status| (status.message().to_owned(), Failure::from(status))) {
            Ok(plan) => print_plan(&plan.into_inner())?,
            Err((_, failure)) if failure.lost => {
                return Err(if place == 0 { failure } else { failure.midway() });
            }
            Err((message, _)) => {
                failed = true;
                eprintln!("concord: {}: {}", table::printable(&masked_text(&input.text)), table::printable(&message));
            }
        }
    }
    Ok(failed)
}

fn request(options: &EnrichArgs, indicator: pb::Indicator) -> pb::PlanEnrichmentRequest {
    pb::PlanEnrichmentRequest {
        indicator: Some(indicator),
        sources: options.sources.iter().map(|name| full_name(name, "sources")).collect(),
        tlp: write_tlp(options.tlp).into(),
        max_age: options.max_age.map(duration),
    }
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
            Some(Action::Cached(kept)) => {
                let age = kept.age.as_ref().map(table::short_age).unwrap_or_default();
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
    say(&format!("{indicator}: {units}\n{notes}{}\n", table::fitted(rows, Some(5))))
}

/// Shows what the sources cost and what was saved.
pub(super) async fn usage(client: &Client, sources: Vec<String>) -> Result<ExitCode, Failure> {
    let sources: Vec<_> = sources.iter().map(|name| full_name(name, "sources")).collect();
    let usage = Connection::with(client, async |connection| {
        let request = pb::GetUsageRequest { sources: sources.clone() };
        Ok(connection.sources().get_usage(request).await?.into_inner())
    });
    let mut rows = table::plain(&["SOURCE", "CALLS", "UNITS", "SAVED BY CACHE", "SAVED BY SHARING", "QUOTA"]);
    for one in usage.await?.usage {
        let numbers = [one.calls, one.units, one.saved_by_cache, one.saved_by_sharing].map(|number| number.to_string());
        let mut row = vec![table::cell(one.source.trim_start_matches("sources/"))];
        row.extend(table::row(numbers));
        row.push(table::cell(table::left(&one.quota)));
        rows.add_row(row);
    }
    say(&format!("since this server started:\n{}", table::fitted(rows, Some(5))))?;
    Ok(ExitCode::SUCCESS)
}
