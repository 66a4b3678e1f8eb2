//! What one account has spent, as both backends hold it in memory: a take costs the same however many calls the minute holds.
//!
//! A unit counts as spent now for as long as its call is under way, and as spent when its call ended from then on: its bytes
//! left at some moment in between, so that no window of the source holds more calls than were counted in it. Calls are looked
//! up in order of time; the calendar windows have counters.

use std::collections::BTreeMap;

use super::WindowUse;
use super::quota::{COUNTED, Moment, WindowCount, calls_over, counted_by, decide, window_uses};
use crate::source::{QuotaPer, QuotaWindow};
use crate::store::Acquired;

/// A calendar window: which, and when it begins.
type CalendarWindow = (QuotaPer, i64);

/// What an account has spent.
#[derive(Clone, Debug, Default)]
pub(super) struct AccountWindows {
    /// When each call was made, in order.
    calls: Vec<i64>,
    counts: BTreeMap<CalendarWindow, u64>,
    /// How many units are under way, by when they were taken.
    under_way: BTreeMap<i64, u64>,
    /// What counts beside the records because the clock was set. After a step back: what moved with it, as it was recorded,
    /// should the clock return. After a step forward: the calls of the last minute, as many seconds later. Not stored.
    moved: Moved,
}

#[derive(Clone, Debug, Default)]
struct Moved {
    calls: Vec<i64>,
    counts: BTreeMap<CalendarWindow, u64>,
}

/// A unit whose call ended so much later than it was taken that it counts from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Redated {
    pub(super) from: Moment,
    pub(super) to: Moment,
}

impl AccountWindows {
    /// From what is stored; `calls` in any order.
    pub(super) fn from_stored(mut calls: Vec<i64>, counts: BTreeMap<CalendarWindow, u64>) -> Self {
        calls.sort_unstable();
        Self { calls, counts, ..Self::default() }
    }

    /// The same account read anew: what is under way and what moved is known to this process alone.
    pub(super) fn reloaded(self, stored: Self) -> Self {
        Self { calls: stored.calls, counts: stored.counts, ..self }
    }

    /// Whether anything is recorded so far ahead that the clock must have stepped back.
    pub(super) fn is_ahead(&self, at: &Moment) -> bool {
        let latest = at.latest_plausible();
        let begins_later =
            |per: &QuotaPer| self.counts.range((*per, latest.saturating_add(1))..=(*per, i64::MAX)).next().is_some();
        self.calls.last().is_some_and(|call| *call > latest) || COUNTED.iter().any(begins_later)
    }

    /// Moves what was recorded before the clock stepped back to where the clock is now.
    pub(super) fn follow_clock(&mut self, at: &Moment) {
        let latest = at.latest_plausible();
        let ahead = self.calls.split_off(self.calls.partition_point(|call| *call <= latest));
        self.calls.extend(ahead.iter().map(|_| at.now));
        self.calls.sort_unstable();
        self.moved.calls.extend(ahead);
        for per in COUNTED {
            let future = (per, latest.saturating_add(1))..=(per, i64::MAX);
            let ahead: Vec<_> = self.counts.range(future).map(|(window, count)| (*window, *count)).collect();
            for (window, count) in ahead {
                self.counts.remove(&window);
                *self.counts.entry((per, at.window_start(per))).or_default() += count;
                *self.moved.counts.entry(window).or_default() += count;
            }
        }
        self.moved.forget(at);
    }

    /// Has the calls of the last minute count as made so much later, since the clock was set forward.
    pub(super) fn follow_clock_forward(&mut self, from: &Moment, to: &Moment) {
        let start = from.window_start(QuotaPer::Minute);
        let step = to.now.saturating_sub(from.now);
        let recorded = self.calls.iter().chain(&self.moved.calls);
        let recent: Vec<_> =
            recorded.filter(|call| (start..=from.now).contains(*call)).map(|call| call + step).collect();
        self.moved.calls.extend(recent);
        self.moved.forget(to);
    }

    /// Whether one more call is granted now; if so, it is recorded. It is under way from [`Self::begin`] on, once the record
    /// is durable.
    pub(super) fn acquire(&mut self, windows: &[QuotaWindow], at: &Moment) -> Acquired {
        let acquired = decide(windows, &self.counts(windows, at), at);
        if matches!(acquired, Acquired::Granted(_)) {
            self.record(at);
        }
        acquired
    }

