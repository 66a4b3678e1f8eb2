//! What the source reports in the headers of its answers of the calls that are left to the account. It bounds calls in
//! addition to the windows of the settings, and is held in memory only: the first answer after a restart says it again.
//!
//! Each call takes from what was reported last, so that no more calls are under way than are left, and the next report
//! corrects what others with the same credential have used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::attempt::quota_spent;
use crate::clock::{Clock, Monotonic};
use crate::finding::{NotAsked, NotAskedReason, counted};
use crate::source::{Priority, QuotaPer, RateLimit, reserved_calls};
use crate::sync::lock;

/// Time for which a window is left alone that is used up if the source does not report when it turns.
const UNKNOWN_RESET: Duration = Duration::from_secs(60);
/// Two reports are about the same window if it turns at the same time, up to this difference.
const SAME_RESET: Duration = Duration::from_secs(2);
/// Maximum of windows of one account; a source that names ever new ones does not fill the memory.
const MAX_WINDOWS: usize = 8;

/// What is left of one window of an account's quota, as its source reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedQuota {
    /// Length of the window; `None`: not reported.
    pub period: Option<Duration>,
    /// Calls that the window allows; `None`: not reported.
    pub limit: Option<u64>,
    /// Calls that are left: those that were reported, less those that began since.
    pub left: u64,
    /// When the window turns; `None`: not reported.
    pub resets_at: Option<SystemTime>,
    /// When the source reported it.
    pub reported_at: SystemTime,
}

/// The windows of one account's quota as its source reports them.
#[derive(Debug, Default)]
pub(super) struct ReportedWindows {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By their lengths.
    windows: BTreeMap<Option<Duration>, Window>,
    /// Calls that have a unit and have not ended.
    in_flight: u64,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    period: Option<Duration>,
    limit: Option<u64>,
    left: u64,
    /// The least that was reported of this window since it turned.
    least: u64,
    turns: Monotonic,
    /// Whether the source reported when it turns. If not, one call at a time finds out.
    is_turn_known: bool,
    reported_at: SystemTime,
}

/// Why no call may be made now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    window: Window,
    priority: Priority,
    reserve: u32,
}

/// One call that was taken from what is left. It is given back when dropped, unless it was made.
#[derive(Debug)]
pub(super) struct ReportedPermit {
    windows: Arc<ReportedWindows>,
    is_spent: bool,
}

impl ReportedWindows {
    /// Takes one call of each window.
    ///
    /// # Errors
    /// The window of which none is left for this priority; of several, the one that turns last.
    pub(super) fn take(
        self: &Arc<Self>,
        priority: Priority,
        reserve: u32,
        now: Monotonic,
    ) -> Result<ReportedPermit, Held> {
        let mut state = lock(&self.state);
        state.turn(now);
        state.held(priority, reserve).map_or(Ok(()), Err)?;
        for window in state.windows.values_mut() {
            window.left = window.left.saturating_sub(1);
            if window.left == 0 && !window.is_turn_known {
                window.turns = now + UNKNOWN_RESET;
            }
        }
        state.in_flight += 1;
        Ok(ReportedPermit { windows: self.clone(), is_spent: false })
    }

    /// Why no call of this priority may be made now.
    pub(super) fn held(&self, priority: Priority, reserve: u32, now: Monotonic) -> Option<Held> {
        let mut state = lock(&self.state);
        state.turn(now);
        state.held(priority, reserve)
    }

    /// The calls that are left for this priority in the scarcest window, and the least share of a window that is left, from 0 to 1.
    pub(super) fn left(&self, priority: Priority, reserve: u32, now: Monotonic) -> Option<(u64, f64)> {
        let mut state = lock(&self.state);
        state.turn(now);
        let left = state.windows.values().map(|window| window.left_for(priority, reserve)).min()?;
        let share = |window: &Window| Some(window.left as f64 / window.limit?.max(1) as f64);
        let share = state.windows.values().filter_map(share).fold(1.0, f64::min);
        Some((left, share))
    }

