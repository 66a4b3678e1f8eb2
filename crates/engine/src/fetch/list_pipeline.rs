//! The pipeline of a list. Nothing is sent anywhere, so it needs no cache, quota, retry or disclosure.

use std::fmt;
use std::sync::Arc;

use super::attempt::{AttemptError, timed_out};
use super::list::ListReader;
use super::lookup::{Fetched, LookupRequest, Receipt, outcome};
use super::observe::{self, SourceCounters};
use super::read;
use crate::clock::Clock;
use crate::finding::{Family, OutcomeBody, SourceError, SourceErrorKind};
use crate::source::{
    Answer, AnswerBody, ListAnswer, ListStatus, Lookup, Probe, Question, Reading, Source, SourceSettings,
};

/// Looks up indicators in a list, with the interface of a source.
pub struct ListPipeline {
    source: Arc<dyn Source>,
    settings: Arc<SourceSettings>,
    family: Family,
    list: Arc<ListReader>,
    clock: Arc<dyn Clock>,
    counters: Arc<SourceCounters>,
}

impl ListPipeline {
    /// Makes a pipeline for this list.
    pub fn new(
        source: Arc<dyn Source>,
        settings: Arc<SourceSettings>,
        family: Family,
        list: Arc<ListReader>,
        clock: Arc<dyn Clock>,
        counters: Arc<SourceCounters>,
    ) -> Self {
        Self { source, settings, family, list, clock, counters }
    }

    /// The list reader, so that a pipeline with other settings can use the same list.
    pub fn list(&self) -> &Arc<ListReader> {
        &self.list
    }

    pub(super) async fn look_up(&self, request: &LookupRequest) -> Fetched {
        observe::measured(&self.counters, &*self.clock, async {
            let (body, note) = self.answer(request).await;
            let receipt = Receipt { note, ..Receipt::default() };
            Fetched { outcome: outcome(&self.settings, &self.family, body, self.clock.now()), receipt }
        })
        .await
    }

    /// The body of the outcome, and a note if something is wrong with the list.
    async fn answer(&self, request: &LookupRequest) -> (OutcomeBody, Option<String>) {
        let left = request.deadline.since(self.clock.monotonic());
        if left.is_zero() {
            return (AttemptError::no_time().into_body(), None);
        }
        let answer = match self.clock.timeout(left, self.read(&request.lookup)).await {
            Some(answer) => answer,
            None => Err(SourceError::new(SourceErrorKind::Timeout, "no answer before the deadline")),
        };
        answer.unwrap_or_else(|error| (OutcomeBody::Error(error), None))
    }

    async fn read(&self, lookup: &Lookup) -> Result<(OutcomeBody, Option<String>), SourceError> {
        let answer = self.find(&self.source.ask(lookup)?).await?;
        let note = status(&answer).and_then(|status| {
            self.counters.note_list(status);
            note(status)
        });
        let body = match read::read(&self.source, lookup, &Arc::new(vec![answer])).await? {
            Reading::Found(finding) => OutcomeBody::Finding(finding),
            Reading::NoRecord => OutcomeBody::NoRecord,
            Reading::More { .. } => OutcomeBody::Error(SourceError::malformed("a list answers one question")),
        };
        Ok((body, note))
    }

    /// Looks the indicator up. Waits for the first copy of the list for at most the source's timeout.
    async fn find(&self, question: &Question) -> Result<Answer, SourceError> {
        let Question::List(question) = question else {
            return Err(SourceError::new(SourceErrorKind::BadQuestion, "not a question to a list"));
        };
        let answer = self.clock.timeout(self.settings.timeout, self.list.find(&question.indicator)).await;
        let answer = answer.ok_or_else(|| timed_out(self.settings.timeout, "no answer"))?;
        read::check(&self.source, answer).await
    }

    pub(super) async fn probe(&self, caller: &str) -> Probe {
        tracing::info!(source = self.settings.name, caller, "probing the source");
        let mut answers = Vec::new();
        for question in self.source.probe() {
            answers.push(self.find(&question).await);
        }
        read::read_probe(&self.source, answers).await
    }
}

impl fmt::Debug for ListPipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListPipeline").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The status of the list, if a copy of it answered.
fn status(answer: &Answer) -> Option<&ListStatus> {
    match &answer.body {
        AnswerBody::List(ListAnswer::Listed { status, .. } | ListAnswer::NotListed(status)) => Some(status),
        AnswerBody::List(ListAnswer::NeverLoaded(_))
        | AnswerBody::Http { .. }
        | AnswerBody::Dns(_)
        | AnswerBody::Failed(_) => None,
    }
}

/// The note that the list is stale or lacks entries, and why. It is also given when the indicator is not listed, since
/// that means less in such a list.
fn note(status: &ListStatus) -> Option<String> {
    let stale = status.stale.as_ref().map(|why| format!("the copy in use is not fresh: {why}"));
    let skipped = Some(status.skipped_note.clone()).filter(|note| !note.is_empty());
    match (stale, skipped) {
        (Some(stale), Some(skipped)) => Some(format!("{stale}; {skipped}")),
        (stale, skipped) => stale.or(skipped),
    }
}
