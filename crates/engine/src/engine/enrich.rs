//! One enrichment, from the request to the stored verdict.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::late_verdicts::note_not_stored;
use super::pipelines::SourceEntry;
use super::plan::Decision;
use super::{Budget, Engine, EnrichRequest};
use crate::clock::Monotonic;
use crate::error::Error;
use crate::fetch::{Fetched, LookupRequest, Receipt};
use crate::finding::{NotAskedReason, Outcome, OutcomeBody, SourceError, SourceErrorKind};
use crate::indicator::{Tlp, hex};
use crate::source::{EnrichMode, Lookup, RelationsWanted};
use crate::store::{VerdictRecord, new_id};
use crate::verdict::{ActiveFeedback, Policy, Reach, Verdict, fuse, fuse_without_analysis, reach};

/// Maximum time for which a whole verdict is reused, so that its evidence does not become outdated.
const MAX_REUSE: Duration = Duration::from_secs(600);
/// How long a request waits for the overdue check of a list before it asks all sources: a check of a file that did not change
/// takes much less.
const MAX_LIST_WAIT: Duration = Duration::from_millis(10);

/// The caller's remaining time divided by this is the time limit for storing the verdict; the rest is for sending it.
const STORE_TIME_DIVISOR: u32 = 2;
/// The pipeline is cancelled this long after the deadline. It normally answers at the deadline by itself, and that
/// outcome is better, since it may contain a partial finding.
const PIPELINE_BACKSTOP: Duration = Duration::from_millis(5);

/// A verdict, and how it was obtained.
#[derive(Clone, Debug)]
pub struct Enriched {
    /// The verdict as it is stored.
    pub record: Arc<VerdictRecord>,
    /// Whether the verdict could be stored. If not, it has no name under which it could be read again.
    pub stored: bool,
    /// What the policies that the request compares make of the same outcomes, in their order, as they were when it began. What
    /// analysts said is left out.
    pub comparisons: Vec<Verdict>,
    /// The receipt of each source, in order of name.
    pub receipts: Vec<(String, Receipt)>,
    /// For which identical requests it is, too.
    pub reuse: ReuseScope,
}

/// Which identical requests a verdict answers beside its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReuseScope {
    /// Those that were made while it was: they would hear the same from every source, failures included.
    pub by_waiting: bool,
    /// Those that are made until then; `None`: none.
    pub until: Option<Monotonic>,
}

/// A new outcome, and the verdict as it would be without further ones.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// The new outcome.
    pub outcome: &'a Outcome,
    /// How it was obtained.
    pub receipt: &'a Receipt,
    /// The verdict of the outcomes so far.
    pub interim_verdict: Verdict,
    /// How many sources have not answered yet.
    pub waiting: usize,
    /// What their answers can still change.
    pub reach: Reach,
}

/// What every judgement of one enrichment has in common. One time for all of them, so that no verdict contradicts what was
/// said to be final.
#[derive(Clone, Copy)]
pub(super) struct Judging<'a> {
    policy: &'a Policy,
    /// All that judge: this one, and those that are compared with it.
    pub(super) policies: &'a [&'a Policy],
    pub(super) request: &'a EnrichRequest,
    pub(super) at: SystemTime,
}

/// Everything that determines the verdict, and nothing else. Requests with equal keys may share a verdict while it is
/// reusable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictKey {
    lookup: Lookup,
    sources: Vec<String>,
    /// Name and revision.
    policy: (String, u32),
    tlp: Tlp,
    /// That of the sources' settings, and the sum of those of the lists, which only grow.
    generation: (u64, u64),
    /// Identifiers of what analysts say of the indicator.
    feedback: Vec<String>,
    mode: EnrichMode,
}

impl Hash for VerdictKey {
    /// What a caller chooses freely; the rest has few values.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.lookup.indicator.hash(state);
        self.sources.hash(state);
        self.mode.hash(state);
        if self.lookup.relations != RelationsWanted::default() {
            self.lookup.relations.hash(state);
        }
    }
}

impl VerdictKey {
    /// The other keys whose verdicts answer the request of this key: a verdict over more answers says no less.
    pub fn also_answering(&self) -> impl Iterator<Item = Self> {
        let modes: &[EnrichMode] = match self.mode {
            EnrichMode::Complete => &[],
            EnrichMode::Decisive => &[EnrichMode::Complete],
            EnrichMode::Frugal { .. } => &[EnrichMode::Complete, EnrichMode::Decisive],
        };
        modes.iter().map(|mode| Self { mode: *mode, ..self.clone() })
    }

