//! `concord replay`: what other settings would have said.

use std::collections::BTreeMap;
use std::process::ExitCode;

use comfy_table::{Cell, CellAlignment};
use serde_json::Value;

use super::args::{Client, ListOutput, Replay};
use super::compare::{ReadingBar, write_filter};
use super::connect::Connection;
use super::enrich::full_name;
use super::json::{document, lines, list};
use super::policy::Wanted;
use super::table::{self, source_id};
use super::{Failure, print};
use crate::convert::indicator::write_reliability;
use crate::convert::source::write_patch;
use crate::pb;
use crate::pb::replay_verdicts_response::Event;
use crate::settings::SourcePatch;
use crate::verdict::percent;

pub(super) async fn run(client: &Client, replay: &Replay) -> Result<ExitCode, Failure> {
    let policy = replay.policy.as_deref().map(|policy| Wanted::read(policy, None)).transpose()?.unwrap_or_default();
    let letters = replay.letters.iter().map(|(source, letter)| pb::ReplayedLetter {
        source: full_name(source, "sources"),
        reliability: write_reliability(*letter).into(),
    });
    let request = pb::ReplayVerdictsRequest {
        filter: Some(write_filter(&replay.filter)),
        policy: policy.name,
        policy_revision: policy.revision,
        letters: letters.collect(),
        sources: read_options(&replay.set)?,
    };
    let done = Connection::with(client, async |connection| {
        let mut stream = connection.history().replay_verdicts(request.clone()).await?.into_inner();
        let bar = ReadingBar::new();
        while let Some(message) = stream.message().await? {
            match message.event {
                Some(Event::Progress(progress)) => bar.show(&progress),
                Some(Event::Flip(flip)) if replay.output == ListOutput::Jsonl => {
                    print(&lines(&[document("ReplayedFlip", &flip)?]))?;
                }
                Some(Event::Flip(_)) | None => {}
                Some(Event::Summary(summary)) => return Ok(summary),
            }
        }
        Err(Failure::new("the server ended without a result"))
    });
    let summary = done.await?;
    match replay.output {
        ListOutput::Table => print(&summary_text(&summary))?,
        ListOutput::Json => print(&list(&[document("ReplaySummary", &summary)?]))?,
        // Each flip was a line already; what was left out must not pass for agreement.
        ListOutput::Jsonl => counts_text(&summary).lines().for_each(|line| eprintln!("concord: {line}")),
    }
    Ok(ExitCode::SUCCESS)
}

/// The sources of `SOURCE.OPTION=VALUE`, each with its options.
fn read_options(set: &[String]) -> Result<Vec<pb::ReplayedOptions>, Failure> {
    let mut options: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for text in set {
        let wrong = || Failure::new(format!("--set {text}: write SOURCE.OPTION=VALUE"));
        let (path, value) = text.split_once('=').ok_or_else(wrong)?;
        let (source, option) = path.rsplit_once('.').ok_or_else(wrong)?;
        // Numbers, flags and lists as JSON; anything else is a text.
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        options.entry(full_name(source, "sources")).or_default().insert(option.to_owned(), value);
    }
    let replayed = options.into_iter().map(|(source, options)| {
        let options = options.into_iter().collect();
        let options = write_patch(SourcePatch { options, ..SourcePatch::default() }).options;
        pb::ReplayedOptions { source, options }
    });
    Ok(replayed.collect())
}

/// The summary for people, with examples.
pub(super) fn summary_text(summary: &pb::ReplaySummary) -> String {
    let mut text = totals_text(summary);
    if summary.flipped > 0 {
        text += &format!("\nAt most ten examples of each:\n{}", example_table(summary));
    }
    text
}

/// How many verdicts were judged again, and what could not be.
fn counts_text(summary: &pb::ReplaySummary) -> String {
    let share = if summary.replayed == 0 { 0.0 } else { summary.flipped as f64 / summary.replayed as f64 };
    let mut text = format!(
        "{} verdicts judged again; {} ({}) would be another\n",
        summary.replayed,
        summary.flipped,
        percent(share)
    );
    if summary.without_policy > 0 {
        let left_out = summary.without_policy;
        text +=
            &format!("{left_out} left out: the revision of their policy is no longer stored; name one with --policy\n");
    }
    for kept in &summary.pruned {
        let (count, source) = (kept.count, source_id(&kept.source));
        text +=
            &format!("{count} findings of {source} were judged as recorded: their raw answers are no longer stored\n");
    }
    for kept in &summary.unreadable {
        let (count, source) = (kept.count, source_id(&kept.source));
        text += &format!("{count} findings of {source} were judged as recorded: their raw answers could not be read\n");
    }
    text
}

/// What became of the verdicts in total.
pub(super) fn totals_text(summary: &pb::ReplaySummary) -> String {
    let mut rows = table::plain(&["BEFORE", "AFTER", "VERDICTS", "BY"]);
    for transition in &summary.transitions {
        let by = transition.sources.iter().map(|each| format!("{} {}", source_id(&each.source), each.count));
        let after = if transition.before == transition.after { "" } else { table::disposition(transition.after) };
        rows.add_row(vec![
            table::coloured(table::disposition(transition.before)),
            if after.is_empty() { Cell::new("(the same)") } else { table::coloured(after) },
            Cell::new(transition.count).set_alignment(CellAlignment::Right),
            table::cell(by.collect::<Vec<_>>().join(", ")),
        ]);
    }
    format!("{}\n{}", counts_text(summary), table::fitted(rows, Some(3)))
}

fn example_table(summary: &pb::ReplaySummary) -> String {
    let mut rows = table::plain(&["BEFORE", "AFTER", "INDICATOR", "PROBABILITY", "BY", "NAME"]);
    for flip in summary.transitions.iter().flat_map(|transition| &transition.examples) {
        let probability = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), percent);
        rows.add_row(vec![
            table::coloured(table::disposition(flip.before)),
            table::coloured(table::disposition(flip.after)),
            table::cell(flip.indicator.as_ref().map(|value| table::shortened(&value.value)).unwrap_or_default()),
            Cell::new(format!("{} -> {}", probability(flip.probability_before), probability(flip.probability_after))),
            table::cell(source_id(&flip.source)),
            table::cell(&flip.verdict),
        ]);
    }
    table::fitted(rows, None)
}
