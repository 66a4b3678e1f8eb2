//! Policies in SQLite: rows are only added, each after the last of its policy, and pruned once no verdict names them.

use std::time::SystemTime;

use rusqlite::{Row, params};

use super::Sqlite;
use crate::store::time::{nanos, time};
use crate::store::{BoxFuture, PolicyRow, PolicyStore, StoreError, Swap};

fn read_row(row: &Row<'_>) -> Result<PolicyRow, StoreError> {
    Ok(PolicyRow {
        name: row.get("name")?,
        change: row.get("change")?,
        revision: row.get("revision")?,
        time: time(row.get("time")?),
        from_file: row.get("from_file")?,
        document: row.get("document")?,
    })
}

impl PolicyStore for Sqlite {
    fn last_policy_changes(&self) -> BoxFuture<'_, Vec<PolicyRow>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT * FROM policies AS row
                 WHERE change = (SELECT max(change) FROM policies WHERE name = row.name) ORDER BY name",
            )?;
            let rows = statement.query_and_then([], read_row)?;
            rows.collect()
        })
    }

    fn policy_revision<'a>(&'a self, name: &'a str, revision: u32) -> BoxFuture<'a, Option<PolicyRow>> {
        let name = name.to_owned();
        self.read(move |connection| {
            let mut statement = connection
                .prepare_cached("SELECT * FROM policies WHERE name = ?1 AND revision = ?2 AND document IS NOT NULL")?;
            let mut rows = statement.query_and_then(params![name, revision], read_row)?;
            rows.next().transpose()
        })
    }

    fn append_policy_change(&self, row: PolicyRow) -> BoxFuture<'_, Swap> {
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO policies (name, change, revision, time, from_file, document)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6
                 WHERE ?2 = 1 + (SELECT coalesce(max(change), 0) FROM policies WHERE name = ?1)",
            )?;
            let (time, document) = (nanos(row.time), row.document);
            let rows = statement.execute(params![row.name, row.change, row.revision, time, row.from_file, document])?;
            Ok(if rows == 0 { Swap::Conflict } else { Swap::Done })
        })
    }

    fn prune_policies(&self, before: SystemTime, keep: u32) -> BoxFuture<'_, u64> {
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(
                "DELETE FROM policies AS row
                 WHERE change < (SELECT max(change) FROM policies WHERE name = row.name AND time < ?1)
                   AND change <= (SELECT max(change) FROM policies WHERE name = row.name) - ?2",
            )?;
            Ok(statement.execute(params![nanos(before), keep])? as u64)
        })
    }
}
