//! The conversation with a source: the only caller of its `ask` and `read`. It reads kept answers first and pays only for
//! what is missing; a later step that cannot be had leaves standing what is known so far, with the reason.
//!
//! Whether an answer is a refusal is judged by `check` at the wire, since `retry` must know it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;
use tower::ServiceExt;

use super::trip::{Asks, Attempt, Concluded, Obstacle, Site, Step, Talks, Told, Trip, layer, with_reason};
use crate::finding::{Finding, OutcomeBody, SourceError};
use crate::indicator::hex;
use crate::source::{Answer, AnswerBody, DnsAnswer, Question, Reading};
use crate::store::RawAnswer;

/// Questions of one conversation, kept answers included.
const MAX_STEPS: usize = 6;

/// Asks and reads until the source has said all.
pub(super) fn over<S: Asks>(site: &Arc<Site>, inner: S) -> impl Talks + use<S> {
    layer(site, inner, |site, inner: S, trip: Trip| async move { Ok(Talk::new(site, trip, inner).run().await) })
}

/// One conversation under way.
struct Talk<S> {
    site: Arc<Site>,
    trip: Trip,
    inner: S,
    kept: VecDeque<Step>,
    questions: Vec<Question>,
    answers: Vec<Answer>,
    hashes: Vec<Option<String>>,
    so_far: Option<Finding>,
}

impl<S: Asks> Talk<S> {
    fn new(site: Arc<Site>, trip: Trip, inner: S) -> Self {
        let kept = trip.kept.as_ref().map(|kept| kept.steps().to_vec()).unwrap_or_default();
        Self {
            site,
            trip,
            inner,
            kept: kept.into(),
            questions: Vec::new(),
            answers: Vec::new(),
            hashes: Vec::new(),
            so_far: None,
        }
    }

    async fn run(mut self) -> Concluded {
        let mut question = match self.site.source.ask(&self.trip.request.lookup) {
            Ok(question) => question,
            Err(error) => return Concluded::nothing(OutcomeBody::Error(error), self.site.clock.now()),
        };
        let first = question.clone();
        while self.answers.len() < MAX_STEPS {
            if let Err(obstacle) = self.step(question).await {
                return self.held_up(obstacle);
            }
            match self.site.source.read(&self.trip.request.lookup, &self.answers) {
                Ok(Reading::Found(finding)) => return self.conclude(OutcomeBody::Finding(finding), true),
                Ok(Reading::NoRecord) => return self.conclude(OutcomeBody::NoRecord, true),
                Ok(Reading::More { so_far, next }) => {
                    self.note(so_far);
                    question = *next;
                }
                // Kept answers that cannot be read under the present rating are as good as none.
                Err(_) if self.only_reread() => {
                    self.forget();
                    question = first.clone();
                }
                Err(error) => return self.unreadable(error),
            }
        }
        self.cut()
    }

    /// The answer to a question, kept or paid for.
    async fn step(&mut self, question: Question) -> Result<(), Obstacle> {
        if self.kept.front().is_some_and(|step| step.question == question) {
            if let Some(step) = self.kept.pop_front() {
                self.push(step);
            }
            return Ok(());
        }
        // Later answers hang on the earlier: once one question differs, none of the kept ones fits.
        self.kept.clear();
        let request = &self.trip.request;
        let told = Some(Told::of(request));
        let attempt = Attempt { question: question.clone(), told, party: self.trip.party.clone() };
        let answer = self.inner.clone().oneshot(attempt).await?;
        let hash = store(&self.site, &answer);
        self.push(Step { question, answer, hash });
        Ok(())
    }

    fn push(&mut self, step: Step) {
        self.questions.push(step.question);
        self.answers.push(step.answer);
        self.hashes.push(step.hash);
    }

    fn note(&mut self, so_far: Option<Finding>) {
        if let Some(finding) = so_far {
            self.trip.party.stands(&finding, self.time());
            self.so_far = Some(finding);
        }
    }

