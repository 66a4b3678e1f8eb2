//! The whole server as a client meets it: real listeners and sources replayed on loopback, a clock set by hand.

mod batch;
mod command_line;
mod disclosure;
mod enrich;
mod errors;
mod harness;
mod history;
mod keeping;
mod process;
mod protocol;
mod quota;
mod secrets;
mod sources;
mod surface;
mod tls;
