//! `EnrichmentService`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, stream};
use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tonic::{Request, Response, Status};
use tracing::info;

use super::background::{BackgroundTasks, Streamed};
use super::verdict_cache::{CachedSource, CachedVerdict, VerdictCache};
use super::{Context, status};
use crate::convert::enrichment::{
    EnrichOptions, RawEnrichOptions, SubmittedText, read_batch, read_one, read_submitted, write_plan, write_receipt,
};
use crate::convert::verdict::{View, source_name, write, write_outcome, write_record};
use crate::convert::{duration, indicator};
use crate::engine::{Budget, Engine, Enriched, Planned, Progress};
use crate::error::Error;
use crate::fetch::Receipt;
use crate::indicator::Indicator;
use crate::pb;
use crate::pb::enrichment_service_server::EnrichmentService;
use crate::store::new_id;

/// How many indicators of one batch are under way at once.
const BATCH_AT_ONCE: usize = 16;
/// How many bytes of encoded verdicts are kept.
const CACHE_BYTES: u64 = 128 * 1024 * 1024;

/// Answers `EnrichmentService`. Clones share everything.
#[derive(Clone, Debug)]
pub struct EnrichmentRpc {
    engine: Arc<Engine>,
    tasks: BackgroundTasks,
    cache: VerdictCache,
}

/// Who asks, and the moments that bound the answer.
struct CallerBudget {
    caller: String,
    budget: Option<Budget>,
}

impl EnrichmentRpc {
    /// The service over this engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { tasks: BackgroundTasks::of(&engine), engine, cache: VerdictCache::new(CACHE_BYTES) }
    }

    /// One indicator: from the kept bytes, or by asking.
    async fn answer(
        &self,
        submitted: &SubmittedText,
        options: &EnrichOptions,
        caller: &CallerBudget,
        progress: Option<&mut (dyn FnMut(Progress) + Send)>,
    ) -> Result<pb::EnrichResponse, Error> {
        let request = options.of(submitted.indicator.clone(), &caller.caller, caller.budget);
        let key =
            self.engine.verdict_key(&request)?.filter(|_| options.view < View::Raw).map(|key| (key, options.view));
        if let Some(kept) = key.as_ref().and_then(|key| self.cache.get(key, self.now())) {
            return Ok(self.repeat(&kept, submitted, options));
        }
        let enriched = self.engine.enrich(&request, progress).await?;
        let raw = match options.view {
            View::Raw => enriched.receipts.iter().map(|(source, one)| (source.clone(), raw(one))).collect(),
            View::Basic | View::Full => Default::default(),
        };
        let verdict = write_record(&enriched.record, enriched.kept, options.view, &raw);
        let bytes = Bytes::from(verdict.encode_to_vec());
        if let (Some(key), Some(until)) = (key, enriched.reusable_until) {
            let sources = CachedSource::all(&enriched);
            self.cache.insert(key, CachedVerdict { bytes: bytes.clone(), made: self.now(), until, sources });
        }
        Ok(pb::EnrichResponse { verdict: bytes, receipt: Some(receipt_of(&enriched, submitted, options)) })
    }

    fn repeat(&self, kept: &CachedVerdict, submitted: &SubmittedText, options: &EnrichOptions) -> pb::EnrichResponse {
        let now = self.now();
        let answered = kept.sources.iter().filter(|one| one.answered.is_some());
        self.engine.count_saved(answered.map(|one| one.source.as_str()));
        let from_cache = |one: &CachedSource| pb::SourceReceipt {
            source: source_name(&one.source),
            from_cache: one.answered.is_some(),
            age: one.answered.map(|time| duration(now.duration_since(time).unwrap_or_default())),
            latency: Some(duration(Duration::ZERO)),
            note: one.note.clone(),
            ..Default::default()
        };
        let mut receipt = receipt(submitted, options);
        receipt.sources = kept.sources.iter().map(from_cache).collect();
        receipt.verdict_from_cache = true;
        pb::EnrichResponse { verdict: kept.bytes.clone(), receipt: Some(receipt) }
    }

    fn now(&self) -> SystemTime {
        self.engine.clock().now()
    }

    /// Who asks for one indicator.
    fn caller(&self, context: Context) -> Result<CallerBudget, Error> {
        Ok(CallerBudget { budget: Some(self.engine.budget(context.deadline)?), caller: context.caller })
    }

    /// Who asks for many: with a deadline, one budget for all; without, each indicator has the default time of its own.
    fn batch_caller(&self, context: Context) -> Result<CallerBudget, Error> {
        let budget = context.deadline.map(|_| self.engine.budget(context.deadline)).transpose()?;
        Ok(CallerBudget { budget: budget.map(Budget::for_batch), caller: context.caller })
    }

    /// The options with an identifier, the caller's or one of ours.
    fn identified(&self, mut options: EnrichOptions) -> EnrichOptions {
        if options.request_id.is_empty() {
            options.request_id = new_id(self.now());
        }
        options
    }

    async fn plan(
        &self,
        request: pb::PlanEnrichmentRequest,
        context: Context,
    ) -> Result<pb::PlanEnrichmentResponse, Error> {
        let wire = RawEnrichOptions {
            sources: request.sources,
            tlp: request.tlp,
            max_age: request.max_age,
            ..Default::default()
        };
        let (submitted, options) = read_one(request.indicator.as_ref(), wire, &self.engine)?;
        let request = options.of(submitted.indicator.clone(), &context.caller, None);
        let planned = self.engine.plan(&request).await?;
        let units = planned.iter().map(|one| match &one.planned {
            Planned::Call { units, .. } => *units,
            Planned::Cached(_) | Planned::NotAsked(_) => 0,
        });
        Ok(pb::PlanEnrichmentResponse {
            indicator: Some(indicator::write(&submitted.indicator)),
            notes: submitted.notes,
            units: units.sum(),
            sources: planned.iter().map(write_plan).collect(),
        })
    }
}

