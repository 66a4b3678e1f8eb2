//! The services as the protocol defines them, one file per service: convert, call, convert back.
//!
//! Each service gets the parts that it serves; `server` wires them. `status.rs` is the only place that makes a gRPC status,
//! `plan.rs` writes what the engine plans and did, `background.rs` runs what outlives the future of a call,
//! `verdict_cache.rs` caches whole verdicts, `made_changes.rs` remembers changes that may be repeated, `deadline.rs` reads the
//! caller's deadline, `load.rs` says whether there is time to answer, `auth.rs` finds out who calls, `pagination.rs` makes
//! pages and their tokens. Nothing is decided here that another room could decide.

use std::sync::Arc;

use tonic::Request;

use crate::clock::{Clock, Monotonic};

pub(crate) mod auth;
mod background;
pub(crate) mod deadline;
mod enrichment;
pub(crate) mod load;
mod made_changes;
mod pagination;
mod plan;
mod relation_graph;
mod source;
pub(crate) mod status;
mod verdict;
mod verdict_cache;

pub(crate) use background::BackgroundTasks;
pub(crate) use enrichment::EnrichmentRpc;
// For the fuzz targets.
pub use pagination::{read_token, write_token};
pub(crate) use source::SourceRpc;
pub(crate) use verdict::VerdictRpc;

/// Who calls, and by when the answer is wanted.
#[derive(Clone, Debug)]
struct Context {
    caller: String,
    deadline: Option<Monotonic>,
    /// Its place among the enrichments under way, for as long as it is kept.
    admitted: Option<load::Admitted>,
    /// The slots that it holds among the requests under way.
    slots: Option<Arc<dyn load::Slots>>,
}

impl Context {
    fn from_request<T>(request: &Request<T>, clock: &dyn Clock) -> Self {
        let caller = request.extensions().get::<auth::Caller>().map_or("unknown", |caller| caller.0.as_ref());
        let admitted = request.extensions().get::<load::Admitted>().cloned();
        // A request may have waited for a worker: its deadline counts from when it arrived.
        let arrived = admitted.as_ref().map_or_else(|| clock.monotonic(), load::Admitted::arrived);
        let deadline = deadline::read_headers(request.metadata().as_ref()).map(|left| arrived + left);
        let slots = request.extensions().get::<Arc<dyn load::Slots>>().cloned();
        Self { caller: caller.to_owned(), deadline, admitted, slots }
    }
}
