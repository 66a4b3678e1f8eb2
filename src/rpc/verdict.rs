//! `VerdictService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{pagination, status};
use crate::convert::verdict::{RawAnswers, View, read_view, write_record};
use crate::convert::{Violations, incomplete, indicator, read_name, read_period};
use crate::engine::Engine;
use crate::error::{Error, Reason, Violation};
use crate::pb;
use crate::pb::verdict_service_server::VerdictService;
use crate::store::{Cursor, Store, VerdictFilter, VerdictRecord};

/// Answers `VerdictService`.
#[derive(Clone, Debug)]
pub struct VerdictRpc {
    engine: Arc<Engine>,
}

impl VerdictRpc {
    /// The service over this engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    async fn get(&self, request: pb::GetVerdictRequest) -> Result<pb::Verdict, Error> {
        let mut violations = Violations::default();
        let id = violations.check(read_name(&request.name, "verdicts", "name"));
        let view = violations.check(read_view(request.view, "view"));
        violations.finish()?;
        let (id, view) = id.zip(view).ok_or_else(incomplete)?;
        let record = self.engine.store().verdict(&id).await.map_err(status::store_failed)?;
        let record = record.ok_or_else(|| Error::NotFound {
            reason: Reason::VerdictNotFound,
            name: request.name,
            hint: "ListVerdicts shows those that the retention still keeps".into(),
        })?;
        let raw = if view == View::Raw { raw_answers(self.engine.store(), &record).await } else { RawAnswers::new() };
        Ok(write_record(&record, true, view, &raw))
    }

    async fn list(&self, request: pb::ListVerdictsRequest) -> Result<pb::ListVerdictsResponse, Error> {
        let mut violations = Violations::default();
        let size = violations.check(pagination::read_size(request.page_size));
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
        let after = violations.check(pagination::read_token(&request.page_token, &parameters));
        violations.finish()?;
        let ((size, view), after) = size.zip(view).zip(after).ok_or_else(incomplete)?;
        let mut records = self.engine.store().verdicts(filter, size + 1, after).await.map_err(status::store_failed)?;
        let more = records.len() > size;
        records.truncate(size);
        let last = records.last().filter(|_| more);
        Ok(pb::ListVerdictsResponse {
            next_page_token: last.map(|last| pagination::write_token(&cursor(last), &parameters)).unwrap_or_default(),
            verdicts: records.iter().map(|record| write_record(record, true, view, &RawAnswers::new())).collect(),
        })
    }
}

fn cursor(record: &VerdictRecord) -> Cursor {
    Cursor { time: record.create_time, id: record.id.clone() }
}

/// The raw answers behind a verdict, as far as they are still kept.
async fn raw_answers(store: &Arc<dyn Store>, record: &VerdictRecord) -> RawAnswers {
    let mut raw = RawAnswers::new();
    for (source, hash) in &record.answers {
        if let Ok(Some(answer)) = store.answer(hash).await {
            raw.entry(source.clone()).or_default().push(String::from_utf8_lossy(&answer.body).into_owned());
        }
    }
    raw
}

#[tonic::async_trait]
impl VerdictService for VerdictRpc {
    async fn get_verdict(
        &self,
        request: Request<pb::GetVerdictRequest>,
    ) -> Result<Response<pb::GetVerdictResponse>, Status> {
        let verdict = self.get(request.into_inner()).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(pb::GetVerdictResponse { verdict: Some(verdict) }))
    }

    async fn list_verdicts(
        &self,
        request: Request<pb::ListVerdictsRequest>,
    ) -> Result<Response<pb::ListVerdictsResponse>, Status> {
        self.list(request.into_inner()).await.map(Response::new).map_err(|error| status::of(&error))
    }
}