    /// The key under which a verdict answers most requests: that of the mode complete, if every source was asked.
    #[must_use]
    pub fn of(self, verdict: &Verdict) -> Self {
        let is_left_out = |body: &OutcomeBody| match body {
            OutcomeBody::NotAsked(not_asked) => {
                use NotAskedReason::{Budget, Pinned, VerdictSettled};
                matches!(not_asked.reason, VerdictSettled | Pinned | Budget)
            }
            OutcomeBody::Finding(_) | OutcomeBody::NoRecord | OutcomeBody::Error(_) => false,
        };
        let is_complete = !verdict.outcomes.iter().any(|outcome| is_left_out(&outcome.body));
        Self { mode: if is_complete { EnrichMode::Complete } else { self.mode }, ..self }
    }

    /// Whether the verdict shows the feedback that this key was made with. Feedback may be recorded or end between both.
    pub fn has_feedback_of(&self, verdict: &Verdict) -> bool {
        self.feedback == verdict.feedback_ids()
    }
}

impl VerdictKey {
    /// Bytes that it takes beside itself, about.
    pub fn heap_bytes(&self) -> usize {
        let texts = self.sources.iter().chain(&self.lookup.relations.names).chain(&self.lookup.relations.paged);
        let texts: usize = texts.map(|text| size_of::<String>() + text.len()).sum();
        self.lookup.indicator.value().len() + texts + self.policy.0.len()
    }
}

#[doc(hidden)]
impl VerdictKey {
    /// A key for this indicator with default values for everything else.
    pub fn for_tests(indicator: crate::indicator::Indicator) -> Self {
        let (lookup, policy) = (Lookup::new(indicator), (String::new(), 1));
        let (sources, feedback) = (Vec::new(), Vec::new());
        Self { lookup, sources, policy, tlp: Tlp::default(), generation: (0, 0), feedback, mode: EnrichMode::Complete }
    }
}

impl Engine {
    /// The key of this request for reusing verdicts; `None` if the request limits the age of answers, which rules reuse
    /// out, or if a check of a list is overdue.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown policy.
    pub async fn verdict_key(&self, request: &EnrichRequest) -> Result<Option<VerdictKey>, Error> {
        let policy = self.policy(request.policy.as_deref())?;
        if request.max_age.is_some() {
            return Ok(None);
        }
        let mut sources = request.sources.clone();
        sources.sort_unstable();
        sources.dedup();
        let pipelines = self.pipelines.current();
        let is_chosen = |entry: &&SourceEntry| sources.is_empty() || sources.iter().any(|name| name == entry.name());
        let chosen = pipelines.entries.iter().filter(is_chosen).filter_map(|entry| entry.pipeline.as_ref().ok());
        let mut lists = 0_u64;
        for pipeline in chosen {
            let Some(generation) = pipeline.list_generation(MAX_LIST_WAIT).await else { return Ok(None) };
            lists = lists.wrapping_add(generation);
        }
        Ok(Some(VerdictKey {
            lookup: request.lookup(),
            sources,
            policy: (policy.policy.name.clone(), policy.policy.revision),
            tlp: request.tlp,
            generation: (pipelines.number, lists),
            feedback: self.active_feedback(&request.indicator).ids(),
            mode: request.mode,
        }))
    }

