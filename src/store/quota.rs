//! The meaning of quota windows in time, for every backend.
//!
//! Pure arithmetic on nanoseconds since 1970. A backend fills one [`WindowCount`] per window, and this file decides
//! what the counts mean. If the clock steps back, calls that are recorded in what is now the future still count, since
//! they were made.

use std::time::SystemTime;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::time::{nanos, time};
use super::{Acquired, StoreError, WindowUse};
use crate::source::{QuotaPer, QuotaWindow};

const SECOND: i64 = 1_000_000_000;

/// Length of the sliding minute: 61 seconds, because a call may reach the source later than it was recorded.
const MINUTE_WINDOW: i64 = 60 * SECOND + MINUTE_SLACK;
const MINUTE_SLACK: i64 = SECOND;
const HOUR: i64 = 3_600 * SECOND;
/// A record that is further ahead of the clock than this was made before the clock stepped back. One that is less far
/// ahead belongs to a concurrent call.
const CLOCK_STEP: i64 = 60 * SECOND;

/// How long after the start of a window a source may still report the use of the one before: its clock may be behind.
const TURNING: i64 = 300 * SECOND;

/// How long individual calls are stored: much longer than the window, so that none is lost if the clock jumps ahead and
/// back.
const CALL_RETENTION: i64 = 3_600 * SECOND;

/// How long the counters of calendar windows are stored.
const COUNT_RETENTION: i64 = 400 * 24 * 3_600 * SECOND;

/// A point in time and the starts of its calendar windows. Hours, days, weeks and months are those of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) now: i64,
    hour: i64,
    day: i64,
    next_day: i64,
    week: i64,
    next_week: i64,
    month: i64,
    next_month: i64,
}

impl Moment {
    pub(super) fn at(time: SystemTime) -> Result<Self, StoreError> {
        let now = nanos(time);
        Self::on_calendar(now).map_err(|error| StoreError::rejected(format!("no calendar day for this time: {error}")))
    }

    fn on_calendar(now: i64) -> Result<Self, jiff::Error> {
        let date = Timestamp::from_nanosecond(i128::from(now))?.to_zoned(TimeZone::UTC).date();
        let monday = date.checked_sub(i64::from(date.weekday().to_monday_zero_offset()).days())?;
        Ok(Self {
            now,
            hour: now - now.rem_euclid(HOUR),
            day: start(date)?,
            next_day: start(date.tomorrow()?)?,
            week: start(monday)?,
            next_week: start(monday.checked_add(1.week())?)?,
            month: start(date.first_of_month())?,
            next_month: start(date.last_of_month().tomorrow()?)?,
        })
    }

    /// The start of a window: calls at or after this time count.
    pub(super) fn window_start(&self, per: QuotaPer) -> i64 {
        match per {
            QuotaPer::Minute => self.now.saturating_sub(MINUTE_WINDOW).saturating_add(1),
            QuotaPer::Hour => self.hour,
            QuotaPer::Day => self.day,
            QuotaPer::Week => self.week,
            QuotaPer::Month => self.month,
        }
    }

    /// Whether this window began long enough ago for what a source reports to be about the same one.
    pub(super) fn is_well_inside(&self, per: QuotaPer) -> bool {
        self.now.saturating_sub(self.window_start(per)) >= TURNING
    }

    /// The calendar windows in which a call that is made now counts. In the last second of a window these include the
    /// next one, since the call may only arrive then.
    pub(super) fn calendar_windows(&self) -> impl Iterator<Item = (QuotaPer, i64)> {
        let next = |per| match per {
            QuotaPer::Hour => Some(self.hour.saturating_add(HOUR)),
            QuotaPer::Day => Some(self.next_day),
            QuotaPer::Week => Some(self.next_week),
            QuotaPer::Month => Some(self.next_month),
            QuotaPer::Minute => None,
        };
        let arrives = self.now.saturating_add(MINUTE_SLACK);
        COUNTED.into_iter().flat_map(move |per| {
            let next = next(per).filter(|starts| *starts <= arrives);
            [Some(self.window_start(per)), next].into_iter().flatten().map(move |starts| (per, starts))
        })
    }

    /// The additional calendar windows, beyond those of `earlier`, of a call that was in flight from `earlier` until
    /// now.
    pub(super) fn windows_beyond(&self, earlier: &Self) -> Vec<(QuotaPer, i64)> {
        let before: Vec<_> = earlier.calendar_windows().collect();
        self.calendar_windows().filter(|window| !before.contains(window)).collect()
    }

    /// Whether a call that was recorded at this time and ended `later` must count from then on, since the source may
    /// have received it at any time in between.
    pub(super) fn is_outdated(&self, later: &Self) -> bool {
        later.now.saturating_sub(self.now) > MINUTE_SLACK / 2
    }

    /// Records after this time were made before the clock stepped back.
    pub(super) fn latest_plausible(&self) -> i64 {
        self.now.saturating_add(CLOCK_STEP)
    }

    /// Calls up to this time are no longer needed.
    pub(super) fn oldest_call(&self) -> i64 {
        self.now.saturating_sub(CALL_RETENTION)
    }

    /// Counters of windows that started up to this time are no longer needed.
    pub(super) fn oldest_count(&self) -> i64 {
        self.now.saturating_sub(COUNT_RETENTION)
    }

