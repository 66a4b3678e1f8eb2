//! Links that a mail gateway put in place of a URL. They name the recipient of the mail, so they are never looked up: the
//! URL within is.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::percent_decode_str;
use url::Url;

/// The letters by which Proofpoint's third version gives the length of a run, from two on.
const RUN_LENGTHS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Parts of the hosts of gateways, by which most URLs are told from their links without being parsed.
const GATEWAYS: [&str; 6] =
    ["safelinks.", "statics.teams.cdn.office.net", "urldefense.", "trendmicro.com", "fireeye.com", "cudasvc.com"];

/// What a link of a mail gateway holds.
pub(super) struct Wrapped {
    /// Who wrapped it.
    pub(super) gateway: &'static str,
    /// The URL within, if it can be read.
    pub(super) url: Option<String>,
}

/// Reads a URL as the link of a mail gateway, if it is one.
pub(super) fn unwrap(url: &str) -> Option<Wrapped> {
    if !GATEWAYS.iter().any(|part| url.contains(part)) {
        return None;
    }
    let (parsed, odd_host) = super::url::parse(url).ok()?;
    let (host, path) = (odd_host.as_deref().or(parsed.host_str())?, parsed.path());
    let below = |suffix: &str| host == suffix || host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
    let parameter = |name: &str| {
        let decoded = parsed.query_pairs().find(|(key, _)| key.eq_ignore_ascii_case(name));
        decoded.map(|(_, value)| value.into_owned())
    };
    let teams = host == "statics.teams.cdn.office.net" && path.contains("safelinks");
    let (gateway, inner) = if teams || host.contains("safelinks.") && parsed.query().is_some() {
        ("Safe Links", parameter("url"))
    } else if host.starts_with("urldefense.") {
        let version = path.split('/').nth(1).unwrap_or_default();
        ("Proofpoint", proofpoint(version, url, &parsed))
    } else if below("trendmicro.com") && path.contains("/clicktime/") {
        ("Trend Micro", parameter("url"))
    } else if below("fireeye.com") && host.starts_with("protect") {
        ("FireEye", plain_to_the_end(&parsed, "u").or_else(|| parameter("u")))
    } else if below("cudasvc.com") && host.starts_with("linkprotect") {
        ("Barracuda", parameter("a"))
    } else {
        return None;
    };
    let inner = inner.filter(|inner| !inner.is_empty());
    Some(Wrapped { gateway, url: inner })
}

fn proofpoint(version: &str, url: &str, parsed: &Url) -> Option<String> {
    let value = || parsed.query()?.split('&').find_map(|pair| pair.strip_prefix("u="));
    match version {
        "v1" => percent_decoded(value()?),
        "v2" => percent_decoded(&value()?.replace('-', "%").replace('_', "/")),
        "v3" => proofpoint_v3(url),
        _ => None,
    }
}

/// `__URL__;LIST!!…`: what is no letter or digit is a star in the URL, and stands in the list, Base64 of UTF-8, in order;
/// `**X` is a run of such characters.
fn proofpoint_v3(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("/v3/__")?;
    let (wrapped, rest) = rest.split_once("__;")?;
    let (list, _) = rest.split_once('!')?;
    let list = String::from_utf8(URL_SAFE_NO_PAD.decode(list.trim_end_matches('=')).ok()?).ok()?;
    let mut list = list.chars();
    let wrapped = percent_decoded(wrapped)?;
    let mut inner = String::new();
    let mut chars = wrapped.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '*' {
            inner.push(c);
        } else if chars.next_if_eq(&'*').is_some() {
            let length = RUN_LENGTHS.find(chars.next()?)? + 2;
            inner.extend(list.by_ref().take(length));
        } else {
            inner.push(list.next()?);
        }
    }
    // A gateway on the way may have taken one of two slashes.
    Some(match inner.split_once(":/") {
        Some((scheme, rest)) if !rest.starts_with('/') && !scheme.contains('/') => format!("{scheme}://{rest}"),
        _ => inner,
    })
}

/// The last parameter of a query that was not encoded: the `&` within it are its own.
fn plain_to_the_end(url: &Url, name: &str) -> Option<String> {
    let query = url.query()?;
    let at =
        query.find(&format!("{name}=http")).filter(|at| *at == 0 || query.as_bytes().get(at - 1) == Some(&b'&'))?;
    let value = query.get(at + name.len() + 1..)?;
    let value = if at == 0 { value.split('&').next()? } else { value };
    value.contains("://").then(|| value.to_owned())
}

fn percent_decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}
