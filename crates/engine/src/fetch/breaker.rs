//! Layer 6, circuit: a source that keeps failing is left alone, so that nobody waits for it and no unit is spent on it. It
//! judges single attempts, so it is inside the retries; an open circuit refuses before the quota is touched.
//!
//! The circuit opens on a run of timeouts, or if too many of the latest attempts failed. After a pause one call of a waiting
//! caller is the probe: its answer closes the circuit, its failure makes the pause longer. Every attempt has the whole timeout
//! of its source, however short its caller's deadline, so impatient callers open no circuit.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::watch;

use super::attempt::AttemptError;
use crate::clock::{Clock, Monotonic};
use crate::finding::{NotAsked, NotAskedReason, SourceErrorKind};
use crate::source::Answer;
use crate::sync::lock;

/// Timeouts in a row that open the circuit.
const TIMEOUTS_TO_OPEN: usize = 5;
/// The latest attempts that are judged, at most.
const WINDOW_ATTEMPTS: usize = 50;
/// How long an attempt is judged.
const WINDOW_TIME: Duration = Duration::from_secs(300);
/// Attempts that are needed to judge by their failures.
const MIN_ATTEMPTS: usize = 10;
/// The pause before the first probe, before jitter. It doubles with each probe that fails.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// What an attempt says about how the source is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptResult {
    /// It answered, be it with a refusal of the question or of the credential.
    Answered,
    /// It answered that it is asked too much.
    RateLimited,
    /// No connection, a TLS error, or a 5xx status.
    Unavailable,
    /// No answer in time.
    TimedOut,
    /// An answer that cannot be read.
    Unreadable,
}

impl AttemptResult {
    /// `None` if the source was not asked.
    pub(super) fn of(result: &Result<Answer, AttemptError>) -> Option<Self> {
        let error = match result {
            Ok(_) => return Some(Self::Answered),
            Err(AttemptError::Source(error) | AttemptError::Unreachable(error)) => error,
            Err(AttemptError::Local(_) | AttemptError::NotAttempted(_)) => return None,
        };
        Some(match error.kind {
            SourceErrorKind::Unauthorized
            | SourceErrorKind::Forbidden
            | SourceErrorKind::BadQuestion
            | SourceErrorKind::Refused => Self::Answered,
            SourceErrorKind::QuotaExhausted => Self::RateLimited,
            SourceErrorKind::Unavailable => Self::Unavailable,
            SourceErrorKind::Timeout => Self::TimedOut,
            SourceErrorKind::Malformed | SourceErrorKind::TooLarge => Self::Unreadable,
        })
    }

    /// Whether it is a failure of the source. A used-up quota is not.
    fn is_failure(self) -> bool {
        match self {
            Self::Answered | Self::RateLimited => false,
            Self::Unavailable | Self::TimedOut | Self::Unreadable => true,
        }
    }

    /// Whether fewer calls at once may help.
    pub(super) fn is_overload(self) -> bool {
        match self {
            Self::RateLimited | Self::Unavailable | Self::TimedOut => true,
            Self::Answered | Self::Unreadable => false,
        }
    }
}

/// Whether a source is left alone since it keeps failing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CircuitState {
    /// The source is asked.
    #[default]
    Closed,
    /// The source is not asked before the next probe.
    Open,
    /// The next call is the probe, or the probe is under way.
    HalfOpen,
}

/// The circuit of one source, for display.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CircuitStatus {
    /// Its state.
    pub state: CircuitState,
    /// When it opened; `None` if it is closed.
    pub since: Option<SystemTime>,
    /// When the next probe may be made; while one is under way, the time if that one fails. `None` if it is closed.
    pub next_probe: Option<SystemTime>,
    /// Why it opened; empty if it is closed.
    pub why: String,
    /// The attempts that are judged, at most 50 of the last 5 minutes; while it is not closed, those before it opened.
    pub attempts: usize,
    /// How many of them failed.
    pub failures: usize,
}

/// The state machine, without clock, lock or log.
#[derive(Debug, Default)]
struct Circuit {
    window: VecDeque<(Monotonic, AttemptResult)>,
    /// Grows with each change of state. The results of attempts that began in an earlier state decide nothing.
    epoch: u64,
    opening: Option<Opening>,
    /// What the last probe ended, until the next result: its answer may prove unreadable.
    before_probe: Option<(Opening, VecDeque<(Monotonic, AttemptResult)>)>,
}

/// What is known while the circuit is not closed.
#[derive(Debug)]
struct Opening {
    since: Monotonic,
    why: String,
    failed_probes: u32,
    probe_at: Monotonic,
    is_probing: bool,
}

