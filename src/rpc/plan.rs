//! Writes what the engine plans for a source, and what it did with one, as messages of the protocol.

use crate::convert::enrichment::{SubmittedText, write_window_use};
use crate::convert::verdict::{source_name, write_not_asked};
use crate::convert::{indicator, write_duration};
use crate::engine::{Planned, PlannedSource};
use crate::fetch::Receipt;
use crate::pb;

pub(super) fn write_receipt(source: &str, receipt: &Receipt) -> pb::SourceReceipt {
    pb::SourceReceipt {
        source: source_name(source),
        called: receipt.called,
        from_cache: receipt.from_cache,
        shared: receipt.shared,
        age: Some(write_duration(receipt.age)),
        latency: Some(write_duration(receipt.latency)),
        units: receipt.units,
        quota: receipt.quota.iter().map(write_window_use).collect(),
        note: receipt.note.clone().unwrap_or_default(),
        stale: receipt.stale.clone().unwrap_or_default(),
    }
}

pub(super) fn write_plan(submitted: SubmittedText, planned: &[PlannedSource]) -> pb::PlanEnrichmentResponse {
    let (mut units, mut max_units) = (0_u32, 0_u32);
    for source in planned {
        match &source.planned {
            Planned::Call { units: least, max_units: most, .. } => {
                units = units.saturating_add(*least);
                max_units = max_units.saturating_add(*most);
            }
            Planned::Cached(_) | Planned::NotAsked(_) => {}
        }
    }
    pb::PlanEnrichmentResponse {
        indicator: Some(indicator::write(&submitted.indicator)),
        notes: submitted.notes,
        units,
        max_units,
        sources: planned.iter().map(write_source_plan).collect(),
    }
}

fn write_source_plan(planned: &PlannedSource) -> pb::SourcePlan {
    use pb::source_plan::Action;
    let action = match &planned.planned {
        Planned::Call { units, max_units, quota, discloses, .. } => Action::Call(pb::PlannedCall {
            units: *units,
            max_units: *max_units,
            quota: quota.iter().map(write_window_use).collect(),
            discloses: *discloses,
        }),
        Planned::Cached(age) => Action::Cached(pb::CachedAnswer { age: Some(write_duration(*age)) }),
        Planned::NotAsked(not_asked) => Action::NotAsked(write_not_asked(not_asked)),
    };
    pb::SourcePlan { source: source_name(&planned.source), kind: planned.kind.clone(), action: Some(action) }
}
