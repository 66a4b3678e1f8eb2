//! Parses one indicator as an analyst pastes it: refangs it, guesses its type or checks the stated one, and normalizes it.

use std::cell::LazyCell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::clean::{TRAILING, is_clean, refang_and_strip};
use super::refang::{contains_invisible, contains_look_alikes};
use super::{
    Form, Host, Indicator, IndicatorType, Parsed, Refusal, SpecialAddress, address, domain, gateway, hash, label, scan,
    url, wrapping,
};

const LONGEST: usize = 8 * 1024;
/// How often a URL is normalized again until nothing changes.
const ROUNDS: usize = 8;
/// How many things that stand beside a value are taken off, one after the other: `1. MD5: …)`.
const BESIDE: usize = 4;
/// How many links of mail gateways are opened, one within the other.
const GATEWAYS: usize = 4;
/// Unsupported schemes that are written without slashes.
const OTHER_SCHEMES: [&str; 6] = ["mailto:", "javascript:", "data:", "file:", "tel:", "urn:"];
/// Fewer hexadecimal digits can be a word or a number; as many are meant as a hash.
const SHORTEST_HASH: usize = 16;
const NETWORK: &str = "is a network: look up single addresses; networks go into lists and never-send rules";
const ODD_PUNYCODE: &str = "holds a label that begins like punycode and is none: read as DNS has it";

/// Parses one indicator of the type `wanted`, or guesses its type.
pub(super) fn parse(text: &str, wanted: Option<IndicatorType>) -> Result<Parsed, Refusal> {
    if text.len() > LONGEST {
        // The text is not shown, since a password can be anywhere in it.
        let message = format!("a text of {} bytes is longer than 8 KiB, more than any indicator", text.len());
        return Err(Refusal { message, unsupported: false });
    }
    if let Some(read) = parse_plain(text, wanted) {
        return Ok(read);
    }
    parse_any(text, wanted)
}

/// Reads a value that is written plainly, and in which nothing has to be looked for, as [`parse_any`] would.
fn parse_plain(text: &str, wanted: Option<IndicatorType>) -> Option<Parsed> {
    if let Some(read) = parse_plain_name(text, wanted) {
        return Some(read);
    }
    let (form, value, note) = match hash::form_of(text) {
        Some(form) => (form, text.to_ascii_lowercase(), None),
        None => (Form::Ipv4, text.to_owned(), note_on(text.parse::<Ipv4Addr>().ok()?.into())),
    };
    let is_wanted = wanted.is_none_or(|wanted| wanted == form.indicator_type());
    is_wanted.then(|| parsed(form, value, note.into_iter().collect()))
}

/// Reads the most frequent sort of value.
fn parse_plain_name(text: &str, wanted: Option<IndicatorType>) -> Option<Parsed> {
    let is_name = match wanted {
        None => domain::is_plain(text) && domain::has_public_suffix(text),
        Some(IndicatorType::Domain) => domain::is_plain(text),
        Some(IndicatorType::Ip | IndicatorType::Url | IndicatorType::File) => false,
    };
    is_name.then(|| parsed(Form::Domain, text, Vec::new()))
}

fn parse_any(text: &str, wanted: Option<IndicatorType>) -> Result<Parsed, Refusal> {
    let clean = refang_and_strip(text);
    if clean.is_empty() {
        return Err(Refusal::new(text, "holds nothing: give an IP address, a domain, a URL or a file hash"));
    }
    let read = parse_clean(&clean, wanted).or_else(|refusal| parse_beside(&clean, wanted).unwrap_or(Err(refusal)));
    let meant = |refusal| wanted.and_then(|wanted| other_type(&clean, wanted)).unwrap_or(refusal);
    let mut read = read.map_err(meant)?;
    if is_clean(text) {
        read.notes.extend(special_address_note(&read.indicator));
        return Ok(read);
    }
    if contains_invisible(text) {
        read.notes.push("characters that cannot be seen were taken out".into());
    }
    if contains_look_alikes(text) && read.indicator.value.is_ascii() {
        read.notes.push("look-alike hyphens, digits or letters were read as plain ones".into());
    }
    if !wrapping::edits(text, true).is_empty() {
        read.notes.push("the escapes of the text around it were undone".into());
    }
    read.notes.extend(special_address_note(&read.indicator));
    Ok(read)
}

