//! The `HistoryService`: what the history of verdicts says of the sources, and what other settings would have said.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{Request, Response, Status};

use super::background::{BackgroundTasks, Streamed};
use super::status;
use crate::convert::history::{
    ReplayedOptions, count, read_filter, read_letters, read_named_sources, read_options, read_policy,
    write_calibration, write_comparison, write_suggestion,
};
use crate::convert::indicator::{write, write_disposition};
use crate::convert::verdict::source_name;
use crate::convert::{Violations, write_duration};
use crate::engine::{
    Collection, Engine, HistoryFilter, JOINED_DAYS, ReplayChange, ReplayReport, ReplayTransition, ReplayedFlip,
    ScanProgress,
};
use crate::error::{Error, Reason, Violation};
use crate::indicator::IndicatorType;
use crate::offload::offload;
use crate::pb;
use crate::pb::history_service_server::HistoryService;
use crate::settings::{Registry, ResolvedPolicy, State};
use crate::source::{Source, TransportKind};
use crate::statistics::CalibrationReport;
use crate::store::VerdictFilter;
use crate::verdict::WeightedRule;

mod engines;
mod threshold;

/// Messages that wait for a slow reader.
const CAPACITY: usize = 64;
/// Finishing the statistics takes as long as decoding so many bytes: it goes through the whole sample for each two sources.
const FINISH_BYTES: usize = 1024 * 1024;

/// Implements `HistoryService`. Cheap to clone: clones share all state.
#[derive(Clone)]
pub(crate) struct HistoryRpc {
    engine: Arc<Engine>,
    registry: Arc<Registry>,
    tasks: BackgroundTasks,
    /// One history at a time is read, so that reading leaves the store and the processors to the enrichments.
    turn: Arc<Semaphore>,
}

impl HistoryRpc {
    pub(crate) fn new(engine: Arc<Engine>, registry: Arc<Registry>, tasks: BackgroundTasks) -> Self {
        Self { engine, registry, tasks, turn: Arc::new(Semaphore::new(1)) }
    }

    /// A place among those who read the history. Who has to wait for it sends so.
    async fn turn<T>(
        &self,
        sender: &Sender<Result<T, Status>>,
        message: impl FnOnce(pb::HistoryProgress) -> T,
    ) -> Option<SemaphorePermit<'_>> {
        if let Ok(turn) = self.turn.try_acquire() {
            return Some(turn);
        }
        let waiting = pb::HistoryProgress { is_waiting: true, ..Default::default() };
        let _ = sender.try_send(Ok(message(waiting)));
        self.turn.acquire().await.ok()
    }

    /// Collects the statistics of a period, and sends how far it has come.
    async fn collect<T: Send>(
        &self,
        filter: HistoryFilter,
        sources: Vec<String>,
        calibrated: Option<Arc<ResolvedPolicy>>,
        sender: &Sender<Result<T, Status>>,
        message: fn(pb::HistoryProgress) -> T,
    ) -> Result<Collection, Error> {
        let _turn = self.turn(sender, message).await;
        let mut analysis = self.engine.history().analyze(filter, sources, calibrated).await?;
        while let Some(progress) = analysis.advance().await? {
            // A reader that is slow misses some of it; one that has left ends this task.
            let _ = sender.try_send(Ok(message(write_progress(progress))));
        }
        analysis.finish()
    }

    async fn replay(
        &self,
        filter: HistoryFilter,
        change: ReplayChange,
        sender: &Sender<Result<pb::ReplayVerdictsResponse, Status>>,
    ) -> Result<ReplayReport, Error> {
        use pb::replay_verdicts_response::Event;
        let message = |event| Ok(pb::ReplayVerdictsResponse { event: Some(event) });
        let progress = |progress| pb::ReplayVerdictsResponse { event: Some(Event::Progress(progress)) };
        let mut turn = self.turn(sender, progress).await;
        let mut replay = self.engine.history().replay(filter, change).await?;
        while let Some((flips, made)) = replay.advance().await? {
            for flip in &flips {
                match sender.try_send(message(Event::Flip(write_flip(flip)))) {
                    Ok(()) => {}
                    Err(TrySendError::Full(unsent)) => {
                        // Nobody else waits for this reader. One who reads nothing is sent away by the server.
                        turn = None;
                        let _ = sender.send(unsent).await;
                    }
                    // The reader has left, and this task is about to end.
                    Err(TrySendError::Closed(_)) => {}
                }
            }
            let _ = sender.try_send(message(Event::Progress(write_progress(made))));
            if turn.is_none() {
                turn = self.turn(sender, progress).await;
            }
        }
        replay.finish()
    }
}

