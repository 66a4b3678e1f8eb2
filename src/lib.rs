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

// floor 0: words. No async, no I/O, no clock, no serde, no transport.
pub mod error;
pub mod finding;
pub mod indicator;
pub mod verdict;

// floor 1: contracts, and what is pure behind them.
pub mod clock;
pub mod export;
pub mod source;
pub mod sources;
pub mod store;

// floor 2: machinery.
pub mod engine;
pub mod fetch;
pub mod settings;

// floor 3: edge.
pub mod cli;
pub mod convert;
pub mod demo;
pub mod pb;
pub mod rpc;
pub mod server;
mod table;
pub mod telemetry;
