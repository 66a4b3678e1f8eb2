//! Finds candidates for indicators in a refanged text, and describes what surrounds them. `extract.rs` decides.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// What a candidate looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A URL with a supported scheme.
    Url,
    /// A URL whose scheme and slashes are percent-encoded.
    EncodedUrl,
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
const NOT_IN_URL: &str = r#"<>"`{}|^“”„‘’«»「」『』【】（）《》，；、"#;

static CANDIDATE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let url = format!(r"[^\s\x00-\x1f{NOT_IN_URL}]");
    let word = r"[\p{L}\p{M}\p{N}_]";
    let pattern = format!(
        r"(?x)
        (?P<url>(?i:https?://|\bftp://){url}+)
        |(?P<encoded>(?i:https?|ftp)%3[Aa]%2[Ff]%2[Ff]{url}+)
        |(?P<bracketed>\[[0-9A-Fa-f:]*:[0-9A-Fa-f:.]+\](?::[0-9]{{1,5}})?)
        |(?P<ipv6>[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)
        |(?P<email>[\w.+-]+@[\w.-]+\.\w+)
        |(?P<name>{word}(?:(?:{word}|[.-])*{word})?(?::[0-9]{{1,5}})?)
        "
    );
    Regex::new(&pattern).ok()
});

/// The next candidate at or after a byte position.
pub(super) fn next_candidate(text: &str, at: usize) -> Option<Candidate> {
    let at = (at..text.len()).find(|at| text.is_char_boundary(*at))?;
    let captures = CANDIDATE.as_ref()?.captures_at(text, at)?;
    let kinds = [
        ("url", Kind::Url),
        ("encoded", Kind::EncodedUrl),
        ("bracketed", Kind::Name),
        ("ipv6", Kind::Ipv6),
        ("email", Kind::Email),
        ("name", Kind::Name),
    ];
    let found =
        |(group, kind): (&str, Kind)| captures.name(group).map(|found| Candidate { kind, range: found.range() });
    kinds.into_iter().find_map(found)
}

/// The end of the path that begins at `at`; `at` itself if none does.
pub(super) fn path_end(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    if !rest.starts_with('/') {
        return at;
    }
    let end = |c: char| c.is_whitespace() || c.is_control() || NOT_IN_URL.contains(c);
    at + rest.find(end).unwrap_or(rest.len())
}

fn chars_before(text: &str, at: usize) -> impl Iterator<Item = char> {
    text.get(..at).unwrap_or_default().chars().rev()
}

fn chars_after(text: &str, at: usize) -> impl Iterator<Item = char> {
    text.get(at..).unwrap_or_default().chars()
}

/// Whether a word ends right before `at`.
pub(super) fn follows_word(text: &str, at: usize) -> bool {
    chars_before(text, at).next().is_some_and(char::is_alphanumeric)
}

/// Whether a word continues at `at`.
pub(super) fn continues_word(text: &str, at: usize) -> bool {
    chars_after(text, at).next().is_some_and(|c| c.is_alphanumeric() || c == ':' || c == '_')
}

/// Whether a dot and a word follow at `at`.
pub(super) fn continues_after_dot(text: &str, at: usize) -> bool {
    let mut rest = chars_after(text, at);
    rest.next() == Some('.') && rest.next().is_some_and(char::is_alphanumeric)
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

/// The length of a URL in prose, without the punctuation that follows it and without a second URL.
pub(super) fn url_length(text: &str, range: Range<usize>) -> usize {
    let mut url = text.get(range.clone()).unwrap_or_default();
    let first = chars_before(text, range.start).next();
    if first == Some('\'') {
        url = url.split('\'').next().unwrap_or_default();
    }
    for second in [",http://", ",https://", ";http://", ";https://"] {
        url = url.split(second).next().unwrap_or_default();
    }
    // `*url*` and `_url_` are emphasis.
    let emphasis = first.filter(|c| matches!(c, '*' | '_'));
    trim_url(cut_host(url), emphasis).len()
}

/// Cuts a URL at punctuation that no host contains, even if the text continues without a space.
fn cut_host(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let rest = url.get(start..).unwrap_or_default();
    let host_end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let host = rest.get(..host_end).unwrap_or_default();
    let user = host.rfind('@').map_or(0, |at| at + 1);
    let punctuation = host.get(user..).and_then(|host| host.find([',', ';', '\'', '(', ')', '*', '!', '=', '&']));
    // The rest must be a host with a dot: `http://192,0,2,1` is not the address 192 in short form.
    let cut = punctuation
        .and_then(|at| url.get(..start + user + at))
        .filter(|cut| cut.get(start..).is_some_and(|host| host.contains('.')));
    cut.unwrap_or(url)
}

/// The URL without trailing punctuation; a closing bracket stays if it was opened.
fn trim_url(mut url: &str, emphasis: Option<char>) -> &str {
    // Prose closes few brackets at once; a limit keeps texts made to be slow from being so.
    for _ in 0..8 {
        let before = url;
        url = url.trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', '"', '…']);
        url = emphasis.map_or(url, |mark| url.trim_end_matches(mark));
        for (open, close) in [('(', ')'), ('[', ']')] {
            if url.ends_with(close) && url.matches(open).count() < url.matches(close).count() {
                url = url.strip_suffix(close).unwrap_or(url);
            }
        }
        if url == before {
            break;
        }
    }
    url
}
