//! How far raters agree: Cohen's kappa of two, Krippendorff's alpha and Gwet's AC1 of any number. Each from counts that one
//! pass fills; a missing rating is not a rating.
//!
//! Formulas: Cohen 1960 and 1968; Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability"; Gwet 2008, "Computing
//! inter-rater reliability and its variance in the presence of high agreement".

use super::numeric::{Estimate, Generator, quantile};

/// Samples behind a bootstrap interval.
const RESAMPLES: usize = 400;

/// How often two raters gave which pair of `N` ordered categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JointTable<const N: usize> {
    counts: [[u64; N]; N],
}

/// How much it weighs that two raters differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KappaWeights {
    /// Every difference alike: Cohen's plain kappa.
    Plain,
    /// By the square of the distance.
    Quadratic,
}

impl<const N: usize> Default for JointTable<N> {
    fn default() -> Self {
        Self { counts: [[0; N]; N] }
    }
}

impl<const N: usize> JointTable<N> {
    /// The table with these counts: a row for each category of the first rater.
    pub fn new(counts: [[u64; N]; N]) -> Self {
        Self { counts }
    }

    /// Counts one item that both rated.
    pub fn add(&mut self, first: usize, second: usize) {
        if let Some(count) = self.counts.get_mut(first).and_then(|row| row.get_mut(second)) {
            *count += 1;
        }
    }

    /// Items that both rated.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Items that both put into this pair of categories.
    pub fn count(&self, first: usize, second: usize) -> u64 {
        self.counts.get(first).and_then(|row| row.get(second)).copied().unwrap_or_default()
    }

    /// The table with the raters exchanged.
    #[must_use]
    pub fn transposed(&self) -> Self {
        let mut exchanged = Self::default();
        for (first, row) in self.counts.iter().enumerate() {
            for (second, count) in row.iter().enumerate() {
                exchanged.counts[second][first] = *count;
            }
        }
        exchanged
    }

    /// Share of the items on which they agree; `None` without any.
    pub fn agreement(&self) -> Option<f64> {
        let agreed: u64 = (0..N).map(|category| self.counts[category][category]).sum();
        (self.total() > 0).then(|| agreed as f64 / self.total() as f64)
    }

    /// Cohen's kappa: 1 for full agreement, 0 for as much as chance. `None` where neither could disagree: no item, or all in
    /// one category.
    pub fn kappa(&self, weights: KappaWeights) -> Option<f64> {
        let total = self.total() as f64;
        let first: Vec<u64> = self.counts.iter().map(|row| row.iter().sum()).collect();
        let second: Vec<u64> = (0..N).map(|place| self.counts.iter().map(|row| row[place]).sum()).collect();
        let (mut observed, mut expected) = (0.0, 0.0);
        for (row, counts) in self.counts.iter().enumerate() {
            for (column, count) in counts.iter().enumerate() {
                let weight = match weights {
                    KappaWeights::Plain => f64::from(u8::from(row != column)),
                    KappaWeights::Quadratic => row.abs_diff(column).pow(2) as f64,
                };
                observed += weight * *count as f64;
                expected += weight * first[row] as f64 * second[column] as f64 / total;
            }
        }
        (expected > 0.0).then(|| 1.0 - observed / expected)
    }

    /// [`Self::kappa`] with its interval by the bootstrap, whose seed is fixed. Samples in which kappa is not defined are left
    /// out.
    pub fn kappa_estimate(&self, weights: KappaWeights) -> Option<Estimate> {
        let value = self.kappa(weights)?;
        let mut generator = Generator::new(0x636f_6e63);
        let rows = self.counts.map(|row| row.iter().sum::<u64>());
        let resample = |generator: &mut Generator| {
            let totals = generator.resample(&rows);
            let mut drawn = Self::default();
            for ((to, row), total) in drawn.counts.iter_mut().zip(&self.counts).zip(totals) {
                *to = generator.resample_total(row, total);
            }
            drawn.kappa(weights)
        };
        let mut drawn: Vec<f64> = (0..RESAMPLES).filter_map(|_| resample(&mut generator)).collect();
        let (low, high) = (quantile(&mut drawn, 0.025)?, quantile(&mut drawn, 0.975)?);
        Some(Estimate { value, low: low.min(value), high: high.max(value) })
    }
}

