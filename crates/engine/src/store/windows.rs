//! The quota that one account has spent. Both backends hold it in memory, so that acquiring a unit costs the same
//! however many calls there were in the last minute.
//!
//! While its call is in flight, a unit counts as spent now; after that, as spent when the call ended. The request
//! reached the source at some time before that, so no window of the source holds more calls than were counted here.
//! Calls are kept in order of time. For the calendar they are counted by quarters of an hour, so that the windows of any
//! time zone can be counted, also after a change of the zone.

use std::collections::BTreeMap;

use super::WindowUse;
use super::quota::{Calendar, Moment, WindowCount, calls_over, decide, quarter_of, window_uses};
use crate::source::{QuotaPer, QuotaWindow};
use crate::store::Acquired;

/// The most that is believed to be used of a window: a source that says more must not overflow a counter.
const MOST_USED: u64 = 1 << 40;

/// The quota that an account has spent.
#[derive(Clone, Debug, Default)]
pub(super) struct AccountWindows {
    /// When each call was made, in order.
    calls: Vec<i64>,
    /// By the start of each quarter.
    counts: BTreeMap<i64, QuarterCount>,
    /// Number of units in flight, by when they were acquired.
    in_flight: BTreeMap<i64, u64>,
    /// What counts in addition to the records because the clock was set. After a step back: the moved records with
    /// their original times, in case the clock returns. After a step forward: the calls of the last minute, shifted by
    /// the step. Not stored.
    moved: Moved,
}

/// The calls of one quarter of an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct QuarterCount {
    /// Calls that were recorded in it.
    pub(super) recorded: u64,
    /// Calls that were recorded before it, and that the source may have received when it had begun.
    pub(super) crossing: u64,
}

#[derive(Clone, Debug, Default)]
struct Moved {
    /// Original times of records that were moved back.
    calls: Vec<i64>,
    /// Times of calls as they would be by the clock that was set forward. Their records stay, and may be pruned as old.
    shifted: Vec<i64>,
    counts: Vec<MovedCount>,
}

/// Calls that were moved from one quarter to an earlier one.
#[derive(Clone, Copy, Debug)]
struct MovedCount {
    from: i64,
    to: i64,
    calls: u64,
}

/// A unit that counts from the end of its call on, since that was noticeably later than the acquisition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Redated {
    pub(super) from: Moment,
    pub(super) to: Moment,
}

impl AccountWindows {
    /// Makes an account from its stored records; `calls` may be in any order.
    pub(super) fn from_stored(mut calls: Vec<i64>, counts: BTreeMap<i64, QuarterCount>) -> Self {
        calls.sort_unstable();
        Self { calls, counts, ..Self::default() }
    }

    /// The account without what is only known to the process.
    pub(super) fn only_stored(self) -> Self {
        Self { calls: self.calls, counts: self.counts, ..Self::default() }
    }

    /// Replaces the stored records by newly read ones. Units in flight and moved records are kept, since they are not
    /// stored.
    pub(super) fn reloaded(self, stored: Self) -> Self {
        Self { calls: stored.calls, counts: stored.counts, ..self }
    }

    /// Whether a record is so far ahead that the clock must have stepped back.
    pub(super) fn is_ahead(&self, at: &Moment) -> bool {
        let latest = at.latest_plausible();
        self.calls.last().is_some_and(|call| *call > latest)
            || self.moved.shifted.iter().any(|call| *call > latest)
            || self.counts.last_key_value().is_some_and(|(starts, _)| *starts > latest)
    }

    /// Moves records that are ahead, because the clock stepped back, to the current time.
    pub(super) fn follow_clock(&mut self, at: &Moment) {
        let latest = at.latest_plausible();
        // Those that the clock's way back shows again need not count a second time.
        let shown = self.calls.iter().filter(|call| (at.minute_start()..=latest).contains(call)).count();
        let shifted = self.moved.shifted.extract_if(.., |call| *call > latest).skip(shown).count();
        self.moved.shifted.extend(std::iter::repeat_n(at.now, shifted));
        let ahead = self.calls.split_off(self.calls.partition_point(|call| *call <= latest));
        self.calls.extend(ahead.iter().map(|_| at.now));
        self.calls.sort_unstable();
        self.moved.calls.extend(ahead);
        for (from, count) in self.counts.split_off(&latest.saturating_add(1)) {
            self.counts.entry(at.quarter()).or_default().recorded += count.recorded;
            let calls = count.recorded + count.crossing;
            self.moved.counts.push(MovedCount { from, to: at.quarter(), calls });
        }
        self.moved.forget(at);
    }

