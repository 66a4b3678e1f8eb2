//! Refanging: replaces the defang markers that make indicators unclickable (`hxxp`, `[.]`) by what they stand for; and
//! defanging.
//!
//! A text without markers is returned unchanged, except for invisible characters.

use std::ops::RangeInclusive;

use super::prefilter::Prefilter;
use super::span_map::{Edit, SpanMap};
use super::{address, domain, scan, script, wrapping};

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

/// Whether a text has look-alike hyphens, digits or letters, which refanging replaces.
pub(super) fn contains_look_alikes(text: &str) -> bool {
    text.chars().any(|c| folded(c).is_some())
}

/// Dots of other scripts that are label separators as well (UTS 46).
const DOTS: [char; 4] = ['\u{ff0e}', '\u{3002}', '\u{ff61}', '\u{2024}'];
/// Characters that look like a hyphen and, other than a dash, join words.
const HYPHENS: [char; 5] = ['\u{2010}', '\u{2011}', '\u{2212}', '\u{fe63}', '\u{ff0d}'];
/// Defanged and plain schemes in lower case, longer spellings first, with what they stand for.
const SCHEMES: [(&str, &str); 25] = [
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
    ("hxxxps", "https://"),
    ("hxxxp", "http://"),
    ("htttps", "https://"),
    ("htttp", "http://"),
    ("https", "https://"),
    ("http", "http://"),
    ("ttps", "https://"),
    ("ttp", "http://"),
    ("fxps", "ftps://"),
    ("fxp", "ftp://"),
    ("ftp", "ftp://"),
];
/// More bytes than the longest scheme with brackets between its letters, and those before the colon of its separator.
const FARTHEST_COLON: usize = 48;
/// What brackets hold in place of a dot, in lower case.
const DOT_WORDS: [&str; 7] = ["dot", "punkt", "punto", "point", ".", "\u{ff0e}", "\u{3002}"];
/// What else brackets hold, with what it stands for.
const OTHER_MARKERS: [(&str, &str); 8] =
    [("://", "://"), ("//", "//"), (":", ":"), ("/", "/"), ("at", "@"), ("@", "@"), (",", "."), ("-", "-")];
/// Markers that are undone in the path of a defanged URL too. Others are left there, since a path can be called `(dot)`.
const PATH_MARKERS: [&str; 3] = ["[.]", "[:]", "[/]"];
/// Every marker, escape and scheme has one of these, or a character that is not ASCII.
const WITH_MARKERS: Prefilter = Prefilter::new(b"[](){}<\\^", b":", usize::MAX);
const OPENING: [char; 3] = ['[', '(', '{'];
const CLOSING: [char; 3] = [']', ')', '}'];

/// A text of a single value with every defang marker replaced by what it stands for.
pub fn refang(text: &str) -> String {
    refang_mapped(text, true).into_text()
}

/// The refanged text, with the place in `text` that each part of it came from. `value`: the text is a single value rather
/// than prose.
pub(super) fn refang_mapped(text: &str, value: bool) -> SpanMap<'_> {
    let mut map = SpanMap::new(text);
    map.apply(&invisible_edits(text));
    let edits = wrapping::edits(map.text(), value);
    map.apply(&edits);
    let edits = marker_edits(map.text(), value, next_with_markers);
    map.apply(&edits);
    map
}

/// Removes invisible characters, except joiners where a name may have them.
fn invisible_edits(text: &str) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut at = 0;
    while let Some(ascii) = text.as_bytes().get(at..).and_then(|rest| rest.iter().position(|byte| !byte.is_ascii())) {
        let start = at + ascii;
        let Some(c) = text.get(start..).and_then(|rest| rest.chars().next()) else { break };
        at = start + c.len_utf8();
        if is_invisible(c) && !joins(text, start, c) {
            edits.push((start..at, ""));
        }
    }
    edits
}

