//! `enrichment_service.proto`: options and the use of quota.

use std::fmt::Display;
use std::time::Duration;

use super::indicator::{self, read_tlp};
use super::source::write_period;
use super::verdict::{View, read_view};
use super::{NamedField, Violations, read_duration, read_name, read_sources, unknown_enum, write_timestamp};
use crate::error::{Reason, Violation};
use crate::indicator::{Indicator, Tlp};
use crate::pb;
use crate::source::{EnrichMode, Priority, RelationsWanted};
use crate::store::WindowUse;

/// Most indicators that one batch may carry.
const BATCH_LIMIT: usize = 1000;
const MAX_REQUEST_ID: usize = 128;
/// Most policies that one request may compare.
const MAX_COMPARED: usize = 16;

/// The options that all methods of the service share. Whether sources and policy exist is not known yet.
#[derive(Clone, Debug)]
pub struct EnrichOptions {
    pub sources: Vec<NamedField>,
    pub policy: Option<NamedField>,
    /// Policies that are to judge the same outcomes as well.
    pub compare_policies: Vec<NamedField>,
    pub tlp: Tlp,
    pub max_age: Option<Duration>,
    pub view: View,
    /// Empty where the caller gave none.
    pub request_id: String,
    pub relations: Option<RelationOptions>,
    /// `None`: the default of the method.
    pub priority: Option<Priority>,
    pub mode: Option<EnrichMode>,
}

const MAX_BUDGET: u32 = 1000;

/// Reads the mode with its budget.
fn read_mode(mode: i32, budget: Option<u32>, violations: &mut Violations) -> Option<EnrichMode> {
    const FIELD: &str = "options.budget";
    let wire = pb::EnrichMode::try_from(mode);
    if let Some(units) = budget.filter(|units| *units > MAX_BUDGET) {
        violations
            .add(Violation::invalid(FIELD, format!("{units} is above {MAX_BUDGET}, the most units of one request")));
    }
    match (wire, budget) {
        (Ok(pb::EnrichMode::Frugal), Some(budget)) => Some(EnrichMode::Frugal { budget }),
        (Ok(pb::EnrichMode::Frugal), None) => {
            let message = "the mode FRUGAL needs it: the most quota units that may be spent, 0 to 1000";
            violations.add(Violation::new(FIELD, Reason::FieldRequired, message));
            None
        }
        (Ok(mode), budget) => {
            if budget.is_some() {
                violations.add(Violation::invalid(FIELD, "only the mode FRUGAL has a budget"));
            }
            match mode {
                pb::EnrichMode::Complete => Some(EnrichMode::Complete),
                pb::EnrichMode::Decisive => Some(EnrichMode::Decisive),
                pb::EnrichMode::Unspecified | pb::EnrichMode::Frugal => None,
            }
        }
        (Err(_), _) => {
            violations.add(unknown_enum(mode, "1 (COMPLETE), 2 (DECISIVE), 3 (FRUGAL)", "options.mode"));
            None
        }
    }
}

/// Which related indicators are wanted, and how far to walk.
#[derive(Clone, Debug)]
pub struct RelationOptions {
    pub wanted: RelationsWanted,
    /// 1 to 3.
    pub depth: u32,
}

impl RelationOptions {
    /// What is wanted of the first indicator. A walk keeps half of the calls for the indicators that it comes to.
    pub fn for_first(&self) -> RelationsWanted {
        let max_calls = if self.depth > 1 { self.wanted.max_calls / 2 } else { self.wanted.max_calls };
        RelationsWanted { max_calls, ..self.wanted.clone() }
    }
}

const MAX_DEPTH: u32 = 3;
const MAX_RELATION_CALLS: u32 = 100;
/// Names of relationships in one request.
const MAX_RELATION_NAMES: usize = 100;

fn read_relations(relations: pb::RelationOptions, violations: &mut Violations) -> RelationOptions {
    let pb::RelationOptions { mut names, max_calls, depth } = relations;
    let field = |name: &str| format!("options.relations.{name}");
    if names.len() > MAX_RELATION_NAMES {
        let message = format!("{} names; at most {MAX_RELATION_NAMES}", names.len());
        violations.add(Violation::new(field("names"), Reason::TooMany, message));
    }
    if max_calls > MAX_RELATION_CALLS {
        let message = format!("{max_calls} is above {MAX_RELATION_CALLS}, the most calls of one request");
        violations.add(Violation::invalid(field("max_calls"), message));
    }
    if depth > MAX_DEPTH {
        violations.add(Violation::invalid(field("depth"), format!("{depth} is above {MAX_DEPTH}, the farthest walk")));
    }
    names.sort_unstable();
    names.dedup();
    let wanted = RelationsWanted { names, max_calls, ..RelationsWanted::default() };
    RelationOptions { wanted, depth: depth.max(1) }
}