    /// The call of a unit that was taken at this moment is under way.
    pub(super) fn begin(&mut self, at: &Moment) {
        *self.under_way.entry(at.now).or_default() += 1;
    }

    /// The call of a unit that was taken at this moment has ended.
    pub(super) fn end(&mut self, at: &Moment) {
        if let Some(count) = self.under_way.get_mut(&at.now) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(&at.now);
            }
        }
    }

    /// Dates the unit that was taken at `from` by when its call ended. Says how the record changes, if it does.
    pub(super) fn redate(&mut self, from: &Moment, to: &Moment) -> Option<Redated> {
        if !from.is_outdated(to) {
            return None;
        }
        let place = self.calls.binary_search(&from.now).ok()?;
        self.calls.remove(place);
        self.insert(to.now);
        for window in to.windows_beyond(from) {
            *self.counts.entry(window).or_default() += 1;
        }
        Some(Redated { from: *from, to: *to })
    }

    /// Forgets a unit whose call reached nobody; false where it is not recorded.
    pub(super) fn give_back(&mut self, at: &Moment) -> bool {
        let Ok(place) = self.calls.binary_search(&at.now) else { return false };
        self.calls.remove(place);
        for window in at.calendar_windows() {
            if let Some(count) = self.counts.get_mut(&window) {
                *count = count.saturating_sub(1);
            }
        }
        true
    }

    /// How much of each window is used.
    pub(super) fn uses(&self, windows: &[QuotaWindow], at: &Moment) -> Vec<WindowUse> {
        window_uses(windows, &self.counts(windows, at), at)
    }

    /// Forgets what no window can count any more.
    pub(super) fn prune(&mut self, at: &Moment) {
        let (oldest_call, oldest_count) = (at.oldest_call(), at.oldest_count());
        self.calls.drain(..self.calls.partition_point(|call| *call <= oldest_call));
        self.counts.retain(|(_, starts), _| *starts > oldest_count);
        self.under_way.retain(|taken, _| *taken > oldest_call);
    }

    fn record(&mut self, at: &Moment) {
        self.insert(at.now);
        for window in at.calendar_windows() {
            *self.counts.entry(window).or_default() += 1;
        }
    }

    fn insert(&mut self, call: i64) {
        let place = self.calls.partition_point(|other| *other <= call);
        self.calls.insert(place, call);
    }

    fn counts(&self, windows: &[QuotaWindow], at: &Moment) -> Vec<WindowCount> {
        windows.iter().map(|window| self.count(window, at)).collect()
    }

    fn count(&self, window: &QuotaWindow, at: &Moment) -> WindowCount {
        let start = at.window_start(window.per);
        // Under way since before the window began, and counted in none since.
        let before: u64 = self.under_way.range(..start).map(|(_, count)| *count).sum();
        match window.per {
            QuotaPer::Minute => {
                let inside = self.calls.get(self.calls.partition_point(|call| *call < start)..).unwrap_or_default();
                let used = inside.len() as u64 + before + self.moved.calls_within(start, at.latest_plausible());
                let over = usize::try_from(calls_over(used, window.limit)).unwrap_or(usize::MAX);
                // A call from before the clock stepped back counts as made now.
                let next = inside.get(over).map(|call| if *call > at.latest_plausible() { at.now } else { *call });
                WindowCount { used, next_to_expire: next.or((used > 0).then_some(at.now)) }
            }
            QuotaPer::Day | QuotaPer::Week | QuotaPer::Month => {
                let per = counted_by(window.per);
                let counted: u64 = self.counts.range((per, start)..=(per, i64::MAX)).map(|(_, count)| count).sum();
                let moved = self.moved.counts.get(&(per, start)).copied().unwrap_or_default();
                WindowCount { used: counted + before + moved, next_to_expire: None }
            }
        }
    }
}

impl Moved {
    fn calls_within(&self, from: i64, to: i64) -> u64 {
        self.calls.iter().filter(|call| (from..=to).contains(call)).count() as u64
    }

    /// Forgets what the clock has passed.
    fn forget(&mut self, at: &Moment) {
        self.calls.retain(|call| *call > at.oldest_call());
        self.counts.retain(|(_, starts), _| *starts > at.oldest_count());
    }
}
