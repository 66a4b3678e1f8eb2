//! Layer 2, cache: answers are cached, so that the same question is not paid twice.
//!
//! Expiry is decided by our own clock; moka only bounds the size. Errors are never cached. The key holds every setting
//! that changes the answer. Settings that only change its rating are in the entry: if they differ, the cached answers
//! are read again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::conversation::{ConversationOutcome, least_ttl};
use super::lookup::AnswerTime;
use super::raw_answers::Step;
use crate::clock::Monotonic;
use crate::finding::{Finding, OutcomeBody};
use crate::source::{About, CacheTtl, Lookup, OptionValue, SourceSettings};

/// What the cache keeps of an entry for itself: its place in the table, its order of use and its frequency.
const CACHE_OVERHEAD: usize = 320;

/// Cached answers of all sources, bounded in bytes. A handle that is cheap to clone. It outlives the pipelines that use
/// it, so that a change of a source's settings does not discard paid answers.
#[derive(Clone)]
pub struct SourceCache {
    entries: moka::sync::Cache<Key, Arc<CacheEntry>>,
}

impl SourceCache {
    /// Makes a cache that is bounded to approximately `bytes` bytes.
    pub fn new(bytes: u64) -> Self {
        let weigh = |(_, lookup): &Key, entry: &Arc<CacheEntry>| entry.weight(lookup);
        Self { entries: moka::sync::Cache::builder().max_capacity(bytes).weigher(weigh).build() }
    }
}

impl fmt::Debug for SourceCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceCache").field("entries", &self.entries.entry_count()).finish()
    }
}

/// Everything that determines what a source answers. The credential is not part of it.
type Key = (Arc<Scope>, Lookup);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Scope {
    source: String,
    kind: String,
    fetch_revision: u32,
    base_url: String,
    tier: String,
}

/// Everything that determines how an answer is rated. Options may also change the questions, so `conversation` compares
/// those.
#[derive(Debug, PartialEq)]
struct Rating {
    revision: u32,
    options: BTreeMap<String, OptionValue>,
}

/// A cached conversation.
#[derive(Debug)]
pub(super) struct CacheEntry {
    /// The outcome; `None` if the conversation was cut short and only its steps are reusable.
    body: Option<OutcomeBody>,
    rating: Arc<Rating>,
    pub(super) time: AnswerTime,
    pub(super) steps: Arc<[Step]>,
}

impl CacheEntry {
    pub(super) fn ttl(&self) -> Option<Duration> {
        least_ttl(&self.steps)
    }

    /// Bytes that it takes with its key, about.
    fn weight(&self, lookup: &Lookup) -> u32 {
        let names: usize = lookup.relations.names.iter().map(|name| size_of::<String>() + name.len()).sum();
        let key = size_of::<Key>() + lookup.indicator.value().len() + names;
        let finding = self.body.as_ref().and_then(OutcomeBody::finding).map_or(0, Finding::heap_bytes);
        let steps: usize = self.steps.iter().map(Step::bytes).sum();
        let bytes = CACHE_OVERHEAD + key + size_of::<Self>() + finding + steps;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// What the cache holds for a look-up.
pub(super) enum Cached {
    /// An outcome under the current rating.
    Outcome(OutcomeBody, Arc<CacheEntry>),
    /// Answers that must be read again.
    Answers(Arc<CacheEntry>),
    /// Nothing fresh enough.
    Nothing,
}

/// The part of the cache that belongs to one source with its current settings.
pub(super) struct SourceCacheView {
    cache: SourceCache,
    scope: Arc<Scope>,
    rating: Arc<Rating>,
    ttl: CacheTtl,
}

impl SourceCacheView {
    pub(super) fn new(cache: SourceCache, about: &About, settings: &SourceSettings) -> Self {
        let scope = Scope {
            source: settings.name.clone(),
            kind: settings.kind.clone(),
            fetch_revision: about.fetch_revision,
            base_url: settings.base_url.as_ref().map(ToString::to_string).unwrap_or_default(),
            tier: settings.tier.clone(),
        };
        let rating = Rating { revision: about.rating_revision, options: settings.options.clone() };
        Self { cache, scope: Arc::new(scope), rating: Arc::new(rating), ttl: settings.cache_ttl }
    }

    /// Finds the entry of a look-up, if it is fresh enough.
    pub(super) fn find(&self, lookup: &Lookup, max_age: Option<Duration>, now: Monotonic) -> Cached {
        let Some(entry) = self.cache.entries.get(&self.key(lookup)) else { return Cached::Nothing };
        let max_age = max_age.unwrap_or(Duration::MAX).min(entry.ttl().unwrap_or(Duration::MAX));
        if now.since(entry.time.monotonic) >= self.ttl(entry.body.as_ref()).min(max_age) {
            return Cached::Nothing;
        }
        match &entry.body {
            Some(body) if *entry.rating == *self.rating => Cached::Outcome(body.clone(), entry),
            Some(_) | None => Cached::Answers(entry),
        }
    }

    /// Caches the result of a conversation.
    pub(super) fn insert(&self, lookup: &Lookup, outcome: &ConversationOutcome, now: Monotonic) {
        let nothing_cached = self.ttl.finding.is_zero() && self.ttl.no_record.is_zero();
        // The result of several answers is as old as the oldest of them.
        let Some(oldest) = outcome.steps.iter().min_by_key(|step| step.received).filter(|_| !nothing_cached) else {
            return;
        };
        // An incomplete conversation must not replace a complete one that is still fresh.
        if !outcome.complete && matches!(self.find(lookup, None, now), Cached::Outcome(..)) {
            return;
        }
        let entry = CacheEntry {
            body: (outcome.complete && outcome.body.is_answer()).then(|| outcome.body.clone()),
            rating: self.rating.clone(),
            time: AnswerTime { wall: oldest.answer.received, monotonic: oldest.received },
            steps: outcome.steps.clone(),
        };
        self.cache.entries.insert(self.key(lookup), Arc::new(entry));
    }

    fn key(&self, lookup: &Lookup) -> Key {
        (self.scope.clone(), lookup.clone())
    }

    fn ttl(&self, body: Option<&OutcomeBody>) -> Duration {
        match body {
            Some(body) => self.ttl.for_body(body).unwrap_or_default(),
            None => self.ttl.finding.min(self.ttl.no_record),
        }
    }
}
