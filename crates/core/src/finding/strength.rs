//! How sure a source is of its claim.

use std::cmp::Ordering;

/// How sure a source is of its claim, from 0 (says nothing) to 1. At 0.85 the claim carries the full evidence of its
/// source's reliability letter (`docs/fusion.md`, "One claim").
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strength(f64);

impl Strength {
    /// The strength at which a claim carries its letter's full evidence: the least that a threshold set by the user has.
    pub const FULL: Self = Self(0.85);
    /// The highest strength, which carries the evidence of the next better letter.
    pub const MAX: Self = Self(1.0);

    /// `value` limited to 0 to 1; NaN becomes 0.
    pub fn clamped(value: f64) -> Self {
        if value.is_nan() { Self(0.0) } else { Self(value.clamp(0.0, 1.0)) }
    }

    /// The strength of a count over a threshold: 0.85 at the threshold, rising linearly to 1 at three times it.
    pub fn over(count: u64, threshold: u64) -> Self {
        let threshold = threshold.max(1) as f64;
        let beyond = (count as f64 - threshold) / (2.0 * threshold);
        Self::clamped(0.85 + 0.15 * beyond.clamp(0.0, 1.0))
    }

    /// The number, 0 to 1.
    pub fn get(self) -> f64 {
        self.0
    }

    /// The strength, but at least `floor`.
    #[must_use]
    pub fn at_least(self, floor: f64) -> Self {
        Self(self.0.max(floor))
    }
}

impl Eq for Strength {}

impl PartialOrd for Strength {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Strength {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strength_is_full_exactly_at_the_threshold_and_one_from_three_times_on() {
        assert_eq!(Strength::over(10, 10), Strength::FULL);
        assert_eq!(Strength::over(30, 10), Strength::MAX);
        assert_eq!(Strength::over(94, 10), Strength::MAX);
        assert!((Strength::over(16, 10).get() - 0.895).abs() < 1e-12);
    }
}
