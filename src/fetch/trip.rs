//! What the layers hand each other: the [`Trip`] of one conversation, each [`Attempt`] at a question, what came of it;
//! the [`Party`] waiting for it, and the [`Site`], which is what every layer knows of its source.
//!
//! Holds words and counts only; what is done with them stands in each layer's own file.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio_util::task::TaskTracker;
use tower::Service;

use super::cache::{Errand, Kept, Key};
use super::observe::Tally;
use super::{Fetched, Request};
use crate::clock::Clock;
use crate::finding::{Family, Finding, NotAsked, NotAskedReason, Outcome, OutcomeBody, SourceError, SourceErrorKind};
use crate::indicator::{Indicator, Tlp};
use crate::source::{Answer, AnswerBody, ListAnswer, Question, Source, SourceSettings};
use crate::store::{AnswerStore, Ledger, WindowUse};

/// Asks one question once, somehow: what stands below `retry`.
pub(super) trait Asks: Below<Attempt, Answer, Obstacle> {}
impl<S: Below<Attempt, Answer, Obstacle>> Asks for S {}

/// Holds a conversation.
pub(super) trait Talks: Below<Trip, Concluded, Infallible> {}
impl<S: Below<Trip, Concluded, Infallible>> Talks for S {}

/// Has a conversation held where the cache does not answer.
pub(super) trait RunsErrands: Below<Errand, Fetched, Infallible> {}
impl<S: Below<Errand, Fetched, Infallible>> RunsErrands for S {}

/// Looks up.
pub(super) trait LooksUp: Below<Request, Fetched, Infallible> {}
impl<S: Below<Request, Fetched, Infallible>> LooksUp for S {}

/// What a layer can stand on.
pub(super) trait Below<R, T, E>:
    Service<R, Response = T, Error = E, Future: Send> + Clone + Send + Sync + 'static
{
}
impl<R, T, E, S> Below<R, T, E> for S where
    S: Service<R, Response = T, Error = E, Future: Send> + Clone + Send + Sync + 'static
{
}

/// A layer that does this work with a request over the service below it. Always ready: what must be waited for is waited
/// for in the work, where a deadline holds.
pub(super) fn layer<S, R, T, E, W, F>(
    site: &Arc<Site>,
    inner: S,
    work: W,
) -> impl Below<R, T, E> + use<S, R, T, E, W, F>
where
    S: Clone + Send + Sync + 'static,
    W: Fn(Arc<Site>, S, R) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let site = site.clone();
    tower::service_fn(move |request: R| work(site.clone(), inner.clone(), request))
}

/// Since when and until when an account is left alone. Outlives the stacks on it, so that new settings do not forget what
/// the source said.
pub type Suspension = Arc<Mutex<Option<Range<SystemTime>>>>;

/// The lock, also after a panic elsewhere: what these locks guard is valid between any two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What every layer knows of its source.
pub(super) struct Site {
    pub(super) source: Arc<dyn Source>,
    pub(super) settings: Arc<SourceSettings>,
    pub(super) family: Family,
    pub(super) account: String,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) answers: Arc<dyn AnswerStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tracker: TaskTracker,
    pub(super) tally: Arc<Tally>,
    /// Until when the source itself asked us to stay away; everybody on the account keeps to it.
    pub(super) suspended: Suspension,
}

impl Site {
    /// Whether a question to this source tells somebody outside.
    pub(super) fn is_outside(&self) -> bool {
        self.source.about().transport.is_outside()
    }

    /// The outcome with this source's present letter and family, whenever its body was come by.
    pub(super) fn outcome(&self, body: OutcomeBody, time: SystemTime) -> Outcome {
        Outcome {
            source: self.settings.name.clone(),
            kind: self.settings.kind.clone(),
            reliability: self.settings.reliability,
            family: self.family.clone(),
            time,
            body,
        }
    }

