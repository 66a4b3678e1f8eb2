//! The durable store: one SQLite file, one writer thread with group commit, a few reader threads.
//!
//! A write resolves after its commit: it survives the end of the process; [`Durability::Full`] makes it survive power
//! loss too. `writer.rs` batches, `readers.rs` reads, `schema.rs` holds the tables, the rest is one file per trait.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::seal::private_file;
use super::{BoxFuture, StoreError};

mod answers;
mod filter;
mod ledger;
mod readers;
mod schema;
mod sources;
mod verdicts;
mod writer;

use readers::Readers;
use writer::Writer;

/// How long a statement waits for another process, such as one that makes a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a kept write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, however it ends. Power loss may take the last moments, never consistency.
    #[default]
    Normal,
    /// Power loss too; each group of writes waits for the disk.
    Full,
}

/// How a database is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqliteOptions {
    /// What a kept write survives.
    pub durability: Durability,
    /// How many threads read, at least 1.
    pub readers: usize,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { durability: Durability::Normal, readers: 2 }
    }
}

/// The durable store. Its threads end when it is closed or dropped, after what was asked of them is done.
pub struct Sqlite {
    writer: Writer,
    readers: Readers,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").finish_non_exhaustive()
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::new(format!("database: {error}"))
    }
}

impl Sqlite {
    /// Opens the database, makes it with mode 0600 if it does not exist, and brings its tables to this version.
    /// The caller holds the data directory's lock. Blocks; meant for start-up.
    ///
    /// # Errors
    /// The file cannot be made or is no database, a newer version made it, or a thread cannot be started.
    pub fn open(path: &Path, options: &SqliteOptions) -> Result<Arc<Self>, StoreError> {
        make_file(path)?;
        let mut connection = connect(path)?;
        configure(&connection, options.durability)?;
        schema::migrate(&mut connection)?;
        let readers = Readers::start(path, options.readers.max(1))?;
        Ok(Arc::new(Self { writer: Writer::start(connection)?, readers }))
    }

    /// Takes no more work, finishes what was asked, and folds the log into the database file. Later calls fail.
    pub fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.readers.close();
            self.writer.close().await
        })
    }

    /// How many transactions were committed since the store was opened; many writes share one.
    pub fn commits(&self) -> u64 {
        self.writer.commits()
    }

    /// Copies the database at `path` to the new file `to`, as it stands at one moment, also while another process
    /// uses it. Blocks.
    ///
    /// # Errors
    /// There is no database, `to` exists already, or reading or writing fails; then no file is left at `to`.
    pub fn backup(path: &Path, to: &Path) -> Result<(), StoreError> {
        private_file(to).map_err(|error| StoreError::new(format!("backup {}: {error}", to.display())))?;
        let done = copy(path, to);
        if done.is_err() {
            // The failure to report is that of the copy, not of clearing up after it.
            let _ = std::fs::remove_file(to);
        }
        done
    }

    /// Has the writer do this inside its next transaction; resolves after the commit.
    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, T> {
        Box::pin(async move { self.writer.run(work).await })
    }

    /// Has a reader do this.
    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, T> {
        Box::pin(async move { self.readers.run(work).await })
    }
}

/// SQLite would make the file readable for others.
fn make_file(path: &Path) -> Result<(), StoreError> {
    match private_file(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(StoreError::new(format!("database {}: {error}", path.display())))
        }
        Err(_) | Ok(_) => Ok(()),
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|error| StoreError::new(format!("database {}: {error}", path.display())))?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn configure(connection: &Connection, durability: Durability) -> Result<(), StoreError> {
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::new(format!("database: journal mode stays {mode}; its file system cannot do WAL")));
    }
    let synchronous = match durability {
        Durability::Normal => "NORMAL",
        Durability::Full => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // A credential that was deleted must not stand in free pages, sealed as it is.
    connection.pragma_update(None, "secure_delete", "ON")?;
    Ok(())
}

