//! The judge seen from outside: golden vectors with every term, properties that hold for any outcomes, and the
//! sentences that a person reads.

mod build;
mod compare;
mod documented;
mod feedback;
mod properties;
mod sentences;
mod vectors;
