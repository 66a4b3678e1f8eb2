//! Layer 2, cache: answers are cached, so that the same question is not paid twice. There are two levels: memory,
//! bounded by bytes, and the store (`stored_cache.rs`), so that a restart pays for nothing again. Both hold the same
//! bytes: the outcome and digests of the questions. Raw answers are in the store alone.
//!
//! Age is measured on a timeline that begins with the process and follows the monotonic clock, so that setting the wall
//! clock makes no answer younger. Errors are never cached. The key covers every setting that changes the answer.
//! Settings that only change its rating are in the entry: if they differ, the raw answers are read again.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::task::TaskTracker;

use super::conversation::{ConversationOutcome, least_ttl};
use super::digest::Digest;
use super::lookup::{AnswerHash, AnswerTime};
use super::raw_answers::{RawAnswers, Step};
use super::stored_cache::StoredCache;
use crate::byte_cache::{ByteCache, byte_cache};
use crate::clock::{Clock, Monotonic};
use crate::finding::OutcomeBody;
use crate::indicator::Indicator;
use crate::source::{About, CacheTtl, Lookup, SourceSettings};
use crate::store::{AnswerCache, AnswerStore, CacheDigest, CachedConversation, CachedRow, CachedStep, StoreError};

/// What an entry takes beside its bytes: its place in the cache, which grows by doubling, and the head of its allocation.
const ENTRY_OVERHEAD: usize = 160;
/// Bytes of an entry, by which the cache estimates how many there will be.
const USUAL_ENTRY: u64 = 512;

/// Cached answers of all sources. A handle that is cheap to clone. It outlives the pipelines that use it, so that a
/// change of a source's settings does not discard paid answers.
#[derive(Clone)]
pub struct SourceCache {
    memory: Arc<ByteCache<CacheDigest, Arc<[u8]>>>,
    stored: StoredCache,
    pub(super) raw_answers: RawAnswers,
    /// The origin of the timeline.
    start: AnswerTime,
}

impl SourceCache {
    /// Makes a cache over the rows and raw answers in the store. Its first level is bounded to approximately `bytes` bytes.
    pub fn new(
        bytes: u64,
        rows: Arc<dyn AnswerCache>,
        answers: Arc<dyn AnswerStore>,
        clock: &dyn Clock,
        tracker: TaskTracker,
    ) -> Self {
        let weight = |_: &CacheDigest, body: &Arc<[u8]>| ENTRY_OVERHEAD + body.len();
        Self {
            memory: Arc::new(byte_cache(bytes, USUAL_ENTRY, weight)),
            raw_answers: RawAnswers::new(answers, tracker.clone()),
            stored: StoredCache::new(rows, tracker),
            start: AnswerTime::now(clock),
        }
    }

