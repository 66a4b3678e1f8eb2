//! Whether probabilities mean what they say, by labels: reliability curve, Brier score, expected calibration error, and the
//! correction `a + b L` of the log-odds that fits best (Platt scaling).

use strum::VariantArray;

use super::Row;
use super::numeric::{Estimate, sigmoid};
use crate::indicator::IndicatorType;
use crate::verdict::Calibration;

/// Labels of malicious and of benign indicators, each, below which nothing is fitted.
pub const LEAST_OF_EACH: u64 = 30;
const BINS: usize = 10;
/// Log-odds are counted in steps of this many nats, up to the limit on either side.
const STEP: f64 = 0.02;
const LIMIT: f64 = 15.0;
const STEPS: usize = (2.0 * LIMIT / STEP) as usize + 1;

/// Log-odds of labelled rows, counted.
#[derive(Clone, Debug)]
pub struct CalibrationStatistics {
    of_type: Vec<Counted>,
}

#[derive(Clone, Debug)]
struct Counted {
    bins: [Bin; BINS],
    squared: f64,
    /// Benign and malicious labels by log-odds.
    steps: Vec<[u32; 2]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    count: u64,
    malicious: u64,
    sum: f64,
}

/// How well the probabilities of one type of indicator hold.
#[derive(Clone, Debug, PartialEq)]
pub struct CalibrationReport {
    /// The type; `None`: all together.
    pub indicator_type: Option<IndicatorType>,
    /// Labelled indicators.
    pub labels: u64,
    /// Those of them that are malicious.
    pub malicious: u64,
    /// The reliability curve; tenths without a row are left out.
    pub curve: Vec<CalibrationBin>,
    /// Mean squared distance of the probability from the truth, 0 to 1.
    pub brier: f64,
    /// Mean distance of probability and share over the curve, weighted by its counts.
    pub expected_error: f64,
    /// The correction that fits best; `None`: fewer than [`LEAST_OF_EACH`] labels of either side.
    pub fit: Option<CalibrationFit>,
}

/// A tenth of the reliability curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalibrationBin {
    /// Mean of the probabilities.
    pub probability: f64,
    /// Share that is malicious.
    pub share: Estimate,
    /// Labelled indicators.
    pub count: u64,
}

/// A correction of the log-odds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalibrationFit {
    /// What a policy would have in place of its present calibration.
    pub calibration: Calibration,
    /// The Brier score with it on the same labels.
    pub brier: f64,
    /// The mean logarithmic loss as it is, in nats.
    pub loss_before: f64,
    /// The mean logarithmic loss with it.
    pub loss_after: f64,
}

impl Default for CalibrationStatistics {
    fn default() -> Self {
        let counted = Counted { bins: Default::default(), squared: 0.0, steps: vec![[0; 2]; STEPS] };
        Self { of_type: vec![counted; IndicatorType::VARIANTS.len()] }
    }
}

impl CalibrationStatistics {
    /// Counts a row, if it has a label and log-odds.
    pub fn add(&mut self, row: &Row<'_>) {
        let (Some(label), Some(log_odds)) = (row.label, row.log_odds) else { return };
        let place = IndicatorType::VARIANTS.iter().position(|each| *each == row.indicator_type);
        if let Some(counted) = place.and_then(|place| self.of_type.get_mut(place)) {
            counted.add(log_odds, label.is_malicious);
        }
    }

    /// The report of all types together, then of each with a label. `present` is the calibration that the log-odds hold.
    pub fn reports(&self, present: Calibration) -> Vec<CalibrationReport> {
        let mut all = Counted { bins: Default::default(), squared: 0.0, steps: vec![[0; 2]; STEPS] };
        self.of_type.iter().for_each(|counted| all.merge(counted));
        let types = IndicatorType::VARIANTS.iter().map(|each| Some(*each)).zip(&self.of_type);
        std::iter::once((None, &all)).chain(types).filter_map(|(each, counted)| counted.report(each, present)).collect()
    }
}

impl Counted {
    fn add(&mut self, log_odds: f64, is_malicious: bool) {
        let probability = sigmoid(log_odds);
        let bin = &mut self.bins[((probability * BINS as f64) as usize).min(BINS - 1)];
        bin.count += 1;
        bin.malicious += u64::from(is_malicious);
        bin.sum += probability;
        self.squared += (probability - f64::from(u8::from(is_malicious))).powi(2);
        let step = ((log_odds.clamp(-LIMIT, LIMIT) + LIMIT) / STEP).round() as usize;
        self.steps[step.min(STEPS - 1)][usize::from(is_malicious)] += 1;
    }

