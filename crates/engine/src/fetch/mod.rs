//! The pipeline of a question to a source. Only this module opens outbound connections. It decides neither what may be
//! disclosed (`engine` does) nor what an answer means (the kind's `read` does). Start with `pipeline.rs`, which
//! composes the layers:
//!
//! | layer | file | reason |
//! |---|---|---|
//! | 1 observe | `observe.rs` | counts everything, including cache hits and refusals |
//! | 2 cache, 3 coalesce | `cache.rs` with `stored_cache.rs` and `backlog.rs`, `coalesce.rs` | one question is not paid twice |
//! | 4 total time, 5 retry | `pipeline.rs`, `retry.rs` | bound all attempts together |
//! | 6 account, circuit | `account.rs`, `breaker.rs` | a source that refuses or keeps failing costs neither time nor units |
//! | 7 quota | `quota.rs`, `terms.rs`, `acquirer.rs`, `gathering.rs`, `lines.rs`, `disclosure.rs` | pay and record a call before it is made |
//! | 7 quota | `reported.rs` | make no more calls than answers say are left |
//! | 7 concurrency | `concurrency.rs` | a call that waits for a unit holds no place that another needs |
//! | beside 7 | `forecast.rs` | tells when the day's quota will be used up |
//! | beside 6 and 7 | `allowance.rs` | reads the limits and the use that the source reports |
//! | 5 to 7 | `guards.rs` | what circuit, concurrency and retry remember across changes of settings |
//! | 8 attempt time, 9 transport | `attempt.rs`, `http.rs`, `dns.rs` | send one question once, and tell whether it was sent |
//!
//! A look-up in a list needs none of these layers: `list_pipeline.rs`.

mod account;
mod acquirer;
mod allowance;
mod attempt;
mod backlog;
mod breaker;
mod cache;
mod coalesce;
mod concurrency;
mod conversation;
mod digest;
mod disclosure;
mod dns;
mod fair_queue;
mod feed;
mod forecast;
mod gathering;
mod guards;
mod http;
mod http_error;
mod lines;
mod list;
mod list_pipeline;
mod lookup;
mod observe;
mod pipeline;
mod quota;
mod raw_answers;
mod read;
mod reported;
mod resolve;
mod retry;
mod route;
mod source_pipeline;
mod stored_cache;
mod submission;
mod terms;
mod tls;
mod transport;
mod waiters;

pub use account::AccountState;
pub use acquirer::UnitAcquirer;
pub use breaker::{CircuitState, CircuitStatus};
pub use cache::SourceCache;
pub use concurrency::ConcurrencyStatus;
pub use guards::{GuardStatus, SourceGuards};
pub use list::ListReader;
pub use list_pipeline::ListPipeline;
pub use lookup::{AnswerHash, Fetched, LookupRequest, Receipt, outcome};
pub use observe::{CounterSnapshot, SourceCounters};
pub use pipeline::{PipelineParts, RemotePipeline, Withhold, transport_for};
pub use read::read_stored;
pub use reported::ReportedQuota;
pub use source_pipeline::SourcePipeline;
pub use submission::{SubmissionDisclosure, SubmissionFailure};
pub use terms::over_budget;
pub use transport::{SendError, Transport, TransportFactory};
