//! Whether probabilities hold, on labels drawn by known ones.

use concord::indicator::IndicatorType;
use concord::statistics::{CalibrationReport, CalibrationStatistics, LEAST_OF_EACH, Label, Row};
use concord::verdict::Calibration;

use super::world::{Random, day};

/// Labels drawn from the probability that `a + b L` gives, where `L` is what the verdicts say.
fn reports(count: usize, shift: f64, scale: f64, present: Calibration) -> Vec<CalibrationReport> {
    let mut statistics = CalibrationStatistics::default();
    let mut random = Random::new(9);
    for number in 0..count {
        let log_odds = (random.uniform() - 0.5) * 8.0;
        let probability = 1.0 / (1.0 + (-(shift + scale * log_odds)).exp());
        let label = Label { is_malicious: random.uniform() < probability, time: day(0) };
        statistics.add(&Row {
            indicator: number as u64,
            indicator_type: if number % 2 == 0 { IndicatorType::Ip } else { IndicatorType::Url },
            time: day(0),
            merged: concord::finding::Disposition::Unknown,
            log_odds: Some(log_odds),
            base: None,
            label: Some(label),
            has_units: false,
            reports: Vec::new(),
        });
    }
    statistics.reports(present)
}

#[test]
fn honest_probabilities_have_a_small_error_and_need_no_correction() {
    let reports = reports(20_000, 0.0, 1.0, Calibration::NONE);
    assert_eq!(
        reports.iter().map(|report| report.indicator_type).collect::<Vec<_>>(),
        [None, Some(IndicatorType::Ip), Some(IndicatorType::Url)]
    );
    let all = &reports[0];
    let fit = all.fit.expect("enough labels");
    assert!(all.expected_error < 0.015, "{}", all.expected_error);
    assert!(fit.calibration.shift.abs() < 0.05 && (fit.calibration.scale - 1.0).abs() < 0.05, "{fit:?}");
    assert_eq!(all.curve.iter().map(|bin| bin.count).sum::<u64>(), 20_000);
    assert!(all.curve.iter().all(|bin| bin.share.low <= bin.probability && bin.probability <= bin.share.high));
}

#[test]
fn the_correction_of_overconfident_probabilities_is_found_and_improves_them() {
    let all = reports(20_000, 0.7, 0.5, Calibration::NONE).remove(0);
    let fit = all.fit.expect("enough labels");
    assert!((fit.calibration.shift - 0.7).abs() < 0.05 && (fit.calibration.scale - 0.5).abs() < 0.05, "{fit:?}");
    assert!(fit.brier < all.brier && fit.loss_after < fit.loss_before, "{fit:?}");
    assert!(all.expected_error > 0.1);
}

#[test]
fn a_correction_goes_on_top_of_the_one_in_effect() {
    let present = Calibration { shift: 0.4, scale: 0.8 };
    let fit = reports(20_000, 0.7, 0.5, present).remove(0).fit.expect("enough labels");
    let alone = reports(20_000, 0.7, 0.5, Calibration::NONE).remove(0).fit.expect("enough labels");
    let expected = alone.calibration.shift + alone.calibration.scale * 0.4;
    assert!((fit.calibration.shift - expected).abs() < 1e-9);
    assert!((fit.calibration.scale - alone.calibration.scale * 0.8).abs() < 1e-9);
}

#[test]
fn too_few_labels_of_a_side_are_reported_and_not_fitted() {
    let few = reports(LEAST_OF_EACH as usize, 0.0, 1.0, Calibration::NONE);
    assert!(few[0].labels == LEAST_OF_EACH && few[0].fit.is_none());
    assert!(reports(0, 0.0, 1.0, Calibration::NONE).is_empty());
}
