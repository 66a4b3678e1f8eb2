//! What submissions need of the engine: the way to a source that takes them, and the rules by which an indicator is withheld.

use std::sync::Arc;

use super::withhold::withhold_reason;
use super::{Engine, EnrichRequest, Enriched};
use crate::error::{Error, Reason};
use crate::fetch::{RemotePipeline, SourcePipeline};
use crate::finding::{Finding, NotAsked, OutcomeBody};
use crate::indicator::{Indicator, Tlp};
use crate::settings::{ResolvedSource, State};
use crate::source::SubmissionSource;

/// A source that takes submissions, and the pipeline to it.
pub struct SubmissionRoute {
    source: Arc<ResolvedSource>,
    /// The pipeline, which pays for every question.
    pub pipeline: Arc<RemotePipeline>,
}

impl SubmissionRoute {
    /// What it takes, and how it is asked.
    ///
    /// # Errors
    /// [`Error::NotReady`] if it takes nothing.
    pub fn submissions(&self) -> Result<&dyn SubmissionSource, Error> {
        let title = &self.source.kind.about().title;
        let message = || format!("{title} takes no submissions, or not by this program");
        self.source.source.submissions().ok_or_else(|| not_ready(&self.source.settings.name, message()))
    }
}

fn not_ready(name: &str, message: String) -> Error {
    Error::NotReady { reason: Reason::NotReady, subject: format!("sources/{name}"), message }
}

impl Engine {
    /// The way to the source of this name (without `sources/`), for submissions.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown source, [`Error::NotReady`] for one that cannot be asked or takes nothing.
    pub fn submission_route(&self, name: &str) -> Result<SubmissionRoute, Error> {
        let pipelines = self.pipelines.current();
        let entry = pipelines.find(name).ok_or_else(|| self.registry.not_found(name))?;
        match &entry.source.state {
            State::Active => {}
            State::Disabled => return Err(not_ready(name, "it is switched off in its settings".into())),
            State::NotConfigured(missing) => return Err(not_ready(name, missing.clone())),
        }
        let pipeline = match &entry.pipeline {
            Ok(SourcePipeline::Remote(pipeline)) => pipeline.clone(),
            Ok(SourcePipeline::List(_)) => return Err(not_ready(name, "a list takes no submissions".into())),
            Err(error) => return Err(not_ready(name, error.detail.clone())),
        };
        let route = SubmissionRoute { source: entry.source.clone(), pipeline };
        route.submissions().map(|_| ())?;
        Ok(route)
    }

    /// Why this indicator must not be disclosed to anybody outside: it is internal, has credentials, or a never-send rule
    /// names it.
    pub fn never_disclosed(&self, indicator: &Indicator) -> Option<NotAsked> {
        self.rules.external_reason(indicator)
    }

    /// A verdict on what this source said of an indicator outside of a look-up, stored like any other.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown source or policy, [`Error::Late`] if no time is left.
    pub async fn judge_finding(
        &self,
        request: &EnrichRequest,
        route: &SubmissionRoute,
        finding: Finding,
    ) -> Result<Enriched, Error> {
        let name = &route.source.settings.name;
        let pipelines = self.pipelines.current();
        let entry = pipelines.find(name).ok_or_else(|| self.registry.not_found(name))?;
        let fetched = entry.outcome_without_call(OutcomeBody::Finding(finding), self.clock.now());
        self.judge(request, fetched).await
    }

    /// Why the source of this route must not be asked about this indicator.
    pub fn withheld_from(&self, route: &SubmissionRoute, indicator: &Indicator, tlp: Tlp) -> Option<NotAsked> {
        withhold_reason(&self.rules, &route.source, indicator, tlp)
    }
}
