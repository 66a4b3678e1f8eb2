//! Decodes the bytes of a text file: UTF-8, or UTF-16 as Windows programs save it.

use std::borrow::Cow;

/// How much is looked at to tell UTF-16 without a byte-order mark.
const SAMPLE: usize = 512;

/// The text of a file in UTF-8 or UTF-16, with or without a byte-order mark. Bytes that are neither become `�`.
pub fn decode_text(bytes: &[u8]) -> Cow<'_, str> {
    match utf16(bytes) {
        Some(unit) => {
            let rest = bytes.strip_prefix(b"\xff\xfe").or_else(|| bytes.strip_prefix(b"\xfe\xff"));
            decode_utf16(rest.unwrap_or(bytes), unit).into()
        }
        None => String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)),
    }
}

/// Whether a text that begins with these bytes is in UTF-16.
pub fn is_utf16(start: &[u8]) -> bool {
    utf16(start).is_some()
}

/// How a text in UTF-16 orders the bytes of a unit; `None`: it is not in UTF-16.
fn utf16(bytes: &[u8]) -> Option<fn([u8; 2]) -> u16> {
    if bytes.starts_with(b"\xff\xfe") {
        return Some(u16::from_le_bytes);
    }
    if bytes.starts_with(b"\xfe\xff") {
        return Some(u16::from_be_bytes);
    }
    // Every other byte of ASCII in UTF-16 is zero, and no text in UTF-8 holds a zero.
    let zeros = |odd: usize| bytes.iter().take(SAMPLE).skip(odd).step_by(2).filter(|byte| **byte == 0).count();
    let half = bytes.len().min(SAMPLE) / 2;
    match (zeros(0) * 2 > half, zeros(1) * 2 > half) {
        (false, true) => Some(u16::from_le_bytes),
        (true, false) => Some(u16::from_be_bytes),
        (true, true) | (false, false) => None,
    }
}

fn decode_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
    String::from_utf16_lossy(&units)
}
