//! The ledger in SQLite: each call with its time for the sliding minute, and for the calendar the calls of each quarter of an
//! hour.
//!
//! The state of the accounts is also held in memory. Only the writer changes it, within its transaction. After a change
//! that fails or is not committed, the writer reads the account from the database again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::SystemTime;

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};

use super::filter::Conditions;
use super::writer::Writer;
use super::{Sqlite, parse_column};
use crate::indicator::Indicator;
use crate::source::{QuotaLimits, QuotaPer, QuotaZone};
use crate::store::quota::{Calendar, Moment, spent_window};
use crate::store::time::{nanos, time};
use crate::store::windows::{AccountWindows, QuarterCount};
use crate::store::{
    Acquire, Acquired, BoxFuture, Cursor, Disclosure, DisclosureFilter, Ledger, Listed, PageLimit, StoreError, Unit,
    WindowUse, caller_account, caller_limits,
};
use crate::sync::lock;

/// The accounts, and a queue of marks to be applied to them. The writer locks the accounts for as long as it works on
/// them. The marks are only locked for a moment, so that threads that serve requests do not wait for the writer.
#[derive(Debug, Default)]
pub(super) struct SharedAccounts {
    accounts: Mutex<Accounts>,
    marks: Mutex<Vec<Mark>>,
}

/// Marks the start or end of the call of a unit.
#[derive(Debug)]
struct Mark {
    account: String,
    at: Moment,
    begins: bool,
}

impl SharedAccounts {
    /// Queues a mark in each account of a unit.
    fn mark(&self, unit: &Unit, at: Moment, begins: bool) {
        lock(&self.marks).extend(unit.accounts().map(|account| Mark { account, at, begins }));
    }

    /// Locks the accounts and applies all marks. May block for as long as a write.
    fn wait(&self) -> MutexGuard<'_, Accounts> {
        let mut accounts = lock(&self.accounts);
        accounts.apply(std::mem::take(&mut *lock(&self.marks)));
        accounts
    }

    /// The same as [`Self::wait`], but returns `None` instead of waiting for the writer.
    fn try_now(&self) -> Option<MutexGuard<'_, Accounts>> {
        let mut accounts = match self.accounts.try_lock() {
            Ok(accounts) => accounts,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        accounts.apply(std::mem::take(&mut *lock(&self.marks)));
        Some(accounts)
    }
}

/// The accounts as they are in the database, each read when it is first used. Only the writer changes both.
#[derive(Debug, Default)]
struct Accounts {
    loaded: HashMap<String, AccountWindows>,
    /// Accounts whose last change may not have been committed.
    outdated: HashSet<String>,
    /// Stored calls of the accounts that were not loaded since all were read; `None`: they must be read again.
    stored_calls: Option<HashMap<String, Vec<i64>>>,
    /// The number of failed commits that has already been taken into account.
    failed_commits: u64,
}

impl Accounts {
    /// The account, read from the database if needed, for a change within the writer's transaction.
    fn get(&mut self, connection: &Connection, name: &str) -> Result<&mut AccountWindows, StoreError> {
        if !self.loaded.contains_key(name) || self.outdated.contains(name) {
            let calls = match &mut self.stored_calls {
                Some(calls) => calls,
                None => self.stored_calls.insert(load_calls(connection)?),
            };
            let calls = calls.remove(name).unwrap_or_default();
            let stored = AccountWindows::from_stored(calls, load_counts(connection, name)?);
            let known = self.loaded.remove(name).unwrap_or_default();
            self.loaded.insert(name.to_owned(), known.reloaded(stored));
            self.outdated.remove(name);
        }
        Ok(self.loaded.entry(name.to_owned()).or_default())
    }

    /// Marks all accounts to be read again, since their last changes are not in the database.
    fn invalidate(&mut self) {
        self.outdated = self.loaded.keys().cloned().collect();
        self.stored_calls = None;
    }

    /// Invalidates the accounts if a further commit has failed.
    fn check_failed_commits(&mut self, failed_commits: u64) {
        if failed_commits != self.failed_commits {
            self.failed_commits = failed_commits;
            self.invalidate();
        }
    }

    /// Applies marks. Calls in flight are only known in memory, so a failed transaction does not affect them.
    fn apply(&mut self, marks: Vec<Mark>) {
        for mark in marks {
            let account = self.loaded.entry(mark.account).or_default();
            if mark.begins { account.begin(&mark.at) } else { account.end(&mark.at) }
        }
    }

    /// The account, if it is up to date in memory.
    fn known(&self, name: &str) -> Option<&AccountWindows> {
        self.loaded.get(name).filter(|_| !self.outdated.contains(name))
    }
}

