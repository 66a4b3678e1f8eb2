//! The tables, as a list of migration steps. From the first release on, steps are only added. Times are nanoseconds
//! since 1970.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::{StoreError, error_kind};

/// SQLite's application ID of the database: "Cncd" in ASCII.
const APPLICATION_ID: i64 = 0x436e_6364;

/// Step `n` migrates a database from version `n` to `n + 1`.
const STEPS: &[&str] = &[
    "
CREATE TABLE verdicts (
    id TEXT PRIMARY KEY,
    time INTEGER NOT NULL,
    form TEXT NOT NULL,
    value TEXT NOT NULL,
    disposition TEXT NOT NULL,
    caller TEXT NOT NULL,
    tlp TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX verdicts_by_time ON verdicts (time, id);
CREATE INDEX verdicts_by_indicator ON verdicts (value, form, time, id);
CREATE INDEX verdicts_by_disposition ON verdicts (disposition, time, id);

CREATE TABLE answers (
    hash TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    received INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    size INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX answers_by_seen ON answers (seen, hash, size);

CREATE TABLE sources (
    name TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    document TEXT NOT NULL,
    credential BLOB
) STRICT, WITHOUT ROWID;

CREATE TABLE quota_calls (
    account TEXT NOT NULL,
    at INTEGER NOT NULL,
    source TEXT NOT NULL
) STRICT;
CREATE INDEX quota_calls_by_account ON quota_calls (account, at);

CREATE TABLE quota_counts (
    account TEXT NOT NULL,
    per TEXT NOT NULL,
    starts INTEGER NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (account, per, starts)
) STRICT;

CREATE TABLE disclosures (
    id TEXT PRIMARY KEY,
    time INTEGER NOT NULL,
    form TEXT NOT NULL,
    value TEXT NOT NULL,
    source TEXT NOT NULL,
    recipient TEXT NOT NULL,
    caller TEXT NOT NULL,
    tlp TEXT NOT NULL
) STRICT;
CREATE INDEX disclosures_by_time ON disclosures (time, id);
CREATE INDEX disclosures_by_indicator ON disclosures (value, form, time, id);
CREATE INDEX disclosures_by_source ON disclosures (source, time, id);
",
    "
CREATE TABLE feedback (
    id TEXT PRIMARY KEY,
    time INTEGER NOT NULL,
    form TEXT NOT NULL,
    value TEXT NOT NULL,
    judgement TEXT NOT NULL,
    author TEXT NOT NULL,
    reason TEXT NOT NULL,
    pin INTEGER NOT NULL,
    expires INTEGER,
    verdict TEXT,
    caller TEXT NOT NULL,
    retracted INTEGER,
    retracted_by TEXT,
    retraction_reason TEXT
) STRICT;
CREATE INDEX feedback_by_time ON feedback (time, id);
CREATE INDEX feedback_by_indicator ON feedback (value, form, time, id);
",
    "
CREATE TABLE policies (
    name TEXT NOT NULL,
    change INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    time INTEGER NOT NULL,
    from_file INTEGER NOT NULL,
    document TEXT,
    PRIMARY KEY (name, change)
) STRICT, WITHOUT ROWID;
",
    "
CREATE TABLE never_send_rules (
    id TEXT PRIMARY KEY,
    rule TEXT NOT NULL,
    comment TEXT NOT NULL,
    creator TEXT NOT NULL,
    time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
",
    "
CREATE TABLE submissions (
    id TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    time INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    submitter TEXT NOT NULL,
    source TEXT NOT NULL,
    form TEXT NOT NULL,
    value TEXT NOT NULL,
    state TEXT NOT NULL,
    is_open INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX submissions_by_time ON submissions (time, id);
CREATE INDEX submissions_by_indicator ON submissions (value, form, time, id);
CREATE INDEX submissions_by_state ON submissions (state, time, id);
CREATE INDEX submissions_open ON submissions (is_open, updated);
ALTER TABLE disclosures ADD COLUMN submission TEXT;
",
    "
CREATE TABLE cached_answers (
    key BLOB PRIMARY KEY,
    time INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX cached_answers_by_time ON cached_answers (time);
CREATE INDEX cached_answers_by_expires ON cached_answers (expires);
",
    "
ALTER TABLE feedback ADD COLUMN retracted_caller TEXT;
",
    // Calls by quarters of an hour, for the windows of any time zone. What a day has more than its hours, and a month more than
    // its days, is counted at its start.
    "
CREATE TABLE quota_quarters (
    account TEXT NOT NULL,
    starts INTEGER NOT NULL,
    recorded INTEGER NOT NULL,
    crossing INTEGER NOT NULL,
    PRIMARY KEY (account, starts)
) STRICT;
INSERT INTO quota_quarters (account, starts, recorded, crossing)
SELECT account, starts, sum(used), 0 FROM (
    SELECT account, starts, used FROM quota_counts WHERE per = 'hour'
    UNION ALL
    SELECT account, starts, max(0, used - (
        SELECT coalesce(sum(part.used), 0) FROM quota_counts AS part
        WHERE part.account = whole.account AND part.per = 'hour'
        AND part.starts >= whole.starts AND part.starts < whole.starts + 86400000000000
    )) FROM quota_counts AS whole WHERE per = 'day'
    UNION ALL
    SELECT account, starts, max(0, used - (
        SELECT coalesce(sum(part.used), 0) FROM quota_counts AS part
        WHERE part.account = whole.account AND part.per = 'day' AND part.starts >= whole.starts
        AND part.starts < 1000000000 * unixepoch(whole.starts / 1000000000, 'unixepoch', '+1 month')
    )) FROM quota_counts AS whole WHERE per = 'month'
) GROUP BY account, starts;
DROP TABLE quota_counts;
",
    // Each index costs a written page for most rows: those by source, disposition and account are few columns more in those by
    // time, to which rows are appended. Cached rows have other keys from now on, so that none could be found again.
    "
DELETE FROM cached_answers;
DROP INDEX quota_calls_by_account;
CREATE INDEX quota_calls_by_time ON quota_calls (at);
DROP INDEX disclosures_by_source;
DROP INDEX disclosures_by_time;
CREATE INDEX disclosures_by_time ON disclosures (time, id, source);
DROP INDEX verdicts_by_disposition;
DROP INDEX verdicts_by_time;
CREATE INDEX verdicts_by_time ON verdicts (time, id, disposition);
DROP INDEX cached_answers_by_time;
DROP INDEX answers_by_seen;
CREATE INDEX answers_by_seen ON answers (seen, size);
",
];

/// Whether the file starts like a database of this program. Reads the file itself, since SQLite may have cached pages
/// that the file no longer contains.
pub(super) fn is_marked(file: &File) -> bool {
    // The application ID is at bytes 68 to 71.
    let mut header = [0; 72];
    file.read_exact_at(&mut header, 0).is_ok() && header.starts_with(b"SQLite format 3\0") && header.ends_with(b"Cncd")
}

/// Checks that an existing file is a database of this program.
///
/// # Errors
/// If the file is empty, or was made by another program or a newer version of this one.
pub(super) fn check_version(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let way_out = "restore a backup there, or move the file away to start with an empty store";
    let found = number("PRAGMA application_id")
        .map_err(|error| StoreError::new(error_kind(&error), format!("database {}: {error}", path.display())))?;
    if found != APPLICATION_ID {
        let is_empty = number("PRAGMA user_version")? == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0;
        let what = if is_empty {
            "is empty, which this program never leaves it"
        } else {
            "was not written by this program, or by a version from before its first release"
        };
        return Err(StoreError::rejected(format!("database {}: {what}; {way_out}", path.display())));
    }
    version(connection).map(|_| ())
}

/// The version of the tables; 0 if there are none.
fn version(connection: &Connection) -> Result<usize, StoreError> {
    let version = connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))?;
    usize::try_from(version).ok().filter(|version| *version <= STEPS.len()).ok_or_else(|| {
        let known = STEPS.len();
        StoreError::rejected(format!("the database has version {version}, made by a newer version than this ({known})"))
    })
}

/// Migrates the tables to the current version. A step that fails leaves nothing behind.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in STEPS.iter().skip(version(&transaction)?) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", STEPS.len() as i64)?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_rows_under_keys_of_an_older_version_are_deleted() {
        let mut connection = Connection::open_in_memory().expect("opens");
        STEPS[..8].iter().for_each(|step| connection.execute_batch(step).expect("an older version"));
        connection.pragma_update(None, "user_version", 8).expect("its version");
        connection.execute("INSERT INTO cached_answers VALUES (x'01', 1, 2, x'')", []).expect("written");
        migrate(&mut connection).expect("migrated");
        let count = "SELECT count(*) FROM cached_answers";
        assert_eq!(connection.query_row(count, [], |row| row.get::<_, i64>(0)), Ok(0));
    }

    #[test]
    fn what_was_counted_by_hours_days_and_months_is_counted_once_by_quarters() {
        let mut connection = Connection::open_in_memory().expect("opens");
        STEPS[..6].iter().for_each(|step| connection.execute_batch(step).expect("an older version"));
        connection.pragma_update(None, "user_version", 6).expect("its version");
        const SECOND: i64 = 1_000_000_000;
        // 2026-02-28 10:00, its day and month, and the day after, which is in the next month.
        let (hour, day, month) = (1_772_272_800 * SECOND, 1_772_236_800 * SECOND, 1_769_904_000 * SECOND);
        let next = day + 86_400 * SECOND;
        for (per, starts, used) in [
            ("hour", hour, 3),
            ("day", day, 8),
            ("month", month, 20),
            ("hour", next, 2),
            ("day", next, 2),
            ("month", next, 2),
        ] {
            let row = "INSERT INTO quota_counts VALUES ('a', ?1, ?2, ?3)";
            connection.execute(row, (per, starts, used)).expect("inserted");
        }
        migrate(&mut connection).expect("migrated");
        let mut statement =
            connection.prepare("SELECT starts, recorded FROM quota_quarters ORDER BY starts").expect("SQL");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        let rows: Vec<(i64, i64)> = rows.collect::<Result<_, _>>().expect("read");
        assert_eq!(rows, [(month, 12), (day, 5), (hour, 3), (next, 2)]);
    }

    #[test]
    fn migrating_twice_changes_nothing() {
        let mut connection = Connection::open_in_memory().expect("opens");
        migrate(&mut connection).expect("first");
        connection.execute("INSERT INTO sources VALUES ('a', 1, '{}', NULL)", []).expect("inserts");
        migrate(&mut connection).expect("second");
        let rows: i64 = connection.query_row("SELECT count(*) FROM sources", [], |row| row.get(0)).expect("counts");
        assert_eq!(rows, 1);
    }
}
