//! `EnrichmentService`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::stream;
use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tracing::info;

use crate::convert::enrichment::Sent;
use crate::convert::enrichment::WireWishes;
use crate::convert::enrichment::Wishes;
use crate::convert::enrichment::read_batch;
use crate::convert::enrichment::read_one;
use crate::convert::enrichment::read_sent;
use crate::convert::enrichment::write_plan;
use crate::convert::enrichment::write_receipt;
use crate::convert::indicator;
use crate::convert::span;
use crate::convert::verdict::View;
use crate::convert::verdict::source_name;
use crate::convert::verdict::write;
use crate::convert::verdict::write_outcome;
use crate::convert::verdict::write_record;
use crate::engine::Budget;
use crate::engine::Engine;
use crate::engine::Enriched;
use crate::engine::Planned;
use crate::engine::Progress;
use crate::error::Error;
use crate::fetch::Receipt;
use crate::indicator::Indicator;
use crate::pb;
use crate::pb::enrichment_service_server::EnrichmentService;
use crate::store::new_id;

use super::Context;
use super::kept::KeptSource;
use super::kept::KeptVerdict;
use super::kept::KeptVerdicts;
use super::status;
use super::task::Streamed;
use super::task::Tasks;

/// How many indicators of one batch are under way at once.
const BATCH_AT_ONCE: usize = 16;
/// How many bytes of encoded verdicts are kept.
const KEPT_BYTES: u64 = 128 * 1024 * 1024;

/// Answers `EnrichmentService`. Clones share everything.
#[derive(Clone, Debug)]
pub struct EnrichmentRpc {
    engine: Arc<Engine>,
    tasks: Tasks,
    kept: KeptVerdicts,
}

/// Who asks, and the moments that bound the answer.
struct Asker {
    caller: String,
    budget: Option<Budget>,
}

