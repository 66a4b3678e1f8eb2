//! Identifiers that sort by time: 48 bits of milliseconds, 80 bits of chance, in 26 lower-case letters and digits.
//!
//! Must not be used as a secret: within one millisecond they count upwards.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;

/// Crockford's base 32: no i, l, o, u, which are misread.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A clock that steps back by less than this does not break the order of identifiers.
const SMALL_STEP: Duration = Duration::from_secs(5);

/// The last identifier given, so that the next one of the same moment comes behind it.
static LAST: Mutex<u128> = Mutex::new(0);

/// A new identifier for something made at this moment: 26 lower-case letters and digits that sort by time. Within a
/// process they rise strictly as long as the time given does not fall back by 5 seconds or more.
pub fn new_id(at: SystemTime) -> String {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let next = following(*last, milliseconds(at), chance());
    *last = next;
    spell(next)
}

/// The identifier behind `last` for this millisecond.
fn following(last: u128, now: u64, chance: u128) -> u128 {
    let last_time = u64::try_from(last >> 80).unwrap_or(u64::MAX);
    let step_back = u128::from(last_time.saturating_sub(now));
    if now > last_time || step_back >= SMALL_STEP.as_millis() {
        (u128::from(now) << 80) | chance
    } else {
        last.wrapping_add(1)
    }
}

/// Milliseconds since 1970, within 48 bits; an earlier time counts as 1970.
fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX) & 0xffff_ffff_ffff
}

/// 79 bits of chance: the free top bit leaves room to count within the millisecond.
fn chance() -> u128 {
    let mut bytes = [0_u8; 16];
    // Without chance the count still keeps identifiers of this process apart, and a store refuses a doubled one.
    if rand::fill(&mut bytes).is_err() {
        return 0;
    }
    u128::from_be_bytes(bytes) >> 49
}

/// In base 32, most significant digit first.
fn spell(id: u128) -> String {
    let digit = |place: u32| {
        let index = usize::try_from((id >> (place * 5)) & 31).unwrap_or(0);
        char::from(DIGITS.get(index).copied().unwrap_or(b'0'))
    };
    (0..26).rev().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_millisecond_sorts_behind() {
        let early = spell(following(0, 1_000, u128::MAX >> 49));
        let late = spell(following(0, 1_001, 0));
        assert!(early < late, "{early} {late}");
        assert_eq!(late.len(), 26);
    }

    #[test]
    fn within_a_millisecond_and_over_a_small_step_back_they_rise() {
        let first = following(0, 10_000, 7);
        let same = following(first, 10_000, 3);
        let back = following(same, 9_000, 3);
        assert!(first < same && same < back);
    }

    #[test]
    fn after_a_large_step_back_they_tell_the_new_time() {
        let first = following(0, 10_000, 7);
        assert_eq!(following(first, 5_000, 3) >> 80, 5_000);
    }

    #[test]
    fn no_two_are_the_same() {
        let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let ids: std::collections::BTreeSet<_> = (0..1_000).map(|_| new_id(at)).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.iter().all(|id| id.bytes().all(|byte| DIGITS.contains(&byte))));
    }
}
