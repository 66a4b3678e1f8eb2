//! The Test button: one harmless question with saved or unsaved settings.

use std::time::Duration;

use crate::settings::Configured;
use crate::source::Access;
use crate::source::Probe;

use super::Engine;

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
    pub async fn probe(&self, source: &Configured, caller: &str) -> Probed {
        let started = self.clock.now();
        let family = source.kind.family(Access { settings: &source.settings });
        let probe = match self.stacks.build(source, family, self.stacks.tally(&source.settings.name)) {
            Ok(stack) => stack.probe(caller).await,
            Err(error) => Probe {
                detail: error.detail.clone(),
                connectivity: Err(error),
                credential_accepted: None,
                tier: None,
                quota_left: Vec::new(),
            },
        };
        Probed { probe, latency: self.clock.now().duration_since(started).unwrap_or_default() }
    }
}
