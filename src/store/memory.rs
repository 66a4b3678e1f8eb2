//! The store that is gone with the process: for tests, paused time, and a server without a data directory.
//!
//! Keeps the same contract as `sqlite/`; `tests/it/store.rs` runs one suite on both.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::quota::{self, nanos};
use super::{
    Acquire, Acquired, AnswerStore, BoxFuture, Cursor, Disclosure, DisclosureFilter, Ledger, Pruned, RawAnswer,
    Retention, SourceRow, SourceStore, StoreError, Swap, VerdictFilter, VerdictRecord, VerdictStore, WindowUse, encode,
};
use crate::source::{QuotaPer, QuotaWindow};

/// Place of a row in a list: time in nanoseconds, then identifier.
type Place = (i64, String);

/// A store in memory.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    verdicts: BTreeMap<Place, VerdictRecord>,
    verdict_times: HashMap<String, i64>,
    answers: HashMap<String, StoredAnswer>,
    sources: BTreeMap<String, SourceRow>,
    accounts: HashMap<String, Account>,
    disclosures: BTreeMap<Place, Disclosure>,
    disclosure_ids: HashSet<String>,
}

struct StoredAnswer {
    answer: RawAnswer,
    /// When the same body was last received.
    seen: i64,
    /// Compressed size, so that pruning judges by the same measure as on disk.
    size: u64,
}

/// What an account has spent.
#[derive(Clone, Default)]
struct Account {
    /// Times of calls, sorted.
    calls: Vec<i64>,
    /// Counters by window and its start.
    counts: BTreeMap<(QuotaPer, i64), u64>,
}

/// An account brought to a moment.
struct AccountAt<'a> {
    account: &'a Account,
    now: i64,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the work when first polled, under the lock.
    fn then<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&mut State) -> Result<T, StoreError> + Send + 'a,
    ) -> BoxFuture<'a, T> {
        Box::pin(async move { work(&mut self.state()) })
    }
}

/// Rows newest first, behind the cursor.
fn behind<T>(rows: &BTreeMap<Place, T>, after: Option<Cursor>) -> impl Iterator<Item = &T> {
    let end = after.map(|cursor| (nanos(cursor.time), cursor.id));
    rows.iter().rev().filter(move |(place, _)| end.as_ref().is_none_or(|end| *place < end)).map(|(_, row)| row)
}

impl VerdictFilter {
    fn fits(&self, record: &VerdictRecord) -> bool {
        let time = nanos(record.create_time);
        self.indicator.as_ref().is_none_or(|wanted| *wanted == record.verdict.indicator)
            && self.disposition.is_none_or(|wanted| wanted == record.verdict.disposition)
            && self.from.is_none_or(|from| time >= nanos(from))
            && self.until.is_none_or(|until| time < nanos(until))
    }
}

impl DisclosureFilter {
    fn fits(&self, disclosure: &Disclosure) -> bool {
        let time = nanos(disclosure.time);
        self.indicator.as_ref().is_none_or(|wanted| *wanted == disclosure.indicator)
            && self.source.as_ref().is_none_or(|wanted| *wanted == disclosure.source)
            && self.from.is_none_or(|from| time >= nanos(from))
            && self.until.is_none_or(|until| time < nanos(until))
    }
}

impl VerdictStore for Memory {
    fn append(&self, record: VerdictRecord) -> BoxFuture<'_, ()> {
        self.then(move |state| {
            if state.verdict_times.contains_key(&record.id) {
                return Err(StoreError::new(format!("verdict {} is kept already and never changes", record.id)));
            }
            let time = nanos(record.create_time);
            state.verdict_times.insert(record.id.clone(), time);
            state.verdicts.insert((time, record.id.clone()), record);
            Ok(())
        })
    }

    fn verdict<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<VerdictRecord>> {
        self.then(move |state| {
            let Some(time) = state.verdict_times.get(id) else { return Ok(None) };
            Ok(state.verdicts.get(&(*time, id.to_owned())).cloned())
        })
    }

    fn verdicts(
        &self,
        filter: VerdictFilter,
        limit: usize,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Vec<VerdictRecord>> {
        self.then(move |state| {
            let fitting = behind(&state.verdicts, after).filter(|record| filter.fits(record));
            Ok(fitting.take(limit).cloned().collect())
        })
    }
}

