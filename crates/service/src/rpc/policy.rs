//! The `PolicyService`: makes, changes, reads and deletes policies.

use std::sync::Arc;
use std::time::SystemTime;

use tonic::{Request, Response, Status};

use super::background::BackgroundTasks;
use super::load::AnswerMemory;
use super::made_changes::{MadeChanges, digest_of};
use super::pagination::Page;
use super::{Context, status};
use crate::clock::Clock;
use crate::convert::enrichment::read_request_id;
use crate::convert::policy::{read_change, write};
use crate::convert::{Violations, read_name};
use crate::error::{Error, Reason, Violation};
use crate::pb;
use crate::pb::policy_service_server::PolicyService;
use crate::settings::{PolicyRegistry, ResolvedPolicy};
use crate::store::{Cursor, Listed};

/// Memory for the results of changes that may be repeated.
const CHANGES_BYTES: usize = 16 * 1024 * 1024;

/// Implements `PolicyService`. Cheap to clone: clones share all state.
#[derive(Clone)]
pub(crate) struct PolicyRpc {
    policies: Arc<PolicyRegistry>,
    clock: Arc<dyn Clock>,
    tasks: BackgroundTasks,
    /// Changes that were made under a request identifier.
    changes: MadeChanges,
}

impl PolicyRpc {
    pub(crate) fn new(policies: Arc<PolicyRegistry>, clock: Arc<dyn Clock>, tasks: BackgroundTasks) -> Self {
        Self { policies, changes: MadeChanges::new(CHANGES_BYTES), clock, tasks }
    }

    fn caller<T>(&self, request: &Request<T>) -> String {
        Context::from_request(request, self.clock.as_ref()).caller
    }

    async fn configure(&self, request: pb::ConfigurePolicyRequest, caller: String) -> Result<pb::Policy, Error> {
        let request_digest = digest_of(&request);
        let mut violations = Violations::default();
        let request_id = violations.check(read_request_id(request.request_id, "request_id")).unwrap_or_default();
        if request.policy.is_none() {
            violations.add(Violation::new("policy", Reason::FieldRequired, "the policy to configure is needed"));
        }
        let policy = request.policy.unwrap_or_default();
        let mut change = read_change(&policy, request.update_mask, &request.base, &mut violations);
        change.allow_missing = request.allow_missing;
        if request.validate_only || !violations.is_empty() {
            let judged = self.policies.effective(&change).await;
            return violations.merge("policy.name", judged).map(|policy| write(&policy));
        }
        let configure = async { self.policies.configure(&change).await.map(|policy| write(&policy)) };
        self.changes.once((caller, request_id), request_digest, self.clock.as_ref(), configure).await
    }

    async fn get(&self, request: &pb::GetPolicyRequest) -> Result<pb::Policy, Error> {
        let mut violations = Violations::default();
        let name = violations.check(read_name(&request.name, "policies", "name"));
        let name = violations.finish(name)?;
        let policy = match request.revision {
            0 => self.policies.get(Some(&name))?,
            revision => self.policies.revision(&name, revision).await?,
        };
        Ok(write(&policy))
    }

    fn list(&self, request: &pb::ListPoliciesRequest, memory: AnswerMemory) -> Result<pb::ListPoliciesResponse, Error> {
        let mut violations = Violations::default();
        let page = Page::read(request.page_size, &request.page_token, "policies".into(), &mut violations);
        let page = violations.finish(page)?;
        let snapshot = self.policies.snapshot();
        let after = page.after();
        let is_behind = |name: &str| after.as_ref().is_none_or(|after| name > after.id.as_str());
        let rows: Vec<_> = snapshot.iter().filter(|policy| is_behind(&policy.policy.name)).collect();
        let listed = Listed { rows, has_more: false, bytes: 0 };
        let cursor =
            |policy: &&Arc<ResolvedPolicy>| Cursor { time: SystemTime::UNIX_EPOCH, id: policy.policy.name.clone() };
        let (policies, next_page_token) = page.write(&listed, memory, cursor, |policy| write(policy))?;
        let default_policy = format!("policies/{}", self.policies.default_policy());
        Ok(pb::ListPoliciesResponse { policies, next_page_token, default_policy })
    }

    async fn delete(&self, request: pb::DeletePolicyRequest, caller: String) -> Result<(), Error> {
        let request_digest = digest_of(&request);
        let mut violations = Violations::default();
        let name = violations.check(read_name(&request.name, "policies", "name"));
        let request_id = violations.check(read_request_id(request.request_id, "request_id"));
        let (name, request_id) = violations.finish(name.zip(request_id))?;
        let (etag, allow_missing) = (request.etag.as_str(), request.allow_missing);
        if request.validate_only {
            return self.policies.delete(&name, etag, allow_missing, true).await;
        }
        let delete = async {
            let deleted = self.policies.delete(&name, etag, allow_missing, false).await;
            deleted.map(|()| pb::DeletePolicyResponse {})
        };
        self.changes.once((caller, request_id), request_digest, self.clock.as_ref(), delete).await.map(|_| ())
    }
}

#[tonic::async_trait]
impl PolicyService for PolicyRpc {
    async fn configure_policy(
        &self,
        request: Request<pb::ConfigurePolicyRequest>,
    ) -> Result<Response<pb::ConfigurePolicyResponse>, Status> {
        let caller = self.caller(&request);
        let rpc = self.clone();
        let configure = async move { rpc.configure(request.into_inner(), caller).await };
        let policy = Some(self.tasks.run_to_completion(configure).await.map_err(status::of)?);
        Ok(Response::new(pb::ConfigurePolicyResponse { policy }))
    }

    async fn get_policy(
        &self,
        request: Request<pb::GetPolicyRequest>,
    ) -> Result<Response<pb::GetPolicyResponse>, Status> {
        let policy = Some(self.get(request.get_ref()).await.map_err(status::of)?);
        Ok(Response::new(pb::GetPolicyResponse { policy }))
    }

    async fn list_policies(
        &self,
        request: Request<pb::ListPoliciesRequest>,
    ) -> Result<Response<pb::ListPoliciesResponse>, Status> {
        Ok(Response::new(self.list(request.get_ref(), AnswerMemory::from_request(&request)).map_err(status::of)?))
    }

    async fn delete_policy(
        &self,
        request: Request<pb::DeletePolicyRequest>,
    ) -> Result<Response<pb::DeletePolicyResponse>, Status> {
        let caller = self.caller(&request);
        let rpc = self.clone();
        self.tasks
            .run_to_completion(async move { rpc.delete(request.into_inner(), caller).await })
            .await
            .map_err(status::of)?;
        Ok(Response::new(pb::DeletePolicyResponse {}))
    }
}
