//! `concord enrich`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use tonic::Request;

use super::answer_file::AnswerFile;
use super::args::{Client, Enrich, LookupArgs, Mode, Output};
use super::chunks::{CHUNK_INDICATORS, Chunk, Chunks};
use super::connect::Connection;
use super::input::{self, Input, Inputs};
use super::progress::Progress;
use super::report::{Layout, Report, Totals, held_back};
use super::{Failure, table};
use crate::clock::{Clock, SystemClock};
use crate::convert::enrichment::write_priority;
use crate::convert::indicator::write_tlp;
use crate::convert::{write_duration, write_timestamp};
use crate::error::Reason;
use crate::finding::counted;
use crate::pb;
use crate::pb::batch_enrich_response::Result as Wire;
use crate::settings::NO_SOURCE_HINT;
use crate::source::Priority;

/// Most indicators in one call that asks again for what quota held back: a window rarely holds more.
const RETRIED_INDICATORS: usize = 16;
/// Shortest wait for quota, where the server's clock is behind this one.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// Up to this number of indicators, the time-out is that of the arguments, above it the server's for each.
const ONE_TIMEOUT_UP_TO: usize = 5;
/// From this number of indicators on, a table has one line for each.
const SHORT: usize = 10;
/// Pauses before a call that failed on its way is repeated; after the last the command ends.
const RETRY_PAUSES_SECONDS: [u64; 6] = [1, 2, 4, 8, 16, 32];
/// Exit code of a command that was interrupted, as shells know it.
const INTERRUPTED: u8 = 130;

pub(super) async fn run(client: &Client, enrich: Enrich) -> Result<ExitCode, Failure> {
    if enrich.out.is_some() && !matches!(enrich.output, Output::Jsonl | Output::Csv) {
        return Err(Failure::new("--out needs -o jsonl or -o csv: only these can be gone on with"));
    }
    let file = enrich.out.as_ref().map(|out| AnswerFile::open(out, enrich.output, enrich.resume)).transpose()?;
    let before = file.as_ref().map_or(0, |file| file.answered);
    let mut chunks = Chunks::start(Inputs::open(&enrich.options)?, before);
    let first = chunks.next().await?.ok_or_else(input::no_input)?;
    if let (Some(file), Some(last)) = (&file, &first.last_answered) {
        file.check_last(last)?;
    }
    if first.inputs.is_empty() {
        eprintln!("concord: the file has the answers of all {} already", counted(before, "indicator"));
        return Ok(ExitCode::SUCCESS);
    }
    let layout = Layout {
        output: enrich.output,
        short: enrich.short || (first.inputs.len() >= SHORT && !enrich.long),
        facts: enrich.facts,
        detail: enrich.detail.detail(),
        ends_with_reader: !enrich.exit_code,
    };
    let count = if first.is_last { Some(before + first.inputs.len()) } else { Inputs::count(&enrich.options) };
    let mut report = Report::new(layout, Progress::new(count, before), file);
    let ended = Connection::with(client, async |connection| ask(connection, &enrich, first, chunks, &mut report).await);
    let ended = ended.await;
    let end = report.end();
    let done = report.answered();
    let totals = report.totals;
    let ended = match ended {
        Ok(Ended::Completed) => end.map(|()| totals.exit_code(enrich.exit_code)),
        Ok(Ended::Interrupted) => {
            eprintln!("concord: interrupted: {}", how_to_go_on(done, &enrich));
            Ok(ExitCode::from(INTERRUPTED))
        }
        Err(failure) if done > before => {
            Err(Failure { text: format!("{failure}; {}", how_to_go_on(done, &enrich)), ..failure })
        }
        Err(failure) => Err(failure),
    };
    print_hints(&totals);
    if let Some(line) = totals.line() {
        eprintln!("concord: {line}");
    }
    ended
}

/// What the user should know of the server.
pub(super) fn print_hints(totals: &Totals) {
    if totals.not_stored > 0 {
        let verdicts = counted(totals.not_stored, "verdict");
        eprintln!("concord: the server could not store {verdicts}; its log says why");
    }
    if totals.without_sources {
        eprintln!("concord: {NO_SOURCE_HINT}");
    }
}

fn how_to_go_on(done: usize, enrich: &Enrich) -> String {
    let answered = counted(done, "indicator");
    match (&enrich.out, enrich.resume) {
        (Some(_), true) => format!("{answered} answered; the same command goes on"),
        (Some(_), false) => format!("{answered} answered; the same command with --resume goes on"),
        (None, _) => format!("{answered} answered; with --out FILE and --resume it could be gone on with"),
    }
}

