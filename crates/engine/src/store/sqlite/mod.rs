//! The durable store: one SQLite file, one writer thread with group commit, a few reader threads.
//!
//! A write resolves after its commit, so it survives the end of the process, and with [`Durability::Full`] also a power
//! loss.
//! `writer.rs` batches writes from its `queue.rs`, `checkpoints.rs` copies them from the log into the file, `readers.rs` reads,
//! `known_keys.rs` tells what need not be read, `schema.rs` defines the tables, `file.rs` creates and watches the file, `reserve.rs`
//! reserves space for a full disk, and `size.rs` bounds the whole. The other files implement one trait each.

use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags, Params};

use super::permissions::private_file;
use super::{BoxFuture, Durability, Maintenance, Pruned, StoreError, StoreErrorKind};
use crate::error::ParseEnumError;

mod answers;
mod cached;
mod checkpoints;
mod feedback;
mod file;
mod filter;
mod known_keys;
mod ledger;
mod never_send;
mod policies;
mod queue;
mod readers;
mod reserve;
mod schema;
mod size;
mod sources;
mod submissions;
mod verdicts;
mod writer;

use file::DatabaseFile;
use known_keys::KnownKeys;
use ledger::SharedAccounts;
use queue::Urgency;
use readers::Readers;
use reserve::Reserve;
use writer::Writer;

/// How long a statement waits for another process, such as one that makes a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of reader threads.
const READERS: usize = 2;

/// Maximum of rows that one write deletes, so that a quota unit does not wait for a long deletion.
const DELETE_BATCH: usize = 200;

/// The durable store. When it is closed or dropped, its threads complete their queued work and end.
pub(super) struct Sqlite {
    /// `None` if the store was opened for reading only.
    writer: Option<Writer>,
    readers: Readers,
    /// For pages of the history, which may read for long: look-ups must not wait for that.
    history: Readers,
    file: DatabaseFile,
    reserve: Arc<Reserve>,
    accounts: Arc<SharedAccounts>,
    known_keys: KnownKeys,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::new(error_kind(&error), format!("database: {error}"))
    }
}

fn error_kind(error: &rusqlite::Error) -> StoreErrorKind {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreErrorKind::Busy,
        Some(ErrorCode::DiskFull) => StoreErrorKind::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreErrorKind::Corrupt,
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::FileLockingProtocolFailed,
        ) => StoreErrorKind::Unavailable,
        Some(_) => StoreErrorKind::Rejected,
        // The error is not from SQLite itself: a column has an unexpected type or range.
        None => StoreErrorKind::Corrupt,
    }
}

