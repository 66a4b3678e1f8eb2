//! The `EnrichmentService`: looks up one indicator or a batch, and plans look-ups.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tonic::{Request, Response, Status};
use tracing::debug;

use super::Context;
use super::background::{BackgroundTasks, Streamed};
use super::load::Admitted;
use super::plan::{add_units, settled_units, write_plan, write_receipt};
use super::relation_graph::write_graph;
use super::verdict_cache::{CacheKey, CachedSource, CachedVerdict, VerdictCache};
use crate::clock::Clock;
use crate::convert::enrichment::{
    EnrichOptions, RelationOptions, SubmittedText, check_batch_size, read_options, read_submitted,
};
use crate::convert::verdict::{
    RawAnswers, View, source_name, write, write_comparison, write_outcome, write_reach, write_record,
};
use crate::convert::{Violations, write_duration};
use crate::engine::{Budget, Engine, EnrichRequest, Enriched, Planned, Progress, VerdictKey, Walk};
use crate::error::{Error, Violation};
use crate::fetch::AnswerHash;
use crate::finding::Outcome;
use crate::indicator::{Indicator, IndicatorType, redact_text};
use crate::offload::offload;
use crate::pb;
use crate::pb::enrichment_service_server::EnrichmentService;
use crate::settings::{Registry, nearest};
use crate::source::{EnrichMode, Priority, Relationship};
use crate::store::new_id;
use crate::verdict::pending_sentence;

/// Indicators of one batch that are enriched at the same time.
const BATCH_CONCURRENCY: usize = 16;
/// When to send the rest of a batch again that was cut short by a shutdown.
const RESTART_TIME: Duration = Duration::from_secs(1);
const VERDICT_CACHE_BYTES: u64 = 32 * 1024 * 1024;

/// Implements `EnrichmentService`. Cheap to clone: clones share all state.
#[derive(Clone)]
pub(crate) struct EnrichmentRpc {
    engine: Arc<Engine>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    tasks: BackgroundTasks,
    cache: VerdictCache,
}

/// What one call asks about each of its indicators, for which caller, and until when.
struct EnrichCall {
    options: EnrichOptions,
    /// The priority where the options name none.
    default_priority: Priority,
    caller: String,
    /// `None`: each indicator gets the default time, counted from when its own enrichment begins.
    budget: Option<Budget>,
    /// Keeps the call counted among the enrichments in flight until it is answered.
    admitted: Option<Admitted>,
}

impl EnrichCall {
    fn request(&self, indicator: Indicator) -> EnrichRequest {
        EnrichRequest {
            indicator,
            sources: self.options.sources.iter().map(|source| source.name.clone()).collect(),
            policy: self.options.policy.as_ref().map(|policy| policy.name.clone()),
            compare_policies: self.options.compare_policies.iter().map(|policy| policy.name.clone()).collect(),
            mode: self.options.mode.unwrap_or_default(),
            tlp: self.options.tlp,
            max_age: self.options.max_age,
            priority: self.options.priority.unwrap_or(self.default_priority),
            relations: self.options.relations.as_ref().map(RelationOptions::for_first).unwrap_or_default(),
            caller: self.caller.clone(),
            budget: self.budget,
        }
    }
}

impl EnrichmentRpc {
    pub(crate) fn new(
        engine: Arc<Engine>,
        registry: Arc<Registry>,
        clock: Arc<dyn Clock>,
        tasks: BackgroundTasks,
    ) -> Self {
        Self { engine, registry, clock, tasks, cache: VerdictCache::new(VERDICT_CACHE_BYTES) }
    }

    /// Reads the options and checks that the sources and the policy that they name exist. A request without an
    /// identifier gets a new one.
    fn read_options(&self, options: Option<pb::EnrichOptions>, violations: &mut Violations) -> EnrichOptions {
        let mut options = read_options(options, violations);
        for source in &options.sources {
            violations.resolve(&source.field, self.registry.check(&source.name));
        }
        for policy in options.policy.iter().chain(&options.compare_policies) {
            violations.resolve(&policy.field, self.engine.policy(Some(&policy.name)));
        }
        if options.request_id.is_empty() {
            options.request_id = new_id(self.clock.now());
        }
        options
    }

