//! How Concord comes to a verdict: the store, the settings, fetching within quota, one enrichment, what is given away.
//!
//! It judges with what `concord_core` holds, whose rooms are imported as if they were here, so that a room is written the same
//! everywhere: `crate::indicator`. Of the protocol it knows nothing.

#![warn(unreachable_pub)]

use concord_core::{clock, error, finding, indicator, source, sources, statistics, verdict};

pub mod byte_cache;
pub mod offload;
pub mod sync;

// Floor 1, contracts.
pub mod store;

// Floor 2, machinery.
pub mod engine;
pub mod fetch;
pub mod settings;
pub mod submission;
