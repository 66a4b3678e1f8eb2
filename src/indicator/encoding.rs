//! Decodes the bytes of a text file: UTF-8, or UTF-16 as Windows programs save it.

use std::borrow::Cow;

/// How much is looked at to tell UTF-16 without a byte-order mark.
const SAMPLE: usize = 512;

/// The text of a file in UTF-8 or UTF-16, with or without a byte-order mark. Bytes that are neither become `�`.
pub fn decode_text(bytes: &[u8]) -> Cow<'_, str> {
    if let Some(rest) = bytes.strip_prefix(b"\xef\xbb\xbf") {
        return String::from_utf8_lossy(rest);
    }
    let marked = |mark: &[u8; 2]| bytes.strip_prefix(mark);
    if let Some(rest) = marked(b"\xff\xfe") {
        return decode_utf16(rest, u16::from_le_bytes).into();
    }
    if let Some(rest) = marked(b"\xfe\xff") {
        return decode_utf16(rest, u16::from_be_bytes).into();
    }
    // Every other byte of ASCII in UTF-16 is zero, and no text in UTF-8 holds a zero.
    let zeros = |odd: usize| bytes.iter().take(SAMPLE).skip(odd).step_by(2).filter(|byte| **byte == 0).count();
    let half = bytes.len().min(SAMPLE) / 2;
    match (zeros(0) * 2 > half, zeros(1) * 2 > half) {
        (false, true) => decode_utf16(bytes, u16::from_le_bytes).into(),
        (true, false) => decode_utf16(bytes, u16::from_be_bytes).into(),
        (true, true) | (false, false) => String::from_utf8_lossy(bytes),
    }
}

fn decode_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
    String::from_utf16_lossy(&units)
}
