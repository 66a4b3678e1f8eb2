//! Refanging: replaces the defang markers that make indicators unclickable (`hxxp`, `[.]`) by what they stand for; and
//! defanging.
//!
//! A text without markers is returned unchanged, except for invisible characters.

use std::ops::RangeInclusive;

use super::span_map::{Edit, SpanMap};

/// Invisible characters that are copied along with an indicator: joiners, direction marks, soft hyphens.
const INVISIBLE: [RangeInclusive<char>; 6] = [
    '\u{00ad}'..='\u{00ad}',
    '\u{061c}'..='\u{061c}',
    '\u{200b}'..='\u{200f}',
    '\u{202a}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
];

/// Whether a text has invisible characters, which refanging removes.
pub(super) fn contains_invisible(text: &str) -> bool {
    text.chars().any(is_invisible)
}

fn is_invisible(c: char) -> bool {
    INVISIBLE.iter().any(|range| range.contains(&c))
}

/// Dots of other scripts that are label separators as well (UTS 46).
const DOTS: [char; 4] = ['\u{ff0e}', '\u{3002}', '\u{ff61}', '\u{2024}'];
/// Defanged and plain schemes in lower case, longer spellings first, with what they stand for.
const SCHEMES: [(&str, &str); 19] = [
    ("hxxps", "https://"),
    ("hxxp", "http://"),
    ("hxtps", "https://"),
    ("hxtp", "http://"),
    ("htxps", "https://"),
    ("htxp", "http://"),
    ("httpxs", "https://"),
    ("httpx", "https://"),
    ("h**ps", "https://"),
    ("h**p", "http://"),
    ("h__ps", "https://"),
    ("h__p", "http://"),
    ("meows", "https://"),
    ("meow", "http://"),
    ("https", "https://"),
    ("http", "http://"),
    ("fxps", "ftps://"),
    ("fxp", "ftp://"),
    ("ftp", "ftp://"),
];
/// Spellings of what separates scheme and host.
const SEPARATORS: [&str; 16] = [
    "[://]",
    "(://)",
    "{://}",
    "[:]//",
    "(:)//",
    "{:}//",
    "[:]\\\\",
    ":[//]",
    "[:][//]",
    "[:][/][/]",
    ":[/][/]",
    ":\\\\",
    ":\\/\\/",
    "://",
    "[:/]/",
    "[:]/",
];
/// What brackets hold in place of a dot, in lower case.
const DOT_WORDS: [&str; 5] = ["dot", "punkt", "punto", "point", "."];
/// What else brackets hold, with what it stands for.
const OTHER_MARKERS: [(&str, &str); 8] =
    [("://", "://"), ("//", "//"), (":", ":"), ("/", "/"), ("at", "@"), ("@", "@"), (",", "."), ("-", "-")];
const OPENING: [char; 3] = ['[', '(', '{'];
const CLOSING: [char; 3] = [']', ')', '}'];

/// The text with every defang marker replaced by what it stands for.
pub fn refang(text: &str) -> String {
    refang_mapped(text).into_text()
}

/// The refanged text, with the place in `text` that each part of it came from.
pub(super) fn refang_mapped(text: &str) -> SpanMap {
    let mut map = SpanMap::new(text);
    for find_edits in [character_edits, scheme_edits, marker_edits, escape_edits] {
        let edits = find_edits(map.text());
        map.apply(&edits);
    }
    map
}

/// Removes invisible characters and replaces the dots of other scripts.
fn character_edits(text: &str) -> Vec<Edit> {
    if text.is_ascii() {
        return Vec::new();
    }
    let edit = |(at, c): (usize, char)| match c {
        c if is_invisible(c) => Some((at..at + c.len_utf8(), "")),
        c if DOTS.contains(&c) => Some((at..at + c.len_utf8(), ".")),
        _ => None,
    };
    text.char_indices().filter_map(edit).collect()
}

/// Replaces defanged schemes and separators, wherever a scheme can begin.
fn scheme_edits(text: &str) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut before = None;
    let mut at = 0;
    while let Some(first) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let begins = before.is_none_or(|c: char| !c.is_ascii_alphanumeric());
        let scheme = if begins { text.get(at..).and_then(scheme_at) } else { None };
        let length = scheme.map_or(first.len_utf8(), |(_, length)| length);
        if let Some((scheme, length)) = scheme.filter(|(scheme, length)| text.get(at..at + length) != Some(scheme)) {
            edits.push((at..at + length, scheme));
        }
        before = Some(if scheme.is_some() { '/' } else { first });
        at += length;
    }
    edits
}

