//! The ledger in SQLite: each call with its time for the sliding minute, a counter for each calendar day and month.
//!
//! A unit is acquired within the writer's transaction, so that nothing comes between reading and writing.

use std::time::SystemTime;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::filter::Conditions;
use super::{Sqlite, parse_column};
use crate::indicator::Indicator;
use crate::source::{QuotaPer, QuotaWindow};
use crate::store::quota::{self, Moment, WindowCount};
use crate::store::time::{nanos, time};
use crate::store::{Acquire, Acquired, BoxFuture, Cursor, Disclosure, DisclosureFilter, Ledger, StoreError, WindowUse};

/// What is recorded of an account within each window.
fn window_counts(
    connection: &Connection,
    account: &str,
    windows: &[QuotaWindow],
    at: &Moment,
) -> Result<Vec<WindowCount>, StoreError> {
    let count = |window: &QuotaWindow| match window.per {
        QuotaPer::Minute => minute_count(connection, account, window.limit, at),
        QuotaPer::Day | QuotaPer::Week | QuotaPer::Month => {
            let mut statement = connection.prepare_cached(
                "SELECT coalesce(sum(used), 0) FROM quota_counts WHERE account = ?1 AND per = ?2 AND starts >= ?3",
            )?;
            let values = params![account, quota::counted_by(window.per).as_str(), at.window_start(window.per)];
            Ok(WindowCount { used: statement.query_row(values, |row| row.get(0))?, next_to_expire: None })
        }
    };
    windows.iter().map(count).collect()
}

fn minute_count(connection: &Connection, account: &str, limit: u64, at: &Moment) -> Result<WindowCount, StoreError> {
    let start = at.window_start(QuotaPer::Minute);
    let mut statement =
        connection.prepare_cached("SELECT count(*) FROM quota_calls WHERE account = ?1 AND at >= ?2")?;
    let used = statement.query_row(params![account, start], |row| row.get(0))?;
    // A call from before the clock stepped back counts as made now.
    let mut statement = connection.prepare_cached(
        "SELECT CASE WHEN at > ?3 THEN ?4 ELSE at END AS made FROM quota_calls
         WHERE account = ?1 AND at >= ?2 ORDER BY made LIMIT 1 OFFSET ?5",
    )?;
    let values = params![account, start, at.latest_plausible(), at.now, quota::calls_over(used, limit)];
    Ok(WindowCount { used, next_to_expire: statement.query_row(values, |row| row.get(0)).optional()? })
}

/// Moves what was recorded before the clock stepped back to where the clock is now.
fn follow_clock(connection: &Connection, account: &str, at: &Moment) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached("UPDATE quota_calls SET at = ?2 WHERE account = ?1 AND at > ?3")?;
    statement.execute(params![account, at.now, at.latest_plausible()])?;
    for per in quota::COUNTED {
        let mut statement = connection.prepare_cached(
            "DELETE FROM quota_counts WHERE account = ?1 AND per = ?2 AND starts > ?3 RETURNING used",
        )?;
        let moved =
            statement.query_map(params![account, per.as_str(), at.latest_plausible()], |row| row.get::<_, i64>(0))?;
        let moved: i64 = moved.sum::<Result<_, _>>()?;
        if moved > 0 {
            add_to_count(connection, account, per, moved, at)?;
        }
    }
    Ok(())
}

fn record(connection: &Connection, acquire: &Acquire, at: &Moment) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare_cached("INSERT INTO quota_calls (account, at, source) VALUES (?1, ?2, ?3)")?;
    statement.execute(params![acquire.account, at.now, acquire.source])?;
    quota::COUNTED.iter().try_for_each(|per| add_to_count(connection, &acquire.account, *per, 1, at))
}

fn add_to_count(
    connection: &Connection,
    account: &str,
    per: QuotaPer,
    calls: i64,
    at: &Moment,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO quota_counts (account, per, starts, used) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (account, per, starts) DO UPDATE SET used = used + excluded.used",
    )?;
    statement.execute(params![account, per.as_str(), at.window_start(per), calls])?;
    Ok(())
}

