//! Family pooling: sources that share data add less together than independent ones.
//!
//! Formula: `docs/fusion.md`, "Families". The two sides of a family are pooled separately, each in two steps: sources with
//! the same independence key are one opinion, then the opinions of the family are pooled.

use std::cmp::Reverse;
use std::ops::Range;

use smallvec::SmallVec;

use crate::finding::Family;

/// Which sources are one opinion, and which opinions are one family. A source is known by its index in order of name.
pub(super) struct Families {
    /// Indexes of all sources; those of one family, and within it those of one opinion, are neighbours.
    order: Vec<usize>,
    /// For each source the place of its family in `families`.
    family_of: Vec<usize>,
    families: Vec<Members>,
}

/// The members of one family, as ranges of the order.
struct Members {
    all: Range<usize>,
    opinions: SmallVec<[Range<usize>; 1]>,
}

/// What one opinion says on one side: as much as the strongest of its sources.
struct Opinion {
    micro: i64,
    /// The sources that say so, in order of name.
    members: SmallVec<[usize; 4]>,
}

impl Families {
    /// Groups sources, given in order of name.
    pub(super) fn new(sources: &[&Family]) -> Self {
        let key = |index: &usize| (sources[*index].name.as_str(), sources[*index].independence_key.as_str());
        let mut order: Vec<usize> = (0..sources.len()).collect();
        order.sort_by(|left, right| key(left).cmp(&key(right)).then(left.cmp(right)));
        let mut family_of = vec![0; sources.len()];
        let mut families: Vec<Members> = Vec::with_capacity(sources.len());
        let mut start = 0;
        for opinion in order.chunk_by(|left, right| key(left) == key(right)) {
            let range = start..start + opinion.len();
            let joins = start > 0 && key(&order[start - 1]).0 == key(&opinion[0]).0;
            match families.last_mut().filter(|_| joins) {
                Some(family) => {
                    family.all.end = range.end;
                    family.opinions.push(range.clone());
                }
                None => {
                    let opinions = SmallVec::from_buf([range.clone()]);
                    families.push(Members { all: range.clone(), opinions });
                }
            }
            for index in opinion {
                family_of[*index] = families.len() - 1;
            }
            start = range.end;
        }
        Self { order, family_of, families }
    }

    /// The family of a source.
    pub(super) fn family_of(&self, source: usize) -> usize {
        self.family_of[source]
    }

    pub(super) fn count(&self) -> usize {
        self.families.len()
    }

    /// The sources of a family.
    pub(super) fn members(&self, family: usize) -> &[usize] {
        &self.order[self.families[family].all.clone()]
    }

    /// Writes what the evidence of each source of this family adds beside that of the others, in micro-nats.
    /// `correlation` is that inside a family, 0 to 1.
    pub(super) fn pool(&self, family: usize, correlation: f64, own: &[i64], pooled: &mut [i64]) {
        let members = &self.families[family];
        if let [alone] = self.order[members.all.clone()] {
            pooled[alone] = own[alone];
            return;
        }
        for index in &self.order[members.all.clone()] {
            pooled[*index] = 0;
        }
        for sign in [1, -1] {
            self.pool_side(&members.opinions, correlation, sign, own, pooled);
        }
    }

    fn pool_side(&self, keys: &[Range<usize>], correlation: f64, sign: i64, own: &[i64], pooled: &mut [i64]) {
        let mut opinions: SmallVec<[Opinion; 8]> = SmallVec::new();
        for key in keys {
            let mut opinion = Opinion { micro: 0, members: SmallVec::new() };
            for index in &self.order[key.clone()] {
                let micro = own[*index];
                if micro.signum() != sign || micro.abs() < opinion.micro.abs() {
                    continue;
                }
                if micro != opinion.micro {
                    opinion = Opinion { micro, members: SmallVec::new() };
                }
                opinion.members.push(*index);
            }
            if opinion.micro != 0 {
                opinions.push(opinion);
            }
        }
        // Of equals the first by name gets what is left over first.
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
    let count = count as i64;
    (0..count).map(move |place| sum / count + if place < (sum % count).abs() { sum.signum() } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(evidence: &[(Family, i64)]) -> Vec<i64> {
        let families = Families::new(&evidence.iter().map(|(family, _)| family).collect::<Vec<_>>());
        let own: Vec<_> = evidence.iter().map(|(_, micro)| *micro).collect();
        let mut pooled = vec![i64::MIN; own.len()];
        for family in 0..families.count() {
            families.pool(family, 0.7, &own, &mut pooled);
        }
        pooled
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
