//! Source settings in SQLite: compare-and-set on the revision.

use rusqlite::{Row, params};

use super::super::{BoxFuture, SourceRow, SourceStore, StoreError, Swap};
use super::Sqlite;

fn kept(row: &Row<'_>) -> Result<SourceRow, StoreError> {
    let revision: i64 = row.get(1)?;
    let revision = u64::try_from(revision).map_err(|_| StoreError::new("a kept revision is negative"))?;
    Ok(SourceRow { name: row.get(0)?, revision, document: row.get(2)?, credential: row.get(3)? })
}

/// Whether the statement met the row it expected.
fn swapped(rows: usize) -> Swap {
    if rows == 0 { Swap::Conflict } else { Swap::Done }
}

fn revision(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::new("a revision is out of range"))
}

impl SourceStore for Sqlite {
    fn source_rows(&self) -> BoxFuture<'_, Vec<SourceRow>> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT name, revision, document, credential FROM sources ORDER BY name")?;
            let rows = statement.query_and_then([], kept)?;
            rows.collect()
        })
    }

    fn put_source_row(&self, row: SourceRow, expected: u64) -> BoxFuture<'_, Swap> {
        self.write(move |connection| {
            let next = revision(row.revision)?;
            let rows = if expected == 0 {
                let mut statement = connection.prepare_cached(
                    "INSERT INTO sources (name, revision, document, credential) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (name) DO NOTHING",
                )?;
                statement.execute(params![row.name, next, row.document, row.credential])?
            } else {
                let mut statement = connection.prepare_cached(
                    "UPDATE sources SET revision = ?2, document = ?3, credential = ?4
                     WHERE name = ?1 AND revision = ?5",
                )?;
                statement.execute(params![row.name, next, row.document, row.credential, revision(expected)?])?
            };
            Ok(swapped(rows))
        })
    }

    fn delete_source_row<'a>(&'a self, name: &'a str, expected: u64) -> BoxFuture<'a, Swap> {
        let name = name.to_owned();
        self.write(move |connection| {
            let mut statement = connection.prepare_cached("DELETE FROM sources WHERE name = ?1 AND revision = ?2")?;
            Ok(swapped(statement.execute(params![name, revision(expected)?])?))
        })
    }
}
