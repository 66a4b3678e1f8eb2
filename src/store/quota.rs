//! What quota windows mean in time: the one place that knows, for every backend.
//!
//! Pure arithmetic on nanoseconds since 1970. A backend counts what it recorded; here is decided what that count means.
//! When the clock steps back, calls recorded in what is now the future still count: they were made before now.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{Acquired, StoreError, WindowUse};
use crate::source::{QuotaPer, QuotaWindow};

/// the length of the sliding window.
pub(super) const MINUTE: i64 = 60_000_000_000;

/// How long a call counts in the sliding minute: a second more, since a call arrives somewhat later than it was paid, and
/// the first of several may be slower to connect than the last.
pub(super) const SLIDING: i64 = MINUTE + 1_000_000_000;

/// How long single calls are kept: much longer than the window, so that a clock that jumps ahead and back loses none.
pub(super) const CALLS_KEPT: i64 = 60 * MINUTE;

/// How long counters are kept.
pub(super) const COUNTS_KEPT: i64 = 400 * 24 * 60 * MINUTE;

/// A record further ahead than this was made before the clock stepped back. Less is only a call that overtook another.
pub(super) const AHEAD: i64 = MINUTE;

/// Nanoseconds since 1970; times before 1677 or after 2262 are moved to the nearest end.
pub(super) fn nanos(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}

/// The time of these nanoseconds since 1970.
pub(super) fn time(nanos: i64) -> SystemTime {
    let duration = Duration::from_nanos(nanos.unsigned_abs());
    if nanos < 0 { UNIX_EPOCH - duration } else { UNIX_EPOCH + duration }
}

/// The moment that lies this long before.
pub(super) fn before(now: i64, age: Duration) -> i64 {
    now.saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX))
}

/// The calendar day and month (UTC) of a moment: where they begin and where the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    /// First moment of the day.
    pub(super) day: i64,
    /// First moment of the next day.
    pub(super) next_day: i64,
    /// First moment of the month.
    pub(super) month: i64,
    /// First moment of the next month.
    pub(super) next_month: i64,
}

impl Calendar {
    /// The calendar at this moment.
    pub(super) fn at(now: i64) -> Result<Self, StoreError> {
        calendar(now).map_err(|error| StoreError::new(format!("no calendar day for this time: {error}")))
    }
}

fn calendar(now: i64) -> Result<Calendar, jiff::Error> {
    let date = Timestamp::from_nanosecond(i128::from(now))?.to_zoned(TimeZone::UTC).date();
    Ok(Calendar {
        day: start(date)?,
        next_day: start(date.tomorrow()?)?,
        month: start(date.first_of_month())?,
        next_month: start(date.last_of_month().tomorrow()?)?,
    })
}

fn start(date: Date) -> Result<i64, jiff::Error> {
    let nanos = date.to_zoned(TimeZone::UTC)?.timestamp().as_nanosecond();
    Ok(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
}

/// What a backend has recorded of an account, brought to a moment.
pub(super) trait Recorded {
    /// How many calls the sliding minute holds.
    fn in_minute(&self) -> Result<u64, StoreError>;
    /// When the call was made that stands `skip` behind the oldest of the sliding minute.
    fn oldest(&self, skip: u64) -> Result<Option<i64>, StoreError>;
    /// How many calls were counted in windows of this sort that begin at or after `starts`.
    fn counted(&self, per: QuotaPer, starts: i64) -> Result<u64, StoreError>;
}

/// How much of each window is used, in order.
pub(super) fn uses(recorded: &impl Recorded, windows: &[QuotaWindow], now: i64) -> Result<Vec<WindowUse>, StoreError> {
    let calendar = Calendar::at(now)?;
    windows.iter().map(|window| window_use(recorded, *window, now, calendar)).collect()
}

fn window_use(
    recorded: &impl Recorded,
    window: QuotaWindow,
    now: i64,
    calendar: Calendar,
) -> Result<WindowUse, StoreError> {
    let (used, resets_at) = match window.per {
        QuotaPer::Minute => {
            let used = recorded.in_minute()?;
            (used, minute_turns(recorded, used, window.limit, now)?)
        }
        QuotaPer::Day => (recorded.counted(QuotaPer::Day, calendar.day)?, calendar.next_day),
        QuotaPer::Month => (recorded.counted(QuotaPer::Month, calendar.month)?, calendar.next_month),
    };
    Ok(WindowUse { per: window.per, limit: window.limit, used, resets_at: time(resets_at) })
}

/// When the sliding minute has a unit more than now. Where a limit was lowered, several calls must first grow old.
fn minute_turns(recorded: &impl Recorded, used: u64, limit: u64, now: i64) -> Result<i64, StoreError> {
    let skip = used.saturating_sub(limit.max(1));
    Ok(recorded.oldest(skip)?.map_or(now, |call| call.saturating_add(SLIDING)))
}

/// Of the windows that are used up, the one that resets last.
pub(super) fn spent(uses: &[WindowUse]) -> Option<Acquired> {
    let full = uses.iter().filter(|window| window.used >= window.limit);
    full.max_by_key(|window| window.resets_at).map(|window| Acquired::Spent(*window))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        i64::try_from(text.parse::<Timestamp>().expect("a time").as_nanosecond()).expect("in range")
    }

    #[test]
    fn a_leap_february_ends_on_its_29th() {
        let calendar = Calendar::at(at("2028-02-29T23:59:59.999999999Z")).expect("a calendar");
        assert_eq!(calendar.month, at("2028-02-01T00:00:00Z"));
        assert_eq!(calendar.day, at("2028-02-29T00:00:00Z"));
        assert_eq!(calendar.next_day, at("2028-03-01T00:00:00Z"));
        assert_eq!(calendar.next_month, at("2028-03-01T00:00:00Z"));
    }

    #[test]
    fn december_turns_into_january() {
        let calendar = Calendar::at(at("2026-12-31T00:00:00Z")).expect("a calendar");
        assert_eq!(calendar.day, at("2026-12-31T00:00:00Z"));
        assert_eq!(calendar.next_month, at("2027-01-01T00:00:00Z"));
    }

    #[test]
    fn times_survive_the_way_through_nanoseconds() {
        for moment in [UNIX_EPOCH, UNIX_EPOCH + Duration::new(5, 7), UNIX_EPOCH - Duration::new(5, 7)] {
            assert_eq!(time(nanos(moment)), moment);
        }
    }
}
