//! The arguments of the command line. Doc comments here are the text of `--help`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args as ClapArgs, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

pub(super) use super::output::{GraphFormat, ListOutput, Output};
pub(super) use super::policy_args::{Policy, PolicySet};
use super::source_flags::SourceFlags;
use super::verdict_table::Detail;
use crate::indicator::{IndicatorType, Tlp};
use crate::source::{Priority, parse_duration};

mod feedback;
mod history;
mod never_send;
mod submission;

pub(super) use feedback::{Feedback, Judgement, Record};
pub(super) use history::{Compare, CompareHistory, Disclosures, HistoryArgs, Replay, Verdict, VerdictList};
pub(super) use never_send::NeverSend;
pub(super) use submission::{SubmissionCommand, Submit, SubmitArgs};

/// What do all your intelligence sources, weighed by how far you trust each, say of this indicator, and why?
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
pub(super) struct Args {
    /// When to colour what is printed
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub(super) color: ColorChoice,
    #[command(flatten)]
    pub(super) client: Client,
    #[command(subcommand)]
    pub(super) command: Command,
}

impl Args {
    /// The arguments of this process.
    pub(super) fn from_process() -> Self {
        let mut command = Self::documented();
        let matches = command.get_matches_mut();
        let used = refuse_unused(&mut command, &matches);
        used.and_then(|()| Self::from_arg_matches(&matches)).unwrap_or_else(|error| error.exit())
    }

    /// The command, whose help shows how to connect only where that means something.
    pub(super) fn documented() -> clap::Command {
        let mut command = Self::command();
        command.build();
        let connection = |arg: &clap::Arg| arg.get_help_heading() == Some(CONNECTION);
        let place = |arg: &clap::Arg| matches!(arg.get_id().as_str(), "config" | "data_directory");
        for name in ["completions", "demo"] {
            command = command
                .mut_subcommand(name, |sub| sub.mut_args(|arg| if connection(&arg) { arg.hide(true) } else { arg }));
        }
        for name in ["serve", "store"] {
            command = command.mut_subcommand(name, |sub| {
                sub.mut_args(|arg| if connection(&arg) && !place(&arg) { arg.hide(true) } else { arg })
            });
        }
        command
    }
}

/// Refuses arguments that the help of a command does not show, since the command does not use them. Variables of the
/// environment may be meant for other commands and are let through. `store` refuses by itself what it does not use.
fn refuse_unused(command: &mut clap::Command, matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some((name @ ("completions" | "demo" | "serve"), given)) = matches.subcommand() else { return Ok(()) };
    let Some(sub) = command.find_subcommand_mut(name) else { return Ok(()) };
    let is_given = |arg: &&clap::Arg| given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let unused = sub.get_arguments().filter(|arg| arg.is_hide_set()).find(is_given);
    match unused.map(|arg| arg.get_long().unwrap_or_default()) {
        Some(long) => Err(sub.error(ErrorKind::ArgumentConflict, format!("`concord {name}` does not use --{long}"))),
        None => Ok(()),
    }
}

/// Heading of the arguments that say where the server is.
const CONNECTION: &str = "Connection";

/// Where the server is.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = CONNECTION)]
pub(super) struct Client {
    /// Server to talk to, http://HOST:PORT or https://HOST:PORT. Without it: the server that runs on the data directory;
    /// if none does, the command is its own server, and others on the same directory wait until it ends
    #[arg(long, global = true, env = "CONCORD_SERVER", value_name = "URL")]
    pub(super) server: Option<String>,
    /// Use the data directory of this machine, even if --server or CONCORD_SERVER names a server
    #[arg(long, global = true)]
    pub(super) local: bool,
    /// Bearer token for the server. Give it by the environment, where other users cannot see it
    #[arg(long, global = true, env = "CONCORD_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(super) token: Option<String>,
    /// PEM of the authority to trust for an https server in place of the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// PEM of the client certificate for a server that wants one
    #[arg(long, global = true, value_name = "FILE", requires = "client_key")]
    pub(super) client_certificate: Option<PathBuf>,
    /// PEM of the key of the client certificate
    #[arg(long, global = true, value_name = "FILE", requires = "client_certificate")]
    pub(super) client_key: Option<PathBuf>,
    /// Configuration file
    #[arg(long, global = true, env = "CONCORD_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Directory of the database, the key and the socket
    #[arg(long, global = true, env = "CONCORD_DATA_DIRECTORY", value_name = "DIRECTORY")]
    pub(super) data_directory: Option<PathBuf>,
}

