//! Authentication: finds the caller's name from a bearer token, a client certificate or a local connection.
//!
//! Only the SHA-256 of a token is configured and compared. A token that was sent is never repeated in an error.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::{constant_time, digest};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::error::Error;
use crate::settings::Token;

/// The name of the caller. Every request that reaches a service has it as an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller(pub(crate) Arc<str>);

/// The caller of a request over the network if no tokens are configured.
const ANONYMOUS: &str = "anonymous";

impl Caller {
    /// Whether the name distinguishes this caller from others.
    pub(crate) fn is_named(&self) -> bool {
        *self.0 != *ANONYMOUS
    }
}

/// The party that a request or connection counts against, so that no party can take everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// A named caller.
    Caller(Arc<str>),
    /// Callers without a name, by their address.
    Address(IpAddr),
    /// Callers on the same machine, which share an address, by their connection.
    Connection(u64),
}

/// How a connection was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Over the network, with the fingerprint of the client certificate if the client presented one.
    Network(Option<Arc<str>>),
    /// Over the socket in the data directory or from within the process, so the caller is the same user.
    Local,
}

/// Authenticates callers by the configured tokens.
#[derive(Clone)]
pub(crate) struct Authenticator {
    tokens: Arc<ArcSwap<Vec<KnownToken>>>,
}

struct KnownToken {
    caller: Caller,
    sha256: [u8; 32],
}

impl From<Token> for KnownToken {
    fn from(Token { name, sha256 }: Token) -> Self {
        Self { caller: Caller(name.into()), sha256 }
    }
}

impl Authenticator {
    /// Accepts these tokens. Without any, everybody who can connect may call.
    pub(crate) fn new(tokens: Vec<Token>) -> Self {
        let tokens = tokens.into_iter().map(KnownToken::from).collect();
        Self { tokens: Arc::new(ArcSwap::from_pointee(tokens)) }
    }

    /// Accepts these tokens instead, in all clones.
    pub(crate) fn replace(&self, tokens: Vec<Token>) {
        self.tokens.store(Arc::new(tokens.into_iter().map(KnownToken::from).collect()));
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when tokens are set and none of them was sent.
    pub(crate) fn caller(&self, headers: &HeaderMap, peer: &Peer) -> Result<Caller, Error> {
        let certificate = match peer {
            Peer::Local => return Ok(Caller("local".into())),
            Peer::Network(certificate) => certificate,
        };
        let tokens = self.tokens.load();
        if tokens.is_empty() {
            return Ok(Caller(match certificate {
                Some(fingerprint) => format!("certificate:{fingerprint}").into(),
                None => ANONYMOUS.into(),
            }));
        }
        let header = headers.get(AUTHORIZATION).ok_or_else(|| refused("a token is needed"))?;
        let token = header.to_str().ok().and_then(bearer);
        let token = token.ok_or_else(|| refused("the authorization header holds no bearer token"))?;
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        // All tokens are compared, so that the time taken does not reveal which one matched.
        let mut known = None;
        for token in tokens.iter() {
            if constant_time::verify_slices_are_equal(&token.sha256, hash.as_ref()).is_ok() {
                known = Some(&token.caller);
            }
        }
        known.cloned().ok_or_else(|| refused("the token is not known"))
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = self.tokens.load();
        let names: Vec<_> = tokens.iter().map(|token| &*token.caller.0).collect();
        f.debug_struct("Authenticator").field("tokens", &names).finish()
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn refused(what: &str) -> Error {
    Error::Unauthenticated { message: format!("{what}: send `authorization: Bearer TOKEN`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authenticator() -> Authenticator {
        let hash = digest::digest(&digest::SHA256, b"right");
        Authenticator::new(vec![Token { name: "soar".into(), sha256: hash.as_ref().try_into().unwrap() }])
    }

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn the_name_behind_the_token_is_the_caller() {
        let caller = authenticator().caller(&headers("Bearer right"), &Peer::Network(None)).unwrap();
        assert_eq!(&*caller.0, "soar");
    }

    #[test]
    fn no_token_and_a_wrong_one_are_refused_without_repeating_it() {
        for sent in [HeaderMap::new(), headers("Bearer s3cret"), headers("Basic s3cret")] {
            let refused = authenticator().caller(&sent, &Peer::Network(None)).unwrap_err();
            assert!(matches!(refused, Error::Unauthenticated { .. }));
            assert!(!refused.to_string().contains("s3cret"));
        }
    }

    #[test]
    fn the_socket_needs_no_token() {
        assert_eq!(&*authenticator().caller(&HeaderMap::new(), &Peer::Local).unwrap().0, "local");
    }
}