    /// Asks the sources and fuses their outcomes. `progress` is called for every outcome as it arrives.
    ///
    /// Dropping the future stops the enrichment: no further call is started for it.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown source or policy, [`Error::Late`] if no time is left. A failing source is not
    /// an error but an outcome; a failing store leaves the verdict without a name.
    pub async fn enrich(
        &self,
        request: &EnrichRequest,
        mut progress: Option<&mut (dyn FnMut(Progress<'_>) + Send)>,
    ) -> Result<Enriched, Error> {
        // A policy that is changed meanwhile judges later requests.
        let resolved = self.policies_of(request)?;
        let judging =
            Judging { policy: &resolved.first.policy, policies: &resolved.each(), request, at: self.clock.now() };
        let budget = request.budget.map_or_else(|| self.budget(None, Duration::ZERO), Ok)?;
        let pipelines = self.pipelines.current();
        let chosen = self.named(&pipelines.entries, &request.sources)?;
        let feedback = self.active_feedback(&request.indicator);
        let mut arrived = |outcomes: &[Arc<Outcome>], newest: &Outcome, receipt: &Receipt| {
            if let Some(progress) = progress.as_deref_mut() {
                progress(judging.progress(&chosen, outcomes, newest, receipt, &feedback));
            }
        };
        let asking = Box::pin(self.ask(judging, budget, &chosen, &mut arrived));
        let (outcomes, receipts) = self.pipelines.announce(asking).await;
        // What analysts said while sources were asked counts, and such a verdict is none of those who ask by the earlier key.
        let latest = self.active_feedback(&request.indicator);
        let is_same = latest.ids() == feedback.ids();
        // Sources may not have been asked because of a pin that has ended since. It held when the enrichment began.
        let latest = if feedback.pin.is_some() && latest.pin.is_none() { feedback } else { latest };
        let until = self.reusable_until(&chosen, &outcomes, &receipts, &latest);
        let reuse = ReuseScope { by_waiting: holds_for_waiting(&outcomes, &receipts), until };
        self.record(judging, budget, outcomes, receipts, &latest, if is_same { reuse } else { ReuseScope::default() })
            .await
    }

    /// A verdict on one outcome, which no further request reuses.
    pub(super) async fn judge(&self, request: &EnrichRequest, fetched: Fetched) -> Result<Enriched, Error> {
        let resolved = self.policies_of(request)?;
        let judging =
            Judging { policy: &resolved.first.policy, policies: &resolved.each(), request, at: self.clock.now() };
        let budget = request.budget.map_or_else(|| self.budget(None, Duration::ZERO), Ok)?;
        let Fetched { outcome, receipt } = fetched;
        let receipts = vec![(outcome.source.clone(), receipt)];
        let feedback = self.active_feedback(&request.indicator);
        self.record(judging, budget, vec![Arc::new(outcome)], receipts, &feedback, ReuseScope::default()).await
    }

    /// Looks up in one source, for at most `max_units` units. Never fails, and takes no longer than the budget.
    pub(super) async fn look_up(
        &self,
        entry: &SourceEntry,
        request: &EnrichRequest,
        budget: Budget,
        max_units: Option<u32>,
    ) -> Fetched {
        let lookup = entry.normalize(&request.lookup());
        let pipeline = match self.decide(entry, &lookup, request).await {
            Decision::Ask(pipeline) => pipeline,
            Decision::Cached(fetched) => return *fetched,
            Decision::NotAsked(not_asked) => {
                return entry.outcome_without_call(OutcomeBody::NotAsked(not_asked), self.clock.now());
            }
        };
        let request = LookupRequest {
            lookup,
            deadline: budget.fetch_until,
            max_age: request.max_age,
            max_units,
            priority: request.priority,
            caller: request.caller.clone(),
            tlp: request.tlp,
        };
        let limit = budget.fetch_until.since(self.clock.monotonic()) + PIPELINE_BACKSTOP;
        self.clock.timeout(limit, pipeline.look_up(request)).await.unwrap_or_else(|| {
            let error = SourceError::new(SourceErrorKind::Timeout, "no answer before the deadline");
            let mut fetched = entry.outcome_without_call(OutcomeBody::Error(error), self.clock.now());
            fetched.receipt.cut_short = true;
            fetched
        })
    }

    /// Until when all outcomes may be reused: the shortest time that the settings of their sources allow, and no longer than
    /// all feedback holds.
    fn reusable_until(
        &self,
        chosen: &[&SourceEntry],
        outcomes: &[Arc<Outcome>],
        receipts: &[(String, Receipt)],
        feedback: &ActiveFeedback,
    ) -> Option<Monotonic> {
        let now = self.clock.now();
        let end = feedback.first_end().map(|end| end.duration_since(now).unwrap_or_default());
        let mut left = end.map_or(MAX_REUSE, |end| end.min(MAX_REUSE));
        for (outcome, (_, receipt)) in outcomes.iter().zip(receipts) {
            let entry = chosen.iter().find(|entry| entry.name() == outcome.source)?;
            let reuse = reuse_for(entry, &outcome.body)?.min(receipt.ttl.unwrap_or(MAX_REUSE));
            left = left.min(reuse.saturating_sub(receipt.age));
        }
        (!left.is_zero()).then(|| self.clock.monotonic() + left)
    }

    async fn record(
        &self,
        judging: Judging<'_>,
        budget: Budget,
        outcomes: Vec<Arc<Outcome>>,
        mut receipts: Vec<(String, Receipt)>,
        feedback: &ActiveFeedback,
        reuse: ReuseScope,
    ) -> Result<Enriched, Error> {
        receipts.sort_by(|(left, _), (right, _)| left.cmp(right));
        let answers = receipts
            .iter()
            .flat_map(|(source, receipt)| receipt.answers.iter().map(|hash| (source.clone(), hex(hash))))
            .collect();
        let paid = receipts.iter().filter(|(_, receipt)| receipt.units > 0);
        let units = paid.map(|(source, receipt)| (source.clone(), receipt.units)).collect();
        let Judging { policy, policies, request, at } = judging;
        let judged = |other: &&Policy| fuse_without_analysis(other, &request.indicator, at, outcomes.clone());
        let comparisons = policies.iter().skip(1).map(judged).collect();
        let verdict = fuse(policy, &request.indicator, at, outcomes).with_feedback(feedback.clone());
        let create_time = self.clock.now();
        let record = Arc::new(VerdictRecord {
            id: new_id(create_time),
            create_time,
            caller: request.caller.clone(),
            tlp: request.tlp,
            verdict,
            answers,
            units: Some(units),
        });
        let stored = if self.clock.monotonic() < budget.fetch_until {
            self.append(record.clone(), budget).await
        } else {
            // At the deadline the answer goes first. The verdict counts as stored, since it will be unless the store
            // fails.
            self.late_verdicts.append(record.clone())
        };
        let reuse = if stored { reuse } else { ReuseScope::default() };
        Ok(Enriched { record, stored, comparisons, receipts, reuse })
    }

    /// Stores the verdict, and waits for that as long as the caller's time allows. If the store fails, the verdict has
    /// no name, but the caller still gets it.
    async fn append(&self, record: Arc<VerdictRecord>, budget: Budget) -> bool {
        let store = self.store.clone();
        let writing = self.tracker.spawn(async move { store.append(record).await });
        let left = budget.deadline.since(self.clock.monotonic());
        let why = match self.clock.timeout(left / STORE_TIME_DIVISOR, writing).await {
            Some(Ok(Ok(()))) => return true,
            Some(Ok(Err(error))) => error.to_string(),
            Some(Err(error)) => format!("the task failed: {error}"),
            None => "not in time".to_owned(),
        };
        note_not_stored(&why);
        false
    }
}

impl Judging<'_> {
    /// The verdict over the outcomes so far, the newest included, and what the rest can still change.
    fn progress<'a>(
        &self,
        chosen: &[&SourceEntry],
        outcomes: &[Arc<Outcome>],
        newest: &'a Outcome,
        receipt: &'a Receipt,
        feedback: &ActiveFeedback,
    ) -> Progress<'a> {
        let Self { policy, request, at, .. } = *self;
        let has_answered = |entry: &SourceEntry| outcomes.iter().any(|outcome| outcome.source == entry.name());
        let pending: Vec<_> = chosen.iter().filter(|entry| !has_answered(entry)).map(|entry| entry.pending()).collect();
        let interim_verdict = fuse_without_analysis(policy, &request.indicator, at, outcomes.to_vec());
        Progress {
            outcome: newest,
            receipt,
            waiting: pending.len(),
            // Nothing that sources say changes what an analyst has pinned.
            reach: match &feedback.pin {
                Some(_) => Reach::default(),
                None => reach(policy, &request.indicator, at, outcomes.to_vec(), &pending),
            },
            interim_verdict: interim_verdict.with_feedback(feedback.clone()),
        }
    }
}

