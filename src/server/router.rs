//! The services on one port, and what every request passes on its way to them.
//!
//! Outermost first: CORS (a preflight carries no token), panic catch, gRPC-Web (translates, so that what lies inside
//! sees gRPC alone), the gate (limit on requests under way, then who calls), the service. Health needs no token, so that
//! an orchestrator can ask; metrics do.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{BoxError, Router};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Frame;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_web::GrpcWebLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::StartError;
use crate::clock::{Clock, SystemClock};
use crate::engine::Engine;
use crate::error::Error;
use crate::pb;
use crate::pb::enrichment_service_server::EnrichmentServiceServer;
use crate::pb::source_service_server::SourceServiceServer;
use crate::pb::verdict_service_server::VerdictServiceServer;
use crate::rpc::auth::{Authenticator, Peer};
use crate::rpc::{EnrichmentRpc, SourceRpc, VerdictRpc, status};
use crate::settings::Config;
use crate::telemetry;

const REFLECTION: &str = "/grpc.reflection.";
const HEALTH: &str = "/grpc.health.v1.Health/";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// How long who watches the health has to hear that the server ends.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// How long a request may take to come in whole.
const COMING_IN: Duration = Duration::from_secs(30);
const METRICS: &str = "/metrics";
const OUR_METHODS: [&str; 14] = [
    "EnrichmentService/Enrich",
    "EnrichmentService/StreamEnrich",
    "EnrichmentService/BatchEnrich",
    "EnrichmentService/PlanEnrichment",
    "SourceService/ListSourceKinds",
    "SourceService/ConfigureSource",
    "SourceService/GetSource",
    "SourceService/ListSources",
    "SourceService/DeleteSource",
    "SourceService/TestSource",
    "SourceService/ListDisclosures",
    "SourceService/GetUsage",
    "VerdictService/GetVerdict",
    "VerdictService/ListVerdicts",
];

/// What the gate knows.
#[derive(Clone)]
struct Gate {
    authenticator: Authenticator,
    under_way: Arc<Semaphore>,
    stop: CancellationToken,
}

/// Everything that one port serves until it stops, and what says whether it does.
pub(super) async fn build(
    config: &Config,
    engine: Arc<Engine>,
    stop: CancellationToken,
) -> Result<(Router, HealthReporter), StartError> {
    let gate = Gate {
        authenticator: Authenticator::new(config.tokens.clone()),
        under_way: Arc::new(Semaphore::new(config.limits.max_in_flight)),
        stop,
    };
    let gated = middleware::from_fn_with_state(gate, pass);
    let (services, reporter) = services(config, engine).await?;
    let grpc = services.layer(gated.clone()).layer(GrpcWebLayer::new());
    let metrics = Router::new().route(METRICS, get(|| async { telemetry::render_metrics() })).layer(gated);
    let router = metrics.fallback_service(grpc).layer(CatchPanicLayer::custom(after_panic));
    let router = match cors(&config.cors_origins)? {
        Some(cors) => router.layer(cors),
        None => router,
    };
    Ok((router, reporter))
}

/// Tells whoever watches that the services end.
pub(super) async fn not_serving(reporter: &HealthReporter) {
    reporter.set_not_serving::<EnrichmentServiceServer<EnrichmentRpc>>().await;
    reporter.set_not_serving::<SourceServiceServer<SourceRpc>>().await;
    reporter.set_not_serving::<VerdictServiceServer<VerdictRpc>>().await;
    reporter.set_service_status("", ServingStatus::NotServing).await;
}

