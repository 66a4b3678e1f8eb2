//! The arguments of `concord policy`. Doc comments here are the text of `--help`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::output::ListOutput;

#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// List the policies
    List {
        /// What to print
        #[arg(long, short, value_enum, default_value = "table")]
        output: ListOutput,
    },
    /// Show one policy with every number
    #[command(visible_alias = "get")]
    Show {
        /// Its name, or NAME@REVISION
        name: String,
        /// A revision of it, also where it was changed or deleted since
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
        revision: Option<u32>,
        /// What to print
        #[arg(long, short, value_enum, default_value = "table")]
        output: ListOutput,
    },
    /// Make a policy or change some of its fields, which makes its next revision
    #[command(after_help = "\
Examples:
  concord policy set strict --base weighted --set weighted.thresholds.malicious=0.9
  concord policy set strict --set weighted.ip.decay.half_life.half_life=7d --validate-only
  concord policy set strict --reset weighted.thresholds
  concord policy set strict --file strict.toml")]
    Set(Box<PolicySet>),
    /// Delete a policy that was made over the API; its revisions can still be shown
    Delete {
        /// Its name
        name: String,
        /// Only if this is its etag
        #[arg(long)]
        etag: Option<String>,
    },
    /// Show the fields in which two policies, or two revisions of one, differ
    #[command(after_help = "Examples:\n  concord policy diff weighted strict\n  concord policy diff strict@1 strict")]
    Diff {
        /// NAME, or NAME@REVISION
        left: String,
        /// NAME, or NAME@REVISION
        right: String,
    },
}

#[derive(Debug, ClapArgs)]
pub(super) struct PolicySet {
    /// Its name
    pub(super) name: String,
    /// Policy that a new one starts from [default: the built-in one of its rule, or weighted]
    #[arg(long, value_name = "NAME")]
    pub(super) base: Option<String>,
    /// One line on what it does
    #[arg(long, value_name = "TEXT")]
    pub(super) summary: Option<String>,
    /// Field to set, by its path; `concord policy show` has them; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    pub(super) set: Vec<String>,
    /// Field to set to that of the built-in policy of the rule, or row of a source to remove; may be repeated
    #[arg(long, value_name = "PATH")]
    pub(super) reset: Vec<String>,
    /// File with fields to set, as in a table [policies.NAME] of the configuration file; - for standard input
    #[arg(long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Only if this is its etag
    #[arg(long)]
    pub(super) etag: Option<String>,
    /// Only check what would be in effect
    #[arg(long)]
    pub(super) validate_only: bool,
}
