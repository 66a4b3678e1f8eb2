//! Which sources copy each other: those whose claims stay correlated where the truth is accounted for.
//!
//! A claim is a number from benign to malicious. Where one of two sources says the same of everything, as block lists do, its
//! claims cannot be correlated with anything: then silence counts too, on the rows that both answered.
//!
//! What a source is expected to say depends on the truth alone: `x = a + d t`, where the truth t is known by a label, or with
//! probability p by what the other sources say. The product of two residuals then has the mean `p (1 - p) d d'`, and what is
//! left beyond that is correlation. Sources that are nearly the same as one of the two are
//! no witnesses and left out of p, and those that are nearly the same as each other count once, so that a clique of mirrors does
//! not explain itself. How far each witness is to be believed is learned from the same rows (`expectation.rs`).

use super::SILENT;
use super::expectation::{FamilyPool, learn_from_rows};
use super::numeric::sigmoid;
use super::sample::{SampledAnswer, SampledRow};
use crate::verdict::LetterRow;

/// From this correlation on two sources are taken for one family.
pub const COPY_CORRELATION: f64 = 0.2;
/// Fewer joint answers say nothing of the rest of a correlation.
const LEAST_JOINT: usize = 50;
/// With less of the variance of its claims left by the truth, a source is explained by the truth alone.
const LEAST_LEFT: f64 = 0.05;
/// Sources as correlated as this with one of the two are no witnesses of the truth.
const TOO_ALIKE: f64 = 0.6;

/// How far two sources still agree where the truth is accounted for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Copying {
    /// The places of the two, the lesser first.
    pub sources: (usize, usize),
    /// Correlation of what is left, at most 1.
    pub correlation: f64,
    /// Rows of the sample on which both took a side, or where silence counts: answered.
    pub joint: u64,
    /// Standard deviation of the correlation, of which a part is how well the truth is known.
    pub deviation: f64,
}

impl Copying {
    /// Whether it is too much for independent sources, two standard deviations granted.
    pub fn is_suspicious(&self) -> bool {
        self.correlation - 2.0 * self.deviation > COPY_CORRELATION
    }
}

/// The correlations of all pairs with enough joint rows. `sided` is a sample of the rows on which two sources or more took a
/// side, `rows` one of all. `families` holds the family of each source, and `priors` the row of its letter.
pub(super) fn residual_correlations(
    rows: &[SampledRow],
    sided: &[SampledRow],
    families: &[&str],
    priors: &[&LetterRow],
) -> Vec<Copying> {
    let count = families.len();
    let columns = Columns::new(rows, sided, count);
    let mut alike = vec![vec![false; count]; count];
    for first in 0..count {
        for second in 0..first {
            let close = families[first] == families[second]
                || columns.correlation(first, second).is_some_and(|raw| raw > TOO_ALIKE);
            (alike[first][second], alike[second][first]) = (close, close);
        }
    }
    // Those that are alike count as one witness.
    let links = (0..count).flat_map(|first| (0..first).map(move |second| (first, second)));
    let groups = group(count, links.filter(|(first, second)| alike[*first][*second]));
    let learned = learn_from_rows(rows, priors, &groups, 1.0);
    let mut pool = FamilyPool::new(1.0);
    let mut found = Vec::new();
    for second in 0..count {
        for first in 0..second {
            let is_witness =
                |source: usize| source != first && source != second && !alike[source][first] && !alike[source][second];
            let mut truth = |row: &SampledRow| match row.label {
                Some(is_malicious) => f64::from(u8::from(is_malicious)),
                None => {
                    let witnesses =
                        row.answers.iter().map(|answer| (usize::from(answer.source), usize::from(answer.outcome)));
                    let witnesses = witnesses.filter(|(source, _)| is_witness(*source));
                    sigmoid(
                        row.base
                            + pool.sum(
                                witnesses
                                    .map(|(source, outcome)| (groups[source], learned[source].evidence_of(outcome))),
                            ),
                    )
                }
            };
            let (rows, x, y) = columns.of_pair(first, second);
            let joint = rows.iter().zip(x).zip(y).filter_map(|((row, x), y)| Some(((*x)?, (*y)?, truth(row))));
            found.extend(residual(&joint.collect::<Vec<_>>(), (first, second)));
        }
    }
    found
}

type Column = Vec<Option<f64>>;

/// What each source says of each row, from 0 (benign) to 1 (malicious).
struct Columns<'a> {
    rows: &'a [SampledRow],
    sided_rows: &'a [SampledRow],
    /// Of `sided_rows`: its sides.
    sided: Vec<Column>,
    /// Of `rows`: its answers, of which one without a side counts as no alarm, or after a source that only raises none, as no
    /// word of benign.
    answered: Vec<Column>,
}