    /// The raw answer with this hash, also before it is stored; `None` if it was pruned.
    ///
    /// # Errors
    /// If the store cannot read it.
    pub async fn raw_answer(&self, hash: &AnswerHash) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.raw_answers.body(hash).await
    }

    /// The moment on the timeline.
    fn timeline_of(&self, moment: Monotonic) -> SystemTime {
        let (after, before) = (moment.since(self.start.monotonic), self.start.monotonic.since(moment));
        let wall = self.start.wall.checked_add(after).and_then(|wall| wall.checked_sub(before));
        wall.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Reverses [`Self::timeline_of`].
    fn moment_of(&self, time: SystemTime) -> Monotonic {
        match time.duration_since(self.start.wall) {
            Ok(after) => self.start.monotonic + after,
            Err(before) => self.start.monotonic - before.duration(),
        }
    }

    fn encode<B: Borrow<OutcomeBody>>(&self, entry: CacheEntry<B>) -> Arc<[u8]> {
        let step = |step: &Step| CachedStep {
            question: step.question,
            answer: step.hash,
            status: step.status,
            received: step.time.wall,
            time: self.timeline_of(step.time.monotonic),
            ttl: step.ttl,
        };
        let steps = entry.steps.iter().map(step).collect();
        let CacheEntry { rating, body, refusals, .. } = entry;
        CachedConversation { started: self.start.wall, rating, body, refusals, steps }.encode()
    }

    /// Decodes an entry.
    ///
    /// # Errors
    /// If it is damaged, or by its time still to come: the clock of the process that wrote it was wrong or this one's is.
    fn decode(&self, bytes: &[u8], now: Monotonic) -> Result<CacheEntry, String> {
        let CachedConversation { started, rating, body, refusals, steps } =
            CachedConversation::decode(bytes).map_err(|error| error.to_string())?;
        // Another process wrote it before this one began.
        let latest = if started == self.start.wall { self.timeline_of(now) } else { self.start.wall };
        if steps.iter().any(|step| step.time > latest) {
            return Err("its time is still to come".to_owned());
        }
        let step = |step: CachedStep| Step {
            question: step.question,
            hash: step.answer,
            status: step.status,
            time: AnswerTime { wall: step.received, monotonic: self.moment_of(step.time) },
            ttl: step.ttl,
        };
        let steps: Vec<_> = steps.into_iter().map(step).collect();
        CacheEntry::new(body, rating, steps, refusals).ok_or_else(|| "it has no answer".to_owned())
    }

    /// The entry in memory.
    fn find_in_memory(&self, key: CacheDigest, now: Monotonic) -> Option<CacheEntry> {
        self.decode(&self.memory.get(&key)?, now).ok()
    }

    /// The entry in the store, as it was when memory had none.
    async fn find_stored(&self, key: CacheDigest, now: Monotonic) -> Option<CacheEntry> {
        self.decode(&self.stored.load(key).await?, now).ok()
    }

    /// The entry in memory, or else in the store.
    async fn find(&self, key: CacheDigest, now: Monotonic) -> Option<CacheEntry> {
        if let Some(bytes) = self.memory.get(&key) {
            return self.decode(&bytes, now).ok();
        }
        let bytes = self.stored.load(key).await?;
        match self.decode(&bytes, now) {
            Ok(entry) => {
                self.memory.insert(key, bytes);
                Some(entry)
            }
            Err(why) => {
                tracing::warn!(why, "a cached answer in the store cannot be used, so it is deleted");
                self.stored.delete(key);
                None
            }
        }
    }
}

impl fmt::Debug for SourceCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceCache").field("entries", &self.memory.len()).finish()
    }
}

/// What a cached conversation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryKind {
    Finding,
    NoRecord,
    Incomplete,
}

/// A cached conversation, with its outcome or a reference to it.
#[derive(Clone, Debug)]
pub(super) struct CacheEntry<B = OutcomeBody> {
    /// The outcome; `None` if the conversation was cut short and only its steps are reusable.
    body: Option<B>,
    /// Digest of everything that determines how an answer is rated. Options may also change the questions, so
    /// `conversation` compares those.
    rating: CacheDigest,
    kind: EntryKind,
    /// What the source refused when the body was read without a refused question, one bit each.
    pub(super) refusals: u32,
    /// When the source answered. The result of several answers is as old as the oldest of them.
    pub(super) time: AnswerTime,
    pub(super) steps: Vec<Step>,
}

impl<B: Borrow<OutcomeBody>> CacheEntry<B> {
    /// `None` without an answer.
    fn new(body: Option<B>, rating: CacheDigest, steps: Vec<Step>, refusals: u32) -> Option<Self> {
        let time = steps.iter().map(|step| step.time).min_by_key(|time| time.monotonic)?;
        let kind = match body.as_ref().map(Borrow::borrow) {
            Some(OutcomeBody::Finding(_)) => EntryKind::Finding,
            Some(OutcomeBody::NoRecord) => EntryKind::NoRecord,
            Some(OutcomeBody::Error(_) | OutcomeBody::NotAsked(_)) | None => EntryKind::Incomplete,
        };
        Some(Self { body, kind, rating, refusals, time, steps })
    }

