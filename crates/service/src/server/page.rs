//! The page for people who open the port in a browser or with curl: what the server is, and how to call it.

use axum::extract::Request;
use axum::response::{Html, IntoResponse, Response};
use http::{Method, StatusCode, header};

use crate::pb;

/// The answer to a request that is not a gRPC call. `scheme` is the URL scheme of this port.
pub(super) fn answer(request: &Request, scheme: &str) -> Response {
    let status = match (request.uri().path(), request.method()) {
        ("/", &Method::GET | &Method::HEAD) => StatusCode::OK,
        (path, _) if pb::METHOD_PATHS.contains(path) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        _ => StatusCode::NOT_FOUND,
    };
    let text = text(&format!("{scheme}://{}", host(request)), scheme);
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/html")) {
        let page = format!("<!doctype html>\n<title>Concord</title>\n<pre>\n{text}</pre>\n");
        return (status, Html(page)).into_response();
    }
    (status, text).into_response()
}

/// The host and port that the caller used, unless they would need escaping in a page.
fn host(request: &Request) -> &str {
    let sent = || request.headers().get(header::HOST)?.to_str().ok();
    let host = request.uri().authority().map(|authority| authority.as_str()).or_else(sent);
    let is_plain = |host: &&str| host.chars().all(|c| c.is_ascii_alphanumeric() || ".:[]-".contains(c));
    host.filter(is_plain).unwrap_or("HOST:PORT")
}

fn text(server: &str, scheme: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let plain = if scheme == "http" { " --http2-prior-knowledge" } else { "" };
    format!(
        "Concord {version}: what all your threat-intelligence sources say of an indicator, as one verdict.\n\
         This port speaks gRPC and gRPC-Web. Ask it:\n\n  \
         concord enrich 192.0.2.1 --server {server}\n  \
         buf curl --protocol grpc{plain} -d '{{\"indicator\": {{\"value\": \"192.0.2.1\"}}}}' \
         {server}/concord.v1.EnrichmentService/Enrich\n\n\
         What it serves: buf curl --protocol grpc{plain} --list-methods {server}\n\
         The protocol is in proto/concord/v1/ of the source code, the documentation in README.md and docs/.\n\
         Health is grpc.health.v1.Health, metrics are at /metrics.\n"
    )
}
