//! Reliabilities without labels, by expectation and maximisation: what the sources together say of each row stands for the
//! label, what each says then for its reliability, and so on. Weaker than labels: sources that err together teach each other.
//!
//! The prior of the rows is held fixed, since learning it without labels ruins the probabilities.

use super::SILENT;
use super::learning::{Claims, LearnedRow, learn};
use super::numeric::sigmoid;
use super::sample::SampledRow;
use crate::verdict::LetterRow;

const ROUNDS: usize = 30;
/// Changes of evidence, in nats, below which nothing more is learned.
const SETTLED: f64 = 1e-3;
/// What a row without a label counts of one with.
const UNLABELLED: f64 = 0.1;

/// What rows teach of each source, from the row of its letter on. Labels of answers count in full. `families` says which
/// sources are not independent, and `correlation` how far.
pub(super) fn learn_from_rows(
    rows: &[SampledRow],
    priors: &[&LetterRow],
    families: &[usize],
    correlation: f64,
) -> Vec<LearnedRow> {
    let mut learned: Vec<LearnedRow> = priors.iter().map(|prior| learn(prior, &Claims::default())).collect();
    let mut pool = FamilyPool::new(correlation);
    for _ in 0..ROUNDS {
        let mut claims = vec![Claims::default(); priors.len()];
        for row in rows {
            let evidence = row.answers.iter().map(|answer| {
                let source = usize::from(answer.source);
                (families[source], learned[source].evidence_of(usize::from(answer.outcome)))
            });
            let estimate = sigmoid(row.base + pool.sum(evidence));
            for answer in &row.answers {
                let (claims, outcome) = (&mut claims[usize::from(answer.source)], usize::from(answer.outcome));
                let (malicious, weight) = match answer.label {
                    Some(is_malicious) => (f64::from(u8::from(is_malicious)), 1.0),
                    None => (estimate, UNLABELLED),
                };
                claims.if_malicious[outcome] += weight * malicious;
                claims.if_benign[outcome] += weight * (1.0 - malicious);
                if answer.label.is_some() && outcome != SILENT {
                    claims.labels += 1;
                    claims.effective += 1.0;
                }
            }
        }
        let next: Vec<LearnedRow> = priors.iter().zip(&claims).map(|(prior, claims)| learn(prior, claims)).collect();
        let evidence = |learned: &[LearnedRow]| learned.iter().flat_map(|learned| learned.evidence).collect::<Vec<_>>();
        let (before, after) = (evidence(&learned), evidence(&next));
        learned = next;
        if before.iter().zip(&after).all(|(before, after)| (before - after).abs() < SETTLED) {
            break;
        }
    }
    learned
}

/// Adds evidence in nats, pooled within families (`docs/fusion.md`, "Families").
pub(super) struct FamilyPool {
    correlation: f64,
    /// Kept from one sum to the next to save its allocation.
    evidence: Vec<(usize, f64)>,
}

impl FamilyPool {
    pub(super) fn new(correlation: f64) -> Self {
        Self { correlation, evidence: Vec::new() }
    }

    pub(super) fn sum(&mut self, evidence: impl Iterator<Item = (usize, f64)>) -> f64 {
        self.evidence.clear();
        self.evidence.extend(evidence);
        // Of each family the strongest of each direction first.
        self.evidence.sort_by(|one, other| {
            (one.0, one.1 < 0.0).cmp(&(other.0, other.1 < 0.0)).then(other.1.abs().total_cmp(&one.1.abs()))
        });
        let same = |one: &(usize, f64), other: &(usize, f64)| one.0 == other.0 && (one.1 < 0.0) == (other.1 < 0.0);
        let sides = self.evidence.chunk_by(same);
        sides.flat_map(|side| (1..).zip(side)).map(|(rank, (_, nats))| weight(rank, self.correlation) * nats).sum()
    }
}

/// The weight of the opinion of this rank in a family, from 1.
fn weight(rank: u32, rho: f64) -> f64 {
    if rank == 1 {
        return 1.0;
    }
    let k = f64::from(rank);
    (1.0 - rho) / ((1.0 + (k - 1.0) * rho) * (1.0 + (k - 2.0) * rho))
}
