//! URLs: parsed as browsers do (WHATWG), without fragment.

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use regex::Regex;
use url::{Host as UrlHost, ParseError, Position, Url};

use super::percent::decode_percent;
use super::{Host, Refusal, domain};

/// How often a URL within another is taken to be percent-encoded.
const DECODINGS: usize = 8;
/// Stands in a URL for a host that browsers refuse.
const STAND_IN: &str = "stand-in.invalid";

static URL_WITHIN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?i)(?:https?|ftp):[/\\]").ok());

/// The parts of a URL that tell where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlParts {
    /// The host.
    pub host: Host,
    /// The port, if it is not the usual one of the scheme.
    pub port: Option<u16>,
    /// The path as the URL has it, percent-encoded.
    pub path: String,
    /// The query as the URL has it, percent-encoded, without its question mark.
    pub query: Option<String>,
}

impl UrlParts {
    /// The URLs within path and query.
    pub(super) fn urls_within(&self) -> Vec<String> {
        let Some(pattern) = URL_WITHIN.as_ref() else { return Vec::new() };
        let mut text = format!("{}?{}", self.path, self.query.as_deref().unwrap_or_default());
        let mut found = Vec::new();
        for _ in 0..DECODINGS {
            let urls = pattern.find_iter(&text).filter_map(|at| parse(text.get(at.start()..)?).ok());
            found.extend(urls.map(|(url, odd_host)| serialize(&url, odd_host)));
            let decoded = decode_percent(&text);
            if decoded == text {
                break;
            }
            text = decoded;
        }
        found
    }
}

/// The normal form of a URL.
pub(super) fn normalize(text: &str) -> Result<String, Refusal> {
    let (mut url, odd_host) = parse(text).map_err(|error| Refusal::new(text, format!("is no valid URL: {error}")))?;
    match url.scheme() {
        "http" | "https" | "ftp" => {}
        other => return Err(Refusal::new(text, format!("has the scheme {other}; looked up are http, https and ftp"))),
    }
    url.set_fragment(None);
    if odd_host.is_some() {
        return Ok(serialize(&url, odd_host));
    }
    match url.host() {
        None => return Err(Refusal::new(text, "has no host")),
        Some(UrlHost::Domain(name)) => {
            let plain = name.strip_suffix('.').unwrap_or(name).to_owned();
            if plain.ends_with('.') {
                return Err(Refusal::new(text, "has a host with two dots in a row"));
            }
            // A single label is allowed: it can be a host of an internal network.
            if plain.contains('.') {
                domain::normalize_host(&plain).map_err(|refusal| {
                    Refusal::new(text, format!("has a host that is no domain: {}", refusal.message))
                })?;
            }
            if plain.is_empty() {
                return Err(Refusal::new(text, "has no host"));
            }
            if plain != name && url.set_host(Some(&plain)).is_err() {
                return Err(Refusal::new(text, "has no valid host"));
            }
        }
        Some(UrlHost::Ipv6(ip)) => {
            // An IPv4-mapped address is the same host as the IPv4 address.
            if let Some(v4) = ip.to_ipv4_mapped() {
                url.set_ip_host(v4.into()).map_err(|()| Refusal::new(text, "has no valid host"))?;
            }
        }
        Some(UrlHost::Ipv4(_)) => {}
    }
    Ok(url.into())
}

/// Parses a URL as browsers do. They refuse a host with a label that only looks like punycode, which name servers know: in
/// such a URL a name stands in for the host, which is returned beside it.
pub(super) fn parse(text: &str) -> Result<(Url, Option<String>), ParseError> {
    let refused = match Url::parse(text) {
        Err(ParseError::IdnaError) => ParseError::IdnaError,
        other => return other.map(|url| (url, None)),
    };
    let (before, rest) = text.split_once("://").ok_or(refused)?;
    let (authority, after) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    let (name, port) = host.split_at(host.rfind(':').unwrap_or(host.len()));
    let name = domain::normalize_host(name).map_err(|_| refused)?;
    let at = if user.len() + host.len() < authority.len() { "@" } else { "" };
    let url = Url::parse(&[before, "://", user, at, STAND_IN, port, after].concat())?;
    Ok((url, Some(name)))
}

/// What was parsed, as text.
fn serialize(url: &Url, odd_host: Option<String>) -> String {
    match odd_host {
        Some(host) => [&url[..Position::BeforeHost], &host, &url[Position::AfterHost..]].concat(),
        None => url.to_string(),
    }
}

/// The parts of a URL.
pub(super) fn parts(value: &str) -> Option<UrlParts> {
    let (url, odd_host) = parse(value).ok()?;
    let host = match (odd_host, url.host()?) {
        (Some(name), _) => Host::Name(name),
        (None, UrlHost::Domain(name)) => Host::Name(name.to_owned()),
        (None, UrlHost::Ipv4(ip)) => Host::Ip(ip.into()),
        (None, UrlHost::Ipv6(ip)) => Host::Ip(ip.into()),
    };
    Some(UrlParts { host, port: url.port(), path: url.path().to_owned(), query: url.query().map(str::to_owned) })
}

/// The host of a URL in normal form.
pub(super) fn host(value: &str) -> Option<Host> {
    plain_host(value).or_else(|| parts(value).map(|parts| parts.host))
}

/// The host of a URL that has neither user nor port, and whose host is a plain name or an IPv4 address; most need not be parsed.
fn plain_host(value: &str) -> Option<Host> {
    let rest = ["https://", "http://", "ftp://"].into_iter().find_map(|scheme| value.strip_prefix(scheme))?;
    let host = rest.split(['/', '?', '#']).next()?;
    if domain::is_plain(host) {
        return Some(Host::Name(host.to_owned()));
    }
    host.parse::<Ipv4Addr>().ok().map(|ip| Host::Ip(ip.into()))
}

/// Whether a URL in normal form carries a user or password.
pub(super) fn has_credentials(value: &str) -> bool {
    parse(value).is_ok_and(|(url, _)| !url.username().is_empty() || url.password().is_some())
}

/// A text that may hold a URL, with every possible user and password redacted: what stands before an `@` and follows a
/// slash or contains a colon. Redacts too much rather than too little.
pub fn redact_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_slash = false;
    for part in text.split_inclusive(['/', '\\', '?', '#', ' ', '\t', '\n', '\r']) {
        match part.rsplit_once('@') {
            Some((user, rest)) if after_slash || user.contains(':') => out.extend(["***@", rest]),
            _ => out.push_str(part),
        }
        after_slash = part.ends_with(['/', '\\']);
    }
    out
}

/// A URL in normal form whose path or query holds another with user or password, with these redacted. Where they are encoded,
/// the whole of path and query is.
pub(super) fn redact_tail(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let is_encoded = tail.contains("%40") || tail.contains("%2540");
    let tail = if is_encoded { "/***".to_owned() } else { redact_text(tail) };
    format!("{scheme}://{authority}{tail}")
}

/// A URL in normal form with its user and password redacted.
pub(super) fn redact(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}{tail}"),
        None => text.to_owned(),
    }
}
