//! One enrichment from the request to the kept verdict.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tracing::warn;

use super::pipelines::Entry;
use super::plan::{Step, outcome};
use super::{Budget, Engine, EnrichRequest};
use crate::error::Error;
use crate::fetch::{Fetched, Receipt, Request};
use crate::finding::{NotAskedReason, Outcome, OutcomeBody, SourceError, SourceErrorKind};
use crate::indicator::{Indicator, Tlp};
use crate::source::Lookup;
use crate::store::{VerdictRecord, new_id};
use crate::verdict::{Policy, Verdict};

/// A whole verdict is kept at most so long, so that evidence does not age unseen.
const LONGEST_KEEP: Duration = Duration::from_secs(600);
/// A list may be reloaded at any time and its look-ups cost nothing: a verdict that used one is kept only briefly.
const KEEP_WITH_LIST: Duration = Duration::from_secs(1);

/// A verdict, and how it was come by.
#[derive(Clone, Debug)]
pub struct Enriched {
    /// The verdict as it is kept.
    pub record: Arc<VerdictRecord>,
    /// Whether it could be kept; if not, it has no name to find it by.
    pub kept: bool,
    /// How each source's outcome was come by, in order of name.
    pub receipts: Vec<(String, Receipt)>,
    /// Until when the verdict may be given to others who ask the same; `None`: not at all.
    pub reusable_until: Option<SystemTime>,
}

/// An outcome that landed, and what would be said if no other came.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The outcome and how it was come by.
    pub fetched: Fetched,
    /// The verdict so far.
    pub so_far: Verdict,
    /// How many sources have not answered yet.
    pub waiting: usize,
}

/// Everything that changes the verdict, and nothing else. Equal keys may share one verdict while it is reusable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VerdictKey {
    indicator: Indicator,
    sources: Vec<String>,
    policy: String,
    tlp: Tlp,
    generation: u64,
}

#[cfg(test)]
impl VerdictKey {
    /// Some key for this indicator.
    pub(crate) fn of(indicator: Indicator) -> Self {
        Self { indicator, sources: Vec::new(), policy: String::new(), tlp: Tlp::default(), generation: 0 }
    }
}

impl Engine {
    /// The key under which others may have asked the same; `None` where the request sets the age of answers itself.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown policy.
    pub fn verdict_key(&self, request: &EnrichRequest) -> Result<Option<VerdictKey>, Error> {
        let policy = self.policy(request.policy.as_deref())?.name.clone();
        if request.max_age.is_some() {
            return Ok(None);
        }
        let mut sources = request.sources.clone();
        sources.sort_unstable();
        sources.dedup();
        let generation = self.pipelines.current().number;
        Ok(Some(VerdictKey { indicator: request.indicator.clone(), sources, policy, tlp: request.tlp, generation }))
    }

    /// Asks the sources and judges. `progress` hears of every outcome as it lands.
    ///
    /// Dropping the future stops the enrichment: no further call begins for it.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown source or policy, [`Error::Late`] when no time is left. A source's failure
    /// is an outcome, a store's a verdict that is not kept.
    pub async fn enrich(
        &self,
        request: &EnrichRequest,
        mut progress: Option<&mut (dyn FnMut(Progress) + Send)>,
    ) -> Result<Enriched, Error> {
        let policy = self.policy(request.policy.as_deref())?;
        let budget = request.budget.map_or_else(|| self.budget(None), Ok)?;
        let pipelines = self.pipelines.current();
        let chosen = self.named(&pipelines.entries, &request.sources)?;
        let mut fetched = Vec::with_capacity(chosen.len());
        let mut pending: FuturesUnordered<_> =
            chosen.iter().map(|entry| self.look_up(entry, request, budget)).collect();
        while let Some(next) = pending.next().await {
            fetched.push(next);
            if let (Some(tell), Some(last)) = (progress.as_deref_mut(), fetched.last()) {
                let outcomes = fetched.iter().map(|one| one.outcome.clone()).collect();
                let so_far = self.judge(policy, &request.indicator, outcomes);
                tell(Progress { fetched: last.clone(), so_far, waiting: pending.len() });
            }
        }
        let reusable_until = self.reusable_until(&chosen, &fetched);
        self.record(policy, request, budget, fetched, reusable_until).await
    }

    /// One source: never fails, and takes no longer than the budget, but for the few milliseconds of the belt.
    async fn look_up(&self, entry: &Entry, request: &EnrichRequest, budget: Budget) -> Fetched {
        let (entry, stack) = match self.step(entry, request) {
            Step::Settled(fetched) => return *fetched,
            Step::Ask(entry, stack) => (entry, stack),
        };
        let request = Request {
            lookup: Lookup { indicator: request.indicator.clone() },
            deadline: budget.fetch_until,
            max_age: request.max_age,
            caller: request.caller.clone(),
            tlp: request.tlp,
        };
        let left = budget.fetch_until.duration_since(self.clock.now()).unwrap_or_default();
        tokio::select! {
            biased;
            fetched = stack.look_up(request) => fetched,
            // The stack keeps the deadline itself; this is the belt to its braces.
            () = self.clock.sleep(left + Duration::from_millis(5)) => self.out_of_time(entry),
        }
    }

