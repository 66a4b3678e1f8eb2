//! A store in memory, for tests, paused time, and a server without a data directory. Its content is lost with the
//! process.
//!
//! It fulfils the same contract as `sqlite/`; `tests/it/store` runs one suite on both.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::time::nanos;
use super::windows::AccountWindows;
use super::{
    AnswerStore, BoxFuture, CachedRow, Cursor, Disclosure, DisclosureFilter, FeedbackFilter, FeedbackStore, Listed,
    Maintenance, NeverSendRow, NeverSendStore, PageLimit, PolicyRow, PolicyStore, Pruned, RawAnswer, SourceRow,
    SourceStore, StoreError, Submission, SubmissionFilter, SubmissionStore, Swap, VerdictFilter, VerdictRecord,
    VerdictStore, encode, feedback_with_bytes,
};
use crate::indicator::Indicator;
use crate::sync::lock;
use crate::verdict::{Feedback, Retraction};

mod cached;
mod ledger;
mod reopened;

/// The sort key of a list: time in nanoseconds, then identifier.
type Position = (i64, String);

/// A store in memory.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    verdicts: BTreeMap<Position, VerdictRecord>,
    verdict_times: HashMap<String, i64>,
    answers: HashMap<String, StoredAnswer>,
    /// By key in hexadecimal.
    cached: HashMap<String, CachedRow>,
    feedback: BTreeMap<Position, Feedback>,
    sources: BTreeMap<String, SourceRow>,
    /// By name and change.
    policies: BTreeMap<(String, u64), PolicyRow>,
    never_send: BTreeMap<String, NeverSendRow>,
    accounts: HashMap<String, AccountWindows>,
    disclosures: BTreeMap<Position, Disclosure>,
    disclosure_ids: HashSet<String>,
    submissions: BTreeMap<String, Submission>,
}

struct StoredAnswer {
    answer: RawAnswer,
    /// When this body was last received.
    seen: i64,
    /// Compressed size, so that pruning measures the same as on disk.
    size: u64,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs the work under the lock when first polled.
    fn run<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&mut State) -> Result<T, StoreError> + Send + 'a,
    ) -> BoxFuture<'a, T> {
        Box::pin(async move {
            let mut state = lock(&self.state);
            if state.closed { Err(StoreError::unavailable("the store is closed")) } else { work(&mut state) }
        })
    }
}

/// The rows after the cursor, newest first.
fn newest<T>(rows: &BTreeMap<Position, T>, after: Option<Cursor>) -> impl Iterator<Item = &T> {
    let end = after.map(|cursor| (nanos(cursor.time), cursor.id));
    rows.iter().rev().filter(move |(position, _)| end.as_ref().is_none_or(|end| *position < end)).map(|(_, row)| row)
}

fn is_within(time: SystemTime, from: Option<SystemTime>, until: Option<SystemTime>) -> bool {
    let time = nanos(time);
    from.is_none_or(|from| time >= nanos(from)) && until.is_none_or(|until| time < nanos(until))
}

impl VerdictFilter {
    fn matches(&self, record: &VerdictRecord) -> bool {
        self.indicator.as_ref().is_none_or(|wanted| without_password(wanted) == record.verdict.indicator)
            && self.disposition.is_none_or(|wanted| wanted == record.verdict.disposition)
            && is_within(record.create_time, self.from, self.until)
    }
}

impl DisclosureFilter {
    fn matches(&self, disclosure: &Disclosure) -> bool {
        self.indicator.as_ref().is_none_or(|wanted| *wanted == disclosure.indicator)
            && self.source.as_ref().is_none_or(|wanted| *wanted == disclosure.source)
            && is_within(disclosure.time, self.from, self.until)
    }
}

/// The indicator in the form in which it is stored.
fn without_password(indicator: &Indicator) -> Indicator {
    Indicator::from_stored(indicator.form(), &indicator.redacted())
}

fn exists(disclosure: &Disclosure) -> StoreError {
    StoreError::rejected(format!("disclosure {} exists", disclosure.id))
}

fn removed(before: usize, after: usize) -> u64 {
    before.saturating_sub(after) as u64
}