    /// Whether everything so far came from kept answers.
    fn only_reread(&self) -> bool {
        !self.answers.is_empty() && !self.trip.party.was_asked()
    }

    fn forget(&mut self) {
        self.kept.clear();
        self.questions.clear();
        self.answers.clear();
        self.hashes.clear();
        self.so_far = None;
    }

    /// When the source answered: the oldest of its answers counts.
    fn time(&self) -> SystemTime {
        self.answers.iter().map(|answer| answer.received).min().unwrap_or_else(|| self.site.clock.now())
    }

    fn conclude(self, body: OutcomeBody, whole: bool) -> Concluded {
        let from_cache = self.only_reread();
        let time = if body.is_answer() { self.time() } else { self.site.clock.now() };
        let steps = self.questions.into_iter().zip(self.answers).zip(self.hashes);
        let steps = steps.map(|((question, answer), hash)| Step { question, answer, hash }).collect();
        Concluded { body, time, from_cache, whole, steps }
    }

    /// A step could not be had. The answers before it are kept, so that only what is missing is paid next time.
    fn held_up(mut self, obstacle: Obstacle) -> Concluded {
        if self.answers.is_empty() {
            return Concluded::nothing(obstacle.into_body(), self.site.clock.now());
        }
        let error = obstacle.into_error(self.site.clock.now());
        let body = match self.so_far.take() {
            Some(finding) => OutcomeBody::Finding(with_reason(finding, &error.to_string())),
            None => OutcomeBody::Error(error),
        };
        self.conclude(body, false)
    }

    /// An answer that cannot be read is not kept, nor are those before it: asking anew may bring others.
    fn unreadable(mut self, error: SourceError) -> Concluded {
        let time = self.time();
        match self.so_far.take() {
            Some(finding) => Concluded::nothing(OutcomeBody::Finding(with_reason(finding, &error.to_string())), time),
            None => Concluded::nothing(OutcomeBody::Error(error), self.site.clock.now()),
        }
    }

    /// The source would go on, we do not. Asking anew would end no better, so what there is counts as all.
    fn cut(mut self) -> Concluded {
        match self.so_far.take() {
            Some(finding) => {
                let why = format!("the source wanted more than {MAX_STEPS} questions");
                self.conclude(OutcomeBody::Finding(with_reason(finding, &why)), true)
            }
            None => {
                let error = SourceError::malformed(format!("no reading after {MAX_STEPS} questions"));
                Concluded::nothing(OutcomeBody::Error(error), self.site.clock.now())
            }
        }
    }
}

/// Stores the raw answer aside, so that nobody waits for it; returns its hash. What a list says is not an answer of
/// anybody and is at hand anyway.
fn store(site: &Arc<Site>, answer: &Answer) -> Option<String> {
    let body = raw(&answer.body)?;
    let hash = hex(digest::digest(&digest::SHA256, &body).as_ref());
    let source = site.settings.name.clone();
    let raw = RawAnswer { hash: hash.clone(), source, received: answer.received, body };
    let site = site.clone();
    site.tracker.clone().spawn(async move {
        if let Err(error) = site.answers.keep_answer(raw).await {
            tracing::warn!(source = site.settings.name, %error, "a raw answer could not be stored");
        }
    });
    Some(hash)
}

/// The answer as it is stored; `None` for that of a list.
pub(super) fn raw(body: &AnswerBody) -> Option<Vec<u8>> {
    match body {
        AnswerBody::Http { body, .. } => Some(body.clone()),
        AnswerBody::Dns(dns) => Some(dns_text(dns).into_bytes()),
        AnswerBody::List(_) => None,
    }
}

/// A DNS answer in one line per record.
fn dns_text(answer: &DnsAnswer) -> String {
    match answer {
        DnsAnswer::Addresses(addresses) => addresses.iter().map(|address| format!("A {address}\n")).collect(),
        DnsAnswer::NameError => "NXDOMAIN\n".to_owned(),
        DnsAnswer::Failure(code) => format!("{code}\n"),
    }
}