impl Client {
    /// The server to talk to over the network, if any.
    pub(super) fn remote(&self) -> Option<&str> {
        self.server.as_deref().filter(|_| !self.local)
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the server
    Serve(Serve),
    /// Ask about indicators
    Enrich(Enrich),
    /// Show, set and test sources
    Source {
        #[command(subcommand)]
        command: Source,
    },
    /// Show, make and compare policies
    Policy {
        #[command(subcommand)]
        command: Policy,
    },
    /// Read verdicts made before
    Verdict {
        #[command(subcommand)]
        command: Verdict,
    },
    /// Say what the history of verdicts tells of the sources
    Compare {
        #[command(subcommand)]
        command: Compare,
    },
    /// Judge verdicts of the history again under other settings, without asking anybody
    Replay(Replay),
    /// Record, list and retract what analysts say of indicators
    Feedback {
        #[command(subcommand)]
        command: Feedback,
    },
    /// List, add and delete rules for what is never sent to a remote source
    NeverSend {
        #[command(subcommand)]
        command: NeverSend,
    },
    /// Give a file or URL to a source for analysis, which makes it public
    Submit {
        #[command(subcommand)]
        command: Submit,
    },
    /// List, show, watch, approve and reject submissions
    Submission {
        #[command(subcommand)]
        command: SubmissionCommand,
    },
    /// Show which sources would be asked and what it would cost, without asking
    Plan(Plan),
    /// Draw which indicators an indicator is related to
    Graph(Graph),
    /// Show quota used and left, and the calls saved
    Usage(Usage),
    /// Show what was disclosed to whom, when and on whose behalf
    Disclosures(Disclosures),
    /// Look after the store
    Store {
        #[command(subcommand)]
        command: Store,
    },
    /// Show the main job on a replay of seven kinds, without any key or network
    Demo {
        /// Leave the server running for a client to try
        #[arg(long)]
        keep: bool,
    },
    /// Print completions for a shell
    #[command(after_help = "Examples:\n  concord completions bash > /etc/bash_completion.d/concord")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  concord serve --config concord.toml
  concord serve --check-config")]
pub(super) struct Serve {
    /// Address to listen on [default: 127.0.0.1:7700]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) listen: Option<SocketAddr>,
    /// Listen beyond loopback without TLS and tokens
    #[arg(long)]
    pub(super) insecure_listen: bool,
    /// Check the configuration and end
    #[arg(long)]
    pub(super) check_config: bool,
    /// Print the configuration in effect, secrets masked, and end
    #[arg(long)]
    pub(super) print_config: bool,
}

/// The indicators and how to enrich them.
#[derive(Clone, Debug, ClapArgs)]
pub(super) struct EnrichArgs {
    /// Indicators, defanged or not. A path to a file is hashed here and never sent; - reads lines from standard input
    pub(super) values: Vec<String>,
    /// Read indicators from a file, one a line
    #[arg(long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// What the indicators are, where that is not to be guessed: ip, domain, url or file
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "extract")]
    pub(super) indicator_type: Option<IndicatorType>,
    /// Pull indicators out of pasted text instead of taking each line as one
    #[arg(long)]
    pub(super) extract: bool,
    #[command(flatten)]
    pub(super) lookup: LookupArgs,
}

/// Whom to ask, and how far and how long.
#[derive(Clone, Debug, ClapArgs)]
pub(super) struct LookupArgs {
    /// Ask only these sources; separated by commas, or repeated
    #[arg(long = "source", value_name = "NAME", value_delimiter = ',')]
    pub(super) sources: Vec<String>,
    /// How far the indicators may be passed on
    #[arg(long, default_value = "amber", value_name = "TLP")]
    pub(super) tlp: Tlp,
    /// How old a cached answer may be; 0s asks anew [default: as old as each source allows]
    #[arg(long, value_parser = parse_duration, value_name = "AGE")]
    pub(super) max_age: Option<Duration>,
    /// interactive or background, which leaves the reserve of each quota to people [default: background with more than five
    /// indicators]
    #[arg(long)]
    pub(super) priority: Option<Priority>,
    /// How much of what the sources could say is wanted [default: complete; decisive from ten indicators on]
    #[arg(long, value_enum)]
    pub(super) mode: Option<Mode>,
    /// Most quota units to spend on each indicator, 0 to 1000; with the mode frugal
    #[arg(long, value_name = "UNITS", value_parser = clap::value_parser!(u32).range(0..=1000), required_if_eq("mode", "frugal"))]
    pub(super) budget: Option<u32>,
    /// Time for the answer; with more than five indicators each has the server's own time
    #[arg(long, value_parser = read_timeout, default_value = "10s", value_name = "TIME")]
    pub(super) timeout: Duration,
}

/// How much of what the sources could say is wanted.
#[derive(Clone, Copy, Debug, clap::ValueEnum, PartialEq, Eq)]
pub(super) enum Mode {
    /// Ask every source that fits
    Complete,
    /// Ask in waves until no answer can change the disposition
    Decisive,
    /// As decisive, for at most --budget quota units
    Frugal,
}

