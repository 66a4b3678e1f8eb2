//! A cache of encoded verdicts for identical requests.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use prost::bytes::Bytes;

use crate::clock::Monotonic;
use crate::convert::verdict::View;
use crate::engine::{Enriched, VerdictKey};

/// What the cache keeps of an entry for itself, and the allocations that the texts of an entry take.
const ENTRY_OVERHEAD: usize = 512;

/// What was asked, and with which view the verdict was encoded.
pub(super) type CacheKey = (VerdictKey, View);

/// Encoded verdicts, bounded by their bytes. Clones share one cache.
#[derive(Clone, Debug)]
pub(super) struct VerdictCache(Cache<CacheKey, Arc<CachedVerdict>>);

impl VerdictCache {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let weight = |(key, _): &CacheKey, verdict: &Arc<CachedVerdict>| {
            let bytes = ENTRY_OVERHEAD + size_of::<CacheKey>() + key.heap_bytes() + verdict.memory_bytes();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().weigher(weight).max_capacity(capacity_bytes).build())
    }

    /// The verdict of this key, if there is one that is valid now.
    pub(super) fn get(&self, key: &CacheKey, now: Monotonic) -> Option<Arc<CachedVerdict>> {
        self.0.get(key).filter(|verdict| now < verdict.until)
    }

    pub(super) fn insert(&self, key: CacheKey, verdict: CachedVerdict) {
        self.0.insert(key, Arc::new(verdict));
    }
}

/// A verdict, encoded once for all callers.
#[derive(Debug)]
pub(super) struct CachedVerdict {
    pub(super) bytes: Bytes,
    pub(super) made: Monotonic,
    pub(super) until: Monotonic,
    /// What later receipts say of each source.
    pub(super) sources: Vec<CachedSource>,
    /// Units that were saved because the verdict was settled.
    pub(super) settled: u32,
}

impl CachedVerdict {
    fn memory_bytes(&self) -> usize {
        let sources = self.sources.iter();
        let sources = sources.map(|source| size_of::<CachedSource>() + source.source.len() + source.note.len());
        size_of::<Self>() + self.bytes.len() + sources.sum::<usize>()
    }
}

/// What later receipts say of one source.
#[derive(Debug)]
pub(super) struct CachedSource {
    pub(super) source: String,
    /// How old its answer was when the verdict was made, if it answered.
    pub(super) age: Option<Duration>,
    pub(super) note: String,
}

impl CachedSource {
    pub(super) fn all_of(enriched: &Enriched) -> Vec<Self> {
        let outcomes = enriched.record.verdict.outcomes.iter();
        let sources = outcomes.map(|outcome| {
            let receipt = enriched.receipts.iter().find(|(source, _)| *source == outcome.source);
            let receipt = receipt.map(|(_, receipt)| receipt);
            Self {
                source: outcome.source.clone(),
                age: receipt.filter(|_| outcome.body.is_answer()).map(|receipt| receipt.age),
                note: receipt.and_then(|receipt| receipt.note.clone()).unwrap_or_default(),
            }
        });
        sources.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::Indicator;

    fn key(number: u8) -> CacheKey {
        let indicator = Indicator::parse(&format!("198.51.100.{number}")).unwrap().indicator;
        (VerdictKey::for_tests(indicator), View::Full)
    }

    fn verdict(bytes: usize) -> CachedVerdict {
        let (made, until) = (Monotonic::default(), Monotonic::default() + Duration::from_secs(60));
        CachedVerdict { bytes: vec![0; bytes].into(), made, until, sources: Vec::new(), settled: 0 }
    }

    #[test]
    fn cached_verdicts_are_bounded_by_their_bytes_not_by_their_number() {
        let cache = VerdictCache::new(16 * 1024);
        for number in 0..100 {
            cache.insert(key(number), verdict(1536));
        }
        cache.0.run_pending_tasks();
        assert!(cache.0.weighted_size() <= 16 * 1024, "{}", cache.0.weighted_size());
        assert_eq!(cache.0.entry_count(), 6, "keys count, too");
        cache.insert(key(200), verdict(1024 * 1024));
        cache.0.run_pending_tasks();
        assert!(cache.get(&key(200), Monotonic::default()).is_none(), "larger than the whole cache");
    }

    #[test]
    fn a_verdict_is_reused_until_it_expires() {
        let cache = VerdictCache::new(16 * 1024);
        let made = Monotonic::default() + Duration::from_secs(100);
        cache.insert(key(1), CachedVerdict { made, until: made + Duration::from_secs(60), ..verdict(10) });
        let is_valid = |second: u64| cache.get(&key(1), Monotonic::default() + Duration::from_secs(second)).is_some();
        assert_eq!([100, 159, 160].map(is_valid), [true, true, false]);
        assert!(cache.get(&key(2), made).is_none());
    }
}