/// The calls of all accounts at once: they are few, and an index by account would cost each call a page.
fn load_calls(connection: &Connection) -> Result<HashMap<String, Vec<i64>>, StoreError> {
    let mut calls: HashMap<String, Vec<i64>> = HashMap::new();
    let mut statement = connection.prepare_cached("SELECT account, at FROM quota_calls")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (account, at) = (row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?, row.get(1)?);
        match calls.get_mut(account) {
            Some(calls) => calls.push(at),
            None => drop(calls.insert(account.to_owned(), vec![at])),
        }
    }
    Ok(calls)
}

/// The calls of an account that its windows count one by one.
fn load_recent_calls(connection: &Connection, account: &str, at: &Moment) -> Result<Vec<i64>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT at FROM quota_calls WHERE at >= ?1 AND account = ?2")?;
    let calls = statement.query_map(params![at.minute_start(), account], |row| row.get(0))?;
    Ok(calls.collect::<Result<_, _>>()?)
}

fn load_counts(connection: &Connection, account: &str) -> Result<BTreeMap<i64, QuarterCount>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT starts, recorded, crossing FROM quota_quarters WHERE account = ?1")?;
    let counts = statement
        .query_map([account], |row| Ok((row.get(0)?, QuarterCount { recorded: row.get(1)?, crossing: row.get(2)? })))?;
    Ok(counts.collect::<Result<_, _>>()?)
}

/// Moves records that are ahead, because the clock stepped back, to the current time.
fn follow_clock(connection: &Connection, account: &str, at: &Moment) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached("UPDATE quota_calls SET at = ?2 WHERE account = ?1 AND at > ?3")?;
    statement.execute(params![account, at.now, at.latest_plausible()])?;
    let mut statement = connection
        .prepare_cached("DELETE FROM quota_quarters WHERE account = ?1 AND starts > ?2 RETURNING recorded")?;
    let moved = statement.query_map(params![account, at.latest_plausible()], |row| row.get::<_, i64>(0))?;
    let moved: i64 = moved.sum::<Result<_, _>>()?;
    if moved > 0 {
        add(connection, account, at.quarter(), Added { recorded: moved, crossing: 0 })?;
    }
    Ok(())
}

/// What is added to the calls of a quarter.
#[derive(Clone, Copy, Debug, Default)]
struct Added {
    recorded: i64,
    crossing: i64,
}

fn add(connection: &Connection, account: &str, starts: i64, calls: Added) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO quota_quarters (account, starts, recorded, crossing) VALUES (?1, ?2, max(?3, 0), max(?4, 0))
         ON CONFLICT (account, starts) DO UPDATE SET recorded = max(recorded + ?3, 0), crossing = max(crossing + ?4, 0)",
    )?;
    statement.execute(params![account, starts, calls.recorded, calls.crossing])?;
    Ok(())
}

fn acquire(connection: &Connection, accounts: &mut Accounts, calls: Vec<Acquire>) -> Result<Vec<Acquired>, StoreError> {
    let mut added: BTreeMap<(String, i64), Added> = BTreeMap::new();
    // The calls of a statement are made at one time, mostly in one zone.
    let mut known: Option<(QuotaZone, Calendar)> = None;
    let mut acquired = Vec::with_capacity(calls.len());
    for Acquire { unit, limits, budget, disclosures } in calls {
        let at = Moment::at(unit.at);
        let calendar = match &known {
            Some((zone, calendar)) if *zone == limits.zone && calendar.at == at => *calendar,
            Some(_) | None => Calendar::new(unit.at, &limits.zone)?,
        };
        known = Some((limits.zone.clone(), calendar));
        for name in unit.accounts() {
            let account = accounts.get(connection, &name)?;
            if account.is_ahead(&at) {
                follow_clock(connection, &name, &at)?;
                account.follow_clock(&at);
            }
        }
        let charged = unit.charged_to.as_deref().map(caller_account);
        if let (Some(charged), Some(limit)) = (&charged, budget) {
            let account = accounts.get(connection, charged)?;
            let budget = caller_limits(limit);
            let day = Calendar::new(unit.at, &budget.zone)?;
            if let Some(spent) = spent_window(&account.uses(&budget.windows, &day)) {
                acquired.push(Acquired::OverBudget(spent));
                continue;
            }
        }
        let taken = accounts.get(connection, &unit.account)?.acquire(&limits.windows, &calendar);
        if matches!(taken, Acquired::Granted(_)) {
            if let Some(charged) = &charged {
                accounts.get(connection, charged)?.record(&at);
            }
            for name in unit.accounts() {
                let mut statement =
                    connection.prepare_cached("INSERT INTO quota_calls (account, at, source) VALUES (?1, ?2, ?3)")?;
                statement.execute(params![name, at.now, unit.source])?;
                added.entry((name.clone(), at.quarter())).or_default().recorded += 1;
                for starts in at.crossed() {
                    added.entry((name.clone(), starts)).or_default().crossing += 1;
                }
            }
            disclosures.iter().try_for_each(|disclosure| disclose(connection, disclosure))?;
        }
        acquired.push(taken);
    }
    for ((account, starts), calls) in added {
        add(connection, &account, starts, calls)?;
    }
    Ok(acquired)
}