    /// Takes note of what an answer reports, of which no window is believed to last longer than `longest`. Returns whether calls
    /// are left of which none were.
    pub(super) fn note(&self, limits: &[RateLimit], longest: Duration, clock: &dyn Clock) -> bool {
        if limits.is_empty() {
            return false;
        }
        let (now, reported_at) = (clock.monotonic(), clock.now());
        let mut state = lock(&self.state);
        state.turn(now);
        let was_held = state.held(Priority::Interactive, 0).is_some();
        for limit in limits {
            let known = state.windows.get(&limit.period).copied();
            if known.is_none() && state.windows.len() >= MAX_WINDOWS {
                continue;
            }
            let reset = limit.reset.map(|reset| now + reset.min(longest));
            let in_flight = state.in_flight;
            state.windows.insert(limit.period, Window::reported(limit, known, reset, in_flight, now, reported_at));
        }
        was_held && state.held(Priority::Interactive, 0).is_none()
    }

    /// Forgets what was reported.
    pub(super) fn forget(&self) {
        lock(&self.state).windows.clear();
    }

    /// What was reported, for display.
    pub(super) fn status(&self, clock: &dyn Clock) -> Vec<ReportedQuota> {
        let (now, wall) = (clock.monotonic(), clock.now());
        let mut state = lock(&self.state);
        state.turn(now);
        let status = |window: &Window| ReportedQuota {
            period: window.period,
            limit: window.limit,
            left: window.left,
            resets_at: window.is_turn_known.then(|| wall.checked_add(window.turns.since(now))).flatten(),
            reported_at: window.reported_at,
        };
        state.windows.values().map(status).collect()
    }
}

impl State {
    /// Begins each window anew that has turned by now.
    fn turn(&mut self, now: Monotonic) {
        let in_flight = self.in_flight;
        self.windows.retain(|_, window| {
            if window.turns > now {
                return true;
            }
            if !window.is_turn_known {
                window.left = window.left.max(1);
                window.turns = now + UNKNOWN_RESET;
                return true;
            }
            // Without a limit nothing is known of the next window.
            let Some(limit) = window.limit else { return false };
            window.left = limit.saturating_sub(in_flight);
            window.least = limit;
            match window.period {
                Some(period) => {
                    let over = now.since(window.turns).as_nanos() % period.as_nanos().max(1);
                    let over = Duration::from_nanos(u64::try_from(over).unwrap_or_default());
                    window.turns = now + period.saturating_sub(over);
                }
                None => (window.turns, window.is_turn_known) = (now + UNKNOWN_RESET, false),
            }
            true
        });
    }

    fn held(&self, priority: Priority, reserve: u32) -> Option<Held> {
        let held = self.windows.values().filter(|window| window.left_for(priority, reserve) == 0);
        let window = *held.max_by_key(|window| window.turns)?;
        Some(Held { window, priority, reserve })
    }

    /// Takes note that a call has ended.
    fn end(&mut self, is_spent: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if !is_spent {
            self.windows.values_mut().for_each(|window| window.left = window.left.saturating_add(1));
        }
    }
}

impl Window {
    /// The window as it is reported. Calls in flight may not be among those that the source has counted.
    fn reported(
        limit: &RateLimit,
        known: Option<Self>,
        reset: Option<Monotonic>,
        in_flight: u64,
        now: Monotonic,
        reported_at: SystemTime,
    ) -> Self {
        let known = known.filter(|known| known.is_turn_known);
        let is_same = |known: &Self| {
            reset.is_none_or(|reset| reset.since(known.turns).max(known.turns.since(reset)) <= SAME_RESET)
        };
        let same = known.filter(is_same);
        // Of answers that overtake each other, the one that reports less is the later one.
        let least = same.map_or(limit.remaining, |known| known.least.min(limit.remaining));
        Self {
            period: limit.period,
            limit: limit.limit.or(same.and_then(|known| known.limit)),
            left: least.saturating_sub(in_flight),
            least,
            turns: reset.or(same.map(|known| known.turns)).unwrap_or(now + UNKNOWN_RESET),
            is_turn_known: reset.is_some() || same.is_some(),
            reported_at,
        }
    }

    fn left_for(&self, priority: Priority, reserve: u32) -> u64 {
        self.left.saturating_sub(self.reserved(priority, reserve))
    }