fn parse_clean(text: &str, wanted: Option<IndicatorType>) -> Result<Parsed, Refusal> {
    if wanted != Some(IndicatorType::Url)
        && let Some(bare) = without_protocol(text)
    {
        return parse_clean(bare, wanted);
    }
    match wanted {
        None => parse_guessing(text),
        Some(IndicatorType::Ip) => parse_ip(text),
        Some(IndicatorType::Domain) => parse_domain(text, false),
        Some(IndicatorType::Url) => parse_url(text),
        Some(IndicatorType::File) => parse_hash(text),
    }
}

/// Parses a value that something stands beside: a list mark, a label, a column. `None` if it cannot be read either.
fn parse_beside(text: &str, wanted: Option<IndicatorType>) -> Option<Result<Parsed, Refusal>> {
    let mut rest = text;
    for _ in 0..BESIDE {
        let shorter = label::strip(rest)?;
        let before = text.strip_suffix(shorter).unwrap_or_default();
        if hash::form_of(shorter).is_some()
            && let Some(kind) = label::other_hash(before, "")
        {
            let why = format!("is a hash of the kind {kind}, not of a whole file, and is not looked up");
            return Some(Err(Refusal::unsupported(text, why)));
        }
        rest = shorter;
        if let Ok(mut read) = parse_clean(&refang_and_strip(rest), wanted) {
            let left_out = text.replacen(rest, " … ", 1);
            read.notes.push(format!("left out what stands beside it: {:?}", shown(&left_out)));
            return Some(Ok(read));
        }
    }
    None
}

/// `host:443/tcp` without the protocol.
fn without_protocol(text: &str) -> Option<&str> {
    let slash = text.find('/')?;
    let (host, _) = text.split_at_checked(slash)?;
    let length = scan::protocol_length(text, slash)?;
    let (_, port) = split_port(host);
    (slash + length == text.len() && (port.is_some() || host.starts_with('[') || address::is_ipv4(host)))
        .then_some(host)
}

/// A text as notes show it: its first 100 characters, passwords redacted.
fn shown(text: &str) -> String {
    url::redact_text(text.trim()).chars().take(100).collect()
}

/// A note on an address, or the host of a URL, with a special purpose.
fn special_address_note(indicator: &Indicator) -> Option<String> {
    let Host::Ip(ip) = indicator.host()? else { return None };
    note_on(ip)
}

fn note_on(ip: IpAddr) -> Option<String> {
    SpecialAddress::from_ip(ip).map(|special| format!("{ip} is {}", special.as_str()))
}

/// The refusal of a text of another type than the stated one: it helps more than why the text is not of the stated type.
fn other_type(text: &str, wanted: IndicatorType) -> Option<Refusal> {
    let meant = parse_guessing(text).ok()?.indicator.indicator_type();
    let why = || format!("is {}, not {}", with_article(meant), with_article(wanted));
    (meant != wanted).then(|| Refusal::new(text, why()))
}

fn with_article(indicator: IndicatorType) -> &'static str {
    match indicator {
        IndicatorType::Ip => "an IP address",
        IndicatorType::Domain => "a domain",
        IndicatorType::Url => "a URL",
        IndicatorType::File => "a file hash",
    }
}

fn parse_guessing(text: &str) -> Result<Parsed, Refusal> {
    if has_scheme(text) {
        return parse_url(text);
    }
    if let Some(form) = hash::form_of(text) {
        return Ok(parsed(form, text.to_ascii_lowercase(), Vec::new()));
    }
    let extension = |hash: &str| format!("name{}", text.get(hash.len()..).unwrap_or_default());
    if let Some(hash) = hash::in_file_name(text).filter(|hash| !is_known_domain(&extension(hash))) {
        return parse_named_file(hash);
    }
    if let Some(other) = unsupported(text) {
        return Err(other);
    }
    if looks_like_ip(text) || address::without_full_prefix(text).is_some() {
        return parse_ip(text);
    }
    if let Some(at) = text.find(['/', '?']) {
        return parse_without_scheme(text, at);
    }
    parse_domain(text, true)
}

fn has_scheme(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    })
}

