//! What is asked of a pipeline and what comes of it: the request, and the outcome with its receipt.

use std::time::{Duration, SystemTime};

use super::raw_answers::RawAnswers;
use crate::clock::{Clock, Monotonic};
use crate::finding::{Family, Outcome, OutcomeBody};
use crate::indicator::Tlp;
use crate::source::{Lookup, SourceSettings};
use crate::store::WindowUse;

/// One look-up of one source, as the engine asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupRequest {
    /// What is looked up.
    pub lookup: Lookup,
    /// The moment by which the outcome must be there.
    pub deadline: Monotonic,
    /// How old a cached answer may be; `None`: as old as the source's settings allow; zero: ask anew.
    pub max_age: Option<Duration>,
    /// For whom, for the disclosure ledger.
    pub caller: String,
    /// Under which TLP, for the disclosure ledger.
    pub tlp: Tlp,
}

/// An outcome and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// The outcome.
    pub outcome: Outcome,
    /// How it came about.
    pub receipt: Receipt,
}

/// How an outcome came about. It differs from call to call, so it is no part of the verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Receipt {
    /// Whether a call left for this request.
    pub called: bool,
    /// Whether it came from cache.
    pub from_cache: bool,
    /// Whether it was shared with another request for the same, already in flight.
    pub shared: bool,
    /// Time since the source answered.
    pub age: Duration,
    /// How long the answer may be cached from its arrival on, by its own word: the least time to live of its records.
    pub ttl: Option<Duration>,
    /// Time that the look-up took.
    pub latency: Duration,
    /// Quota units spent for this request; 0 for what came from cache or was shared.
    pub units: u32,
    /// What is left of the source's windows, as far as known.
    pub quota: Vec<WindowUse>,
    /// What should be known of the answer beside it: that a list is stale, and why.
    pub note: Option<String>,
    /// The raw answers behind the outcome.
    pub answers: RawAnswers,
}

/// An outcome of the source with these settings, under its present letter and family.
pub fn outcome(settings: &SourceSettings, family: &Family, body: OutcomeBody, time: SystemTime) -> Outcome {
    Outcome {
        source: settings.name.clone(),
        kind: settings.kind.clone(),
        reliability: settings.reliability,
        family: family.clone(),
        time,
        body,
    }
}

/// When a source answered: for what is shown, and for what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnswerTime {
    pub(super) wall: SystemTime,
    pub(super) monotonic: Monotonic,
}

impl AnswerTime {
    pub(super) fn now(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }
}
