//! URLs: parsed as browsers do (WHATWG), without fragment.

use url::{Host as UrlHost, Url};

use super::{Host, Refusal, domain};

/// The normal form of a URL.
pub(super) fn normalize(text: &str) -> Result<String, Refusal> {
    let mut url = Url::parse(text).map_err(|error| Refusal::new(text, format!("is no valid URL: {error}")))?;
    match url.scheme() {
        "http" | "https" | "ftp" => {}
        other => return Err(Refusal::new(text, format!("has the scheme {other}; looked up are http, https and ftp"))),
    }
    url.set_fragment(None);
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

/// The host of a URL in normal form.
pub(super) fn host(value: &str) -> Option<Host> {
    Some(match Url::parse(value).ok()?.host()? {
        UrlHost::Domain(name) => Host::Name(name.to_owned()),
        UrlHost::Ipv4(ip) => Host::Ip(ip.into()),
        UrlHost::Ipv6(ip) => Host::Ip(ip.into()),
    })
}

/// Whether a URL in normal form carries a user or password.
pub(super) fn has_credentials(value: &str) -> bool {
    Url::parse(value).is_ok_and(|url| !url.username().is_empty() || url.password().is_some())
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
