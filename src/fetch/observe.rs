//! Layer 1, observe: outermost, since it counts everything, hits and refusals too. Also holds the counts that the layers
//! below report, and the names of all metrics of this room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tower::ServiceExt;

use super::trip::{LooksUp, Obstacle, Site, layer};
use super::{Fetched, Request};
use crate::finding::OutcomeBody;
use crate::source::Answer;

/// What one source was asked for since the server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls that left for the source, retries included.
    pub calls: u64,
    /// Look-ups answered from cache.
    pub cache_hits: u64,
    /// Look-ups answered by a conversation that another had begun.
    pub shared: u64,
    /// Quota units taken.
    pub units: u64,
}

/// The counts behind [`Counters`]; outlives the stacks of a source, so that new settings do not forget what it cost.
#[derive(Debug)]
pub struct Tally {
    /// The label of its metrics.
    label: String,
    calls: AtomicU64,
    cache_hits: AtomicU64,
    shared: AtomicU64,
    units: AtomicU64,
}

impl Default for Tally {
    /// That of a source which was not saved: whoever tests one could else make metrics by making names up.
    fn default() -> Self {
        Self::of("unsaved")
    }
}

impl Tally {
    /// The tally of the source of this name.
    pub fn of(source: &str) -> Self {
        let label = source.to_owned();
        Self { label, calls: 0.into(), cache_hits: 0.into(), shared: 0.into(), units: 0.into() }
    }

    /// Counts a call that leaves.
    pub(super) fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a unit that was taken.
    pub(super) fn unit(&self) {
        self.units.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts now.
    pub fn counters(&self) -> Counters {
        Counters {
            calls: self.calls.load(Ordering::Relaxed),
            cache_hits: self.cache_hits.load(Ordering::Relaxed),
            shared: self.shared.load(Ordering::Relaxed),
            units: self.units.load(Ordering::Relaxed),
        }
    }

    /// Counts a look-up that a kept verdict answered before it came here.
    pub fn saved(&self) {
        self.cache_hits.fetch_add(1, Ordering::Relaxed);
    }

    fn look_up(&self, fetched: &Fetched) {
        if fetched.receipt.from_cache {
            self.cache_hits.fetch_add(1, Ordering::Relaxed);
        }
        if fetched.receipt.shared {
            self.shared.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counts look-ups and measures how long they take.
pub(super) fn over<S: LooksUp>(site: &Arc<Site>, inner: S) -> impl LooksUp + use<S> {
    layer(site, inner, |site, inner: S, request: Request| async move {
        let begun = site.clock.now();
        let mut fetched = inner.oneshot(request).await?;
        let latency = site.clock.now().duration_since(begun).unwrap_or_default();
        fetched.receipt.latency = latency;
        site.tally.look_up(&fetched);
        look_up(&site, &fetched, latency);
        Ok(fetched)
    })
}

fn look_up(site: &Site, fetched: &Fetched, latency: Duration) {
    let source = site.tally.label.clone();
    let from = match (fetched.receipt.from_cache, fetched.receipt.shared) {
        (true, _) => "cache",
        (false, true) => "shared",
        (false, false) => "source",
    };
    let outcome = word(&fetched.outcome.body);
    metrics::counter!("concord_source_lookups_total", "source" => source.clone(), "outcome" => outcome, "from" => from)
        .increment(1);
    metrics::histogram!("concord_source_lookup_seconds", "source" => source, "from" => from)
        .record(latency.as_secs_f64());
}

fn word(body: &OutcomeBody) -> &'static str {
    match body {
        OutcomeBody::Finding(_) => "finding",
        OutcomeBody::NoRecord => "no_record",
        OutcomeBody::Error(error) => error.kind.as_str(),
        OutcomeBody::NotAsked(not_asked) => not_asked.reason.as_str(),
    }
}

/// Counts one call by what came of it.
pub(super) fn call(site: &Site, result: &Result<Answer, Obstacle>) {
    let outcome = match result {
        Ok(_) => "answer",
        Err(Obstacle::Failed(error) | Obstacle::Broken(error)) => error.kind.as_str(),
        Err(Obstacle::Barred(not_asked)) => not_asked.reason.as_str(),
    };
    metrics::counter!("concord_source_calls_total", "source" => site.tally.label.clone(), "outcome" => outcome)
        .increment(1);
}

/// Counts one quota unit.
pub(super) fn unit(site: &Site) {
    metrics::counter!("concord_source_quota_units_total", "source" => site.tally.label.clone()).increment(1);
}
