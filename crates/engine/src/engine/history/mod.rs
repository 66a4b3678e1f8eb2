//! What the stored verdicts say of the sources, and what other settings would have said. Reads the history page by page, newest
//! first, in constant memory; asks no source and changes nothing.
//!
//! `pages.rs` reads, `labels.rs` knows what analysts said, `analysis.rs` collects statistics of the sources and `engines.rs` of the
//! engines inside one, `replay.rs` judges again, `threshold.rs` tries the values of a threshold, and `stored_answers.rs` with
//! `raw_answers.rs` read raw answers again.

use std::sync::Arc;
use std::time::SystemTime;

use super::Engine;
use crate::clock::Clock;
use crate::error::{Error, Reason};
use crate::fetch::SourceCache;
use crate::indicator::IndicatorType;
use crate::settings::{PolicyRegistry, ResolvedPolicy};
use crate::store::{Store, VerdictFilter};
use crate::verdict::{Rule, WeightedRule};

mod analysis;
mod engines;
mod labels;
mod pages;
mod raw_answers;
mod replay;
mod stored_answers;
mod threshold;

pub use analysis::{Collection, HistoryAnalysis};
pub use engines::{EngineAnalysis, EngineCollection, EngineCoverage, EngineQuestion};
pub use labels::JOINED_DAYS;
pub use pages::ScanProgress;
pub use replay::{Replay, ReplayChange, ReplayReport, ReplayTransition, ReplayedFlip};
pub use threshold::{ThresholdReport, ThresholdScan, ThresholdTrial};

/// Which verdicts are read; unset fields do not filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryFilter {
    /// By what the store can tell.
    pub verdicts: VerdictFilter,
    /// Only on indicators of this type.
    pub indicator_type: Option<IndicatorType>,
}

/// Reads the history of verdicts. Cheap to clone.
#[derive(Clone)]
pub struct History {
    store: Arc<dyn Store>,
    /// Raw answers, also those that are not stored yet.
    cache: SourceCache,
    policies: Arc<PolicyRegistry>,
    clock: Arc<dyn Clock>,
}

impl Engine {
    /// The history of its verdicts.
    pub fn history(&self) -> History {
        History {
            store: self.store.clone(),
            cache: self.cache.clone(),
            policies: self.policies.clone(),
            clock: self.clock.clone(),
        }
    }
}

impl History {
    /// The policy of this name, or without one the default, or the built-in one where the default has no evidence to learn from.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Invalid`] for a policy of another rule than `weighted`.
    pub fn weighted_policy(&self, name: Option<&str>) -> Result<(Arc<ResolvedPolicy>, WeightedRule), Error> {
        let named = self.policies.get(name)?;
        let named = match (name, &named.policy.rule) {
            (None, Rule::Xsoar | Rule::Worst | Rule::Majority | Rule::Mean(_)) => {
                self.policies.get(Some("weighted"))?
            }
            (_, _) => named,
        };
        match &named.policy.rule {
            Rule::Weighted(rule) => Ok((named.clone(), rule.clone())),
            Rule::Xsoar | Rule::Worst | Rule::Majority | Rule::Mean(_) => {
                let rule = named.policy.rule.kind();
                let message =
                    format!("its rule is {rule}, which weighs no evidence: name a policy of the rule weighted");
                Err(Error::invalid("policy", Reason::FieldInvalid, message))
            }
        }
    }

    /// The time until which verdicts count: the end of the period, or now.
    fn end(&self, filter: &HistoryFilter) -> SystemTime {
        filter.verdicts.until.unwrap_or_else(|| self.clock.now())
    }
}

/// The failure for a period in which there is nothing to read.
fn no_verdicts() -> Error {
    let message = "no verdict matches: choose a longer period or another filter, or enrich some indicators first";
    Error::NotReady { reason: Reason::NotReady, subject: "verdicts".into(), message: message.into() }
}
