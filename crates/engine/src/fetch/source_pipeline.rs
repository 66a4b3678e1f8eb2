//! What the engine sees of a source: the pipeline to a remote source, or the shorter one of a list, with its state for
//! display and planning.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::guards::GuardStatus;
use super::list_pipeline::ListPipeline;
use super::lookup::{Fetched, LookupRequest};
use super::pipeline::RemotePipeline;
use super::reported::ReportedQuota;
use crate::finding::{NotAsked, NotAskedReason, SourceError};
use crate::source::{Allowance, Lookup, Priority, Probe};
use crate::store::WindowUse;

/// The pipeline to one source under one set of settings.
#[derive(Clone, Debug)]
pub enum SourcePipeline {
    /// A source that is asked over the network.
    Remote(Arc<RemotePipeline>),
    /// A list that is held in memory.
    List(Arc<ListPipeline>),
}

impl SourcePipeline {
    /// Looks an indicator up. Never fails: errors are outcomes too. The engine has already decided that the source may
    /// be asked about it (type, TLP, never-send rules).
    pub async fn look_up(&self, request: LookupRequest) -> Fetched {
        match self {
            Self::Remote(pipeline) => pipeline.look_up(request).await,
            Self::List(pipeline) => pipeline.look_up(&request).await,
        }
    }

    /// The outcome from the cache alone; `None` if a call would be needed. Lists are not cached.
    pub async fn cached(&self, lookup: &Lookup, max_age: Option<Duration>) -> Option<Fetched> {
        self.cached_in_part(lookup, max_age).await.filter(|(_, is_whole)| *is_whole).map(|(fetched, _)| fetched)
    }

    /// What the cache alone says, and whether that is the whole outcome. If calls would be needed for the rest, it is a finding
    /// that names what is missing. `None` if there is neither.
    pub async fn cached_in_part(&self, lookup: &Lookup, max_age: Option<Duration>) -> Option<(Fetched, bool)> {
        match self {
            Self::Remote(pipeline) => pipeline.cached(lookup, max_age).await,
            Self::List(_) => None,
        }
    }

    /// A number that changes with what a list answers; 0 for a remote source. `None`: a check of the list is overdue, and was not
    /// over within `wait`.
    pub async fn list_generation(&self, wait: Duration) -> Option<u64> {
        match self {
            Self::Remote(_) => Some(0),
            Self::List(pipeline) => pipeline.list().generation(wait).await,
        }
    }

    /// The current use of the source's quota. Empty if it has none, or the ledger cannot be reached.
    pub async fn quota_usage(&self) -> Vec<WindowUse> {
        match self {
            Self::Remote(pipeline) => pipeline.quota.usage().await,
            Self::List(_) => Vec::new(),
        }
    }

    /// When the day's quota will be used up at the pace of the last hour, given its usage. `None`: not before the day ends, or it is
    /// already.
    pub async fn runs_out(&self, usage: &[WindowUse]) -> Option<SystemTime> {
        match self {
            Self::Remote(pipeline) => pipeline.quota.runs_out(usage).await,
            Self::List(_) => None,
        }
    }

    /// Identifies the account whose quota is spent; `None` for a list.
    pub fn account(&self) -> Option<&str> {
        match self {
            Self::Remote(pipeline) => Some(&pipeline.quota.account),
            Self::List(_) => None,
        }
    }

    /// Why no call of this priority would be made now, given this usage: a window is used up, the account is suspended, the source
    /// refused the credential, or its circuit is open.
    pub fn quota_refusal(&self, priority: Priority, usage: &[WindowUse]) -> Option<NotAsked> {
        match self {
            Self::Remote(pipeline) => {
                let spent = pipeline.quota.refusal(priority, usage);
                let refused = pipeline.account.credential_refusal();
                let refused = refused.map(|error| NotAsked::new(NotAskedReason::NotConfigured, error.detail));
                let clock = &*pipeline.clock;
                refused.or(spent).or_else(|| pipeline.account.refusal(clock)).or_else(|| pipeline.guards.refusal(clock))
            }
            Self::List(_) => None,
        }
    }

    /// The units that are left for requests of this priority, given this usage: those of the scarcest window. `None`: not limited.
    pub fn units_left(&self, priority: Priority, usage: &[WindowUse]) -> Option<u64> {
        match self {
            Self::Remote(pipeline) => pipeline.quota.units_left(priority, usage),
            Self::List(_) => None,
        }
    }

    /// The share that is left of the scarcest window, from 0 to 1, given this usage; 1 if there is none.
    pub fn share_left(&self, priority: Priority, usage: &[WindowUse]) -> f64 {
        match self {
            Self::Remote(pipeline) => pipeline.quota.share_left(priority, usage),
            Self::List(_) => 1.0,
        }
    }

    /// What the source reports in its answers of the calls that are left.
    pub fn reported_quota(&self) -> Vec<ReportedQuota> {
        match self {
            Self::Remote(pipeline) => pipeline.account.reported_quota(&*pipeline.clock),
            Self::List(_) => Vec::new(),
        }
    }

    /// Until when the source is suspended, because it reported its quota as used up; `None` if it is not.
    pub fn suspended_until(&self) -> Option<SystemTime> {
        match self {
            Self::Remote(pipeline) => pipeline.account.suspended_until(&*pipeline.clock),
            Self::List(_) => None,
        }
    }

    /// The state of what keeps calls from a source that cannot bear them; `None` for a list, which has nothing of it.
    pub fn guard_status(&self) -> Option<GuardStatus> {
        match self {
            Self::Remote(pipeline) => Some(pipeline.guards.status(&*pipeline.clock)),
            Self::List(_) => None,
        }
    }

    /// The error of the source if it is not asked because it refused the credential.
    pub fn credential_refusal(&self) -> Option<SourceError> {
        match self {
            Self::Remote(pipeline) => pipeline.account.credential_refusal(),
            Self::List(_) => None,
        }
    }

    /// The allowance that the source reported, if it was read.
    pub fn allowance(&self) -> Option<Arc<Allowance>> {
        match self {
            Self::Remote(pipeline) => pipeline.account.allowance(),
            Self::List(_) => None,
        }
    }

    /// Why the allowance could not be read last time, if so.
    pub fn allowance_failure(&self) -> Option<String> {
        match self {
            Self::Remote(pipeline) => pipeline.account.allowance_failure(),
            Self::List(_) => None,
        }
    }

    /// Asks the probe questions for `TestSource`, each once and paid like any other, and reads the answers.
    pub async fn probe(&self, caller: &str) -> Probe {
        match self {
            Self::Remote(pipeline) => pipeline.probe(caller).await,
            Self::List(pipeline) => pipeline.probe(caller).await,
        }
    }
}
