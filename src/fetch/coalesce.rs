//! Layer 3, coalesce: the same look-up in flight is one conversation, run by a tracked task that outlives its waiters.
//!
//! Each waiter keeps its own deadline here and leaves by it, so that none is cut short by another's. When the last has
//! left, the party says so to the layers below, which then begin no further step or attempt.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower::ServiceExt;

use super::cache::{Errand, Key};
use super::quota::record;
use super::trip::{Concluded, Obstacle, Party, RunsErrands, Seat, Site, Talks, Told, Trip, layer, lock};
use super::{Fetched, RawAnswers, Receipt};
use crate::finding::{OutcomeBody, SourceError};

type Board = Arc<Mutex<HashMap<FlightKey, Flight>>>;

/// Who may read kept answers and who may not do not share a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FlightKey {
    key: Key,
    from_kept: bool,
}

struct Flight {
    party: Arc<Party>,
    landed: Landed,
}

/// Carries the conclusion to everybody who waits; `None` until then.
type Landed = watch::Receiver<Option<Arc<Concluded>>>;

/// The conversations under way with one source.
struct Flights<S> {
    site: Arc<Site>,
    board: Board,
    inner: S,
}

/// Joins requests for the same into one conversation.
pub(super) fn over<S: Talks>(site: &Arc<Site>, inner: S) -> impl RunsErrands + use<S> {
    let board = Board::default();
    layer(site, inner, move |site, inner: S, errand: Errand| {
        let flights = Flights { site, board: board.clone(), inner };
        async move {
            let now = flights.site.clock.now();
            if now >= errand.request.deadline {
                let outcome = flights.site.outcome(Obstacle::no_time().into_body(), now);
                return Ok(Fetched { outcome, receipt: Receipt::default() });
            }
            let waiter = flights.board(errand, now);
            Ok(waiter.wait(&flights.site).await)
        }
    })
}

impl<S: Talks> Flights<S> {
    /// A seat in the conversation about this errand, which begins with it if there is none.
    fn board(&self, errand: Errand, now: SystemTime) -> Waiter {
        let flight_key = FlightKey { key: errand.key.clone(), from_kept: errand.kept.is_some() };
        let deadline = errand.request.deadline;
        let told = Told::of(&errand.request);
        let mut board = lock(&self.board);
        if let Some(flight) = board.get(&flight_key)
            && let Some((seat, owed)) = flight.party.join(deadline, told.clone())
        {
            let recorded = owed.map(|to| self.site.tracker.spawn(record_late(self.site.clone(), told, to)));
            return Waiter { seat, landed: flight.landed.clone(), shared: true, deadline, recorded };
        }
        let end = now.checked_add(self.site.time_to_begin()).unwrap_or(deadline);
        let (party, seat) = Party::begin(end, deadline, Some(told));
        let (send, landed) = watch::channel(None);
        board.insert(flight_key.clone(), Flight { party: party.clone(), landed: landed.clone() });
        drop(board);
        let entry = Entry { board: self.board.clone(), key: flight_key, party: party.clone() };
        self.fly(Trip { request: errand.request, key: errand.key, kept: errand.kept, party }, entry, send);
        Waiter { seat, landed, shared: false, deadline, recorded: None }
    }

    fn fly(&self, trip: Trip, entry: Entry, send: watch::Sender<Option<Arc<Concluded>>>) {
        let inner = self.inner.clone();
        self.site.tracker.spawn(async move {
            let Ok(concluded) = inner.oneshot(trip).await;
            // The cache is filled by now: whoever comes after this finds it there.
            drop(entry);
            send.send_replace(Some(Arc::new(concluded)));
        });
    }
}

/// A flight's entry on the board; dropping it takes the entry off, also when the task panics.
struct Entry {
    board: Board,
    key: FlightKey,
    party: Arc<Party>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut board = lock(&self.board);
        // A conversation that was given up may have been replaced by a new one for the same.
        if board.get(&self.key).is_some_and(|flight| Arc::ptr_eq(&flight.party, &self.party)) {
            board.remove(&self.key);
        }
    }
}

struct Waiter {
    seat: Seat,
    landed: Landed,
    shared: bool,
    deadline: SystemTime,
    /// The record that it came too late for, under way; in a task, so that it is made whoever leaves.
    recorded: Option<JoinHandle<()>>,
}

impl Waiter {
    async fn wait(mut self, site: &Site) -> Fetched {
        let duration = self.deadline.duration_since(site.clock.now()).unwrap_or_default();
        let landed = async {
            if let Some(recorded) = self.recorded.take() {
                // It cannot be cancelled, and a fault in it is in the log.
                let _ = recorded.await;
            }
            let landed = self.landed.wait_for(Option::is_some).await;
            landed.ok().and_then(|concluded| concluded.clone())
        };
        let concluded = tokio::select! {
            biased;
            landed = landed => landed,
            () = site.clock.sleep(duration) => {
                let now = site.clock.now();
                let (body, time) = self.seat.party().so_far(now, "no answer before the deadline");
                Some(Arc::new(Concluded::nothing(body, time)))
            }
        };
        let now = site.clock.now();
        let concluded = concluded.unwrap_or_else(|| Arc::new(broke_off(site, now)));
        self.fetched(site, &concluded, now)
    }

    fn fetched(&self, site: &Site, concluded: &Concluded, now: SystemTime) -> Fetched {
        let party = self.seat.party();
        let shared = self.shared && !concluded.from_cache;
        let age = if concluded.body.is_answer() { now.duration_since(concluded.time).ok() } else { None };
        let asked = site.is_outside() && party.was_asked();
        let receipt = Receipt {
            called: asked && !self.shared && !concluded.from_cache,
            from_cache: concluded.from_cache,
            shared,
            age: age.unwrap_or_default(),
            ttl: concluded.stands_for(),
            units: if self.shared { 0 } else { party.units() },
            quota: party.windows(),
            note: concluded.note(),
            answers: RawAnswers::of(&concluded.steps),
            latency: Duration::ZERO,
        };
        Fetched { outcome: site.outcome(concluded.body.clone(), concluded.time), receipt }
    }
}

/// Records for a caller who joined after the source was told. It was told in any case, so a failure holds nothing up.
async fn record_late(site: Arc<Site>, told: Told, to: String) {
    if let Err(error) = record(&site, &told, &to).await {
        tracing::error!(source = site.settings.name, caller = told.caller, %error, "a disclosure could not be recorded");
    }
}

/// The task is gone without a conclusion, which only a fault of ours brings about.
fn broke_off(site: &Site, now: SystemTime) -> Concluded {
    tracing::error!(source = site.settings.name, "a conversation broke off");
    let error = SourceError::unavailable("the conversation with the source broke off by a fault of this server");
    Concluded::nothing(OutcomeBody::Error(error), now)
}