    fn window_use(&self, window: &QuotaWindow, count: WindowCount) -> WindowUse {
        let resets_at = match window.per {
            QuotaPer::Minute => count.next_to_expire.map_or(self.now, |call| call.saturating_add(MINUTE_WINDOW)),
            QuotaPer::Hour => self.hour.saturating_add(HOUR),
            QuotaPer::Day => self.next_day,
            QuotaPer::Week => self.next_week,
            QuotaPer::Month => self.next_month,
        };
        WindowUse { per: window.per, limit: window.limit, used: count.used, resets_at: time(resets_at) }
    }
}

fn start(date: Date) -> Result<i64, jiff::Error> {
    let nanos = date.to_zoned(TimeZone::UTC)?.timestamp().as_nanosecond();
    Ok(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
}

/// The calendar periods that have counters. A week consists of whole days, so its count is the sum of theirs.
pub(super) const COUNTED: [QuotaPer; 3] = [QuotaPer::Hour, QuotaPer::Day, QuotaPer::Month];

/// The period whose counters give the use of this calendar period.
pub(super) fn counted_by(per: QuotaPer) -> QuotaPer {
    match per {
        QuotaPer::Week => QuotaPer::Day,
        QuotaPer::Minute | QuotaPer::Hour | QuotaPer::Day | QuotaPer::Month => per,
    }
}

/// The recorded use of an account within one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WindowCount {
    /// The number of calls.
    pub(super) used: u64,
    /// For a sliding minute: the time of the call that must leave it before one more is granted, which is the one
    /// preceded by [`calls_over`] others.
    pub(super) next_to_expire: Option<i64>,
}

/// The number of calls in a sliding minute beyond its limit, which is not zero if the limit was lowered.
pub(super) fn calls_over(used: u64, limit: u64) -> u64 {
    used.saturating_sub(limit.max(1))
}

/// The use of each window, in the order of `windows`.
pub(super) fn window_uses(windows: &[QuotaWindow], counts: &[WindowCount], at: &Moment) -> Vec<WindowUse> {
    windows.iter().zip(counts).map(|(window, count)| at.window_use(window, *count)).collect()
}

/// The window that is used up; of several, the one that resets last.
pub fn spent_window(uses: &[WindowUse]) -> Option<WindowUse> {
    uses.iter().filter(|window| window.used >= window.limit).max_by_key(|window| window.resets_at).copied()
}

/// Decides whether one more call is granted, given the recorded ones. If it is, the caller must record it.
pub(super) fn decide(windows: &[QuotaWindow], counts: &[WindowCount], at: &Moment) -> Acquired {
    let uses = window_uses(windows, counts, at);
    if let Some(spent) = spent_window(&uses) {
        return Acquired::Spent(spent);
    }
    let granted = |count: &WindowCount| WindowCount {
        used: count.used.saturating_add(1),
        next_to_expire: Some(count.next_to_expire.map_or(at.now, |call| call.min(at.now))),
    };
    Acquired::Granted(window_uses(windows, &counts.iter().map(granted).collect::<Vec<_>>(), at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        i64::try_from(text.parse::<Timestamp>().expect("a time").as_nanosecond()).expect("in range")
    }

    fn moment(text: &str) -> Moment {
        Moment::at(time(at(text))).expect("a calendar")
    }

    #[test]
    fn a_leap_february_ends_on_its_29th() {
        let moment = moment("2028-02-29T23:59:59.999999999Z");
        assert_eq!(moment.month, at("2028-02-01T00:00:00Z"));
        assert_eq!(moment.day, at("2028-02-29T00:00:00Z"));
        assert_eq!(moment.next_day, at("2028-03-01T00:00:00Z"));
        assert_eq!(moment.next_month, at("2028-03-01T00:00:00Z"));
    }

    #[test]
    fn a_week_begins_on_monday_also_where_year_and_month_turn() {
        for (now, monday) in [
            ("2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z"),
            ("2026-11-29T23:59:59.999999999Z", "2026-11-23T00:00:00Z"),
            ("2027-01-03T12:00:00Z", "2026-12-28T00:00:00Z"),
        ] {
            let moment = moment(now);
            assert_eq!((moment.week, moment.next_week), (at(monday), at(monday) + 7 * 86_400 * SECOND), "{now}");
        }
    }

    #[test]
    fn december_turns_into_january() {
        let moment = moment("2026-12-31T00:00:00Z");
        assert_eq!(moment.day, at("2026-12-31T00:00:00Z"));
        assert_eq!(moment.next_month, at("2027-01-01T00:00:00Z"));
    }

    #[test]
    fn a_granted_call_counts_and_a_window_that_is_full_refuses() {
        let moment = moment("2026-12-31T00:00:00Z");
        let window = |per, limit| QuotaWindow { per, limit };
        let count = |used, next_to_expire| WindowCount { used, next_to_expire };
        let windows = [window(QuotaPer::Minute, 2), window(QuotaPer::Day, 5)];
        let granted = decide(&windows, &[count(1, Some(moment.now - 5)), count(3, None)], &moment);
        let Acquired::Granted(uses) = granted else { panic!("{granted:?}") };
        assert_eq!((uses[0].used, uses[0].resets_at), (2, time(moment.now - 5 + MINUTE_WINDOW)));
        assert_eq!((uses[1].used, uses[1].resets_at), (4, time(moment.next_day)));
        let full = decide(&windows, &[count(2, Some(moment.now)), count(5, None)], &moment);
        assert!(matches!(full, Acquired::Spent(WindowUse { per: QuotaPer::Day, used: 5, .. })), "{full:?}");
    }
}
