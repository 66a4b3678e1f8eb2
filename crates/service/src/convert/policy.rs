//! `policy.proto`: policies by the paths of their fields. Messages and settings name the fields alike, so that a path leads
//! through the message by its descriptor and no field is listed here.

use prost::Message;
use prost_reflect::{DynamicMessage, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};

use super::{Violations, read_duration, read_name, write_duration, write_timestamp};
use crate::error::Violation;
use crate::pb;
use crate::pb::policy::Rule;
use crate::settings::{
    FieldValue, PolicyChange, PolicyFields, PolicyOrigin, ResolvedPolicy, fields, is_optional_table,
};
use crate::source::parse_duration;
use crate::verdict::{MOST_SOURCE_ROWS, RuleKind};

const DURATION: &str = "google.protobuf.Duration";

/// The fields that only answers have, and those that say which policy it is.
const NOT_SETTINGS: [&str; 6] = ["name", "revision", "etag", "origin", "origin_place", "create_time"];

/// A revision of a policy, every number of it set.
pub fn write(resolved: &ResolvedPolicy) -> pb::Policy {
    let policy = &resolved.policy;
    let all = fields(policy).into_iter().map(|field| (field.path, field.value));
    // Both sides are ours and have the same fields, which a test holds.
    let mut written = write_fields(all).unwrap_or_default();
    if written.rule.is_none() {
        written.rule = Some(write_rule(policy.rule.kind()));
    }
    let (origin, origin_place) = match &resolved.origin {
        PolicyOrigin::BuiltIn => (pb::PolicyOrigin::BuiltIn, String::new()),
        PolicyOrigin::File(file) => (pb::PolicyOrigin::File, file.display().to_string()),
        PolicyOrigin::Api => (pb::PolicyOrigin::Api, String::new()),
    };
    pb::Policy {
        name: format!("policies/{}", policy.name),
        revision: policy.revision,
        etag: resolved.etag.clone(),
        origin: origin.into(),
        origin_place,
        create_time: resolved.create_time.map(write_timestamp),
        ..written
    }
}

/// The message that has these fields. Written values are read as the field's type wants them.
///
/// # Errors
/// Every path that is no field, and every value that is none of its type.
pub fn write_fields(fields: impl IntoIterator<Item = (String, FieldValue)>) -> Result<pb::Policy, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut message = DynamicMessage::new(descriptor());
    for (path, value) in fields {
        let is_setting = !NOT_SETTINGS.contains(&path.as_str());
        let set = if is_setting { set(&mut message, &path, &value) } else { Err("is not for you to set".into()) };
        violations.extend(set.err().map(|why| Violation::invalid(&path, why)));
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    message.transcode_to().map_err(|error| vec![Violation::invalid("", error.to_string())])
}

/// Reads a request to make or change a policy, noting every violation. Fields that are not set are left alone.
pub fn read_change(
    policy: &pb::Policy,
    update_mask: Option<prost_types::FieldMask>,
    base: &str,
    violations: &mut Violations,
) -> PolicyChange {
    let base = Some(base).filter(|base| !base.is_empty());
    let rows = match &policy.rule {
        Some(Rule::Weighted(weighted)) => weighted.sources.len(),
        Some(Rule::Xsoar(_) | Rule::Worst(_) | Rule::Majority(_) | Rule::Mean(_)) | None => 0,
    };
    let fields = if rows > MOST_SOURCE_ROWS {
        // Left out: checking many thousand rows would keep others waiting.
        let message = format!("holds {rows} sources, more than {MOST_SOURCE_ROWS}");
        violations.add(Violation::invalid("policy.weighted.sources", message));
        PolicyFields::new()
    } else {
        read_fields(policy, violations)
    };
    PolicyChange {
        name: violations.check(read_name(&policy.name, "policies", "policy.name")).unwrap_or_default(),
        fields,
        rule: policy.rule.as_ref().map(read_rule),
        base: base.and_then(|base| violations.check(read_name(base, "policies", "base"))),
        mask: violations.mask("update_mask", update_mask),
        allow_missing: false,
        etag: policy.etag.clone(),
    }
}

/// The fields that are set, by path.
pub fn read_fields(policy: &pb::Policy, violations: &mut Violations) -> PolicyFields {
    let mut fields = PolicyFields::new();
    if let Ok(message) = DynamicMessage::decode(descriptor(), policy.encode_to_vec().as_slice()) {
        for (field, value) in message.fields().filter(|(field, _)| !NOT_SETTINGS.contains(&field.name())) {
            collect(field.name(), value, &mut fields, violations);
        }
    }
    fields
}