impl AnswerStore for Memory {
    fn keep_answer(&self, answer: RawAnswer) -> BoxFuture<'_, ()> {
        self.then(move |state| {
            let seen = nanos(answer.received);
            if let Some(kept) = state.answers.get_mut(&answer.hash) {
                kept.seen = kept.seen.max(seen);
                return Ok(());
            }
            let size = encode::compress(&answer.body)?.len();
            let size = u64::try_from(size).unwrap_or(u64::MAX);
            state.answers.insert(answer.hash.clone(), StoredAnswer { answer, seen, size });
            Ok(())
        })
    }

    fn answer<'a>(&'a self, hash: &'a str) -> BoxFuture<'a, Option<RawAnswer>> {
        self.then(move |state| Ok(state.answers.get(hash).map(|kept| kept.answer.clone())))
    }

    fn prune(&self, retention: Retention, now: SystemTime) -> BoxFuture<'_, Pruned> {
        self.then(move |state| {
            let now = nanos(now);
            let oldest = |age| quota::before(now, age);
            let removed = Pruned {
                answers: state.prune_answers(oldest(retention.answers_age), retention.answers_bytes),
                verdicts: state.prune_verdicts(oldest(retention.verdicts_age)),
                disclosures: state.prune_disclosures(oldest(retention.disclosures_age)),
            };
            state.prune_accounts(now);
            Ok(removed)
        })
    }
}

fn removed(before: usize, after: usize) -> u64 {
    u64::try_from(before.saturating_sub(after)).unwrap_or(u64::MAX)
}

impl State {
    fn prune_answers(&mut self, oldest: i64, bytes: u64) -> u64 {
        let before = self.answers.len();
        self.answers.retain(|_, kept| kept.seen >= oldest);
        let mut places: Vec<_> = self.answers.iter().map(|(hash, kept)| (kept.seen, hash.clone(), kept.size)).collect();
        places.sort_unstable_by(|a, b| b.cmp(a));
        let mut total = 0_u64;
        for (_, hash, size) in places {
            total = total.saturating_add(size);
            if total > bytes {
                self.answers.remove(&hash);
            }
        }
        removed(before, self.answers.len())
    }

    fn prune_verdicts(&mut self, oldest: i64) -> u64 {
        let before = self.verdicts.len();
        self.verdicts.retain(|(time, _), _| *time >= oldest);
        self.verdict_times.retain(|_, time| *time >= oldest);
        removed(before, self.verdicts.len())
    }

    fn prune_disclosures(&mut self, oldest: i64) -> u64 {
        let before = self.disclosures.len();
        let ids = &mut self.disclosure_ids;
        self.disclosures.retain(|(time, id), _| *time >= oldest || !ids.remove(id));
        removed(before, self.disclosures.len())
    }

    fn prune_accounts(&mut self, now: i64) {
        for account in self.accounts.values_mut() {
            account.calls.retain(|call| *call > now.saturating_sub(quota::CALLS_KEPT));
            account.counts.retain(|(_, starts), _| *starts > now.saturating_sub(quota::COUNTS_KEPT));
        }
        self.accounts.retain(|_, account| !account.calls.is_empty() || !account.counts.is_empty());
    }
}

impl SourceStore for Memory {
    fn source_rows(&self) -> BoxFuture<'_, Vec<SourceRow>> {
        self.then(|state| Ok(state.sources.values().cloned().collect()))
    }

    fn put_source_row(&self, row: SourceRow, expected: u64) -> BoxFuture<'_, Swap> {
        self.then(move |state| {
            if state.revision(&row.name) != expected {
                return Ok(Swap::Conflict);
            }
            state.sources.insert(row.name.clone(), row);
            Ok(Swap::Done)
        })
    }

    fn delete_source_row<'a>(&'a self, name: &'a str, expected: u64) -> BoxFuture<'a, Swap> {
        self.then(move |state| {
            if state.revision(name) != expected {
                return Ok(Swap::Conflict);
            }
            state.sources.remove(name);
            Ok(Swap::Done)
        })
    }
}

impl State {
    /// Revision of the row kept, 0 for none.
    fn revision(&self, name: &str) -> u64 {
        self.sources.get(name).map_or(0, |row| row.revision)
    }
}

