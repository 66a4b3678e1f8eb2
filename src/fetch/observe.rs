//! Layer 1, observe: outermost, since it counts everything, hits and refusals too. Also holds the counters that the layers
//! below report to, and the names of all metrics of this room.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::attempt::AttemptError;
use super::lookup::Fetched;
use crate::clock::Clock;
use crate::finding::OutcomeBody;
use crate::source::{Answer, ListStatus};

/// What one source was asked for since the server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterSnapshot {
    /// Calls that were begun, with retries and with those that found no connection.
    pub calls: u64,
    /// Look-ups answered from cache.
    pub cache_hits: u64,
    /// Look-ups answered by a conversation that another had begun.
    pub shared: u64,
    /// Quota units taken and not given back.
    pub units: u64,
}

/// The counters of one source. They outlive its pipelines, so that new settings do not forget what it cost.
#[derive(Debug)]
pub struct SourceCounters {
    /// The label of its metrics.
    label: String,
    calls: AtomicU64,
    cache_hits: AtomicU64,
    shared: AtomicU64,
    units: AtomicU64,
}

impl Default for SourceCounters {
    /// Those of a source that is not saved: tests of made-up names must not make metrics.
    fn default() -> Self {
        Self::new("unsaved")
    }
}

impl SourceCounters {
    /// The counters of the source of this name, at zero.
    pub fn new(source: &str) -> Self {
        let label = source.to_owned();
        Self { label, calls: 0.into(), cache_hits: 0.into(), shared: 0.into(), units: 0.into() }
    }

    /// The counts now.
    pub fn snapshot(&self) -> CounterSnapshot {
        CounterSnapshot {
            calls: self.calls.load(Ordering::Relaxed),
            cache_hits: self.cache_hits.load(Ordering::Relaxed),
            shared: self.shared.load(Ordering::Relaxed),
            units: self.units.load(Ordering::Relaxed),
        }
    }

    /// Counts a look-up that a cached verdict answered before it came here.
    pub fn count_saved(&self) {
        self.cache_hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call that begins.
    pub(super) fn count_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the result of a call.
    pub(super) fn count_result(&self, result: &Result<Answer, AttemptError>) {
        let outcome = match result {
            Ok(_) => "answer",
            Err(AttemptError::Source(error) | AttemptError::Unreachable(error) | AttemptError::Local(error)) => {
                error.kind.as_str()
            }
            Err(AttemptError::NotAttempted(not_asked)) => not_asked.reason.as_str(),
        };
        metrics::counter!("concord_source_calls_total", "source" => self.label.clone(), "outcome" => outcome)
            .increment(1);
    }

    /// Counts a quota unit that was taken.
    pub(super) fn count_unit(&self) {
        self.units.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("concord_source_quota_units_total", "source" => self.label.clone()).increment(1);
    }

    /// Counts a quota unit that was given back.
    pub(super) fn count_returned_unit(&self) {
        self.units.fetch_sub(1, Ordering::Relaxed);
        metrics::counter!("concord_source_quota_units_returned_total", "source" => self.label.clone()).increment(1);
    }

    /// Notes until when the source is left alone because it said "enough".
    pub(super) fn note_suspension(&self, until: Option<SystemTime>) {
        let until = until.and_then(|until| until.duration_since(SystemTime::UNIX_EPOCH).ok());
        let seconds = until.map_or(0.0, |until| until.as_secs_f64());
        metrics::gauge!("concord_source_suspended_until_seconds", "source" => self.label.clone()).set(seconds);
    }

    /// Notes whether the source accepts the credential.
    pub(super) fn note_credential(&self, is_accepted: bool) {
        let value = if is_accepted { 0.0 } else { 1.0 };
        metrics::gauge!("concord_source_credential_refused", "source" => self.label.clone()).set(value);
    }

    /// Notes how many entries of a list are in use, and how many were skipped.
    pub(super) fn note_list(&self, status: &ListStatus) {
        metrics::gauge!("concord_list_entries", "source" => self.label.clone()).set(status.entries as f64);
        metrics::gauge!("concord_list_entries_skipped", "source" => self.label.clone()).set(status.skipped as f64);
    }

    fn count_lookup(&self, fetched: &Fetched) {
        let receipt = &fetched.receipt;
        self.cache_hits.fetch_add(receipt.from_cache.into(), Ordering::Relaxed);
        self.shared.fetch_add(receipt.shared.into(), Ordering::Relaxed);
        let from = match (receipt.from_cache, receipt.shared) {
            (true, _) => "cache",
            (false, true) => "shared",
            (false, false) => "source",
        };
        let outcome = match &fetched.outcome.body {
            OutcomeBody::Finding(_) => "finding",
            OutcomeBody::NoRecord => "no_record",
            OutcomeBody::Error(error) => error.kind.as_str(),
            OutcomeBody::NotAsked(not_asked) => not_asked.reason.as_str(),
        };
        let source = self.label.clone();
        metrics::counter!("concord_source_lookups_total", "source" => source.clone(), "outcome" => outcome, "from" => from)
            .increment(1);
        metrics::histogram!("concord_source_lookup_seconds", "source" => source, "from" => from)
            .record(receipt.latency.as_secs_f64());
    }
}

/// Counts a look-up and measures how long it takes.
pub(super) async fn measured(
    counters: &SourceCounters,
    clock: &dyn Clock,
    look_up: impl Future<Output = Fetched>,
) -> Fetched {
    let begun = clock.monotonic();
    let mut fetched = look_up.await;
    fetched.receipt.latency = clock.monotonic().since(begun);
    counters.count_lookup(&fetched);
    fetched
}
