//! Composes the layers. [`way`] reads from top to bottom as the way a question takes, with the reason for each place;
//! `tests` hold the order.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::cache::{self, KeptAge, Shelf, SourceCache};
use super::observe::{self, Counters, Tally};
use super::trip::{Asks, Attempt, Obstacle, Party, Site, Suspension, layer};
use super::{Fetched, Request, Transport, attempt_time, coalesce, conversation, quota, retry, total_time};
use crate::clock::Clock;
use crate::finding::{Family, NotAsked, SourceError, SourceErrorKind};
use crate::source::{Answer, Lookup, Probe, Question, Source, SourceSettings};
use crate::store::{AnswerStore, Ledger, WindowUse};

/// Questions of one probe; a kind that has more is cut short, since each may cost a unit.
const MAX_PROBE_QUESTIONS: usize = 6;

/// What a stack is made of.
pub struct Parts {
    /// The source.
    pub source: Arc<dyn Source>,
    /// The settings in effect; other settings are another stack.
    pub settings: Arc<SourceSettings>,
    /// Which sources count as one opinion with it.
    pub family: Family,
    /// Whose quota it spends, in a form that does not show the credential.
    pub account: String,
    /// Until when the account is left alone, shared by all stacks on it.
    pub suspended: Suspension,
    /// How its questions travel.
    pub transport: Arc<dyn Transport>,
    /// Where quota and disclosures are recorded.
    pub ledger: Arc<dyn Ledger>,
    /// Where raw answers go.
    pub answers: Arc<dyn AnswerStore>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Kept answers, shared by all sources.
    pub cache: SourceCache,
    /// Who waits for conversations when the server stops.
    pub tracker: TaskTracker,
    /// What the source cost so far.
    pub tally: Arc<Tally>,
}

type LookUp = BoxCloneSyncService<Request, Fetched, Infallible>;
type Ask = BoxCloneSyncService<Attempt, Answer, Obstacle>;

/// The way to one source under one set of settings.
pub struct SourceStack {
    pub(super) site: Arc<Site>,
    pub(super) shelf: Shelf,
    transport: Arc<dyn Transport>,
    look_up: LookUp,
    ask: Ask,
}

impl std::fmt::Debug for SourceStack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceStack").field("settings", &self.site.settings).finish_non_exhaustive()
    }
}

impl SourceStack {
    /// Builds the way to a source. Opens no connection.
    pub fn new(parts: Parts) -> Self {
        let Parts { source, settings, family, account, suspended, transport, .. } = parts;
        let Parts { ledger, answers, clock, cache, tracker, tally, .. } = parts;
        let site =
            Arc::new(Site { source, settings, family, account, ledger, answers, clock, tracker, tally, suspended });
        let shelf = Shelf::of(&site, cache);
        let ask = paid_way(&site, transport.clone());
        let look_up = way(&site, &shelf, ask.clone());
        Self { site, shelf, transport, look_up, ask }
    }

    /// Looks an indicator up. Never fails: whatever happens is an outcome. Whether the source may be asked about it at
    /// all (form, TLP, never-send rules) was decided before.
    pub async fn look_up(&self, request: Request) -> Fetched {
        let Ok(fetched) = self.look_up.clone().oneshot(request).await;
        fetched
    }

    /// How old the kept answer is by which the look-up would be answered without a call; `None`: there is none.
    pub fn kept(&self, lookup: &Lookup, max_age: Option<Duration>, now: SystemTime) -> Option<KeptAge> {
        self.shelf.age(&self.site, lookup, max_age, now)
    }

    /// The outcome by what is kept alone, where nothing may leave; `None`: a call would be needed.
    pub fn from_kept(&self, lookup: &Lookup, max_age: Option<Duration>) -> Option<Fetched> {
        self.shelf.outcome(&self.site, lookup, max_age, self.site.clock.now())
    }

    /// How much of the source's quota is used now. Empty if it has none, or the ledger cannot be reached.
    pub async fn windows(&self) -> Vec<WindowUse> {
        let site = &self.site;
        if site.settings.quota.is_empty() {
            return Vec::new();
        }
        let usage = site.ledger.usage(&site.account, &site.settings.quota, site.clock.now()).await;
        usage.unwrap_or_else(|error| {
            tracing::error!(source = site.settings.name, %error, "the ledger cannot be reached");
            Vec::new()
        })
    }

