//! Lets a kind check and read answers. This is the only place where content from a source enters the program, so
//! findings are bounded here. Large bodies are parsed off the threads that serve requests.

use std::sync::Arc;

use super::raw_answers::{Step, body_length};
use crate::finding::{OutcomeBody, SourceError};
use crate::offload::offload;
use crate::source::{Answer, Lookup, Probe, Question, Reading, Source};

/// Reads what the answers so far say about the indicator.
pub(super) async fn read(
    source: &Arc<dyn Source>,
    lookup: &Lookup,
    answers: &Arc<Vec<Answer>>,
) -> Result<Reading, SourceError> {
    let bytes = answers.iter().map(body_length).sum();
    let (source, lookup, answers) = (source.clone(), lookup.clone(), answers.clone());
    offload(bytes, move || source.read(&lookup, &answers).map(bounded)).await
}

/// Reads what the answers before a refused question say, if the source can make do with them.
pub(super) async fn read_refused(
    source: &Arc<dyn Source>,
    lookup: &Lookup,
    answers: &Arc<Vec<Answer>>,
    question: &Question,
    error: &SourceError,
) -> Option<Reading> {
    let bytes = answers.iter().map(body_length).sum();
    let (source, lookup, answers) = (source.clone(), lookup.clone(), answers.clone());
    let (question, error) = (question.clone(), error.clone());
    offload(bytes, move || source.read_refused(&lookup, &answers, &question, &error).map(bounded)).await
}

fn bounded(reading: Reading) -> Reading {
    match reading {
        Reading::Found(finding) => Reading::Found(finding.bounded()),
        Reading::More { partial_finding, next } => {
            Reading::More { partial_finding: partial_finding.map(|finding| finding.bounded()), next }
        }
        Reading::NoRecord => Reading::NoRecord,
    }
}

/// Returns the answer, or an error if it is a refusal.
pub(super) async fn check(source: &Arc<dyn Source>, answer: Answer) -> Result<Answer, SourceError> {
    let source = source.clone();
    offload(body_length(&answer), move || source.check(&answer).map(|()| answer)).await
}

/// Reads the answers to a probe.
pub(super) async fn read_probe(source: &Arc<dyn Source>, answers: Vec<Result<Answer, SourceError>>) -> Probe {
    let bytes = answers.iter().flatten().map(body_length).sum();
    let source = source.clone();
    offload(bytes, move || source.read_probe(&answers)).await
}

/// Reads cached answers again under the current rating. `None` if an option changed a question, or a further question
/// is needed.
pub(super) async fn reread(source: &Arc<dyn Source>, lookup: &Lookup, steps: &[Step]) -> Option<OutcomeBody> {
    let mut question = source.ask(lookup).ok()?;
    let mut answers = Arc::new(Vec::with_capacity(steps.len()));
    for step in steps {
        if step.question != question {
            return None;
        }
        Arc::make_mut(&mut answers).push(step.answer.clone());
        question = match read(source, lookup, &answers).await.ok()? {
            Reading::Found(finding) => return Some(OutcomeBody::Finding(finding)),
            Reading::NoRecord => return Some(OutcomeBody::NoRecord),
            Reading::More { next, .. } => *next,
        };
    }
    None
}
