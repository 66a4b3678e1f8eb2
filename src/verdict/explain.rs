//! The sentences that explain a verdict.
