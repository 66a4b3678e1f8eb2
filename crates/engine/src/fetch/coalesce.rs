//! Layer 3, coalesce: identical look-ups in flight share one conversation, which outlives its waiters. The first of them works on
//! it itself, since a task and its wake-ups cost more than most conversations; if that one leaves, it goes on in a tracked task.
//!
//! Each waiter leaves at its own deadline, so that none is cut short by another's. Once the last has left, `Waiters`
//! keeps the inner layers from starting a further step or attempt.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::attempt::AttemptError;
use super::conversation::ConversationOutcome;
use super::disclosure::DisclosureLog;
use super::lookup::{AnswerTime, LookupRequest, Receipt};
use super::raw_answers::hashes;
use super::waiters::{DisclosureEntry, WaiterGuard, Waiters};
use crate::clock::{Clock, Monotonic};
use crate::finding::{OutcomeBody, SourceError};
use crate::source::Lookup;
use crate::sync::lock;

/// The conversations in flight with one source.
pub(super) struct InFlight {
    pub(super) running: Running,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tracker: TaskTracker,
    pub(super) disclosures: DisclosureLog,
    /// How long a conversation may start further attempts. An attempt that starts at the end of it still has its whole
    /// timeout.
    pub(super) start_window: Duration,
}

/// A look-up, and whether it uses cached answers. Requests that bypass cached answers never join one that uses them.
type Key = (Lookup, bool);

pub(super) type Running = Arc<Mutex<HashMap<Key, (Arc<Waiters>, OutcomeReceiver)>>>;

/// Delivers the outcome to all waiters; `None` until there is one.
type OutcomeReceiver = watch::Receiver<Option<Arc<ConversationOutcome>>>;

/// A waiter's membership in a conversation in flight.
struct Joined {
    guard: WaiterGuard,
    outcome: JoinedOutcome,
    shared: bool,
    /// Records the disclosure of a waiter who joined after the call was made; a task, so that it completes even if the
    /// waiter leaves.
    late_record: Option<JoinHandle<()>>,
}

/// How a waiter comes by the outcome.
enum JoinedOutcome {
    /// By working on the conversation.
    Led(Led),
    /// From whoever works on it.
    Awaited(OutcomeReceiver),
}

/// A conversation on which its first waiter works. Dropping it unfinished hands it to a task.
struct Led {
    conversation: Option<BoxFuture<'static, Arc<ConversationOutcome>>>,
    tracker: TaskTracker,
    runtime: Handle,
}

impl InFlight {
    /// Waits for the outcome of the conversation in flight about this look-up. If there is none, starts `conversation`.
    pub(super) async fn share<F>(
        &self,
        request: &LookupRequest,
        rereads: bool,
        conversation: impl FnOnce(Arc<Waiters>) -> F,
    ) -> (Arc<ConversationOutcome>, Receipt)
    where
        F: Future<Output = ConversationOutcome> + Send + 'static,
    {
        if self.clock.monotonic() >= request.deadline {
            let body = AttemptError::no_time().into_body();
            let outcome = ConversationOutcome::uncacheable(body, AnswerTime::now(&*self.clock));
            return (Arc::new(outcome), Receipt::default());
        }
        let mut joined = self.join_or_begin(request, rereads, conversation);
        let (outcome, cut_short) = self.wait(&mut joined, request.deadline).await;
        let waiters = joined.guard.waiters();
        let age = self.clock.monotonic().since(outcome.time.monotonic);
        let most = request.max_units.unwrap_or(u32::MAX);
        let receipt = Receipt {
            called: waiters.was_asked() && !joined.shared && !outcome.from_cache,
            from_cache: outcome.from_cache,
            shared: joined.shared && !outcome.from_cache,
            age: if outcome.body.is_answer() { age } else { Duration::ZERO },
            ttl: outcome.ttl(),
            // Those beyond what this request allows were spent for others that wait.
            units: if joined.shared { 0 } else { waiters.units().min(most) },
            relation_units: if joined.shared { 0 } else { waiters.relation_units().min(most) },
            quota: waiters.windows(),
            note: None,
            stale: None,
            cut_short: cut_short || waiters.was_limited(),
            answers: hashes(&outcome.steps),
            latency: Duration::ZERO,
        };
        (outcome, receipt)
    }

    /// Whether a conversation about this look-up that uses no cached answers is in flight.
    pub(super) fn is_running(&self, lookup: &Lookup) -> bool {
        lock(&self.running).contains_key(&(lookup.clone(), false))
    }

