//! A sample of rows of bounded size, for what cannot be computed from counts.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::numeric::mix;

/// The rows with the smallest of numbers that are as good as random: the same rows always give the same sample, whatever their
/// order.
#[derive(Clone, Debug)]
pub struct Sample {
    rows: BTreeMap<u64, SampledRow>,
    most: usize,
}

/// What is kept of one row.
#[derive(Clone, Debug)]
pub struct SampledRow {
    /// What an analyst found of the verdict as a whole: malicious, else benign.
    pub label: Option<bool>,
    /// Log-odds without any source, in nats.
    pub base: f64,
    /// What the sources answered.
    pub answers: Vec<SampledAnswer>,
}

/// What a source answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampledAnswer {
    /// Place of the source.
    pub source: u16,
    /// Its side, or 3 where it took none.
    pub outcome: u8,
    /// What an analyst found, where that belongs to this answer: malicious, else benign.
    pub label: Option<bool>,
}

impl Sample {
    /// A sample of at most so many rows.
    pub fn new(most: usize) -> Self {
        Self { rows: BTreeMap::new(), most }
    }

    /// Offers a row; `seed` identifies what it is about. Of several rows about the same the first is kept, with the labelled answers
    /// of the others in place of its own.
    pub fn offer(&mut self, seed: u64, row: impl FnOnce() -> SampledRow) {
        let number = mix(seed);
        if self.rows.len() >= self.most && self.rows.last_key_value().is_none_or(|(greatest, _)| *greatest < number) {
            return;
        }
        match self.rows.entry(number) {
            Entry::Vacant(place) => drop(place.insert(row())),
            Entry::Occupied(mut kept) => kept.get_mut().take_labels(row()),
        }
        if self.rows.len() > self.most {
            self.rows.pop_last();
        }
    }

    /// The rows, in an order that does not depend on the order in which they came.
    pub fn into_rows(self) -> Vec<SampledRow> {
        self.rows.into_values().collect()
    }
}

impl SampledRow {
    fn take_labels(&mut self, other: Self) {
        self.label = self.label.or(other.label);
        for labelled in other.answers.into_iter().filter(|answer| answer.label.is_some()) {
            match self.answers.iter_mut().find(|answer| answer.source == labelled.source) {
                Some(answer) => *answer = labelled,
                None => self.answers.push(labelled),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(base: f64, label: Option<bool>) -> SampledRow {
        SampledRow { label, base, answers: vec![SampledAnswer { source: 0, outcome: 2, label }] }
    }

    #[test]
    fn a_sample_is_bounded_and_does_not_depend_on_the_order_of_the_rows() {
        let sample = |seeds: &mut dyn Iterator<Item = u64>| {
            let mut sample = Sample::new(50);
            seeds.for_each(|seed| sample.offer(seed, || row(seed as f64, None)));
            sample.into_rows().into_iter().map(|row| row.base).collect::<Vec<_>>()
        };
        let upwards = sample(&mut (0..1_000));
        assert_eq!(upwards.len(), 50);
        assert_eq!(sample(&mut (0..1_000).rev()), upwards);
        let mean = upwards.iter().sum::<f64>() / 50.0;
        assert!((mean - 500.0).abs() < 150.0, "{mean}");
    }

    #[test]
    fn of_rows_about_the_same_the_first_is_kept_with_the_labelled_answers_of_all() {
        let answer = |source, outcome, label| SampledAnswer { source, outcome, label };
        let mut sample = Sample::new(1);
        sample.offer(7, || SampledRow { answers: vec![answer(0, 2, None), answer(1, 2, None)], ..row(1.0, None) });
        let labelled = vec![answer(1, 0, Some(true)), answer(2, 1, Some(true)), answer(0, 0, None)];
        sample.offer(7, || SampledRow { answers: labelled, ..row(2.0, Some(true)) });
        let kept = sample.into_rows().remove(0);
        assert_eq!((kept.base, kept.label), (1.0, Some(true)));
        assert_eq!(kept.answers, [answer(0, 2, None), answer(1, 0, Some(true)), answer(2, 1, Some(true))]);
    }
}
