//! Bounds the size of the whole database by removing the oldest history first, in small steps.

use rusqlite::Connection;

use super::Sqlite;
use crate::store::{Pruned, StoreError};

/// The tables of the history: name, the column with the age of a row, and the number of rows to remove in one step,
/// which is smaller for answers, since these can be large.
const HISTORY: [(&str, &str, u32); 4] =
    [("verdicts", "time", 50), ("answers", "seen", 5), ("disclosures", "time", 200), ("cached_answers", "time", 200)];

/// Removes the oldest rows of all tables until the database has at most `max_bytes` bytes or no history is left.
pub(super) async fn prune_to(store: &Sqlite, max_bytes: u64) -> Result<Pruned, StoreError> {
    let mut pruned = Pruned::default();
    while let Some((table, column, rows)) = store.read(move |connection| oldest_beyond(connection, max_bytes)).await? {
        let delete = move |connection: &Connection| {
            let sql = format!(
                "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} ORDER BY {column} LIMIT {rows})"
            );
            Ok(connection.prepare_cached(&sql)?.execute([])?)
        };
        let deleted = store.write(delete).await? as u64;
        match table {
            "verdicts" => pruned.verdicts += deleted,
            "answers" => pruned.answers += deleted,
            "cached_answers" => pruned.cached += deleted,
            _ => pruned.disclosures += deleted,
        }
    }
    Ok(pruned)
}

/// The table with the oldest row of all, as long as the database exceeds `max_bytes`.
fn oldest_beyond(
    connection: &Connection,
    max_bytes: u64,
) -> Result<Option<(&'static str, &'static str, u32)>, StoreError> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Option<u64>>(0));
    let pragma = |name: &str| number(&format!("PRAGMA {name}")).map(Option::unwrap_or_default);
    // Free pages do not count, since they are reused before the file grows.
    let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    if pages.saturating_mul(pragma("page_size")?) <= max_bytes {
        return Ok(None);
    }
    let mut oldest = None;
    for (table, column, rows) in HISTORY {
        let time = connection
            .query_row(&format!("SELECT min({column}) FROM {table}"), [], |row| row.get::<_, Option<i64>>(0))?;
        oldest = oldest.into_iter().chain(time.map(|time| (time, table, column, rows))).min();
    }
    Ok(oldest.map(|(_, table, column, rows)| (table, column, rows)))
}
