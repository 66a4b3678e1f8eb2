//! Layer 2, cache: answers are kept so that the same question is not paid twice. Reading stands above `coalesce`;
//! writing ([`keep`]) below it, inside the task, so that a paid call fills the cache though every waiter has left.
//!
//! Expiry is a time in the value, judged by our clock; moka bounds the size only. Errors are never kept. What changes the
//! answer is in the key, what changes its rating is in the value: under another rating kept answers are read again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tower::ServiceExt;

use super::trip::{Concluded, LooksUp, RunsErrands, Site, Step, Talks, Trip, layer};
use super::{Fetched, RawAnswers, Receipt, Request};
use crate::finding::OutcomeBody;
use crate::indicator::Indicator;
use crate::source::{Answer, AnswerBody, Lookup, OptionValue, Reading, TransportKind};

/// By so much a clock is set back in passing.
const CORRECTION: Duration = Duration::from_secs(60);

/// Kept answers of all sources, bounded in bytes; a handle, cheap to clone. Outlives the stacks that use it, so that new
/// settings of a source do not forget what was paid for.
#[derive(Clone)]
pub struct SourceCache {
    entries: moka::sync::Cache<Key, Arc<Kept>>,
}

impl SourceCache {
    /// A cache of at most about `bytes` bytes of answers.
    pub fn new(bytes: u64) -> Self {
        let weigh = |_: &Key, kept: &Arc<Kept>| kept.weight();
        Self { entries: moka::sync::Cache::builder().max_capacity(bytes).weigher(weigh).build() }
    }
}

impl fmt::Debug for SourceCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceCache").field("entries", &self.entries.entry_count()).finish()
    }
}

/// How old the answer is that is kept for a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptAge {
    /// When the source answered.
    pub time: SystemTime,
    /// Time since then.
    pub age: Duration,
}

/// Everything that changes what a source answers; never the credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    scope: Arc<Scope>,
    indicator: Indicator,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Scope {
    source: String,
    kind: String,
    fetch_revision: u32,
    base_url: String,
    tier: String,
}

/// Everything that changes how an answer is rated. Options may change the question too: `conversation` compares.
#[derive(Debug, PartialEq)]
struct Rating {
    revision: u32,
    options: BTreeMap<String, OptionValue>,
}

/// What is kept of a conversation.
#[derive(Debug)]
pub(super) struct Kept {
    /// What came of it; `None`: it did not come to its end, and only its answers are of use.
    body: Option<OutcomeBody>,
    time: SystemTime,
    ttl: Option<Duration>,
    rating: Arc<Rating>,
    steps: Arc<[Step]>,
}

impl Kept {
    /// Questions and answers, in order.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Bytes that it takes: twice the answers, since the finding repeats parts of them, and what surrounds them.
    fn weight(&self) -> u32 {
        let answers: usize = self.steps.iter().map(|step| body_length(&step.answer)).sum();
        u32::try_from(answers.saturating_mul(2).saturating_add(1024)).unwrap_or(u32::MAX)
    }
}

fn body_length(answer: &Answer) -> usize {
    match &answer.body {
        AnswerBody::Http { body, .. } => body.len(),
        AnswerBody::Dns(_) | AnswerBody::List(_) => 64,
    }
}

/// What the cache has for a request.
pub(super) enum Found {
    /// An outcome, as it is.
    Whole(OutcomeBody, Arc<Kept>),
    /// Answers, to be read again.
    Answers(Arc<Kept>),
    /// Nothing fresh enough.
    Nothing,
}

/// One source's part of the cache.
#[derive(Clone)]
pub(super) struct Shelf {
    cache: SourceCache,
    scope: Arc<Scope>,
    rating: Arc<Rating>,
    cache_ttl: crate::source::CacheTtl,
    open: bool,
}

impl Shelf {
    /// The part of this source under its present settings. Lists are at hand anyway: nothing of them is kept.
    pub(super) fn of(site: &Site, cache: SourceCache) -> Self {
        let (about, settings) = (site.source.about(), &site.settings);
        let scope = Scope {
            source: settings.name.clone(),
            kind: settings.kind.clone(),
            fetch_revision: about.fetch_revision,
            base_url: settings.base_url.as_ref().map(ToString::to_string).unwrap_or_default(),
            tier: settings.tier.clone(),
        };
        let rating = Rating { revision: about.rating_revision, options: settings.options.clone() };
        let open = match about.transport {
            TransportKind::Http | TransportKind::Dns => true,
            TransportKind::List => false,
        };
        Self { cache, scope: Arc::new(scope), rating: Arc::new(rating), cache_ttl: settings.cache_ttl, open }
    }

    /// The key of a look-up.
    pub(super) fn key(&self, lookup: &Lookup) -> Key {
        Key { scope: self.scope.clone(), indicator: lookup.indicator.clone() }
    }

    /// What is kept, if it is fresh enough.
    pub(super) fn find(&self, key: &Key, max_age: Option<Duration>, now: SystemTime) -> Found {
        let Some(kept) = self.cache.entries.get(key) else { return Found::Nothing };
        // A clock that is corrected by a little makes answers young. One that stepped back by more tells nothing of their age.
        let ahead = kept.time.duration_since(now).unwrap_or_default();
        let age = now.duration_since(kept.time).unwrap_or_default();
        if ahead > CORRECTION || age >= self.bound(&kept, max_age) {
            return Found::Nothing;
        }
        match &kept.body {
            Some(body) if *kept.rating == *self.rating => Found::Whole(body.clone(), kept),
            Some(_) | None => Found::Answers(kept),
        }
    }