    fn read_one(
        &self,
        indicator: Option<pb::Indicator>,
        options: Option<pb::EnrichOptions>,
    ) -> Result<(SubmittedText, EnrichOptions), Error> {
        let mut violations = Violations::default();
        let submitted = read_submitted(indicator.as_ref(), "indicator", &mut violations);
        let options = self.read_options(options, &mut violations);
        if let Some(submitted) = &submitted {
            self.check_relations(&options, Some(submitted.indicator.indicator_type()), &mut violations);
        }
        violations.finish(submitted.map(|submitted| (submitted, options)))
    }

    fn context<T>(&self, request: &Request<T>) -> Context {
        Context::from_request(request, self.clock.as_ref())
    }

    /// A call about one indicator. Its budget of time begins now.
    fn call(&self, options: EnrichOptions, context: Context) -> Result<EnrichCall, Error> {
        let reserve = context.admitted.as_ref().map(Admitted::margin).unwrap_or_default();
        let budget = Some(self.engine.budget(context.deadline, reserve)?);
        let default_priority = Priority::Interactive;
        Ok(EnrichCall { options, default_priority, budget, caller: context.caller, admitted: context.admitted })
    }

    /// The request about one indicator of a call. The sources that have relations share the calls that are allowed for them.
    fn request(&self, call: &EnrichCall, indicator: &Indicator) -> Result<EnrichRequest, Error> {
        let mut request = call.request(indicator.clone());
        if request.relations.max_calls > 0 {
            request.relations.max_calls /= self.engine.relation_sources(&request)?.max(1);
        }
        Ok(request)
    }