fn redate(connection: &Connection, accounts: &mut Accounts, unit: &Unit, ended: SystemTime) -> Result<(), StoreError> {
    unit.accounts().try_for_each(|account| redate_in(connection, accounts, &account, unit, ended))
}

fn redate_in(
    connection: &Connection,
    accounts: &mut Accounts,
    account: &str,
    unit: &Unit,
    ended: SystemTime,
) -> Result<(), StoreError> {
    let (at, ended) = (Moment::at(unit.at), Moment::at(ended));
    let Some(redated) = accounts.get(connection, account)?.redate(&at, &ended) else { return Ok(()) };
    let mut statement = connection.prepare_cached(
        "UPDATE quota_calls SET at = ?4 WHERE rowid =
             (SELECT rowid FROM quota_calls WHERE account = ?1 AND at = ?2 AND source = ?3 LIMIT 1)",
    )?;
    statement.execute(params![account, redated.from.now, unit.source, redated.to.now])?;
    let mut crossed = redated.to.crossed_since(&redated.from);
    crossed.try_for_each(|starts| add(connection, account, starts, Added { recorded: 0, crossing: 1 }))
}

/// Removes the record of a unit. Returns `false` if there is none.
fn give_back(connection: &Connection, accounts: &mut Accounts, unit: &Unit) -> Result<bool, StoreError> {
    let mut is_given_back = false;
    for account in unit.accounts() {
        is_given_back |= give_back_in(connection, accounts, &account, unit)?;
    }
    Ok(is_given_back)
}

fn give_back_in(
    connection: &Connection,
    accounts: &mut Accounts,
    account: &str,
    unit: &Unit,
) -> Result<bool, StoreError> {
    let at = Moment::at(unit.at);
    if !accounts.get(connection, account)?.give_back(&at) {
        return Ok(false);
    }
    let mut statement = connection.prepare_cached(
        "DELETE FROM quota_calls WHERE rowid =
             (SELECT rowid FROM quota_calls WHERE account = ?1 AND at = ?2 AND source = ?3 LIMIT 1)",
    )?;
    statement.execute(params![account, at.now, unit.source])?;
    add(connection, account, at.quarter(), Added { recorded: -1, crossing: 0 })?;
    at.crossed().try_for_each(|starts| add(connection, account, starts, Added { recorded: 0, crossing: -1 }))?;
    Ok(true)
}

fn disclose(connection: &Connection, disclosure: &Disclosure) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO disclosures (id, time, form, value, source, recipient, caller, tlp, submission)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING",
    )?;
    let rows = statement.execute(params![
        disclosure.id,
        nanos(disclosure.time),
        disclosure.indicator.form().as_str(),
        disclosure.indicator.redacted(),
        disclosure.source,
        disclosure.to,
        disclosure.caller,
        disclosure.tlp.as_str(),
        disclosure.submission,
    ])?;
    if rows == 0 { Err(StoreError::rejected(format!("disclosure {} exists", disclosure.id))) } else { Ok(()) }
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
        submission: row.get("submission")?,
    })
}

impl Sqlite {
    /// Lets the writer change accounts within its next transaction. If that fails, the accounts are read again.
    fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &mut Accounts) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, T> {
        let accounts = self.accounts.clone();
        Box::pin(async move {
            let failed_commits = self.writer.as_ref().map(Writer::failed_commits).unwrap_or_default();
            let change = move |connection: &Connection| {
                let mut accounts = accounts.wait();
                accounts.check_failed_commits(failed_commits.load(Ordering::Acquire));
                let changed = work(connection, &mut accounts);
                if changed.is_err() {
                    accounts.invalidate();
                }
                changed
            };
            self.write(change).await
        })
    }
}

