//! What can be a credential, wherever it was written.

/// Whether a credential, trimmed, can be one: a header or an address must be able to hold it.
pub(super) fn check(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.chars().any(char::is_control) { Err("must be one line of text") } else { Ok(()) }
}
