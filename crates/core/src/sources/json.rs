//! Typed members of a JSON answer. A malformed member that a rule reads makes the answer malformed, and the error names
//! it; optional facts are skipped when malformed.
//!
//! A member is named by its path: `data.score` is the member `score` of the member object `data`. Errors name members,
//! never values: a value may be anything, even something secret.

use std::str::{self, FromStr};
use std::time::{Duration, SystemTime};

use serde_json::Number;

use super::document::{Document, Entries, Members, Value};
use crate::finding::{Fact, FactValue, Relation, RelationName, SourceError};
use crate::indicator::{Indicator, IndicatorType, Parsed};

/// Most entries of a list that one fact holds.
pub(super) const LIST_LIMIT: usize = 100;

/// Latest moment taken for real, in seconds since 1970: the end of the year 9998.
const LATEST_SECOND: i64 = 253_370_764_799;

/// An object of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'a>(Members<'a>);

/// Reads the bytes of an answer as JSON.
pub(super) fn parse(body: &[u8]) -> Result<Document<'_>, SourceError> {
    // Some services begin with a byte-order mark, which is no part of the JSON.
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    // Neither message quotes anything of the body but a place in it and what was expected there.
    let no_json = |why: String| SourceError::malformed(format!("the answer is no JSON: {why}"));
    let text = str::from_utf8(body).map_err(|error| no_json(error.to_string()))?;
    Document::parse(text).map_err(|error| no_json(error.to_string()))
}

impl<'a> Object<'a> {
    /// The outermost object of an answer.
    pub(super) fn root(document: &'a Document<'a>) -> Result<Self, SourceError> {
        let root = document.root().as_object().map(Self);
        root.ok_or_else(|| SourceError::malformed("the answer is no JSON object"))
    }

    /// An object without members.
    pub(super) fn empty() -> Self {
        Self(Members::none())
    }

