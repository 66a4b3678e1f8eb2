//! The ledger in SQLite: each call with its time for the sliding minute, a counter for each calendar day and month.
//!
//! A take reads and writes within the writer's transaction, so nothing comes between; it resolves after the commit.

use std::time::SystemTime;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::super::quota::{self, nanos};
use super::super::{
    Acquire, Acquired, BoxFuture, Cursor, Disclosure, DisclosureFilter, Ledger, StoreError, WindowUse, encode,
};
use super::Sqlite;
use super::filter::Conditions;
use crate::source::{QuotaPer, QuotaWindow};

/// What the database holds of an account, as seen at a moment.
struct AccountAt<'a> {
    connection: &'a Connection,
    account: &'a str,
    now: i64,
}

/// A count out of the database, which knows signed numbers only.
fn number(count: i64) -> Result<u64, StoreError> {
    u64::try_from(count).map_err(|_| StoreError::new("a kept count is negative"))
}

impl quota::Recorded for AccountAt<'_> {
    fn in_minute(&self) -> Result<u64, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT count(*) FROM quota_calls WHERE account = ?1 AND at > ?2")?;
        let begin = self.now.saturating_sub(quota::SLIDING);
        number(statement.query_row(params![self.account, begin], |row| row.get(0))?)
    }

    fn oldest(&self, skip: u64) -> Result<Option<i64>, StoreError> {
        // A call from before the clock stepped back counts as made now.
        let mut statement = self.connection.prepare_cached(
            "SELECT CASE WHEN at > ?3 THEN ?4 ELSE at END AS made FROM quota_calls
             WHERE account = ?1 AND at > ?2 ORDER BY made LIMIT 1 OFFSET ?5",
        )?;
        let begin = self.now.saturating_sub(quota::SLIDING);
        let ahead = self.now.saturating_add(quota::AHEAD);
        let skip = i64::try_from(skip).unwrap_or(i64::MAX);
        let values = params![self.account, begin, ahead, self.now, skip];
        Ok(statement.query_row(values, |row| row.get(0)).optional()?)
    }

    fn counted(&self, per: QuotaPer, starts: i64) -> Result<u64, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT coalesce(sum(used), 0) FROM quota_counts WHERE account = ?1 AND per = ?2 AND starts >= ?3",
        )?;
        number(statement.query_row(params![self.account, per.as_str(), starts], |row| row.get(0))?)
    }
}

impl AccountAt<'_> {
    /// Moves what was recorded before the clock stepped back to where the clock is now.
    fn settle(&self, calendar: quota::Calendar) -> Result<(), StoreError> {
        let ahead = self.now.saturating_add(quota::AHEAD);
        let mut statement =
            self.connection.prepare_cached("UPDATE quota_calls SET at = ?2 WHERE account = ?1 AND at > ?3")?;
        statement.execute(params![self.account, self.now, ahead])?;
        for (per, current) in [(QuotaPer::Day, calendar.day), (QuotaPer::Month, calendar.month)] {
            let mut statement = self.connection.prepare_cached(
                "DELETE FROM quota_counts WHERE account = ?1 AND per = ?2 AND starts > ?3 RETURNING used",
            )?;
            let moved = statement.query_map(params![self.account, per.as_str(), ahead], |row| row.get::<_, i64>(0))?;
            let moved: i64 = moved.sum::<Result<_, _>>()?;
            if moved > 0 {
                self.count(per, current, moved)?;
            }
        }
        Ok(())
    }

    fn record(&self, source: &str, calendar: quota::Calendar) -> Result<(), StoreError> {
        let old = self.now.saturating_sub(quota::CALLS_KEPT);
        let mut statement =
            self.connection.prepare_cached("DELETE FROM quota_calls WHERE account = ?1 AND at <= ?2")?;
        statement.execute(params![self.account, old])?;
        let mut statement =
            self.connection.prepare_cached("INSERT INTO quota_calls (account, at, source) VALUES (?1, ?2, ?3)")?;
        statement.execute(params![self.account, self.now, source])?;
        self.count(QuotaPer::Day, calendar.day, 1)?;
        self.count(QuotaPer::Month, calendar.month, 1)
    }

    fn count(&self, per: QuotaPer, starts: i64, units: i64) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO quota_counts (account, per, starts, used) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (account, per, starts) DO UPDATE SET used = used + excluded.used",
        )?;
        statement.execute(params![self.account, per.as_str(), starts, units])?;
        Ok(())
    }
}

fn acquire_unit(connection: &Connection, acquire: &Acquire) -> Result<Acquired, StoreError> {
    let now = nanos(acquire.at);
    let account = AccountAt { connection, account: &acquire.account, now };
    let calendar = quota::Calendar::at(now)?;
    account.settle(calendar)?;
    if let Some(spent) = quota::spent(&quota::uses(&account, &acquire.windows, now)?) {
        return Ok(spent);
    }
    account.record(&acquire.source, calendar)?;
    Ok(Acquired::Granted(quota::uses(&account, &acquire.windows, now)?))
}

fn insert(connection: &Connection, disclosure: &Disclosure) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO disclosures (id, time, form, value, source, told, caller, tlp)
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
    if rows == 0 { Err(StoreError::new(format!("disclosure {} is kept already", disclosure.id))) } else { Ok(()) }
}

fn kept(row: &Row<'_>) -> Result<Disclosure, StoreError> {
    let form: String = row.get("form")?;
    let value: String = row.get("value")?;
    let tlp: String = row.get("tlp")?;
    Ok(Disclosure {
        id: row.get("id")?,
        time: quota::time(row.get("time")?),
        indicator: encode::indicator(&form, &value)?,
        source: row.get("source")?,
        to: row.get("told")?,
        caller: row.get("caller")?,
        tlp: encode::tlp(&tlp)?,
    })
}

impl Ledger for Sqlite {
    fn acquire(&self, acquire: Acquire) -> BoxFuture<'_, Acquired> {
        self.write(move |connection| acquire_unit(connection, &acquire))
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
            let now = nanos(at);
            // One snapshot, or a take in between would show in one window and not in another.
            let snapshot = connection.unchecked_transaction()?;
            quota::uses(&AccountAt { connection: &snapshot, account: &account, now }, &windows, now)
        })
    }

    fn disclose(&self, disclosure: Disclosure) -> BoxFuture<'_, ()> {
        self.write(move |connection| insert(connection, &disclosure))
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
            let (text, values) = conditions.newest("SELECT * FROM disclosures", limit);
            let mut statement = connection.prepare_cached(&text)?;
            let rows = statement.query_and_then(params_from_iter(values), kept)?;
            rows.collect()
        })
    }
}
