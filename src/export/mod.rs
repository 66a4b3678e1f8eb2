//! A verdict for other programs: JSON with every member, CSV with one record a verdict.
//!
//! Pure: it returns text and values and writes nothing. The credentials of a URL are redacted. Member and column names
//! are a promise: new ones are added, none is changed.

use std::time::SystemTime;

use jiff::Timestamp;

mod csv;
mod json;

pub use self::csv::{csv_header, csv_row};
pub use json::verdict_to_json;

/// RFC 3339 in UTC; a time beyond the years that it can write becomes the first or last that it can.
fn rfc3339(time: SystemTime) -> String {
    let edge = if time < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::try_from(time).unwrap_or(edge).to_string()
}

#[cfg(test)]
mod sample;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_that_no_calendar_can_write_becomes_the_last_that_one_can() {
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 50);
        assert_eq!(rfc3339(far), Timestamp::MAX.to_string());
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00Z");
    }
}
