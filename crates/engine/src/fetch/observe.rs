//! Layer 1, observe: the outermost layer, so that it counts cache hits and refusals too. This file also holds the
//! counters that the inner layers report to, and the names of all metrics of the pipeline.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use metrics::{Counter, Gauge, Histogram};

use super::attempt::AttemptError;
use super::breaker::CircuitState;
use super::guards::GuardStatus;
use super::lookup::Fetched;
use crate::clock::Clock;
use crate::finding::{OutcomeBody, SourceError};
use crate::source::{Answer, ListStatus};

/// The newest look-up counts in the mean latency as one of so many.
const LATENCY_MEMORY: u64 = 8;
const MAX_LATENCY_MICROS: u64 = 3_600_000_000;

/// The use of one source since the server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterSnapshot {
    /// Calls that were started, including retries and those that could not connect.
    pub calls: u64,
    /// Look-ups answered from the cache.
    pub cache_hits: u64,
    /// Look-ups answered by a conversation that another look-up had started.
    pub shared: u64,
    /// Quota units that were acquired and not given back.
    pub units: u64,
}

/// The counters of one source. They outlive its pipelines, so that a change of settings does not reset them.
pub struct SourceCounters {
    /// The `source` label of the metrics.
    label: String,
    calls: AtomicU64,
    cache_hits: AtomicU64,
    shared: AtomicU64,
    units: AtomicU64,
    /// Moving mean of the duration of a look-up that made a call, in microseconds; 0: none was made.
    latency: AtomicU64,
    of_calls: OnceLock<CallMetrics>,
    of_guards: OnceLock<GuardMetrics>,
    of_lookups: OnceLock<LookupMetrics>,
}

/// The metrics that every call touches, so that they are found by name once.
struct CallMetrics {
    units: Counter,
    answers: Counter,
    suspended: Gauge,
    credential: Gauge,
}

/// The metrics that every call sets when it has ended.
struct GuardMetrics {
    circuit: Gauge,
    concurrency: Gauge,
}

/// The metrics of a look-up that asked the source and led to a finding.
struct LookupMetrics {
    findings: Counter,
    seconds: Histogram,
}

impl Default for SourceCounters {
    /// The counters of a source that is tested without being saved. All share one label, so that tests with arbitrary
    /// names do not create time series.
    fn default() -> Self {
        Self::new("unsaved")
    }
}

impl SourceCounters {
    /// Counters for the source of this name, all zero.
    pub fn new(source: &str) -> Self {
        Self {
            label: source.to_owned(),
            calls: 0.into(),
            cache_hits: 0.into(),
            shared: 0.into(),
            units: 0.into(),
            latency: 0.into(),
            of_calls: OnceLock::new(),
            of_guards: OnceLock::new(),
            of_lookups: OnceLock::new(),
        }
    }

    fn of_calls(&self) -> &CallMetrics {
        let source = || self.label.clone();
        self.of_calls.get_or_init(|| CallMetrics {
            units: metrics::counter!("concord_source_quota_units_total", "source" => source()),
            answers: metrics::counter!("concord_source_calls_total", "source" => source(), "outcome" => "answer"),
            suspended: metrics::gauge!("concord_source_suspended_until_seconds", "source" => source()),
            credential: metrics::gauge!("concord_source_credential_refused", "source" => source()),
        })
    }

    fn of_guards(&self) -> &GuardMetrics {
        let source = || self.label.clone();
        self.of_guards.get_or_init(|| GuardMetrics {
            circuit: metrics::gauge!("concord_source_circuit_state", "source" => source()),
            concurrency: metrics::gauge!("concord_source_concurrency_limit", "source" => source()),
        })
    }

    fn of_lookups(&self) -> &LookupMetrics {
        self.of_lookups.get_or_init(|| LookupMetrics {
            findings: self.lookups("finding", "source"),
            seconds: self.lookup_seconds("source"),
        })
    }

    fn lookups(&self, outcome: &'static str, from: &'static str) -> Counter {
        let source = self.label.clone();
        metrics::counter!("concord_source_lookups_total", "source" => source, "outcome" => outcome, "from" => from)
    }

    fn lookup_seconds(&self, from: &'static str) -> Histogram {
        metrics::histogram!("concord_source_lookup_seconds", "source" => self.label.clone(), "from" => from)
    }

    /// The current counts.
    pub fn snapshot(&self) -> CounterSnapshot {
        CounterSnapshot {
            calls: self.calls.load(Ordering::Relaxed),
            cache_hits: self.cache_hits.load(Ordering::Relaxed),
            shared: self.shared.load(Ordering::Relaxed),
            units: self.units.load(Ordering::Relaxed),
        }
    }

