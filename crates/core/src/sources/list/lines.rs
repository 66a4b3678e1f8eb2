//! Formats of one entry, or a few, a line. Each says which lines are its own, by which it is recognised, and what
//! a line holds.

use std::net::IpAddr;

use super::Format;
use super::entry::{Entry, Rules, Skipped};
use super::import::{ListImport, Place, is_comment, lines, text};
use crate::finding::SourceError;
use crate::indicator::IndicatorType;

/// What a line holds.
pub(super) enum Line<'a> {
    /// An entry of any type, and what is said beside it.
    Entry(&'a str, &'a str),
    /// Names or addresses, with blanks or slashes between.
    Names(&'a str),
    /// The first and the last address of a range, and what is said beside it.
    Range(IpAddr, IpAddr, &'a str),
    /// What is no entry that is looked up: why.
    Unsupported(&'static str),
    /// A header, or what every file of the format has.
    Nothing,
}

/// A format of lines.
pub(super) struct LineFormat {
    pub(super) format: Format,
    /// Whether a line is written as in no other format.
    pub(super) is_own: fn(&str) -> bool,
    /// What a line holds; its comment is taken off.
    pub(super) read: for<'a> fn(&'a str) -> Line<'a>,
    /// Whether the format says that its entries are names, and that they stand for their subdomains too.
    names: Option<Subdomains>,
}

/// Whether the names of a format stand for their subdomains.
#[derive(Clone, Copy)]
enum Subdomains {
    Always,
    AsSet,
}

/// One entry a line, whatever it is.
pub(super) const PLAIN: LineFormat =
    LineFormat { format: Format::Plain, is_own: |_| false, read: |line| Line::Entry(line, ""), names: None };

/// The formats that differ from plain lines in how they are written.
pub(super) static LINE_FORMATS: [LineFormat; 5] = [
    LineFormat { format: Format::Hosts, is_own: is_sinkhole, read: hosts, names: Some(Subdomains::AsSet) },
    LineFormat { format: Format::Adblock, is_own: is_rule, read: adblock, names: Some(Subdomains::Always) },
    LineFormat {
        format: Format::Dnsmasq,
        is_own: |line| directive(line).is_some(),
        read: dnsmasq,
        names: Some(Subdomains::Always),
    },
    LineFormat {
        format: Format::Checksums,
        is_own: |line| checksum(line).is_some(),
        read: |line| checksum(line).map_or(Line::Entry(line, ""), |(hash, file)| Line::Entry(hash, file)),
        names: None,
    },
    LineFormat { format: Format::Dshield, is_own: |line| range(line).is_some(), read: dshield, names: None },
];

impl LineFormat {
    /// Reads a file of this format into the list.
    ///
    /// # Errors
    /// When the index is full, or nearly nothing can be read.
    pub(super) fn fill(&self, list: &mut ListImport<'_>, file: &[u8]) -> Result<(), SourceError> {
        let set = list.rules.clone();
        list.rules = self.rules(&set);
        let may_mix = list.format.format == Format::Auto && set.types.is_empty();
        for (number, line) in lines(file).filter(|(_, line)| !is_comment(line)) {
            let place = Place::Line(number);
            let line = match text(line) {
                Ok(line) => line,
                Err(skipped) => {
                    list.skip(place, skipped)?;
                    continue;
                }
            };
            match self.other_format(line).filter(|_| may_mix && !self.can_read(line, &list.rules)) {
                Some(other) => {
                    let own = std::mem::replace(&mut list.rules, other.rules(&set));
                    other.add_line(list, place, line)?;
                    list.rules = own;
                }
                None => self.add_line(list, place, line)?,
            }
        }
        Ok(())
    }

    /// The rules for entries of this format, where the settings have these.
    fn rules(&self, set: &Rules) -> Rules {
        match self.names {
            Some(subdomains) => Rules {
                types: vec![IndicatorType::Domain, IndicatorType::Ip],
                subdomains: set.subdomains || matches!(subdomains, Subdomains::Always),
                any_name: true,
            },
            None => set.clone(),
        }
    }

    /// The other format in which alone this line is written, as in a list put together from several.
    fn other_format(&self, line: &str) -> Option<&'static Self> {
        // Most lines are one word. What tells formats apart is a blank or a mark.
        if line.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'/')) {
            return None;
        }
        let (line, _) = without_comment(line);
        let other = || LINE_FORMATS.iter().find(|other| (other.is_own)(line));
        if (self.is_own)(line) { None } else { other() }
    }

    /// Whether a line can be read in this format.
    fn can_read(&self, line: &str, rules: &Rules) -> bool {
        match (self.read)(without_comment(line).0) {
            Line::Entry(entry, _) => Entry::read(entry, rules).is_ok(),
            Line::Names(_) | Line::Range(..) | Line::Nothing => true,
            Line::Unsupported(_) => false,
        }
    }

    fn add_line(&self, list: &mut ListImport<'_>, place: Place, line: &str) -> Result<(), SourceError> {
        let (line, comment) = without_comment(line);
        match (self.read)(line) {
            Line::Entry(entry, "") => list.add(place, entry, comment),
            Line::Entry(entry, note) => list.add(place, entry, note),
            Line::Names(names) => {
                let mut names = names.split(['/', ' ', '\t']).filter(|name| !name.is_empty());
                names.try_for_each(|name| list.add(place, name, comment))
            }
            Line::Range(first, last, note) => match Entry::range(first, last) {
                Ok(range) => list.take(&range, note),
                Err(skipped) => list.skip(place, skipped),
            },
            Line::Unsupported(why) => list.skip(place, Skipped::unsupported(why)),
            Line::Nothing => Ok(()),
        }
    }
}