/// The refusal of something that is known but not looked up: an unsupported hash, a CVE, a network.
fn unsupported(text: &str) -> Option<Refusal> {
    let lower = text.to_ascii_lowercase();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(refusal) = unsupported_hash(text) {
        return Some(refusal);
    }
    let cve = |number: &str| number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if lower.strip_prefix("cve-").is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()) && cve(number))
    {
        return Some(Refusal::unsupported(text, "is a CVE number, which is not looked up yet"));
    }
    if lower.strip_prefix("as").is_some_and(|number| digits(number.strip_prefix('n').unwrap_or(number))) {
        return Some(Refusal::unsupported(text, "is an AS number, which is not looked up yet"));
    }
    if address::is_network(text) {
        return Some(Refusal::unsupported(text, NETWORK));
    }
    if text
        .split_once('-')
        .is_some_and(|(first, last)| address::is_ipv4(first.trim()) && last.trim().parse::<IpAddr>().is_ok())
    {
        return Some(Refusal::unsupported(
            text,
            "is a range of addresses: look up single addresses, as its first and its last",
        ));
    }
    if let Some(scheme) = OTHER_SCHEMES.into_iter().find(|scheme| lower.starts_with(scheme)) {
        let why = format!("has the scheme {}; looked up are http, https and ftp", scheme.trim_end_matches(':'));
        return Some(Refusal::unsupported(text, why));
    }
    if text.contains('@') && !text.contains('/') {
        return Some(Refusal::unsupported(
            text,
            "is an e-mail address, which is not looked up yet: look up its domain",
        ));
    }
    None
}

/// The refusal of a hash of an unsupported kind or length.
fn unsupported_hash(text: &str) -> Option<Refusal> {
    if let Some(kind) = hash::unsupported(text) {
        let why = format!("is a hash of the kind {kind}, which is not supported yet: give MD5, SHA-1 or SHA-256");
        return Some(Refusal::unsupported(text, why));
    }
    let hexadecimal = text.len() >= SHORTEST_HASH && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hexadecimal && hash::form_of(text).is_none()).then(|| Refusal::new(text, hash::length_message(text)))
}

/// Whether a name in normal form or not is a domain while guessing, and no more likely a file.
fn is_known_domain(text: &str) -> bool {
    domain::known(text).is_some_and(|name| !domain::looks_like_file_name(&name))
}

/// Whether a text is meant as an address, valid or not: digits and dots, or hexadecimal digits and colons.
fn looks_like_ip(text: &str) -> bool {
    let (host, _) = split_port(text);
    let digits = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && host.contains('.');
    let number = |part: &str| {
        let (digits, radix) = part.strip_prefix("0x").map_or((part, 10), |digits| (digits, 16));
        digits.chars().all(|digit| digit.is_digit(radix))
    };
    let lower = host.to_ascii_lowercase();
    digits
        || text.bytes().all(|byte| byte.is_ascii_digit())
        || (lower.starts_with("0x") && lower.split('.').all(number))
        || (!text.contains('/') && text.split(':').next().is_some_and(address::is_ipv4))
        || text.matches(':').count() >= 2
}

fn parse_ip(text: &str) -> Result<Parsed, Refusal> {
    if let Some(ip) = address::without_full_prefix(text) {
        let mut read = parse_ip(ip)?;
        read.notes.push(format!("{} stands for this address alone", text.get(ip.len()..).unwrap_or_default()));
        return Ok(read);
    }
    let mut notes = Vec::new();
    let (bare, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, "")) => (ip, None),
        Some((ip, rest)) => match rest.strip_prefix(':').filter(|port| is_port(port)) {
            Some(port) => (ip, Some(port)),
            None => return Err(Refusal::new(text, "has something other than a port after its closing bracket")),
        },
        None => split_port(text),
    };
    if bare.contains('%') {
        return Err(Refusal::new(text, "has a zone, which means something on one machine only: leave it out"));
    }
    if address::is_network(text) {
        return Err(Refusal::new(text, NETWORK));
    }
    let ip: IpAddr = bare.strip_suffix('.').unwrap_or(bare).parse().map_err(|_| ip_refusal(text, bare))?;
    notes.extend(port.map(|port| format!("port {port} dropped")));
    let folded = ip.to_canonical();
    if folded != ip {
        notes.push(format!("the IPv4 address within {ip}"));
    }
    let form = if folded.is_ipv4() { Form::Ipv4 } else { Form::Ipv6 };
    Ok(parsed(form, folded.to_string(), notes))
}