impl Sqlite {
    /// See [`super::open`].
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        file::make_unless_exists(path)?;
        let reserve = Arc::new(Reserve::of(path));
        let opened = match Self::open_with(path, durability, reserve.clone()) {
            // On a full disk, SQLite cannot even create its log and shared-memory files.
            Err(error) if matches!(error.kind, StoreErrorKind::Full | StoreErrorKind::Unavailable) => {
                reserve.release();
                Self::open_with(path, durability, reserve.clone())?
            }
            opened => opened?,
        };
        reserve.keep();
        Ok(opened)
    }

    fn open_with(path: &Path, durability: Durability, reserve: Arc<Reserve>) -> Result<Self, StoreError> {
        let file = DatabaseFile::at(path)?;
        file.check_log()?;
        let mut connection = connect(path)?;
        // Checked before anything is changed, since the file may belong to another program.
        schema::check_version(&connection, path)?;
        configure(&connection, durability)?;
        schema::migrate(&mut connection)?;
        configure_rows(&connection)?;
        let readers = Readers::start(path, "reader", READERS)?;
        let history = Readers::start(path, "history", 1)?;
        let file = file.with_log();
        let writer = Some(Writer::start(connection, file.clone())?);
        Ok(Self { writer, readers, history, file, reserve, accounts: Arc::default(), known_keys: KnownKeys::default() })
    }

    /// See [`super::open_read_only`].
    pub(super) fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        let (file, reserve) = (DatabaseFile::at(path)?, Arc::new(Reserve::of(path)));
        file.check_log()?;
        schema::check_version(&connect(path)?, path)?;
        let (accounts, known_keys) = (Arc::default(), KnownKeys::default());
        let (readers, history) = (Readers::start(path, "reader", 1)?, Readers::start(path, "history", 1)?);
        Ok(Self { writer: None, readers, history, file, reserve, accounts, known_keys })
    }

    /// Lets the writer run `work` within its next transaction. Resolves after the commit.
    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, T> {
        Box::pin(async move { self.writer()?.run(work).await.inspect_err(|error| self.note(error)) })
    }

    fn writer(&self) -> Result<&Writer, StoreError> {
        self.writer.as_ref().ok_or_else(|| StoreError::rejected("the store was opened for reading only"))
    }

    /// Releases the reserve once the disk is full.
    fn note(&self, error: &StoreError) {
        if error.kind == StoreErrorKind::Full {
            self.reserve.release();
        }
    }

    /// Lets a reader run `work`.
    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, T> {
        Box::pin(async move { self.readers.run(work).await })
    }

    /// Lets the reader of the history run `work`.
    fn read_history<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, T> {
        Box::pin(async move { self.history.run(work).await })
    }

    /// Writes history, unless the disk is full. Each statement of `work` stands for itself.
    async fn write_history<T: Send + 'static>(
        &self,
        urgency: Urgency,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let writer = self.writer()?;
        self.reserve.check()?;
        writer.run_statements(urgency, work).await.inspect_err(|error| self.note(error))
    }

    /// Deletes the rows of a table that meet a condition, in small writes. Returns their number.
    async fn delete<P: Params + Clone + Send + 'static>(
        &self,
        table: &'static str,
        condition: &'static str,
        values: P,
    ) -> Result<u64, StoreError> {
        let mut total = 0;
        loop {
            let values = values.clone();
            let delete = move |connection: &Connection| {
                let rows = format!("SELECT rowid FROM {table} WHERE {condition} LIMIT {DELETE_BATCH}");
                let sql = format!("DELETE FROM {table} WHERE rowid IN ({rows})");
                Ok(connection.prepare_cached(&sql)?.execute(values)?)
            };
            let deleted = self.write(delete).await?;
            total += deleted as u64;
            if deleted < DELETE_BATCH {
                return Ok(total);
            }
        }
    }
}

impl Maintenance for Sqlite {
    fn check(&self) -> Result<(), StoreError> {
        self.file.check()
    }

    fn is_full(&self) -> bool {
        self.writer.is_some() && !self.reserve.is_kept()
    }

    fn prune_to(&self, max_bytes: u64) -> BoxFuture<'_, Pruned> {
        Box::pin(size::prune_to(self, max_bytes))
    }

    fn recover_space(&self) -> BoxFuture<'_, ()> {
        let reserve = self.reserve.clone();
        self.read(move |_| {
            reserve.keep();
            Ok(())
        })
    }

    fn backup<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, ()> {
        let to = to.to_owned();
        self.read(move |connection| {
            private_file(&to).map_err(|error| StoreError::rejected(format!("backup {}: {error}", to.display())))?;
            let copied = copy(connection, &to);
            if copied.is_err() {
                // The error of the copy is the one to report, not that of the removal.
                let _ = fs::remove_file(&to);
            }
            copied
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.readers.close();
            self.history.close();
            match &self.writer {
                Some(writer) => writer.close().await,
                None => Ok(()),
            }
        })
    }
}

/// Parses the enum variant that a column names.
fn parse_column<T: FromStr<Err = ParseEnumError>>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|error: ParseEnumError| StoreError::corrupt(error.to_string()))
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|error| StoreError::new(error_kind(&error), format!("database {}: {error}", path.display())))?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn configure(connection: &Connection, durability: Durability) -> Result<(), StoreError> {
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let detail = format!("database: journal mode stays {mode}; its file system cannot do WAL");
        return Err(StoreError::rejected(detail));
    }
    let synchronous = match durability {
        Durability::Normal => "NORMAL",
        Durability::Full => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    Ok(())
}

