//! The conversation with a source: one or more questions about one indicator. It reads cached answers first and pays
//! only for those that are missing. If a later step fails, it returns the partial finding with the reason.
//!
//! `attempt` decides whether an answer is a refusal, since `retry` depends on it.

use std::sync::Arc;
use std::time::Duration;

use super::attempt::AttemptError;
use super::breaker::CircuitBreaker;
use super::digest::of_question;
use super::lookup::AnswerTime;
use super::raw_answers::{AnsweredStep, Step};
use super::read::read;
use super::waiters::{Waiters, incomplete};
use crate::clock::Clock;
use crate::finding::{Finding, OutcomeBody, SourceError, SourceErrorKind};
use crate::source::{Answer, AnswerBody, Lookup, Purpose, Question, Reading, Source};
use crate::store::CacheDigest;

/// Maximum of questions in one conversation, including those answered from the cache, with a source that declares one. Those
/// that a source declares more are added.
const MAX_STEPS: usize = 6;

/// The result of a conversation.
#[derive(Clone, Debug)]
pub(super) struct ConversationOutcome {
    /// The result: a finding, no record, or why there is neither.
    pub(super) body: OutcomeBody,
    /// When the source answered; for a result without an answer, when it became known.
    pub(super) time: AnswerTime,
    /// Whether no call was needed, since cached answers sufficed.
    pub(super) from_cache: bool,
    /// Whether the conversation reached its end, so that its result may be cached.
    pub(super) complete: bool,
    /// What the source refused when the result was read without a refused question, one bit each; 0 if it was read with all.
    pub(super) refusals: u32,
    /// The questions and answers, by their digests; empty if none of them may be cached.
    pub(super) steps: Vec<Step>,
}

impl ConversationOutcome {
    /// An outcome that may not be cached.
    pub(super) fn uncacheable(body: OutcomeBody, time: AnswerTime) -> Self {
        Self { body, time, from_cache: false, complete: false, refusals: 0, steps: Vec::new() }
    }

    /// How long the outcome may be cached, if its answers state it. Zero for an incomplete conversation, so that the
    /// next look-up continues it; likewise if a refusal that may be lifted at any moment is behind it.
    pub(super) fn ttl(&self) -> Option<Duration> {
        if self.complete && self.refusals == 0 { least_ttl(&self.steps) } else { Some(Duration::ZERO) }
    }
}

/// The shortest time to live of the answers; `None` if none states one.
pub(super) fn least_ttl(steps: &[Step]) -> Option<Duration> {
    steps.iter().filter_map(|step| step.ttl).min()
}

/// One conversation about one indicator.
pub(super) struct Conversation<'a> {
    pub(super) source: &'a Arc<dyn Source>,
    pub(super) lookup: &'a Lookup,
    pub(super) waiters: &'a Waiters,
    pub(super) breaker: &'a CircuitBreaker,
    pub(super) clock: &'a dyn Clock,
}

/// The questions and answers so far.
#[derive(Default)]
struct Transcript {
    /// Those that were answered.
    steps: Vec<Step>,
    answers: Arc<Vec<Answer>>,
    partial: Option<Finding>,
    has_refusals: bool,
}