impl VerdictStore for Memory {
    fn append(&self, record: Arc<VerdictRecord>) -> BoxFuture<'_, ()> {
        self.run(move |state| {
            if state.verdict_times.contains_key(&record.id) {
                return Err(StoreError::rejected(format!("verdict {} exists and never changes", record.id)));
            }
            let time = nanos(record.create_time);
            let mut record = Arc::unwrap_or_clone(record);
            record.verdict.indicator = without_password(&record.verdict.indicator);
            state.verdict_times.insert(record.id.clone(), time);
            state.verdicts.insert((time, record.id.clone()), record);
            Ok(())
        })
    }

    fn verdict<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<VerdictRecord>> {
        self.run(move |state| {
            let time = state.verdict_times.get(id);
            Ok(time.and_then(|time| state.verdicts.get(&(*time, id.to_owned()))).cloned())
        })
    }

    fn verdicts(
        &self,
        filter: VerdictFilter,
        limit: PageLimit,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Listed<VerdictRecord>> {
        self.run(move |state| {
            let matching = newest(&state.verdicts, after).filter(|record| filter.matches(record));
            let bytes = |record: &VerdictRecord| encode::encode(record).len();
            Listed::fill(limit, matching.map(|record| Ok((record.clone(), bytes(record)))))
        })
    }

    fn count_verdicts(&self, filter: VerdictFilter) -> BoxFuture<'_, u64> {
        self.run(move |state| Ok(newest(&state.verdicts, None).filter(|record| filter.matches(record)).count() as u64))
    }

    fn prune_verdicts(&self, before: SystemTime) -> BoxFuture<'_, u64> {
        self.run(move |state| {
            let (oldest, count) = (nanos(before), state.verdicts.len());
            state.verdicts.retain(|(time, _), _| *time >= oldest);
            state.verdict_times.retain(|_, time| *time >= oldest);
            Ok(removed(count, state.verdicts.len()))
        })
    }
}

impl AnswerStore for Memory {
    fn keep_answers(&self, answers: Vec<RawAnswer>) -> BoxFuture<'_, ()> {
        self.run(move |state| {
            for answer in answers {
                let seen = nanos(answer.received);
                if let Some(stored) = state.answers.get_mut(&answer.hash) {
                    stored.seen = stored.seen.max(seen);
                    continue;
                }
                let size = encode::compress(&answer.body)?.len() as u64;
                state.answers.insert(answer.hash.clone(), StoredAnswer { answer, seen, size });
            }
            Ok(())
        })
    }

    fn answer<'a>(&'a self, hash: &'a str) -> BoxFuture<'a, Option<RawAnswer>> {
        self.run(move |state| Ok(state.answers.get(hash).map(|stored| stored.answer.clone())))
    }

    fn prune_answers(&self, before: SystemTime, max_bytes: u64) -> BoxFuture<'_, u64> {
        self.run(move |state| {
            let (oldest, count) = (nanos(before), state.answers.len());
            state.answers.retain(|_, stored| stored.seen >= oldest);
            let mut newest: Vec<_> =
                state.answers.iter().map(|(hash, stored)| (stored.seen, hash.clone(), stored.size)).collect();
            newest.sort_unstable_by(|a, b| b.cmp(a));
            let mut total = 0_u64;
            for (_, hash, size) in newest {
                total = total.saturating_add(size);
                if total > max_bytes {
                    state.answers.remove(&hash);
                }
            }
            Ok(removed(count, state.answers.len()))
        })
    }
}

impl SubmissionStore for Memory {
    fn put_submission(&self, mut submission: Submission, expected: u64) -> BoxFuture<'_, Swap> {
        self.run(move |state| {
            if state.submissions.get(&submission.id).map_or(0, |stored| stored.revision) != expected {
                return Ok(Swap::Conflict);
            }
            submission.indicator = without_password(&submission.indicator);
            state.submissions.insert(submission.id.clone(), submission);
            Ok(Swap::Done)
        })
    }

    fn submission<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Submission>> {
        self.run(move |state| Ok(state.submissions.get(id).cloned()))
    }

    fn submissions(
        &self,
        filter: SubmissionFilter,
        limit: PageLimit,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Listed<Submission>> {
        self.run(move |state| {
            let position = |row: &Submission| (nanos(row.create_time), row.id.clone());
            let rows: BTreeMap<_, _> = state.submissions.values().map(|row| (position(row), row)).collect();
            let matching = newest(&rows, after).filter(|row| {
                let wanted = filter.indicator.as_ref().map(without_password);
                filter.state.is_none_or(|wanted| wanted == row.state)
                    && filter.submitter.as_ref().is_none_or(|wanted| *wanted == row.submitter)
                    && wanted.is_none_or(|wanted| wanted == row.indicator)
            });
            Listed::fill(limit, matching.map(|row| Ok((*row).clone().with_bytes())))
        })
    }

    fn open_submissions(&self) -> BoxFuture<'_, Vec<Submission>> {
        self.run(|state| {
            let mut open: Vec<_> = state.submissions.values().filter(|row| !row.state.is_final()).cloned().collect();
            open.sort_by_key(|row| (nanos(row.create_time), row.id.clone()));
            Ok(open)
        })
    }

    fn prune_submissions(&self, before: SystemTime) -> BoxFuture<'_, u64> {
        self.run(move |state| {
            let count = state.submissions.len();
            state.submissions.retain(|_, row| !row.state.is_final() || nanos(row.update_time) >= nanos(before));
            Ok(removed(count, state.submissions.len()))
        })
    }
}