fn collect(path: &str, value: &Value, fields: &mut PolicyFields, violations: &mut Violations) {
    let value = match value {
        Value::F64(number) => FieldValue::Number(*number),
        Value::I64(number) => FieldValue::Number(*number as f64),
        Value::Bool(flag) => FieldValue::Flag(*flag),
        Value::String(text) => FieldValue::Text(text.clone()),
        Value::Message(message) if message.descriptor().full_name() == DURATION => {
            let duration = message.transcode_to::<prost_types::Duration>().unwrap_or_default();
            match violations.check(read_duration(duration, &format!("policy.{path}"))) {
                Some(duration) => FieldValue::Duration(duration),
                None => return,
            }
        }
        Value::Message(message) => {
            if message.fields().next().is_none() && !is_optional_table(path) {
                fields.insert(path.to_owned(), FieldValue::Flag(true));
            }
            for (field, value) in message.fields() {
                collect(&format!("{path}.{}", field.name()), value, fields, violations);
            }
            return;
        }
        Value::Map(entries) => {
            for (key, value) in entries {
                let key = key.as_str().unwrap_or_default();
                collect(&format!("{path}.{key}"), value, fields, violations);
            }
            return;
        }
        // A policy has no fields of these types.
        Value::I32(_) | Value::U32(_) | Value::U64(_) | Value::F32(_) | Value::Bytes(_) | Value::EnumNumber(_) => {
            return;
        }
        Value::List(_) => return,
    };
    fields.insert(path.to_owned(), value);
}

/// Sets the field at this path below the message.
fn set(message: &mut DynamicMessage, path: &str, value: &FieldValue) -> Result<(), String> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let field = message.descriptor().get_field_by_name(name).ok_or("no such field")?;
    let field_kind = field.kind();
    if field.is_map() {
        let (key, rest) = rest.and_then(|rest| rest.split_once('.')).ok_or("needs the name of a source and a field")?;
        let entry = field_kind.as_message().map(MessageDescriptor::map_entry_value_field);
        let row = entry.and_then(|entry| entry.kind().as_message().cloned()).ok_or("no such field")?;
        let rows = message.get_field_mut(&field).as_map_mut().ok_or("no such field")?;
        let row = rows.entry(MapKey::String(key.into())).or_insert_with(|| Value::Message(DynamicMessage::new(row)));
        return set(row.as_message_mut().ok_or("no such field")?, rest, value);
    }
    let value = match (&field_kind, rest) {
        (Kind::Message(below), None) if below.full_name() == DURATION => duration(below, value)?,
        (Kind::Message(below), Some(rest)) if below.full_name() != DURATION => {
            let below = message.get_field_mut(&field).as_message_mut().ok_or("no such field")?;
            return set(below, rest, value);
        }
        (Kind::Message(_), None) => return Err("is no value: name a field below it".into()),
        (_, Some(_)) => return Err("no such field".into()),
        (Kind::Double, None) => Value::F64(number(value)?),
        (Kind::Int64, None) => match number(value)? {
            number if number.fract() == 0.0 && number.abs() < 9e15 => Value::I64(number as i64),
            number => return Err(format!("must be a whole number, not {number}")),
        },
        (Kind::Bool, None) => match value {
            FieldValue::Flag(flag) => Value::Bool(*flag),
            FieldValue::Written(text) if text.trim() == "true" => Value::Bool(true),
            _ => return Err("must be true, or be left out".into()),
        },
        (Kind::String, None) => match value {
            FieldValue::Text(text) | FieldValue::Written(text) => Value::String(text.clone()),
            _ => return Err("must be a text".into()),
        },
        _ => return Err("is not for you to set".into()),
    };
    message.set_field(&field, value);
    Ok(())
}

fn number(value: &FieldValue) -> Result<f64, String> {
    match value {
        FieldValue::Number(number) => Ok(*number),
        FieldValue::Written(text) => text.trim().parse().map_err(|_| format!("{text:?} is no number")),
        FieldValue::Duration(_) | FieldValue::Text(_) | FieldValue::Flag(_) => Err("must be a number".into()),
    }
}

