//! What a source would have said at each value of a threshold, in one pass: each answer says one thing below some value and
//! another from there on, so that only the differences from value to value are counted.

use std::collections::BTreeMap;

use super::agreement::{JointTable, KappaWeights};
use super::calibration::LEAST_OF_EACH;
use super::compare::{ClaimCounts, LEAST_JOINT};
use super::performance::LabelCounts;
use super::{Answer, Label};
use crate::finding::Disposition;
use crate::indicator::IndicatorType;

/// Points of a curve, beside the present value and the best.
const MOST_POINTS: usize = 32;
/// Values up to this are tried one by one, greater ones by two digits.
const TRIED_SINGLY: u64 = 1_000;

/// The values of a threshold that can be told apart, in order: each up to 1,000, above by two digits, and the present one.
pub fn threshold_values(least: u64, greatest: u64, present: u64) -> Vec<u64> {
    let mut values: Vec<u64> = (least..=greatest.min(TRIED_SINGLY)).collect();
    let mut step = TRIED_SINGLY / 10;
    let mut value = TRIED_SINGLY + step;
    while value <= greatest {
        if value >= least {
            values.push(value);
        }
        if value >= step * 100 {
            step *= 10;
        }
        value += step;
    }
    values.extend([greatest, present]);
    values.sort_unstable();
    values.dedup();
    values
}

/// What a source would have said of one indicator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThresholdAnswer {
    /// The type of the indicator.
    pub indicator_type: IndicatorType,
    /// The claim at the values before `change`.
    pub before: Disposition,
    /// The place of the first value at which the claim is `after`; 0: at all values.
    pub change: usize,
    /// The claim from there on.
    pub after: Disposition,
    /// What the others say without the source; `None`: not known.
    pub rest: Option<Disposition>,
    /// What an analyst found.
    pub label: Option<Label>,
}

/// Counts what a source would have said at each value.
#[derive(Clone, Debug, Default)]
pub struct ThresholdStatistics {
    types: BTreeMap<IndicatorType, OfType>,
}

#[derive(Clone, Debug, Default)]
struct OfType {
    findings: u64,
    no_record: u64,
    /// What comes and goes at the value of each place.
    changes: BTreeMap<usize, Counts>,
}

/// What holds at a value, or what comes and goes at it.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    claims: [i64; 4],
    /// The claim, and what the rest says.
    joint: [[i64; 3]; 3],
    /// By label (benign, malicious) and whether an alarm is raised.
    malicious: [[i64; 2]; 2],
    alarms: [[i64; 2]; 2],
}

impl Counts {
    fn count(&mut self, claim: Disposition, answer: &ThresholdAnswer, by: i64) {
        let place = match claim {
            Disposition::Unknown => 0,
            Disposition::Benign => 1,
            Disposition::Suspicious => 2,
            Disposition::Malicious => 3,
        };
        self.claims[place] += by;
        let side = |claim| Answer::Claim(claim).side();
        if let (Some(side), Some(rest)) = (side(claim), answer.rest.and_then(side)) {
            self.joint[side][rest] += by;
        }
        if let Some(label) = answer.label {
            self.label(label, claim == Disposition::Malicious, Answer::Claim(claim).is_alarm(), by);
        }
    }

    fn label(&mut self, label: Label, is_malicious: bool, is_alarm: bool, by: i64) {
        let truth = usize::from(label.is_malicious);
        self.malicious[truth][usize::from(is_malicious)] += by;
        self.alarms[truth][usize::from(is_alarm)] += by;
    }

    fn add(&mut self, other: &Self) {
        let pairs = [(&mut self.malicious, &other.malicious), (&mut self.alarms, &other.alarms)];
        for (sums, more) in pairs {
            sums.as_flattened_mut().iter_mut().zip(more.as_flattened()).for_each(|(sum, more)| *sum += more);
        }
        self.claims.iter_mut().zip(other.claims).for_each(|(sum, more)| *sum += more);
        let joint = self.joint.as_flattened_mut().iter_mut();
        joint.zip(other.joint.as_flattened()).for_each(|(sum, more)| *sum += more);
    }
}