    /// The moment until which the source is left alone, if that is still to come.
    pub(super) fn suspended_until(&self, now: SystemTime) -> Option<SystemTime> {
        // A clock that stepped back to before it began would make it last as long again.
        lock(&self.suspended).as_ref().filter(|duration| duration.contains(&now)).map(|duration| duration.end)
    }

    /// Leaves the source alone from now on for so long.
    pub(super) fn suspend(&self, duration: Duration) {
        let now = self.clock.now();
        let mut suspended = lock(&self.suspended);
        // Of two calls in flight the one that says less must not cut short what the other said.
        let before = suspended.as_ref().filter(|duration| duration.contains(&now)).map(|duration| duration.end);
        *suspended = now.checked_add(duration).max(before).map(|until| now..until);
    }

    /// How long a conversation may begin further attempts. An attempt begun at the last moment still has its whole
    /// timeout, so that all take three timeouts together at most.
    pub(super) fn time_to_begin(&self) -> Duration {
        self.settings.timeout.saturating_mul(2)
    }
}

/// One look-up on its way to the source, for all who wait for it.
#[derive(Clone)]
pub(super) struct Trip {
    /// The request that set it going.
    pub(super) request: Request,
    /// Under which key its result is kept.
    pub(super) key: Key,
    /// Answers of an earlier conversation that may be read again.
    pub(super) kept: Option<Arc<Kept>>,
    /// Who waits.
    pub(super) party: Arc<Party>,
}

/// One attempt at one question.
#[derive(Clone)]
pub(super) struct Attempt {
    /// What is asked.
    pub(super) question: Question,
    /// What it tells to whom; `None` for the Test button, which tells nothing about anybody.
    pub(super) told: Option<Told>,
    /// Who waits for it.
    pub(super) party: Arc<Party>,
}

/// What the disclosure ledger records of an attempt, for one of those who wait.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) indicator: Indicator,
    pub(super) caller: String,
    pub(super) tlp: Tlp,
}

impl Told {
    pub(super) fn of(request: &Request) -> Self {
        Self { indicator: request.lookup.indicator.clone(), caller: request.caller.clone(), tlp: request.tlp }
    }
}

/// Why an attempt brought no answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Obstacle {
    /// The source was asked and failed.
    Failed(SourceError),
    /// Something of ours failed, so it was not asked; asking again at once would not help.
    Broken(SourceError),
    /// A limit of ours held it back.
    Barred(NotAsked),
}

impl Obstacle {
    /// Nobody waits any more, or the time is up.
    pub(super) fn no_time() -> Self {
        Self::Barred(NotAsked::new(NotAskedReason::Deadline, "no time was left before the deadline"))
    }

    /// As the body of an outcome of which nothing else is known.
    pub(super) fn into_body(self) -> OutcomeBody {
        match self {
            Self::Failed(error) | Self::Broken(error) => OutcomeBody::Error(error),
            Self::Barred(not_asked) => OutcomeBody::NotAsked(not_asked),
        }
    }

    /// As an error, for where the source was asked before: "not asked" would be untrue there.
    pub(super) fn into_error(self, now: SystemTime) -> SourceError {
        match self {
            Self::Failed(error) | Self::Broken(error) => error,
            Self::Barred(not_asked) => {
                let late = not_asked.reason == NotAskedReason::Deadline;
                let kind = if late { SourceErrorKind::Timeout } else { SourceErrorKind::QuotaExhausted };
                let wait = not_asked.until.and_then(|until| until.duration_since(now).ok());
                SourceError::new(kind, not_asked.detail).retry_after(wait)
            }
        }
    }
}

/// What came of a conversation.
#[derive(Clone, Debug)]
pub(super) struct Concluded {
    /// What the source says.
    pub(super) body: OutcomeBody,
    /// When it answered; for anything but an answer, when that was settled.
    pub(super) time: SystemTime,
    /// Whether no call was needed, since kept answers told it all.
    pub(super) from_cache: bool,
    /// Whether the conversation came to its end, so that its result may be kept.
    pub(super) whole: bool,
    /// Questions and answers so far; empty where nothing of it may be kept.
    pub(super) steps: Arc<[Step]>,
}