    /// A member object; `None` where it is missing or null.
    pub(super) fn object(&self, path: &str) -> Result<Option<Object<'a>>, SourceError> {
        match self.present(path)? {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Object(members))),
            Some(_) => Err(self.unreadable(path, "an object")),
        }
    }

    /// A member object that the form requires.
    pub(super) fn need_object(&self, path: &str) -> Result<Object<'a>, SourceError> {
        self.object(path)?.ok_or_else(|| self.missing(path))
    }

    /// A list of objects; `None` where it is missing or null.
    pub(super) fn objects(&self, path: &str) -> Result<Option<Vec<Object<'a>>>, SourceError> {
        let Some(value) = self.present(path)? else { return Ok(None) };
        let Value::List(entries) = value else { return Err(self.unreadable(path, "a list")) };
        let object = |entry: Value<'a>| entry.as_object().map(Object);
        let objects =
            entries.iter().map(|entry| object(entry).ok_or_else(|| self.unreadable(path, "a list of objects")));
        objects.collect::<Result<Vec<_>, _>>().map(Some)
    }

    /// One object or a list of them, as the source likes; what is no object is left out.
    pub(super) fn list_or_one(&self, path: &str) -> impl Iterator<Item = Object<'a>> + use<'a> {
        let found = self.get(path);
        let one = found.and_then(Value::as_object);
        let list = found.and_then(Value::as_list).into_iter().flat_map(Entries::iter);
        list.filter_map(Value::as_object).chain(one).map(Object)
    }

    /// The length of a list; 0 where it is missing or null.
    pub(super) fn list_length(&self, path: &str) -> Result<u64, SourceError> {
        match self.present(path)? {
            None => Ok(0),
            Some(Value::List(entries)) => Ok(entries.len() as u64),
            Some(_) => Err(self.unreadable(path, "a list")),
        }
    }

    /// The members as they are, in the order of the answer.
    pub(super) fn members(&self) -> Members<'a> {
        self.0
    }

    /// Every member under its name, as an object.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Result<Object<'a>, SourceError>)> + use<'a, '_> {
        self.0.iter().map(|(name, value)| {
            let object = value.as_object().map(Object);
            (name, object.ok_or_else(|| self.unreadable(name, "an object")))
        })
    }

    /// Every member that is an object, under its name.
    pub(super) fn objects_by_name(&self) -> impl Iterator<Item = (&'a str, Object<'a>)> + use<'a> {
        self.0.iter().filter_map(|(name, value)| Some((name, Object(value.as_object()?))))
    }

    /// A text; `None` where it is missing, null or empty.
    pub(super) fn text(&self, path: &str) -> Result<Option<&'a str>, SourceError> {
        self.read(path, "a text", |value| value.as_text().map(str::trim))
    }

    /// A text, for what is left out where there is none: cheaper than [`Object::text`], since it makes no error.
    pub(super) fn text_if_any(&self, path: &str) -> Option<&'a str> {
        self.get(path)?.as_non_empty_text()
    }

    /// A text that the form requires.
    pub(super) fn need_text(&self, path: &str) -> Result<&'a str, SourceError> {
        self.text(path)?.ok_or_else(|| self.missing(path))
    }

    /// One of these words, which the form requires; letter case aside.
    pub(super) fn need_word(&self, path: &str, words: &[&'static str]) -> Result<&'static str, SourceError> {
        let text = self.need_text(path)?;
        let word = words.iter().find(|word| word.eq_ignore_ascii_case(text)).copied();
        word.ok_or_else(|| self.unreadable(path, &format!("one of {}", words.join(", "))))
    }

    /// A word that stands for a value of ours; `None` where it is missing, null or empty.
    pub(super) fn parsed<T: FromStr>(&self, path: &str, wanted: &str) -> Result<Option<T>, SourceError> {
        self.read(path, wanted, |value| value.as_text()?.parse().ok())
    }

    /// A count, as a number or as digits in a text; `None` where it is missing, null or empty.
    pub(super) fn count(&self, path: &str) -> Result<Option<u64>, SourceError> {
        self.read(path, "a whole number of 0 or more", |value| match value.as_text() {
            Some(text) => text.trim().parse().ok(),
            None => value.as_number().and_then(Number::as_u64),
        })
    }

    /// A count that the form requires.
    pub(super) fn need_count(&self, path: &str) -> Result<u64, SourceError> {
        self.count(path)?.ok_or_else(|| self.missing(path))
    }

    /// A number, also as text; `None` where it is missing, null or empty.
    pub(super) fn number(&self, path: &str) -> Result<Option<f64>, SourceError> {
        self.read(path, "a number", |value| {
            let number = match value.as_text() {
                Some(text) => text.trim().parse().ok(),
                None => value.as_number().and_then(Number::as_f64),
            };
            number.filter(|number| number.is_finite())
        })
    }

    /// Yes or no, also as the texts `true` and `false`; `None` where it is missing, null or empty.
    pub(super) fn flag(&self, path: &str) -> Result<Option<bool>, SourceError> {
        self.read(path, "true or false", |value| match value {
            Value::Text(text) => text.trim().to_ascii_lowercase().parse().ok(),
            Value::Flag(flag) => Some(flag),
            Value::Null | Value::Number(_) | Value::List(_) | Value::Object(_) => None,
        })
    }

    /// Yes or no that the form requires.
    pub(super) fn need_flag(&self, path: &str) -> Result<bool, SourceError> {
        self.flag(path)?.ok_or_else(|| self.missing(path))
    }

    /// Yes or no that the form requires; `None` where the source withholds it: a null in its place or its object's.
    pub(super) fn need_flag_or_null(&self, path: &str) -> Result<Option<bool>, SourceError> {
        if self.find(path)?.is_some_and(Value::is_null) { Ok(None) } else { self.need_flag(path).map(Some) }
    }

    /// A moment: seconds since 1970, also with a fraction or as text, or a date with or without time and offset (UTC where
    /// it names none).
    pub(super) fn time(&self, path: &str) -> Result<Option<SystemTime>, SourceError> {
        self.read(path, "a date", time_of)
    }

    /// The moment in the first of these members that is there.
    pub(super) fn first_time(&self, paths: &[&str]) -> Result<Option<SystemTime>, SourceError> {
        let times = paths.iter().map(|path| self.time(path));
        times.filter_map(Result::transpose).next().transpose()
    }

    /// The texts of these members, each once; a path leads through every entry of a list. What is no text is left out.
    pub(super) fn texts(&self, paths: &[&str]) -> Vec<String> {
        distinct_texts(paths.iter().flat_map(|path| self.all(path)))
    }

    /// The indicators that this member holds, found as [`Object::texts`] finds texts; what is none is left out.
    pub(super) fn relations(&self, path: &str, wanted: IndicatorType, name: RelationName) -> Vec<Relation> {
        let parsed = self.all(path).into_iter().filter_map(|value| Indicator::parse_as(value.as_text()?, wanted).ok());
        let relation = |parsed: Parsed| Relation { name, source_name: path.to_owned(), indicator: parsed.indicator };
        parsed.map(relation).take(LIST_LIMIT).collect()
    }

    /// The address that this member holds, if it begins so.
    pub(super) fn link(&self, path: &str, home: &str) -> Option<String> {
        self.text_if_any(path).filter(|address| address.starts_with(home)).map(str::to_owned)
    }

    /// The facts of members that we name as the source does, of those that it names otherwise (each with our name), and of
    /// those that hold a moment. What says nothing is left out.
    pub(super) fn facts(&self, same: &[&str], renamed: &[(&str, &str)], times: &[(&str, &str)]) -> Vec<Fact> {
        let index = self.0.index();
        let get = |path: &str| match step(path) {
            None => index.get(path),
            Some((name, below)) => Object(index.get(name)?.as_object()?).get(below),
        };
        let same = same.iter().filter_map(|name| fact_of(get(name)?, name));
        let renamed = renamed.iter().filter_map(|(path, name)| fact_of(get(path)?, name));
        let times = times.iter().filter_map(|(path, name)| Some(Fact::new(*name, time_of(get(path)?)?)));
        same.chain(renamed).chain(times).collect()
    }

    /// The error for a member that the form requires and that is not there.
    pub(super) fn missing(&self, path: &str) -> SourceError {
        SourceError::malformed(format!("member {} is missing", self.at(path)))
    }

    /// The error for a member that is not what a rule reads there.
    pub(super) fn unreadable(&self, path: &str, wanted: &str) -> SourceError {
        SourceError::malformed(format!("member {} is not {wanted}", self.at(path)))
    }

    /// Reads a member by its rule; `None` where it is missing, null or an empty text.
    fn read<T>(
        &self,
        path: &str,
        wanted: &str,
        rule: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, SourceError> {
        let value = self.present(path)?.filter(|value| value.as_text().is_none_or(|text| !text.trim().is_empty()));
        value.map(|value| rule(value).ok_or_else(|| self.unreadable(path, wanted))).transpose()
    }

    /// The member at this path; `None` where it or an object on the way is missing or null.
    fn present(&self, path: &str) -> Result<Option<Value<'a>>, SourceError> {
        Ok(self.find(path)?.filter(|value| !value.is_null()))
    }

    /// The member at this path, or a null on the way to it.
    fn find(&self, path: &str) -> Result<Option<Value<'a>>, SourceError> {
        let (mut members, mut rest) = (self.0, path);
        while let Some((name, below)) = step(rest) {
            match members.get(name) {
                Some(Value::Object(object)) => (members, rest) = (object, below),
                found @ (None | Some(Value::Null)) => return Ok(found),
                Some(_) => return Err(self.unreadable(&path[..path.len() - below.len() - 1], "an object")),
            }
        }
        Ok(members.get(rest))
    }

    /// The member at this path, where there is one.
    fn get(&self, path: &str) -> Option<Value<'a>> {
        let (mut members, mut rest) = (self.0, path);
        while let Some((name, below)) = step(rest) {
            (members, rest) = (members.get(name)?.as_object()?, below);
        }
        members.get(rest)
    }

    /// The values at this path, in every entry of the lists on the way and at its end.
    fn all(&self, path: &str) -> Vec<Value<'a>> {
        let mut found = Vec::new();
        collect(self.0, path, &mut found);
        found
    }

    fn at(&self, path: &str) -> String {
        let place = self.0.path();
        if place.is_empty() { path.to_owned() } else { format!("{place}.{path}") }
    }
}

