//! The services on one port, and the layers that requests pass which are no plain gRPC calls, or of which that is not certain.
//! Plain calls go from their connection to `calls.rs`, after `early_refusal.rs` has refused those for which there is no slot or
//! no time.
//!
//! The layers, outermost first: CORS (a preflight request carries no token), panic handler, request counter, separation of gRPC
//! from other requests (`page.rs`), gRPC-Web (translated here, so that the inner layers see only gRPC), check of the host name
//! (`hosts.rs`), authentication, admission (`admission.rs`), then `calls.rs`. Health needs no token, so that an orchestrator can
//! probe it; metrics do. Neither counts against the limit of requests. tower's own limit and timeout layers end once the headers
//! of a response are sent, which is too early for a stream.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{StreamExt, stream};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyStream, StreamBody};
use hyper::body::Frame;
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
use super::body_limit::{BodyLimit, with_timeout};
use super::calls::{Calls, panic_response};
use super::connections::Connection;
use super::early_refusal::{EarlyRefusal, count_request};
use super::fair_pool::FairPool;
use super::hosts::{self, Hosts};
use super::turns::Turns;
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
use crate::rpc::load::Load;
use crate::rpc::{EnrichmentRpc, HistoryRpc, PolicyRpc, SourceRpc, SubmissionRpc, VerdictRpc};
use crate::settings::Config;
use crate::telemetry;

/// Time for a health watch to receive the news that the server stops, before its stream is ended.
const WATCH_GRACE: Duration = Duration::from_millis(100);

/// The services to be served.
pub(super) struct Services {
    pub(super) enrichment: EnrichmentRpc,
    pub(super) sources: SourceRpc,
    pub(super) policies: PolicyRpc,
    pub(super) verdicts: VerdictRpc,
    pub(super) submissions: SubmissionRpc,
    pub(super) history: HistoryRpc,
}

/// Where requests enter: plain gRPC calls go to the services at once, all others through the router.
pub(super) struct Entry {
    pub(super) router: Router,
    pub(super) calls: Arc<Calls>,
    pub(super) early_refusal: EarlyRefusal,
}

/// Builds what serves the port, and the reporter of the health that it serves. `workers` is the runtime that the
/// services run on.
pub(super) async fn build(
    config: &Config,
    authenticator: Authenticator,
    services: Services,
    load: Arc<Load>,
    workers: Handle,
    stop: CancellationToken,
) -> Result<(Entry, HealthReporter), StartError> {
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

    let enrichment = services.enrichment.clone();
    let services = Routes::new(EnrichmentServiceServer::new(services.enrichment).max_decoding_message_size(limit))
        .add_service(SourceServiceServer::new(services.sources).max_decoding_message_size(limit))
        .add_service(PolicyServiceServer::new(services.policies).max_decoding_message_size(limit))
        .add_service(VerdictServiceServer::new(services.verdicts).max_decoding_message_size(limit))
        .add_service(SubmissionServiceServer::new(services.submissions).max_decoding_message_size(limit))
        .add_service(HistoryServiceServer::new(services.history).max_decoding_message_size(limit))
        .into_axum_router();
    let calls = Arc::new(Calls {
        services,
        from_cache: Box::new(move |request, caller| enrichment.answer_from_cache(request, caller)),
        turns: Turns::new(workers),
        body_limit: BodyLimit::new(limit, config.limits.max_in_flight, stop.clone()),
    });
    let admitted = Router::new().fallback(serve_call).with_state((admission, calls.clone()));
    let failed = |error: tonic_reflection::server::Error| StartError(format!("reflection: {error}"));
    // A reflection call is a stream of requests without a fixed end, so the time limit applies to each request of it.
    let reflection = Routes::new(reflection().build_v1().map_err(failed)?)
        .add_service(reflection().build_v1alpha().map_err(failed)?)
        .into_axum_router()
        .reset_fallback()
        .layer(from_fn_with_state(stop.clone(), limit_reflection_stream))
        .layer(from_fn_with_state(IdleStreams::reflections(), admission::admit_reflection));
    let guarded = admitted
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
    Ok((Entry { router, calls, early_refusal }, reporter))
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

/// Admits a call that came through the router, and serves it.
async fn serve_call(State((admission, calls)): State<(Admission, Arc<Calls>)>, request: Request) -> Response {
    match admission.admit_routed(&request) {
        Ok(admitted) => calls.serve(request, admitted).await,
        Err(error) => error_response(&error),
    }
}

/// Makes the connection count against its caller from now on.
fn mark_connection_authenticated(request: &Request, caller: &Caller) {
    if let Some(connection) = request.extensions().get::<Arc<Connection>>() {
        connection.mark_authenticated(caller);
    }
}

async fn authenticate(State(authenticator): State<Authenticator>, mut request: Request, next: Next) -> Response {
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

/// Ends a reflection stream if its next request does not arrive in time, or when the server stops.
async fn limit_reflection_stream(State(stop): State<CancellationToken>, request: Request, next: Next) -> Response {
    next.run(request.map(|body| with_timeout(body, Some(stop)))).await
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