impl quota::Recorded for AccountAt<'_> {
    fn in_minute(&self) -> Result<u64, StoreError> {
        Ok(u64::try_from(self.minute().count()).unwrap_or(u64::MAX))
    }

    fn oldest(&self, skip: u64) -> Result<Option<i64>, StoreError> {
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Ok(self.minute().nth(skip))
    }

    fn counted(&self, per: QuotaPer, starts: i64) -> Result<u64, StoreError> {
        let windows = self.account.counts.iter().filter(|((kind, start), _)| *kind == per && *start >= starts);
        Ok(windows.map(|(_, count)| *count).sum())
    }
}

impl AccountAt<'_> {
    fn minute(&self) -> impl Iterator<Item = i64> {
        let begin = self.now.saturating_sub(quota::SLIDING);
        self.account.calls.iter().copied().filter(move |call| *call > begin)
    }
}

impl Account {
    /// Moves what was recorded before the clock stepped back to where the clock is now.
    fn settle(&mut self, now: i64) -> Result<(), StoreError> {
        let ahead = now.saturating_add(quota::AHEAD);
        for call in self.calls.iter_mut().filter(|call| **call > ahead) {
            *call = now;
        }
        self.calls.sort_unstable();
        let calendar = quota::Calendar::at(now)?;
        for (per, current) in [(QuotaPer::Day, calendar.day), (QuotaPer::Month, calendar.month)] {
            let future: Vec<i64> =
                self.counts.keys().filter(|(kind, start)| *kind == per && *start > ahead).map(|key| key.1).collect();
            for start in future {
                let count = self.counts.remove(&(per, start)).unwrap_or(0);
                *self.counts.entry((per, current)).or_default() += count;
            }
        }
        Ok(())
    }

    fn record(&mut self, now: i64) -> Result<(), StoreError> {
        self.calls.retain(|call| *call > now.saturating_sub(quota::CALLS_KEPT));
        self.calls.push(now);
        self.calls.sort_unstable();
        let calendar = quota::Calendar::at(now)?;
        *self.counts.entry((QuotaPer::Day, calendar.day)).or_default() += 1;
        *self.counts.entry((QuotaPer::Month, calendar.month)).or_default() += 1;
        Ok(())
    }

    fn uses(&self, windows: &[QuotaWindow], now: i64) -> Result<Vec<WindowUse>, StoreError> {
        quota::uses(&AccountAt { account: self, now }, windows, now)
    }
}

impl Ledger for Memory {
    fn acquire(&self, acquire: Acquire) -> BoxFuture<'_, Acquired> {
        self.then(move |state| {
            let now = nanos(acquire.at);
            let account = state.accounts.entry(acquire.account).or_default();
            account.settle(now)?;
            if let Some(spent) = quota::spent(&account.uses(&acquire.windows, now)?) {
                return Ok(spent);
            }
            account.record(now)?;
            Ok(Acquired::Granted(account.uses(&acquire.windows, now)?))
        })
    }

    fn usage<'a>(
        &'a self,
        account: &'a str,
        windows: &'a [QuotaWindow],
        at: SystemTime,
    ) -> BoxFuture<'a, Vec<WindowUse>> {
        self.then(move |state| {
            let now = nanos(at);
            let mut account = state.accounts.get(account).cloned().unwrap_or_default();
            account.settle(now)?;
            account.uses(windows, now)
        })
    }

    fn disclose(&self, disclosure: Disclosure) -> BoxFuture<'_, ()> {
        self.then(move |state| {
            let place = (nanos(disclosure.time), disclosure.id.clone());
            if !state.disclosure_ids.insert(disclosure.id.clone()) {
                return Err(StoreError::new(format!("disclosure {} is kept already", disclosure.id)));
            }
            state.disclosures.insert(place, disclosure);
            Ok(())
        })
    }

    fn disclosures(
        &self,
        filter: DisclosureFilter,
        limit: usize,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Vec<Disclosure>> {
        self.then(move |state| {
            let fitting = behind(&state.disclosures, after).filter(|disclosure| filter.fits(disclosure));
            Ok(fitting.take(limit).cloned().collect())
        })
    }
}
