//! Parses the configuration file. A value of the wrong type is reported with its path and removed, so that one pass
//! finds all of them.

use serde::Deserialize;
use serde::de::{Error, Visitor};
use serde_path_to_error::{Path, Segment, Track};
use toml::Value;

use super::options::nearest;
use super::patch::SourceInFile;
use super::raw::{Raw, RawCallerBudget, RawLimits, RawLog, RawRetention, RawSubmissionSource, RawSubmissions, RawTls};
use crate::error::Violation;

/// Reads the text of the file. Reports each unknown setting and each wrongly typed value with its path and removes it,
/// so that one pass finds them all.
///
/// # Errors
/// When it is not TOML: line and column only.
pub(super) fn read(text: &str) -> Result<(Raw, Vec<Violation>), Vec<Violation>> {
    let mut document = Value::Table(text.parse().map_err(|error| vec![syntax(&error)])?);
    let mut violations = Vec::new();
    loop {
        let (mut unknown, mut track) = (Vec::new(), Track::new());
        let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
        let known = serde_ignored::Deserializer::new(document.clone(), &mut note);
        match Raw::deserialize(serde_path_to_error::Deserializer::new(known, &mut track)) {
            Ok(raw) => {
                violations.extend(unknown.iter().map(|path| no_such(path)));
                return Ok((raw, violations));
            }
            Err(error) => {
                let path = track.path();
                violations.push(Violation::invalid(path.to_string(), without_value(error.message())));
                if !leave_out(&mut document, &path) {
                    return Err(violations);
                }
            }
        }
    }
}

/// Removes the value at this path. In a list its text replaces it, so that the other elements keep their indexes.
fn leave_out(document: &mut Value, path: &Path) -> bool {
    let mut value = document;
    let mut segments = path.iter().peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        value = match (segment, value) {
            (Segment::Map { key }, Value::Table(table)) if last => return table.remove(key).is_some(),
            (Segment::Map { key }, Value::Table(table)) => match table.get_mut(key) {
                Some(below) => below,
                None => return false,
            },
            (Segment::Seq { index }, Value::Array(list)) => match list.get_mut(*index) {
                Some(item) if last && !item.is_str() => {
                    *item = Value::String(item.to_string());
                    return true;
                }
                Some(below) => below,
                None => return false,
            },
            _ => return false,
        };
    }
    false
}

fn no_such(path: &str) -> Violation {
    let name = path.rsplit('.').next().unwrap_or(path);
    let near = nearest(name, &known_names());
    let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    Violation::invalid(path, format!("no such setting{hint}"))
}

/// Every setting of the file, for hints at misspelt names.
fn known_names() -> Vec<&'static str> {
    let mut names = Vec::new();
    // Deserialization stops with an error as soon as the names are known.
    let _ = Raw::deserialize(FieldNames(&mut names));
    let _ = RawTls::deserialize(FieldNames(&mut names));
    let _ = RawLog::deserialize(FieldNames(&mut names));
    let _ = RawLimits::deserialize(FieldNames(&mut names));
    let _ = RawRetention::deserialize(FieldNames(&mut names));
    let _ = RawCallerBudget::deserialize(FieldNames(&mut names));
    let _ = RawSubmissions::deserialize(FieldNames(&mut names));
    let _ = RawSubmissionSource::deserialize(FieldNames(&mut names));
    let _ = SourceInFile::deserialize(FieldNames(&mut names));
    names
}

/// Collects the names of a struct's fields, which serde tells every deserializer.
struct FieldNames<'a>(&'a mut Vec<&'static str>);

