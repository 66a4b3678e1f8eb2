//! A call, from its arrival until the last byte of its answer is written. The body of an answer is passed to hyper in
//! chunks that record when they were passed on and when they were written. An answer that its client does not read is
//! detected this way, whether the client keeps its HTTP/2 flow-control window closed or its socket buffer full.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, TryLockError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, HttpBody};
use hyper::body::{Bytes, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::fair_pool::Evict;
use crate::clock::{Clock, Monotonic, SystemClock};
use crate::sync::lock;

/// Size of the chunks in which a body is passed to hyper.
const CHUNK_BYTES: usize = 16 * 1024;
/// A frame of at most this size may stay in memory until its last chunk is written.
const MAX_SLICED: usize = 4 * CHUNK_BYTES;

/// A call and the answer that is being sent.
#[derive(Default)]
pub(super) struct ActiveCall {
    /// Grows with the time of arrival.
    number: u64,
    answer: Mutex<Answer>,
    /// When each chunk that is not written yet was passed to hyper, oldest first.
    unread: Mutex<VecDeque<Monotonic>>,
    is_aborted: AtomicBool,
    evicted: CancellationToken,
    /// Where it is registered, and under which number.
    registered: OnceLock<(Arc<OpenCalls>, u64)>,
}

/// The calls of one connection that have not ended. A call that ends leaves at once, so that its memory is used again.
#[derive(Default)]
pub(super) struct OpenCalls {
    calls: Mutex<HashMap<u64, Weak<ActiveCall>>>,
    next_number: AtomicU64,
}

impl OpenCalls {
    pub(super) fn register(self: &Arc<Self>, call: &Arc<ActiveCall>) {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        if call.registered.set((self.clone(), number)).is_ok() {
            lock(&self.calls).insert(number, Arc::downgrade(call));
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<ActiveCall>> {
        lock(&self.calls).values().filter_map(Weak::upgrade).collect()
    }
}

impl Drop for ActiveCall {
    fn drop(&mut self) {
        if let Some((open_calls, number)) = self.registered.take() {
            lock(&open_calls.calls).remove(&number);
        }
    }
}

#[derive(Default)]
struct Answer {
    body: Option<Body>,
    /// The part of the current frame that is not passed on yet.
    remaining: Bytes,
    /// Whether the chunks of the current frame are copied instead of sliced: a slice keeps the whole frame in memory until it is
    /// written.
    is_copied: bool,
}

impl ActiveCall {
    pub(super) fn new(number: u64) -> Arc<Self> {
        let mut call = Self::default();
        call.number = number;
        Arc::new(call)
    }

    /// Stores the body as the answer of this call, and returns a body that yields it in chunks.
    pub(super) fn chunk_body(self: &Arc<Self>, body: Body) -> Body {
        lock(&self.answer).body = Some(body);
        Body::new(ChunkedBody { call: self.clone() })
    }

    /// Resolves when the call is evicted in favour of another.
    pub(super) fn evicted(&self) -> WaitForCancellationFutureOwned {
        self.evicted.clone().cancelled_owned()
    }

    /// For how long the oldest unread chunk has been waiting for the client; `None` if everything passed on is written.
    pub(super) fn unread_for(&self, now: Monotonic) -> Option<Duration> {
        lock(&self.unread).front().map(|passed_on| now.since(*passed_on))
    }

    /// Aborts the answer and frees its memory at once, although the client does not read. Returns `false` if it was
    /// aborted before, or if its client is reading it right now.
    pub(super) fn abort(&self) -> bool {
        let mut answer = match self.answer.try_lock() {
            Ok(answer) => answer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another thread is polling the body, so the client does read.
            Err(TryLockError::WouldBlock) => return false,
        };
        let (is_first, body) = (!self.is_aborted.swap(true, Ordering::AcqRel), answer.body.take());
        answer.remaining = Bytes::new();
        drop(answer);
        // Dropped after the lock is released: dropping the body drops its permit.
        drop(body);
        is_first
    }

    /// Whether the answer was aborted.
    pub(super) fn is_aborted(&self) -> bool {
        self.is_aborted.load(Ordering::Acquire)
    }

    fn next_chunk(self: &Arc<Self>, answer: &mut Answer) -> Bytes {
        let chunk = answer.remaining.split_to(answer.remaining.len().min(CHUNK_BYTES));
        let bytes = if answer.is_copied { Bytes::copy_from_slice(&chunk) } else { chunk };
        lock(&self.unread).push_back(SystemClock.monotonic());
        Bytes::from_owner(Chunk { bytes, call: self.clone() })
    }
}

impl Evict for ActiveCall {
    /// Answers that are not read go first, those that have waited longest before others; then the calls that arrived
    /// last, since the least work is lost with them. A call is never evicted for another one of its own owner.
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

/// A chunk of an answer. Hyper drops it once it is written, or once it never will be.
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

/// The body that hyper polls.
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
                Some(Ok(Ok(data))) => {
                    answer.is_copied = data.len() > MAX_SLICED;
                    answer.remaining = data;
                }
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(self.call.next_chunk(answer)))))
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
        // Others may hold the call for longer, but nobody polls its body any more.
        let body = lock(&self.call.answer).body.take();
        drop(body);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_passed_on_in_chunks_and_counts_as_unread_until_they_are_written() {
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
    async fn an_aborted_answer_frees_its_memory_and_does_not_look_complete() {
        let call = ActiveCall::new(0);
        let held = Arc::new(());
        let permit = held.clone();
        let body = Body::from(vec![0; 40_000]).map_frame(move |frame| {
            let _held = &permit;
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

    #[test]
    fn a_call_that_has_ended_is_forgotten() {
        let open_calls = Arc::new(OpenCalls::default());
        let [first, second] = [0, 1].map(ActiveCall::new);
        open_calls.register(&first);
        open_calls.register(&second);
        drop(first);
        assert_eq!(lock(&open_calls.calls).len(), 1);
        assert!(Arc::ptr_eq(&open_calls.all()[0], &second));
    }

    #[tokio::test(start_paused = true)]
    async fn unread_answers_are_evicted_first_and_then_the_calls_that_arrived_last() {
        let [first, last, unread] = [0, 2, 1].map(ActiveCall::new);
        let mut body = unread.chunk_body(Body::from("text"));
        let _chunk = body.frame().await.unwrap().unwrap();
        let rank = |call: &Arc<ActiveCall>| call.eviction_priority(false);
        assert!(rank(&unread) > rank(&last) && rank(&last) > rank(&first));
        assert_eq!(unread.eviction_priority(true), None);
    }
}
