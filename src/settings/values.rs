//! Values that are written as texts wherever settings are written: durations with their unit, addresses.

use std::time::Duration;

use url::Url;

use crate::error::Violation;

/// Reads a duration written with its unit.
pub(super) fn parse_duration(text: &str, field: &str) -> Result<Duration, Violation> {
    humantime::parse_duration(text).map_err(|_| {
        Violation::invalid(field, format!("{text:?} is no duration; write it with its unit: 5s, 15m, 24h, 7d"))
    })
}

/// Reads an http or https address without user and password.
pub(super) fn read_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no address ({error}); write https://HOST/"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("must be an http or https address".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "must not hold a user or password: a source's credential has its own field, a proxy takes none".into()
        );
    }
    Ok(url)
}

/// Whether a credential, trimmed, can be one: a header or an address must be able to hold it.
pub(super) fn check_credential(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.chars().any(char::is_control) { Err("must be one line of text") } else { Ok(()) }
}