/// The metric of Krippendorff's alpha.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlphaMetric {
    /// Every difference alike.
    Nominal,
    /// By how many ratings lie between two categories.
    Ordinal,
}

/// Agreement of any number of raters on `N` ordered categories.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupAgreement<const N: usize> {
    /// Krippendorff's coincidences: pairs of ratings of one item, each item counting as its number of ratings.
    coincidences: [[f64; N]; N],
    /// Items with at least two ratings.
    pairable: u64,
    /// Items with at least one.
    rated: u64,
    /// Sum over the pairable items of the share of their pairs that agree.
    agreeing: f64,
    /// Sum over the rated items of each category's share of their ratings.
    shares: [f64; N],
}

impl<const N: usize> Default for GroupAgreement<N> {
    fn default() -> Self {
        Self { coincidences: [[0.0; N]; N], pairable: 0, rated: 0, agreeing: 0.0, shares: [0.0; N] }
    }
}

impl<const N: usize> GroupAgreement<N> {
    /// Counts one item, of which `ratings[c]` raters say category `c`.
    pub fn add(&mut self, ratings: [u32; N]) {
        let ratings = ratings.map(f64::from);
        let count: f64 = ratings.iter().sum();
        if count == 0.0 {
            return;
        }
        self.rated += 1;
        for (share, rating) in self.shares.iter_mut().zip(ratings) {
            *share += rating / count;
        }
        if count < 2.0 {
            return;
        }
        self.pairable += 1;
        let pairs =
            |first: usize, second: usize| ratings[first] * (ratings[second] - f64::from(u8::from(first == second)));
        for first in 0..N {
            for second in 0..N {
                self.coincidences[first][second] += pairs(first, second) / (count - 1.0);
            }
            self.agreeing += pairs(first, first) / (count * (count - 1.0));
        }
    }

    /// Items with at least two ratings, which is what agreement is measured on.
    pub fn pairable(&self) -> u64 {
        self.pairable
    }

    /// Krippendorff's alpha: 1 for full agreement, 0 for as much as chance. `None` where nobody could disagree.
    pub fn alpha(&self, metric: AlphaMetric) -> Option<f64> {
        let totals = self.coincidences.map(|row| row.iter().sum::<f64>());
        let all: f64 = totals.iter().sum();
        let difference = |first: usize, second: usize| match metric {
            AlphaMetric::Nominal => f64::from(u8::from(first != second)),
            AlphaMetric::Ordinal => {
                let (low, high) = (first.min(second), first.max(second));
                let between: f64 = totals[low..=high].iter().sum();
                (between - (totals[low] + totals[high]) / 2.0).powi(2)
            }
        };
        let (mut observed, mut expected) = (0.0, 0.0);
        for first in 0..N {
            for second in (0..N).filter(|second| *second != first) {
                observed += self.coincidences[first][second] * difference(first, second);
                expected += totals[first] * totals[second] * difference(first, second);
            }
        }
        (expected > 0.0).then(|| 1.0 - (all - 1.0) * observed / expected)
    }

    /// Gwet's AC1, which does not fall where nearly all items are of one category. `None` without a pairable item.
    pub fn ac1(&self) -> Option<f64> {
        if self.pairable == 0 || N < 2 {
            return None;
        }
        let observed = self.agreeing / self.pairable as f64;
        let chance =
            self.shares.iter().map(|sum| sum / self.rated as f64).map(|share| share * (1.0 - share)).sum::<f64>();
        let chance = chance / (N - 1) as f64;
        (chance < 1.0).then(|| (observed - chance) / (1.0 - chance))
    }
}