/// Whether a joiner stands where the context rule of internationalised names allows it (RFC 5892, appendix A).
fn joins(text: &str, at: usize, joiner: char) -> bool {
    if !matches!(joiner, '\u{200c}' | '\u{200d}') {
        return false;
    }
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    if !before.chars().next_back().is_some_and(script::is_unspaced) {
        return false;
    }
    let in_label = |c: &char| script::is_unspaced(*c) || matches!(c, '\u{200c}' | '\u{200d}');
    let mut label: Vec<char> = before.chars().rev().take(63).take_while(in_label).collect();
    label.reverse();
    label.extend(after.chars().take(63).take_while(in_label));
    idna::domain_to_ascii(&label.into_iter().collect::<String>()).is_ok()
}

/// What a full-width or look-alike character stands for.
fn folded(c: char) -> Option<&'static str> {
    match c {
        _ if HYPHENS.contains(&c) => Some("-"),
        '\u{ff10}'..='\u{ff19}' | '\u{ff21}'..='\u{ff3a}' | '\u{ff41}'..='\u{ff5a}' => {
            wrapping::printable(u32::from(c) - 0xfee0)
        }
        _ => None,
    }
}

/// Where a reader of markers is within the current name or URL.
#[derive(Clone, Copy, Default)]
struct Place {
    /// A scheme or a dot came before: a slash begins a path.
    is_host: bool,
    /// In path or query, which are left as a browser reads them.
    in_path: bool,
    /// Scheme or host had markers, so whoever wrote it has put `[.]` for the dots of the path as well.
    defanged: bool,
}

/// Replaces defanged schemes, markers in any mix of brackets, escaped dots, and look-alike characters.
///
/// `next` finds the next word that may have any, from the start of a word.
fn marker_edits(text: &str, value: bool, next: impl Fn(&str, usize) -> Option<usize>) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    let mut place = Place::default();
    let mut before = None;
    let mut at = 0;
    while at < text.len() {
        // Behind white space all is as at the beginning.
        if before.is_none_or(char::is_whitespace) {
            let Some(start) = next(text, at) else { break };
            before = if start > at { Some(' ') } else { before };
            at = start;
        }
        let rest = text.get(at..).unwrap_or_default();
        let Some(first) = rest.chars().next() else { break };
        let begins = before.is_none_or(|c: char| match place.in_path {
            true => matches!(c, ',' | ';' | '\'' | '(' | ')' | ']'),
            false => !c.is_ascii_alphanumeric(),
        });
        if let Some((scheme, length)) = if begins { scheme_at(rest) } else { None } {
            let written = rest.get(..length).unwrap_or_default();
            if written != scheme {
                edits.push((at..at + length, scheme));
            }
            place = Place { is_host: true, in_path: false, defanged: !written.eq_ignore_ascii_case(scheme) };
            before = Some('/');
            at += length;
            continue;
        }
        if first.is_ascii_alphanumeric() {
            before = Some(first);
            at += 1;
            continue;
        }
        if place.in_path {
            let marker =
                if place.defanged { PATH_MARKERS.iter().find(|marker| rest.starts_with(**marker)) } else { None };
            let meant = marker.and_then(|marker| marker.get(1..2));
            edits.extend(meant.map(|meant| (at..at + 3, meant)));
            if first.is_whitespace() || !value && scan::ends_url(first) {
                place = Place::default();
            }
            before = Some(first);
            at += if meant.is_some() { 3 } else { first.len_utf8() };
            continue;
        }
        if let Some((meant, length)) = marker_at(rest, before) {
            let done = edits.last().map_or(0, |(range, _)| range.end);
            let spaces = text.get(done..at).map_or(0, |rest| rest.len() - rest.trim_end_matches(' ').len());
            let start = if meant == "." { at - spaces } else { at };
            if text.get(start..at + length) != Some(meant) {
                edits.push((start..at + length, meant));
                place.defanged = true;
            }
            place.in_path = place.is_host && meant == "/";
            place.is_host |= meant == ".";
            before = meant.chars().next_back();
            at += length;
            continue;
        }
        let next = rest.get(first.len_utf8()..).and_then(|rest| rest.chars().next());
        let (meant, length) = match first {
            '\\' | '^' => (Some("."), escaped_dot(rest, before)),
            c if DOTS.contains(&c) => (Some(".").filter(|_| value || is_dot(c, before, next)), c.len_utf8()),
            c => (folded(c), c.len_utf8()),
        };
        if let Some(meant) = meant.filter(|_| length > 0) {
            edits.push((at..at + length, meant));
            place.is_host |= meant == ".";
            before = meant.chars().next_back();
            at += length;
            continue;
        }
        match first {
            '/' | '?' | '#' | '\\' if place.is_host => place.in_path = true,
            '.' => place.is_host |= before.is_some_and(is_word_char),
            c if c.is_whitespace() || scan::ends_url(c) => place = Place::default(),
            _ => {}
        }
        before = Some(first);
        at += first.len_utf8();
    }
    edits
}

