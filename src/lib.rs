//! Concord answers one question over gRPC: what do all our intelligence sources, weighed by how far we trust each,
//! say of this indicator, and why?
//!
//! Read the rooms in this order; each imports only rooms above it (`tests/architecture.rs` holds the table).

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
pub mod fetch;
