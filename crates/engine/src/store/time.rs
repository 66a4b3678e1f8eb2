//! Times in the form in which they are stored: nanoseconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Converts to nanoseconds since 1970. Times before 1677 or after 2262 are clamped.
pub(super) fn nanos(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}

/// Converts from nanoseconds since 1970.
pub(super) fn time(nanos: i64) -> SystemTime {
    let duration = Duration::from_nanos(nanos.unsigned_abs());
    if nanos < 0 { UNIX_EPOCH - duration } else { UNIX_EPOCH + duration }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_conversion_to_nanoseconds() {
        for moment in [UNIX_EPOCH, UNIX_EPOCH + Duration::new(5, 7), UNIX_EPOCH - Duration::new(5, 7)] {
            assert_eq!(time(nanos(moment)), moment);
        }
    }
}
