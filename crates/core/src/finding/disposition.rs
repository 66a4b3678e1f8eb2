//! What is said of an indicator.

use std::str::FromStr;

use strum::{Display, IntoStaticStr, VariantArray, VariantNames};

use crate::error::{ParseEnumError, parse_enum};

/// What is said of an indicator, by one source (a *claim*) or by all together (a verdict's disposition).
///
/// Ordered by how bad it is: unknown, benign, suspicious, malicious.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Display,
    IntoStaticStr,
    VariantArray,
    VariantNames,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
)]
#[strum(serialize_all = "snake_case")]
pub enum Disposition {
    /// Nothing is known either way.
    #[default]
    Unknown,
    /// Positive evidence of harmlessness. Never the absence of evidence.
    Benign,
    /// Evidence of harm that is not enough to act on without a closer look.
    Suspicious,
    /// Evidence of harm.
    Malicious,
}

impl Disposition {
    /// The lower-case word used in every output.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Cortex XSOAR's DBotScore: 0 unknown, 1 benign, 2 suspicious, 3 malicious.
    pub fn dbot_score(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Benign => 1,
            Self::Suspicious => 2,
            Self::Malicious => 3,
        }
    }
}

impl FromStr for Disposition {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_enum(text, "disposition")
    }
}