    /// Shifts the calls of the last minute by the step with which the clock was set forward. Otherwise they would drop
    /// out of the sliding minute at once. A call that lies ahead was made before the clock stepped back, by the latest just now.
    pub(super) fn follow_clock_forward(&mut self, from: &Moment, to: &Moment) {
        let start = from.minute_start();
        let step = to.now.saturating_sub(from.now);
        let recorded = self
            .calls
            .iter()
            .map(|call| (*call).min(from.now))
            .chain(self.moved.calls.iter().chain(&self.moved.shifted).copied());
        let recent: Vec<_> =
            recorded.filter(|call| (start..=from.now).contains(call)).map(|call| call + step).collect();
        self.moved.shifted.extend(recent);
        self.moved.forget(to);
    }

    /// Decides whether one more call is granted now, and records it if so. It is in flight from [`Self::begin`] on,
    /// which is called once the record is durable.
    pub(super) fn acquire(&mut self, windows: &[QuotaWindow], calendar: &Calendar) -> Acquired {
        let acquired = decide(windows, &self.counts(windows, calendar), calendar);
        if matches!(acquired, Acquired::Granted(_)) {
            self.record(&calendar.at);
        }
        acquired
    }

    /// Marks the call of a unit that was acquired at this time as in flight.
    pub(super) fn begin(&mut self, at: &Moment) {
        *self.in_flight.entry(at.now).or_default() += 1;
    }

    /// Marks the call of a unit that was acquired at this time as ended.
    pub(super) fn end(&mut self, at: &Moment) {
        if let Some(count) = self.in_flight.get_mut(&at.now) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(&at.now);
            }
        }
    }

    /// Moves the unit that was acquired at `from` to the end of its call. Returns how the record changed, if it did.
    pub(super) fn redate(&mut self, from: &Moment, to: &Moment) -> Option<Redated> {
        if !from.is_outdated(to) {
            return None;
        }
        let position = self.calls.binary_search(&from.now).ok()?;
        self.calls.remove(position);
        self.insert(to.now);
        for starts in to.crossed_since(from) {
            self.counts.entry(starts).or_default().crossing += 1;
        }
        Some(Redated { from: *from, to: *to })
    }

    /// Raises the use of these windows to what the source reports. Returns in which quarter how many calls were added; `None` for a
    /// window that began so recently that the report may be about the one before. What is added counts from the start of its
    /// window on, since it is not known when those calls were made.
    pub(super) fn raise(&mut self, used: &[(QuotaPer, u64)], calendar: &Calendar) -> Vec<Option<(i64, u64)>> {
        let mut used: Vec<_> = used.iter().filter(|(per, _)| *per != QuotaPer::Minute).collect();
        // What a shorter window lacks, a longer one that holds it lacks too.
        used.sort_by_key(|(per, _)| *per);
        let raised = used.into_iter().map(|(per, used)| {
            let starts = calendar.start(*per).filter(|_| calendar.is_well_inside(*per))?;
            let recorded = self.count(&QuotaWindow { per: *per, limit: u64::MAX }, calendar).used;
            let (quarter, more) = (quarter_of(starts), (*used).min(MOST_USED).saturating_sub(recorded));
            self.counts.entry(quarter).or_default().recorded += more;
            Some((quarter, more))
        });
        raised.collect()
    }

    /// Removes a unit whose call did not reach the source. Returns `false` if it is not recorded.
    pub(super) fn give_back(&mut self, at: &Moment) -> bool {
        let Ok(position) = self.calls.binary_search(&at.now) else { return false };
        self.calls.remove(position);
        if let Some(count) = self.counts.get_mut(&at.quarter()) {
            count.recorded = count.recorded.saturating_sub(1);
        }
        for starts in at.crossed() {
            if let Some(count) = self.counts.get_mut(&starts) {
                count.crossing = count.crossing.saturating_sub(1);
            }
        }
        true
    }

    /// The use of each window.
    pub(super) fn uses(&self, windows: &[QuotaWindow], calendar: &Calendar) -> Vec<WindowUse> {
        window_uses(windows, &self.counts(windows, calendar), calendar)
    }

    /// Removes records that are too old for any window.
    pub(super) fn prune(&mut self, at: &Moment) {
        let (oldest_call, oldest_count) = (at.oldest_call(), at.oldest_count());
        self.calls.drain(..self.calls.partition_point(|call| *call <= oldest_call));
        self.counts.retain(|starts, _| *starts > oldest_count);
        self.in_flight.retain(|taken, _| *taken > oldest_call);
    }

    /// Records one more call, whatever is granted.
    pub(super) fn record(&mut self, at: &Moment) {
        self.insert(at.now);
        self.counts.entry(at.quarter()).or_default().recorded += 1;
        for starts in at.crossed() {
            self.counts.entry(starts).or_default().crossing += 1;
        }
    }

    fn insert(&mut self, call: i64) {
        let position = self.calls.partition_point(|other| *other <= call);
        self.calls.insert(position, call);
    }

    fn counts(&self, windows: &[QuotaWindow], calendar: &Calendar) -> Vec<WindowCount> {
        windows.iter().map(|window| self.count(window, calendar)).collect()
    }

    fn count(&self, window: &QuotaWindow, calendar: &Calendar) -> WindowCount {
        let at = &calendar.at;
        let start = calendar.start(window.per).unwrap_or_else(|| at.minute_start());
        // Units that have been in flight since before the window started: they count now, but their records are older.
        let before: u64 = self.in_flight.range(..start).map(|(_, count)| *count).sum();
        match window.per {
            QuotaPer::Minute => {
                let inside = self.calls.get(self.calls.partition_point(|call| *call < start)..).unwrap_or_default();
                let used = inside.len() as u64 + before + self.moved.calls_within(start, at.latest_plausible());
                let over = usize::try_from(calls_over(used, window.limit)).unwrap_or(usize::MAX);
                // A call that was recorded before the clock stepped back counts as made now.
                let next = inside.get(over).map(|call| if *call > at.latest_plausible() { at.now } else { *call });
                WindowCount { used, next_to_expire: next.or((used > 0).then_some(at.now)) }
            }
            QuotaPer::Hour | QuotaPer::Day | QuotaPer::Week | QuotaPer::Month => {
                let first = quarter_of(start);
                let recorded: u64 = self.counts.range(first..).map(|(_, count)| count.recorded).sum();
                let crossing = self.counts.get(&first).map_or(0, |count| count.crossing);
                let moved = self.moved.counted_within(first, calendar.end(window.per).unwrap_or(at.now));
                WindowCount { used: recorded + crossing + before + moved, next_to_expire: None }
            }
        }
    }
}

