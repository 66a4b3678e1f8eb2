//! What claims weigh together when their sources share data: the second of a family adds less than the first.
//!
//! Formula: `docs/fusion.md`, "Families". Both sides of a family are pooled on their own.

use std::collections::BTreeMap;

use crate::finding::Family;

/// One source's evidence before pooling. Sources come in order of name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opinion<'a> {
    pub family: &'a Family,
    pub micro: i64,
}

/// What each opinion adds in the company of the others, in the order given.
pub(super) fn pool(correlation: f64, opinions: &[Opinion<'_>]) -> Vec<i64> {
    let mut sides: BTreeMap<(&str, bool), Vec<(usize, Opinion<'_>)>> = BTreeMap::new();
    for (position, opinion) in opinions.iter().enumerate().filter(|(_, opinion)| opinion.micro != 0) {
        sides.entry((opinion.family.name(), opinion.micro > 0)).or_default().push((position, *opinion));
    }
    let mut terms = vec![0; opinions.len()];
    for side in sides.into_values() {
        for (position, term) in pool_side(correlation, side) {
            if let Some(slot) = terms.get_mut(position) {
                *slot = term;
            }
        }
    }
    terms
}

/// Pools the opinions of one family that point the same way.
fn pool_side(correlation: f64, mut side: Vec<(usize, Opinion<'_>)>) -> Vec<(usize, i64)> {
    let rho = correlation_of(correlation, &side);
    // Stable: equal evidence stays in order of name, which decides who gets a remainder.
    side.sort_by_key(|(_, opinion)| std::cmp::Reverse(opinion.micro.unsigned_abs()));
    let weighed: Vec<(usize, i64, i64)> = (1_u32..)
        .zip(side)
        .map(|(rank, (position, opinion))| {
            (position, opinion.micro, (weight(rank, rho) * opinion.micro as f64).round_ties_even() as i64)
        })
        .collect();
    weighed.chunk_by(|left, right| left.1 == right.1).flat_map(share_tie).collect()
}

/// The correlation inside one side. Only those who speak decide it: a silent member must not change anything.
fn correlation_of(declared: f64, side: &[(usize, Opinion<'_>)]) -> f64 {
    let one_opinion = side.iter().all(|(_, opinion)| match opinion.family {
        Family::SameKind(_) => true,
        Family::Declared(_) | Family::Republished(_) => false,
    });
    if one_opinion { 1.0 } else { declared }
}

/// The weight of the member of this rank, from 1. The first n add up to `n / (1 + (n-1) rho)`, the number of
/// independent sources that n equally correlated ones are worth.
fn weight(rank: u32, rho: f64) -> f64 {
    if rank <= 1 {
        return 1.0;
    }
    let k = f64::from(rank);
    (1.0 - rho) / ((1.0 + (k - 1.0) * rho) * (1.0 + (k - 2.0) * rho))
}

/// Equal evidence gets equal terms: the sum shared out, what is left over one micro-nat each in order of name.
fn share_tie(tie: &[(usize, i64, i64)]) -> Vec<(usize, i64)> {
    let sum: i64 = tie.iter().map(|(_, _, term)| term).sum();
    let count = i64::try_from(tie.len()).unwrap_or(i64::MAX).max(1);
    let (share, rest) = (sum / count, sum % count);
    (0..)
        .zip(tie)
        .map(|(place, (position, _, _))| (*position, if place < rest.abs() { share + rest.signum() } else { share }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(opinions: &[(Family, i64)]) -> Vec<i64> {
        let opinions: Vec<_> = opinions.iter().map(|(family, micro)| Opinion { family, micro: *micro }).collect();
        pool(0.7, &opinions)
    }

    #[test]
    fn two_keys_of_one_kind_are_one_opinion_and_the_stronger_one_speaks() {
        let kind = || Family::SameKind("virustotal".into());
        assert_eq!(pooled(&[(kind(), 100), (kind(), 3_000_000)]), [0, 3_000_000]);
    }

    #[test]
    fn a_tie_is_shared_and_the_remainder_goes_by_name() {
        let kind = || Family::SameKind("virustotal".into());
        assert_eq!(pooled(&[(kind(), -100), (kind(), -100), (kind(), -100)]), [-34, -33, -33]);
    }

    #[test]
    fn the_two_sides_of_a_family_do_not_weaken_each_other() {
        let mirror = || Family::Declared("mirror".into());
        assert_eq!(pooled(&[(mirror(), 500), (mirror(), -400)]), [500, -400]);
    }

    #[test]
    fn a_family_that_one_speaking_member_declares_counts_as_declared() {
        let kind = Family::SameKind("x".into());
        assert_eq!(pooled(&[(kind.clone(), 1000), (Family::Declared("x".into()), 500)]), [1000, 88]);
        assert_eq!(pooled(&[(kind.clone(), 1000), (kind, 500)]), [1000, 0]);
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
