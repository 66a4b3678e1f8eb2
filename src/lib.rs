//! Concord answers one question over gRPC: what do all our intelligence sources, weighed by how far we trust each,
//! say of this indicator, and why?
//!
//! Read the rooms in this order; each imports only rooms above it (`tests/it/architecture.rs` holds the table).
//!
//! ```
//! use concord::indicator::Indicator;
//!
//! let parsed = Indicator::parse("hxxps://Evil[.]example[.]com:443/a#top")?;
//! assert_eq!(parsed.indicator.value(), "https://evil.example.com/a");
//! # Ok::<(), concord::indicator::Refusal>(())
//! ```

#![warn(unreachable_pub)]

mod byte_cache;
mod offload;
mod sync;

// Floor 0, words: no async, no I/O, no clock, no serde, no transport.
pub mod error;
pub mod finding;
pub mod indicator;
pub mod statistics;
pub mod verdict;

// Floor 1, contracts, and what is pure behind them.
pub mod clock;
pub mod source;
pub mod sources;
pub mod store;

// Floor 2, machinery.
pub mod engine;
pub mod fetch;
pub mod settings;
pub mod submission;

// Floor 3, edge.
mod convert;
mod demo;
mod rpc;
mod telemetry;

pub mod cli;
pub mod pb;
pub mod server;

/// What the targets in `fuzz/` read beside the public API.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::rpc::{read_token, write_token};
}
