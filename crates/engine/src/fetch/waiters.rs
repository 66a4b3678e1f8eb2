//! The callers who wait for one conversation, and the state that they share.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use super::attempt::AttemptError;
use super::fair_queue::Claim;
use super::lookup::{AnswerTime, LookupRequest};
use crate::clock::Monotonic;
use crate::finding::{Finding, NotAsked, NotAskedReason, OutcomeBody, SourceError, SourceErrorKind, counted};
use crate::indicator::{Indicator, Tlp};
use crate::store::WindowUse;
use crate::sync::lock;

/// What the disclosure ledger records for one waiter of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DisclosureEntry {
    pub(super) indicator: Indicator,
    pub(super) caller: String,
    pub(super) tlp: Tlp,
    /// The submission by which the content itself is given away.
    pub(super) submission: Option<String>,
}

impl DisclosureEntry {
    pub(super) fn new(request: &LookupRequest) -> Self {
        Self {
            indicator: request.lookup.indicator.clone(),
            caller: request.caller.clone(),
            tlp: request.tlp,
            submission: None,
        }
    }
}

/// The waiters of one conversation, which continues until its end as long as any of them waits.
#[derive(Debug)]
pub(super) struct Waiters {
    state: Mutex<State>,
    /// Signals that a waiter joined or left.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// From when on nothing further starts, unless the conversation waits for a unit or a place.
    end: Monotonic,
    /// Since when the conversation waits for a unit or a place, which does not count towards its end.
    paused: Option<Monotonic>,
    /// Why the next call is not made yet.
    refusal: Option<NotAsked>,
    waiting: BTreeMap<u64, Waiter>,
    next_number: u64,
    closed: bool,
    /// Whether more would have been asked with more time or quota.
    limited: bool,
    calls: u32,
    units: u32,
    /// Those of them that were spent for further pages of related indicators.
    relation_units: u32,
    /// Whether units are now spent for them.
    is_relation_page: bool,
    /// Entries that are recorded, or being recorded.
    recorded: Vec<DisclosureEntry>,
    /// The host to which the indicator was disclosed, once every entry is recorded.
    disclosed_to: Option<String>,
    windows: Vec<WindowUse>,
    partial: Option<(Finding, AnswerTime)>,
}

/// One waiter. `TestSource` sends no user indicator, so nothing is recorded.
#[derive(Debug)]
struct Waiter {
    deadline: Monotonic,
    claim: Claim,
    max_units: Option<u32>,
    disclosure: Option<DisclosureEntry>,
}

impl Waiters {
    /// Makes the state of a new conversation with one waiter, who waits until `deadline`. The conversation starts no
    /// further step or attempt after `end`.
    pub(super) fn begin(
        end: Monotonic,
        deadline: Monotonic,
        claim: Claim,
        max_units: Option<u32>,
        disclosure: Option<DisclosureEntry>,
    ) -> (Arc<Self>, WaiterGuard) {
        let waiting = BTreeMap::from([(0, Waiter { deadline, claim, max_units, disclosure })]);
        let state = State { end, waiting, next_number: 1, ..State::default() };
        let waiters = Arc::new(Self { state: Mutex::new(state), changed: Notify::new() });
        (waiters.clone(), WaiterGuard { waiters, number: 0 })
    }

    /// Adds a waiter until `deadline`. Returns `None` once the conversation is closed, since it asks nothing more then.
    /// If the look-up was already disclosed, also returns the host; the new waiter must then record its own disclosure.
    pub(super) fn join(
        self: &Arc<Self>,
        deadline: Monotonic,
        claim: Claim,
        max_units: Option<u32>,
        disclosure: &DisclosureEntry,
    ) -> Option<(WaiterGuard, Option<String>)> {
        let mut state = lock(&self.state);
        if state.closed {
            return None;
        }
        let number = state.next_number;
        state.next_number += 1;
        let owed = state.disclosed_to.clone().filter(|_| !state.recorded.contains(disclosure));
        if owed.is_some() {
            state.recorded.push(disclosure.clone());
        }
        state.waiting.insert(number, Waiter { deadline, claim, max_units, disclosure: Some(disclosure.clone()) });
        self.changed.notify_one();
        Some((WaiterGuard { waiters: self.clone(), number }, owed))
    }

