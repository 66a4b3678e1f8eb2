//! The pipeline of a question to a source. The only room that opens outbound connections; it does not decide what may be
//! disclosed (`engine` does), nor what an answer means (the kind's `read` does). Read `pipeline.rs`, which composes:
//!
//! | layer | file | reason |
//! |---|---|---|
//! | 1 observe | `observe.rs` | counts everything, hits and refusals too |
//! | 2 cache, 3 coalesce | `cache.rs`, `coalesce.rs` | one question is not paid twice |
//! | 4 total time, 5 retry | `pipeline.rs`, `retry.rs` | bound all attempts together |
//! | 6 account, 7 quota | `account.rs`, `quota.rs`, `acquirer.rs`, `disclosure.rs` | paid and recorded before a call leaves |
//! | 8 attempt time, 9 transport | `attempt.rs`, `http.rs`, `dns.rs` | send one question once; how far it came decides what it cost |
//!
//! A look-up in a list needs none of this: `list_pipeline.rs`.

mod account;
mod acquirer;
mod attempt;
mod cache;
mod coalesce;
mod conversation;
mod disclosure;
mod dns;
mod feed;
mod http;
mod http_error;
mod list;
mod list_pipeline;
mod lookup;
mod observe;
mod pipeline;
mod quota;
mod raw_answers;
mod read;
mod resolve;
mod retry;
mod route;
mod tls;
mod transport;
mod waiters;

pub use account::AccountState;
pub use acquirer::UnitAcquirer;
pub use cache::SourceCache;
pub use list::ListReader;
pub use list_pipeline::ListPipeline;
pub use lookup::{Fetched, LookupRequest, Receipt, outcome};
pub use observe::{CounterSnapshot, SourceCounters};
pub use pipeline::{RemotePipeline, PipelineParts, SourcePipeline, transport_for};
pub use raw_answers::RawAnswers;
pub use transport::{SendError, Transport};