fn ip_refusal(text: &str, bare: &str) -> Refusal {
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
    let part = |octet: &&str| octet.get(..2).is_some_and(|prefix| prefix.eq_ignore_ascii_case("0x"));
    if !bare.contains(':') && octets.iter().any(part) {
        return Refusal::new(text, "has hexadecimal numbers, which are read as an IPv4 address only within a URL");
    }
    Refusal::new(text, "is no IP address: IPv4 has four decimal numbers, IPv6 is written as in RFC 5952")
}

fn parse_domain(text: &str, guessing: bool) -> Result<Parsed, Refusal> {
    let mut notes = Vec::new();
    let (host, port) = split_port(text);
    if let Some(port) = port {
        notes.push(format!("port {port} dropped"));
    }
    if host.parse::<Ipv4Addr>().is_ok() {
        return Err(Refusal::new(text, "is an IPv4 address, not a domain"));
    }
    let name = domain::normalize(host)?;
    if guessing && !domain::has_public_suffix(&name) {
        let last = name.rsplit('.').next().unwrap_or_default();
        if domain::has_public_suffix(&format!("example.{name}")) {
            let why = "is a public suffix, under which others have their names: if it is meant, state the type";
            return Err(Refusal::new(text, why));
        }
        let what = if last.len() <= 4 && last.is_ascii() { "perhaps the name of a file; " } else { "" };
        let why =
            format!("ends in .{last}, which is no public suffix: {what}if it is a domain all the same, state the type");
        return Err(Refusal::new(text, why));
    }
    if domain::has_odd_punycode(&name) {
        notes.push(ODD_PUNYCODE.into());
    }
    if let Some(unicode) = domain::unicode(&name) {
        notes.push(format!("shown to people as {unicode}"));
    }
    Ok(parsed(Form::Domain, name, notes))
}

/// Parses `host/path` without a scheme as http.
fn parse_without_scheme(text: &str, at: usize) -> Result<Parsed, Refusal> {
    let host = text.get(..at).unwrap_or_default();
    let (name, _) = split_port(host);
    let known = address::is_ipv4(name) || name.starts_with('[') || domain::known(name).is_some();
    if !known {
        let why = "has no scheme, and what stands before its path is neither an address nor a name under a public \
                   suffix: if it is a URL all the same, begin it with http://";
        return Err(Refusal::new(text, why));
    }
    let mut read = parse_url(&format!("http://{text}"))?;
    read.notes.push("read as http, since it has no scheme".into());
    Ok(read)
}

fn parse_url(text: &str) -> Result<Parsed, Refusal> {
    parse_wrapped_url(text, 0)
}

/// Parses a URL that was found within `depth` links of mail gateways.
fn parse_wrapped_url(text: &str, depth: usize) -> Result<Parsed, Refusal> {
    if !has_scheme(text) {
        return match (unsupported(text), text.find(['/', '?'])) {
            (Some(other), _) => Err(other),
            (None, Some(at)) => parse_without_scheme(text, at),
            (None, None) => Err(Refusal::new(text, "has no scheme: a URL begins with http://, https:// or ftp://")),
        };
    }
    let (text, left_out) = cut_at_blank(text);
    let value = stable_normal_form(text)?;
    let mut notes = Vec::new();
    if !left_out.is_empty() {
        notes.push(format!("left out what follows a blank: {:?}", shown(left_out)));
    }
    if let Some(wrapped) = gateway::unwrap(&value) {
        let unreadable = || {
            let why = "is the link of a mail gateway that does not show its target: look up the URL that it leads to";
            Refusal::new(text, why)
        };
        let inner = wrapped.url.filter(|_| depth < GATEWAYS).ok_or_else(unreadable)?;
        let mut read = parse_wrapped_url(&refang_and_strip(&inner), depth + 1).map_err(|_| unreadable())?;
        notes.push(format!("taken out of the link of a mail gateway ({}), which is not looked up", wrapped.gateway));
        notes.append(&mut read.notes);
        return Ok(Parsed { notes, ..read });
    }
    if value.contains("xn--")
        && let Some(Host::Name(name)) = url::host(&value)
        && domain::has_odd_punycode(&name)
    {
        notes.push(ODD_PUNYCODE.into());
    }
    if text.contains('#') && !value.contains('#') {
        notes.push("the fragment, which never leaves a browser, was dropped".into());
    }
    if value.contains('@') && url::has_credentials(&value) {
        notes.push("carries a user or password: kept, shown masked, and not sent to outside sources".into());
    }
    Ok(parsed(Form::Url, value, notes))
}

