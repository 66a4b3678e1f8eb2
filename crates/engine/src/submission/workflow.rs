//! Brings each open submission from state to state, in a task of its own.

use std::sync::Arc;
use std::time::Duration;

use super::Submissions;
use super::inspect::{Content, Limits, inspect_file};
use super::known::{Known, KnownReport, not_now};
use super::spool::SpooledContent;
use crate::clock::Monotonic;
use crate::engine::SubmissionRoute;
use crate::error::Error;
use crate::fetch::{RemotePipeline, SubmissionDisclosure, SubmissionFailure};
use crate::finding::{SourceError, SourceErrorKind};
use crate::offload::offload_long;
use crate::source::{Accepted, AnalysisProgress, FileBody, Question};
use crate::store::{
    AnalysisStatus, HoldReason, HoldReasonCode, Submission, SubmissionState, SubmissionType, SubmittedAnalysis,
};

/// The first pause between two questions about the same thing; each further one is half as long again.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const MAX_PAUSE: Duration = Duration::from_secs(240);
/// How long something is tried again before the submission fails.
const MAX_TRYING: Duration = Duration::from_secs(86_400);
/// What was begun long ago is tried more often than this before it fails, since the server may not have run meanwhile.
const MIN_TRIES: u32 = 2;
/// A report from so long before a submission may be of an analysis that was under way then.
const ANALYSIS_TIME: Duration = Duration::from_secs(900);
/// How long a source is asked whether something arrived whose answer was lost.
const MAX_ASKING_FOR_LOST: Duration = Duration::from_secs(3600);

/// How it goes on after a step.
enum Next {
    /// With the next state.
    Now,
    /// With the same state, after this time.
    After(Duration),
    /// Once the submission was changed, or after this time.
    Changed(Duration),
}

/// The tries of one state.
#[derive(Default)]
struct Tries {
    state: Option<SubmissionState>,
    count: u32,
    since: Monotonic,
    /// Whether the source said that it does not know it.
    is_unknown: bool,
}

impl Tries {
    fn enter(&mut self, state: SubmissionState, now: Monotonic) {
        if self.state != Some(state) {
            *self = Self { state: Some(state), count: 0, since: now, is_unknown: false };
        }
    }

    fn pause(&mut self) -> Duration {
        let pause = FIRST_PAUSE.mul_f64(1.5_f64.powi(i32::try_from(self.count.min(20)).unwrap_or(20)));
        self.count += 1;
        pause.min(MAX_PAUSE)
    }
}

impl Submissions {
    /// Works on a submission until it is final or the server stops.
    pub(super) fn work_on(self: &Arc<Self>, id: String) {
        let submissions = self.clone();
        self.tracker.spawn(async move { submissions.run(&id).await });
    }

