//! The services on one port, and the layers that every request passes on its way to them.
//!
//! Calls for which there is no slot or no time are refused before, by `early_refusal.rs`. The layers, outermost first: CORS (a preflight request carries no token), panic handler, request counter, separation
//! of gRPC from other requests (`page.rs`), gRPC-Web (translated here, so that the inner layers see only gRPC), check
//! of the host name (`hosts.rs`), authentication, admission (`admission.rs`), hand-over to the workers, limit on the
//! request body, service. Health needs no token, so that an orchestrator can probe it; metrics do. Neither counts
//! against the limit of requests. tower's own limit and timeout layers end once the headers of a response are sent,
//! which is too early for a stream.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{BoxError, Router};
use futures_util::{StreamExt, stream};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyStream, StreamBody};
use hyper::body::{Bytes, Frame};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_web::GrpcWebLayer;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::admission::{self, Admission, GRPC_STATUS, IdleStreams, WATCH, error_response, trailers};
use super::connections::Connection;
use super::early_refusal::{EarlyRefusal, count_request};
use super::fair_pool::FairPool;
use super::hosts::{self, Hosts};
use super::turns::{Ended, Turns};
use super::{StartError, health, page};
use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::pb;
use crate::pb::enrichment_service_server::EnrichmentServiceServer;
use crate::pb::history_service_server::HistoryServiceServer;
use crate::pb::policy_service_server::PolicyServiceServer;
use crate::pb::source_service_server::SourceServiceServer;
use crate::pb::submission_service_server::SubmissionServiceServer;
use crate::pb::verdict_service_server::VerdictServiceServer;
use crate::rpc::auth::{Authenticator, Caller, Peer};
use crate::rpc::load::{Admitted, Load, Slots};
use crate::rpc::{EnrichmentRpc, HistoryRpc, PolicyRpc, SourceRpc, SubmissionRpc, VerdictRpc, status};
use crate::settings::Config;
use crate::telemetry;

/// Time for a health watch to receive the news that the server stops, before its stream is ended.
const WATCH_GRACE: Duration = Duration::from_millis(100);
/// Time limit for the body of a request to arrive.
const REQUEST_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// A request body occupies one slot per this many bytes; the first is the slot of the request itself. Bodies are held
/// in memory, so this bounds what all of them take together.
const BODY_BYTES_PER_SLOT: usize = 64 * 1024;

/// The one call whose requests are a stream.
const SUBMIT_FILE: &str = "/concord.v1.SubmissionService/SubmitFile";

/// The services to be served.
pub(super) struct Services {
    pub(super) enrichment: EnrichmentRpc,
    pub(super) sources: SourceRpc,
    pub(super) policies: PolicyRpc,
    pub(super) verdicts: VerdictRpc,
    pub(super) submissions: SubmissionRpc,
    pub(super) history: HistoryRpc,
}

