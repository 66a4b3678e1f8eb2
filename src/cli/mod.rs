//! The command line: itself a gRPC client of the server, and the way to start one.
//!
//! `args.rs` declares the arguments, `connect.rs` finds or starts a server, one file per command group does the rest.
//! `table.rs` and `verdict_table.rs` write for people, `json.rs` and `csv.rs` for machines, `graph/` draws.

use std::fmt;
use std::process::ExitCode;

use clap::ColorChoice;

use crate::demo::{DemoError, Renderers};
use crate::server::StartError;

mod answer_file;
mod args;
mod chunks;
mod compare;
mod connect;
mod csv;
mod dbot;
mod diff;
mod enrich;
mod feedback;
mod graph;
mod history;
mod import_xsoar;
mod input;
mod json;
mod never_send;
mod output;
mod plan;
mod plot;
mod policy;
mod policy_args;
mod progress;
mod replay;
mod report;
mod serve;
mod source;
mod source_flags;
mod store;
mod stream;
mod submission;
mod table;
mod verdict_table;

use args::{Args, Command};
use verdict_table::Detail;

/// Why a command failed, in words for the user.
#[derive(Debug)]
struct Failure {
    text: String,
    /// Whether the transport failed, so that there is no answer of the server.
    unanswered: bool,
    /// Whether the same call may succeed a little later: the server was not reached, is stopping or has too much to do.
    retryable: bool,
}

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), unanswered: false, retryable: false }
    }

    /// A file or stream that could not be used.
    fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::new(format!("{what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let text = match (in_commands(status.message()), status.code()) {
            (message, code) if message.is_empty() => format!("{code:?}"),
            (message, tonic::Code::Unauthenticated) => format!("{message} (--token, or CONCORD_TOKEN)"),
            (message, _) => message,
        };
        // A status of the server has no source; the root cause of a transport failure (a refused certificate) helps.
        let is_busy = matches!(status.code(), tonic::Code::Unavailable | tonic::Code::ResourceExhausted);
        match root_cause(&status) {
            Some(cause) => Self { text: format!("{text}: {cause}"), unanswered: true, retryable: true },
            None => Self { retryable: is_busy, ..Self::new(text) },
        }
    }
}

/// A message of the server that names the commands in place of the methods of the protocol.
fn in_commands(message: &str) -> String {
    const METHODS: [(&str, &str); 8] = [
        ("ListFeedback", "`concord feedback list`"),
        ("ListNeverSendRules", "`concord never-send list`"),
        ("ListSourceKinds", "`concord source kinds`"),
        ("ListSources", "`concord source list`"),
        ("ListVerdicts", "`concord verdict list`"),
        ("ListPolicies", "`concord policy list`"),
        ("ListSubmissions", "`concord submission list`"),
        ("RecordFeedback", "`concord feedback record`"),
    ];
    METHODS.iter().fold(message.to_owned(), |text, (method, command)| text.replace(method, command))
}

fn root_cause(error: &dyn std::error::Error) -> Option<String> {
    std::iter::successors(error.source(), |cause| cause.source()).last().map(ToString::to_string)
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(error.0)
    }
}

/// Writes to standard output. Where the reader is gone (`| head`), the program ends quietly.
fn print(text: &str) -> Result<(), Failure> {
    try_print(text, true)
}

/// Writes to standard output. Where the reader is gone, the program ends quietly, or goes on without it.
fn try_print(text: &str, ends_with_reader: bool) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            if ends_with_reader {
                std::process::exit(0);
            }
            Ok(())
        }
        done => done.map_err(|error| Failure::io("standard output", &error)),
    }
}

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    let args = Args::from_process();
    match args.color {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
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
    let Args { client, color: _, command } = args;
    match command {
        Command::Serve(serve) => serve::run(&client, &serve).await,
        Command::Enrich(enrich) if enrich.stream => stream::run(&client, &enrich).await,
        Command::Enrich(enrich) => enrich::run(&client, enrich).await,
        Command::Source { command } => source::run(&client, command).await,
        Command::Policy { command } => policy::run(&client, command).await,
        Command::Verdict { command } => history::verdicts(&client, command).await,
        Command::Compare { command } => compare::run(&client, command).await,
        Command::Replay(replay) => replay::run(&client, &replay).await,
        Command::Feedback { command } => feedback::run(&client, command).await,
        Command::Submit { command } => submission::submit(&client, command).await,
        Command::Submission { command } => submission::run(&client, command).await,
        Command::NeverSend { command } => never_send::run(&client, command).await,
        Command::Plan(plan) => plan::run(&client, plan).await,
        Command::Graph(graph) => graph::run(&client, graph).await,
        Command::Usage(usage) => plan::usage(&client, usage).await,
        Command::Disclosures(filter) => history::disclosures(&client, filter).await,
        Command::Store { command } => store::run(&client, command).await,
        Command::Demo { keep } => {
            let renderers = Renderers {
                verdict: |verdict, receipt| verdict_table::verdict(verdict, receipt, Detail::Compact, false),
                explained: |verdict, receipt| verdict_table::verdict(verdict, receipt, Detail::Explain, false),
                wide: |verdict, receipt| verdict_table::verdict(verdict, receipt, Detail::Wide, false),
                comparisons: |others, verdict| verdict_table::comparisons(others, verdict, Detail::Compact),
                usage: plan::usage_table,
                submission: submission::text,
                graph: graph::draw,
                sources: compare::source_text,
                sources_picture: compare::source_picture,
                letters: compare::letter_table,
                threshold: compare::curve_summary,
                threshold_picture: compare::curve_picture,
                replay: |summary| replay::totals_text(summary),
            };
            match crate::demo::run(keep, &renderers, &mut anstream::stdout()).await {
                Ok(()) | Err(DemoError::ReaderGone) => Ok(ExitCode::SUCCESS),
                Err(error @ DemoError::Failed(_)) => Err(Failure::new(error.to_string())),
            }
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::documented(), "concord", &mut script);
            print(&String::from_utf8_lossy(&script)).map(|()| ExitCode::SUCCESS)
        }
    }
}