    /// How old what is kept for a look-up is, if its outcome is to be had without a call.
    pub(super) fn age(
        &self,
        site: &Site,
        lookup: &Lookup,
        max_age: Option<Duration>,
        now: SystemTime,
    ) -> Option<KeptAge> {
        let kept = match self.find(&self.key(lookup), max_age, now) {
            Found::Whole(_, kept) => kept,
            Found::Answers(kept) => reread(site, lookup, &kept).map(|_| kept)?,
            Found::Nothing => return None,
        };
        Some(KeptAge { time: kept.time, age: now.duration_since(kept.time).unwrap_or_default() })
    }

    /// The outcome by what is kept alone, read again where the rating changed; `None`: a call would be needed.
    pub(super) fn outcome(
        &self,
        site: &Site,
        lookup: &Lookup,
        max_age: Option<Duration>,
        now: SystemTime,
    ) -> Option<Fetched> {
        match self.find(&self.key(lookup), max_age, now) {
            Found::Whole(body, kept) => Some(from_cache(site, body, &kept, now)),
            Found::Answers(kept) => {
                let body = reread(site, lookup, &kept)?;
                Some(from_cache(site, body, &kept, now))
            }
            Found::Nothing => None,
        }
    }

    fn bound(&self, kept: &Kept, max_age: Option<Duration>) -> Duration {
        let kept_for = match &kept.body {
            Some(OutcomeBody::Finding(_)) => self.cache_ttl.finding,
            Some(OutcomeBody::NoRecord) => self.cache_ttl.no_record,
            Some(OutcomeBody::Error(_) | OutcomeBody::NotAsked(_)) => Duration::ZERO,
            None => self.cache_ttl.finding.min(self.cache_ttl.no_record),
        };
        let by_answer = kept.ttl.unwrap_or(Duration::MAX);
        kept_for.min(by_answer).min(max_age.unwrap_or(Duration::MAX))
    }

    fn put(&self, key: Key, concluded: &Concluded, now: SystemTime) {
        let nothing_kept = self.cache_ttl.finding.is_zero() && self.cache_ttl.no_record.is_zero();
        if !self.open || nothing_kept || concluded.steps.is_empty() {
            return;
        }
        // Half a conversation must not push out a whole one that is still good.
        if !concluded.whole && matches!(self.find(&key, None, now), Found::Whole(..)) {
            return;
        }
        let body = (concluded.whole && concluded.body.is_answer()).then(|| concluded.body.clone());
        let kept = Kept {
            body,
            time: concluded.time_of_answers(),
            ttl: concluded.ttl(),
            rating: self.rating.clone(),
            steps: concluded.steps.clone(),
        };
        self.cache.entries.insert(key, Arc::new(kept));
    }
}

impl Concluded {
    /// When the oldest of the answers was received: what is built on several is no younger than that.
    fn time_of_answers(&self) -> SystemTime {
        self.steps.iter().map(|step| step.answer.received).min().unwrap_or(self.time)
    }
}

/// A request that the cache could not answer, with the answers that may be read again.
#[derive(Clone)]
pub(super) struct Errand {
    pub(super) request: Request,
    pub(super) key: Key,
    pub(super) kept: Option<Arc<Kept>>,
}

/// The read side.
pub(super) fn over<S: RunsErrands>(site: &Arc<Site>, shelf: &Shelf, inner: S) -> impl LooksUp + use<S> {
    let shelf = shelf.clone();
    layer(site, inner, move |site, inner: S, request: Request| {
        let shelf = shelf.clone();
        async move {
            let now = site.clock.now();
            let key = shelf.key(&request.lookup);
            let kept = match shelf.find(&key, request.max_age, now) {
                Found::Whole(body, kept) => return Ok(from_cache(&site, body, &kept, now)),
                Found::Answers(kept) => Some(kept),
                Found::Nothing => None,
            };
            inner.oneshot(Errand { request, key, kept }).await
        }
    })
}

/// The outcome by kept answers alone, under the present rating; `None` where a question would be another by now, since
/// an option changed, or one more is needed.
fn reread(site: &Site, lookup: &Lookup, kept: &Kept) -> Option<OutcomeBody> {
    let mut question = site.source.ask(lookup).ok()?;
    let mut answers = Vec::with_capacity(kept.steps.len());
    for step in kept.steps.iter() {
        if step.question != question {
            return None;
        }
        answers.push(step.answer.clone());
        question = match site.source.read(lookup, &answers).ok()? {
            Reading::Found(finding) => return Some(OutcomeBody::Finding(finding)),
            Reading::NoRecord => return Some(OutcomeBody::NoRecord),
            Reading::More { next, .. } => *next,
        };
    }
    None
}

fn from_cache(site: &Site, body: OutcomeBody, kept: &Kept, now: SystemTime) -> Fetched {
    let age = now.duration_since(kept.time).unwrap_or_default();
    let receipt =
        Receipt { from_cache: true, age, ttl: kept.ttl, answers: RawAnswers::of(&kept.steps), ..Receipt::default() };
    Fetched { outcome: site.outcome(body, kept.time), receipt }
}

/// The write side. It looks once more before it lets a question through: another conversation may have ended between
/// this request's look into the cache and the begin of this one.
pub(super) fn keep<S: Talks>(site: &Arc<Site>, shelf: &Shelf, inner: S) -> impl Talks + use<S> {
    let shelf = shelf.clone();
    layer(site, inner, move |site, inner: S, trip: Trip| {
        let shelf = shelf.clone();
        async move {
            let now = site.clock.now();
            if let Found::Whole(body, kept) = shelf.find(&trip.key, trip.request.max_age, now) {
                let steps = kept.steps.clone();
                return Ok(Concluded { body, time: kept.time, from_cache: true, whole: true, steps });
            }
            let key = trip.key.clone();
            let concluded = inner.oneshot(trip).await?;
            shelf.put(key, &concluded, site.clock.now());
            Ok(concluded)
        }
    })
}
