//! Raw answers of sources, and cached outcomes, so that a restart does not pay for them again. `fetch` decides what may be
//! used.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::BoxFuture;
use crate::finding::OutcomeBody;

/// A raw answer of a source, stored once per fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawAnswer {
    /// SHA-256 of the body in lower-case hex.
    pub hash: String,
    /// The source that sent it.
    pub source: String,
    /// When it was received.
    pub received: SystemTime,
    /// The body as received.
    pub body: Arc<[u8]>,
}

/// Raw answers, stored compressed. No request waits for them to be written.
pub trait AnswerStore: Send + Sync {
    /// Stores answers. Deduplicated by hash; `source` is the first that sent it.
    fn keep_answers(&self, answers: Vec<RawAnswer>) -> BoxFuture<'_, ()>;
    /// The answer of this hash, if it was not pruned.
    fn answer<'a>(&'a self, hash: &'a str) -> BoxFuture<'a, Option<RawAnswer>>;
    /// Removes answers last received before this time, then the oldest until the rest has at most `max_bytes`
    /// compressed bytes. Returns the number of removed answers.
    fn prune_answers(&self, before: SystemTime, max_bytes: u64) -> BoxFuture<'_, u64>;
}

/// Half of a SHA-256; that of a row: two quarters, of which the first is common to all rows of an indicator.
pub type CacheDigest = [u8; 16];

/// One row of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedRow {
    /// Digest of everything that determines what the source answers.
    pub key: CacheDigest,
    /// Time of the oldest answer.
    pub time: SystemTime,
    /// When the row is of no more use.
    pub expire_time: SystemTime,
    /// A [`CachedConversation`], encoded.
    pub body: Arc<[u8]>,
}

/// Cached answers. No request waits for them to be written.
pub trait AnswerCache: Send + Sync {
    /// Stores the rows, in place of those with the same keys.
    fn put_cached(&self, rows: Vec<CachedRow>) -> BoxFuture<'_, ()>;
    /// The body of the row with this key.
    fn cached(&self, key: CacheDigest) -> BoxFuture<'_, Option<Arc<[u8]>>>;
    /// Deletes the row with this key, if there is one.
    fn delete_cached(&self, key: CacheDigest) -> BoxFuture<'_, ()>;
    /// Removes the rows that are of no more use at this time, and returns their number.
    fn prune_cached(&self, now: SystemTime) -> BoxFuture<'_, u64>;
}

/// A conversation with a source, without its questions and answers. To encode it, a borrowed result is enough.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedConversation<B = OutcomeBody> {
    /// When the timeline of the process began that wrote it.
    pub started: SystemTime,
    /// Digest of everything that determines how the answers are rated.
    pub rating: CacheDigest,
    /// The result, a finding or "no record"; `None` if the conversation was cut short and only its steps can be used.
    pub body: Option<B>,
    /// What the source refused when it was read without a refused question, one bit each; 0 if it was read with all.
    pub refusals: u32,
    /// The questions and answers, in order.
    pub steps: Vec<CachedStep>,
}

/// A question and its answer, each by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedStep {
    /// Digest of the question.
    pub question: CacheDigest,
    /// SHA-256 of the raw answer, under which it is stored.
    pub answer: [u8; 32],
    /// HTTP status; `None` if the answer came by DNS.
    pub status: Option<u16>,
    /// When the answer was received, by the wall clock.
    pub received: SystemTime,
    /// The same on the timeline of the process, which no clock change moves.
    pub time: SystemTime,
    /// How long the answer may be cached, if it states that.
    pub ttl: Option<Duration>,
}