/// The scheme at the start of the text, and the length of scheme and separator.
fn scheme_at(text: &str) -> Option<(&'static str, usize)> {
    if !text.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return None;
    }
    let (length, scheme) =
        SCHEMES.iter().find_map(|(written, meant)| prefix_length(text, written).map(|length| (length, *meant)))?;
    let rest = text.get(length..)?;
    let rest_trimmed = rest.strip_prefix(' ').filter(|rest| rest.starts_with(['[', ':'])).unwrap_or(rest);
    let skipped = rest.len() - rest_trimmed.len();
    let separator = SEPARATORS.iter().find(|separator| rest_trimmed.starts_with(**separator))?;
    let tail = rest_trimmed.get(separator.len()..)?;
    Some((scheme, length + skipped + separator.len() + gap(tail)))
}

/// The length of further slashes and one space before what can be a host: `http:/// example.com`.
fn gap(text: &str) -> usize {
    let Some(host) = text.trim_start_matches('/').strip_prefix(' ') else { return 0 };
    let word = host.split_whitespace().next().unwrap_or_default();
    let is_host = host.starts_with(|c: char| c.is_alphanumeric()) && word.contains('.');
    if is_host { text.len() - host.len() } else { 0 }
}

/// The length of `prefix` if the text begins with it, ignoring ASCII case.
fn prefix_length(text: &str, prefix: &str) -> Option<usize> {
    text.get(..prefix.len()).filter(|head| head.eq_ignore_ascii_case(prefix)).map(str::len)
}

/// Replaces markers in any mix of brackets.
fn marker_edits(text: &str) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    let mut before = None;
    let mut at = 0;
    while let Some(first) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let Some((meant, length)) = text.get(at..).and_then(|rest| marker_at(rest, before)) else {
            before = Some(first);
            at += first.len_utf8();
            continue;
        };
        let done = edits.last().map_or(0, |(range, _)| range.end);
        let spaces = text.get(done..at).map_or(0, |rest| rest.len() - rest.trim_end_matches(' ').len());
        let start = if meant == "." { at - spaces } else { at };
        if text.get(start..at + length) != Some(meant) {
            edits.push((start..at + length, meant));
        }
        before = meant.chars().next_back();
        at += length;
    }
    edits
}

/// The marker at the start of the text: what it stands for, and its length. `before` is the character before it.
fn marker_at(text: &str, before: Option<char>) -> Option<(&'static str, usize)> {
    let first = text.chars().next()?;
    if first == '<' {
        return angle_at(text, before);
    }
    if first != '.' && !OPENING.contains(&first) && !CLOSING.contains(&first) {
        return None;
    }
    // All brackets are one byte long. More than three in a row are no marker.
    let open = text.chars().take(4).take_while(|c| OPENING.contains(c) || CLOSING.contains(c)).count();
    if open > 3 {
        return None;
    }
    let inner = text.get(open..)?;
    let space = if open > 0 { inner.len() - inner.trim_start_matches(' ').len() } else { 0 };
    let (meant, word) = word_at(inner.get(space..)?, open > 0)?;
    let after = inner.get(space + word..)?;
    let space_after = if open > 0 { after.len() - after.trim_start_matches(' ').len() } else { 0 };
    let tail = after.get(space_after..)?;
    let closing = tail.len() - tail.trim_start_matches(CLOSING).len();
    let close = closing.max(if space_after == 0 { misplaced_brackets(text, tail, before) } else { 0 });
    let length = open + space + word + if close > 0 { space_after + close } else { 0 };
    let next = text.get(length..).and_then(|rest| rest.chars().next());
    let between_words = before.is_some_and(is_word_char) && next.is_some_and(is_word_char);
    match (open > 0, close > 0) {
        (true, true) if text.starts_with(OPENING) || between_words => {
            Some((meant, with_space_after(text, length, meant)))
        }
        // Half a pair of brackets is a marker only within a word, and only beside a dot.
        (true, false) if meant == "." && between_words && space == 0 && text.starts_with(OPENING) => {
            Some((meant, length))
        }
        (false, true) if meant == "." && between_words => Some((meant, length)),
        _ => None,
    }
}

/// The number of opening brackets after a dot that stand where closing ones should: `www.[example`, `example}.{com`.
/// `end.[1]` is a footnote.
fn misplaced_brackets(text: &str, tail: &str, before: Option<char>) -> usize {
    let rest = tail.trim_start_matches(['[', '{']);
    let first = rest.chars().next();
    let possible = text.starts_with(['.', '}', ']'])
        && (first.is_some_and(char::is_alphabetic)
            || before.is_some_and(|c| c.is_ascii_digit()) && !rest.chars().take(4).any(|c| c == ']'));
    if possible { tail.len() - rest.len() } else { 0 }
}

/// `example<dot>com`: angle brackets are a marker only within a word, since elsewhere they are markup.
fn angle_at(text: &str, before: Option<char>) -> Option<(&'static str, usize)> {
    let length = ["<.>", "<dot>"].iter().find_map(|marker| prefix_length(text, marker))?;
    let next = text.get(length..).and_then(|rest| rest.chars().next());
    (before.is_some_and(is_word_char) && next.is_some_and(is_word_char)).then_some((".", length))
}