#[tonic::async_trait]
impl EnrichmentService for EnrichmentRpc {
    async fn enrich(&self, request: Request<pb::EnrichRequest>) -> Result<Response<pb::EnrichResponse>, Status> {
        let context = Context::of(&request, &self.engine);
        let pb::EnrichRequest { indicator, sources, policy, tlp, max_age, view, request_id } = request.into_inner();
        let wire = RawEnrichOptions { sources, policy, tlp, max_age, view, request_id };
        let read = read_one(indicator.as_ref(), wire, &self.engine);
        let (submitted, options) = read.map_err(|error| status::of(&error))?;
        let options = self.identified(options);
        let caller = self.caller(context).map_err(|error| status::of(&error))?;
        let answer = self.answer(&submitted, &options, &caller, None).await.map_err(|error| status::of(&error))?;
        info!(request_id = options.request_id, caller = caller.caller, "enriched");
        Ok(Response::new(answer))
    }

    type StreamEnrichStream = Streamed<pb::StreamEnrichResponse>;

    async fn stream_enrich(
        &self,
        request: Request<pb::StreamEnrichRequest>,
    ) -> Result<Response<Self::StreamEnrichStream>, Status> {
        let context = Context::of(&request, &self.engine);
        let pb::StreamEnrichRequest { indicator, sources, policy, tlp, max_age, view, request_id } =
            request.into_inner();
        let wire = RawEnrichOptions { sources, policy, tlp, max_age, view, request_id };
        let read = read_one(indicator.as_ref(), wire, &self.engine);
        let (submitted, options) = read.map_err(|error| status::of(&error))?;
        let options = self.identified(options);
        let caller = self.caller(context).map_err(|error| status::of(&error))?;
        let rpc = self.clone();
        // Who lags behind is not waited for: there is one message a source, so that all have room.
        Ok(Response::new(self.tasks.stream(Semaphore::MAX_PERMITS, move |sender| async move {
            let progress = sender.clone();
            let mut tell = |one: Progress| {
                let event = pb::stream_enrich_response::Event::Progress(write_progress(one, options.view));
                // The caller may have left; the task ends by itself then.
                let _ = progress.try_send(Ok(pb::StreamEnrichResponse { event: Some(event) }));
            };
            let end = rpc.answer(&submitted, &options, &caller, Some(&mut tell)).await;
            let end = end.map(|answer| pb::StreamEnrichResponse {
                event: Some(pb::stream_enrich_response::Event::Final(answer)),
            });
            let _ = sender.send(end.map_err(|error| status::of(&error))).await;
        })))
    }

    type BatchEnrichStream = Streamed<pb::BatchEnrichResponse>;

    async fn batch_enrich(
        &self,
        request: Request<pb::BatchEnrichRequest>,
    ) -> Result<Response<Self::BatchEnrichStream>, Status> {
        let context = Context::of(&request, &self.engine);
        let mut request = request.into_inner();
        // A wrong source or policy is a mistake of the request, not of each indicator.
        let options = read_batch(&mut request, &self.engine).map_err(|error| status::of(&error))?;
        let options = self.identified(options);
        let batch = Batch::read(request.indicators);
        let caller = self.batch_caller(context).map_err(|error| status::of(&error))?;
        let rpc = self.clone();
        Ok(Response::new(self.tasks.stream(BATCH_AT_ONCE, move |sender| async move {
            batch.run(&rpc, &options, &caller, &sender).await;
        })))
    }

    async fn plan_enrichment(
        &self,
        request: Request<pb::PlanEnrichmentRequest>,
    ) -> Result<Response<pb::PlanEnrichmentResponse>, Status> {
        let context = Context::of(&request, &self.engine);
        let plan = self.plan(request.into_inner(), context).await;
        plan.map(Response::new).map_err(|error| status::of(&error))
    }
}

