//! Raw answers in SQLite, compressed by a reader thread, and the pruning of everything.

use std::time::SystemTime;

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::params;

use super::super::AnswerStore;
use super::super::Pending;
use super::super::Pruned;
use super::super::RawAnswer;
use super::super::Retention;
use super::super::StoreError;
use super::super::encode;
use super::super::quota;
use super::super::quota::nanos;
use super::Sqlite;

fn insert(connection: &Connection, answer: &RawAnswer) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO answers (hash, source, received, seen, size, body) VALUES (?1, ?2, ?3, ?3, ?4, ?5)
         ON CONFLICT (hash) DO UPDATE SET seen = max(seen, excluded.seen)",
    )?;
    let size = i64::try_from(answer.body.len()).unwrap_or(i64::MAX);
    statement.execute(params![answer.hash, answer.source, nanos(answer.received), size, answer.body])?;
    Ok(())
}

/// The answer as kept, its body still compressed.
fn kept(row: &Row<'_>) -> rusqlite::Result<RawAnswer> {
    Ok(RawAnswer { hash: row.get(0)?, source: row.get(1)?, received: quota::time(row.get(2)?), body: row.get(3)? })
}

impl AnswerStore for Sqlite {
    fn keep_answer(&self, mut answer: RawAnswer) -> Pending<'_, ()> {
        Box::pin(async move {
            // An answer can be large: compressing it would hold up both a worker of the server and the writer.
            let answer = self.read(move |_| {
                answer.body = encode::compress(&answer.body)?;
                Ok(answer)
            });
            let answer = answer.await?;
            self.write(move |connection| insert(connection, &answer)).await
        })
    }

    fn answer<'a>(&'a self, hash: &'a str) -> Pending<'a, Option<RawAnswer>> {
        let hash = hash.to_owned();
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT hash, source, received, body FROM answers WHERE hash = ?1")?;
            let Some(mut answer) = statement.query_row(params![hash], kept).optional()? else { return Ok(None) };
            answer.body = encode::decompress(&answer.body)?;
            Ok(Some(answer))
        })
    }

    fn prune(&self, retention: Retention, now: SystemTime) -> Pending<'_, Pruned> {
        let now = nanos(now);
        self.write(move |connection| {
            let pruned = Pruned {
                answers: prune_answers(connection, retention, now)?,
                verdicts: delete(
                    connection,
                    "DELETE FROM verdicts WHERE time < ?1",
                    quota::before(now, retention.verdicts_age),
                )?,
                disclosures: delete(
                    connection,
                    "DELETE FROM disclosures WHERE time < ?1",
                    quota::before(now, retention.disclosures_age),
                )?,
            };
            delete(connection, "DELETE FROM quota_calls WHERE at <= ?1", now.saturating_sub(quota::CALLS_KEPT))?;
            delete(connection, "DELETE FROM quota_counts WHERE starts <= ?1", now.saturating_sub(quota::COUNTS_KEPT))?;
            Ok(pruned)
        })
    }
}

fn delete(connection: &Connection, statement: &str, bound: i64) -> Result<u64, StoreError> {
    let rows = connection.prepare_cached(statement)?.execute([bound])?;
    Ok(u64::try_from(rows).unwrap_or(u64::MAX))
}

fn prune_answers(connection: &Connection, retention: Retention, now: i64) -> Result<u64, StoreError> {
    let oldest = quota::before(now, retention.answers_age);
    let old = delete(connection, "DELETE FROM answers WHERE seen < ?1", oldest)?;
    let bytes = i64::try_from(retention.answers_bytes).unwrap_or(i64::MAX);
    let over = delete(
        connection,
        "DELETE FROM answers WHERE hash IN (
             SELECT hash FROM (SELECT hash, sum(size) OVER (ORDER BY seen DESC, hash DESC) AS total FROM answers)
             WHERE total > ?1)",
        bytes,
    )?;
    Ok(old + over)
}
