//! The gRPC service of Concord: the protocol, and the server that answers by it.
//!
//! The rooms of `concord_core` and `concord_engine` are imported as if they were here, so that a room is written the same
//! everywhere: `crate::indicator`.

#![warn(unreachable_pub)]

use concord_core::{clock, error, finding, indicator, source, sources, statistics, verdict};
use concord_engine::{byte_cache, engine, fetch, offload, settings, store, submission, sync, with_source_fields};

/// For the command line, which writes the same messages.
#[doc(hidden)]
pub mod convert;
pub mod pb;
mod rpc;
pub mod server;
pub mod telemetry;

/// What the targets in `fuzz/` read beside the public API.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::rpc::{read_token, write_token};
}
