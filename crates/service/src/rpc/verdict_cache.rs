//! A cache of encoded verdicts for identical requests, and the receipts of those who get them.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use prost::bytes::Bytes;
use prost::encoding::{self, WireType};

use super::plan::settled_units;
use crate::byte_cache::{ByteCache, byte_cache};
use crate::clock::Monotonic;
use crate::convert::verdict::{View, source_name};
use crate::convert::write_duration;
use crate::engine::{Engine, Enriched, VerdictKey};
use crate::fetch::SourceCounters;
use crate::pb;

/// What the cache keeps of an entry for itself, and the allocations that the texts of an entry take.
const ENTRY_OVERHEAD: usize = 384;
/// Bytes of an entry, by which the cache estimates how many there will be.
const USUAL_ENTRY: u64 = 4096;
/// The field `sources` of a receipt, and `age` of one of them.
const SOURCES_TAG: u32 = 4;
const AGE_TAG: u32 = 5;
/// Room for the longest age: its two numbers, and what stands before them.
const AGE_BYTES: usize = 24;
/// Room for the fields of one source that differ from call to call, and for what stands before it.
const VARYING_BYTES: usize = AGE_BYTES + 24;

/// What was asked, and with which view the verdict was encoded.
pub(super) type CacheKey = (VerdictKey, View);

/// Encoded verdicts, bounded by their bytes. Clones share one cache.
#[derive(Clone, Debug)]
pub(super) struct VerdictCache(Arc<ByteCache<CacheKey, Arc<CachedVerdict>>>);

impl VerdictCache {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let weight = |(key, _): &CacheKey, verdict: &Arc<CachedVerdict>| {
            ENTRY_OVERHEAD + size_of::<CacheKey>() + key.heap_bytes() + verdict.memory_bytes()
        };
        Self(Arc::new(byte_cache(capacity_bytes, USUAL_ENTRY, weight)))
    }

    /// The verdict of this key, if there is one that is valid now.
    pub(super) fn get(&self, key: &CacheKey, now: Monotonic) -> Option<Arc<CachedVerdict>> {
        self.0.get(key).filter(|verdict| now < verdict.until)
    }

    pub(super) fn insert(&self, key: CacheKey, verdict: Arc<CachedVerdict>) {
        self.0.insert(key, verdict);
    }
}

/// A verdict, encoded once for all callers.
#[derive(Debug)]
pub(super) struct CachedVerdict {
    pub(super) bytes: Bytes,
    made: Monotonic,
    until: Monotonic,
    /// What later receipts say of each source.
    sources: Vec<CachedSource>,
    /// Units that were saved because the verdict was settled.
    settled: u32,
}

/// How a request comes by a verdict that was made for another one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reuse {
    /// It was cached.
    Cached,
    /// It was being made, and this is how long the request waited for it.
    Shared(Duration),
}

impl CachedVerdict {
    /// The verdict of this enrichment, which is valid from now until then.
    pub(super) fn new(engine: &Engine, enriched: &Enriched, bytes: Bytes, now: Monotonic, until: Monotonic) -> Self {
        let verdict = &enriched.record.verdict;
        let source = |outcome: &crate::finding::Outcome| {
            let receipt = enriched.receipts.iter().find(|(source, _)| *source == outcome.source);
            let receipt = receipt.map(|(_, receipt)| receipt);
            let note = receipt.and_then(|receipt| receipt.note.clone()).unwrap_or_default();
            let fixed = pb::SourceReceipt { source: source_name(&outcome.source), note, ..Default::default() };
            CachedSource {
                counters: engine.counters(&outcome.source),
                age: receipt.filter(|_| outcome.body.is_answer()).map(|receipt| whole_millis(receipt.age)),
                fixed: fixed.encode_to_vec().into(),
            }
        };
        let sources = verdict.outcomes.iter().map(|outcome| source(outcome)).collect();
        Self { bytes, made: now, until, sources, settled: settled_units(verdict) }
    }

