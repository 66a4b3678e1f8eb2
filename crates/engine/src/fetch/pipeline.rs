//! Composes the layers. [`RemotePipeline::look_up`] reads from top to bottom in the order in which a question passes
//! them, with the reason for each position. The tests in `tests/it/fetch` check the order.

use std::fmt;
use std::future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::account::AccountState;
use super::acquirer::UnitAcquirer;
use super::allowance::AllowanceReader;
use super::attempt::{self, AttemptError};
use super::cache::{CacheEntry, Cached, SourceCache, SourceCacheView};
use super::coalesce::InFlight;
use super::conversation::{Conversation, ConversationOutcome};
use super::digest::of_question;
use super::disclosure::{DisclosureLog, host_of};
use super::dns::DnsTransport;
use super::fair_queue::Claim;
use super::guards::SourceGuards;
use super::http::HttpTransport;
use super::lookup::{AnswerTime, Fetched, LookupRequest, Receipt, outcome};
use super::observe::{self, SourceCounters};
use super::quota::Quota;
use super::raw_answers::{RawAnswers, Step, hashes};
use super::read::read_probe;
use super::retry::with_retries;
use super::transport::Transport;
use super::waiters::{DisclosureEntry, Waiters};
use crate::clock::{Clock, Monotonic};
use crate::finding::{Family, Finding, NotAsked, OutcomeBody, SourceError, SourceErrorKind};
use crate::indicator::Indicator;
use crate::source::{
    Answer, EgressRules, Lookup, Priority, Probe, Purpose, Question, Source, SourceSettings, TransportKind,
};
use crate::store::{CacheDigest, Ledger};

/// Maximum of questions in one probe, since each may cost a unit. Further ones are left out.
const MAX_PROBE_QUESTIONS: usize = 6;

/// Maximum of stale findings of one source that are asked again in the background at a time.
const MAX_REVALIDATIONS: usize = 64;

/// The parts of a [`RemotePipeline`].
#[derive(Clone)]
pub struct PipelineParts {
    /// The source.
    pub source: Arc<dyn Source>,
    /// The settings. Each version of the settings has its own pipeline.
    pub settings: Arc<SourceSettings>,
    /// The family of the source: all sources of a family count as one opinion.
    pub family: Family,
    /// Identifies the account whose quota is spent, without revealing the credential.
    pub account: String,
    /// The suspension of the account, shared by all its pipelines.
    pub account_state: Arc<AccountState>,
    /// Circuit breaker, concurrency limit and retry budget of the source, shared by all its pipelines.
    pub guards: Arc<SourceGuards>,
    /// Sends the questions.
    pub transport: Arc<dyn Transport>,
    /// Why nobody may be asked about an indicator. Checked again before each call: a rule may have been made while the call waited.
    pub withhold: Arc<Withhold>,
    /// Records quota and disclosures.
    pub ledger: Arc<dyn Ledger>,
    /// Acquires quota units, for all pipelines.
    pub acquirer: Arc<UnitAcquirer>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Cached answers, shared by all sources.
    pub cache: SourceCache,
    /// Tracks conversations, so that a shutdown waits for them.
    pub tracker: TaskTracker,
    /// Counts the use of the source.
    pub counters: Arc<SourceCounters>,
}

/// Why an indicator must not be disclosed, if a rule forbids it now.
pub type Withhold = dyn Fn(&Indicator) -> Option<NotAsked> + Send + Sync;

/// The pipeline to a remote source.
pub struct RemotePipeline {
    source: Arc<dyn Source>,
    settings: Arc<SourceSettings>,
    family: Family,
    pub(super) clock: Arc<dyn Clock>,
    counters: Arc<SourceCounters>,
    cache: SourceCacheView,
    in_flight: InFlight,
    /// Places for look-ups that are asked again in the background.
    revalidations: Arc<Semaphore>,
    raw_answers: RawAnswers,
    pub(super) guards: Arc<SourceGuards>,
    pub(super) account: Arc<AccountState>,
    pub(super) quota: Quota,
    allowance: Arc<AllowanceReader>,
    disclosures: DisclosureLog,
    transport: Arc<dyn Transport>,
    withhold: Arc<Withhold>,
}

