//! The arguments of `concord never-send`.

use clap::Subcommand;

use super::ListOutput;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum NeverSend {
    /// List the rules, those of the configuration file too
    List {
        /// What to print
        #[arg(long, short, value_enum, default_value = "table")]
        output: ListOutput,
    },
    /// Add a rule, which holds from the next question on
    #[command(after_help = "\
Examples:
  concord never-send add customer.example.org --comment 'contract of 2026'
  concord never-send add 203.0.113.0/24
  concord never-send add https://example.com/private/")]
    Add {
        /// A domain with its subdomains, a network or address, a URL prefix, or a file hash
        rule: String,
        /// Why
        #[arg(long, default_value = "", hide_default_value = true)]
        comment: String,
        /// Only check it
        #[arg(long)]
        validate_only: bool,
        /// What to print
        #[arg(long, short, value_enum, default_value = "table")]
        output: ListOutput,
    },
    /// Delete a rule that was added here
    Delete {
        /// Its name: neverSendRules/ID, or the ID alone
        name: String,
    },
}
