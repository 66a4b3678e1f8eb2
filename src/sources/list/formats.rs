//! The formats of lists: plain lines, CSV, MISP warninglists, JSON lines. Bytes in, index out.
//! Every error names the line and how to correct it; `entry.rs` says what an entry may be.

use serde::Deserialize;
use serde_json::Value;

use super::entry::{Entry, Rules};
use super::{Format, ListFormat, csv};
use crate::finding::SourceError;
use crate::indicator::IndicatorType;
use crate::source::{ListIndex, ListIndexBuilder};

/// Builds the index of a file in the format that the settings name, or that it is found to have.
pub(super) fn index(format: &ListFormat, file: &[u8]) -> Result<ListIndex, SourceError> {
    let file = file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file);
    reject_foreign_format(file)?;
    let mut list = ListImport::new(format, file.len());
    match guessed(format, file) {
        Format::Auto | Format::Plain => plain(&mut list, file)?,
        Format::Csv => csv::fill(&mut list, file)?,
        Format::Warninglist => warninglist(&mut list, file)?,
        Format::Jsonl => json_lines(&mut list, file)?,
    }
    Ok(list.builder.build())
}

/// The format that is set, or that the options and the content tell.
fn guessed(format: &ListFormat, file: &[u8]) -> Format {
    let content = file.trim_ascii_start();
    if format.format != Format::Auto {
        format.format
    } else if format.column.is_some() {
        Format::Csv
    } else if format.member.is_some() {
        Format::Jsonl
    } else if !content.starts_with(b"{") {
        Format::Plain
    } else {
        let first = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        // A whole object in the first line is either JSON lines or a warninglist without line breaks.
        match serde_json::from_slice::<Value>(first) {
            Ok(object) if object.get("list").is_none() => Format::Jsonl,
            Ok(_) | Err(_) => Format::Warninglist,
        }
    }
}

/// Refuses what is certainly not a list, with a clearer message than its first line would get.
fn reject_foreign_format(file: &[u8]) -> Result<(), SourceError> {
    let what = if file.starts_with(b"\xFF\xFE") || file.starts_with(b"\xFE\xFF") {
        "UTF-16 text: save it as UTF-8"
    } else if file.starts_with(b"\x1F\x8B") || file.starts_with(b"PK\x03\x04") || file.starts_with(b"\x28\xB5\x2F\xFD")
    {
        "a compressed file: unpack it"
    } else if file.trim_ascii_start().starts_with(b"<") {
        "a web page or XML: name the address of the list itself"
    } else if file.trim_ascii_start().starts_with(b"[") {
        return refuse_array(file);
    } else {
        return Ok(());
    };
    Err(SourceError::malformed(format!("line 1: this is {what}")))
}

/// A JSON array is refused; a line in brackets, such as an IPv6 address, is none.
fn refuse_array(file: &[u8]) -> Result<(), SourceError> {
    let after = file.trim_ascii_start().get(1..).unwrap_or_default().trim_ascii_start();
    if matches!(after.first(), Some(b'{' | b'"' | b'[')) {
        return Err(SourceError::malformed(
            "line 1: this is a JSON array: write one object a line and set option member",
        ));
    }
    Ok(())
}

/// A list being filled, with what its settings allow.
pub(super) struct ListImport<'a> {
    pub(super) format: &'a ListFormat,
    builder: ListIndexBuilder,
    rules: Rules,
}

impl<'a> ListImport<'a> {
    fn new(format: &'a ListFormat, bytes: usize) -> Self {
        let mut builder = ListIndexBuilder::with_capacity(bytes);
        builder.urls_by_host(format.urls_by_host);
        let rules = Rules { wanted: format.entries.indicator_type(), subdomains: format.subdomains };
        Self { format, builder, rules }
    }

    /// Adds one entry; `place` locates it in the error.
    pub(super) fn add(&mut self, place: Place, text: &str, note: &str) -> Result<(), SourceError> {
        match Entry::read(text, self.rules) {
            Ok(entry) => entry.add(&mut self.builder, note),
            Err(why) => self.refuse(place, &why),
        }
    }

    /// Passes over an entry that cannot be read, as long as the settings allow.
    pub(super) fn refuse(&mut self, place: Place, why: &str) -> Result<(), SourceError> {
        let (skipped, allowed) = (self.builder.skip() as u64, self.format.unreadable);
        if skipped <= allowed {
            return Ok(());
        }
        let too_many = if allowed > 0 { format!(" (unreadable entry number {skipped})") } else { String::new() };
        Err(SourceError::malformed(format!(
            "{place}: {why}{too_many}; correct it, set options format and type, or let option unreadable pass it over"
        )))
    }
}

/// The place of an entry, counted from 1.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Line(usize),
    Entry(usize),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Entry(number) => write!(f, "entry {number} of the list"),
        }
    }
}

/// The lines with their numbers, without line ends; those that are empty are left out.
pub(super) fn lines(file: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let numbered = file.split(|byte| *byte == b'\n').enumerate();
    let bare = numbered.map(|(number, line)| (number + 1, line.strip_suffix(b"\r").unwrap_or(line)));
    bare.filter(|(_, line)| !line.trim_ascii().is_empty())
}