impl RemotePipeline {
    /// Builds the pipeline. Opens no connection.
    pub fn new(parts: PipelineParts) -> Self {
        let PipelineParts { source, settings, family, account_state, transport, clock, tracker, counters, .. } = parts;
        let (name, ledger) = (settings.name.clone(), parts.ledger);
        let disclosures = DisclosureLog { source: name.clone(), ledger: ledger.clone(), clock: clock.clone() };
        Self {
            raw_answers: parts.cache.raw_answers.clone(),
            cache: SourceCacheView::new(parts.cache, source.about(), &settings),
            in_flight: InFlight {
                running: Default::default(),
                clock: clock.clone(),
                tracker: tracker.clone(),
                disclosures: disclosures.clone(),
                start_window: settings.timeout.saturating_mul(2),
            },
            revalidations: Arc::new(Semaphore::new(MAX_REVALIDATIONS)),
            guards: parts.guards,
            allowance: Arc::new(AllowanceReader {
                source: source.clone(),
                settings: settings.clone(),
                account: parts.account.clone(),
                state: account_state.clone(),
                transport: transport.clone(),
                ledger: ledger.clone(),
                clock: clock.clone(),
                tracker,
                counters: counters.clone(),
            }),
            quota: Quota {
                source: name.clone(),
                account: parts.account,
                state: account_state.clone(),
                windows: settings.quota.clone(),
                zone: settings.quota_zone.clone(),
                reserve: settings.quota_reserve,
                is_paced: settings.quota_pacing,
                acquirer: parts.acquirer,
                ledger,
                clock: clock.clone(),
                counters: counters.clone(),
            },
            account: account_state,
            disclosures,
            transport,
            withhold: parts.withhold,
            source,
            settings,
            family,
            clock,
            counters,
        }
    }

    /// Layers 1 to 3: the part of a look-up that runs for each caller.
    pub(super) async fn look_up(self: &Arc<Self>, request: LookupRequest) -> Fetched {
        // 1. Observe. Outermost, so that it counts cache hits and refusals too.
        observe::measured(
            &self.counters,
            &*self.clock,
            Box::pin(async {
                // 2. Cache, read side. First, so that the inner layers only see look-ups that need a call or a new reading.
                let (now, key) = (self.clock.monotonic(), self.cache.key(&request.lookup));
                let (mut steps, mut stale) = (None, None);
                match self.find_cached((&request.lookup, key), request.max_age, now).await {
                    Cached::Outcome(body, entry) => return self.fetched_from_cache(body, &entry, now),
                    Cached::Answers(entry) => steps = Some(entry.steps),
                    Cached::Stale(body, entry) => stale = self.stale_finding(&request.lookup, body, entry).await,
                    Cached::Nothing => {}
                }
                if let Some((finding, entry)) = &stale
                    && self.cache.may_revalidate(entry, now)
                {
                    self.revalidate(&request, key);
                    let receipt = Receipt::default();
                    return self.fetched_stale(finding.clone(), entry, receipt, "it is asked again in the background");
                }
                let (outcome, mut receipt) = self.ask(&request, key, steps).await;
                // An old finding that says so is worth more than none.
                if outcome.body.leaves_verdict_partial()
                    && let Some((finding, entry)) = stale
                    && self.cache.may_replace_error(&entry, request.max_age, self.clock.monotonic())
                {
                    receipt.cut_short |= matches!(outcome.body, OutcomeBody::NotAsked(_));
                    return self.fetched_stale(finding, &entry, receipt, &why_stale(&outcome.body));
                }
                let ConversationOutcome { body, time, .. } = Arc::unwrap_or_clone(outcome);
                self.fetched(body, time.wall, receipt)
            }),
        )
        .await
    }