impl SourceStore for Memory {
    fn source_rows(&self) -> BoxFuture<'_, Vec<SourceRow>> {
        self.run(|state| Ok(state.sources.values().cloned().collect()))
    }

    fn put_source_row(&self, row: SourceRow, expected: u64) -> BoxFuture<'_, Swap> {
        self.run(move |state| {
            if state.revision(&row.name) != expected {
                return Ok(Swap::Conflict);
            }
            state.sources.insert(row.name.clone(), row);
            Ok(Swap::Done)
        })
    }

    fn delete_source_row<'a>(&'a self, name: &'a str, expected: u64) -> BoxFuture<'a, Swap> {
        self.run(move |state| {
            if state.revision(name) != expected {
                return Ok(Swap::Conflict);
            }
            state.sources.remove(name);
            Ok(Swap::Done)
        })
    }
}

impl State {
    fn disclose(&mut self, disclosure: Disclosure) -> Result<(), StoreError> {
        if !self.disclosure_ids.insert(disclosure.id.clone()) {
            return Err(exists(&disclosure));
        }
        self.disclosures.insert((nanos(disclosure.time), disclosure.id.clone()), disclosure);
        Ok(())
    }

    /// Removes the oldest rows until the rest has at most this many bytes.
    fn prune_to(&mut self, max_bytes: u64) -> Pruned {
        let verdicts =
            self.verdicts.iter().map(|((time, id), record)| (*time, 0, id.clone(), encode::encode(record).len()));
        let answers =
            self.answers.iter().map(|(hash, stored)| (stored.seen, 1, hash.clone(), stored.answer.body.len()));
        let disclosures = self
            .disclosures
            .iter()
            .map(|((time, id), disclosure)| (*time, 2, id.clone(), disclosure.clone().with_bytes().1));
        let cached = self.cached.iter().map(|(key, row)| (nanos(row.time), 3, key.clone(), row.body.len()));
        let mut rows: Vec<_> = verdicts.chain(answers).chain(disclosures).chain(cached).collect();
        rows.sort_unstable();
        let mut bytes: u64 = rows.iter().map(|(_, _, _, bytes)| *bytes as u64).sum();
        let mut pruned = Pruned::default();
        for (time, table, id, size) in rows {
            if bytes <= max_bytes {
                break;
            }
            bytes = bytes.saturating_sub(size as u64);
            match table {
                0 => {
                    pruned.verdicts += u64::from(self.verdicts.remove(&(time, id.clone())).is_some());
                    self.verdict_times.remove(&id);
                }
                1 => pruned.answers += u64::from(self.answers.remove(&id).is_some()),
                2 => {
                    pruned.disclosures += u64::from(self.disclosures.remove(&(time, id.clone())).is_some());
                    self.disclosure_ids.remove(&id);
                }
                _ => pruned.cached += u64::from(self.cached.remove(&id).is_some()),
            }
        }
        pruned
    }

    /// Revision of the stored row; 0 if there is none.
    fn revision(&self, name: &str) -> u64 {
        self.sources.get(name).map_or(0, |row| row.revision)
    }
}

