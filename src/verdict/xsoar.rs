//! The compatible policy: the most reliable source wins.