fn collect<'a>(members: Members<'a>, path: &str, found: &mut Vec<Value<'a>>) {
    let (name, below) = step(path).unwrap_or((path, ""));
    let mut add = |entry: Value<'a>| match entry.as_object() {
        _ if below.is_empty() => found.push(entry),
        Some(members) => collect(members, below, found),
        None => {}
    };
    match members.get(name) {
        None => {}
        Some(Value::List(entries)) => entries.iter().for_each(add),
        Some(value) => add(value),
    }
}

/// The first name of a path, and what is below it. Paths are short, so that a general search for the dot takes longer.
fn step(path: &str) -> Option<(&str, &str)> {
    let dot = path.bytes().position(|byte| byte == b'.')?;
    Some((&path[..dot], &path[dot + 1..]))
}

/// The texts among these values, each once, as many as a fact holds.
fn distinct_texts<'a>(values: impl Iterator<Item = Value<'a>>) -> Vec<String> {
    let mut texts = Vec::new();
    for text in values.filter_map(Value::as_text) {
        if texts.len() < LIST_LIMIT && !text.trim().is_empty() && !texts.iter().any(|known| known == text) {
            texts.push(text.to_owned());
        }
    }
    texts
}

/// The value as facts have it, whatever its type; `None` where it says nothing.
fn fact_of(value: Value<'_>, name: &str) -> Option<Fact> {
    let value = match value {
        Value::Flag(flag) => FactValue::Flag(flag),
        Value::Text(text) if !text.trim().is_empty() => FactValue::Text(text.trim().to_owned()),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => FactValue::Integer(integer),
            None => FactValue::Number(number.as_f64()?),
        },
        Value::List(entries) => {
            FactValue::List(Some(distinct_texts(entries.iter())).filter(|texts| !texts.is_empty())?)
        }
        Value::Null | Value::Text(_) | Value::Object(_) => return None,
    };
    Some(Fact::new(name, value))
}