/// What a source would have said at each value.
#[derive(Clone, Debug, PartialEq)]
pub struct ThresholdCurve {
    /// Types of indicator that are counted, since some value changes what is said of them; none: no value changes anything, and all
    /// are counted.
    pub indicator_types: Vec<IndicatorType>,
    /// Findings.
    pub findings: u64,
    /// Answers of no record.
    pub no_record: u64,
    /// Whether some value changes what is called malicious.
    pub changes_malicious: bool,
    /// The curve, by value.
    pub points: Vec<ThresholdPoint>,
    /// Values at which something of its own is said, also those that the curve leaves out.
    pub distinct_values: u64,
    /// The value of the greatest balanced accuracy.
    pub best_by_labels: Option<u64>,
    /// The value of the greatest quadratic kappa with the rest.
    pub best_by_agreement: Option<u64>,
}

/// What a source would have said at one value.
#[derive(Clone, Debug, PartialEq)]
pub struct ThresholdPoint {
    /// The value.
    pub value: u64,
    /// Its claims.
    pub claims: ClaimCounts,
    /// Its claims, with what the rest says where both take a side.
    pub joint: JointTable<3>,
    /// Against the labels. Alarms are claims of malicious where some value changes these, else those of suspicious too.
    pub labels: LabelCounts,
}

impl ThresholdPoint {
    /// Agreement with the rest beyond chance; `None` under 20 verdicts to compare.
    pub fn quadratic_kappa(&self) -> Option<f64> {
        self.joint.kappa(KappaWeights::Quadratic).filter(|_| self.joint.total() >= LEAST_JOINT)
    }

    fn balanced_accuracy(&self) -> Option<f64> {
        let malicious = self.labels.true_alarms + self.labels.missed;
        let benign = self.labels.false_alarms + self.labels.true_silence;
        let enough = malicious >= LEAST_OF_EACH && benign >= LEAST_OF_EACH;
        self.labels.performance().and_then(|performance| performance.balanced_accuracy).filter(|_| enough)
    }
}

impl ThresholdStatistics {
    /// Counts a finding.
    pub fn add(&mut self, answer: &ThresholdAnswer) {
        let of_type = self.types.entry(answer.indicator_type).or_default();
        of_type.findings += 1;
        if answer.change == 0 || answer.before == answer.after {
            of_type.changes.entry(0).or_default().count(answer.after, answer, 1);
            return;
        }
        of_type.changes.entry(0).or_default().count(answer.before, answer, 1);
        let change = of_type.changes.entry(answer.change).or_default();
        change.count(answer.before, answer, -1);
        change.count(answer.after, answer, 1);
    }

    /// Counts an answer of no record.
    pub fn add_no_record(&mut self, indicator_type: IndicatorType, label: Option<Label>) {
        let of_type = self.types.entry(indicator_type).or_default();
        of_type.no_record += 1;
        if let Some(label) = label {
            of_type.changes.entry(0).or_default().label(label, false, false, 1);
        }
    }

    /// Findings that were counted.
    pub fn findings(&self) -> u64 {
        self.types.values().map(|of_type| of_type.findings).sum()
    }

    /// The curve over these values, whose places were counted.
    pub fn finish(&self, values: &[u64], present: u64) -> ThresholdCurve {
        let changes = |of_type: &&OfType| of_type.changes.keys().any(|place| *place > 0);
        let concerned: Vec<_> = self.types.iter().filter(|(_, of_type)| changes(of_type)).collect();
        let indicator_types = concerned.iter().map(|(indicator_type, _)| **indicator_type).collect();
        let counted: Vec<&OfType> = match concerned.is_empty() {
            true => self.types.values().collect(),
            false => concerned.into_iter().map(|(_, of_type)| of_type).collect(),
        };
        let mut merged: BTreeMap<usize, Counts> = BTreeMap::from([(0, Counts::default())]);
        for (place, counts) in counted.iter().flat_map(|of_type| &of_type.changes) {
            merged.entry(*place).or_default().add(counts);
        }
        let changes_malicious = merged.iter().any(|(place, counts)| *place > 0 && counts.claims[3] != 0);
        let points = all_points(values, &merged, present, changes_malicious);
        let best_by_labels = best(&points, present, ThresholdPoint::balanced_accuracy);
        let best_by_agreement = best(&points, present, ThresholdPoint::quadratic_kappa);
        let kept = [Some(present), best_by_labels, best_by_agreement];
        ThresholdCurve {
            indicator_types,
            findings: counted.iter().map(|of_type| of_type.findings).sum(),
            no_record: counted.iter().map(|of_type| of_type.no_record).sum(),
            changes_malicious,
            distinct_values: merged.len() as u64,
            points: thinned(points, |value| kept.contains(&Some(value))),
            best_by_labels,
            best_by_agreement,
        }
    }
}

