//! Undoes the defang markers by which analysts make indicators harmless, and makes them.
//!
//! Only markers are undone: a text without any comes back as it is, but for invisible characters.

use std::ops::RangeInclusive;

use super::span_map::{Edit, SpanMap};

/// Characters that are no part of any indicator and that copying brings along: joiners, marks of direction, soft hyphens.
const INVISIBLE: [RangeInclusive<char>; 6] = [
    '\u{00ad}'..='\u{00ad}',
    '\u{061c}'..='\u{061c}',
    '\u{200b}'..='\u{200f}',
    '\u{202a}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
];
/// Whether a text holds characters that are taken out since nobody sees them.
pub(super) fn holds_invisible(text: &str) -> bool {
    text.chars().any(is_invisible)
}

fn is_invisible(c: char) -> bool {
    INVISIBLE.iter().any(|range| range.contains(&c))
}

/// Dots of other scripts that a resolver takes for a dot (UTS 46).
const DOTS: [char; 4] = ['\u{ff0e}', '\u{3002}', '\u{ff61}', '\u{2024}'];
/// What stands for `http` in a defanged scheme, longest first, in lower case.
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
/// Ways to write what stands between scheme and host.
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
/// What stands between brackets for a dot, in lower case.
const DOT_WORDS: [&str; 5] = ["dot", "punkt", "punto", "point", "."];
/// What else stands between brackets, and what it means.
const OTHER_MARKS: [(&str, &str); 8] =
    [("://", "://"), ("//", "//"), (":", ":"), ("/", "/"), ("at", "@"), ("@", "@"), (",", "."), ("-", "-")];
const OPENING: [char; 3] = ['[', '(', '{'];
const CLOSING: [char; 3] = [']', ')', '}'];

/// The text with every defang marker undone.
pub fn refang(text: &str) -> String {
    undo(text).into_text()
}

/// The text with every defang marker undone, and where each part of it came from.
pub(super) fn undo(text: &str) -> SpanMap {
    let mut map = SpanMap::new(text);
    for step in [characters, schemes, markers, escapes] {
        let edits = step(map.text());
        map.apply(&edits);
    }
    map
}

/// Invisible characters and the dots of other scripts.
fn characters(text: &str) -> Vec<Edit> {
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

/// Defanged schemes and separators, wherever a scheme can begin.
fn schemes(text: &str) -> Vec<Edit> {
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

/// The scheme that the text begins with, and how long it and its separator are.
fn scheme_at(text: &str) -> Option<(&'static str, usize)> {
    if !text.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return None;
    }
    let (length, scheme) =
        SCHEMES.iter().find_map(|(written, meant)| starts(text, written).map(|length| (length, *meant)))?;
    let rest = text.get(length..)?;
    let rest_trimmed = rest.strip_prefix(' ').filter(|rest| rest.starts_with(['[', ':'])).unwrap_or(rest);
    let skipped = rest.len() - rest_trimmed.len();
    let separator = SEPARATORS.iter().find(|separator| rest_trimmed.starts_with(**separator))?;
    let tail = rest_trimmed.get(separator.len()..)?;
    Some((scheme, length + skipped + separator.len() + gap(tail)))
}

/// One space before what can be a host, with more slashes than two: `http:/// example.com`.
fn gap(text: &str) -> usize {
    let Some(host) = text.trim_start_matches('/').strip_prefix(' ') else { return 0 };
    let word = host.split_whitespace().next().unwrap_or_default();
    let is_host = host.starts_with(|c: char| c.is_alphanumeric()) && word.contains('.');
    if is_host { text.len() - host.len() } else { 0 }
}

/// How long `prefix` is in `text` if the text begins with it, letter case aside.
fn starts(text: &str, prefix: &str) -> Option<usize> {
    text.get(..prefix.len()).filter(|head| head.eq_ignore_ascii_case(prefix)).map(str::len)
}

/// Marks in brackets, in any mix of brackets.
fn markers(text: &str) -> Vec<Edit> {
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
        let spaces = text.get(done..at).map_or(0, |kept| kept.len() - kept.trim_end_matches(' ').len());
        let start = if meant == "." { at - spaces } else { at };
        if text.get(start..at + length) != Some(meant) {
            edits.push((start..at + length, meant));
        }
        before = meant.chars().next_back();
        at += length;
    }
    edits
}