/// How the look-ups ended.
enum Ended {
    Completed,
    /// The user asked for the end.
    Interrupted,
}

/// Asks about all inputs, in their order.
async fn ask(
    connection: &Connection,
    enrich: &Enrich,
    first: Chunk,
    chunks: Chunks,
    report: &mut Report,
) -> Result<Ended, Failure> {
    let interrupted = tokio::signal::ctrl_c();
    tokio::select! {
        biased;
        _ = interrupted => Ok(Ended::Interrupted),
        done = ask_all(connection, enrich, first, chunks, report) => done.map(|()| Ended::Completed),
    }
}

async fn ask_all(
    connection: &Connection,
    enrich: &Enrich,
    first: Chunk,
    mut chunks: Chunks,
    report: &mut Report,
) -> Result<(), Failure> {
    let patience = Patience { until: SystemClock.monotonic() + enrich.wait.unwrap_or_default() };
    let inputs = first.inputs.len();
    let mut next = Some(first);
    while let Some(chunk) = next {
        report.make_room(&chunk.inputs);
        ChunkLookup { connection, enrich, chunk: &chunk, patience: &patience, inputs, report }.run().await?;
        next = chunks.next().await?;
    }
    Ok(())
}

/// The look-up of the inputs of one chunk.
struct ChunkLookup<'a> {
    connection: &'a Connection,
    enrich: &'a Enrich,
    chunk: &'a Chunk,
    patience: &'a Patience,
    /// How many inputs the first chunk has, which stands for the whole command.
    inputs: usize,
    report: &'a mut Report,
}

impl ChunkLookup<'_> {
    /// Asks in the order of the inputs, so that the first get what quota there is; then again, as often as the time for
    /// waiting allows, what quota held back. A call that fails on its way is repeated for what it left unanswered.
    async fn run(mut self) -> Result<(), Failure> {
        let mut pending: BTreeSet<usize> = (0..self.chunk.inputs.len()).collect();
        let mut held = BTreeMap::new();
        let mut most = CHUNK_INDICATORS;
        let mut pauses = RETRY_PAUSES_SECONDS.iter();
        loop {
            if pending.is_empty() {
                let Some(until) = held.values().min().copied() else { return Ok(()) };
                self.wait(held.len(), until).await;
                pending.extend(std::mem::take(&mut held).into_keys());
                most = RETRIED_INDICATORS;
            }
            let asked: Vec<usize> = pending.iter().take(most).copied().collect();
            if let Err(failure) = self.call(&asked, &mut pending, &mut held).await {
                let has_begun = self.report.is_begun();
                let pause = pauses.next().filter(|_| failure.retryable && has_begun);
                let Some(seconds) = pause else { return Err(failure) };
                self.report.notice(&format!("the call failed, it is repeated in {seconds} s: {failure}"));
                SystemClock.sleep(Duration::from_secs(*seconds)).await;
                continue;
            }
            pauses = RETRY_PAUSES_SECONDS.iter();
            let until = asked.iter().map(|position| held.get(position)).min().flatten().copied();
            if let Some(until) = until.filter(|_| most == RETRIED_INDICATORS) {
                // Quota would hold back the later ones, too.
                held.extend(std::mem::take(&mut pending).into_iter().map(|position| (position, until)));
            }
        }
    }

    async fn wait(&self, count: usize, until: SystemTime) {
        let (count, time) = (counted(count, "indicator"), table::moment(&write_timestamp(until)));
        self.report.notice(&format!("waiting for quota until {time}, for {count}"));
        let wait = until.duration_since(SystemClock.now()).unwrap_or_default();
        SystemClock.sleep(wait.max(SHORTEST_WAIT)).await;
    }

    /// Asks about the inputs at these positions and reports the answers. An answered position is no longer pending; where
    /// quota held sources back and comes free in time, it is held until then instead of reported.
    async fn call(
        &mut self,
        asked: &[usize],
        pending: &mut BTreeSet<usize>,
        held: &mut BTreeMap<usize, SystemTime>,
    ) -> Result<(), Failure> {
        let input = |position: &usize| Some((*position, self.chunk.inputs.get(*position)?));
        let inputs: Vec<(usize, &Input)> = asked.iter().filter_map(input).collect();
        let (refused, sent): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|(_, input)| input.refusal.is_some());
        if !sent.is_empty() {
            let indicators = sent.iter().map(|(_, input)| input.indicator()).collect();
            let request = request(self.enrich, indicators, self.inputs);
            let mut answers = self.connection.enrichment().batch_enrich(request).await?.into_inner();
            self.report.begin()?;
            let (mut answered, mut not_stored) = (0, 0);
            while let Some(answer) = answers.message().await? {
                let sent = sent.get(usize::try_from(answer.index).unwrap_or(usize::MAX));
                let (Some((position, input)), Some(result)) = (sent, answer.result) else { continue };
                let verdict = match &result {
                    Wire::Answer(answer) => Some(
                        answer
                            .decode_verdict()
                            .map_err(|error| Failure::new(format!("the server's answer cannot be read: {error}")))?,
                    ),
                    Wire::Error(_) => None,
                };
                answered += 1;
                // What a file holds is not asked about again, so an answer goes there only once the server has it, too.
                if self.enrich.out.is_some() && is_to_be_repeated(&result, verdict.as_ref()) {
                    not_stored += 1;
                    continue;
                }
                pending.remove(position);
                match verdict.as_ref().and_then(|verdict| self.patience.ask_again_at(verdict)) {
                    Some(until) => drop(held.insert(*position, until)),
                    None => self.report.add(self.chunk.first + position, input, result, verdict.as_ref())?,
                }
            }
            if not_stored > 0 {
                let answers = counted(not_stored, "answer");
                let text = format!("the server could not store {answers}; its log says why");
                return Err(Failure { retryable: true, ..Failure::new(text) });
            }
            if answered < sent.len() {
                let asked = counted(sent.len(), "indicator");
                return Err(Failure::new(format!("the server answered {answered} of {asked}")));
            }
        }
        for (position, input) in refused {
            self.report.begin()?;
            pending.remove(&position);
            let error = pb::BatchError {
                reason: Reason::IndicatorInvalid.as_str().to_owned(),
                message: input.refusal.unwrap_or_default().to_owned(),
                ..Default::default()
            };
            self.report.add(self.chunk.first + position, input, Wire::Error(error), None)?;
        }
        Ok(())
    }
}

