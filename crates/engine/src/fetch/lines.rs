//! The calls that wait for a unit, one line for each account and its limits.
//!
//! While no unit is available for a priority, its part of the line is closed until the window opens. Then only as many calls
//! ask the ledger as the window can have units, so that a window that opens causes no rush.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::account::AccountState;
use super::attempt::AttemptError;
use super::fair_queue::{Claim, Claims, FairQueue};
use super::terms::{Refusal, Terms};
use super::waiters::Waiters;
use crate::clock::Monotonic;
use crate::source::Priority;
use crate::store::{Disclosure, StoreError};

/// Maximum of units that are acquired in one statement.
const BATCH: usize = 1024;
/// A window that is said to be open by now is asked again after this.
const MIN_CLOSED: Duration = Duration::from_millis(50);

/// What a call spends, and what it discloses to the source.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) terms: Arc<Terms>,
    pub(super) state: Arc<AccountState>,
    pub(super) source: String,
    pub(super) disclosures: Vec<Disclosure>,
}

/// Why there is no unit.
pub(super) enum AcquireError {
    /// Nobody waits any more, or the time is up.
    Abandoned(AttemptError),
    /// There is none for longer than the callers can wait.
    Refused(Refusal),
    /// The ledger cannot be reached.
    Ledger(StoreError),
}

/// A call that waits for its unit, a `U`.
pub(super) struct Waiting<U> {
    pub(super) claim: Claim,
    pub(super) call: Call,
    pub(super) waiters: Arc<Waiters>,
    pub(super) reply: oneshot::Sender<Result<U, AcquireError>>,
}

/// All lines.
pub(super) struct Lines<U> {
    lines: BTreeMap<Arc<Terms>, Line<U>>,
    /// Counts the rounds, so that each line is the first of a statement in turn.
    rounds: usize,
}

struct Line<U> {
    calls: FairQueue<Waiting<U>>,
    /// Until when no unit is available for a priority, and why.
    closed: BTreeMap<Priority, (Monotonic, Refusal)>,
}

/// What is next to do.
pub(super) enum Next<U> {
    /// Ask the ledger for these.
    Acquire(Vec<Waiting<U>>),
    /// Wait until a line opens.
    Wait(Duration),
    /// Nobody waits.
    Nothing,
}

impl<U> Claims for Waiting<U> {
    fn claim(&self) -> &Claim {
        &self.claim
    }
}

impl<U> Waiting<U> {
    /// Whether its callers have time until `opens`, and for the statement of the ledger then.
    fn can_wait(&self, opens: Monotonic, took: Duration, now: Monotonic) -> bool {
        self.waiters.patience(now) > opens.since(now) + took
    }

    pub(super) fn refuse(self, error: AcquireError) {
        // Sending fails if the caller no longer waits.
        let _ = self.reply.send(Err(error));
    }
}

impl<U> Default for Line<U> {
    fn default() -> Self {
        Self { calls: FairQueue::default(), closed: BTreeMap::new() }
    }
}

impl<U> Default for Lines<U> {
    fn default() -> Self {
        Self { lines: BTreeMap::new(), rounds: 0 }
    }
}

impl<U> Line<U> {
    /// Until when a priority is closed. While interactive calls wait, background calls wait behind them.
    fn closed(&self, priority: Priority, now: Monotonic) -> Option<&(Monotonic, Refusal)> {
        let of = |priority| self.closed.get(&priority).filter(|(opens, _)| *opens > now);
        match priority {
            Priority::Interactive => of(Priority::Interactive),
            Priority::Background => of(Priority::Background)
                .or_else(|| of(Priority::Interactive).filter(|_| self.calls.has(Priority::Interactive))),
        }
    }

    /// Takes the calls that may ask the ledger now, at most `most`.
    fn take_open(&mut self, terms: &Terms, most: usize, now: Monotonic, taken: &mut Vec<Waiting<U>>) {
        for priority in [Priority::Interactive, Priority::Background] {
            if self.closed(priority, now).is_some() {
                continue;
            }
            let limit = terms
                .most_at_once(priority)
                .map_or(most, |limit| usize::try_from(limit).unwrap_or(most).clamp(1, most));
            taken.extend(std::iter::from_fn(|| self.calls.pop(priority)).take(limit));
            if self.calls.has(priority) {
                return;
            }
        }
    }

