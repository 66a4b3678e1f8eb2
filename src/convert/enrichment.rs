//! `enrichment_service.proto`: options, receipts, plans.

use super::source::write_period;
use super::verdict::{View, read_view, source_name, write_not_asked};
use super::{Violations, duration, incomplete, indicator, read_duration, read_name, read_sources, timestamp};
use crate::engine::{Budget, Engine, EnrichRequest, Planned, PlannedSource};
use crate::error::{Error, Reason, Violation};
use crate::fetch::Receipt;
use crate::indicator::{Indicator, Tlp};
use crate::pb;
use crate::store::WindowUse;

/// Most indicators that one batch may carry.
pub const BATCH_LIMIT: usize = 1000;
const LONGEST_REQUEST_ID: usize = 128;

/// what is asked beside the indicator: the same for every RPC that enriches.
#[derive(Clone, Debug)]
pub struct EnrichOptions {
    /// Names of the sources to ask, without `sources/`.
    pub sources: Vec<String>,
    /// The policy, without `policies/`.
    pub policy: Option<String>,
    /// How far the indicator may be passed on.
    pub tlp: Tlp,
    /// How old a kept answer may be.
    pub max_age: Option<std::time::Duration>,
    /// How much of the verdict is wanted.
    pub view: View,
    /// The identifier that the caller gave; empty if none.
    pub request_id: String,
}

/// The fields that every request to enrich has, as they stand on the wire.
#[derive(Debug, Default)]
pub struct RawEnrichOptions {
    /// `sources`.
    pub sources: Vec<String>,
    /// `policy`.
    pub policy: String,
    /// `tlp`.
    pub tlp: i32,
    /// `max_age`.
    pub max_age: Option<prost_types::Duration>,
    /// `view`.
    pub view: i32,
    /// `request_id`.
    pub request_id: String,
}

impl EnrichOptions {
    /// The request for one indicator.
    pub fn of(&self, indicator: Indicator, caller: &str, budget: Option<Budget>) -> EnrichRequest {
        EnrichRequest {
            indicator,
            sources: self.sources.clone(),
            policy: self.policy.clone(),
            tlp: self.tlp,
            max_age: self.max_age,
            caller: caller.to_owned(),
            budget,
        }
    }

    /// Reads what is asked beside the indicator, noting every mistake.
    pub fn read(wire: RawEnrichOptions, engine: &Engine, violations: &mut Violations) -> Self {
        let sources = read_sources(&wire.sources, engine, violations);
        let policy = Some(&wire.policy).filter(|name| !name.is_empty());
        let policy = policy.and_then(|name| violations.check(read_name(name, "policies", "policy")));
        let policy =
            policy.and_then(|name| violations.resolve("policy", engine.policy(Some(&name)).map(|_| name.clone())));
        let max_age = wire.max_age.and_then(|age| violations.check(read_duration(age, "max_age")));
        let request_id = violations.check(read_request_id(wire.request_id)).unwrap_or_default();
        Self {
            sources,
            policy,
            tlp: violations.check(indicator::read_tlp(wire.tlp, "tlp")).flatten().unwrap_or_default(),
            max_age,
            view: violations.check(read_view(wire.view, "view")).unwrap_or_default(),
            request_id,
        }
    }
}

/// Reads a request's identifier; empty if none was given.
///
/// # Errors
/// When it is too long or not visible ASCII.
pub fn read_request_id(text: String) -> Result<String, Violation> {
    if text.len() <= LONGEST_REQUEST_ID && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text)
    } else {
        Err(Violation::invalid("request_id", "at most 128 visible ASCII characters, without spaces"))
    }
}

/// One indicator as it was sent, and what was understood.
#[derive(Clone, Debug)]
pub struct SubmittedText {
    /// The indicator.
    pub indicator: Indicator,
    /// The text as it may be shown.
    pub text: String,
    /// How it was understood.
    pub notes: Vec<String>,
}

