//! Finds candidates for indicators in a refanged text, and describes what surrounds them. `extract.rs` decides.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::prefilter::{Prefilter, Word};
use super::script;

/// What a candidate looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A supported scheme and `://`: the range ends where the host begins.
    Url,
    /// The same, percent-encoded.
    EncodedUrl,
    /// Another scheme and `://`.
    OtherScheme,
    /// A slash or backslash with what can begin a path before it: `/`, `~/`, `../`, `C:\`.
    Path,
    /// Hexadecimal digits and at least two colons.
    Ipv6,
    /// An e-mail address.
    Email,
    /// A word, perhaps dotted and with a port.
    Name,
}

/// A piece of text that can be an indicator.
pub(super) struct Candidate {
    pub(super) kind: Kind,
    pub(super) range: Range<usize>,
}

/// Characters that end a URL in free text, even where the URL standard allows them.
const NOT_IN_URL: &str = r#"<>"`{}|^“”„‘’«»‹›—・"#;

/// Whether a character ends a URL in free text: white space, quotes, and the punctuation of East Asian scripts.
pub(super) fn ends_url(c: char) -> bool {
    if c.is_ascii_alphanumeric() {
        return false;
    }
    c.is_whitespace()
        || c.is_control()
        || NOT_IN_URL.contains(c)
        || matches!(u32::from(c),
            0x3000..=0x3004 | 0x3008..=0x3030 | 0xff01..=0xff0f | 0xff1a..=0xff20 | 0xff3b..=0xff40 | 0xff5b..=0xff65)
}

// What the search matches must be consumed, or be of limited length: otherwise a text could be searched again from each place.
static CANDIDATE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let word = r"[\p{L}\p{M}\p{N}_]";
    let within = r"[\p{L}\p{M}\p{N}_.\x{200c}\x{200d}\x{fe0f}\x{1f3fb}-\x{1f3ff}\p{Extended_Pictographic}-]";
    let emoji = r"[\p{Extended_Pictographic}\x{200d}\x{fe0f}\x{1f3fb}-\x{1f3ff}]";
    let pattern = format!(
        r"(?x)
        (?i:https?|ftp)://
        |(?i:https?|ftp)%3[Aa]%2[Ff]%2[Ff]
        |[A-Za-z][A-Za-z0-9+.-]{{1,20}}://
        |(?:~[A-Za-z0-9_]{{0,32}}|\.{{1,2}}|[A-Za-z]:|%[A-Za-z_]{{1,32}}%)?[/\\]
        |\[[0-9A-Fa-f:]{{0,40}}:[0-9A-Fa-f:.]{{1,40}}\](?::[0-9]{{1,5}})?
        |[0-9A-Fa-f]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*
        |[A-Za-z0-9_.+-]{{1,64}}@(?:\[[0-9.]{{7,15}}\]|[\w.-]+\.\w+)
        |(?:{emoji}+[.-])?{word}(?:{within}*{word})?(?::[0-9]{{1,5}})?
        "
    );
    Regex::new(&pattern).ok()
});

/// Every indicator has one of these bytes, is a hash, or is not in ASCII. A name has its dot within, and so have addresses.
const WITH_INDICATORS: Prefilter = Prefilter::new(br"/\@%", b".:", SHORTEST_HASH - 1);
/// The digits of an MD5.
const SHORTEST_HASH: usize = 32;

