//! Properties of the statistics on random rows.

use concord::statistics::{AlphaMetric, GroupAgreement, JointTable, KappaWeights, SourceStatistics};
use proptest::prelude::*;

use super::world::{Actor, items, letters, rows};

fn table() -> impl Strategy<Value = [[u64; 3]; 3]> {
    prop::array::uniform3(prop::array::uniform3(0_u64..2_000))
}

proptest! {
    #[test]
    fn kappa_lies_between_its_bounds_and_does_not_depend_on_who_is_first(counts in table()) {
        let table = JointTable::new(counts);
        for weights in [KappaWeights::Plain, KappaWeights::Quadratic] {
            let Some(estimate) = table.kappa_estimate(weights) else { continue };
            prop_assert!((-1.0..=1.0).contains(&estimate.value), "{estimate:?}");
            prop_assert!(estimate.low <= estimate.value && estimate.value <= estimate.high, "{estimate:?}");
            let exchanged = table.transposed().kappa(weights).unwrap();
            prop_assert!((estimate.value - exchanged).abs() < 1e-9);
        }
    }

    #[test]
    fn agreement_is_full_exactly_where_nobody_disagrees(
        ratings in prop::collection::vec(prop::array::uniform3(0_u32..4), 1..40),
    ) {
        let mut agreement = GroupAgreement::<3>::default();
        ratings.iter().for_each(|item| agreement.add(*item));
        let disagree = ratings.iter().any(|item| item.iter().filter(|count| **count > 0).count() > 1);
        for coefficient in [agreement.alpha(AlphaMetric::Nominal), agreement.alpha(AlphaMetric::Ordinal), agreement.ac1()] {
            let Some(coefficient) = coefficient else { continue };
            prop_assert!(coefficient <= 1.0 + 1e-9, "{coefficient}");
            prop_assert_eq!((coefficient - 1.0).abs() < 1e-9, !disagree);
        }
    }

    #[test]
    fn the_order_of_the_rows_does_not_matter(seed in 0_u64..1_000) {
        let actors = [
            Actor::honest("alpha", concord::finding::Reliability::B),
            Actor::honest("bravo", concord::finding::Reliability::C),
            Actor { coverage: 0.3, ..Actor::honest("charlie", concord::finding::Reliability::D) },
        ];
        let items = items(&actors, 60, seed);
        let (mut forward, mut later) = (SourceStatistics::default(), SourceStatistics::default());
        rows(&actors, &items, 30, |row| forward.add(row));
        // The second half first.
        let mut number = 0;
        rows(&actors, &items, 30, |row| {
            number += 1;
            if number > 30 { later.add(row) }
        });
        number = 0;
        rows(&actors, &items, 30, |row| {
            number += 1;
            if number <= 30 { later.add(row) }
        });
        let (forward, later) = (forward.finish(&letters()), later.finish(&letters()));
        prop_assert_eq!(forward.sources, later.sources);
        prop_assert_eq!(forward.pairs, later.pairs);
    }
}