/// The start of the first word at or after `at`, where a word begins, that may have a marker or scheme.
fn next_with_markers(text: &str, at: usize) -> Option<usize> {
    let word = WITH_MARKERS.next(text, at)?;
    // A scheme can have one space before its separator: `hxxp ://`.
    let separated = text.get(word.start..).is_some_and(|rest| rest.starts_with(['[', ':']));
    let before = text.get(at..word.start).and_then(|skipped| skipped.strip_suffix(' ')).filter(|_| separated);
    let start = before.map(|before| before.rfind(|c: char| c.is_ascii_whitespace()).map_or(at, |blank| at + blank + 1));
    Some(start.unwrap_or(word.start))
}

/// The length of a dot behind one or two backslashes or a caret within a name; 0 if there is none.
fn escaped_dot(text: &str, before: Option<char>) -> usize {
    let escape = if text.starts_with("\\\\.") { 2 } else { 1 };
    let mut rest = text.chars().skip(escape);
    let within = rest.next() == Some('.') && before.is_none_or(is_word_char) && rest.next().is_some_and(is_word_char);
    if within { escape + 1 } else { 0 }
}

/// Whether a dot of another script is one in prose: between letters of such a script, or, full-width, within a Latin name.
fn is_dot(dot: char, before: Option<char>, next: Option<char>) -> bool {
    let (Some(before), Some(next)) = (before, next) else { return false };
    let latin = |c: char| c.is_ascii_alphanumeric() || folded(c).is_some();
    script::is_unspaced(before) && script::is_unspaced(next)
        || matches!(dot, '\u{ff0e}' | '\u{2024}') && latin(before) && latin(next)
}

/// The scheme at the start of the text, and the length of scheme and separator.
fn scheme_at(text: &str) -> Option<(&'static str, usize)> {
    if !text.starts_with(['h', 'H', 'm', 'M', 'f', 'F', 't', 'T']) {
        return None;
    }
    // The separator has a colon, plain or full-width.
    if !text.bytes().take(FARTHEST_COLON).any(|byte| matches!(byte, b':' | 0xef)) {
        return None;
    }
    let (length, scheme) =
        SCHEMES.iter().find_map(|(written, meant)| scheme_length(text, written).map(|length| (length, *meant)))?;
    let rest = text.get(length..)?;
    let rest_trimmed = rest.strip_prefix(' ').filter(|rest| rest.starts_with(['[', ':'])).unwrap_or(rest);
    let (slashes, separator) = separator(rest_trimmed)?;
    let tail = rest_trimmed.get(separator..)?;
    if slashes < 2 && !begins_with_host(tail) {
        return None;
    }
    Some((scheme, length + rest.len() - rest_trimmed.len() + separator + gap(tail)))
}

/// The length of a scheme, ignoring case and brackets within it: `hxxp[s]`.
fn scheme_length(text: &str, scheme: &str) -> Option<usize> {
    let mut at = 0;
    for (number, wanted) in scheme.chars().enumerate() {
        let rest = text.get(at..)?;
        let brackets = if number == 0 { 0 } else { rest.len() - rest.trim_start_matches(is_bracket).len() };
        let c = rest.get(brackets..)?.chars().next().filter(|c| c.eq_ignore_ascii_case(&wanted) && brackets <= 2)?;
        at += brackets + c.len_utf8();
    }
    Some(at)
}

