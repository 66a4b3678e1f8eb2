//! The `SubmissionService`: takes files and URLs for sources, and the decisions on those that are held.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::background::{BackgroundTasks, Streamed};
use super::load::AnswerMemory;
use super::pagination::Page;
use super::{Context, status};
use crate::clock::Clock;
use crate::convert::feedback::read_reason;
use crate::convert::submission::{FileHeader, read_header, read_state, read_visibility, write};
use crate::convert::{Violations, indicator, read_name};
use crate::error::{Error, Reason, Violation};
use crate::indicator::{Indicator, IndicatorType};
use crate::pb;
use crate::pb::submission_service_server::SubmissionService;
use crate::pb::submit_file_request::Part;
use crate::source::Visibility;
use crate::store::{Cursor, Submission, SubmissionFilter, SubmissionType};
use crate::submission::{NewSubmission, Submissions};

/// Implements `SubmissionService`. Cheap to clone: clones share all state.
#[derive(Clone)]
pub(crate) struct SubmissionRpc {
    submissions: Arc<Submissions>,
    clock: Arc<dyn Clock>,
    tasks: BackgroundTasks,
}

impl SubmissionRpc {
    pub(crate) fn new(submissions: Arc<Submissions>, clock: Arc<dyn Clock>, tasks: BackgroundTasks) -> Self {
        Self { submissions, clock, tasks }
    }

    fn caller<T>(&self, request: &Request<T>) -> String {
        Context::from_request(request, self.clock.as_ref()).caller
    }

    fn write(&self, submission: &Submission) -> Option<pb::Submission> {
        Some(write(submission, self.submissions.expiry()))
    }

    async fn submit_url(self, request: pb::SubmitUrlRequest, caller: String) -> Result<pb::SubmitUrlResponse, Error> {
        let mut violations = Violations::default();
        let source = violations.check(read_name(&request.source, "sources", "source"));
        let tlp = violations.check(indicator::read_tlp(request.tlp, "tlp"));
        if request.url.trim().is_empty() {
            violations.add(Violation::new("url", Reason::FieldRequired, "a URL is needed"));
        }
        let url = Indicator::parse_as(&request.url, IndicatorType::Url);
        let refused =
            |refusal: crate::indicator::Refusal| Violation::new("url", Reason::IndicatorInvalid, refusal.message);
        let url = if violations.is_empty() { violations.check(url.map_err(refused)) } else { None };
        let ((source, tlp), url) = violations.finish(source.zip(tlp).zip(url))?;
        let submission_type = SubmissionType::Url;
        let visibility = read_visibility(request.private_scan);
        let new = NewSubmission { source, tlp: tlp.unwrap_or_default(), caller, submission_type, visibility };
        let submission = match request.validate_only {
            true => self.submissions.preview_url(new, url.indicator)?,
            false => self.submissions.submit_url(new, url.indicator).await?,
        };
        let audience = self.audience(&submission);
        Ok(pb::SubmitUrlResponse { submission: self.write(&submission), audience })
    }

    /// Empty if the source was changed meanwhile.
    fn audience(&self, submission: &Submission) -> String {
        let audience = self.submissions.audience(&submission.source, submission.visibility);
        audience.unwrap_or_default().to_owned()
    }

    async fn rescan(
        self,
        request: pb::RescanSubmissionRequest,
        caller: String,
    ) -> Result<Option<pb::Submission>, Error> {
        let mut violations = Violations::default();
        let source = violations.check(read_name(&request.source, "sources", "source"));
        let tlp = violations.check(indicator::read_tlp(request.tlp, "tlp"));
        let indicator = indicator::read(request.indicator.as_ref(), "indicator", &mut violations);
        let ((source, tlp), indicator) = violations.finish(source.zip(tlp).zip(indicator))?;
        let (submission_type, visibility) = (SubmissionType::Rescan, Visibility::Public);
        let new = NewSubmission { source, tlp: tlp.unwrap_or_default(), caller, submission_type, visibility };
        let submission = self.submissions.rescan(new, indicator.indicator).await?;
        Ok(self.write(&submission))
    }

