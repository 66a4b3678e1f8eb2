//! The services as the protocol defines them, one file per service: convert, call, convert back.
//!
//! `status.rs` is the only place that makes a gRPC status, `background.rs` runs what outlives the future of a call, `verdict_cache.rs` keeps
//! whole verdicts, `deadline.rs` reads the caller's deadline, `auth.rs` says who calls, `pagination.rs` makes page tokens. Nothing
//! is decided here that another room could decide.

use std::sync::Arc;
use std::time::SystemTime;

use tonic::Request;

use crate::engine::Engine;

pub mod auth;
mod background;
mod deadline;
mod enrichment;
mod pagination;
mod source;
pub mod status;
mod verdict;
mod verdict_cache;

pub use enrichment::EnrichmentRpc;
pub use source::SourceRpc;
pub use verdict::VerdictRpc;

/// Who asks, and by when the answer is wanted.
#[derive(Clone, Debug)]
struct Context {
    caller: String,
    deadline: Option<SystemTime>,
}

impl Context {
    fn of<T>(request: &Request<T>, engine: &Arc<Engine>) -> Self {
        let caller = request.extensions().get::<auth::Caller>().map_or("unknown", |caller| caller.0.as_ref());
        let deadline = deadline::read(request.metadata()).map(|left| engine.clock().now() + left);
        Self { caller: caller.to_owned(), deadline }
    }
}
