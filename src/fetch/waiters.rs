//! The callers who wait for one conversation, and its state that they share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::attempt::AttemptError;
use super::lookup::{AnswerTime, LookupRequest};
use crate::clock::Monotonic;
use crate::finding::{Finding, OutcomeBody, SourceError, SourceErrorKind};
use crate::indicator::{Indicator, Tlp};
use crate::store::WindowUse;
use crate::sync::lock;

/// What the disclosure ledger records of a conversation, for one waiter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DisclosureEntry {
    pub(super) indicator: Indicator,
    pub(super) caller: String,
    pub(super) tlp: Tlp,
}

impl DisclosureEntry {
    pub(super) fn new(request: &LookupRequest) -> Self {
        Self { indicator: request.lookup.indicator.clone(), caller: request.caller.clone(), tlp: request.tlp }
    }
}

/// The waiters of one conversation. It goes on until its end while any of them waits.
#[derive(Debug)]
pub(super) struct Waiters {
    end: Monotonic,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<u64, Waiter>,
    next_number: u64,
    closed: bool,
    calls: u32,
    units: u32,
    /// Entries that are recorded, or being recorded.
    recorded: Vec<DisclosureEntry>,
    /// To whom the indicator was disclosed, once every entry is recorded.
    disclosed_to: Option<String>,
    windows: Vec<WindowUse>,
    partial: Option<(Finding, AnswerTime)>,
}

/// One waiter. `TestSource` sends no user indicator, so nothing is recorded.
#[derive(Debug)]
struct Waiter {
    deadline: Monotonic,
    disclosure: Option<DisclosureEntry>,
}

impl Waiters {
    /// One waiter, until `deadline`. The conversation begins nothing further from `end` on.
    pub(super) fn begin(
        end: Monotonic,
        deadline: Monotonic,
        disclosure: Option<DisclosureEntry>,
    ) -> (Arc<Self>, WaiterGuard) {
        let waiting = BTreeMap::from([(0, Waiter { deadline, disclosure })]);
        let state = State { waiting, next_number: 1, ..State::default() };
        let waiters = Arc::new(Self { end, state: Mutex::new(state) });
        (waiters.clone(), WaiterGuard { waiters, number: 0 })
    }

    /// Joins until `deadline`; `None` once the conversation is closed, since it asks nothing more then. If the look-up
    /// was already disclosed, returns the host; the new waiter must then record its own disclosure.
    pub(super) fn join(
        self: &Arc<Self>,
        deadline: Monotonic,
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
        state.waiting.insert(number, Waiter { deadline, disclosure: Some(disclosure.clone()) });
        Some((WaiterGuard { waiters: self.clone(), number }, owed))
    }

    /// Whether a further step or attempt may start. A refusal is final: nobody can join afterwards.
    pub(super) fn close_if_abandoned(&self, now: Monotonic) -> Result<(), AttemptError> {
        let mut state = lock(&self.state);
        let awaited = state.waiting.values().any(|waiter| waiter.deadline > now);
        state.closed |= !awaited || now >= self.end;
        if state.closed { Err(AttemptError::no_time()) } else { Ok(()) }
    }

    /// Time until the last waiter leaves, or nothing further may start.
    pub(super) fn time_left(&self, now: Monotonic) -> Duration {
        let latest = lock(&self.state).waiting.values().map(|waiter| waiter.deadline).max();
        latest.map_or(Duration::ZERO, |latest| latest.min(self.end).since(now))
    }

    /// Nothing further starts from this moment on.
    pub(super) fn end(&self) -> Monotonic {
        self.end
    }

    /// Counts a unit that was taken, and notes what is left after it.
    pub(super) fn count_unit(&self, windows: Vec<WindowUse>) {
        let mut state = lock(&self.state);
        state.units += 1;
        state.windows = windows;
    }

    /// Uncounts a unit that was given back, and notes what is left after it.
    pub(super) fn uncount_unit(&self, windows: Vec<WindowUse>) {
        let mut state = lock(&self.state);
        state.units = state.units.saturating_sub(1);
        state.windows = windows;
    }

    pub(super) fn note_window(&self, window: WindowUse) {
        lock(&self.state).windows = vec![window];
    }

    /// Counts a call as made.
    pub(super) fn count_call(&self) {
        lock(&self.state).calls += 1;
    }

    /// Uncounts a call that did not leave after all.
    pub(super) fn uncount_call(&self) {
        let mut state = lock(&self.state);
        state.calls = state.calls.saturating_sub(1);
    }

    /// Whether any call has left.
    pub(super) fn was_asked(&self) -> bool {
        lock(&self.state).calls > 0
    }

    pub(super) fn units(&self) -> u32 {
        lock(&self.state).units
    }

    pub(super) fn windows(&self) -> Vec<WindowUse> {
        lock(&self.state).windows.clone()
    }

    /// The entries to record with the unit of a call: `first`, and those of the present waiters, unless they are on record.
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

    /// The next entry to record before a call leaves to `host`: `first`, then those of the present waiters. `None`:
    /// every entry is recorded, and later waiters record their own.
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

    /// Notes that an entry could not be recorded.
    pub(super) fn unmark_recorded(&self, entry: &DisclosureEntry) {
        lock(&self.state).recorded.retain(|recorded| recorded != entry);
    }

    /// Notes the partial finding, for waiters who cannot wait for the rest.
    pub(super) fn note_partial(&self, finding: &Finding, time: AnswerTime) {
        lock(&self.state).partial = Some((finding.clone(), time));
    }

    /// The outcome for waiters who cannot wait longer: the partial finding, else that there was no answer.
    pub(super) fn timeout_outcome(&self, now: AnswerTime, why: &str) -> (OutcomeBody, AnswerTime) {
        let state = lock(&self.state);
        match &state.partial {
            Some((finding, time)) => (OutcomeBody::Finding(incomplete(finding.clone(), why)), *time),
            None if state.calls > 0 => {
                (OutcomeBody::Error(SourceError::new(SourceErrorKind::Timeout, why.to_owned())), now)
            }
            None => (AttemptError::no_time().into_body(), now),
        }
    }
}

/// The finding, with the reason why there is not more of it.
pub(super) fn incomplete(mut finding: Finding, why: &str) -> Finding {
    finding.reasons.push(format!("incomplete: {why}"));
    finding
}

/// Membership in [`Waiters`]; dropping it is leaving.
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
    }
}
