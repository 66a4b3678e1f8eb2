//! The services as the protocol defines them, one file per service: convert, call, convert back.
//!
//! `status.rs` is the only place that makes a gRPC status, `deadline.rs` reads the caller's deadline, `auth.rs` says who
//! calls, `page.rs` makes page tokens. Nothing is decided here that another room could decide.

use std::sync::Arc;
use std::time::SystemTime;

use tonic::Request;

use crate::engine::Engine;
use crate::error::Error;

pub mod auth;
mod deadline;
mod enrichment;
mod page;
mod source;
pub mod status;
mod verdict;

pub use enrichment::EnrichmentRpc;
pub use source::SourceRpc;
pub use verdict::VerdictRpc;

/// Does the work to its end also when the caller leaves: a change that is durable must be in effect as well.
async fn to_its_end<T: Send + 'static>(
    engine: &Arc<Engine>,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let done = engine.tracker().spawn(work).await;
    done.unwrap_or_else(|_| Err(status::broke_off(engine.clock().now())))
}

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
