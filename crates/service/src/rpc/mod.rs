//! The services of the protocol, one file each: convert the request, call the layers below, convert the result back.
//!
//! Each service gets only the parts that it uses; `server` wires them. `auth.rs` authenticates callers, `deadline.rs` reads
//! their deadlines, and `load.rs` decides whether there is time to answer. `status.rs` is the only file that makes a gRPC
//! status. `enricher.rs` answers one indicator and `batch.rs` many, `verdict_cache.rs` caches whole verdicts and `coalesce.rs`
//! makes them once for all who ask. `feedback.rs` has the methods of the verdict service on what analysts say, `plan.rs` and
//! `relation_graph.rs` write the engine's results as messages, `background.rs` runs work that outlives the future of a call,
//! `made_changes.rs` detects repeated changes, and `pagination.rs` makes pages and their tokens.

use std::sync::Arc;

use tonic::Request;

use crate::clock::{Clock, Monotonic};

pub(crate) mod auth;
mod background;
mod batch;
mod coalesce;
pub(crate) mod deadline;
mod enricher;
mod enrichment;
mod feedback;
mod history;
pub(crate) mod load;
mod made_changes;
mod never_send;
mod pagination;
mod plan;
mod policy;
mod relation_graph;
mod source;
pub(crate) mod status;
mod submission;
mod verdict;
mod verdict_cache;

pub(crate) use background::BackgroundTasks;
pub(crate) use enrichment::EnrichmentRpc;
pub(crate) use history::HistoryRpc;
// For the fuzz targets.
pub use pagination::{read_token, write_token};
pub(crate) use policy::PolicyRpc;
pub(crate) use source::SourceRpc;
pub(crate) use submission::SubmissionRpc;
pub(crate) use verdict::VerdictRpc;

/// What a service needs to know about a request apart from its message.
#[derive(Clone, Debug)]
struct Context {
    caller: String,
    deadline: Option<Monotonic>,
    /// Keeps the request counted among the enrichments in flight.
    admitted: Option<load::Admitted>,
    /// The slots that the request occupies.
    slots: Option<Arc<dyn load::Slots>>,
}

impl Context {
    fn from_request<T>(request: &Request<T>, clock: &dyn Clock) -> Self {
        let caller = request.extensions().get::<auth::Caller>().map_or("unknown", |caller| caller.0.as_ref());
        let admitted = request.extensions().get::<load::Admitted>().cloned();
        // The deadline counts from the arrival of the request, which may since have waited for a worker.
        let arrived = admitted.as_ref().map_or_else(|| clock.monotonic(), load::Admitted::arrived);
        let deadline = deadline::read_headers(request.metadata().as_ref()).map(|left| arrived + left);
        let slots = request.extensions().get::<Arc<dyn load::Slots>>().cloned();
        Self { caller: caller.to_owned(), deadline, admitted, slots }
    }
}