    /// Calls that are kept from this priority. Where it is not known when the window turns there are none, since nobody would
    /// find out that it has.
    fn reserved(&self, priority: Priority, reserve: u32) -> u64 {
        match (priority, self.limit) {
            (Priority::Background, Some(limit)) if self.is_turn_known => reserved_calls(limit, reserve),
            (Priority::Background | Priority::Interactive, _) => 0,
        }
    }

    /// `0 of 1000 calls per day are left, as the source reports`.
    fn describe(&self) -> String {
        let left = match self.limit {
            Some(limit) => format!("{} of {}", self.left, counted(limit, "call")),
            None => counted(self.left, "call"),
        };
        let per = self.period.map(|period| format!(" per {}", period_word(period))).unwrap_or_default();
        let is = if self.left == 1 { "is" } else { "are" };
        format!("{left}{per} {is} left, as the source reports")
    }
}

/// `day`, or `10s` for a window that has no name.
fn period_word(period: Duration) -> String {
    let named = [QuotaPer::Hour, QuotaPer::Day, QuotaPer::Week, QuotaPer::Month];
    let named = named.into_iter().find(|per| per.longest() == period).map(QuotaPer::as_str);
    match named {
        Some(word) => word.to_owned(),
        None if period == Duration::from_secs(60) => QuotaPer::Minute.as_str().to_owned(),
        None => humantime::format_duration(period).to_string(),
    }
}

impl Held {
    /// Time until a call may be made.
    pub(super) fn wait(&self, now: Monotonic) -> Duration {
        self.window.turns.since(now)
    }

    /// The outcome if nobody waits for it.
    pub(super) fn refusal(&self, clock: &dyn Clock) -> NotAsked {
        let until = clock.now().checked_add(self.wait(clock.monotonic())).unwrap_or_else(|| clock.now());
        let detail = self.window.describe();
        match self.window.reserved(self.priority, self.reserve) {
            reserved if self.window.left > 0 => {
                let detail = format!("{detail}; {} reserved for interactive requests", counted(reserved, "call"));
                NotAsked { until: Some(until), ..NotAsked::new(NotAskedReason::QuotaReserve, detail) }
            }
            _ => quota_spent(detail, until),
        }
    }
}

impl ReportedPermit {
    /// Takes note that the call was made and has ended.
    pub(super) fn spend(mut self) {
        self.is_spent = true;
    }
}

