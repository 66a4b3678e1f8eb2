//! The coefficients on the examples with which their authors published them.

use concord::statistics::{AlphaMetric, GroupAgreement, JointTable, KappaWeights};

fn assert_near(value: Option<f64>, published: f64, tolerance: f64) {
    let value = value.expect("the coefficient is defined");
    assert!((value - published).abs() <= tolerance, "{value}, published as {published}");
}

/// The ratings of several raters, each a text with a letter from `a` on for each item and a dot where the rater is silent.
fn rated<const N: usize>(raters: &[&str]) -> GroupAgreement<N> {
    let mut agreement = GroupAgreement::default();
    for item in 0..raters[0].len() {
        let mut ratings = [0; N];
        for rating in raters.iter().map(|rater| rater.as_bytes()[item]).filter(|rating| *rating != b'.') {
            ratings[usize::from(rating - b'a')] += 1;
        }
        agreement.add(ratings);
    }
    agreement
}

#[test]
fn krippendorff_2011_section_a_two_observers_of_a_binary_variable() {
    let agreement = rated::<2>(&["abaaaaaaaa", "bbbaabaaba"]);
    assert_near(agreement.alpha(AlphaMetric::Nominal), 0.095, 0.0005);
}

#[test]
fn krippendorff_2011_section_b_two_observers_of_a_nominal_variable() {
    let agreement = rated::<5>(&["aabbdcccedda", "babbbccceddd"]);
    assert_near(agreement.alpha(AlphaMetric::Nominal), 0.692, 0.0005);
}

#[test]
fn krippendorff_2011_section_c_four_observers_with_missing_data() {
    let agreement = rated::<5>(&["abccbadab...", "abccbbdabe.c", ".cccbcdbbea.", "abccbddabea."]);
    assert_eq!(agreement.pairable(), 11, "a unit with a single value is no reliability data");
    assert_near(agreement.alpha(AlphaMetric::Nominal), 0.743, 0.0005);
    assert_near(agreement.alpha(AlphaMetric::Ordinal), 0.815, 0.0005);
}

/// Cohen 1960, "A coefficient of agreement for nominal scales", table 1, as counts of 200 subjects.
const COHEN: [[u64; 3]; 3] = [[88, 14, 18], [10, 40, 10], [2, 6, 12]];

#[test]
fn cohen_1960_two_judges_and_three_categories() {
    let table = JointTable::new(COHEN);
    assert_near(table.agreement(), 0.70, 1e-12);
    assert_near(table.kappa(KappaWeights::Plain), 0.492, 0.0005);
    // By hand: disagreement 0.60 observed and 1.10 expected, in squared distances.
    assert_near(table.kappa(KappaWeights::Quadratic), 1.0 - 0.60 / 1.10, 1e-9);
    assert_eq!(table.transposed().kappa(KappaWeights::Plain), table.kappa(KappaWeights::Plain));
}

#[test]
fn the_bootstrap_interval_of_kappa_is_that_of_its_standard_error_and_always_the_same() {
    let table = JointTable::new(COHEN);
    let estimate = table.kappa_estimate(KappaWeights::Plain).unwrap();
    // Cohen 1960 gives the standard error sqrt(.70 * .30 / (200 * .59^2)) = .055.
    assert!((estimate.low - (0.492 - 1.96 * 0.055)).abs() < 0.02, "{estimate:?}");
    assert!((estimate.high - (0.492 + 1.96 * 0.055)).abs() < 0.02, "{estimate:?}");
    assert_eq!(table.kappa_estimate(KappaWeights::Plain), Some(estimate));
}

/// Gwet 2008, "Computing inter-rater reliability and its variance in the presence of high agreement", the paradox of kappa:
/// 125 subjects, of which two raters put 118 into the same category.
const GWET: [[u64; 2]; 2] = [[118, 5], [2, 0]];

#[test]
fn gwet_2008_ac1_stays_high_where_kappa_is_paradoxical() {
    let mut agreement = GroupAgreement::<2>::default();
    for (first, row) in GWET.iter().enumerate() {
        for (second, count) in row.iter().enumerate() {
            for _ in 0..*count {
                let mut ratings = [0; 2];
                ratings[first] += 1;
                ratings[second] += 1;
                agreement.add(ratings);
            }
        }
    }
    assert_near(JointTable::new(GWET).kappa(KappaWeights::Plain), -0.0234, 0.00005);
    assert_near(agreement.ac1(), 0.9408, 0.00005);
}

#[test]
fn gwet_ac1_of_four_raters_with_missing_data() {
    // The ratings of Krippendorff's section C, as in Gwet's package irrCAC (`cac.raw4raters`).
    let agreement = rated::<5>(&["abccbadab...", "abccbbdabe.c", ".cccbcdbbea.", "abccbddabea."]);
    assert_near(agreement.ac1(), 0.77544, 0.00005);
}

#[test]
fn where_nobody_could_disagree_there_is_no_coefficient() {
    assert_eq!(JointTable::<3>::default().kappa(KappaWeights::Plain), None);
    assert_eq!(JointTable::new([[9, 0], [0, 0]]).kappa_estimate(KappaWeights::Plain), None);
    assert_eq!(GroupAgreement::<3>::default().alpha(AlphaMetric::Ordinal), None);
    assert_eq!(rated::<2>(&["aaa", "aaa"]).alpha(AlphaMetric::Nominal), None);
    assert_eq!(rated::<2>(&["ab", ".."]).ac1(), None);
}
