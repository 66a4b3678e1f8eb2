//! Raw answers in SQLite, compressed; large ones by a reader thread.

use std::time::SystemTime;

use rusqlite::{OptionalExtension, Row, params};

use super::Sqlite;
use super::queue::Urgency;
use crate::store::time::{nanos, time};
use crate::store::{AnswerStore, BoxFuture, RawAnswer, StoreError, encode};

/// A longer answer is compressed by a reader thread, since it would block a worker of the server or the writer.
const MAX_INLINE: usize = 16 * 1024;

fn read_answer(row: &Row<'_>) -> Result<RawAnswer, StoreError> {
    let body = encode::decompress(&row.get::<_, Vec<u8>>("body")?)?.into();
    Ok(RawAnswer { hash: row.get("hash")?, source: row.get("source")?, received: time(row.get("received")?), body })
}

impl AnswerStore for Sqlite {
    fn keep_answers(&self, answers: Vec<RawAnswer>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut compressed = Vec::with_capacity(answers.len());
            for answer in answers {
                let length = answer.body.len();
                let compress = move || {
                    let body = encode::compress(&answer.body)?;
                    Ok((answer, body))
                };
                compressed.push(if length <= MAX_INLINE {
                    compress()?
                } else {
                    self.read(move |_| compress()).await?
                });
            }
            let insert = self.write_history(Urgency::Patient, move |connection| {
                let mut statement = connection.prepare_cached(
                    "INSERT INTO answers (hash, source, received, seen, size, body) VALUES (?1, ?2, ?3, ?3, ?4, ?5)
                     ON CONFLICT (hash) DO UPDATE SET seen = max(seen, excluded.seen)",
                )?;
                for (answer, body) in compressed {
                    let RawAnswer { hash, source, received, .. } = answer;
                    statement.execute(params![hash, source, nanos(received), body.len() as i64, body])?;
                }
                Ok(())
            });
            insert.await
        })
    }

    fn answer<'a>(&'a self, hash: &'a str) -> BoxFuture<'a, Option<RawAnswer>> {
        let hash = hash.to_owned();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM answers WHERE hash = ?1")?;
            let mut rows = statement.query_and_then([hash], read_answer)?;
            rows.next().transpose()
        })
    }

    fn prune_answers(&self, before: SystemTime, max_bytes: u64) -> BoxFuture<'_, u64> {
        Box::pin(async move {
            let too_old = self.delete("answers", "seen < ?1", [nanos(before)]).await?;
            let max_bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX);
            let newest_beyond = self.read(move |connection| {
                // Those of one moment go together.
                let mut statement = connection.prepare_cached(
                    "SELECT seen FROM (SELECT seen, sum(size) OVER (ORDER BY seen DESC) AS total FROM answers)
                     WHERE total > ?1 ORDER BY seen DESC LIMIT 1",
                )?;
                Ok(statement.query_row([max_bytes], |row| row.get::<_, i64>(0)).optional()?)
            });
            match newest_beyond.await? {
                Some(seen) => Ok(too_old + self.delete("answers", "seen <= ?1", [seen]).await?),
                None => Ok(too_old),
            }
        })
    }
}
