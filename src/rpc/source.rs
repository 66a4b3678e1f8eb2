//! `SourceService`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use moka::sync::Cache;
use prost::Message;
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use super::background::BackgroundTasks;
use super::{Context, pagination, status};
use crate::convert::enrichment::{read_request_id, write_window};
use crate::convert::source::{read_change, write, write_disclosure, write_kind};
use crate::convert::verdict::{source_name, write_error};
use crate::convert::{Violations, duration, incomplete, indicator, read_name, read_period, read_sources, shorten};
use crate::engine::Engine;
use crate::error::{Error, Reason, Violation};
use crate::pb;
use crate::pb::source_service_server::SourceService;
use crate::settings::{Change, NO_SOURCE_HINT, ResolvedSource};
use crate::store::{Cursor, DisclosureFilter};

/// How long a repeated change is recognised.
const REPEAT: Duration = Duration::from_secs(600);
const REMEMBERED: u64 = 10_000;

/// Answers `SourceService`. Clones share everything.
#[derive(Clone, Debug)]
pub struct SourceRpc {
    engine: Arc<Engine>,
    tasks: BackgroundTasks,
    /// Changes made under a request identifier, by caller and identifier.
    done: Cache<(String, String), Arc<Done>>,
    /// Held while a change is made, so that its repetition finds what came of it.
    turn: Arc<Mutex<()>>,
}

/// A change that was made: what was asked, in a form that does not show its credential, and what was answered.
#[derive(Debug)]
struct Done {
    digest: Vec<u8>,
    at: SystemTime,
    source: pb::Source,
}