fn read_compared(names: &[String], violations: &mut Violations) -> Vec<NamedField> {
    const FIELD: &str = "options.compare_policies";
    if names.len() > MAX_COMPARED {
        let message = format!("{} policies; at most {MAX_COMPARED} in one request", names.len());
        violations.add(Violation::new(FIELD, Reason::TooMany, message));
        return Vec::new();
    }
    let name = |(index, name): (usize, &String)| {
        let field = format!("{FIELD}[{index}]");
        violations.check(read_name(name, "policies", &field)).map(|name| NamedField { name, field })
    };
    names.iter().enumerate().filter_map(name).collect()
}

convert_enum!(
    read_priority, write_priority: Priority <=> Priority { Interactive, Background },
    "1 (INTERACTIVE), 2 (BACKGROUND)"
);

pub fn read_options(options: Option<pb::EnrichOptions>, violations: &mut Violations) -> EnrichOptions {
    let options = options.unwrap_or_default();
    let sources = read_sources(&options.sources, "options.sources", violations);
    let policy = Some(&options.policy).filter(|name| !name.is_empty()).and_then(|name| {
        let name = violations.check(read_name(name, "policies", "options.policy"))?;
        Some(NamedField { name, field: "options.policy".into() })
    });
    let compare_policies = read_compared(&options.compare_policies, violations);
    let max_age = options.max_age.and_then(|age| violations.check(read_duration(age, "options.max_age")));
    let request_id = violations.check(read_request_id(options.request_id, "options.request_id"));
    EnrichOptions {
        sources,
        policy,
        compare_policies,
        max_age,
        request_id: request_id.unwrap_or_default(),
        priority: violations.check(read_priority(options.priority, "options.priority")).flatten(),
        mode: read_mode(options.mode, options.budget, violations),
        relations: options.relations.map(|relations| read_relations(relations, violations)),
        tlp: violations.check(read_tlp(options.tlp, "options.tlp")).flatten().unwrap_or_default(),
        view: violations.check(read_view(options.view, "options.view")).unwrap_or_default(),
    }
}

/// Reads a request's identifier; empty if none was given.
pub fn read_request_id(text: String, field: &str) -> Result<String, Violation> {
    if text.len() <= MAX_REQUEST_ID && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text)
    } else {
        Err(Violation::invalid(field, "at most 128 visible ASCII characters, without spaces"))
    }
}

/// One indicator as it was sent, and how it was understood.
#[derive(Clone, Debug)]
pub struct SubmittedText {
    pub indicator: Indicator,
    /// The text as it may be shown.
    pub text: String,
    pub notes: Vec<String>,
}

pub fn read_submitted(
    wire: Option<&pb::Indicator>,
    field: impl Display,
    violations: &mut Violations,
) -> Option<SubmittedText> {
    let parsed = indicator::read(wire, field, violations)?;
    let redacted = parsed.indicator.redacted();
    let text = if redacted != parsed.indicator.value() {
        // The text itself would show the password.
        redacted
    } else {
        wire.map(|indicator| indicator.value.clone()).unwrap_or_default()
    };
    Some(SubmittedText { indicator: parsed.indicator, text, notes: parsed.notes })
}

/// Notes a number of indicators that a batch may not have. Each of them is read later by itself, so that a bad one does
/// not fail the rest.
pub fn check_batch_size(indicators: usize, violations: &mut Violations) {
    let (reason, message) = match indicators {
        1..=BATCH_LIMIT => return,
        0 => (Reason::FieldRequired, "at least one indicator is needed".to_owned()),
        many => (Reason::TooMany, format!("{many} indicators; at most {BATCH_LIMIT} in one request: send several")),
    };
    violations.add(Violation::new("indicators", reason, message));
}

pub fn write_window_use(window: &WindowUse) -> pb::QuotaUse {
    pb::QuotaUse {
        period: write_period(window.per).into(),
        limit: window.limit,
        used: window.used,
        left: window.limit.saturating_sub(window.used),
        reset_time: Some(write_timestamp(window.resets_at)),
        runs_out_time: None,
    }
}
