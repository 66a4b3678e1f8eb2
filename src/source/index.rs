//! An index over a list's entries, for look-ups in microseconds: exact values, names with their subdomains, networks.
//! `sources/list.rs` reads the formats and fills it; `fetch` keeps it and looks up.
//!
//! Placeholder signatures are final; the structure behind them is this file's own.

use crate::indicator::Indicator;

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// The entry as it stands in the list, refanged.
    pub value: String,
    /// What the list says beside it (a comment, the other columns), empty if nothing.
    pub note: String,
}

/// An immutable index over the entries of one list.
#[derive(Debug, Default)]
pub struct ListIndex {}

impl ListIndex {
    /// The most specific entry that names the indicator: itself, its name with subdomains, its network.
    pub fn find(&self, indicator: &Indicator) -> Option<ListEntry> {
        let _ = indicator;
        None
    }
}