/// The URL up to a blank, and what follows: a URL holds none. A blank within the host is left for the refusal, unless the name
/// before it is complete.
fn cut_at_blank(text: &str) -> (&str, &str) {
    let Some((url, rest)) = text.split_once(char::is_whitespace) else { return (text, "") };
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let name = || {
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, _) = split_port(host.trim_end_matches([',', ';', '.']));
        address::is_ipv4(host) || is_known_domain(host)
    };
    if authority.contains(['/', '?', '#', '\\']) || name() {
        (url.trim_end_matches(TRAILING), rest)
    } else {
        (text, "")
    }
}

/// The normal form of a URL, which parsing does not change again: normalizing drops tabs and fragments, and what is
/// left can hold new markers and trailing punctuation.
fn stable_normal_form(text: &str) -> Result<String, Refusal> {
    let mut value = url::normalize(trim_tail(text))?;
    if is_clean(&value) && value.len() <= LONGEST {
        return Ok(value);
    }
    for _ in 0..ROUNDS {
        let again = url::normalize(trim_tail(&refang_and_strip(&value)))?;
        if again == value {
            return match value.len() {
                0..=LONGEST => Ok(value),
                _ => Err(Refusal::new(text, "is longer than 8 KiB in its normal form")),
            };
        }
        value = again;
    }
    Err(Refusal::new(text, "has defang markers within markers: write the URL without any"))
}

fn parse_hash(text: &str) -> Result<Parsed, Refusal> {
    if let Some(form) = hash::form_of(text) {
        return Ok(parsed(form, text.to_ascii_lowercase(), Vec::new()));
    }
    if let Some(hash) = hash::in_file_name(text) {
        return parse_named_file(hash);
    }
    if let Some(refusal) = unsupported_hash(text) {
        return Err(refusal);
    }
    Err(Refusal::new(text, hash::length_message(text)))
}

/// Parses the hash that a file is named by.
fn parse_named_file(hash: &str) -> Result<Parsed, Refusal> {
    let mut read = parse_hash(hash)?;
    read.notes.push("the hash that the file is named by".into());
    Ok(read)
}

/// Splits `host:port`, where the port is a number.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !host.contains(':') && is_port(port) => (host, Some(port)),
        _ => (text, None),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// The URL without the end of a sentence: a full stop after a word, closing brackets that were not opened.
fn trim_tail(whole: &str) -> &str {
    // Looked for once: no opening bracket is ever cut off.
    let not_opened = LazyCell::new(|| {
        scan::look_at(whole.len());
        let pairs = [('(', ')'), ('[', ']'), ('{', '}'), ('<', '>')];
        pairs.into_iter().filter(|(open, _)| !whole.contains(*open)).map(|(_, close)| close).collect::<Vec<_>>()
    });
    let mut text = whole;
    loop {
        let stop = text.strip_suffix('.').filter(|rest| rest.ends_with(|c: char| c.is_alphanumeric()));
        let bracket = || text.strip_suffix([')', ']', '}', '>']).filter(|_| text.ends_with(not_opened.as_slice()));
        match stop.or_else(bracket) {
            Some(rest) => text = rest,
            None => return text,
        }
    }
}

pub(super) fn parsed(form: Form, value: impl Into<Arc<str>>, notes: Vec<String>) -> Parsed {
    Parsed { indicator: Indicator { form, value: value.into() }, notes }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::clean::tests::any_value;
    use super::*;

    proptest! {
        #[test]
        fn a_plain_name_is_read_as_any_value_is(text in any_value()) {
            for wanted in [None, Some(IndicatorType::Domain)] {
                if let Some(read) = parse_plain_name(&text, wanted) {
                    prop_assert_eq!(Ok(read), parse_any(&text, wanted));
                }
            }
        }

        #[test]
        fn a_clean_url_in_normal_form_is_its_own_normal_form(text in any_value()) {
            if let Some(normal) = url::normalize(&format!("http://{text}")).ok().filter(|normal| is_clean(normal)) {
                prop_assert_eq!(url::normalize(trim_tail(&normal)), Ok(normal));
            }
        }
    }
}
