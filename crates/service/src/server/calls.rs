//! The way of an admitted call to its service and of its answer back. What a cached verdict answers is answered where the call
//! arrived; all else is worked on among the workers, in turn.

use std::any::Any;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use axum::{BoxError, Router};
use futures_util::{FutureExt, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::{Bytes, Frame};
use prost::Message;
use prost::bytes::{BufMut, BytesMut};
use tower::ServiceExt;

use super::active_call::ActiveCall;
use super::admission::{AdmittedCall, GRPC_STATUS, IN_FLIGHT, error_response, run_with_permit};
use super::body_limit::BodyLimit;
use super::fair_pool::Permit;
use super::turns::{Ended, Turns};
use crate::error::Error;
use crate::pb;
use crate::rpc::auth::Caller;
use crate::rpc::load::Slots;
use crate::rpc::status;

/// The call that a cached verdict may answer.
const ENRICH: &str = "/concord.v1.EnrichmentService/Enrich";
/// The one call whose requests are a stream.
const SUBMIT_FILE: &str = "/concord.v1.SubmissionService/SubmitFile";
/// A body of at most this size that has arrived as a whole needs no further bounds: it fits into the slot of its call.
const MAX_SMALL_BODY: usize = 16 * 1024;
/// A flag and a length stand before each message.
const PREFIX_BYTES: usize = 5;

/// Answers a look-up at once, if a cached verdict can.
pub(super) type FromCache = dyn Fn(pb::EnrichRequest, &Caller) -> Option<pb::EnrichResponse> + Send + Sync;

/// What serves admitted calls.
pub(super) struct Calls {
    pub(super) services: Router,
    pub(super) from_cache: Box<FromCache>,
    pub(super) turns: Arc<Turns>,
    pub(super) body_limit: BodyLimit,
}

impl Calls {
    /// Answers a call. If it is evicted meanwhile, its answer says so.
    pub(super) async fn serve<B>(&self, request: Request<B>, admitted: AdmittedCall) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let (head, mut body) = request.into_parts();
        let arrived = Arrived::read(&mut body);
        if head.uri.path() == ENRICH
            && let Some(answer) =
                arrived.message().and_then(|request| self.answer_from_cache(request, &admitted.caller))
        {
            return unary_response(&answer, admitted.permit);
        }
        let is_small = arrived.is_small();
        let body = match (arrived.into_body(body), head.uri.path()) {
            (body, _) if is_small => body,
            (body, SUBMIT_FILE) => self.body_limit.file(body),
            (body, _) => self.body_limit.whole(body, admitted.permit.clone()),
        };
        let (permit, call) = (admitted.permit.clone(), admitted.call.clone());
        let work = self.work(Request::from_parts(head, body), admitted);
        // Boxed, since it is large and what is answered from the cache does not need it.
        Box::pin(run_with_permit(permit, IN_FLIGHT, call, work)).await
    }

    fn answer_from_cache(&self, request: pb::EnrichRequest, caller: &Caller) -> Option<pb::EnrichResponse> {
        // What it may start beside, such as the check of a list, is no work for the thread on which the call arrived.
        let _among_workers = self.turns.enter_workers();
        (self.from_cache)(request, caller)
    }

    /// Works on a call among the workers, so that it does not delay the threads that accept connections and write answers. The
    /// work is aborted when the caller disconnects.
    async fn work(&self, mut request: Request<Body>, admitted: AdmittedCall) -> Response {
        let AdmittedCall { call: _, caller, owner, time, permit } = admitted;
        let slots: Arc<dyn Slots> = permit;
        let extensions = request.extensions_mut();
        extensions.insert(caller);
        extensions.insert(slots);
        if let Some(time) = &time {
            extensions.insert(time.clone());
        }
        let services = self.services.clone();
        match self.turns.run(owner, time, services.oneshot(request).map(IntoResponse::into_response)).await {
            Ended::Answered(answer) => answer,
            Ended::Panicked(cause) => panic_response(cause),
            Ended::Refused(error) => error_response(&error),
            Ended::ShutDown => {
                error_response(&Error::Unavailable { message: "the server is shutting down".into(), retry_after: None })
            }
        }
    }
}

/// The part of a body that is there without waiting for it.
struct Arrived {
    bytes: Bytes,
    /// Whether that is all of it.
    is_whole: bool,
}

impl Arrived {
    fn read<B>(body: &mut B) -> Self
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        let mut arrived = Self { bytes: Bytes::new(), is_whole: false };
        while !arrived.is_whole && arrived.bytes.len() <= MAX_SMALL_BODY {
            match body.frame().now_or_never() {
                Some(None) => arrived.is_whole = true,
                Some(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if arrived.bytes.is_empty() => arrived.bytes = data,
                    Ok(data) => arrived.bytes = [arrived.bytes, data].concat().into(),
                    // Trailers of a request are not used.
                    Err(_) => {}
                },
                // The service meets the error again, as a message that breaks off.
                Some(Some(Err(_))) | None => break,
            }
        }
        arrived
    }

    /// Whether it needs no further bounds.
    fn is_small(&self) -> bool {
        self.is_whole && self.bytes.len() <= MAX_SMALL_BODY
    }

    /// The one message of a call, if it is there and plain. What is wrong with another is for the service to say.
    fn message<M: Message + Default>(&self) -> Option<M> {
        let (prefix, message) = self.bytes.split_at_checked(PREFIX_BYTES).filter(|_| self.is_small())?;
        let is_plain = prefix.split_first() == Some((&0, length(message.len()).as_slice()));
        M::decode(message).ok().filter(|_| is_plain)
    }

    /// The whole body again.
    fn into_body<B>(self, rest: B) -> Body
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { bytes, is_whole } = self;
        if is_whole {
            return Body::from(bytes);
        }
        let first = Some(bytes).filter(|bytes| !bytes.is_empty()).map(|bytes| Ok::<_, BoxError>(Frame::data(bytes)));
        let rest = BodyStream::new(rest).map(|frame| frame.map_err(Into::into));
        Body::new(StreamBody::new(stream::iter(first).chain(rest)))
    }
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

