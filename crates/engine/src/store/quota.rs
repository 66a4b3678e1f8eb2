//! The meaning of quota windows in time, for every backend.
//!
//! Pure arithmetic on nanoseconds since 1970. A backend fills one [`WindowCount`] per window, and this file decides
//! what the counts mean. If the clock steps back, calls that are recorded in what is now the future still count, since
//! they were made.

use std::time::SystemTime;

use super::time::{nanos, time};
use super::{Acquired, StoreError, WindowUse};
use crate::source::{CalendarWindow, QuotaPer, QuotaWindow, QuotaZone};

const SECOND: i64 = 1_000_000_000;

/// Length of the sliding minute: 61 seconds, because a call may reach the source later than it was recorded.
const MINUTE_WINDOW: i64 = 60 * SECOND + ARRIVAL;
/// A call may reach the source this long after it was recorded.
const ARRIVAL: i64 = SECOND;
/// Calls are counted by quarters of an hour, at which the windows of every zone begin.
const QUARTER: i64 = 900 * SECOND;
/// No call is under way for longer, unless the clock was set.
const LONGEST_CALL: i64 = 24 * 3_600 * SECOND;
/// A record that is further ahead of the clock than this was made before the clock stepped back. One that is less far
/// ahead belongs to a concurrent call.
const CLOCK_STEP: i64 = 60 * SECOND;

/// How long after the start of a window a source may still report the use of the one before: its clock may be behind.
const TURNING: i64 = 300 * SECOND;

/// How long individual calls are stored: much longer than the window, so that none is lost if the clock jumps ahead and
/// back.
const CALL_RETENTION: i64 = 3_600 * SECOND;

/// How long the counts of quarters are stored: much longer than the longest window, for the same reason.
const COUNT_RETENTION: i64 = 100 * 24 * 3_600 * SECOND;

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) now: i64,
}

impl Moment {
    pub(super) fn at(time: SystemTime) -> Self {
        Self { now: nanos(time) }
    }

    /// The start of the sliding minute: calls at or after this time count.
    pub(super) fn minute_start(&self) -> i64 {
        self.now.saturating_sub(MINUTE_WINDOW).saturating_add(1)
    }

    /// The start of the quarter in which a call that is made now counts.
    pub(super) fn quarter(&self) -> i64 {
        quarter_of(self.now)
    }

    /// The quarters that begin between now and when a call arrives that is made now: it counts in a window that begins
    /// there as well.
    pub(super) fn crossed(&self) -> impl Iterator<Item = i64> {
        quarters_between(self.now, self.now.saturating_add(ARRIVAL))
    }

    /// The quarters that begin while a call is under way from `earlier` until now, beyond those that it crossed then.
    pub(super) fn crossed_since(&self, earlier: &Self) -> impl Iterator<Item = i64> {
        let from = earlier.now.max(self.now.saturating_sub(LONGEST_CALL));
        quarters_between(from.saturating_add(ARRIVAL), self.now.saturating_add(ARRIVAL))
    }

    /// Whether a call that was recorded at this time and ended `later` must count from then on, since the source may
    /// have received it at any time in between.
    pub(super) fn is_outdated(&self, later: &Self) -> bool {
        later.now.saturating_sub(self.now) > ARRIVAL / 2
    }

    /// Records after this time were made before the clock stepped back.
    pub(super) fn latest_plausible(&self) -> i64 {
        self.now.saturating_add(CLOCK_STEP)
    }

    /// Calls up to this time are no longer needed.
    pub(super) fn oldest_call(&self) -> i64 {
        self.now.saturating_sub(CALL_RETENTION)
    }

    /// Counts of quarters that started up to this time are no longer needed.
    pub(super) fn oldest_count(&self) -> i64 {
        self.now.saturating_sub(COUNT_RETENTION)
    }
}

/// The start of the quarter in which this time lies.
pub(super) fn quarter_of(time: i64) -> i64 {
    time.saturating_sub(time.rem_euclid(QUARTER))
}

/// The quarters that begin after the one time, and at the other or before.
fn quarters_between(after: i64, until: i64) -> impl Iterator<Item = i64> {
    let first = quarter_of(after).checked_add(QUARTER);
    std::iter::successors(first, |starts| starts.checked_add(QUARTER)).take_while(move |starts| *starts <= until)
}

/// A point in time, with the calendar windows of a zone in which it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    pub(super) at: Moment,
    hour: Bounds,
    day: Bounds,
    week: Bounds,
    month: Bounds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    starts: i64,
    ends: i64,
}

impl Calendar {
    pub(super) fn new(time: SystemTime, zone: &QuotaZone) -> Result<Self, StoreError> {
        let bounds = |per| {
            let CalendarWindow { starts, ends } =
                zone.window(per, time).ok_or_else(|| StoreError::rejected("no calendar day for this time"))?;
            Ok::<_, StoreError>(Bounds { starts: nanos(starts), ends: nanos(ends) })
        };
        Ok(Self {
            at: Moment::at(time),
            hour: bounds(QuotaPer::Hour)?,
            day: bounds(QuotaPer::Day)?,
            week: bounds(QuotaPer::Week)?,
            month: bounds(QuotaPer::Month)?,
        })
    }