/// The moment that the value is, as [`Object::time`] reads it.
fn time_of(value: Value<'_>) -> Option<SystemTime> {
    match value.as_text() {
        Some(text) => time_of_text(text),
        None => value.as_number().and_then(Number::as_f64).and_then(time_of_number),
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
        let document = parse(body.as_bytes()).expect("JSON");
        let root = Object::root(&document).expect("an object");
        let moment = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_547_861_606));
        assert_eq!(root.time("whole"), Ok(moment));
        assert_eq!(root.time("float"), Ok(moment));
        assert_eq!(root.time("fraction"), Ok(moment));
        assert!(root.time("none").is_err());
    }

    #[test]
    fn an_unreadable_member_is_named_by_its_place_and_its_value_is_not_shown() {
        let body = serde_json::json!({"data": {"score": "s3cret", "list": []}}).to_string();
        let document = parse(body.as_bytes()).expect("JSON");
        let root = Object::root(&document).expect("an object");
        let data = root.need_object("data").expect("an object");
        let through_a_list = root.count("data.list.score").expect_err("a list has no members");
        assert!(through_a_list.detail.contains("data.list is not an object"), "{through_a_list}");
        for error in [data.count("score"), root.count("data.score")].map(|read| read.expect_err("a text is no count")) {
            assert!(error.detail.contains("data.score"), "{error}");
            assert!(!error.detail.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn texts_are_found_in_every_entry_of_a_list_and_each_once() {
        let body = serde_json::json!({"tags": ["a", 1, " "], "urls": [{"tags": ["b", "a"]}, {"tags": "c"}, 7, {}]})
            .to_string();
        let document = parse(body.as_bytes()).expect("JSON");
        let root = Object::root(&document).expect("an object");
        assert_eq!(root.texts(&["tags", "urls.tags", "none.at.all"]), ["a", "b", "c"]);
    }

    #[test]
    fn numbers_and_flags_are_read_from_texts_too_and_negative_counts_are_not() {
        let body = serde_json::json!({"a": "12", "b": "TRUE", "c": -1, "d": "", "e": null}).to_string();
        let document = parse(body.as_bytes()).expect("JSON");
        let root = Object::root(&document).expect("an object");
        assert_eq!(root.count("a"), Ok(Some(12)));
        assert_eq!(root.flag("b"), Ok(Some(true)));
        assert!(root.count("c").is_err());
        assert_eq!(root.count("d"), Ok(None));
        assert_eq!(root.number("e"), Ok(None));
    }
}