/// A point for each stretch of values over which the same is said, at its last value, and one for the present value.
fn all_points(
    values: &[u64],
    changes: &BTreeMap<usize, Counts>,
    present: u64,
    changes_malicious: bool,
) -> Vec<ThresholdPoint> {
    let mut points = Vec::new();
    let mut sums = Counts::default();
    let ends = changes.keys().skip(1).copied().map(Some).chain([None]);
    for ((begin, counts), end) in changes.iter().zip(ends) {
        sums.add(counts);
        let stretch = values.get(*begin..end.unwrap_or(values.len())).unwrap_or_default();
        // The last stretch has no end of its own: its first value stands for it, unless it is the only one.
        let shown = match end {
            Some(_) => stretch.last(),
            None if *begin > 0 => stretch.first(),
            None => None,
        };
        let mut shown: Vec<u64> = shown.copied().into_iter().collect();
        shown.extend(stretch.contains(&present).then_some(present));
        shown.sort_unstable();
        shown.dedup();
        points.extend(shown.into_iter().map(|value| point(value, &sums, changes_malicious)));
    }
    points
}

fn point(value: u64, sums: &Counts, changes_malicious: bool) -> ThresholdPoint {
    // Each sum is that of answers that were counted before they are taken away.
    let count = |sum: i64| u64::try_from(sum).unwrap_or_default();
    let [unknown, benign, suspicious, malicious] = sums.claims.map(count);
    let [[true_silence, false_alarms], [missed, true_alarms]] =
        if changes_malicious { sums.malicious } else { sums.alarms }.map(|row| row.map(count));
    ThresholdPoint {
        value,
        claims: ClaimCounts { unknown, benign, suspicious, malicious },
        joint: JointTable::new(sums.joint.map(|row| row.map(count))),
        labels: LabelCounts { true_alarms, missed, false_alarms, true_silence },
    }
}

/// The value at which a measure is greatest, of equals the nearest to the present one; `None` where none is better than another.
fn best(points: &[ThresholdPoint], present: u64, measure: impl Fn(&ThresholdPoint) -> Option<f64>) -> Option<u64> {
    let measured: Vec<(f64, u64)> =
        points.iter().filter_map(|point| measure(point).map(|measured| (measured, point.value))).collect();
    let (least, greatest) =
        measured.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), (value, _)| {
            (least.min(*value), greatest.max(*value))
        });
    let of_greatest = measured.iter().filter(|(value, _)| *value >= greatest - 1e-12).map(|(_, value)| *value);
    of_greatest.min_by_key(|value| value.abs_diff(present)).filter(|_| greatest - least > 1e-12)
}

/// As many of the points as a curve holds, spread evenly, with those that must be kept.
fn thinned(points: Vec<ThresholdPoint>, must_keep: impl Fn(u64) -> bool) -> Vec<ThresholdPoint> {
    let count = points.len();
    if count <= MOST_POINTS {
        return points;
    }
    let spread: Vec<usize> = (0..MOST_POINTS).map(|nth| nth * (count - 1) / (MOST_POINTS - 1)).collect();
    let kept = points.into_iter().enumerate();
    kept.filter(|(place, point)| spread.binary_search(place).is_ok() || must_keep(point.value))
        .map(|(_, point)| point)
        .collect()
}
