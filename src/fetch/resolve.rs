//! Names to addresses, by the system's resolver; every address is judged before it is connected to.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::route::Route;
use super::transport::SendError;
use crate::finding::SourceError;
use crate::source::EgressRules;

/// How resolvers say that a name does not exist or has no address. The system's own code for it does not come through the
/// standard library.
const NO_SUCH_NAME: [&str; 4] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "nodename nor servname provided",
];

/// The addresses of a name.
pub(super) async fn lookup(name: &str) -> Result<Vec<SocketAddr>, Unresolved> {
    let found = tokio::net::lookup_host((name, 0)).await;
    found.map(Iterator::collect).map_err(|error| Unresolved::new(name, &error))
}

/// Why a name has no address.
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

/// The system's resolver under the rules for what is connected to: the source, or the proxy to it.
pub(super) struct Guarded {
    pub(super) rules: EgressRules,
    pub(super) route: Arc<Route>,
}

impl Resolve for Guarded {
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

/// Egress rules forbid the address.
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
    fn a_name_that_does_not_exist_differs_from_a_resolver_that_fails() {
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
