//! The writer thread. It takes all waiting jobs, runs them in one transaction, and replies after the commit. A transaction
//! costs more than most of what is in it, so one of jobs for which nobody waits is put off for a moment.
//!
//! A job of several statements has its own savepoint, so that it is undone if it fails without affecting the others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::StoreError;
use super::checkpoints::Checkpoints;
use super::file::DatabaseFile;
use super::queue::{Queue, Urgency};
use crate::sync::lock;

/// Maximum of jobs in one transaction, so that the first does not wait too long for its commit.
const BATCH: usize = 256;

/// Replies to the caller of a job, once it is known whether the transaction was committed.
type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A job does its work and returns the reply. It receives an error instead of a connection if nothing may be written.
type Work = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Reply + Send>;

/// The handle of the writer thread. Dropping it ends the thread once the queue is empty.
pub(super) struct Writer {
    jobs: Arc<Queue<Work>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
    failed_commits: Arc<AtomicU64>,
}

impl Writer {
    /// Starts the thread, which takes over this connection. It writes only while the check of `file` succeeds.
    pub(super) fn start(connection: Connection, file: DatabaseFile) -> Result<Self, StoreError> {
        let jobs = Arc::new(Queue::default());
        let queued = Abandons(jobs.clone());
        let (end, ended) = oneshot::channel();
        let failed_commits = Arc::new(AtomicU64::new(0));
        let failed = failed_commits.clone();
        let checkpoints = Checkpoints::start(&connection, file.path())?;
        let work = move || {
            write_all(&connection, &file, &checkpoints, &queued.0, &failed);
            checkpoints.end();
            // The WAL is replayed on the next open; the checkpoint is optional.
            let _ = connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);");
            drop(connection);
            // Sending fails if nobody waits for the end.
            let _ = end.send(());
        };
        let thread = thread::Builder::new().name("store-writer".to_owned()).spawn(work);
        thread.map_err(|error| StoreError::unavailable(format!("the writer cannot start: {error}")))?;
        Ok(Self { jobs, ended: Mutex::new(Some(ended)), failed_commits })
    }

    /// The number of commits that have failed so far, for callers that cache what was written.
    pub(super) fn failed_commits(&self) -> Arc<AtomicU64> {
        self.failed_commits.clone()
    }

    /// Queues the work and waits for its commit. If it fails, all of it is undone.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run_statements(Urgency::Urgent, move |connection| in_savepoint(connection, work)).await
    }

    /// Likewise, but if it fails, what its statements before the one that failed have written stays. A savepoint copies each page
    /// that is written.
    pub(super) async fn run_statements<T: Send + 'static>(
        &self,
        urgency: Urgency,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            let result = connection.and_then(|connection| in_transaction(connection, work));
            Box::new(move |committed| {
                // Sending fails if the caller no longer waits; the work is done nevertheless. The job's own error takes
                // precedence over that of the commit, which it may have caused: a full disk ends the transaction.
                let _ = sender.send(result.and_then(|done| committed.map(|()| done)));
            })
        });
        self.jobs.push(work, urgency)?;
        receiver.await.map_err(|_| StoreError::unavailable("the writer ended before it replied"))?
    }

    /// Accepts no further jobs, and waits until the thread has completed those in the queue.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        self.jobs.close();
        let ended = lock(&self.ended).take();
        match ended {
            Some(ended) => ended.await.map_err(|_| StoreError::unavailable("the writer ended badly")),
            None => Ok(()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs.close();
    }
}

/// The writer's end of the queue. If a job panics, nobody waits in vain for those behind it.
struct Abandons(Arc<Queue<Work>>);

impl Drop for Abandons {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Works until the queue is closed and empty.
fn write_all(
    connection: &Connection,
    file: &DatabaseFile,
    checkpoints: &Checkpoints,
    jobs: &Queue<Work>,
    failed_commits: &AtomicU64,
) {
    while let Some(batch) = jobs.take(BATCH) {
        match file.check() {
            Ok(()) => {
                write_batch(connection, batch, failed_commits);
                checkpoints.make_if_due();
            }
            Err(gone) => batch.into_iter().for_each(|work| work(Err(gone.clone()))(Ok(()))),
        }
    }
}

/// Runs all jobs in one transaction, and then replies.
fn write_batch(connection: &Connection, batch: Vec<Work>, failed_commits: &AtomicU64) {
    let begun = execute(connection, "BEGIN IMMEDIATE");
    // If no transaction could be started, each job fails, since jobs refuse to run outside a transaction.
    let replies: Vec<Reply> = batch.into_iter().map(|work| work(Ok(connection))).collect();
    let committed = begun.and_then(|()| commit(connection));
    if committed.is_err() {
        failed_commits.fetch_add(1, Ordering::Release);
    }
    for reply in replies {
        reply(committed.clone());
    }
}

fn commit(connection: &Connection) -> Result<(), StoreError> {
    if connection.is_autocommit() {
        return Err(StoreError::unavailable("the transaction was ended by a failure"));
    }
    let committed = execute(connection, "COMMIT");
    if committed.is_err() && !connection.is_autocommit() {
        // The next batch must not find an open transaction. The writes of this one are reported as failed.
        let _ = connection.execute_batch("ROLLBACK");
    }
    committed
}

fn in_transaction<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // A full disk ends the whole transaction. A statement would then be committed by itself.
    if connection.is_autocommit() {
        return Err(StoreError::unavailable("the transaction was ended by an earlier failure"));
    }
    let result = work(connection);
    if connection.is_autocommit() {
        return result.and(Err(StoreError::unavailable("the transaction was ended by a failure")));
    }
    result
}

fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    execute(connection, "SAVEPOINT job")?;
    let result = work(connection);
    // A full disk ends the whole transaction, and the savepoint with it.
    if connection.is_autocommit() {
        return result;
    }
    if result.is_err() {
        execute(connection, "ROLLBACK TO job")?;
    }
    execute(connection, "RELEASE job")?;
    result
}

/// Runs a statement without a result, which is prepared once.
fn execute(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::StoreErrorKind;

    /// A database with one table and our application ID, and two connections to it that do not wait for each other.
    fn two_connections(folder: &tempfile::TempDir) -> (Connection, Connection) {
        let path = folder.path().join("test.db");
        let first = Connection::open(&path).expect("opens");
        first
            .execute_batch("PRAGMA application_id = 1131307876; PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER)")
            .expect("made");
        first.busy_timeout(Duration::ZERO).expect("set");
        (first, Connection::open(&path).expect("opens"))
    }

    fn start(folder: &tempfile::TempDir, connection: Connection) -> Writer {
        let file = DatabaseFile::at(&folder.path().join("test.db")).expect("a file");
        Writer::start(connection, file).expect("starts")
    }

    fn insert(connection: &Connection) -> Result<usize, StoreError> {
        Ok(connection.execute("INSERT INTO t VALUES (1)", [])?)
    }

    fn count(connection: &Connection) -> i64 {
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("counts")
    }

    #[tokio::test]
    async fn without_a_transaction_nothing_is_written_and_the_next_write_works() {
        let folder = tempfile::tempdir().expect("a folder");
        let (connection, other) = two_connections(&folder);
        let writer = start(&folder, connection);
        other.execute_batch("BEGIN IMMEDIATE").expect("locks");
        let refused = writer.run(insert).await;
        assert!(refused.is_err(), "{refused:?}");
        other.execute_batch("ROLLBACK").expect("unlocks");
        assert_eq!(count(&other), 0);
        assert_eq!(writer.run(insert).await, Ok(1));
        assert_eq!(count(&other), 1);
    }

    #[tokio::test]
    async fn nothing_is_written_while_the_file_is_missing_from_its_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let (connection, other) = two_connections(&folder);
        let writer = start(&folder, connection);
        let (path, elsewhere) = (folder.path().join("test.db"), folder.path().join("moved.db"));
        std::fs::rename(&path, &elsewhere).expect("moved");
        let gone = writer.run(insert).await.expect_err("refused");
        assert_eq!(gone.kind, StoreErrorKind::Gone);
        assert!(gone.detail.contains("test.db: was moved, deleted or replaced"), "{gone}");
        std::fs::copy(&elsewhere, &path).expect("replaced");
        assert!(writer.run(insert).await.is_err(), "another file is in its place");
        std::fs::rename(&elsewhere, &path).expect("moved back");
        assert_eq!(writer.run(insert).await, Ok(1));
        assert_eq!(count(&other), 1);
    }

    #[tokio::test]
    async fn patient_jobs_share_a_transaction_behind_what_somebody_waits_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let (connection, other) = two_connections(&folder);
        let writer = start(&folder, connection);
        let other = Arc::new(Mutex::new(other));
        // Each job returns how many rows another connection sees, which are those of earlier transactions.
        let seen = |urgency| {
            let other = other.clone();
            writer.run_statements(urgency, move |connection| {
                insert(connection)?;
                Ok(count(&lock(&other)))
            })
        };
        let (first, second, urgent) =
            tokio::join!(seen(Urgency::Patient), seen(Urgency::Patient), seen(Urgency::Urgent));
        assert_eq!((first, second, urgent), (Ok(1), Ok(1), Ok(0)));
        assert_eq!(seen(Urgency::Patient).await, Ok(3), "nothing else comes");
    }

    #[tokio::test]
    async fn a_failed_commit_is_reported_to_all_jobs_and_leaves_no_transaction_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let (connection, other) = two_connections(&folder);
        let tables = "PRAGMA foreign_keys = ON; CREATE TABLE p (id INTEGER PRIMARY KEY);
            CREATE TABLE c (p INTEGER REFERENCES p DEFERRABLE INITIALLY DEFERRED);";
        connection.execute_batch(tables).expect("made");
        let writer = start(&folder, connection);
        let orphan = writer.run(|connection| {
            insert(connection)?;
            Ok(connection.execute("INSERT INTO c VALUES (7)", [])?)
        });
        assert!(orphan.await.is_err(), "the parent is missing at the commit");
        assert_eq!(count(&other), 0);
        assert_eq!(writer.run(insert).await, Ok(1));
        assert_eq!(count(&other), 1);
    }

    #[test]
    fn a_transaction_ended_by_a_job_fails_the_jobs_after_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (connection, other) = two_connections(&folder);
        connection.execute_batch("BEGIN IMMEDIATE").expect("begins");
        // Ends the transaction as a full disk does.
        let end = |connection: &Connection| {
            insert(connection)?;
            Ok(connection.execute_batch("ROLLBACK")?)
        };
        let ends = in_transaction(&connection, |connection| in_savepoint(connection, end));
        assert!(ends.is_err(), "its writes are undone");
        assert!(in_transaction(&connection, insert).is_err(), "it would commit by itself");
        assert!(commit(&connection).is_err());
        assert_eq!(count(&other), 0);
    }
}