/// What is set once the tables are as they must be. A migration sorts whole indexes, which would take as much memory as they
/// have, and writes over none of their pages.
fn configure_rows(connection: &Connection) -> Result<(), StoreError> {
    // What a savepoint may have to undo would else be written to a file once it is large.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // A deleted credential must not remain in free pages, although it is sealed.
    connection.pragma_update(None, "secure_delete", "ON")?;
    Ok(())
}

fn copy(from: &Connection, to: &Path) -> Result<(), StoreError> {
    let mut target = connect(to)?;
    {
        let backup = Backup::new(from, &mut target)?;
        // Copying all pages in one step uses a single read snapshot, which neither blocks a writer nor is restarted by
        // one.
        match backup.step(-1)? {
            StepResult::Done => {}
            _ => return Err(StoreError::new(StoreErrorKind::Busy, "backup: the database is busy; try again")),
        }
    }
    let check: String = target.query_row("PRAGMA quick_check", [], |row| row.get(0))?;
    if check == "ok" { Ok(()) } else { Err(StoreError::corrupt(format!("backup: the copy is damaged: {check}"))) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::{Arc, Mutex, mpsc};
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::finding::Outcome;
    use crate::indicator::{Indicator, Tlp};
    use crate::source::{QuotaPer, QuotaWindow};
    use crate::store::{Acquire, Acquired, Ledger, Retention, Store, Unit, VerdictRecord, VerdictStore, new_id};
    use crate::verdict::{Policy, fuse};

    fn open(folder: &tempfile::TempDir) -> Sqlite {
        Sqlite::open(&folder.path().join("concord.db"), Durability::Normal).expect("opens")
    }

    #[tokio::test]
    async fn writes_that_wait_together_are_committed_together() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(&folder);
        let (release, gate) = mpsc::channel::<()>();
        let first = store.write(move |_| Ok(gate.recv().is_ok()));
        let other = connect(&folder.path().join("concord.db")).expect("connects");
        let other = Arc::new(Mutex::new(other));
        // Each write returns how many rows another connection sees, which are those of earlier transactions.
        let insert = |number: u32| {
            let other = other.clone();
            store.write(move |connection| {
                let row = [format!("source-{number}")];
                connection.execute("INSERT INTO sources (name, revision, document) VALUES (?1, 1, '{}')", row)?;
                let other = other.lock().expect("a lock");
                Ok(other.query_row("SELECT count(*) FROM sources", [], |row| row.get::<_, i64>(0))?)
            })
        };
        let others = futures_util::future::join_all((0..50).map(insert));
        let open_gate = async move { release.send(()).expect("released") };
        let (opened, seen, ()) = tokio::join!(first, others, open_gate);
        assert!(opened.expect("written"));
        let transactions: BTreeSet<_> = seen.into_iter().map(|seen| seen.expect("written")).collect();
        assert!(transactions.len() <= 2, "{transactions:?}");
    }

    #[tokio::test]
    async fn a_failed_write_undoes_only_its_own_part() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(&folder);
        let insert = |name: &'static str, fail: bool| {
            store.write(move |connection| {
                connection.execute("INSERT INTO sources (name, revision, document) VALUES (?1, 1, '{}')", [name])?;
                if fail { Err(StoreError::rejected("on purpose")) } else { Ok(()) }
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
    async fn closing_completes_queued_work_and_refuses_further_work() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(&folder);
        let (written, closed) = tokio::join!(store.write(|_| Ok(7)), store.close());
        assert_eq!(written, Ok(7));
        closed.expect("closed");
        assert!(store.write(|_| Ok(())).await.is_err());
        assert!(store.read(|_| Ok(())).await.is_err());
        store.close().await.expect("closing twice does nothing");
    }

    #[test]
    fn full_durability_is_a_setting() {
        let connection = Connection::open_in_memory().expect("opens");
        assert!(configure(&connection, Durability::Full).is_err(), "memory cannot do WAL");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.db");
        private_file(&path).expect("made");
        let connection = connect(&path).expect("connects");
        for (durability, level) in [(Durability::Normal, 1), (Durability::Full, 2)] {
            configure(&connection, durability).expect("configured");
            let set: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).expect("read");
            assert_eq!(set, level);
        }
    }

    #[test]
    fn an_error_tells_whether_a_retry_can_help() {
        let kinds = [
            (rusqlite::ffi::SQLITE_BUSY, StoreErrorKind::Busy, true),
            (rusqlite::ffi::SQLITE_LOCKED, StoreErrorKind::Busy, true),
            (rusqlite::ffi::SQLITE_IOERR, StoreErrorKind::Unavailable, true),
            (rusqlite::ffi::SQLITE_FULL, StoreErrorKind::Full, true),
            (rusqlite::ffi::SQLITE_CORRUPT, StoreErrorKind::Corrupt, false),
            (rusqlite::ffi::SQLITE_CONSTRAINT, StoreErrorKind::Rejected, false),
        ];
        for (code, kind, transient) in kinds {
            let error = StoreError::from(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None));
            assert_eq!((error.kind, error.is_transient()), (kind, transient), "{error}");
        }
    }

    async fn append(store: &Sqlite, number: u64) -> Result<(), StoreError> {
        let indicator = Indicator::parse("192.0.2.1").expect("an address").indicator;
        let create_time = UNIX_EPOCH + Duration::from_secs(number);
        let mut verdict = fuse(&Policy::built_in()[0], &indicator, create_time, Vec::<Outcome>::new());
        let block = (0..64).map(|place| new_id(UNIX_EPOCH + Duration::from_secs(place)));
        verdict.deciding_source = Some(block.collect());
        let (id, caller) = (number.to_string(), "tester".to_owned());
        let record =
            VerdictRecord { id, create_time, caller, tlp: Tlp::Green, verdict, answers: Vec::new(), units: None };
        store.append(record.into()).await
    }

    async fn take(store: &Sqlite, second: u64) -> Result<Vec<Acquired>, StoreError> {
        let at = UNIX_EPOCH + Duration::from_secs(second);
        // The name is long, so that units fill pages quickly.
        let unit = Unit { account: "account".into(), source: "s".repeat(2_000), at, charged_to: None };
        let limits = vec![QuotaWindow { per: QuotaPer::Month, limit: 1_000_000 }].into();
        store.acquire(vec![Acquire { unit, limits, budget: None, disclosures: Vec::new() }]).await
    }

    #[tokio::test]
    async fn on_a_full_disk_history_gives_way_to_the_ledger_and_pruning_makes_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(&folder);
        for number in 0..200 {
            append(&store, number).await.expect("stored");
        }
        // Simulates a full disk.
        let fill = |connection: &Connection| {
            let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            Ok(connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0))?)
        };
        store.write(fill).await.expect("set");
        let mut next = 200;
        while append(&store, next).await.is_ok() {
            next += 1;
        }
        assert!(store.is_full());
        assert!(!folder.path().join("concord.db.reserve").exists(), "the space is given to the ledger");
        assert_eq!(append(&store, next).await.expect_err("refused").kind, StoreErrorKind::Full);
        assert!(store.verdict("0").await.expect("it can be read").is_some());
        // If not even a unit can be recorded, none is granted.
        let mut units = 0_u64;
        let refused = loop {
            match take(&store, units).await {
                Ok(_) => units += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind, StoreErrorKind::Full);
        let before = UNIX_EPOCH + Duration::from_secs(100);
        let retention = Retention {
            answers_age: Duration::MAX,
            answers_bytes: u64::MAX,
            verdicts_age: Duration::from_secs(100),
            disclosures_age: Duration::MAX,
            store_bytes: u64::MAX,
        };
        let pruned = store.prune(retention, before + Duration::from_secs(100)).await.expect("pruned");
        assert_eq!(pruned.verdicts, 100);
        assert!(!store.is_full());
        append(&store, next).await.expect("there is room again");
        let granted = take(&store, units).await.expect("recorded");
        let Some(Acquired::Granted(uses)) = granted.first() else { panic!("{granted:?}") };
        assert_eq!(uses[0].used, units + 1, "refused units are not counted");
    }
}