    /// When the first of its waiting calls may ask the ledger.
    fn opens(&self, now: Monotonic) -> Option<Monotonic> {
        let waiting =
            [Priority::Interactive, Priority::Background].iter().filter(|priority| self.calls.has(**priority));
        waiting.map(|priority| self.closed(*priority, now).map_or(now, |(opens, _)| *opens)).min()
    }
}

impl<U> Lines<U> {
    /// The number of calls that wait.
    pub(super) fn len(&self) -> usize {
        self.lines.values().map(|line| line.calls.len()).sum()
    }

    /// Adds a call. Returns `false` if it must wait for a window to open, so that the ledger need not be asked now.
    pub(super) fn push(&mut self, waiting: Waiting<U>, took: Duration, now: Monotonic) -> bool {
        let line = self.lines.entry(waiting.call.terms.clone()).or_default();
        if line.calls.is_empty() {
            // The first call of a line asks the ledger in any case. A line that still counted as closed would keep it waiting.
            line.closed.clear();
        }
        let Some((opens, refusal)) = line.closed(waiting.claim.priority, now).cloned() else {
            line.calls.push(waiting);
            return true;
        };
        if waiting.can_wait(opens, took, now) {
            waiting.waiters.pause(now, refusal.not_asked);
            line.calls.push(waiting);
        } else {
            waiting.refuse(AcquireError::Refused(refusal));
        }
        false
    }

    /// Takes the calls that may ask the ledger now, in the order in which they get units.
    pub(super) fn next(&mut self, now: Monotonic) -> Next<U> {
        self.remove_left();
        if self.lines.is_empty() {
            return Next::Nothing;
        }
        self.rounds = self.rounds.wrapping_add(1);
        let most = (BATCH / self.lines.len()).max(1);
        let first = self.rounds % self.lines.len();
        let mut taken = Vec::new();
        let mut lines: Vec<_> = self.lines.iter_mut().collect();
        lines.rotate_left(first);
        lines.into_iter().for_each(|(terms, line)| line.take_open(terms, most, now, &mut taken));
        if taken.is_empty() {
            let opens = self.lines.values().filter_map(|line| line.opens(now)).min();
            return Next::Wait(opens.map(|opens| opens.since(now)).unwrap_or_default().max(MIN_CLOSED));
        }
        taken.sort_by_key(|waiting| std::cmp::Reverse(waiting.claim.priority));
        Next::Acquire(taken)
    }

    /// Removes calls whose callers have left, and lines without calls.
    pub(super) fn remove_left(&mut self) {
        self.lines.retain(|_, line| {
            for priority in [Priority::Interactive, Priority::Background] {
                drop(line.calls.remove_unless(priority, |waiting| !waiting.reply.is_closed()));
            }
            !line.calls.is_empty()
        });
    }

    /// Returns calls that got no unit to the front of their lines, which are closed for as long as there is none. Calls whose
    /// callers have less time are refused.
    pub(super) fn put_back(&mut self, refused: Vec<(Waiting<U>, Refusal, Duration)>, took: Duration, now: Monotonic) {
        let mut closed = Vec::new();
        for (waiting, refusal, wait) in refused.into_iter().rev() {
            let (terms, priority) = (waiting.call.terms.clone(), waiting.claim.priority);
            let line = self.lines.entry(terms.clone()).or_default();
            line.closed.insert(priority, (now + wait.max(MIN_CLOSED), refusal));
            line.calls.put_back(waiting);
            if !closed.contains(&(terms.clone(), priority)) {
                closed.push((terms, priority));
            }
        }
        for (terms, priority) in closed {
            let Some(line) = self.lines.get_mut(&terms) else { continue };
            let Some((opens, refusal)) = line.closed.get(&priority).cloned() else { continue };
            let waits = |waiting: &Waiting<U>| {
                let waits = waiting.can_wait(opens, took, now);
                if waits {
                    waiting.waiters.pause(now, refusal.not_asked.clone());
                }
                waits
            };
            for waiting in line.calls.remove_unless(priority, waits) {
                waiting.refuse(AcquireError::Refused(refusal.clone()));
            }
        }
    }