    /// Layer 3, coalesce: inside the cache, so that hits take no lock, and outside everything that costs time or money. The
    /// inner layers go on if the look-up is dropped.
    async fn ask(
        self: &Arc<Self>,
        request: &LookupRequest,
        key: CacheDigest,
        steps: Option<Vec<Step>>,
    ) -> (Arc<ConversationOutcome>, Receipt) {
        // One that is under way without cached answers pays for no question twice.
        let is_joined = request.max_age.is_none() && self.in_flight.is_running(&request.lookup);
        let steps = steps.filter(|_| !is_joined);
        let (pipeline, asked, rereads) = (self.clone(), request.clone(), steps.is_some());
        let conversation = |waiters: Arc<Waiters>| async move { pipeline.converse(&asked, key, steps, &waiters).await };
        self.in_flight.share(request, rereads, conversation).await
    }

    /// Asks the source again in the background, unless it is being asked already.
    fn revalidate(self: &Arc<Self>, request: &LookupRequest, key: CacheDigest) {
        // What is spent in the background would be missing from the receipt of a request that allows only so many units.
        if request.max_units.is_some() || self.in_flight.is_running(&request.lookup) {
            return;
        }
        // Nobody waits for it, so nobody else bounds how many there are.
        let Ok(permit) = self.revalidations.clone().try_acquire_owned() else { return };
        let deadline = self.clock.monotonic() + self.in_flight.start_window;
        let request = LookupRequest { deadline, max_age: None, priority: Priority::Background, ..request.clone() };
        let pipeline = self.clone();
        self.in_flight.tracker.spawn(async move {
            let _permit = permit;
            pipeline.ask(&request, key, None).await
        });
    }

    /// Layers 4 to 9, and the write side of the cache: the conversation that look-ups share.
    async fn converse(
        &self,
        request: &LookupRequest,
        key: CacheDigest,
        cached: Option<Vec<Step>>,
        waiters: &Arc<Waiters>,
    ) -> ConversationOutcome {
        // 2. Cache, write side. In the task, so that a paid call fills the cache even if every waiter has left. The cache is
        // read once more, since another conversation may have ended in the meantime.
        let now = self.clock.monotonic();
        let refusals = self.source.refusals();
        if let Cached::Outcome(body, entry) = self.cache.find_in_memory(key, request.max_age, refusals, now) {
            let CacheEntry { time, steps, refusals, .. } = entry;
            return ConversationOutcome { body, time, from_cache: true, complete: true, refusals, steps };
        }
        let answered = self.raw_answers.answered(&cached.unwrap_or_default()).await;
        let disclosure = &DisclosureEntry::new(request);
        let (source, breaker, clock) = (&self.source, &*self.guards.breaker, &*self.clock);
        let conversation = Conversation { source, lookup: &request.lookup, waiters, breaker, clock };
        // 4. Total time. Bounds all steps and attempts together, without the time for which they wait for a unit or a place.
        // When it is over, the partial finding is used.
        let run = Box::pin(
            // Each question of the conversation passes all inner layers.
            conversation.run(answered, |(question, digest), purpose| async move {
                let attempt = || self.attempt(&question, Some(disclosure), waiters);
                waiters.count_as_relations(purpose == Purpose::RelationPage);
                // 5. Retry. Outside the quota, so that every attempt pays; an optional answer is not worth another unit.
                let answer = if purpose.is_optional() {
                    attempt().await?
                } else {
                    let seed = (&self.settings.name, &request.lookup);
                    with_retries(&self.guards.retry_budget, breaker, waiters, clock, seed, attempt).await?
                };
                let received = self.clock.monotonic();
                Ok((self.raw_answers.store(&self.settings.name, digest, &answer, received), answer))
            }),
        );
        let total = waiters.end().since(now) + self.settings.timeout;
        let outcome = tokio::select! {
            biased;
            outcome = run => outcome,
            () = self.time_over(waiters) => {
                let why = format!("no answer within {} ms over all attempts", total.as_millis());
                let (body, time) = waiters.timeout_outcome(AnswerTime::now(&*self.clock), &why);
                ConversationOutcome::uncacheable(body, time)
            }
        };
        self.cache.insert((&request.lookup, key), &outcome, self.clock.monotonic(), &self.in_flight.tracker);
        outcome
    }

