//! Admission of requests, and the permit that each one holds until its answer is sent.
//!
//! If all slots are occupied, the caller with the most requests in flight loses one to a caller with fewer. Streams
//! that may stay idle forever (health watches, reflection) are bounded separately, so that they do not occupy these
//! slots.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use hyper::body::{Bytes, Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Code;

use super::active_call::ActiveCall;
use super::connections::Connection;
use super::fair_pool::{FairPool, Permit};
use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::rpc::auth::{Caller, Owner};
use crate::rpc::load::{Admitted, Load};
use crate::rpc::{deadline, status};

pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Path prefix of the requests that ask sources.
const ENRICHMENTS: &str = "/concord.v1.EnrichmentService/";
/// What the slots bound.
pub(super) const IN_FLIGHT: &str = "requests in flight";
pub(super) const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// Limit of concurrent reflection streams.
const MAX_REFLECTIONS: usize = 64;
/// One owner may have at most `1 / PER_OWNER_DIVISOR` of the streams of one kind.
const PER_OWNER_DIVISOR: usize = 4;
/// Delay that a client is told to wait after its request was evicted.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The limits that apply to requests of the services.
#[derive(Clone)]
pub(super) struct Admission {
    pub(super) slots: Arc<FairPool<ActiveCall>>,
    pub(super) load: Arc<Load>,
    pub(super) default_deadline: Duration,
}

/// The limit for one kind of stream that may stay idle forever.
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
        Self { slots: FairPool::new(MAX_REFLECTIONS, MAX_REFLECTIONS / PER_OWNER_DIVISOR), what: "reflection streams" }
    }

    async fn run(&self, owner: Owner, request: Request, next: Next) -> Response {
        let call = call(request.extensions());
        match acquire(&self.slots, owner, self.what, &call) {
            Ok(permit) => run_with_permit(permit, self.what, call, next.run(request)).await,
            Err(error) => error_response(&error),
        }
    }
}

/// A call that has a slot until its answer is sent, and what its service needs to know of it.
pub(super) struct AdmittedCall {
    pub(super) call: Arc<ActiveCall>,
    pub(super) caller: Caller,
    pub(super) owner: Owner,
    /// Its time, where it asks sources.
    pub(super) time: Option<Admitted>,
    pub(super) permit: Arc<Permit<ActiveCall>>,
}

impl Admission {
    /// Admits a call if a slot is free and, for an enrichment, if it can be answered before its deadline.
    ///
    /// # Errors
    /// [`Error::Exhausted`] if there is no slot, or no time.
    pub(super) fn admit<B>(
        &self,
        request: &http::Request<B>,
        call: Arc<ActiveCall>,
        caller: Caller,
        owner: Owner,
    ) -> Result<AdmittedCall, Error> {
        let mut time = None;
        if request.uri().path().starts_with(ENRICHMENTS) {
            let left = deadline::read_headers(request.headers()).unwrap_or(self.default_deadline);
            time = Some(self.load.admit(&owner, left)?);
        }
        let permit = acquire(&self.slots, owner.clone(), IN_FLIGHT, &call)?;
        Ok(AdmittedCall { call, caller, owner, time, permit })
    }

    /// Admits a call that came through the router, by what its layers found out.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub(super) fn admit_routed(&self, request: &Request) -> Result<AdmittedCall, Error> {
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or_else(|| Caller("unknown".into()));
        self.admit(request, call(request.extensions()), caller, owner(request))
    }
}

/// Refuses a health watch beyond the limit.
pub(super) async fn admit_watch(State(streams): State<IdleStreams>, request: Request, next: Next) -> Response {
    if request.uri().path() != WATCH {
        return next.run(request).await;
    }
    // Health needs no credential, so only the address tells callers apart.
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    let owner = connection.as_ref().map_or_else(unknown, |connection| connection.address_owner());
    let answer = streams.run(owner, request, next).await;
    // A refusal is a trailers-only response, so its status is in the headers.
    if let Some(connection) = connection.filter(|_| answer.headers().contains_key(GRPC_STATUS)) {
        connection.record_refusal();
    }
    answer
}

/// Refuses a reflection stream beyond the limit.
pub(super) async fn admit_reflection(State(streams): State<IdleStreams>, request: Request, next: Next) -> Response {
    streams.run(owner(&request), request, next).await
}

/// The owner that an authenticated request counts against.
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

fn call(extensions: &Extensions) -> Arc<ActiveCall> {
    extensions.get::<Arc<ActiveCall>>().cloned().unwrap_or_default()
}

fn acquire(
    slots: &Arc<FairPool<ActiveCall>>,
    owner: Owner,
    what: &str,
    call: &Arc<ActiveCall>,
) -> Result<Arc<Permit<ActiveCall>>, Error> {
    let permit = slots.acquire(owner.clone(), call);
    let refused = || limit_reached(what, slots.retry_after(&owner, SystemClock.monotonic()));
    permit.map(Arc::new).ok_or_else(refused)
}

/// Works on a call while it holds a permit, which its answer keeps. The work ends early if the call is evicted.
pub(super) async fn run_with_permit(
    permit: Arc<Permit<ActiveCall>>,
    what: &'static str,
    call: Arc<ActiveCall>,
    work: impl Future<Output = Response>,
) -> Response {
    let answer = tokio::select! {
        biased;
        answer = work => answer,
        () = call.evicted() => return error_response(&limit_reached(what, RETRY_AFTER)),
    };
    answer.map(|body| {
        Body::new(PermitBody { body, evicted: Box::pin(call.evicted()), what, is_ended: false, _permit: permit })
    })
}

fn limit_reached(what: &str, retry_after: Duration) -> Error {
    Error::Exhausted {
        subject: what.into(),
        message: "the limit is reached, and no other caller has more of them than this one".into(),
        retry_after: Some(retry_after),
    }
}

pub(super) fn error_response(error: &Error) -> Response {
    status::of(error).into_http::<Body>()
}

/// A body that holds a permit. If the permit is evicted, the body ends with a status in its trailers.
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
            let message = format!("{}: the limit is reached, and a caller with fewer took this one's place", self.what);
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

/// The trailers that end a stream early. `message` must be ASCII; otherwise it is left out.
pub(super) fn trailers(code: Code, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from(code as i32));
    if let Ok(message) = HeaderValue::from_str(message) {
        trailers.insert("grpc-message", message);
    }
    trailers
}
