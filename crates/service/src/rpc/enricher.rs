//! Answers one indicator of a call: by a cached verdict, by the enrichment of another request in flight, or by its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use prost::Message;
use prost::bytes::Bytes;
use tracing::debug;

use super::coalesce::{Ended, Enrichments, Leader, Role, SharingKey};
use super::load::Admitted;
use super::plan::{add_units, settled_units, write_receipt};
use super::relation_graph::write_graph;
use super::verdict_cache::{CacheKey, CachedVerdict, Reuse, VerdictCache};
use crate::clock::Clock;
use crate::convert::enrichment::{EnrichOptions, RelationOptions, SubmittedText};
use crate::convert::verdict::{RawAnswers, View, write_comparison, write_record};
use crate::engine::{Budget, Engine, EnrichRequest, Enriched, Planned, Progress, Walk};
use crate::error::Error;
use crate::fetch::AnswerHash;
use crate::finding::Outcome;
use crate::indicator::Indicator;
use crate::offload::offload;
use crate::pb;
use crate::source::{EnrichMode, Priority};

/// Indicators of one batch that are enriched at the same time.
pub(super) const BATCH_CONCURRENCY: usize = 16;
/// For this part of its time a request waits for the verdict of another, before it makes its own of what is known by then.
const WAIT_DIVISOR: u32 = 2;
const VERDICT_CACHE_BYTES: u64 = 32 * 1024 * 1024;

/// What answers indicators. Clones share all state.
#[derive(Clone)]
pub(super) struct Enricher {
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    cache: VerdictCache,
    in_flight: Enrichments,
}

/// What one call asks about each of its indicators, for which caller, and until when.
pub(super) struct EnrichCall {
    pub(super) options: EnrichOptions,
    /// The priority where the options name none.
    pub(super) default_priority: Priority,
    pub(super) caller: String,
    /// `None`: each indicator gets the default time, counted from when its own enrichment begins.
    pub(super) budget: Option<Budget>,
    /// Keeps the call counted among the enrichments in flight until it is answered.
    pub(super) admitted: Option<Admitted>,
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

impl Enricher {
    pub(super) fn new(engine: Arc<Engine>, clock: Arc<dyn Clock>) -> Self {
        let (cache, in_flight) = (VerdictCache::new(VERDICT_CACHE_BYTES), Enrichments::default());
        Self { engine, clock, cache, in_flight }
    }

    /// The request about one indicator of a call. The sources that have relations share the calls that are allowed for them.
    pub(super) fn request(&self, call: &EnrichCall, indicator: &Indicator) -> Result<EnrichRequest, Error> {
        let mut request = call.request(indicator.clone());
        if request.relations.max_calls > 0 {
            request.relations.max_calls /= self.engine.relation_sources(&request)?.max(1);
        }
        Ok(request)
    }

    /// The answer about one indicator of a call, if a cached verdict gives it at once.
    pub(super) fn cached_answer(&self, submitted: &SubmittedText, call: &EnrichCall) -> Option<pb::EnrichResponse> {
        if call.options.relations.is_some() {
            return None;
        }
        let request = call.request(submitted.indicator.clone());
        let key = self.cache_key(&request, call).now_or_never()?.ok()??;
        let cached = self.cached_verdict(&key)?;
        debug!(request_id = call.options.request_id, caller = call.caller, "answered from cache");
        Some(self.reuse(&cached, Reuse::Cached, submitted, call, None))
    }

    /// The key under which the verdict of a request may be reused; `None`: it may not.
    async fn cache_key(&self, request: &EnrichRequest, call: &EnrichCall) -> Result<Option<CacheKey>, Error> {
        let view = call.options.view;
        // A cached verdict is bytes alone, which other policies cannot judge.
        let may_reuse = view < View::Raw && call.options.compare_policies.is_empty();
        let key = self.engine.verdict_key(request).await?;
        Ok(key.filter(|_| may_reuse).map(|key| (key, view)))
    }

    /// The answer to a request by the verdict of another.
    fn reuse(
        &self,
        verdict: &CachedVerdict,
        reuse: Reuse,
        submitted: &SubmittedText,
        call: &EnrichCall,
        graph: Option<pb::RelationGraph>,
    ) -> pb::EnrichResponse {
        let units = graph.as_ref().map_or(0, |graph| graph.calls);
        let receipt = pb::Receipt { units, ..new_receipt(submitted, call) };
        let receipt = verdict.write_receipt(receipt, self.clock.monotonic(), reuse);
        pb::EnrichResponse { verdict: verdict.bytes.clone(), receipt, graph, comparisons: Vec::new() }
    }

