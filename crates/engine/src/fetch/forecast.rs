//! When the quota of a day will be used up, if it goes on as in the last hour.

use std::time::{Duration, SystemTime};

use crate::store::WindowUse;

const HOUR: Duration = Duration::from_secs(3_600);

/// The calls of the current hour, and of the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecentCalls {
    pub(super) before: u64,
    pub(super) current: u64,
    /// Time since the current hour began.
    pub(super) passed: Duration,
}

impl RecentCalls {
    /// Calls in the last hour, as if those of the hour before had been made evenly.
    fn per_hour(self) -> f64 {
        let rest = 1.0 - (self.passed.as_secs_f64() / HOUR.as_secs_f64()).clamp(0.0, 1.0);
        self.before as f64 * rest + self.current as f64
    }
}

/// When this window will be used up at the pace of the last hour. `None`: not before it resets, or it is already.
pub(super) fn runs_out(window: &WindowUse, recent: RecentCalls, now: SystemTime) -> Option<SystemTime> {
    let left = window.limit.checked_sub(window.used).filter(|left| *left > 0)?;
    let wait = Duration::try_from_secs_f64(left as f64 / recent.per_hour() * HOUR.as_secs_f64()).ok()?;
    now.checked_add(wait).filter(|end| *end < window.resets_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::QuotaPer;

    /// Hours until a day that ends in twelve is used up, if it is.
    fn hours(used: u64, before: u64, current: u64, passed_minutes: u64) -> Option<f64> {
        let now = SystemTime::UNIX_EPOCH;
        let window = WindowUse { per: QuotaPer::Day, limit: 500, used, resets_at: now + 12 * HOUR };
        let recent = RecentCalls { before, current, passed: Duration::from_secs(60 * passed_minutes) };
        let end = runs_out(&window, recent, now)?;
        Some(end.duration_since(now).unwrap().as_secs_f64() / 3_600.0)
    }

    #[test]
    fn the_pace_is_that_of_the_last_hour() {
        assert_eq!(hours(100, 0, 40, 15), Some(10.0));
        assert_eq!(hours(100, 40, 0, 0), Some(10.0));
        assert_eq!(hours(100, 40, 20, 30), Some(10.0), "half of the hour before counts");
        assert_eq!(hours(100, 40, 0, 45), None, "it would last for forty hours");
    }

    #[test]
    fn there_is_none_without_calls_or_where_nothing_is_left_to_run_out() {
        assert_eq!(hours(100, 0, 0, 30), None);
        assert_eq!(hours(500, 400, 100, 30), None);
        assert_eq!(hours(600, 400, 100, 30), None);
        assert_eq!(hours(499, u64::MAX, u64::MAX, 30).map(|hours| hours < 0.001), Some(true));
    }
}