#[cfg(test)]
thread_local! {
    /// How many characters were looked at, so that a test can tell how the work grows with the length of a text.
    pub(super) static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts in tests; otherwise nothing.
pub(super) fn look_at(_characters: usize) {
    #[cfg(test)]
    LOOKED_AT.set(LOOKED_AT.get() + _characters);
}

/// The next word at or after a byte position that may have an indicator. In others, no candidate is one.
pub(super) fn next_word(text: &str, at: usize) -> Option<Word> {
    let word = WITH_INDICATORS.next(text, at);
    look_at(word.map_or(text.len(), |word| word.seen) - at);
    word
}

/// The next candidate at or after a byte position.
pub(super) fn next_candidate(text: &str, at: usize) -> Option<Candidate> {
    let at = (at..text.len()).find(|at| text.is_char_boundary(*at))?;
    let found = CANDIDATE.as_ref()?.find_at(text, at)?;
    look_at(found.end() - at);
    Some(Candidate { kind: kind_of(found.as_str()), range: found.range() })
}

/// Which of the alternatives matched. Capture groups would say so as well, and take far longer.
fn kind_of(found: &str) -> Kind {
    match found {
        _ if found.ends_with("://") => {
            let supported =
                ["http", "https", "ftp"].iter().any(|scheme| found[..found.len() - 3].eq_ignore_ascii_case(scheme));
            if supported { Kind::Url } else { Kind::OtherScheme }
        }
        _ if found.ends_with(['/', '\\']) => Kind::Path,
        _ if found.ends_with("%2F") || found.ends_with("%2f") => Kind::EncodedUrl,
        _ if found.contains('@') => Kind::Email,
        _ if found.starts_with('[') => Kind::Name,
        _ if found.matches(':').nth(1).is_some() => Kind::Ipv6,
        _ => Kind::Name,
    }
}

/// The end of a URL in prose that begins at `start` and whose host begins at `host`; or, where `host` is `None`, whose path
/// begins at `start`. Looks at each character once.
pub(super) fn url_end(text: &str, start: usize, host: Option<usize>) -> usize {
    let quoted = chars_before(text, start).next().filter(|c| matches!(c, '\'' | '*' | '_' | '~'));
    let from = host.unwrap_or(start);
    let rest = text.get(from..).unwrap_or_default();
    let (mut in_host, mut has_dot) = (host.is_some(), false);
    let (mut round, mut square) = (0, 0);
    let mut foreign = false;
    let mut before = '/';
    let mut end = rest.len();
    for (at, c) in rest.char_indices() {
        look_at(1);
        let after = || rest.get(at + c.len_utf8()..).unwrap_or_default();
        match c {
            '/' | '?' | '#' | '\\' => in_host = false,
            '(' => round += 1,
            ')' => round -= 1,
            '[' => square += 1,
            ']' => square -= 1,
            _ => {}
        }
        let second = matches!(c, ',' | ';') && ["http://", "https://"].iter().any(|scheme| after().starts_with(scheme));
        let tag = c == '[' && after().starts_with('/');
        let stops = ends_url(c) || round < 0 || square < 0 || second || tag || c == '\'' && quoted == Some(c);
        let stops = stops
            || if in_host {
                ends_host(c) && has_dot && !holds_user(after())
            } else {
                matches!(u32::from(c), 0x2600..=0x27bf | 0x1_f000..=0x1_faff)
            };
        // A host in such a script, or a path that goes on behind a word in it, is no prose.
        let glued = script::is_unspaced(c)
            && !foreign
            && (before.is_ascii_alphanumeric() || !in_host && !script::is_unspaced(before) && !continues(after()));
        if stops || glued {
            end = at;
            break;
        }
        has_dot |= c == '.';
        foreign |= in_host && script::is_unspaced(c);
        before = c;
    }
    let url = rest.get(..end).unwrap_or_default();
    // `*url*` and `_url_` are emphasis.
    let emphasis = quoted.filter(|c| *c != '\'');
    let mark = |c: char| ".,;:!?'\"…\\".contains(c) || emphasis == Some(c);
    from + url.trim_end_matches(mark).len()
}

/// Whether a character is punctuation that no host contains.
fn ends_host(c: char) -> bool {
    matches!(c, ',' | ';' | '\'' | '(' | ')' | '*' | '!' | '=' | '&')
}

/// Whether a user and password go on in the rest of a URL.
fn holds_user(rest: &str) -> bool {
    chars_after(rest, 0)
        .take(256)
        .take_while(|c| !ends_url(*c) && !matches!(c, '/' | '?' | '#' | '\\'))
        .any(|c| c == '@')
}

/// Whether a path goes on behind the rest of a word in a script without spaces: `/路径/a.php`.
fn continues(rest: &str) -> bool {
    let mut rest = chars_after(rest, 0).take(64).skip_while(|c| script::is_unspaced(*c));
    rest.next().is_some_and(|c| "/?=.&-_%".contains(c)) && rest.next().is_some_and(|c| c.is_ascii_alphanumeric())
}

/// The end of the path of a file that goes on at `at`.
pub(super) fn file_path_end(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    let ends = |c: char| ends_url(c) || ",;:'()[]=?".contains(c);
    let length = rest.find(ends).unwrap_or(rest.len());
    look_at(length);
    let (path, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
    let scheme = ["https", "http"].into_iter().find_map(|scheme| path.strip_suffix(scheme));
    at + scheme.filter(|_| after.starts_with("://")).unwrap_or(path).len()
}

pub(super) fn chars_before(text: &str, at: usize) -> impl Iterator<Item = char> {
    text.get(..at).unwrap_or_default().chars().rev().inspect(|_| look_at(1))
}

pub(super) fn chars_after(text: &str, at: usize) -> impl Iterator<Item = char> {
    text.get(at..).unwrap_or_default().chars().inspect(|_| look_at(1))
}

/// Whether a word ends right before `at`.
pub(super) fn follows_word(text: &str, at: usize) -> bool {
    chars_before(text, at).next().is_some_and(script::is_word)
}

/// Whether a word continues at `at`.
pub(super) fn continues_word(text: &str, at: usize) -> bool {
    chars_after(text, at).next().is_some_and(|c| script::is_word(c) || c == ':' || c == '_')
}

/// Whether a name goes on at `at`.
pub(super) fn continues_name(text: &str, at: usize) -> bool {
    chars_after(text, at).next().is_some_and(|c| script::is_word(c) || c == '-' || c == '_')
}

/// Whether a dot and a word follow at `at`.
pub(super) fn continues_after_dot(text: &str, at: usize) -> bool {
    let mut rest = chars_after(text, at);
    rest.next() == Some('.') && rest.next().is_some_and(script::is_word)
}

/// Whether `://` ends right before `at`: the host of an unsupported scheme can be an indicator.
pub(super) fn follows_scheme(text: &str, at: usize) -> bool {
    text.get(..at).is_some_and(|before| before.ends_with("://"))
}

/// The start of a scheme at the end of a name with `://` after it, where a URL follows a word directly: `seehttp://…`.
pub(super) fn glued_scheme(text: &str, name: &Range<usize>) -> Option<usize> {
    let glued = text.get(name.end..).is_some_and(|rest| rest.starts_with("://"));
    let word = text.get(name.clone()).filter(|_| glued)?;
    let ends = |scheme: &&str| {
        let tail = word.len().checked_sub(scheme.len()).and_then(|start| word.get(start..));
        tail.is_some_and(|tail| tail.eq_ignore_ascii_case(scheme))
    };
    let scheme = ["https", "http"].into_iter().find(ends)?;
    (word.len() > scheme.len()).then_some(name.end - scheme.len())
}

/// Whether a name is neither part of a path (`C:\dir\name`, `./name`) nor of code (`name()`, `name="`).
pub(super) fn stands_alone(text: &str, range: &Range<usize>) -> bool {
    let mut rest = chars_before(text, range.start);
    let (last, last_but_one) = (rest.next(), rest.next());
    let in_path = match last {
        Some('\\') => last_but_one != Some('\\'),
        // `this/evil.example` is a list of two; `/evil.example` and `./evil.example` are files.
        Some('/') => last_but_one.is_none_or(|c| c != '/' && !c.is_alphanumeric()),
        _ => false,
    };
    let mut rest = chars_after(text, range.end);
    let (first, second) = (rest.next(), rest.next());
    let code = match first {
        Some('(') => second.is_none_or(|c| matches!(c, ')' | '"' | '\'')),
        Some('=') => second.is_some_and(|c| matches!(c, '"' | '\'')),
        _ => false,
    };
    !in_path && !code
}

/// The name without the hexadecimal digits of a percent code before it: `%2F`, or `%252F` if encoded twice.
pub(super) fn without_percent_code(text: &str, range: Range<usize>) -> Range<usize> {
    if chars_before(text, range.start).next() != Some('%') {
        return range;
    }
    let name = text.get(range.clone()).unwrap_or_default();
    let name = name.strip_prefix("25").unwrap_or(name);
    let hexadecimal = name.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let rest = if hexadecimal { name.get(2..).unwrap_or(name) } else { name };
    if rest.starts_with(char::is_alphanumeric) { range.end - rest.len()..range.end } else { range }
}

/// The length of `/tcp` or `/udp` behind a port.
pub(super) fn protocol_length(text: &str, at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let named = |protocol: &&&str| rest.get(..protocol.len()).is_some_and(|head| head.eq_ignore_ascii_case(protocol));
    let length = ["/tcp", "/udp", "/sctp"].iter().find(named)?.len();
    let ends = |c: char| !script::is_word(c) && !matches!(c, '/' | '_' | '-' | '?' | '.');
    chars_after(text, at + length).next().is_none_or(ends).then_some(length)
}

/// The length of `/` and a prefix length that nothing continues.
pub(super) fn prefix_length(text: &str, at: usize) -> Option<usize> {
    let mut rest = chars_after(text, at);
    let slash = rest.next() == Some('/');
    let digits = rest.take(4).take_while(char::is_ascii_digit).count();
    let mut rest = chars_after(text, at + 1 + digits);
    let ends = match rest.next() {
        Some('.') => !rest.next().is_some_and(script::is_word),
        Some(c) => !script::is_word(c) && !matches!(c, '/' | '_' | '-' | '?' | '#' | '=' | '&' | '%'),
        None => true,
    };
    (slash && (1..=3).contains(&digits) && ends).then_some(1 + digits)
}

/// Whether a slash and the name of a product end right before `at`: what follows is its version, as in `Chrome/120.0.0.0`.
pub(super) fn follows_product(text: &str, at: usize) -> bool {
    let mut before = chars_before(text, at);
    if before.next() != Some('/') {
        return false;
    }
    let word: String = before.take(64).take_while(|c| c.is_alphanumeric() || "_.+-".contains(*c)).collect();
    let protocol = ["pct", "pdu", "pi", "pmci", "4vpi"].iter().any(|protocol| word.eq_ignore_ascii_case(protocol));
    word.contains(char::is_alphabetic) && !protocol
}
