//! The Traffic Light Protocol (FIRST, TLP 2.0): how far something may be passed on.

use std::fmt;

/// A TLP label. Ordered by how strict it is: CLEAR < GREEN < AMBER < AMBER+STRICT < RED.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tlp {
    /// May be told to everybody.
    Clear,
    /// May be told within the community.
    Green,
    /// May be told on a need-to-know basis within the organisation and its clients. What an unlabelled request is.
    #[default]
    Amber,
    /// May be told on a need-to-know basis within the organisation only.
    AmberStrict,
    /// For the eyes of the individual recipients only.
    Red,
}

impl Tlp {
    /// Every label, least strict first.
    pub const ALL: [Self; 5] = [Self::Clear, Self::Green, Self::Amber, Self::AmberStrict, Self::Red];

    /// The label as FIRST writes it, without `TLP:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clear => "CLEAR",
            Self::Green => "GREEN",
            Self::Amber => "AMBER",
            Self::AmberStrict => "AMBER+STRICT",
            Self::Red => "RED",
        }
    }
}

impl fmt::Display for Tlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
