//! Inspects a URL before it leaves: its query and fragment may hold what is meant for one person alone.

use url::Url;

use super::inspect::Patterns;
use crate::indicator::{Host, Indicator, SpecialAddress, addresses, is_internal_name};
use crate::store::{HoldReason, HoldReasonCode};

/// Names of parameters that hold a secret, in lower case without `-` and `_`.
const SECRET_NAMES: [&str; 10] = ["auth", "key", "pwd", "pass", "session", "sid", "jwt", "sig", "code", "otp"];
/// Endings of such names, whatever stands before them: `reset_token`.
const SECRET_ENDINGS: [&str; 7] = ["token", "apikey", "secret", "password", "passwd", "sessionid", "signature"];
/// A word of so many characters looks like a token.
const TOKEN_LENGTH: usize = 16;

/// The reasons to hold a URL.
pub(super) fn inspect_url(url: &Indicator, patterns: &Patterns, internal_suffixes: &[String]) -> Vec<HoldReason> {
    let mut reasons = Vec::new();
    let Ok(parsed) = Url::parse(url.value()) else {
        return vec![reason(HoldReasonCode::Unreadable, "the URL", "cannot be taken apart")];
    };
    for (code, detail) in patterns.find(url.value().as_bytes()) {
        reasons.push(reason(code, "the URL", &detail));
    }
    let fragment = parsed.fragment().unwrap_or_default();
    let in_fragment = url::form_urlencoded::parse(fragment.as_bytes());
    for (number, (name, value)) in parsed.query_pairs().chain(in_fragment).enumerate() {
        // A parameter without a value may be what is never repeated.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '[' | ']');
        let is_shown = name.len() <= 40
            && name.chars().all(is_plain)
            && !is_like_a_token(&name)
            && patterns.find(name.as_bytes()).is_empty();
        let place = if is_shown { format!("parameter {name}") } else { format!("parameter {}", number + 1) };
        // A parameter without value may be one without name.
        let value = if value.is_empty() { name.as_ref() } else { value.as_ref() };
        for (code, detail) in patterns.find(value.as_bytes()) {
            reasons.push(reason(code, &place, &detail));
        }
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        let holds_secret =
            SECRET_NAMES.contains(&plain.as_str()) || SECRET_ENDINGS.iter().any(|ending| plain.ends_with(ending));
        if holds_secret && !value.is_empty() {
            reasons.push(reason(HoldReasonCode::Credential, &place, "a parameter that usually holds a secret"));
        } else if is_like_a_token(value) {
            reasons.push(reason(HoldReasonCode::Credential, &place, "a value that looks like a token"));
        }
        if is_email_address(value) {
            reasons.push(reason(HoldReasonCode::EmailAddress, &place, "an e-mail address"));
        }
        if is_internal(value, internal_suffixes) {
            reasons.push(reason(HoldReasonCode::InternalHost, &place, "an internal host"));
        }
    }
    for segment in parsed.path_segments().into_iter().flatten() {
        let segment = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
        if is_email_address(&segment) {
            reasons.push(reason(HoldReasonCode::EmailAddress, "the path", "an e-mail address"));
        }
        if is_like_a_token(&segment) {
            reasons.push(reason(HoldReasonCode::Credential, "the path", "a segment that looks like a token"));
        }
    }
    reasons.sort_by(|a, b| (a.code, &a.place, &a.detail).cmp(&(b.code, &b.place, &b.detail)));
    reasons.dedup();
    reasons
}

fn reason(code: HoldReasonCode, place: &str, detail: &str) -> HoldReason {
    HoldReason { code, place: place.to_owned(), detail: detail.to_owned() }
}

/// A UUID, or a word of letters and digits mixed that is longer than those of a language.
fn is_like_a_token(value: &str) -> bool {
    let is_long = |word: &str| {
        let count = |what: fn(&u8) -> bool| word.bytes().filter(what).count();
        let is_plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'=' | b'+' | b'~'));
        let is_mixed = count(u8::is_ascii_digit) >= 3 && count(u8::is_ascii_alphabetic) >= 3;
        word.len() >= TOKEN_LENGTH && is_plain && is_mixed
    };
    let words: Vec<_> = value.split(['/', '-', '_', '.']).collect();
    let is_hex = |word: &str| word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_uuid = words.iter().map(|word| word.len()).eq([8, 4, 4, 4, 12]) && words.iter().all(|word| is_hex(word));
    is_uuid || words.iter().any(|word| is_long(word))
}

