//! Asks the sources of one enrichment: all at once, or in waves (`waves.rs`) until the disposition is settled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;

use super::enrich::Judging;
use super::pipelines::SourceEntry;
use super::plan::{Decision, pinned};
use super::waves::{Asked, Candidate, Price, Step, StopReason, next_wave};
use super::{Budget, Engine, EnrichRequest};
use crate::clock::{Clock, Monotonic};
use crate::fetch::{Fetched, Receipt, SourcePipeline};
use crate::finding::{NotAsked, NotAskedReason, Outcome, OutcomeBody, counted};
use crate::source::{EnrichMode, Lookup, Priority};
use crate::store::WindowUse;
use crate::verdict::{PendingSource, Prospect};

/// The next wave begins at the latest after this many times the duration that the current one is expected to take.
const PATIENCE_FACTOR: u32 = 2;
/// Shortest time for which a wave is waited for.
const LEAST_PATIENCE: Duration = Duration::from_millis(50);
/// A wave is waited for no longer than the remaining time divided by this, so that a source that hangs does not keep the
/// others from being asked.
const PATIENCE_DIVISOR: u32 = 4;

/// A source that is asked only if its answer is needed.
struct Postponed<'e> {
    entry: &'e SourceEntry,
    candidate: Candidate,
}

/// Called for every outcome as it arrives, with all outcomes so far.
type OnArrival<'a> = &'a mut (dyn FnMut(&[Arc<Outcome>], &Outcome, &Receipt) + Send);

impl Engine {
    /// Asks the sources as the request's mode wants it, and calls `arrived` for every outcome as it arrives, with all so far.
    /// A verdict is settled when it is under all policies.
    pub(super) async fn ask(
        &self,
        judging: Judging<'_>,
        budget: Budget,
        chosen: &[&SourceEntry],
        arrived: OnArrival<'_>,
    ) -> (Vec<Arc<Outcome>>, Vec<(String, Receipt)>) {
        let request = judging.request;
        let (mut outcomes, mut receipts) = (Vec::with_capacity(chosen.len()), Vec::with_capacity(chosen.len()));
        let mut add = |outcomes: &mut Vec<Arc<Outcome>>, Fetched { outcome, receipt }: Fetched| {
            let outcome = Arc::new(outcome);
            outcomes.push(outcome.clone());
            arrived(outcomes, &outcome, &receipt);
            receipts.push((outcome.source.clone(), receipt));
        };
        let mut postponed = match request.mode {
            EnrichMode::Complete => Vec::new(),
            EnrichMode::Decisive | EnrichMode::Frugal { .. } => self.postponed(chosen, request, budget).await,
        };
        let is_postponed = |entry: &SourceEntry, postponed: &[Postponed<'_>]| {
            postponed.iter().any(|other| other.entry.name() == entry.name())
        };
        // What is left of a budget: less what was spent, and what those in flight may yet cost, by name.
        let mut left = match request.mode {
            EnrichMode::Complete | EnrichMode::Decisive => None,
            EnrichMode::Frugal { budget } => Some(budget),
        };
        // A budget is not for those that should cost nothing, should they cost something after all.
        let nothing = left.map(|_| 0);
        let first = chosen.iter().filter(|entry| !is_postponed(entry, &postponed));
        let look_up =
            |entry, max_units| self.pipelines.announce(Box::pin(self.look_up(entry, request, budget, max_units)));
        let mut pending: FuturesUnordered<_> = first.map(|entry| look_up(entry, nothing)).collect();
        let mut reserved: BTreeMap<String, u32> = BTreeMap::new();
        let mut wave = 0;
        let mut wave_end = self.wave_end(Duration::ZERO, budget);
        let mut waits_for_units = false;
        loop {
            let next = if postponed.is_empty() || std::mem::take(&mut waits_for_units) {
                pending.next().await
            } else {
                let patience = wave_end.since(self.clock.monotonic());
                self.clock.timeout(patience, pending.next()).await.flatten()
            };
            if let Some(next) = next {
                let granted = reserved.remove(&next.outcome.source).unwrap_or_default();
                left = left.map(|left| (left + granted).saturating_sub(next.receipt.units));
                add(&mut outcomes, next);
                continue;
            }
            if postponed.is_empty() {
                return (outcomes, receipts);
            }
            wave += 1;
            let has_outcome = |entry: &SourceEntry| outcomes.iter().any(|outcome| outcome.source == entry.name());
            let awaited: Vec<PendingSource> = chosen
                .iter()
                .filter(|entry| !is_postponed(entry, &postponed) && !has_outcome(entry))
                .map(|entry| entry.pending())
                .collect();
            match self.next_step(judging, wave, &postponed, &awaited, &outcomes, left) {
                Ok(asked) => {
                    let latency = |asked: &Asked| {
                        postponed.get(asked.candidate).map(|source| source.candidate.price.expected_latency())
                    };
                    wave_end = self.wave_end(asked.iter().filter_map(latency).max().unwrap_or_default(), budget);
                    let mut rest = Vec::new();
                    for (place, source) in postponed.into_iter().enumerate() {
                        match asked.iter().find(|asked| asked.candidate == place) {
                            Some(asked) => {
                                let granted = asked.max_units.unwrap_or_default();
                                left = left.map(|left| left.saturating_sub(granted));
                                reserved.insert(source.entry.name().to_owned(), granted);
                                pending.push(look_up(source.entry, asked.max_units));
                            }
                            None => rest.push(source),
                        }
                    }
                    postponed = rest;
                }
                // Those in flight may cost less than they were granted.
                Err(not_asked)
                    if not_asked.reason == NotAskedReason::Budget && reserved.values().any(|granted| *granted > 0) =>
                {
                    waits_for_units = true;
                    wave -= 1;
                }
                Err(not_asked) => {
                    for source in std::mem::take(&mut postponed) {
                        let body = OutcomeBody::NotAsked(not_asked.clone());
                        add(&mut outcomes, source.entry.outcome_without_call(body, self.clock.now()));
                    }
                }
            }
        }
    }