/// The indicators of one batch: each different one once, with every place at which it was sent.
struct Batch {
    asked: Vec<(Indicator, Vec<(u32, SubmittedText)>)>,
    refused: Vec<(u32, pb::BatchError)>,
}

impl Batch {
    fn read(indicators: Vec<pb::Indicator>) -> Self {
        let mut places: HashMap<Indicator, usize> = HashMap::new();
        let mut batch = Self { asked: Vec::new(), refused: Vec::new() };
        for (index, wire) in (0_u32..).zip(&indicators) {
            match read_submitted(Some(wire), &format!("indicators[{index}]")) {
                Ok(submitted) => {
                    let place = *places.entry(submitted.indicator.clone()).or_insert_with(|| {
                        batch.asked.push((submitted.indicator.clone(), Vec::new()));
                        batch.asked.len() - 1
                    });
                    if let Some((_, wanted)) = batch.asked.get_mut(place) {
                        wanted.push((index, submitted));
                    }
                }
                Err(violation) => {
                    let reason = violation.reason.as_str().to_owned();
                    let error = pb::BatchError { reason, field: violation.field, message: violation.message };
                    batch.refused.push((index, error));
                }
            }
        }
        batch
    }

    async fn run(
        self,
        rpc: &EnrichmentRpc,
        options: &EnrichOptions,
        caller: &CallerBudget,
        sender: &mpsc::Sender<Result<pb::BatchEnrichResponse, Status>>,
    ) {
        use pb::batch_enrich_response::Result as Wire;
        // A caller who reads slowly holds the batch up; one who left ends it.
        let send = async |index, result| {
            let _ = sender.send(Ok(pb::BatchEnrichResponse { index, result: Some(result) })).await;
        };
        for (index, error) in self.refused {
            send(index, Wire::Error(error)).await;
        }
        let send = &send;
        let work = stream::iter(self.asked).map(|(_, wanted)| async move {
            let answer = match wanted.first() {
                Some((_, submitted)) => rpc.answer(submitted, options, caller, None).await,
                None => return,
            };
            for (nth, (index, submitted)) in wanted.iter().enumerate() {
                match &answer {
                    Ok(answer) => send(*index, Wire::Answer(for_place(answer, submitted, nth > 0))).await,
                    Err(error) => send(*index, Wire::Error(batch_error(*index, error))).await,
                }
            }
        });
        work.buffer_unordered(BATCH_AT_ONCE).for_each(|()| async {}).await;
    }
}

/// The answer for one place of a batch; a duplicate spent nothing.
fn for_place(answer: &pb::EnrichResponse, submitted: &SubmittedText, duplicate: bool) -> pb::EnrichResponse {
    let mut answer = answer.clone();
    if let Some(receipt) = &mut answer.receipt {
        receipt.text = submitted.text.clone();
        receipt.notes = submitted.notes.clone();
        for source in receipt.sources.iter_mut().filter(|_| duplicate) {
            source.shared |= source.called;
            source.called = false;
            source.units = 0;
        }
    }
    answer
}

fn batch_error(index: u32, error: &Error) -> pb::BatchError {
    let field = format!("indicators[{index}]");
    pb::BatchError { reason: error.reason().as_str().to_owned(), field, message: error.to_string() }
}

fn receipt(submitted: &SubmittedText, options: &EnrichOptions) -> pb::Receipt {
    pb::Receipt {
        request_id: options.request_id.clone(),
        text: submitted.text.clone(),
        notes: submitted.notes.clone(),
        ..Default::default()
    }
}

fn receipt_of(enriched: &Enriched, submitted: &SubmittedText, options: &EnrichOptions) -> pb::Receipt {
    let mut receipt = receipt(submitted, options);
    receipt.sources = enriched.receipts.iter().map(|(source, one)| write_receipt(source, one)).collect();
    receipt
}

/// The raw answers as they can be shown.
fn raw(receipt: &Receipt) -> Vec<String> {
    receipt.answers.bodies().map(|body| String::from_utf8_lossy(&body).into_owned()).collect()
}

fn write_progress(progress: Progress, view: View) -> pb::EnrichProgress {
    let outcome = &progress.fetched.outcome;
    let answers = if view == View::Raw { raw(&progress.fetched.receipt) } else { Vec::new() };
    let mut so_far = write(&progress.so_far, View::Basic, &Default::default());
    so_far.outcomes = Vec::new();
    pb::EnrichProgress {
        outcome: Some(write_outcome(outcome, view, answers)),
        receipt: Some(write_receipt(&outcome.source, &progress.fetched.receipt)),
        verdict_so_far: Some(so_far),
        waiting: u32::try_from(progress.waiting).unwrap_or(u32::MAX),
    }
}
