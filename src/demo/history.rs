//! The demonstration's history: a month of look-ups by the real server under a clock that is moved by hand, what analysts said of
//! some of them, and what the history then says of the sources.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper_util::rt::TokioIo;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::{DemoError, Folder, Renderers, config, configuration, extra_sources, failed, loopback, replay, world};
use crate::clock::{Clock, ManualClock, SystemClock};
use crate::pb;
use crate::pb::enrichment_service_client::EnrichmentServiceClient;
use crate::pb::history_service_client::HistoryServiceClient;
use crate::pb::verdict_service_client::VerdictServiceClient;
use crate::server::{Listen, Running};
use crate::sources;

const DAY: Duration = Duration::from_secs(86_400);
const DAYS: u32 = 30;

/// Fills the data directory `data` with a month that ended yesterday.
pub(super) async fn fill(folder: &Folder) -> Result<(), DemoError> {
    let now = SystemClock.now();
    let since_midnight = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() % DAY.as_secs();
    // From a midnight on, so that dates without a time are always as old as today.
    let clock = Arc::new(ManualClock::new(now - Duration::from_secs(since_midnight) - DAY * (DAYS + 1)));
    let replay = replay::Replay::start(clock.clone()).await?;
    let text =
        configuration(folder.path(), replay.http(), replay.dns()) + &extra_sources(folder.path(), replay.http(), true);
    std::fs::write(folder.path().join("past.toml"), text)?;
    let config = config(folder, "past.toml", "data", loopback(0))?;
    let started = Running::start(&config, sources::all(), clock.clone(), Listen::InProcess).await;
    let running = started.map_err(failed)?;
    let recorded = record(&connect(&running).await?, &clock).await;
    running.stop().await;
    replay.stop();
    recorded
}

/// A channel to a server in this process, whose caller may do anything.
pub(super) async fn connect(running: &Running) -> Result<Channel, DemoError> {
    let mut stream = Some(TokioIo::new(running.connect()));
    let connector = service_fn(move |_| {
        let stream = stream.take().ok_or(std::io::ErrorKind::NotConnected);
        async move { Ok::<_, std::io::Error>(stream?) }
    });
    Endpoint::from_static("http://local").connect_with_connector(connector).await.map_err(failed)
}

async fn record(channel: &Channel, clock: &ManualClock) -> Result<(), DemoError> {
    let indicators = world::indicators();
    let step = DAY * DAYS / u32::try_from(indicators.len()).map_err(failed)?;
    let mut enrichments = EnrichmentServiceClient::new(channel.clone());
    let mut verdicts = VerdictServiceClient::new(channel.clone());
    for value in indicators {
        let indicator = Some(pb::Indicator { r#type: 0, value: value.clone() });
        let request = pb::EnrichRequest { indicator: indicator.clone(), options: None };
        let answer = enrichments.enrich(request).await.map_err(|status| failed(status.message()))?.into_inner();
        clock.advance(step);
        let Some(item) = world::item(&value).filter(|item| item.is_labelled) else { continue };
        let judgement = if item.is_malicious { pb::Judgement::TruePositive } else { pb::Judgement::FalsePositive };
        let feedback = pb::RecordFeedbackRequest {
            indicator,
            judgement: judgement.into(),
            author: "alice".into(),
            reason: "looked at in a case".into(),
            verdict: answer.decode_verdict().map_err(failed)?.name,
            ..Default::default()
        };
        verdicts.record_feedback(feedback).await.map_err(|status| failed(status.message()))?;
    }
    Ok(())
}

/// Where the pictures are.
pub(super) struct Pictures {
    pub(super) sources: PathBuf,
    pub(super) threshold: PathBuf,
}

impl Pictures {
    /// Beside the picture of the graph.
    pub(super) fn beside(graph: &Path) -> Self {
        let named = |name: &str| {
            let stem = graph.file_stem().unwrap_or_default().to_string_lossy();
            graph.with_file_name(format!("{stem}-{name}.svg"))
        };
        Self { sources: named("sources"), threshold: named("threshold") }
    }
}

/// Shows what the history says.
pub(super) async fn play(
    channel: &Channel,
    renderers: &Renderers,
    pictures: &Pictures,
    out: &mut (dyn Write + Send),
) -> Result<(), DemoError> {
    let mut history = HistoryServiceClient::new(channel.clone());
    writeln!(out, "what a month of verdicts says of the sources\n")?;
    let stream = history.compare_sources(pb::CompareSourcesRequest::default()).await;
    let comparison = last(stream, |message| match message.event {
        Some(pb::compare_sources_response::Event::Comparison(comparison)) => Some(comparison),
        Some(pb::compare_sources_response::Event::Progress(_)) | None => None,
    });
    let comparison = comparison.await?;
    writeln!(out, "{}", (renderers.sources)(&comparison))?;
    std::fs::write(&pictures.sources, (renderers.sources_picture)(&comparison).map_err(failed)?)?;
    writeln!(out, "the picture of it: {}\n", pictures.sources.display())?;

    writeln!(out, "which letter each behaves like, by what analysts said\n")?;
    let stream = history.suggest_reliability(pb::SuggestReliabilityRequest::default()).await;
    let suggestions = last(stream, |message| match message.event {
        Some(pb::suggest_reliability_response::Event::Suggestions(suggestions)) => Some(suggestions),
        Some(pb::suggest_reliability_response::Event::Progress(_)) | None => None,
    });
    writeln!(out, "{}", (renderers.letters)(&suggestions.await?.suggestions))?;

    writeln!(out, "what each threshold of VirusTotal for addresses would have said\n")?;
    let request = pb::SuggestThresholdRequest {
        filter: None,
        source: "sources/virustotal".into(),
        option: "malicious_threshold_ip".into(),
    };
    let curve = last(history.suggest_threshold(request).await, |message| match message.event {
        Some(pb::suggest_threshold_response::Event::Curve(curve)) => Some(curve),
        Some(pb::suggest_threshold_response::Event::Progress(_)) | None => None,
    });
    let curve = curve.await?;
    writeln!(out, "{}", (renderers.threshold)(&curve))?;
    std::fs::write(&pictures.threshold, (renderers.threshold_picture)(&curve).map_err(failed)?)?;
    writeln!(out, "the picture of it: {}\n", pictures.threshold.display())?;

    writeln!(out, "the month again, had rumours been rated D\n")?;
    let letter = pb::ReplayedLetter { source: "sources/rumours".into(), reliability: pb::Reliability::D.into() };
    let request = pb::ReplayVerdictsRequest { letters: vec![letter], ..Default::default() };
    let summary = last(history.replay_verdicts(request).await, |message| match message.event {
        Some(pb::replay_verdicts_response::Event::Summary(summary)) => Some(summary),
        Some(pb::replay_verdicts_response::Event::Progress(_) | pb::replay_verdicts_response::Event::Flip(_))
        | None => None,
    });
    Ok(writeln!(out, "{}", (renderers.replay)(&summary.await?))?)
}

/// The result at the end of a stream.
async fn last<M, R>(
    stream: Result<tonic::Response<Streaming<M>>, tonic::Status>,
    result: impl Fn(M) -> Option<R>,
) -> Result<R, DemoError> {
    let mut stream = stream.map_err(|status| failed(status.message()))?.into_inner();
    while let Some(message) = stream.message().await.map_err(|status| failed(status.message()))? {
        if let Some(result) = result(message) {
            return Ok(result);
        }
    }
    Err(failed("the server ended without a result"))
}
