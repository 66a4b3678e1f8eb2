//! Cached answers in SQLite.

use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{OptionalExtension, params};

use super::Sqlite;
use super::queue::Urgency;
use crate::store::time::nanos;
use crate::store::{AnswerCache, BoxFuture, CacheDigest, CachedRow};

/// So many rows are worth a transaction of their own.
const WHOLE: usize = 64;

impl AnswerCache for Sqlite {
    fn put_cached(&self, rows: Vec<CachedRow>) -> BoxFuture<'_, ()> {
        let urgency = if rows.len() < WHOLE { Urgency::Patient } else { Urgency::Urgent };
        Box::pin(self.write_history(urgency, move |connection| {
            // A row that is replaced becomes the newest, so that the oldest are found without an index.
            let mut statement = connection.prepare_cached(
                "INSERT OR REPLACE INTO cached_answers (key, time, expires, body) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for row in rows {
                statement.execute(params![row.key, nanos(row.time), nanos(row.expire_time), &*row.body])?;
            }
            Ok(())
        }))
    }

    fn cached(&self, key: CacheDigest) -> BoxFuture<'_, Option<Arc<[u8]>>> {
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
        Box::pin(self.delete("cached_answers", "expires <= ?1", [nanos(now)]))
    }
}
