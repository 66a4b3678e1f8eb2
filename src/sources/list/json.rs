//! Lists in JSON: one object a line, or an array of texts or of objects. The entry is the member that option `member` names,
//! else the one whose name says that it is one.

use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::Value;

use super::entry::Skipped;
use super::import::{ListImport, Place, is_comment, lines};
use super::names;
use crate::finding::SourceError;

/// Reads JSON lines into the list.
pub(super) fn fill_from_lines(list: &mut ListImport<'_>, file: &[u8]) -> Result<(), SourceError> {
    for (number, line) in lines(file).filter(|(_, line)| !is_comment(line)) {
        let place = Place::Line(number);
        match serde_json::from_slice::<Value>(line) {
            Ok(value) => add(list, place, &value)?,
            Err(error) => list.skip(place, Skipped::unreadable(format!("this is no JSON: {error}")))?,
        }
    }
    Ok(())
}

/// Reads a JSON array into the list, one element at a time: as a whole it would take many times its size.
pub(super) fn fill_from_array(list: &mut ListImport<'_>, file: &[u8]) -> Result<(), SourceError> {
    let mut reader = serde_json::Deserializer::from_slice(file);
    let filled = reader.deserialize_seq(Elements(list)).and_then(|filled| reader.end().map(|()| filled));
    filled.map_err(|error| malformed(&error))?
}

/// The error for a file that is not the JSON that its format has.
pub(super) fn malformed(error: &serde_json::Error) -> SourceError {
    SourceError::malformed(format!("line {}: this is not the JSON of the configured format: {error}", error.line()))
}

struct Elements<'a, 'b>(&'a mut ListImport<'b>);

impl<'de> Visitor<'de> for Elements<'_, '_> {
    type Value = Result<(), SourceError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let (mut filled, mut number) = (Ok(()), 0);
        while let Some(value) = elements.next_element::<Value>()? {
            number += 1;
            filled = filled.and_then(|()| add(self.0, Place::Entry(number), &value));
        }
        Ok(filled)
    }
}

/// Adds the entry that a line or element holds.
fn add(list: &mut ListImport<'_>, place: Place, value: &Value) -> Result<(), SourceError> {
    let object = match value {
        Value::String(entry) => return list.add(place, entry, ""),
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            return list.skip(place, Skipped::unreadable("this is neither a text nor an object"));
        }
    };
    let set = list.format.member.as_deref();
    let obvious =
        || names::obvious(object.iter().filter(|(_, value)| value.is_string()).map(|(name, _)| name.as_str()));
    // Spamhaus ends its lists with a line about the list itself.
    let is_metadata = || object.get("type").and_then(Value::as_str) == Some("metadata");
    let members = || object.keys().cloned().collect::<Vec<_>>().join(", ");
    let Some(member) = set.or_else(obvious) else {
        if is_metadata() {
            return Ok(());
        }
        let why = format!("name the member that holds the entry with option member; here are {}", members());
        return list.skip(place, Skipped::unreadable(why));
    };
    match member_of(value, member) {
        Some(Value::String(entry)) => list.add(place, entry, &note(object, member)),
        None if is_metadata() => Ok(()),
        None => list.skip(place, Skipped::unreadable(format!("no member {member}; here are {}", members()))),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            list.skip(place, Skipped::unreadable(format!("member {member} is no text")))
        }
    }
}

/// The member of this name, or the one that the dots in the name lead to.
fn member_of<'a>(object: &'a Value, member: &str) -> Option<&'a Value> {
    object.get(member).or_else(|| member.split('.').try_fold(object, |value, name| value.get(name)))
}

/// The other members, as far as they are plain values.
fn note(object: &serde_json::Map<String, Value>, member: &str) -> String {
    let plain = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Some(format!("{name} {text}")),
        Value::Number(number) => Some(format!("{name} {number}")),
        Value::Bool(flag) => Some(format!("{name} {flag}")),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let others = object.iter().filter(|(name, _)| *name != member);
    others.filter_map(plain).collect::<Vec<_>>().join(", ")
}
