//! A source against the labels of analysts.
//!
//! An alarm is a claim of malicious or suspicious. Whatever else a source answers, and that it has no record too, is none: a
//! source that is silent about what is malicious missed it.

use super::numeric::Estimate;
use super::{Answer, Label};

/// How often a source raised an alarm, and over what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabelCounts {
    /// Alarms over what is malicious.
    pub true_alarms: u64,
    /// Answers without an alarm on what is malicious.
    pub missed: u64,
    /// Alarms over what is benign.
    pub false_alarms: u64,
    /// Answers without an alarm on what is benign.
    pub true_silence: u64,
}

/// A source as a detector, each number with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Performance {
    /// The counts behind it.
    pub counts: LabelCounts,
    /// Share of its alarms that are right.
    pub precision: Option<Estimate>,
    /// Share of what is malicious over which it raises an alarm.
    pub recall: Option<Estimate>,
    /// Share of what is benign over which it raises none.
    pub specificity: Option<Estimate>,
    /// Mean of recall and specificity: 0.5 for one who guesses, less for one who says the opposite.
    pub balanced_accuracy: Option<f64>,
    /// How many times more often it raises an alarm over what is malicious than over what is benign.
    pub positive_likelihood_ratio: Option<Estimate>,
    /// How many times more often it raises none over what is malicious than over what is benign.
    pub negative_likelihood_ratio: Option<Estimate>,
}

impl LabelCounts {
    /// Counts an answer on a labelled indicator.
    pub fn add(&mut self, answer: Answer, label: Label) {
        if !answer.is_answer() {
            return;
        }
        self.count(answer.is_alarm(), label.is_malicious);
    }

    /// Counts an alarm, or that there is none, on an indicator that is malicious or benign.
    pub(super) fn count(&mut self, is_alarm: bool, is_malicious: bool) {
        let count = match (is_malicious, is_alarm) {
            (true, true) => &mut self.true_alarms,
            (true, false) => &mut self.missed,
            (false, true) => &mut self.false_alarms,
            (false, false) => &mut self.true_silence,
        };
        *count += 1;
    }

    /// Answers on labelled indicators.
    pub fn total(&self) -> u64 {
        self.true_alarms + self.missed + self.false_alarms + self.true_silence
    }

    /// What they say of the source; `None` without any.
    pub fn performance(&self) -> Option<Performance> {
        let counts = *self;
        let malicious = counts.true_alarms + counts.missed;
        let benign = counts.false_alarms + counts.true_silence;
        let recall = Estimate::share(counts.true_alarms, malicious);
        let specificity = Estimate::share(counts.true_silence, benign);
        (counts.total() > 0).then(|| Performance {
            counts,
            precision: Estimate::share(counts.true_alarms, counts.true_alarms + counts.false_alarms),
            recall,
            specificity,
            balanced_accuracy: recall.zip(specificity).map(|(recall, other)| (recall.value + other.value) / 2.0),
            positive_likelihood_ratio: Estimate::ratio_of_shares(
                counts.true_alarms,
                malicious,
                counts.false_alarms,
                benign,
            ),
            negative_likelihood_ratio: Estimate::ratio_of_shares(counts.missed, malicious, counts.true_silence, benign),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measures_of_a_detector_follow_from_its_four_counts() {
        let counts = LabelCounts { true_alarms: 80, missed: 20, false_alarms: 10, true_silence: 190 };
        let performance = counts.performance().unwrap();
        let value = |estimate: Option<Estimate>| estimate.unwrap().value;
        assert!((value(performance.precision) - 80.0 / 90.0).abs() < 1e-12);
        assert!((performance.balanced_accuracy.unwrap() - 0.875).abs() < 1e-12);
        assert!((value(performance.positive_likelihood_ratio) - 16.0).abs() < 1e-9);
        assert!((value(performance.negative_likelihood_ratio) - 0.2 / 0.95).abs() < 1e-9);
        assert_eq!(LabelCounts::default().performance(), None);
    }
}