    /// Answers one indicator from the verdict cache, or else by an enrichment.
    async fn answer(
        &self,
        submitted: &SubmittedText,
        call: &EnrichCall,
        progress: Option<&mut (dyn FnMut(Progress<'_>) + Send)>,
    ) -> Result<pb::EnrichResponse, Error> {
        let view = call.options.view;
        let request = self.request(call, &submitted.indicator)?;
        // A cached verdict is bytes alone, which other policies cannot judge.
        let may_reuse = view < View::Raw && call.options.compare_policies.is_empty();
        let key = self.engine.verdict_key(&request).await?.filter(|_| may_reuse).map(|key| (key, view));
        let mut receipt = pb::Receipt {
            request_id: call.options.request_id.clone(),
            text: submitted.text.clone(),
            notes: submitted.notes.clone(),
            ..Default::default()
        };
        if let Some(cached) = key.as_ref().and_then(|(key, view)| self.cached_verdict(key, *view)) {
            receipt.sources = self.record_cache_hit(&cached);
            receipt.verdict_from_cache = true;
            let graph = self.graph(&request, call, None, Spent::default()).await?;
            add_units(&mut receipt, cached.settled, graph.as_ref());
            let verdict = cached.bytes.clone();
            return Ok(pb::EnrichResponse { verdict, receipt: Some(receipt), graph, comparisons: Vec::new() });
        }
        let enriched = self.engine.enrich(&request, progress).await?;
        receipt.sources = enriched.receipts.iter().map(|(source, receipt)| write_receipt(source, receipt)).collect();
        if !enriched.stored {
            receipt.notes.push("the verdict could not be stored, so it has no name".to_owned());
        }
        let verdict = self.encode(&enriched, view).await;
        self.cache_verdict(key, &verdict, &enriched);
        let judged = &enriched.record.verdict;
        let graph = self.graph(&request, call, Some(&judged.outcomes), Spent::of(&enriched)).await?;
        add_units(&mut receipt, settled_units(judged), graph.as_ref());
        let comparisons = enriched.comparisons.iter().map(|other| write_comparison(other, judged)).collect();
        Ok(pb::EnrichResponse { verdict, receipt: Some(receipt), graph, comparisons })
    }

    /// The verdict of an enrichment, encoded.
    async fn encode(&self, enriched: &Enriched, view: View) -> Bytes {
        let (record, stored) = (enriched.record.clone(), enriched.stored);
        let mut raw = RawAnswers::new();
        if view == View::Raw {
            for (source, receipt) in &enriched.receipts {
                raw.insert(source.clone(), self.raw_answers(&receipt.answers).await);
            }
        }
        let bytes = raw.values().flatten().map(String::len).sum();
        let encoded = offload(bytes, move || write_record(&record, stored, view, &raw).encode_to_vec());
        Bytes::from(encoded.await)
    }

    /// The raw answers as text.
    async fn raw_answers(&self, hashes: &[AnswerHash]) -> Vec<String> {
        let bodies = self.engine.raw_answers(hashes).await;
        bodies.iter().map(|body| String::from_utf8_lossy(body).into_owned()).collect()
    }

    /// A cached verdict that answers the request of this key.
    fn cached_verdict(&self, key: &VerdictKey, view: View) -> Option<Arc<CachedVerdict>> {
        let now = self.clock.monotonic();
        key.clone().answering().into_iter().find_map(|key| self.cache.get(&(key, view), now))
    }

    /// The graph of related indicators, if the call asks for it.
    async fn graph(
        &self,
        request: &EnrichRequest,
        call: &EnrichCall,
        outcomes: Option<&[Arc<Outcome>]>,
        spent: Spent,
    ) -> Result<Option<pb::RelationGraph>, Error> {
        let Some(relations) = &call.options.relations else { return Ok(None) };
        let budget = call.budget.map_or_else(|| self.engine.budget(None, Duration::ZERO), Ok)?;
        let max_calls = match request.mode {
            EnrichMode::Complete | EnrichMode::Decisive => relations.wanted.max_calls,
            // Calls for the verdict are part of the budget, and not of the calls for relations.
            EnrichMode::Frugal { budget } => {
                relations.wanted.max_calls.min(spent.relation_calls + budget.saturating_sub(spent.units))
            }
        };
        let walk = Walk { depth: relations.depth, max_calls, made: spent.relation_calls };
        let graph = self.engine.explore(request, budget, walk, outcomes).await?;
        Ok(Some(write_graph(&graph)))
    }

    /// Refuses relationship names that no source offers for this type of indicator, and walks from more than one
    /// indicator.
    fn check_relations(&self, options: &EnrichOptions, of: Option<IndicatorType>, violations: &mut Violations) {
        let Some(relations) = &options.relations else { return };
        if of.is_none() && relations.depth > 1 {
            let message = "only a look-up of one indicator walks further than 1: use Enrich or StreamEnrich";
            violations.add(Violation::invalid("options.relations.depth", message));
        }
        let kinds = self.registry.kinds();
        let offered = kinds.iter().flat_map(|kind| kind.about().relationships);
        let (of_type, others): (Vec<&Relationship>, Vec<_>) =
            offered.partition(|known| of.is_none_or(|of| known.indicator_type == of));
        let mut known: BTreeSet<_> = of_type.iter().map(|known| known.name).collect();
        let names = &relations.wanted.names;
        if relations.depth > 1 {
            if !names.is_empty() && !names.iter().any(|name| known.contains(name.as_str())) {
                let begins: Vec<_> = known.iter().copied().collect();
                let message = format!("no walk begins with any of them; add one of {}", begins.join(", "));
                violations.add(Violation::invalid("options.relations.names", message));
            }
            // A walk also follows the relations of indicators of other types.
            known.extend(others.iter().map(|known| known.name));
        }
        for (index, name) in names.iter().enumerate().filter(|(_, name)| !known.contains(name.as_str())) {
            let names: Vec<_> = known.iter().copied().collect();
            let near = nearest(name, &names).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
            let message = format!("{name:?} is no relationship of this type; {near}use one of {}", names.join(", "));
            violations.add(Violation::invalid(format!("options.relations.names[{index}]"), message));
        }
    }

    /// How many indicators of a batch may be in flight while `next` is. No more than the quota of its sources allows,
    /// so that the first indicators of the batch get all sources instead of all indicators getting some.
    async fn concurrency(&self, call: &EnrichCall, next: &SubmittedText) -> usize {
        // After the deadline no source is asked, so no quota is needed.
        if call.budget.is_some_and(|budget| budget.fetch_until <= self.clock.monotonic()) {
            return BATCH_CONCURRENCY;
        }
        let Ok(request) = self.request(call, &next.indicator) else { return BATCH_CONCURRENCY };
        let plan = self.engine.plan(&request).await.unwrap_or_default();
        let left = plan.sources.iter().filter_map(|source| match &source.planned {
            Planned::Call { units_left, .. } => *units_left,
            Planned::Cached(_) | Planned::NotAsked(_) => None,
        });
        let left = left.min();
        left.map_or(BATCH_CONCURRENCY, |left| usize::try_from(left).unwrap_or(usize::MAX)).clamp(1, BATCH_CONCURRENCY)
    }

    fn cache_verdict(&self, key: Option<CacheKey>, bytes: &Bytes, enriched: &Enriched) {
        let verdict = &enriched.record.verdict;
        let key = key.filter(|(key, _)| key.has_feedback_of(verdict));
        if let (Some((key, view)), Some(until)) = (key, enriched.reusable_until) {
            let cached = CachedVerdict {
                bytes: bytes.clone(),
                made: self.clock.monotonic(),
                until,
                sources: CachedSource::all_of(enriched),
                settled: settled_units(verdict),
            };
            self.cache.insert((key.of(verdict), view), cached);
        }
    }

    /// Counts the sources of a cached verdict as cache hits, and returns their receipts.
    fn record_cache_hit(&self, cached: &CachedVerdict) -> Vec<pb::SourceReceipt> {
        let answered = cached.sources.iter().filter(|source| source.age.is_some());
        self.engine.count_saved(answered.map(|source| source.source.as_str()));
        let since = self.clock.monotonic().since(cached.made);
        let receipt = |source: &CachedSource| pb::SourceReceipt {
            source: source_name(&source.source),
            from_cache: source.age.is_some(),
            age: source.age.map(|age| write_duration(age + since)),
            latency: Some(write_duration(Duration::ZERO)),
            note: source.note.clone(),
            ..Default::default()
        };
        cached.sources.iter().map(receipt).collect()
    }
}

#[tonic::async_trait]
impl EnrichmentService for EnrichmentRpc {
    async fn enrich(&self, request: Request<pb::EnrichRequest>) -> Result<Response<pb::EnrichResponse>, Status> {
        let context = self.context(&request);
        let request = request.into_inner();
        let (submitted, options) = self.read_one(request.indicator, request.options)?;
        let call = self.call(options, context)?;
        let answer = self.answer(&submitted, &call, None).await?;
        debug!(request_id = call.options.request_id, caller = call.caller, "enriched");
        Ok(Response::new(answer))
    }

    type StreamEnrichStream = Streamed<pb::StreamEnrichResponse>;

    async fn stream_enrich(
        &self,
        request: Request<pb::StreamEnrichRequest>,
    ) -> Result<Response<Self::StreamEnrichStream>, Status> {
        use pb::stream_enrich_response::Event;
        let context = self.context(&request);
        let request = request.into_inner();
        let (submitted, options) = self.read_one(request.indicator, request.options)?;
        let call = self.call(options, context)?;
        let rpc = self.clone();
        // The channel holds one message of each source, so that a slow reader does not delay the enrichment.
        Ok(Response::new(self.tasks.stream(Semaphore::MAX_PERMITS, move |sender| async move {
            let message = |event| pb::StreamEnrichResponse { event: Some(event) };
            let (queue, mut queued) = mpsc::unbounded_channel();
            let (rpc, call) = (&rpc, &call);
            let answer = async move {
                // Sending fails if the caller has disconnected; then the task is about to end anyway.
                let mut report = |progress: Progress<'_>| {
                    let answers = progress.receipt.answers.clone();
                    drop(queue.send((write_progress(&progress, call.options.view), answers)));
                };
                rpc.answer(&submitted, call, Some(&mut report)).await
            };
            // Raw answers may have to be read from the store.
            let forward = async {
                while let Some((mut progress, answers)) = queued.recv().await {
                    if call.options.view == View::Raw
                        && let Some(pb::outcome::Result::Finding(finding)) =
                            progress.outcome.as_mut().and_then(|outcome| outcome.result.as_mut())
                    {
                        finding.raw = rpc.raw_answers(&answers).await;
                    }
                    let _ = sender.try_send(Ok(message(Event::Progress(progress))));
                }
            };
            let (answer, ()) = tokio::join!(answer, forward);
            let _ = sender.send(answer.map(|answer| message(Event::Final(answer))).map_err(Status::from)).await;
        })))
    }

    type BatchEnrichStream = Streamed<pb::BatchEnrichResponse>;

    async fn batch_enrich(
        &self,
        request: Request<pb::BatchEnrichRequest>,
    ) -> Result<Response<Self::BatchEnrichStream>, Status> {
        let mut context = self.context(&request);
        let request = request.into_inner();
        let mut violations = Violations::default();
        check_batch_size(request.indicators.len(), &mut violations);
        let mut options = self.read_options(request.options, &mut violations);
        self.check_relations(&options, None, &mut violations);
        if options.relations.is_none() {
            options.mode = options.mode.or(Some(EnrichMode::Decisive));
        }
        let options = violations.finish(Some(options))?;
        // The slots of a batch bound both its concurrency and the answers that wait for a slow reader, over all batches
        // together.
        let wanted = BATCH_CONCURRENCY.min(request.indicators.len()).max(1);
        let slots = context.slots.take().map_or(Some(wanted), |slots| Some(1 + slots.grow(wanted - 1)?));
        let slots = slots.ok_or_else(|| Error::Exhausted {
            subject: "requests in flight".into(),
            message: "too few slots are free for a batch".into(),
            retry_after: Some(Duration::from_secs(1)),
        })?;
        let bytes = request.indicators.iter().map(|indicator| indicator.value.len()).sum();
        let batch = offload(bytes, move || Batch::read(&request.indicators)).await;
        let reserve =
            context.admitted.as_ref().map(|admitted| admitted.set_size(batch.distinct.len())).unwrap_or_default();
        // If the caller sets a deadline, all indicators share one budget.
        let budget = context.deadline.map(|_| self.engine.budget(context.deadline, reserve)).transpose()?;
        let default_priority = Priority::Background;
        let call = EnrichCall { options, default_priority, budget, caller: context.caller, admitted: context.admitted };
        let rpc = self.clone();
        Ok(Response::new(self.tasks.stream(slots, move |sender| async move {
            batch.run(&rpc, &call, slots, &sender).await;
        })))
    }

    async fn plan_enrichment(
        &self,
        request: Request<pb::PlanEnrichmentRequest>,
    ) -> Result<Response<pb::PlanEnrichmentResponse>, Status> {
        let context = self.context(&request);
        let request = request.into_inner();
        let (submitted, options) = self.read_one(request.indicator, request.options)?;
        let (default_priority, budget) = (Priority::Interactive, None);
        let call = EnrichCall { options, default_priority, budget, caller: context.caller, admitted: context.admitted };
        let planned = self.engine.plan(&self.request(&call, &submitted.indicator)?).await?;
        Ok(Response::new(write_plan(submitted, planned)))
    }
}

/// The distinct indicators of a batch, each with all positions at which it was sent.
struct Batch {
    distinct: Vec<Vec<(u32, SubmittedText)>>,
    refused: Vec<(u32, pb::BatchError)>,
}

impl Batch {
    fn read(indicators: &[pb::Indicator]) -> Self {
        let mut known: HashMap<Indicator, usize> = HashMap::new();
        let mut batch = Self { distinct: Vec::new(), refused: Vec::new() };
        for (index, wire) in (0_u32..).zip(indicators) {
            let mut violations = Violations::default();
            let submitted = read_submitted(Some(wire), &format!("indicators[{index}]"), &mut violations);
            match violations.finish(submitted) {
                Ok(submitted) => {
                    let next = batch.distinct.len();
                    let position = *known.entry(submitted.indicator.clone()).or_insert(next);
                    match batch.distinct.get_mut(position) {
                        Some(same) => same.push((index, submitted)),
                        None => batch.distinct.push(vec![(index, submitted)]),
                    }
                }
                Err(error) => batch.refused.push((index, batch_error(index, &wire.value, &error))),
            }
        }
        batch
    }

