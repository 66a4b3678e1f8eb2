//! A batch of indicators: reads them all, answers first what is cached, then the rest, a few at a time.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;

use super::background::BackgroundTasks;
use super::enricher::{EnrichCall, Enricher};
use super::plan::add_units;
use super::status;
use crate::convert::Violations;
use crate::convert::enrichment::{SubmittedText, read_submitted};
use crate::error::Error;
use crate::indicator::{Indicator, redact_text};
use crate::pb;
use crate::pb::batch_enrich_response::Result as Wire;

/// When to send the rest of a batch again that was cut short by a shutdown.
const RESTART_TIME: Duration = Duration::from_secs(1);

/// Answers that leave together: whoever writes them is woken once.
type Chunk = Vec<pb::BatchEnrichResponse>;

/// The distinct indicators of a batch, each with all positions at which it was sent.
pub(super) struct Batch {
    distinct: Vec<Vec<(u32, SubmittedText)>>,
    refused: Vec<(u32, pb::BatchError)>,
}

impl Batch {
    pub(super) fn read(indicators: &[pb::Indicator]) -> Self {
        let mut known: HashMap<Indicator, usize> = HashMap::new();
        let mut batch = Self { distinct: Vec::new(), refused: Vec::new() };
        for (index, wire) in (0_u32..).zip(indicators) {
            let mut violations = Violations::default();
            let submitted = read_submitted(Some(wire), format_args!("indicators[{index}]"), &mut violations);
            match violations.finish(submitted) {
                Ok(submitted) => {
                    let next = batch.distinct.len();
                    let position = *known.entry(submitted.indicator.clone()).or_insert(next);
                    match batch.distinct.get_mut(position) {
                        Some(same) => same.push((index, submitted)),
                        None => batch.distinct.push(vec![(index, submitted)]),
                    }
                }
                Err(error) => batch.refused.push((index, batch_error(index, &wire.value, &error))),
            }
        }
        batch
    }

    /// How many indicators are looked up.
    pub(super) fn len(&self) -> usize {
        self.distinct.len()
    }

    /// Sends all answers. At most `slots` of them wait for a slow reader.
    pub(super) async fn run(
        self,
        enricher: &Enricher,
        call: &EnrichCall,
        slots: usize,
        tasks: &BackgroundTasks,
        sender: &mpsc::Sender<Result<Chunk, Status>>,
    ) {
        let Self { distinct, refused } = self;
        // Sending waits for a slow reader, which delays the batch; it ends when the reader disconnects.
        let send = async |chunk: Chunk| {
            let _ = sender.send(Ok(chunk)).await;
        };
        let refused = refused.into_iter().map(|(index, error)| response(index, Wire::Error(error)));
        let mut ready: Chunk = refused.collect();
        let mut rest = Vec::new();
        for same in &distinct {
            let Some((_, first)) = same.first() else { continue };
            let Some(answer) = enricher.cached_answer(first, call) else {
                rest.push(same);
                continue;
            };
            finish_one(call);
            ready.extend(responses(same, &Ok(answer)));
            // One chunk waits while the next is filled.
            if ready.len() * 2 >= slots {
                send(std::mem::take(&mut ready)).await;
            }
        }
        if !ready.is_empty() {
            send(ready).await;
        }
        let answer = async |same: &[(u32, SubmittedText)], first: &SubmittedText| {
            let answer = enricher.answer(first, call, None).await;
            finish_one(call);
            for response in responses(same, &answer) {
                send(vec![response]).await;
            }
        };
        let (mut running, mut begun) = (FuturesUnordered::new(), 0);
        for same in &rest {
            let Some((_, first)) = same.first() else { continue };
            // The limit is computed anew after every answer, since each changes the quota that is left.
            while !running.is_empty() {
                let limit = beside(&mut running, enricher.concurrency(call, first)).await.min(slots);
                if running.len() < limit {
                    break;
                }
                running.next().await;
            }
            if tasks.is_stopping() {
                break;
            }
            running.push(answer(same, first));
            begun += 1;
        }
        while running.next().await.is_some() {}
        // What was not begun is for the server that follows. Begun, it could end without its sources when the store is closed.
        if begun < rest.len() {
            let error =
                Error::Unavailable { message: "the server is shutting down".into(), retry_after: Some(RESTART_TIME) };
            let _ = sender.send(Err(status::of(error))).await;
        }
    }
}

/// Does `work` while those that run go on: others may wait for what they ask.
async fn beside<T>(running: &mut FuturesUnordered<impl Future>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            Some(_) = running.next(), if !running.is_empty() => {}
        }
    }
}

/// Records that one indicator of the batch is answered.
fn finish_one(call: &EnrichCall) {
    if let Some(admitted) = &call.admitted {
        admitted.finish_one();
    }
}

fn response(index: u32, result: Wire) -> pb::BatchEnrichResponse {
    pb::BatchEnrichResponse { index, result: Some(result) }
}

/// The answer for each position at which the indicator was sent.
fn responses(
    same: &[(u32, SubmittedText)],
    answer: &Result<pb::EnrichResponse, Error>,
) -> impl Iterator<Item = pb::BatchEnrichResponse> {
    same.iter().enumerate().map(move |(nth, (index, submitted))| match answer {
        Ok(answer) if nth == 0 => response(*index, Wire::Answer(answer.clone())),
        Ok(answer) => response(*index, Wire::Answer(duplicate(answer, submitted))),
        Err(error) => response(*index, Wire::Error(batch_error(*index, &submitted.text, error))),
    })
}

/// The answer at a further position of its indicator. Its receipt shows no calls and no cost.
fn duplicate(answer: &pb::EnrichResponse, submitted: &SubmittedText) -> pb::EnrichResponse {
    let mut receipt = answer.decode_receipt().unwrap_or_default();
    receipt.text = submitted.text.clone();
    receipt.notes = submitted.notes.clone();
    for source in &mut receipt.sources {
        source.shared |= source.called;
        source.called = false;
        source.units = 0;
    }
    let settled = receipt.saved.map_or(0, |saved| saved.settled);
    add_units(&mut receipt, settled, None);
    pb::EnrichResponse { receipt: receipt.encode_to_vec().into(), ..answer.clone() }
}

/// The first violation of the indicator at this position, or the error of its enrichment.
fn batch_error(index: u32, text: &str, error: &Error) -> pb::BatchError {
    let first = if let Error::Invalid(violations) = error { violations.first() } else { None };
    let (field, message) = match first {
        Some(violation) => (violation.field.clone(), violation.message.clone()),
        None => (format!("indicators[{index}]"), error.to_string()),
    };
    pb::BatchError { reason: error.reason().as_str().to_owned(), field, message, text: redact_text(text) }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn what_runs_goes_on_beside_work_that_waits_for_it() {
        let (done, waits) = oneshot::channel();
        let mut running = FuturesUnordered::from_iter([async move { done.send(7) }]);
        assert_eq!(beside(&mut running, waits).now_or_never(), Some(Ok(7)));
        assert!(running.is_empty());
    }
}
