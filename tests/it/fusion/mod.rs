//! The judge seen from outside: golden vectors with every term, properties that hold for any outcomes, and the
//! sentences that a person reads.

mod build;
mod compare;
mod documented;
mod feedback;
mod laws_of_change;
mod properties;
mod random;
mod scenarios;
mod sentences;
mod vectors;
mod waves;