/// The number of slashes (two at most) of what separates scheme and host, in any mix of brackets, and its length.
fn separator(text: &str) -> Option<(usize, usize)> {
    let (mut colon, mut slashes, mut open, mut end) = (false, 0, 0, 0);
    for (at, c) in text.char_indices().take(16) {
        match c {
            c if OPENING.contains(&c) && slashes < 2 => open += 1,
            c if CLOSING.contains(&c) && (!colon || open > 0) => {
                open -= i32::from(open > 0);
                end = at + 1;
            }
            ':' | '\u{ff1a}' if !colon => {
                colon = true;
                end = at + c.len_utf8();
            }
            '/' | '\\' | '\u{ff0f}' if colon && slashes < 2 => {
                slashes += 1;
                end = at + c.len_utf8();
            }
            _ => break,
        }
    }
    colon.then_some((slashes, end))
}

/// Whether a text begins with a name that somebody can hold, or four numbers: what follows a scheme without two slashes.
fn begins_with_host(text: &str) -> bool {
    let ends = |c: &char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | ':' | '\u{ff1a}' | '"' | '<' | '>' | '\\');
    let host: String = scan::chars_after(text, 0).take(300).take_while(|c| !ends(c)).collect();
    let host = host.replace(is_bracket, "").replace("dot", ".").replace("..", ".");
    let host = host.trim_end_matches(['.', ',', ';', '\'']);
    address::is_ipv4(host) || domain::known(host).is_some()
}

fn is_bracket(c: char) -> bool {
    OPENING.contains(&c) || CLOSING.contains(&c)
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

/// The marker at the start of the text: what it stands for, and its length. `before` is the character before it.
fn marker_at(text: &str, before: Option<char>) -> Option<(&'static str, usize)> {
    let first = text.chars().next()?;
    if first == '<' {
        return angle_at(text, before);
    }
    if first != '.' && !is_bracket(first) {
        return None;
    }
    if first == '.' && !text.get(1..).is_some_and(|rest| rest.starts_with(is_bracket)) {
        return None;
    }
    // All brackets are one byte long. More than three in a row are no marker.
    let open = text.chars().take(4).take_while(|c| is_bracket(*c)).count();
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
    let close = closing.max(if space_after == 0 { reversed_brackets(text, tail, before) } else { 0 });
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
fn reversed_brackets(text: &str, tail: &str, before: Option<char>) -> usize {
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

/// Replaces words for dots in a single indicator that has no real dot (`example-dot-com`, `example dot com`), and takes
/// away the spaces around dots.
pub(super) fn refang_dot_words(text: &str) -> String {
    // Only in the host: in a path such words are the path's own.
    let begin = text.find("://").map_or(0, |at| at + 3);
    let end = text.get(begin..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(text.len(), |at| begin + at);
    let (host, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    if text.contains('.') {
        return host.replace(" . ", ".") + rest;
    }
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
    let mut path = path.to_owned();
    for marker in PATH_MARKERS {
        path = path.replace(marker, &format!("[{marker}]"));
    }
    let host = if scheme.is_none() && host.contains(':') { host.replace(':', "[:]") } else { host.replace('.', "[.]") };
    match scheme {
        Some(scheme) => format!("{}://{host}{path}", scheme.replacen("tt", "xx", 1).replacen("ftp", "fxp", 1)),
        None => format!("{host}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Texts of pieces that markers, schemes and prose are made of.
    fn any_text() -> impl Strategy<Value = String> {
        let pieces = " | | |\n|a|word|evil|com|.|[.]| [.] |(dot)|[dot|].|{|}|<dot>|\\.|^.|\\|hxxp|hxxps|HTTP|ftp|meow|:|\
             ://| ://|[://]|/|?|#|,|'|(see|1|10.0.0.1|é|中|。|．|：|１|–|\u{a0}|\u{2010}|[at]|@|[1]|end.";
        let piece = prop::sample::select(pieces.split('|').collect::<Vec<_>>());
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn words_that_are_passed_over_have_no_markers(text in any_text(), value: bool) {
            let all = marker_edits(&text, value, |_, at| Some(at));
            prop_assert_eq!(marker_edits(&text, value, next_with_markers), all);
        }
    }

    #[test]
    fn every_defang_marker_is_removed() {
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
