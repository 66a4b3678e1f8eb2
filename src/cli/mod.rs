//! The command line: itself a gRPC client of the server, and the way to start one.
//!
//! `args.rs` says what can be written, `connect.rs` finds or starts a server, one file per command group does the rest,
//! `table` lays out what people read. Machines read what `export` writes.

use std::fmt;
use std::process::ExitCode;

use clap::Parser;

use crate::server::StartError;

mod args;
mod connect;
mod enrich;
mod history;
mod input;
mod plan;
mod serve;
mod source;
mod store;

pub use args::Args;
use args::Command;

/// Why a command failed, in words for whoever typed it.
#[derive(Debug)]
pub struct Failure {
    text: String,
    /// Whether the server was gone before it took the call, so that another may.
    lost: bool,
}

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), lost: false }
    }

    /// A file or stream that could not be used.
    fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::new(format!("{what}: {error}"))
    }

    /// The same, after part of the work was done and shown: it is not begun anew.
    fn midway(self) -> Self {
        Self { lost: false, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let text = match (status.message(), status.code()) {
            ("", code) => format!("{code:?}"),
            (message, tonic::Code::Unauthenticated) => format!("{message} (--token, or CONCORD_TOKEN)"),
            (message, _) => message.to_owned(),
        };
        // What lies below gRPC (a refused certificate) is the cause that helps.
        let mut cause = std::error::Error::source(&status);
        let mut last = None;
        while let Some(error) = cause {
            last = Some(error.to_string());
            cause = error.source();
        }
        // A cause is only where the transport failed: what a server answers has none.
        let lost = last.is_some();
        Self { text: last.map_or_else(|| text.clone(), |last| format!("{text}: {last}")), lost }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(error.0)
    }
}

impl From<crate::demo::DemoError> for Failure {
    fn from(error: crate::demo::DemoError) -> Self {
        Self::new(error.to_string())
    }
}

/// Writes to standard output, in colour only on a terminal. Whoever reads no further (`| head`) ends the program quietly.
fn say(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        done => done.map_err(|error| Failure::io("standard output", &error)),
    }
}

/// Runs what the arguments say.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("concord: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(args)) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("concord: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<ExitCode, Failure> {
    let Args { client, command } = args;
    match command {
        Command::Serve(serve) => serve::run(&client, &serve).await,
        Command::Enrich(enrich) => enrich::run(&client, enrich).await,
        Command::Source { command } => source::run(&client, command).await,
        Command::Verdict { command } => history::verdicts(&client, command).await,
        Command::Plan(options) => plan::run(&client, options).await,
        Command::Usage { sources } => plan::usage(&client, sources).await,
        Command::Disclosures(filter) => history::disclosures(&client, filter).await,
        Command::Store { command } => store::run(&client, command).await,
        Command::Demo { keep } => {
            crate::demo::run(keep, &mut anstream::stdout()).await.map(|()| ExitCode::SUCCESS).map_err(Failure::from)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut <Args as clap::CommandFactory>::command(), "concord", &mut script);
            say(&String::from_utf8_lossy(&script)).map(|()| ExitCode::SUCCESS)
        }
    }
}
