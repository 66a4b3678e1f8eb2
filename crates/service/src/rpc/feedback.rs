//! The methods of the `VerdictService` on what analysts say.

use super::load::AnswerMemory;
use super::made_changes::digest_of;
use super::pagination::Page;
use super::verdict::{VerdictRpc, verdict_not_found};
use crate::convert::enrichment::read_request_id;
use crate::convert::feedback::{NewFeedback, read_author, read_new, read_reason, write};
use crate::convert::{Violations, indicator, read_name};
use crate::error::{Error, Reason, Violation};
use crate::indicator::Indicator;
use crate::pb;
use crate::store::{Cursor, FeedbackFilter};
use crate::verdict::{Feedback, Retraction};

impl VerdictRpc {
    pub(super) async fn record_new_feedback(
        self,
        request: pb::RecordFeedbackRequest,
        caller: String,
    ) -> Result<pb::Feedback, Error> {
        let now = self.clock.now();
        let mut violations = Violations::default();
        let request_id = violations.check(read_request_id(request.request_id.clone(), "request_id"));
        let new = read_new(&request, &caller, now, &mut violations);
        let about = match read_name(&request.verdict, "verdicts", "verdict") {
            Ok(id) => {
                let found = self.store.verdict(&id).await?;
                violations.resolve("verdict", found.ok_or_else(|| verdict_not_found(request.verdict.clone())))
            }
            // Noted where the request was read.
            Err(_) => None,
        };
        let of_verdict = about.map(|record| record.verdict.indicator);
        if let (Some(stated), Some(of_verdict)) = (new.as_ref().and_then(|new| new.indicator.as_ref()), &of_verdict)
            && stated.redacted() != of_verdict.redacted()
        {
            let message = format!("is on {}, not on the indicator of this request", of_verdict.redacted());
            violations.add(Violation::invalid("verdict", message));
        }
        let (new, request_id) = violations.finish(new.zip(request_id))?;
        let NewFeedback { indicator, verdict, judgement, author, reason, pin, expire_time } = new;
        let indicator = indicator.or(of_verdict).ok_or_else(|| {
            Error::invalid("indicator.value", Reason::FieldRequired, "an indicator or a verdict is needed")
        })?;
        if pin && is_masked(&indicator) {
            let message = "the URL holds a password, which is masked wherever it is stored, so that a pin would hold for other \
                           URLs as well: record it without pin";
            return Err(Error::invalid("pin", Reason::FieldInvalid, message));
        }
        let feedback = Feedback {
            id: String::new(),
            indicator,
            judgement,
            author,
            reason,
            pin,
            create_time: now,
            expire_time,
            verdict,
            caller: caller.clone(),
            retraction: None,
        };
        if request.validate_only {
            return Ok(write(&feedback, now));
        }
        let record = async { self.engine.record_feedback(feedback).await.map(|feedback| write(&feedback, now)) };
        self.changes.once((caller, request_id), digest_of(&request), self.clock.as_ref(), record).await
    }

    pub(super) async fn list_all_feedback(
        &self,
        request: pb::ListFeedbackRequest,
        memory: AnswerMemory,
    ) -> Result<pb::ListFeedbackResponse, Error> {
        let now = self.clock.now();
        let mut violations = Violations::default();
        let indicator = indicator::read_filter(request.indicator.as_ref(), &mut violations);
        // The time is no parameter: what expires between two pages is left out of the second.
        let parameters = format!("feedback {indicator:?} {}", request.active_only);
        let page = Page::read(request.page_size, &request.page_token, parameters, &mut violations);
        let page = violations.finish(page)?;
        let _turn = Page::turn().await;
        let filter = FeedbackFilter { indicator, active_at: request.active_only.then_some(now), unretracted: false };
        let listed = self.store.list_feedback(filter, page.limit(), page.after()).await?;
        let cursor = |feedback: &Feedback| Cursor { time: feedback.create_time, id: feedback.id.clone() };
        let (feedback, next_page_token) = page.write(&listed, memory, cursor, |feedback| write(feedback, now))?;
        Ok(pb::ListFeedbackResponse { feedback, next_page_token })
    }

    pub(super) async fn retract_old_feedback(
        self,
        request: pb::RetractFeedbackRequest,
        caller: String,
    ) -> Result<pb::RetractFeedbackResponse, Error> {
        let now = self.clock.now();
        let mut violations = Violations::default();
        let id = violations.check(read_name(&request.name, "feedback", "name"));
        let author = violations.check(read_author(&request.author, &caller));
        let reason = violations.check(read_reason(&request.reason));
        let (id, (author, reason)) = violations.finish(id.zip(author.zip(reason)))?;
        let retraction = Retraction { author, caller, reason, time: now };
        let feedback = if request.validate_only {
            let found = self.store.feedback(&id).await?;
            found.map(|found| Feedback { retraction: found.retraction.or(Some(retraction.clone())), ..found })
        } else {
            self.engine.retract_feedback(&id, retraction.clone()).await?
        };
        let feedback = feedback.ok_or_else(|| Error::NotFound {
            reason: Reason::FeedbackNotFound,
            name: request.name,
            hint: "ListFeedback shows what is on record".into(),
        })?;
        let was_retracted = feedback.retraction.as_ref() != Some(&retraction);
        Ok(pb::RetractFeedbackResponse { feedback: Some(write(&feedback, now)), was_retracted })
    }
}

/// Whether the indicator is a URL with a password, or was one before it was stored.
fn is_masked(indicator: &Indicator) -> bool {
    let redacted = indicator.redacted();
    redacted != indicator.value() || redacted.contains("***")
}