impl EnrichmentRpc {
    /// The service over this engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { tasks: Tasks::of(&engine), engine, kept: KeptVerdicts::new(KEPT_BYTES) }
    }

    /// One indicator: from the kept bytes, or by asking.
    async fn answer(
        &self,
        sent: &Sent,
        wishes: &Wishes,
        asker: &Asker,
        progress: Option<&mut (dyn FnMut(Progress) + Send)>,
    ) -> Result<pb::EnrichResponse, Error> {
        let wish = wishes.of(sent.indicator.clone(), &asker.caller, asker.budget);
        let key = self.engine.verdict_key(&wish)?.filter(|_| wishes.view < View::Raw).map(|key| (key, wishes.view));
        if let Some(kept) = key.as_ref().and_then(|key| self.kept.get(key, self.now())) {
            return Ok(self.repeat(&kept, sent, wishes));
        }
        let enriched = self.engine.enrich(&wish, progress).await?;
        let raw = match wishes.view {
            View::Raw => enriched.receipts.iter().map(|(source, one)| (source.clone(), raw(one))).collect(),
            View::Basic | View::Full => Default::default(),
        };
        let verdict = write_record(&enriched.record, enriched.kept, wishes.view, &raw);
        let bytes = Bytes::from(verdict.encode_to_vec());
        if let (Some(key), Some(until)) = (key, enriched.reusable_until) {
            let sources = KeptSource::all(&enriched);
            self.kept.keep(key, KeptVerdict { bytes: bytes.clone(), made: self.now(), until, sources });
        }
        Ok(pb::EnrichResponse { verdict: bytes, receipt: Some(receipt_of(&enriched, sent, wishes)) })
    }

    fn repeat(&self, kept: &KeptVerdict, sent: &Sent, wishes: &Wishes) -> pb::EnrichResponse {
        let now = self.now();
        let answered = kept.sources.iter().filter(|one| one.answered.is_some());
        self.engine.count_saved(answered.map(|one| one.source.as_str()));
        let from_cache = |one: &KeptSource| pb::SourceReceipt {
            source: source_name(&one.source),
            from_cache: one.answered.is_some(),
            age: one.answered.map(|time| span(now.duration_since(time).unwrap_or_default())),
            latency: Some(span(Duration::ZERO)),
            note: one.note.clone(),
            ..Default::default()
        };
        let mut receipt = receipt(sent, wishes);
        receipt.sources = kept.sources.iter().map(from_cache).collect();
        receipt.verdict_from_cache = true;
        pb::EnrichResponse { verdict: kept.bytes.clone(), receipt: Some(receipt) }
    }

    fn now(&self) -> SystemTime {
        self.engine.clock().now()
    }

    /// Who asks for one indicator.
    fn asker(&self, context: Context) -> Result<Asker, Error> {
        Ok(Asker { budget: Some(self.engine.budget(context.deadline)?), caller: context.caller })
    }

    /// Who asks for many: with a deadline, one budget for all; without, each indicator has the default time of its own.
    fn batch_asker(&self, context: Context) -> Result<Asker, Error> {
        let budget = context.deadline.map(|_| self.engine.budget(context.deadline)).transpose()?;
        Ok(Asker { budget: budget.map(Budget::for_batch), caller: context.caller })
    }

    /// The wishes with an identifier, the caller's or one of ours.
    fn identified(&self, mut wishes: Wishes) -> Wishes {
        if wishes.request_id.is_empty() {
            wishes.request_id = new_id(self.now());
        }
        wishes
    }

    async fn plan(
        &self,
        request: pb::PlanEnrichmentRequest,
        context: Context,
    ) -> Result<pb::PlanEnrichmentResponse, Error> {
        let wire =
            WireWishes { sources: request.sources, tlp: request.tlp, max_age: request.max_age, ..Default::default() };
        let (sent, wishes) = read_one(request.indicator.as_ref(), wire, &self.engine)?;
        let wish = wishes.of(sent.indicator.clone(), &context.caller, None);
        let planned = self.engine.plan(&wish).await?;
        let units = planned.iter().map(|one| match &one.planned {
            Planned::Call { units, .. } => *units,
            Planned::Cached(_) | Planned::NotAsked(_) => 0,
        });
        Ok(pb::PlanEnrichmentResponse {
            indicator: Some(indicator::write(&sent.indicator)),
            notes: sent.notes,
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
        let wire = WireWishes { sources, policy, tlp, max_age, view, request_id };
        let read = read_one(indicator.as_ref(), wire, &self.engine);
        let (sent, wishes) = read.map_err(|error| status::of(&error))?;
        let wishes = self.identified(wishes);
        let asker = self.asker(context).map_err(|error| status::of(&error))?;
        let answer = self.answer(&sent, &wishes, &asker, None).await.map_err(|error| status::of(&error))?;
        info!(request_id = wishes.request_id, caller = asker.caller, "enriched");
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
        let wire = WireWishes { sources, policy, tlp, max_age, view, request_id };
        let read = read_one(indicator.as_ref(), wire, &self.engine);
        let (sent, wishes) = read.map_err(|error| status::of(&error))?;
        let wishes = self.identified(wishes);
        let asker = self.asker(context).map_err(|error| status::of(&error))?;
        let rpc = self.clone();
        // Who lags behind is not waited for: there is one message a source, so that all have room.
        Ok(Response::new(self.tasks.stream(Semaphore::MAX_PERMITS, move |sender| async move {
            let progress = sender.clone();
            let mut tell = |one: Progress| {
                let event = pb::stream_enrich_response::Event::Progress(write_progress(one, wishes.view));
                // The caller may have left; the task ends by itself then.
                let _ = progress.try_send(Ok(pb::StreamEnrichResponse { event: Some(event) }));
            };
            let end = rpc.answer(&sent, &wishes, &asker, Some(&mut tell)).await;
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
        let wishes = read_batch(&mut request, &self.engine).map_err(|error| status::of(&error))?;
        let wishes = self.identified(wishes);
        let batch = Batch::read(request.indicators);
        let asker = self.batch_asker(context).map_err(|error| status::of(&error))?;
        let rpc = self.clone();
        Ok(Response::new(self.tasks.stream(BATCH_AT_ONCE, move |sender| async move {
            batch.run(&rpc, &wishes, &asker, &sender).await;
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
    asked: Vec<(Indicator, Vec<(u32, Sent)>)>,
    refused: Vec<(u32, pb::BatchError)>,
}

impl Batch {
    fn read(indicators: Vec<pb::Indicator>) -> Self {
        let mut places: HashMap<Indicator, usize> = HashMap::new();
        let mut batch = Self { asked: Vec::new(), refused: Vec::new() };
        for (index, wire) in (0_u32..).zip(&indicators) {
            match read_sent(Some(wire), &format!("indicators[{index}]")) {
                Ok(sent) => {
                    let place = *places.entry(sent.indicator.clone()).or_insert_with(|| {
                        batch.asked.push((sent.indicator.clone(), Vec::new()));
                        batch.asked.len() - 1
                    });
                    if let Some((_, wanted)) = batch.asked.get_mut(place) {
                        wanted.push((index, sent));
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
        wishes: &Wishes,
        asker: &Asker,
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
                Some((_, sent)) => rpc.answer(sent, wishes, asker, None).await,
                None => return,
            };
            for (nth, (index, sent)) in wanted.iter().enumerate() {
                match &answer {
                    Ok(answer) => send(*index, Wire::Answer(for_place(answer, sent, nth > 0))).await,
                    Err(error) => send(*index, Wire::Error(batch_error(*index, error))).await,
                }
            }
        });
        work.buffer_unordered(BATCH_AT_ONCE).for_each(|()| async {}).await;
    }
}

/// The answer for one place of a batch; a duplicate spent nothing.
fn for_place(answer: &pb::EnrichResponse, sent: &Sent, duplicate: bool) -> pb::EnrichResponse {
    let mut answer = answer.clone();
    if let Some(receipt) = &mut answer.receipt {
        receipt.text = sent.text.clone();
        receipt.notes = sent.notes.clone();
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

fn receipt(sent: &Sent, wishes: &Wishes) -> pb::Receipt {
    pb::Receipt {
        request_id: wishes.request_id.clone(),
        text: sent.text.clone(),
        notes: sent.notes.clone(),
        ..Default::default()
    }
}

fn receipt_of(enriched: &Enriched, sent: &Sent, wishes: &Wishes) -> pb::Receipt {
    let mut receipt = receipt(sent, wishes);
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
