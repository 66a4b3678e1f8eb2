//! `concord serve`.

use std::process::ExitCode;
use std::sync::Arc;

use super::args::{Client, Serve};
use super::connect::{config, input};
use super::{Failure, print};
use crate::clock::SystemClock;
use crate::finding::counted;
use crate::server::{Listen, Running, hang_ups, termination};
use crate::settings::{ConfigReader, Flags};
use crate::sources;
use crate::telemetry;

/// Runs a server until it is terminated, or checks or prints its configuration.
pub(super) async fn run(client: &Client, serve: &Serve) -> Result<ExitCode, Failure> {
    let flags =
        Flags { listen: serve.listen, insecure_listen: serve.insecure_listen, listens: true, ..Flags::default() };
    let config = config(client, flags.clone())?;
    if serve.print_config {
        print(&config.render_masked())?;
        return Ok(ExitCode::SUCCESS);
    }
    if serve.check_config {
        crate::server::check(&config)?;
        for (name, reason) in config.unready(sources::all()) {
            print(&format!("sources.{name} cannot be asked: {reason}\n"))?;
        }
        for (name, warning) in config.warnings(sources::all()) {
            print(&format!("warning: sources.{name}: {warning}\n"))?;
        }
        if let Some(warning) = config.policy_warning() {
            print(&format!("warning: {warning}\n"))?;
        }
        let declared = counted(config.sources.len(), "source");
        print(&format!("the configuration is valid: {declared} declared\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    telemetry::init_logs(&config.log);
    let terminated = termination().map_err(|error| Failure::io("signals", &error))?;
    let hang_ups = hang_ups().map_err(|error| Failure::io("signals", &error))?;
    let reader = ConfigReader::new(&config, &input(client, flags));
    let mut running = Running::start(&config, sources::all(), Arc::new(SystemClock), Listen::Everywhere).await?;
    running.reload_from(reader, hang_ups);
    terminated.await;
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}