impl<'a> Columns<'a> {
    fn new(rows: &'a [SampledRow], sided_rows: &'a [SampledRow], count: usize) -> Self {
        let mut sided = vec![vec![None; sided_rows.len()]; count];
        let mut answered = vec![vec![None; rows.len()]; count];
        for (place, row) in sided_rows.iter().enumerate() {
            for answer in row.answers.iter().filter(|answer| usize::from(answer.outcome) != SILENT) {
                sided[usize::from(answer.source)][place] = Some(f64::from(answer.outcome) / 2.0);
            }
        }
        let says = |wanted: usize, is_alarm: bool| {
            let answers = rows.iter().flat_map(|row| &row.answers);
            let mut claims = answers.filter(|answer| usize::from(answer.source) == wanted);
            claims.any(|claim| usize::from(claim.outcome) != SILENT && (claim.outcome > 0) == is_alarm)
        };
        let silence: Vec<f64> =
            (0..count).map(|source| if says(source, false) && !says(source, true) { 1.0 } else { 0.0 }).collect();
        for (place, row) in rows.iter().enumerate() {
            for SampledAnswer { source, outcome, .. } in row.answers.iter().copied() {
                let (source, is_silent) = (usize::from(source), usize::from(outcome) == SILENT);
                let value = if is_silent { silence[source] } else { f64::from(outcome) / 2.0 };
                answered[source][place] = Some(value);
            }
        }
        Self { rows, sided_rows, sided, answered }
    }

    /// The rows that tell whether one of the two copies the other, and what each says of them.
    fn of_pair(&self, first: usize, second: usize) -> (&'a [SampledRow], &Column, &Column) {
        let (x, y) = (&self.sided[first], &self.sided[second]);
        let is_constant = |of: fn((f64, f64)) -> f64| {
            let mut values = joint(x, y).map(of);
            values.next().is_none_or(|value| values.all(|other| other == value))
        };
        if is_constant(|pair| pair.0) || is_constant(|pair| pair.1) {
            (self.rows, &self.answered[first], &self.answered[second])
        } else {
            (self.sided_rows, x, y)
        }
    }

    fn correlation(&self, first: usize, second: usize) -> Option<f64> {
        let (_, x, y) = self.of_pair(first, second);
        let joint: Vec<(f64, f64)> = joint(x, y).collect();
        if joint.len() < LEAST_JOINT {
            return None;
        }
        let (x, y) = (Moments::new(joint.iter().map(|pair| pair.0)), Moments::new(joint.iter().map(|pair| pair.1)));
        let covariance =
            joint.iter().map(|pair| (pair.0 - x.mean) * (pair.1 - y.mean)).sum::<f64>() / joint.len() as f64;
        (x.variance > 0.0 && y.variance > 0.0).then(|| covariance / (x.variance * y.variance).sqrt())
    }
}

fn joint(first: &Column, second: &Column) -> impl Iterator<Item = (f64, f64)> {
    first.iter().zip(second).filter_map(|(x, y)| Some(((*x)?, (*y)?)))
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

/// The correlation that the truth leaves of these rows: what the one says, what the other says, and the truth. `None` of too few
/// rows, and where it leaves nothing of what one of them says.
fn residual(joint: &[(f64, f64, f64)], sources: (usize, usize)) -> Option<Copying> {
    if joint.len() < LEAST_JOINT {
        return None;
    }
    let count = joint.len() as f64;
    let truth = Moments::new(joint.iter().map(|row| row.2));
    // The dependence on the truth, by least squares; unbiased where p is calibrated.
    let fit = |value: fn(&(f64, f64, f64)) -> f64| {
        let mean = joint.iter().map(value).sum::<f64>() / count;
        let covariance = joint.iter().map(|row| (value(row) - mean) * (row.2 - truth.mean)).sum::<f64>() / count;
        if truth.variance <= 1e-9 {
            // Whatever it does where the truth is another, nobody says.
            return (mean, 0.0, 1.0);
        }
        let slope = (covariance / truth.variance).clamp(-1.0, 1.0);
        let left = (Moments::new(joint.iter().map(value)).variance - slope * covariance).max(0.0);
        (mean, slope, (left / (truth.variance * count)).sqrt().min(1.0))
    };
    let ((mean_x, slope_x, error_x), (mean_y, slope_y, error_y)) = (fit(|row| row.0), fit(|row| row.1));
    let (mut xx, mut yy, mut xy, mut all_open) = (0.0, 0.0, 0.0, 0.0);
    for (x, y, p) in joint {
        let (x, y) = (x - mean_x - slope_x * (p - truth.mean), y - mean_y - slope_y * (p - truth.mean));
        let open = p * (1.0 - p);
        all_open += open;
        xx += x * x - open * slope_x * slope_x;
        yy += y * y - open * slope_y * slope_y;
        xy += x * y - open * slope_x * slope_y;
    }
    // Where the truth explains everything there is nothing left to be correlated.
    let is_left = |left: f64, value: fn(&(f64, f64, f64)) -> f64| {
        let whole = Moments::new(joint.iter().map(value)).variance;
        whole > 0.0 && left >= (LEAST_LEFT * whole).min(0.005) * count
    };
    (is_left(xx, |row| row.0) && is_left(yy, |row| row.1)).then(|| {
        let correlation = (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0);
        // Where others hardly say what is true, more of what the two share may be the truth.
        let (slope_x, slope_y) = (slope_x.abs(), slope_y.abs());
        let unknown = (slope_x + error_x) * (slope_y + error_y) - slope_x * slope_y;
        let deviation = (count.recip() + (all_open * unknown).powi(2) / (xx * yy)).sqrt();
        Copying { sources, correlation, joint: joint.len() as u64, deviation }
    })
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
