//! Undoes percent encoding as the most lenient servers do, for rules that must hold whatever the spelling.

use std::ops::Range;

use icu_normalizer::ComposingNormalizerBorrowed;

/// One round of decoding: `%70`, `%u0070`, UTF-8 of more bytes than needed (`%C1%B0`), Latin-1 where it is no UTF-8, and
/// the forms that Unicode calls compatible (full-width letters, accents that stand alone). A backslash becomes a slash.
pub fn decode_percent(text: &str) -> String {
    let bytes = shortest_form(&decode_bytes(text));
    let mut decoded = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        decoded.push_str(chunk.valid());
        decoded.extend(chunk.invalid().iter().copied().map(char::from));
    }
    ComposingNormalizerBorrowed::new_nfkc().normalize(&decoded).replace('\\', "/")
}

fn decode_bytes(text: &str) -> Vec<u8> {
    let code = |digits: Range<usize>| {
        let digits = text.get(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, 16).ok()
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        let wide = matches!(text.as_bytes().get(at + 1), Some(b'u' | b'U'));
        if byte != b'%' {
            bytes.push(byte);
            at += 1;
        } else if let Some(c) = code(at + 2..at + 6).filter(|_| wide).and_then(char::from_u32) {
            bytes.extend(c.to_string().bytes());
            at += 6;
        } else if let Some(code) = code(at + 1..at + 3).and_then(|code| u8::try_from(code).ok()) {
            bytes.push(code);
            at += 3;
        } else {
            bytes.push(byte);
            at += 1;
        }
    }
    bytes
}

/// The bytes with each ASCII character that takes two to four bytes in overlong UTF-8 as its one byte.
fn shortest_form(mut bytes: &[u8]) -> Vec<u8> {
    let mut shortest = Vec::with_capacity(bytes.len());
    while let Some(&first) = bytes.first() {
        let (byte, length) = match bytes {
            [high @ 0xc0..=0xc1, low @ 0x80..=0xbf, ..] => ((high & 1) << 6 | low & 0x3f, 2),
            [0xe0, high @ 0x80..=0x81, low @ 0x80..=0xbf, ..] => ((high & 1) << 6 | low & 0x3f, 3),
            [0xf0, 0x80, high @ 0x80..=0x81, low @ 0x80..=0xbf, ..] => ((high & 1) << 6 | low & 0x3f, 4),
            _ => (first, 1),
        };
        shortest.push(byte);
        bytes = bytes.get(length..).unwrap_or_default();
    }
    shortest
}
