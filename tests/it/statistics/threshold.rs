//! The curve of a threshold, against counting each value by itself.

use std::time::SystemTime;

use concord::finding::Disposition;
use concord::indicator::IndicatorType;
use concord::statistics::{Label, ThresholdAnswer, ThresholdCurve, ThresholdStatistics, threshold_values};
use proptest::prelude::*;
use strum::VariantArray;

#[test]
fn values_are_single_up_to_a_thousand_and_then_of_two_digits_with_the_present_one() {
    let values = threshold_values(1, 100_000_000, 12_345);
    assert_eq!(values.iter().take_while(|value| **value <= 1_000).count(), 1_000);
    assert!(values.is_sorted_by(|one, next| one < next));
    for wanted in [1_100, 9_900, 10_000, 11_000, 12_345, 99_000_000, 100_000_000] {
        assert!(values.contains(&wanted), "{wanted}");
    }
    assert!(!values.contains(&1_050) && values.len() < 1_500, "{}", values.len());
    assert_eq!(threshold_values(1, 100, 75), (1..=100).collect::<Vec<_>>());
    assert_eq!(threshold_values(1, 3_650, 30).last(), Some(&3_650));
    assert_eq!(threshold_values(2_500, 3_000, 2_500).first(), Some(&2_500));
}

fn claim_at(answer: &ThresholdAnswer, place: usize) -> Disposition {
    if place < answer.change { answer.before } else { answer.after }
}

fn claims() -> impl Strategy<Value = Disposition> {
    prop::sample::select(Disposition::VARIANTS)
}

fn answers() -> impl Strategy<Value = Vec<ThresholdAnswer>> {
    let types = prop::sample::select(&[IndicatorType::Ip, IndicatorType::Domain][..]);
    let rest = prop::option::of(claims());
    let answer = (types, claims(), 0..40_usize, claims(), rest, prop::option::of(any::<bool>()));
    let answer = answer.prop_map(|(indicator_type, before, change, after, rest, label)| ThresholdAnswer {
        indicator_type,
        before,
        change: if before == after { 0 } else { change },
        after,
        rest,
        label: label.map(|is_malicious| Label { is_malicious, time: SystemTime::UNIX_EPOCH }),
    });
    prop::collection::vec(answer, 1..60)
}

fn curve(answers: &[ThresholdAnswer], values: &[u64], present: u64) -> ThresholdCurve {
    let mut statistics = ThresholdStatistics::default();
    answers.iter().for_each(|answer| statistics.add(answer));
    statistics.finish(values, present)
}

proptest! {
    #[test]
    fn each_point_counts_what_counting_its_value_alone_does(answers in answers(), present in 1_u64..=40) {
        let values: Vec<u64> = (1..=40).collect();
        let curve = curve(&answers, &values, present);
        let concerned: Vec<&ThresholdAnswer> = answers
            .iter()
            .filter(|answer| curve.indicator_types.is_empty() || curve.indicator_types.contains(&answer.indicator_type))
            .collect();
        prop_assert_eq!(curve.findings, concerned.len() as u64);
        prop_assert!(curve.points.iter().any(|point| point.value == present));
        for point in &curve.points {
            let place = values.iter().position(|value| *value == point.value).unwrap();
            let count = |wanted: Disposition| {
                concerned.iter().filter(|answer| claim_at(answer, place) == wanted).count() as u64
            };
            prop_assert_eq!(point.claims.malicious, count(Disposition::Malicious));
            prop_assert_eq!(point.claims.suspicious, count(Disposition::Suspicious));
            prop_assert_eq!(point.claims.benign, count(Disposition::Benign));
            prop_assert_eq!(point.claims.unknown, count(Disposition::Unknown));
            let sided = |claim: Disposition| claim != Disposition::Unknown;
            let joint = concerned.iter().filter_map(|answer| Some((claim_at(answer, place), answer.rest?)));
            let joint: Vec<_> = joint.filter(|(claim, rest)| sided(*claim) && sided(*rest)).collect();
            prop_assert_eq!(point.joint.total(), joint.len() as u64);
            let same = joint.iter().filter(|(claim, rest)| claim == rest).count() as f64;
            let share = (!joint.is_empty()).then(|| same / joint.len() as f64);
            prop_assert_eq!(point.joint.agreement(), share);
            let is_alarm = |claim: Disposition| {
                claim == Disposition::Malicious || (!curve.changes_malicious && claim == Disposition::Suspicious)
            };
            let labelled = |malicious: bool, alarm: bool| {
                let matches = |answer: &&&ThresholdAnswer| {
                    answer.label.is_some_and(|label| label.is_malicious == malicious)
                        && is_alarm(claim_at(answer, place)) == alarm
                };
                concerned.iter().filter(matches).count() as u64
            };
            prop_assert_eq!(point.labels.true_alarms, labelled(true, true));
            prop_assert_eq!(point.labels.missed, labelled(true, false));
            prop_assert_eq!(point.labels.false_alarms, labelled(false, true));
            prop_assert_eq!(point.labels.true_silence, labelled(false, false));
        }
        let best_is_drawn = |best: Option<u64>| best.is_none_or(|best| curve.points.iter().any(|p| p.value == best));
        prop_assert!(best_is_drawn(curve.best_by_labels) && best_is_drawn(curve.best_by_agreement));
    }
}

