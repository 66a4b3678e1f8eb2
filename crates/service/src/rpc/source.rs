//! The `SourceService`: configures, lists and tests sources, and reports their usage and disclosures.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tonic::{Request, Response, Status};

use super::background::BackgroundTasks;
use super::load::AnswerMemory;
use super::made_changes::{MadeChanges, digest_of};
use super::pagination::Page;
use super::{Context, status};
use crate::clock::Clock;
use crate::convert::enrichment::{read_request_id, write_window_use};
use crate::convert::source::{read_change, write, write_disclosure, write_kind};
use crate::convert::verdict::{source_name, write_error};
use crate::convert::{
    Violations, indicator, read_name, read_period, read_sources, shorten, write_duration, write_timestamp,
};
use crate::engine::{Engine, Usage};
use crate::error::{Error, Reason, Violation};
use crate::fetch::{CircuitState, GuardStatus, ReportedQuota};
use crate::offload::offload;
use crate::pb;
use crate::pb::source_service_server::SourceService;
use crate::settings::{Change, NO_SOURCE_HINT, NeverSendRules, Registry, ResolvedSource};
use crate::source::QuotaPer;
use crate::store::{Cursor, Disclosure, DisclosureFilter, Ledger, Listed, WindowUse};

/// Memory for the results of changes that may be repeated.
const CHANGES_BYTES: usize = 16 * 1024 * 1024;

/// Implements `SourceService`. Cheap to clone: clones share all state.
#[derive(Clone)]
pub(crate) struct SourceRpc {
    pub(super) registry: Arc<Registry>,
    pub(super) never_send: Arc<NeverSendRules>,
    ledger: Arc<dyn Ledger>,
    /// Tests sources and counts their usage.
    engine: Arc<Engine>,
    pub(super) clock: Arc<dyn Clock>,
    tasks: BackgroundTasks,
    /// Changes that were made under a request identifier.
    changes: MadeChanges,
}

impl SourceRpc {
    pub(crate) fn new(
        registry: Arc<Registry>,
        never_send: Arc<NeverSendRules>,
        ledger: Arc<dyn Ledger>,
        engine: Arc<Engine>,
        clock: Arc<dyn Clock>,
        tasks: BackgroundTasks,
    ) -> Self {
        let changes = MadeChanges::new(CHANGES_BYTES);
        Self { registry, never_send, ledger, engine, clock, tasks, changes }
    }

    fn context<T>(&self, request: &Request<T>) -> Context {
        Context::from_request(request, self.clock.as_ref())
    }

    /// The source with its current state.
    fn write_current(&self, source: &ResolvedSource) -> pb::Source {
        let suspended_until_time = self.engine.suspended_until(&source.settings.name).map(write_timestamp);
        let reported_quota = write_reported(&self.engine.reported_quota(&source.settings.name));
        let mut written = pb::Source { suspended_until_time, reported_quota, ..write(source) };
        if let Some(status) = self.engine.guard_status(&source.settings.name) {
            let (circuit, concurrency) = write_guards(&status);
            (written.circuit, written.concurrency) = (Some(circuit), Some(concurrency));
        }
        written.warnings.extend(self.engine.credential_warnings(&source.settings.name));
        if let Some(refusal) = self.engine.credential_refusal(&source.settings.name)
            && written.state() == pb::SourceState::Active
        {
            written.set_state(pb::SourceState::CredentialRefused);
            written.state_detail = refusal.detail;
        }
        written
    }

    async fn configure(&self, request: pb::ConfigureSourceRequest, caller: String) -> Result<pb::Source, Error> {
        let request_digest = digest_of(&request);
        let mut violations = Violations::default();
        let request_id = violations.check(read_request_id(request.request_id, "request_id")).unwrap_or_default();
        if request.source.is_none() {
            violations.add(Violation::new("source", Reason::FieldRequired, "the source to configure is needed"));
        }
        let mut change = read_change(request.source.unwrap_or_default(), request.update_mask, &mut violations);
        change.reset = violations.mask("reset_mask", request.reset_mask).unwrap_or_default();
        change.allow_missing = request.allow_missing;
        if request.validate_only || !violations.is_empty() {
            return self.validate(&change, violations).await.map(|source| write(&source));
        }
        let configure = async { self.registry.configure(change).await.map(|source| write(&source)) };
        self.changes.once((caller, request_id), request_digest, self.clock.as_ref(), configure).await
    }

