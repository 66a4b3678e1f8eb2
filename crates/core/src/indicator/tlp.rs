//! The Traffic Light Protocol (FIRST, TLP 2.0): how far something may be passed on.

use std::str::FromStr;

use strum::{Display, IntoStaticStr, VariantArray};

use crate::error::{ParseEnumError, parse_enum};

/// A TLP label. Ordered by how strict it is: CLEAR < GREEN < AMBER < AMBER+STRICT < RED.
#[derive(Clone, Copy, Debug, Default, Display, IntoStaticStr, VariantArray, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[strum(serialize_all = "UPPERCASE")]
pub enum Tlp {
    /// No limit on disclosure.
    Clear,
    /// Limited to the community.
    Green,
    /// Limited to those who need to know within the organisation and its clients. What an unlabelled request is.
    #[default]
    Amber,
    /// Limited to those who need to know within the organisation.
    #[strum(serialize = "AMBER+STRICT")]
    AmberStrict,
    /// For the individual recipients only.
    Red,
}

impl Tlp {
    /// The label as FIRST writes it, without `TLP:`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl FromStr for Tlp {
    type Err = ParseEnumError;

    /// Reads a label, with or without `TLP:`, ignoring case. `WHITE`, the name before TLP 2.0, is CLEAR.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let upper = text.trim().to_ascii_uppercase();
        let label = upper.strip_prefix("TLP:").unwrap_or(&upper).replace(['_', '-'], "+");
        let label = if label == "WHITE" { Self::Clear.as_str() } else { &label };
        parse_enum(label, "TLP label").map_err(|_| ParseEnumError::new::<Self>("TLP label", text))
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
        assert!(Tlp::VARIANTS.is_sorted());
    }
}
