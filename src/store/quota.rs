//! What quota windows mean in time, for every backend.
//!
//! Pure arithmetic on nanoseconds since 1970. A backend fills one [`WindowCount`] a window; what the counts mean is decided
//! here. When the clock steps back, calls recorded in what is now the future still count: they were made before now.

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
/// A record further ahead of the clock than this was made before the clock stepped back. One less far ahead belongs to
/// a concurrent call.
const CLOCK_STEP: i64 = 60 * SECOND;

/// How long single calls are stored: much longer than the window, so that a clock that jumps ahead and back loses none.
const CALL_RETENTION: i64 = 3_600 * SECOND;

/// How long the counters of calendar windows are stored.
const COUNT_RETENTION: i64 = 400 * 24 * 3_600 * SECOND;

/// A moment and where it lies in its windows. Days, weeks and months are those of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) now: i64,
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
            day: start(date)?,
            next_day: start(date.tomorrow()?)?,
            week: start(monday)?,
            next_week: start(monday.checked_add(1.week())?)?,
            month: start(date.first_of_month())?,
            next_month: start(date.last_of_month().tomorrow()?)?,
        })
    }

    /// Where a window begins: calls at or after this moment count.
    pub(super) fn window_start(&self, per: QuotaPer) -> i64 {
        match per {
            QuotaPer::Minute => self.now.saturating_sub(MINUTE_WINDOW).saturating_add(1),
            QuotaPer::Day => self.day,
            QuotaPer::Week => self.week,
            QuotaPer::Month => self.month,
        }
    }

    /// The calendar windows in which a call that is made now counts: in the last second of one in the next as well, where the
    /// call may arrive.
    pub(super) fn calendar_windows(&self) -> impl Iterator<Item = (QuotaPer, i64)> {
        let next = |per| match per {
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

    /// The calendar windows in which a call counts that was under way from `earlier` until now, beyond those of `earlier`.
    pub(super) fn windows_beyond(&self, earlier: &Self) -> Vec<(QuotaPer, i64)> {
        let before: Vec<_> = earlier.calendar_windows().collect();
        self.calendar_windows().filter(|window| !before.contains(window)).collect()
    }

    /// Whether a call that was recorded at this moment and ended `later` counts from then on: it may have left any time in
    /// between.
    pub(super) fn is_outdated(&self, later: &Self) -> bool {
        later.now.saturating_sub(self.now) > MINUTE_SLACK / 2
    }

    /// Records after this moment were made before the clock stepped back.
    pub(super) fn latest_plausible(&self) -> i64 {
        self.now.saturating_add(CLOCK_STEP)
    }

    /// Calls up to this moment are of no more use.
    pub(super) fn oldest_call(&self) -> i64 {
        self.now.saturating_sub(CALL_RETENTION)
    }

    /// Counters of windows that began up to this moment are of no more use.
    pub(super) fn oldest_count(&self) -> i64 {
        self.now.saturating_sub(COUNT_RETENTION)
    }

    fn window_use(&self, window: &QuotaWindow, count: WindowCount) -> WindowUse {
        let resets_at = match window.per {
            QuotaPer::Minute => count.next_to_expire.map_or(self.now, |call| call.saturating_add(MINUTE_WINDOW)),
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

/// The calendar windows that have counters. A week is made of whole days, so it is the sum of theirs.
pub(super) const COUNTED: [QuotaPer; 2] = [QuotaPer::Day, QuotaPer::Month];

/// The window whose counters tell how much of this calendar window is used.
pub(super) fn counted_by(per: QuotaPer) -> QuotaPer {
    match per {
        QuotaPer::Week => QuotaPer::Day,
        QuotaPer::Minute | QuotaPer::Day | QuotaPer::Month => per,
    }
}

/// What is recorded of an account within one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WindowCount {
    /// How many calls.
    pub(super) used: u64,
    /// In a sliding minute, when the call was made that must leave it before there is room for one more: the one that
    /// [`calls_over`] others precede.
    pub(super) next_to_expire: Option<i64>,
}

/// How many calls a sliding minute holds beyond its limit: some where the limit was lowered, else none.
pub(super) fn calls_over(used: u64, limit: u64) -> u64 {
    used.saturating_sub(limit.max(1))
}

/// How much of each window is used, in the order of `windows`.
pub(super) fn window_uses(windows: &[QuotaWindow], counts: &[WindowCount], at: &Moment) -> Vec<WindowUse> {
    windows.iter().zip(counts).map(|(window, count)| at.window_use(window, *count)).collect()
}

/// The window that is used up; of several, the one that resets last.
pub fn spent_window(uses: &[WindowUse]) -> Option<WindowUse> {
    uses.iter().filter(|window| window.used >= window.limit).max_by_key(|window| window.resets_at).copied()
}

/// Whether one more call is granted, where these calls are recorded; if so, the caller records it.
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
