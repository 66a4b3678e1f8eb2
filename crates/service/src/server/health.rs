//! Health by `grpc.health.v1`: of each service and of the server as a whole, which is the health of the store, and of each
//! source as a service named `sources/virustotal`, so that an orchestrator or a monitor learns of a refused credential. A
//! source that cannot be asked never makes the server unhealthy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::clock::{Clock, SystemClock};
use crate::convert::verdict::source_name;
use crate::engine::Engine;
use crate::pb;

/// How often the sources are checked.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Reports this health for every service, and for the server as a whole.
pub(super) async fn report(reporter: &HealthReporter, status: ServingStatus) {
    let services: BTreeSet<_> = pb::METHOD_PATHS.iter().filter_map(|path| path.split('/').nth(1)).collect();
    for service in services.into_iter().chain([""]) {
        reporter.set_service_status(service, status).await;
    }
}

/// Reports the health of the sources.
pub(super) struct SourceHealth {
    engine: Arc<Engine>,
    reporter: HealthReporter,
    /// What was reported of each.
    reported: BTreeMap<String, bool>,
}

impl SourceHealth {
    /// Reports every source as it is now.
    pub(super) async fn start(engine: Arc<Engine>, reporter: HealthReporter) -> Self {
        let mut health = Self { engine, reporter, reported: BTreeMap::new() };
        health.report().await;
        health
    }

    /// Reports every change until the server stops.
    pub(super) async fn watch(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = SystemClock.sleep(CHECK_EVERY) => self.report().await,
            }
        }
        for source in self.reported.keys() {
            self.reporter.set_service_status(source_name(source), ServingStatus::NotServing).await;
        }
    }

    async fn report(&mut self) {
        let current = self.engine.askable_sources();
        for source in self.reported.keys().filter(|source| !current.contains_key(*source)) {
            self.reporter.clear_service_status(&source_name(source)).await;
        }
        for (source, is_askable) in current.iter().filter(|(source, now)| self.reported.get(*source) != Some(now)) {
            let status = if *is_askable { ServingStatus::Serving } else { ServingStatus::NotServing };
            self.reporter.set_service_status(source_name(source), status).await;
        }
        self.reported = current;
    }
}
