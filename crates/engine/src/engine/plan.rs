//! Decides which sources are asked, which answer from the cache, and which are not asked and why. Makes no calls
//! itself.

use std::sync::Arc;
use std::time::Duration;

use super::pipelines::SourceEntry;
use super::waves::{Candidate, Price, StopReason, expected_waves};
use super::{Engine, EnrichRequest, withhold};
use crate::error::Error;
use crate::fetch::{Fetched, SourcePipeline, over_budget};
use crate::finding::{NotAsked, NotAskedReason};
use crate::settings::ResolvedPolicy;
use crate::source::{EnrichMode, Lookup};
use crate::store::WindowUse;
use crate::verdict::{AnalystWord, PendingSource, Policy, Prospect};

/// What an enrichment would do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EnrichmentPlan {
    /// The plan for each source, in order of name.
    pub sources: Vec<PlannedSource>,
    /// The waves in which sources would be asked, if none of those asked has a record.
    pub waves: Vec<PlannedWave>,
    /// Minimum of quota units, without retries.
    pub units: u32,
    /// Maximum of quota units, without retries.
    pub max_units: u32,
    /// Quota units that are left to the caller for the day; `None`: not limited.
    pub caller_units_left: Option<u64>,
}

/// The price of the sources that would be asked at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlannedWave {
    /// Minimum of quota units, without retries.
    pub units: u32,
    /// Maximum of quota units, without retries.
    pub max_units: u32,
}

/// The plan for one source.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedSource {
    /// The source's name, without `sources/`.
    pub source: String,
    /// The source's kind.
    pub kind: String,
    /// What would happen.
    pub planned: Planned,
    /// The wave in which it would be asked, from 1; 0: it would not be asked.
    pub wave: u32,
}

/// What would happen with a source.
#[derive(Clone, Debug, PartialEq)]
pub enum Planned {
    /// The source would be asked.
    Call {
        /// Minimum of quota units that this would cost, without retries.
        units: u32,
        /// Maximum of quota units that this would cost, without retries.
        max_units: u32,
        /// The current use of its quota windows.
        quota: Vec<WindowUse>,
        /// Quota units that are left for a request of this priority; `None`: not limited.
        units_left: Option<u64>,
        /// Whether the indicator would be disclosed to a remote source.
        discloses: bool,
    },
    /// Its cached answer of this age would be used.
    Cached(Duration),
    /// The source would not be asked.
    NotAsked(NotAsked),
}

/// The decision about one source, made before anything is sent.
pub(super) enum Decision<'a> {
    /// The source is asked.
    Ask(&'a SourcePipeline),
    /// The source must not be asked, but the cache has an answer.
    Cached(Box<Fetched>),
    /// The source is not asked.
    NotAsked(NotAsked),
}

/// The policies that judge a request.
pub(super) struct RequestPolicies {
    /// The one that gives the verdict.
    pub(super) first: Arc<ResolvedPolicy>,
    compared: Vec<Arc<ResolvedPolicy>>,
}

impl RequestPolicies {
    /// All of them, the one that gives the verdict first.
    pub(super) fn each(&self) -> Vec<&Policy> {
        std::iter::once(&self.first).chain(&self.compared).map(|resolved| &resolved.policy).collect()
    }
}

/// What would happen with a source, with what the waves depend on.
enum PlannedLookup {
    Call(Candidate, Planned),
    Cached(Box<Fetched>),
    NotAsked(NotAsked),
}

