//! Undoes the escapes of what a text was wrapped in (JSON, HTML, Markdown) before anything is read.

use memchr::memchr2;

use super::span_map::Edit;

/// The printable ASCII characters in order.
const PRINTABLE: &str =
    " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~";
const ENTITIES: [(&str, &str); 10] = [
    ("&amp;", "&"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&quot;", "\""),
    ("&apos;", "'"),
    ("&nbsp;", " "),
    ("&sol;", "/"),
    ("&colon;", ":"),
    ("&period;", "."),
    ("&lowbar;", "_"),
];

/// A printable ASCII character as a static text.
pub(super) fn printable(code: u32) -> Option<&'static str> {
    let at = usize::try_from(code.checked_sub(0x20)?).ok()?;
    PRINTABLE.get(at..=at)
}

/// Which escapes a text has, by what else it holds.
#[derive(Clone, Copy)]
struct Escapes {
    /// The text is a single value, in which a backslash can be its own.
    value: bool,
    /// `\/` stands for a slash.
    slashes: bool,
    /// The text is JSON, in which a backslash is doubled and `\n` ends a line.
    json: bool,
}

/// The edits that undo every escape; `value`: the text is a single value rather than prose.
pub(super) fn edits(text: &str, value: bool) -> Vec<Edit> {
    let slashes = !value || text.contains(":\\/\\/");
    let json = !value && (text.contains("\\\"") || text.contains("\":"));
    let escapes = Escapes { value, slashes, json };
    let mut edits = Vec::new();
    let mut at = 0;
    while let Some(found) = text.as_bytes().get(at..).and_then(|rest| memchr2(b'\\', b'&', rest)) {
        let start = at + found;
        at = start + 1;
        if let Some((meant, length)) = text.get(start..).and_then(|rest| escape_at(rest, escapes)) {
            at = start + length;
            edits.push((start..at, meant));
        }
    }
    edits
}

fn escape_at(text: &str, escapes: Escapes) -> Option<(&'static str, usize)> {
    if text.starts_with('&') {
        return entity_at(text);
    }
    let code = |range: std::ops::Range<usize>| {
        let end = range.end;
        let digits = text.get(range).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        Some((printable(u32::from_str_radix(digits, 16).ok()?)?, end))
    };
    let next = *text.as_bytes().get(1)?;
    let itself = || printable(next.into()).map(|meant| (meant, 2));
    match next {
        b'u' => code(2..6),
        b'x' if !escapes.value => code(2..4),
        b'/' if escapes.slashes => itself(),
        b'"' | b'[' | b']' | b'(' | b')' | b'{' | b'}' | b':' => itself(),
        b'\'' | b'_' | b'*' | b'~' | b'&' | b'=' | b'#' | b'?' | b'+' | b'@' | b'`' | b'|' if !escapes.value => {
            itself()
        }
        b'n' | b'r' | b't' if escapes.json => Some(("\n", 2)),
        b'\\' if escapes.json => itself(),
        _ => None,
    }
}

fn entity_at(text: &str) -> Option<(&'static str, usize)> {
    if let Some((name, meant)) = ENTITIES.iter().find(|(name, _)| text.starts_with(name)) {
        return Some((meant, name.len()));
    }
    let number = text.strip_prefix("&#")?;
    let number = number.get(..number.bytes().take(6).position(|byte| byte == b';')?)?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    Some((printable(code.ok()?)?, number.len() + 3))
}