    async fn run(
        self,
        rpc: &EnrichmentRpc,
        call: &EnrichCall,
        slots: usize,
        sender: &mpsc::Sender<Result<pb::BatchEnrichResponse, Status>>,
    ) {
        use pb::batch_enrich_response::Result as Wire;
        // Sending waits for a slow reader, which delays the batch; it ends when the reader disconnects.
        let send = async |index, result| {
            let _ = sender.send(Ok(pb::BatchEnrichResponse { index, result: Some(result) })).await;
        };
        for (index, error) in self.refused {
            send(index, Wire::Error(error)).await;
        }
        let answer = async |same: &[(u32, SubmittedText)]| {
            let Some((_, first)) = same.first() else { return };
            let answer = rpc.answer(first, call, None).await;
            if let Some(admitted) = &call.admitted {
                admitted.finish_one();
            }
            for (nth, (index, submitted)) in same.iter().enumerate() {
                match &answer {
                    Ok(answer) => send(*index, Wire::Answer(answer_at(answer, submitted, nth > 0))).await,
                    Err(error) => send(*index, Wire::Error(batch_error(*index, &submitted.text, error))).await,
                }
            }
        };
        let (mut running, mut begun) = (FuturesUnordered::new(), 0);
        for same in &self.distinct {
            let Some((_, first)) = same.first() else { continue };
            // The limit is computed anew after every answer, since each changes the quota that is left.
            while !running.is_empty() && running.len() >= rpc.concurrency(call, first).await.min(slots) {
                running.next().await;
            }
            if rpc.tasks.is_stopping() {
                break;
            }
            running.push(answer(same));
            begun += 1;
        }
        while running.next().await.is_some() {}
        // What was not begun is for the server that follows. Begun, it could end without its sources when the store is closed.
        if begun < self.distinct.len() {
            let error =
                Error::Unavailable { message: "the server is shutting down".into(), retry_after: Some(RESTART_TIME) };
            let _ = sender.send(Err(error.into())).await;
        }
    }
}

/// The answer at one position of a batch. The receipt of a duplicate shows no calls and no cost.
fn answer_at(answer: &pb::EnrichResponse, submitted: &SubmittedText, is_duplicate: bool) -> pb::EnrichResponse {
    let mut answer = answer.clone();
    if let Some(receipt) = &mut answer.receipt {
        receipt.text = submitted.text.clone();
        receipt.notes = submitted.notes.clone();
        for source in receipt.sources.iter_mut().filter(|_| is_duplicate) {
            source.shared |= source.called;
            source.called = false;
            source.units = 0;
        }
        if is_duplicate {
            let settled = receipt.saved.map_or(0, |saved| saved.settled);
            add_units(receipt, settled, None);
        }
    }
    answer
}

/// The first violation of the indicator at this position, or the error of its enrichment.
fn batch_error(index: u32, text: &str, error: &Error) -> pb::BatchError {
    let first = if let Error::Invalid(violations) = error { violations.first() } else { None };
    let (field, message) = match first {
        Some(violation) => (violation.field.clone(), violation.message.clone()),
        None => (format!("indicators[{index}]"), error.to_string()),
    };
    pb::BatchError { reason: error.reason().as_str().to_owned(), field, message, text: redact_text(text) }
}

/// The units that a verdict cost.
#[derive(Clone, Copy, Default)]
struct Spent {
    units: u32,
    /// Those for further pages of related indicators.
    relation_calls: u32,
}

impl Spent {
    fn of(enriched: &Enriched) -> Self {
        let receipts = || enriched.receipts.iter().map(|(_, receipt)| receipt);
        let relation_calls = receipts().map(|receipt| receipt.relation_units).sum();
        Self { units: receipts().map(|receipt| receipt.units).sum(), relation_calls }
    }
}

/// What is known before the raw answers are read.
fn write_progress(progress: &Progress<'_>, view: View) -> pb::EnrichProgress {
    let Progress { outcome, receipt, interim_verdict, waiting, reach } = progress;
    let mut verdict_so_far = write(interim_verdict, View::Basic, &Default::default());
    verdict_so_far.outcomes = Vec::new();
    // What can still change it is said of the sources that are awaited.
    verdict_so_far.reach = None;
    pb::EnrichProgress {
        outcome: Some(write_outcome(outcome, view, Vec::new())),
        receipt: Some(write_receipt(&outcome.source, receipt)),
        verdict_so_far: Some(verdict_so_far),
        waiting: u32::try_from(*waiting).unwrap_or(u32::MAX),
        reach: Some(write_reach(reach, pending_sentence(reach, *waiting, interim_verdict.disposition))),
        final_early: *waiting > 0 && !reach.can_change,
    }
}
