//! Chooses the trusted certificate authorities: those of the source, else the system's. On a machine without any,
//! built-in ones.

use reqwest::Certificate;

use crate::finding::{SourceError, SourceErrorKind};

/// The certificate authorities for a source with this `ca_pem` setting.
pub(super) fn roots(ca_pem: Option<&str>) -> Result<Vec<Certificate>, SourceError> {
    match ca_pem {
        Some(pem) => own(pem),
        None => Ok(system()),
    }
}

/// Checks that these authorities can be used.
///
/// # Errors
/// If the PEM cannot be parsed or contains no certificate.
pub(super) fn check(ca_pem: Option<&str>) -> Result<(), SourceError> {
    ca_pem.map_or(Ok(()), |pem| own(pem).map(|_| ()))
}

fn own(pem: &str) -> Result<Vec<Certificate>, SourceError> {
    let unusable =
        |why: String| SourceError::new(SourceErrorKind::Unavailable, format!("ca_pem cannot be used: {why}"));
    let certificates = Certificate::from_pem_bundle(pem.as_bytes()).map_err(|error| unusable(error.to_string()))?;
    if certificates.is_empty() { Err(unusable("it holds no certificate".into())) } else { Ok(certificates) }
}

fn system() -> Vec<Certificate> {
    let found = rustls_native_certs::load_native_certs().certs;
    let found: Vec<_> = found.iter().filter_map(|der| Certificate::from_der(der).ok()).collect();
    if !found.is_empty() {
        return found;
    }
    tracing::debug!("the system has no certificate authorities; using the built-in ones");
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter_map(|der| Certificate::from_der(der).ok()).collect()
}
