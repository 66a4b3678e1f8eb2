//! When the windows of a quota begin and end, in the time zone in which its source counts. The zones and their daylight
//! saving time are those of the IANA database, which is part of the program.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

use super::{QuotaPer, QuotaWindow};

/// The time zone in which hours, days, weeks and months of a quota begin and end.
#[derive(Clone, PartialEq, Eq)]
pub struct QuotaZone(TimeZone);

/// The limits of a quota, and where its windows begin.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuotaLimits {
    /// At most one window of each period.
    pub windows: Vec<QuotaWindow>,
    /// The zone of its calendar.
    pub zone: QuotaZone,
}

/// A window of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CalendarWindow {
    /// When it begins.
    pub starts: SystemTime,
    /// When the next one begins.
    pub ends: SystemTime,
}

impl QuotaZone {
    /// Its name in the IANA database.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The window of this period in which a moment lies. `None` for the minute, which slides, and for a moment beyond the
    /// calendar.
    pub fn window(&self, per: QuotaPer, at: SystemTime) -> Option<CalendarWindow> {
        let at = Timestamp::try_from(at).ok()?.to_zoned(self.0.clone());
        let (starts, ends) = match per {
            QuotaPer::Minute => return None,
            QuotaPer::Hour => {
                // Counted from the beginning of the day: where the clock is set by half an hour, the day's last is half as long.
                let (day, next_day) = self.between(at.date(), at.date().tomorrow().ok()?)?;
                let starts = day.checked_add(at.timestamp().duration_since(day).as_hours().hours()).ok()?;
                (starts, starts.checked_add(1.hour()).ok()?.min(next_day))
            }
            QuotaPer::Day => self.between(at.date(), at.date().tomorrow().ok()?)?,
            QuotaPer::Week => {
                let monday =
                    at.date().checked_sub(i64::from(at.date().weekday().to_monday_zero_offset()).days()).ok()?;
                self.between(monday, monday.checked_add(1.week()).ok()?)?
            }
            QuotaPer::Month => self.between(at.date().first_of_month(), at.date().last_of_month().tomorrow().ok()?)?,
        };
        Some(CalendarWindow { starts: starts.into(), ends: ends.into() })
    }

    fn between(&self, first: Date, last: Date) -> Option<(Timestamp, Timestamp)> {
        // Where the clock is set at midnight, a day begins at another hour.
        let start = |date: Date| date.to_zoned(self.0.clone()).as_ref().map(Zoned::timestamp).ok();
        Some((start(first)?, start(last)?))
    }
}

impl Default for QuotaZone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl FromStr for QuotaZone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let zone = TimeZone::get(text.trim()).ok().filter(|zone| zone.iana_name().is_some());
        zone.map(Self).ok_or_else(|| format!("{text:?} is no time zone; write a name as UTC or America/New_York"))
    }
}

