//! All integration tests, in one binary, so that the library is linked once.
//!
//! The whole server as a client meets it (real listeners, sources replayed on loopback, a clock set by hand) is in the
//! modules beside this file; what is tested through the library alone is in those named for its room.

mod architecture;
mod batch;
mod bounds;
mod circuit;
mod command_line;
mod compare;
mod connections;
mod demo;
mod disclosure;
mod enrich;
mod errors;
mod feedback;
mod fetch;
mod fusion;
mod fuzz;
mod graph;
mod harness;
mod history;
mod indicator;
mod indicator_cases;
mod indicators;
mod lists;
mod long_input;
mod many_sources;
mod modes;
mod never_send;
mod never_send_rules;
mod policies;
mod policy_service;
mod process;
mod protocol;
mod quota;
mod recordings;
mod registry;
mod relations;
mod replay;
mod samples;
mod secrets;
mod settings;
mod simulation;
mod source_service;
mod source_text;
mod sources;
mod statistics;
mod store;
mod store_failures;
mod submission;
mod surface;
mod tls;
mod transport;
mod verdict_diff;
mod verdict_reuse;
mod verdict_table;