impl Concluded {
    /// Nothing came of it.
    pub(super) fn nothing(body: OutcomeBody, time: SystemTime) -> Self {
        Self { body, time, from_cache: false, whole: false, steps: Arc::default() }
    }

    /// The least time to live of the answers, where they say one.
    pub(super) fn ttl(&self) -> Option<Duration> {
        self.steps.iter().filter_map(|step| step.answer.ttl).min()
    }

    /// How long what came of it stands: a conversation that did not come to its end may go on with the next look-up.
    pub(super) fn stands_for(&self) -> Option<Duration> {
        if self.whole { self.ttl() } else { Some(Duration::ZERO) }
    }

    /// That the list is not fresh, and why. A list that does not name the indicator says so too: silence of an old copy
    /// is worth less.
    pub(super) fn note(&self) -> Option<String> {
        self.steps.iter().find_map(|step| match &step.answer.body {
            AnswerBody::List(ListAnswer::Listed { stale, .. } | ListAnswer::NotListed { stale, .. }) => {
                stale.as_ref().map(|why| format!("the copy in use is not fresh: {why}"))
            }
            AnswerBody::List(ListAnswer::NeverLoaded(_)) | AnswerBody::Http { .. } | AnswerBody::Dns(_) => None,
        })
    }
}

/// A question, its answer, and the hash under which the raw answer is stored (`None`: not stored, as for lists).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) question: Question,
    pub(super) answer: Answer,
    pub(super) hash: Option<String>,
}

/// Those who wait for one conversation, and what all of them may see of it while it runs.
#[derive(Debug)]
pub(super) struct Party {
    end: SystemTime,
    state: Mutex<PartyState>,
}

#[derive(Debug, Default)]
struct PartyState {
    waiting: BTreeMap<u64, Guest>,
    next_seat: u64,
    closed: bool,
    calls: u32,
    units: u32,
    /// For whom the disclosure is on record, or being recorded.
    on_record: Vec<Told>,
    /// To whom it was disclosed, once nobody's record is missing.
    disclosed: Option<String>,
    windows: Vec<WindowUse>,
    standing: Option<(Finding, SystemTime)>,
}

/// One who waits: until when, and what the ledger is to say; `None` for the Test button.
#[derive(Debug)]
struct Guest {
    deadline: SystemTime,
    told: Option<Told>,
}

impl Party {
    /// A party of one, who waits until `deadline`; its conversation begins nothing further from `end` on.
    pub(super) fn begin(end: SystemTime, deadline: SystemTime, told: Option<Told>) -> (Arc<Self>, Seat) {
        let waiting = BTreeMap::from([(0, Guest { deadline, told })]);
        let state = PartyState { waiting, next_seat: 1, ..PartyState::default() };
        let party = Arc::new(Self { end, state: Mutex::new(state) });
        (party.clone(), Seat { party, number: 0 })
    }

    /// Takes a seat until `deadline`; `None` once the conversation was given up, since it asks nothing more then. With it
    /// comes to whom the look-up was disclosed before, if so: then whoever joins owes a record of its own.
    pub(super) fn join(self: &Arc<Self>, deadline: SystemTime, told: Told) -> Option<(Seat, Option<String>)> {
        let mut state = lock(&self.state);
        if state.closed {
            return None;
        }
        let number = state.next_seat;
        state.next_seat += 1;
        let owed = state.disclosed.clone().filter(|_| !state.on_record.contains(&told));
        if owed.is_some() {
            state.on_record.push(told.clone());
        }
        state.waiting.insert(number, Guest { deadline, told: Some(told) });
        Some((Seat { party: self.clone(), number }, owed))
    }

    /// Whether a further step or attempt may begin. A "no" is final: nobody can join from then on.
    pub(super) fn may_go_on(&self, now: SystemTime) -> bool {
        let mut state = lock(&self.state);
        let awaited = state.waiting.values().any(|guest| guest.deadline > now);
        if !awaited || now >= self.end {
            state.closed = true;
        }
        !state.closed
    }

