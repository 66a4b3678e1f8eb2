//! The database file: creates it atomically, and detects if it is moved, replaced or overwritten while in use.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{connect, schema};
use crate::store::permissions::private_file;
use crate::store::seal::sync_folder_of;
use crate::store::{StoreError, StoreErrorKind};

/// Device and inode, which identify a file uniquely while it is open.
type Identity = (u64, u64);

/// The file that was opened, and its write-ahead log.
#[derive(Clone)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    identity: Identity,
    /// Stays open as long as the store, since closing any descriptor of the file releases the POSIX locks that SQLite
    /// holds on it.
    content: Arc<fs::File>,
    /// `None` until [`Self::with_log`].
    log: Option<Identity>,
}

impl DatabaseFile {
    pub(super) fn at(path: &Path) -> Result<Self, StoreError> {
        let content = fs::File::open(path).map_err(|error| failed(path, &error))?;
        let metadata = content.metadata().map_err(|error| failed(path, &error))?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { path: path.to_owned(), identity, content: Arc::new(content), log: None })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the log beside it is not that of another database: SQLite would write the log's changes into whatever file
    /// is there.
    ///
    /// # Errors
    /// The file is not a database of this program, and a log with changes lies beside it.
    pub(super) fn check_log(&self) -> Result<(), StoreError> {
        let log = beside(&self.path, "-wal");
        if schema::is_marked(&self.content) || !fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            return Ok(());
        }
        let (log, path) = (log.display(), self.path.display());
        Err(StoreError::rejected(format!(
            "database {path}: was not written by this program, and {log} holds changes of another database: put the \
             database of that log back, or restore a backup there and move {log} away"
        )))
    }

    /// Remembers the write-ahead log, which exists while a writing connection is open.
    pub(super) fn with_log(self) -> Self {
        Self { log: identity_at(&beside(&self.path, "-wal")), ..self }
    }

    /// Checks that the path still leads to the file that was opened, and that the file and its log are intact.
    /// Otherwise writes would be lost.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let path = self.path.display();
        let (what, way_out) = if identity_at(&self.path) != Some(self.identity) {
            (format!("database {path}: was moved, deleted or replaced"), "put it back, or restart the server")
        } else if !schema::is_marked(&self.content) {
            (format!("database {path}: was overwritten"), "stop the server and restore a backup")
        } else if self.log.is_some() && identity_at(&beside(&self.path, "-wal")) != self.log {
            // A normal shutdown still writes the open log into the database; killing the process would lose it.
            (format!("{path}-wal: was moved, deleted or replaced"), "restart the server without killing it")
        } else {
            return Ok(());
        };
        let detail = format!("{what} while in use, so nothing is recorded and no source is asked; {way_out}");
        Err(StoreError::new(StoreErrorKind::Gone, detail))
    }
}

fn identity_at(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Creates the database with its tables, unless the file exists. It is created under another name and then renamed, so
/// that neither a crash nor a full disk leaves an incomplete database behind.
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
    // The temporary file does not exist if creating it failed.
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

/// The path of the database with this suffix.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn failed(path: &Path, error: &io::Error) -> StoreError {
    StoreError::unavailable(format!("database {}: {error}", path.display()))
}