/// How much of a verdict a table shows.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub(super) struct DetailArgs {
    /// Show every term of the sum in a sentence, the verdict without each source, and all that would change it
    #[arg(long, conflicts_with = "wide")]
    pub(super) explain: bool,
    /// Show every source with every column
    #[arg(long)]
    pub(super) wide: bool,
}

impl DetailArgs {
    pub(super) fn detail(self) -> Detail {
        match self {
            Self { explain: true, .. } => Detail::Explain,
            Self { wide: true, .. } => Detail::Wide,
            Self { .. } => Detail::Compact,
        }
    }
}

#[derive(Debug, ClapArgs)]
#[command(after_help = ENRICH_HELP)]
pub(super) struct Enrich {
    #[command(flatten)]
    pub(super) options: EnrichArgs,
    /// Policy that judges; `concord policy list` has them [default: the server's]
    #[arg(long, value_name = "NAME")]
    pub(super) policy: Option<String>,
    /// Show what these policies make of the same answers: after =, separated by commas (--compare=xsoar,worst). Alone: all
    /// that are built in
    #[arg(long, value_name = "NAMES", value_delimiter = ',', num_args = 0..=1, require_equals = true, default_missing_value = "weighted,xsoar,worst,majority,mean")]
    pub(super) compare: Vec<String>,
    #[command(flatten)]
    pub(super) detail: DetailArgs,
    /// What to print
    #[arg(long, short, value_enum, default_value = "table")]
    pub(super) output: Output,
    /// One line an indicator in the table; the default from ten indicators on
    #[arg(long, conflicts_with = "long")]
    pub(super) short: bool,
    /// The whole table of each indicator, also from ten on
    #[arg(long)]
    pub(super) long: bool,
    /// Show in the table what the sources report beside their claims, and their own pages
    #[arg(long)]
    pub(super) facts: bool,
    /// Show of one indicator what each source says as it answers, and whether the others can still change the disposition
    #[arg(long, conflicts_with_all = ["file", "extract", "short", "long", "wait", "out", "resume"])]
    pub(super) stream: bool,
    /// Wait for quota, at most this long, and ask again what it held back
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(super) wait: Option<Duration>,
    /// Write the answers to a new file, in the order of the indicators; with -o jsonl or -o csv
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Go on after the last whole answer in the file of --out, with the same indicators; begins where there is no file
    #[arg(long, requires = "out")]
    pub(super) resume: bool,
    /// End with a code for the worst that was found; 0 only where all is benign
    #[arg(long)]
    pub(super) exit_code: bool,
}

const ENRICH_HELP: &str = "\
Exit codes with --exit-code, the worst first; the worst of all indicators counts:
  20  malicious
  10  suspicious
   1  an indicator was refused, or the command failed
   5  nobody was asked about an indicator, so nothing is known of it
   4  partial: a source that was meant to speak did not
   3  unknown
   0  benign, every one
Without it: 0, or 1 where an indicator was refused or the command failed. Wrong arguments: 2.

Examples:
  concord enrich 'hxxp://files[.]example[.]com/invoice.exe' --facts
  concord enrich --file indicators.txt --wait 1h -o jsonl
  concord enrich --file a-million.txt -o csv --out answers.csv --resume
  pbpaste | concord enrich --extract - --source virustotal,urlhaus
  concord enrich 192.0.2.77 --explain --compare
  concord enrich 192.0.2.77 --stream
  concord enrich ./sample.bin --exit-code";

/// The indicators to plan for, as they would be enriched.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Quota is used up from one indicator to the next, as the look-ups would; asking twice costs once.

Examples:
  concord plan 192.0.2.77
  concord plan --file indicators.txt -o json")]
pub(super) struct Plan {
    #[command(flatten)]
    pub(super) options: EnrichArgs,
    /// What to print
    #[arg(long, short, value_enum, default_value = "table")]
    pub(super) output: ListOutput,
}

/// The indicator whose relations are drawn.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Without --max-calls the graph holds what the sources name anyway. Each call costs what a look-up costs: `concord usage`.

Examples:
  concord graph files.example.com --out graph.svg
  concord graph 192.0.2.77 --relation communicating_files --max-calls 10 --out graph.svg
  concord graph ./sample.bin --depth 2 --max-calls 20 --output mermaid
  concord graph files.example.com -o dot | dot -Tpng > graph.png")]
