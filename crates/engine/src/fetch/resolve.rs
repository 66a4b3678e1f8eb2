//! Resolves names with the system's resolver, and checks every address before a connection is made.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::route::Route;
use super::transport::SendError;
use crate::finding::SourceError;
use crate::source::EgressRules;

/// Messages of resolvers for a name that does not exist or has no address. The standard library does not expose the
/// error code of `getaddrinfo`.
const NO_SUCH_NAME: [&str; 4] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "nodename nor servname provided",
];

/// Resolves a name.
pub(super) async fn lookup(name: &str) -> Result<Vec<SocketAddr>, Unresolved> {
    let found = tokio::net::lookup_host((name, 0)).await;
    found.map(Iterator::collect).map_err(|error| Unresolved::new(name, &error))
}

/// Why a name could not be resolved.
#[derive(Debug)]
pub(super) struct Unresolved {
    detail: String,
    pub(super) is_permanent: bool,
}

impl Unresolved {
    fn new(name: &str, error: &io::Error) -> Self {
        let why = error.to_string();
        let is_permanent = NO_SUCH_NAME.iter().any(|words| why.contains(words));
        let detail = if is_permanent {
            format!("the name {name} does not exist, as far as this machine's resolver knows")
        } else {
            format!("the name {name} could not be resolved: {why}")
        };
        Self { detail, is_permanent }
    }
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Unresolved {}

impl From<Unresolved> for SendError {
    fn from(unresolved: Unresolved) -> Self {
        let Unresolved { detail, is_permanent } = unresolved;
        Self { is_permanent, ..Self::not_sent(SourceError::unavailable(detail)) }
    }
}

/// The system's resolver behind the egress rules of the peer: the source, or the proxy to it.
pub(super) struct CheckedResolver {
    pub(super) rules: EgressRules,
    pub(super) route: Arc<Route>,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.route.rules(name.as_str()).unwrap_or(&self.rules).clone();
        Box::pin(async move {
            rules.check_name(name.as_str()).map_err(Forbidden)?;
            let mut refused = None;
            let mut allowed: Vec<SocketAddr> = Vec::new();
            for address in lookup(name.as_str()).await? {
                match rules.check_ip(address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(why) => refused = Some(why),
                }
            }
            match (allowed.is_empty(), refused) {
                (true, Some(why)) => Err(Forbidden(why).into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// The egress rules forbid the address.
#[derive(Debug)]
pub(super) struct Forbidden(pub(super) String);

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Forbidden {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_does_not_exist_is_permanent_and_a_resolver_that_fails_is_transient() {
        let unresolved = |why: &str| Unresolved::new("intel.example.com", &io::Error::other(format!("failed: {why}")));
        for why in NO_SUCH_NAME {
            let error = SendError::from(unresolved(why));
            assert!(error.is_permanent && !error.is_sent, "{why}");
            assert!(error.error.detail.starts_with("the name intel.example.com does not exist"), "{error:?}");
        }
        for why in ["Temporary failure in name resolution", "Try again"] {
            let error = SendError::from(unresolved(why));
            assert!(!error.is_permanent && !error.is_sent && error.error.kind.is_transient(), "{why}");
        }
    }
}
