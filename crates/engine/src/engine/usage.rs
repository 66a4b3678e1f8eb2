//! Usage of the sources: their calls and quota, and the calls that caches saved.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::Engine;
use crate::error::Error;
use crate::fetch::{CircuitState, CounterSnapshot, GuardStatus, ReportedQuota, SourceCounters, SourcePipeline};
use crate::finding::SourceError;
use crate::settings::{ResolvedSource, State};
use crate::store::{StoreError, WindowUse, caller_account, caller_limits};

/// The usage of one source since the server started, and the current use of its quota windows.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// The source's name, without `sources/`.
    pub source: String,
    /// The current use of its quota windows.
    pub quota: Vec<WindowUse>,
    /// When the day's quota will be used up at the pace of the last hour, if before the day ends.
    pub runs_out: Option<SystemTime>,
    /// What its answers report of the calls that are left.
    pub reported: Vec<ReportedQuota>,
    /// Until when it is suspended, because it reported its quota as used up.
    pub suspended_until: Option<SystemTime>,
    /// Calls, units, and look-ups answered without a call.
    pub counters: CounterSnapshot,
}

impl Engine {
    /// The counters of the source of this name.
    pub fn counters(&self, source: &str) -> Arc<SourceCounters> {
        self.pipelines.counters(source)
    }

    /// The usage of these sources, or of all, in order of name.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown source.
    pub async fn usage(&self, names: &[String]) -> Result<Vec<Usage>, Error> {
        let pipelines = self.pipelines.current();
        let mut usage = Vec::new();
        for entry in self.named(&pipelines.entries, names)? {
            let (mut quota, mut runs_out) = (Vec::new(), None);
            if let Ok(pipeline) = &entry.pipeline {
                quota = pipeline.quota_usage().await;
                runs_out = pipeline.runs_out(&quota).await;
            }
            let suspended_until = entry.pipeline.as_ref().ok().and_then(SourcePipeline::suspended_until);
            let (source, counters) = (entry.name().to_owned(), entry.counters.snapshot());
            let reported = entry.pipeline.as_ref().map(SourcePipeline::reported_quota).unwrap_or_default();
            usage.push(Usage { source, quota, runs_out, reported, suspended_until, counters });
        }
        Ok(usage)
    }

    /// The use of the budget that this caller has for the day; `None` if it has no limit.
    ///
    /// # Errors
    /// If the ledger cannot be reached.
    pub async fn caller_budget(&self, caller: &str) -> Result<Option<WindowUse>, StoreError> {
        let Some(limit) = self.pipelines.caller_limit(caller) else { return Ok(None) };
        let usage = self.store.usage(&caller_account(caller), &caller_limits(limit), self.clock.now()).await?;
        Ok(usage.first().copied())
    }

    /// What the user should know of the credential of the source of this name: that its tier is not the declared one, or that
    /// its allowance could not be read.
    pub fn credential_warnings(&self, name: &str) -> Vec<String> {
        let pipelines = self.pipelines.current();
        let Some(entry) = pipelines.find(name) else { return Vec::new() };
        let Ok(pipeline) = &entry.pipeline else { return Vec::new() };
        let declared = &entry.source.settings.tier;
        let tier = pipeline.allowance().and_then(|allowance| allowance.tier.clone());
        let other = tier.filter(|tier| tier != declared).map(|tier| {
            format!("its credential is of tier {tier}, but the source is declared as {declared}: set tier = \"{tier}\"")
        });
        let failure = pipeline.allowance_failure();
        let failure = failure.map(|why| format!("the allowance of its credential could not be read: {why}"));
        other.into_iter().chain(failure).collect()
    }

    /// The error of the source of this name if it is not asked because it refused the credential.
    pub fn credential_refusal(&self, name: &str) -> Option<SourceError> {
        let pipelines = self.pipelines.current();
        let entry = pipelines.entries.iter().find(|entry| entry.name() == name)?;
        entry.pipeline.as_ref().ok()?.credential_refusal()
    }

    /// The circuit and the calls at once of the source of this name; `None` for a list.
    pub fn guard_status(&self, name: &str) -> Option<GuardStatus> {
        let pipelines = self.pipelines.current();
        pipelines.find(name)?.pipeline.as_ref().ok()?.guard_status()
    }

    /// Whether each source, by name, can be asked: it is active, its credential was not refused, and its circuit is closed.
    pub fn askable_sources(&self) -> BTreeMap<String, bool> {
        // Only reports: pipelines that are not in use yet are not built for it.
        let pipelines = self.pipelines.latest();
        let is_askable = |source: &ResolvedSource| {
            let entry = pipelines.find(&source.settings.name);
            let in_use = entry.filter(|entry| Arc::ptr_eq(&entry.source.settings, &source.settings));
            let can_be_asked = |pipeline: &SourcePipeline| {
                let guards = pipeline.guard_status();
                let is_closed = guards.is_none_or(|guards| guards.circuit.state == CircuitState::Closed);
                is_closed && pipeline.credential_refusal().is_none()
            };
            let is_fit = in_use.is_none_or(|entry| entry.pipeline.as_ref().is_ok_and(can_be_asked));
            source.state == State::Active && is_fit
        };
        let sources = self.registry.snapshot();
        sources.iter().map(|source| (source.settings.name.clone(), is_askable(source))).collect()
    }

    /// What the source of this name reports in its answers of the calls that are left.
    pub fn reported_quota(&self, name: &str) -> Vec<ReportedQuota> {
        let pipelines = self.pipelines.current();
        let pipeline = pipelines.find(name).and_then(|entry| entry.pipeline.as_ref().ok());
        pipeline.map(SourcePipeline::reported_quota).unwrap_or_default()
    }

    /// Until when the source of this name is suspended, because it reported its quota as used up.
    pub fn suspended_until(&self, name: &str) -> Option<SystemTime> {
        let pipelines = self.pipelines.current();
        let entry = pipelines.entries.iter().find(|entry| entry.name() == name)?;
        entry.pipeline.as_ref().ok()?.suspended_until()
    }
}
