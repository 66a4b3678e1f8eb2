//! Which sources are asked, which answer from what is kept, and which are not asked and why. Asks nobody.

use std::time::{Duration, SystemTime};

use super::pipelines::Entry;
use super::{Engine, EnrichRequest, disclose};
use crate::error::Error;
use crate::fetch::{Fetched, SUSPENDED, SourceStack};
use crate::finding::{NotAsked, NotAskedReason, Outcome, OutcomeBody};
use crate::source::Lookup;
use crate::store::WindowUse;

/// What would happen with one source.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedSource {
    /// The source's name, without `sources/`.
    pub source: String,
    /// Its kind.
    pub kind: String,
    /// What would happen.
    pub planned: Planned,
}

/// What would happen with a source.
#[derive(Clone, Debug, PartialEq)]
pub enum Planned {
    /// It would be asked.
    Call {
        /// Quota units that it would cost, if nothing is retried.
        units: u32,
        /// Its windows as they stand now.
        quota: Vec<WindowUse>,
        /// Whether somebody outside would be told.
        discloses: bool,
    },
    /// Its kept answer would be used, this old.
    Cached(Duration),
    /// It would not be asked.
    NotAsked(NotAsked),
}

/// What is done with one source, decided before anything leaves.
pub(super) enum Step<'a> {
    /// Ask it.
    Ask(&'a Entry, &'a SourceStack),
    /// It is settled already.
    Settled(Box<Fetched>),
}

impl Engine {
    /// What an enrichment would do, without doing it. `budget` and `policy` of the request do not matter.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown source.
    pub async fn plan(&self, request: &EnrichRequest) -> Result<Vec<PlannedSource>, Error> {
        let pipelines = self.pipelines.current();
        let mut planned = Vec::new();
        for entry in self.named(&pipelines.entries, &request.sources)? {
            planned.push(PlannedSource {
                source: entry.configured.settings.name.clone(),
                kind: entry.configured.settings.kind.clone(),
                planned: self.plan_source(entry, request).await,
            });
        }
        Ok(planned)
    }

    async fn plan_source(&self, entry: &Entry, request: &EnrichRequest) -> Planned {
        let (entry, stack) = match self.step(entry, request) {
            Step::Ask(entry, stack) => (entry, stack),
            Step::Settled(fetched) => {
                return match fetched.outcome.body {
                    OutcomeBody::NotAsked(not_asked) => Planned::NotAsked(not_asked),
                    OutcomeBody::Finding(_) | OutcomeBody::NoRecord | OutcomeBody::Error(_) => {
                        Planned::Cached(fetched.receipt.age)
                    }
                };
            }
        };
        let lookup = Lookup { indicator: request.indicator.clone() };
        match stack.kept(&lookup, request.max_age, self.clock.now()) {
            Some(kept) => Planned::Cached(kept.age),
            None => plan_call(entry, stack).await,
        }
    }

    /// The entries of these names, or all, in order of name.
    pub(super) fn named<'a>(&self, entries: &'a [Entry], names: &[String]) -> Result<Vec<&'a Entry>, Error> {
        if names.is_empty() {
            return Ok(entries.iter().collect());
        }
        let known = |name: &String| entries.iter().any(|entry| entry.configured.settings.name == *name);
        if let Some(unknown) = names.iter().find(|name| !known(name)) {
            return Err(self.registry.not_found(unknown));
        }
        Ok(entries.iter().filter(|entry| names.contains(&entry.configured.settings.name)).collect())
    }

    /// What is done with this source: rules first, since nothing may leave that they forbid; what is kept may be used
    /// whatever they say, since nothing leaves.
    pub(super) fn step<'a>(&self, entry: &'a Entry, request: &EnrichRequest) -> Step<'a> {
        let now = self.clock.now();
        let source = &entry.configured;
        if let Some(not_asked) = disclose::unsupported_reason(source, &request.indicator) {
            return Step::Settled(Box::new(settled(entry, now, not_asked)));
        }
        let stack = match &entry.stack {
            Ok(stack) => stack,
            Err(error) => {
                let not_asked = NotAsked::new(NotAskedReason::NotConfigured, error.detail.clone());
                return Step::Settled(Box::new(settled(entry, now, not_asked)));
            }
        };
        let lookup = Lookup { indicator: request.indicator.clone() };
        match disclose::withhold_reason(&self.rules, source, &request.indicator, request.tlp) {
            Some(not_asked) => {
                let kept = stack.from_kept(&lookup, request.max_age);
                Step::Settled(Box::new(kept.unwrap_or_else(|| settled(entry, now, not_asked))))
            }
            None => Step::Ask(entry, stack),
        }
    }
}

async fn plan_call(entry: &Entry, stack: &SourceStack) -> Planned {
    let quota = stack.windows().await;
    let spent = quota.iter().filter(|window| window.used >= window.limit).max_by_key(|window| window.resets_at);
    if let Some(spent) = spent {
        let detail = spent.describe();
        return Planned::NotAsked(until(detail, spent.resets_at));
    }
    if let Some(end) = stack.suspended_until() {
        return Planned::NotAsked(until(SUSPENDED.into(), end));
    }
    let discloses = entry.configured.kind.about().transport.is_outside();
    Planned::Call { units: u32::from(discloses && !quota.is_empty()), quota, discloses }
}

fn until(detail: String, end: SystemTime) -> NotAsked {
    NotAsked { reason: NotAskedReason::QuotaSpent, detail, until: Some(end) }
}

/// The outcome of a source that is not asked.
pub(super) fn settled(entry: &Entry, now: SystemTime, not_asked: NotAsked) -> Fetched {
    Fetched { outcome: outcome(entry, now, OutcomeBody::NotAsked(not_asked)), receipt: Default::default() }
}

/// An outcome of this source.
pub(super) fn outcome(entry: &Entry, time: SystemTime, body: OutcomeBody) -> Outcome {
    let settings = &entry.configured.settings;
    Outcome {
        source: settings.name.clone(),
        kind: settings.kind.clone(),
        reliability: settings.reliability,
        family: entry.family.clone(),
        time,
        body,
    }
}