/// The mark that the text begins with: what it means and how long it is. `before` is the character before it.
fn marker_at(text: &str, before: Option<char>) -> Option<(&'static str, usize)> {
    let first = text.chars().next()?;
    if first == '<' {
        return angle_at(text, before);
    }
    if first != '.' && !OPENING.contains(&first) && !CLOSING.contains(&first) {
        return None;
    }
    // All brackets are one byte long. More than three in a row are no mark.
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
    let close = closing.max(if space_after == 0 { wrong_side(text, tail, before) } else { 0 });
    let length = open + space + word + if close > 0 { space_after + close } else { 0 };
    let next = text.get(length..).and_then(|rest| rest.chars().next());
    let between_words = before.is_some_and(is_word) && next.is_some_and(is_word);
    match (open > 0, close > 0) {
        (true, true) if text.starts_with(OPENING) || between_words => Some((meant, skip_space(text, length, meant))),
        // Half a pair of brackets is a mark only within a word, and only around a dot.
        (true, false) if meant == "." && between_words && space == 0 && text.starts_with(OPENING) => {
            Some((meant, length))
        }
        (false, true) if meant == "." && between_words => Some((meant, length)),
        _ => None,
    }
}

/// `www.[example` and `example}.{com`: how many brackets stand on the wrong side after a dot. `end.[1]` is a footnote.
fn wrong_side(text: &str, tail: &str, before: Option<char>) -> usize {
    let rest = tail.trim_start_matches(['[', '{']);
    let first = rest.chars().next();
    let possible = text.starts_with(['.', '}', ']'])
        && (first.is_some_and(char::is_alphabetic)
            || before.is_some_and(|c| c.is_ascii_digit()) && !rest.chars().take(4).any(|c| c == ']'));
    if possible { tail.len() - rest.len() } else { 0 }
}

/// `example<dot>com`: angle brackets mark a dot only within a word, since elsewhere they are markup.
fn angle_at(text: &str, before: Option<char>) -> Option<(&'static str, usize)> {
    let length = ["<.>", "<dot>"].iter().find_map(|mark| starts(text, mark))?;
    let next = text.get(length..).and_then(|rest| rest.chars().next());
    (before.is_some_and(is_word) && next.is_some_and(is_word)).then_some((".", length))
}

/// A dot in brackets may have spaces around it: `evil [.] com`.
fn skip_space(text: &str, length: usize, meant: &str) -> usize {
    let rest = text.get(length..).unwrap_or_default();
    let trimmed = rest.trim_start_matches(' ');
    let next_is_word = trimmed.chars().next().is_some_and(is_word);
    if meant == "." && next_is_word && rest.len() - trimmed.len() == 1 { length + 1 } else { length }
}

fn word_at(text: &str, bracketed: bool) -> Option<(&'static str, usize)> {
    if let Some(length) = DOT_WORDS.iter().filter(|word| bracketed || **word == ".").find_map(|word| starts(text, word))
    {
        return Some((".", length));
    }
    if !bracketed {
        return None;
    }
    OTHER_MARKS.iter().find_map(|(written, meant)| starts(text, written).map(|length| (*meant, length)))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '-' || c == '_'
}

/// A backslash or caret before a dot.
fn escapes(text: &str) -> Vec<Edit> {
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

/// Words for dots in a text that has no real one: `example-dot-com`, `example dot com`; and dots between spaces.
/// Only for one indicator by itself.
pub(super) fn undo_words(text: &str) -> String {
    if text.contains('.') {
        return text.replace(" . ", ".");
    }
    // Only in the host: a path may hold such words of its own.
    let begin = text.find("://").map_or(0, |at| at + 3);
    let end = text.get(begin..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(text.len(), |at| begin + at);
    let (host, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let mut out = host.to_owned();
    for word in ["-dot-", "_dot_", " dot ", "-DOT-", "_DOT_", " DOT ", " Dot "] {
        out = out.replace(word, ".");
    }
    out + rest
}

/// The value so that no program takes it for a link: the scheme and every dot of the host marked.
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
        assert_eq!(undo_words("example-dot-com"), "example.com");
        assert_eq!(undo_words("http://example-dot-com/a-dot-b"), "http://example.com/a-dot-b");
        assert_eq!(undo_words("http://intranet/a-dot-b"), "http://intranet/a-dot-b");
        assert_eq!(undo_words("evil-dot-proj.appspot.com"), "evil-dot-proj.appspot.com");
    }
}
