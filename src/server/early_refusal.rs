//! Refuses calls on arrival, before they pass the router: what is refused must cost little, or refusing would take the time
//! of the calls that are served. Whatever is not certain here is left to the layers of the router.

use std::sync::Arc;

use axum::response::Response;
use http::{Request, header};

use super::admission::{Admission, error_response};
use super::connections::Connection;
use super::hosts::Hosts;
use crate::pb;
use crate::rpc::auth::{Authenticator, Peer};

/// Path prefix of the calls that need a slot.
const SERVICES: &str = "/concord.v1.";

/// Admits calls on arrival.
#[derive(Clone)]
pub(super) struct EarlyRefusal {
    pub(super) authenticator: Authenticator,
    pub(super) hosts: Hosts,
    pub(super) admission: Admission,
}

impl EarlyRefusal {
    /// Admits a call whose caller is authenticated. Returns the answer if the call is refused because there is no slot, or no
    /// time.
    pub(super) fn check<B>(
        &self,
        request: &mut Request<B>,
        peer: &Peer,
        connection: &Arc<Connection>,
    ) -> Option<Response> {
        let headers = request.headers();
        // Answers to gRPC-Web are encoded differently, and those to browsers need CORS headers.
        let is_plain = headers.get(header::CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()))
            && !headers.contains_key(header::ORIGIN);
        if !is_plain || !request.uri().path().starts_with(SERVICES) || self.hosts.refusal(request).is_some() {
            return None;
        }
        let caller = self.authenticator.caller(request.headers(), peer).ok()?;
        connection.mark_authenticated(&caller);
        match self.admission.admit(request, connection.owner(&caller)) {
            Ok(()) => {
                request.extensions_mut().insert(caller);
                None
            }
            Err(error) => {
                count_request(request.uri().path());
                Some(error_response(&error))
            }
        }
    }
}

/// Counts a request under its method. All unknown paths share one label: otherwise a client could create any number of
/// time series.
pub(super) fn count_request(path: &str) {
    let path = pb::METHOD_PATHS.get(path);
    let method = path.map_or("other", |path| path.trim_start_matches("/concord.v1."));
    metrics::counter!("concord_requests_total", "method" => method).increment(1);
}

fn is_grpc(content_type: &[u8]) -> bool {
    content_type == b"application/grpc" || content_type.starts_with(b"application/grpc+")
}
