//! How calls are spread over a window: at any time, as many may have been made as its share of the time that has passed.

use std::time::{Duration, SystemTime};

use super::CalendarWindow;

/// The calls that may have been made by this moment: the share of `limit` for the time since the window began, and one more, so that
/// nobody waits for the first.
pub fn paced_calls(limit: u64, window: CalendarWindow, at: SystemTime) -> u64 {
    let passed = at.duration_since(window.starts).unwrap_or_default().min(length(window));
    let share = u128::from(limit) * passed.as_nanos() / length(window).as_nanos().max(1);
    u64::try_from(share).unwrap_or(u64::MAX).saturating_add(1).min(limit)
}

/// When [`paced_calls`] is greater than `used`; the end of the window if it never is.
pub fn paced_from(limit: u64, used: u64, window: CalendarWindow) -> SystemTime {
    if used >= limit {
        return window.ends;
    }
    let after = (u128::from(used) * length(window).as_nanos()).div_ceil(u128::from(limit.max(1)));
    let after = Duration::from_nanos(u64::try_from(after).unwrap_or(u64::MAX));
    window.starts.checked_add(after).unwrap_or(window.ends)
}

fn length(window: CalendarWindow) -> Duration {
    window.ends.duration_since(window.starts).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn day() -> CalendarWindow {
        let starts = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        CalendarWindow { starts, ends: starts + DAY }
    }

    #[test]
    fn a_share_grows_evenly_from_one_call_to_all() {
        let hour = |hour: u32| paced_calls(48, day(), day().starts + hour * DAY / 24);
        assert_eq!([0, 1, 12, 23, 24, 30].map(hour), [1, 3, 25, 47, 48, 48]);
        assert_eq!(paced_calls(0, day(), day().ends), 0);
        assert_eq!(paced_calls(u64::MAX, day(), day().ends), u64::MAX);
        assert_eq!(paced_calls(9, day(), SystemTime::UNIX_EPOCH), 1, "before it began");
    }

    proptest! {
        #[test]
        fn one_more_call_may_be_made_exactly_from_then_on(limit in 1_u64..100_000, used in 0_u64..100_000) {
            let opens = paced_from(limit, used, day());
            prop_assume!(used < limit);
            prop_assert!(opens < day().ends);
            prop_assert!(paced_calls(limit, day(), opens) > used);
            if let Some(before) = opens.checked_sub(Duration::from_nanos(1)).filter(|before| *before >= day().starts) {
                prop_assert!(paced_calls(limit, day(), before) <= used);
            }
        }
    }
}