impl Drop for ReportedPermit {
    fn drop(&mut self) {
        lock(&self.windows.state).end(self.is_spent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const INTERACTIVE: Priority = Priority::Interactive;
    const SECOND: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_secs(86_400);

    struct Fixture {
        windows: Arc<ReportedWindows>,
        clock: ManualClock,
    }

    impl Fixture {
        fn new() -> Self {
            Self { windows: Arc::default(), clock: ManualClock::new(SystemTime::UNIX_EPOCH) }
        }

        fn report(&self, limit: Option<u64>, remaining: u64, reset: Option<u64>) {
            let reset = reset.map(Duration::from_secs);
            self.windows.note(&[RateLimit { period: None, limit, remaining, reset }], DAY, &self.clock);
        }

        fn take(&self) -> Result<ReportedPermit, Held> {
            self.windows.take(INTERACTIVE, 20, self.clock.monotonic())
        }

        fn spend(&self) {
            self.take().unwrap().spend();
        }

        /// Calls that can be made now, each of which is.
        fn spend_all(&self) -> usize {
            std::iter::from_fn(|| self.take().ok().map(ReportedPermit::spend)).take(100).count()
        }
    }

    #[test]
    fn without_a_report_there_is_no_limit() {
        assert_eq!(Fixture::new().spend_all(), 100);
    }

    #[test]
    fn no_more_calls_are_made_than_are_left_and_the_limit_is_left_once_the_window_turns() {
        let fixture = Fixture::new();
        fixture.report(Some(5), 3, Some(10));
        assert_eq!(fixture.spend_all(), 3);
        let held = fixture.take().unwrap_err().refusal(&fixture.clock);
        assert_eq!(held.reason, NotAskedReason::QuotaSpent);
        assert_eq!(held.detail, "0 of 5 calls are left, as the source reports");
        assert_eq!(held.until, Some(SystemTime::UNIX_EPOCH + 10 * SECOND));
        fixture.clock.advance(10 * SECOND);
        assert_eq!(fixture.spend_all(), 5);
    }

    #[test]
    fn calls_in_flight_count_until_the_source_has_counted_them_and_those_not_made_do_not() {
        let fixture = Fixture::new();
        let (one, other) = (fixture.take().unwrap(), fixture.take().unwrap());
        fixture.report(Some(9), 4, Some(10));
        drop(other);
        assert_eq!(fixture.windows.status(&fixture.clock)[0].left, 3);
        one.spend();
        fixture.report(Some(9), 3, Some(10));
        assert_eq!(fixture.spend_all(), 3);
    }

    #[test]
    fn an_answer_that_arrives_late_does_not_give_calls_back() {
        let fixture = Fixture::new();
        fixture.report(Some(9), 2, Some(10));
        fixture.report(Some(9), 3, Some(11));
        assert_eq!(fixture.spend_all(), 2);
        // Of a window that slides, more may be left later.
        fixture.report(Some(9), 4, Some(20));
        assert_eq!(fixture.spend_all(), 4);
    }

    #[test]
    fn where_the_turn_is_not_known_one_call_a_minute_finds_out() {
        let fixture = Fixture::new();
        fixture.report(Some(1000), 1, None);
        fixture.clock.advance(DAY);
        assert_eq!(fixture.spend_all(), 1, "it is not over because time passed");
        for _ in 0..3 {
            fixture.clock.advance(60 * SECOND);
            assert_eq!(fixture.spend_all(), 1);
        }
        fixture.clock.advance(60 * SECOND);
        fixture.spend();
        fixture.report(Some(1000), 70, None);
        assert_eq!(fixture.spend_all(), 70);
    }

    #[test]
    fn background_calls_leave_the_reserve_of_a_window_whose_turn_is_known() {
        for (reset, calls) in [(Some(60), 3), (None, 5)] {
            let fixture = Fixture::new();
            fixture.report(Some(10), 5, reset);
            let take = || fixture.windows.take(Priority::Background, 20, fixture.clock.monotonic());
            let taken = std::iter::from_fn(|| take().ok().map(ReportedPermit::spend)).count();
            assert_eq!(taken, calls, "{reset:?}");
            let Some(_) = reset else { continue };
            let refusal = take().unwrap_err().refusal(&fixture.clock);
            assert_eq!(refusal.reason, NotAskedReason::QuotaReserve);
            let detail = "2 of 10 calls are left, as the source reports; 2 calls reserved for interactive requests";
            assert_eq!(refusal.detail, detail);
            assert_eq!(fixture.spend_all(), 2, "people have them");
        }
    }

    #[test]
    fn no_window_is_believed_to_last_longer_than_the_longest_and_no_source_names_windows_without_end() {
        let fixture = Fixture::new();
        fixture.report(Some(5), 0, Some(u64::MAX));
        assert_eq!(fixture.take().unwrap_err().wait(fixture.clock.monotonic()), DAY);
        for seconds in 1..100 {
            let period = Some(Duration::from_secs(seconds));
            let limit = RateLimit { period, limit: None, remaining: 1, reset: None };
            fixture.windows.note(&[limit], DAY, &fixture.clock);
        }
        assert_eq!(fixture.windows.status(&fixture.clock).len(), MAX_WINDOWS);
        fixture.windows.forget();
        assert_eq!(fixture.spend_all(), 100);
    }

    #[test]
    fn a_window_of_known_length_turns_again_and_again() {
        let fixture = Fixture::new();
        let limit = RateLimit { period: Some(10 * SECOND), limit: Some(2), remaining: 0, reset: Some(4 * SECOND) };
        fixture.windows.note(&[limit], DAY, &fixture.clock);
        fixture.clock.advance(27 * SECOND);
        assert_eq!(fixture.spend_all(), 2);
        assert_eq!(fixture.take().unwrap_err().wait(fixture.clock.monotonic()), 7 * SECOND);
        assert_eq!(fixture.windows.status(&fixture.clock)[0].resets_at, Some(SystemTime::UNIX_EPOCH + 34 * SECOND));
        let detail = fixture.take().unwrap_err().refusal(&fixture.clock).detail;
        assert_eq!(detail, "0 of 2 calls per 10s are left, as the source reports");
    }
}