/// Whether the answer is not the last word, since the server could not use its store.
fn is_to_be_repeated(result: &Wire, verdict: Option<&pb::Verdict>) -> bool {
    match result {
        Wire::Answer(_) => verdict.is_some_and(|verdict| verdict.name.is_empty()),
        Wire::Error(error) => error.reason == Reason::Unavailable.as_str(),
    }
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

fn request(enrich: &Enrich, indicators: Vec<pb::Indicator>, inputs: usize) -> Request<pb::BatchEnrichRequest> {
    let options = Some(all_options(enrich, inputs));
    let mut request = Request::new(pb::BatchEnrichRequest { indicators, options });
    if inputs <= ONE_TIMEOUT_UP_TO {
        request.set_timeout(enrich.options.lookup.timeout);
    }
    request
}

/// The options of an enrichment of so many indicators.
pub(super) fn all_options(enrich: &Enrich, inputs: usize) -> pb::EnrichOptions {
    let view = match enrich.output {
        Output::Table if !enrich.facts => pb::View::Basic,
        Output::Table | Output::Json | Output::Jsonl | Output::Csv | Output::Dbot => pb::View::Full,
    };
    pb::EnrichOptions {
        policy: enrich.policy.as_ref().map(|name| full_name(name, "policies")).unwrap_or_default(),
        compare_policies: enrich.compare.iter().map(|name| full_name(name, "policies")).collect(),
        view: view.into(),
        ..options(&enrich.options.lookup, inputs)
    }
}

/// The options that `enrich`, `plan` and `graph` share, of a command about so many indicators.
pub(super) fn options(args: &LookupArgs, indicators: usize) -> pb::EnrichOptions {
    let mode = match args.mode {
        Some(Mode::Complete) => pb::EnrichMode::Complete,
        Some(Mode::Decisive) => pb::EnrichMode::Decisive,
        Some(Mode::Frugal) => pb::EnrichMode::Frugal,
        // Who has one line an indicator does not read what each source says.
        None if indicators >= SHORT => pb::EnrichMode::Decisive,
        None => pb::EnrichMode::Complete,
    };
    let default_priority = if indicators > ONE_TIMEOUT_UP_TO { Priority::Background } else { Priority::Interactive };
    pb::EnrichOptions {
        mode: mode.into(),
        budget: args.budget,
        sources: args.sources.iter().map(|name| full_name(name, "sources")).collect(),
        tlp: write_tlp(args.tlp).into(),
        max_age: args.max_age.map(write_duration),
        priority: write_priority(args.priority.unwrap_or(default_priority)).into(),
        ..Default::default()
    }
}

/// `sources/vt` of `vt`, and of itself.
pub(super) fn full_name(name: &str, collection: &str) -> String {
    if name.starts_with(&format!("{collection}/")) { name.to_owned() } else { format!("{collection}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

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
