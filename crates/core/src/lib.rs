//! What Concord judges with: indicators, what sources find about them, the verdict, and the sources that it can read.
//!
//! Nothing here asks anybody anything: no network, no files, no store. Read the rooms in this order; each imports only rooms
//! above it (`tests/it/architecture.rs` of the program holds the table).

#![warn(unreachable_pub)]

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
