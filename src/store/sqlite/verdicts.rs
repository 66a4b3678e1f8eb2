//! Verdicts in SQLite: columns to find them by, and a compressed body that holds the whole.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params, params_from_iter};

use super::super::quota::{nanos, time};
use super::super::{BoxFuture, Cursor, StoreError, VerdictFilter, VerdictRecord, VerdictStore, encode};
use super::Sqlite;
use super::filter::Conditions;

const SELECT: &str = "SELECT id, time, caller, tlp, body FROM verdicts";

/// A row before it is decoded.
struct Kept {
    id: String,
    time: i64,
    caller: String,
    tlp: String,
    body: Vec<u8>,
}

impl Kept {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { id: row.get(0)?, time: row.get(1)?, caller: row.get(2)?, tlp: row.get(3)?, body: row.get(4)? })
    }

    fn record(self) -> Result<VerdictRecord, StoreError> {
        let (verdict, answers) = encode::decode(&self.body)?;
        let tlp = encode::tlp(&self.tlp)?;
        Ok(VerdictRecord { id: self.id, create_time: time(self.time), caller: self.caller, tlp, verdict, answers })
    }
}

fn insert(connection: &Connection, record: &VerdictRecord, body: &[u8]) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO verdicts (id, time, form, value, disposition, caller, tlp, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING",
    )?;
    let verdict = &record.verdict;
    let values: [&dyn ToSql; 8] = [
        &record.id,
        &nanos(record.create_time),
        &verdict.indicator.form().as_str(),
        &verdict.indicator.value(),
        &verdict.disposition.as_str(),
        &record.caller,
        &record.tlp.as_str(),
        &body,
    ];
    match statement.execute(values)? {
        0 => Err(StoreError::new(format!("verdict {} is kept already and never changes", record.id))),
        _ => Ok(()),
    }
}

impl VerdictStore for Sqlite {
    fn append(&self, record: VerdictRecord) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let body = encode::encode(&record.verdict, &record.answers)?;
            self.write(move |connection| insert(connection, &record, &body)).await
        })
    }

    fn verdict<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<VerdictRecord>> {
        let id = id.to_owned();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
            let kept = statement.query_row(params![id], Kept::of).optional()?;
            kept.map(Kept::record).transpose()
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
            let (text, values) = conditions.newest(SELECT, usize::MAX);
            let mut statement = connection.prepare_cached(&text)?;
            let rows = statement.query_map(params_from_iter(values), Kept::of)?;
            let readable = |row: rusqlite::Result<Kept>| match row.map(Kept::record) {
                Ok(Ok(record)) => Some(Ok(record)),
                // One that is damaged, or of a newer version, must not hide the others.
                Ok(Err(error)) => {
                    tracing::error!(%error, "a kept verdict is left out of a list");
                    None
                }
                Err(error) => Some(Err(error.into())),
            };
            rows.filter_map(readable).take(limit).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::SqliteOptions;
    use super::*;
    use crate::indicator::{Indicator, Tlp};
    use crate::verdict::{Policy, fuse};

    #[tokio::test]
    async fn one_row_that_cannot_be_read_hides_no_other() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = Sqlite::open(&folder.path().join("store"), &SqliteOptions::default()).unwrap();
        let indicator = Indicator::parse("192.0.2.1").unwrap().indicator;
        let policy = Policy::built_in().swap_remove(0);
        for number in 0..3 {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(number);
            let verdict = fuse(&policy, &indicator, time, Vec::new());
            let (id, caller) = (format!("v{number}"), "tester".to_owned());
            let record = VerdictRecord { id, create_time: time, caller, tlp: Tlp::Amber, verdict, answers: Vec::new() };
            store.append(record).await.unwrap();
        }
        let damage =
            |connection: &Connection| Ok(connection.execute("UPDATE verdicts SET body = x'00' WHERE id = 'v1'", [])?);
        assert_eq!(store.write(damage).await.unwrap(), 1);
        let listed = store.verdicts(VerdictFilter::default(), 2, None).await.unwrap();
        let ids: Vec<_> = listed.iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids, ["v2", "v0"], "a page is full although a row is left out");
        assert!(store.verdict("v1").await.is_err());
    }
}
