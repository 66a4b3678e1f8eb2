//! The `VerdictService`: reads and compares the history of verdicts. `feedback.rs` has what analysts say.

use std::sync::Arc;

use prost::Message;
use tonic::{Request, Response, Status};

use super::background::BackgroundTasks;
use super::load::{AnswerMemory, out_of_answer_memory};
use super::made_changes::MadeChanges;
use super::pagination::Page;
use super::{Context, status};
use crate::clock::Clock;
use crate::convert::verdict::{RawAnswers, View, read_view, write_record};
use crate::convert::{Violations, comparison, indicator, read_name, read_period};
use crate::engine::Engine;
use crate::error::{Error, Reason, Violation};
use crate::indicator::from_hex;
use crate::offload::offload;
use crate::pb;
use crate::pb::verdict_service_server::VerdictService;
use crate::store::{Cursor, Store, VerdictFilter, VerdictRecord};
use crate::verdict::compare;

/// Memory for the results of changes that may be repeated.
const CHANGES_BYTES: usize = 1024 * 1024;

/// Implements `VerdictService` on top of the store; the engine knows which feedback is active. Cheap to clone: clones share
/// all state.
#[derive(Clone)]
pub(crate) struct VerdictRpc {
    pub(super) store: Arc<dyn Store>,
    pub(super) engine: Arc<Engine>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) changes: MadeChanges,
    tasks: BackgroundTasks,
}

impl VerdictRpc {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        engine: Arc<Engine>,
        clock: Arc<dyn Clock>,
        tasks: BackgroundTasks,
    ) -> Self {
        Self { store, engine, clock, changes: MadeChanges::new(CHANGES_BYTES), tasks }
    }

    fn caller<T>(&self, request: &Request<T>) -> String {
        Context::from_request(request, self.clock.as_ref()).caller
    }

    async fn get(&self, request: pb::GetVerdictRequest, mut memory: AnswerMemory) -> Result<pb::Verdict, Error> {
        let mut violations = Violations::default();
        let id = violations.check(read_name(&request.name, "verdicts", "name"));
        let view = violations.check(read_view(request.view, "view"));
        let (id, view) = violations.finish(id.zip(view))?;
        let record = self.store.verdict(&id).await?;
        let record = record.ok_or_else(|| verdict_not_found(request.name))?;
        // Raw answers may be as large as a page.
        let _turn = if view == View::Raw { Page::turn().await } else { None };
        let raw = if view == View::Raw { self.raw_answers(&record).await } else { RawAnswers::new() };
        let bytes = raw.values().flatten().map(String::len).sum();
        let verdict = offload(bytes, move || write_record(&record, true, view, &raw)).await;
        if memory.reserve(verdict.encoded_len()) { Ok(verdict) } else { Err(out_of_answer_memory()) }
    }

    async fn compare(
        &self,
        request: pb::CompareVerdictsRequest,
        mut memory: AnswerMemory,
    ) -> Result<pb::CompareVerdictsResponse, Error> {
        let mut violations = Violations::default();
        let mut records = [None, None];
        for (record, (field, name)) in records.iter_mut().zip([("before", request.before), ("after", request.after)]) {
            if let Some(id) = violations.check(read_name(&name, "verdicts", field)) {
                let found = self.store.verdict(&id).await?;
                *record = violations.resolve(field, found.ok_or_else(|| verdict_not_found(name)));
            }
        }
        let [before, after] = records;
        if let Some((before, after)) = before.as_ref().zip(after.as_ref())
            && before.verdict.indicator != after.verdict.indicator
        {
            let [of_before, of_after] = [before, after].map(|record| record.verdict.indicator.redacted());
            let message =
                format!("is on {of_after}, but `before` is on {of_before}: both must be on the same indicator");
            violations.add(Violation::invalid("after", message));
        }
        let (before, after) = violations.finish(before.zip(after))?;
        let comparison = comparison::write(&before, &after, &compare(&before.verdict, &after.verdict));
        let response = pb::CompareVerdictsResponse { comparison: Some(comparison) };
        if memory.reserve(response.encoded_len()) { Ok(response) } else { Err(out_of_answer_memory()) }
    }

    /// The raw answers behind a verdict, as far as they are still retained.
    async fn raw_answers(&self, record: &VerdictRecord) -> RawAnswers {
        let mut raw = RawAnswers::new();
        for (source, hash) in &record.answers {
            for answer in self.engine.raw_answers(&from_hex(hash)).await {
                raw.entry(source.clone()).or_default().push(String::from_utf8_lossy(&answer).into_owned());
            }
        }
        raw
    }

    async fn list(
        &self,
        request: pb::ListVerdictsRequest,
        memory: AnswerMemory,
    ) -> Result<pb::ListVerdictsResponse, Error> {
        let mut violations = Violations::default();
        let view = violations.check(read_view(request.view, "view"));
        if view == Some(View::Raw) {
            violations
                .add(Violation::invalid("view", "basic or full; GetVerdict shows the raw answers of one verdict"));
        }
        let (from, until) = read_period(request.from_time, request.until_time, &mut violations);
        let filter = VerdictFilter {
            indicator: indicator::read_filter(request.indicator.as_ref(), &mut violations),
            disposition: violations.check(indicator::read_disposition(request.disposition, "disposition")).flatten(),
            from,
            until,
        };
        let parameters = format!("verdicts {filter:?} {:?}", request.view);
        let page = Page::read(request.page_size, &request.page_token, parameters, &mut violations);
        let (page, view) = violations.finish(page.zip(view))?;
        let _turn = Page::turn().await;
        let listed = self.store.verdicts(filter, page.limit(), page.after()).await?;
        let (verdicts, next_page_token) = offload(listed.bytes, move || {
            let cursor = |record: &VerdictRecord| Cursor { time: record.create_time, id: record.id.clone() };
            page.write(&listed, memory, cursor, |record| write_record(record, true, view, &RawAnswers::new()))
        })
        .await?;
        Ok(pb::ListVerdictsResponse { verdicts, next_page_token })
    }
}