#[test]
fn a_curve_of_many_values_keeps_its_ends_the_present_value_and_the_best() {
    let values: Vec<u64> = (1..=1_000).collect();
    let answer = |number: usize| ThresholdAnswer {
        indicator_type: IndicatorType::Ip,
        before: Disposition::Malicious,
        change: number,
        after: Disposition::Benign,
        rest: Some(if number > 613 { Disposition::Malicious } else { Disposition::Benign }),
        label: None,
    };
    let answers: Vec<ThresholdAnswer> = (1..=900).map(answer).collect();
    let curve = curve(&answers, &values, 77);
    assert_eq!(curve.distinct_values, 901);
    assert!(curve.points.len() <= 35, "{}", curve.points.len());
    let shown: Vec<u64> = curve.points.iter().map(|point| point.value).collect();
    for wanted in [1, 77, 614, 901] {
        assert!(shown.contains(&wanted), "{wanted} in {shown:?}");
    }
    assert_eq!((curve.best_by_agreement, curve.best_by_labels), (Some(614), None));
}

#[test]
fn where_no_value_changes_anything_the_curve_is_the_present_value() {
    let answer = ThresholdAnswer {
        indicator_type: IndicatorType::Ip,
        before: Disposition::Benign,
        change: 0,
        after: Disposition::Benign,
        rest: None,
        label: None,
    };
    let curve = curve(&[answer, answer], &[1, 2, 3], 2);
    let shown: Vec<_> = curve.points.iter().map(|point| (point.value, point.claims.benign)).collect();
    assert_eq!((shown, curve.distinct_values), (vec![(2, 2)], 1));
}

#[test]
fn no_record_counts_as_silence_and_a_type_that_no_value_concerns_is_left_out() {
    let mut statistics = ThresholdStatistics::default();
    let label = |is_malicious| Some(Label { is_malicious, time: SystemTime::UNIX_EPOCH });
    let answer = ThresholdAnswer {
        indicator_type: IndicatorType::Ip,
        before: Disposition::Suspicious,
        change: 3,
        after: Disposition::Benign,
        rest: None,
        label: label(true),
    };
    statistics.add(&answer);
    statistics.add(&ThresholdAnswer { indicator_type: IndicatorType::File, change: 0, ..answer });
    statistics.add_no_record(IndicatorType::Ip, label(true));
    statistics.add_no_record(IndicatorType::File, label(true));
    let curve = statistics.finish(&[1, 2, 3, 4, 5], 2);
    assert_eq!((&curve.indicator_types[..], curve.findings, curve.no_record), (&[IndicatorType::Ip][..], 1, 1));
    assert!(!curve.changes_malicious, "alarms are claims of suspicious too");
    let labels: Vec<_> =
        curve.points.iter().map(|point| (point.value, point.labels.true_alarms, point.labels.missed)).collect();
    assert_eq!(labels, [(2, 1, 1), (3, 1, 1), (4, 0, 2)]);
}
