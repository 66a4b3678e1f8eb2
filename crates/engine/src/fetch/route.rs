//! Decides which proxy a request goes through, and which egress rules apply to that proxy.

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use super::transport::SendError;
use crate::source::{EgressRules, Proxy, ProxyServer};

/// The proxy configuration of one source.
pub(super) struct Route {
    proxy: Option<Proxy>,
    /// Matches the targets that go through a proxy of the environment; its exceptions (`no_proxy`) do not match.
    matcher: Matcher,
    /// The egress rules for proxies.
    rules: EgressRules,
}

impl Route {
    pub(super) fn new(proxy: Option<&Proxy>, rules: &EgressRules) -> Self {
        let matcher = Matcher::builder().all("http://proxy.invalid").no(rules.proxies.exceptions.clone()).build();
        let rules = match proxy {
            // The operator sets the environment, so its proxies are trusted even if the source was configured over the
            // API.
            Some(Proxy::Environment) => EgressRules { from_api: false, ..rules.clone() },
            Some(Proxy::Server(_)) | None => rules.for_proxy(),
        };
        Self { proxy: proxy.cloned(), matcher, rules }
    }

    /// Whether any address is reached through a proxy.
    pub(super) fn has_proxy(&self) -> bool {
        self.proxy.is_some()
    }

    /// The proxy for this address; `None` if it is reached directly.
    pub(super) fn proxy(&self, url: &Url) -> Option<&ProxyServer> {
        match self.proxy.as_ref()? {
            Proxy::Server(server) => Some(server),
            Proxy::Environment => {
                self.matcher.intercept(&url.as_str().parse::<Uri>().ok()?)?;
                self.rules.proxies.server(url.scheme())
            }
        }
    }

    /// The egress rules for the proxy of this name; `None` if no proxy has this name.
    pub(super) fn rules(&self, name: &str) -> Option<&EgressRules> {
        let has_name = |server: &ProxyServer| server.address().host_str() == Some(name);
        let is_proxy = match self.proxy.as_ref()? {
            Proxy::Server(server) => has_name(server),
            Proxy::Environment => self.rules.proxies.servers().any(has_name),
        };
        is_proxy.then_some(&self.rules)
    }

    /// Adds a hint to the failure of a direct connection, if the environment names a proxy that the source does not
    /// use.
    pub(super) fn hint(&self, mut failure: SendError) -> SendError {
        let variables = self.rules.proxies.variables.join(", ");
        if self.proxy.is_none() && !failure.is_sent && !variables.is_empty() {
            failure.error.detail +=
                &format!(" ({variables} of the environment is used with proxy = \"environment\" alone)");
        }
        failure
    }
}