    /// Closes the conversation if nobody waits any more or its end has passed; then nobody can join it. Otherwise a
    /// further step or attempt may start.
    ///
    /// # Errors
    /// If the conversation is closed: why the first call was not made until then, or [`AttemptError::no_time`].
    pub(super) fn close_if_abandoned(&self, now: Monotonic) -> Result<(), AttemptError> {
        let mut state = lock(&self.state);
        let awaited = state.waiting.values().any(|waiter| waiter.deadline > now);
        state.closed |= !awaited || now >= state.end();
        if !state.closed {
            return Ok(());
        }
        Err(match &state.refusal {
            Some(refusal) if state.calls == 0 => AttemptError::NotAttempted(refusal.clone()),
            Some(_) | None => AttemptError::no_time(),
        })
    }

    /// Time until the last waiter leaves or the conversation ends, whichever is first.
    pub(super) fn time_left(&self, now: Monotonic) -> Duration {
        let state = lock(&self.state);
        state.latest_deadline().min(state.end()).since(now)
    }

    /// Time until the last waiter leaves, as the time for which the conversation may wait for a unit.
    pub(super) fn patience(&self, now: Monotonic) -> Duration {
        lock(&self.state).latest_deadline().since(now)
    }

    /// The time from which on nothing further starts.
    pub(super) fn end(&self) -> Monotonic {
        lock(&self.state).end()
    }

    /// For whom a unit is spent: the waiter of the highest priority, of several the first, none of these callers. `None`: nobody
    /// else waits.
    pub(super) fn claim(&self, without: &[String]) -> Option<Claim> {
        let state = lock(&self.state);
        let others = state.waiting.iter().filter(|(_, waiter)| !without.contains(&waiter.claim.caller));
        let first = others.max_by_key(|(number, waiter)| (waiter.claim.priority, Reverse(**number)));
        first.map(|(_, waiter)| waiter.claim.clone())
    }

    /// Resolves once a waiter joined or left.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Notes that the conversation waits for a unit or a place from now on, and why. That time does not count towards its end.
    pub(super) fn pause(&self, now: Monotonic, refusal: NotAsked) {
        let mut state = lock(&self.state);
        state.paused.get_or_insert(now);
        state.refusal = Some(refusal);
    }

    /// Whether the conversation has waited for a unit or a place.
    pub(super) fn has_paused(&self) -> bool {
        lock(&self.state).refusal.is_some()
    }

    /// Notes that the conversation does not wait any longer.
    pub(super) fn resume(&self, now: Monotonic) {
        let mut state = lock(&self.state);
        if let Some(since) = state.paused.take() {
            state.end = state.end + now.since(since);
        }
    }

    /// Notes that the time or a limit of those who wait kept the conversation from asking more.
    pub(super) fn note_limited(&self) {
        lock(&self.state).limited = true;
    }

    /// Whether that was noted.
    pub(super) fn was_limited(&self) -> bool {
        lock(&self.state).limited
    }

    /// Checks that the waiters allow one more unit: the waiter who allows most decides.
    ///
    /// # Errors
    /// [`AttemptError::NotAttempted`] if none of them does.
    pub(super) fn check_budget(&self) -> Result<(), AttemptError> {
        let state = lock(&self.state);
        let allows = |waiter: &Waiter| waiter.max_units.is_none_or(|most| state.units < most);
        if state.waiting.is_empty() || state.waiting.values().any(allows) {
            return Ok(());
        }
        let detail = format!("the request allows it {}", counted(state.units as usize, "quota unit"));
        Err(AttemptError::NotAttempted(NotAsked::new(NotAskedReason::Budget, detail)))
    }

    /// Counts a unit that was acquired, and stores the use of the windows after it.
    pub(super) fn count_unit(&self, windows: Vec<WindowUse>) {
        let mut state = lock(&self.state);
        state.units += 1;
        state.relation_units += u32::from(state.is_relation_page);
        state.windows = windows;
    }

    /// Uncounts a unit that was given back, and stores the use of the windows after it.
    pub(super) fn uncount_unit(&self, windows: Vec<WindowUse>) {
        let mut state = lock(&self.state);
        state.units = state.units.saturating_sub(1);
        state.relation_units = state.relation_units.saturating_sub(u32::from(state.is_relation_page));
        state.windows = windows;
    }

    pub(super) fn note_window(&self, window: WindowUse) {
        lock(&self.state).windows = vec![window];
    }

    /// Counts a call as made.
    pub(super) fn count_call(&self) {
        lock(&self.state).calls += 1;
    }

