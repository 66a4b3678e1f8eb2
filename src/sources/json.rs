//! Typed members of a JSON answer. A malformed member that a rule reads makes the answer malformed, and the error names
//! it; optional facts are skipped when malformed.
//!
//! Errors name members, never values: a value may be anything, even something secret.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use crate::finding::{Fact, FactValue, SourceError};

/// Most entries of a list that one fact holds.
pub(super) const LIST_LIMIT: usize = 100;

/// Latest moment taken for real, in seconds since 1970: the end of the year 9998.
const LATEST_SECOND: i64 = 253_370_764_799;

/// An object of an answer, with its place for error messages.
#[derive(Clone, Debug)]
pub(super) struct Object<'a> {
    members: &'a Map<String, Value>,
    place: String,
}

/// Reads the bytes of an answer as JSON.
pub(super) fn parse(body: &[u8]) -> Result<Value, SourceError> {
    // Some services begin with a byte-order mark, which is no part of the JSON.
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    // serde's own message quotes nothing of the body but line, column and what was expected there.
    serde_json::from_slice(body).map_err(|error| SourceError::malformed(format!("the answer is no JSON: {error}")))
}

impl<'a> Object<'a> {
    /// The outermost object of an answer.
    pub(super) fn root(value: &'a Value) -> Result<Self, SourceError> {
        match value {
            Value::Object(members) => Ok(Self { members, place: String::new() }),
            _ => Err(SourceError::malformed("the answer is no JSON object")),
        }
    }

    /// Whether the member is there and holds null.
    pub(super) fn is_null(&self, name: &str) -> bool {
        matches!(self.members.get(name), Some(Value::Null))
    }

    /// A member object; `None` where it is missing or null.
    pub(super) fn object(&self, name: &str) -> Result<Option<Object<'a>>, SourceError> {
        match self.present(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Object { members, place: self.at(name) })),
            Some(_) => Err(self.unreadable(name, "an object")),
        }
    }

    /// A member object that the form requires.
    pub(super) fn need_object(&self, name: &str) -> Result<Object<'a>, SourceError> {
        self.object(name)?.ok_or_else(|| self.missing(name))
    }

    /// A list of objects; `None` where it is missing or null.
    pub(super) fn objects(&self, name: &str) -> Result<Option<Vec<Object<'a>>>, SourceError> {
        let Some(value) = self.present(name) else { return Ok(None) };
        let Value::Array(items) = value else { return Err(self.unreadable(name, "a list")) };
        let objects = items.iter().enumerate().map(|(index, item)| match item {
            Value::Object(members) => Ok(Object { members, place: format!("{}[{index}]", self.at(name)) }),
            _ => Err(self.unreadable(name, "a list of objects")),
        });
        objects.collect::<Result<Vec<_>, _>>().map(Some)
    }

    /// The names of all members.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.members.keys().map(String::as_str)
    }

    /// The member objects, each under its name; members that are none are left out.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Object<'a>)> + use<'a, '_> {
        self.members.iter().filter_map(|(name, value)| match value {
            Value::Object(members) => Some((name.as_str(), Object { members, place: self.at(name) })),
            _ => None,
        })
    }

    /// A text; `None` where it is missing, null or empty.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, SourceError> {
        match self.present(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
            Some(_) => Err(self.unreadable(name, "a text")),
        }
    }

    /// A text that the form requires.
    pub(super) fn need_text(&self, name: &str) -> Result<&'a str, SourceError> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// A count, as a number or as digits in a text; `None` where it is missing, null or empty.
    pub(super) fn count(&self, name: &str) -> Result<Option<u64>, SourceError> {
        let number = match self.present(name) {
            None => return Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(value) => value.as_u64(),
        };
        number.map(Some).ok_or_else(|| self.unreadable(name, "a whole number of 0 or more"))
    }

    /// A number, also as text; `None` where it is missing, null or empty.
    pub(super) fn number(&self, name: &str) -> Result<Option<f64>, SourceError> {
        let number = match self.present(name) {
            None => return Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(value) => value.as_f64(),
        };
        let finite = number.filter(|number: &f64| number.is_finite());
        finite.map(Some).ok_or_else(|| self.unreadable(name, "a number"))
    }

    /// Yes or no, also as the texts `true` and `false`; `None` where it is missing, null or empty.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, SourceError> {
        match self.present(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(Value::String(text)) if text.trim().eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.trim().eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => Err(self.unreadable(name, "true or false")),
        }
    }

    /// Yes or no that the form requires.
    pub(super) fn need_flag(&self, name: &str) -> Result<bool, SourceError> {
        self.flag(name)?.ok_or_else(|| self.missing(name))
    }

    /// A moment: seconds since 1970, also with a fraction or as text, or a date with or without time and offset (UTC where
    /// it names none).
    pub(super) fn time(&self, name: &str) -> Result<Option<SystemTime>, SourceError> {
        let time = match self.present(name) {
            None => return Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
            Some(Value::String(text)) => time_of_text(text),
            Some(value) => value.as_f64().and_then(time_of_number),
        };
        time.map(Some).ok_or_else(|| self.unreadable(name, "a date"))
    }

    /// A list of texts; what is no text in it is left out, and so is all of it if it is no list.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let Some(Value::Array(items)) = self.members.get(name) else { return Vec::new() };
        let texts = items.iter().filter_map(Value::as_str).filter(|text| !text.trim().is_empty());
        texts.take(LIST_LIMIT).map(str::to_owned).collect()
    }

    /// The member as facts have it, whatever its type; `None` where it says nothing.
    pub(super) fn fact(&self, member: &str, name: &str) -> Option<Fact> {
        let value = match self.members.get(member)? {
            Value::Bool(flag) => FactValue::Flag(*flag),
            Value::String(text) if !text.trim().is_empty() => FactValue::Text(text.trim().to_owned()),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => FactValue::Integer(integer),
                None => FactValue::Number(number.as_f64()?),
            },
            Value::Array(_) => FactValue::List(Some(self.texts(member)).filter(|texts| !texts.is_empty())?),
            Value::Null | Value::String(_) | Value::Object(_) => return None,
        };
        Some(Fact::new(name, value))
    }

    /// The facts of these members, each under our name, those that say nothing left out.
    pub(super) fn facts(&self, members: &[(&str, &str)]) -> Vec<Fact> {
        members.iter().filter_map(|(member, name)| self.fact(member, name)).collect()
    }

    /// The moments of these members as facts, those that cannot be read left out.
    pub(super) fn time_facts(&self, members: &[(&str, &str)]) -> Vec<Fact> {
        let times = members.iter().filter_map(|(member, name)| Some(Fact::new(*name, self.time(member).ok()??)));
        times.collect()
    }

    /// The error for a member that the form requires and that is not there.
    pub(super) fn missing(&self, name: &str) -> SourceError {
        SourceError::malformed(format!("member {} is missing", self.at(name)))
    }

    /// The error for a member that is not what a rule reads there.
    pub(super) fn unreadable(&self, name: &str, wanted: &str) -> SourceError {
        SourceError::malformed(format!("member {} is not {wanted}", self.at(name)))
    }

    fn present(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    fn at(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) }
    }
}

