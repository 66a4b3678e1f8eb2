//! The time budget of a request: the caller's deadline, less a margin for fusing and sending the verdict and for
//! answering the other requests that are due at the same time.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::error::Error;

/// Time for a request whose caller sets no deadline, unless the configuration says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

const MIN_MARGIN: Duration = Duration::from_millis(20);
const MAX_MARGIN: Duration = Duration::from_millis(250);

/// The deadlines of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The time by which the sources must have answered.
    pub fetch_until: Monotonic,
    /// The time by which the caller wants the answer.
    pub deadline: Monotonic,
}

impl Budget {
    /// The budget of a request with this deadline. The margin is 5 % of the time left `now`, at least 20 and at most
    /// 250 ms, plus
    /// `reserve`, the time needed to answer the other requests that are due at the same time.
    ///
    /// # Errors
    /// [`Error::Late`] if the time left is not longer than the margin.
    pub fn new(
        now: Monotonic,
        deadline: Option<Monotonic>,
        default: Duration,
        reserve: Duration,
    ) -> Result<Self, Error> {
        let deadline = deadline.unwrap_or(now + default);
        let left = deadline.since(now);
        let margin = (left / 20).clamp(MIN_MARGIN, MAX_MARGIN) + reserve;
        if left <= margin {
            return Err(Error::Late { needed: margin + MIN_MARGIN });
        }
        Ok(Self { fetch_until: deadline - margin, deadline })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn margin_of(left: Duration) -> Duration {
        let now = Monotonic::default();
        let budget = Budget::new(now, Some(now + left), DEFAULT_DEADLINE, Duration::ZERO).unwrap();
        budget.deadline.since(budget.fetch_until)
    }

    #[test]
    fn the_margin_is_five_percent_between_twenty_and_two_hundred_fifty_milliseconds() {
        assert_eq!(margin_of(Duration::from_secs(2)), Duration::from_millis(100));
        assert_eq!(margin_of(Duration::from_millis(100)), MIN_MARGIN);
        assert_eq!(margin_of(Duration::from_secs(60)), MAX_MARGIN);
    }

    #[test]
    fn a_request_without_a_deadline_has_ten_seconds() {
        let now = Monotonic::default();
        let budget = Budget::new(now, None, DEFAULT_DEADLINE, Duration::ZERO).unwrap();
        assert_eq!(budget.deadline, now + Duration::from_secs(10));
    }

    #[test]
    fn a_deadline_under_the_margin_is_late_and_says_how_much_is_needed() {
        let now = Monotonic::default() + Duration::from_secs(9);
        for left in [Duration::ZERO, Duration::from_millis(20)] {
            let late = Budget::new(now, Some(now + left), DEFAULT_DEADLINE, Duration::ZERO).unwrap_err();
            assert_eq!(late.to_string(), "the deadline is too near: give at least 40 ms");
        }
        assert!(Budget::new(now, Some(Monotonic::default()), DEFAULT_DEADLINE, Duration::ZERO).is_err());
    }

    #[test]
    fn the_reserve_for_other_requests_is_added_to_the_margin() {
        let now = Monotonic::default();
        let (left, reserve) = (Duration::from_millis(500), Duration::from_millis(100));
        let budget = Budget::new(now, Some(now + left), DEFAULT_DEADLINE, reserve).unwrap();
        assert_eq!(budget.fetch_until, now + Duration::from_millis(375));
        assert!(Budget::new(now, Some(now + left), DEFAULT_DEADLINE, left).is_err());
    }
}
