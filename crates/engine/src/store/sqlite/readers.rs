//! The reader threads, each with its own connection. They also do slow work such as compression.

use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{StoreError, connect};
use crate::sync::lock;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The handle of the reader threads.
pub(super) struct Readers {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
}

impl Readers {
    /// Starts this many threads, each with its own connection to the database.
    pub(super) fn start(path: &Path, name: &str, count: usize) -> Result<Self, StoreError> {
        let (sender, receiver) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(receiver));
        for number in 0..count {
            let connection = connect(path)?;
            connection.pragma_update(None, "query_only", "ON")?;
            let queue = queue.clone();
            let thread = thread::Builder::new().name(format!("store-{name}-{number}"));
            let started = thread.spawn(move || read_all(&connection, &queue));
            started.map_err(|error| StoreError::unavailable(format!("a reader cannot start: {error}")))?;
        }
        Ok(Self { jobs: Mutex::new(Some(sender)) })
    }

    /// Queues the work and waits for its result.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Sending fails if the caller no longer waits for the result.
            if !sender.is_closed() {
                let _ = sender.send(work(connection));
            }
        });
        let closed = || StoreError::unavailable("the store is closed");
        lock(&self.jobs).as_ref().ok_or_else(closed)?.send(job).map_err(|_| closed())?;
        receiver.await.map_err(|_| StoreError::unavailable("a reader ended before it replied"))?
    }

    /// Accepts no further jobs. The threads end once they have completed those in the queue.
    pub(super) fn close(&self) {
        drop(lock(&self.jobs).take());
    }
}

fn read_all(connection: &Connection, queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let next = lock(queue).recv();
        let Ok(job) = next else { return };
        job(connection);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn a_read_that_nobody_waits_for_any_more_is_skipped() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = folder.path().join("store");
        drop(Connection::open(&store).unwrap());
        let readers = Readers::start(&store, "reader", 1).unwrap();
        let (release, gate) = mpsc::channel::<()>();
        let first = readers.run(move |_| Ok(gate.recv().is_ok()));
        tokio::pin!(first);
        assert!(poll!(first.as_mut()).is_pending());
        let read = Arc::new(AtomicBool::new(false));
        {
            let read = read.clone();
            let second = readers.run(move |_| {
                read.store(true, Ordering::SeqCst);
                Ok(())
            });
            tokio::pin!(second);
            assert!(poll!(second.as_mut()).is_pending());
        }
        release.send(()).unwrap();
        assert!(first.await.unwrap());
        readers.run(|_| Ok(())).await.unwrap();
        assert!(!read.load(Ordering::SeqCst));
    }
}