    /// Counts the sources as saved a look-up, and encodes the receipt of a request that this verdict answers now. `receipt` has
    /// everything but the sources.
    pub(super) fn write_receipt(&self, mut receipt: pb::Receipt, now: Monotonic, reuse: Reuse) -> Bytes {
        let answered = self.sources.iter().filter(|source| source.age.is_some()).count();
        let answered = u32::try_from(answered).unwrap_or(u32::MAX);
        let (cached, shared, latency) = match reuse {
            Reuse::Cached => (answered, 0, Duration::ZERO),
            Reuse::Shared(latency) => (0, answered, latency),
        };
        receipt.verdict_from_cache = true;
        receipt.saved = Some(pb::SavedUnits { cached, shared, settled: self.settled });
        let since = now.since(self.made);
        let of_sources = self.sources.iter().map(|source| source.fixed.len() + VARYING_BYTES).sum::<usize>();
        let mut bytes = Vec::with_capacity(receipt.encoded_len() + of_sources);
        receipt.encode_raw(&mut bytes);
        // What a source without an answer has in common with the others, and what one with an answer has.
        let unanswered = pb::SourceReceipt { latency: Some(write_duration(latency)), ..Default::default() };
        let (from_cache, shared) = (matches!(reuse, Reuse::Cached), matches!(reuse, Reuse::Shared(_)));
        let answered = pb::SourceReceipt { from_cache, shared, ..unanswered.clone() }.encode_to_vec();
        let unanswered = unanswered.encode_to_vec();
        // Answers that came together are equally old, and their age is encoded once.
        let (mut encoded, mut age) = (None, Vec::with_capacity(AGE_BYTES));
        for source in &self.sources {
            let common = if source.age.is_some() { &answered } else { &unanswered };
            if source.age != encoded {
                age.clear();
                if let Some(before) = source.age {
                    encoding::message::encode(AGE_TAG, &write_duration(before + since), &mut age);
                }
                encoded = source.age;
            }
            match reuse {
                _ if source.age.is_none() => {}
                Reuse::Cached => source.counters.count_cached(),
                Reuse::Shared(_) => source.counters.count_shared(),
            }
            // One message, in parts: the order of fields does not matter.
            encoding::encode_key(SOURCES_TAG, WireType::LengthDelimited, &mut bytes);
            encoding::encode_varint((source.fixed.len() + common.len() + age.len()) as u64, &mut bytes);
            bytes.extend_from_slice(&source.fixed);
            bytes.extend_from_slice(common);
            bytes.extend_from_slice(&age);
        }
        bytes.into()
    }

    fn memory_bytes(&self) -> usize {
        let sources = self.sources.iter().map(|source| size_of::<CachedSource>() + source.fixed.len());
        size_of::<Self>() + self.bytes.len() + sources.sum::<usize>()
    }
}

/// What later receipts say of one source.
#[derive(Debug)]
struct CachedSource {
    counters: Arc<SourceCounters>,
    /// How old its answer was when the verdict was made, in whole milliseconds, if it answered.
    age: Option<Duration>,
    /// The fields of its receipt that are the same for every request, encoded.
    fixed: Box<[u8]>,
}

