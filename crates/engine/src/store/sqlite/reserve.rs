//! Disk space in reserve for writes that must succeed even on a full disk: quota units, settings, and the removal of
//! old rows.
//!
//! History is only written while the reserve exists. The first write that fails because the disk is full releases it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::warn;

use super::file::beside;
use crate::store::permissions::private_file;
use crate::store::{StoreError, StoreErrorKind};

/// Size of the reserve: the size to which SQLite's write-ahead log grows before it starts over.
const BYTES: usize = 4 * 1024 * 1024;

/// A file that occupies space on the disk until it is removed.
pub(super) struct Reserve {
    path: PathBuf,
    is_kept: AtomicBool,
}

impl Reserve {
    pub(super) fn of(database: &Path) -> Self {
        Self { path: beside(database, ".reserve"), is_kept: AtomicBool::new(false) }
    }

    /// Reserves the space, if the disk has enough.
    pub(super) fn keep(&self) {
        if self.is_kept() {
            return;
        }
        match self.make() {
            Ok(()) => self.is_kept.store(true, Ordering::Release),
            Err(error) => warn!(%error, "there is no space on the disk to keep in reserve, so no history is written"),
        }
    }

    /// Releases the space to the writes that must succeed.
    pub(super) fn release(&self) {
        self.is_kept.store(false, Ordering::Release);
        if fs::remove_file(&self.path).is_ok() {
            warn!("the disk is full: no history is written until there is space again");
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Acquire)
    }

    /// Whether history may be written.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let full =
            || StoreError::new(StoreErrorKind::Full, "the disk is full, and what is left is kept for the ledger");
        if self.is_kept() { Ok(()) } else { Err(full()) }
    }

    fn make(&self) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|file| file.len() == BYTES as u64) {
            return Ok(());
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => {}
        }
        let block = [0x55_u8; 64 * 1024];
        let mut file = private_file(&self.path)?;
        let written = (0..BYTES / block.len()).try_for_each(|_| file.write_all(&block));
        written.inspect_err(|_| {
            // A partial reserve would only take space from the writes that must succeed.
            let _ = fs::remove_file(&self.path);
        })
    }
}
