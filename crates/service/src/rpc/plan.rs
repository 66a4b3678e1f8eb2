//! Writes what the engine plans for a source, and what it did with one, as messages of the protocol.

use crate::convert::enrichment::{SubmittedText, write_window_use};
use crate::convert::verdict::{source_name, write_not_asked};
use crate::convert::{indicator, write_duration};
use crate::engine::{EnrichmentPlan, Planned, PlannedSource, PlannedWave};
use crate::fetch::Receipt;
use crate::finding::{NotAskedReason, OutcomeBody};
use crate::pb;
use crate::verdict::Verdict;

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

/// Adds what the request spent and saved in all: the units of the sources and of the graph.
pub(super) fn add_units(receipt: &mut pb::Receipt, settled: u32, graph: Option<&pb::RelationGraph>) {
    let count = |is: fn(&pb::SourceReceipt) -> bool| {
        u32::try_from(receipt.sources.iter().filter(|source| is(source)).count()).unwrap_or(u32::MAX)
    };
    let saved =
        pb::SavedUnits { cached: count(|source| source.from_cache), shared: count(|source| source.shared), settled };
    let of_sources = receipt.sources.iter().map(|source| source.units).sum::<u32>();
    receipt.units = of_sources.saturating_add(graph.map_or(0, |graph| graph.calls));
    receipt.saved = Some(saved);
}

/// The units that were saved because no further answer could change the disposition.
pub(super) fn settled_units(verdict: &Verdict) -> u32 {
    let is_settled = |body: &OutcomeBody| match body {
        OutcomeBody::NotAsked(not_asked) => {
            matches!(not_asked.reason, NotAskedReason::VerdictSettled | NotAskedReason::Pinned)
        }
        OutcomeBody::Finding(_) | OutcomeBody::NoRecord | OutcomeBody::Error(_) => false,
    };
    u32::try_from(verdict.outcomes.iter().filter(|outcome| is_settled(&outcome.body)).count()).unwrap_or(u32::MAX)
}

pub(super) fn write_plan(submitted: SubmittedText, plan: EnrichmentPlan) -> pb::PlanEnrichmentResponse {
    let wave = |wave: &PlannedWave| pb::PlannedWave { units: wave.units, max_units: wave.max_units };
    pb::PlanEnrichmentResponse {
        indicator: Some(indicator::write(&submitted.indicator)),
        notes: submitted.notes,
        units: plan.units,
        max_units: plan.max_units,
        sources: plan.sources.iter().map(write_source_plan).collect(),
        waves: plan.waves.iter().map(wave).collect(),
        caller_units_left: plan.caller_units_left,
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
    let (source, kind) = (source_name(&planned.source), planned.kind.clone());
    pb::SourcePlan { source, kind, action: Some(action), wave: planned.wave }
}