impl SourceRpc {
    /// The service over this engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { tasks: BackgroundTasks::of(&engine), engine, done: Cache::new(REMEMBERED), turn: Arc::default() }
    }

    async fn configure(&self, request: pb::ConfigureSourceRequest, caller: String) -> Result<pb::Source, Error> {
        let digest = digest::digest(&digest::SHA256, &request.encode_to_vec()).as_ref().to_vec();
        let mut violations = Violations::default();
        let request_id = violations.check(read_request_id(request.request_id)).unwrap_or_default();
        if request.source.is_none() {
            violations.add(Violation::new("source", Reason::FieldRequired, "the source to configure is needed"));
        }
        let mut change = read_change(request.source.unwrap_or_default(), request.update_mask, &mut violations);
        change.reset = request.reset_mask.map(|mask| mask.paths).unwrap_or_default();
        change.allow_missing = request.allow_missing;
        if request.validate_only || !violations.is_empty() {
            return self.judge(&change, violations).await.map(|source| write(&source));
        }
        let key = (!request_id.is_empty()).then_some((caller, request_id));
        let _turn = self.turn.lock().await;
        if let Some(done) = key.as_ref().and_then(|key| self.repeated(key)) {
            return if done.digest == digest { Ok(done.source.clone()) } else { Err(reused_id()) };
        }
        let source = write(&self.engine.registry().configure(change).await?);
        self.remember(key, digest, source.clone());
        Ok(source)
    }

    /// The source as the change would make it, or everything that is wrong with the request.
    async fn judge(&self, change: &Change, violations: Violations) -> Result<ResolvedSource, Error> {
        let mut judged = self.engine.registry().effective(change).await;
        if let Err(Error::Invalid(wrong)) = &mut judged
            && change.name.is_empty()
            && change.patch.kind.is_none()
        {
            // Without its name it is not known whether its kind must be said.
            wrong.retain(|one| one.field != "source.kind");
        }
        violations.merge("source.name", judged)
    }

    async fn delete(&self, request: pb::DeleteSourceRequest, caller: String) -> Result<(), Error> {
        let digest = digest::digest(&digest::SHA256, &request.encode_to_vec()).as_ref().to_vec();
        let mut violations = Violations::default();
        let name = violations.check(read_name(&request.name, "sources", "name"));
        let request_id = violations.check(read_request_id(request.request_id)).unwrap_or_default();
        violations.finish()?;
        let name = name.ok_or_else(incomplete)?;
        let registry = self.engine.registry();
        if request.validate_only {
            return registry.delete(&name, &request.etag, request.allow_missing, true).await;
        }
        let key = (!request_id.is_empty()).then_some((caller, request_id));
        let _turn = self.turn.lock().await;
        if let Some(done) = key.as_ref().and_then(|key| self.repeated(key)) {
            return if done.digest == digest { Ok(()) } else { Err(reused_id()) };
        }
        registry.delete(&name, &request.etag, request.allow_missing, false).await?;
        self.remember(key, digest, pb::Source::default());
        Ok(())
    }

    /// Remembers what was answered under this identifier.
    fn remember(&self, key: Option<(String, String)>, digest: Vec<u8>, source: pb::Source) {
        if let Some(key) = key {
            self.done.insert(key, Arc::new(Done { digest, at: self.engine.clock().now(), source }));
        }
    }

    fn repeated(&self, key: &(String, String)) -> Option<Arc<Done>> {
        let done = self.done.get(key)?;
        let age = self.engine.clock().now().duration_since(done.at).unwrap_or_default();
        (age < REPEAT).then_some(done)
    }

    fn list(&self, request: pb::ListSourcesRequest) -> Result<pb::ListSourcesResponse, Error> {
        let mut violations = Violations::default();
        let size = violations.check(pagination::read_size(request.page_size));
        let after = violations.check(pagination::read_token(&request.page_token, "sources"));
        violations.finish()?;
        let (size, after) = size.zip(after).ok_or_else(incomplete)?;
        let snapshot = self.engine.registry().snapshot();
        let behind = |name: &str| after.as_ref().is_none_or(|after| name > after.id.as_str());
        let mut rest = snapshot.iter().filter(|source| behind(&source.settings.name));
        let sources: Vec<_> = rest.by_ref().take(size).collect();
        let more = rest.next().is_some();
        let last = sources.last().filter(|_| more).map(|last| last.settings.name.clone());
        let token = |id| pagination::write_token(&Cursor { time: SystemTime::UNIX_EPOCH, id }, "sources");
        Ok(pb::ListSourcesResponse {
            sources: sources.into_iter().map(write).collect(),
            next_page_token: last.map(token).unwrap_or_default(),
            hint: if snapshot.is_empty() { NO_SOURCE_HINT.to_owned() } else { String::new() },
        })
    }

    async fn test(&self, request: pb::TestSourceRequest, context: Context) -> Result<pb::TestSourceResponse, Error> {
        let mut violations = Violations::default();
        let registry = self.engine.registry();
        let source = match request.source {
            Some(source) => {
                if !request.name.is_empty() && request.name != source.name {
                    let message = format!("names another source than source.name ({})", shorten(&source.name));
                    violations.add(Violation::invalid("name", message));
                }
                let mut change = read_change(source, request.update_mask, &mut violations);
                change.allow_missing = true;
                self.judge(&change, violations).await?
            }
            None => {
                let name = violations.check(read_name(&request.name, "sources", "name"));
                violations.finish()?;
                registry.get(&name.ok_or_else(incomplete)?)?
            }
        };
        let budget = self.engine.budget(context.deadline)?;
        let probed = self.engine.probe(&source, &context.caller, budget).await;
        let probe = probed.probe;
        Ok(pb::TestSourceResponse {
            reachable: probe.connectivity.is_ok(),
            credential_accepted: probe.credential_accepted,
            tier: probe.tier.unwrap_or_default(),
            quota_left: probe.quota_left.into_iter().map(|(window, left)| pb::QuotaLeft { window, left }).collect(),
            detail: probe.detail,
            latency: Some(duration(probed.latency)),
            error: probe.connectivity.err().as_ref().map(write_error),
        })
    }

    async fn disclosures(&self, request: pb::ListDisclosuresRequest) -> Result<pb::ListDisclosuresResponse, Error> {
        let mut violations = Violations::default();
        let size = violations.check(pagination::read_size(request.page_size));
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
        let after = violations.check(pagination::read_token(&request.page_token, &parameters));
        violations.finish()?;
        let (size, after) = size.zip(after).ok_or_else(incomplete)?;
        let listed = self.engine.store().disclosures(filter, size + 1, after).await;
        let mut disclosures = listed.map_err(status::store_failed)?;
        let more = disclosures.len() > size;
        disclosures.truncate(size);
        let last = disclosures.last().filter(|_| more);
        let token =
            last.map(|last| pagination::write_token(&Cursor { time: last.time, id: last.id.clone() }, &parameters));
        Ok(pb::ListDisclosuresResponse {
            next_page_token: token.unwrap_or_default(),
            disclosures: disclosures.iter().map(write_disclosure).collect(),
        })
    }

    async fn usage(&self, request: pb::GetUsageRequest) -> Result<pb::GetUsageResponse, Error> {
        let mut violations = Violations::default();
        let names = read_sources(&request.sources, &self.engine, &mut violations);
        violations.finish()?;
        let usage = self.engine.usage(&names).await?;
        Ok(pb::GetUsageResponse {
            usage: usage
                .into_iter()
                .map(|one| pb::SourceUsage {
                    source: source_name(&one.source),
                    quota: one.quota.iter().map(write_window).collect(),
                    units: one.counters.units,
                    calls: one.counters.calls,
                    saved_by_cache: one.counters.cache_hits,
                    saved_by_sharing: one.counters.shared,
                })
                .collect(),
        })
    }
}

