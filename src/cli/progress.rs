//! How far a look-up of many indicators has come: a bar on a terminal, otherwise a line from time to time.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::table;
use crate::clock::{Clock, Monotonic, SystemClock};
use crate::convert::write_duration;
use crate::finding::counted;

/// From this number of indicators on, a bar shows the progress on a terminal.
const BAR_FROM: usize = 5;
/// Without a terminal, a line is written each time that this many are done.
const LINE_EVERY: usize = 10_000;

/// How far the look-ups have come.
pub(super) struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    /// All inputs, where their number is known.
    total: Option<usize>,
    /// Inputs that were answered before this command.
    before: usize,
    done: usize,
    units: u64,
    started: Monotonic,
}

impl Progress {
    pub(super) fn new(total: Option<usize>, before: usize) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let style = |template| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = match total {
            _ if !is_terminal => ProgressBar::hidden(),
            Some(total) if total < BAR_FROM => ProgressBar::hidden(),
            Some(total) => ProgressBar::new(wide(total)).with_style(style("{bar:30} {msg}")),
            None => ProgressBar::no_length().with_style(style("{spinner} {msg}")),
        };
        bar.set_position(wide(before));
        Self { bar, is_terminal, total, before, done: before, units: 0, started: SystemClock.monotonic() }
    }

    /// Inputs that are done, also by earlier commands.
    pub(super) fn done(&self) -> usize {
        self.done
    }

    /// One more input is answered, for so many units of quota.
    pub(super) fn add(&mut self, units: u32) {
        self.done += 1;
        self.units += u64::from(units);
        self.bar.inc(1);
        if self.is_terminal {
            self.bar.set_message(self.text());
        } else if self.done.is_multiple_of(LINE_EVERY) {
            eprintln!("concord: {}", self.text());
        }
    }

    /// Writes beside the bar.
    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn text(&self) -> String {
        let passed = SystemClock.monotonic().since(self.started);
        describe(self.done, self.total, self.units, time_left(self.done - self.before, self.done, self.total, passed))
    }
}

/// How long the rest takes at the pace of this command.
fn time_left(done_now: usize, done: usize, total: Option<usize>, passed: Duration) -> Option<Duration> {
    let left = u32::try_from(total?.saturating_sub(done)).ok()?;
    let each = passed.checked_div(u32::try_from(done_now).ok()?)?;
    each.checked_mul(left)
}

fn describe(done: usize, total: Option<usize>, units: u64, left: Option<Duration>) -> String {
    let units = counted(units, "unit");
    let Some(total) = total else { return format!("{done} done, {units} spent") };
    let time = left.map(|left| format!(", about {} left", table::short_age(&write_duration(left)))).unwrap_or_default();
    format!("{done} of {total} done, {} left, {units} spent{time}", total.saturating_sub(done))
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_says_what_is_done_and_left_what_it_cost_and_how_long_the_rest_takes() {
        let left = time_left(250, 500, Some(1000), Duration::from_secs(60));
        assert_eq!(left, Some(Duration::from_secs(120)), "at the pace of this command, not of those before it");
        assert_eq!(describe(500, Some(1000), 1, left), "500 of 1000 done, 500 left, 1 unit spent, about 2m left");
        assert_eq!(describe(500, None, 0, None), "500 done, 0 units spent");
        assert_eq!(time_left(0, 500, Some(1000), Duration::from_secs(60)), None, "nothing is known yet");
        assert_eq!(time_left(1, 7, Some(5), Duration::from_secs(1)), Some(Duration::ZERO), "the file grew meanwhile");
    }
}
