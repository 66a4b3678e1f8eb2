//! `concord enrich`.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use tonic::Request;

use super::args::{Client, Enrich, LookupArgs, Output};
use super::connect::Connection;
use super::input::{self, Input};
use super::report::{Layout, Report, Totals, held_back};
use super::{Failure, table};
use crate::clock::{Clock, SystemClock};
use crate::convert::indicator::write_tlp;
use crate::convert::{write_duration, write_timestamp};
use crate::finding::counted;
use crate::pb;
use crate::pb::batch_enrich_response::Result as Wire;
use crate::settings::NO_SOURCE_HINT;

/// Most indicators in one call, the limit of the protocol.
const CHUNK_INDICATORS: usize = 1000;
/// Most bytes of indicators in one call: a quarter of what a server accepts by default.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Most indicators in one call that asks again for what quota held back: a window rarely holds more.
const RETRIED_INDICATORS: usize = 16;
/// Shortest wait for quota, where the server's clock is behind this one.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// From this number of indicators on, a bar shows the progress on a terminal, and the time-out is the server's.
const PROGRESS_FROM: usize = 5;
/// From this number of indicators on, a table has one line for each.
const SHORT: usize = 10;

pub(super) async fn run(client: &Client, enrich: Enrich) -> Result<ExitCode, Failure> {
    let inputs = input::indicators(&enrich.options)?;
    let totals = Connection::with(client, async |connection| ask(connection, &enrich, &inputs).await).await?;
    if totals.not_stored > 0 {
        let verdicts = counted(totals.not_stored, "verdict");
        eprintln!("concord: the server could not store {verdicts}; its log says why");
    }
    if totals.without_sources {
        eprintln!("concord: {NO_SOURCE_HINT}");
    }
    if let Some(line) = totals.line() {
        eprintln!("concord: {line}");
    }
    Ok(totals.exit_code(enrich.exit_code))
}

/// Asks in the order of the inputs, so that the first get what quota there is; then again, as often as the time for waiting
/// allows, what quota held back.
async fn ask(connection: &Connection, enrich: &Enrich, inputs: &[Input]) -> Result<Totals, Failure> {
    let short = enrich.short || (inputs.len() >= SHORT && !enrich.long);
    let layout = Layout {
        output: enrich.output,
        short,
        facts: enrich.facts,
        detail: enrich.detail.detail(),
        ends_with_reader: !enrich.exit_code,
    };
    let mut report = Report::new(layout, bar(inputs.len()), inputs);
    let patience = Patience { until: SystemClock.monotonic() + enrich.wait.unwrap_or_default() };
    let mut pending: Vec<usize> = (0..inputs.len()).collect();
    let mut most = CHUNK_INDICATORS;
    while !pending.is_empty() {
        let held = ask_pending(connection, enrich, &pending, most, &patience, &mut report).await?;
        let Some(until) = held.iter().map(|(_, until)| *until).min() else { break };
        let (count, time) = (counted(held.len(), "indicator"), table::moment(&write_timestamp(until)));
        report.notice(&format!("waiting for quota until {time}, for {count}"));
        let wait = until.duration_since(SystemClock.now()).unwrap_or_default();
        SystemClock.sleep(wait.max(SHORTEST_WAIT)).await;
        pending = held.into_iter().map(|(index, _)| index).collect();
        most = RETRIED_INDICATORS;
    }
    report.end()?;
    Ok(report.totals)
}

/// Asks about the inputs of these indexes and reports the answers. Where quota held sources back and comes free in time,
/// nothing is reported yet: returns the indexes of these inputs, each with the time at which to ask again.
async fn ask_pending(
    connection: &Connection,
    enrich: &Enrich,
    pending: &[usize],
    most: usize,
    patience: &Patience,
    report: &mut Report<'_>,
) -> Result<Vec<(usize, SystemTime)>, Failure> {
    let mut held = Vec::new();
    let mut rest = pending;
    while let Some(chunk) = chunk(report.inputs, rest, most) {
        rest = rest.get(chunk.len()..).unwrap_or_default();
        let indicators = chunk.iter().filter_map(|index| report.inputs.get(*index)).map(Input::indicator).collect();
        let mut answers = connection.enrichment().batch_enrich(request(enrich, indicators)).await?.into_inner();
        report.begin()?;
        let mut held_of_chunk = Vec::new();
        let mut answered = 0;
        while let Some(answer) = answers.message().await? {
            let index = chunk.get(usize::try_from(answer.index).unwrap_or_default()).copied();
            let (Some(index), Some(result)) = (index, answer.result) else { continue };
            answered += 1;
            let verdict = match &result {
                Wire::Answer(answer) => Some(
                    answer
                        .decode_verdict()
                        .map_err(|error| Failure::new(format!("the server's answer cannot be read: {error}")))?,
                ),
                Wire::Error(_) => None,
            };
            match verdict.as_ref().and_then(|verdict| patience.ask_again_at(verdict)) {
                Some(until) => held_of_chunk.push((index, until)),
                None => report.add(index, result, verdict.as_ref())?,
            }
        }
        if answered < chunk.len() {
            let asked = counted(chunk.len(), "indicator");
            return Err(Failure::new(format!("the server answered {answered} of {asked}")));
        }
        held_of_chunk.sort();
        let is_spent = held_of_chunk.len() == chunk.len();
        let until = held_of_chunk.iter().map(|(_, until)| *until).min();
        held.extend(held_of_chunk);
        if let Some(until) = until.filter(|_| is_spent && most == RETRIED_INDICATORS) {
            // Quota would hold back the later ones, too.
            held.extend(rest.iter().map(|index| (*index, until)));
            break;
        }
    }
    Ok(held)
}

