//! Bounds the size of the whole database by removing the oldest history first, in small steps.

use rusqlite::{Connection, OptionalExtension};

use super::Sqlite;
use crate::store::{Pruned, StoreError};

/// A table of the history.
struct Table {
    name: &'static str,
    /// The column with the age of a row.
    age: &'static str,
    /// The column by which the rows are in the order of their age.
    order: &'static str,
    /// How many rows are removed in one step: fewer answers, since these can be large.
    step: u32,
}

/// The history, of which the oldest rows go first.
static HISTORY: [Table; 4] = [
    Table { name: "verdicts", age: "time", order: "time", step: 50 },
    Table { name: "answers", age: "seen", order: "seen", step: 5 },
    Table { name: "disclosures", age: "time", order: "time", step: 200 },
    Table { name: "cached_answers", age: "time", order: "rowid", step: 200 },
];

/// Removes the oldest rows of all tables until the database has at most `max_bytes` bytes or no history is left.
pub(super) async fn prune_to(store: &Sqlite, max_bytes: u64) -> Result<Pruned, StoreError> {
    let mut pruned = Pruned::default();
    while let Some(table) = store.read(move |connection| oldest_beyond(connection, max_bytes)).await? {
        let Table { name, order, step, .. } = table;
        let delete = move |connection: &Connection| {
            let sql =
                format!("DELETE FROM {name} WHERE rowid IN (SELECT rowid FROM {name} ORDER BY {order} LIMIT {step})");
            Ok(connection.prepare_cached(&sql)?.execute([])?)
        };
        let deleted = store.write(delete).await? as u64;
        match *name {
            "verdicts" => pruned.verdicts += deleted,
            "answers" => pruned.answers += deleted,
            "cached_answers" => pruned.cached += deleted,
            _ => pruned.disclosures += deleted,
        }
    }
    Ok(pruned)
}

/// The table with the oldest row of all, as long as the database exceeds `max_bytes`.
fn oldest_beyond(connection: &Connection, max_bytes: u64) -> Result<Option<&'static Table>, StoreError> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Option<u64>>(0));
    let pragma = |name: &str| number(&format!("PRAGMA {name}")).map(Option::unwrap_or_default);
    // Free pages do not count, since they are reused before the file grows.
    let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    if pages.saturating_mul(pragma("page_size")?) <= max_bytes {
        return Ok(None);
    }
    let mut oldest: Option<(i64, &Table)> = None;
    for table in &HISTORY {
        let Table { name, age, order, .. } = table;
        let sql = format!("SELECT {age} FROM {name} ORDER BY {order} LIMIT 1");
        let time = connection.query_row(&sql, [], |row| row.get(0)).optional()?;
        oldest = oldest.into_iter().chain(time.map(|time| (time, table))).min_by_key(|(time, _)| *time);
    }
    Ok(oldest.map(|(_, table)| table))
}
