//! Undoes the marks by which analysts make indicators harmless, and makes them.
//!
//! Only marks are undone: a text without any comes back as it is, but for invisible characters.

/// Characters that are no part of any indicator and that copying brings along.
const INVISIBLE: [char; 8] =
    ['\u{200b}', '\u{200c}', '\u{200d}', '\u{2060}', '\u{feff}', '\u{00ad}', '\u{200e}', '\u{200f}'];
/// Dots of other scripts that a resolver takes for a dot (UTS 46).
const DOTS: [char; 4] = ['\u{ff0e}', '\u{3002}', '\u{ff61}', '\u{2024}'];
/// What stands for `http` in a defanged scheme, longest first, in lower case.
const SCHEMES: [(&str, &str); 18] = [
    ("hxxps", "https"),
    ("hxxp", "http"),
    ("hxtps", "https"),
    ("hxtp", "http"),
    ("htxps", "https"),
    ("htxp", "http"),
    ("httpxs", "https"),
    ("httpx", "http"),
    ("h**ps", "https"),
    ("h**p", "http"),
    ("h__ps", "https"),
    ("h__p", "http"),
    ("meows", "https"),
    ("meow", "http"),
    ("https", "https"),
    ("http", "http"),
    ("fxps", "ftps"),
    ("fxp", "ftp"),
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
    [("://", "://"), ("//", "//"), (":", ":"), ("/", "/"), ("at", "@"), ("@", "@"), (",", "."), ("www", "www")];
const OPENING: [char; 3] = ['[', '(', '{'];
const CLOSING: [char; 3] = [']', ')', '}'];

/// The text with every mark undone.
pub fn refang(text: &str) -> String {
    let visible: String =
        text.chars().filter(|c| !INVISIBLE.contains(c)).map(|c| if DOTS.contains(&c) { '.' } else { c }).collect();
    let schemes = undo_schemes(&visible);
    let marks = undo_marks(&schemes);
    undo_escapes(&marks)
}

/// Defanged schemes and separators, wherever a scheme can begin.
fn undo_schemes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(first) = rest.chars().next() {
        let begins = before.is_none_or(|c: char| !c.is_alphanumeric());
        if let Some((scheme, length)) = begins.then(|| scheme_at(rest)).flatten() {
            out.push_str(scheme);
            out.push_str("://");
            rest = rest.get(length..).unwrap_or_default();
            before = Some('/');
            continue;
        }
        out.push(first);
        before = Some(first);
        rest = rest.get(first.len_utf8()..).unwrap_or_default();
    }
    out
}

/// The scheme that the text begins with, and how long it and its separator are.
fn scheme_at(text: &str) -> Option<(&'static str, usize)> {
    let first = text.chars().next()?;
    if !first.is_ascii_alphabetic() {
        return None;
    }
    let (length, scheme) =
        SCHEMES.iter().find_map(|(written, meant)| starts(text, written).map(|length| (length, *meant)))?;
    let rest = text.get(length..)?;
    let rest_trimmed = rest.strip_prefix(' ').filter(|rest| rest.starts_with(['[', ':'])).unwrap_or(rest);
    let skipped = rest.len() - rest_trimmed.len();
    let separator = SEPARATORS.iter().find(|separator| rest_trimmed.starts_with(**separator))?;
    Some((scheme, length + skipped + separator.len()))
}

/// How long `prefix` is in `text` if the text begins with it, letter case aside.
fn starts(text: &str, prefix: &str) -> Option<usize> {
    text.get(..prefix.len()).filter(|head| head.eq_ignore_ascii_case(prefix)).map(str::len)
}

/// Marks in brackets, in any mix of brackets.
fn undo_marks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some((meant, length)) = mark_at(rest, out.chars().next_back()) {
            while out.ends_with(' ') && meant == "." {
                out.pop();
            }
            out.push_str(meant);
            rest = rest.get(length..).unwrap_or_default();
            continue;
        }
        out.push(first);
        rest = rest.get(first.len_utf8()..).unwrap_or_default();
    }
    out
}

/// The mark that the text begins with: what it means and how long it is. `before` is the character before it.
fn mark_at(text: &str, before: Option<char>) -> Option<(&'static str, usize)> {
    let open = text.len() - text.trim_start_matches(|c| OPENING.contains(&c) || CLOSING.contains(&c)).len();
    let inner = text.get(open..)?;
    let space = inner.len() - inner.trim_start_matches(' ').len();
    let (meant, word) = word_at(inner.get(space..)?, open > 0)?;
    let after = inner.get(space + word..)?;
    let space_after = after.len() - after.trim_start_matches(' ').len();
    let tail = after.get(space_after..)?;
    let closing = tail.len() - tail.trim_start_matches(CLOSING).len();
    // `www.[example`: a bracket on the wrong side, where none stands before the dot.
    let odd = if open == 0 { tail.len() - tail.trim_start_matches(OPENING).len() } else { 0 };
    let close = closing.max(odd);
    let length = open + space + word + if close > 0 { space_after + close } else { 0 };
    let next = text.get(length..).and_then(|rest| rest.chars().next());
    let between_words = before.is_some_and(is_word) && next.is_some_and(is_word);
    match (open > 0, close > 0) {
        (true, true) if text.starts_with(OPENING) || between_words => Some((meant, skip_space(text, length, meant))),
        // Half a pair of brackets is a mark only within a word, and only around a dot.
        (true, false) if meant == "." && between_words && space == 0 && text.starts_with(OPENING) => {
            Some((meant, length))
        }
        (false, true) if meant == "." && between_words && space == 0 => Some((meant, length)),
        _ => None,
    }
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
fn undo_escapes(text: &str) -> String {
    text.replace("\\.", ".").replace("^.", ".")
}

/// Words for dots in a text that has no real one: `example-dot-com`, `example dot com`. Only for one indicator by itself.
pub(super) fn undo_words(text: &str) -> String {
    if text.contains('.') {
        return text.to_owned();
    }
    let mut out = text.to_owned();
    for word in ["-dot-", "_dot_", " dot ", "-DOT-", "_DOT_", " DOT ", " Dot "] {
        out = out.replace(word, ".");
    }
    out
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
    fn every_mark_is_undone() {
        let table = [
            ("hxxp://evil[.]example[.]com/a", "http://evil.example.com/a"),
            ("hXXps[:]//evil(.)example{.}com", "https://evil.example.com"),
            ("h**p://evil[dot]example(dot)com", "http://evil.example.com"),
            ("meow://example.com", "http://example.com"),
            ("httpx://example.com", "http://example.com"),
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
        for text in
            ["https://example.com/a(b).html", "see (example.com).", "f(x).y is code", "a[0].b", "http is a word"]
        {
            assert_eq!(refang(text), text);
        }
    }

    #[test]
    fn words_for_dots_count_only_where_no_real_dot_stands() {
        assert_eq!(undo_words("example-dot-com"), "example.com");
        assert_eq!(undo_words("evil-dot-proj.appspot.com"), "evil-dot-proj.appspot.com");
    }
}