/// Builds the router of the port, and the reporter of the health that it serves. `workers` is the runtime that the
/// services run on.
pub(super) async fn build(
    config: &Config,
    authenticator: Authenticator,
    services: Services,
    load: Arc<Load>,
    workers: Handle,
    stop: CancellationToken,
) -> Result<(Router, EarlyRefusal, HealthReporter), StartError> {
    let limit = config.limits.max_message_bytes;
    let admission = Admission {
        slots: FairPool::new(config.limits.max_in_flight, config.limits.max_in_flight),
        load,
        default_deadline: config.default_deadline,
    };
    let hosts = Hosts::new(!config.tokens.is_empty(), &config.host_names, &config.cors_origins);
    let early_refusal =
        EarlyRefusal { authenticator: authenticator.clone(), hosts: hosts.clone(), admission: admission.clone() };
    let (reporter, health_service) = tonic_health::server::health_reporter();
    health::report(&reporter, ServingStatus::Serving).await;

    // Even if `max_in_flight` is small, the largest permitted request takes only a quarter of the slots.
    let bytes_per_slot = BODY_BYTES_PER_SLOT.max(4 * limit / config.limits.max_in_flight);
    let services = Routes::new(EnrichmentServiceServer::new(services.enrichment).max_decoding_message_size(limit))
        .add_service(SourceServiceServer::new(services.sources).max_decoding_message_size(limit))
        .add_service(PolicyServiceServer::new(services.policies).max_decoding_message_size(limit))
        .add_service(VerdictServiceServer::new(services.verdicts).max_decoding_message_size(limit))
        .add_service(SubmissionServiceServer::new(services.submissions).max_decoding_message_size(limit))
        .add_service(HistoryServiceServer::new(services.history).max_decoding_message_size(limit))
        .into_axum_router()
        .layer(from_fn_with_state(BodyLimit { bytes_per_slot, stop: stop.clone() }, limit_request_body))
        .layer(from_fn_with_state(Turns::new(workers), run_on_workers))
        .layer(from_fn_with_state(admission.clone(), admission::admit));
    let failed = |error: tonic_reflection::server::Error| StartError(format!("reflection: {error}"));
    // A reflection call is a stream of requests without a fixed end, so the time limit applies to each request of it.
    let reflection = Routes::new(reflection().build_v1().map_err(failed)?)
        .add_service(reflection().build_v1alpha().map_err(failed)?)
        .into_axum_router()
        .reset_fallback()
        .layer(from_fn_with_state(stop.clone(), limit_reflection_stream))
        .layer(from_fn_with_state(IdleStreams::reflections(), admission::admit_reflection));
    let guarded = services
        .merge(reflection)
        .layer(from_fn_with_state(authenticator.clone(), authenticate))
        .layer(from_fn_with_state(hosts.clone(), hosts::check));
    let watches = IdleStreams::watches(config.limits.max_health_watches);
    let health = Routes::new(health_service)
        .into_axum_router()
        .reset_fallback()
        .layer(from_fn_with_state(stop, end_watch))
        .layer(from_fn_with_state(watches, admission::admit_watch));
    let grpc = guarded.merge(health).layer(GrpcWebLayer::new());
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let router = Router::new()
        .route("/metrics", get(metrics))
        .with_state(authenticator)
        .layer(from_fn_with_state(hosts, hosts::check))
        .fallback(move |request: Request| async move { page::answer(&request, scheme) })
        .layer(from_fn_with_state(grpc, route_grpc))
        .layer(from_fn(count))
        .layer(CatchPanicLayer::custom(panic_response));
    let router = match cors(&config.cors_origins)? {
        Some(cors) => router.layer(cors),
        None => router,
    };
    Ok((router, early_refusal, reporter))
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // The types of error details, so that a client without generated code can show them.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

/// Routes gRPC and gRPC-Web calls, which are recognised by their content type, to the services.
async fn route_grpc(State(grpc): State<Router>, request: Request, next: Next) -> Response {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    if content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
        return grpc.oneshot(request).await.into_response();
    }
    next.run(request).await
}

async fn metrics(State(authenticator): State<Authenticator>, request: Request) -> Response {
    match caller(&authenticator, &request) {
        Ok(caller) => {
            mark_connection_authenticated(&request, &caller);
            telemetry::render_metrics().into_response()
        }
        Err(error) => (StatusCode::UNAUTHORIZED, error.to_string()).into_response(),
    }
}

async fn count(request: Request, next: Next) -> Response {
    count_request(request.uri().path());
    next.run(request).await
}

fn caller(authenticator: &Authenticator, request: &Request) -> Result<Caller, Error> {
    let peer = request.extensions().get::<Arc<Peer>>().map_or(&Peer::Network(None), AsRef::as_ref);
    authenticator.caller(request.headers(), peer)
}

/// Makes the connection count against its caller from now on.
fn mark_connection_authenticated(request: &Request, caller: &Caller) {
    if let Some(connection) = request.extensions().get::<Arc<Connection>>() {
        connection.mark_authenticated(caller);
    }
}

