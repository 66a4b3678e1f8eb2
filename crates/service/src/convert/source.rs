//! `source.proto`: sources, kinds, options.

use std::collections::BTreeMap;
use std::time::Duration;

use prost_types::value::Kind;
use secrecy::SecretString;
use serde_json::Value;
use url::Url;

use super::indicator::{self, read_reliability, read_tlp, write_reliability, write_tlp, write_type};
use super::verdict::source_name;
use super::{Violations, read_duration, read_name, write_duration, write_timestamp};
use crate::error::{Reason, Violation};
use crate::finding::Reliability;
use crate::indicator::Tlp;
use crate::pb;
use crate::settings::{Change, Clearable, Origin, ResolvedSource, SourcePatch, State};
use crate::source::{About, OptionSpec, OptionType, Proxy, QuotaPer, QuotaWindow, QuotaZone, parse_address};
use crate::store::Disclosure;
use crate::with_source_fields;

/// A source without its credential.
pub fn write(source: &ResolvedSource) -> pb::Source {
    let settings = &source.settings;
    let (state, state_detail) = write_state(&source.state);
    let (origin, origin_place) = write_origin(source.origin.as_ref());
    pb::Source {
        name: source_name(&settings.name),
        credential_set: settings.credential.is_some(),
        state: state.into(),
        state_detail,
        origin: origin.into(),
        origin_place,
        patched_fields: source.patched.clone(),
        etag: source.etag.clone(),
        warnings: source.source.warnings(),
        ..write_patch(SourcePatch::from_settings(settings))
    }
}

/// How a field of a source is carried by the protocol.
trait Wire: Sized {
    type Message;

    /// Reads it; `None` where the message sets nothing. What cannot be read is noted.
    fn read(message: Self::Message, field: &str, violations: &mut Violations) -> Option<Self>;

    fn write(value: Option<Self>) -> Self::Message;
}