pub(super) struct Graph {
    /// The indicator, defanged or not. A path to a file is hashed here and never sent
    #[arg(value_name = "INDICATOR")]
    pub(super) value: String,
    /// What the indicator is, where that is not to be guessed: ip, domain, url or file
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) indicator_type: Option<IndicatorType>,
    /// How far to walk: 1 for the indicators that it is related to, 2 for those that they are related to, at most 3
    #[arg(long, default_value = "1", value_name = "STEPS", value_parser = clap::value_parser!(u32).range(1..=3))]
    pub(super) depth: u32,
    /// Calls that may be made beyond the report on the indicator itself, at most 100
    #[arg(long, default_value = "0", value_name = "CALLS", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(super) max_calls: u32,
    /// Ask for these relationships, by the sources' own names; separated by commas, or repeated [default: those that each
    /// source's settings want]
    #[arg(long = "relation", value_name = "NAME", value_delimiter = ',')]
    pub(super) relations: Vec<String>,
    #[command(flatten)]
    pub(super) lookup: LookupArgs,
    /// What to write [default: what the name of --out says, else svg]
    #[arg(long, short, value_enum)]
    pub(super) output: Option<GraphFormat>,
    /// File to write, anew where it exists [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  concord usage\n  concord usage virustotal -o json")]
pub(super) struct Usage {
    /// Names of sources; none: all
    #[arg(value_delimiter = ',')]
    pub(super) sources: Vec<String>,
    /// What to print
    #[arg(long, short, value_enum, default_value = "table")]
    pub(super) output: ListOutput,
}

#[derive(Debug, Subcommand)]
pub(super) enum Source {
    /// List the sources and their state
    List {
        /// What to print
        #[arg(long, short, value_enum, default_value = "table")]
        output: ListOutput,
    },
    /// List the kinds of sources and their options
    Kinds {
        /// Only this kind, with all its options
        kind: Option<String>,
        /// What to print
        #[arg(long, short, value_enum, default_value = "table")]
        output: ListOutput,
    },
    /// Create a source or change some of its settings
    #[command(after_help = "\
Examples:
  concord source set virustotal --credential-env VIRUSTOTAL_API_KEY --quota minute=4,day=500
  concord source set vt-premium --kind virustotal --tier premium --reliability A --credential-file -
  concord source set virustotal --option malicious_threshold_ip=5 --validate-only
  concord source set virustotal --reset options.malicious_threshold_ip")]
    Set(Box<SourceSet>),
    /// Show one source
    Get {
        /// Its name
        name: String,
        /// What to print
        #[arg(long, short, value_enum, default_value = "table")]
        output: ListOutput,
    },
    /// Ask one harmless question: connectivity, credential, quota
    Test {
        /// Its name
        name: String,
    },
    /// Delete a source that was made over the API
    Delete {
        /// Its name
        name: String,
    },
    /// Print the settings of a VirusTotal integration of Cortex XSOAR as a source for concord.toml
    #[command(
        name = "import-xsoar",
        after_help = "Examples:
  concord source import-xsoar instance.json >> concord.toml
  concord source import-xsoar --name vt-premium instance.json"
    )]
    ImportXsoar {
        /// The exported instance, as JSON; - for standard input
        file: std::path::PathBuf,
        /// The name of the source
        #[arg(long, default_value = "virustotal")]
        name: String,
    },
}

#[derive(Debug, ClapArgs)]
pub(super) struct SourceSet {
    /// Its name
    pub(super) name: String,
    /// Its kind, when it is new [default: its name]
    #[arg(long)]
    pub(super) kind: Option<String>,
    #[command(flatten)]
    pub(super) fields: SourceFlags,
    /// Environment variable that holds the credential
    #[arg(long, value_name = "NAME", conflicts_with = "credential_file")]
    pub(super) credential_env: Option<String>,
    /// File that holds the credential; - reads it from standard input
    #[arg(long, value_name = "FILE")]
    pub(super) credential_file: Option<PathBuf>,
    /// PEM of the authorities to trust for it
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// Option of its kind, NAME=VALUE; lists as JSON; may be repeated
    #[arg(long = "option", value_name = "NAME=VALUE")]
    pub(super) options: Vec<String>,
    /// Take back a setting made over the API, by its path; may be repeated
    #[arg(long, value_name = "PATH")]
    pub(super) reset: Vec<String>,
    /// Only check what would be in effect
    #[arg(long)]
    pub(super) validate_only: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Store {
    /// Remove what has outlived the retention. A running server does so every hour
    Prune,
    /// Write a copy of the store, also beside a running server
    Backup {
        /// File to write; must not exist
        to: PathBuf,
    },
}

fn read_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        time if !time.is_zero() && time <= Duration::from_secs(3600) => Ok(time),
        _ => Err("must be more than nothing and at most 1h".into()),
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        number => number.map_err(|_| "must be a whole number, at least 1".into()),
    }
}
