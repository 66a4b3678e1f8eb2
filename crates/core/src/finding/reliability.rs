//! How far a source is trusted.

use std::str::FromStr;

use strum::{Display, IntoStaticStr, VariantArray};

use crate::error::{ParseEnumError, parse_enum};

/// How far a source is trusted: the letter of the Admiralty code (NATO STANAG 2022), with A+ above A as Cortex XSOAR
/// has it. F means "cannot be judged", which is no evidence either way.
///
/// Ordered from most to least reliable: `APlus < A < … < F`.
#[derive(Clone, Copy, Debug, Display, IntoStaticStr, VariantArray, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reliability {
    /// Completely reliable, verified by hand.
    #[strum(serialize = "A+")]
    APlus,
    /// Completely reliable.
    A,
    /// Usually reliable.
    B,
    /// Fairly reliable.
    C,
    /// Not usually reliable.
    D,
    /// Unreliable.
    E,
    /// Reliability cannot be judged.
    F,
}

impl Reliability {
    /// The letter: `A+`, `A` … `F`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The letter as the key of a table in files: `a_plus`, `a` … `f`.
    pub fn key(self) -> &'static str {
        match self {
            Self::APlus => "a_plus",
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
            Self::D => "d",
            Self::E => "e",
            Self::F => "f",
        }
    }
}

impl FromStr for Reliability {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_enum(text, "reliability letter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_read_without_case_and_a_wrong_one_names_the_allowed() {
        assert_eq!("a+".parse(), Ok(Reliability::APlus));
        let refused = "G".parse::<Reliability>().unwrap_err().to_string();
        assert_eq!(refused, "\"G\" is no reliability letter; use one of A+, A, B, C, D, E, F");
    }
}