    /// How long a look-up that makes a call takes, as a moving mean; `None` before the first.
    pub fn mean_latency(&self) -> Option<Duration> {
        let micros = self.latency.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    fn note_latency(&self, latency: Duration) {
        let latest = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).clamp(1, MAX_LATENCY_MICROS);
        let mean =
            |mean: u64| Some(if mean == 0 { latest } else { (mean * (LATENCY_MEMORY - 1) + latest) / LATENCY_MEMORY });
        // The closure always gives a value.
        let _ = self.latency.fetch_update(Ordering::Relaxed, Ordering::Relaxed, mean);
    }

    /// Counts a look-up that was answered by a cached verdict and so did not reach the pipeline.
    pub fn count_cached(&self) {
        self.cache_hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a look-up that was answered by the verdict of another request in flight and so did not reach the pipeline.
    pub fn count_shared(&self) {
        self.shared.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the start of a call.
    pub(super) fn count_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the result of a call.
    pub(super) fn count_result(&self, result: &Result<Answer, AttemptError>) {
        let outcome = match result {
            Ok(_) => return self.of_calls().answers.increment(1),
            Err(AttemptError::Source(error) | AttemptError::Unreachable(error) | AttemptError::Local(error)) => {
                error.kind.as_str()
            }
            Err(AttemptError::NotAttempted(not_asked)) => not_asked.reason.as_str(),
        };
        metrics::counter!("concord_source_calls_total", "source" => self.label.clone(), "outcome" => outcome)
            .increment(1);
    }

    /// Counts a quota unit that was acquired.
    pub(super) fn count_unit(&self) {
        self.units.fetch_add(1, Ordering::Relaxed);
        self.of_calls().units.increment(1);
    }

    /// Counts a quota unit that was given back.
    pub(super) fn count_returned_unit(&self) {
        self.units.fetch_sub(1, Ordering::Relaxed);
        metrics::counter!("concord_source_quota_units_returned_total", "source" => self.label.clone()).increment(1);
    }

    /// Counts a reading of the allowance, which is not a call about an indicator.
    pub(super) fn count_allowance_reading(&self, error: Option<&SourceError>) {
        let outcome = error.map_or("answer", |error| error.kind.as_str());
        metrics::counter!("concord_source_allowance_readings_total", "source" => self.label.clone(), "outcome" => outcome)
            .increment(1);
    }

    /// Sets the metric of the time until which the source is suspended.
    pub(super) fn note_suspension(&self, until: Option<SystemTime>) {
        let until = until.and_then(|until| until.duration_since(SystemTime::UNIX_EPOCH).ok());
        let seconds = until.map_or(0.0, |until| until.as_secs_f64());
        self.of_calls().suspended.set(seconds);
    }

    /// Sets the metric of when the day's quota will be used up at the present pace.
    pub fn note_forecast(&self, runs_out: Option<SystemTime>) {
        let end = runs_out.and_then(|end| end.duration_since(SystemTime::UNIX_EPOCH).ok());
        let seconds = end.map_or(0.0, |end| end.as_secs_f64());
        metrics::gauge!("concord_source_quota_runs_out_seconds", "source" => self.label.clone()).set(seconds);
    }

    /// Sets the metrics of the circuit and of the calls at once.
    pub(super) fn note_guards(&self, status: &GuardStatus) {
        let state = match status.circuit.state {
            CircuitState::Closed => 0.0,
            CircuitState::HalfOpen => 1.0,
            CircuitState::Open => 2.0,
        };
        self.of_guards().circuit.set(state);
        self.of_guards().concurrency.set(status.concurrency.limit as f64);
    }

    /// Sets the metric of whether the source refuses the credential.
    pub(super) fn note_credential(&self, is_accepted: bool) {
        self.of_calls().credential.set(if is_accepted { 0.0 } else { 1.0 });
    }

    /// Sets the metrics of the entries of a list that are in use and that were skipped.
    pub(super) fn note_list(&self, status: &ListStatus) {
        metrics::gauge!("concord_list_entries", "source" => self.label.clone()).set(status.entries as f64);
        metrics::gauge!("concord_list_entries_skipped", "source" => self.label.clone()).set(status.skipped as f64);
    }

    fn count_lookup(&self, fetched: &Fetched) {
        let receipt = &fetched.receipt;
        self.cache_hits.fetch_add(receipt.from_cache.into(), Ordering::Relaxed);
        self.shared.fetch_add(receipt.shared.into(), Ordering::Relaxed);
        if receipt.called {
            self.note_latency(receipt.latency);
        }
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
        let seconds = receipt.latency.as_secs_f64();
        if (outcome, from) == ("finding", "source") {
            self.of_lookups().findings.increment(1);
            self.of_lookups().seconds.record(seconds);
        } else {
            self.lookups(outcome, from).increment(1);
            self.lookup_seconds(from).record(seconds);
        }
    }
}

impl fmt::Debug for SourceCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceCounters").field("source", &self.label).field("counts", &self.snapshot()).finish()
    }
}

/// Counts a look-up and measures its duration.
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
