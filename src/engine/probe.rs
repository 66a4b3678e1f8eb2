//! The Test button: one harmless question with saved or unsaved settings.

use std::sync::Arc;
use std::time::Duration;

use super::{Budget, Engine};
use crate::finding::{SourceError, SourceErrorKind};
use crate::settings::{ResolvedSource, State};
use crate::source::Probe;

/// What a test learned, and how long it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Probed {
    /// What was learned.
    pub probe: Probe,
    /// Time that it took.
    pub latency: Duration,
}

impl Engine {
    /// Tests a source with these settings. A failure of the source is data in the answer.
    pub async fn probe(&self, source: &ResolvedSource, caller: &str, budget: Budget) -> Probed {
        let started = self.clock.now();
        let probe = match &source.state {
            State::NotConfigured(missing) => unasked(SourceErrorKind::Unauthorized, missing),
            State::Active | State::Disabled => {
                let left = budget.fetch_until.duration_since(started).unwrap_or_default();
                tokio::select! {
                    probe = self.ask(source, caller) => probe,
                    () = self.clock.sleep(left) => unasked(SourceErrorKind::Timeout, "no answer before the deadline"),
                }
            }
        };
        Probed { probe, latency: self.clock.now().duration_since(started).unwrap_or_default() }
    }

    /// Asks, and pays the strictest windows of everybody who shares the account: a test with other settings costs the
    /// source the same.
    async fn ask(&self, source: &ResolvedSource, caller: &str) -> Probe {
        // A list costs nothing, and the one to test is the copy in use.
        if !source.kind.about().transport.is_outside()
            && let Some(stack) = self.pipelines.of(&source.settings)
        {
            return stack.probe(caller).await;
        }
        let mut settings = (*source.settings).clone();
        settings.quota = self.pipelines.strictest(&settings, source.source.as_ref());
        let source = ResolvedSource { settings: Arc::new(settings), ..source.clone() };
        match self.pipelines.build(&source, source.family(), self.pipelines.tally(&source.settings.name)) {
            Ok(stack) => stack.probe(caller).await,
            Err(error) => unasked(error.kind, &error.detail),
        }
    }
}

/// What was learned where nothing could be asked, or nothing came.
fn unasked(kind: SourceErrorKind, why: &str) -> Probe {
    Probe::failed(SourceError::new(kind, why))
}
