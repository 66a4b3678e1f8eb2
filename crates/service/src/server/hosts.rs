//! Refuses requests from foreign web pages that a browser on this machine or network has loaded. The owner of such a
//! page can make its host name resolve to the server's address (DNS rebinding), so that the browser treats the server
//! as the page's own origin. The host name in the request gives this away.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::error::{Error, Reason};
use crate::rpc::auth::Peer;
use crate::rpc::status;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The host names and origins under which the server may be called.
#[derive(Clone)]
pub(super) struct Hosts {
    /// In lower case. `None` if every caller needs a token, which a web page does not have.
    names: Option<Arc<[String]>>,
    /// Origins of web pages that may call.
    origins: Arc<[String]>,
}

impl Hosts {
    /// With tokens every host name is accepted.
    pub(super) fn new(has_tokens: bool, names: &[String], origins: &[String]) -> Self {
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let own = Some(own.trim().to_lowercase()).filter(|name| !name.is_empty());
        let names = names.iter().cloned().chain(own).chain(["localhost".to_owned()]).collect();
        Self { names: (!has_tokens).then_some(names), origins: origins.into() }
    }

    /// The error for a request that must be refused.
    pub(super) fn refusal<B>(&self, request: &http::Request<B>, peer: &Peer) -> Option<Error> {
        if *peer == Peer::Local {
            return None;
        }
        let headers = request.headers();
        let origin = text(headers, &header::ORIGIN);
        let is_listed = origin.is_some_and(|origin| self.origins.iter().any(|listed| listed == origin));
        if text(headers, &SEC_FETCH_SITE) == Some("cross-site") && !is_listed {
            return Some(forbidden("a web page of another site may call only if cors_origins lists its origin".into()));
        }
        let names = self.names.as_ref()?;
        let authority = request.uri().authority().map(|authority| authority.host());
        let host = authority.or_else(|| text(headers, &header::HOST).map(without_port)).unwrap_or_default();
        let host = host.trim_end_matches('.').to_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let is_known = address.parse::<IpAddr>().is_ok()
            || names.contains(&host)
            || host.strip_suffix(".localhost").is_some_and(|name| !name.is_empty());
        (!is_known).then(|| {
            let message =
                format!("the server is not known as {:?}; host_names in its settings may list it", shortened(&host));
            forbidden(message)
        })
    }
}

/// Refuses a request that a web page of another site may have sent. Web pages cannot reach the socket or the process
/// itself. Health is exempt, since orchestrators use host names of their own.
pub(super) async fn check(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Arc<Peer>>().map_or(&Peer::Network(None), AsRef::as_ref);
    match hosts.refusal(&request, peer) {
        Some(error) => status::of(&error).into_http::<Body>(),
        None => next.run(request).await,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(HeaderValue::to_str)?.ok()
}

/// `[2001:db8::1]:50051` is `[2001:db8::1]`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

fn shortened(host: &str) -> String {
    host.chars().take(100).collect()
}

fn forbidden(message: String) -> Error {
    Error::Forbidden { reason: Reason::Forbidden, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(has_tokens: bool, headers: &[(&'static str, &str)]) -> bool {
        let hosts = Hosts::new(has_tokens, &["concord.example.com".into()], &["https://soc.example.com".into()]);
        let mut request = Request::new(Body::empty());
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        hosts.refusal(&request, &Peer::Network(None)).is_some()
    }

    #[test]
    fn without_tokens_only_addresses_and_known_names_are_answered() {
        for known in
            ["127.0.0.1:50051", "[::1]:50051", "192.0.2.7", "LOCALHOST:1", "a.localhost", "concord.example.com."]
        {
            assert!(!refused(false, &[("host", known)]), "{known}");
        }
        for unknown in ["rebound.example.net:50051", "localhost.example.net", "127.0.0.1.example.net", ".localhost", ""]
        {
            assert!(refused(false, &[("host", unknown)]), "{unknown}");
            assert!(!refused(true, &[("host", unknown)]), "{unknown}: a page has no token");
        }
    }

    #[test]
    fn a_page_of_another_site_needs_a_listed_origin() {
        let cross = ("sec-fetch-site", "cross-site");
        let host = ("host", "127.0.0.1");
        assert!(refused(false, &[host, cross]));
        assert!(refused(true, &[host, cross, ("origin", "https://evil.example.net")]));
        assert!(!refused(false, &[host, cross, ("origin", "https://soc.example.com")]));
        assert!(!refused(false, &[host, ("sec-fetch-site", "same-origin")]));
    }
}
