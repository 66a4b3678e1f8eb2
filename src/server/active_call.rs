//! A call from its arrival until the last byte of its answer is on its way. Answers are handed over in chunks that are dated,
//! so that one whose client does not read is known, whether the client keeps its HTTP/2 window shut or its socket full.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, HttpBody};
use hyper::body::{Bytes, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::fair_pool::Evict;
use crate::clock::{Clock, Monotonic, SystemClock};
use crate::sync::lock;

/// What is handed over at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// A call and its answer.
#[derive(Default)]
pub(super) struct ActiveCall {
    /// The order of arrival.
    number: u64,
    answer: Mutex<Answer>,
    /// When each piece was handed over that is not written yet, oldest first.
    unread: Mutex<VecDeque<Monotonic>>,
    is_aborted: AtomicBool,
    evicted: CancellationToken,
}

#[derive(Default)]
struct Answer {
    body: Option<Body>,
    /// What is left of the frame that is being handed over.
    remaining: Bytes,
}

impl ActiveCall {
    pub(super) fn new(number: u64) -> Arc<Self> {
        Arc::new(Self { number, ..Self::default() })
    }

    /// Hands this body over, in chunks.
    pub(super) fn chunk_body(self: &Arc<Self>, body: Body) -> Body {
        lock(&self.answer).body = Some(body);
        Body::new(ChunkedBody { call: self.clone() })
    }

    /// Resolves when the call must make room for another.
    pub(super) fn evicted(&self) -> WaitForCancellationFutureOwned {
        self.evicted.clone().cancelled_owned()
    }

    /// For how long the client has not read what it was sent, if so.
    pub(super) fn unread_for(&self, now: Monotonic) -> Option<Duration> {
        lock(&self.unread).front().map(|passed_on| now.since(*passed_on))
    }

    /// Gives the answer up: what it holds is freed, also while the client does not read. False where it was given up before.
    pub(super) fn abort(&self) -> bool {
        let mut answer = match self.answer.try_lock() {
            Ok(answer) => answer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // It is being handed over right now, so that its client reads.
            Err(TryLockError::WouldBlock) => return false,
        };
        let (is_first, body) = (!self.is_aborted.swap(true, Ordering::AcqRel), answer.body.take());
        answer.remaining = Bytes::new();
        drop(answer);
        // Not under the lock: the body gives its place back.
        drop(body);
        is_first
    }

    /// Whether the answer was given up.
    pub(super) fn is_aborted(&self) -> bool {
        self.is_aborted.load(Ordering::Acquire)
    }

    fn next_chunk(self: &Arc<Self>, remaining: &mut Bytes) -> Bytes {
        let bytes = if remaining.len() > CHUNK_BYTES {
            // A copy, so that the whole frame can be freed before this piece is read.
            Bytes::copy_from_slice(&remaining.split_to(CHUNK_BYTES))
        } else {
            std::mem::take(remaining)
        };
        lock(&self.unread).push_back(SystemClock.monotonic());
        Bytes::from_owner(Chunk { bytes, call: self.clone() })
    }
}

impl Evict for ActiveCall {
    /// First what is not read, then what came last: least was done for it. No call makes room for another of its owner.
    fn eviction_priority(&self, newcomer_is_same_owner: bool) -> Option<u64> {
        if newcomer_is_same_owner {
            return None;
        }
        let unread = self.unread_for(SystemClock.monotonic());
        let unread = unread.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        Some(unread.map_or(self.number, |time| (u64::MAX / 2).saturating_add(time)))
    }

    fn evict(&self) {
        self.evicted.cancel();
        if self.unread_for(SystemClock.monotonic()).is_some() {
            self.abort();
        }
    }
}

/// A piece of an answer: dropped once it is written, or never will be.
struct Chunk {
    bytes: Bytes,
    call: Arc<ActiveCall>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        lock(&self.call.unread).pop_front();
    }
}

/// The answer as it is handed over.
struct ChunkedBody {
    call: Arc<ActiveCall>,
}

impl HttpBody for ChunkedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut answer = lock(&self.call.answer);
        let answer = &mut *answer;
        if self.call.is_aborted() {
            return Poll::Ready(Some(Err("the answer was not read in time".into())));
        }
        if answer.remaining.is_empty() {
            let Some(body) = &mut answer.body else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(context)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) if data.is_empty() => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Ok(Ok(data))) => answer.remaining = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(self.call.next_chunk(&mut answer.remaining)))))
    }

    fn is_end_stream(&self) -> bool {
        let answer = lock(&self.call.answer);
        !self.call.is_aborted()
            && answer.remaining.is_empty()
            && answer.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let answer = lock(&self.call.answer);
        let remaining = answer.remaining.len() as u64;
        let body = answer.body.as_ref().map(HttpBody::size_hint).unwrap_or_default();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + remaining);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + remaining);
        }
        hint
    }
}

impl Drop for ChunkedBody {
    fn drop(&mut self) {
        // The call may be known elsewhere for longer; what it holds is not needed any more.
        let body = lock(&self.call.answer).body.take();
        drop(body);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_handed_over_in_pieces_and_counts_as_unread_until_they_are_written() {
        let call = ActiveCall::new(0);
        let text: Vec<u8> = (0..40_000_u32).map(|number| number as u8).collect();
        let mut body = call.chunk_body(Body::from(text.clone()));
        assert_eq!(body.size_hint().exact(), Some(40_000));
        let mut chunks = Vec::new();
        while let Some(frame) = body.frame().await {
            chunks.push(frame.unwrap().into_data().unwrap());
        }
        assert_eq!(
            chunks.iter().map(Bytes::len).collect::<Vec<_>>(),
            [CHUNK_BYTES, CHUNK_BYTES, 40_000 - 2 * CHUNK_BYTES]
        );
        assert_eq!(chunks.concat(), text);
        SystemClock.sleep(Duration::from_secs(3)).await;
        drop(chunks.remove(0));
        assert_eq!(call.unread_for(SystemClock.monotonic()), Some(Duration::from_secs(3)));
        drop(chunks);
        assert_eq!(call.unread_for(SystemClock.monotonic()), None);
    }

    #[tokio::test]
    async fn an_answer_that_is_given_up_frees_what_it_holds_and_does_not_look_complete() {
        let call = ActiveCall::new(0);
        let held = Arc::new(());
        let place = held.clone();
        let body = Body::from(vec![0; 40_000]).map_frame(move |frame| {
            let _held = &place;
            frame
        });
        let mut body = call.chunk_body(Body::new(body));
        let _chunk = body.frame().await.unwrap().unwrap();
        assert_eq!(Arc::strong_count(&held), 2);
        assert!(call.abort() && !call.abort());
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(!body.is_end_stream());
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_read_is_spared_before_what_came_last_and_that_before_what_came_first() {
        let [first, last, unread] = [0, 2, 1].map(ActiveCall::new);
        let mut body = unread.chunk_body(Body::from("text"));
        let _chunk = body.frame().await.unwrap().unwrap();
        let rank = |call: &Arc<ActiveCall>| call.eviction_priority(false);
        assert!(rank(&unread) > rank(&last) && rank(&last) > rank(&first));
        assert_eq!(unread.eviction_priority(true), None);
    }
}
