//! Logs and metrics. Nothing that is logged or counted holds a credential, a token, or the text of a request.

use std::io::IsTerminal;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::settings::{LogFormat, LogSettings};

/// The paths by which modules may begin.
const CRATES: [&str; 4] = ["concord::", "concord_core::", "concord_engine::", "concord_service::"];

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Sends logs to standard error in the format of the settings. A second call changes nothing.
pub fn init_logs(settings: &LogSettings) {
    let filter = EnvFilter::try_new(in_each_crate(&settings.filter)).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    let done = match settings.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Pretty => builder.try_init(),
    };
    if let Err(error) = done {
        tracing::debug!(%error, "logs were set up before");
    }
}

/// A filter that says of each crate what it says of the program, since users know modules (`concord::fetch`) and not in which crate
/// they are.
fn in_each_crate(filter: &str) -> String {
    CRATES.map(|name| filter.replace("concord::", name)).join(",")
}

/// The process's metrics in Prometheus's text format.
pub fn render_metrics() -> String {
    handle().render()
}

/// Begins to count, and folds together what was counted. Metrics are the process's, so that a second server in it counts
/// into the same.
pub fn upkeep() {
    handle().run_upkeep();
}

fn handle() -> &'static PrometheusHandle {
    METRICS.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another recorder of metrics was set before: /metrics stays empty");
        }
        handle
    })
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn a_filter_that_names_a_module_of_the_program_holds_in_whatever_crate_it_is() {
        let filter = EnvFilter::new(in_each_crate("warn,concord::fetch=debug,concord::server=info,hyper=error"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(filter), || {
            assert!(enabled!(target: "concord_engine::fetch::retry", Level::DEBUG));
            assert!(enabled!(target: "concord_service::server", Level::INFO));
            assert!(!enabled!(target: "concord_service::server", Level::DEBUG));
            assert!(enabled!(target: "concord_service::rpc", Level::WARN), "by the level of all");
            assert!(!enabled!(target: "concord_service::rpc", Level::INFO));
            assert!(!enabled!(target: "hyper::client", Level::WARN), "others are as they were");
        });
    }
}
