//! Space that is kept free for what must be written also on a full disk: units of quota, settings, the removal of old rows.
//!
//! History is written only while the space is kept. The first write for which the disk is too full releases it to the others.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::warn;

use super::file::beside;
use crate::store::permissions::private_file;
use crate::store::{StoreError, StoreErrorKind};

/// As much as SQLite's log grows to before it begins again from the start.
const BYTES: usize = 4 * 1024 * 1024;

/// A file whose only use is to be removed.
pub(super) struct Reserve {
    path: PathBuf,
    is_kept: AtomicBool,
}

impl Reserve {
    pub(super) fn of(database: &Path) -> Self {
        Self { path: beside(database, ".reserve"), is_kept: AtomicBool::new(false) }
    }

    /// Keeps the space, if there is so much.
    pub(super) fn keep(&self) {
        if self.is_kept() {
            return;
        }
        match self.make() {
            Ok(()) => self.is_kept.store(true, Ordering::Release),
            Err(error) => warn!(%error, "there is no space on the disk to keep in reserve, so no history is written"),
        }
    }

    /// Gives the space to what must be written.
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
            // A part of it would be in the way of what must be written.
            let _ = fs::remove_file(&self.path);
        })
    }
}
