//! Admits or refuses calls on arrival, before they pass the router: what is refused must cost little, or refusing would take the
//! time of the calls that are served. Whatever is not certain here is left to the layers of the router.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock};

use axum::response::Response;
use http::{Request, Version, header};
use metrics::Counter;

use super::active_call::ActiveCall;
use super::admission::{Admission, AdmittedCall, error_response};
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

/// What becomes of a call on its arrival.
pub(super) enum Arrival {
    /// It needs no layer of the router.
    Admitted(AdmittedCall),
    /// There is no slot, or no time.
    Refused(Response),
    /// It is no plain call of a service by an authenticated caller.
    Unknown,
}

impl EarlyRefusal {
    /// Admits or refuses a call whose caller is authenticated.
    pub(super) fn check<B>(
        &self,
        request: &Request<B>,
        peer: &Peer,
        connection: &Arc<Connection>,
        call: &Arc<ActiveCall>,
    ) -> Arrival {
        let headers = request.headers();
        // Answers to gRPC-Web are encoded differently, and those to browsers need CORS headers.
        let is_plain = request.version() == Version::HTTP_2
            && headers.get(header::CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()))
            && !headers.contains_key(header::ORIGIN);
        let path = request.uri().path();
        if !is_plain || !path.starts_with(SERVICES) || self.hosts.refusal(request, peer).is_some() {
            return Arrival::Unknown;
        }
        let Ok(caller) = self.authenticator.caller(headers, peer) else { return Arrival::Unknown };
        connection.mark_authenticated(&caller);
        count_request(path);
        let owner = connection.owner(&caller);
        match self.admission.admit(request, call.clone(), caller, owner) {
            Ok(admitted) => Arrival::Admitted(admitted),
            Err(error) => Arrival::Refused(error_response(&error)),
        }
    }
}

/// The counter of each method, by its path.
static COUNTERS: LazyLock<HashMap<&str, OnceLock<Counter>>> =
    LazyLock::new(|| pb::METHOD_PATHS.iter().map(|path| (path.as_str(), OnceLock::new())).collect());
/// All unknown paths share one: otherwise a client could create any number of time series.
static OTHER: OnceLock<Counter> = OnceLock::new();

/// Counts a request under its method.
pub(super) fn count_request(path: &str) {
    let named = |method: &'static str| metrics::counter!("concord_requests_total", "method" => method);
    let counter = match COUNTERS.get_key_value(path) {
        Some((path, counter)) => counter.get_or_init(|| named(path.strip_prefix(SERVICES).unwrap_or(path))),
        None => OTHER.get_or_init(|| named("other")),
    };
    counter.increment(1);
}

fn is_grpc(content_type: &[u8]) -> bool {
    content_type == b"application/grpc" || content_type.starts_with(b"application/grpc+")
}