/// Splits off a trailing comment. Its mark follows white space, since URLs hold `#` and `;` themselves.
pub(super) fn without_comment(line: &str) -> (&str, &str) {
    let line = line.trim();
    if !line.bytes().any(|byte| matches!(byte, b'#' | b';')) {
        return (line, "");
    }
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

/// The first word of a line, and the rest.
fn first_word(line: &str) -> (&str, &str) {
    line.split_once([' ', '\t']).map_or((line, ""), |(word, rest)| (word, rest.trim_start()))
}

/// The address of a line of a hosts file, and its names.
fn host_line(line: &str) -> Option<(IpAddr, &str)> {
    let (address, names) = first_word(line);
    let address = address.split('%').next().unwrap_or_default().parse().ok()?;
    let is_name = |word: &str| word.parse::<IpAddr>().is_err() && word.contains(|c: char| c.is_ascii_alphabetic());
    is_name(first_word(names).0).then_some((address, names))
}

fn is_sinkhole(line: &str) -> bool {
    host_line(line).is_some_and(|(address, _)| address.is_unspecified() || address.is_loopback())
}

fn hosts(line: &str) -> Line<'_> {
    match host_line(line) {
        // The names of the machine itself, which every hosts file begins with: `localhost`, `ip6-allnodes`.
        Some((_, names)) if names.split([' ', '\t']).all(|name| !name.contains('.')) => Line::Nothing,
        Some((_, "localhost.localdomain")) => Line::Nothing,
        Some((_, names)) => Line::Names(names),
        // `0.0.0.0 0.0.0.0` stands in some of them.
        None if line.split([' ', '\t']).all(|word| word.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())) => {
            Line::Nothing
        }
        None => Line::Entry(line, ""),
    }
}

/// Whether a line is a rule of an ad blocker, its comment or its header.
fn is_rule(line: &str) -> bool {
    is_header(line) || line.starts_with("||") || line.starts_with("@@") || is_cosmetic(line)
}

/// Whether a line is the header or a comment of a list for ad blockers.
pub(super) fn is_header(line: &str) -> bool {
    line.starts_with('!') || line.starts_with("[Adblock") || line.starts_with("[uBlock")
}

/// Whether a line is a rule on the content of pages, which names no address.
fn is_cosmetic(line: &str) -> bool {
    ["##", "#@#", "#?#", "#$#", "#%#"].into_iter().any(|mark| line.contains(mark))
}

/// Options of a rule that still block everything on a host.
const WHOLE_HOST: [&str; 7] = ["all", "document", "doc", "important", "popup", "third-party", "3p"];

fn adblock(line: &str) -> Line<'_> {
    if line.starts_with("@@") {
        return Line::Unsupported("an exception (@@), which takes something off the list");
    }
    if is_header(line) {
        return Line::Nothing;
    }
    if is_cosmetic(line) {
        return Line::Unsupported("a rule on the content of pages");
    }
    if host_line(line).is_some() {
        return hosts(line);
    }
    let (pattern, options) = line.split_once('$').unwrap_or((line, ""));
    if !options.split(',').all(|option| option.is_empty() || WHOLE_HOST.contains(&option)) {
        return Line::Unsupported("a rule for some requests only");
    }
    let name = pattern.strip_prefix("||").map_or(pattern, |name| name.trim_end_matches(['^', '|']));
    let is_name = name.contains(['.', ':']) && !name.trim_start_matches("*.").contains(['/', '*', '^', '|', '=', '?']);
    if is_name { Line::Names(name) } else { Line::Unsupported("a rule for part of an address") }
}

/// The names of a line of a dnsmasq configuration, and what it answers for them (`true`) or whom it asks about them.
fn directive(line: &str) -> Option<(&str, bool)> {
    let (key, rest) = line.split_once("=/")?;
    let (names, target) = rest.rsplit_once('/')?;
    match key.trim() {
        "address" => Some((names, true)),
        "server" | "local" => Some((names, target.is_empty())),
        _ => None,
    }
}

fn dnsmasq(line: &str) -> Line<'_> {
    match directive(line) {
        Some((names, true)) => Line::Names(names),
        Some((_, false)) => Line::Unsupported("names that another resolver is asked about"),
        None => Line::Unsupported("a setting that lists no name"),
    }
}

/// The hash and the file of a line of `sha256sum` or one of its kin, or of their form of BSD: `SHA256 (file) = hash`.
fn checksum(line: &str) -> Option<(&str, &str)> {
    let is_hash = |word: &str| {
        matches!(word.len(), 32 | 40 | 56 | 64 | 96 | 128) && word.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let (word, file) = first_word(line.trim_start_matches('\\'));
    if is_hash(word) && !file.is_empty() {
        return Some((word, file.trim_start_matches('*')));
    }
    let (file, hash) = line.rsplit_once(") = ")?;
    let (_, file) = file.split_once(" (")?;
    is_hash(hash).then_some((hash, file))
}

/// The range of a line of DShield's block list: first and last address, length of the prefix, attacks, name.
fn range(line: &str) -> Option<(IpAddr, IpAddr, &str)> {
    let (first, rest) = first_word(line);
    let (last, rest) = first_word(rest);
    Some((first.parse().ok()?, last.parse().ok()?, rest))
}

fn dshield(line: &str) -> Line<'_> {
    match range(line) {
        Some((first, last, note)) => Line::Range(first, last, note),
        None if line.starts_with("Start") => Line::Nothing,
        None => Line::Entry(line, ""),
    }
}
