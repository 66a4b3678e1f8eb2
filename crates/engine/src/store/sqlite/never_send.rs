//! Never-send rules in SQLite.

use rusqlite::{Row, params};

use super::Sqlite;
use crate::store::time::{nanos, time};
use crate::store::{BoxFuture, NeverSendRow, NeverSendStore, StoreError};

fn read_row(row: &Row<'_>) -> Result<NeverSendRow, StoreError> {
    Ok(NeverSendRow {
        id: row.get("id")?,
        rule: row.get("rule")?,
        comment: row.get("comment")?,
        creator: row.get("creator")?,
        create_time: time(row.get("time")?),
    })
}

impl NeverSendStore for Sqlite {
    fn never_send_rows(&self) -> BoxFuture<'_, Vec<NeverSendRow>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM never_send_rules ORDER BY id")?;
            let rows = statement.query_and_then([], read_row)?;
            rows.collect()
        })
    }

    fn put_never_send_row(&self, row: NeverSendRow) -> BoxFuture<'_, ()> {
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(
                "INSERT OR REPLACE INTO never_send_rules (id, rule, comment, creator, time) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            statement.execute(params![row.id, row.rule, row.comment, row.creator, nanos(row.create_time)])?;
            Ok(())
        })
    }

    fn delete_never_send_row<'a>(&'a self, id: &'a str) -> BoxFuture<'a, ()> {
        let id = id.to_owned();
        self.write(move |connection| {
            connection.prepare_cached("DELETE FROM never_send_rules WHERE id = ?1")?.execute(params![id])?;
            Ok(())
        })
    }
}