    /// Uncounts a call that was not made after all.
    pub(super) fn uncount_call(&self) {
        let mut state = lock(&self.state);
        state.calls = state.calls.saturating_sub(1);
    }

    /// Whether any call was made.
    pub(super) fn was_asked(&self) -> bool {
        lock(&self.state).calls > 0
    }

    pub(super) fn units(&self) -> u32 {
        lock(&self.state).units
    }

    /// Notes whether units are spent for further pages of related indicators from now on.
    pub(super) fn count_as_relations(&self, is_relation_page: bool) {
        lock(&self.state).is_relation_page = is_relation_page;
    }

    pub(super) fn relation_units(&self) -> u32 {
        lock(&self.state).relation_units
    }

    pub(super) fn windows(&self) -> Vec<WindowUse> {
        lock(&self.state).windows.clone()
    }

    /// The entries to record together with the unit of a call: `first` and those of the current waiters that are not
    /// recorded yet.
    pub(super) fn take_present(&self, first: &DisclosureEntry) -> Vec<DisclosureEntry> {
        let mut state = lock(&self.state);
        if state.disclosed_to.is_some() {
            return Vec::new();
        }
        let present: Vec<_> = state.waiting.values().filter_map(|waiter| waiter.disclosure.clone()).collect();
        let mut entries = Vec::new();
        for entry in std::iter::once(first.clone()).chain(present) {
            if !state.recorded.contains(&entry) {
                state.recorded.push(entry.clone());
                entries.push(entry);
            }
        }
        entries
    }

    /// The next entry to record before a call to `host` is made: `first`, then those of the current waiters. `None`:
    /// all entries are recorded, and waiters who join later record their own.
    pub(super) fn take_unrecorded(&self, first: &DisclosureEntry, host: &str) -> Option<DisclosureEntry> {
        let mut state = lock(&self.state);
        if state.disclosed_to.is_some() {
            return None;
        }
        let entries = state.waiting.values().filter_map(|waiter| waiter.disclosure.as_ref());
        let missing = std::iter::once(first).chain(entries).find(|entry| !state.recorded.contains(entry)).cloned();
        match &missing {
            Some(entry) => state.recorded.push(entry.clone()),
            None => state.disclosed_to = Some(host.to_owned()),
        }
        missing
    }

    /// Marks an entry as not recorded, because recording it failed.
    pub(super) fn unmark_recorded(&self, entry: &DisclosureEntry) {
        lock(&self.state).recorded.retain(|recorded| recorded != entry);
    }

    /// Stores the partial finding, for waiters whose time ends before the conversation does.
    pub(super) fn note_partial(&self, finding: &Finding, time: AnswerTime) {
        lock(&self.state).partial = Some((finding.clone(), time));
    }

    /// The outcome for waiters whose time is over: the partial finding, or else a timeout.
    pub(super) fn timeout_outcome(&self, now: AnswerTime, why: &str) -> (OutcomeBody, AnswerTime) {
        let state = lock(&self.state);
        match &state.partial {
            Some((finding, time)) => (OutcomeBody::Finding(incomplete(finding.clone(), why)), *time),
            None if state.calls > 0 => {
                (OutcomeBody::Error(SourceError::new(SourceErrorKind::Timeout, why.to_owned())), now)
            }
            None => match &state.refusal {
                Some(refusal) => (OutcomeBody::NotAsked(refusal.clone()), now),
                None => (AttemptError::no_time().into_body(), now),
            },
        }
    }
}

impl State {
    fn latest_deadline(&self) -> Monotonic {
        self.waiting.values().map(|waiter| waiter.deadline).max().unwrap_or_default()
    }

    fn end(&self) -> Monotonic {
        if self.paused.is_some() { self.end.max(self.latest_deadline()) } else { self.end }
    }
}

/// Adds to the finding the reason why it is incomplete.
pub(super) fn incomplete(mut finding: Finding, why: &str) -> Finding {
    finding.reasons.push(format!("incomplete: {why}"));
    finding
}

/// Membership in [`Waiters`]; dropping it removes the waiter.
#[derive(Debug)]
pub(super) struct WaiterGuard {
    waiters: Arc<Waiters>,
    number: u64,
}

impl WaiterGuard {
    pub(super) fn waiters(&self) -> &Waiters {
        &self.waiters
    }
}

impl Drop for WaiterGuard {
    fn drop(&mut self) {
        lock(&self.waiters.state).waiting.remove(&self.number);
        self.waiters.changed.notify_one();
    }
}
