//! Family pooling: sources that share data together add less evidence than independent ones.
//!
//! Formula: `docs/fusion.md`, "Families". The two sides of a family are pooled separately, each in two steps: sources
//! with the same independence key are one opinion, then the opinions of the family are pooled.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::finding::Family;

/// The opinion of the sources with one independence key on one side: the evidence of the strongest of them.
struct Opinion {
    /// Indexes of all sources with this evidence, in order of name.
    members: Vec<usize>,
    micro: i64,
}

/// What each source's evidence adds given that of the others, in micro-nats and in the order of `evidence`.
///
/// `evidence` must be in order of source name; `correlation` is that within a family, 0 to 1.
pub(super) fn pool(correlation: f64, evidence: &[(&Family, i64)]) -> Vec<i64> {
    let mut sides: BTreeMap<(&str, bool), BTreeMap<&str, Opinion>> = BTreeMap::new();
    for (index, (family, micro)) in evidence.iter().enumerate().filter(|(_, (_, micro))| *micro != 0) {
        let opinions = sides.entry((&family.name, *micro > 0)).or_default();
        let new = || Opinion { members: Vec::new(), micro: *micro };
        let opinion = opinions.entry(&family.independence_key).or_insert_with(new);
        if micro.abs() > opinion.micro.abs() {
            *opinion = new();
        }
        if *micro == opinion.micro {
            opinion.members.push(index);
        }
    }
    let mut pooled = vec![0; evidence.len()];
    for opinions in sides.into_values() {
        let mut opinions: Vec<_> = opinions.into_values().collect();
        // Among equals, the first by name is the first to get a part of the remainder.
        opinions.sort_by_key(|opinion| (Reverse(opinion.micro.unsigned_abs()), opinion.members.first().copied()));
        let mut rank = 0;
        for tie in opinions.chunk_by(|left, right| left.micro == right.micro) {
            let mut sum = 0;
            for opinion in tie {
                rank += 1;
                sum += (weight(rank, correlation) * opinion.micro as f64).round_ties_even() as i64;
            }
            for (opinion, share) in tie.iter().zip(split(sum, tie.len())) {
                for (index, share) in opinion.members.iter().zip(split(share, opinion.members.len())) {
                    pooled[*index] = share;
                }
            }
        }
    }
    pooled
}

/// The weight of the opinion with this rank, from 1. The weights of the first n add up to `n / (1 + (n-1) rho)`, the
/// number of independent sources to which n equally correlated ones are equivalent.
fn weight(rank: u32, rho: f64) -> f64 {
    if rank <= 1 {
        return 1.0;
    }
    let k = f64::from(rank);
    (1.0 - rho) / ((1.0 + (k - 1.0) * rho) * (1.0 + (k - 2.0) * rho))
}

/// Splits the sum into equal shares; the remainder is distributed one micro-nat each, starting with the first.
fn split(sum: i64, count: usize) -> impl Iterator<Item = i64> {
    let count = count as i64;
    (0..count).map(move |place| sum / count + if place < (sum % count).abs() { sum.signum() } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(evidence: &[(Family, i64)]) -> Vec<i64> {
        let evidence: Vec<_> = evidence.iter().map(|(family, micro)| (family, *micro)).collect();
        pool(0.7, &evidence)
    }

    #[test]
    fn two_keys_of_one_kind_are_one_opinion_and_the_stronger_one_counts() {
        let kind = || Family::same_kind("virustotal");
        assert_eq!(pooled(&[(kind(), 100), (kind(), 3_000_000)]), [0, 3_000_000]);
    }

    #[test]
    fn a_tie_is_shared_and_the_remainder_goes_by_name() {
        let kind = || Family::same_kind("virustotal");
        assert_eq!(pooled(&[(kind(), -100), (kind(), -100), (kind(), -100)]), [-34, -33, -33]);
    }

    #[test]
    fn the_two_sides_of_a_family_do_not_weaken_each_other() {
        assert_eq!(pooled(&[(Family::declared("m", "a"), 500), (Family::declared("m", "b"), -400)]), [500, -400]);
    }

    #[test]
    fn a_source_that_joins_the_family_of_a_kind_leaves_its_keys_one_opinion() {
        let kind = || Family::same_kind("x");
        let joins = || Family::declared("x", "list:a");
        assert_eq!(pooled(&[(kind(), 1000), (joins(), 500)]), [1000, 88]);
        assert_eq!(pooled(&[(kind(), 1000), (kind(), 500)]), [1000, 0]);
        assert_eq!(pooled(&[(kind(), 1000), (kind(), 500), (joins(), 500)]), [1000, 0, 88]);
        assert_eq!(pooled(&[(kind(), 1000), (kind(), 1000), (joins(), 2000)]), [88, 88, 2000]);
    }

    #[test]
    fn sources_of_one_key_are_one_opinion_in_a_declared_family_too() {
        let same = || Family::declared("mirror", "list:a");
        assert_eq!(pooled(&[(same(), 1000), (same(), 900)]), [1000, 0]);
        assert_eq!(
            pooled(&[(same(), 1000), (same(), 900), (Family::declared("mirror", "list:b"), 500)]),
            [1000, 0, 88]
        );
    }

    #[test]
    fn weights_add_up_to_the_number_of_independent_sources() {
        for rho in [0.0, 0.3, 0.7, 1.0] {
            for n in 1..=12 {
                let sum: f64 = (1..=n).map(|rank| weight(rank, rho)).sum();
                let worth = f64::from(n) / (1.0 + f64::from(n - 1) * rho);
                assert!((sum - worth).abs() < 1e-12, "{n} at {rho}: {sum} and {worth}");
            }
        }
    }
}