    /// Until when the source is left alone because it said that its quota is used up; `None`: it is not.
    pub fn suspended_until(&self) -> Option<SystemTime> {
        self.site.suspended_until(self.site.clock.now())
    }

    /// Asks the questions of the Test button, once each and paid like any other, and reads what comes.
    pub async fn probe(&self, caller: &str) -> Probe {
        let site = &self.site;
        tracing::info!(source = site.settings.name, caller, "probing the source");
        let mut answers = Vec::new();
        for question in site.source.probe().into_iter().take(MAX_PROBE_QUESTIONS) {
            match self.ask_once(question).await {
                // Nothing left, so nothing was learned: not even whether the source can be reached.
                Err(Obstacle::Barred(not_asked)) if answers.is_empty() => return barred(&not_asked),
                answer => answers.push(answer.map_err(|obstacle| obstacle.into_error(site.clock.now()))),
            }
        }
        site.source.read_probe(&answers)
    }

    async fn ask_once(&self, question: Question) -> Result<Answer, Obstacle> {
        let now = self.site.clock.now();
        // The attempt's own time bounds it; the party is there because every attempt has one.
        let end = now.checked_add(self.site.time_to_begin()).unwrap_or(now);
        let (party, _seat) = Party::begin(end, end, None);
        let attempt = Attempt { question, told: None, party };
        self.ask.clone().oneshot(attempt).await
    }

    /// What was counted for the source.
    pub fn counters(&self) -> Counters {
        self.site.tally.counters()
    }

    /// How its questions travel, for a stack that takes its place with the same list.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// The settings that it was built with.
    pub fn settings(&self) -> &SourceSettings {
        &self.site.settings
    }

    /// The source that it asks.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.site.source
    }

    /// Which sources count as one opinion with it.
    pub fn family(&self) -> &Family {
        &self.site.family
    }
}

/// What the Test button learned when our own rules let no question leave.
fn barred(not_asked: &NotAsked) -> Probe {
    let detail = format!("not asked: {}", not_asked.detail);
    Probe::failed(SourceError::new(SourceErrorKind::QuotaExhausted, detail))
}

/// The way of a look-up, outermost first.
fn way(site: &Arc<Site>, shelf: &Shelf, ask: Ask) -> LookUp {
    BoxCloneSyncService::new(
        // 1. Sees everything, hits and refusals too.
        observe::over(
            site,
            // 2. Before anything is begun; below it only what must be asked, or read again.
            cache::over(
                site,
                shelf,
                // 3. Below the cache, so that hits take no lock; above all that costs time or money.
                coalesce::over(
                    site,
                    // 2, write side. In the task: a paid call fills the cache though every waiter has left.
                    cache::keep(
                        site,
                        shelf,
                        // 4. Bounds all steps and attempts together.
                        total_time::over(
                            site,
                            // Asks and reads; each of its steps goes all the way down.
                            conversation::over(
                                site,
                                // 5. Above the quota: every attempt pays.
                                retry::over(site, ask),
                            ),
                        ),
                    ),
                ),
            ),
        ),
    )
}

/// The way of one attempt, which a look-up and the Test button share.
fn paid_way(site: &Arc<Site>, transport: Arc<dyn Transport>) -> Ask {
    BoxCloneSyncService::new(
        // 7. Pays and records before anything leaves. (6 is left free for a circuit breaker.)
        quota::over(
            site,
            transport.clone(),
            // 8. Innermost: bounds the call alone, not the waiting for the ledger.
            attempt_time::over(site, wire(site, transport)),
        ),
    )
}

/// 9. The transport, and the judgement whether what came is an answer or a refusal, which all layers above must know.
fn wire(site: &Arc<Site>, transport: Arc<dyn Transport>) -> impl Asks {
    layer(site, transport, |site, transport: Arc<dyn Transport>, attempt: Attempt| async move {
        let answer = transport.send(&attempt.question).await.map_err(Obstacle::Failed)?;
        site.source.check(&answer).map_err(Obstacle::Failed)?;
        Ok(answer)
    })
}
