//! Copies the pages in the write-ahead log into the database file, on a thread of its own: a checkpoint waits for the disk, and
//! every quota unit waits for the writer.

use std::cell::Cell;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use rusqlite::Connection;

use super::{StoreError, connect};

/// Pages written to the log from which a checkpoint is due, as in SQLite's own default.
const DUE_PAGES: i32 = 1_000;
/// Pages in the log at which the writer makes the checkpoint itself. The log only begins anew when all of it is copied, which
/// may never be the case while it is written to without a pause. Whoever pays a unit then waits for the disk, some 75 ms: with so
/// many pages (250 MiB) that is every 28 seconds at a hundred enrichments a second, too seldom for the 99th percentile.
const MAX_PAGES: i32 = 64_000;

thread_local! {
    /// Pages in the log after the last commit of this thread.
    static LOG_PAGES: Cell<i32> = const { Cell::new(0) };
}

/// The thread that makes checkpoints.
pub(super) struct Checkpoints {
    due: mpsc::SyncSender<()>,
    /// Pages in the log when one was last due.
    last: Cell<i32>,
    thread: JoinHandle<()>,
}

impl Checkpoints {
    /// Starts the thread. From now on `writer` makes no checkpoints itself, except to bound the log.
    pub(super) fn start(writer: &Connection, path: &Path) -> Result<Self, StoreError> {
        bound_log::<MAX_PAGES>(writer);
        let connection = connect(path)?;
        let (due, wake) = mpsc::sync_channel(1);
        let work = move || {
            while wake.recv().is_ok() {
                // What could not be copied stays in the log until the next time.
                let _ = checkpoint(&connection);
            }
        };
        let thread = thread::Builder::new().name("store-checkpoint".to_owned()).spawn(work);
        let thread =
            thread.map_err(|error| StoreError::unavailable(format!("the checkpoints cannot start: {error}")))?;
        Ok(Self { due, last: Cell::new(0), thread })
    }

    /// Lets the thread make a checkpoint if the commits of this thread, the writer, have written enough to the log.
    pub(super) fn make_if_due(&self) {
        let pages = LOG_PAGES.get();
        if pages < self.last.get() {
            // The log has begun anew.
            self.last.set(0);
        }
        if pages - self.last.get() >= DUE_PAGES {
            self.last.set(pages);
            // One that is already queued is enough.
            let _ = self.due.try_send(());
        }
    }

    /// Waits for the end of the thread.
    pub(super) fn end(self) {
        drop(self.due);
        // A panic there has lost nothing: the log is replayed on the next open.
        let _ = self.thread.join();
    }
}

/// Replaces the checkpoints that SQLite makes after commits by those that bound the log to so many pages.
fn bound_log<const MOST_PAGES: i32>(writer: &Connection) {
    writer.wal_hook(Some(|wal, pages| {
        LOG_PAGES.set(pages);
        if pages >= MOST_PAGES {
            // As in SQLite's own hook, a failure must not fail the commit, which is done.
            let _ = wal.checkpoint();
        }
        Ok(())
    }));
}

/// Copies as much as is possible without waiting for anybody, and returns how many pages of the log are still to be copied.
fn checkpoint(connection: &Connection) -> Result<i64, StoreError> {
    let left = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>("log")? - row.get::<_, i64>("checkpointed")?);
    Ok(connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], left)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PAGE_BYTES: u64 = 4_096;

    fn database(folder: &tempfile::TempDir) -> Connection {
        let connection = Connection::open(folder.path().join("test.db")).expect("opens");
        let sql = "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; CREATE TABLE t (bytes BLOB)";
        connection.execute_batch(sql).expect("made");
        connection
    }

    fn add_page(connection: &Connection) {
        connection.execute("INSERT INTO t VALUES (zeroblob(3000))", []).expect("inserted");
    }

    #[test]
    fn the_log_stays_bounded_even_if_the_thread_never_comes_to_it() {
        const MOST: i32 = 4_000;
        let folder = tempfile::tempdir().expect("a folder");
        let connection = database(&folder);
        bound_log::<MOST>(&connection);
        for _ in 0..3 * MOST {
            add_page(&connection);
        }
        let log = fs::metadata(folder.path().join("test.db-wal")).expect("a log").len();
        assert!(log < (MOST as u64 + 100) * (PAGE_BYTES + 24), "{log}");
        assert!(log > MOST as u64 * PAGE_BYTES, "no checkpoint was made before: {log}");
    }

    #[test]
    fn a_checkpoint_copies_what_the_writer_committed_while_it_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let connection = database(&folder);
        bound_log::<MAX_PAGES>(&connection);
        for _ in 0..100 {
            add_page(&connection);
        }
        let other = connect(&folder.path().join("test.db")).expect("connects");
        connection.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)").expect("open");
        assert_eq!(checkpoint(&other), Ok(0));
        connection.execute_batch("COMMIT").expect("committed");
        let pages = fs::metadata(folder.path().join("test.db")).expect("a file").len() / PAGE_BYTES;
        assert!(pages > 100, "{pages}");
    }

    #[test]
    fn a_checkpoint_is_due_after_a_thousand_pages_and_ends_with_the_writer() {
        let folder = tempfile::tempdir().expect("a folder");
        let connection = database(&folder);
        let checkpoints = Checkpoints::start(&connection, &folder.path().join("test.db")).expect("starts");
        while LOG_PAGES.get() < DUE_PAGES {
            checkpoints.make_if_due();
            add_page(&connection);
        }
        let size = || fs::metadata(folder.path().join("test.db")).expect("a file").len();
        assert!(size() < 10 * PAGE_BYTES, "none was due");
        checkpoints.make_if_due();
        checkpoints.end();
        assert!(size() > 100 * PAGE_BYTES, "{}", size());
    }
}
