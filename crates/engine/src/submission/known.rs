//! Asks a source what it knows of a submission: whether there is a report already, and what it says at the end. A report for
//! everybody is a look-up like any other; that of a private scan is asked for where only the account sees it.

use std::time::{Duration, SystemTime};

use super::Submissions;
use crate::engine::EnrichRequest;
use crate::error::Error;
use crate::fetch::{SubmissionDisclosure, SubmissionFailure};
use crate::finding::{NotAsked, NotAskedReason, OutcomeBody, SourceError, SourceErrorKind};
use crate::source::{EnrichMode, Priority, RelationsWanted, Visibility};
use crate::store::{Submission, SubmissionType};

/// Whether the source knows something.
pub(super) enum Known {
    /// It does.
    Yes(KnownReport),
    No,
    /// It could not be asked for now: why, and when it is said to be possible.
    NotNow(String, Option<Duration>),
    /// It cannot be asked.
    Never(String),
}

/// What the source says.
pub(super) struct KnownReport {
    /// The verdict on it, if it could be stored.
    pub(super) verdict: Option<String>,
    /// When it was analysed.
    pub(super) observed: Option<SystemTime>,
}

impl Submissions {
    /// Whether the source knows it before it is sent. For a private scan of a file, a report for everybody is as good, and
    /// asking for it discloses the hash alone; of a URL, asking would disclose all of it beside the private scan.
    pub(super) async fn known(&self, submission: &Submission) -> Result<Known, Error> {
        match (submission.visibility, submission.submission_type, self.report(submission).await?) {
            (Visibility::Private, SubmissionType::File, Known::No) => self.look_up(submission).await,
            (_, _, known) => Ok(known),
        }
    }

    /// The report that its analysis makes, if there is one: makes a verdict of it.
    pub(super) async fn report(&self, submission: &Submission) -> Result<Known, Error> {
        match submission.visibility {
            Visibility::Public => self.look_up(submission).await,
            Visibility::Private => self.private_report(submission).await,
        }
    }

    async fn look_up(&self, submission: &Submission) -> Result<Known, Error> {
        let enriched = self.engine.enrich(&request(submission), None).await?;
        let verdict = enriched.stored.then(|| enriched.record.id.clone());
        let Some(outcome) = enriched.record.verdict.outcomes.first() else {
            return Ok(Known::Never("the source was not asked".into()));
        };
        Ok(match &outcome.body {
            OutcomeBody::Finding(finding) => Known::Yes(KnownReport { verdict, observed: finding.observed_time }),
            OutcomeBody::NoRecord => Known::No,
            OutcomeBody::Error(error) => not_now(error),
            // What may be scanned privately may have a label that nobody may look up.
            OutcomeBody::NotAsked(not_asked)
                if not_asked.reason == NotAskedReason::Tlp && submission.visibility == Visibility::Private =>
            {
                Known::No
            }
            OutcomeBody::NotAsked(not_asked) => self.not_asked(not_asked),
        })
    }

    async fn private_report(&self, submission: &Submission) -> Result<Known, Error> {
        if let Some(refused) = self.never_disclosed(&submission.indicator, submission.file.as_ref()) {
            return Ok(Known::Never(refused.detail));
        }
        let route = self.engine.submission_route(&submission.source)?;
        let submissions = route.submissions()?;
        let disclosure = SubmissionDisclosure {
            indicator: submission.indicator.clone(),
            caller: submission.submitter.clone(),
            tlp: submission.tlp,
            submission: None,
        };
        let question = submissions.ask_private_report(&submission.indicator);
        let finding = match route.pipeline.ask_for_submission(&question, Some(disclosure)).await {
            Ok(answer) => submissions.read_private_report(&submission.indicator, &answer),
            Err(SubmissionFailure::NotAsked(not_asked)) => return Ok(self.not_asked(&not_asked)),
            Err(SubmissionFailure::NotSent(error) | SubmissionFailure::Sent(error)) => return Ok(not_now(&error)),
        };
        match finding {
            Ok(Some(finding)) => {
                let observed = finding.observed_time;
                let enriched = self.engine.judge_finding(&request(submission), &route, finding).await?;
                let verdict = enriched.stored.then(|| enriched.record.id.clone());
                Ok(Known::Yes(KnownReport { verdict, observed }))
            }
            Ok(None) => Ok(Known::No),
            Err(error) => Ok(not_now(&error)),
        }
    }

    pub(super) fn not_asked(&self, not_asked: &NotAsked) -> Known {
        // A limit ends, a rule does not.
        match not_asked.reason.leaves_verdict_partial() {
            true => {
                let wait = not_asked.until.and_then(|until| until.duration_since(self.clock.now()).ok());
                Known::NotNow(not_asked.detail.clone(), wait)
            }
            false => Known::Never(not_asked.detail.clone()),
        }
    }
}

/// The look-up that asks the source alone, and not its cached answer, which may be from before somebody else submitted it.
fn request(submission: &Submission) -> EnrichRequest {
    EnrichRequest {
        indicator: submission.indicator.clone(),
        sources: vec![submission.source.clone()],
        policy: None,
        compare_policies: Vec::new(),
        mode: EnrichMode::Complete,
        tlp: submission.tlp,
        max_age: Some(Duration::ZERO),
        relations: RelationsWanted::default(),
        caller: submission.submitter.clone(),
        priority: Priority::Interactive,
        budget: None,
    }
}

pub(super) fn not_now(error: &SourceError) -> Known {
    match error.kind.is_transient() || error.kind == SourceErrorKind::QuotaExhausted {
        true => Known::NotNow(error.to_string(), error.retry_after),
        false => Known::Never(error.to_string()),
    }
}