fn time_of_seconds(seconds: i64) -> Option<SystemTime> {
    let seconds = u64::try_from(seconds).ok().filter(|_| seconds <= LATEST_SECOND)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The moment of so many seconds, cut to whole ones.
fn time_of_number(seconds: f64) -> Option<SystemTime> {
    // Whole seconds up to the latest moment are exact in floating point, and what is no number is none of them.
    let is_real = (0.0..=LATEST_SECOND as f64).contains(&seconds);
    is_real.then(|| time_of_seconds(seconds as i64)).flatten()
}

fn time_of_text(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    let text = text.strip_suffix("UTC").unwrap_or(text).trim_end();
    let timestamp = match text.parse::<jiff::Timestamp>() {
        Ok(timestamp) => timestamp,
        Err(_) => {
            // Eight digits are a date; what is none may be a number.
            let Ok(civil) = text.parse::<jiff::civil::DateTime>() else { return time_of_number(text.parse().ok()?) };
            civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp()
        }
    };
    time_of_seconds(timestamp.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        Some(time_of_text(text)?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
    }

    #[test]
    fn every_way_in_which_sources_write_a_moment_is_read() {
        assert_eq!(seconds("2019-01-19 01:33:26 UTC"), Some(1_547_861_606));
        assert_eq!(seconds("2019-01-19 01:33:26"), Some(1_547_861_606));
        assert_eq!(seconds("2019-01-19T02:33:26+01:00"), Some(1_547_861_606));
        assert_eq!(seconds("2019-01-19"), Some(1_547_856_000));
        for number in ["1547861606", " 1547861606 ", "1547861606.75", "1.547861606e9", "1547861606 UTC"] {
            assert_eq!(seconds(number), Some(1_547_861_606), "{number}");
        }
        for nothing in ["yesterday", "inf", "NaN", "-1", "1e300"] {
            assert_eq!(seconds(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_moment_may_be_a_number_with_a_fraction_and_a_byte_order_mark_may_come_before_all() {
        let body =
            "\u{feff}{\"whole\": 1547861606, \"float\": 1547861606.0, \"fraction\": 1547861606.9, \"none\": -1.5}";
        let value = parse(body.as_bytes()).expect("JSON");
        let root = Object::root(&value).expect("an object");
        let moment = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_547_861_606));
        assert_eq!(root.time("whole"), Ok(moment));
        assert_eq!(root.time("float"), Ok(moment));
        assert_eq!(root.time("fraction"), Ok(moment));
        assert!(root.time("none").is_err());
    }

    #[test]
    fn an_unreadable_member_is_named_by_its_place_and_its_value_is_not_shown() {
        let value = serde_json::json!({"data": {"score": "s3cret"}});
        let data = Object::root(&value).and_then(|root| root.need_object("data")).expect("an object");
        let error = data.count("score").expect_err("a text is no count");
        assert!(error.detail.contains("data.score"), "{error}");
        assert!(!error.detail.contains("s3cret"), "{error}");
    }

    #[test]
    fn numbers_and_flags_are_read_from_texts_too_and_negative_counts_are_not() {
        let value = serde_json::json!({"a": "12", "b": "TRUE", "c": -1, "d": "", "e": null});
        let root = Object::root(&value).expect("an object");
        assert_eq!(root.count("a"), Ok(Some(12)));
        assert_eq!(root.flag("b"), Ok(Some(true)));
        assert!(root.count("c").is_err());
        assert_eq!(root.count("d"), Ok(None));
        assert_eq!(root.number("e"), Ok(None));
    }
}