    /// Resolves when a conversation has had its total time, which does not pass while it waits for a unit or a place.
    async fn time_over(&self, waiters: &Waiters) {
        loop {
            let left = (waiters.end() + self.settings.timeout).since(self.clock.monotonic());
            if left.is_zero() {
                return;
            }
            self.clock.sleep(left).await;
        }
    }

    fn check_withheld(&self, disclosure: Option<&DisclosureEntry>) -> Result<(), AttemptError> {
        let withheld = disclosure.and_then(|entry| (self.withhold)(&entry.indicator));
        withheld.map_or(Ok(()), |not_asked| Err(AttemptError::NotAttempted(not_asked)))
    }

    /// The moment by which a question that is asked now must have been paid.
    pub(super) fn start_by(&self) -> Monotonic {
        self.clock.monotonic() + self.in_flight.start_window
    }

    /// Layers 6 to 9: one attempt, for look-ups, for submissions and for `TestSource`.
    pub(super) async fn attempt(
        &self,
        question: &Question,
        disclosure: Option<&DisclosureEntry>,
        waiters: &Arc<Waiters>,
    ) -> Result<Answer, AttemptError> {
        let clock = &*self.clock;
        waiters.close_if_abandoned(clock.monotonic())?;
        // 6. Account and circuit. Outside the quota, so that a question that the source would refuse costs nothing.
        self.account.credential_refusal().map_or(Ok(()), |error| Err(AttemptError::Local(error)))?;
        // In the background, and also if the quota is used up: the source may allow more by now.
        self.allowance.read_if_due();
        let refusal = self.account.refusal(clock).or_else(|| self.guards.refusal(clock));
        refusal.map_or(Ok(()), |refusal| Err(AttemptError::NotAttempted(refusal)))?;
        // A question that must not be sent is neither paid nor recorded as disclosed.
        attempt::check_may_send(&*self.transport, clock, &self.settings, question).await?;
        waiters.check_budget()?;
        self.check_withheld(disclosure)?;
        // 7. Quota and disclosure. Both are recorded together, before anything is sent.
        let host = host_of(question);
        let entries = disclosure.map(|first| waiters.take_present(first)).unwrap_or_default();
        let records = entries.iter().map(|entry| self.disclosures.disclosure(entry, host)).collect();
        let unit = self.quota.acquire(waiters, records).await.inspect_err(|_| {
            entries.iter().for_each(|entry| waiters.unmark_recorded(entry));
        })?;
        // 7. Concurrency. Inside the quota, so that a call that waits for a unit holds no place that another could use.
        let admitted = self.guards.admit(&self.account, waiters, clock).await;
        // It may have waited for a long time.
        let mut admission = match admitted.and_then(|admission| self.check_withheld(disclosure).map(|()| admission)) {
            Ok(admission) => admission,
            Err(error) => {
                self.quota.give_back(waiters, unit).await;
                return Err(error);
            }
        };
        // From here on the call counts as made, so that a waiter that times out gets a timeout instead of "not asked".
        waiters.count_call();
        if let Some(disclosure) = disclosure
            && let Err(error) = self.disclosures.record_waiting(waiters, disclosure, host).await
        {
            waiters.uncount_call();
            self.quota.give_back(waiters, unit).await;
            return Err(error);
        }
        self.counters.count_call();
        admission.begin_call(clock.monotonic());
        // 8., 9. Attempt time and transport.
        let sent = attempt::send(&*self.transport, clock, &self.settings, &self.source, question).await;
        let answer = sent.answer;
        if answer.as_ref().is_err_and(|error| !error.is_sent) {
            self.quota.give_back(waiters, unit).await;
        } else {
            drop(unit);
        }
        let answer = answer.map_err(AttemptError::from);
        admission.record(&answer, clock.monotonic());
        self.counters.note_guards(&self.guards.status(clock));
        self.counters.count_result(&answer);
        // After the unit, so that this call no longer counts as under way.
        self.quota.note_reported(&sent.rate_limits);
        self.account.note(&answer, &self.quota.windows(), clock.monotonic());
        // Due at once if the source reported that its quota is used up.
        self.allowance.read_if_due();
        self.counters.note_suspension(self.account.suspended_until(clock));
        self.counters.note_credential(self.account.credential_refusal().is_none());
        answer
    }