impl Conversation<'_> {
    /// Asks with `ask` and reads the answers until the reading is complete. `cached` holds the steps of an earlier
    /// conversation. `ask` is given each question with its digest, and told what the answer is for.
    pub(super) async fn run<F>(
        &self,
        mut cached: Vec<AnsweredStep>,
        ask: impl Fn((Arc<Question>, CacheDigest), Purpose) -> F,
    ) -> ConversationOutcome
    where
        F: Future<Output = Result<AnsweredStep, AttemptError>>,
    {
        let first = match self.source.ask(self.lookup) {
            Ok(question) => Arc::new(question),
            Err(error) => return self.uncacheable(OutcomeBody::Error(error)),
        };
        let (mut question, mut purpose) = (first.clone(), Purpose::Claim);
        let mut transcript = Transcript::default();
        let max_steps = MAX_STEPS.saturating_add(self.source.max_questions(self.lookup) as usize) - 1;
        while transcript.answers.len() < max_steps {
            let is_further = !transcript.answers.is_empty();
            let digest = of_question(&question);
            let (step, answer) = match cached.iter().position(|(step, _)| step.question == digest) {
                Some(place) => {
                    let (step, answer) = cached.swap_remove(place);
                    (Some(step), answer)
                }
                None => match is_further.then(|| self.source.known_refusal(self.lookup, &question)).flatten() {
                    Some(error) => {
                        transcript.has_refusals = true;
                        (None, self.failed(error))
                    }
                    None => match ask((question.clone(), digest), purpose).await {
                        Ok((step, answer)) => (Some(step), answer),
                        Err(AttemptError::Source(error)) if is_further => {
                            let is_refused = self.source.note_refusal(self.lookup, &question, &error);
                            if !is_refused && !can_do_without(purpose, &error) {
                                return self.interrupted(transcript, AttemptError::Source(error));
                            }
                            transcript.has_refusals |= is_refused;
                            (None, self.failed(error))
                        }
                        Err(error) => return self.interrupted(transcript, error),
                    },
                },
            };
            transcript.push(step, answer);
            match read(self.source, self.lookup, &transcript.answers).await {
                Ok(Reading::Found(finding)) => return self.conclude(transcript, OutcomeBody::Finding(finding), true),
                Ok(Reading::NoRecord) => return self.conclude(transcript, OutcomeBody::NoRecord, true),
                Ok(Reading::More { partial_finding, next, purpose: next_purpose }) => {
                    if let Some(finding) = partial_finding {
                        self.waiters.note_partial(&finding, self.time(&transcript));
                        transcript.partial = Some(finding);
                    }
                    (question, purpose) = (Arc::new(*next), next_purpose);
                }
                // The cached answers cannot be read under the current rating, so the conversation starts anew without
                // them.
                Err(_) if !self.waiters.was_asked() => {
                    cached.clear();
                    transcript = Transcript::default();
                    (question, purpose) = (first.clone(), Purpose::Claim);
                }
                Err(error) => return self.unreadable(transcript, error),
            }
        }
        self.cut_short(transcript, max_steps)
    }

    /// What stands for the answer to a further question that failed. It is no step, so that it is asked again once the result expires.
    fn failed(&self, error: SourceError) -> Answer {
        Answer { received: self.clock.now(), ttl: None, body: AnswerBody::Failed(error) }
    }

    /// The outcome after a failed step. The answers before it are cached, so that the next look-up pays only for the
    /// rest.
    fn interrupted(&self, mut transcript: Transcript, error: AttemptError) -> ConversationOutcome {
        if matches!(error, AttemptError::NotAttempted(_)) {
            self.waiters.note_limited();
        }
        if transcript.answers.is_empty() {
            return self.uncacheable(error.into_body());
        }
        let error = error.into_error(self.clock.now());
        let body = match transcript.partial.take() {
            Some(finding) => OutcomeBody::Finding(incomplete(finding, &error.to_string())),
            None => OutcomeBody::Error(error),
        };
        self.conclude(transcript, body, false)
    }

    /// The outcome after an answer that cannot be read. Neither it nor the answers before it are cached, since asking
    /// anew may return different ones.
    fn unreadable(&self, mut transcript: Transcript, error: SourceError) -> ConversationOutcome {
        self.breaker.note_unreadable(self.clock);
        match transcript.partial.take() {
            Some(finding) => {
                let body = OutcomeBody::Finding(incomplete(finding, &error.to_string()));
                ConversationOutcome::uncacheable(body, self.time(&transcript))
            }
            None => self.uncacheable(OutcomeBody::Error(error)),
        }
    }

    /// The outcome when the maximum of questions is reached. Another conversation would end the same way, so the
    /// partial finding counts as complete.
    fn cut_short(&self, mut transcript: Transcript, max_steps: usize) -> ConversationOutcome {
        match transcript.partial.take() {
            Some(finding) => {
                let why = format!("the source wanted more than {max_steps} questions");
                self.conclude(transcript, OutcomeBody::Finding(incomplete(finding, &why)), true)
            }
            None => {
                let error = SourceError::malformed(format!("no reading after {max_steps} questions"));
                self.uncacheable(OutcomeBody::Error(error))
            }
        }
    }

    fn uncacheable(&self, body: OutcomeBody) -> ConversationOutcome {
        ConversationOutcome::uncacheable(body, AnswerTime::now(self.clock))
    }

    fn conclude(&self, transcript: Transcript, body: OutcomeBody, complete: bool) -> ConversationOutcome {
        let time = if body.is_answer() { self.time(&transcript) } else { AnswerTime::now(self.clock) };
        let from_cache = !self.waiters.was_asked();
        let refusals = if transcript.has_refusals { self.source.refusals() } else { 0 };
        ConversationOutcome { body, time, from_cache, complete, refusals, steps: transcript.steps }
    }

    /// When the source answered: the time of its oldest answer.
    fn time(&self, transcript: &Transcript) -> AnswerTime {
        let times = transcript.steps.iter().map(|step| step.time);
        times.min_by_key(|time| time.monotonic).unwrap_or_else(|| AnswerTime::now(self.clock))
    }
}

/// Whether the answers are read without a question for this purpose, which failed with this error.
fn can_do_without(purpose: Purpose, error: &SourceError) -> bool {
    // These concern every question of the account, and this one may be answered as soon as they are over.
    let is_of_account = matches!(error.kind, SourceErrorKind::QuotaExhausted | SourceErrorKind::Unauthorized);
    purpose.is_optional() && !is_of_account
}

impl Transcript {
    fn push(&mut self, step: Option<Step>, answer: Answer) {
        self.steps.extend(step);
        Arc::make_mut(&mut self.answers).push(answer);
    }
}
