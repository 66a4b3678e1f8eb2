//! Remembers the results of changes, so that a change that is repeated under the same request identifier is made only
//! once.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use prost::Message;
use tokio::sync::Mutex;

use crate::clock::{Clock, Monotonic};
use crate::error::{Error, Reason};

/// How long the repetition of a change is recognised by its request identifier.
const REPEAT_WINDOW: Duration = Duration::from_secs(600);

/// Approximate memory of an entry in addition to its bytes.
const ENTRY_OVERHEAD: usize = 512;

/// The caller and the identifier of the request.
pub(super) type ChangeKey = (String, String);

/// Changes that were made, in a cache that is bounded by bytes and evicts the least recently used. Clones share one
/// cache.
#[derive(Clone, Debug)]
pub(super) struct MadeChanges {
    cache: Cache<ChangeKey, Arc<MadeChange>>,
    /// Held while a change is made, so that a concurrent repetition waits for its result.
    lock: Arc<Mutex<()>>,
}

/// A change that was made: a digest of its request, which does not reveal the credential in it, and its result.
#[derive(Debug)]
struct MadeChange {
    request_digest: Vec<u8>,
    time: Monotonic,
    /// Kept encoded, since the decoded message takes several times the memory.
    result: Vec<u8>,
}

impl MadeChanges {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let weight = |key: &ChangeKey, made: &Arc<MadeChange>| {
            let bytes = key.0.len() + key.1.len() + made.result.len() + ENTRY_OVERHEAD;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().weigher(weight).max_capacity(capacity_bytes);
        // A repetition comes soon or never, so recency predicts it better than frequency does.
        let cache = cache.eviction_policy(EvictionPolicy::lru()).time_to_live(REPEAT_WINDOW).build();
        Self { cache, lock: Arc::default() }
    }

    /// Makes a change, unless this caller already made it under the same request identifier; then returns the result of
    /// that one. Changes with an empty identifier are always made.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the identifier was used for another change, else what the change fails with.
    pub(super) async fn once<M: Message + Default>(
        &self,
        key: ChangeKey,
        request_digest: Vec<u8>,
        clock: &dyn Clock,
        change: impl Future<Output = Result<M, Error>>,
    ) -> Result<M, Error> {
        let _lock = self.lock.lock().await;
        if key.1.is_empty() {
            return change.await;
        }
        if let Some(made) = self.get(&key, clock.monotonic()) {
            let message = "was used for another change within the last ten minutes: use a new one for each change";
            if made.request_digest != request_digest {
                return Err(Error::invalid("request_id", Reason::FieldInvalid, message));
            }
            return Ok(M::decode(made.result.as_slice()).unwrap_or_default());
        }
        let result = change.await?;
        self.insert(key, request_digest, clock.monotonic(), &result);
        Ok(result)
    }

    /// The change that was made under this key, if it is still remembered.
    fn get(&self, key: &ChangeKey, now: Monotonic) -> Option<Arc<MadeChange>> {
        self.cache.get(key).filter(|made| now.since(made.time) < REPEAT_WINDOW)
    }

    fn insert(&self, key: ChangeKey, request_digest: Vec<u8>, time: Monotonic, result: &impl Message) {
        self.cache.insert(key, Arc::new(MadeChange { request_digest, time, result: result.encode_to_vec() }));
        // Evicts at once, so that the bound does not wait for the cache's next housekeeping.
        self.cache.run_pending_tasks();
    }
}

/// A digest by which a repeated request is recognised.
pub(super) fn digest_of(request: &impl Message) -> Vec<u8> {
    digest::digest(&digest::SHA256, &request.encode_to_vec()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb;

    fn key(number: usize) -> ChangeKey {
        ("caller".to_owned(), number.to_string())
    }

    fn source(bytes: usize) -> pb::Source {
        pb::Source { name: "x".repeat(bytes), ..Default::default() }
    }

    #[test]
    fn remembered_changes_stay_within_their_bytes_and_the_newest_are_kept() {
        let changes = MadeChanges::new(1 << 20);
        for number in 0..200 {
            changes.insert(key(number), vec![1], Monotonic::default(), &source(100_000));
            assert!(changes.cache.weighted_size() <= 1 << 20, "{}", changes.cache.weighted_size());
        }
        let known = |number| changes.get(&key(number), Monotonic::default()).is_some();
        assert_eq!([0, 180, 195, 199].map(known), [false, false, true, true]);
        let last = changes.get(&key(199), Monotonic::default()).unwrap();
        assert_eq!(last.result, source(100_000).encode_to_vec());
    }

    #[test]
    fn a_change_is_forgotten_after_ten_minutes() {
        let changes = MadeChanges::new(1 << 20);
        changes.insert(key(1), vec![1], Monotonic::default(), &source(1));
        let known = |seconds| changes.get(&key(1), Monotonic::default() + Duration::from_secs(seconds)).is_some();
        assert_eq!([0, 599, 600].map(known), [true, true, false]);
    }
}