/// What a result changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Opened,
    Reopened,
    Closed,
}

impl Circuit {
    /// When the next probe may be made, if a call is refused now.
    fn refused_until(&self, now: Monotonic, seed: u64) -> Option<Monotonic> {
        let opening = self.opening.as_ref()?;
        let is_due = opening.probe_at <= now && !opening.is_probing;
        (!is_due).then(|| opening.next_probe(now, seed))
    }

    /// The epoch of a call that may be made. It is the probe unless the circuit is closed.
    fn admit(&mut self, now: Monotonic) -> Option<u64> {
        if let Some(opening) = &mut self.opening {
            if opening.is_probing || opening.probe_at > now {
                return None;
            }
            opening.is_probing = true;
        }
        Some(self.epoch)
    }

    /// Takes the result of a call; `None`: it was not made after all.
    fn record(&mut self, epoch: u64, result: Option<AttemptResult>, now: Monotonic, seed: u64) -> Option<Change> {
        if epoch != self.epoch {
            return None;
        }
        let Some(mut opening) = self.opening.take() else {
            self.window.push_back((now, result?));
            self.before_probe = None;
            return self.judge(now, seed);
        };
        opening.is_probing = false;
        if result.is_some_and(|result| !result.is_failure()) {
            let window = std::mem::take(&mut self.window);
            self.close();
            self.before_probe = Some((opening, window));
            return Some(Change::Closed);
        }
        let opening = self.opening.insert(opening);
        result?;
        opening.fail_probe(now, seed);
        self.epoch += 1;
        Some(Change::Reopened)
    }

    /// Takes back that the latest answer was one. If it was that of the probe, the circuit should not have closed.
    fn note_unreadable(&mut self, now: Monotonic, seed: u64) -> Option<Change> {
        if self.opening.is_some() {
            return None;
        }
        if let Some((mut opening, window)) = self.before_probe.take() {
            opening.fail_probe(now, seed);
            (self.opening, self.window) = (Some(opening), window);
            self.epoch += 1;
            return Some(Change::Reopened);
        }
        let answered = self.window.iter_mut().rev().find(|(_, result)| *result == AttemptResult::Answered)?;
        answered.1 = AttemptResult::Unreadable;
        self.judge(now, seed)
    }

    fn judge(&mut self, now: Monotonic, seed: u64) -> Option<Change> {
        self.window.retain(|(time, _)| now.since(*time) < WINDOW_TIME);
        while self.window.len() > WINDOW_ATTEMPTS {
            self.window.pop_front();
        }
        let (attempts, failures) = (self.window.len(), self.failures());
        let timeouts = self.window.iter().rev().take_while(|(_, result)| *result == AttemptResult::TimedOut).count();
        let why = if timeouts >= TIMEOUTS_TO_OPEN {
            format!("{timeouts} timeouts in a row")
        } else if attempts >= MIN_ATTEMPTS && failures * 2 >= attempts {
            format!("{failures} of {attempts} attempts failed")
        } else {
            return None;
        };
        let probe_at = now + pause(0, seed);
        self.opening = Some(Opening { since: now, why, failed_probes: 0, probe_at, is_probing: false });
        self.epoch += 1;
        Some(Change::Opened)
    }

    fn close(&mut self) {
        self.window.clear();
        (self.opening, self.before_probe) = (None, None);
        self.epoch += 1;
    }

    fn failures(&self) -> usize {
        self.window.iter().filter(|(_, result)| result.is_failure()).count()
    }

    fn state(&self, now: Monotonic) -> CircuitState {
        match &self.opening {
            None => CircuitState::Closed,
            Some(opening) if opening.probe_at <= now => CircuitState::HalfOpen,
            Some(_) => CircuitState::Open,
        }
    }
}

impl Opening {
    fn fail_probe(&mut self, now: Monotonic, seed: u64) {
        self.failed_probes += 1;
        self.probe_at = now + pause(self.failed_probes, seed);
    }

    fn next_probe(&self, now: Monotonic, seed: u64) -> Monotonic {
        if self.is_probing { now + pause(self.failed_probes + 1, seed) } else { self.probe_at }
    }
}

/// The pause after so many failed probes.
fn pause(failed_probes: u32, seed: u64) -> Duration {
    jittered(FIRST_PAUSE.saturating_mul(1 << failed_probes.min(8)).min(MAX_PAUSE), &(seed, failed_probes))
}

