//! Cached answers in SQLite.

use std::future;
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{OptionalExtension, params};

use super::Sqlite;
use super::queue::Urgency;
use crate::store::time::nanos;
use crate::store::{AnswerCache, BoxFuture, CacheDigest, CachedRow, StoreError};

/// So many rows are worth a transaction of their own.
const WHOLE: usize = 64;

impl AnswerCache for Sqlite {
    fn put_cached(&self, rows: Vec<CachedRow>) -> BoxFuture<'_, ()> {
        let urgency = if rows.len() < WHOLE { Urgency::Patient } else { Urgency::Urgent };
        let known = self.known_keys.clone();
        Box::pin(self.write_history(urgency, move |connection| {
            // A row that is replaced becomes the newest, so that the oldest are found without an index.
            let mut statement = connection.prepare_cached(
                "INSERT OR REPLACE INTO cached_answers (key, time, expires, body) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for row in rows {
                known.add(&row.key);
                statement.execute(params![row.key, nanos(row.time), nanos(row.expire_time), &*row.body])?;
            }
            Ok(())
        }))
    }

    fn cached(&self, key: CacheDigest) -> BoxFuture<'_, Option<Arc<[u8]>>> {
        if !self.known_keys.may_hold(&key) {
            return Box::pin(future::ready(Ok(None)));
        }
        self.read(move |connection| {
            let mut statement = connection.prepare_cached("SELECT body FROM cached_answers WHERE key = ?1")?;
            Ok(statement.query_row([key], |row| row.get::<_, Vec<u8>>(0)).optional()?.map(Arc::from))
        })
    }

    fn delete_cached(&self, key: CacheDigest) -> BoxFuture<'_, ()> {
        self.write(move |connection| {
            connection.prepare_cached("DELETE FROM cached_answers WHERE key = ?1")?.execute([key])?;
            Ok(())
        })
    }

    fn prune_cached(&self, now: SystemTime) -> BoxFuture<'_, u64> {
        Box::pin(async move {
            let deleted = self.delete("cached_answers", "expires <= ?1", [nanos(now)]).await?;
            self.renew_known_keys().await?;
            Ok(deleted)
        })
    }
}

impl Sqlite {
    /// Learns which indicators have rows, and forgets those that have none any more.
    async fn renew_known_keys(&self) -> Result<(), StoreError> {
        let Some(mut renewal) = self.known_keys.renew() else { return Ok(()) };
        // The writer has noted the rows of earlier jobs before the renewal began. Once this one is committed, they are too, so that
        // the reading sees them.
        self.write(|_| Ok(())).await?;
        self.read(move |connection| {
            let mut statement = connection.prepare("SELECT key FROM cached_answers")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                renewal.add(&row.get(0)?);
            }
            renewal.end();
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};
    use std::time::{Duration, UNIX_EPOCH};

    use futures_util::{FutureExt, poll};

    use super::super::READERS;
    use super::*;
    use crate::store::Durability;
    use crate::sync::lock;

    fn open(folder: &tempfile::TempDir) -> Sqlite {
        Sqlite::open(&folder.path().join("concord.db"), Durability::Normal).expect("opens")
    }

    fn row(number: u8) -> CachedRow {
        let expire_time = UNIX_EPOCH + Duration::from_secs(number.into());
        CachedRow { key: [number; 16], time: UNIX_EPOCH, expire_time, body: Arc::from([number]) }
    }

    #[tokio::test]
    async fn what_no_row_can_be_there_for_needs_no_reader() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(&folder);
        store.put_cached(vec![row(1), row(2)]).await.expect("written");
        drop(store);
        let store = open(&folder);
        assert_eq!(store.cached([1; 16]).await, Ok(Some(Arc::from([1]))));
        assert!(store.known_keys.may_hold(&[3; 16]), "nothing is known yet");
        // The first expires.
        assert_eq!(store.prune_cached(UNIX_EPOCH + Duration::from_secs(1)).await, Ok(1));
        store.put_cached(vec![row(4)]).await.expect("written");
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let mut busy: Vec<_> = (0..READERS)
            .map(|_| {
                let gate = gate.clone();
                store.read(move |_| Ok(lock(&gate).recv().is_ok()))
            })
            .collect();
        assert!(busy.iter_mut().all(|busy| busy.now_or_never().is_none()));
        for unknown in [1, 3] {
            assert_eq!(store.cached([unknown; 16]).now_or_never(), Some(Ok(None)), "{unknown}");
        }
        let (mut stored, mut new) = (store.cached([2; 16]), store.cached([4; 16]));
        assert!(poll!(&mut stored).is_pending() && poll!(&mut new).is_pending());
        drop(release);
        assert_eq!((stored.await, new.await), (Ok(Some(Arc::from([2]))), Ok(Some(Arc::from([4])))));
    }

    #[tokio::test]
    async fn rows_written_while_all_keys_are_read_stay_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(&folder);
        store.put_cached(vec![row(1)]).await.expect("written");
        let mut renewal = store.known_keys.renew().expect("none is under way");
        assert!(store.known_keys.renew().is_none(), "one is");
        store.put_cached(vec![row(2)]).await.expect("written");
        renewal.add(&[1; 16]);
        renewal.end();
        for number in [1, 2] {
            assert_eq!(store.cached([number; 16]).await, Ok(Some(Arc::from([number]))));
        }
        drop(store.known_keys.renew().expect("that one has ended"));
        assert!(store.known_keys.may_hold(&[2; 16]), "one that broke off changes nothing");
        store.put_cached(vec![row(3)]).await.expect("written");
        assert!(store.known_keys.may_hold(&[3; 16]));
    }
}
