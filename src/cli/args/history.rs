//! The arguments of the commands that read the history of verdicts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};

use super::{DetailArgs, ListOutput, Output, positive};
use crate::finding::{Disposition, Reliability};
use crate::indicator::IndicatorType;
use crate::source::parse_duration;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Verdict {
    /// List verdicts, newest first
    List(VerdictList),
    /// Show one verdict
    #[command(visible_alias = "get")]
    Show {
        /// Its name: verdicts/ID, or the ID alone
        name: String,
        /// Show in the table what the sources report beside their claims, and their own pages
        #[arg(long)]
        facts: bool,
        #[command(flatten)]
        detail: DetailArgs,
        /// What to print
        #[arg(long, short, value_enum, default_value = "table")]
        output: Output,
    },
    /// Show what differs between two verdicts on the same indicator, and by what
    #[command(after_help = "Examples:\n  concord verdict diff verdicts/0193a1b2 verdicts/0193c3d4")]
    Diff {
        /// The verdict from which the differences are counted: verdicts/ID, or the ID alone
        before: String,
        /// The verdict to which they lead
        after: String,
        /// What to print
        #[arg(long, short, value_enum, default_value = "table")]
        output: ListOutput,
    },
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  concord verdict list --indicator 192.0.2.77
  concord verdict list --disposition malicious --since 24h -o csv")]
pub(in crate::cli) struct VerdictList {
    /// Only of this indicator
    #[arg(long)]
    pub(in crate::cli) indicator: Option<String>,
    /// Only with this disposition
    #[arg(long)]
    pub(in crate::cli) disposition: Option<Disposition>,
    /// Only those made within this time before now, such as 24h
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(in crate::cli) since: Option<Duration>,
    /// Most entries to show
    #[arg(long, default_value = "20", value_parser = positive)]
    pub(in crate::cli) limit: usize,
    /// What to print
    #[arg(long, short, value_enum, default_value = "table")]
    pub(in crate::cli) output: Output,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  concord disclosures --indicator files.example.com
  concord disclosures --source virustotal --since 7d -o jsonl")]
pub(in crate::cli) struct Disclosures {
    /// Only of this indicator
    #[arg(long)]
    pub(in crate::cli) indicator: Option<String>,
    /// Only to this source
    #[arg(long)]
    pub(in crate::cli) source: Option<String>,
    /// Only those within this time before now, such as 24h
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(in crate::cli) since: Option<Duration>,
    /// Most entries to show
    #[arg(long, default_value = "50", value_parser = positive)]
    pub(in crate::cli) limit: usize,
    /// What to print
    #[arg(long, short, value_enum, default_value = "table")]
    pub(in crate::cli) output: ListOutput,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Compare {
    /// Compare the sources: what each answers, adds and costs, how far each two agree, and who copies whom
    #[command(after_help = "\
Examples:
  concord compare sources --since 30d --plot sources.svg
  concord compare sources virustotal,urlhaus --type url -o json")]
    Sources {
        /// Names of sources; none: all
        #[arg(value_delimiter = ',')]
        sources: Vec<String>,
        #[command(flatten)]
        history: CompareHistory,
        /// Draw how far each two agree, with bars of coverage and of what each decides, into this SVG file
        #[arg(long, value_name = "FILE")]
        plot: Option<PathBuf>,
    },
    /// Compare the engines inside VirusTotal: their hits, those alone, those that are wrong, and who gives identical labels
    #[command(after_help = "\
Examples:
  concord compare engines --since 90d --plot engines.svg
  concord compare engines virustotal --type file -o json")]
    Engines {
        /// Name of the source [default: the only one of the kind virustotal]
        source: Option<String>,
        #[command(flatten)]
        history: CompareHistory,
        /// Draw how far each two hit the same and give identical labels, with bars of each engine, into this SVG file
        #[arg(long, value_name = "FILE")]
        plot: Option<PathBuf>,
    },
    /// Suggest the fewest preferred vendors that say malicious where the merged verdicts do
    #[command(after_help = "\
Nothing is applied: the output has the setting to paste, and how to try it on the past.

Examples:
  concord compare vendors --since 90d
  concord compare vendors --type file -o json")]
    Vendors {
        /// Name of the source [default: the only one of the kind virustotal]
        source: Option<String>,
        #[command(flatten)]
        history: CompareHistory,
    },
    /// Show which letter each source behaves like, by what analysts said
    #[command(after_help = "\
Nothing is applied: `concord source set NAME --reliability D` sets a letter.

Examples:
  concord compare letters --since 90d
  concord compare letters --without-labels")]
    Letters {
        #[command(flatten)]
        history: CompareHistory,
        /// Policy with whose letters the sources are compared [default: the server's, or weighted]
        #[arg(long, value_name = "NAME")]
        policy: Option<String>,
        /// Learn from what the sources say together, too, which is weaker
        #[arg(long)]
        without_labels: bool,
    },
    /// Hold the probabilities of a policy against what analysts said, and fit its calibration
    #[command(after_help = "\
Nothing is applied: `concord policy set NAME --set weighted.calibration.scale=0.8` does.

Examples:
  concord compare calibration --policy weighted --since 90d")]
    Calibration {
        #[command(flatten)]
        history: CompareHistory,
        /// The policy [default: the server's, or weighted]
        #[arg(long, value_name = "NAME")]
        policy: Option<String>,
        /// Draw the reliability curve into this SVG file
        #[arg(long, value_name = "FILE")]
        plot: Option<PathBuf>,
    },
    /// Show what a source would have said at each value of a threshold, from its stored raw answers
    #[command(after_help = "\
Nothing is applied: `concord source set NAME --option OPTION=VALUE` does. `concord source kinds` lists the options of each kind.

Examples:
  concord compare threshold virustotal malicious_threshold_ip --plot threshold.svg
  concord compare threshold abuseipdb malicious_threshold --since 30d")]
    Threshold {
        /// Name of the source
        source: String,
        /// The option, such as malicious_threshold_ip; without it, those that there are
        option: Option<String>,
        #[command(flatten)]
        history: CompareHistory,
        /// Draw the curve into this SVG file
        #[arg(long, value_name = "FILE")]
        plot: Option<PathBuf>,
    },
}

/// Which verdicts to read, and what to print.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct CompareHistory {
    #[command(flatten)]
    pub(in crate::cli) filter: HistoryArgs,
    /// What to print
    #[arg(long, short, value_enum, default_value = "table")]
    pub(in crate::cli) output: ListOutput,
}

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct HistoryArgs {
    /// Only verdicts made within this time before now, such as 30d
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(in crate::cli) since: Option<Duration>,
    /// Only on indicators of this type: ip, domain, url or file
    #[arg(long = "type", value_name = "TYPE")]
    pub(in crate::cli) indicator_type: Option<IndicatorType>,
    /// Only with this disposition, which may be an analyst's: a replay compares with what the sources say in it
    #[arg(long)]
    pub(in crate::cli) disposition: Option<Disposition>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The recorded outcomes are judged again; no source is asked. Without --policy each verdict is judged under the policy that judged it.

Examples:
  concord replay --policy strict --since 30d
  concord replay --letter virustotal=C --letter blocklist=A -o jsonl
  concord replay --set sources/virustotal.malicious_threshold_ip=5 --since 30d")]
pub(in crate::cli) struct Replay {
    /// Policy to judge under: NAME, or NAME@REVISION
    #[arg(long, value_name = "NAME", required_unless_present_any = ["letters", "set"])]
    pub(in crate::cli) policy: Option<String>,
    /// Another letter of a source; may be repeated
    #[arg(long = "letter", id = "letters", value_name = "SOURCE=LETTER", value_parser = read_letter)]
    pub(in crate::cli) letters: Vec<(String, Reliability)>,
    /// Another option of a source that is asked over HTTP, whose stored raw answers are then read again; may be repeated
    #[arg(long, value_name = "SOURCE.OPTION=VALUE")]
    pub(in crate::cli) set: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) filter: HistoryArgs,
    /// What to print: a summary, or each verdict that would be another
    #[arg(long, short, value_enum, default_value = "table")]
    pub(in crate::cli) output: ListOutput,
}

fn read_letter(text: &str) -> Result<(String, Reliability), String> {
    let (source, letter) = text.split_once('=').ok_or("must be SOURCE=LETTER, such as virustotal=C")?;
    Ok((source.trim().to_owned(), letter.parse::<Reliability>().map_err(|error| error.to_string())?))
}
