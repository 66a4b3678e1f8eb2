//! `history_threshold.proto`: what each value of a threshold would have said.

use super::history::{count, write_performance};
use super::indicator::write_type;
use crate::pb;
use crate::statistics::{ThresholdCurve, ThresholdPoint};

/// The curve, without what is known only where it was read: source, option, present value, and what could not be read.
pub fn write_curve(curve: &ThresholdCurve) -> pb::ThresholdCurve {
    pb::ThresholdCurve {
        indicator_types: curve.indicator_types.iter().map(|known| write_type(*known).into()).collect(),
        findings: count(curve.findings),
        no_record: count(curve.no_record),
        changes_malicious: curve.changes_malicious,
        points: curve.points.iter().map(write_point).collect(),
        distinct_values: count(curve.distinct_values),
        best_by_labels: curve.best_by_labels.map(count),
        best_by_agreement: curve.best_by_agreement.map(count),
        ..Default::default()
    }
}

fn write_point(point: &ThresholdPoint) -> pb::ThresholdPoint {
    pb::ThresholdPoint {
        value: count(point.value),
        malicious: count(point.claims.malicious),
        suspicious: count(point.claims.suspicious),
        benign: count(point.claims.benign),
        unknown: count(point.claims.unknown),
        compared: count(point.joint.total()),
        agreement: point.joint.agreement(),
        quadratic_kappa: point.quadratic_kappa(),
        performance: point.labels.performance().as_ref().map(write_performance),
    }
}
