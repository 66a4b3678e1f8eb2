//! The kinds: one file each, and the list of all of them. No I/O, no clock, no log: a kind writes the question and reads
//! the answer. The contract stands in `source`, the way a question takes in `fetch`.

pub mod dnsbl;
pub mod list;