fn is_email_address(value: &str) -> bool {
    value.split([',', ';', ' ', '<', '>']).any(|word| {
        let Some((user, domain)) = word.rsplit_once('@') else { return false };
        let is_user = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
        !user.is_empty() && user.chars().all(is_user) && domain.contains('.') && Indicator::parse(domain).is_ok()
    })
}

/// Whether a value is an internal host, or a URL at one.
fn is_internal(value: &str, internal_suffixes: &[String]) -> bool {
    let parsed = [value, value.split([':', '/']).next().unwrap_or_default()];
    let hosts = parsed.iter().filter_map(|text| Indicator::parse(text).ok()?.indicator.host());
    let by_address = |host: &Host| addresses(host).into_iter().any(|ip| SpecialAddress::internal(ip).is_some());
    hosts.into_iter().any(|host| {
        by_address(&host)
            || match &host {
                Host::Name(name) => is_internal_name(name, internal_suffixes),
                Host::Ip(_) => false,
            }
    }) || Url::parse(value).ok().and_then(|url| url.host_str().map(|host| is_internal_name(host, internal_suffixes)))
        == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(url: &str) -> Vec<HoldReasonCode> {
        let patterns = Patterns::new(&["falcon".into()], &["example.com".into()]).unwrap();
        let url = Indicator::parse(url).unwrap().indicator;
        let reasons = inspect_url(&url, &patterns, &["corp.example.net".into()]);
        let mut codes: Vec<_> = reasons.iter().map(|reason| reason.code).collect();
        codes.dedup();
        codes
    }

    #[test]
    fn a_url_for_everybody_has_no_reason() {
        for url in [
            "https://evil.example.org/",
            "https://evil.example.org/login?lang=en&page=2",
            "https://evil.example.org/2024/05/a-long-title-of-an-article-about-things.html",
            "http://198.51.100.7/download/setup.exe?version=1.2.3",
        ] {
            assert_eq!(codes(url), [], "{url}");
        }
    }

    #[test]
    fn tokens_credentials_addresses_and_internal_hosts_are_reasons_that_do_not_repeat_the_value() {
        let cases = [
            ("https://evil.example.org/?reset_token=abc", HoldReasonCode::Credential),
            ("https://evil.example.org/?access-token=abc", HoldReasonCode::Credential),
            ("https://evil.example.org/?x=9f86d081884c7d659a2feaa0c55ad015", HoldReasonCode::Credential),
            ("https://evil.example.org/u/9f86d081884c7d659a2feaa0c55ad015", HoldReasonCode::Credential),
            ("https://evil.example.org/?x=550e8400-e29b-41d4-a716-446655440000", HoldReasonCode::Credential),
            ("https://evil.example.org/?to=alice%40example.org", HoldReasonCode::EmailAddress),
            ("https://evil.example.org/?back=http%3A%2F%2Fwiki.corp.example.net%2Fx", HoldReasonCode::InternalHost),
            ("https://evil.example.org/?host=10.1.2.3", HoldReasonCode::InternalHost),
            ("https://evil.example.org/?q=falcon", HoldReasonCode::SensitiveWord),
            ("https://evil.example.org/?q=www.example.com", HoldReasonCode::OwnName),
        ];
        for (url, code) in cases {
            assert!(codes(url).contains(&code), "{url}: {:?}", codes(url));
        }
        let patterns = Patterns::new(&[], &[]).unwrap();
        let token = ["ghp_", "0123456789abcdefghijABCDEFGHIJ012345"].concat();
        for (query, secret) in [("token=s3cr3tvalue", "s3cr3t"), (&token, &token), ("alice%40example.org", "alice")] {
            let url = Indicator::parse(&format!("https://evil.example.org/?{query}")).unwrap().indicator;
            let reasons = inspect_url(&url, &patterns, &[]);
            assert!(!reasons.is_empty() && !format!("{reasons:?}").contains(secret), "{reasons:?}");
        }
    }
}
