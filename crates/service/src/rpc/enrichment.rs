//! The `EnrichmentService`: looks up one indicator or a batch, and plans look-ups.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::{Semaphore, mpsc};
use tonic::{Request, Response, Status};
use tracing::debug;

use super::auth::Caller;
use super::background::{BackgroundTasks, Streamed};
use super::batch::Batch;
use super::enricher::{BATCH_CONCURRENCY, EnrichCall, Enricher};
use super::load::Admitted;
use super::plan::{write_plan, write_receipt};
use super::{Context, status};
use crate::clock::Clock;
use crate::convert::Violations;
use crate::convert::enrichment::{EnrichOptions, SubmittedText, check_batch_size, read_options, read_submitted};
use crate::convert::verdict::{View, write, write_outcome, write_reach};
use crate::engine::{Engine, Progress};
use crate::error::{Error, Violation};
use crate::indicator::IndicatorType;
use crate::offload::offload;
use crate::pb;
use crate::pb::enrichment_service_server::EnrichmentService;
use crate::settings::{Registry, nearest};
use crate::source::{EnrichMode, Priority, Relationship};
use crate::store::new_id;
use crate::verdict::pending_sentence;

/// Implements `EnrichmentService`. Cheap to clone: clones share all state.
#[derive(Clone)]
pub(crate) struct EnrichmentRpc {
    engine: Arc<Engine>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    tasks: BackgroundTasks,
    enricher: Enricher,
}

impl EnrichmentRpc {
    pub(crate) fn new(
        engine: Arc<Engine>,
        registry: Arc<Registry>,
        clock: Arc<dyn Clock>,
        tasks: BackgroundTasks,
    ) -> Self {
        let enricher = Enricher::new(engine.clone(), clock.clone());
        Self { engine, registry, clock, tasks, enricher }
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

    /// The answer to a request that a cached verdict answers at once. `None`: it must be worked on, be it only to say what is wrong
    /// with it.
    pub(crate) fn answer_from_cache(&self, request: pb::EnrichRequest, caller: &Caller) -> Option<pb::EnrichResponse> {
        let (submitted, options) = self.read_one(request.indicator, request.options).ok()?;
        let (default_priority, caller) = (Priority::Interactive, caller.0.as_ref().to_owned());
        let call = EnrichCall { options, default_priority, caller, budget: None, admitted: None };
        self.enricher.cached_answer(&submitted, &call)
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
}

#[tonic::async_trait]
impl EnrichmentService for EnrichmentRpc {
    async fn enrich(&self, request: Request<pb::EnrichRequest>) -> Result<Response<pb::EnrichResponse>, Status> {
        let context = self.context(&request);
        let request = request.into_inner();
        let (submitted, options) = self.read_one(request.indicator, request.options).map_err(status::of)?;
        let call = self.call(options, context).map_err(status::of)?;
        let answer = self.enricher.answer(&submitted, &call, None).await.map_err(status::of)?;
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
        let (submitted, options) = self.read_one(request.indicator, request.options).map_err(status::of)?;
        let call = self.call(options, context).map_err(status::of)?;
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
                rpc.enricher.answer(&submitted, call, Some(&mut report)).await
            };
            // Raw answers may have to be read from the store.
            let forward = async {
                while let Some((mut progress, answers)) = queued.recv().await {
                    if call.options.view == View::Raw
                        && let Some(pb::outcome::Result::Finding(finding)) =
                            progress.outcome.as_mut().and_then(|outcome| outcome.result.as_mut())
                    {
                        finding.raw = rpc.enricher.raw_answers(&answers).await;
                    }
                    let _ = sender.try_send(Ok(message(Event::Progress(progress))));
                }
            };
            let (answer, ()) = tokio::join!(answer, forward);
            let _ = sender.send(answer.map(|answer| message(Event::Final(answer))).map_err(status::of)).await;
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
        let options = violations.finish(Some(options)).map_err(status::of)?;
        // The slots of a batch bound both its concurrency and the answers that wait for a slow reader, over all batches
        // together.
        let wanted = BATCH_CONCURRENCY.min(request.indicators.len()).max(1);
        let slots = context.slots.take().map_or(Some(wanted), |slots| Some(1 + slots.grow(wanted - 1)?));
        let slots = slots
            .ok_or_else(|| Error::Exhausted {
                subject: "requests in flight".into(),
                message: "too few slots are free for a batch".into(),
                retry_after: Some(Duration::from_secs(1)),
            })
            .map_err(status::of)?;
        let bytes = request.indicators.iter().map(|indicator| indicator.value.len()).sum();
        let batch = offload(bytes, move || Batch::read(&request.indicators)).await;
        let reserve = context.admitted.as_ref().map(|admitted| admitted.set_size(batch.len())).unwrap_or_default();
        // If the caller sets a deadline, all indicators share one budget.
        let budget =
            context.deadline.map(|_| self.engine.budget(context.deadline, reserve)).transpose().map_err(status::of)?;
        let default_priority = Priority::Background;
        let call = EnrichCall { options, default_priority, budget, caller: context.caller, admitted: context.admitted };
        let (enricher, tasks) = (self.enricher.clone(), self.tasks.clone());
        let chunks = self.tasks.stream(1, move |sender| async move {
            batch.run(&enricher, &call, slots, &tasks, &sender).await;
        });
        let answers = chunks.flat_map(|chunk| {
            let (answers, error) = chunk.map_or_else(|error| (Vec::new(), Some(error)), |answers| (answers, None));
            stream::iter(answers.into_iter().map(Ok).chain(error.map(Err)))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn plan_enrichment(
        &self,
        request: Request<pb::PlanEnrichmentRequest>,
    ) -> Result<Response<pb::PlanEnrichmentResponse>, Status> {
        let context = self.context(&request);
        let request = request.into_inner();
        let (submitted, options) = self.read_one(request.indicator, request.options).map_err(status::of)?;
        let (default_priority, budget) = (Priority::Interactive, None);
        let call = EnrichCall { options, default_priority, budget, caller: context.caller, admitted: context.admitted };
        let planned = self
            .engine
            .plan(&self.enricher.request(&call, &submitted.indicator).map_err(status::of)?)
            .await
            .map_err(status::of)?;
        Ok(Response::new(write_plan(submitted, planned)))
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
