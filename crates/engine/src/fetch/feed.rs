//! Downloads a feed and follows its redirects. Each step is checked against the egress rules, and the key is only sent
//! to the host that it was configured for.

use std::sync::Arc;

use url::{Host, Origin, Url};

use super::http::HttpTransport;
use crate::clock::Clock;
use crate::finding::{SourceError, SourceErrorKind};
use crate::indicator::SpecialAddress;
use crate::source::{AnswerBody, EgressRules, MAX_LIST_BYTES, SourceSettings, has_credential_placeholder};

/// Maximum of consecutive redirects.
const MAX_REDIRECTS: usize = 5;

/// Downloads one feed.
pub(super) struct Feed {
    url: Url,
    http: HttpTransport,
    /// The transport for redirects of a feed on a public address, which must not lead into the internal network.
    redirected: HttpTransport,
}

impl Feed {
    /// Makes a downloader for the feed at this address.
    ///
    /// # Errors
    /// If the egress rules forbid the address, or the proxy or the certificate authorities in the settings cannot be
    /// used.
    pub(super) fn new(
        url: Url,
        settings: &SourceSettings,
        rules: EgressRules,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, SourceError> {
        rules.check_url(&url).map_err(|why| SourceError::new(SourceErrorKind::Refused, why))?;
        let transport = |rules| HttpTransport::new(settings, rules, clock.clone());
        let redirected = transport(EgressRules { redirected: true, ..rules.clone() })?.for_feed(MAX_LIST_BYTES);
        Ok(Self { url, http: transport(rules)?.for_feed(MAX_LIST_BYTES), redirected })
    }

    /// Downloads the feed and returns its version (the etag) and bytes; `None` if `version` is still current. An empty
    /// `version` always downloads.
    pub(super) async fn load(&self, version: &str) -> Result<Option<(String, Vec<u8>)>, String> {
        let conditions = [("if-none-match", version)];
        let conditions = if version.is_empty() { &[][..] } else { &conditions[..] };
        let (mut url, mut http) = (self.url.clone(), &self.http);
        for step in 0..=MAX_REDIRECTS {
            let answer = http.get(&url, conditions).await.map_err(|error| match step {
                0 => error.to_string(),
                _ => format!("the feed redirects to {}: {error}", url.origin().ascii_serialization()),
            })?;
            let header = |name| answer.header(name).map(str::to_owned);
            let (version, location) = (header("etag").unwrap_or_default(), header("location"));
            let AnswerBody::Http { status, body, .. } = answer.body else {
                return Err("the feed did not answer by HTTP".into());
            };
            match status {
                200 => return Ok(Some((version, body))),
                304 => return Ok(None),
                301 | 302 | 303 | 307 | 308 => {
                    let next = self.next(&url, location.as_deref(), status)?;
                    if next.host() != url.host() && !is_internal(&self.url).await {
                        http = &self.redirected;
                    }
                    url = next;
                }
                _ => return Err(format!("the feed answers with HTTP status {status}")),
            }
        }
        Err(format!("the feed redirects more than {MAX_REDIRECTS} times"))
    }

    /// The target of a redirect, if it may be followed.
    fn next(&self, from: &Url, location: Option<&str>, status: u16) -> Result<Url, String> {
        let next = location.and_then(|location| from.join(location).ok());
        let next = next.ok_or_else(|| format!("the feed answers with HTTP status {status} and names no address"))?;
        let origin = Some(next.origin()).filter(Origin::is_tuple).map(|origin| origin.ascii_serialization());
        let shown = origin.unwrap_or_else(|| next.scheme().to_owned());
        let refused = |why: &str| Err(format!("the feed redirects to {shown}, {why}"));
        if !matches!(next.scheme(), "http" | "https") {
            return refused("and only http and https are followed");
        }
        if from.scheme() == "https" && next.scheme() == "http" {
            return refused("which would leave https");
        }
        // The key is inserted only where the configured address says so. A redirect must not choose where it is sent.
        if has_credential_placeholder(&next) || (has_credential_placeholder(&self.url) && !is_same_site(from, &next)) {
            return refused("where its key must not go: set option url to the address that is meant");
        }
        Ok(next)
    }
}

/// Whether two addresses belong to the same server: equal host and port, or the same host moved from http to https.
fn is_same_site(from: &Url, to: &Url) -> bool {
    let moved = from.scheme() == "http" && to.scheme() == "https" && from.port().is_none() && to.port().is_none();
    from.host() == to.host() && (from.port_or_known_default() == to.port_or_known_default() || moved)
}

/// Whether a feed is in the internal network, so that it may redirect to other internal addresses.
async fn is_internal(url: &Url) -> bool {
    let special = |ip| SpecialAddress::from_ip(ip).is_some();
    match url.host() {
        Some(Host::Ipv4(ip)) => special(ip.into()),
        Some(Host::Ipv6(ip)) => special(ip.into()),
        Some(Host::Domain(name)) => {
            tokio::net::lookup_host((name, 0)).await.is_ok_and(|mut found| found.any(|address| special(address.ip())))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::sources;

    fn feed(url: &str) -> Feed {
        let settings = SourceSettings::from_defaults(sources::find("list").unwrap().about(), "example");
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::following_tokio(std::time::UNIX_EPOCH));
        Feed::new(Url::parse(url).unwrap(), &settings, EgressRules::default(), &clock).unwrap()
    }

    fn next(from: &str, location: &str) -> Result<String, String> {
        let feed = feed(from);
        feed.next(&feed.url, Some(location), 302).map(Url::into)
    }

    #[test]
    fn a_redirect_may_move_to_https_but_never_back() {
        assert_eq!(next("http://a.example/x", "https://a.example/x"), Ok("https://a.example/x".into()));
        let why = next("https://a.example/x", "http://a.example/secret").unwrap_err();
        assert_eq!(why, "the feed redirects to http://a.example, which would leave https");
    }

    #[test]
    fn a_key_may_move_to_https_on_its_host_and_to_no_other_port_or_name() {
        let from = "http://a.example/?key={credential}";
        assert!(next(from, "https://a.example/").is_ok() && next(from, "/b").is_ok());
        for other in ["https://b.example/", "https://a.example:8443/", "http://a.example:81/", "http://b.a.example/"] {
            assert!(next(from, other).is_err_and(|why| why.contains("its key must not go")), "{other}");
        }
    }

    #[tokio::test]
    async fn a_public_feed_may_redirect_only_to_public_addresses() {
        assert!(!is_internal(&Url::parse("https://1.1.1.1/list").unwrap()).await);
        assert!(is_internal(&Url::parse("http://[::1]/list").unwrap()).await);
        let target = Url::parse("http://10.0.0.1:9/list").unwrap();
        let error = feed("https://1.1.1.1/list").redirected.get(&target, &[]).await.unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Refused, "{error}");
    }
}