/// Removes the record of a unit; false if there is none.
fn unrecord(connection: &Connection, unit: &Acquire, at: &Moment) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM quota_calls WHERE rowid =
             (SELECT rowid FROM quota_calls WHERE account = ?1 AND at = ?2 AND source = ?3 LIMIT 1)",
    )?;
    if statement.execute(params![unit.account, at.now, unit.source])? == 0 {
        return Ok(false);
    }
    for per in quota::COUNTED {
        let mut statement = connection.prepare_cached(
            "UPDATE quota_counts SET used = used - 1 WHERE account = ?1 AND per = ?2 AND starts = ?3 AND used > 0",
        )?;
        statement.execute(params![unit.account, per.as_str(), at.window_start(per)])?;
    }
    Ok(true)
}

fn read_disclosure(row: &Row<'_>) -> Result<Disclosure, StoreError> {
    let form = parse_column(&row.get::<_, String>("form")?)?;
    Ok(Disclosure {
        id: row.get("id")?,
        time: time(row.get("time")?),
        indicator: Indicator::from_stored(form, &row.get::<_, String>("value")?),
        source: row.get("source")?,
        to: row.get("recipient")?,
        caller: row.get("caller")?,
        tlp: parse_column(&row.get::<_, String>("tlp")?)?,
    })
}

impl Ledger for Sqlite {
    fn acquire(&self, acquire: Acquire) -> BoxFuture<'_, Acquired> {
        self.write(move |connection| {
            let at = Moment::at(acquire.at)?;
            follow_clock(connection, &acquire.account, &at)?;
            let counts = window_counts(connection, &acquire.account, &acquire.windows, &at)?;
            let acquired = quota::decide(&acquire.windows, &counts, &at);
            if matches!(acquired, Acquired::Granted(_)) {
                record(connection, &acquire, &at)?;
            }
            Ok(acquired)
        })
    }

    fn give_back(&self, unit: Acquire) -> BoxFuture<'_, Option<Vec<WindowUse>>> {
        self.write(move |connection| {
            let at = Moment::at(unit.at)?;
            if !unrecord(connection, &unit, &at)? {
                return Ok(None);
            }
            let counts = window_counts(connection, &unit.account, &unit.windows, &at)?;
            Ok(Some(quota::window_uses(&unit.windows, &counts, &at)))
        })
    }

    fn usage<'a>(
        &'a self,
        account: &'a str,
        windows: &'a [QuotaWindow],
        at: SystemTime,
    ) -> BoxFuture<'a, Vec<WindowUse>> {
        let account = account.to_owned();
        let windows = windows.to_vec();
        self.read(move |connection| {
            let at = Moment::at(at)?;
            // One snapshot, or a unit acquired in between would show in one window and not in another.
            let snapshot = connection.unchecked_transaction()?;
            Ok(quota::window_uses(&windows, &window_counts(&snapshot, &account, &windows, &at)?, &at))
        })
    }

    fn record_disclosure(&self, disclosure: Disclosure) -> BoxFuture<'_, ()> {
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO disclosures (id, time, form, value, source, recipient, caller, tlp)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING",
            )?;
            let rows = statement.execute(params![
                disclosure.id,
                nanos(disclosure.time),
                disclosure.indicator.form().as_str(),
                disclosure.indicator.value(),
                disclosure.source,
                disclosure.to,
                disclosure.caller,
                disclosure.tlp.as_str(),
            ])?;
            if rows == 0 { Err(StoreError::rejected(format!("disclosure {} exists", disclosure.id))) } else { Ok(()) }
        })
    }

    fn disclosures(
        &self,
        filter: DisclosureFilter,
        limit: usize,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Vec<Disclosure>> {
        self.read(move |connection| {
            let mut conditions = Conditions::default();
            conditions.indicator(filter.indicator.as_ref());
            if let Some(source) = filter.source {
                conditions.and("source = ?", [Value::Text(source)]);
            }
            conditions.period(filter.from, filter.until, after);
            let (sql, values) = conditions.newest("SELECT * FROM disclosures", limit);
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_and_then(params_from_iter(values), read_disclosure)?;
            rows.collect()
        })
    }

    fn prune_disclosures(&self, before: SystemTime) -> BoxFuture<'_, u64> {
        Box::pin(self.delete("disclosures", "time < ?1", [nanos(before)]))
    }

    fn prune_quota(&self, now: SystemTime) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let at = Moment::at(now)?;
            self.delete("quota_calls", "at <= ?1", [at.oldest_call()]).await?;
            self.delete("quota_counts", "starts <= ?1", [at.oldest_count()]).await?;
            Ok(())
        })
    }
}
