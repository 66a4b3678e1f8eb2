//! How resources may be named.

/// Lower-case letters, digits, `-`, `_`; at most 63 characters. `what` is named in the error: `source`.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if !name.is_empty() && name.len() <= 63 && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(format!("a {what}'s name is 1 to 63 lower-case letters, digits, - or _"))
    }
}