/// The wait, multiplied by a jitter between 0.5 and 1 that the seed determines.
pub(super) fn jittered(wait: Duration, seed: &impl Hash) -> Duration {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    let jitter = f64::from((hasher.finish() >> 48) as u16) / 65_536.0;
    wait.mul_f64(0.5 + jitter / 2.0)
}

/// The circuit breaker of one source, shared by all its pipelines.
#[derive(Debug)]
pub(super) struct CircuitBreaker {
    /// The source's name, for the log.
    source: String,
    /// Determines the jitter of the pauses, so that sources that fail together are not probed together.
    seed: u64,
    circuit: Mutex<Circuit>,
    is_open: watch::Sender<bool>,
}

impl CircuitBreaker {
    /// A closed circuit.
    pub(super) fn new(source: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        let (seed, circuit, is_open) = (hasher.finish(), Mutex::default(), watch::Sender::new(false));
        Self { source: source.to_owned(), seed, circuit, is_open }
    }

    /// Why no call would be made now; `None` if one may be.
    pub(super) fn refusal(&self, clock: &dyn Clock) -> Option<NotAsked> {
        let now = clock.monotonic();
        let circuit = lock(&self.circuit);
        let (opening, until) = (circuit.opening.as_ref()?, circuit.refused_until(now, self.seed)?);
        let (since, until) = (wall_time(clock, now, opening.since), wall_time(clock, now, until));
        let (since_text, until_text) = (time_of_day(since), time_of_day(until));
        let detail = format!("the circuit opened at {since_text} after {}; next try at {until_text}", opening.why);
        Some(NotAsked { until, ..NotAsked::new(NotAskedReason::CircuitOpen, detail) })
    }

    /// Lets a call be made. Whoever gets a permit while the circuit is not closed makes the probe.
    ///
    /// # Errors
    /// Why no call may be made.
    pub(super) fn admit(self: &Arc<Self>, clock: &dyn Clock) -> Result<CircuitPermit, NotAsked> {
        let epoch = lock(&self.circuit).admit(clock.monotonic());
        match epoch {
            Some(epoch) => Ok(CircuitPermit { breaker: self.clone(), epoch, is_recorded: false }),
            None => {
                Err(self.refusal(clock).unwrap_or_else(|| NotAsked::new(NotAskedReason::CircuitOpen, "it was open")))
            }
        }
    }

    /// Resolves once the circuit is open.
    pub(super) async fn opened(&self) {
        // This cannot fail: the sender lives as long as this future.
        let _ = self.is_open.subscribe().wait_for(|is_open| *is_open).await;
    }

    /// Whether a failure did not open the circuit, so that another attempt may help.
    pub(super) fn is_closed(&self) -> bool {
        !*self.is_open.borrow()
    }

    /// Closes the circuit and forgets the failures.
    pub(super) fn close(&self) {
        self.change(|circuit| {
            circuit.close();
            None
        });
    }

    /// Notes that the latest answer cannot be read, which shows only after its attempt has ended.
    pub(super) fn note_unreadable(&self, clock: &dyn Clock) {
        self.change(|circuit| circuit.note_unreadable(clock.monotonic(), self.seed));
    }

    /// The state, for display.
    pub(super) fn status(&self, clock: &dyn Clock) -> CircuitStatus {
        let now = clock.monotonic();
        let circuit = lock(&self.circuit);
        let opening = circuit.opening.as_ref();
        let judged = circuit.window.iter().filter(|(time, _)| opening.is_some() || now.since(*time) < WINDOW_TIME);
        let (attempts, failures) = judged.fold((0, 0), |(attempts, failures), (_, result)| {
            (attempts + 1, failures + usize::from(result.is_failure()))
        });
        CircuitStatus {
            state: circuit.state(now),
            since: opening.and_then(|opening| wall_time(clock, now, opening.since)),
            next_probe: opening.and_then(|opening| wall_time(clock, now, opening.next_probe(now, self.seed))),
            why: opening.map(|opening| opening.why.clone()).unwrap_or_default(),
            attempts,
            failures,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Circuit) -> Option<Change>) {
        let mut circuit = lock(&self.circuit);
        let change = change(&mut circuit);
        let is_open = circuit.opening.is_some();
        self.is_open.send_if_modified(|was_open| std::mem::replace(was_open, is_open) != is_open);
        let why = circuit.opening.as_ref().map(|opening| opening.why.clone());
        drop(circuit);
        match change {
            Some(Change::Opened) => {
                tracing::warn!(source = self.source, why, "the source is not asked: its circuit opens")
            }
            Some(Change::Reopened) => {
                tracing::warn!(source = self.source, why, "the source still fails: its circuit stays open")
            }
            Some(Change::Closed) => {
                tracing::info!(source = self.source, "the source answers again: its circuit closes")
            }
            None => {}
        }
    }
}

