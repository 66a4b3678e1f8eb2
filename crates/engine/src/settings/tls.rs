//! The certificates of the server, where the settings say that they stand.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::Violation;

/// Certificates of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM of the certificate chain.
    pub certificate: PathBuf,
    /// PEM of its key.
    pub key: PathBuf,
    /// PEM of the authority that clients' certificates must come from; `None`: clients need none.
    pub client_ca: Option<PathBuf>,
}

impl TlsConfig {
    /// The server's certificate and those that lead from it to an authority.
    ///
    /// # Errors
    /// When the file of `tls.certificate` cannot be read or holds none.
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, Violation> {
        certificates("tls.certificate", &self.certificate)
    }

    /// The key of the server's certificate.
    ///
    /// # Errors
    /// When the file of `tls.key` cannot be read or holds none.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, Violation> {
        let read = PrivateKeyDer::from_pem_file(&self.key);
        read.map_err(|error| violation("tls.key", &self.key, &error, "holds no private key"))
    }

    /// The authorities of clients' certificates; none where clients need none.
    ///
    /// # Errors
    /// When the file of `tls.client_ca` cannot be read or holds none.
    pub fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, Violation> {
        self.client_ca.as_ref().map_or(Ok(Vec::new()), |path| certificates("tls.client_ca", path))
    }

    /// Everything that cannot be read.
    pub(super) fn check(&self) -> Vec<Violation> {
        [self.chain().err(), self.private_key().err(), self.authorities().err()].into_iter().flatten().collect()
    }
}

fn certificates(field: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Violation> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.and_then(|read| if read.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(read) });
    read.map_err(|error| violation(field, path, &error, "holds no certificate"))
}

fn violation(field: &str, path: &Path, error: &pem::Error, nothing: &str) -> Violation {
    let why = match error {
        pem::Error::NoItemsFound => nothing.to_owned(),
        pem::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    Violation::invalid(field, format!("{}: {why}", path.display()))
}
