//! The second level of the cache, in the store: written in the background, and read only on a miss of the first.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio_util::task::TaskTracker;

use crate::store::{AnswerCache, CacheDigest, CachedRow, StoreError};
use crate::sync::lock;

/// Maximum of bytes that wait to be stored. What exceeds it is not stored, which costs at most a call after a restart.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;
/// Rows that are stored in one write, so that a quota unit does not wait for a long one.
const GROUP: usize = 64;

/// The reading of one row, which all look-ups that want it share.
type Loading = Shared<BoxFuture<'static, Option<Arc<[u8]>>>>;

/// Cached answers in the store. Clones share them.
#[derive(Clone)]
pub(super) struct StoredCache {
    store: Arc<dyn AnswerCache>,
    tracker: TaskTracker,
    waiting: Arc<Mutex<Waiting>>,
    loading: Arc<Mutex<HashMap<CacheDigest, Loading>>>,
    /// Whether the last operation failed, so that a store that stays unusable is logged once.
    is_failing: Arc<AtomicBool>,
}

/// The rows that wait to be stored.
#[derive(Default)]
struct Waiting {
    rows: HashMap<CacheDigest, CachedRow>,
    bytes: usize,
    /// Whether a task is storing them.
    is_draining: bool,
}

impl StoredCache {
    pub(super) fn new(store: Arc<dyn AnswerCache>, tracker: TaskTracker) -> Self {
        Self { store, tracker, waiting: Arc::default(), loading: Arc::default(), is_failing: Arc::default() }
    }

    /// Queues the row, unless too much is waiting already.
    pub(super) fn put(&self, row: CachedRow) {
        let mut waiting = lock(&self.waiting);
        if waiting.bytes.saturating_add(row.body.len()) > MAX_WAITING_BYTES {
            metrics::counter!("concord_cached_answers_not_stored_total").increment(1);
            return;
        }
        waiting.bytes += row.body.len();
        waiting.rows.insert(row.key, row);
        if !waiting.is_draining {
            waiting.is_draining = true;
            drop(waiting);
            let cache = self.clone();
            self.tracker.spawn(async move { cache.drain().await });
        }
    }

    /// Stores everything that waits.
    async fn drain(&self) {
        loop {
            let rows: Vec<_> = {
                let mut waiting = lock(&self.waiting);
                waiting.bytes = 0;
                waiting.is_draining = !waiting.rows.is_empty();
                waiting.rows.drain().map(|(_, row)| row).collect()
            };
            if rows.is_empty() {
                return;
            }
            for group in rows.chunks(GROUP) {
                let stored = self.store.put_cached(group.to_vec()).await;
                if self.note(&stored) {
                    metrics::counter!("concord_cached_answers_not_stored_total").increment(group.len() as u64);
                }
            }
        }
    }

    /// The body of the row with this key. Whoever wants the same row at the same time shares one reading.
    pub(super) async fn load(&self, key: CacheDigest) -> Option<Arc<[u8]>> {
        let loading = lock(&self.loading).entry(key).or_insert_with(|| self.clone().read(key).boxed().shared()).clone();
        // Also if the look-up is cancelled.
        let _ended = Ended { cache: self, key };
        loading.await
    }

    async fn read(self, key: CacheDigest) -> Option<Arc<[u8]>> {
        let row = self.store.cached(key).await;
        self.note(&row);
        row.ok().flatten()
    }

    /// Deletes a row that cannot be used, in the background.
    pub(super) fn delete(&self, key: CacheDigest) {
        let cache = self.clone();
        self.tracker.spawn(async move { cache.note(&cache.store.delete_cached(key).await) });
    }

    /// Whether the operation failed.
    fn note<T>(&self, result: &Result<T, StoreError>) -> bool {
        let failed = result.is_err();
        let failed_before = self.is_failing.swap(failed, Ordering::Relaxed);
        if let Err(error) = result
            && !failed_before
        {
            tracing::warn!(%error, "cached answers cannot be stored or read; they are still held in memory");
        }
        failed
    }
}

/// Forgets a reading once it has ended.
struct Ended<'a> {
    cache: &'a StoredCache,
    key: CacheDigest,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        lock(&self.cache.loading).remove(&self.key);
    }
}

impl fmt::Debug for StoredCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredCache").finish_non_exhaustive()
    }
}
