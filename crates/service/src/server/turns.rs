//! Which request begins next. The owners take turns, and no more requests begin at a time than the workers keep up with. The
//! first requests of an owner begin at once, so that one with few does not wait for the rounds of another with many.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use axum::response::Response;
use futures_util::FutureExt;
use tokio::runtime::{EnterGuard, Handle};
use tokio::sync::oneshot;

use crate::error::Error;
use crate::rpc::auth::Owner;
use crate::rpc::load::Admitted;
use crate::sync::lock;

/// Requests that begin before the workers have gone on with all that is ready.
const PER_ROUND: usize = 8;
/// Requests of one owner that may run without having waited for a turn.
const AT_ONCE: usize = 2;

/// What becomes of a request.
pub(super) enum Ended {
    Answered(Response),
    /// The cause of a panic.
    Panicked(Box<dyn Any + Send>),
    /// It was not its turn while there was time for it.
    Refused(Error),
    /// The server shuts down.
    ShutDown,
}

/// The requests that wait for a worker.
pub(super) struct Turns {
    workers: Handle,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: HashMap<Owner, VecDeque<Waiting>>,
    /// Each owner that waits, once.
    order: VecDeque<Owner>,
    /// How many requests of each owner have begun and not ended.
    running: HashMap<Owner, usize>,
    /// Whether a task lets them begin.
    is_running: bool,
}

struct Waiting {
    owner: Owner,
    /// Its time, where it asks sources.
    admitted: Option<Admitted>,
    work: Pin<Box<dyn Future<Output = Response> + Send>>,
    done: oneshot::Sender<Ended>,
}

impl Turns {
    pub(super) fn new(workers: Handle) -> Arc<Self> {
        Arc::new(Self { workers, queue: Mutex::default() })
    }

    /// What is spawned while this is held runs among the workers.
    pub(super) fn enter_workers(&self) -> EnterGuard<'_> {
        self.workers.enter()
    }

    /// Works on a request among the workers once it is this owner's turn. The work ends when its caller leaves.
    pub(super) async fn run(
        self: &Arc<Self>,
        owner: Owner,
        admitted: Option<Admitted>,
        work: impl Future<Output = Response> + Send + 'static,
    ) -> Ended {
        let (done, result) = oneshot::channel();
        let waiting = Waiting { owner, admitted, work: Box::pin(work), done };
        let pushed = lock(&self.queue).push(waiting);
        match pushed {
            Pushed::Begins(waiting) => self.begin(waiting),
            Pushed::WaitsForTask => drop(self.workers.spawn(self.clone().begin_all())),
            Pushed::Waits => {}
        }
        result.await.unwrap_or(Ended::ShutDown)
    }

    /// Lets a request that is counted as running begin.
    fn begin(self: &Arc<Self>, waiting: Waiting) {
        let running = Running { turns: self.clone(), owner: waiting.owner.clone() };
        self.workers.spawn(async move {
            let _running = running;
            waiting.run().await;
        });
    }

    async fn begin_all(self: Arc<Self>) {
        loop {
            for _ in 0..PER_ROUND {
                let Some(next) = lock(&self.queue).pop() else { return };
                // Whoever has left by now needs nothing.
                if next.done.is_closed() {
                    lock(&self.queue).end(&next.owner);
                } else {
                    self.begin(next);
                }
            }
            // What cannot begin in time any more is refused as soon as that is known.
            let late = lock(&self.queue).take_late();
            late.into_iter().for_each(|(waiting, error)| waiting.refuse(error));
            // Behind all that is ready.
            tokio::task::yield_now().await;
        }
    }
}

/// A request that has begun. When it is dropped, the request is no longer counted as running.
struct Running {
    turns: Arc<Turns>,
    owner: Owner,
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.turns.queue).end(&self.owner);
    }
}

/// What becomes of a new request.
enum Pushed {
    /// It begins at once, and is counted as running.
    Begins(Waiting),
    /// It waits, and a task must be started that lets it begin.
    WaitsForTask,
    Waits,
}

impl Queue {
    fn push(&mut self, waiting: Waiting) -> Pushed {
        let owner = &waiting.owner;
        if !self.waiting.contains_key(owner) && self.running.get(owner).is_none_or(|running| *running < AT_ONCE) {
            *self.running.entry(owner.clone()).or_default() += 1;
            return Pushed::Begins(waiting);
        }
        let own = self.waiting.entry(owner.clone()).or_default();
        if own.is_empty() {
            self.order.push_back(owner.clone());
        }
        own.push_back(waiting);
        if std::mem::replace(&mut self.is_running, true) { Pushed::Waits } else { Pushed::WaitsForTask }
    }