    /// The source as it would be after the change.
    ///
    /// # Errors
    /// All violations of the request at once.
    async fn validate(&self, change: &Change, violations: Violations) -> Result<ResolvedSource, Error> {
        let mut judged = self.registry.effective(change).await;
        if let Err(Error::Invalid(wrong)) = &mut judged
            && change.name.is_empty()
            && change.patch.kind.is_none()
        {
            // An unnamed source may exist or not, so it is not known whether the request must name a kind.
            wrong.retain(|violation| violation.field != "source.kind");
        }
        violations.merge("source.name", judged)
    }

    async fn delete(&self, request: pb::DeleteSourceRequest, caller: String) -> Result<(), Error> {
        let request_digest = digest_of(&request);
        let mut violations = Violations::default();
        let name = violations.check(read_name(&request.name, "sources", "name"));
        let request_id = violations.check(read_request_id(request.request_id, "request_id"));
        let (name, request_id) = violations.finish(name.zip(request_id))?;
        let (etag, allow_missing) = (request.etag.as_str(), request.allow_missing);
        if request.validate_only {
            return self.registry.delete(&name, etag, allow_missing, true).await;
        }
        let delete =
            async { self.registry.delete(&name, etag, allow_missing, false).await.map(|()| pb::Source::default()) };
        self.changes.once((caller, request_id), request_digest, self.clock.as_ref(), delete).await.map(|_| ())
    }

    fn list(&self, request: &pb::ListSourcesRequest, memory: AnswerMemory) -> Result<pb::ListSourcesResponse, Error> {
        let mut violations = Violations::default();
        let page = Page::read(request.page_size, &request.page_token, "sources".into(), &mut violations);
        let page = violations.finish(page)?;
        let snapshot = self.registry.snapshot();
        let after = page.after();
        let is_behind = |name: &str| after.as_ref().is_none_or(|after| name > after.id.as_str());
        let rows: Vec<_> = snapshot.iter().filter(|source| is_behind(&source.settings.name)).collect();
        let listed = Listed { rows, has_more: false, bytes: 0 };
        let cursor =
            |source: &&Arc<ResolvedSource>| Cursor { time: SystemTime::UNIX_EPOCH, id: source.settings.name.clone() };
        let (sources, next_page_token) = page.write(&listed, memory, cursor, |source| self.write_current(source))?;
        let hint = if snapshot.is_empty() { NO_SOURCE_HINT.to_owned() } else { String::new() };
        Ok(pb::ListSourcesResponse { sources, next_page_token, hint })
    }

    async fn test(&self, request: pb::TestSourceRequest, context: Context) -> Result<pb::TestSourceResponse, Error> {
        let mut violations = Violations::default();
        let source = match request.source {
            Some(source) => {
                if !request.name.is_empty() && request.name != source.name {
                    let message = format!("names another source than source.name ({})", shorten(&source.name));
                    violations.add(Violation::invalid("name", message));
                }
                let mut change = read_change(source, request.update_mask, &mut violations);
                change.allow_missing = true;
                self.validate(&change, violations).await?
            }
            None => {
                let name = violations.check(read_name(&request.name, "sources", "name"));
                self.registry.get(&violations.finish(name)?)?
            }
        };
        let budget = self.engine.budget(context.deadline, Duration::ZERO)?;
        let probed = self.engine.probe(&source, &context.caller, budget).await;
        let probe = probed.probe;
        Ok(pb::TestSourceResponse {
            reachable: probe.connectivity.is_ok(),
            credential_accepted: probe.credential_accepted,
            tier: probe.tier.unwrap_or_default(),
            quota_left: probe.quota_left.into_iter().map(|(window, left)| pb::QuotaLeft { window, left }).collect(),
            detail: probe.detail,
            latency: Some(write_duration(probed.latency)),
            error: probe.connectivity.err().as_ref().map(write_error),
        })
    }

