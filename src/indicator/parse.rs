//! One indicator as an analyst pastes it: undone, guessed or held to the type that was stated, brought to normal form.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::Form;
use super::Indicator;
use super::IndicatorType;
use super::Parsed;
use super::Refusal;
use super::domain;
use super::hash;
use super::refang::refang;
use super::refang::undo_words;
use super::url;

const LONGEST: usize = 8 * 1024;
/// What surrounds an indicator in a text and is no part of it.
const SURROUNDING: [(char, char); 8] =
    [('"', '"'), ('\'', '\''), ('`', '`'), ('<', '>'), ('(', ')'), ('{', '}'), ('“', '”'), ('«', '»')];
const TRAILING: [char; 6] = [',', ';', '!', '?', '|', '…'];

/// Reads one indicator, guessing its type or held to `wanted`.
pub(super) fn parse(text: &str, wanted: Option<IndicatorType>) -> Result<Parsed, Refusal> {
    if text.len() > LONGEST {
        return Err(Refusal::new(text, "is longer than 8 KiB"));
    }
    let clean = clean(text);
    if clean.is_empty() {
        return Err(Refusal::new(text, "holds nothing: give an IP address, a domain, a URL or a file hash"));
    }
    match wanted {
        None => guess(&clean),
        Some(IndicatorType::Ip) => as_ip(&clean),
        Some(IndicatorType::Domain) => as_domain(&clean, false),
        Some(IndicatorType::Url) => as_url(&clean),
        Some(IndicatorType::File) => as_hash(&clean),
    }
}

/// The text without what surrounds it, marks undone.
pub(super) fn clean(text: &str) -> String {
    let undone = refang(strip(text));
    let stripped = strip(&undone);
    undo_words(&decode_whole(stripped))
}

/// `https%3A%2F%2F…`, encoded as a whole, decoded once.
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

fn strip(text: &str) -> &str {
    let mut text = text.trim();
    loop {
        let before = text;
        text = text.trim().trim_end_matches(TRAILING);
        for (open, close) in SURROUNDING {
            let inner = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
            if let Some(inner) = inner.filter(|inner| open != '(' || !inner.contains(')')) {
                text = inner;
            }
        }
        // Square brackets surround IPv6 addresses, and marks at the end: only a whole pair is taken off.
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

fn guess(text: &str) -> Result<Parsed, Refusal> {
    if has_scheme(text) {
        return as_url(text);
    }
    if let Some(form) = hash::form_of(text) {
        return Ok(parsed(form, text.to_ascii_lowercase(), Vec::new()));
    }
    if let Some(other) = other_kind(text) {
        return Err(other);
    }
    if looks_like_ip(text) {
        return as_ip(text);
    }
    if let Some(at) = text.find(['/', '?']) {
        return without_scheme(text, at);
    }
    as_domain(text, true)
}

fn has_scheme(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    })
}

/// What the text is if it is something that is known and not looked up.
fn other_kind(text: &str) -> Option<Refusal> {
    let refuse = |why: &str| Some(Refusal::new(text, why));
    let upper = text.to_ascii_uppercase();
    if let Some(kind) = hash::unsupported(text) {
        return refuse(&format!(
            "is a hash of the kind {kind}, which is not supported yet: give MD5, SHA-1 or SHA-256"
        ));
    }
    if upper.starts_with("CVE-") {
        return refuse("is a CVE number, which is not looked up yet");
    }
    if upper
        .strip_prefix("AS")
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return refuse("is an AS number, which is not looked up yet");
    }
    if is_network(text) {
        return refuse("is a network: look up single addresses; networks go into lists and never-send rules");
    }
    if text.contains('@') && !text.contains('/') {
        return refuse("is an e-mail address, which is not looked up yet: look up its domain");
    }
    for scheme in ["mailto:", "javascript:", "data:", "file:", "tel:"] {
        if text.to_ascii_lowercase().starts_with(scheme) {
            return refuse(&format!(
                "has the scheme {}; looked up are http, https and ftp",
                scheme.trim_end_matches(':')
            ));
        }
    }
    None
}

fn is_network(text: &str) -> bool {
    text.split_once('/').is_some_and(|(ip, length)| {
        ip.parse::<IpAddr>().is_ok() && length.parse::<u8>().is_ok_and(|length| length <= 128)
    })
}

/// Digits and dots, or hexadecimal digits and colons: meant as an address, right or wrong.
fn looks_like_ip(text: &str) -> bool {
    let (host, _) = split_port(text);
    let digits = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && host.contains('.');
    let hexadecimal = text.bytes().all(|byte| byte.is_ascii_digit()) || host.to_ascii_lowercase().starts_with("0x");
    digits || hexadecimal || text.matches(':').count() >= 2
}

