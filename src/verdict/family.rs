//! What claims weigh together when their sources share data.
//!
//! Formula: `docs/fusion.md`, "Families". Both sides of a family are pooled on their own, in two steps: sources with the
//! same independence key are one opinion, then the opinions of a family are pooled.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::finding::Family;

/// One source's evidence before pooling. Sources come in order of name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence<'a> {
    pub family: &'a Family,
    pub micro: i64,
}

/// What sources with one independence key say on one side: as much as the strongest of them.
struct Opinion {
    /// The strongest alone: by position in order of name, and all with this evidence.
    members: Vec<usize>,
    micro: i64,
}

/// What each source adds in the company of the others, in the order given.
pub(super) fn pool(correlation: f64, sources: &[Evidence<'_>]) -> Vec<i64> {
    let mut sides: BTreeMap<(&str, bool), BTreeMap<&str, Opinion>> = BTreeMap::new();
    for (position, source) in sources.iter().enumerate().filter(|(_, source)| source.micro != 0) {
        let opinions = sides.entry((&source.family.name, source.micro > 0)).or_default();
        let opinion = opinions
            .entry(&source.family.independence_key)
            .or_insert(Opinion { members: Vec::new(), micro: source.micro });
        if source.micro.abs() > opinion.micro.abs() {
            *opinion = Opinion { members: Vec::new(), micro: source.micro };
        }
        if source.micro == opinion.micro {
            opinion.members.push(position);
        }
    }
    let mut terms = vec![0; sources.len()];
    for opinions in sides.into_values() {
        for (position, term) in pool_opinions(correlation, opinions.into_values().collect()) {
            if let Some(slot) = terms.get_mut(position) {
                *slot = term;
            }
        }
    }
    terms
}

/// Pools the opinions of one family that point the same way; each goes back to its members.
fn pool_opinions(correlation: f64, mut opinions: Vec<Opinion>) -> Vec<(usize, i64)> {
    // Of equals the first by name gets the remainder first.
    opinions.sort_by_key(|opinion| (Reverse(opinion.micro.unsigned_abs()), opinion.members.first().copied()));
    let weighted: Vec<(Opinion, i64)> = (1_u32..)
        .zip(opinions)
        .map(|(rank, opinion)| {
            let term = (weight(rank, correlation) * opinion.micro as f64).round_ties_even() as i64;
            (opinion, term)
        })
        .collect();
    let mut terms = Vec::new();
    for tie in weighted.chunk_by(|(left, _), (right, _)| left.micro == right.micro) {
        let sum = tie.iter().map(|(_, term)| term).sum();
        for ((opinion, _), share) in tie.iter().zip(split(sum, tie.len())) {
            terms.extend(opinion.members.iter().copied().zip(split(share, opinion.members.len())));
        }
    }
    terms
}

/// The weight of the opinion of this rank, from 1. The first n add up to `n / (1 + (n-1) rho)`, the number of
/// independent sources that n equally correlated ones are worth.
fn weight(rank: u32, rho: f64) -> f64 {
    if rank <= 1 {
        return 1.0;
    }
    let k = f64::from(rank);
    (1.0 - rho) / ((1.0 + (k - 1.0) * rho) * (1.0 + (k - 2.0) * rho))
}

/// The sum in equal shares; what is left over goes out one micro-nat each, from the first on.
fn split(sum: i64, count: usize) -> impl Iterator<Item = i64> {
    let count = i64::try_from(count).unwrap_or(i64::MAX).max(1);
    let (share, rest) = (sum / count, sum % count);
    (0..count).map(move |place| if place < rest.abs() { share + rest.signum() } else { share })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(sources: &[(Family, i64)]) -> Vec<i64> {
        let sources: Vec<_> = sources.iter().map(|(family, micro)| Evidence { family, micro: *micro }).collect();
        pool(0.7, &sources)
    }

    #[test]
    fn two_keys_of_one_kind_are_one_opinion_and_the_stronger_one_speaks() {
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