    async fn review(
        self,
        name: String,
        reason: String,
        caller: String,
        is_approved: bool,
    ) -> Result<Option<pb::Submission>, Error> {
        let mut violations = Violations::default();
        let id = violations.check(read_name(&name, "submissions", "name"));
        let reason = violations.check(read_reason(&reason));
        let (id, reason) = violations.finish(id.zip(reason))?;
        let submission = self.submissions.review(&id, caller, reason, is_approved).await?;
        Ok(self.write(&submission))
    }

    async fn get(&self, name: &str) -> Result<Submission, Error> {
        let mut violations = Violations::default();
        let id = violations.check(read_name(name, "submissions", "name"));
        self.submissions.get(&violations.finish(id)?).await
    }

    async fn list(
        &self,
        request: pb::ListSubmissionsRequest,
        memory: AnswerMemory,
    ) -> Result<pb::ListSubmissionsResponse, Error> {
        let mut violations = Violations::default();
        let state = violations.check(read_state(request.state, "state")).flatten();
        let submitter = Some(request.submitter).filter(|submitter| !submitter.is_empty());
        let indicator = indicator::read_filter(request.indicator.as_ref(), &mut violations);
        let filter = SubmissionFilter { state, submitter, indicator };
        let parameters = format!("submissions {filter:?}");
        let page = Page::read(request.page_size, &request.page_token, parameters, &mut violations);
        let page = violations.finish(page)?;
        let _turn = Page::turn().await;
        let listed = self.submissions.list(filter, page.limit(), page.after()).await?;
        let cursor = |submission: &Submission| Cursor { time: submission.create_time, id: submission.id.clone() };
        let write = |submission: &Submission| write(submission, self.submissions.expiry());
        let (submissions, next_page_token) = page.write(&listed, memory, cursor, write)?;
        Ok(pb::ListSubmissionsResponse { submissions, next_page_token })
    }

    async fn receive(&self, mut parts: Streaming<pb::SubmitFileRequest>, caller: String) -> Result<Submission, Status> {
        let header = match parts.message().await?.and_then(|message| message.part) {
            Some(Part::Header(header)) => header,
            Some(Part::Content(_)) | None => {
                let message = "the first message must have the header";
                return Err(status::of(Error::invalid("header", Reason::FieldRequired, message)));
            }
        };
        let mut violations = Violations::default();
        let header = read_header(&header, &mut violations);
        let FileHeader { source, file_name, tlp, sha256, size, visibility, validate_only } =
            violations.finish(header).map_err(status::of)?;
        let new = NewSubmission { source, tlp, caller, submission_type: SubmissionType::File, visibility };
        if validate_only {
            return self.submissions.preview_file(new, file_name, &sha256, size).map_err(status::of);
        }
        let mut upload = self.submissions.begin_file(new, file_name, size).map_err(status::of)?;
        // A stream that breaks off ends here, and what arrived is removed.
        while let Some(message) = parts.message().await? {
            match message.part {
                Some(Part::Content(bytes)) => upload = upload.add(bytes).await.map_err(status::of)?,
                Some(Part::Header(_)) => {
                    let message = "only the first message has a header";
                    return Err(status::of(Error::invalid("header", Reason::FieldInvalid, message)));
                }
                None => {}
            }
        }
        let submissions = self.submissions.clone();
        let finish = async move { submissions.finish_file(upload, &sha256, size).await };
        self.tasks.run_to_completion(finish).await.map_err(status::of)
    }
}

#[tonic::async_trait]
impl SubmissionService for SubmissionRpc {
    type WatchSubmissionStream = Streamed<pb::WatchSubmissionResponse>;

    async fn submit_file(
        &self,
        request: Request<Streaming<pb::SubmitFileRequest>>,
    ) -> Result<Response<pb::SubmitFileResponse>, Status> {
        let caller = self.caller(&request);
        let submission = self.receive(request.into_inner(), caller).await?;
        let audience = self.audience(&submission);
        Ok(Response::new(pb::SubmitFileResponse { submission: self.write(&submission), audience }))
    }