    async fn run(self: &Arc<Self>, id: &str) {
        let mut tries = Tries::default();
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let next = match self.store.submission(id).await {
                Ok(Some(submission)) if !submission.state.is_final() => {
                    tries.enter(submission.state, self.clock.monotonic());
                    match self.step(submission.clone(), &mut tries).await {
                        Ok(next) => Ok(next),
                        Err(error) => self.go_on_later(submission, &mut tries, &error).await,
                    }
                }
                Ok(_) => {
                    self.spool.remove(id);
                    return;
                }
                Err(error) => Err(error.into()),
            };
            let next = next.unwrap_or_else(|error| {
                tracing::warn!(submission = id, %error, "the state of a submission cannot be stored or read");
                Next::After(FIRST_PAUSE)
            });
            let wait = match next {
                Next::Now if self.stop.is_cancelled() => return,
                Next::Now => continue,
                Next::After(wait) | Next::Changed(wait) => wait,
            };
            let changed = async {
                match next {
                    Next::Changed(_) => drop(changes.changed().await),
                    Next::Now | Next::After(_) => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = changed => {}
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    /// Where the source was removed from the settings, or the store failed.
    async fn go_on_later(&self, submission: Submission, tries: &mut Tries, error: &Error) -> Result<Next, Error> {
        tracing::warn!(submission = submission.id, %error, "a submission cannot go on for now");
        self.try_again(submission, tries, error.to_string(), None).await
    }

    async fn step(self: &Arc<Self>, submission: Submission, tries: &mut Tries) -> Result<Next, Error> {
        match submission.state {
            SubmissionState::Received => self.look_up_first(submission, tries).await,
            SubmissionState::Inspecting => self.inspect(submission).await,
            SubmissionState::Held => self.wait_for_review(submission).await,
            SubmissionState::Approved => self.send(submission, tries).await,
            // The server ended before it knew whether this arrived.
            SubmissionState::Uploading => match submission.submission_type {
                SubmissionType::File | SubmissionType::Url => self.ask_for_lost(submission).await,
                SubmissionType::Rescan => self.enter(submission, SubmissionState::Approved).await,
            },
            SubmissionState::Analysing => self.follow_analysis(submission, tries).await,
            SubmissionState::Done | SubmissionState::Rejected | SubmissionState::Expired | SubmissionState::Failed => {
                Ok(Next::Now)
            }
        }
    }

    async fn enter(&self, submission: Submission, state: SubmissionState) -> Result<Next, Error> {
        self.store_next(Submission { state, ..submission }).await
    }

    /// Whoever changed the submission in between decides how it goes on.
    async fn store_next(&self, submission: Submission) -> Result<Next, Error> {
        self.put(submission).await?;
        Ok(Next::Now)
    }

    async fn fail(&self, submission: Submission, detail: impl Into<String>) -> Result<Next, Error> {
        let detail = detail.into();
        tracing::warn!(submission = submission.id, source = submission.source, detail, "a submission failed");
        self.store_next(Submission { state: SubmissionState::Failed, detail, ..submission }).await
    }

    /// How long this has been tried: by the wall clock, where that tells more than this process has seen.
    fn tried_for(&self, submission: &Submission, tries: &Tries) -> Duration {
        let sent = submission.send_time.filter(|_| submission.state == SubmissionState::Analysing);
        let begun = sent.unwrap_or(submission.update_time);
        let by_wall = self.clock.now().duration_since(begun).unwrap_or_default();
        self.clock.monotonic().since(tries.since).max(by_wall)
    }

    /// Tries again later, or fails if this was tried for too long.
    async fn try_again(
        &self,
        submission: Submission,
        tries: &mut Tries,
        why: String,
        wait: Option<Duration>,
    ) -> Result<Next, Error> {
        if tries.count > MIN_TRIES && self.tried_for(&submission, tries) >= MAX_TRYING {
            return self.fail(submission, format!("tried for a day: {why}")).await;
        }
        Ok(Next::After(tries.pause().max(wait.unwrap_or_default()).min(MAX_TRYING)))
    }

    async fn look_up_first(&self, submission: Submission, tries: &mut Tries) -> Result<Next, Error> {
        // A look-up would disclose the whole URL, so that it is inspected before that.
        if submission.submission_type == SubmissionType::Url {
            return self.enter(submission, SubmissionState::Inspecting).await;
        }
        let is_rescan = submission.submission_type == SubmissionType::Rescan;
        match self.known(&submission).await? {
            Known::Yes(_) if is_rescan => self.enter(submission, SubmissionState::Approved).await,
            Known::No if is_rescan => {
                self.fail(submission, "the source does not know it, so there is nothing to analyse again").await
            }
            Known::Yes(report) => self.finish_known(submission, report.verdict).await,
            Known::No => self.enter(submission, SubmissionState::Inspecting).await,
            Known::NotNow(why, wait) => self.try_again(submission, tries, why, wait).await,
            Known::Never(why) => self.fail(submission, format!("it could not be looked up first: {why}")).await,
        }
    }

    async fn finish_known(&self, submission: Submission, verdict: Option<String>) -> Result<Next, Error> {
        let detail = "the source knows it already: nothing was sent".to_owned();
        let state = SubmissionState::Done;
        self.store_next(Submission { state, detail, is_known: true, verdict, ..submission }).await
    }

    async fn inspect(self: &Arc<Self>, mut submission: Submission) -> Result<Next, Error> {
        let reasons = match submission.file.as_mut() {
            None => self.inspect_url(&submission.indicator),
            Some(file) => {
                // Never closed.
                let _place = self.inspections.acquire().await;
                let (spool, patterns) = (self.spool.clone(), self.patterns.clone());
                let (id, name, size) = (submission.id.clone(), file.name.clone(), file.size);
                let inspected = offload_long(move || {
                    let mut content = spool.read(&id)?;
                    if content.size() != size {
                        return Err(std::io::Error::other("the waiting file has another size"));
                    }
                    let content: &mut dyn Content = &mut content;
                    inspect_file(content, &name, &patterns, Limits::default())
                })
                .await;
                match inspected {
                    Ok(inspection) => {
                        file.media_type = inspection.media_type;
                        inspection.reasons
                    }
                    Err(error) => {
                        return self.fail(submission, format!("the waiting file cannot be read: {error}")).await;
                    }
                }
            }
        };
        let state = if reasons.is_empty() { SubmissionState::Approved } else { SubmissionState::Held };
        self.store_next(Submission { state, hold_reasons: reasons, ..submission }).await
    }

    async fn wait_for_review(&self, submission: Submission) -> Result<Next, Error> {
        // The last change is the one by which it became held.
        let held_for = self.clock.now().duration_since(submission.update_time).unwrap_or_default();
        let left = self.rules.expiry.saturating_sub(held_for);
        if !left.is_zero() {
            return Ok(Next::Changed(left));
        }
        let detail = "nobody reviewed it in time".to_owned();
        self.store_next(Submission { state: SubmissionState::Expired, detail, ..submission }).await
    }

    /// Why the rules do not let it be sent any more; they may have changed since it was submitted.
    fn refusal(&self, submission: &Submission) -> Option<String> {
        if let Some(refused) = self.never_disclosed(&submission.indicator, submission.file.as_ref()) {
            return Some(refused.detail);
        }
        match self.rules.max_tlp(&submission.source, submission.visibility) {
            None => Some("submissions to this source are not enabled any more".into()),
            Some(max_tlp) if submission.tlp > max_tlp && submission.submission_type != SubmissionType::Rescan => {
                Some(format!("TLP:{} is above TLP:{max_tlp}, the highest that may be submitted", submission.tlp))
            }
            Some(_) => None,
        }
    }

    async fn send(self: &Arc<Self>, submission: Submission, tries: &mut Tries) -> Result<Next, Error> {
        if let Some(detail) = self.refusal(&submission) {
            return self.store_next(Submission { state: SubmissionState::Rejected, detail, ..submission }).await;
        }
        // A URL was not looked up before. While a file was held, somebody else may have submitted it.
        let is_to_be_asked = submission.submission_type == SubmissionType::Url || submission.review.is_some();
        if is_to_be_asked && !tries.is_unknown {
            match self.known(&submission).await? {
                Known::Yes(report) => return self.finish_known(submission, report.verdict).await,
                Known::No => tries.is_unknown = true,
                Known::NotNow(why, wait) => return self.try_again(submission, tries, why, wait).await,
                Known::Never(why) => {
                    return self.fail(submission, format!("it could not be looked up first: {why}")).await;
                }
            }
        }
        // Never closed.
        let _place = self.uploads.acquire().await;
        // The wait for a place may have been long.
        if let Some(detail) = self.refusal(&submission) {
            return self.store_next(Submission { state: SubmissionState::Rejected, detail, ..submission }).await;
        }
        let route = self.engine.submission_route(&submission.source)?;
        let question = match self.question(&route, &submission).await? {
            Ok(question) => question,
            Err(failure) => return self.not_sent(submission, tries, failure).await,
        };
        let sending = Submission {
            state: SubmissionState::Uploading,
            send_time: Some(self.clock.now()),
            recipient: RemotePipeline::recipient(&question).to_owned(),
            ..submission.clone()
        };
        // Durable before the first byte leaves.
        let Some(sending) = self.put(sending).await? else { return Ok(Next::Now) };
        let disclosure = SubmissionDisclosure {
            indicator: submission.indicator.clone(),
            caller: submission.submitter.clone(),
            tlp: submission.tlp,
            submission: Some(submission.id.clone()),
        };
        match route.pipeline.ask_for_submission(&question, Some(disclosure)).await {
            Ok(answer) => match route.submissions()?.read_accepted(&answer) {
                Ok(Accepted::Analysis(id)) => self.analysing(sending, id, AnalysisStatus::Queued).await,
                Ok(Accepted::AlreadyAnalysing) => {
                    self.analysing(sending, String::new(), AnalysisStatus::InProgress).await
                }
                Err(error) => self.lost(sending, tries, &error).await,
            },
            Err(SubmissionFailure::Sent(error)) => match error.kind {
                SourceErrorKind::QuotaExhausted => self.not_sent(sending, tries, SubmissionFailure::Sent(error)).await,
                SourceErrorKind::Unauthorized
                | SourceErrorKind::Forbidden
                | SourceErrorKind::BadQuestion
                | SourceErrorKind::Refused => self.fail(sending, format!("the source refused it: {error}")).await,
                SourceErrorKind::Unavailable
                | SourceErrorKind::Timeout
                | SourceErrorKind::Malformed
                | SourceErrorKind::TooLarge => self.lost(sending, tries, &error).await,
            },
            Err(failure) => self.not_sent(sending, tries, failure).await,
        }
    }

    /// The question that sends it.
    async fn question(
        &self,
        route: &SubmissionRoute,
        submission: &Submission,
    ) -> Result<Result<Question, SubmissionFailure>, Error> {
        let submissions = route.submissions()?;
        Ok(match (&submission.file, submission.submission_type) {
            (Some(file), _) => {
                let address = match submissions.ask_upload_address(file.size, submission.visibility) {
                    None => None,
                    Some(question) => match route.pipeline.ask_for_submission(&question, None).await {
                        Err(failure) => return Ok(Err(failure)),
                        Ok(answer) => match submissions.read_upload_address(&answer) {
                            Err(error) => return Ok(Err(SubmissionFailure::NotSent(error))),
                            Ok(address) => Some(address),
                        },
                    },
                };
                let content = SpooledContent { spool: self.spool.clone(), id: submission.id.clone() };
                let body = FileBody {
                    sha256: submission.indicator.value().to_owned(),
                    size: file.size,
                    content: Arc::new(content),
                };
                Ok(submissions.submit_file(body, address.as_ref(), submission.visibility))
            }
            (None, SubmissionType::Rescan) => Ok(submissions.rescan(&submission.indicator)),
            (None, SubmissionType::Url | SubmissionType::File) => {
                Ok(submissions.submit_url(&submission.indicator, submission.visibility))
            }
        })
    }

    /// Nobody knows whether it arrived. A rescan gives nothing away, so that it may be asked for again.
    async fn lost(&self, submission: Submission, tries: &mut Tries, error: &SourceError) -> Result<Next, Error> {
        tracing::warn!(submission = submission.id, %error, "the answer to a submission was lost");
        match submission.submission_type {
            SubmissionType::File | SubmissionType::Url => self.ask_for_lost(submission).await,
            SubmissionType::Rescan => self.not_sent(submission, tries, SubmissionFailure::Sent(error.clone())).await,
        }
    }

    /// Goes back to the state before it was sent, since the source did not take it, and tries again later if that may help.
    async fn not_sent(
        &self,
        submission: Submission,
        tries: &mut Tries,
        failure: SubmissionFailure,
    ) -> Result<Next, Error> {
        let known = match &failure {
            SubmissionFailure::NotAsked(not_asked) => self.not_asked(not_asked),
            SubmissionFailure::NotSent(error) | SubmissionFailure::Sent(error) => not_now(error),
        };
        let mut before = Submission { state: SubmissionState::Approved, ..submission.clone() };
        if !matches!(failure, SubmissionFailure::Sent(_)) {
            (before.send_time, before.recipient) = (None, String::new());
        }
        let before = match submission.state {
            SubmissionState::Approved => before,
            _ => match self.put(before).await? {
                Some(before) => before,
                None => return Ok(Next::Now),
            },
        };
        match known {
            Known::NotNow(why, wait) => self.try_again(before, tries, why, wait).await,
            Known::Never(why) => self.fail(before, why).await,
            Known::Yes(_) | Known::No => Ok(Next::Now),
        }
    }

    async fn analysing(&self, submission: Submission, id: String, status: AnalysisStatus) -> Result<Next, Error> {
        let (state, has_arrived) = (SubmissionState::Analysing, !id.is_empty());
        let analysis = Some(SubmittedAnalysis { id, status });
        let stored = self.put(Submission { state, analysis, ..submission }).await?;
        // Where nobody knows whether it arrived, the file stays until that is known.
        stored.iter().filter(|_| has_arrived).for_each(|submission| self.spool.remove(&submission.id));
        Ok(Next::Now)
    }

    /// Asks the source from now on whether it has what was sent, since the answer was lost. It is not sent again.
    async fn ask_for_lost(&self, submission: Submission) -> Result<Next, Error> {
        self.analysing(submission, String::new(), AnalysisStatus::Queued).await
    }

    /// Lets a person decide whether it is sent again.
    async fn hold_interrupted(&self, submission: Submission, detail: &str) -> Result<Next, Error> {
        let mut hold_reasons = submission.hold_reasons.clone();
        let (code, place) = (HoldReasonCode::Interrupted, "the upload".to_owned());
        hold_reasons.retain(|reason| reason.code != code);
        hold_reasons.push(HoldReason { code, place, detail: detail.to_owned() });
        let (state, review, analysis) = (SubmissionState::Held, None, None);
        self.store_next(Submission { state, hold_reasons, review, analysis, ..submission }).await
    }

    async fn follow_analysis(&self, submission: Submission, tries: &mut Tries) -> Result<Next, Error> {
        let analysis = submission.analysis.clone();
        let analysis = analysis.unwrap_or(SubmittedAnalysis { id: String::new(), status: AnalysisStatus::Queued });
        if analysis.id.is_empty() || analysis.status == AnalysisStatus::Completed {
            return self.finish(submission, analysis, tries).await;
        }
        if tries.count == 0 {
            return Ok(Next::After(tries.pause()));
        }
        let route = self.engine.submission_route(&submission.source)?;
        let submissions = route.submissions()?;
        let question = submissions.ask_analysis(&analysis.id, submission.visibility);
        let answer = route.pipeline.ask_for_submission(&question, None).await;
        let status = match answer {
            Ok(answer) => match submissions.read_analysis(&answer) {
                Ok(AnalysisProgress::Queued) => AnalysisStatus::Queued,
                Ok(AnalysisProgress::InProgress) => AnalysisStatus::InProgress,
                Ok(AnalysisProgress::Completed) => AnalysisStatus::Completed,
                Err(error) => return self.ask_again(submission, tries, &error).await,
            },
            Err(SubmissionFailure::NotAsked(not_asked)) => {
                let Known::NotNow(why, wait) = self.not_asked(&not_asked) else {
                    return self.try_again(submission, tries, not_asked.detail, None).await;
                };
                return self.try_again(submission, tries, why, wait).await;
            }
            Err(SubmissionFailure::NotSent(error) | SubmissionFailure::Sent(error)) => {
                return self.ask_again(submission, tries, &error).await;
            }
        };
        if status != analysis.status {
            let analysis = Some(SubmittedAnalysis { status, ..analysis });
            if self.put(Submission { analysis, ..submission.clone() }).await?.is_none() {
                return Ok(Next::Now);
            }
        }
        if status == AnalysisStatus::Completed {
            return Ok(Next::Now);
        }
        self.try_again(submission, tries, "the analysis did not end".into(), None).await
    }

    /// Asks again how far the analysis is, unless the source keeps refusing the question.
    async fn ask_again(&self, submission: Submission, tries: &mut Tries, error: &SourceError) -> Result<Next, Error> {
        let is_refusal = match error.kind {
            SourceErrorKind::Forbidden | SourceErrorKind::BadQuestion | SourceErrorKind::Refused => true,
            // A credential can be mended, and what cannot be read may be of a gateway.
            SourceErrorKind::Unauthorized
            | SourceErrorKind::QuotaExhausted
            | SourceErrorKind::Unavailable
            | SourceErrorKind::Timeout
            | SourceErrorKind::Malformed
            | SourceErrorKind::TooLarge => false,
        };
        if is_refusal && tries.count > MIN_TRIES {
            return self.fail(submission, format!("the source does not tell how far the analysis is: {error}")).await;
        }
        self.try_again(submission, tries, error.to_string(), error.retry_after).await
    }

    /// Looks it up for the verdict. Where the answer to its sending was lost, this also tells whether it arrived.
    async fn finish(
        &self,
        submission: Submission,
        analysis: SubmittedAnalysis,
        tries: &mut Tries,
    ) -> Result<Next, Error> {
        let is_lost = analysis.id.is_empty();
        let was_analysing = is_lost && analysis.status == AnalysisStatus::InProgress;
        let asked_for_long = self.tried_for(&submission, tries) >= MAX_ASKING_FOR_LOST;
        match self.report(&submission).await? {
            // The report that the source had before is none on this analysis.
            Known::Yes(report)
                if is_lost && submission.submission_type == SubmissionType::Rescan && !is_new(&submission, &report) =>
            {
                self.try_again(submission, tries, "the source shows no new analysis yet".into(), None).await
            }
            Known::Yes(report) => {
                let analysis = Some(SubmittedAnalysis { status: AnalysisStatus::Completed, ..analysis });
                let detail = match (is_lost, was_analysing) {
                    (true, true) => "analysed: the source was analysing the same already",
                    (true, false) => "the source has it, but named no analysis when it was sent",
                    (false, _) => "analysed",
                };
                let (state, detail, verdict) = (SubmissionState::Done, detail.to_owned(), report.verdict);
                self.store_next(Submission { state, analysis, verdict, detail, ..submission }).await
            }
            Known::No if is_lost && asked_for_long => {
                let detail = match was_analysing {
                    true => "the source said that it was analysing the same already, but does not know it",
                    false => {
                        "its sending was interrupted, and the source does not know it: it may have arrived, or not"
                    }
                };
                self.hold_interrupted(submission, detail).await
            }
            Known::No => self.try_again(submission, tries, "the source does not know it yet".into(), None).await,
            Known::NotNow(why, wait) => self.try_again(submission, tries, why, wait).await,
            Known::Never(why) => self.fail(submission, why).await,
        }
    }
}

/// Whether a report is of an analysis that the source was asked for.
fn is_new(submission: &Submission, report: &KnownReport) -> bool {
    let since = submission.send_time.and_then(|sent| sent.checked_sub(ANALYSIS_TIME));
    report.observed >= since
}