    /// Answers one indicator from the verdict cache, by the enrichment of another request in flight, or else by its own.
    pub(super) async fn answer(
        &self,
        submitted: &SubmittedText,
        call: &EnrichCall,
        progress: Option<&mut (dyn FnMut(Progress<'_>) + Send)>,
    ) -> Result<pb::EnrichResponse, Error> {
        let request = self.request(call, &submitted.indicator)?;
        let key = self.cache_key(&request, call).await?;
        let Some(key) = key else { return self.enrich(submitted, call, &request, (None, None), progress).await };
        if let Some(cached) = self.cached_verdict(&key) {
            let graph = self.graph(&request, call, None, Spent::default()).await?;
            return Ok(self.reuse(&cached, Reuse::Cached, submitted, call, graph));
        }
        // Who wants to see the progress needs an enrichment of its own.
        if progress.is_some() {
            return self.enrich(submitted, call, &request, (Some(key), None), progress).await;
        }
        let begun = self.clock.monotonic();
        let budget = call.budget.map_or_else(|| self.engine.budget(None, Duration::ZERO), Ok)?;
        let patience = budget.fetch_until.since(begun) / WAIT_DIVISOR;
        let sharing = SharingKey { verdict: key.clone(), caller: call.caller.clone(), priority: request.priority };
        loop {
            let mut follower = match self.in_flight.join(&sharing) {
                Role::Leader(leader) => {
                    return self.enrich(submitted, call, &request, (Some(key), Some(leader)), None).await;
                }
                Role::Follower(follower) => follower,
            };
            let left = patience.saturating_sub(self.clock.monotonic().since(begun));
            match self.clock.timeout(left, follower.ended()).await {
                Some(Ended::Shared(verdict)) => {
                    let waited = Reuse::Shared(self.clock.monotonic().since(begun));
                    let graph = self.graph(&request, call, None, Spent::default()).await?;
                    return Ok(self.reuse(&verdict, waited, submitted, call, graph));
                }
                Some(Ended::Abandoned) => {}
                // The calls that the other has made or makes are shared all the same.
                Some(Ended::NotShared) | None => {
                    return self.enrich(submitted, call, &request, (Some(key), None), None).await;
                }
            }
        }
    }

    /// Answers one indicator by an enrichment of its own, whose verdict may be reused under this key, at once by those who
    /// follow this leader.
    async fn enrich(
        &self,
        submitted: &SubmittedText,
        call: &EnrichCall,
        request: &EnrichRequest,
        (key, leader): (Option<CacheKey>, Option<Leader>),
        progress: Option<&mut (dyn FnMut(Progress<'_>) + Send)>,
    ) -> Result<pb::EnrichResponse, Error> {
        let enriched = self.engine.enrich(request, progress).await?;
        let mut receipt = new_receipt(submitted, call);
        receipt.sources = enriched.receipts.iter().map(|(source, receipt)| write_receipt(source, receipt)).collect();
        if !enriched.stored {
            receipt.notes.push("the verdict could not be stored, so it has no name".to_owned());
        }
        let verdict = self.encode(&enriched, call.options.view).await;
        let cached = key.and_then(|key| self.cache_verdict(key, &verdict, &enriched));
        if let Some(leader) = leader {
            leader.finish(cached);
        }
        let judged = &enriched.record.verdict;
        let graph = self.graph(request, call, Some(&judged.outcomes), Spent::of(&enriched)).await?;
        add_units(&mut receipt, settled_units(judged), graph.as_ref());
        let comparisons = enriched.comparisons.iter().map(|other| write_comparison(other, judged)).collect();
        Ok(pb::EnrichResponse { verdict, receipt: receipt.encode_to_vec().into(), graph, comparisons })
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
    pub(super) async fn raw_answers(&self, hashes: &[AnswerHash]) -> Vec<String> {
        let bodies = self.engine.raw_answers(hashes).await;
        bodies.iter().map(|body| String::from_utf8_lossy(body).into_owned()).collect()
    }

    /// A cached verdict that answers the request of this key.
    fn cached_verdict(&self, key: &CacheKey) -> Option<Arc<CachedVerdict>> {
        let (now, view) = (self.clock.monotonic(), key.1);
        let other = || key.0.also_answering().find_map(|key| self.cache.get(&(key, view), now));
        self.cache.get(key, now).or_else(other)
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

    /// How many indicators of a batch may be in flight while `next` is. No more than the quota of its sources allows,
    /// so that the first indicators of the batch get all sources instead of all indicators getting some.
    pub(super) async fn concurrency(&self, call: &EnrichCall, next: &SubmittedText) -> usize {
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

    /// Caches the verdict, if later requests may have it. Returns it if those may that wait for it.
    fn cache_verdict(&self, key: CacheKey, bytes: &Bytes, enriched: &Enriched) -> Option<Arc<CachedVerdict>> {
        let (verdict, reuse, (key, view)) = (&enriched.record.verdict, enriched.reuse, key);
        if !key.has_feedback_of(verdict) || (reuse.until.is_none() && !reuse.by_waiting) {
            return None;
        }
        let now = self.clock.monotonic();
        let made = CachedVerdict::new(&self.engine, enriched, bytes.clone(), now, reuse.until.unwrap_or(now));
        let made = Arc::new(made);
        if reuse.until.is_some() {
            self.cache.insert((key.of(verdict), view), made.clone());
        }
        Some(made)
    }
}

/// The receipt of a request, without what its verdict cost.
fn new_receipt(submitted: &SubmittedText, call: &EnrichCall) -> pb::Receipt {
    let (request_id, text) = (call.options.request_id.clone(), submitted.text.clone());
    pb::Receipt { request_id, text, notes: submitted.notes.clone(), ..Default::default() }
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
