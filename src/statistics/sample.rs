//! A sample of rows of bounded size, for what cannot be computed from counts.

use std::collections::BinaryHeap;

use super::numeric::mix;

/// The rows with the smallest of numbers that are as good as random: the same rows always give the same sample, whatever their
/// order.
#[derive(Clone, Debug)]
pub struct Sample {
    rows: BinaryHeap<SampledRow>,
    most: usize,
}

/// What is kept of one row. Ordered by its number alone.
#[derive(Clone, Debug)]
pub struct SampledRow {
    number: u64,
    /// What an analyst found: malicious, else benign.
    pub label: Option<bool>,
    /// Log-odds without any source, in nats.
    pub base: f64,
    /// The sources that answered: place of the source, and its side, or 3 where it took none.
    pub answers: Vec<(u16, u8)>,
}

impl PartialEq for SampledRow {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for SampledRow {}

impl PartialOrd for SampledRow {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SampledRow {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.number.cmp(&other.number)
    }
}

impl Sample {
    /// A sample of at most so many rows.
    pub fn new(most: usize) -> Self {
        Self { rows: BinaryHeap::new(), most }
    }

    /// Offers a row; `seed` identifies it.
    pub fn offer(&mut self, seed: u64, label: Option<bool>, base: f64, answers: impl FnOnce() -> Vec<(u16, u8)>) {
        let number = mix(seed);
        if self.rows.len() >= self.most && self.rows.peek().is_none_or(|greatest| greatest.number <= number) {
            return;
        }
        self.rows.push(SampledRow { number, label, base, answers: answers() });
        if self.rows.len() > self.most {
            self.rows.pop();
        }
    }

    /// The rows, in an order that does not depend on the order in which they came.
    pub fn into_rows(self) -> Vec<SampledRow> {
        self.rows.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_bounded_and_does_not_depend_on_the_order_of_the_rows() {
        let sample = |seeds: &mut dyn Iterator<Item = u64>| {
            let mut sample = Sample::new(50);
            seeds.for_each(|seed| sample.offer(seed, None, seed as f64, Vec::new));
            sample.into_rows().into_iter().map(|row| row.base).collect::<Vec<_>>()
        };
        let upwards = sample(&mut (0..1_000));
        assert_eq!(upwards.len(), 50);
        assert_eq!(sample(&mut (0..1_000).rev()), upwards);
        let mean = upwards.iter().sum::<f64>() / 50.0;
        assert!((mean - 500.0).abs() < 150.0, "{mean}");
    }
}