impl Moved {
    fn calls_within(&self, from: i64, to: i64) -> u64 {
        let calls = self.calls.iter().chain(&self.shifted);
        calls.filter(|call| (from..=to).contains(call)).count() as u64
    }

    /// The calls that were recorded in the window between these times, and were moved to before it.
    fn counted_within(&self, starts: i64, ends: i64) -> u64 {
        let counts = self.counts.iter().filter(|moved| (starts..ends).contains(&moved.from) && moved.to < starts);
        counts.map(|moved| moved.calls).sum()
    }

    /// Removes what is too old for any window.
    fn forget(&mut self, at: &Moment) {
        self.calls.retain(|call| *call > at.oldest_call());
        self.shifted.retain(|call| *call > at.oldest_call());
        self.counts.retain(|moved| moved.from > at.oldest_count());
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::source::QuotaZone;

    fn calendar(seconds: u64) -> Calendar {
        Calendar::new(UNIX_EPOCH + Duration::from_secs(1_790_000_000 + seconds), &QuotaZone::default()).unwrap()
    }

    #[test]
    fn calls_from_before_a_clock_that_was_set_back_count_once_it_is_set_forward() {
        let minute = [QuotaWindow { per: QuotaPer::Minute, limit: 2 }];
        let mut account = AccountWindows::default();
        for _ in 0..2 {
            assert!(matches!(account.acquire(&minute, &calendar(1_000)), Acquired::Granted(_)));
        }
        // Set back by 50 seconds, during which only other accounts were used, then forward by a day, 20 seconds later.
        account.follow_clock_forward(&calendar(970).at, &calendar(87_370).at);
        assert!(matches!(account.acquire(&minute, &calendar(87_375)), Acquired::Spent(_)));
        assert!(matches!(account.acquire(&minute, &calendar(87_432)), Acquired::Granted(_)));
    }
    #[test]
    fn a_clock_that_jumps_forward_and_returns_neither_forgets_the_minute_nor_counts_it_twice() {
        let minute = [QuotaWindow { per: QuotaPer::Minute, limit: 3 }];
        for is_pruned in [false, true] {
            let mut account = AccountWindows::default();
            for _ in 0..2 {
                assert!(matches!(account.acquire(&minute, &calendar(1_000)), Acquired::Granted(_)));
            }
            account.follow_clock_forward(&calendar(1_000).at, &calendar(87_400).at);
            if is_pruned {
                account.prune(&calendar(87_400).at);
            }
            assert!(account.is_ahead(&calendar(1_010).at));
            account.follow_clock(&calendar(1_010).at);
            assert!(!account.is_ahead(&calendar(1_010).at));
            assert!(matches!(account.acquire(&minute, &calendar(1_010)), Acquired::Granted(_)));
            assert!(matches!(account.acquire(&minute, &calendar(1_011)), Acquired::Spent(_)));
            assert!(matches!(account.acquire(&minute, &calendar(1_072)), Acquired::Granted(_)));
        }
    }
}