pub(super) fn verdict_not_found(name: String) -> Error {
    Error::NotFound {
        reason: Reason::VerdictNotFound,
        name,
        hint: "ListVerdicts shows those that the retention still holds".into(),
    }
}

#[tonic::async_trait]
impl VerdictService for VerdictRpc {
    async fn get_verdict(
        &self,
        request: Request<pb::GetVerdictRequest>,
    ) -> Result<Response<pb::GetVerdictResponse>, Status> {
        let memory = AnswerMemory::from_request(&request);
        let verdict = Some(self.get(request.into_inner(), memory).await.map_err(status::of)?);
        Ok(Response::new(pb::GetVerdictResponse { verdict }))
    }

    async fn list_verdicts(
        &self,
        request: Request<pb::ListVerdictsRequest>,
    ) -> Result<Response<pb::ListVerdictsResponse>, Status> {
        let memory = AnswerMemory::from_request(&request);
        Ok(Response::new(self.list(request.into_inner(), memory).await.map_err(status::of)?))
    }

    async fn compare_verdicts(
        &self,
        request: Request<pb::CompareVerdictsRequest>,
    ) -> Result<Response<pb::CompareVerdictsResponse>, Status> {
        let memory = AnswerMemory::from_request(&request);
        Ok(Response::new(self.compare(request.into_inner(), memory).await.map_err(status::of)?))
    }

    async fn record_feedback(
        &self,
        request: Request<pb::RecordFeedbackRequest>,
    ) -> Result<Response<pb::RecordFeedbackResponse>, Status> {
        let (caller, rpc) = (self.caller(&request), self.clone());
        let record = rpc.record_new_feedback(request.into_inner(), caller);
        let feedback = Some(self.tasks.run_to_completion(record).await.map_err(status::of)?);
        Ok(Response::new(pb::RecordFeedbackResponse { feedback }))
    }

    async fn list_feedback(
        &self,
        request: Request<pb::ListFeedbackRequest>,
    ) -> Result<Response<pb::ListFeedbackResponse>, Status> {
        let memory = AnswerMemory::from_request(&request);
        Ok(Response::new(self.list_all_feedback(request.into_inner(), memory).await.map_err(status::of)?))
    }

    async fn retract_feedback(
        &self,
        request: Request<pb::RetractFeedbackRequest>,
    ) -> Result<Response<pb::RetractFeedbackResponse>, Status> {
        let (caller, rpc) = (self.caller(&request), self.clone());
        let retract = rpc.retract_old_feedback(request.into_inner(), caller);
        Ok(Response::new(self.tasks.run_to_completion(retract).await.map_err(status::of)?))
    }
}
