//! The formats of lists: which one a file has, and who reads it. Bytes in, index out.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::import::{ListImport, sample};
use super::json::Shape;
use super::lines::{LINE_FORMATS, LineFormat, PLAIN, is_header, without_comment};
use super::{Format, ListFormat, archive, csv, json, names, warninglist};
use crate::finding::SourceError;
use crate::indicator::decode_text;
use crate::source::ListIndex;

/// Builds the index of a file in the format that the settings name, or that it is found to have.
///
/// # Errors
/// When it is no list, in no known format, or most of it cannot be read.
pub(super) fn index(format: &ListFormat, file: &[u8]) -> Result<ListIndex, SourceError> {
    let file = archive::unpack(file)?;
    let file = to_utf8(&file);
    reject_foreign_format(&file)?;
    let mut list = ListImport::new(format, file.len());
    let guessed = guess(format, &file);
    match guessed {
        Format::Csv => csv::fill(&mut list, &file)?,
        Format::Warninglist => warninglist::fill(&mut list, &file)?,
        Format::Jsonl => json::fill_from_lines(&mut list, &file)?,
        Format::Json => json::fill_from_document(&mut list, &file)?,
        Format::Auto
        | Format::Plain
        | Format::Hosts
        | Format::Adblock
        | Format::Dnsmasq
        | Format::Checksums
        | Format::Dshield => {
            let lines = LINE_FORMATS.iter().find(|lines| lines.format == guessed).unwrap_or(&PLAIN);
            lines.fill(&mut list, &file)?;
        }
    }
    list.finish()
}

/// The text of the file in UTF-8, without a byte-order mark.
fn to_utf8(file: &[u8]) -> Cow<'_, [u8]> {
    // No text in UTF-8 holds a zero; every other byte of one in UTF-16 is.
    if file.iter().take(64).any(|byte| *byte == 0) {
        return decode_text(file).into_owned().into_bytes().into();
    }
    Cow::Borrowed(file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file))
}

/// Refuses what is certainly not a list, with a clearer message than its first line would get.
fn reject_foreign_format(file: &[u8]) -> Result<(), SourceError> {
    if file.trim_ascii_start().starts_with(b"<") {
        let what = "line 1: this is a web page or XML: name the address of the list itself";
        return Err(SourceError::malformed(what));
    }
    Ok(())
}

/// The format that is set, or that the options and the content tell.
fn guess(format: &ListFormat, file: &[u8]) -> Format {
    if format.format != Format::Auto {
        return format.format;
    }
    if format.column.is_some() {
        return Format::Csv;
    }
    let content = file.trim_ascii_start();
    if is_json_array(content) {
        return Format::Json;
    }
    if content.starts_with(b"{") {
        return guess_object(format, content);
    }
    if format.member.is_some() { Format::Jsonl } else { guess_lines(file) }
}

/// What a file is that begins with an object: objects by line, a warninglist, or an object that wraps its entries.
fn guess_object(format: &ListFormat, content: &[u8]) -> Format {
    let (first, rest) = content.split_at(content.iter().position(|byte| *byte == b'\n').unwrap_or(content.len()));
    let is_line = serde_json::from_slice::<IgnoredAny>(first).is_ok();
    if is_line && !rest.trim_ascii().is_empty() {
        return Format::Jsonl;
    }
    // What cannot be read is reported with its line by the reader of such a document.
    let Ok(members) = json::members(content) else { return Format::Json };
    let shape = |name: &str| members.iter().find(|(member, _)| member == name).map(|(_, shape)| *shape);
    let set = format.member.as_deref();
    let is_array = |shape| matches!(shape, Shape::Texts | Shape::Objects | Shape::EmptyArray);
    if is_line && !members.iter().any(|(_, shape)| is_array(*shape)) {
        return Format::Jsonl;
    }
    if set.is_none() && shape("list").is_some_and(is_array) && shape("type") == Some(Shape::Text) {
        return Format::Warninglist;
    }
    // A single line may be the only entry. Its tags are texts; where there are objects, these are the entries.
    let mut texts = members.iter().filter(|(_, shape)| *shape == Shape::Text);
    let is_entry = match set.map(|member| member.split('.').next().unwrap_or(member)) {
        Some(member) => matches!(shape(member), Some(Shape::Text | Shape::Object)),
        None => texts.any(|(name, _)| names::obvious(std::iter::once(name.as_str())).is_some()),
    };
    let wraps_objects = set.is_none() && members.iter().any(|(_, shape)| *shape == Shape::Objects);
    if is_line && is_entry && !wraps_objects { Format::Jsonl } else { Format::Json }
}

/// Whether a text is a JSON array; a line in brackets, such as an IPv6 address, is none.
fn is_json_array(content: &[u8]) -> bool {
    let inside = content.strip_prefix(b"[").map(<[u8]>::trim_ascii_start);
    inside.is_some_and(|inside| matches!(inside.first(), Some(b'{' | b'"' | b'[' | b']')))
}

/// The format in which most lines at the beginning are written as in no other.
fn guess_lines(file: &[u8]) -> Format {
    let sample: Vec<&str> = sample(file).map(|line| without_comment(line).0).collect();
    let own = |lines: &LineFormat| sample.iter().filter(|line| (lines.is_own)(line)).count() * 2 > sample.len();
    // Most of the rules below such a header name no host.
    if sample.first().is_some_and(|line| is_header(line)) {
        Format::Adblock
    } else if let Some(lines) = LINE_FORMATS.iter().find(|lines| own(lines)) {
        lines.format
    } else if csv::is_csv(&sample) {
        Format::Csv
    } else {
        Format::Plain
    }
}