impl EnrichmentPlan {
    fn new(sources: Vec<PlannedSource>, mode: EnrichMode, caller_units_left: Option<u64>) -> Self {
        let mut waves = Vec::new();
        for wave in 1..=sources.iter().map(|source| source.wave).max().unwrap_or_default() {
            let mut planned = PlannedWave::default();
            for source in sources.iter().filter(|source| source.wave == wave) {
                if let Planned::Call { units, max_units, .. } = source.planned {
                    planned.units = planned.units.saturating_add(units);
                    planned.max_units = planned.max_units.saturating_add(max_units);
                }
            }
            waves.push(planned);
        }
        let all = waves.iter().fold(PlannedWave::default(), |all, wave| PlannedWave {
            units: all.units.saturating_add(wave.units),
            max_units: all.max_units.saturating_add(wave.max_units),
        });
        let (units, max_units) = match mode {
            EnrichMode::Complete => (all.units, all.max_units),
            // The first wave may settle it.
            EnrichMode::Decisive => (waves.first().map_or(0, |wave| wave.units), all.max_units),
            EnrichMode::Frugal { budget } => (waves.first().map_or(0, |wave| wave.units), all.max_units.min(budget)),
        };
        let most = caller_units_left.map_or(u32::MAX, |left| u32::try_from(left).unwrap_or(u32::MAX));
        Self { sources, waves, units: units.min(most), max_units: max_units.min(most), caller_units_left }
    }
}

/// Sets in which wave each of these sources would be asked, and which would not be. What costs nothing comes first.
fn plan_waves(
    sources: &mut [PlannedSource],
    candidates: Vec<(usize, Candidate)>,
    prospect: &Prospect<'_>,
    mode: EnrichMode,
    pin: Option<&AnalystWord>,
) {
    let budget = match mode {
        EnrichMode::Complete => return,
        EnrichMode::Decisive => None,
        EnrichMode::Frugal { budget } => Some(budget),
    };
    let (free, paid): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|(_, candidate)| candidate.price.units == 0);
    let awaited: Vec<PendingSource> = free.iter().map(|(_, candidate)| candidate.source.clone()).collect();
    let (places, candidates): (Vec<_>, Vec<_>) = paid.into_iter().unzip();
    let (waves, stop) = match pin {
        Some(_) => (Vec::new(), Some(StopReason::Settled)),
        None => expected_waves(prospect, &candidates, &awaited, budget),
    };
    let mut set = |place: usize, wave: u32, not_asked: Option<NotAsked>| {
        if let Some(source) = places.get(place).and_then(|place| sources.get_mut(*place)) {
            source.wave = wave;
            source.planned = not_asked.map_or_else(|| source.planned.clone(), Planned::NotAsked);
        }
    };
    let first = if free.is_empty() { 1 } else { 2 };
    for (wave, places) in (first..).zip(&waves) {
        places.iter().for_each(|place| set(*place, wave, None));
    }
    let Some(stop) = stop else { return };
    let not_asked = pin.map_or_else(|| stop.not_asked(prospect, mode), pinned);
    for place in (0..candidates.len()).filter(|place| !waves.iter().flatten().any(|asked| asked == place)) {
        set(place, 0, Some(not_asked.clone()));
    }
}

/// Why nobody is asked about an indicator that an analyst has pinned.
pub(super) fn pinned(pin: &AnalystWord) -> NotAsked {
    let detail = format!("an analyst has pinned {}", pin.judgement.disposition());
    NotAsked::new(NotAskedReason::Pinned, detail)
}

impl Engine {
    /// Returns what an enrichment would do, without doing it. Ignores the request's `budget` of time.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown source or policy.
    pub async fn plan(&self, request: &EnrichRequest) -> Result<EnrichmentPlan, Error> {
        let pipelines = self.pipelines.current();
        let resolved = self.policies_of(request)?;
        let policies = resolved.each();
        // A ledger that cannot be reached is said by the sources.
        let budget = self.caller_budget(&request.caller).await.unwrap_or_default();
        let mut sources = Vec::new();
        let mut candidates = Vec::new();
        let mut outcomes = Vec::new();
        for entry in self.named(&pipelines.entries, &request.sources)? {
            let lookup = entry.normalize(&request.lookup());
            let (planned, wave) = match self.plan_source(entry, &lookup, request, budget.as_ref()).await {
                PlannedLookup::Call(candidate, planned) => {
                    candidates.push((sources.len(), candidate));
                    (planned, 1)
                }
                PlannedLookup::Cached(fetched) => {
                    let age = fetched.receipt.age;
                    outcomes.push(Arc::new(fetched.outcome));
                    (Planned::Cached(age), 0)
                }
                PlannedLookup::NotAsked(not_asked) => (Planned::NotAsked(not_asked), 0),
            };
            let (source, kind) = (entry.name().to_owned(), entry.source.settings.kind.clone());
            sources.push(PlannedSource { source, kind, planned, wave });
        }
        let indicator_type = request.indicator.indicator_type();
        let prospect = Prospect::new(&policies, indicator_type, self.clock.now(), outcomes);
        let pin = self.active_feedback(&request.indicator).pin;
        plan_waves(&mut sources, candidates, &prospect, request.mode, pin.as_ref());
        let left = budget.map(|day| day.limit.saturating_sub(day.used));
        Ok(EnrichmentPlan::new(sources, request.mode, left))
    }