    /// What the cache holds for the look-up.
    async fn find_cached(
        &self,
        (lookup, key): (&Lookup, CacheDigest),
        max_age: Option<Duration>,
        now: Monotonic,
    ) -> Cached {
        let first = || self.source.ask(lookup).ok().map(|question| of_question(&question));
        self.cache.find((lookup, key), max_age, self.source.refusals(), now, first).await
    }

    pub(super) async fn cached(&self, lookup: &Lookup, max_age: Option<Duration>) -> Option<(Fetched, bool)> {
        let now = self.clock.monotonic();
        let entry = match self.find_cached((lookup, self.cache.key(lookup)), max_age, now).await {
            Cached::Outcome(body, entry) => return Some((self.fetched_from_cache(body, &entry, now), true)),
            Cached::Answers(entry) => entry,
            Cached::Stale(..) | Cached::Nothing => return None,
        };
        let (body, is_whole) = self.reread(lookup, &entry.steps).await?;
        let mut fetched = self.fetched_from_cache(body, &entry, now);
        if !is_whole {
            fetched.receipt.ttl = Some(Duration::ZERO);
        }
        Some((fetched, is_whole))
    }

    /// Reads cached answers again: the conversation without its questions. Also returns whether none was missing.
    async fn reread(&self, lookup: &Lookup, steps: &[Step]) -> Option<(OutcomeBody, bool)> {
        let now = self.clock.monotonic();
        let claim = Claim { priority: Priority::Background, caller: String::new() };
        let (waiters, _guard) = Waiters::begin(now, now, claim, None, None);
        let (source, breaker, clock) = (&self.source, &*self.guards.breaker, &*self.clock);
        let conversation = Conversation { source, lookup, waiters: &waiters, breaker, clock };
        let is_whole = AtomicBool::new(true);
        let outcome = conversation.run(self.raw_answers.answered(steps).await, |_, _| {
            is_whole.store(false, Ordering::Relaxed);
            future::ready(Err(AttemptError::Source(SourceError::unavailable(
                "not asked, since only the cache was used",
            ))))
        });
        let body = Some(outcome.await.body).filter(OutcomeBody::is_answer)?;
        Some((body, is_whole.into_inner()))
    }

    /// A finding after its time under the current rating, if it can still be read.
    async fn stale_finding(
        &self,
        lookup: &Lookup,
        body: Option<OutcomeBody>,
        entry: CacheEntry,
    ) -> Option<(Finding, CacheEntry)> {
        let body = match body {
            Some(body) => body,
            None => self.reread(lookup, &entry.steps).await?.0,
        };
        match body {
            OutcomeBody::Finding(finding) => Some((finding, entry)),
            OutcomeBody::NoRecord | OutcomeBody::Error(_) | OutcomeBody::NotAsked(_) => None,
        }
    }