async fn authenticate(State(authenticator): State<Authenticator>, mut request: Request, next: Next) -> Response {
    // Authenticated on arrival.
    if request.extensions().get::<Caller>().is_some() {
        return next.run(request).await;
    }
    match caller(&authenticator, &request) {
        Ok(caller) => {
            mark_connection_authenticated(&request, &caller);
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => {
            if let Some(connection) = request.extensions().get::<Arc<Connection>>() {
                connection.record_refusal();
            }
            error_response(&error)
        }
    }
}

/// Runs a request on the worker runtime, so that it does not delay the threads that accept connections and write
/// answers. It is aborted when the caller disconnects.
async fn run_on_workers(State(turns): State<Arc<Turns>>, request: Request, next: Next) -> Response {
    let (owner, admitted) = (admission::owner(&request), request.extensions().get::<Admitted>().cloned());
    match turns.run(owner, admitted, next.run(request)).await {
        Ended::Answered(answer) => answer,
        Ended::Panicked(cause) => panic_response(cause),
        Ended::Refused(error) => error_response(&error),
        Ended::ShutDown => {
            error_response(&Error::Unavailable { message: "the server is shutting down".into(), retry_after: None })
        }
    }
}

/// What bounds the bodies of requests.
#[derive(Clone)]
struct BodyLimit {
    bytes_per_slot: usize,
    stop: CancellationToken,
}

/// Bounds the body of a request in time, since a body that never ends would occupy its slot forever, and in memory. A file
/// may arrive for as long as it goes on, and goes to disk as it arrives.
async fn limit_request_body(State(limit): State<BodyLimit>, request: Request, next: Next) -> Response {
    if request.uri().path() == SUBMIT_FILE {
        let paced = |body| fail_if_stopped(with_timeout(body, Some(limit.stop.clone())), limit.stop.clone());
        return next.run(request.map(paced)).await;
    }
    let Some(slots) = request.extensions().get::<Arc<dyn Slots>>().cloned() else {
        return next.run(request.map(|body| with_timeout(body, None))).await;
    };
    next.run(request.map(|body| charge_slots(with_timeout(body, None), slots, limit.bytes_per_slot))).await
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

/// Ends a reflection stream if its next request does not arrive in time, or when the server stops.
async fn limit_reflection_stream(State(stop): State<CancellationToken>, request: Request, next: Next) -> Response {
    next.run(request.map(|body| with_timeout(body, Some(stop)))).await
}

/// A body with a time limit. With `stream_until` the limit applies to each frame instead of the whole body, and the
/// body ends when the token is cancelled.
fn with_timeout(body: Body, stream_until: Option<CancellationToken>) -> Body {
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
    let end = stream::once(async move { stop.is_cancelled().then(|| Err(BoxError::from(status::of(&stopped())))) });
    let frames = BodyStream::new(body).map(|frame| frame.map_err(BoxError::from));
    Body::new(StreamBody::new(frames.chain(end.filter_map(std::future::ready))))
}

/// Ends a health watch when the server stops, since a watch never ends by itself and would delay the shutdown.
async fn end_watch(State(stop): State<CancellationToken>, request: Request, next: Next) -> Response {
    let is_watch = request.uri().path() == WATCH;
    let answer = next.run(request).await;
    if !is_watch || answer.headers().contains_key(GRPC_STATUS) {
        return answer;
    }
    let stopped = async move {
        stop.cancelled().await;
        SystemClock.sleep(WATCH_GRACE).await;
    };
    let last = stream::iter([Ok(Frame::trailers(trailers(Code::Unavailable, "the server is shutting down")))]);
    let cut_off = |body| BodyStream::new(body).take_until(Box::pin(stopped)).chain(last);
    answer.map(|body| Body::new(StreamBody::new(cut_off(body))))
}

/// Turns a panic into a status, so that only its own call fails. No panic is known to be reachable from outside.
fn panic_response(cause: Box<dyn Any + Send>) -> Response {
    error_response(&status::panicked(cause.as_ref()))
}

/// Lets web pages of these origins call from a browser. `None` if the list is empty.
fn cors(origins: &[String]) -> Result<Option<CorsLayer>, StartError> {
    if origins.is_empty() {
        return Ok(None);
    }
    let read =
        |origin: &String| origin.parse().map_err(|_| StartError(format!("cors_origins: {origin:?} is no origin")));
    let origins: Vec<HeaderValue> = origins.iter().map(read).collect::<Result<_, _>>()?;
    let exposed = ["grpc-status", "grpc-message", "grpc-status-details-bin"].map(HeaderName::from_static);
    let allowed = ["x-grpc-web", "x-user-agent", "grpc-timeout"].map(HeaderName::from_static);
    Ok(Some(
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods([Method::POST])
            .allow_headers(allowed.into_iter().chain([header::AUTHORIZATION, header::CONTENT_TYPE]).collect::<Vec<_>>())
            .expose_headers(exposed)
            .max_age(Duration::from_secs(3600)),
    ))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_aborted_request_frees_its_slot() {
        let slots = FairPool::new(1, 1);
        let read = |body: Body| async { body.collect().await.unwrap_err().to_string() };
        let limit = BodyLimit { bytes_per_slot: BODY_BYTES_PER_SLOT, stop: CancellationToken::new() };
        let router = Router::new().fallback(read).layer(from_fn_with_state(limit, limit_request_body));
        let load = Load::new(Handle::current(), Arc::new(SystemClock));
        let admission = Admission { slots: slots.clone(), load, default_deadline: Duration::from_secs(10) };
        let router = router.layer(from_fn_with_state(admission, admission::admit));
        let silent = Body::from_stream(stream::pending::<Result<String, Infallible>>());
        let answer = router.oneshot(Request::new(silent)).await.unwrap();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&text).contains("within 30 s"), "{text:?}");
        assert_eq!(slots.used(), 0);
    }
}
