//! Encrypts credentials before they are stored: AES-256-GCM under a key from outside the database.
//!
//! The source's name is authenticated too, so that a sealed credential moved to another row does not open. Nothing here is
//! ever shown: not by `Debug`, not in an error.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use aws_lc_rs::aead::{self, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::StoreError;
use super::permissions::{mode_with, private_file};

/// Length of the key in bytes.
const KEY_LENGTH: usize = 32;

/// Format version, the first byte of everything sealed.
const VERSION: u8 = 1;

/// Seals credentials and opens them again.
pub struct Sealer {
    key: RandomizedNonceKey,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(***)")
    }
}

impl Sealer {
    /// The sealer of the key in this file. A file that does not exist is made, with 32 random bytes and mode 0600.
    ///
    /// # Errors
    /// The file cannot be read or made, is open to others than its owner, or does not hold exactly 32 bytes.
    pub fn from_key_file(path: &Path) -> Result<Self, StoreError> {
        let failed = |error: io::Error| StoreError::unavailable(format!("key file {}: {error}", path.display()));
        if !path.try_exists().map_err(failed)? {
            make_key_file(path).map_err(failed)?;
        }
        if let Some(mode) = mode_with(path, 0o077).map_err(failed)? {
            let shown = path.display();
            let hint = format!("key file {shown} has mode {mode:04o}, open to others: chmod 600 {shown}");
            return Err(StoreError::rejected(hint));
        }
        let bytes = Zeroizing::new(fs::read(path).map_err(failed)?);
        Self::from_bytes(&bytes)
            .map_err(|error| StoreError::rejected(format!("key file {}: {}", path.display(), error.detail)))
    }

    /// The sealer of this key, 32 bytes in base64 (either alphabet, with or without padding).
    ///
    /// # Errors
    /// The text is no base64 or holds another number of bytes.
    pub fn from_base64(text: &SecretString) -> Result<Self, StoreError> {
        let plain =
            Zeroizing::new(text.expose_secret().trim().trim_end_matches('=').replace('-', "+").replace('_', "/"));
        let bytes = general_purpose::STANDARD_NO_PAD
            .decode(plain.as_bytes())
            // The decoder's own error would show a byte of the key.
            .map_err(|_| {
                StoreError::rejected("the key is not base64; make one with: head -c 32 /dev/urandom | base64")
            })?;
        Self::from_bytes(&Zeroizing::new(bytes))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        if bytes.len() != KEY_LENGTH {
            return Err(StoreError::rejected(format!("a key has {KEY_LENGTH} bytes, not {}", bytes.len())));
        }
        let key = RandomizedNonceKey::new(&aead::AES_256_GCM, bytes);
        Ok(Self { key: key.map_err(|_| StoreError::rejected("the key cannot be used"))? })
    }

    /// Seals the credential of the source of this name.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn seal(&self, name: &str, credential: &SecretString) -> Result<Vec<u8>, StoreError> {
        let plain = credential.expose_secret().as_bytes();
        // Room for the tag from the start: growing would leave a copy of the plain text behind.
        let mut text = Vec::with_capacity(plain.len() + aead::AES_256_GCM.tag_len());
        text.extend_from_slice(plain);
        let nonce = self.key.seal_in_place_append_tag(bound_to(name), &mut text);
        let nonce = nonce.map_err(|_| StoreError::unavailable("a credential could not be sealed"))?;
        let mut sealed = vec![VERSION];
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// The credential that was sealed for the source of this name.
    ///
    /// # Errors
    /// It was sealed under another key or for another source, or is damaged.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<SecretString, StoreError> {
        let damaged = || StoreError::corrupt(format!("the credential of source {name} is damaged"));
        let (version, rest) = sealed.split_first().ok_or_else(damaged)?;
        if *version != VERSION {
            return Err(damaged());
        }
        let (nonce, text) = rest.split_at_checked(aead::NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut text = Zeroizing::new(text.to_vec());
        let plain = self.key.open_in_place(nonce, bound_to(name), &mut text).map_err(|_| {
            StoreError::corrupt(format!(
                "the credential of source {name} does not open: another key, or a row that was moved or damaged"
            ))
        })?;
        let plain = str::from_utf8(plain).map_err(|_| damaged())?;
        Ok(SecretString::from(plain))
    }
}

/// The name is authenticated, not encrypted.
fn bound_to(name: &str) -> Aad<Vec<u8>> {
    Aad::from([b"concord credential of ", name.as_bytes()].concat())
}

/// Makes the key under another name first: a crash must not leave a short key behind, and two processes that start at
/// once must end up with one key.
fn make_key_file(path: &Path) -> io::Result<()> {
    let mut bytes = Zeroizing::new([0_u8; KEY_LENGTH]);
    rand::fill(bytes.as_mut()).map_err(|_| io::Error::other("the system has no random numbers"))?;
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = private_file(&draft)?;
    file.write_all(bytes.as_ref())?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Err(_) | Ok(()) => sync_folder_of(path),
    }
}

/// Without this, power loss could leave credentials behind whose key is gone.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}
