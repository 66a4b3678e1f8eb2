//! Decides which sources are asked, which answer from the cache, and which are not asked and why. Makes no calls
//! itself.

use std::time::Duration;

use super::pipelines::SourceEntry;
use super::{Engine, EnrichRequest, withhold};
use crate::error::Error;
use crate::fetch::{Fetched, SourcePipeline};
use crate::finding::{NotAsked, NotAskedReason};
use crate::source::Lookup;
use crate::store::WindowUse;

/// The plan for one source.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedSource {
    /// The source's name, without `sources/`.
    pub source: String,
    /// The source's kind.
    pub kind: String,
    /// What would happen.
    pub planned: Planned,
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

impl Engine {
    /// Returns what an enrichment would do, without doing it. Ignores the request's `budget` and `policy`.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown source.
    pub async fn plan(&self, request: &EnrichRequest) -> Result<Vec<PlannedSource>, Error> {
        let pipelines = self.pipelines.current();
        let mut planned = Vec::new();
        for entry in self.named(&pipelines.entries, &request.sources)? {
            planned.push(PlannedSource {
                source: entry.name().to_owned(),
                kind: entry.source.settings.kind.clone(),
                planned: self.plan_source(entry, request).await,
            });
        }
        Ok(planned)
    }

    async fn plan_source(&self, entry: &SourceEntry, request: &EnrichRequest) -> Planned {
        let lookup = entry.normalize(&request.lookup());
        let pipeline = match self.decide(entry, &lookup, request).await {
            Decision::Ask(pipeline) => pipeline,
            Decision::Cached(fetched) => return Planned::Cached(fetched.receipt.age),
            Decision::NotAsked(not_asked) => return Planned::NotAsked(not_asked),
        };
        if let Some(cached) = pipeline.cached(&lookup, request.max_age).await {
            return Planned::Cached(cached.receipt.age);
        }
        let quota = pipeline.quota_usage().await;
        match pipeline.quota_refusal(request.priority, &quota) {
            Some(not_asked) => Planned::NotAsked(not_asked),
            None => {
                let discloses = entry.is_remote();
                // Units are also stated for a source without windows: its service may have a quota that is not
                // configured here.
                let units = u32::from(discloses);
                let max_units = units * entry.source.source.max_questions(&lookup);
                let units_left = pipeline.units_left(request.priority, &quota);
                Planned::Call { units, max_units, quota, units_left, discloses }
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
        match withhold::withhold_reason(&self.rules.load(), source, &lookup.indicator, request.tlp) {
            Some(not_asked) => match pipeline.cached_in_part(lookup, request.max_age).await {
                Some((cached, _)) => Decision::Cached(Box::new(cached)),
                None => Decision::NotAsked(not_asked),
            },
            None => Decision::Ask(pipeline),
        }
    }
}