    /// When a calendar window begins; `None` for the minute, which slides.
    pub(super) fn start(&self, per: QuotaPer) -> Option<i64> {
        self.bounds(per).map(|bounds| bounds.starts)
    }

    /// When a calendar window ends; `None` for the minute, which slides.
    pub(super) fn end(&self, per: QuotaPer) -> Option<i64> {
        self.bounds(per).map(|bounds| bounds.ends)
    }

    /// Whether this window began long enough ago for what a source reports to be about the same one.
    pub(super) fn is_well_inside(&self, per: QuotaPer) -> bool {
        self.start(per).is_some_and(|starts| self.at.now.saturating_sub(starts) >= TURNING)
    }

    fn bounds(&self, per: QuotaPer) -> Option<Bounds> {
        match per {
            QuotaPer::Minute => None,
            QuotaPer::Hour => Some(self.hour),
            QuotaPer::Day => Some(self.day),
            QuotaPer::Week => Some(self.week),
            QuotaPer::Month => Some(self.month),
        }
    }

    fn window_use(&self, window: &QuotaWindow, count: WindowCount) -> WindowUse {
        let resets_at = match self.bounds(window.per) {
            Some(bounds) => bounds.ends,
            None => count.next_to_expire.map_or(self.at.now, |call| call.saturating_add(MINUTE_WINDOW)),
        };
        WindowUse { per: window.per, limit: window.limit, used: count.used, resets_at: time(resets_at) }
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
pub(super) fn window_uses(windows: &[QuotaWindow], counts: &[WindowCount], calendar: &Calendar) -> Vec<WindowUse> {
    windows.iter().zip(counts).map(|(window, count)| calendar.window_use(window, *count)).collect()
}

/// The window that is used up; of several, the one that resets last.
pub fn spent_window(uses: &[WindowUse]) -> Option<WindowUse> {
    uses.iter().filter(|window| window.used >= window.limit).max_by_key(|window| window.resets_at).copied()
}

/// Decides whether one more call is granted, given the recorded ones. If it is, the caller must record it.
pub(super) fn decide(windows: &[QuotaWindow], counts: &[WindowCount], calendar: &Calendar) -> Acquired {
    let uses = window_uses(windows, counts, calendar);
    if let Some(spent) = spent_window(&uses) {
        return Acquired::Spent(spent);
    }
    let now = calendar.at.now;
    let granted = |count: &WindowCount| WindowCount {
        used: count.used.saturating_add(1),
        next_to_expire: Some(count.next_to_expire.map_or(now, |call| call.min(now))),
    };
    Acquired::Granted(window_uses(windows, &counts.iter().map(granted).collect::<Vec<_>>(), calendar))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn at(text: &str) -> i64 {
        i64::try_from(text.parse::<Timestamp>().expect("a time").as_nanosecond()).expect("in range")
    }

    #[test]
    fn a_granted_call_counts_and_a_window_that_is_full_refuses() {
        let now = at("2026-12-31T00:00:00Z");
        let calendar = Calendar::new(time(now), &QuotaZone::default()).expect("a calendar");
        let window = |per, limit| QuotaWindow { per, limit };
        let count = |used, next_to_expire| WindowCount { used, next_to_expire };
        let windows = [window(QuotaPer::Minute, 2), window(QuotaPer::Day, 5)];
        let granted = decide(&windows, &[count(1, Some(now - 5)), count(3, None)], &calendar);
        let Acquired::Granted(uses) = granted else { panic!("{granted:?}") };
        assert_eq!((uses[0].used, uses[0].resets_at), (2, time(now - 5 + MINUTE_WINDOW)));
        assert_eq!((uses[1].used, uses[1].resets_at), (4, time(at("2027-01-01T00:00:00Z"))));
        let full = decide(&windows, &[count(2, Some(now)), count(5, None)], &calendar);
        assert!(matches!(full, Acquired::Spent(WindowUse { per: QuotaPer::Day, used: 5, .. })), "{full:?}");
    }

    #[test]
    fn a_call_crosses_a_quarter_if_it_may_arrive_after_it_began() {
        let quarter = at("2026-12-31T00:15:00Z");
        let crossed = |now: i64| Moment { now }.crossed().collect::<Vec<_>>();
        assert!(crossed(quarter - SECOND - 1).is_empty());
        assert_eq!(crossed(quarter - SECOND), [quarter]);
        assert!(crossed(quarter).is_empty(), "it counts there anyway");
        let since = |from: i64, to: i64| Moment { now: to }.crossed_since(&Moment { now: from }).count();
        assert_eq!(since(quarter - 5 * SECOND, quarter + QUARTER), 2);
        assert_eq!(since(quarter - SECOND, quarter + SECOND), 0, "it was crossed at once");
        assert_eq!(since(quarter, quarter + 400 * LONGEST_CALL), 96);
    }

    #[test]
    fn times_at_the_ends_of_the_calendar_do_no_harm() {
        for now in [i64::MIN, i64::MAX] {
            let moment = Moment { now };
            assert_eq!(moment.crossed().count(), 0);
            assert!(moment.quarter() <= now || now == i64::MIN);
        }
    }
}
