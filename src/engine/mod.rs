//! One enrichment: plan, withhold, fan out, bound the time, fuse, record.
//!
//! Knows no protobuf and opens no connection: `fetch` asks, `verdict` judges, `store` stores. Read `enrich.rs` first;
//! `plan.rs` decides who is asked, `withhold.rs` what is withheld, `budget.rs` how long it may take, `pipelines.rs` holds
//! the pipeline of each source, `late_verdicts.rs` stores what was answered at the last moment.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Monotonic};
use crate::error::{Error, Reason};
use crate::fetch::SourceCache;
use crate::finding::Outcome;
use crate::indicator::{Indicator, Tlp};
use crate::settings::{NeverSend, Registry, nearest};
use crate::source::{EgressRules, Lookup, RelationsWanted};
use crate::store::Store;
use crate::verdict::{Policy, Verdict, fuse};

mod budget;
mod enrich;
mod graph;
mod late_verdicts;
mod pipelines;
mod plan;
mod probe;
mod usage;
mod withhold;

pub use budget::{Budget, DEFAULT_DEADLINE};
pub use enrich::{Enriched, Progress, VerdictKey};
pub use graph::{RelationEdge, RelationGraph, RelationNode, Walk};
pub use plan::{Planned, PlannedSource};
pub use probe::Probed;
pub use usage::Usage;

/// The rules and limits that hold for every enrichment.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Indicators and hosts that are never disclosed outside.
    pub never_send: NeverSend,
    /// Suffixes of internal names beside the usual ones.
    pub internal_suffixes: Vec<String>,
    /// The rules for addresses and files, as they hold for what the configuration says itself.
    pub egress: EgressRules,
    /// Time for a request whose caller sets no deadline.
    pub default_deadline: Duration,
    /// The policy that judges where the request names none, without `policies/`.
    pub default_policy: String,
}

/// What an engine is made of.
pub struct Parts {
    /// The sources as they are set.
    pub registry: Arc<Registry>,
    /// Where verdicts, answers and the ledger are stored.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Cached answers of all sources.
    pub cache: SourceCache,
    /// Tasks that a shutdown waits for.
    pub tracker: TaskTracker,
    /// What holds for every enrichment.
    pub rules: Rules,
}

/// What a caller wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrichRequest {
    /// What is looked up.
    pub indicator: Indicator,
    /// Names of the sources to ask, without `sources/`; empty: all that fit.
    pub sources: Vec<String>,
    /// The policy that judges, without `policies/`; `None`: the default.
    pub policy: Option<String>,
    /// How far the indicator may be passed on.
    pub tlp: Tlp,
    /// How old a cached answer may be; `None`: as old as each source allows.
    pub max_age: Option<Duration>,
    /// Which related indicators are wanted.
    pub relations: RelationsWanted,
    /// Who asks.
    pub caller: String,
    /// The moments that bound it; `None`: the default time from when it begins.
    pub budget: Option<Budget>,
}

impl EnrichRequest {
    fn lookup(&self) -> Lookup {
        Lookup { indicator: self.indicator.clone(), relations: self.relations.clone() }
    }
}

/// Answers what all sources together say of an indicator.
pub struct Engine {
    registry: Arc<Registry>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    tracker: TaskTracker,
    rules: Rules,
    policies: Vec<Policy>,
    pipelines: pipelines::SourcePipelines,
    late_verdicts: late_verdicts::LateVerdicts,
}

impl Engine {
    /// An engine over these parts.
    pub fn new(parts: Parts) -> Self {
        let pipelines = pipelines::SourcePipelines::new(pipelines::SharedParts {
            registry: parts.registry.clone(),
            store: parts.store.clone(),
            clock: parts.clock.clone(),
            cache: parts.cache,
            tracker: parts.tracker.clone(),
            egress: parts.rules.egress.clone(),
        });
        let late_verdicts = late_verdicts::LateVerdicts::start(parts.store.clone(), &parts.tracker);
        Self {
            late_verdicts,
            registry: parts.registry,
            store: parts.store,
            clock: parts.clock,
            tracker: parts.tracker,
            rules: parts.rules,
            policies: Policy::built_in(),
            pipelines,
        }
    }

    /// The policy of this name (without `policies/`), or the default.
    ///
    /// # Errors
    /// [`Error::NotFound`] that lists the policies there are.
    pub fn policy(&self, name: Option<&str>) -> Result<&Policy, Error> {
        let wanted = name.unwrap_or(&self.rules.default_policy);
        self.policies.iter().find(|policy| policy.name == wanted).ok_or_else(|| Error::NotFound {
            reason: Reason::PolicyNotFound,
            name: format!("policies/{wanted}"),
            hint: self.policy_hint(wanted),
        })
    }

    fn policy_hint(&self, wanted: &str) -> String {
        let names: Vec<_> = self.policies.iter().map(|policy| policy.name.as_str()).collect();
        let near = nearest(wanted, &names).map(|near| format!("did you mean policies/{near}? "));
        let all: Vec<_> = names.iter().map(|name| format!("policies/{name}")).collect();
        format!("{}use one of {}", near.unwrap_or_default(), all.join(", "))
    }

    /// The budget of a request with this deadline, as of now; `reserve` is the time that others need who are due at the same
    /// time.
    ///
    /// # Errors
    /// [`Error::Late`] when not even the margin is left.
    pub fn budget(&self, deadline: Option<Monotonic>, reserve: Duration) -> Result<Budget, Error> {
        Budget::new(self.clock.monotonic(), deadline, self.rules.default_deadline, reserve)
    }

    /// Lets go once nobody asks any more: a list that is loaded for nobody does not delay a shutdown, and what was answered
    /// is stored.
    pub fn release(&self) {
        self.late_verdicts.close();
        self.pipelines.release();
    }

    fn judge(&self, policy: &Policy, indicator: &Indicator, outcomes: Vec<Outcome>) -> Verdict {
        fuse(policy, indicator, self.clock.now(), outcomes)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("rules", &self.rules).field("registry", &self.registry).finish_non_exhaustive()
    }
}
