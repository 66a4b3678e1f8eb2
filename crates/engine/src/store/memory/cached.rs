//! Cached answers in memory.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Memory, removed};
use crate::indicator::hex;
use crate::store::{AnswerCache, BoxFuture, CacheDigest, CachedRow};

impl AnswerCache for Memory {
    fn put_cached(&self, rows: Vec<CachedRow>) -> BoxFuture<'_, ()> {
        self.run(move |state| {
            state.cached.extend(rows.into_iter().map(|row| (hex(&row.key), row)));
            Ok(())
        })
    }

    fn cached(&self, key: CacheDigest) -> BoxFuture<'_, Option<Arc<[u8]>>> {
        self.run(move |state| Ok(state.cached.get(&hex(&key)).map(|row| row.body.clone())))
    }

    fn delete_cached(&self, key: CacheDigest) -> BoxFuture<'_, ()> {
        self.run(move |state| {
            state.cached.remove(&hex(&key));
            Ok(())
        })
    }

    fn prune_cached(&self, now: SystemTime) -> BoxFuture<'_, u64> {
        self.run(move |state| {
            let count = state.cached.len();
            state.cached.retain(|_, row| row.expire_time > now);
            Ok(removed(count, state.cached.len()))
        })
    }
}