/// The length of a marker with the space after it: a dot in brackets may have one on each side, `evil [.] com`.
fn with_space_after(text: &str, length: usize, meant: &str) -> usize {
    let rest = text.get(length..).unwrap_or_default();
    let trimmed = rest.trim_start_matches(' ');
    let next_is_word = trimmed.chars().next().is_some_and(is_word_char);
    if meant == "." && next_is_word && rest.len() - trimmed.len() == 1 { length + 1 } else { length }
}

fn word_at(text: &str, bracketed: bool) -> Option<(&'static str, usize)> {
    if let Some(length) =
        DOT_WORDS.iter().filter(|word| bracketed || **word == ".").find_map(|word| prefix_length(text, word))
    {
        return Some((".", length));
    }
    if !bracketed {
        return None;
    }
    OTHER_MARKERS.iter().find_map(|(written, meant)| prefix_length(text, written).map(|length| (*meant, length)))
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '-' || c == '_'
}

/// Removes a backslash or caret before a dot.
fn escape_edits(text: &str) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find(['\\', '^'])) {
        let start = at + found;
        at = start + 1;
        if text.get(at..).is_some_and(|rest| rest.starts_with('.')) {
            at += 1;
            edits.push((start..at, "."));
        }
    }
    edits
}

/// Replaces words for dots in a single indicator that has no real dot (`example-dot-com`, `example dot com`), and takes
/// away the spaces around dots.
pub(super) fn refang_dot_words(text: &str) -> String {
    if text.contains('.') {
        return text.replace(" . ", ".");
    }
    // Only in the host: in a path such words are the path's own.
    let begin = text.find("://").map_or(0, |at| at + 3);
    let end = text.get(begin..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(text.len(), |at| begin + at);
    let (host, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let mut out = host.to_owned();
    for word in ["-dot-", "_dot_", " dot ", "-DOT-", "_DOT_", " DOT ", " Dot "] {
        out = out.replace(word, ".");
    }
    out + rest
}

/// The value with markers in scheme and host, so that no program makes it a link.
pub(super) fn defang(value: &str) -> String {
    let (scheme, rest) = match value.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, value),
    };
    let end = rest.find(['/', '?', '#']).filter(|_| scheme.is_some()).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let host = if scheme.is_none() && host.contains(':') { host.replace(':', "[:]") } else { host.replace('.', "[.]") };
    match scheme {
        Some(scheme) => format!("{}://{host}{path}", scheme.replacen("tt", "xx", 1).replacen("ftp", "fxp", 1)),
        None => format!("{host}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_defang_marker_is_undone() {
        let table = [
            ("hxxp://evil[.]example[.]com/a", "http://evil.example.com/a"),
            ("hXXps[:]//evil(.)example{.}com", "https://evil.example.com"),
            ("h**p://evil[dot]example(dot)com", "http://evil.example.com"),
            ("meow://example.com", "http://example.com"),
            ("httpx://example.com", "https://example.com"),
            ("http:/// example.com/a", "http://example.com/a"),
            ("evil}.{example<dot>com", "evil.example.com"),
            ("evil[-]example.com", "evil-example.com"),
            ("fxp://example.com/", "ftp://example.com/"),
            ("http:\\\\example.com\\a", "http://example.com\\a"),
            ("http[://]example.com", "http://example.com"),
            ("192[.]0[.]2[.]1", "192.0.2.1"),
            ("192.0.2[.1", "192.0.2.1"),
            ("www].]example].]com", "www.example.com"),
            ("example\\.com", "example.com"),
            ("example\u{3002}com", "example.com"),
            ("exam\u{200b}ple.com", "example.com"),
            ("evil [.] example [.] com", "evil.example.com"),
            ("a[at]example.com", "a@example.com"),
            ("2001[:]db8[:][:]1", "2001:db8::1"),
        ];
        for (text, meant) in table {
            assert_eq!(refang(text), meant, "{text}");
        }
    }

    #[test]
    fn a_text_without_marks_comes_back_as_it_is() {
        for text in [
            "https://example.com/a(b).html",
            "see (example.com).",
            "f(x).y is code",
            "a[0].b",
            "http is a word",
            "the scheme http:// itself",
            "the end. [A new one]",
            "a footnote.[1] and more",
            "<p>a</p>.<p>b</p>",
        ] {
            assert_eq!(refang(text), text);
        }
    }

    #[test]
    fn words_for_dots_count_only_where_no_real_dot_stands() {
        assert_eq!(refang_dot_words("example-dot-com"), "example.com");
        assert_eq!(refang_dot_words("http://example-dot-com/a-dot-b"), "http://example.com/a-dot-b");
        assert_eq!(refang_dot_words("http://intranet/a-dot-b"), "http://intranet/a-dot-b");
        assert_eq!(refang_dot_words("evil-dot-proj.appspot.com"), "evil-dot-proj.appspot.com");
    }
}