/// The response to a unary call that succeeded.
fn unary_response(message: &impl Message, permit: Arc<Permit<ActiveCall>>) -> Response {
    let bytes = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + bytes);
    framed.put_u8(0);
    framed.put_slice(&length(bytes));
    message.encode_raw(&mut framed);
    let body = UnaryBody { message: Some(framed.freeze()), has_ended: false, _permit: permit };
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// One message and the status after it. Holds the permit of its call, like every answer.
struct UnaryBody {
    message: Option<Bytes>,
    has_ended: bool,
    _permit: Arc<Permit<ActiveCall>>,
}

impl HttpBody for UnaryBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if std::mem::replace(&mut self.has_ended, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}

/// Turns a panic into a status, so that only its own call fails. No panic is known to be reachable from outside.
pub(super) fn panic_response(cause: Box<dyn Any + Send>) -> Response {
    error_response(&status::panicked(cause.as_ref()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::Handle;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::clock::SystemClock;
    use crate::rpc::auth::Owner;
    use crate::rpc::load::Load;
    use crate::server::admission::Admission;
    use crate::server::fair_pool::FairPool;

    fn calls(services: Router, from_cache: Box<FromCache>) -> Calls {
        let body_limit = BodyLimit::new(65_536, 1, CancellationToken::new());
        Calls { services, from_cache, turns: Turns::new(Handle::current()), body_limit }
    }

    async fn serve(calls: &Calls, slots: &Arc<FairPool<ActiveCall>>, body: Body) -> Response {
        let load = Load::new(Handle::current(), Arc::new(SystemClock));
        let admission = Admission { slots: slots.clone(), load, default_deadline: Duration::from_secs(10) };
        let request = Request::builder().uri(ENRICH).body(body).unwrap();
        let (caller, owner) = (Caller("soar".into()), Owner::Caller("soar".into()));
        let admitted = admission.admit(&request, ActiveCall::new(0), caller, owner).unwrap();
        calls.serve(request, admitted).await
    }

    async fn text(answer: Response) -> String {
        String::from_utf8_lossy(&answer.into_body().collect().await.unwrap().to_bytes()).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn an_aborted_request_frees_its_slot() {
        let slots = FairPool::new(1, 1);
        let read = |body: Body| async { body.collect().await.unwrap_err().to_string() };
        let calls = calls(Router::new().fallback(read), Box::new(|_, _| None));
        let silent = Body::from_stream(stream::pending::<Result<String, Infallible>>());
        let text = text(serve(&calls, &slots, silent).await).await;
        assert!(text.contains("within 30 s"), "{text:?}");
        assert_eq!(slots.used(), 0);
    }

    #[tokio::test]
    async fn a_cached_answer_has_its_message_its_status_and_holds_its_slot_until_it_is_read() {
        let slots = FairPool::new(1, 1);
        let answer = pb::EnrichResponse { verdict: "verdict".into(), ..Default::default() };
        let cached = answer.clone();
        let from_cache = move |request: pb::EnrichRequest, caller: &Caller| {
            assert_eq!((request.indicator.unwrap().value.as_str(), &*caller.0), ("192.0.2.1", "soar"));
            Some(cached.clone())
        };
        let calls = calls(Router::new(), Box::new(from_cache));
        let indicator = Some(pb::Indicator { r#type: 0, value: "192.0.2.1".into() });
        let request = pb::EnrichRequest { indicator, ..Default::default() }.encode_to_vec();
        let request = [&[0], length(request.len()).as_slice(), &request].concat();
        let response = serve(&calls, &slots, Body::from(request)).await;
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(slots.used(), 1);
        let read = response.into_body().collect().await.unwrap();
        assert_eq!(read.trailers().unwrap()["grpc-status"], "0");
        let bytes = read.to_bytes();
        assert_eq!(bytes[1..PREFIX_BYTES], length(bytes.len() - PREFIX_BYTES));
        assert_eq!(pb::EnrichResponse::decode(&bytes[PREFIX_BYTES..]), Ok(answer));
        assert_eq!(slots.used(), 0);
    }

    #[tokio::test]
    async fn what_is_no_plain_message_or_not_there_yet_reaches_the_service_whole() {
        let slots = FairPool::new(1, 1);
        let echo = |body: Body| async { body.collect().await.unwrap().to_bytes() };
        let never = |_: pb::EnrichRequest, _: &Caller| panic!("it is no message");
        let calls = calls(Router::new().fallback(echo), Box::new(never));
        for sent in ["", "0", "more bytes than a prefix has"] {
            assert_eq!(text(serve(&calls, &slots, Body::from(sent)).await).await, sent);
        }
        let (first, later) = ("first", "later");
        let pieces = stream::iter([first]).chain(stream::once(async move {
            tokio::task::yield_now().await;
            later
        }));
        let pieces = Body::from_stream(Box::pin(pieces.map(Ok::<_, Infallible>)));
        assert_eq!(text(serve(&calls, &slots, pieces).await).await, "firstlater");
    }
}