    /// A running request of this owner has ended.
    fn end(&mut self, owner: &Owner) {
        if let Some(running) = self.running.get_mut(owner) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(owner);
            }
        }
    }

    /// Those at the head of each owner's queue whose time to begin is over.
    fn take_late(&mut self) -> Vec<(Waiting, Error)> {
        let mut late = Vec::new();
        for own in self.waiting.values_mut() {
            while let Some(error) = own.front().and_then(|waiting| waiting.admitted.as_ref()?.refusal()) {
                late.extend(own.pop_front().map(|waiting| (waiting, error)));
            }
        }
        if !late.is_empty() {
            self.waiting.retain(|_, own| !own.is_empty());
            self.order.retain(|owner| self.waiting.contains_key(owner));
        }
        late
    }

    fn pop(&mut self) -> Option<Waiting> {
        let Some(owner) = self.order.pop_front() else {
            self.is_running = false;
            return None;
        };
        let own = self.waiting.get_mut(&owner)?;
        let next = own.pop_front();
        if own.is_empty() {
            self.waiting.remove(&owner);
        } else {
            self.order.push_back(owner.clone());
        }
        *self.running.entry(owner).or_default() += 1;
        next
    }
}

impl Waiting {
    async fn run(self) {
        let Self { owner: _, admitted, work, mut done } = self;
        drop(admitted);
        tokio::select! {
            biased;
            result = AssertUnwindSafe(work).catch_unwind() => {
                // Its caller may have left just now.
                let _ = done.send(result.map_or_else(Ended::Panicked, Ended::Answered));
            }
            () = done.closed() => {}
        }
    }

    fn refuse(self, error: Error) {
        // Its caller may have left just now.
        let _ = self.done.send(Ended::Refused(error));
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn caller(name: &str) -> Owner {
        Owner::Caller(name.into())
    }

    #[tokio::test]
    async fn callers_take_turns_however_much_one_has_waiting() {
        let turns = Turns::new(Handle::current());
        let begun = Arc::new(Mutex::new(Vec::new()));
        let request = |name: &'static str| {
            let begun = begun.clone();
            turns.run(caller(name), None, async move {
                lock(&begun).push(name);
                Response::new(Body::empty())
            })
        };
        let mut all: Vec<_> = (0..20).map(|_| request("heavy")).collect();
        all.extend((0..4).map(|_| request("light")));
        let answers = futures_util::future::join_all(all).await;
        assert!(answers.iter().all(|done| matches!(done, Ended::Answered(_))));
        // Two of each begin at once, the others in turn.
        let first = ["heavy", "heavy", "light", "light", "heavy", "light", "heavy", "light", "heavy"];
        assert_eq!(lock(&begun)[..9], first);
        assert_eq!(lock(&begun).len(), 24);
        assert!(lock(&turns.queue).running.is_empty());
    }

    #[tokio::test]
    async fn the_first_requests_of_an_owner_begin_while_nobody_elses_end() {
        let turns = Turns::new(Handle::current());
        let endless: Vec<_> =
            (0..20).map(|_| Box::pin(turns.run(caller("heavy"), None, std::future::pending()))).collect();
        let mut endless = futures_util::future::join_all(endless);
        assert!(futures_util::poll!(&mut endless).is_pending());
        for _ in 0..3 {
            let answered = turns.run(caller("light"), None, async { Response::new(Body::empty()) }).await;
            assert!(matches!(answered, Ended::Answered(_)));
        }
    }

    #[tokio::test]
    async fn a_request_whose_caller_has_left_does_not_begin_and_one_that_has_begun_ends() {
        let turns = Turns::new(Handle::current());
        let held = Arc::new(());
        let request = || {
            let held = held.clone();
            let endless = async move {
                let _held = held;
                std::future::pending().await
            };
            Box::pin(turns.run(caller("soar"), None, endless))
        };
        let mut begun = request();
        assert!(futures_util::poll!(&mut begun).is_pending());
        tokio::task::yield_now().await;
        let mut waiting = request();
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop((waiting, begun));
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
        assert!(lock(&turns.queue).waiting.is_empty());
    }

    #[tokio::test]
    async fn a_panic_is_handed_to_the_caller_and_the_next_request_is_served() {
        let turns = Turns::new(Handle::current());
        let failed = turns.run(caller("soar"), None, async { panic!("a fault of ours") }).await;
        assert!(matches!(failed, Ended::Panicked(_)));
        let answered = turns.run(caller("soar"), None, async { Response::new(Body::empty()) }).await;
        assert!(matches!(answered, Ended::Answered(_)));
    }
}
