//! Accepts TLS connections with the configured certificates.
//!
//! ALPN offers h2 and http/1.1, since gRPC-Web clients use either on the same port.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::{StartError, start_error};
use crate::indicator::hex;
use crate::settings::TlsConfig;

/// The acceptor of TLS connections; `None` if no certificate is configured.
pub(super) fn acceptor(tls: Option<&TlsConfig>) -> Result<Option<TlsAcceptor>, StartError> {
    let Some(tls) = tls else { return Ok(None) };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| StartError(format!("tls: {error}")))?;
    let unusable = |field: &str, why: &dyn std::fmt::Display| StartError(format!("tls.{field} cannot be used: {why}"));
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(_) => {
            let mut roots = RootCertStore::empty();
            for certificate in tls.authorities().map_err(start_error)? {
                roots.add(certificate).map_err(|error| unusable("client_ca", &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| unusable("client_ca", &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (chain, key) = (tls.chain().map_err(start_error)?, tls.private_key().map_err(start_error)?);
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| unusable("certificate or tls.key", &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// The name of a caller with this certificate: the first 16 hexadecimal digits of its SHA-256.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> Arc<str> {
    let hash = digest::digest(&digest::SHA256, certificate.as_ref());
    hex(hash.as_ref()).chars().take(16).collect::<String>().into()
}