impl HistoryRpc {
    /// The source as it would be with other options; `None` where that is refused.
    async fn with_options(
        &self,
        wanted: &ReplayedOptions,
        violations: &mut Violations,
    ) -> Result<Option<Arc<dyn Source>>, Error> {
        let ReplayedOptions { change, field } = wanted;
        let exists = violations.resolve(&format!("{field}.source"), self.registry.check(&change.name));
        if exists.is_none() {
            return Ok(None);
        }
        let resolved = match self.registry.effective(change).await {
            Ok(resolved) => resolved,
            Err(Error::Invalid(refused)) => {
                for mut violation in refused {
                    let path = violation.field.trim_start_matches("source.").to_owned();
                    violation.field = format!("{field}.{path}");
                    violations.add(violation);
                }
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let refusal = match (&resolved.state, resolved.source.about().transport) {
            (State::NotConfigured(missing), _) => Some(format!("it is not configured: {missing}")),
            (State::Active | State::Disabled, TransportKind::Dns | TransportKind::List) => {
                Some("only answers that came over HTTP are stored, so that they can be read again".into())
            }
            (State::Active | State::Disabled, TransportKind::Http) => None,
        };
        match refusal {
            Some(message) => {
                violations.add(Violation::invalid(format!("{field}.source"), message));
                Ok(None)
            }
            None => Ok(Some(resolved.source)),
        }
    }
}

fn no_labels() -> Error {
    let message = format!(
        "no analyst has said anything of these indicators within {JOINED_DAYS} days of their verdicts: at least one label is \
         needed, and 50 for each type of indicator are worth more. RecordFeedback records what an analyst says"
    );
    Error::NotReady { reason: Reason::NotReady, subject: "feedback".into(), message }
}

fn write_progress(progress: ScanProgress) -> pb::HistoryProgress {
    pb::HistoryProgress {
        read: count(progress.read),
        total: count(progress.total),
        remaining: progress.remaining().map(write_duration),
        is_waiting: false,
    }
}

fn write_flip(flip: &ReplayedFlip) -> pb::ReplayedFlip {
    pb::ReplayedFlip {
        verdict: format!("verdicts/{}", flip.verdict),
        indicator: Some(write(&flip.indicator)),
        before: write_disposition(flip.before).into(),
        after: write_disposition(flip.after).into(),
        probability_before: flip.probability_before,
        probability_after: flip.probability_after,
        source: flip.source.as_deref().map(source_name).unwrap_or_default(),
    }
}

fn write_summary(report: &ReplayReport) -> pb::ReplaySummary {
    let transition = |transition: &ReplayTransition| pb::ReplayTransition {
        before: write_disposition(transition.before).into(),
        after: write_disposition(transition.after).into(),
        count: count(transition.count),
        sources: transition
            .sources
            .iter()
            .map(|(source, number)| pb::SourceCount { source: source_name(source), count: count(*number) })
            .collect(),
        examples: transition.examples.iter().map(write_flip).collect(),
    };
    pb::ReplaySummary {
        replayed: count(report.replayed),
        flipped: count(report.flipped),
        transitions: report.transitions.iter().map(transition).collect(),
        without_policy: count(report.without_policy),
        pruned: write_counts(&report.pruned),
        unreadable: write_counts(&report.unreadable),
    }
}

fn write_counts(counts: &BTreeMap<String, u64>) -> Vec<pb::SourceCount> {
    let write =
        |(source, number): (&String, &u64)| pb::SourceCount { source: source_name(source), count: count(*number) };
    counts.iter().map(write).collect()
}

/// The suggestions of what was collected.
fn suggest(collected: Collection, rule: &WeightedRule, without_labels: bool) -> pb::ReliabilitySuggestions {
    let labels = count(collected.labelled);
    let suggestions = if without_labels {
        let comparison = collected.statistics.finish(&rule.letters);
        let learned = comparison.suggestions_without_labels(rule);
        learned.iter().map(|suggestion| write_suggestion(suggestion, false)).collect()
    } else {
        let learned = collected.learning.suggestions(&rule.letters);
        learned.iter().map(|suggestion| write_suggestion(suggestion, true)).collect()
    };
    pb::ReliabilitySuggestions { suggestions, labels }
}

fn filter((verdicts, indicator_type): (VerdictFilter, Option<IndicatorType>)) -> HistoryFilter {
    HistoryFilter { verdicts, indicator_type }
}

#[tonic::async_trait]
impl HistoryService for HistoryRpc {
    type CompareSourcesStream = Streamed<pb::CompareSourcesResponse>;

    async fn compare_sources(
        &self,
        request: Request<pb::CompareSourcesRequest>,
    ) -> Result<Response<Self::CompareSourcesStream>, Status> {
        use pb::compare_sources_response::Event;
        let request = request.into_inner();
        let mut violations = Violations::default();
        let filter = filter(read_filter(request.filter, &mut violations));
        let mut sources = Vec::new();
        for named in read_named_sources(&request.sources, &mut violations) {
            if violations.resolve(&named.field, self.registry.check(&named.name)).is_some() {
                sources.push(named.name);
            }
        }
        let filter = violations.finish(Some(filter)).map_err(status::of)?;
        let rpc = self.clone();
        Ok(Response::new(self.tasks.stream(CAPACITY, move |sender| async move {
            let message = |event| pb::CompareSourcesResponse { event: Some(event) };
            let progress = |progress| pb::CompareSourcesResponse { event: Some(Event::Progress(progress)) };
            let compare = async {
                let (_, rule) = rpc.engine.history().weighted_policy(None)?;
                let collected = rpc.collect(filter, sources, None, &sender, progress).await?;
                let finish = move || write_comparison(&collected.statistics.finish(&rule.letters));
                Ok(message(Event::Comparison(offload(FINISH_BYTES, finish).await)))
            };
            let _ = sender.send(compare.await.map_err(status::of::<Error>)).await;
        })))
    }

    type CompareEnginesStream = Streamed<pb::CompareEnginesResponse>;

    async fn compare_engines(
        &self,
        request: Request<pb::CompareEnginesRequest>,
    ) -> Result<Response<Self::CompareEnginesStream>, Status> {
        use pb::compare_engines_response::Event;
        let request = request.into_inner();
        let mut violations = Violations::default();
        let filter = filter(read_filter(request.filter, &mut violations));
        let question = self.engine_question(&request.source, true, violations).await.map_err(status::of)?;
        let rpc = self.clone();
        Ok(Response::new(self.tasks.stream(CAPACITY, move |sender| async move {
            let progress = |progress| pb::CompareEnginesResponse { event: Some(Event::Progress(progress)) };
            let source = question.source.clone();
            let compare = async {
                let collected = rpc.collect_engines(filter, question, &sender, progress).await?;
                let comparison = engines::compare(source, collected).await;
                Ok(pb::CompareEnginesResponse { event: Some(Event::Comparison(comparison)) })
            };
            let _ = sender.send(compare.await.map_err(status::of::<Error>)).await;
        })))
    }

    type SuggestPreferredVendorsStream = Streamed<pb::SuggestPreferredVendorsResponse>;

    async fn suggest_preferred_vendors(
        &self,
        request: Request<pb::SuggestPreferredVendorsRequest>,
    ) -> Result<Response<Self::SuggestPreferredVendorsStream>, Status> {
        use pb::suggest_preferred_vendors_response::Event;
        let request = request.into_inner();
        let mut violations = Violations::default();
        let filter = filter(read_filter(request.filter, &mut violations));
        let question = self.engine_question(&request.source, false, violations).await.map_err(status::of)?;
        let rpc = self.clone();
        Ok(Response::new(self.tasks.stream(CAPACITY, move |sender| async move {
            let progress = |progress| pb::SuggestPreferredVendorsResponse { event: Some(Event::Progress(progress)) };
            let source = question.source.clone();
            let suggest = async {
                let collected = rpc.collect_engines(filter, question, &sender, progress).await?;
                let suggestion = engines::suggest(&rpc, source, collected).await?;
                Ok(pb::SuggestPreferredVendorsResponse { event: Some(Event::Suggestion(suggestion)) })
            };
            let _ = sender.send(suggest.await.map_err(status::of::<Error>)).await;
        })))
    }

    type SuggestReliabilityStream = Streamed<pb::SuggestReliabilityResponse>;

    async fn suggest_reliability(
        &self,
        request: Request<pb::SuggestReliabilityRequest>,
    ) -> Result<Response<Self::SuggestReliabilityStream>, Status> {
        use pb::suggest_reliability_response::Event;
        let request = request.into_inner();
        let mut violations = Violations::default();
        let filter = filter(read_filter(request.filter, &mut violations));
        let name = read_policy(&request.policy, &mut violations);
        let policy = violations.merge("policy", self.engine.history().weighted_policy(name.as_deref()));
        let ((_, rule), without_labels) = (policy.map_err(status::of)?, request.without_labels);
        let rpc = self.clone();
        Ok(Response::new(self.tasks.stream(CAPACITY, move |sender| async move {
            let progress = |progress| pb::SuggestReliabilityResponse { event: Some(Event::Progress(progress)) };
            let learn = async {
                let collected = rpc.collect(filter, Vec::new(), None, &sender, progress).await?;
                if collected.labelled == 0 && !without_labels {
                    return Err(no_labels());
                }
                let suggestions = offload(FINISH_BYTES, move || suggest(collected, &rule, without_labels)).await;
                Ok(pb::SuggestReliabilityResponse { event: Some(Event::Suggestions(suggestions)) })
            };
            let _ = sender.send(learn.await.map_err(status::of::<Error>)).await;
        })))
    }

    type FitCalibrationStream = Streamed<pb::FitCalibrationResponse>;

    async fn fit_calibration(
        &self,
        request: Request<pb::FitCalibrationRequest>,
    ) -> Result<Response<Self::FitCalibrationStream>, Status> {
        use pb::fit_calibration_response::Event;
        let request = request.into_inner();
        let mut violations = Violations::default();
        let filter = filter(read_filter(request.filter, &mut violations));
        let name = read_policy(&request.policy, &mut violations);
        let (policy, rule) =
            violations.merge("policy", self.engine.history().weighted_policy(name.as_deref())).map_err(status::of)?;
        let rpc = self.clone();
        Ok(Response::new(self.tasks.stream(CAPACITY, move |sender| async move {
            let progress = |progress| pb::FitCalibrationResponse { event: Some(Event::Progress(progress)) };
            let fit = async {
                let collected = rpc.collect(filter, Vec::new(), Some(policy.clone()), &sender, progress).await?;
                if collected.labelled == 0 {
                    return Err(no_labels());
                }
                let reports = collected.calibration.reports(rule.calibration);
                let prior = |report: &CalibrationReport| Some(rule.of_type(report.indicator_type?).prior);
                let reports = pb::CalibrationReports {
                    reports: reports.iter().map(|report| write_calibration(report, prior(report))).collect(),
                    policy: format!("policies/{}", policy.policy.name),
                    policy_revision: policy.policy.revision,
                };
                Ok(pb::FitCalibrationResponse { event: Some(Event::Reports(reports)) })
            };
            let _ = sender.send(fit.await.map_err(status::of::<Error>)).await;
        })))
    }

    type SuggestThresholdStream = Streamed<pb::SuggestThresholdResponse>;

    async fn suggest_threshold(
        &self,
        request: Request<pb::SuggestThresholdRequest>,
    ) -> Result<Response<Self::SuggestThresholdStream>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        let filter = filter(read_filter(request.filter, &mut violations));
        let threshold = self.threshold_of(&request.source, &request.option, &mut violations);
        let (source, threshold) = violations.finish(threshold).map_err(status::of)?;
        let rpc = self.clone();
        Ok(Response::new(self.tasks.stream(CAPACITY, move |sender| async move {
            let tried = rpc.try_threshold(filter, source, threshold, &sender).await;
            let _ = sender.send(tried.map_err(status::of)).await;
        })))
    }

    type ReplayVerdictsStream = Streamed<pb::ReplayVerdictsResponse>;

    async fn replay_verdicts(
        &self,
        request: Request<pb::ReplayVerdictsRequest>,
    ) -> Result<Response<Self::ReplayVerdictsStream>, Status> {
        use pb::replay_verdicts_response::Event;
        let request = request.into_inner();
        let mut violations = Violations::default();
        let filter = filter(read_filter(request.filter, &mut violations));
        let mut letters = BTreeMap::new();
        for (named, letter) in read_letters(&request.letters, &mut violations) {
            if violations.resolve(&named.field, self.registry.check(&named.name)).is_some() {
                letters.insert(named.name, letter);
            }
        }
        let mut sources = BTreeMap::new();
        for wanted in read_options(request.sources, &mut violations) {
            if let Some(source) = self.with_options(&wanted, &mut violations).await.map_err(status::of)? {
                sources.insert(wanted.change.name, source);
            }
        }
        let mut policy = None;
        if let Some(name) = read_policy(&request.policy, &mut violations) {
            let found = self.engine.history().policy(&name, request.policy_revision).await;
            policy = violations.resolve("policy", found);
        } else if request.policy_revision != 0 {
            let message = "a revision belongs to a policy: set `policy` too";
            violations.add(Violation::invalid("policy_revision", message));
        }
        let (filter, change) =
            violations.finish(Some((filter, ReplayChange { policy, letters, sources }))).map_err(status::of)?;
        let rpc = self.clone();
        Ok(Response::new(self.tasks.stream(CAPACITY, move |sender| async move {
            let replayed = rpc.replay(filter, change, &sender).await;
            let message = replayed
                .map(|report| pb::ReplayVerdictsResponse { event: Some(Event::Summary(write_summary(&report))) });
            let _ = sender.send(message.map_err(status::of)).await;
        })))
    }
}
