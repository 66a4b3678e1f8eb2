//! Concord answers one question over gRPC: what do all our intelligence sources, weighed by how far we trust each,
//! say of this indicator, and why?
//!
//! This crate is the program: its commands and its demonstration. What it judges with is in `crates/core`, how it comes to a
//! verdict in `crates/engine`, the protocol in `crates/service`; their rooms have their names here as well.
//!
//! ```
//! use concord::indicator::Indicator;
//!
//! let parsed = Indicator::parse("hxxps://Evil[.]example[.]com:443/a#top")?;
//! assert_eq!(parsed.indicator.value(), "https://evil.example.com/a");
//! # Ok::<(), concord::indicator::Refusal>(())
//! ```

#![warn(unreachable_pub)]

pub use concord_core::{clock, error, finding, indicator, source, sources, statistics, verdict};
pub use concord_engine::{engine, fetch, settings, store, submission};
use concord_service::{convert, telemetry};
pub use concord_service::{pb, server};

pub mod cli;
mod demo;

#[doc(hidden)]
pub use concord_service::fuzzing;
