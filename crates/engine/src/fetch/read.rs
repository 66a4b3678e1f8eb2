//! Lets a kind check and read answers. This is the only place where content from a source enters the program, so
//! findings are bounded here. Large bodies are parsed off the threads that serve requests.

use std::sync::Arc;

use super::raw_answers::body_length;
use crate::finding::{Finding, SourceError, Strength};
use crate::offload::offload;
use crate::source::{Answer, Lookup, Probe, Reading, Source};

/// Reads what the answers so far say about the indicator.
pub(super) async fn read(
    source: &Arc<dyn Source>,
    lookup: &Lookup,
    answers: &Arc<Vec<Answer>>,
) -> Result<Reading, SourceError> {
    let bytes = answers.iter().map(body_length).sum();
    let (source, lookup, answers) = (source.clone(), lookup.clone(), answers.clone());
    offload(bytes, move || read_stored(source.as_ref(), &lookup, &answers)).await
}

/// Reads answers that were stored before, under settings that may be others than those they were received under. Blocks for as
/// long as parsing takes.
///
/// # Errors
/// When the answers do not answer the question.
pub fn read_stored(source: &dyn Source, lookup: &Lookup, answers: &[Answer]) -> Result<Reading, SourceError> {
    source.read(lookup, answers).map(|reading| bounded(reading, source.about().greatest_strength))
}

fn bounded(reading: Reading, greatest: Strength) -> Reading {
    let bound = |finding: Finding| {
        let strength = finding.strength.map(|strength| strength.min(greatest));
        Finding { strength, ..finding }.bounded()
    };
    match reading {
        Reading::Found(finding) => Reading::Found(bound(finding)),
        Reading::More { partial_finding, next, purpose } => {
            Reading::More { partial_finding: partial_finding.map(bound), next, purpose }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Disposition;

    #[test]
    fn a_claim_that_is_stronger_than_its_kind_declares_is_cut() {
        let cut = |strength: Option<Strength>| {
            let finding = Finding::new(Disposition::Malicious, strength, "");
            let Reading::Found(finding) = bounded(Reading::Found(finding), Strength::FULL) else { panic!() };
            finding.strength
        };
        assert_eq!(cut(Some(Strength::MAX)), Some(Strength::FULL));
        assert_eq!(cut(Some(Strength::clamped(0.4))), Some(Strength::clamped(0.4)));
        assert_eq!(cut(None), None);
    }
}
