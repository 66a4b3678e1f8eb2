//! `concord serve`.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::args::{Client, Serve};
use super::connect::config;
use super::{Failure, say};
use crate::clock::SystemClock;
use crate::server::{Listen, Running};
use crate::settings::Flags;
use crate::sources;
use crate::telemetry;

/// Runs a server until it is told to end, or checks or prints its configuration.
pub(super) async fn run(client: &Client, serve: &Serve) -> Result<ExitCode, Failure> {
    if client.server.is_some() {
        return Err(Failure::new("--server: `serve` is a server itself; --listen says where it listens"));
    }
    let flags =
        Flags { listen: serve.listen, insecure_listen: serve.insecure_listen, listens: true, ..Flags::default() };
    let config = config(client, flags)?;
    if serve.print_config {
        say(&config.render_masked())?;
        return Ok(ExitCode::SUCCESS);
    }
    if serve.check_config {
        crate::server::check(&config)?;
        for (name, lack) in config.unready(sources::all()) {
            say(&format!("sources.{name} cannot be asked: {lack}\n"))?;
        }
        let declared = match config.sources.len() {
            1 => "1 source".to_owned(),
            many => format!("{many} sources"),
        };
        say(&format!("the configuration is valid: {declared} declared\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    telemetry::init_logs(&config.log);
    let end = told_to_end()?;
    let running = Running::start(&config, sources::all(), Arc::new(SystemClock), Listen::Everywhere).await?;
    end.await;
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Resolves at SIGINT or SIGTERM. Both are caught from the call on, not only once it is awaited.
fn told_to_end() -> Result<impl Future<Output = ()>, Failure> {
    let failed = |error| Failure::io("signals", &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