impl FeedbackStore for Memory {
    fn record_feedback(&self, feedback: Feedback) -> BoxFuture<'_, ()> {
        self.run(move |state| {
            if state.feedback.values().any(|other| other.id == feedback.id) {
                return Err(StoreError::rejected(format!("feedback {} exists", feedback.id)));
            }
            let indicator = without_password(&feedback.indicator);
            let position = (nanos(feedback.create_time), feedback.id.clone());
            state.feedback.insert(position, Feedback { indicator, ..feedback });
            Ok(())
        })
    }

    fn feedback<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Feedback>> {
        self.run(move |state| Ok(state.feedback.values().find(|feedback| feedback.id == id).cloned()))
    }

    fn list_feedback(
        &self,
        filter: FeedbackFilter,
        limit: PageLimit,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Listed<Feedback>> {
        self.run(move |state| {
            let indicator = filter.indicator.as_ref().map(without_password);
            let matching = newest(&state.feedback, after).filter(|feedback| {
                indicator.as_ref().is_none_or(|wanted| *wanted == feedback.indicator)
                    && filter.active_at.is_none_or(|at| feedback.is_active(at))
                    && (!filter.unretracted || feedback.retraction.is_none())
            });
            Listed::fill(limit, matching.map(|feedback| Ok(feedback_with_bytes(feedback.clone()))))
        })
    }

    fn retract_feedback<'a>(&'a self, id: &'a str, retraction: Retraction) -> BoxFuture<'a, Option<Feedback>> {
        self.run(move |state| {
            let Some(feedback) = state.feedback.values_mut().find(|feedback| feedback.id == id) else {
                return Ok(None);
            };
            feedback.retraction.get_or_insert(retraction);
            Ok(Some(feedback.clone()))
        })
    }

    fn prune_feedback(&self, before: SystemTime) -> BoxFuture<'_, u64> {
        self.run(move |state| {
            let count = state.feedback.len();
            let ended = |feedback: &Feedback| {
                let retracted = feedback.retraction.as_ref().map(|retraction| retraction.time);
                retracted.into_iter().chain(feedback.expire_time).any(|end| end < before)
            };
            state.feedback.retain(|_, feedback| !ended(feedback));
            Ok(removed(count, state.feedback.len()))
        })
    }
}

impl PolicyStore for Memory {
    fn last_policy_changes(&self) -> BoxFuture<'_, Vec<PolicyRow>> {
        self.run(|state| {
            let by_name: BTreeMap<_, _> = state.policies.values().map(|row| (row.name.as_str(), row)).collect();
            Ok(by_name.into_values().cloned().collect())
        })
    }

    fn policy_revision<'a>(&'a self, name: &'a str, revision: u32) -> BoxFuture<'a, Option<PolicyRow>> {
        self.run(move |state| {
            let made = |row: &&PolicyRow| row.name == name && row.revision == revision && row.document.is_some();
            Ok(state.policies.values().find(made).cloned())
        })
    }

    fn append_policy_change(&self, row: PolicyRow) -> BoxFuture<'_, Swap> {
        self.run(move |state| {
            let last = state.policies.keys().rfind(|(name, _)| *name == row.name).map_or(0, |(_, change)| *change);
            if row.change != last + 1 {
                return Ok(Swap::Conflict);
            }
            state.policies.insert((row.name.clone(), row.change), row);
            Ok(Swap::Done)
        })
    }

    fn prune_policies(&self, before: SystemTime, keep: u32) -> BoxFuture<'_, u64> {
        self.run(move |state| {
            let count = state.policies.len();
            let (mut replaced, mut last) = (HashMap::new(), HashMap::new());
            for ((name, change), row) in &state.policies {
                last.insert(name.clone(), *change);
                if nanos(row.time) < nanos(before) {
                    replaced.insert(name.clone(), *change);
                }
            }
            state.policies.retain(|(name, change), _| {
                let is_replaced = replaced.get(name).is_some_and(|replacing| change < replacing);
                let is_newest = last.get(name).is_none_or(|last| change + u64::from(keep) > *last);
                !is_replaced || is_newest
            });
            Ok(removed(count, state.policies.len()))
        })
    }
}

impl NeverSendStore for Memory {
    fn never_send_rows(&self) -> BoxFuture<'_, Vec<NeverSendRow>> {
        self.run(|state| Ok(state.never_send.values().cloned().collect()))
    }

    fn put_never_send_row(&self, row: NeverSendRow) -> BoxFuture<'_, ()> {
        self.run(move |state| {
            state.never_send.insert(row.id.clone(), row);
            Ok(())
        })
    }

    fn delete_never_send_row<'a>(&'a self, id: &'a str) -> BoxFuture<'a, ()> {
        self.run(move |state| {
            state.never_send.remove(id);
            Ok(())
        })
    }
}

impl Maintenance for Memory {
    fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn is_full(&self) -> bool {
        false
    }

    fn prune_to(&self, max_bytes: u64) -> BoxFuture<'_, Pruned> {
        self.run(move |state| Ok(state.prune_to(max_bytes)))
    }

    fn recover_space(&self) -> BoxFuture<'_, ()> {
        self.run(|_| Ok(()))
    }

    fn backup<'a>(&'a self, _to: &'a Path) -> BoxFuture<'a, ()> {
        self.run(|_| Err(StoreError::rejected("a store in memory cannot be backed up")))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            lock(&self.state).closed = true;
            Ok(())
        })
    }
}