impl Ledger for Sqlite {
    fn acquire(&self, calls: Vec<Acquire>) -> BoxFuture<'_, Vec<Acquired>> {
        Box::pin(async move {
            let units: Vec<_> = calls.iter().map(|call| call.unit.clone()).collect();
            let acquired = self.change(move |connection, accounts| acquire(connection, accounts, calls)).await?;
            for (unit, acquired) in units.iter().zip(&acquired) {
                if matches!(acquired, Acquired::Granted(_)) {
                    self.accounts.mark(unit, Moment::at(unit.at), true);
                }
            }
            Ok(acquired)
        })
    }

    fn follow_clock_forward(&self, from: SystemTime, to: SystemTime) -> BoxFuture<'_, ()> {
        self.change(move |_, accounts| {
            let (from, to) = (Moment::at(from), Moment::at(to));
            accounts.loaded.values_mut().for_each(|account| account.follow_clock_forward(&from, &to));
            Ok(())
        })
    }

    fn settle(&self, unit: Unit, ended: SystemTime) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (from, to) = (Moment::at(unit.at), Moment::at(ended));
            if from.is_outdated(&to) {
                let unit = unit.clone();
                self.change(move |connection, accounts| redate(connection, accounts, &unit, ended)).await?;
            }
            self.accounts.mark(&unit, from, false);
            Ok(())
        })
    }

    fn give_back<'a>(&'a self, unit: Unit, limits: &'a QuotaLimits) -> BoxFuture<'a, Option<Vec<WindowUse>>> {
        Box::pin(async move {
            let (at, ended) = (Moment::at(unit.at), unit.clone());
            let calendar = Calendar::new(unit.at, &limits.zone)?;
            let windows = limits.windows.clone();
            let uses = self.change(move |connection, accounts| {
                if !give_back(connection, accounts, &unit)? {
                    return Ok(None);
                }
                // The account as it will be once the call has ended, which is marked after this change is durable.
                let account = accounts.get(connection, &unit.account)?;
                account.end(&at);
                let uses = account.uses(&windows, &calendar);
                account.begin(&at);
                Ok(Some(uses))
            });
            let uses = uses.await?;
            self.accounts.mark(&ended, at, false);
            Ok(uses)
        })
    }

    fn usage<'a>(&'a self, account: &'a str, limits: &'a QuotaLimits, at: SystemTime) -> BoxFuture<'a, Vec<WindowUse>> {
        Box::pin(async move {
            let calendar = Calendar::new(at, &limits.zone)?;
            if let Some(accounts) = self.accounts.try_now()
                && let Some(known) = accounts.known(account)
            {
                return Ok(known.uses(&limits.windows, &calendar));
            }
            let (name, windows, accounts) = (account.to_owned(), limits.windows.clone(), self.accounts.clone());
            let uses = self.read(move |connection| {
                if let Some(known) = accounts.wait().known(&name) {
                    return Ok(known.uses(&windows, &calendar));
                }
                // All windows are read in one transaction; otherwise a unit acquired in between could show in only some
                // of them.
                let snapshot = connection.unchecked_transaction()?;
                let calls = load_recent_calls(&snapshot, &name, &calendar.at)?;
                Ok(AccountWindows::from_stored(calls, load_counts(&snapshot, &name)?).uses(&windows, &calendar))
            });
            uses.await
        })
    }

    fn raise<'a>(
        &'a self,
        account: &'a str,
        used: Vec<(QuotaPer, u64)>,
        zone: QuotaZone,
        at: SystemTime,
    ) -> BoxFuture<'a, bool> {
        let account = account.to_owned();
        self.change(move |connection, accounts| {
            let raised = accounts.get(connection, &account)?.raise(&used, &Calendar::new(at, &zone)?);
            for (starts, more) in raised.iter().flatten().filter(|(_, more)| *more > 0) {
                let recorded = i64::try_from(*more).unwrap_or(i64::MAX);
                add(connection, &account, *starts, Added { recorded, crossing: 0 })?;
            }
            Ok(raised.iter().all(Option::is_some))
        })
    }

    fn record_disclosure(&self, disclosure: Disclosure) -> BoxFuture<'_, ()> {
        self.write(move |connection| disclose(connection, &disclosure))
    }

    fn disclosures(
        &self,
        filter: DisclosureFilter,
        limit: PageLimit,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Listed<Disclosure>> {
        self.read_history(move |connection| {
            let mut conditions = Conditions::default();
            conditions.indicator(filter.indicator.as_ref());
            if let Some(source) = filter.source {
                conditions.and("source = ?", [Value::Text(source)]);
            }
            conditions.period(filter.from, filter.until, after);
            let (sql, values) = conditions.newest("SELECT * FROM disclosures", limit.rows.saturating_add(1));
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_and_then(params_from_iter(values), read_disclosure)?;
            Listed::fill(limit, rows.map(|row| row.map(Disclosure::with_bytes)))
        })
    }

    fn prune_disclosures(&self, before: SystemTime) -> BoxFuture<'_, u64> {
        Box::pin(self.delete("disclosures", "time < ?1", [nanos(before)]))
    }

    fn prune_quota(&self, now: SystemTime) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let at = Moment::at(now);
            self.delete("quota_calls", "at <= ?1", [at.oldest_call()]).await?;
            self.delete("quota_quarters", "starts <= ?1", [at.oldest_count()]).await?;
            let prune = move |_: &Connection, accounts: &mut Accounts| {
                accounts.loaded.values_mut().for_each(|account| account.prune(&at));
                Ok(())
            };
            self.change(prune).await
        })
    }
}