/// Whether nothing that the sources said or did depends on the time and the limits of the request that asked them.
fn holds_for_waiting(outcomes: &[Arc<Outcome>], receipts: &[(String, Receipt)]) -> bool {
    let depends = |body: &OutcomeBody| match body {
        OutcomeBody::NotAsked(not_asked) => not_asked.reason.leaves_verdict_partial(),
        OutcomeBody::Finding(_) | OutcomeBody::NoRecord | OutcomeBody::Error(_) => false,
    };
    !outcomes.iter().any(|outcome| depends(&outcome.body)) && !receipts.iter().any(|(_, receipt)| receipt.cut_short)
}

/// How long an outcome may be reused, counted from when its source answered; `None`: not at all.
fn reuse_for(entry: &SourceEntry, body: &OutcomeBody) -> Option<Duration> {
    let ttl = match body {
        OutcomeBody::Finding(_) | OutcomeBody::NoRecord | OutcomeBody::Error(_) => {
            entry.source.settings.cache_ttl.for_body(body)?
        }
        // A rule withholds the question from all callers, so that outcome can be reused. A limit of quota or time may
        // end at any moment.
        OutcomeBody::NotAsked(not_asked) => {
            return (!not_asked.reason.leaves_verdict_partial()).then_some(MAX_REUSE);
        }
    };
    // That of a list may be reused until the list changes, which changes the key.
    if entry.is_remote() { (!ttl.is_zero()).then_some(ttl) } else { Some(MAX_REUSE) }
}