    pub(super) fn ttl(&self) -> Option<Duration> {
        least_ttl(&self.steps)
    }
}

/// What the cache holds for a look-up.
pub(super) enum Cached {
    /// An outcome under the current rating.
    Outcome(OutcomeBody, CacheEntry),
    /// Answers that must be read again.
    Answers(CacheEntry),
    /// A finding after its time, with what it says under the current rating; `None` if it must be read again for that.
    Stale(Option<OutcomeBody>, CacheEntry),
    /// Nothing fresh enough.
    Nothing,
}

/// The part of the cache that belongs to one source with its current settings.
#[derive(Clone)]
pub(super) struct SourceCacheView {
    cache: SourceCache,
    /// Everything but the look-up that determines what the source answers. The credential is not part of it.
    scope: CacheDigest,
    rating: CacheDigest,
    ttl: CacheTtl,
    /// Whether look-ups of one indicator may want more or less of the source.
    has_variants: bool,
}

impl SourceCacheView {
    pub(super) fn new(cache: SourceCache, about: &About, settings: &SourceSettings) -> Self {
        let scope = Digest::new()
            .with(&settings.name)
            .with(&settings.kind)
            .with(about.fetch_revision.to_le_bytes())
            .with(settings.base_url.as_ref().map(ToString::to_string).unwrap_or_default())
            .with(&settings.tier);
        let rating = Digest::new().with(about.rating_revision.to_le_bytes());
        let options = settings.options.iter();
        let rating = options.fold(rating, |rating, (name, value)| rating.with(name).with(value.to_json().to_string()));
        Self {
            cache,
            scope: scope.finish(),
            rating: rating.finish(),
            ttl: settings.cache_ttl,
            has_variants: !about.relationships.is_empty(),
        }
    }

    /// Finds the entry of a look-up, if it is fresh enough. Without an outcome that holds under what the source refuses now, adds
    /// the fresh answers that look-ups of the indicator have left which want more or less.
    pub(super) async fn find(
        &self,
        (lookup, key): (&Lookup, CacheDigest),
        max_age: Option<Duration>,
        refusals: u32,
        now: Monotonic,
        first: impl Fn() -> Option<CacheDigest>,
    ) -> Cached {
        if max_age == Some(Duration::ZERO) {
            return Cached::Nothing;
        }
        let entry = self.cache.find(key, now).await;
        let found = entry.map_or(Cached::Nothing, |entry| self.judge(entry, max_age, refusals, now));
        match found {
            Cached::Outcome(..) => found,
            Cached::Answers(_) | Cached::Stale(..) | Cached::Nothing if !self.has_variants => found,
            Cached::Answers(_) | Cached::Stale(..) | Cached::Nothing => {
                self.with_answers_of_variants(found, (lookup, key), max_age, now, first).await
            }
        }
    }

    /// Likewise, without the store and the answers of other look-ups.
    pub(super) fn find_in_memory(
        &self,
        key: CacheDigest,
        max_age: Option<Duration>,
        refusals: u32,
        now: Monotonic,
    ) -> Cached {
        let entry = self.cache.find_in_memory(key, now);
        entry.map_or(Cached::Nothing, |entry| self.judge(entry, max_age, refusals, now))
    }

    fn judge(&self, mut entry: CacheEntry, max_age: Option<Duration>, refusals: u32, now: Monotonic) -> Cached {
        let (age, ttl) = (now.since(entry.time.monotonic), self.ttl(&entry));
        let stale = if entry.kind == EntryKind::Finding { self.ttl.longest_stale() } else { Duration::ZERO };
        // A source whose findings are not cached at all has none that is stale either.
        if max_age.is_some_and(|max_age| age >= max_age) || ttl.is_zero() || age >= ttl.saturating_add(stale) {
            return Cached::Nothing;
        }
        match entry.body.take_if(|_| entry.rating == self.rating) {
            body if age >= ttl => Cached::Stale(body, entry),
            Some(body) if entry.refusals & !refusals == 0 => Cached::Outcome(body, entry),
            Some(_) | None => Cached::Answers(entry),
        }
    }

