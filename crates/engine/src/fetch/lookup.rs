//! The interface of a pipeline: the request, and the outcome with its receipt.

use std::time::{Duration, SystemTime};

use super::fair_queue::Claim;
use crate::clock::{Clock, Monotonic};
use crate::finding::{Family, Outcome, OutcomeBody};
use crate::indicator::Tlp;
use crate::source::{Lookup, Priority, SourceSettings};
use crate::store::WindowUse;

/// One look-up of one source, as the engine asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupRequest {
    /// The look-up.
    pub lookup: Lookup,
    /// The time by which the outcome is needed.
    pub deadline: Monotonic,
    /// Maximum age of a cached answer. `None`: as old as the source's settings allow. Zero: always ask.
    pub max_age: Option<Duration>,
    /// Who is served first where quota is scarce.
    pub priority: Priority,
    /// Maximum of quota units that may be spent for it, retries included. `None`: no limit.
    pub max_units: Option<u32>,
    /// The caller, for the disclosure ledger.
    pub caller: String,
    /// The TLP of the indicator, for the disclosure ledger.
    pub tlp: Tlp,
}

impl LookupRequest {
    pub(super) fn claim(&self) -> Claim {
        Claim { priority: self.priority, caller: self.caller.clone() }
    }
}

/// SHA-256 of a raw answer, under which it is stored.
pub type AnswerHash = [u8; 32];

/// An outcome and its receipt.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// The outcome.
    pub outcome: Outcome,
    /// How the outcome was obtained.
    pub receipt: Receipt,
}

/// How an outcome was obtained. It differs from call to call, so it is not part of the verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Receipt {
    /// Whether this request caused a call to the source.
    pub called: bool,
    /// Whether the outcome came from the cache.
    pub from_cache: bool,
    /// Whether the outcome was shared with an identical request that was already in flight.
    pub shared: bool,
    /// Time since the source answered.
    pub age: Duration,
    /// How long the answer may be cached after its arrival, as the answer itself states: the shortest time to live of
    /// its records.
    pub ttl: Option<Duration>,
    /// Duration of the look-up.
    pub latency: Duration,
    /// Quota units spent for this request; 0 if the outcome was cached or shared.
    pub units: u32,
    /// Those of them that were spent for further pages of related indicators.
    pub relation_units: u32,
    /// Use of the source's quota windows, as far as known.
    pub quota: Vec<WindowUse>,
    /// A remark on the answer, such as that a list is stale, and why.
    pub note: Option<String>,
    /// Why a cached finding was used after its time; `None` if it was not.
    pub stale: Option<String>,
    /// Whether the time or a limit of the request ended the look-up, so that another request may learn more.
    pub cut_short: bool,
    /// The hashes under which the raw answers behind the outcome are stored, in the order of the questions. They may not
    /// be stored yet, since that is done in the background.
    pub answers: Vec<AnswerHash>,
}

/// Makes an outcome of the source with these settings, with its current reliability and family.
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

/// When a source answered: wall time for display, monotonic time for ages.
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
