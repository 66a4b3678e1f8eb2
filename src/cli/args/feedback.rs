//! The arguments of `concord feedback`.

use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{ListOutput, positive};
use crate::source::parse_duration;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Feedback {
    /// Record what an analyst says of an indicator
    #[command(after_help = "\
Examples:
  concord feedback record 192.0.2.77 --false-positive --reason 'our scanner'
  concord feedback record 192.0.2.77 --benign --reason 'our scanner' --pin --until 2026-12-24
  concord feedback record --verdict verdicts/01m8cb1j --true-positive --reason 'seen in an incident' --pin --for 30d")]
    Record(Record),
    /// List what analysts said, newest first
    List {
        /// Only on this indicator
        #[arg(long)]
        indicator: Option<String>,
        /// Leave out what has expired or was retracted
        #[arg(long)]
        active: bool,
        /// Most entries to show
        #[arg(long, default_value = "50", value_parser = positive)]
        limit: usize,
        /// What to print
        #[arg(long, short, value_enum, default_value = "table")]
        output: ListOutput,
    },
    /// Take feedback back; it stays on record
    Retract {
        /// Its name: feedback/ID, or the ID alone
        name: String,
        /// Why
        #[arg(long)]
        reason: String,
        /// Who takes it back [default: the name of the caller]
        #[arg(long)]
        author: Option<String>,
    },
}

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Record {
    /// The indicator
    #[arg(required_unless_present = "verdict")]
    pub(in crate::cli) indicator: Option<String>,
    /// The verdict that it is about: verdicts/ID, or the ID alone
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) verdict: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) judgement: Judgement,
    /// Why, in one line
    #[arg(long)]
    pub(in crate::cli) reason: String,
    /// Who says so [default: the name of the caller]
    #[arg(long)]
    pub(in crate::cli) author: Option<String>,
    /// Make it the verdict as long as it holds; needs an end
    #[arg(long)]
    pub(in crate::cli) pin: bool,
    /// When it ends: a day, which is its last (UTC), or a time in RFC 3339
    #[arg(long, value_parser = read_end, value_name = "TIME", conflicts_with = "for_time")]
    pub(in crate::cli) until: Option<Timestamp>,
    /// How long it holds, such as 30d
    #[arg(long = "for", id = "for_time", value_parser = parse_duration, value_name = "TIME")]
    pub(in crate::cli) for_time: Option<Duration>,
    /// Only check it
    #[arg(long)]
    pub(in crate::cli) validate_only: bool,
    /// What to print
    #[arg(long, short, value_enum, default_value = "table")]
    pub(in crate::cli) output: ListOutput,
}

#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct Judgement {
    /// It is malicious, and who says so is right
    #[arg(long)]
    pub(in crate::cli) true_positive: bool,
    /// It is benign, and who says otherwise is wrong
    #[arg(long)]
    pub(in crate::cli) false_positive: bool,
    /// It is benign
    #[arg(long)]
    pub(in crate::cli) benign: bool,
}

/// The last second of a day, or a time.
fn read_end(text: &str) -> Result<Timestamp, String> {
    let wrong = || "must be a day such as 2026-12-24 or a time such as 2026-12-24T18:00:00Z".to_owned();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let day: Date = text.parse().map_err(|_| wrong())?;
    let day = day.tomorrow().and_then(|day| day.to_zoned(TimeZone::UTC)).map_err(|_| wrong())?;
    day.timestamp().checked_sub(SignedDuration::from_secs(1)).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ends_with_its_last_second_and_a_time_is_taken_as_it_is() {
        assert_eq!(read_end("2026-12-24").unwrap().to_string(), "2026-12-24T23:59:59Z");
        assert_eq!(read_end("2026-12-24T18:00:00Z").unwrap().to_string(), "2026-12-24T18:00:00Z");
        assert!(read_end("tomorrow").unwrap_err().contains("2026-12-24"));
    }
}
