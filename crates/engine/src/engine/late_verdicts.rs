//! Stores verdicts of requests that were answered at their deadline, after the answer has been sent.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::store::{Store, VerdictRecord};
use crate::sync::lock;

/// Maximum of verdicts that wait to be stored.
const MAX_WAITING: usize = 8192;
/// Maximum of verdicts that are stored together in one transaction.
const GROUP: usize = 64;

/// A queue of verdicts, which a background task stores group by group.
#[derive(Debug)]
pub(super) struct LateVerdicts(Mutex<Option<Sender<Arc<VerdictRecord>>>>);

impl LateVerdicts {
    /// Starts the background task, which ends after [`Self::close`].
    pub(super) fn start(store: Arc<dyn Store>, tracker: &TaskTracker) -> Self {
        let (sender, receiver) = channel(MAX_WAITING);
        tracker.spawn(store_all(store, receiver));
        Self(Mutex::new(Some(sender)))
    }

    /// Queues the verdict. Returns `false` if too many are waiting already.
    pub(super) fn append(&self, record: Arc<VerdictRecord>) -> bool {
        let is_queued = lock(&self.0).as_ref().is_some_and(|sender| sender.try_send(record).is_ok());
        if !is_queued {
            note_not_stored("too many verdicts are waiting to be stored");
        }
        is_queued
    }

    /// Accepts no further verdicts; those in the queue are still stored.
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

/// Reports a verdict that is missing from the history.
pub(super) fn note_not_stored(why: &str) {
    warn!(why, "a verdict was not stored");
    metrics::counter!("concord_verdicts_not_stored_total").increment(1);
}
