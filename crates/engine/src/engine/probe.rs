//! Tests a source for `TestSource` by asking harmless questions with saved or unsaved settings.

use std::sync::Arc;
use std::time::Duration;

use super::{Budget, Engine};
use crate::fetch::SourcePipeline;
use crate::finding::{SourceError, SourceErrorKind};
use crate::settings::{ResolvedSource, State};
use crate::source::Probe;

/// The result of a test, and how long it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Probed {
    /// The result.
    pub probe: Probe,
    /// Duration of the test.
    pub latency: Duration,
}

impl Engine {
    /// Tests a source with these settings. A failing source is not an error but a result.
    pub async fn probe(&self, source: &ResolvedSource, caller: &str, budget: Budget) -> Probed {
        let started = self.clock.monotonic();
        let probe = match &source.state {
            State::NotConfigured(missing) => failed(SourceErrorKind::Unauthorized, missing),
            State::Active | State::Disabled => match self.pipeline_to_probe(source) {
                Ok(pipeline) => {
                    let probe = self.clock.timeout(budget.fetch_until.since(started), pipeline.probe(caller)).await;
                    probe.unwrap_or_else(|| failed(SourceErrorKind::Timeout, "no answer before the deadline"))
                }
                Err(error) => failed(error.kind, &error.detail),
            },
        };
        Probed { probe, latency: self.clock.monotonic().since(started) }
    }

    fn pipeline_to_probe(&self, source: &ResolvedSource) -> Result<SourcePipeline, SourceError> {
        // A list with saved settings is tested by the copy in use.
        if let Some(pipeline @ SourcePipeline::List(_)) = self.pipelines.find(&source.settings) {
            return Ok(pipeline);
        }
        // Uses the strictest windows of all sources on the account, since a test with other settings spends the same
        // quota.
        let guards = self.pipelines.guards(&source.settings);
        let mut settings = (*source.settings).clone();
        settings.quota = self.pipelines.strictest(&settings, source.source.as_ref());
        self.pipelines.build(&ResolvedSource { settings: Arc::new(settings), ..source.clone() }, guards)
    }
}

/// The result if nothing could be asked, or no answer came.
fn failed(kind: SourceErrorKind, why: &str) -> Probe {
    Probe::failed(SourceError::new(kind, why))
}
