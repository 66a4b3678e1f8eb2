//! Certificates: the server's own, and the authority of its clients.
//!
//! ALPN offers h2 and http/1.1, since gRPC-Web comes by both on the same port.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use crate::indicator::hex;
use crate::settings::TlsConfig;

use super::StartError;

/// What accepts TLS connections; `None` where the settings have no certificate.
pub(super) fn acceptor(tls: Option<&TlsConfig>) -> Result<Option<TlsAcceptor>, StartError> {
    let Some(tls) = tls else { return Ok(None) };
    readable(tls)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| StartError(format!("tls: {error}")))?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| unusable(path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| unusable(path, error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| unusable(&tls.key, error))?;
    let mut config = builder
        .with_single_cert(certificates(&tls.certificate)?, key)
        .map_err(|error| unusable(&tls.certificate, error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// Whether every file is there: all that are not are told at once, each by its setting.
fn readable(tls: &TlsConfig) -> Result<(), StartError> {
    let files =
        [("certificate", Some(&tls.certificate)), ("key", Some(&tls.key)), ("client_ca", tls.client_ca.as_ref())];
    let missing = files.into_iter().filter_map(|(name, path)| {
        let path = path?;
        let error = std::fs::File::open(path).err()?;
        Some(format!("tls.{name}: {}: {error}", path.display()))
    });
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() { Ok(()) } else { Err(StartError(missing.join("; "))) }
}

/// The name of a caller who showed this certificate: the first 16 hexadecimal digits of its SHA-256.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> Arc<str> {
    let hash = digest::digest(&digest::SHA256, certificate.as_ref());
    hex(hash.as_ref()).chars().take(16).collect::<String>().into()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unusable(path, error))?;
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| unusable(path, error))?;
    if read.is_empty() {
        return Err(unusable(path, "it holds no certificate"));
    }
    Ok(read)
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> StartError {
    StartError(format!("tls: {} cannot be used: {why}", path.display()))
}