    /// Whom to ask next, or why nobody is asked any more.
    fn next_step(
        &self,
        judging: Judging<'_>,
        wave: u32,
        postponed: &[Postponed<'_>],
        awaited: &[PendingSource],
        outcomes: &[Arc<Outcome>],
        left: Option<u32>,
    ) -> Result<Vec<Asked>, NotAsked> {
        let Judging { policies, request, at, .. } = judging;
        // Nothing that sources say changes what an analyst has pinned.
        if let Some(pin) = self.active_feedback(&request.indicator).pin {
            return Err(pinned(&pin));
        }
        let prospect = Prospect::new(policies, request.indicator.indicator_type(), at, outcomes.iter().cloned());
        let candidates: Vec<_> = postponed.iter().map(|source| source.candidate.clone()).collect();
        match next_wave(&prospect, wave, &candidates, awaited, left) {
            Step::Ask(asked) => Ok(asked),
            Step::Stop(reason) => Err(reason.not_asked(&prospect, request.mode)),
        }
    }

    /// The sources that cost something to ask, with their price. The others are asked at once: lists, cached answers, and
    /// those that a rule withholds.
    async fn postponed<'e>(
        &self,
        chosen: &[&'e SourceEntry],
        request: &EnrichRequest,
        budget: Budget,
    ) -> Vec<Postponed<'e>> {
        let limit = budget.fetch_until.since(self.clock.monotonic()) / PATIENCE_DIVISOR;
        let candidates = join_all(chosen.iter().copied().map(|entry| async move {
            let lookup = entry.normalize(&request.lookup());
            // The decision reads the store only for a source that a rule withholds.
            let decision = self.clock.timeout(limit, self.decide(entry, &lookup, request)).await;
            let Some(Decision::Ask(pipeline)) = decision.filter(|_| entry.is_remote()) else { return None };
            let reading = async {
                match pipeline.cached(&lookup, request.max_age).await {
                    Some(_) => None,
                    None => Some(pipeline.quota_usage().await),
                }
            };
            let usage = usage_in_time(&*self.clock, limit, reading).await?;
            let candidate = entry.candidate(pipeline, &lookup, &usage, request.priority);
            Some(Postponed { entry, candidate })
        }));
        candidates.await.into_iter().flatten().collect()
    }

    /// Until when a wave is waited for that is expected to take this long.
    fn wave_end(&self, expected: Duration, budget: Budget) -> Monotonic {
        let now = self.clock.monotonic();
        let most = budget.fetch_until.since(now) / PATIENCE_DIVISOR;
        now + (expected * PATIENCE_FACTOR).max(LEAST_PATIENCE).min(most)
    }
}

/// The use of a source's quota; `None` for a source that costs nothing now. Where the store does not say it in time, the source
/// counts as one whose quota is whole: it has its price, so that no budget is overdrawn.
async fn usage_in_time(
    clock: &dyn Clock,
    limit: Duration,
    reading: impl Future<Output = Option<Vec<WindowUse>>>,
) -> Option<Vec<WindowUse>> {
    clock.timeout(limit, reading).await.unwrap_or_else(|| Some(Vec::new()))
}

impl SourceEntry {
    /// The source as one that could be asked, given the use of its quota windows.
    pub(super) fn candidate(
        &self,
        pipeline: &SourcePipeline,
        lookup: &Lookup,
        usage: &[WindowUse],
        priority: Priority,
    ) -> Candidate {
        let left = match pipeline.quota_refusal(priority, usage) {
            Some(_) => 0.0,
            None => pipeline.share_left(priority, usage),
        };
        let units = u32::from(self.is_remote());
        let max_units = units * self.source.source.max_questions(lookup);
        let price = Price { units, max_units, left, latency: self.counters.mean_latency() };
        Candidate { source: self.pending(), price }
    }
}

impl StopReason {
    /// Why the rest is not asked, with the values that decide it.
    pub(super) fn not_asked(self, prospect: &Prospect<'_>, mode: EnrichMode) -> NotAsked {
        match (self, mode) {
            (Self::Budget, EnrichMode::Frugal { budget }) => {
                let detail = format!("it would exceed the request's budget of {}", counted(budget, "quota unit"));
                NotAsked::new(NotAskedReason::Budget, detail)
            }
            (Self::Settled | Self::Budget, _) => {
                let detail = format!("no answer of it can change {}", prospect.disposition());
                NotAsked::new(NotAskedReason::VerdictSettled, detail)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_store_that_does_not_answer_makes_no_source_free() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        clock.skip_sleeps(Duration::from_secs(9));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let limit = Duration::from_secs(1);
        assert_eq!(runtime.block_on(usage_in_time(&clock, limit, std::future::pending())), Some(Vec::new()));
        assert_eq!(runtime.block_on(usage_in_time(&clock, limit, async { None })), None);
    }
}
