//! The inputs in chunks, each for one call. They are read on a thread of their own, one chunk ahead of the calls.

use std::iter::Peekable;

use tokio::sync::mpsc;

use super::Failure;
use super::input::{Input, Inputs};

/// Most indicators in one call, the limit of the protocol.
pub(super) const CHUNK_INDICATORS: usize = 1000;
/// Most bytes of indicators in one call: a quarter of what a server accepts by default.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Inputs for one call.
pub(super) struct Chunk {
    /// The index of the first among all inputs.
    pub(super) first: usize,
    pub(super) inputs: Vec<Input>,
    /// The input before the first chunk, where inputs were answered before.
    pub(super) last_answered: Option<Input>,
    /// Whether no input follows.
    pub(super) is_last: bool,
}

/// The chunks in order.
pub(super) struct Chunks(mpsc::Receiver<Result<Chunk, Failure>>);

impl Chunks {
    /// Reads the inputs after the first `skipped`.
    pub(super) fn start(inputs: Inputs, skipped: usize) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        // Not a task: the runtime would wait for its end, which standard input may never reach.
        std::thread::spawn(move || {
            let mut inputs = inputs.peekable();
            let mut last_answered = None;
            for index in 0..skipped {
                last_answered = inputs.next().and_then(Result::ok);
                if last_answered.is_none() {
                    let message = format!("the file has {skipped} answers, but there are only {index} indicators");
                    drop(sender.blocking_send(Err(Failure::new(message))));
                    return;
                }
            }
            let mut first = skipped;
            while let Some(chunk) = read(&mut inputs, first, &mut last_answered) {
                first += chunk.as_ref().map_or(0, |chunk| chunk.inputs.len());
                if chunk.is_err() | sender.blocking_send(chunk).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    pub(super) async fn next(&mut self) -> Result<Option<Chunk>, Failure> {
        self.0.recv().await.transpose()
    }
}

/// As many of the inputs as fit into one call; none where all were answered before.
fn read(
    inputs: &mut Peekable<impl Iterator<Item = Result<Input, Failure>>>,
    first: usize,
    last_answered: &mut Option<Input>,
) -> Option<Result<Chunk, Failure>> {
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    let fits = |input: &Result<Input, Failure>, bytes: &mut usize| {
        *bytes += input.as_ref().map_or(0, |input| input.value.len());
        *bytes <= CHUNK_BYTES
    };
    while chunk.len() < CHUNK_INDICATORS {
        // One that is too large by itself is sent, so that the server refuses it alone.
        let is_first = chunk.is_empty();
        match inputs.next_if(|input| fits(input, &mut bytes) || is_first) {
            Some(Ok(input)) => chunk.push(input),
            Some(Err(failure)) => return Some(Err(failure)),
            None => break,
        }
    }
    let is_last = inputs.peek().is_none();
    let last_answered = last_answered.take();
    (!chunk.is_empty() || last_answered.is_some()).then_some(Ok(Chunk { first, inputs: chunk, last_answered, is_last }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(lengths: &[usize]) -> Vec<(usize, usize)> {
        let mut inputs = lengths.iter().map(|length| Ok("a".repeat(*length).into())).peekable();
        let mut sizes = Vec::new();
        let mut first = 0;
        while let Some(chunk) = read(&mut inputs, first, &mut None) {
            let chunk = chunk.unwrap();
            first += chunk.inputs.len();
            sizes.push((chunk.first, chunk.inputs.len()));
        }
        sizes
    }

    #[test]
    fn a_call_carries_neither_too_many_indicators_nor_too_many_bytes() {
        assert_eq!(sizes(&[10; 2500]), [(0, 1000), (1000, 1000), (2000, 500)]);
        assert_eq!(sizes(&[8192; 300]), [(0, 128), (128, 128), (256, 44)]);
        assert_eq!(sizes(&[CHUNK_BYTES + 1, 1]), [(0, 1), (1, 1)], "one that is too large goes by itself");
        assert_eq!(sizes(&[]), []);
    }
}
