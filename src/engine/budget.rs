//! How long a request may take: the caller's deadline less a margin in which the verdict is fused, stored and sent.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::error::Error;

/// Time for a request whose caller sets no deadline, unless the configuration says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

const MIN_MARGIN: Duration = Duration::from_millis(20);
const MAX_MARGIN: Duration = Duration::from_millis(250);

/// The moments that bound one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// By when the sources must have answered.
    pub fetch_until: Monotonic,
    /// By when the caller wants the answer.
    pub deadline: Monotonic,
}

impl Budget {
    /// The budget of a request that arrives `now`: the margin is 5 % of the time left, at least 20 and at most 250 ms.
    ///
    /// # Errors
    /// [`Error::Late`] when not even the least margin is left.
    pub fn new(now: Monotonic, deadline: Option<Monotonic>, default: Duration) -> Result<Self, Error> {
        let deadline = deadline.unwrap_or(now + default);
        let left = deadline.since(now);
        if left <= MIN_MARGIN {
            return Err(Error::Late { needed: MIN_MARGIN * 2 });
        }
        let margin = (left / 20).clamp(MIN_MARGIN, MAX_MARGIN);
        Ok(Self { fetch_until: deadline - margin, deadline })
    }

    /// The budget of a batch: its margin is twice as wide, since many verdicts are fused, stored and sent in it.
    #[must_use]
    pub fn for_batch(self) -> Self {
        let margin = self.deadline.since(self.fetch_until);
        Self { fetch_until: self.fetch_until - margin, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn margin_of(left: Duration) -> Duration {
        let now = Monotonic::default();
        let budget = Budget::new(now, Some(now + left), DEFAULT_DEADLINE).unwrap();
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
        let budget = Budget::new(now, None, DEFAULT_DEADLINE).unwrap();
        assert_eq!(budget.deadline, now + Duration::from_secs(10));
    }

    #[test]
    fn a_deadline_under_the_margin_is_late_and_says_how_much_is_needed() {
        let now = Monotonic::default() + Duration::from_secs(9);
        for left in [Duration::ZERO, Duration::from_millis(20)] {
            let late = Budget::new(now, Some(now + left), DEFAULT_DEADLINE).unwrap_err();
            assert_eq!(late.to_string(), "the deadline is too near: give at least 40 ms");
        }
        assert!(Budget::new(now, Some(Monotonic::default()), DEFAULT_DEADLINE).is_err());
    }
}