    /// The policies that judge a request.
    pub(super) fn policies_of(&self, request: &EnrichRequest) -> Result<RequestPolicies, Error> {
        let compared = request.compare_policies.iter().map(|name| self.policy(Some(name)));
        Ok(RequestPolicies {
            first: self.policy(request.policy.as_deref())?,
            compared: compared.collect::<Result<_, _>>()?,
        })
    }

    async fn plan_source(
        &self,
        entry: &SourceEntry,
        lookup: &Lookup,
        request: &EnrichRequest,
        budget: Option<&WindowUse>,
    ) -> PlannedLookup {
        let pipeline = match self.decide(entry, lookup, request).await {
            Decision::Ask(pipeline) => pipeline,
            Decision::Cached(fetched) => return PlannedLookup::Cached(fetched),
            Decision::NotAsked(not_asked) => return PlannedLookup::NotAsked(not_asked),
        };
        if let Some(cached) = pipeline.cached(lookup, request.max_age).await {
            return PlannedLookup::Cached(Box::new(cached));
        }
        let quota = pipeline.quota_usage().await;
        let spent = budget.filter(|day| entry.is_remote() && day.used >= day.limit);
        let spent = spent.map(|day| over_budget(&request.caller, day));
        match pipeline.quota_refusal(request.priority, &quota).or(spent) {
            Some(not_asked) => PlannedLookup::NotAsked(not_asked),
            None => {
                let candidate = entry.candidate(pipeline, lookup, &quota, request.priority);
                // Units are also stated for a source without windows: its service may have a quota that is not
                // configured here.
                let Price { units, max_units, .. } = candidate.price;
                let units_left = pipeline.units_left(request.priority, &quota);
                let discloses = entry.is_remote();
                PlannedLookup::Call(candidate, Planned::Call { units, max_units, quota, units_left, discloses })
            }
        }
    }

    /// The entries with these names, or all if `names` is empty, in order of name.
    pub(super) fn named<'a>(
        &self,
        entries: &'a [SourceEntry],
        names: &[String],
    ) -> Result<Vec<&'a SourceEntry>, Error> {
        if let Some(unknown) = names.iter().find(|name| !entries.iter().any(|entry| entry.name() == *name)) {
            return Err(self.registry.not_found(unknown));
        }
        let is_named = |entry: &&SourceEntry| names.is_empty() || names.iter().any(|name| entry.name() == name);
        Ok(entries.iter().filter(is_named).collect())
    }

    /// Applies the rules before anything is sent. A cached answer may be used even if the rules forbid a call, since
    /// using it discloses nothing.
    pub(super) async fn decide<'a>(
        &self,
        entry: &'a SourceEntry,
        lookup: &Lookup,
        request: &EnrichRequest,
    ) -> Decision<'a> {
        let source = &entry.source;
        if let Some(not_asked) = withhold::unsupported_reason(source, &lookup.indicator) {
            return Decision::NotAsked(not_asked);
        }
        let pipeline = match &entry.pipeline {
            Ok(pipeline) => pipeline,
            Err(error) => {
                return Decision::NotAsked(NotAsked::new(NotAskedReason::NotConfigured, error.detail.clone()));
            }
        };
        match withhold::withhold_reason(&self.rules, source, &lookup.indicator, request.tlp) {
            Some(not_asked) => match pipeline.cached_in_part(lookup, request.max_age).await {
                Some((cached, _)) => Decision::Cached(Box::new(cached)),
                None => Decision::NotAsked(not_asked),
            },
            None => Decision::Ask(pipeline),
        }
    }
}
