//! The arguments of `concord submit` and `concord submission`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::{ListOutput, positive};
use crate::indicator::Tlp;
use crate::store::SubmissionState;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Submit {
    /// Upload a file, which makes it public unless the scan is private
    #[command(after_help = "\
Examples:
  concord submit file sample.exe --to virustotal --tlp clear
  concord submit file sample.exe --to virustotal --tlp clear --yes --no-wait -o json
  concord submit file sample.exe --to virustotal --tlp amber --private")]
    File {
        /// The file. Its name is shown to reviewers and never sent
        path: PathBuf,
        /// Scan it privately: only the source and the account of the server's key see it
        #[arg(long)]
        private: bool,
        #[command(flatten)]
        how: SubmitArgs,
    },
    /// Have a source visit a URL, which makes it public unless the scan is private
    Url {
        /// The URL, defanged or not
        url: String,
        /// Scan it privately: only the source and the account of the server's key see it
        #[arg(long)]
        private: bool,
        #[command(flatten)]
        how: SubmitArgs,
    },
    /// Have a source analyse again what it knows: a file hash or a URL
    Rescan {
        /// The hash or URL
        indicator: String,
        #[command(flatten)]
        how: SubmitArgs,
    },
}

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct SubmitArgs {
    /// The source
    #[arg(long, value_name = "SOURCE")]
    pub(in crate::cli) to: String,
    /// TLP label of what is submitted [default: AMBER, which few sources may be given]
    #[arg(long)]
    pub(in crate::cli) tlp: Option<Tlp>,
    /// Do not ask before it is sent
    #[arg(long)]
    pub(in crate::cli) yes: bool,
    /// Do not wait for the analysis
    #[arg(long)]
    pub(in crate::cli) no_wait: bool,
    /// What to print
    #[arg(long, short, value_enum, default_value = "table")]
    pub(in crate::cli) output: ListOutput,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SubmissionCommand {
    /// List submissions, newest first
    List {
        /// Only in this state: held, analysing, done ...
        #[arg(long)]
        state: Option<SubmissionState>,
        /// Only of this caller
        #[arg(long)]
        submitter: Option<String>,
        /// Only of this URL or hash
        #[arg(long)]
        indicator: Option<String>,
        /// Most entries to show
        #[arg(long, default_value = "50", value_parser = positive)]
        limit: usize,
        /// What to print
        #[arg(long, short, value_enum, default_value = "table")]
        output: ListOutput,
    },
    /// Show one submission, with each reason for which it is held
    Show {
        /// Its name: submissions/ID, or the ID alone
        name: String,
        /// What to print
        #[arg(long, short, value_enum, default_value = "table")]
        output: ListOutput,
    },
    /// Wait until a submission is final
    Watch {
        /// Its name: submissions/ID, or the ID alone
        name: String,
        /// What to print at the end
        #[arg(long, short, value_enum, default_value = "table")]
        output: ListOutput,
    },
    /// Let a held submission of another caller be sent
    Approve {
        /// Its name: submissions/ID, or the ID alone
        name: String,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// Refuse a held submission, or withdraw your own
    Reject {
        /// Its name: submissions/ID, or the ID alone
        name: String,
        /// Why
        #[arg(long)]
        reason: String,
    },
}