    async fn disclosures(
        &self,
        request: pb::ListDisclosuresRequest,
        memory: AnswerMemory,
    ) -> Result<pb::ListDisclosuresResponse, Error> {
        let mut violations = Violations::default();
        let (from, until) = read_period(request.from_time, request.until_time, &mut violations);
        let filter = DisclosureFilter {
            indicator: indicator::read_filter(request.indicator.as_ref(), &mut violations),
            source: Some(&request.source)
                .filter(|name| !name.is_empty())
                .and_then(|name| violations.check(read_name(name, "sources", "source"))),
            from,
            until,
        };
        let parameters = format!("disclosures {filter:?}");
        let page = Page::read(request.page_size, &request.page_token, parameters, &mut violations);
        let page = violations.finish(page)?;
        let _turn = Page::turn().await;
        let listed = self.ledger.disclosures(filter, page.limit(), page.after()).await?;
        let (disclosures, next_page_token) = offload(listed.bytes, move || {
            let cursor = |last: &Disclosure| Cursor { time: last.time, id: last.id.clone() };
            page.write(&listed, memory, cursor, write_disclosure)
        })
        .await?;
        Ok(pb::ListDisclosuresResponse { disclosures, next_page_token })
    }

    async fn usage(&self, request: pb::GetUsageRequest, caller: &str) -> Result<pb::GetUsageResponse, Error> {
        let mut violations = Violations::default();
        let sources = read_sources(&request.sources, "sources", &mut violations);
        for source in &sources {
            violations.resolve(&source.field, self.registry.check(&source.name));
        }
        let names: Vec<_> = violations.finish(Some(sources))?.into_iter().map(|source| source.name).collect();
        let usage = self.engine.usage(&names).await?;
        let budget = self.engine.caller_budget(caller).await?;
        let caller_budget = budget.map(|day| write_budget(caller, &day));
        Ok(pb::GetUsageResponse { usage: usage.iter().map(write_usage).collect(), caller_budget })
    }
}

fn write_budget(caller: &str, day: &WindowUse) -> pb::CallerBudget {
    pb::CallerBudget {
        caller: caller.to_owned(),
        limit: day.limit,
        used: day.used,
        left: day.limit.saturating_sub(day.used),
        reset_time: Some(write_timestamp(day.resets_at)),
    }
}

fn write_usage(usage: &Usage) -> pb::SourceUsage {
    pb::SourceUsage {
        source: source_name(&usage.source),
        quota: usage.quota.iter().map(|window| write_use(window, usage.runs_out)).collect(),
        units: usage.counters.units,
        calls: usage.counters.calls,
        saved_by_cache: usage.counters.cache_hits,
        saved_by_sharing: usage.counters.shared,
        suspended_until_time: usage.suspended_until.map(write_timestamp),
        reported_quota: write_reported(&usage.reported),
    }
}

/// The use of a window, and of the day also when it runs out.
fn write_use(window: &WindowUse, day_runs_out: Option<SystemTime>) -> pb::QuotaUse {
    let runs_out = day_runs_out.filter(|_| window.per == QuotaPer::Day);
    pb::QuotaUse { runs_out_time: runs_out.map(write_timestamp), ..write_window_use(window) }
}

fn write_reported(windows: &[ReportedQuota]) -> Vec<pb::ReportedQuota> {
    let write = |window: &ReportedQuota| pb::ReportedQuota {
        period: window.period.map(write_duration),
        limit: window.limit,
        left: window.left,
        reset_time: window.resets_at.map(write_timestamp),
        report_time: Some(write_timestamp(window.reported_at)),
    };
    windows.iter().map(write).collect()
}

/// The circuit and the calls at once of a source.
fn write_guards(status: &GuardStatus) -> (pb::Circuit, pb::Concurrency) {
    let (circuit, concurrency) = (&status.circuit, &status.concurrency);
    let state = match circuit.state {
        CircuitState::Closed => pb::CircuitState::Closed,
        CircuitState::Open => pb::CircuitState::Open,
        CircuitState::HalfOpen => pb::CircuitState::HalfOpen,
    };
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let circuit = pb::Circuit {
        state: state.into(),
        since_time: circuit.since.map(write_timestamp),
        next_probe_time: circuit.next_probe.map(write_timestamp),
        reason: circuit.why.clone(),
        attempts: number(circuit.attempts),
        failures: number(circuit.failures),
    };
    let concurrency = pb::Concurrency {
        limit: number(concurrency.limit),
        in_flight: number(concurrency.in_flight),
        waiting: number(concurrency.waiting),
    };
    (circuit, concurrency)
}

