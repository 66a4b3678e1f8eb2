//! Requests for the same verdict wait for the one enrichment that makes it, instead of each judging and storing its own.
//! Calls to sources are shared below in any case.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::verdict_cache::{CacheKey, CachedVerdict};
use crate::source::Priority;
use crate::sync::lock;

/// `None`: the enrichment is in flight. Then what others may share of it, if anything.
type State = Option<Option<Arc<CachedVerdict>>>;
type Flights = Arc<Mutex<HashMap<Arc<SharingKey>, watch::Receiver<State>>>>;

/// What requests have in common that share an enrichment. Those of other callers and priorities ask the sources themselves, where
/// calls are shared: each caller is then recorded with what was disclosed, and the highest priority decides about a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SharingKey {
    pub(super) verdict: CacheKey,
    pub(super) caller: String,
    pub(super) priority: Priority,
}

/// The enrichments in flight that others may wait for. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Enrichments(Flights);

/// What a request is to do.
pub(super) enum Role {
    /// Make the verdict, since nobody else does.
    Leader(Leader),
    /// Wait for another request, which makes it.
    Follower(Follower),
}

impl Enrichments {
    /// Joins the requests for this verdict.
    pub(super) fn join(&self, key: &SharingKey) -> Role {
        let mut flights = lock(&self.0);
        if let Some(state) = flights.get(key) {
            return Role::Follower(Follower(state.clone()));
        }
        let (sender, state) = watch::channel(None);
        let key = Arc::new(key.clone());
        flights.insert(key.clone(), state);
        Role::Leader(Leader { flights: self.0.clone(), key, state: sender })
    }
}

/// The request that makes the verdict. If it is dropped before, one of those that wait takes its place.
pub(super) struct Leader {
    flights: Flights,
    key: Arc<SharingKey>,
    state: watch::Sender<State>,
}

impl Leader {
    /// Hands the verdict to those who wait; without one, each makes its own.
    pub(super) fn finish(self, verdict: Option<Arc<CachedVerdict>>) {
        self.state.send_replace(Some(verdict));
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        // Before those that wait learn of it: one of them joins again at once, and must not find what was abandoned.
        lock(&self.flights).remove(&self.key);
    }
}

/// A request that waits.
pub(super) struct Follower(watch::Receiver<State>);

/// How a wait ended.
pub(super) enum Ended {
    Shared(Arc<CachedVerdict>),
    /// The verdict is none that others may have.
    NotShared,
    /// The leader was dropped.
    Abandoned,
}

impl Follower {
    /// Waits until the enrichment ends.
    pub(super) async fn ended(&mut self) -> Ended {
        match self.0.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Some(verdict))) => Ended::Shared(verdict.clone()),
            Ok(Some(None) | None) => Ended::NotShared,
            Err(_) => Ended::Abandoned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::verdict_cache::tests::{self, verdict};

    fn key(number: u8) -> SharingKey {
        SharingKey { verdict: tests::key(number), caller: "ann".to_owned(), priority: Priority::Interactive }
    }

    fn follower(enrichments: &Enrichments) -> Follower {
        match enrichments.join(&key(1)) {
            Role::Follower(follower) => follower,
            Role::Leader(_) => panic!("nobody makes the verdict"),
        }
    }

    fn leader(enrichments: &Enrichments) -> Leader {
        match enrichments.join(&key(1)) {
            Role::Leader(leader) => leader,
            Role::Follower(_) => panic!("another makes the verdict"),
        }
    }

    #[tokio::test]
    async fn those_who_wait_get_the_verdict_and_the_next_makes_a_new_one() {
        let enrichments = Enrichments::default();
        let first = leader(&enrichments);
        let mut waiting = [follower(&enrichments), follower(&enrichments)];
        let background = SharingKey { priority: Priority::Background, ..key(1) };
        for other in [key(2), SharingKey { caller: "bob".to_owned(), ..key(1) }, background] {
            assert!(matches!(enrichments.join(&other), Role::Leader(_)), "{other:?}");
        }
        let made = Arc::new(verdict(10));
        first.finish(Some(made.clone()));
        for waiting in &mut waiting {
            let Ended::Shared(shared) = waiting.ended().await else { panic!("nothing was shared") };
            assert!(Arc::ptr_eq(&shared, &made));
        }
        leader(&enrichments).finish(None);
    }

    #[tokio::test]
    async fn a_verdict_that_nobody_else_may_have_ends_the_wait() {
        let enrichments = Enrichments::default();
        let first = leader(&enrichments);
        let mut waiting = follower(&enrichments);
        first.finish(None);
        assert!(matches!(waiting.ended().await, Ended::NotShared));
    }

    #[tokio::test]
    async fn one_of_those_who_wait_takes_the_place_of_a_leader_that_leaves() {
        let enrichments = Enrichments::default();
        let first = leader(&enrichments);
        let mut waiting = [follower(&enrichments), follower(&enrichments)];
        drop(first);
        for waiting in &mut waiting {
            assert!(matches!(waiting.ended().await, Ended::Abandoned));
        }
        let _next = leader(&enrichments);
        follower(&enrichments);
    }
}
