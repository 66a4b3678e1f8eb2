//! Verdicts in SQLite: columns to find them by, and a compressed body that holds the whole.

use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::types::Value;
use rusqlite::{Row, params, params_from_iter};

use super::filter::Conditions;
use super::{Sqlite, parse_column};
use crate::store::time::{nanos, time};
use crate::store::{BoxFuture, Cursor, StoreError, VerdictFilter, VerdictRecord, VerdictStore, encode};

const SELECT: &str = "SELECT id, time, caller, tlp, body FROM verdicts";

fn read_record(row: &Row<'_>) -> Result<VerdictRecord, StoreError> {
    let (verdict, answers) = encode::decode(&row.get::<_, Vec<u8>>("body")?)?;
    Ok(VerdictRecord {
        id: row.get("id")?,
        create_time: time(row.get("time")?),
        caller: row.get("caller")?,
        tlp: parse_column(&row.get::<_, String>("tlp")?)?,
        verdict,
        answers,
    })
}

impl VerdictStore for Sqlite {
    fn append(&self, record: Arc<VerdictRecord>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let body = encode::encode(&record.verdict, &record.answers)?;
            let insert = self.write(move |connection| {
                let mut statement = connection.prepare_cached(
                    "INSERT INTO verdicts (id, time, form, value, disposition, caller, tlp, body)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING",
                )?;
                let verdict = &record.verdict;
                let rows = statement.execute(params![
                    record.id,
                    nanos(record.create_time),
                    verdict.indicator.form().as_str(),
                    verdict.indicator.value(),
                    verdict.disposition.as_str(),
                    record.caller,
                    record.tlp.as_str(),
                    body,
                ])?;
                match rows {
                    0 => Err(StoreError::rejected(format!("verdict {} exists and never changes", record.id))),
                    _ => Ok(()),
                }
            });
            insert.await
        })
    }

    fn verdict<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<VerdictRecord>> {
        let id = id.to_owned();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
            let mut rows = statement.query_and_then([id], read_record)?;
            rows.next().transpose()
        })
    }

    fn verdicts(
        &self,
        filter: VerdictFilter,
        limit: usize,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Vec<VerdictRecord>> {
        self.read(move |connection| {
            let mut conditions = Conditions::default();
            conditions.indicator(filter.indicator.as_ref());
            if let Some(disposition) = filter.disposition {
                conditions.and("disposition = ?", [Value::Text(disposition.as_str().to_owned())]);
            }
            conditions.period(filter.from, filter.until, after);
            // Without a limit: rows are read as they are needed, and those that cannot be read do not count.
            let (sql, values) = conditions.newest(SELECT, usize::MAX);
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params_from_iter(values), |row| Ok(read_record(row)))?;
            let readable = |row: rusqlite::Result<Result<VerdictRecord, StoreError>>| match row {
                Ok(Ok(record)) => Some(Ok(record)),
                // One that is damaged, or of a newer version, must not hide the others.
                Ok(Err(error)) => {
                    tracing::error!(%error, "a stored verdict is left out of a list");
                    None
                }
                Err(error) => Some(Err(error.into())),
            };
            rows.filter_map(readable).take(limit).collect()
        })
    }

    fn prune_verdicts(&self, before: SystemTime) -> BoxFuture<'_, u64> {
        Box::pin(self.delete("verdicts", "time < ?1", [nanos(before)]))
    }
}