macro_rules! convert_patch {
    ($(#[doc = $help:literal] $field:ident: $type:ty => $($setting:ident).+;)*) => {
        /// The fields of a source that a request sets.
        pub fn read_patch(source: &pb::Source, violations: &mut Violations) -> SourcePatch {
            let options = source.options.iter().flat_map(|options| &options.fields);
            SourcePatch {
                kind: Wire::read(source.kind.clone(), "source.kind", violations),
                $($field: Wire::read(source.$field.clone(), concat!("source.", stringify!($field)), violations),)*
                options: options.map(|(name, value)| (name.clone(), value_to_json(value))).collect(),
            }
        }

        /// A source that sets these fields.
        pub fn write_patch(patch: SourcePatch) -> pb::Source {
            let options = patch.options.iter().map(|(name, value)| (name.clone(), json_to_value(value)));
            pb::Source {
                kind: Wire::write(patch.kind),
                $($field: Wire::write(patch.$field),)*
                options: Some(prost_types::Struct { fields: options.collect() }),
                ..Default::default()
            }
        }
    };
}

with_source_fields!(convert_patch);

impl Wire for bool {
    type Message = Option<bool>;

    fn read(message: Option<bool>, _: &str, _: &mut Violations) -> Option<Self> {
        message
    }

    fn write(value: Option<bool>) -> Option<bool> {
        value
    }
}

impl Wire for u32 {
    type Message = Option<u32>;

    fn read(message: Option<u32>, _: &str, _: &mut Violations) -> Option<Self> {
        message
    }

    fn write(value: Option<u32>) -> Option<u32> {
        value
    }
}

impl Wire for String {
    type Message = String;

    fn read(message: String, _: &str, _: &mut Violations) -> Option<Self> {
        Some(message).filter(|text| !text.is_empty())
    }

    fn write(value: Option<String>) -> String {
        value.unwrap_or_default()
    }
}

impl Wire for Url {
    type Message = String;

    fn read(message: String, field: &str, violations: &mut Violations) -> Option<Self> {
        let text = Some(message.trim()).filter(|text| !text.is_empty())?;
        violations.check(parse_address(text).map_err(|message| Violation::invalid(field, message)))
    }

    fn write(value: Option<Url>) -> String {
        value.map(String::from).unwrap_or_default()
    }
}

impl Wire for QuotaZone {
    type Message = String;

    fn read(message: String, field: &str, violations: &mut Violations) -> Option<Self> {
        let text = Some(message.trim()).filter(|text| !text.is_empty())?;
        violations.check(text.parse().map_err(|message: String| Violation::invalid(field, message)))
    }

    fn write(value: Option<Self>) -> String {
        value.map(|zone| zone.to_string()).unwrap_or_default()
    }
}

impl Wire for Proxy {
    type Message = String;

    fn read(message: String, field: &str, violations: &mut Violations) -> Option<Self> {
        let proxy = message.parse().and_then(|proxy: Self| {
            match proxy.server() {
            Some(server) if server.has_login() => Err(
                "must not hold a user or password over the API, where they would be stored in clear: set this proxy in \
                 the configuration file, or set environment and name it in HTTPS_PROXY"
                    .into(),
            ),
            Some(_) | None => Ok(proxy),
        }
        });
        violations.check(proxy.map_err(|message| Violation::invalid(field, message)))
    }

    /// Without user and password.
    fn write(value: Option<Self>) -> String {
        value.map(|proxy| proxy.to_string()).unwrap_or_default()
    }
}

/// White space clears the field.
impl<T: Wire<Message = String>> Wire for Clearable<T> {
    type Message = String;

    fn read(message: String, field: &str, violations: &mut Violations) -> Option<Self> {
        match message.as_str() {
            "" => None,
            blank if blank.trim().is_empty() => Some(Self::Cleared),
            _ => T::read(message, field, violations).map(Self::Set),
        }
    }

    fn write(value: Option<Self>) -> String {
        match value {
            None => String::new(),
            Some(Self::Cleared) => " ".to_owned(),
            Some(Self::Set(value)) => T::write(Some(value)),
        }
    }
}

impl Wire for Duration {
    type Message = Option<prost_types::Duration>;

    fn read(message: Self::Message, field: &str, violations: &mut Violations) -> Option<Self> {
        violations.check(read_duration(message?, field))
    }

    fn write(value: Option<Self>) -> Self::Message {
        value.map(write_duration)
    }
}

impl Wire for Reliability {
    type Message = i32;

    fn read(message: i32, field: &str, violations: &mut Violations) -> Option<Self> {
        violations.check(read_reliability(message, field)).flatten()
    }

    fn write(value: Option<Self>) -> i32 {
        value.map_or(0, |letter| write_reliability(letter).into())
    }
}

impl Wire for Tlp {
    type Message = i32;

    fn read(message: i32, field: &str, violations: &mut Violations) -> Option<Self> {
        violations.check(read_tlp(message, field)).flatten()
    }

    fn write(value: Option<Self>) -> i32 {
        value.map_or(0, |tlp| write_tlp(tlp).into())
    }
}

impl Wire for Vec<QuotaWindow> {
    type Message = Vec<pb::QuotaWindow>;

    fn read(message: Self::Message, field: &str, violations: &mut Violations) -> Option<Self> {
        if message.is_empty() {
            return None;
        }
        let mut quota: BTreeMap<QuotaPer, u64> = BTreeMap::new();
        for (place, window) in message.iter().enumerate() {
            let field = format!("{field}[{place}].period");
            let per = read_period(window.period, &field).and_then(|per| {
                let message = "a window needs its period: MINUTE, DAY, WEEK or MONTH";
                per.ok_or_else(|| Violation::new(field.as_str(), Reason::FieldRequired, message))
            });
            let Some(per) = violations.check(per) else { continue };
            if quota.insert(per, window.limit).is_some() {
                violations.add(Violation::invalid(field, format!("the {} is given twice", per.as_str())));
            }
        }
        Some(quota.into_iter().map(|(per, limit)| QuotaWindow { per, limit }).collect())
    }

    fn write(value: Option<Self>) -> Self::Message {
        value.iter().flatten().map(write_window).collect()
    }
}

fn write_state(state: &State) -> (pb::SourceState, String) {
    match state {
        State::Active => (pb::SourceState::Active, String::new()),
        State::Disabled => (pb::SourceState::Disabled, String::new()),
        State::NotConfigured(missing) => (pb::SourceState::NotConfigured, missing.clone()),
    }
}

fn write_origin(origin: Option<&Origin>) -> (pb::SourceOrigin, String) {
    match origin {
        None => (pb::SourceOrigin::Api, String::new()),
        Some(Origin::File(path)) => (pb::SourceOrigin::File, path.display().to_string()),
        Some(Origin::Environment(variable)) => (pb::SourceOrigin::Environment, variable.clone()),
    }
}

fn write_window(window: &QuotaWindow) -> pb::QuotaWindow {
    pb::QuotaWindow { period: write_period(window.per).into(), limit: window.limit }
}

convert_enum!(
    read_period, write_period: QuotaPeriod <=> QuotaPer { Minute, Hour, Day, Week, Month },
    "1 (MINUTE), 2 (DAY), 3 (MONTH), 4 (WEEK), 5 (HOUR)"
);

/// Reads a request to change a source, noting every violation. Fields that are not set are left alone.
pub fn read_change(
    source: pb::Source,
    update_mask: Option<prost_types::FieldMask>,
    violations: &mut Violations,
) -> Change {
    Change {
        name: violations.check(read_name(&source.name, "sources", "source.name")).unwrap_or_default(),
        patch: read_patch(&source, violations),
        credential: Some(source.credential).filter(|text| !text.is_empty()).map(SecretString::from),
        mask: violations.mask("update_mask", update_mask),
        reset: Vec::new(),
        allow_missing: false,
        etag: source.etag,
    }
}

pub fn write_kind(about: &About) -> pb::SourceKind {
    pb::SourceKind {
        kind: about.kind.clone(),
        title: about.title.clone(),
        summary: about.summary.clone(),
        home_page: about.home_page.clone(),
        terms: about.terms.clone(),
        forms: about.forms.iter().map(|form| form.as_str().to_owned()).collect(),
        transport: about.transport.as_str().to_owned(),
        credential: about.credential.as_str().to_owned(),
        base_url: about.base_url.as_ref().map(Url::to_string).unwrap_or_default(),
        tiers: about
            .tiers
            .iter()
            .map(|tier| pb::SourceTier {
                name: tier.name.clone(),
                help: tier.help.clone(),
                quota: tier.quota.iter().map(write_window).collect(),
            })
            .collect(),
        reliability: write_reliability(about.reliability).into(),
        max_tlp: write_tlp(about.max_tlp).into(),
        timeout: Some(write_duration(about.timeout)),
        finding_ttl: Some(write_duration(about.cache_ttl.finding)),
        no_record_ttl: Some(write_duration(about.cache_ttl.no_record)),
        family: about.family.clone().unwrap_or_default(),
        options: about.options.iter().map(write_option).collect(),
        relationships: about
            .relationships
            .iter()
            .map(|known| pb::SourceRelationship {
                r#type: write_type(known.indicator_type).into(),
                name: known.name.to_owned(),
                relation: known.relation.as_str().to_owned(),
                premium: known.is_premium,
            })
            .collect(),
    }
}

fn write_option(spec: &OptionSpec) -> pb::SourceOption {
    let (min, max) = match &spec.value_type {
        OptionType::Integer { min, max } => (Some(*min as f64), Some(*max as f64)),
        OptionType::Number { min, max } => (Some(*min), Some(*max)),
        OptionType::Duration { min, max } => (Some(min.as_secs_f64()), Some(max.as_secs_f64())),
        OptionType::Flag
        | OptionType::Text
        | OptionType::Choice(_)
        | OptionType::TextList
        | OptionType::TextTable
        | OptionType::Address
        | OptionType::Path
        | OptionType::Resolver => (None, None),
    };
    let choices = match &spec.value_type {
        OptionType::Choice(words) => words.iter().map(|word| (*word).to_owned()).collect(),
        _ => Vec::new(),
    };
    pb::SourceOption {
        name: spec.name.clone(),
        r#type: spec.value_type.as_str().to_owned(),
        is_threshold: spec.is_threshold,
        default_value: spec.default.as_ref().map(|value| json_to_value(&value.to_json())),
        required: spec.required,
        help: spec.help.clone(),
        min,
        max,
        choices,
    }
}

/// JSON as `google.protobuf.Value`. Numbers become floating point, as the type has it.
pub fn json_to_value(document: &Value) -> prost_types::Value {
    let kind = match document {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(list) => {
            Kind::ListValue(prost_types::ListValue { values: list.iter().map(json_to_value).collect() })
        }
        Value::Object(members) => Kind::StructValue(prost_types::Struct {
            fields: members.iter().map(|(name, value)| (name.clone(), json_to_value(value))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

/// `google.protobuf.Value` as JSON; a whole number as an integer.
pub fn value_to_json(value: &prost_types::Value) -> Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::from(*flag),
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() < 9e15 => Value::from(*number as i64),
        Some(Kind::NumberValue(number)) => Value::from(*number),
        Some(Kind::StringValue(text)) => Value::from(text.clone()),
        Some(Kind::ListValue(list)) => list.values.iter().map(value_to_json).collect(),
        Some(Kind::StructValue(members)) => {
            members.fields.iter().map(|(name, value)| (name.clone(), value_to_json(value))).collect()
        }
    }
}

pub fn write_disclosure(disclosure: &Disclosure) -> pb::Disclosure {
    pb::Disclosure {
        id: disclosure.id.clone(),
        time: Some(write_timestamp(disclosure.time)),
        indicator: Some(indicator::write(&disclosure.indicator)),
        source: source_name(&disclosure.source),
        to: disclosure.to.clone(),
        caller: disclosure.caller.clone(),
        tlp: write_tlp(disclosure.tlp).into(),
        submission: disclosure.submission.as_ref().map(|id| format!("submissions/{id}")).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_values_are_read_back_as_they_were_written() {
        let document = serde_json::json!({ "a": [1, 2.5, "x", true, null], "b": { "c": -7 } });
        assert_eq!(value_to_json(&json_to_value(&document)), document);
    }

    #[test]
    fn white_space_clears_a_field_and_an_empty_text_leaves_it_alone() {
        let read = |text: &str| {
            let source =
                pb::Source { name: "sources/a".into(), proxy: text.into(), family: text.into(), ..Default::default() };
            let mut violations = Violations::default();
            let patch = read_change(source, None, &mut violations).patch;
            violations.finish(Some((patch.proxy, patch.family))).unwrap()
        };
        assert_eq!(read(" "), (Some(Clearable::Cleared), Some(Clearable::Cleared)));
        assert_eq!(read(""), (None, None));
    }

    #[test]
    fn a_window_whose_period_is_missing_unknown_or_repeated_is_refused() {
        let window = |period| pb::QuotaWindow { period, limit: 4 };
        let mut violations = Violations::default();
        Vec::<QuotaWindow>::read(vec![window(0), window(9), window(1), window(1)], "source.quota", &mut violations);
        let refused = violations.finish(Some(())).unwrap_err().to_string();
        for part in [
            "quota[0].period: a window needs",
            "quota[1].period: 9 is no value",
            "quota[3].period: the minute is given twice",
        ] {
            assert!(refused.contains(part), "{refused}");
        }
    }
}