fn whole_millis(age: Duration) -> Duration {
    age - Duration::from_nanos(u64::from(age.subsec_nanos() % 1_000_000))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::indicator::Indicator;

    pub(in crate::rpc) fn key(number: u8) -> CacheKey {
        let indicator = Indicator::parse(&format!("198.51.100.{number}")).unwrap().indicator;
        (VerdictKey::for_tests(indicator), View::Full)
    }

    pub(in crate::rpc) fn verdict(bytes: usize) -> CachedVerdict {
        let (made, until) = (Monotonic::default(), Monotonic::default() + Duration::from_secs(60));
        CachedVerdict { bytes: vec![0; bytes].into(), made, until, sources: Vec::new(), settled: 0 }
    }

    #[test]
    fn cached_verdicts_are_bounded_by_their_bytes_not_by_their_number() {
        let cache = VerdictCache::new(16 * 1024);
        for number in 0..100 {
            cache.insert(key(number), verdict(1536).into());
        }
        assert!(cache.0.weight() <= 16 * 1024, "{}", cache.0.weight());
        assert_eq!(cache.0.len(), 7, "keys count, too");
        cache.insert(key(200), verdict(1024 * 1024).into());
        assert!(cache.get(&key(200), Monotonic::default()).is_none(), "larger than the whole cache");
    }

    #[test]
    fn a_verdict_is_reused_until_it_expires() {
        let cache = VerdictCache::new(16 * 1024);
        let made = Monotonic::default() + Duration::from_secs(100);
        let cached = CachedVerdict { made, until: made + Duration::from_secs(60), ..verdict(10) };
        cache.insert(key(1), cached.into());
        let is_valid = |second: u64| cache.get(&key(1), Monotonic::default() + Duration::from_secs(second)).is_some();
        assert_eq!([100, 159, 160].map(is_valid), [true, true, false]);
        assert!(cache.get(&key(2), made).is_none());
    }

    #[test]
    fn a_receipt_says_of_each_source_whether_it_was_cached_or_shared_and_how_old_its_answer_is() {
        let second = Duration::from_secs(1);
        let source = |name: &str, age: Option<Duration>| {
            let fixed = pb::SourceReceipt { source: name.into(), note: "a note".into(), ..Default::default() };
            CachedSource { counters: Arc::default(), age, fixed: fixed.encode_to_vec().into() }
        };
        let ages = [("sources/a", Some(2 * second)), ("sources/b", None), ("sources/c", Some(2 * second))];
        let ages = ages.into_iter().chain([("sources/d", Some(second))]);
        let sources = ages.map(|(name, age)| source(name, age)).collect();
        let cached = CachedVerdict { sources, settled: 1, ..verdict(10) };
        let receipt = pb::Receipt { request_id: "id".into(), text: "text".into(), units: 3, ..Default::default() };
        let written = |reuse| {
            let bytes = cached.write_receipt(receipt.clone(), cached.made + 5 * second, reuse);
            pb::Receipt::decode(bytes).unwrap()
        };
        let expected = |latency: Duration, answered: pb::SourceReceipt, saved: pb::SavedUnits| {
            let latency = Some(write_duration(latency));
            let common = pb::SourceReceipt { note: "a note".into(), latency, ..Default::default() };
            let pb::SourceReceipt { from_cache, shared, .. } = answered;
            let answer = |source: &str, age| {
                let age = Some(write_duration(age));
                pb::SourceReceipt { source: source.into(), age, from_cache, shared, ..common.clone() }
            };
            let silent = pb::SourceReceipt { source: "sources/b".into(), ..common.clone() };
            let (a, c) = (answer("sources/a", 7 * second), answer("sources/c", 7 * second));
            let saved = Some(pb::SavedUnits { settled: 1, ..saved });
            let sources = vec![a, silent, c, answer("sources/d", 6 * second)];
            pb::Receipt { sources, verdict_from_cache: true, saved, ..receipt.clone() }
        };
        let from_cache = pb::SourceReceipt { from_cache: true, ..Default::default() };
        let all_cached = pb::SavedUnits { cached: 3, ..Default::default() };
        assert_eq!(written(Reuse::Cached), expected(Duration::ZERO, from_cache, all_cached));
        let shared = pb::SourceReceipt { shared: true, ..Default::default() };
        let all_shared = pb::SavedUnits { shared: 3, ..Default::default() };
        assert_eq!(written(Reuse::Shared(second)), expected(second, shared, all_shared));
        let counted = cached.sources.iter().map(|source| source.counters.snapshot());
        assert_eq!(
            counted.map(|count| (count.cache_hits, count.shared)).collect::<Vec<_>>(),
            [(1, 1), (0, 0), (1, 1), (1, 1)]
        );
    }
}