    fn join_or_begin<F>(
        &self,
        request: &LookupRequest,
        rereads: bool,
        conversation: impl FnOnce(Arc<Waiters>) -> F,
    ) -> Joined
    where
        F: Future<Output = ConversationOutcome> + Send + 'static,
    {
        let key = (request.lookup.clone(), rereads);
        let entry = DisclosureEntry::new(request);
        let mut running = lock(&self.running);
        if let Some((waiters, outcome)) = running.get(&key)
            && let Some((guard, disclosed_to)) =
                waiters.join(request.deadline, request.claim(), request.max_units, &entry)
        {
            let late_record = disclosed_to.map(|host| {
                let log = self.disclosures.clone();
                self.tracker.spawn(async move { log.record_late(&entry, &host).await })
            });
            return Joined { guard, outcome: JoinedOutcome::Awaited(outcome.clone()), shared: true, late_record };
        }
        let end = self.clock.monotonic() + self.start_window;
        let (waiters, guard) = Waiters::begin(end, request.deadline, request.claim(), request.max_units, Some(entry));
        let (sender, outcome) = watch::channel(None);
        running.insert(key.clone(), (waiters.clone(), outcome));
        drop(running);
        let registered = Registered { running: self.running.clone(), key, waiters: waiters.clone() };
        let conversation = AssertUnwindSafe(conversation(waiters)).catch_unwind();
        let (source, clock) = (self.disclosures.source.clone(), self.clock.clone());
        // A shutdown waits for it, whoever works on it.
        let tracked = self.tracker.token();
        let conversation = async move {
            let _tracked = tracked;
            let outcome = Arc::new(conversation.await.unwrap_or_else(|_| broken_off(&source, &*clock)));
            // By now the answer is in the cache, where later look-ups find it.
            drop(registered);
            if sender.receiver_count() > 0 {
                sender.send_replace(Some(outcome.clone()));
            }
            outcome
        };
        let led =
            Led { conversation: Some(conversation.boxed()), tracker: self.tracker.clone(), runtime: Handle::current() };
        Joined { guard, outcome: JoinedOutcome::Led(led), shared: false, late_record: None }
    }

    /// The outcome, and whether the time ended before there was one.
    async fn wait(&self, joined: &mut Joined, deadline: Monotonic) -> (Arc<ConversationOutcome>, bool) {
        let left = deadline.since(self.clock.monotonic());
        let outcome = self.clock.timeout(left, async {
            if let Some(record) = joined.late_record.take() {
                // The task is never cancelled, and it logs its own errors.
                let _ = record.await;
            }
            match &mut joined.outcome {
                JoinedOutcome::Led(led) => led.await,
                JoinedOutcome::Awaited(outcome) => match outcome.wait_for(Option::is_some).await.as_deref() {
                    Ok(Some(outcome)) => outcome.clone(),
                    // The runtime shuts down.
                    Ok(None) | Err(_) => Arc::new(broken_off(&self.disclosures.source, &*self.clock)),
                },
            }
        });
        match outcome.await {
            Some(outcome) => (outcome, false),
            None => {
                let now = AnswerTime::now(&*self.clock);
                let (body, time) = joined.guard.waiters().timeout_outcome(now, "no answer before the deadline");
                (Arc::new(ConversationOutcome::uncacheable(body, time)), true)
            }
        }
    }
}

impl Future for Led {
    type Output = Arc<ConversationOutcome>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(conversation) = &mut self.conversation else { return Poll::Pending };
        let outcome = ready!(conversation.poll_unpin(context));
        self.conversation = None;
        Poll::Ready(outcome)
    }
}

impl Drop for Led {
    fn drop(&mut self) {
        if let Some(rest) = self.conversation.take() {
            self.tracker.spawn_on(rest, &self.runtime);
        }
    }
}

/// The outcome of a conversation that panicked.
fn broken_off(source: &str, clock: &dyn Clock) -> ConversationOutcome {
    tracing::error!(source, "a conversation ended without an outcome");
    let error = SourceError::unavailable("the conversation with the source broke off by a fault of this server");
    ConversationOutcome::uncacheable(OutcomeBody::Error(error), AnswerTime::now(clock))
}

/// A conversation's entry among those in flight. Dropping it removes the entry, also if the task panics.
struct Registered {
    running: Running,
    key: Key,
    waiters: Arc<Waiters>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        // A closed conversation may already have been replaced by a new one for the same look-up.
        if running.get(&self.key).is_some_and(|(waiters, _)| Arc::ptr_eq(waiters, &self.waiters)) {
            running.remove(&self.key);
        }
    }
}