fn reused_id() -> Error {
    let message = "was used for another change within the last ten minutes: use a new one for each change";
    Error::invalid("request_id", Reason::FieldInvalid, message)
}

#[tonic::async_trait]
impl SourceService for SourceRpc {
    async fn list_source_kinds(
        &self,
        _: Request<pb::ListSourceKindsRequest>,
    ) -> Result<Response<pb::ListSourceKindsResponse>, Status> {
        let mut kinds: Vec<_> = self.engine.registry().kinds().iter().map(|kind| write_kind(kind.about())).collect();
        kinds.sort_by(|a, b| a.kind.cmp(&b.kind));
        Ok(Response::new(pb::ListSourceKindsResponse { kinds }))
    }

    async fn configure_source(
        &self,
        request: Request<pb::ConfigureSourceRequest>,
    ) -> Result<Response<pb::ConfigureSourceResponse>, Status> {
        let caller = Context::of(&request, &self.engine).caller;
        let this = self.clone();
        let work = async move { this.configure(request.into_inner(), caller).await };
        let source = self.tasks.run_to_completion(work).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(pb::ConfigureSourceResponse { source: Some(source) }))
    }

    async fn get_source(
        &self,
        request: Request<pb::GetSourceRequest>,
    ) -> Result<Response<pb::GetSourceResponse>, Status> {
        let name = read_name(&request.get_ref().name, "sources", "name").map_err(|one| Error::Invalid(vec![one]));
        let source = name.and_then(|name| self.engine.registry().get(&name)).map_err(|error| status::of(&error))?;
        Ok(Response::new(pb::GetSourceResponse { source: Some(write(&source)) }))
    }

    async fn list_sources(
        &self,
        request: Request<pb::ListSourcesRequest>,
    ) -> Result<Response<pb::ListSourcesResponse>, Status> {
        self.list(request.into_inner()).map(Response::new).map_err(|error| status::of(&error))
    }

    async fn delete_source(
        &self,
        request: Request<pb::DeleteSourceRequest>,
    ) -> Result<Response<pb::DeleteSourceResponse>, Status> {
        let caller = Context::of(&request, &self.engine).caller;
        let this = self.clone();
        let done = self.tasks.run_to_completion(async move { this.delete(request.into_inner(), caller).await }).await;
        done.map(|()| Response::new(pb::DeleteSourceResponse {})).map_err(|error| status::of(&error))
    }

    async fn test_source(
        &self,
        request: Request<pb::TestSourceRequest>,
    ) -> Result<Response<pb::TestSourceResponse>, Status> {
        let context = Context::of(&request, &self.engine);
        self.test(request.into_inner(), context).await.map(Response::new).map_err(|error| status::of(&error))
    }

    async fn list_disclosures(
        &self,
        request: Request<pb::ListDisclosuresRequest>,
    ) -> Result<Response<pb::ListDisclosuresResponse>, Status> {
        self.disclosures(request.into_inner()).await.map(Response::new).map_err(|error| status::of(&error))
    }

    async fn get_usage(&self, request: Request<pb::GetUsageRequest>) -> Result<Response<pb::GetUsageResponse>, Status> {
        self.usage(request.into_inner()).await.map(Response::new).map_err(|error| status::of(&error))
    }
}
