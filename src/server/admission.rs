//! What a request must pass to be worked on, and the place that it holds until its answer is on its way.
//!
//! Where there is no place, whoever has most under way gives one up to a caller who has less. Streams that may be idle for ever
//! (health watches, reflection) hold no place; there is a bound of their own for each.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::{Bytes, Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Code;

use super::active_call::ActiveCall;
use super::connections::Connection;
use super::fair_pool::{FairPool, Permit};
use crate::error::Error;
use crate::rpc::auth::{Caller, Owner};
use crate::rpc::load::{Load, Slots};
use crate::rpc::{deadline, status};

pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The requests that ask sources.
const ENRICHMENTS: &str = "/concord.v1.EnrichmentService/";
pub(super) const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// Streams of reflection at the same time.
const MAX_REFLECTIONS: usize = 64;
/// One owner has at most one in this many of the streams that may be idle.
const PER_OWNER_DIVISOR: usize = 4;
/// When to come back after a refusal for want of a place.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a request must pass to be worked on.
#[derive(Clone)]
pub(super) struct Admission {
    pub(super) slots: Arc<FairPool<ActiveCall>>,
    pub(super) load: Arc<Load>,
    pub(super) default_deadline: Duration,
}

/// Streams of one sort that may be idle for ever.
#[derive(Clone)]
pub(super) struct IdleStreams {
    slots: Arc<FairPool<ActiveCall>>,
    what: &'static str,
}

impl IdleStreams {
    pub(super) fn watches(max: usize) -> Self {
        Self { slots: FairPool::new(max, (max / PER_OWNER_DIVISOR).max(1)), what: "health watches" }
    }

    pub(super) fn reflections() -> Self {
        Self {
            slots: FairPool::new(MAX_REFLECTIONS, MAX_REFLECTIONS / PER_OWNER_DIVISOR),
            what: "streams of reflection",
        }
    }
}

/// Refuses a request for which there is no place, or no time. An answer holds its place until its body ends.
pub(super) async fn admit(State(admission): State<Admission>, mut request: Request, next: Next) -> Response {
    let owner = owner(&request);
    if request.uri().path().starts_with(ENRICHMENTS) {
        let left = deadline::read_headers(request.headers()).unwrap_or(admission.default_deadline);
        match admission.load.admit(&owner, left) {
            Ok(admitted) => drop(request.extensions_mut().insert(admitted)),
            Err(error) => return error_response(&error),
        }
    }
    run_with_permit(&admission.slots, owner, "requests under way", request, next).await
}

/// Refuses a health watch beyond the bound.
pub(super) async fn admit_watch(State(streams): State<IdleStreams>, request: Request, next: Next) -> Response {
    if request.uri().path() != WATCH {
        return next.run(request).await;
    }
    // Nobody needs a credential for it, so that only the address tells callers apart.
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    let owner = connection.as_ref().map_or_else(unknown, |connection| connection.address_owner());
    let answer = run_with_permit(&streams.slots, owner, streams.what, request, next).await;
    // A refusal is all head: its status is there.
    if let Some(connection) = connection.filter(|_| answer.headers().contains_key(GRPC_STATUS)) {
        connection.record_refusal();
    }
    answer
}

/// Refuses a stream of reflection beyond the bound.
pub(super) async fn admit_reflection(State(streams): State<IdleStreams>, request: Request, next: Next) -> Response {
    run_with_permit(&streams.slots, owner(&request), streams.what, request, next).await
}

/// In whose share a request counts that has passed authentication.
fn owner(request: &Request) -> Owner {
    let extensions = request.extensions();
    match (extensions.get::<Arc<Connection>>(), extensions.get::<Caller>()) {
        (Some(connection), Some(caller)) => connection.owner(caller),
        _ => unknown(),
    }
}

fn unknown() -> Owner {
    Owner::Caller("unknown".into())
}

/// Works on a request that holds a place, for as long as it may.
async fn run_with_permit(
    slots: &Arc<FairPool<ActiveCall>>,
    owner: Owner,
    what: &'static str,
    mut request: Request,
    next: Next,
) -> Response {
    let call = request.extensions().get::<Arc<ActiveCall>>().cloned().unwrap_or_default();
    let Some(permit) = slots.acquire(owner, &call) else { return error_response(&limit_reached(what)) };
    let permit = Arc::new(permit);
    let extra_slots: Arc<dyn Slots> = permit.clone();
    request.extensions_mut().insert(extra_slots);
    let answer = tokio::select! {
        biased;
        answer = next.run(request) => answer,
        () = call.evicted() => return error_response(&limit_reached(what)),
    };
    answer.map(|body| {
        Body::new(PermitBody { body, evicted: Box::pin(call.evicted()), what, is_ended: false, _permit: permit })
    })
}

fn limit_reached(what: &str) -> Error {
    Error::Exhausted {
        subject: what.into(),
        message: "the server has as many as its limit allows, and nobody has more of them than this caller".into(),
        retry_after: Some(RETRY_AFTER),
    }
}

fn error_response(error: &Error) -> Response {
    status::of(error).into_http::<Body>()
}

/// An answer that holds a place. Once that is given to another, the answer ends with a status.
struct PermitBody {
    body: Body,
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
    what: &'static str,
    is_ended: bool,
    _permit: Arc<Permit<ActiveCall>>,
}

impl HttpBody for PermitBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_pending() && self.evicted.as_mut().poll(context).is_ready() {
            self.is_ended = true;
            let message = format!("{}: the place was given to a caller who has fewer", self.what);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(Code::ResourceExhausted, &message)))));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The end of a stream that is cut off. The message is plain ASCII.
pub(super) fn trailers(code: Code, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from(code as i32));
    if let Ok(message) = HeaderValue::from_str(message) {
        trailers.insert("grpc-message", message);
    }
    trailers
}
