//! `concord plan` and `concord usage`.

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;

use super::args::{Client, ListOutput, Plan, Usage};
use super::connect::Connection;
use super::enrich::{full_name, options};
use super::input::{self, Input};
use super::json::print_messages;
use super::report::{Totals, lacks_quota};
use super::verdict_table::not_asked_reason;
use super::{Failure, print, table};
use crate::finding::counted;
use crate::indicator::redact_text;
use crate::pb;
use crate::pb::source_plan::Action;

pub(super) async fn run(client: &Client, plan: Plan) -> Result<ExitCode, Failure> {
    let inputs = input::indicators(&plan.options)?;
    let mut planned = Planned::default();
    Connection::with(client, async |connection| planned.add_all(connection, &plan, &inputs).await).await?;
    if plan.output != ListOutput::Table {
        print_messages(plan.output, "PlanEnrichmentResponse", &planned.plans, |_| String::new())?;
    }
    if inputs.len() > 1 {
        eprintln!("concord: {}", planned.line());
    }
    Ok(if planned.refused > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The plans of all inputs, each after what those before it use up.
#[derive(Default)]
struct Planned {
    plans: Vec<pb::PlanEnrichmentResponse>,
    seen: HashSet<(i32, String)>,
    /// Units that the plans before take of each source.
    taken: BTreeMap<String, u64>,
    totals: Totals,
    duplicates: usize,
    refused: usize,
}

impl Planned {
    async fn add_all(&mut self, connection: &Connection, args: &Plan, inputs: &[Input]) -> Result<(), Failure> {
        for input in inputs {
            let indicator = Some(input.indicator());
            let options = Some(options(&args.options.lookup, inputs.len()));
            let request = pb::PlanEnrichmentRequest { indicator, options };
            let planned = connection.enrichment().plan_enrichment(request).await;
            match planned.map_err(|status| (status.message().to_owned(), Failure::from(status))) {
                Ok(plan) => {
                    let Some(plan) = self.add(plan.into_inner()) else { continue };
                    if args.output == ListOutput::Table {
                        print(&plan_table(plan))?;
                    }
                }
                Err((_, failure)) if failure.unanswered => return Err(failure),
                Err((message, _)) => {
                    self.refused += 1;
                    eprintln!(
                        "concord: {}: {}",
                        table::printable(&redact_text(&input.text)),
                        table::printable(&message)
                    );
                }
            }
        }
        Ok(())
    }

    /// Adds a plan, less what the plans before it use up. `None` for an indicator that is planned already.
    fn add(&mut self, mut plan: pb::PlanEnrichmentResponse) -> Option<&pb::PlanEnrichmentResponse> {
        let indicator = plan.indicator.clone().unwrap_or_default();
        if !self.seen.insert((indicator.r#type, indicator.value)) {
            self.duplicates += 1;
            return None;
        }
        for source in &mut plan.sources {
            let taken = self.taken.entry(source.source.clone()).or_default();
            if let Some(Action::Call(call)) = &mut source.action {
                match after(call, *taken) {
                    Ok(()) => *taken += u64::from(call.units),
                    Err(spent) => {
                        if let Some(wave) = wave_of(&mut plan.waves, source.wave) {
                            wave.units = wave.units.saturating_sub(call.units);
                            wave.max_units = wave.max_units.saturating_sub(call.max_units);
                        }
                        source.wave = 0;
                        source.action = Some(Action::NotAsked(spent));
                    }
                }
            }
            if let Some(Action::NotAsked(not_asked)) = &source.action
                && lacks_quota(not_asked)
            {
                self.totals.hold_back(&source.source, not_asked);
            }
        }
        plan.units = plan.units.min(plan.sources.iter().map(|source| units(source).0).sum());
        plan.max_units = plan.max_units.min(plan.sources.iter().map(|source| units(source).1).sum());
        self.plans.push(plan);
        self.plans.last()
    }

    fn line(&self) -> String {
        let units =
            (self.plans.iter().map(|plan| plan.units).sum(), self.plans.iter().map(|plan| plan.max_units).sum());
        let of_source = |(source, units): (&String, &u64)| {
            (*units > 0).then(|| format!("{} {units}", table::printable(table::source_id(source))))
        };
        let sources: Vec<String> = self.taken.iter().filter_map(of_source).collect();
        let sources = if sources.is_empty() { String::new() } else { format!(" ({})", sources.join(", ")) };
        let others = [(self.duplicates, "given again"), (self.refused, "refused")];
        let others: String =
            others.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}")).collect();
        let indicators = counted(self.plans.len(), "indicator");
        format!("{indicators}{others}: {}{sources}{}", quota_units(units), self.totals.held_back())
    }
}

/// Takes the units of earlier plans off the windows of a call, or says which window they leave no unit in.
fn after(call: &mut pb::PlannedCall, taken: u64) -> Result<(), pb::NotAsked> {
    for window in &mut call.quota {
        if window.left < taken.saturating_add(call.units.into()) {
            let period = table::words(window.period().as_str_name(), "QUOTA_PERIOD_");
            return Err(pb::NotAsked {
                reason: pb::NotAskedReason::QuotaSpent.into(),
                detail: format!("the indicators before use up the {} per {period}", counted(window.limit, "call")),
                until: window.reset_time,
            });
        }
        window.left -= taken;
        window.used = window.used.saturating_add(taken);
    }
    Ok(())
}

fn wave_of(waves: &mut [pb::PlannedWave], wave: u32) -> Option<&mut pb::PlannedWave> {
    waves.get_mut(usize::try_from(wave).ok()?.checked_sub(1)?)
}

/// The units of a source at least and at most.
fn units(source: &pb::SourcePlan) -> (u32, u32) {
    match &source.action {
        Some(Action::Call(call)) => (call.units, call.max_units.max(call.units)),
        Some(Action::Cached(_) | Action::NotAsked(_)) | None => (0, 0),
    }
}

/// A number of units, or the least and the most.
fn quota_units((least, most): (u32, u32)) -> String {
    if most > least { format!("{least} to {}", counted(most, "quota unit")) } else { counted(least, "quota unit") }
}

fn units_range(source: &pb::SourcePlan) -> String {
    let (least, most) = units(source);
    if most > least { format!("{least}-{most}") } else { least.to_string() }
}

fn plan_table(plan: &pb::PlanEnrichmentResponse) -> String {
    let indicator = plan.indicator.as_ref().map(|indicator| indicator.value.as_str()).unwrap_or_default();
    let mut rows = table::plain(&["  SOURCE", "KIND", "WOULD", "WAVE", "UNITS", "DISCLOSES", "WHY"]);
    for source in &plan.sources {
        let (would, discloses, why) = match &source.action {
            Some(Action::Call(call)) => {
                ("be asked", if call.discloses { "yes" } else { "no" }, table::left(&call.quota))
            }
            Some(Action::Cached(cached)) => {
                let age = cached.age.as_ref().map(table::short_age).unwrap_or_default();
                ("answer from cache", "no", format!("kept for {age}"))
            }
            Some(Action::NotAsked(not_asked)) => ("not be asked", "no", not_asked_reason(not_asked)),
            None => ("", "", String::new()),
        };
        let name = format!("  {}", table::source_id(&source.source));
        let wave = if source.wave > 0 { source.wave.to_string() } else { String::new() };
        rows.add_row(table::row([&name, &source.kind, would, &wave, &units_range(source), discloses, &why]));
    }
    let notes: String =
        plan.notes.iter().map(|note| table::hanging(&format!("note: {}", table::printable(note)))).collect();
    let rows = table::fitted(rows, Some(6));
    let units = quota_units((plan.units, plan.max_units));
    format!("{}: {units}{}\n{notes}{rows}\n", table::printable(indicator), waves(plan))
}

/// What the waves cost, where there are several: `, in waves of 0, 2 and 3`.
fn waves(plan: &pb::PlanEnrichmentResponse) -> String {
    let range = |wave: &pb::PlannedWave| match (wave.units, wave.max_units) {
        (least, most) if most > least => format!("{least}-{most}"),
        (least, _) => least.to_string(),
    };
    let waves: Vec<String> = plan.waves.iter().map(range).collect();
    match waves.split_last() {
        Some((last, others)) if !others.is_empty() => format!(", in waves of {} and {last}", others.join(", ")),
        Some(_) | None => String::new(),
    }
}

pub(super) async fn usage(client: &Client, usage: Usage) -> Result<ExitCode, Failure> {
    let sources: Vec<_> = usage.sources.iter().map(|name| full_name(name, "sources")).collect();
    let answer = Connection::with(client, async |connection| {
        Ok(connection.sources().get_usage(pb::GetUsageRequest { sources }).await?.into_inner())
    });
    let answer = answer.await?;
    let budget = answer.caller_budget.as_ref().map(budget_line).unwrap_or_default();
    let table = |usage: &[pb::SourceUsage]| format!("{budget}since this server started:\n{}", usage_table(usage));
    print_messages(usage.output, "SourceUsage", &answer.usage, table)?;
    Ok(ExitCode::SUCCESS)
}

/// `local has 412 of 500 quota units left until 2026-09-22T00:00:00Z`.
fn budget_line(budget: &pb::CallerBudget) -> String {
    let until = budget.reset_time.as_ref().map(|time| format!(" until {}", table::moment(time))).unwrap_or_default();
    let caller = table::printable(&budget.caller);
    format!("{caller} has {} of {} quota units left{until}\n", budget.left, budget.limit)
}

/// What the sources cost and what was saved.
pub(super) fn usage_table(usage: &[pb::SourceUsage]) -> String {
    let mut rows = table::plain(&["SOURCE", "CALLS", "UNITS", "SAVED BY CACHE", "SAVED BY SHARING", "QUOTA"]);
    for source in usage {
        let counters = [source.calls, source.units, source.saved_by_cache, source.saved_by_sharing];
        let mut row = vec![table::source_id(&source.source).to_owned()];
        row.extend(counters.map(|counter| counter.to_string()));
        let suspended = source.suspended_until_time.as_ref().map(table::suspended);
        let quota = Some(table::left(&source.quota)).filter(|left| !left.is_empty());
        let reported = Some(table::reported(&source.reported_quota)).filter(|reported| !reported.is_empty());
        row.push(suspended.into_iter().chain(quota).chain(reported).collect::<Vec<_>>().join("; "));
        rows.add_row(table::row(row));
    }
    table::fitted(rows, Some(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(value: &str, left: u64) -> pb::PlanEnrichmentResponse {
        let quota = pb::QuotaUse {
            period: pb::QuotaPeriod::Minute.into(),
            limit: 4,
            used: 4 - left,
            left,
            reset_time: Some(prost_types::Timestamp { seconds: 1_790_000_060, nanos: 0 }),
            runs_out_time: None,
        };
        let call = pb::PlannedCall { units: 1, max_units: 1, quota: vec![quota], discloses: true };
        let source = pb::SourcePlan {
            source: "sources/vt".into(),
            kind: "virustotal".into(),
            action: Some(Action::Call(call)),
            wave: 1,
        };
        pb::PlanEnrichmentResponse {
            indicator: Some(pb::Indicator { r#type: 1, value: value.into() }),
            sources: vec![source],
            units: 1,
            ..Default::default()
        }
    }

    #[test]
    fn the_windows_are_used_up_from_one_indicator_to_the_next_and_duplicates_cost_once() {
        let mut planned = Planned::default();
        for value in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            planned.add(plan(value, 2));
        }
        let units: Vec<u32> = planned.plans.iter().map(|plan| plan.units).collect();
        assert_eq!(units, [1, 1, 0]);
        let Some(Action::Call(second)) = &planned.plans[1].sources[0].action else { panic!("the second is asked") };
        assert_eq!((second.quota[0].left, second.quota[0].used), (1, 3));
        let expected = "3 indicators, 1 given again: 2 quota units (vt 2); \
                        held back by quota: vt (1 indicator, until 2026-09-21T14:14:20Z)";
        assert_eq!(planned.line(), expected);
    }
}
