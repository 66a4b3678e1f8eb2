//! The data directory: its lock, and the paths in it.
//!
//! One process holds the lock. Others learn from [`DataDirectory::lock_status`] how to reach it. This file opens
//! neither the database nor the socket.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::permissions::mode_with;
use super::{StoreError, StoreErrorKind};

/// Attempts to take the lock, and the delay between them. There are several, since a process that only reads the status
/// also holds the lock for a moment.
const TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// A data directory that this process has locked. The lock ends when this is dropped or the process ends.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    _lock: fs::File,
}

/// The lock status of a data directory, for a process that does not lock it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockStatus {
    path: PathBuf,
    held: bool,
}

impl DataDirectory {
    /// Locks the directory for this process, and creates it with mode 0700 if it does not exist.
    ///
    /// # Errors
    /// If it cannot be created or written, if other users may write in it, or if another process has locked it; the
    /// message then names that process and its socket.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |error| unavailable(path, &error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        // Other users with write access could place their own key or database there. Group access is allowed, since
        // mounted volumes are assigned to a group.
        if let Some(mode) = mode_with(path, 0o002).map_err(failed)? {
            let shown = path.display();
            return Err(StoreError::rejected(format!(
                "data directory {shown} has mode {mode:04o}, so everybody may write in it: chmod 700 {shown}, or name a \
                 directory in it that does not exist yet"
            )));
        }
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path.join("lock")).map_err(failed)?;
        if !try_lock(&file).map_err(failed)? {
            return Err(held_error(path, &mut file));
        }
        // An error, such as a full disk, is ignored: only the message for the next process would lack the process
        // number.
        let _ = write_holder(&mut file);
        Ok(Self { path: path.to_owned(), _lock: file })
    }

    /// Whether a process has locked the directory. Creates and locks nothing.
    ///
    /// # Errors
    /// If the lock cannot be read.
    pub fn lock_status(path: &Path) -> Result<LockStatus, StoreError> {
        let failed = |error| unavailable(path, &error);
        let held = match fs::File::open(path.join("lock")) {
            Ok(file) => match file.try_lock_shared() {
                Ok(()) => false,
                Err(fs::TryLockError::WouldBlock) => true,
                Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed(error)),
        };
        Ok(LockStatus { path: path.to_owned(), held })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The server's local socket.
    pub fn socket_path(&self) -> PathBuf {
        socket_path(&self.path)
    }

    /// The database.
    pub fn database_path(&self) -> PathBuf {
        database_path(&self.path)
    }

    /// The folder of the files that wait for their submission.
    pub fn spool_path(&self) -> PathBuf {
        self.path.join("spool")
    }

    /// The key that seals credentials, unless the configuration gives one.
    pub fn key_path(&self) -> PathBuf {
        self.path.join("key")
    }
}

impl LockStatus {
    /// Whether a process has locked the directory, so that its socket can be used.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// That process's local socket.
    pub fn socket_path(&self) -> PathBuf {
        socket_path(&self.path)
    }

    /// The database. It may be read and backed up while another process has locked the directory.
    pub fn database_path(&self) -> PathBuf {
        database_path(&self.path)
    }
}

fn unavailable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::unavailable(format!("data directory {}: {error}", path.display()))
}

fn socket_path(directory: &Path) -> PathBuf {
    directory.join("concord.sock")
}

fn database_path(directory: &Path) -> PathBuf {
    directory.join("concord.db")
}

fn try_lock(file: &fs::File) -> io::Result<bool> {
    for round in 0..TRIES {
        if round > 0 {
            std::thread::sleep(BETWEEN_TRIES);
        }
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(fs::TryLockError::WouldBlock) => {}
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}

/// Writes the process number, which is only used in the message for the next process that tries to lock.
fn write_holder(file: &mut fs::File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())
}

fn held_error(path: &Path, file: &mut fs::File) -> StoreError {
    let mut process = String::new();
    // The file may contain anything, so only digits are shown.
    let known = file.take(20).read_to_string(&mut process).is_ok() && process.parse::<u32>().is_ok();
    let who = if known { format!("process {process}") } else { "another process".to_owned() };
    let detail = format!(
        "data directory {} is held by {who}; talk to it over its socket {}, or stop it first",
        path.display(),
        socket_path(path).display()
    );
    StoreError::new(StoreErrorKind::Busy, detail)
}