async fn services(config: &Config, engine: Arc<Engine>) -> Result<(Router, HealthReporter), StartError> {
    let limit = config.limits.max_message_bytes;
    let enrichment = EnrichmentServiceServer::new(EnrichmentRpc::new(engine.clone()));
    let sources = SourceServiceServer::new(SourceRpc::new(engine.clone()));
    let verdicts = VerdictServiceServer::new(VerdictRpc::new(engine));
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<EnrichmentServiceServer<EnrichmentRpc>>().await;
    reporter.set_serving::<SourceServiceServer<SourceRpc>>().await;
    reporter.set_serving::<VerdictServiceServer<VerdictRpc>>().await;
    let failed = |error: tonic_reflection::server::Error| StartError(format!("reflection: {error}"));
    let routes = Routes::new(enrichment.max_decoding_message_size(limit))
        .add_service(sources.max_decoding_message_size(limit))
        .add_service(verdicts.max_decoding_message_size(limit))
        .add_service(health)
        .add_service(reflection().build_v1().map_err(failed)?)
        .add_service(reflection().build_v1alpha().map_err(failed)?)
        .prepare()
        .into_axum_router();
    Ok((routes, reporter))
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Lets a request through to its service once it is known who calls.
async fn pass(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    metrics::counter!("concord_requests_total", "method" => method_of(request.uri().path())).increment(1);
    if request.uri().path() == WATCH {
        // Who watches would watch for ever, and hold up a server that ends; first it hears that it ends.
        let stop = gate.stop.clone();
        let ends = Box::pin(async move {
            stop.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        });
        let answer = next.run(request).await;
        return if answer.headers().contains_key(GRPC_STATUS) { answer } else { answer.map(|body| until(body, ends)) };
    }
    if request.uri().path().starts_with(HEALTH) {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<Arc<Peer>>().cloned();
    let peer = peer.as_deref().unwrap_or(&Peer::Network(None));
    let caller = match gate.authenticator.caller(request.headers(), peer) {
        Ok(caller) => caller,
        Err(error) => return refuse(&request, &error),
    };
    if request.uri().path() == METRICS {
        // Cheap, and wanted most when all else is busy.
        return next.run(request).await;
    }
    let Ok(permit) = gate.under_way.clone().try_acquire_owned() else {
        let error = Error::Exhausted {
            subject: "requests under way".into(),
            message: "the server has as many as its limit allows".into(),
            retry_after: Some(Duration::from_secs(1)),
        };
        return refuse(&request, &error);
    };
    request.extensions_mut().insert(caller);
    // A body that never ends would hold its place for ever. Only reflection is asked more, now and then, in one call.
    if !request.uri().path().starts_with(REFLECTION) {
        request = request.map(in_time);
    }
    // A stream is under way until its body ends, not only until its head is sent.
    next.run(request).await.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &permit;
            frame
        }))
    })
}

/// A request's body, for no longer than it may take to come in.
fn in_time(body: Body) -> Body {
    let (body, end) = (BodyStream::new(body), Box::pin(tokio::time::sleep(COMING_IN)));
    let frames = stream::unfold(Some((body, end)), |state| async move {
        let (mut body, mut end) = state?;
        tokio::select! {
            biased;
            frame = body.next() => Some((frame?.map_err(BoxError::from), Some((body, end)))),
            () = &mut end => {
                let message = format!("the request did not come to its end within {} s", COMING_IN.as_secs());
                let status = status::of(&Error::Unavailable { message, retry_after: None });
                Some((Err(BoxError::from(status)), None))
            }
        }
    });
    Body::new(StreamBody::new(frames))
}

/// A stream that is cut off in the end, with the status that says why.
fn until(body: Body, ends: impl Future<Output = ()> + Send + 'static) -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from(Code::Unavailable as i32));
    trailers.insert("grpc-message", HeaderValue::from_static("the server ends"));
    let last = stream::iter([Ok(Frame::trailers(trailers))]);
    Body::new(StreamBody::new(BodyStream::new(body).take_until(ends).chain(last)))
}

/// The method for the metrics: ours by its name, all else together, so that nobody can make labels by calling names.
fn method_of(path: &str) -> &'static str {
    let called = path.strip_prefix("/concord.v1.").unwrap_or_default();
    OUR_METHODS.into_iter().find(|method| *method == called).unwrap_or("other")
}

/// The refusal in the terms of the request: plain HTTP for metrics, a gRPC status for all else.
fn refuse(request: &Request, error: &Error) -> Response {
    if request.uri().path() == METRICS {
        return (StatusCode::UNAUTHORIZED, error.to_string()).into_response();
    }
    status::of(error).into_http::<Body>()
}

/// No panic is reachable from outside as far as we know; if one is, its call alone fails.
fn after_panic(cause: Box<dyn Any + Send>) -> Response {
    status::of(&status::panicked(cause.as_ref(), SystemClock.now())).into_http::<Body>()
}

/// Browsers of these origins may call; none where the list is empty.
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

    use tower::ServiceExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_come_to_its_end_gives_its_place_back() {
        let under_way = Arc::new(Semaphore::new(1));
        let authenticator = Authenticator::new(Vec::new());
        let gate = Gate { authenticator, under_way: under_way.clone(), stop: CancellationToken::new() };
        let read = |body: Body| async { body.collect().await.unwrap_err().to_string() };
        let router = Router::new().fallback(read).layer(middleware::from_fn_with_state(gate, pass));
        let silent = Body::from_stream(stream::pending::<Result<String, Infallible>>());
        let answer = router.oneshot(Request::new(silent)).await.unwrap();
        let told = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&told).contains("within 30 s"), "{told:?}");
        assert_eq!(under_way.available_permits(), 1);
    }
}