/// How long quota is waited for.
struct Patience {
    until: crate::clock::Monotonic,
}

impl Patience {
    /// When to ask again, where quota held a source back and a unit comes free in time.
    fn ask_again_at(&self, verdict: &pb::Verdict) -> Option<SystemTime> {
        let left = self.until.since(SystemClock.monotonic());
        let latest = SystemClock.now().checked_add(left).filter(|_| !left.is_zero())?;
        let times = held_back(verdict).filter_map(|(_, not_asked)| SystemTime::try_from(not_asked.until?).ok());
        times.filter(|until| *until <= latest).min()
    }
}

/// The first of the pending inputs, as many as fit into one call.
fn chunk<'a>(inputs: &[Input], pending: &'a [usize], most: usize) -> Option<&'a [usize]> {
    let mut bytes = 0;
    let fits = |index: &&usize| {
        bytes += inputs.get(**index).map_or(0, |input| input.value.len());
        bytes <= CHUNK_BYTES
    };
    let fitting = pending.iter().take(most).take_while(fits).count();
    // One that is too large by itself is sent, so that the server refuses it alone.
    pending.get(..fitting.max(1))
}

fn request(enrich: &Enrich, indicators: Vec<pb::Indicator>) -> Request<pb::BatchEnrichRequest> {
    let many = indicators.len() > PROGRESS_FROM;
    let view = match enrich.output {
        Output::Table if !enrich.facts => pb::View::Basic,
        Output::Table | Output::Json | Output::Jsonl | Output::Csv | Output::Dbot => pb::View::Full,
    };
    let mut request = Request::new(pb::BatchEnrichRequest {
        indicators,
        options: Some(pb::EnrichOptions {
            policy: enrich.policy.as_ref().map(|name| full_name(name, "policies")).unwrap_or_default(),
            compare_policies: enrich.compare.iter().map(|name| full_name(name, "policies")).collect(),
            view: view.into(),
            ..options(&enrich.options.lookup)
        }),
    });
    if !many {
        request.set_timeout(enrich.options.lookup.timeout);
    }
    request
}

/// The options that `enrich`, `plan` and `graph` share.
pub(super) fn options(args: &LookupArgs) -> pb::EnrichOptions {
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
    if length < PROGRESS_FROM || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(u64::try_from(length).unwrap_or(u64::MAX)).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(lengths: &[usize]) -> Vec<usize> {
        let inputs: Vec<Input> = lengths.iter().map(|length| "a".repeat(*length).into()).collect();
        let pending: Vec<usize> = (0..inputs.len()).collect();
        let mut rest = pending.as_slice();
        let mut sizes = Vec::new();
        while let Some(next) = chunk(&inputs, rest, CHUNK_INDICATORS) {
            sizes.push(next.len());
            rest = rest.get(next.len()..).unwrap_or_default();
        }
        sizes
    }

    #[test]
    fn a_call_carries_neither_too_many_indicators_nor_too_many_bytes() {
        assert_eq!(sizes(&[10; 2500]), [1000, 1000, 500]);
        assert_eq!(sizes(&[8192; 300]), [128, 128, 44]);
        assert_eq!(sizes(&[CHUNK_BYTES + 1, 1]), [1, 1], "one that is too large goes by itself");
        assert_eq!(sizes(&[]), [0; 0]);
    }

    #[test]
    fn only_quota_that_comes_free_in_time_is_waited_for() {
        let verdict = |wait: u64| {
            let not_asked = pb::NotAsked {
                reason: pb::NotAskedReason::QuotaSpent.into(),
                until: Some(write_timestamp(SystemClock.now() + Duration::from_secs(wait))),
                ..Default::default()
            };
            let result = Some(pb::outcome::Result::NotAsked(not_asked));
            pb::Verdict { outcomes: vec![pb::Outcome { result, ..Default::default() }], ..Default::default() }
        };
        let patience = |wait: u64| Patience { until: SystemClock.monotonic() + Duration::from_secs(wait) };
        assert!(patience(3600).ask_again_at(&verdict(60)).is_some());
        assert!(patience(3600).ask_again_at(&verdict(7200)).is_none(), "too late");
        assert!(patience(0).ask_again_at(&verdict(0)).is_none(), "no wait was asked for");
        assert!(patience(3600).ask_again_at(&pb::Verdict::default()).is_none(), "nothing was held back");
    }
}
