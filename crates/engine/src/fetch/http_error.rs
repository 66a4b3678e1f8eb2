//! Classifies failed HTTP requests by the types of their causes: whether anything was sent, and whether a retry can
//! help. The messages leave out the address, which may contain the indicator and a credential.

use std::error::Error;
use std::io;

use jiff::Timestamp;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use super::resolve::{Forbidden, Unresolved};
use super::transport::SendError;
use crate::finding::{SourceError, SourceErrorKind};

/// The hint for a certificate authority that is not trusted.
const TRUST_IT: &str = "an authority that is to be trusted for the source is named in ca_file (over the API: ca_pem)";

/// Messages of the HTTP library for a proxy that wants a user and a password, or different ones. The types of these
/// errors are not public.
const LOGIN_REFUSED: [&str; 3] =
    ["proxy authorization required", "credentials not accepted", "does not support user/pass authentication"];

/// Maximum of names that an error lists from a certificate.
const MAX_NAMES: usize = 3;

/// The error of a failed request; `peer` names the host that it connects to.
pub(super) fn failed(error: reqwest::Error, peer: &str) -> SendError {
    let error = error.without_url();
    // Without a connection nothing was sent, and if the proxy failed, nothing reached the source.
    let is_sent = !error.is_connect();
    let (error, is_permanent) = judge(&error, peer);
    SendError { error, is_sent, is_permanent }
}

/// The error, and whether it is permanent, so that the same request would fail again.
fn judge(error: &reqwest::Error, peer: &str) -> (SourceError, bool) {
    if let Some(Forbidden(why)) = cause(error) {
        return (SourceError::new(SourceErrorKind::Refused, why), true);
    }
    if let Some(unresolved) = cause::<Unresolved>(error) {
        return (SourceError::unavailable(unresolved.to_string()), unresolved.is_permanent);
    }
    if causes(error).any(|cause| LOGIN_REFUSED.iter().any(|words| cause.to_string().ends_with(words))) {
        return (login_refused().error, true);
    }
    if let Some(problem) = cause::<rustls::Error>(error) {
        return (SourceError::unavailable(tls_problem(problem, peer)), true);
    }
    let what = match (error.is_connect(), error.is_timeout()) {
        (true, true) => return (SourceError::new(SourceErrorKind::Timeout, "no connection in time"), false),
        (true, false) => "no connection",
        (false, true) => return (SourceError::new(SourceErrorKind::Timeout, "no answer in time"), false),
        (false, false) if is_corrupt(error) => {
            return (SourceError::malformed("the answer cannot be decompressed"), true);
        }
        (false, false) if error.is_decode() || error.is_body() => "the answer broke off",
        (false, false) => "the request failed",
    };
    (unavailable(what, error), false)
}

/// The error if the proxy refused to serve the request, so that nothing reached the source.
pub(super) fn login_refused() -> SendError {
    let why = "the proxy wants a user and a password, or others than it was given: they are set in its address, in the \
               configuration file";
    SendError { is_permanent: true, ..SendError::not_sent(SourceError::unavailable(why)) }
}

/// An error with its innermost cause.
pub(super) fn unavailable(what: &str, error: &reqwest::Error) -> SourceError {
    let innermost = causes(error).last();
    let innermost = innermost.map(|cause| format!(": {cause}")).unwrap_or_default();
    SourceError::unavailable(format!("{what}{innermost}"))
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| match cause.downcast_ref::<io::Error>() {
        // `io::Error::source` returns the source of the wrapped error and skips the wrapped error itself.
        Some(wrapper) => wrapper.get_ref().map(|wrapped| wrapped as &(dyn Error + 'static)),
        None => cause.source(),
    })
}

fn cause<T: Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Whether the body was received completely but cannot be decompressed, so that a retry would not help. An incomplete
/// body has a connection error among its causes.
fn is_corrupt(error: &reqwest::Error) -> bool {
    error.is_decode() && cause::<io::Error>(error).is_some() && cause::<hyper::Error>(error).is_none()
}

fn tls_problem(error: &rustls::Error, peer: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(problem) => {
            format!("the certificate of {peer} {}", certificate_problem(problem))
        }
        rustls::Error::AlertReceived(alert) => format!("{peer} refuses the TLS connection: alert {alert:?}"),
        rustls::Error::InvalidMessage(_) => {
            format!("what {peer} answers is no TLS: check scheme and port of base_url and proxy")
        }
        other => format!("no TLS connection to {peer}: {other}"),
    }
}

fn certificate_problem(problem: &CertificateError) -> String {
    match problem {
        // A bad signature usually means that the certificate was issued by another authority of the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "is signed by an authority that is not trusted here, as where a proxy inspects TLS or a service has its own \
             authority: {TRUST_IT}"
        ),
        CertificateError::Expired => "has expired, or this machine's clock is wrong".into(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("expired at {}, or this machine's clock is wrong", date(*not_after))
        }
        CertificateError::NotValidYet => "is not valid yet, or this machine's clock is wrong".into(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("is not valid before {}, or this machine's clock is wrong", date(*not_before))
        }
        CertificateError::NotValidForName => "is for another name: check base_url".into(),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<_> = presented.iter().take(MAX_NAMES).map(String::as_str).collect();
            format!("is for another name ({}): check base_url", names.join(", "))
        }
        other => format!("cannot be verified ({other}): {TRUST_IT}"),
    }
}

fn date(time: UnixTime) -> String {
    let time = i64::try_from(time.as_secs()).ok().and_then(|second| Timestamp::from_second(second).ok());
    time.map_or_else(|| "an unknown time".into(), |time| time.to_string())
}