fn duration(descriptor: &MessageDescriptor, value: &FieldValue) -> Result<Value, String> {
    let duration = match value {
        FieldValue::Duration(duration) => *duration,
        FieldValue::Text(text) | FieldValue::Written(text) => parse_duration(text)?,
        FieldValue::Number(_) | FieldValue::Flag(_) => {
            return Err("must be a duration with its unit: 12h, 30d".into());
        }
    };
    let mut message = DynamicMessage::new(descriptor.clone());
    message.transcode_from(&write_duration(duration)).map_err(|error| error.to_string())?;
    Ok(Value::Message(message))
}

fn descriptor() -> MessageDescriptor {
    pb::DESCRIPTORS.get_message_by_name("concord.v1.Policy").expect("the protocol has policies")
}

/// Which rule it is.
pub fn read_rule(rule: &Rule) -> RuleKind {
    match rule {
        Rule::Weighted(_) => RuleKind::Weighted,
        Rule::Xsoar(_) => RuleKind::Xsoar,
        Rule::Worst(_) => RuleKind::Worst,
        Rule::Majority(_) => RuleKind::Majority,
        Rule::Mean(_) => RuleKind::Mean,
    }
}

/// The rule alone, without a number.
pub fn write_rule(rule: RuleKind) -> Rule {
    match rule {
        RuleKind::Weighted => Rule::Weighted(pb::WeightedRule::default()),
        RuleKind::Xsoar => Rule::Xsoar(pb::XsoarRule {}),
        RuleKind::Worst => Rule::Worst(pb::WorstRule {}),
        RuleKind::Majority => Rule::Majority(pb::MajorityRule {}),
        RuleKind::Mean => Rule::Mean(pb::MeanRule::default()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::verdict::{Decay, LearnedCoverage, Policy, Rule as OurRule, SourceRow};

    fn resolved(policy: Policy) -> ResolvedPolicy {
        ResolvedPolicy { policy, origin: PolicyOrigin::BuiltIn, etag: "b1".into(), create_time: None }
    }

    fn check(policy: Policy) {
        let expected: BTreeMap<_, _> = fields(&policy).into_iter().map(|field| (field.path, field.value)).collect();
        let written = write(&resolved(policy.clone()));
        assert_eq!(written.rule.as_ref().map(read_rule), Some(policy.rule.kind()));
        let mut violations = Violations::default();
        assert_eq!(read_fields(&written, &mut violations), expected, "{}", policy.name);
        assert!(violations.is_empty());
        let texts = expected.into_iter().map(|(path, value)| (path, FieldValue::Written(value.written())));
        let again = write_fields(texts).unwrap();
        assert_eq!(again.rule.or(written.rule.clone()), written.rule);
    }

    #[test]
    fn every_field_of_a_policy_is_a_field_of_the_message_and_comes_back_exactly() {
        for mut policy in Policy::built_in() {
            check(policy.clone());
            let OurRule::Weighted(rule) = &mut policy.rule else { continue };
            rule.ip.decay = Some(Decay::Polynomial { lifetime: Duration::from_millis(1500), speed: 0.1 + 0.2 });
            rule.url.decay = None;
            let coverage = Some(LearnedCoverage { if_malicious: 0.4, if_benign: 0.0 });
            rule.sources = vec![SourceRow { source: "vt-2".into(), claims: Some(rule.letters.b), coverage }];
            check(policy);
        }
    }

    #[test]
    fn what_a_command_line_may_get_wrong_is_refused_with_its_path() {
        let refused = |path: &str, text: &str| {
            let fields = [(path.to_owned(), FieldValue::Written(text.to_owned()))];
            write_fields(fields).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        for (path, text, message) in [
            ("weighted.thresholds.malicous", "0.9", "weighted.thresholds.malicous: no such field"),
            ("weighted.thresholds.malicious.x", "0.9", "weighted.thresholds.malicious.x: no such field"),
            ("weighted.thresholds", "0.9", "weighted.thresholds: is no value: name a field below it"),
            ("weighted.thresholds.malicious", "high", "weighted.thresholds.malicious: \"high\" is no number"),
            ("weighted.sources.vt", "0.9", "weighted.sources.vt: needs the name of a source and a field"),
            ("weighted.ip.decay.none", "false", "weighted.ip.decay.none: must be true, or be left out"),
            (
                "weighted.conflict.floor_micro_nats",
                "0.5",
                "weighted.conflict.floor_micro_nats: must be a whole number, not 0.5",
            ),
            ("etag", "c1", "etag: is not for you to set"),
        ] {
            assert_eq!(refused(path, text), message);
        }
        assert!(refused("weighted.ip.decay.half_life.grace", "3").contains("write it with its unit"));
    }
}
