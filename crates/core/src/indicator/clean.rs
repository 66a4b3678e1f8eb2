//! Takes off what a value is wrapped in: defang markers, quotes and brackets around it, punctuation after it.

use std::borrow::Cow;

use super::refang::{refang, refang_dot_words};

/// What surrounds an indicator in a text without being part of it.
const SURROUNDING: [(char, char); 8] =
    [('"', '"'), ('\'', '\''), ('`', '`'), ('<', '>'), ('(', ')'), ('{', '}'), ('“', '”'), ('«', '»')];
pub(super) const TRAILING: [char; 6] = [',', ';', '!', '?', '|', '…'];

/// Whether refanging and stripping certainly leave the text as it is: it has the characters of hashes and addresses alone; or it
/// has a dot, and is a name or a URL without brackets, quotes, further colons, or punctuation at its end.
pub(super) fn is_clean(text: &str) -> bool {
    if text.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':')) {
        return true;
    }
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let in_url = |byte: u8| in_name(byte) || matches!(byte, b'/' | b'~' | b'?' | b'=' | b'&' | b'%' | b'+');
    match ["https://", "http://", "ftp://"].into_iter().find_map(|scheme| text.strip_prefix(scheme)) {
        Some(rest) => rest.contains('.') && rest.bytes().all(in_url) && !rest.ends_with(['.', '?']),
        None => text.contains('.') && text.bytes().all(in_name),
    }
}

/// The refanged text without what surrounds it.
pub(super) fn refang_and_strip(text: &str) -> Cow<'_, str> {
    if is_clean(text) { text.into() } else { refang_and_strip_any(text).into() }
}

fn refang_and_strip_any(text: &str) -> String {
    let map = refang(strip_surroundings(text));
    let stripped = strip_surroundings(&map);
    refang_dot_words(&decode_whole(stripped))
}

/// Decodes a URL that is percent-encoded as a whole, once: `https%3A%2F%2F…`.
fn decode_whole(text: &str) -> String {
    let head: String = text.chars().take(14).collect::<String>().to_ascii_lowercase();
    if !["http%3a%2f%2f", "https%3a%2f%2f", "ftp%3a%2f%2f"].iter().any(|scheme| head.starts_with(scheme)) {
        return text.to_owned();
    }
    let decoded =
        ::url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B").replace('&', "%26")).as_bytes())
            .next()
            .map(|(_, value)| value.into_owned());
    decoded.unwrap_or_else(|| text.to_owned())
}

fn strip_surroundings(text: &str) -> &str {
    let mut text = text.trim();
    loop {
        let before = text;
        text = text.trim().trim_end_matches(TRAILING);
        let closed = |rest: &&str| rest.ends_with([')', ']', '}', '>', '"', '\'', '”', '»']);
        text = text.strip_suffix('.').filter(closed).unwrap_or(text);
        for (open, close) in SURROUNDING {
            let inner = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
            if let Some(inner) = inner.filter(|inner| open != '(' || !inner.contains(')')) {
                text = inner;
            }
        }
        // Square brackets are also part of IPv6 hosts and of markers: only a whole pair is removed.
        if let Some(inner) =
            text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|inner| !inner.contains(['[', ']']))
        {
            text = inner;
        }
        if text == before {
            return text;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::refang::{contains_invisible, contains_look_alikes};
    use super::super::wrapping;
    use super::*;

    /// Values of pieces that names, addresses, hashes and URLs are made of.
    pub(in super::super) fn any_value() -> impl Strategy<Value = String> {
        let pieces = "a|b1|www|example|com|co|uk|zip|ck|duckdns|org|0|1|25|256|0x1f|cve-|as|t1|\
             44d88612fea8a8f36de82e1278abb02f|2001|db8|dead|f|.|.|.|-|--|_|:|::|xn--|xn--p1ai|-dot-|http://|\
             https://|ftp://|/|?|=|&|%41|%2e|~|+|A|#|@|é";
        let piece = prop::sample::select(pieces.split('|').collect::<Vec<_>>());
        prop::collection::vec(piece, 1..9).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn a_clean_value_has_nothing_to_take_off(text in any_value()) {
            if is_clean(&text) {
                prop_assert_eq!(refang_and_strip_any(&text), &*text);
                prop_assert!(!contains_invisible(&text) && !contains_look_alikes(&text));
                prop_assert!(wrapping::edits(&text, true).is_empty());
            }
        }
    }
}
