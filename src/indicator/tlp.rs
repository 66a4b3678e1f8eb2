//! The Traffic Light Protocol (FIRST, TLP 2.0): how far something may be passed on.

use std::fmt;
use std::str::FromStr;

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

/// A text that is no TLP label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTlp(String);

impl fmt::Display for UnknownTlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no TLP label; use one of CLEAR, GREEN, AMBER, AMBER+STRICT, RED", self.0)
    }
}

impl std::error::Error for UnknownTlp {}

impl FromStr for Tlp {
    type Err = UnknownTlp;

    /// Reads a label, with or without `TLP:`, letter case aside. `WHITE`, the name before TLP 2.0, is CLEAR.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let upper = text.trim().to_ascii_uppercase();
        let label = upper.strip_prefix("TLP:").unwrap_or(&upper).replace(['_', '-'], "+");
        let known = Self::ALL.into_iter().find(|tlp| tlp.as_str() == label);
        let white = (label == "WHITE").then_some(Self::Clear);
        known.or(white).ok_or_else(|| UnknownTlp(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_in_every_usual_spelling() {
        for (text, tlp) in
            [("amber", Tlp::Amber), ("TLP:RED", Tlp::Red), ("amber_strict", Tlp::AmberStrict), ("white", Tlp::Clear)]
        {
            assert_eq!(text.parse(), Ok(tlp), "{text}");
        }
        assert!("purple".parse::<Tlp>().unwrap_err().to_string().contains("AMBER+STRICT"));
    }

    #[test]
    fn labels_are_ordered_by_how_strict_they_are() {
        assert!(Tlp::ALL.is_sorted());
    }
}
