//! Whole verdicts that are given again to whoever asks the same.

use std::sync::Arc;
use std::time::SystemTime;

use moka::sync::Cache;
use prost::bytes::Bytes;

use crate::convert::verdict::View;
use crate::engine::{Enriched, VerdictKey};

/// What keeping one costs beside its bytes, about.
const PER_VERDICT: usize = 512;

/// What a verdict is kept under: what was asked, and how much of it is shown.
pub(super) type CacheKey = (VerdictKey, View);

/// Kept verdicts, bounded by their bytes. Clones share everything.
#[derive(Clone, Debug)]
pub(super) struct VerdictCache(Cache<CacheKey, Arc<CachedVerdict>>);

impl VerdictCache {
    /// Keeps so many bytes at most.
    pub(super) fn new(bytes: u64) -> Self {
        let weight = |_: &CacheKey, kept: &Arc<CachedVerdict>| {
            u32::try_from(kept.bytes.len().saturating_add(PER_VERDICT)).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().weigher(weight).max_capacity(bytes).build())
    }

    /// The verdict under this key, if there is one that stands now.
    pub(super) fn get(&self, key: &CacheKey, now: SystemTime) -> Option<Arc<CachedVerdict>> {
        self.0.get(key).filter(|kept| kept.stands(now))
    }

    /// Keeps a verdict.
    pub(super) fn insert(&self, key: CacheKey, verdict: CachedVerdict) {
        self.0.insert(key, Arc::new(verdict));
    }
}

/// A verdict as its encoded bytes: cheaper than encoding it anew, and the same for all.
#[derive(Debug)]
pub(super) struct CachedVerdict {
    pub(super) bytes: Bytes,
    pub(super) made: SystemTime,
    pub(super) until: SystemTime,
    /// What later receipts say of each source that was looked at.
    pub(super) sources: Vec<CachedSource>,
}

impl CachedVerdict {
    /// Whether it may be given to others now. A clock that stepped back to before it was made tells nothing of its age.
    fn stands(&self, now: SystemTime) -> bool {
        (self.made..self.until).contains(&now)
    }
}

/// What later receipts say of one source.
#[derive(Debug)]
pub(super) struct CachedSource {
    pub(super) source: String,
    /// When it answered, if it did.
    pub(super) answered: Option<SystemTime>,
    pub(super) note: String,
}

impl CachedSource {
    /// Those of an enrichment.
    pub(super) fn all(enriched: &Enriched) -> Vec<Self> {
        let outcomes = enriched.record.verdict.outcomes.iter();
        let kept = outcomes.map(|outcome| {
            let receipt = enriched.receipts.iter().find(|(source, _)| *source == outcome.source);
            Self {
                source: outcome.source.clone(),
                answered: outcome.body.is_answer().then_some(outcome.time),
                note: receipt.and_then(|(_, receipt)| receipt.note.clone()).unwrap_or_default(),
            }
        });
        kept.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::indicator::Indicator;

    fn key(number: u8) -> CacheKey {
        let indicator = Indicator::parse(&format!("198.51.100.{number}")).unwrap().indicator;
        (VerdictKey::of(indicator), View::Full)
    }

    fn verdict(bytes: usize) -> CachedVerdict {
        let (made, until) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(60));
        CachedVerdict { bytes: vec![0; bytes].into(), made, until, sources: Vec::new() }
    }

    #[test]
    fn kept_verdicts_are_bounded_by_their_bytes_not_by_their_number() {
        let kept = VerdictCache::new(16 * 1024);
        for number in 0..100 {
            kept.insert(key(number), verdict(1536));
        }
        kept.0.run_pending_tasks();
        assert!(kept.0.weighted_size() <= 16 * 1024, "{}", kept.0.weighted_size());
        assert_eq!(kept.0.entry_count(), 8);
        kept.insert(key(200), verdict(1024 * 1024));
        kept.0.run_pending_tasks();
        assert!(kept.get(&key(200), SystemTime::UNIX_EPOCH).is_none(), "larger than all there is room for");
    }

    #[test]
    fn a_verdict_is_given_again_from_when_it_was_made_until_its_time() {
        let kept = VerdictCache::new(16 * 1024);
        let made = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        kept.insert(key(1), CachedVerdict { made, until: made + Duration::from_secs(60), ..verdict(10) });
        let stands = |second: u64| kept.get(&key(1), SystemTime::UNIX_EPOCH + Duration::from_secs(second)).is_some();
        assert_eq!([99, 100, 159, 160].map(stands), [false, true, true, false]);
        assert!(kept.get(&key(2), made).is_none());
    }
}
