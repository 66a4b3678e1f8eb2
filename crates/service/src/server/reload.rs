//! Brings a changed configuration into effect while the server runs: callers, rules, policies and sources. A configuration
//! that cannot be used changes nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::rules;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::rpc::auth::Authenticator;
use crate::settings::{Config, ConfigReader, NeverSendRules, PolicyRegistry, Registry};

/// How often the file is looked at. Its content is compared, so that neither a coarse time stamp nor a replaced file or link
/// matters.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What a reload changes.
pub(super) struct Reloader {
    config: Config,
    never_send: Arc<NeverSendRules>,
    registry: Arc<Registry>,
    policies: Arc<PolicyRegistry>,
    engine: Arc<Engine>,
    authenticator: Authenticator,
}

impl Reloader {
    pub(super) fn new(
        config: Config,
        never_send: Arc<NeverSendRules>,
        registry: Arc<Registry>,
        policies: Arc<PolicyRegistry>,
        engine: Arc<Engine>,
        authenticator: Authenticator,
    ) -> Self {
        Self { config, never_send, registry, policies, engine, authenticator }
    }

    /// Reloads until the server stops.
    pub(super) async fn run(
        mut self,
        mut reader: ConfigReader,
        mut signals: Signal,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) {
        loop {
            let is_asked = tokio::select! {
                () = stop.cancelled() => return,
                _ = signals.recv() => true,
                () = clock.sleep(LOOK_INTERVAL) => false,
            };
            // Reading takes as long as the disk does.
            let read = tokio::task::spawn_blocking(move || {
                let read = (is_asked || reader.has_changed()).then(|| reader.read());
                (reader, read)
            });
            let read = match read.await {
                Ok((returned, read)) => {
                    reader = returned;
                    read
                }
                Err(error) => return error!(%error, "the configuration is not watched any more"),
            };
            let result = match read {
                None => continue,
                Some(Ok(next)) => self.apply(next).await,
                Some(Err(errors)) => Err(errors.to_string()),
            };
            let outcome = if result.is_ok() { "applied" } else { "refused" };
            metrics::counter!("concord_configuration_reloads_total", "outcome" => outcome).increment(1);
            if let Err(why) = result {
                error!(why, "the changed configuration is not used; the server goes on with the old one");
            }
        }
    }

    async fn apply(&mut self, next: Config) -> Result<(), String> {
        let needs_restart = self.config.needs_restart(&next).join(", ");
        let next = self.config.reloaded(next);
        // The policies are the only part that may be refused, so they come first; the registry comes last, because with it
        // verdicts under the old rules are no longer reused.
        self.policies.reload(&next).await.map_err(|error| error.to_string())?;
        self.authenticator.replace(next.tokens.clone());
        self.never_send.reload(&next).await;
        self.engine.set_rules(rules(&next, self.never_send.clone()));
        self.registry.reload(&next).await.map_err(|error| error.to_string())?;
        let (sources, policies, tokens) = (next.sources.len(), next.policies.len(), next.tokens.len());
        info!(sources, policies, tokens, "the configuration was read again");
        if !needs_restart.is_empty() {
            warn!(settings = needs_restart, "these settings have changed, but take effect only after a restart");
        }
        self.config = next;
        Ok(())
    }
}