    async fn with_answers_of_variants(
        &self,
        found: Cached,
        (lookup, key): (&Lookup, CacheDigest),
        max_age: Option<Duration>,
        now: Monotonic,
        first: impl Fn() -> Option<CacheDigest>,
    ) -> Cached {
        let own = match &found {
            Cached::Answers(entry) => &entry.steps[..],
            Cached::Stale(..) | Cached::Outcome(..) | Cached::Nothing => &[],
        };
        let mut steps = own.to_vec();
        let base = lookup.base().map(|base| self.key(&base));
        let of_base = async {
            match base {
                Some(base) => self.cache.find(base, now).await,
                None => None,
            }
        };
        let (shared, base) = tokio::join!(self.cache.find(shared_key(base.unwrap_or(key)), now), of_base);
        for entry in [shared, base].into_iter().flatten() {
            self.add_fresh(&mut steps, entry, max_age, now);
        }
        // Without the answer to the first question, the others are as old as that, which nobody knows.
        let answers = |question: Option<CacheDigest>| steps.iter().any(|step| Some(step.question) == question);
        if steps.len() == own.len() || !answers(first()) {
            return found;
        }
        CacheEntry::new(None, self.rating, steps, 0).map_or(found, Cached::Answers)
    }

    /// Adds the steps of an entry that are fresh enough, each question once.
    fn add_fresh(&self, steps: &mut Vec<Step>, entry: CacheEntry, max_age: Option<Duration>, now: Monotonic) {
        let ttl = self.ttl_of(entry.kind).min(max_age.unwrap_or(Duration::MAX));
        for step in entry.steps {
            let is_fresh = now.since(step.time.monotonic) < step.ttl.map_or(ttl, |own| own.min(ttl));
            if is_fresh && !steps.iter().any(|known| known.question == step.question) {
                steps.push(step);
            }
        }
    }

    /// Caches the result of a conversation. What has to be read from the store for it runs in a task of `tracker`.
    pub(super) fn insert(
        &self,
        (lookup, key): (&Lookup, CacheDigest),
        outcome: &ConversationOutcome,
        now: Monotonic,
        tracker: &TaskTracker,
    ) {
        // What was paid for pages or for a graph, or before a question failed, is not paid again by a look-up that wants more or less.
        let base = lookup.base();
        let is_of_use = base.is_some() || !outcome.complete;
        if self.has_variants && is_of_use && outcome.body.is_answer() {
            let key = shared_key(base.map_or(key, |base| self.key(&base)));
            let shared = |known: Option<CacheEntry>| {
                let mut steps = outcome.steps.clone();
                if let Some(entry) = known {
                    self.add_fresh(&mut steps, entry, None, now);
                }
                CacheEntry::new(Some(outcome.body.clone()), self.rating, steps, 0)
            };
            match self.cache.find_in_memory(key, now) {
                Some(known) => self.put(key, lookup, shared(Some(known))),
                // The store may have more, and nobody waits for it.
                None => {
                    let (Some(entry), view, lookup) = (shared(None), self.clone(), lookup.clone()) else { return };
                    self.cache.memory.insert(key, self.cache.encode(entry.clone()));
                    tracker.spawn(async move {
                        let mut steps = entry.steps.clone();
                        if let Some(stored) = view.cache.find_stored(key, now).await {
                            view.add_fresh(&mut steps, stored, None, now);
                        }
                        view.put(key, &lookup, CacheEntry::new(entry.body, view.rating, steps, 0));
                    });
                }
            }
        }
        // An incomplete conversation must not replace a complete one that is fresh, or a finding that can stand in for a failure.
        let known = || self.find_in_memory(key, None, u32::MAX, now);
        if !outcome.complete && matches!(known(), Cached::Outcome(..) | Cached::Stale(..)) {
            return;
        }
        let body = (outcome.complete && outcome.body.is_answer()).then_some(&outcome.body);
        let entry = CacheEntry::new(body, self.rating, outcome.steps.clone(), outcome.refusals);
        self.put(key, lookup, entry);
    }

