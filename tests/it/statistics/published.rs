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

/// Cohen 1960, "A coefficient of agreement for nominal scales", table 2 on page 45, as a MATLAB function (`cohenskappa` of
/// T. Pingel) quotes it: two judges sort 200 cases into three diagnoses. Cohen 1968, "Weighted kappa", has it in shares as its
/// table 1; the R packages DMAR (`diagnosis_agreement`) and psych (`cohen.kappa`) reproduce that with the kappa of .492 that Cohen
/// reports.
const COHEN: [[u64; 3]; 3] = [[88, 14, 18], [10, 40, 10], [2, 6, 12]];

#[test]
fn cohen_1960_two_judges_and_three_categories() {
    let table = JointTable::new(COHEN);
    assert_near(table.agreement(), 0.70, 1e-12);
    assert_near(table.kappa(KappaWeights::Plain), 0.492, 0.0005);
    // By hand, since Cohen's weights are others: disagreement 0.60 observed and 1.10 expected, in squared distances.
    assert_near(table.kappa(KappaWeights::Quadratic), 1.0 - 0.60 / 1.10, 1e-9);
    assert_eq!(table.transposed().kappa(KappaWeights::Plain), table.kappa(KappaWeights::Plain));
}

#[test]
fn the_bootstrap_interval_of_kappa_is_that_of_its_standard_error_and_always_the_same() {
    let table = JointTable::new(COHEN);
    let estimate = table.kappa_estimate(KappaWeights::Plain).unwrap();
    // By the formula of Cohen 1960 the standard error is sqrt(.70 * .30 / (200 * .59^2)) = .055.
    assert!((estimate.low - (0.492 - 1.96 * 0.055)).abs() < 0.02, "{estimate:?}");
    assert!((estimate.high - (0.492 + 1.96 * 0.055)).abs() < 0.02, "{estimate:?}");
    assert_eq!(table.kappa_estimate(KappaWeights::Plain), Some(estimate));
}

/// The ratings of a table of two raters, item by item.
fn of_table<const N: usize>(table: [[u64; N]; N]) -> GroupAgreement<N> {
    let mut agreement = GroupAgreement::default();
    for (first, row) in table.iter().enumerate() {
        for (second, count) in row.iter().enumerate() {
            for _ in 0..*count {
                let mut ratings = [0; N];
                ratings[first] += 1;
                ratings[second] += 1;
                agreement.add(ratings);
            }
        }
    }
    agreement
}

#[test]
fn gwet_irrcac_two_abstractors_and_three_categories() {
    // `cont3x3abstractors`, with the results in the package's README.
    let table = [[13, 0, 0], [0, 20, 7], [0, 4, 56]];
    assert_near(JointTable::new(table).kappa(KappaWeights::Plain), 0.796_409_4, 5e-8);
    assert_near(of_table(table).ac1(), 0.849_330_5, 5e-8);
}

#[test]
fn gwet_irrcac_six_raters_and_five_categories() {
    // `distrib.6raters`, with the results in the package's README: how many of six psychiatrists make each diagnosis.
    let patients = [
        [0, 0, 0, 6, 0],
        [0, 3, 0, 0, 3],
        [0, 1, 4, 0, 1],
        [0, 0, 0, 0, 6],
        [0, 3, 0, 3, 0],
        [2, 0, 4, 0, 0],
        [0, 0, 4, 0, 2],
        [2, 0, 3, 1, 0],
        [2, 0, 0, 4, 0],
        [0, 0, 0, 0, 6],
        [1, 0, 0, 5, 0],
        [1, 1, 0, 4, 0],
        [0, 3, 3, 0, 0],
        [1, 0, 0, 5, 0],
        [0, 2, 0, 3, 1],
    ];
    let mut agreement = GroupAgreement::<5>::default();
    patients.iter().for_each(|ratings| agreement.add(*ratings));
    assert_near(agreement.ac1(), 0.444_800_7, 5e-8);
    assert_near(agreement.alpha(AlphaMetric::Nominal), 0.420_438_4, 5e-8);
}

#[test]
fn ac1_stays_high_where_kappa_is_paradoxical() {
    // Two raters put 118 of 125 into the same category. By hand with the formulas of Cohen 1960 and Gwet 2008: agreement .944;
    // by chance .94528 for kappa, and 2 * .972 * .028 = .054432 for AC1.
    let table = [[118, 5], [2, 0]];
    assert_near(JointTable::new(table).kappa(KappaWeights::Plain), (0.944 - 0.945_28) / (1.0 - 0.945_28), 1e-9);
    assert_near(of_table(table).ac1(), (0.944 - 0.054_432) / (1.0 - 0.054_432), 1e-9);
}

#[test]
fn gwet_irrcac_four_raters_with_missing_data() {
    // The ratings of Krippendorff's section C, which are `cac.raw4raters` in Gwet's package irrCAC, with the result in its README.
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