    fn out_of_time(&self, entry: &Entry) -> Fetched {
        let error = SourceError::new(SourceErrorKind::Timeout, "no answer before the deadline");
        let outcome = outcome(entry, self.clock.now(), OutcomeBody::Error(error));
        Fetched { outcome, receipt: Receipt::default() }
    }

    /// The shortest time for which every outcome stands, from the settings of its source.
    fn reusable_until(&self, chosen: &[&Entry], fetched: &[Fetched]) -> Option<SystemTime> {
        let now = self.clock.now();
        let mut until = now + LONGEST_KEEP;
        for one in fetched {
            let entry = chosen.iter().find(|entry| entry.configured.settings.name == one.outcome.source)?;
            let keep = keep_of(entry, &one.outcome)?.min(one.receipt.ttl.unwrap_or(LONGEST_KEEP));
            let age = one.receipt.age.min(keep);
            until = until.min(now.checked_add(keep - age).unwrap_or(until));
        }
        (until > now).then_some(until)
    }

    async fn record(
        &self,
        policy: &Policy,
        request: &EnrichRequest,
        budget: Budget,
        mut fetched: Vec<Fetched>,
        reusable_until: Option<SystemTime>,
    ) -> Result<Enriched, Error> {
        fetched.sort_by(|a, b| a.outcome.source.cmp(&b.outcome.source));
        let mut outcomes = Vec::with_capacity(fetched.len());
        let mut receipts = Vec::with_capacity(fetched.len());
        let mut answers = Vec::new();
        for Fetched { outcome, receipt } in fetched {
            answers.extend(receipt.answers.hashes().map(|hash| (outcome.source.clone(), hash.to_owned())));
            receipts.push((outcome.source.clone(), receipt));
            outcomes.push(outcome);
        }
        let verdict = self.judge(policy, &request.indicator, outcomes);
        let create_time = verdict.judged_time;
        let record = Arc::new(VerdictRecord {
            id: new_id(create_time),
            create_time,
            caller: request.caller.clone(),
            tlp: request.tlp,
            verdict,
            answers,
        });
        let kept = self.append(record.clone(), budget).await;
        Ok(Enriched { record, kept, receipts, reusable_until: reusable_until.filter(|_| kept) })
    }

    /// Keeps the verdict, and waits for it as long as the caller's time allows. A store that fails costs the name,
    /// never the answer.
    async fn append(&self, record: Arc<VerdictRecord>, budget: Budget) -> bool {
        let store = self.store.clone();
        let writing = self.tracker.spawn(async move { store.append((*record).clone()).await });
        let left = budget.deadline.duration_since(self.clock.now()).unwrap_or_default();
        let kept = tokio::select! {
            biased;
            written = writing => match written {
                Ok(Ok(())) => true,
                Ok(Err(error)) => { warn!(%error, "a verdict could not be kept"); false }
                Err(error) => { warn!(%error, "the task that keeps a verdict failed"); false }
            },
            () = self.clock.sleep(left / 2) => { warn!("a verdict was not kept in time"); false }
        };
        if !kept {
            metrics::counter!("concord_verdicts_not_kept_total").increment(1);
        }
        kept
    }
}

/// How long this outcome stands; `None`: it does not stand for others.
fn keep_of(entry: &Entry, outcome: &Outcome) -> Option<Duration> {
    let settings = &entry.configured.settings;
    let keep = match &outcome.body {
        OutcomeBody::Finding(_) => settings.cache_ttl.finding,
        OutcomeBody::NoRecord => settings.cache_ttl.no_record,
        OutcomeBody::Error(_) => return None,
        OutcomeBody::NotAsked(not_asked) => match not_asked.reason {
            NotAskedReason::QuotaSpent | NotAskedReason::Deadline => return None,
            NotAskedReason::TypeUnsupported
            | NotAskedReason::Disabled
            | NotAskedReason::NotConfigured
            | NotAskedReason::Tlp
            | NotAskedReason::NeverSend
            | NotAskedReason::PrivateAddress
            | NotAskedReason::InternalName
            | NotAskedReason::UrlCredentials => return Some(LONGEST_KEEP),
        },
    };
    if entry.configured.kind.about().transport.is_outside() {
        (keep > Duration::ZERO).then_some(keep)
    } else {
        Some(KEEP_WITH_LIST)
    }
}
