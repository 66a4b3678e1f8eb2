//! Source settings in SQLite: compare-and-set on the revision.

use rusqlite::{Row, params};

use super::Sqlite;
use crate::store::{BoxFuture, SourceRow, SourceStore, StoreError, Swap};

fn read_row(row: &Row<'_>) -> Result<SourceRow, StoreError> {
    Ok(SourceRow {
        name: row.get("name")?,
        revision: row.get("revision")?,
        document: row.get("document")?,
        credential: row.get("credential")?,
    })
}

/// The statement changes one row if it finds the expected revision.
fn swap(rows: usize) -> Swap {
    if rows == 0 { Swap::Conflict } else { Swap::Done }
}

impl SourceStore for Sqlite {
    fn source_rows(&self) -> BoxFuture<'_, Vec<SourceRow>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM sources ORDER BY name")?;
            let rows = statement.query_and_then([], read_row)?;
            rows.collect()
        })
    }

    fn put_source_row(&self, row: SourceRow, expected: u64) -> BoxFuture<'_, Swap> {
        self.write(move |connection| {
            let rows = if expected == 0 {
                let mut statement = connection.prepare_cached(
                    "INSERT INTO sources (name, revision, document, credential) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (name) DO NOTHING",
                )?;
                statement.execute(params![row.name, row.revision, row.document, row.credential])?
            } else {
                let mut statement = connection.prepare_cached(
                    "UPDATE sources SET revision = ?2, document = ?3, credential = ?4
                     WHERE name = ?1 AND revision = ?5",
                )?;
                statement.execute(params![row.name, row.revision, row.document, row.credential, expected])?
            };
            Ok(swap(rows))
        })
    }

    fn delete_source_row<'a>(&'a self, name: &'a str, expected: u64) -> BoxFuture<'a, Swap> {
        let name = name.to_owned();
        self.write(move |connection| {
            let mut statement = connection.prepare_cached("DELETE FROM sources WHERE name = ?1 AND revision = ?2")?;
            Ok(swap(statement.execute(params![name, expected])?))
        })
    }
}
