//! What the statistics need of numerical mathematics.

/// An estimate with the bounds between which the true value lies in 95 of 100 cases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

/// Standard deviations on either side of the mean that hold 95 % of a normal distribution.
pub(super) const Z95: f64 = 1.959_963_984_540_054;

impl Estimate {
    /// A share with its Wilson interval; `None` of nothing.
    pub fn share(hits: u64, of: u64) -> Option<Self> {
        if of == 0 {
            return None;
        }
        let (n, share) = (of as f64, hits as f64 / of as f64);
        let z = Z95 * Z95 / n;
        let middle = (share + z / 2.0) / (1.0 + z);
        let half = Z95 / (1.0 + z) * (share * (1.0 - share) / n + z / (4.0 * n)).sqrt();
        Some(Self { value: share, low: (middle - half).max(0.0), high: (middle + half).min(1.0) })
    }

    /// A ratio of two shares with its interval (Simel and others 1991, on the logarithm); half a case is added everywhere
    /// where a count is 0. `None` where a whole is empty.
    pub fn ratio_of_shares(hits: u64, of: u64, other_hits: u64, of_other: u64) -> Option<Self> {
        if of == 0 || of_other == 0 {
            return None;
        }
        let half = if hits == 0 || other_hits == 0 { 0.5 } else { 0.0 };
        let (a, n) = (hits as f64 + half, of as f64 + 2.0 * half);
        let (b, m) = (other_hits as f64 + half, of_other as f64 + 2.0 * half);
        let log = ((a / n) / (b / m)).ln();
        let spread = Z95 * (1.0 / a - 1.0 / n + 1.0 / b - 1.0 / m).max(0.0).sqrt();
        Some(Self { value: log.exp(), low: (log - spread).exp(), high: (log + spread).exp() })
    }
}

/// The derivative of the digamma function, for x above 0: the variance of the logarithm of a gamma variable.
pub(super) fn trigamma(x: f64) -> f64 {
    let (mut x, mut sum) = (x, 0.0);
    // The asymptotic series needs a large argument.
    while x < 8.0 {
        sum += 1.0 / (x * x);
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    sum + 1.0 / x
        + inverse / 2.0
        + inverse / x * (1.0 / 6.0 - inverse * (1.0 / 30.0 - inverse * (1.0 / 42.0 - inverse / 30.0)))
}

/// A generator of pseudo-random numbers with a fixed seed (SplitMix64), so that the same history always gives the same
/// interval.
pub(super) struct Generator(u64);

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Uniform from 0 to below 1.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Successes of n trials. Where both outcomes are frequent, the normal approximation.
    fn binomial(&mut self, n: u64, p: f64) -> u64 {
        if p > 0.5 {
            return n - self.binomial(n, 1.0 - p);
        }
        let mean = n as f64 * p;
        if n == 0 || p <= 0.0 {
            return 0;
        }
        if mean > 30.0 {
            let drawn = mean + self.normal() * (mean * (1.0 - p)).sqrt();
            return drawn.round().clamp(0.0, n as f64) as u64;
        }
        // Inversion: walks up the distribution function.
        let odds = p / (1.0 - p);
        let mut mass = (1.0 - p).powf(n as f64);
        let (mut left, mut k) = (self.uniform(), 0);
        while left > mass && k < n {
            left -= mass;
            k += 1;
            mass *= odds * (n - k + 1) as f64 / k as f64;
        }
        k
    }

    /// As many draws as the counts have, from the distribution that they are.
    pub(super) fn resample<const N: usize>(&mut self, counts: &[u64; N]) -> [u64; N] {
        self.resample_total(counts, counts.iter().sum())
    }

    /// So many draws from the distribution that the counts are.
    pub(super) fn resample_total<const N: usize>(&mut self, counts: &[u64; N], total: u64) -> [u64; N] {
        let mut rest: u64 = counts.iter().sum();
        let mut draws = total;
        counts.map(|count| {
            let drawn = if count == rest { draws } else { self.binomial(draws, count as f64 / rest as f64) };
            draws -= drawn;
            rest -= count;
            drawn
        })
    }
}

/// Spreads the bits of a number over all of the result.
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The value below which this share of the values lies; `None` of nothing. Sorts the values.
pub(super) fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let place = last as f64 * share;
    let (below, above) = (values.get(place.floor() as usize)?, values.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

/// The probability with these log-odds, in nats.
pub(super) fn sigmoid(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trigamma_has_its_known_values() {
        let pi = std::f64::consts::PI;
        assert!((trigamma(1.0) - pi * pi / 6.0).abs() < 1e-9);
        assert!((trigamma(0.5) - pi * pi / 2.0).abs() < 1e-9);
        assert!((trigamma(20.0) - 0.051_270_822_93).abs() < 1e-9);
    }

    #[test]
    fn a_wilson_interval_has_its_known_bounds_and_never_leaves_0_to_1() {
        let share = Estimate::share(8, 10).unwrap();
        assert!((share.low - 0.4902).abs() < 1e-4 && (share.high - 0.9433).abs() < 1e-4, "{share:?}");
        let none = Estimate::share(0, 3).unwrap();
        assert!(none.low == 0.0 && none.high < 0.6, "{none:?}");
        assert_eq!(Estimate::share(0, 0), None);
    }

    #[test]
    fn a_likelihood_ratio_has_its_interval_on_the_logarithm() {
        // 90 of 100 against 10 of 100: ln 9 +- 1.96 sqrt(1/90 - 1/100 + 1/10 - 1/100)
        let ratio = Estimate::ratio_of_shares(90, 100, 10, 100).unwrap();
        assert!((ratio.value - 9.0).abs() < 1e-12);
        assert!((ratio.low - 4.981).abs() < 0.001 && (ratio.high - 16.262).abs() < 0.001, "{ratio:?}");
        assert!(Estimate::ratio_of_shares(5, 10, 0, 10).unwrap().value.is_finite());
    }

    #[test]
    fn resampling_keeps_the_number_of_draws_and_the_shares() {
        let mut generator = Generator::new(7);
        let counts = [5_000, 40, 0, 300];
        let mut sums = [0; 4];
        for _ in 0..400 {
            let drawn = generator.resample(&counts);
            assert_eq!(drawn.iter().sum::<u64>(), 5_340);
            for (sum, drawn) in sums.iter_mut().zip(drawn) {
                *sum += drawn;
            }
        }
        assert_eq!(sums[2], 0);
        for (sum, count) in sums.into_iter().zip(counts) {
            let mean = sum as f64 / 400.0;
            assert!((mean - count as f64).abs() <= 0.05 * count as f64 + 0.5, "{mean} for {count}");
        }
    }

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(quantile(&mut [4.0, 1.0, 2.0, 3.0], 0.5), Some(2.5));
        assert_eq!(quantile(&mut [], 0.5), None);
    }
}
