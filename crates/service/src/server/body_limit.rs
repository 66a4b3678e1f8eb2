//! Bounds the bodies of requests in time, since a body that never ends would occupy its slot forever, and in memory.

use std::sync::Arc;
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyStream, StreamBody};
use hyper::body::Bytes;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::rpc::load::Slots;
use crate::rpc::status;

/// Time limit for the body of a request to arrive.
const REQUEST_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// A request body occupies one slot per this many bytes; the first is the slot of the request itself. Bodies are held
/// in memory, so this bounds what all of them take together.
const BODY_BYTES_PER_SLOT: usize = 64 * 1024;

/// What bounds the bodies of requests.
pub(super) struct BodyLimit {
    bytes_per_slot: usize,
    stop: CancellationToken,
}

impl BodyLimit {
    /// Even if `max_in_flight` is small, the largest permitted request takes only a quarter of the slots.
    pub(super) fn new(max_message_bytes: usize, max_in_flight: usize, stop: CancellationToken) -> Self {
        Self { bytes_per_slot: BODY_BYTES_PER_SLOT.max(4 * max_message_bytes / max_in_flight), stop }
    }

    /// The body of a request that must arrive as a whole before it is worked on.
    pub(super) fn whole(&self, body: Body, slots: Arc<dyn Slots>) -> Body {
        charge_slots(with_timeout(body, None), slots, self.bytes_per_slot)
    }

    /// The body of a file. It may arrive for as long as it goes on, and goes to disk as it arrives.
    pub(super) fn file(&self, body: Body) -> Body {
        fail_if_stopped(with_timeout(body, Some(self.stop.clone())), self.stop.clone())
    }
}

/// A body that acquires slots as it grows, and fails if none is free.
fn charge_slots(body: Body, slots: Arc<dyn Slots>, bytes_per_slot: usize) -> Body {
    let mut acquired = bytes_per_slot;
    let frames = BodyStream::new(body).map(move |frame| {
        let frame = frame.map_err(BoxError::from)?;
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        while acquired < bytes {
            if slots.grow(1) != Some(1) {
                return Err(BoxError::from(status::of(&Error::Exhausted {
                    subject: "request bodies in memory".into(),
                    message: "the requests in flight leave too little memory for a body of this size".into(),
                    retry_after: Some(Duration::from_secs(1)),
                })));
            }
            acquired += bytes_per_slot;
        }
        acquired -= bytes;
        Ok(frame)
    });
    Body::new(StreamBody::new(frames))
}

/// A body with a time limit. With `stream_until` the limit applies to each frame instead of the whole body, and the
/// body ends when the token is cancelled.
pub(super) fn with_timeout(body: Body, stream_until: Option<CancellationToken>) -> Body {
    let wait = || SystemClock.sleep(REQUEST_BODY_TIMEOUT);
    let state = (BodyStream::new(body), wait(), stream_until);
    let frames = stream::unfold(Some(state), move |state| async move {
        let (mut body, mut timeout, stream_until) = state?;
        let stopped = async {
            match &stream_until {
                Some(stop) => stop.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            frame = body.next() => {
                let frame = frame?.map_err(BoxError::from);
                let timeout = if stream_until.is_some() { wait() } else { timeout };
                Some((frame, Some((body, timeout, stream_until))))
            }
            () = stopped => None,
            () = &mut timeout => {
                let message = format!("the request body was not complete within {} s", REQUEST_BODY_TIMEOUT.as_secs());
                let status = status::of(&Error::Unavailable { message, retry_after: None });
                Some((Err(BoxError::from(status)), None))
            }
        }
    });
    Body::new(StreamBody::new(frames))
}

/// A body that ends with an error if the server stopped before its end: the part of a file must not look like the whole.
fn fail_if_stopped(body: Body, stop: CancellationToken) -> Body {
    let stopped = || Error::Unavailable { message: "the server is shutting down".into(), retry_after: None };
    let end = stream::once(async move { stop.is_cancelled().then(|| Err(BoxError::from(status::of(stopped())))) });
    let frames = BodyStream::new(body).map(|frame| frame.map_err(BoxError::from));
    Body::new(StreamBody::new(frames.chain(end.filter_map(std::future::ready))))
}