    fn merge(&mut self, other: &Self) {
        for (to, from) in self.bins.iter_mut().zip(&other.bins) {
            to.count += from.count;
            to.malicious += from.malicious;
            to.sum += from.sum;
        }
        self.squared += other.squared;
        for (to, from) in self.steps.iter_mut().zip(&other.steps) {
            *to = [to[0] + from[0], to[1] + from[1]];
        }
    }

    fn report(&self, indicator_type: Option<IndicatorType>, present: Calibration) -> Option<CalibrationReport> {
        let labels: u64 = self.bins.iter().map(|bin| bin.count).sum();
        let malicious: u64 = self.bins.iter().map(|bin| bin.malicious).sum();
        let curve: Vec<CalibrationBin> = self
            .bins
            .iter()
            .filter_map(|bin| {
                let share = Estimate::share(bin.malicious, bin.count)?;
                Some(CalibrationBin { probability: bin.sum / bin.count as f64, share, count: bin.count })
            })
            .collect();
        let distance = |bin: &CalibrationBin| (bin.probability - bin.share.value).abs() * bin.count as f64;
        let enough = malicious >= LEAST_OF_EACH && labels - malicious >= LEAST_OF_EACH;
        (labels > 0).then(|| CalibrationReport {
            indicator_type,
            labels,
            malicious,
            brier: self.squared / labels as f64,
            expected_error: curve.iter().map(distance).sum::<f64>() / labels as f64,
            curve,
            fit: if enough { self.fit(present) } else { None },
        })
    }

    /// Logistic regression of the label on the log-odds, with Platt's targets, by Newton's method.
    fn fit(&self, present: Calibration) -> Option<CalibrationFit> {
        let points: Vec<(f64, f64, f64)> = (0..STEPS)
            .map(|step| (step as f64 * STEP - LIMIT, f64::from(self.steps[step][0]), f64::from(self.steps[step][1])))
            .filter(|(_, benign, malicious)| benign + malicious > 0.0)
            .collect();
        let (benign, malicious) = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.1, sum.1 + point.2));
        // Targets just short of 0 and 1 keep separable labels from an endless scale.
        let (low, high) = (1.0 / (benign + 2.0), (malicious + 1.0) / (malicious + 2.0));
        let loss = |shift: f64, scale: f64, low: f64, high: f64| {
            let of_point = |(x, benign, malicious): &(f64, f64, f64)| {
                let z = shift + scale * x;
                // ln(1 + e^z), without overflow.
                let softplus = z.max(0.0) + (-z.abs()).exp().ln_1p();
                (benign + malicious) * softplus - z * (benign * low + malicious * high)
            };
            points.iter().map(of_point).sum::<f64>() / (benign + malicious)
        };
        let (mut shift, mut scale) = (0.0_f64, 1.0_f64);
        for _ in 0..50 {
            let (mut g0, mut g1, mut h00, mut h01, mut h11) = (0.0, 0.0, 1e-9, 0.0, 1e-9);
            for (x, benign, malicious) in &points {
                let (count, p) = (benign + malicious, sigmoid(shift + scale * x));
                let residual = count * p - (benign * low + malicious * high);
                let weight = count * p * (1.0 - p);
                g0 += residual;
                g1 += residual * x;
                h00 += weight;
                h01 += weight * x;
                h11 += weight * x * x;
            }
            let determinant = h00 * h11 - h01 * h01;
            if determinant <= 0.0 {
                return None;
            }
            let (step0, step1) = ((h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant);
            // Halved until it is an improvement, so that the first steps cannot run away.
            let before = loss(shift, scale, low, high);
            let mut part = 1.0;
            while part > 1e-6 && loss(shift - part * step0, scale - part * step1, low, high) > before {
                part /= 2.0;
            }
            (shift, scale) = (shift - part * step0, scale - part * step1);
            if step0.abs() + step1.abs() < 1e-10 {
                break;
            }
        }
        let squared = |(x, benign, malicious): &(f64, f64, f64)| {
            let p = sigmoid(shift + scale * x);
            benign * p * p + malicious * (1.0 - p) * (1.0 - p)
        };
        // A policy's scale is above 0: log-odds that point the wrong way cannot be corrected.
        (scale > 0.0 && scale.is_finite() && shift.is_finite()).then(|| CalibrationFit {
            calibration: Calibration { shift: shift + scale * present.shift, scale: scale * present.scale },
            brier: points.iter().map(squared).sum::<f64>() / (benign + malicious),
            loss_before: loss(0.0, 1.0, 0.0, 1.0),
            loss_after: loss(shift, scale, 0.0, 1.0),
        })
    }
}