/// Permission to make one call. Dropping it without a result means that the call was not made; another may be the probe then.
#[derive(Debug)]
pub(super) struct CircuitPermit {
    breaker: Arc<CircuitBreaker>,
    epoch: u64,
    is_recorded: bool,
}

impl CircuitPermit {
    /// Takes the result of the call; `None`: it was not made after all.
    pub(super) fn record(mut self, result: Option<AttemptResult>, now: Monotonic) {
        self.is_recorded = true;
        let breaker = &self.breaker;
        breaker.change(|circuit| circuit.record(self.epoch, result, now, breaker.seed));
    }
}

impl Drop for CircuitPermit {
    fn drop(&mut self) {
        if !self.is_recorded {
            // The time does not matter: nothing is judged.
            lock(&self.breaker.circuit).record(self.epoch, None, Monotonic::default(), self.breaker.seed);
        }
    }
}

/// The wall time of a moment, past or to come.
fn wall_time(clock: &dyn Clock, now: Monotonic, moment: Monotonic) -> Option<SystemTime> {
    let (ahead, ago) = (moment.since(now), now.since(moment));
    clock.now().checked_add(ahead)?.checked_sub(ago)
}

fn time_of_day(time: Option<SystemTime>) -> String {
    let time = time.and_then(|time| Timestamp::try_from(time).ok());
    time.map_or_else(|| "an unknown time".into(), |time| time.strftime("%H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEED: u64 = 7;
    const SECOND: Duration = Duration::from_secs(1);

    fn end(circuit: &mut Circuit, now: Monotonic, result: AttemptResult) -> Option<Change> {
        let epoch = circuit.admit(now).expect("it lets a call be made");
        circuit.record(epoch, Some(result), now, SEED)
    }

    #[test]
    fn five_timeouts_in_a_row_open_it_and_an_answer_between_them_does_not() {
        let (mut circuit, now) = (Circuit::default(), Monotonic::default());
        for result in [AttemptResult::TimedOut; 4].into_iter().chain([AttemptResult::RateLimited]) {
            assert_eq!(end(&mut circuit, now, result), None);
        }
        for _ in 0..4 {
            assert_eq!(end(&mut circuit, now, AttemptResult::TimedOut), None);
        }
        assert_eq!(end(&mut circuit, now, AttemptResult::TimedOut), Some(Change::Opened));
        assert_eq!(circuit.opening.unwrap().why, "5 timeouts in a row");
    }

    #[test]
    fn half_of_ten_attempts_open_it_and_old_failures_do_not_count() {
        let (mut circuit, mut now) = (Circuit::default(), Monotonic::default());
        for _ in 0..9 {
            assert_eq!(end(&mut circuit, now, AttemptResult::Unavailable), None);
        }
        now = now + WINDOW_TIME;
        for _ in 0..5 {
            assert_eq!(end(&mut circuit, now, AttemptResult::Answered), None);
        }
        for _ in 0..4 {
            assert_eq!(end(&mut circuit, now, AttemptResult::Unreadable), None);
        }
        assert_eq!(end(&mut circuit, now, AttemptResult::Unavailable), Some(Change::Opened));
        assert_eq!(circuit.opening.unwrap().why, "5 of 10 attempts failed");
    }

    #[test]
    fn an_answer_that_proves_unreadable_counts_as_one_failure() {
        let (mut circuit, now) = (Circuit::default(), Monotonic::default());
        for _ in 0..9 {
            end(&mut circuit, now, AttemptResult::Answered);
            assert_eq!(circuit.note_unreadable(now, SEED), None);
        }
        assert_eq!((circuit.window.len(), circuit.failures()), (9, 9));
        assert_eq!(end(&mut circuit, now, AttemptResult::Answered), Some(Change::Opened));
    }

    #[test]
    fn a_probe_whose_answer_proves_unreadable_makes_the_pause_longer_each_time() {
        let (mut circuit, mut now) = (Circuit::default(), Monotonic::default());
        for _ in 0..5 {
            end(&mut circuit, now, AttemptResult::TimedOut);
        }
        let mut pauses = Vec::new();
        for _ in 0..4 {
            let probe_at = circuit.opening.as_ref().unwrap().probe_at;
            pauses.push(probe_at.since(now));
            now = probe_at;
            assert_eq!(end(&mut circuit, now, AttemptResult::Answered), Some(Change::Closed));
            assert_eq!(circuit.note_unreadable(now, SEED), Some(Change::Reopened));
            assert_eq!(circuit.admit(now), None);
        }
        let opening = circuit.opening.as_ref().unwrap();
        assert_eq!((opening.failed_probes, opening.why.as_str()), (4, "5 timeouts in a row"));
        assert!(pauses.is_sorted() && pauses[3] >= FIRST_PAUSE * 4, "{pauses:?}");
        now = opening.probe_at;
        assert_eq!(end(&mut circuit, now, AttemptResult::Answered), Some(Change::Closed));
        assert_eq!(end(&mut circuit, now, AttemptResult::Answered), None);
        assert_eq!(circuit.note_unreadable(now, SEED), None, "one of two, and not the probe");
        assert!(circuit.opening.is_none());
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Pass(u64),
        Begin,
        End(usize, Option<AttemptResult>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let result = prop_oneof![
            1 => Just(None),
            1 => Just(Some(AttemptResult::Answered)),
            1 => Just(Some(AttemptResult::Unavailable)),
            3 => Just(Some(AttemptResult::TimedOut)),
        ];
        prop_oneof![
            1 => (0_u64..120).prop_map(Step::Pass),
            3 => Just(Step::Begin),
            3 => (any::<usize>(), result).prop_map(|(which, result)| Step::End(which, result)),
        ]
    }

    /// The rules by the whole history, and by bounds instead of jitter.
    #[derive(Default)]
    struct Model {
        history: Vec<(Monotonic, AttemptResult)>,
        is_open: bool,
        failed_probes: u32,
        changes: u64,
        probe_begun: bool,
    }

    impl Model {
        fn must_open(&self, now: Monotonic) -> bool {
            let judged: Vec<_> =
                self.history.iter().rev().take(50).take_while(|(at, _)| now.since(*at) < WINDOW_TIME).collect();
            let failed = judged.iter().filter(|(_, result)| *result != AttemptResult::Answered).count();
            let is_run =
                judged.len() >= 5 && judged.iter().take(5).all(|(_, result)| *result == AttemptResult::TimedOut);
            is_run || judged.len() >= 10 && failed * 2 >= judged.len()
        }
    }

    proptest! {
        #[test]
        fn it_follows_its_rules_whatever_comes_when(steps in prop::collection::vec(step(), 0..200)) {
            let (mut circuit, mut model) = (Circuit::default(), Model::default());
            let mut now = Monotonic::default();
            // Calls under way: what the circuit gave them, and in which state of the model they began.
            let mut calls: Vec<(u64, u64)> = Vec::new();
            let mut opened_at = now;
            for step in steps {
                match step {
                    Step::Pass(seconds) => now = now + SECOND * seconds as u32,
                    Step::Begin => {
                        let longest = (FIRST_PAUSE * 2_u32.pow(model.failed_probes.min(8))).min(MAX_PAUSE);
                        let waited = now.since(opened_at);
                        match circuit.admit(now) {
                            Some(epoch) => {
                                prop_assert!(!model.is_open || !model.probe_begun && waited >= longest / 2);
                                model.probe_begun = model.is_open;
                                calls.push((epoch, model.changes));
                            }
                            None => {
                                prop_assert!(model.is_open && (model.probe_begun || waited < longest));
                                let until = circuit.refused_until(now, SEED).expect("it says until when");
                                prop_assert!(until > now && until.since(now) <= MAX_PAUSE);
                            }
                        }
                    }
                    Step::End(which, result) => {
                        if calls.is_empty() {
                            continue;
                        }
                        let (epoch, began) = calls.swap_remove(which % calls.len());
                        let change = circuit.record(epoch, result, now, SEED);
                        let expected = match result {
                            _ if began != model.changes => None,
                            None => {
                                model.probe_begun = false;
                                None
                            }
                            Some(AttemptResult::Answered) if model.is_open => {
                                model = Model { changes: model.changes + 1, ..Model::default() };
                                Some(Change::Closed)
                            }
                            Some(_) if model.is_open => {
                                (model.failed_probes, model.changes) = (model.failed_probes + 1, model.changes + 1);
                                (model.probe_begun, opened_at) = (false, now);
                                Some(Change::Reopened)
                            }
                            Some(result) => {
                                model.history.push((now, result));
                                model.is_open = model.must_open(now);
                                model.changes += u64::from(model.is_open);
                                opened_at = now;
                                model.is_open.then_some(Change::Opened)
                            }
                        };
                        prop_assert_eq!(change, expected);
                    }
                }
                prop_assert_eq!(circuit.opening.is_some(), model.is_open);
                prop_assert_eq!(circuit.state(now) == CircuitState::Closed, !model.is_open);
            }
        }
    }
}
