//! The conversation with a source: one or more questions about one indicator. It reads cached answers first and pays
//! only for those that are missing. If a later step fails, it returns the partial finding with the reason.
//!
//! `attempt` decides whether an answer is a refusal, since `retry` depends on it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::attempt::AttemptError;
use super::lookup::AnswerTime;
use super::raw_answers::Step;
use super::read::{read, read_refused};
use super::waiters::{Waiters, incomplete};
use crate::clock::{Clock, Monotonic};
use crate::finding::{Finding, OutcomeBody, SourceError};
use crate::source::{Answer, Lookup, Question, Reading, Source};

/// Maximum of questions in one conversation, including those answered from the cache, unless the source declares more.
const MAX_STEPS: usize = 6;
/// Refused questions of one conversation that a source may leave out.
const MAX_REFUSALS: usize = 4;

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
    /// The questions and answers; empty if none of them may be cached.
    pub(super) steps: Arc<[Step]>,
}

impl ConversationOutcome {
    /// An outcome that may not be cached.
    pub(super) fn uncacheable(body: OutcomeBody, time: AnswerTime) -> Self {
        Self { body, time, from_cache: false, complete: false, steps: Arc::default() }
    }

    /// How long the outcome may be cached, if its answers state it. Zero for an incomplete conversation, so that the
    /// next look-up continues it.
    pub(super) fn ttl(&self) -> Option<Duration> {
        if self.complete { least_ttl(&self.steps) } else { Some(Duration::ZERO) }
    }
}

/// The shortest time to live of the answers; `None` if none states one.
pub(super) fn least_ttl(steps: &[Step]) -> Option<Duration> {
    steps.iter().filter_map(|step| step.answer.ttl).min()
}

/// One conversation about one indicator.
pub(super) struct Conversation<'a> {
    pub(super) source: &'a Arc<dyn Source>,
    pub(super) lookup: &'a Lookup,
    pub(super) waiters: &'a Waiters,
    pub(super) clock: &'a dyn Clock,
}

/// The questions and answers so far.
#[derive(Default)]
struct Transcript {
    asked: Vec<(Question, Monotonic, String)>,
    answers: Arc<Vec<Answer>>,
    partial: Option<Finding>,
}

impl Conversation<'_> {
    /// Asks with `ask` and reads the answers until the reading is complete. `cached` holds the steps of an earlier
    /// conversation.
    pub(super) async fn run<F>(&self, cached: Arc<[Step]>, ask: impl Fn(Question) -> F) -> ConversationOutcome
    where
        F: Future<Output = Result<Step, AttemptError>>,
    {
        let first = match self.source.ask(self.lookup) {
            Ok(question) => question,
            Err(error) => return self.uncacheable(OutcomeBody::Error(error)),
        };
        let mut cached = VecDeque::from(cached.to_vec());
        let mut question = first.clone();
        let mut transcript = Transcript::default();
        let mut refusals = 0;
        let max_steps = MAX_STEPS.max(self.source.max_questions(self.lookup) as usize);
        while transcript.answers.len() < max_steps {
            let mut refused = None;
            match cached.pop_front() {
                Some(step) if step.question == question => transcript.push(step),
                // Later questions depend on earlier answers, so once one question differs, no further cached step fits.
                Some(_) | None => {
                    cached.clear();
                    match ask(question.clone()).await {
                        Ok(step) => transcript.push(step),
                        // Bounded, so that a kind whose every question is refused does not ask forever.
                        Err(error) => match self.refused(&transcript, &question, &error).await {
                            Some(reading) if refusals < MAX_REFUSALS => {
                                (refused, refusals) = (Some(reading), refusals + 1);
                            }
                            Some(_) | None => return self.interrupted(transcript, error),
                        },
                    }
                }
            }
            let reading = match refused {
                Some(reading) => Ok(reading),
                None => read(self.source, self.lookup, &transcript.answers).await,
            };
            match reading {
                Ok(Reading::Found(finding)) => return self.conclude(transcript, OutcomeBody::Finding(finding), true),
                Ok(Reading::NoRecord) => return self.conclude(transcript, OutcomeBody::NoRecord, true),
                Ok(Reading::More { partial_finding, next }) => {
                    if let Some(finding) = partial_finding {
                        self.waiters.note_partial(&finding, self.time(&transcript));
                        transcript.partial = Some(finding);
                    }
                    question = *next;
                }
                // The cached answers cannot be read under the current rating, so the conversation starts anew without
                // them.
                Err(_) if !self.waiters.was_asked() => {
                    cached.clear();
                    transcript = Transcript::default();
                    question = first.clone();
                }
                Err(error) => return self.unreadable(transcript, error),
            }
        }
        self.cut_short(transcript, max_steps)
    }

    /// How the source reads the answers before a refused question, if it can.
    async fn refused(&self, transcript: &Transcript, question: &Question, error: &AttemptError) -> Option<Reading> {
        match error {
            AttemptError::Source(error) if !transcript.answers.is_empty() => {
                read_refused(self.source, self.lookup, &transcript.answers, question, error).await
            }
            AttemptError::Source(_)
            | AttemptError::Unreachable(_)
            | AttemptError::Local(_)
            | AttemptError::NotAttempted(_) => None,
        }
    }

    /// The outcome after a failed step. The answers before it are cached, so that the next look-up pays only for the
    /// rest.
    fn interrupted(&self, mut transcript: Transcript, error: AttemptError) -> ConversationOutcome {
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
        let steps = transcript.asked.into_iter().zip(Arc::unwrap_or_clone(transcript.answers));
        let steps = steps.map(|((question, received, hash), answer)| Step { question, answer, received, hash });
        ConversationOutcome { body, time, from_cache: !self.waiters.was_asked(), complete, steps: steps.collect() }
    }

    /// When the source answered: the time of its oldest answer.
    fn time(&self, transcript: &Transcript) -> AnswerTime {
        let times = transcript.asked.iter().zip(transcript.answers.iter());
        let times =
            times.map(|((_, monotonic, _), answer)| AnswerTime { wall: answer.received, monotonic: *monotonic });
        times.min_by_key(|time| time.monotonic).unwrap_or_else(|| AnswerTime::now(self.clock))
    }
}

impl Transcript {
    fn push(&mut self, step: Step) {
        self.asked.push((step.question, step.received, step.hash));
        Arc::make_mut(&mut self.answers).push(step.answer);
    }
}