    /// Opens the lines of an account, since there may be units again.
    pub(super) fn open(&mut self, account: &str) {
        let of_account = self.lines.iter_mut().filter(|(terms, _)| terms.account == account);
        of_account.for_each(|(_, line)| line.closed.clear());
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tokio::sync::oneshot::Receiver;

    use super::super::waiters::WaiterGuard;
    use super::*;
    use crate::finding::{NotAsked, NotAskedReason};
    use crate::source::QuotaLimits;

    type Unit = Receiver<Result<(), AcquireError>>;

    /// A call with time for nine seconds from the start of the clock.
    fn waiting(priority: Priority) -> (Waiting<()>, WaiterGuard, Unit) {
        let claim = Claim { priority, caller: "caller".to_owned() };
        let end = Monotonic::default() + Duration::from_secs(9);
        let (waiters, guard) = Waiters::begin(end, end, claim.clone(), None, None);
        let (account, limits) = ("account".to_owned(), QuotaLimits::default());
        let terms = Arc::new(Terms { account, limits, reserve: 0, is_paced: false });
        let call = Call { terms, state: Arc::default(), source: "source".to_owned(), disclosures: Vec::new() };
        let (reply, unit) = oneshot::channel();
        (Waiting { claim, call, waiters, reply }, guard, unit)
    }

    fn refusal() -> Refusal {
        let not_asked = NotAsked {
            until: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(60)),
            ..NotAsked::new(NotAskedReason::QuotaReserve, "used up")
        };
        Refusal { not_asked, window: None, caller: None }
    }

    #[test]
    fn a_call_asks_the_ledger_though_the_one_before_it_was_just_refused() {
        let (took, now) = (Duration::ZERO, Monotonic::default());
        let mut lines = Lines::default();
        let (first, _first_guard, mut first_unit) = waiting(Priority::Background);
        assert!(lines.push(first, took, now));
        let Next::Acquire(mut taken) = lines.next(now) else { panic!("nothing is closed") };
        let first = taken.pop().unwrap();
        lines.put_back(vec![(first, refusal(), Duration::from_secs(60))], took, now);
        assert!(matches!(first_unit.try_recv(), Ok(Err(AcquireError::Refused(_)))), "it cannot wait for a minute");
        let (second, _second_guard, _second_unit) = waiting(Priority::Background);
        assert!(lines.push(second, took, now));
        assert!(matches!(lines.next(now), Next::Acquire(taken) if taken.len() == 1), "it would wait in vain");
    }

    #[test]
    fn a_call_that_cannot_wait_is_refused_at_once_while_others_wait_for_the_window() {
        let (took, now) = (Duration::ZERO, Monotonic::default());
        let mut lines = Lines::default();
        let (first, _first_guard, mut first_unit) = waiting(Priority::Background);
        lines.push(first, took, now);
        let Next::Acquire(taken) = lines.next(now) else { panic!("nothing is closed") };
        let refused = taken.into_iter().map(|waiting| (waiting, refusal(), Duration::from_secs(5))).collect();
        lines.put_back(refused, took, now);
        assert!(first_unit.try_recv().is_err(), "it waits five seconds");
        let (second, _second_guard, mut second_unit) = waiting(Priority::Background);
        assert!(!lines.push(second, took, now + Duration::from_secs(4)));
        assert!(second_unit.try_recv().is_err(), "a second is left, and five seconds of time");
        let (third, _third_guard, mut third_unit) = waiting(Priority::Background);
        assert!(!lines.push(third, Duration::from_secs(8), now));
        assert!(matches!(third_unit.try_recv(), Ok(Err(AcquireError::Refused(_)))));
    }
}