impl<'de> serde::Deserializer<'de> for FieldNames<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("no struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.extend(fields);
        Err(Self::Error::custom("only its names were asked for"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// A file that does not parse: the parser's own message holds line and column, but may quote the line, which may hold a
/// secret. Only the place and the message are reported.
fn syntax(error: &toml::de::Error) -> Violation {
    let text = error.to_string();
    let place = text.lines().next().unwrap_or_default().trim_start_matches("TOML parse error at ");
    Violation::invalid("", format!("{place}: {}", error.message()))
}

/// The message without the value that has the wrong type: it may be a credential written without quotes.
fn without_value(message: &str) -> String {
    let shown = [("invalid type: ", "wrong type"), ("invalid value: ", "wrong value")];
    let shown = shown.into_iter().find_map(|(start, what)| Some((what, message.strip_prefix(start)?)));
    match shown.and_then(|(what, rest)| Some((what, rest.rsplit_once(", expected ")?))) {
        Some((what, (found, expected))) => {
            let found = match found.split(['`', '"']).next().unwrap_or_default().trim() {
                "sequence" => "list",
                "map" => "table",
                other => other,
            };
            let expected = match expected {
                "usize" | "u64" | "u32" => "a whole number, zero or more",
                "a boolean" => "true or false",
                "a sequence" => "a list",
                table if table == "a map" || table.starts_with("struct ") => "a table",
                other => other,
            };
            format!("{what}: {found}, expected {expected}")
        }
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use toml::Table;

    use super::*;
    use crate::settings::{fields, flatten};
    use crate::sources;
    use crate::verdict::Policy;

    fn names<T: for<'de> Deserialize<'de>>() -> Vec<&'static str> {
        let mut names = Vec::new();
        let _ = T::deserialize(FieldNames(&mut names));
        names
    }

    #[test]
    fn the_example_configuration_shows_every_setting() {
        let text = include_str!("../../../../deploy/concord.toml");
        // Settings that are switched off stand as `#name = value`; a comment has a space.
        let is_setting = |rest: &&str| !rest.starts_with(' ') && !rest.is_empty();
        let lines = text.lines().map(|line| line.strip_prefix('#').filter(is_setting).unwrap_or(line));
        let file: Table = lines.collect::<Vec<_>>().join("\n").parse().unwrap();
        let mut absent = Vec::new();
        let mut check = |path: &str, table: &Table, names: Vec<&str>| {
            absent.extend(names.iter().filter(|name| !table.contains_key(**name)).map(|name| format!("{path}{name}")));
        };
        check("", &file, names::<Raw>());
        check("tls.", file["tls"].as_table().unwrap(), names::<RawTls>());
        check("log.", file["log"].as_table().unwrap(), names::<RawLog>());
        check("limits.", file["limits"].as_table().unwrap(), names::<RawLimits>());
        check("retention.", file["retention"].as_table().unwrap(), names::<RawRetention>());
        check("caller_budget.", file["caller_budget"].as_table().unwrap(), names::<RawCallerBudget>());
        let submissions = file["submissions"].as_table().unwrap();
        check("submissions.", submissions, names::<RawSubmissions>());
        let enabled = submissions["sources"]["virustotal"].as_table().unwrap();
        check("submissions.sources.*.", enabled, names::<RawSubmissionSource>());
        let sources: Vec<&Table> = file["sources"].as_table().unwrap().values().filter_map(Value::as_table).collect();
        let all: Table = sources.iter().flat_map(|source| (*source).clone()).collect();
        // A file names a certificate by its path.
        check("sources.*.", &all, names::<SourceInFile>().into_iter().filter(|name| *name != "ca_pem").collect());
        for kind in sources::all().iter().map(|kind| kind.about()) {
            let of_kind = sources.iter().filter(|source| source["kind"].as_str() == Some(&kind.kind));
            let options = of_kind.filter_map(|source| source.get("options")?.as_table());
            let options: Table = options.flat_map(|options| options.clone()).collect();
            check(
                &format!("{}: options.", kind.kind),
                &options,
                kind.options.iter().map(|option| option.name.as_str()).collect(),
            );
        }
        let policies: Vec<_> = file["policies"].as_table().unwrap().values().filter_map(Value::as_table).collect();
        let shown: BTreeSet<_> = policies.iter().flat_map(|table| flatten(table).unwrap().fields.into_keys()).collect();
        for policy in Policy::built_in() {
            let fields = fields(&policy).into_iter().map(|field| field.path);
            // One type is shown with the other mode of decay.
            let fields = fields.filter(|path| !shown.contains(path) && !path.starts_with("weighted.url.decay."));
            absent.extend(fields.map(|path| format!("policies: {path}")));
        }
        assert!(absent.is_empty(), "deploy/concord.toml lacks {}", absent.join(", "));
    }
}