    async fn submit_url(
        &self,
        request: Request<pb::SubmitUrlRequest>,
    ) -> Result<Response<pb::SubmitUrlResponse>, Status> {
        let (caller, rpc) = (self.caller(&request), self.clone());
        let submit = SubmissionRpc::submit_url(rpc, request.into_inner(), caller);
        Ok(Response::new(self.tasks.run_to_completion(submit).await.map_err(status::of)?))
    }

    async fn rescan_submission(
        &self,
        request: Request<pb::RescanSubmissionRequest>,
    ) -> Result<Response<pb::RescanSubmissionResponse>, Status> {
        let (caller, rpc) = (self.caller(&request), self.clone());
        let submission =
            self.tasks.run_to_completion(rpc.rescan(request.into_inner(), caller)).await.map_err(status::of)?;
        Ok(Response::new(pb::RescanSubmissionResponse { submission }))
    }

    async fn get_submission(
        &self,
        request: Request<pb::GetSubmissionRequest>,
    ) -> Result<Response<pb::GetSubmissionResponse>, Status> {
        let submission = self.get(&request.into_inner().name).await.map_err(status::of)?;
        Ok(Response::new(pb::GetSubmissionResponse { submission: self.write(&submission) }))
    }

    async fn list_submissions(
        &self,
        request: Request<pb::ListSubmissionsRequest>,
    ) -> Result<Response<pb::ListSubmissionsResponse>, Status> {
        let memory = AnswerMemory::from_request(&request);
        Ok(Response::new(self.list(request.into_inner(), memory).await.map_err(status::of)?))
    }

    async fn approve_submission(
        &self,
        request: Request<pb::ApproveSubmissionRequest>,
    ) -> Result<Response<pb::ApproveSubmissionResponse>, Status> {
        let (caller, rpc) = (self.caller(&request), self.clone());
        let pb::ApproveSubmissionRequest { name, reason } = request.into_inner();
        let submission =
            self.tasks.run_to_completion(rpc.review(name, reason, caller, true)).await.map_err(status::of)?;
        Ok(Response::new(pb::ApproveSubmissionResponse { submission }))
    }

    async fn reject_submission(
        &self,
        request: Request<pb::RejectSubmissionRequest>,
    ) -> Result<Response<pb::RejectSubmissionResponse>, Status> {
        let (caller, rpc) = (self.caller(&request), self.clone());
        let pb::RejectSubmissionRequest { name, reason } = request.into_inner();
        let submission =
            self.tasks.run_to_completion(rpc.review(name, reason, caller, false)).await.map_err(status::of)?;
        Ok(Response::new(pb::RejectSubmissionResponse { submission }))
    }

    async fn watch_submission(
        &self,
        request: Request<pb::WatchSubmissionRequest>,
    ) -> Result<Response<Self::WatchSubmissionStream>, Status> {
        let mut changes = self.submissions.changes();
        let mut submission = self.get(&request.into_inner().name).await.map_err(status::of)?;
        let (rpc, stop) = (self.clone(), self.submissions.stopped());
        let stream = self.tasks.stream(1, move |messages| async move {
            let mut sent = 0;
            loop {
                if submission.revision != sent {
                    sent = submission.revision;
                    let message = pb::WatchSubmissionResponse { submission: rpc.write(&submission) };
                    if messages.send(Ok(message)).await.is_err() || submission.state.is_final() {
                        return;
                    }
                }
                tokio::select! {
                    () = stop.cancelled() => {
                        let message = "the server is shutting down".to_owned();
                        // Sending fails if the caller has left.
                        let _ = messages.send(Err(status::of(Error::Unavailable { message, retry_after: None }))).await;
                        return;
                    }
                    _ = changes.changed() => {}
                }
                match rpc.submissions.get(&submission.id).await {
                    Ok(changed) => submission = changed,
                    Err(error) => {
                        let _ = messages.send(Err(status::of(error))).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(stream))
    }
}