    /// A finding that is used after its time, which it and the receipt say. A verdict with it is not reused.
    fn fetched_stale(&self, mut finding: Finding, entry: &CacheEntry, receipt: Receipt, why: &str) -> Fetched {
        let age = self.clock.monotonic().since(entry.time.monotonic);
        let whole_seconds = humantime::format_duration(Duration::from_secs(age.as_secs()));
        let stale = format!("the source answered {whole_seconds} ago; {why}");
        finding.reasons.push(format!("stale: {stale}"));
        let receipt = Receipt {
            from_cache: true,
            shared: false,
            age,
            ttl: Some(Duration::ZERO),
            stale: Some(stale),
            answers: hashes(&entry.steps),
            ..receipt
        };
        self.fetched(OutcomeBody::Finding(finding), entry.time.wall, receipt)
    }

    fn fetched_from_cache(&self, body: OutcomeBody, entry: &CacheEntry, now: Monotonic) -> Fetched {
        let receipt = Receipt {
            from_cache: true,
            age: now.since(entry.time.monotonic),
            // A refusal that may be lifted at any moment keeps the verdict from being reused.
            ttl: if entry.refusals > 0 { Some(Duration::ZERO) } else { entry.ttl() },
            answers: hashes(&entry.steps),
            ..Receipt::default()
        };
        self.fetched(body, entry.time.wall, receipt)
    }

    fn fetched(&self, body: OutcomeBody, time: SystemTime, receipt: Receipt) -> Fetched {
        Fetched { outcome: outcome(&self.settings, &self.family, body, time), receipt }
    }

    pub(super) async fn probe(&self, caller: &str) -> Probe {
        tracing::info!(source = self.settings.name, caller, "probing the source");
        self.account.lift();
        self.quota.reopen();
        self.guards.breaker.close();
        let (probe, ()) = tokio::join!(self.ask_probe(caller), self.allowance.read_now());
        probe
    }

    async fn ask_probe(&self, caller: &str) -> Probe {
        let mut answers = Vec::new();
        for question in self.source.probe().into_iter().take(MAX_PROBE_QUESTIONS) {
            // Every attempt needs a waiter, so the probe is its own.
            let end = self.start_by();
            let claim = Claim { priority: Priority::Interactive, caller: caller.to_owned() };
            let (waiters, _guard) = Waiters::begin(end, end, claim, None, None);
            match self.attempt(&question, None, &waiters).await {
                // Nothing was sent, so not even the connection to the source was tested.
                Err(error @ AttemptError::NotAttempted(_)) if answers.is_empty() => {
                    return not_probed(error.into_error(self.clock.now()));
                }
                answer => answers.push(answer.map_err(|error| error.into_error(self.clock.now()))),
            }
        }
        read_probe(&self.source, answers).await
    }
}

impl fmt::Debug for RemotePipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemotePipeline").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Why a finding is used after its time, by what asking again came to.
fn why_stale(body: &OutcomeBody) -> String {
    match body {
        OutcomeBody::Error(error) => format!("asking again failed: {error}"),
        OutcomeBody::NotAsked(not_asked) => format!("not asked again: {}", not_asked.detail),
        OutcomeBody::Finding(_) | OutcomeBody::NoRecord => String::new(),
    }
}

/// The result of `TestSource` if Concord's own rules prevented the questions.
fn not_probed(error: SourceError) -> Probe {
    Probe::failed(SourceError { detail: format!("not asked: {}", error.detail), ..error })
}

/// Makes the transport to a remote source with these settings. Opens no connection yet.
///
/// # Errors
/// If the settings cannot be used: the egress rules forbid the address, or the certificate authorities cannot be
/// parsed.
pub fn transport_for(
    kind: TransportKind,
    settings: &SourceSettings,
    rules: EgressRules,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn Transport>, SourceError> {
    match kind {
        TransportKind::Http => Ok(Arc::new(HttpTransport::new(settings, rules, clock)?)),
        TransportKind::Dns => Ok(Arc::new(DnsTransport::new(settings, rules, clock))),
        TransportKind::List => Err(SourceError::new(SourceErrorKind::BadQuestion, "a list is not asked outside")),
    }
}
