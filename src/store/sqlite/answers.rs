//! Raw answers in SQLite, compressed by a reader thread, and the pruning of everything.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::quota::{self, nanos};
use super::super::{AnswerStore, BoxFuture, Pruned, RawAnswer, Retention, StoreError, encode};
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
    fn keep_answer(&self, mut answer: RawAnswer) -> BoxFuture<'_, ()> {
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

    fn answer<'a>(&'a self, hash: &'a str) -> BoxFuture<'a, Option<RawAnswer>> {
        let hash = hash.to_owned();
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT hash, source, received, body FROM answers WHERE hash = ?1")?;
            let Some(mut answer) = statement.query_row(params![hash], kept).optional()? else { return Ok(None) };
            answer.body = encode::decompress(&answer.body)?;
            Ok(Some(answer))
        })
    }

    fn prune(&self, retention: Retention, now: SystemTime) -> BoxFuture<'_, Pruned> {
        let now = nanos(now);
        let old = move |age| quota::before(now, age);
        Box::pin(async move {
            self.prune_by("quota_calls WHERE at <= ?1", [now.saturating_sub(quota::CALLS_KEPT)]).await?;
            let counts = now.saturating_sub(quota::COUNTS_KEPT);
            self.write(move |connection| {
                Ok(connection.prepare_cached("DELETE FROM quota_counts WHERE starts <= ?1")?.execute([counts])?)
            })
            .await?;
            Ok(Pruned {
                answers: self.prune_by("answers WHERE seen < ?1", [old(retention.answers_age)]).await?
                    + self.prune_by_size(retention.answers_bytes).await?,
                verdicts: self.prune_by("verdicts WHERE time < ?1", [old(retention.verdicts_age)]).await?,
                disclosures: self.prune_by("disclosures WHERE time < ?1", [old(retention.disclosures_age)]).await?,
            })
        })
    }
}

/// Rows that one job deletes: what a call pays waits behind no more.
const AT_ONCE: u64 = 200;

impl Sqlite {
    /// Deletes the rows that this names, in jobs of their own.
    async fn prune_by<P: rusqlite::Params + Clone + Send + 'static>(
        &self,
        rows: &'static str,
        values: P,
    ) -> Result<u64, StoreError> {
        let table = rows.split(' ').next().unwrap_or_default();
        let statement = format!("DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {rows} LIMIT {AT_ONCE})");
        let mut all = 0;
        loop {
            let (statement, values) = (statement.clone(), values.clone());
            let some =
                self.write(move |connection| Ok(connection.prepare_cached(&statement)?.execute(values)?)).await?;
            let some = u64::try_from(some).unwrap_or(u64::MAX);
            all += some;
            if some < AT_ONCE {
                return Ok(all);
            }
        }
    }

    /// Deletes the answers that were last seen longest ago, until the rest has at most so many bytes.
    async fn prune_by_size(&self, bytes: u64) -> Result<u64, StoreError> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let newest_to_go = self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT seen, hash FROM
                     (SELECT seen, hash, sum(size) OVER (ORDER BY seen DESC, hash DESC) AS total FROM answers)
                 WHERE total > ?1 ORDER BY seen DESC, hash DESC LIMIT 1",
            )?;
            let row = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
            Ok(statement.query_row([bytes], row).optional()?)
        });
        match newest_to_go.await? {
            Some(bound) => self.prune_by("answers WHERE (seen, hash) <= (?1, ?2)", bound).await,
            None => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::SqliteOptions;
    use super::*;

    #[tokio::test]
    async fn pruning_in_small_steps_removes_all_that_is_too_old_or_too_much() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = Sqlite::open(&folder.path().join("store"), &SqliteOptions::default()).unwrap();
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for number in 0..900_u64 {
            let answer =
                RawAnswer { hash: number.to_string(), source: "s".into(), received: at(number), body: vec![7] };
            store.keep_answer(answer).await.unwrap();
        }
        let ages = Duration::from_secs(1000);
        let retention =
            Retention { answers_age: ages, answers_bytes: u64::MAX, verdicts_age: ages, disclosures_age: ages };
        assert_eq!(store.prune(retention, at(1450)).await.unwrap().answers, 450);
        assert!(store.answer("449").await.unwrap().is_none() && store.answer("450").await.unwrap().is_some());
        let little = Retention { answers_bytes: 0, ..retention };
        assert_eq!(store.prune(little, at(1450)).await.unwrap().answers, 450);
        assert!(store.answer("899").await.unwrap().is_none());
    }
}
