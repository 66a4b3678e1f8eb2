//! Verdicts in SQLite: columns for the filters, and a compressed body with the whole verdict.

use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::types::Value;
use rusqlite::{Row, params, params_from_iter};

use super::filter::Conditions;
use super::queue::Urgency;
use super::{Sqlite, parse_column};
use crate::store::time::{nanos, time};
use crate::store::{
    BoxFuture, Cursor, Listed, PageLimit, StoreError, VerdictFilter, VerdictRecord, VerdictStore, encode,
};

const SELECT: &str = "SELECT id, time, caller, tlp, body FROM verdicts";

/// The record, and the bytes of its body.
fn read_record(row: &Row<'_>) -> Result<(VerdictRecord, usize), StoreError> {
    let body = encode::decompress(&row.get::<_, Vec<u8>>("body")?)?;
    let (verdict, answers, units) = encode::decode(&body)?;
    let record = VerdictRecord {
        id: row.get("id")?,
        create_time: time(row.get("time")?),
        caller: row.get("caller")?,
        tlp: parse_column(&row.get::<_, String>("tlp")?)?,
        verdict,
        answers,
        units,
    };
    Ok((record, body.len()))
}

fn conditions(filter: &VerdictFilter, after: Option<Cursor>) -> Conditions {
    let mut conditions = Conditions::default();
    conditions.indicator(filter.indicator.as_ref());
    if let Some(disposition) = filter.disposition {
        conditions.and("disposition = ?", [Value::Text(disposition.as_str().to_owned())]);
    }
    conditions.period(filter.from, filter.until, after);
    conditions
}

impl VerdictStore for Sqlite {
    fn append(&self, record: Arc<VerdictRecord>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let body = encode::compress(&encode::encode(&record))?;
            let insert = self.write_history(Urgency::Urgent, move |connection| {
                let mut statement = connection.prepare_cached(
                    "INSERT INTO verdicts (id, time, form, value, disposition, caller, tlp, body)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING",
                )?;
                let verdict = &record.verdict;
                let rows = statement.execute(params![
                    record.id,
                    nanos(record.create_time),
                    verdict.indicator.form().as_str(),
                    verdict.indicator.redacted(),
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
            Ok(rows.next().transpose()?.map(|(record, _)| record))
        })
    }

    fn verdicts(
        &self,
        filter: VerdictFilter,
        limit: PageLimit,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Listed<VerdictRecord>> {
        self.read_history(move |connection| {
            // The statement has no LIMIT: rows are read as needed, and those that cannot be read do not count.
            let (sql, values) = conditions(&filter, after).newest(SELECT, usize::MAX);
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params_from_iter(values), |row| Ok(read_record(row)))?;
            let readable = |row: rusqlite::Result<Result<_, StoreError>>| match row {
                Ok(Ok(record)) => Some(Ok(record)),
                // A verdict that is damaged or of a newer version must not hide the others.
                Ok(Err(error)) => {
                    tracing::error!(%error, "a stored verdict is left out of a list");
                    None
                }
                Err(error) => Some(Err(error.into())),
            };
            Listed::fill(limit, rows.filter_map(readable))
        })
    }

    fn count_verdicts(&self, filter: VerdictFilter) -> BoxFuture<'_, u64> {
        self.read_history(move |connection| {
            let (sql, values) = conditions(&filter, None).all("SELECT COUNT(*) FROM verdicts");
            let mut statement = connection.prepare_cached(&sql)?;
            Ok(statement.query_row(params_from_iter(values), |row| row.get(0))?)
        })
    }

    fn prune_verdicts(&self, before: SystemTime) -> BoxFuture<'_, u64> {
        Box::pin(self.delete("verdicts", "time < ?1", [nanos(before)]))
    }
}
