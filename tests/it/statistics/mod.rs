//! What the history says of the sources, on published examples and on generated histories whose truth is known.

mod calibration;
pub mod engines;
mod learning;
mod properties;
mod published;
pub mod sources;
mod threshold;
pub mod world;