impl fmt::Display for QuotaZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for QuotaZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialOrd for QuotaZone {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for QuotaZone {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl From<Vec<QuotaWindow>> for QuotaLimits {
    /// Windows in UTC.
    fn from(windows: Vec<QuotaWindow>) -> Self {
        Self { windows, zone: QuotaZone::default() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> SystemTime {
        text.parse::<Timestamp>().expect("a time").into()
    }

    fn zone(name: &str) -> QuotaZone {
        name.parse().expect("a zone")
    }

    #[track_caller]
    fn check(name: &str, per: QuotaPer, now: &str, starts: &str, ends: &str) {
        let window = zone(name).window(per, at(now));
        assert_eq!(window, Some(CalendarWindow { starts: at(starts), ends: at(ends) }), "{name} {per:?} at {now}");
    }

    #[test]
    fn a_leap_february_ends_on_its_29th_and_december_turns_into_january() {
        check("UTC", QuotaPer::Month, "2028-02-29T23:59:59.999999999Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z");
        check("UTC", QuotaPer::Day, "2028-02-29T23:59:59.999999999Z", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z");
        check("UTC", QuotaPer::Month, "2026-12-31T00:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z");
    }

    #[test]
    fn a_week_begins_on_monday_also_where_year_and_month_turn() {
        check("UTC", QuotaPer::Week, "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z");
        check("UTC", QuotaPer::Week, "2026-11-29T23:59:59.999999999Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z");
        check("UTC", QuotaPer::Week, "2027-01-03T12:00:00Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z");
    }

    #[test]
    fn a_day_begins_at_midnight_of_its_zone() {
        let name = "America/New_York";
        check(name, QuotaPer::Day, "2026-07-01T03:59:59Z", "2026-06-30T04:00:00Z", "2026-07-01T04:00:00Z");
        check(name, QuotaPer::Month, "2026-07-01T03:59:59Z", "2026-06-01T04:00:00Z", "2026-07-01T04:00:00Z");
        check(name, QuotaPer::Day, "2026-12-01T04:59:59Z", "2026-11-30T05:00:00Z", "2026-12-01T05:00:00Z");
        check(
            "Pacific/Auckland",
            QuotaPer::Week,
            "2026-07-05T13:00:00Z",
            "2026-07-05T12:00:00Z",
            "2026-07-12T12:00:00Z",
        );
    }

    #[test]
    fn a_day_on_which_the_clock_is_set_has_23_or_25_hours() {
        check("Europe/Berlin", QuotaPer::Day, "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
        check("Europe/Berlin", QuotaPer::Day, "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
        // Midnight does not exist on the day, which begins at one.
        check("Africa/Cairo", QuotaPer::Day, "2026-04-24T12:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z");
        // The hour that is repeated is two windows.
        check("Europe/Berlin", QuotaPer::Hour, "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z");
        check("Europe/Berlin", QuotaPer::Hour, "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z");
    }

    #[test]
    fn an_hour_begins_at_the_half_where_the_zone_is_off_by_half() {
        check("Asia/Kolkata", QuotaPer::Hour, "2026-07-01T12:00:00Z", "2026-07-01T11:30:00Z", "2026-07-01T12:30:00Z");
        check("Asia/Kathmandu", QuotaPer::Day, "2026-07-01T12:00:00Z", "2026-06-30T18:15:00Z", "2026-07-01T18:15:00Z");
    }

    #[test]
    fn the_last_hour_of_a_day_that_is_half_an_hour_longer_is_a_half() {
        check(
            "Australia/Lord_Howe",
            QuotaPer::Hour,
            "2031-04-05T15:00:00Z",
            "2031-04-05T15:00:00Z",
            "2031-04-05T16:00:00Z",
        );
        check(
            "Australia/Lord_Howe",
            QuotaPer::Hour,
            "2031-04-06T13:15:00Z",
            "2031-04-06T13:00:00Z",
            "2031-04-06T13:30:00Z",
        );
    }

    #[test]
    fn a_name_that_is_no_zone_is_refused() {
        for wrong in ["", "Mars/Olympus", "+02:00", "EST5EDT,M3.2.0,M11.1.0", "Etc/Unknown", "UTC\0"] {
            let refused = wrong.parse::<QuotaZone>().unwrap_err();
            assert_eq!(refused, format!("{wrong:?} is no time zone; write a name as UTC or America/New_York"));
        }
        assert_eq!(zone(" europe/berlin ").to_string(), "Europe/Berlin");
        assert_eq!(zone("utc"), QuotaZone::default());
    }

    proptest! {
        #[test]
        fn a_moment_lies_in_its_window_and_the_next_window_begins_where_it_ends(
            name in prop::sample::select(vec!["UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Havana"]),
            seconds in 1_600_000_000_u64..2_200_000_000,
        ) {
            let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            for per in [QuotaPer::Hour, QuotaPer::Day, QuotaPer::Week, QuotaPer::Month] {
                let window = zone(name).window(per, now).unwrap();
                prop_assert!(window.starts <= now && now < window.ends, "{:?}", window);
                prop_assert_eq!(zone(name).window(per, window.starts), Some(window));
                prop_assert_eq!(zone(name).window(per, window.ends).unwrap().starts, window.ends);
            }
        }
    }
}
