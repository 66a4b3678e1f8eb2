//! File hashes, recognised by their length.

use super::Form;

/// The form of a text of hexadecimal digits, if it has the length of a supported hash.
pub(super) fn form_of(text: &str) -> Option<Form> {
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    match text.len() {
        32 => Some(Form::Md5),
        40 => Some(Form::Sha1),
        64 => Some(Form::Sha256),
        _ => None,
    }
}

/// The bytes in lower-case hexadecimal digits, which is the normal form of a hash.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Reverses [`hex`] for a SHA-256; `None` for any other text.
pub fn from_hex(text: &str) -> Option<[u8; 32]> {
    let half = |digit: &u8| char::from(*digit).to_digit(16).and_then(|half| u8::try_from(half).ok());
    let mut bytes = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = half(digits.first()?)? << 4 | half(digits.get(1)?)?;
    }
    Some(bytes)
}

/// The name of the unsupported hash that a text looks like.
pub(super) fn unsupported(text: &str) -> Option<&'static str> {
    if is_ssdeep(text) {
        return Some("SSDEEP");
    }
    let body = text.strip_prefix("T1").unwrap_or(text);
    if !body.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    match (text.len(), body.len()) {
        (72, 70) => Some("TLSH"),
        (56, 56) => Some("SHA-224"),
        (70, 70) => Some("TLSH"),
        (96, 96) => Some("SHA-384"),
        (128, 128) => Some("SHA-512"),
        _ => None,
    }
}

/// Why a text is no supported hash, with the lengths of those that are.
pub(super) fn length_message(text: &str) -> String {
    let lengths = "MD5 has 32, SHA-1 40, SHA-256 64";
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        format!("has {} hexadecimal digits and is no file hash that is looked up: {lengths}", text.len())
    } else {
        format!("is no file hash: {lengths} hexadecimal digits")
    }
}

/// `blocksize:hash:hash`.
fn is_ssdeep(text: &str) -> bool {
    let mut parts = text.splitn(3, ':');
    let (Some(size), Some(one), Some(two)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let part = |part: &str| {
        part.len() >= 3 && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
    };
    !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit()) && part(one) && part(two)
}

/// The hash that a file is named by: `<hash>.exe`.
pub(super) fn in_file_name(text: &str) -> Option<&str> {
    let (hash, extension) = text.split_once('.')?;
    let letters = !extension.is_empty()
        && extension.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_');
    (letters && form_of(hash).is_some()).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_written_in_hexadecimal_and_read_again() {
        let mut bytes = [0; 32];
        (0_u8..).zip(&mut bytes).for_each(|(number, byte)| *byte = number.wrapping_mul(37));
        let text = hex(&bytes);
        assert!(text.starts_with("00254a6f94b9de"), "{text}");
        assert_eq!(from_hex(&text), Some(bytes));
        assert_eq!(from_hex(&text.to_uppercase()), Some(bytes));
        for wrong in ["", "00", &text[1..], &format!("{text}0"), &text.replace('f', "g"), &"é".repeat(32)] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
    }
}
