//! Stores the verdicts of requests that were answered at their deadline: the answer goes first, the store after it.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::store::{Store, VerdictRecord};
use crate::sync::lock;

/// Verdicts that may wait to be stored.
const MAX_WAITING: usize = 8192;
/// Verdicts that are stored at the same time, in one transaction.
const GROUP: usize = 64;

/// Takes verdicts and stores them one group after the other.
#[derive(Debug)]
pub(super) struct LateVerdicts(Mutex<Option<Sender<Arc<VerdictRecord>>>>);

impl LateVerdicts {
    /// Begins with a task of its own, which ends after [`Self::close`].
    pub(super) fn start(store: Arc<dyn Store>, tracker: &TaskTracker) -> Self {
        let (sender, receiver) = channel(MAX_WAITING);
        tracker.spawn(store_all(store, receiver));
        Self(Mutex::new(Some(sender)))
    }

    /// Takes the verdict to be stored; false where too many wait.
    pub(super) fn append(&self, record: Arc<VerdictRecord>) -> bool {
        let taken = lock(&self.0).as_ref().is_some_and(|sender| sender.try_send(record).is_ok());
        if !taken {
            note_not_stored("too many wait to be stored");
        }
        taken
    }

    /// Takes no more; what waits is stored.
    pub(super) fn close(&self) {
        drop(lock(&self.0).take());
    }
}

async fn store_all(store: Arc<dyn Store>, mut waiting: Receiver<Arc<VerdictRecord>>) {
    let mut group = Vec::with_capacity(GROUP);
    while waiting.recv_many(&mut group, GROUP).await > 0 {
        for stored in join_all(group.drain(..).map(|record| store.append(record))).await {
            if let Err(error) = stored {
                note_not_stored(&error.to_string());
            }
        }
    }
}

/// Reports a verdict that has no place in the history.
pub(super) fn note_not_stored(why: &str) {
    warn!(why, "a verdict was not stored");
    metrics::counter!("concord_verdicts_not_stored_total").increment(1);
}
