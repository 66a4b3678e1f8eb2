//! Identifiers that sort by time: ULIDs in lower case. They are not secrets, since within a millisecond they count
//! upwards.

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use ulid::Ulid;

use crate::sync::lock;

/// If the clock steps back by fewer milliseconds than this, identifiers stay in order.
const TOLERATED_STEP_BACK: u64 = 5_000;

/// The last identifier, so that the next one of the same millisecond sorts after it.
static LAST: Mutex<Ulid> = Mutex::new(Ulid::nil());

/// A new identifier for something created at this time: 26 lower-case letters and digits that sort by time. Within a
/// process, identifiers are strictly increasing unless `at` falls back by 5 seconds or more.
pub fn new_id(at: SystemTime) -> String {
    let time = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let id = {
        let mut last = lock(&LAST);
        *last = next(*last, u64::try_from(time).unwrap_or(u64::MAX), || Ulid::from_datetime(at));
        *last
    };
    id.array_to_str(&mut [0; ulid::ULID_LEN]).to_ascii_lowercase()
}

/// A new incident number. It is logged with the cause of an error that the caller must not see.
pub fn new_incident() -> String {
    format!("{:020x}", Ulid::from_datetime(SystemTime::UNIX_EPOCH).random())
}

/// Returns a fresh identifier if one of this time, in milliseconds, sorts after `last`, and otherwise the successor of `last`:
/// a random number is drawn once in a millisecond.
fn next(last: Ulid, time: u64, fresh: impl FnOnce() -> Ulid) -> Ulid {
    let last_time = last.timestamp_ms();
    if time > last_time || last_time - time >= TOLERATED_STEP_BACK {
        fresh()
    } else {
        // On overflow this is the first identifier of the next millisecond.
        last.increment().unwrap_or_else(|overflown| overflown)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn next_id(last: Ulid, milliseconds: u64, random: u128) -> Ulid {
        next(last, milliseconds, || Ulid::from_parts(milliseconds, random))
    }

    #[test]
    fn an_identifier_of_a_later_millisecond_sorts_after() {
        let early = next_id(Ulid::nil(), 1_000, u128::MAX >> 48).to_string();
        let late = next_id(Ulid::nil(), 1_001, 0).to_string();
        assert!(early < late, "{early} {late}");
        assert_eq!(late.len(), 26);
    }

    #[test]
    fn identifiers_increase_within_a_millisecond_and_over_a_small_step_back() {
        let first = next_id(Ulid::nil(), 10_000, u128::MAX >> 48);
        let same = next_id(first, 10_000, 3);
        let back = next_id(same, 9_000, 3);
        assert!(first < same && same < back);
    }

    #[test]
    fn after_a_large_step_back_identifiers_have_the_new_time() {
        let first = next_id(Ulid::nil(), 10_000, 7);
        assert_eq!(next_id(first, 5_000, 3).timestamp_ms(), 5_000);
    }

    #[test]
    fn no_two_identifiers_are_equal() {
        let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let ids: BTreeSet<_> = (0..1_000).map(|_| new_id(at)).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.iter().all(|id| id.bytes().all(|byte| b"0123456789abcdefghjkmnpqrstvwxyz".contains(&byte))));
    }
}
