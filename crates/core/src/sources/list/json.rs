//! Lists in JSON: one object a line, or an array of texts or of objects, which an object may wrap. The entry is the member
//! that option `member` names, else the one whose name says that it is one.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::entry::Skipped;
use super::import::{ListImport, Place, is_comment, lines};
use super::names;
use crate::finding::SourceError;

/// Reads JSON lines into the list.
pub(super) fn fill_from_lines(list: &mut ListImport<'_>, file: &[u8]) -> Result<(), SourceError> {
    let member = list.format.member.as_deref();
    for (number, line) in lines(file).filter(|(_, line)| !is_comment(line)) {
        let place = Place::Line(number);
        match serde_json::from_slice::<Value>(line) {
            Ok(value) => add(list, place, &value, member)?,
            Err(error) => list.skip(place, Skipped::unreadable(format!("this is no JSON: {error}")))?,
        }
    }
    Ok(())
}

/// Reads a JSON array into the list, or the one that an object wraps, one element at a time: as a whole it would take many
/// times its size.
pub(super) fn fill_from_document(list: &mut ListImport<'_>, file: &[u8]) -> Result<(), SourceError> {
    let member = list.format.member.as_deref();
    if !file.trim_ascii_start().starts_with(b"{") {
        return read_whole(file, |reader| reader.deserialize_seq(Elements { list, member }))?;
    }
    let members = members(file).map_err(|error| malformed(&error))?;
    let wrapped = Wrapped::choose(&members, member)?;
    read_whole(file, |reader| reader.deserialize_map(WrappedElements { list, wrapped }))?
}

fn read_whole<'a, T>(
    file: &'a [u8],
    read: impl FnOnce(&mut serde_json::Deserializer<serde_json::de::SliceRead<'a>>) -> serde_json::Result<T>,
) -> Result<T, SourceError> {
    let mut reader = serde_json::Deserializer::from_slice(file);
    let read = read(&mut reader).and_then(|read| reader.end().map(|()| read));
    read.map_err(|error| malformed(&error))
}

/// The error for a file that is not the JSON that its format has.
pub(super) fn malformed(error: &serde_json::Error) -> SourceError {
    SourceError::malformed(format!("line {}: this is not the JSON of the configured format: {error}", error.line()))
}

/// What a value of a document is, as far as it tells where the entries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Object,
    /// An array whose first element is a text.
    Texts,
    /// An array whose first element is an object.
    Objects,
    EmptyArray,
    Other,
}

impl Shape {
    fn holds_entries(self) -> bool {
        matches!(self, Self::Texts | Self::Objects)
    }
}

/// The members of a document that is one object, and what they are, without holding their values.
pub(super) fn members(file: &[u8]) -> serde_json::Result<Vec<(String, Shape)>> {
    let mut reader = serde_json::Deserializer::from_slice(file);
    let members = reader.deserialize_map(Members)?;
    reader.end().map(|()| members)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, Shape)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeOf)
    }
}

struct ShapeOf;

impl<'de> Visitor<'de> for ShapeOf {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Shape::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Shape, A::Error> {
        let first = elements.next_element::<Shape>()?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(match first {
            Some(Shape::Text) => Shape::Texts,
            Some(Shape::Object) => Shape::Objects,
            Some(Shape::Texts | Shape::Objects | Shape::EmptyArray | Shape::Other) => Shape::Other,
            None => Shape::EmptyArray,
        })
    }
}

/// The array of entries that an object wraps.
#[derive(Clone, Copy)]
struct Wrapped<'a> {
    /// The array's name.
    name: &'a str,
    /// The member of its elements that holds the entry, if it is set.
    member: Option<&'a str>,
}

impl<'a> Wrapped<'a> {
    /// The array that option `member` leads into, else the only one.
    fn choose(members: &'a [(String, Shape)], member: Option<&'a str>) -> Result<Self, SourceError> {
        let named = |wanted: &dyn Fn(Shape) -> bool| {
            let wanted = members.iter().filter(|(_, shape)| wanted(*shape));
            wanted.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
        };
        let mut arrays = named(&Shape::holds_entries);
        if arrays.is_empty() {
            arrays = named(&|shape| shape == Shape::EmptyArray);
        }
        let (first, rest) = member.map_or(("", None), |member| match member.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (member, None),
        });
        if let Some(name) = arrays.iter().find(|name| **name == first) {
            return Ok(Self { name, member: rest });
        }
        match arrays[..] {
            [name] => Ok(Self { name, member }),
            [] => {
                let all = named(&|_| true).join(", ");
                Err(SourceError::malformed(format!("this object holds no array of entries; its members are: {all}")))
            }
            _ => Err(SourceError::malformed(format!(
                "this object holds several arrays ({0}): name the one that is meant with option member, as {1} or {1}.ip",
                arrays.join(", "),
                arrays.first().copied().unwrap_or_default(),
            ))),
        }
    }
}

/// Reads the elements of an array into the list.
struct Elements<'a, 'b> {
    list: &'a mut ListImport<'b>,
    member: Option<&'a str>,
}

impl<'de> Visitor<'de> for Elements<'_, '_> {
    type Value = Result<(), SourceError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let (mut filled, mut number) = (Ok(()), 0);
        while let Some(value) = elements.next_element::<Value>()? {
            number += 1;
            filled = filled.and_then(|()| add(self.list, Place::Entry(number), &value, self.member));
        }
        Ok(filled)
    }
}

impl<'de> DeserializeSeed<'de> for Elements<'_, '_> {
    type Value = Result<(), SourceError>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

/// Reads the elements of the array that an object wraps into the list.
struct WrappedElements<'a, 'b> {
    list: &'a mut ListImport<'b>,
    wrapped: Wrapped<'a>,
}

impl<'de> Visitor<'de> for WrappedElements<'_, '_> {
    type Value = Result<(), SourceError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Wrapped { name, member } = self.wrapped;
        let mut filled = Ok(());
        while let Some(key) = map.next_key::<String>()? {
            if key == name {
                let read = map.next_value_seed(Elements { list: &mut *self.list, member })?;
                filled = filled.and(read);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(filled)
    }
}

/// Adds the entry that a line or element holds; `set` names its member where the settings do.
fn add(list: &mut ListImport<'_>, place: Place, value: &Value, set: Option<&str>) -> Result<(), SourceError> {
    let object = match value {
        Value::String(entry) => return list.add(place, entry, ""),
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            return list.skip(place, Skipped::unreadable("this is neither a text nor an object"));
        }
    };
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
