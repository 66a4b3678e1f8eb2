//! Enrichment: plans which sources to ask, withholds what must not be disclosed, asks concurrently within the time,
//! fuses the outcomes and stores the verdict.
//!
//! This module knows no protobuf and opens no connection: `fetch` asks, `verdict` fuses, `store` stores. Start with
//! `enrich.rs`.
//! `plan.rs` decides which sources are asked, `waves.rs` in which order and when no more, `ask.rs` asks them, `withhold.rs`
//! knows what is withheld from them, and `budget.rs` how long it may take.
//! `pipelines.rs` holds the pipeline of each source, `graph.rs` walks to related indicators, `history/` reads what
//! the stored verdicts say of the sources, `feedback.rs` knows
//! what analysts say, `submission.rs` is for what is submitted, and `late_verdicts.rs` stores verdicts that were answered at the deadline.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use self::withhold::CurrentRules;
use crate::clock::{Clock, Monotonic};
use crate::error::Error;
use crate::fetch::{AnswerHash, SourceCache, SourcePipeline, TransportFactory};
use crate::indicator::{Indicator, Tlp};
use crate::settings::{NeverSendRules, PolicyRegistry, Registry, ResolvedPolicy, ResolvedSource};
use crate::source::{CallerBudgets, EgressRules, EnrichMode, Lookup, Priority, RelationsWanted, TransportKind};
use crate::store::Store;

mod ask;
mod budget;
mod enrich;
mod feedback;
mod forecast;
mod graph;
mod history;
mod late_verdicts;
mod pipelines;
mod plan;
mod probe;
mod submission;
mod usage;
pub mod waves;
mod withhold;

pub use budget::{Budget, DEFAULT_DEADLINE};
pub use enrich::{Enriched, Progress, VerdictKey};
pub use graph::{RelationEdge, RelationGraph, RelationNode, Walk};
pub use history::JOINED_DAYS;
pub use history::{
    Collection, EngineAnalysis, EngineCollection, EngineCoverage, EngineQuestion, History, HistoryAnalysis,
    HistoryFilter, Replay, ReplayChange, ReplayReport, ReplayTransition, ReplayedFlip, ScanProgress, ThresholdReport,
    ThresholdScan, ThresholdTrial,
};
pub use plan::{EnrichmentPlan, Planned, PlannedSource, PlannedWave};
pub use probe::Probed;
pub use submission::SubmissionRoute;
pub use usage::Usage;

/// The rules and limits that apply to every enrichment.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Indicators and hosts that are never disclosed to remote sources.
    pub never_send: Arc<NeverSendRules>,
    /// Suffixes of internal names, in addition to the built-in ones.
    pub internal_suffixes: Vec<String>,
    /// The rules for addresses and files, in the form that applies to sources from the configuration file.
    pub egress: EgressRules,
    /// Time for a request whose caller sets no deadline.
    pub default_deadline: Duration,
    /// Quota units that callers may spend in a day.
    pub caller_budgets: CallerBudgets,
}

/// The parts of an engine.
pub struct Parts {
    /// The configured sources.
    pub registry: Arc<Registry>,
    /// The policies.
    pub policies: Arc<PolicyRegistry>,
    /// Stores verdicts, answers and the ledger.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Cached answers of all sources.
    pub cache: SourceCache,
    /// Makes the transport of each source.
    pub transports: Arc<TransportFactory>,
    /// Tracks the tasks that a shutdown waits for.
    pub tracker: TaskTracker,
    /// The rules for every enrichment.
    pub rules: Rules,
}

/// A request for an enrichment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrichRequest {
    /// The indicator to look up.
    pub indicator: Indicator,
    /// Names of the sources to ask, without `sources/`; empty: all that support the indicator.
    pub sources: Vec<String>,
    /// Name of the policy, without `policies/`; `None`: the default.
    pub policy: Option<String>,
    /// Names of the policies that are to judge the same outcomes as well. The mode regards what they say, too.
    pub compare_policies: Vec<String>,
    /// How much of what the sources could say is wanted.
    pub mode: EnrichMode,
    /// The TLP label of the indicator.
    pub tlp: Tlp,
    /// Maximum age of a cached answer; `None`: as old as each source allows.
    pub max_age: Option<Duration>,
    /// Who is served first where quota is scarce.
    pub priority: Priority,
    /// Which related indicators are wanted.
    pub relations: RelationsWanted,
    /// Name of the caller.
    pub caller: String,
    /// The time budget; `None`: the default time, counted from when the enrichment begins.
    pub budget: Option<Budget>,
}