/// Reads the indicator, noting its mistake.
pub fn read_submitted(wire: Option<&pb::Indicator>, field: &str) -> Result<SubmittedText, Violation> {
    let parsed = indicator::read(wire, field)?;
    let submitted = wire.map(|indicator| indicator.value.clone()).unwrap_or_default();
    // The text of a URL with a password is not repeated: its masked normal form stands in for it.
    let text = if parsed.indicator.has_url_credentials() { parsed.indicator.redacted() } else { submitted };
    Ok(SubmittedText { indicator: parsed.indicator, text, notes: parsed.notes })
}

/// Reads a request for one indicator.
///
/// # Errors
/// [`Error::Invalid`] with every mistake; [`Error::NotFound`] where the only one is a name that nothing has.
pub fn read_one(
    wire: Option<&pb::Indicator>,
    options: RawEnrichOptions,
    engine: &Engine,
) -> Result<(SubmittedText, EnrichOptions), Error> {
    let mut violations = Violations::default();
    let submitted = violations.check(read_submitted(wire, "indicator"));
    if let Some(violation) = indicator::also_wrong(wire, "indicator") {
        violations.add(violation);
    }
    let options = EnrichOptions::read(options, engine, &mut violations);
    violations.finish()?;
    Ok((submitted.ok_or_else(incomplete)?, options))
}

/// Reads what holds for a whole batch; its indicators are read one by one later, so that a bad one does not fail the
/// rest.
///
/// # Errors
/// [`Error::Invalid`] with every mistake; [`Error::NotFound`] where the only one is a name that nothing has.
pub fn read_batch(request: &mut pb::BatchEnrichRequest, engine: &Engine) -> Result<EnrichOptions, Error> {
    let mut violations = Violations::default();
    match request.indicators.len() {
        0 => violations.add(Violation::new("indicators", Reason::FieldRequired, "at least one indicator is needed")),
        1..=BATCH_LIMIT => {}
        many => {
            let message = format!("{many} indicators; at most {BATCH_LIMIT} in one request: send several");
            violations.add(Violation::new("indicators", Reason::TooMany, message));
        }
    }
    let options = EnrichOptions::read(
        RawEnrichOptions {
            sources: std::mem::take(&mut request.sources),
            policy: std::mem::take(&mut request.policy),
            tlp: request.tlp,
            max_age: request.max_age,
            view: request.view,
            request_id: std::mem::take(&mut request.request_id),
        },
        engine,
        &mut violations,
    );
    violations.finish()?;
    Ok(options)
}

/// How one source's outcome was come by.
pub fn write_receipt(source: &str, receipt: &Receipt) -> pb::SourceReceipt {
    pb::SourceReceipt {
        source: source_name(source),
        called: receipt.called,
        from_cache: receipt.from_cache,
        shared: receipt.shared,
        age: Some(duration(receipt.age)),
        latency: Some(duration(receipt.latency)),
        units: receipt.units,
        quota: receipt.quota.iter().map(write_window).collect(),
        note: receipt.note.clone().unwrap_or_default(),
    }
}

/// How much of a window is used.
pub fn write_window(window: &WindowUse) -> pb::QuotaUse {
    pb::QuotaUse {
        period: write_period(window.per).into(),
        limit: window.limit,
        used: window.used,
        left: window.limit.saturating_sub(window.used),
        reset_time: Some(timestamp(window.resets_at)),
    }
}

/// What would happen with one source.
pub fn write_plan(planned: &PlannedSource) -> pb::SourcePlan {
    use pb::source_plan::Action;
    let action = match &planned.planned {
        Planned::Call { units, quota, discloses } => Action::Call(pb::PlannedCall {
            units: *units,
            quota: quota.iter().map(write_window).collect(),
            discloses: *discloses,
        }),
        Planned::Cached(age) => Action::Cached(pb::CachedAnswer { age: Some(duration(*age)) }),
        Planned::NotAsked(not_asked) => Action::NotAsked(write_not_asked(not_asked)),
    };
    pb::SourcePlan { source: source_name(&planned.source), kind: planned.kind.clone(), action: Some(action) }
}
