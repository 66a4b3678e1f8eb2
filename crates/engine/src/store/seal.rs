//! Encrypts credentials before they are stored, and files that wait for their submission: AES-256-GCM with a key from outside
//! the database.
//!
//! The name of the source is authenticated as well, so that a sealed credential that is moved to another row does not
//! open. Neither `Debug` output nor errors contain keys or credentials.

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

/// Format version: the first byte of every sealed credential.
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
    /// Makes a sealer with the key in this file. If the file does not exist, it is created with 32 random bytes and
    /// mode 0600.
    ///
    /// # Errors
    /// If the file cannot be read or created, is accessible to others than its owner, or does not contain exactly 32
    /// bytes.
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

    /// Makes a sealer with this key: 32 bytes in base64 (either alphabet, with or without padding).
    ///
    /// # Errors
    /// If the text is not base64, or encodes another number of bytes.
    pub fn from_base64(text: &SecretString) -> Result<Self, StoreError> {
        let plain =
            Zeroizing::new(text.expose_secret().trim().trim_end_matches('=').replace('-', "+").replace('_', "/"));
        let bytes = general_purpose::STANDARD_NO_PAD
            .decode(plain.as_bytes())
            // The decoder's own error would reveal a byte of the key.
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
    /// If the system provides no random numbers.
    pub fn seal(&self, name: &str, credential: &SecretString) -> Result<Vec<u8>, StoreError> {
        let plain = credential.expose_secret().as_bytes();
        // The capacity includes the tag: growing the buffer would leave a copy of the plain text behind.
        let mut text = Vec::with_capacity(plain.len() + aead::AES_256_GCM.tag_len());
        text.extend_from_slice(plain);
        let nonce = self.key.seal_in_place_append_tag(bound_to(name), &mut text);
        let nonce = nonce.map_err(|_| StoreError::unavailable("a credential could not be sealed"))?;
        let mut sealed = vec![VERSION];
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// Opens the sealed credential of the source of this name.
    ///
    /// # Errors
    /// If it was sealed with another key or for another source, or is damaged.
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

    /// Seals one piece of a file: nonce, text and tag, [`PIECE_OVERHEAD`] bytes more than `plain`. Name of the file and number
    /// of the piece are authenticated, so that pieces cannot change places.
    ///
    /// # Errors
    /// If the system provides no random numbers.
    pub fn seal_piece(&self, file: &str, number: u64, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut text = plain.to_vec();
        let nonce = self.key.seal_in_place_append_tag(piece_of(file, number), &mut text);
        let nonce = nonce.map_err(|_| StoreError::unavailable("a file could not be sealed"))?;
        Ok([nonce.as_ref().as_slice(), &text].concat())
    }

    /// Opens a piece of [`Self::seal_piece`].
    ///
    /// # Errors
    /// If it was sealed with another key or for another place, or is damaged.
    pub fn open_piece(&self, file: &str, number: u64, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let damaged = || StoreError::corrupt(format!("piece {number} of the waiting file {file} does not open"));
        let (nonce, text) = sealed.split_at_checked(aead::NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut text = text.to_vec();
        let length = self.key.open_in_place(nonce, piece_of(file, number), &mut text).map_err(|_| damaged())?.len();
        text.truncate(length);
        Ok(text)
    }
}

/// Bytes that sealing adds to a piece of a file.
pub const PIECE_OVERHEAD: usize = aead::NONCE_LEN + 16;

fn piece_of(file: &str, number: u64) -> Aad<Vec<u8>> {
    Aad::from([b"concord waiting file ", file.as_bytes(), b" piece ", number.to_string().as_bytes()].concat())
}

/// The additional data: the name is authenticated but not encrypted.
fn bound_to(name: &str) -> Aad<Vec<u8>> {
    Aad::from([b"concord credential of ", name.as_bytes()].concat())
}

/// Creates the key file under another name first, so that a crash does not leave a short key behind, and so that two
/// processes that start at the same time end up with the same key.
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

/// Makes a new file in the folder durable. Without this, a power loss could lose the key of stored credentials.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}