#[tonic::async_trait]
impl SourceService for SourceRpc {
    async fn list_source_kinds(
        &self,
        _: Request<pb::ListSourceKindsRequest>,
    ) -> Result<Response<pb::ListSourceKindsResponse>, Status> {
        let mut kinds: Vec<_> = self.registry.kinds().iter().map(|kind| write_kind(kind.about())).collect();
        kinds.sort_by(|a, b| a.kind.cmp(&b.kind));
        Ok(Response::new(pb::ListSourceKindsResponse { kinds }))
    }

    async fn configure_source(
        &self,
        request: Request<pb::ConfigureSourceRequest>,
    ) -> Result<Response<pb::ConfigureSourceResponse>, Status> {
        let caller = self.context(&request).caller;
        let rpc = self.clone();
        let configure = async move { rpc.configure(request.into_inner(), caller).await };
        let source = Some(self.tasks.run_to_completion(configure).await.map_err(status::of)?);
        Ok(Response::new(pb::ConfigureSourceResponse { source }))
    }

    async fn get_source(
        &self,
        request: Request<pb::GetSourceRequest>,
    ) -> Result<Response<pb::GetSourceResponse>, Status> {
        let mut violations = Violations::default();
        let name = violations.check(read_name(&request.get_ref().name, "sources", "name"));
        let source = self.registry.get(&violations.finish(name).map_err(status::of)?).map_err(status::of)?;
        Ok(Response::new(pb::GetSourceResponse { source: Some(self.write_current(&source)) }))
    }

    async fn list_sources(
        &self,
        request: Request<pb::ListSourcesRequest>,
    ) -> Result<Response<pb::ListSourcesResponse>, Status> {
        Ok(Response::new(self.list(request.get_ref(), AnswerMemory::from_request(&request)).map_err(status::of)?))
    }

    async fn delete_source(
        &self,
        request: Request<pb::DeleteSourceRequest>,
    ) -> Result<Response<pb::DeleteSourceResponse>, Status> {
        let caller = self.context(&request).caller;
        let rpc = self.clone();
        self.tasks
            .run_to_completion(async move { rpc.delete(request.into_inner(), caller).await })
            .await
            .map_err(status::of)?;
        Ok(Response::new(pb::DeleteSourceResponse {}))
    }

    async fn test_source(
        &self,
        request: Request<pb::TestSourceRequest>,
    ) -> Result<Response<pb::TestSourceResponse>, Status> {
        let context = self.context(&request);
        Ok(Response::new(self.test(request.into_inner(), context).await.map_err(status::of)?))
    }

    async fn list_disclosures(
        &self,
        request: Request<pb::ListDisclosuresRequest>,
    ) -> Result<Response<pb::ListDisclosuresResponse>, Status> {
        let memory = AnswerMemory::from_request(&request);
        Ok(Response::new(self.disclosures(request.into_inner(), memory).await.map_err(status::of)?))
    }

    async fn create_never_send_rule(
        &self,
        request: Request<pb::CreateNeverSendRuleRequest>,
    ) -> Result<Response<pb::CreateNeverSendRuleResponse>, Status> {
        let caller = self.context(&request).caller;
        let create = self.clone().create_rule(request.into_inner(), caller);
        let never_send_rule = Some(self.tasks.run_to_completion(create).await.map_err(status::of)?);
        Ok(Response::new(pb::CreateNeverSendRuleResponse { never_send_rule }))
    }

    async fn list_never_send_rules(
        &self,
        request: Request<pb::ListNeverSendRulesRequest>,
    ) -> Result<Response<pb::ListNeverSendRulesResponse>, Status> {
        Ok(Response::new(self.list_rules(request.get_ref(), AnswerMemory::from_request(&request)).map_err(status::of)?))
    }

    async fn delete_never_send_rule(
        &self,
        request: Request<pb::DeleteNeverSendRuleRequest>,
    ) -> Result<Response<pb::DeleteNeverSendRuleResponse>, Status> {
        let caller = self.context(&request).caller;
        self.tasks
            .run_to_completion(self.clone().delete_rule(request.into_inner(), caller))
            .await
            .map_err(status::of)?;
        Ok(Response::new(pb::DeleteNeverSendRuleResponse {}))
    }

    async fn get_usage(&self, request: Request<pb::GetUsageRequest>) -> Result<Response<pb::GetUsageResponse>, Status> {
        let caller = self.context(&request).caller;
        Ok(Response::new(self.usage(request.into_inner(), &caller).await.map_err(status::of)?))
    }
}