    fn put<B: Borrow<OutcomeBody>>(&self, key: CacheDigest, lookup: &Lookup, entry: Option<CacheEntry<B>>) {
        let Some(entry) = entry.filter(|entry| !self.ttl(entry).is_zero()) else { return };
        let time = self.cache.timeline_of(entry.time.monotonic);
        let stale = if entry.kind == EntryKind::Finding { self.ttl.longest_stale() } else { Duration::ZERO };
        let expire_time = time.checked_add(self.ttl(&entry).saturating_add(stale)).unwrap_or(time);
        let bytes = self.cache.encode(entry);
        self.cache.memory.insert(key, bytes.clone());
        // A digest of a password could be found by trying, so such a look-up is not stored.
        if lookup.indicator.has_url_credentials() {
            return;
        }
        self.cache.stored.put(CachedRow { key, time, expire_time, body: bytes });
    }

    /// The key of a look-up.
    pub(super) fn key(&self, Lookup { indicator, relations, first_only }: &Lookup) -> CacheDigest {
        let key = Digest::new().with(self.scope).with(indicator.form().as_str()).with(indicator.value());
        let key = key.with(relations.max_calls.to_le_bytes());
        let key = if *first_only { key.with("first_only") } else { key };
        let key = relations.paged.iter().fold(key, |key, name| key.with("paged").with(name));
        beside_others_of(indicator, relations.names.iter().fold(key, |key, name| key.with(name)).finish())
    }

    /// Whether a stale finding may be used while the source is asked again in the background.
    pub(super) fn may_revalidate(&self, entry: &CacheEntry, now: Monotonic) -> bool {
        let end = self.ttl(entry).saturating_add(self.ttl.stale_while_revalidate);
        now.since(entry.time.monotonic) < end
    }

    /// Whether a stale finding may be used now, since the source failed or was not asked.
    pub(super) fn may_replace_error(&self, entry: &CacheEntry, max_age: Option<Duration>, now: Monotonic) -> bool {
        let end = self.ttl(entry).saturating_add(self.ttl.stale_if_error);
        now.since(entry.time.monotonic) < end.min(max_age.unwrap_or(Duration::MAX))
    }

    /// How long the entry is fresh.
    fn ttl<B: Borrow<OutcomeBody>>(&self, entry: &CacheEntry<B>) -> Duration {
        let by_settings = self.ttl_of(entry.kind);
        entry.ttl().map_or(by_settings, |ttl| ttl.min(by_settings))
    }

    fn ttl_of(&self, kind: EntryKind) -> Duration {
        let CacheTtl { finding, no_record, .. } = self.ttl;
        match kind {
            EntryKind::Finding => finding,
            EntryKind::NoRecord => no_record,
            EntryKind::Incomplete => finding.min(no_record),
        }
    }
}

/// The key of the answers that all look-ups share which begin with the same question as the one with this key. It begins as all of
/// the indicator do.
fn shared_key(base: CacheDigest) -> CacheDigest {
    let mut key = Digest::new().with(base).with("answers").finish();
    copy_half(&mut key, &base);
    key
}

/// The key with a beginning that all keys of the indicator have. What a look-up in all sources reads and writes then lies side by
/// side in the store.
fn beside_others_of(indicator: &Indicator, mut key: CacheDigest) -> CacheDigest {
    let common = Digest::new().with(indicator.form().as_str()).with(indicator.value()).finish();
    copy_half(&mut key, &common);
    key
}

fn copy_half(key: &mut CacheDigest, from: &CacheDigest) {
    let half = key.len() / 2;
    key[..half].copy_from_slice(&from[..half]);
}
