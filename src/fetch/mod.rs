//! The way of a question to a source and of the answer back: one file a layer, `pipeline.rs` composes them; read it first.
//!
//! The only room that opens outbound connections. It does not decide who may be told what (that is `engine`'s plan), nor
//! what an answer means (that is the kind's `read`). A look-up in a list has a short way of its own, `list_pipeline.rs`.

mod account;
mod attempt;
mod cache;
mod coalesce;
mod conversation;
mod disclosure;
mod dns;
mod http;
mod list;
mod list_pipeline;
mod lookup;
mod observe;
mod pipeline;
mod quota;
mod raw_answers;
mod retry;
mod sync;
mod tls;
mod transport;
mod waiters;

pub use account::AccountState;
pub use cache::SourceCache;
pub use list::ListReader;
pub use list_pipeline::ListPipeline;
pub use lookup::{Fetched, LookupRequest, Receipt, outcome};
pub use observe::{CounterSnapshot, SourceCounters};
pub use pipeline::{OutsidePipeline, PipelineParts, SourcePipeline, transport_for};
pub use raw_answers::RawAnswers;
pub(crate) use sync::lock;
pub use transport::Transport;