fn as_ip(text: &str) -> Result<Parsed, Refusal> {
    let mut notes = Vec::new();
    let inner = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let bare = match inner {
        Some((ip, rest)) => {
            if let Some(port) = rest.strip_prefix(':').filter(|port| !port.is_empty()) {
                notes.push(format!("port {port} dropped"));
            }
            ip
        }
        None => match split_port(text) {
            (host, Some(port)) if text.matches(':').count() == 1 => {
                notes.push(format!("port {port} dropped"));
                host
            }
            _ => text,
        },
    };
    if bare.contains('%') {
        return Err(Refusal::new(text, "has a zone, which means something on one machine only: leave it out"));
    }
    if is_network(text) {
        return Err(Refusal::new(
            text,
            "is a network: look up single addresses; networks go into lists and never-send rules",
        ));
    }
    let ip: IpAddr = bare.trim_end_matches('.').parse().map_err(|_| no_address(text, bare))?;
    let ip = match ip.to_canonical() {
        folded if folded != ip => {
            notes.push(format!("the IPv4 address within {ip}"));
            folded
        }
        same => same,
    };
    let form = if ip.is_ipv4() { Form::Ipv4 } else { Form::Ipv6 };
    Ok(parsed(form, ip.to_string(), notes))
}

fn no_address(text: &str, bare: &str) -> Refusal {
    let octets: Vec<_> = bare.split('.').collect();
    let numeric = octets.iter().all(|octet| !octet.is_empty() && octet.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric && octets.iter().any(|octet| octet.len() > 1 && octet.starts_with('0')) {
        return Refusal::new(text, "has leading zeros, which some read as octal and some as decimal: leave them out");
    }
    if numeric && octets.len() == 4 {
        return Refusal::new(text, "has a number above 255: no IPv4 address");
    }
    if numeric {
        let why = format!(
            "has {} of the four numbers of an IPv4 address; short and integer forms are read only within a URL",
            octets.len()
        );
        return Refusal::new(text, why);
    }
    Refusal::new(text, "is no IP address: IPv4 has four decimal numbers, IPv6 is written as in RFC 5952")
}

fn as_domain(text: &str, guessing: bool) -> Result<Parsed, Refusal> {
    let mut notes = Vec::new();
    let (host, port) = split_port(text);
    if let Some(port) = port {
        notes.push(format!("port {port} dropped"));
    }
    if host.parse::<Ipv4Addr>().is_ok() {
        return Err(Refusal::new(text, "is an IPv4 address, not a domain"));
    }
    let name = domain::normal(host)?;
    if guessing && !domain::has_public_suffix(&name) {
        let last = name.rsplit('.').next().unwrap_or_default();
        let why = format!("ends in .{last}, which is no public suffix: if it is a domain all the same, state the type");
        return Err(Refusal::new(text, why));
    }
    if let Some(unicode) = domain::unicode(&name) {
        notes.push(format!("shown to people as {unicode}"));
    }
    Ok(parsed(Form::Domain, name, notes))
}

/// `host/path` without a scheme is read as http.
fn without_scheme(text: &str, at: usize) -> Result<Parsed, Refusal> {
    let host = text.get(..at).unwrap_or_default();
    let (name, _) = split_port(host);
    let known = name.parse::<Ipv4Addr>().is_ok()
        || name.starts_with('[')
        || domain::normal(name).is_ok_and(|name| domain::has_public_suffix(&name));
    if !known {
        return Err(Refusal::new(text, "is no indicator: neither an IP address, a domain, a URL nor a file hash"));
    }
    let mut read = as_url(&format!("http://{text}")).map_err(|refusal| Refusal { message: refusal.message })?;
    read.notes.push("read as http, since it has no scheme".into());
    Ok(read)
}

fn as_url(text: &str) -> Result<Parsed, Refusal> {
    if !has_scheme(text) {
        let at = text.find(['/', '?']);
        return match at {
            Some(at) if other_kind(text).is_none() => without_scheme(text, at),
            _ => Err(Refusal::new(text, "has no scheme: a URL begins with http://, https:// or ftp://")),
        };
    }
    let value = url::normal(text)?;
    let mut notes = Vec::new();
    if url::has_credentials(&value) {
        notes.push("carries a user or password: kept, shown masked, and not sent to outside sources".into());
    }
    Ok(parsed(Form::Url, value, notes))
}

fn as_hash(text: &str) -> Result<Parsed, Refusal> {
    if let Some(form) = hash::form_of(text) {
        return Ok(parsed(form, text.to_ascii_lowercase(), Vec::new()));
    }
    if let Some(kind) = hash::unsupported(text) {
        let why = format!("is a hash of the kind {kind}, which is not supported yet: give MD5, SHA-1 or SHA-256");
        return Err(Refusal::new(text, why));
    }
    Err(Refusal::new(text, "is no file hash: MD5 has 32, SHA-1 40, SHA-256 64 hexadecimal digits"))
}

/// `host:port`, where the port is a number.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty()
                && !host.contains(':')
                && (1..=5).contains(&port.len())
                && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            (host, Some(port))
        }
        _ => (text, None),
    }
}

pub(super) fn parsed(form: Form, value: String, notes: Vec<String>) -> Parsed {
    Parsed { indicator: Indicator { form, value: Arc::from(value) }, notes }
}
