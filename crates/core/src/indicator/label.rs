//! What stands beside an indicator: the label that says what it is, list marks, other columns.

use std::sync::LazyLock;

use regex::Regex;

use super::{address, hash};

/// How far before a hash its label can begin.
const REACH: usize = 64;

/// Hashes of something other than a whole file. Each has as many digits as a file hash, and would be looked up in vain.
const OTHER_HASHES: &str = r"(?x)(?<kind>
    imp[\ _-]?hash | import[\ _-]?hash | gimphash | impfuzzy | authenti[\ _-]?hash | ja3s? | ja4[a-z]* | jarm
    | rich(?:[\ _-]?(?:pe|header))+ | rich[\ _-]?(?:hash|md5|sha-?256) | rich | ssdeep | tlsh | vhash | telfhash
    | pe[\ _-]?hash | sym[\ _-]?hash | exp[\ _-]?hash | dhash | hassh(?:server)? | cdhash
    )";
/// Words between a label and its hash.
const BETWEEN: &str =
    r"(?:[\ _-]*(?:pe|header|client|server|hash|md5|sha-?1|sha-?256|fingerprint|digest|value|is|of\ file))*";

static LABEL_BEFORE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(&format!(r#"(?i)(?:^|[^\p{{L}}\p{{N}}]){OTHER_HASHES}{BETWEEN}(?:\ *\([^()]*\))?["'`*_:=|>\ \t\[(]+$"#))
        .ok()
});
static LABEL_AFTER: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(&format!(r#"(?i)^["'`*]*\s*[(\[]\s*{OTHER_HASHES}{BETWEEN}\s*[)\]]"#)).ok());

/// A label of a single value: a word for what it is and `:` or `=`, or any words, a colon and a space.
static VALUE_LABEL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let known = r"(?:ip|ipv4|ipv6|domain|host|hostname|fqdn|name|url|uri|link|site|server|address|addr|src|dst|source|destination|remote|c2|c&c|cnc|ioc|indicator|value|file|hash|checksum|md5|sha-?1|sha-?2|sha-?256|sha1sum|sha256sum|md5sum|dns|query)";
    Regex::new(&format!(
        r"(?i)^(?:{known}(?:[ _.-]{known})?\s*(?::|=>?)\s*|[\p{{L}}\p{{N}}][\p{{L}}\p{{N}} ._&/()-]{{0,40}}?\s*(?::\s+|：\s*|=\s*))(?<rest>[^\s/].*)$"
    ))
    .ok()
});
static LIST_MARK: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^(?:[^\p{L}\p{N}\[_./\\@%~&*#+>=-]+|[*+>#=–—-]+\s+|(?:\d{1,3}|[a-z])[.)]\s+)(?<rest>.+)$").ok()
});

/// The kind of hash that the words around a hash in a text name, if it is none of a file.
pub(super) fn other_hash(before: &str, after: &str) -> Option<String> {
    let mut start = before.len().saturating_sub(REACH);
    while !before.is_char_boundary(start) {
        start += 1;
    }
    let near = before.get(start..)?;
    let mut end = after.len().min(REACH);
    while !after.is_char_boundary(end) {
        end -= 1;
    }
    let named = |label: &Option<Regex>, text: &str| Some(label.as_ref()?.captures(text)?["kind"].to_lowercase());
    named(&LABEL_BEFORE, near).or_else(|| named(&LABEL_AFTER, after.get(..end)?))
}

/// A value without one of the things that stand beside it, if any does.
pub(super) fn strip(text: &str) -> Option<&str> {
    let rest = |pattern: &Option<Regex>| {
        let captures = pattern.as_ref()?.captures(text)?;
        captures.name("rest").map(|rest| rest.as_str())
    };
    emphasized(text)
        .or_else(|| rest(&LIST_MARK))
        .or_else(|| link_target(text))
        .or_else(|| without_closing(text))
        .or_else(|| column(text))
        .or_else(|| rest(&VALUE_LABEL))
        .or_else(|| hash::in_file_name(text))
        .filter(|rest| !rest.is_empty() && rest.len() < text.len())
}

/// What stands between marks of emphasis: `_name_`.
fn emphasized(text: &str) -> Option<&str> {
    ['*', '_', '~'].into_iter().find_map(|mark| text.strip_prefix(mark)?.strip_suffix(mark))
}

/// The target of a Markdown link, or what a forum tag holds.
fn link_target(text: &str) -> Option<&str> {
    let text = text.strip_prefix('!').unwrap_or(text);
    let (_, rest) = text.strip_prefix('[')?.split_once(']')?;
    match rest.strip_prefix('(') {
        Some(target) => target.strip_suffix(')'),
        None => rest.rsplit_once("[/").map(|(inner, _)| inner).filter(|inner| !inner.is_empty()),
    }
}

/// The value without a bracket or mark after it that belongs to what stood before.
fn without_closing(text: &str) -> Option<&str> {
    let pairs = [(')', '('), (']', '['), ('}', '{'), ('>', '<')];
    let unopened =
        pairs.into_iter().find_map(|(close, open)| text.strip_suffix(close).filter(|rest| !rest.contains(open)));
    unopened.or_else(|| text.strip_suffix([':', '"', '\'', '`', '*', '_', '~']))
}

/// The hash or address of a pair with a bar between: `name|hash`, `address|port`.
fn column(text: &str) -> Option<&str> {
    let (first, last) = text.rsplit_once('|')?;
    if hash::form_of(last.trim()).is_some() {
        return Some(last.trim());
    }
    let port = last.trim().parse::<u16>().is_ok();
    (port && !first.contains('|') && (address::is_ipv4(first.trim()) || first.contains(':') || first.contains('.')))
        .then_some(first.trim())
}