pub(super) fn is_comment(line: &[u8]) -> bool {
    matches!(line.trim_ascii_start().first(), Some(b'#' | b';'))
}

pub(super) fn text(number: usize, line: &[u8]) -> Result<&str, SourceError> {
    std::str::from_utf8(line)
        .map_err(|_| SourceError::malformed(format!("line {number}: this is not UTF-8: save the list as UTF-8")))
}

fn plain(list: &mut ListImport<'_>, file: &[u8]) -> Result<(), SourceError> {
    for (number, line) in lines(file).filter(|(_, line)| !is_comment(line)) {
        let (entry, comment) = without_comment(text(number, line)?);
        list.add(Place::Line(number), entry, comment)?;
    }
    Ok(())
}

/// Splits off a trailing comment. Its mark follows white space, since URLs hold `#` and `;` themselves.
fn without_comment(line: &str) -> (&str, &str) {
    let line = line.trim();
    let is_mark = |(at, mark): &(usize, char)| {
        matches!(mark, '#' | ';') && line.get(..*at).is_some_and(|before| before.ends_with(char::is_whitespace))
    };
    match line.char_indices().find(is_mark) {
        Some((at, _)) => {
            let (entry, comment) = line.split_at(at);
            (entry.trim(), comment.trim_start_matches(['#', ';', ' ', '\t']))
        }
        None => (line, ""),
    }
}

/// What we read of a MISP warninglist (`lists/NAME/list.json`).
#[derive(Deserialize)]
struct Warninglist {
    #[serde(default)]
    name: String,
    #[serde(rename = "type")]
    sort: String,
    list: Vec<String>,
}

fn warninglist(list: &mut ListImport<'_>, file: &[u8]) -> Result<(), SourceError> {
    let read: Warninglist = serde_json::from_slice(file).map_err(|error| json_mistake(error.line(), &error))?;
    list.rules = match read.sort.to_ascii_lowercase().as_str() {
        "string" => Rules { subdomains: false, ..list.rules },
        "hostname" => Rules { wanted: Some(IndicatorType::Domain), subdomains: true },
        "cidr" => Rules { wanted: Some(IndicatorType::Ip), subdomains: false },
        sort @ ("substring" | "regex") => {
            return Err(SourceError::malformed(format!(
                "member type: a warninglist of type {sort} cannot be looked up by value, and would name far more than it \
                 means to; use one of type string, hostname or cidr"
            )));
        }
        sort => {
            return Err(SourceError::malformed(format!(
                "member type: no warninglist type is called \"{sort}\"; use string, hostname or cidr"
            )));
        }
    };
    list.builder.title(&read.name);
    for (number, entry) in read.list.iter().enumerate() {
        list.add(Place::Entry(number + 1), entry, "")?;
    }
    Ok(())
}

fn json_mistake(line: usize, error: &serde_json::Error) -> SourceError {
    SourceError::malformed(format!("line {line}: this is not the JSON of the configured format: {error}"))
}

fn json_lines(list: &mut ListImport<'_>, file: &[u8]) -> Result<(), SourceError> {
    for (number, line) in lines(file).filter(|(_, line)| !is_comment(line)) {
        let object: Value = serde_json::from_slice(line).map_err(|error| json_mistake(number, &error))?;
        let Some(member) = list.format.member.as_deref() else {
            return Err(SourceError::malformed(format!(
                "line {number}: name the member that holds the entry with option member; here are {}",
                members(&object)
            )));
        };
        json_line(list, Place::Line(number), member, &object)?;
    }
    Ok(())
}

fn json_line(list: &mut ListImport<'_>, place: Place, member: &str, object: &Value) -> Result<(), SourceError> {
    match member_of(object, member) {
        Some(Value::String(entry)) => list.add(place, entry, &note(object, member)),
        // Spamhaus ends its lists with a line about the list itself.
        None if object.get("type").and_then(Value::as_str) == Some("metadata") => Ok(()),
        None => list.refuse(place, &format!("no member {member}; here are {}", members(object))),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            list.refuse(place, &format!("member {member} is no text"))
        }
    }
}

/// The member of this name, or the one that the dots in the name lead to.
fn member_of<'a>(object: &'a Value, member: &str) -> Option<&'a Value> {
    object.get(member).or_else(|| member.split('.').try_fold(object, |value, name| value.get(name)))
}

fn members(object: &Value) -> String {
    match object {
        Value::Object(members) if !members.is_empty() => members.keys().cloned().collect::<Vec<_>>().join(", "),
        Value::Object(_) => "none".into(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            "no members at all".into()
        }
    }
}

/// The other members of one line, as far as they are plain values.
fn note(object: &Value, member: &str) -> String {
    let plain = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Some(format!("{name} {text}")),
        Value::Number(number) => Some(format!("{name} {number}")),
        Value::Bool(flag) => Some(format!("{name} {flag}")),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let others = object.as_object().into_iter().flatten().filter(|(name, _)| *name != member);
    others.filter_map(plain).collect::<Vec<_>>().join(", ")
}
