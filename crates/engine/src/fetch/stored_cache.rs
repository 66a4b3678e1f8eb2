//! The second level of the cache, in the store: written in the background, and read only on a miss of the first.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio_util::task::TaskTracker;

use super::backlog::Backlog;
use crate::store::{AnswerCache, CacheDigest, CachedRow, StoreError};
use crate::sync::lock;

/// Rows that are stored in one write, so that a quota unit does not wait for a long one.
const GROUP: usize = 64;

/// The reading of one row, which all look-ups that want it share.
type Loading = Shared<BoxFuture<'static, Option<Arc<[u8]>>>>;

/// Cached answers in the store. Clones share them.
#[derive(Clone)]
pub(super) struct StoredCache {
    store: Arc<dyn AnswerCache>,
    tracker: TaskTracker,
    waiting: Backlog<CacheDigest, CachedRow>,
    loading: Arc<Mutex<HashMap<CacheDigest, Loading>>>,
    /// Whether the last operation failed, so that a store that stays unusable is logged once.
    is_failing: Arc<AtomicBool>,
}

impl StoredCache {
    pub(super) fn new(store: Arc<dyn AnswerCache>, tracker: TaskTracker) -> Self {
        Self { store, tracker, waiting: Backlog::default(), loading: Arc::default(), is_failing: Arc::default() }
    }

    /// Queues the row, unless too much is waiting already, which costs at most a call after a restart.
    pub(super) fn put(&self, row: CachedRow) {
        let (bytes, cache) = (row.body.len(), self.clone());
        let write = move |rows: Vec<CachedRow>| {
            let cache = cache.clone();
            async move { cache.write(rows).await }
        };
        if !self.waiting.add((row.key, row), bytes, &self.tracker, write) {
            metrics::counter!("concord_cached_answers_not_stored_total").increment(1);
        }
    }

    async fn write(&self, rows: Vec<CachedRow>) {
        for group in rows.chunks(GROUP) {
            let stored = self.store.put_cached(group.to_vec()).await;
            if self.note(&stored) {
                metrics::counter!("concord_cached_answers_not_stored_total").increment(group.len() as u64);
            }
        }
    }

    /// The body of the row with this key. Whoever wants the same row at the same time shares one reading.
    pub(super) async fn load(&self, key: CacheDigest) -> Option<Arc<[u8]>> {
        let loading = {
            let mut loading = lock(&self.loading);
            match loading.get(&key) {
                Some(loading) => loading.clone(),
                None => {
                    let mut reading = self.clone().read(key).boxed();
                    // That there is none is usually known at once.
                    if let Some(row) = (&mut reading).now_or_never() {
                        return row;
                    }
                    loading.entry(key).or_insert(reading.shared()).clone()
                }
            }
        };
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
