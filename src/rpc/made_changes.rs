//! Remembers the results of changes, so that a change that is repeated under the same request identifier is made only
//! once.

use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use prost::Message;

use crate::clock::Monotonic;
use crate::pb;

/// How long the repetition of a change is recognised by its request identifier.
const REPEAT_WINDOW: Duration = Duration::from_secs(600);

/// Approximate memory of an entry in addition to its bytes.
const ENTRY_OVERHEAD: usize = 512;

/// The caller and the identifier of the request.
pub(super) type ChangeKey = (String, String);

/// Changes that were made, in a cache that is bounded by bytes and evicts the least recently used. Clones share one
/// cache.
#[derive(Clone, Debug)]
pub(super) struct MadeChanges(Cache<ChangeKey, Arc<MadeChange>>);

/// A change that was made: a digest of its request, which does not reveal the credential in it, and its result.
#[derive(Debug)]
pub(super) struct MadeChange {
    pub(super) request_digest: Vec<u8>,
    time: Monotonic,
    /// Kept encoded, since the decoded message takes several times the memory.
    source: Vec<u8>,
}

impl MadeChange {
    /// The source as the change left it.
    pub(super) fn source(&self) -> pb::Source {
        pb::Source::decode(self.source.as_slice()).unwrap_or_default()
    }
}

impl MadeChanges {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let weight = |key: &ChangeKey, made: &Arc<MadeChange>| {
            let bytes = key.0.len() + key.1.len() + made.source.len() + ENTRY_OVERHEAD;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().weigher(weight).max_capacity(capacity_bytes);
        // A repetition comes soon or never, so recency predicts it better than frequency does.
        Self(cache.eviction_policy(EvictionPolicy::lru()).time_to_live(REPEAT_WINDOW).build())
    }

    /// The change that was made under this key, if it is still remembered.
    pub(super) fn get(&self, key: &ChangeKey, now: Monotonic) -> Option<Arc<MadeChange>> {
        self.0.get(key).filter(|made| now.since(made.time) < REPEAT_WINDOW)
    }

    pub(super) fn insert(&self, key: ChangeKey, request_digest: Vec<u8>, time: Monotonic, source: &pb::Source) {
        self.0.insert(key, Arc::new(MadeChange { request_digest, time, source: source.encode_to_vec() }));
        // Evicts at once, so that the bound does not wait for the cache's next housekeeping.
        self.0.run_pending_tasks();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert!(changes.0.weighted_size() <= 1 << 20, "{}", changes.0.weighted_size());
        }
        let known = |number| changes.get(&key(number), Monotonic::default()).is_some();
        assert_eq!([0, 180, 195, 199].map(known), [false, false, true, true]);
        let last = changes.get(&key(199), Monotonic::default()).unwrap();
        assert_eq!(last.source(), source(100_000));
    }

    #[test]
    fn a_change_is_forgotten_after_ten_minutes() {
        let changes = MadeChanges::new(1 << 20);
        changes.insert(key(1), vec![1], Monotonic::default(), &source(1));
        let known = |seconds| changes.get(&key(1), Monotonic::default() + Duration::from_secs(seconds)).is_some();
        assert_eq!([0, 599, 600].map(known), [true, true, false]);
    }
}