fn copy(path: &Path, to: &Path) -> Result<(), StoreError> {
    let from = connect(path)?;
    let mut target = connect(to)?;
    {
        let backup = Backup::new(&from, &mut target)?;
        // All pages in one step are one read snapshot, which a writer neither waits for nor restarts.
        match backup.step(-1)? {
            StepResult::Done => {}
            _ => return Err(StoreError::new("backup: the database is busy; try again")),
        }
    }
    let verdict: String = target.query_row("PRAGMA quick_check", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::new(format!("backup: the copy is damaged: {verdict}"))) }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn open(folder: &tempfile::TempDir) -> Arc<Sqlite> {
        Sqlite::open(&folder.path().join("concord.db"), &SqliteOptions::default()).expect("opens")
    }

    #[tokio::test]
    async fn what_waits_together_is_committed_together() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(&folder);
        let (release, gate) = mpsc::channel::<()>();
        let first = store.write(move |_| Ok(gate.recv().is_ok()));
        let others = (0..50).map(|number| store.write(move |_| Ok(number)));
        let others = futures_util::future::join_all(others);
        let opener = async move { release.send(()).map_err(|_| StoreError::new("gone")) };
        let before = store.commits();
        let (opened, numbers, ()) = tokio::join!(first, others, async { opener.await.expect("released") });
        assert!(opened.expect("written"));
        assert_eq!(
            numbers.into_iter().map(|number| number.expect("written")).collect::<Vec<_>>(),
            (0..50).collect::<Vec<_>>()
        );
        assert!(store.commits() - before <= 2, "{} transactions for 51 writes", store.commits() - before);
    }

    #[tokio::test]
    async fn a_write_that_fails_takes_back_its_own_part_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(&folder);
        let insert = |name: &'static str, fail: bool| {
            store.write(move |connection| {
                connection.execute("INSERT INTO sources (name, revision, document) VALUES (?1, 1, '{}')", [name])?;
                if fail { Err(StoreError::new("on purpose")) } else { Ok(()) }
            })
        };
        let (good, bad, last) = tokio::join!(insert("a", false), insert("b", true), insert("c", false));
        assert!(good.is_ok() && bad.is_err() && last.is_ok());
        let names = store.read(|connection| {
            let mut statement = connection.prepare("SELECT name FROM sources ORDER BY name")?;
            let names = statement.query_map([], |row| row.get::<_, String>(0))?;
            Ok(names.collect::<Result<Vec<_>, _>>()?)
        });
        assert_eq!(names.await.expect("read"), ["a", "c"]);
    }

    #[tokio::test]
    async fn closing_finishes_what_was_asked_and_refuses_the_rest() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(&folder);
        let (written, closed) = tokio::join!(store.write(|_| Ok(7)), store.close());
        assert_eq!(written, Ok(7));
        closed.expect("closed");
        assert!(store.write(|_| Ok(())).await.is_err());
        assert!(store.read(|_| Ok(())).await.is_err());
        store.close().await.expect("closing twice is nothing");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(&folder);
        store.write(|connection| Ok(connection.execute("DELETE FROM sources", [])?)).await.expect("written");
        Sqlite::backup(&folder.path().join("concord.db"), &folder.path().join("copy.db")).expect("copied");
        for entry in std::fs::read_dir(folder.path()).expect("folder") {
            let entry = entry.expect("entry");
            let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", entry.path().display());
        }
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("concord.db");
        drop(open(&folder));
        let connection = connect(&path).expect("connects");
        connection.pragma_update(None, "user_version", 999).expect("set");
        let error = Sqlite::open(&path, &SqliteOptions::default()).expect_err("refused");
        assert!(error.detail.contains("newer version"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_database_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("concord.db");
        std::fs::write(&path, "not a database, but long enough to be looked at as if it were one".repeat(20))
            .expect("written");
        assert!(Sqlite::open(&path, &SqliteOptions::default()).is_err());
    }

    #[test]
    fn full_durability_is_a_setting() {
        let connection = Connection::open_in_memory().expect("opens");
        assert!(configure(&connection, Durability::Full).is_err(), "memory cannot do WAL");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.db");
        make_file(&path).expect("made");
        let connection = connect(&path).expect("connects");
        for (durability, level) in [(Durability::Normal, 1), (Durability::Full, 2)] {
            configure(&connection, durability).expect("configured");
            let set: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).expect("read");
            assert_eq!(set, level);
        }
    }
}