    /// Time until the last of those who wait has left, or nothing further may begin anyway.
    pub(super) fn time_left(&self, now: SystemTime) -> Duration {
        let latest = lock(&self.state).waiting.values().map(|guest| guest.deadline).max();
        latest.and_then(|latest| latest.min(self.end).duration_since(now).ok()).unwrap_or_default()
    }

    /// From when on nothing further begins.
    pub(super) fn end(&self) -> SystemTime {
        self.end
    }

    /// Counts a unit that was taken, and what is left after it.
    pub(super) fn paid(&self, windows: Vec<WindowUse>) {
        let mut state = lock(&self.state);
        state.units += 1;
        state.windows = windows;
    }

    /// Remembers what is left of the windows.
    pub(super) fn saw(&self, window: WindowUse) {
        lock(&self.state).windows = vec![window];
    }

    /// Counts a call that leaves.
    pub(super) fn called(&self) {
        lock(&self.state).calls += 1;
    }

    /// Takes back a call that did not leave after all.
    pub(super) fn not_called(&self) {
        let mut state = lock(&self.state);
        state.calls = state.calls.saturating_sub(1);
    }

    /// Whether any call has left.
    pub(super) fn was_asked(&self) -> bool {
        lock(&self.state).calls > 0
    }

    /// Units taken so far.
    pub(super) fn units(&self) -> u32 {
        lock(&self.state).units
    }

    /// What is known to be left of the windows.
    pub(super) fn windows(&self) -> Vec<WindowUse> {
        lock(&self.state).windows.clone()
    }

    /// What is still to be recorded before a call leaves to `to`: for whom it was set going, and for all who wait by now.
    /// `None`: everything is on record, and whoever joins from here on records it for itself.
    pub(super) fn to_record(&self, first: &Told, to: &str) -> Option<Told> {
        let mut state = lock(&self.state);
        if state.disclosed.is_some() {
            return None;
        }
        let guests = state.waiting.values().filter_map(|guest| guest.told.as_ref());
        let missing = std::iter::once(first).chain(guests).find(|told| !state.on_record.contains(told)).cloned();
        match &missing {
            Some(told) => state.on_record.push(told.clone()),
            None => state.disclosed = Some(to.to_owned()),
        }
        missing
    }

    /// Notes that what was to be recorded could not be.
    pub(super) fn not_recorded(&self, told: &Told) {
        lock(&self.state).on_record.retain(|one| one != told);
    }

    /// Notes what is known so far, for those who cannot wait for the rest.
    pub(super) fn stands(&self, finding: &Finding, time: SystemTime) {
        lock(&self.state).standing = Some((finding.clone(), time));
    }

    /// What somebody gets who cannot wait longer: what is known so far, else that there was no answer.
    pub(super) fn so_far(&self, now: SystemTime, why: &str) -> (OutcomeBody, SystemTime) {
        let state = lock(&self.state);
        match &state.standing {
            Some((finding, time)) => (OutcomeBody::Finding(with_reason(finding.clone(), why)), *time),
            None if state.calls > 0 => {
                (OutcomeBody::Error(SourceError::new(SourceErrorKind::Timeout, why.to_owned())), now)
            }
            None => (Obstacle::no_time().into_body(), now),
        }
    }
}

/// The finding, with the reason why there is not more of it.
pub(super) fn with_reason(mut finding: Finding, why: &str) -> Finding {
    finding.reasons.push(format!("incomplete: {why}"));
    finding
}

/// A seat in a [`Party`]; dropping it is leaving.
#[derive(Debug)]
pub(super) struct Seat {
    party: Arc<Party>,
    number: u64,
}

impl Seat {
    /// The party that it belongs to.
    pub(super) fn party(&self) -> &Party {
        &self.party
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.party.state).waiting.remove(&self.number);
    }
}
