//! The store: the contract of every backend, what only the durable one promises, and what later versions must still read.

mod cached;
mod contract;
mod directory;
mod durable;
mod feedback;
mod frozen;
mod never_send;
mod policies;
mod quota;
mod samples;
mod seal;
mod submissions;
