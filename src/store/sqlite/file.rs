//! The database file: made whole or not at all, and known again while it is in use.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{connect, schema};
use crate::store::permissions::private_file;
use crate::store::seal::sync_folder_of;
use crate::store::{StoreError, StoreErrorKind};

/// The file that was opened.
#[derive(Clone)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    /// Device and inode: no other file has both for as long as this one is open.
    identity: (u64, u64),
}

impl DatabaseFile {
    pub(super) fn at(path: &Path) -> Result<Self, StoreError> {
        let metadata = fs::metadata(path).map_err(|error| failed(path, &error))?;
        Ok(Self { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) })
    }

    /// Whether the path still leads to the file that was opened. What is written to a file that is gone is lost.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let metadata = fs::metadata(&self.path);
        if metadata.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity) {
            return Ok(());
        }
        let detail = format!(
            "database {}: was moved, deleted or replaced while in use, so nothing is recorded and no source is asked; put \
             it back, or restart the server",
            self.path.display()
        );
        Err(StoreError::new(StoreErrorKind::Gone, detail))
    }
}

/// Makes the database with its tables, unless there is a file already: under another name first, so that neither a crash
/// nor a full disk leaves half of one behind.
pub(super) fn make_unless_exists(path: &Path) -> Result<(), StoreError> {
    if path.try_exists().map_err(|error| failed(path, &error))? {
        return Ok(());
    }
    let log = beside(path, "-wal");
    if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
        let (log, path) = (log.display(), path.display());
        return Err(StoreError::rejected(format!(
            "{log} holds changes of a database that is gone: put {path} back, or restore a backup there and move {log} away"
        )));
    }
    let draft = beside(path, &format!(".new-{}", std::process::id()));
    let made = make_draft(&draft).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(path, &error)),
        Err(_) | Ok(()) => sync_folder_of(path).map_err(|error| failed(path, &error)),
    });
    // Gone already where making it failed.
    let _ = fs::remove_file(&draft);
    made
}

fn make_draft(draft: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| failed(draft, &error);
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Err(_) | Ok(()) => {}
    }
    let file = private_file(draft).map_err(failed)?;
    schema::migrate(&mut connect(draft)?)?;
    file.sync_all().map_err(failed)
}

/// A file with a longer name beside the database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn failed(path: &Path, error: &io::Error) -> StoreError {
    StoreError::unavailable(format!("database {}: {error}", path.display()))
}