impl EnrichRequest {
    fn lookup(&self) -> Lookup {
        Lookup { indicator: self.indicator.clone(), relations: self.relations.clone(), first_only: false }
    }
}

/// Runs enrichments.
pub struct Engine {
    registry: Arc<Registry>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    cache: SourceCache,
    tracker: TaskTracker,
    rules: Arc<CurrentRules>,
    policies: Arc<PolicyRegistry>,
    pipelines: pipelines::SourcePipelines,
    late_verdicts: late_verdicts::LateVerdicts,
    feedback: feedback::FeedbackIndex,
    forecasts: forecast::LoggedForecasts,
}

impl Engine {
    /// Makes an engine of these parts.
    pub fn new(parts: Parts) -> Self {
        let rules = Arc::new(CurrentRules::new(parts.rules));
        let pipelines = pipelines::SourcePipelines::new(pipelines::SharedParts {
            registry: parts.registry.clone(),
            store: parts.store.clone(),
            clock: parts.clock.clone(),
            cache: parts.cache.clone(),
            transports: parts.transports,
            tracker: parts.tracker.clone(),
            rules: rules.clone(),
        });
        pipelines.set_budgets(rules.load().caller_budgets.clone());
        let late_verdicts = late_verdicts::LateVerdicts::start(parts.store.clone(), &parts.tracker);
        Self {
            late_verdicts,
            registry: parts.registry,
            store: parts.store,
            clock: parts.clock,
            cache: parts.cache,
            tracker: parts.tracker,
            rules,
            policies: parts.policies,
            pipelines,
            feedback: feedback::FeedbackIndex::default(),
            forecasts: forecast::LoggedForecasts::default(),
        }
    }

    /// The policy of this name (without `policies/`), or the default.
    ///
    /// # Errors
    /// [`Error::NotFound`], which names existing policies.
    pub fn policy(&self, name: Option<&str>) -> Result<Arc<ResolvedPolicy>, Error> {
        self.policies.get(name)
    }

    /// The budget of a request that begins now and has this deadline; `reserve` is the time needed to answer the other
    /// requests that are due at the same time.
    ///
    /// # Errors
    /// [`Error::Late`] if the time left is not longer than the margin.
    pub fn budget(&self, deadline: Option<Monotonic>, reserve: Duration) -> Result<Budget, Error> {
        Budget::new(self.clock.monotonic(), deadline, self.rules.load().default_deadline, reserve)
    }

    /// Applies these rules from the next question on. Verdicts that were made under the old ones are still reused until the
    /// sources change, so the registry is reloaded after this.
    pub fn set_rules(&self, rules: Rules) {
        self.pipelines.set_budgets(rules.caller_budgets.clone());
        self.rules.store(rules);
    }

    /// Starts to load the lists that are not loaded, in tasks of their own.
    pub fn start_loading_lists(&self) {
        let is_list = |source: &ResolvedSource| source.source.about().transport == TransportKind::List;
        // Pipelines that are not in use yet are not built for sources of other kinds alone.
        if !self.registry.snapshot().iter().any(|source| is_list(source)) {
            return;
        }
        for entry in &self.pipelines.current().entries {
            if let Ok(SourcePipeline::List(pipeline)) = &entry.pipeline {
                pipeline.list().start_loading();
            }
        }
    }

    /// The raw answers with these hashes, as far as they are still retained and can be read.
    pub async fn raw_answers(&self, hashes: impl IntoIterator<Item = &AnswerHash>) -> Vec<Arc<[u8]>> {
        let mut bodies = Vec::new();
        for hash in hashes {
            bodies.extend(self.cache.raw_answer(hash).await.ok().flatten());
        }
        bodies
    }

    /// Prepares for shutdown once no request is left: cancels loads of lists, which nobody waits for, and stores the
    /// queued verdicts.
    pub fn release(&self) {
        self.late_verdicts.close();
        self.pipelines.release();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("rules", &self.rules.load())
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}
