//! A list being filled: what every format shares. Good entries are used, bad ones are skipped and counted, and the list is
//! refused only when most cannot be read, or not one.

use std::fmt;

use super::ListFormat;
use super::entry::{Entry, Rules, Skipped};
use crate::finding::SourceError;
use crate::source::{ListIndex, ListIndexBuilder};

/// How many skipped entries are named; the others are counted.
const NAMED: usize = 3;
/// Most characters of why an entry was skipped.
const MAX_REASON: usize = 240;
/// Unreadable entries after which a list is given up that has hardly any others: reading on would only cost time.
const HOPELESS: u64 = 10_000;
/// How many lines are looked at to tell a format.
const SAMPLE: usize = 50;
const WAY_OUT: &str = "set options format and type, or let option unreadable allow more";

/// A list being filled, with what its settings allow.
pub(super) struct ListImport<'a> {
    pub(super) format: &'a ListFormat,
    pub(super) builder: ListIndexBuilder,
    pub(super) rules: Rules,
    /// Entries in use, repeated ones included.
    read: u64,
    /// Entries that cannot be read.
    unreadable: u64,
    /// Entries of a sort that is not looked up.
    unsupported: u64,
    /// The first entries that were skipped, with their place and why.
    named: Vec<String>,
}

impl<'a> ListImport<'a> {
    /// A list of at most so many bytes.
    pub(super) fn new(format: &'a ListFormat, bytes: usize) -> Self {
        let mut builder = ListIndexBuilder::with_capacity(bytes);
        builder.urls_by_host(format.urls_by_host);
        let types = format.entries.indicator_type().into_iter().collect();
        let rules = Rules { types, subdomains: format.subdomains, any_name: false };
        Self { format, builder, rules, read: 0, unreadable: 0, unsupported: 0, named: Vec::new() }
    }

    /// Adds one entry; `place` locates it in what is said of it if it cannot be read.
    ///
    /// # Errors
    /// When the index is full, or nearly nothing of the list can be read.
    pub(super) fn add(&mut self, place: Place, text: &str, note: &str) -> Result<(), SourceError> {
        match Entry::read(text, &self.rules) {
            Ok(entry) => self.take(&entry, note),
            Err(skipped) => {
                let pair = Entry::read_pair(text, &self.rules);
                if pair.is_empty() {
                    return self.skip(place, skipped);
                }
                pair.iter().try_for_each(|entry| self.take(entry, note))
            }
        }
    }

    /// Adds an entry that was read.
    ///
    /// # Errors
    /// When the index is full.
    pub(super) fn take(&mut self, entry: &Entry, note: &str) -> Result<(), SourceError> {
        self.read += 1;
        entry.add(&mut self.builder, note)
    }

    /// Adds entries that are looked for within a value.
    ///
    /// # Errors
    /// When the index cannot hold so many.
    pub(super) fn take_substrings(&mut self, entries: &[&str]) -> Result<(), SourceError> {
        self.read += entries.len() as u64;
        self.builder.substrings(entries)
    }

    /// Counts an entry that is not used.
    ///
    /// # Errors
    /// When nearly nothing of the list can be read.
    pub(super) fn skip(&mut self, place: Place, skipped: Skipped) -> Result<(), SourceError> {
        let count = if skipped.unsupported { &mut self.unsupported } else { &mut self.unreadable };
        *count += 1;
        if self.named.len() < NAMED {
            let why: String = skipped.why.chars().take(MAX_REASON).collect();
            self.named.push(format!("{place}: {why}"));
        }
        let hopeless = self.unreadable > self.format.unreadable.max(HOPELESS) && self.unreadable / 2 > self.read;
        if hopeless { Err(self.refusal()) } else { Ok(()) }
    }

    /// The index over all that was added.
    ///
    /// # Errors
    /// When most entries cannot be read, and more than the settings allow, or not one is used of all that there are.
    pub(super) fn finish(mut self) -> Result<ListIndex, SourceError> {
        let skipped = self.unreadable + self.unsupported;
        let too_many = self.unreadable > self.format.unreadable && self.unreadable > self.read;
        if too_many || (self.read == 0 && skipped > 0) {
            return Err(self.refusal());
        }
        if skipped > 0 {
            let others = if skipped > NAMED as u64 { ", among them" } else { "" };
            let named = self.named.join("; ");
            let note = format!("{skipped} of {} entries of the list skipped{others}: {named}", self.read + skipped);
            self.builder.skipped(usize::try_from(skipped).unwrap_or(usize::MAX), note);
        }
        Ok(self.builder.build())
    }

    fn refusal(&self) -> SourceError {
        let named = self.named.join("; ");
        SourceError::malformed(match self.read {
            0 => format!("not one entry could be read: {named}; {WAY_OUT}"),
            read => {
                let (bad, all) = (self.unreadable, read + self.unreadable + self.unsupported);
                format!("most entries cannot be read, {bad} of {all}: {named}; {WAY_OUT}")
            }
        })
    }
}

/// The place of an entry, counted from 1.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Line(usize),
    Entry(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Entry(number) => write!(f, "entry {number} of the list"),
        }
    }
}

/// The lines with their numbers, without line ends; those that are empty are left out.
pub(super) fn lines(file: &[u8]) -> impl Iterator<Item = (usize, &[u8])> + Clone {
    let numbered = file.split(|byte| *byte == b'\n').enumerate();
    let bare = numbered.map(|(number, line)| (number + 1, line.strip_suffix(b"\r").unwrap_or(line)));
    bare.filter(|(_, line)| !line.trim_ascii().is_empty())
}

/// Whether a line is a comment in any format.
pub(super) fn is_comment(line: &[u8]) -> bool {
    matches!(line.trim_ascii_start().first(), Some(b'#' | b';'))
}

/// The text of a line.
///
/// # Errors
/// That it is none.
pub(super) fn text(line: &[u8]) -> Result<&str, Skipped> {
    std::str::from_utf8(line).map_err(|_| Skipped::unreadable("this is not UTF-8: save the list as UTF-8"))
}

/// The first lines that are no comments, by which a format is recognised.
pub(super) fn sample(file: &[u8]) -> impl Iterator<Item = &str> {
    let entries = lines(file).filter(|(_, line)| !is_comment(line));
    entries.take(SAMPLE).filter_map(|(_, line)| std::str::from_utf8(line).ok())
}
