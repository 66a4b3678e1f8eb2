//! The data directory: who may use it, and where in it everything stands.
//!
//! One process holds its lock; a second one learns from [`DataDirectory::lock_status`] where to talk to the first. Opens no
//! database and no socket itself.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::StoreError;

/// How often, and how far apart, the lock is tried: a second process that only looks holds it for a moment.
const TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// A data directory that this process holds. The lock goes when this is dropped, or with the process.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    _lock: fs::File,
}

/// A data directory as another process sees it, without holding it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockStatus {
    path: PathBuf,
    held: bool,
}

impl DataDirectory {
    /// Takes the directory for this process; makes it, with mode 0700, if it does not exist.
    ///
    /// # Errors
    /// It cannot be made or written, others may write in it, or another process holds it: the text then names that
    /// process and its socket.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let fault = |error: io::Error| StoreError::new(format!("data directory {}: {error}", path.display()));
        make_directory(path).map_err(fault)?;
        check_mode(path)?;
        let mut file = lock_file(path).map_err(fault)?;
        if !try_lock(&file).map_err(fault)? {
            return Err(held(path, &mut file));
        }
        note_holder(&mut file).map_err(fault)?;
        Ok(Self { path: path.to_owned(), _lock: file })
    }

    /// Looks who holds the directory, without making or taking anything.
    ///
    /// # Errors
    /// The lock cannot be read.
    pub fn lock_status(path: &Path) -> Result<LockStatus, StoreError> {
        let fault = |error: io::Error| StoreError::new(format!("data directory {}: {error}", path.display()));
        let held = match fs::File::open(path.join("lock")) {
            Ok(file) => match file.try_lock_shared() {
                Ok(()) => false,
                Err(fs::TryLockError::WouldBlock) => true,
                Err(fs::TryLockError::Error(error)) => return Err(fault(error)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(fault(error)),
        };
        Ok(LockStatus { path: path.to_owned(), held })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the server's local socket stands.
    pub fn socket_path(&self) -> PathBuf {
        socket_path(&self.path)
    }

    /// Where the database stands.
    pub fn database_path(&self) -> PathBuf {
        database_path(&self.path)
    }

    /// Where the key that seals credentials stands, unless it is given otherwise.
    pub fn key_path(&self) -> PathBuf {
        self.path.join("key")
    }
}

impl LockStatus {
    /// Whether a process holds the directory, so that its socket can be asked.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Where that process's local socket stands.
    pub fn socket_path(&self) -> PathBuf {
        socket_path(&self.path)
    }

    /// Where the database stands. It may be read and backed up beside the holder.
    pub fn database_path(&self) -> PathBuf {
        database_path(&self.path)
    }
}

fn socket_path(directory: &Path) -> PathBuf {
    directory.join("concord.sock")
}

fn database_path(directory: &Path) -> PathBuf {
    directory.join("concord.db")
}

fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Whoever may write in the directory could put a key or a database of theirs there. A group may: mounted volumes are
/// given to a group.
#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|error| StoreError::new(format!("data directory {shown}: {error}")))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o002 != 0 {
        let hint = format!(
            "data directory {shown} has mode {mode:04o}, so everybody may write in it: chmod 700 {shown}, or name a \
             directory in it that does not exist yet"
        );
        return Err(StoreError::new(hint));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_mode(_path: &Path) -> Result<(), StoreError> {
    Ok(())
}

fn lock_file(directory: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(directory.join("lock"))
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

/// The process number is only for the message of the next one who tries.
fn note_holder(file: &mut fs::File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())
}

fn held(path: &Path, file: &mut fs::File) -> StoreError {
    let mut process = String::new();
    // Only digits are repeated: the file may hold anything.
    let known = file.take(20).read_to_string(&mut process).is_ok() && process.parse::<u32>().is_ok();
    let who = if known { format!("process {process}") } else { "another process".to_owned() };
    StoreError::new(format!(
        "data directory {} is held by {who}; talk to it over its socket {}, or stop it first",
        path.display(),
        socket_path(path).display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_of_the_socket() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep").join("data");
        let first = DataDirectory::open(&path).expect("opens");
        let error = DataDirectory::open(&path).expect_err("held");
        assert!(error.detail.contains(&first.socket_path().display().to_string()), "{error}");
        assert!(error.detail.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        DataDirectory::open(&path).expect("free again");
    }

    #[test]
    fn peeking_makes_nothing_and_takes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data");
        assert!(!DataDirectory::lock_status(&path).expect("peeks").is_held());
        assert!(!path.exists());
        let holder = DataDirectory::open(&path).expect("opens");
        let status = DataDirectory::lock_status(&path).expect("peeks");
        assert!(status.is_held());
        assert_eq!(status.socket_path(), holder.socket_path());
        assert_eq!(status.database_path(), holder.database_path());
        drop(holder);
        assert!(!DataDirectory::lock_status(&path).expect("peeks").is_held());
    }

    #[cfg(unix)]
    #[test]
    fn a_new_directory_is_private_and_a_shared_one_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data");
        drop(DataDirectory::open(&path).expect("opens"));
        assert_eq!(fs::metadata(&path).expect("made").permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("chmod");
        assert!(DataDirectory::open(&path).expect_err("refused").detail.contains("chmod 700"));
    }
}
