//! Which sources copy each other: those whose claims stay correlated where the truth is accounted for.
//!
//! What a source is expected to say depends on the truth alone: `x = a + d t`, where the truth t is known by a label, or with
//! probability p by what the other sources say. The product of two residuals then has the mean `p (1 - p) d d'`, and what is
//! left beyond that is correlation. Sources that are nearly the same as one of the two are
//! no witnesses and left out of p, and those that are nearly the same as each other count once, so that a clique of mirrors does
//! not explain itself. How far each witness is to be believed is learned from the same rows (`expectation.rs`).

use super::expectation::{FamilyPool, learn_from_rows};
use super::numeric::sigmoid;
use super::sample::SampledRow;
use crate::verdict::LetterRow;

/// From this correlation on two sources are taken for one family.
pub const COPY_CORRELATION: f64 = 0.2;
/// Fewer joint answers say nothing of the rest of a correlation.
const LEAST_JOINT: usize = 50;
/// Sources as correlated as this with one of the two are no witnesses of the truth.
const TOO_ALIKE: f64 = 0.6;

/// How far two sources still agree where the truth is accounted for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Copying {
    /// The places of the two, the lesser first.
    pub sources: (usize, usize),
    /// Correlation of what is left, at most 1.
    pub correlation: f64,
    /// Rows of the sample on which both took a side.
    pub joint: u64,
}

impl Copying {
    /// Whether it is too much for independent sources, two standard errors granted.
    pub fn is_suspicious(&self) -> bool {
        self.correlation - 2.0 * (self.joint as f64).sqrt().recip() > COPY_CORRELATION
    }
}

/// The correlations of all pairs with enough joint rows. `families` holds the family of each source, and `priors` the row of
/// its letter.
pub(super) fn residual_correlations(rows: &[SampledRow], families: &[&str], priors: &[&LetterRow]) -> Vec<Copying> {
    let count = families.len();
    let columns: Vec<Vec<Option<f64>>> = (0..count).map(|source| column(rows, source)).collect();
    let mut alike = vec![vec![false; count]; count];
    for first in 0..count {
        for second in 0..first {
            let close = families[first] == families[second]
                || correlation(&columns[first], &columns[second]).is_some_and(|raw| raw > TOO_ALIKE);
            (alike[first][second], alike[second][first]) = (close, close);
        }
    }
    // Those that are alike count as one witness.
    let links = (0..count).flat_map(|first| (0..first).map(move |second| (first, second)));
    let groups = group(count, links.filter(|(first, second)| alike[*first][*second]));
    let learned = learn_from_rows(rows, priors, &groups, 1.0);
    let evidence: Vec<[f64; 3]> = learned.iter().map(|learned| learned.evidence).collect();
    let mut pool = FamilyPool::new(1.0);
    let mut found = Vec::new();
    for second in 0..count {
        for first in 0..second {
            let is_witness =
                |source: usize| source != first && source != second && !alike[source][first] && !alike[source][second];
            let mut truth = |row: &SampledRow| {
                let witnesses = row.claims.iter().map(|(source, side)| (usize::from(*source), usize::from(*side)));
                let witnesses = witnesses.filter(|(source, _)| is_witness(*source));
                row.base + pool.sum(witnesses.map(|(source, side)| (groups[source], evidence[source][side])))
            };
            found.extend(pair(rows, &columns, (first, second), &mut truth));
        }
    }
    found
}

/// What a source says of each row, from 0 (benign) to 1 (malicious).
fn column(rows: &[SampledRow], source: usize) -> Vec<Option<f64>> {
    let side =
        |row: &SampledRow| row.claims.iter().find(|(place, _)| usize::from(*place) == source).map(|claim| claim.1);
    rows.iter().map(|row| side(row).map(|side| f64::from(side) / 2.0)).collect()
}

fn correlation(first: &[Option<f64>], second: &[Option<f64>]) -> Option<f64> {
    let joint: Vec<(f64, f64)> = first.iter().zip(second).filter_map(|(x, y)| Some(((*x)?, (*y)?))).collect();
    if joint.len() < LEAST_JOINT {
        return None;
    }
    let (x, y) = (Moments::new(joint.iter().map(|pair| pair.0)), Moments::new(joint.iter().map(|pair| pair.1)));
    let covariance = joint.iter().map(|pair| (pair.0 - x.mean) * (pair.1 - y.mean)).sum::<f64>() / joint.len() as f64;
    (x.variance > 0.0 && y.variance > 0.0).then(|| covariance / (x.variance * y.variance).sqrt())
}

struct Moments {
    mean: f64,
    variance: f64,
}

impl Moments {
    fn new(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count().max(1) as f64;
        let mean = values.clone().sum::<f64>() / count;
        let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        Self { mean, variance }
    }
}

fn pair(
    rows: &[SampledRow],
    columns: &[Vec<Option<f64>>],
    sources: (usize, usize),
    truth: &mut impl FnMut(&SampledRow) -> f64,
) -> Option<Copying> {
    let mut joint: Vec<(f64, f64, f64)> = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let (Some(x), Some(y)) = (columns[sources.0][place], columns[sources.1][place]) else { continue };
        let truth = match row.label {
            Some(is_malicious) => f64::from(u8::from(is_malicious)),
            None => sigmoid(truth(row)),
        };
        joint.push((x, y, truth));
    }
    if joint.len() < LEAST_JOINT {
        return None;
    }
    let count = joint.len() as f64;
    let truth = Moments::new(joint.iter().map(|row| row.2));
    // The dependence on the truth, by least squares; unbiased where p is calibrated.
    let fit = |value: fn(&(f64, f64, f64)) -> f64| {
        let mean = joint.iter().map(value).sum::<f64>() / count;
        let covariance = joint.iter().map(|row| (value(row) - mean) * (row.2 - truth.mean)).sum::<f64>() / count;
        let slope = if truth.variance > 1e-9 { (covariance / truth.variance).clamp(-1.0, 1.0) } else { 0.0 };
        (mean, slope)
    };
    let ((mean_x, slope_x), (mean_y, slope_y)) = (fit(|row| row.0), fit(|row| row.1));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y, p) in &joint {
        let (x, y) = (x - mean_x - slope_x * (p - truth.mean), y - mean_y - slope_y * (p - truth.mean));
        let open = p * (1.0 - p);
        xx += x * x - open * slope_x * slope_x;
        yy += y * y - open * slope_y * slope_y;
        xy += x * y - open * slope_x * slope_y;
    }
    // Where the truth explains everything there is nothing left to be correlated.
    let least = 0.005 * count;
    let correlation = if xx < least || yy < least { 0.0 } else { (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0) };
    Some(Copying { sources, correlation, joint: joint.len() as u64 })
}

/// Groups of sources that are linked, directly or through others, each in order; groups of one are left out.
pub(super) fn linked(count: usize, links: impl Iterator<Item = (usize, usize)>) -> Vec<Vec<usize>> {
    let group = group(count, links);
    let members = |wanted: usize| (0..count).filter(|source| group[*source] == wanted).collect::<Vec<_>>();
    (0..count).map(members).filter(|members| members.len() > 1).collect()
}

/// The group of each source: the least place of those that it is linked with.
fn group(count: usize, links: impl Iterator<Item = (usize, usize)>) -> Vec<usize> {
    let mut group: Vec<usize> = (0..count).collect();
    for (first, second) in links {
        let (from, to) = (group[first].max(group[second]), group[first].min(group[second]));
        group.iter_mut().filter(|each| **each == from).for_each(|each| *each = to);
    }
    group
}
