//! The field's words for what is said and how far it is trusted: disposition, reliability, strength.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// What is said of an indicator, by one source (a *claim*) or by all together (a verdict's disposition).
///
/// Ordered by how bad it is when two must be compared: unknown, benign, suspicious, malicious.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Disposition {
    /// Nothing is known either way.
    #[default]
    Unknown,
    /// Positive evidence of harmlessness. Never the absence of evidence.
    Benign,
    /// Evidence of harm that is not enough to act on blindly.
    Suspicious,
    /// Evidence of harm.
    Malicious,
}

impl Disposition {
    /// Every disposition, in order.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Benign, Self::Suspicious, Self::Malicious];

    /// The lower-case word used in every output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Benign => "benign",
            Self::Suspicious => "suspicious",
            Self::Malicious => "malicious",
        }
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

impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Disposition {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        find_word(&Self::ALL, Self::as_str, text, "disposition")
    }
}

/// How far a source is trusted: the letter of the Admiralty code (NATO STANAG 2022), with A+ above A as Cortex XSOAR
/// has it. F means "cannot be judged", which is no evidence either way.
///
/// Ordered from most to least reliable: `APlus < A < … < F`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reliability {
    /// Completely reliable, verified by hand.
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
    /// Every letter, most reliable first.
    pub const ALL: [Self; 7] = [Self::APlus, Self::A, Self::B, Self::C, Self::D, Self::E, Self::F];

    /// The letter: `A+`, `A` … `F`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::APlus => "A+",
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
            Self::E => "E",
            Self::F => "F",
        }
    }
}

impl fmt::Display for Reliability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Reliability {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        find_word(&Self::ALL, Self::as_str, text, "reliability letter")
    }
}

/// A word that is none of those allowed; its text names the allowed ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    what: &'static str,
    given: String,
    allowed: Vec<&'static str>,
}

impl UnknownWord {
    /// `given` is no `what`; these are the `allowed` ones.
    pub fn new(what: &'static str, given: &str, allowed: Vec<&'static str>) -> Self {
        let given = given.chars().take(40).collect();
        Self { what, given, allowed }
    }
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no {}; use one of {}", self.given, self.what, self.allowed.join(", "))
    }
}

impl std::error::Error for UnknownWord {}

/// The member of `all` whose word is `text`, letter case and outer space aside.
pub fn find_word<T: Copy>(
    all: &[T],
    word: fn(T) -> &'static str,
    text: &str,
    what: &'static str,
) -> Result<T, UnknownWord> {
    let wanted = text.trim();
    let found = all.iter().copied().find(|item| word(*item).eq_ignore_ascii_case(wanted));
    found.ok_or_else(|| UnknownWord::new(what, text, all.iter().copied().map(word).collect()))
}

/// How sure a source is of its claim, from 0 (says nothing) to 1; 0.85 carries the full evidence of its letter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strength(f64);

impl Strength {
    /// The strength at which a claim carries its letter's full evidence; what a threshold set by the user has at least.
    pub const FULL: Self = Self(0.85);
    /// The highest strength: the evidence of the next better letter.
    pub const MAX: Self = Self(1.0);

    /// `value` brought into 0 to 1; what is not a number becomes 0.
    pub fn clamped(value: f64) -> Self {
        if value.is_nan() { Self(0.0) } else { Self(value.clamp(0.0, 1.0)) }
    }

    /// `over(n, t)`: 0.85 exactly at the threshold `t`, rising evenly to 1 at three times the threshold.
    pub fn over(count: u64, threshold: u64) -> Self {
        let threshold = threshold.max(1) as f64;
        let beyond = (count as f64 - threshold) / (2.0 * threshold);
        Self::clamped(0.85 + 0.15 * beyond.clamp(0.0, 1.0))
    }

    /// The number, 0 to 1.
    pub fn get(self) -> f64 {
        self.0
    }

    /// The larger of the two.
    #[must_use]
    pub fn at_least(self, floor: f64) -> Self {
        Self(self.0.max(floor))
    }
}

impl Eq for Strength {}

impl PartialOrd for Strength {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Strength {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strength_is_full_exactly_at_the_threshold_and_one_from_three_times_on() {
        assert_eq!(Strength::over(10, 10), Strength::FULL);
        assert_eq!(Strength::over(30, 10), Strength::MAX);
        assert_eq!(Strength::over(94, 10), Strength::MAX);
        assert!((Strength::over(16, 10).get() - 0.895).abs() < 1e-12);
    }

    #[test]
    fn a_letter_is_read_without_case_and_a_wrong_one_names_the_allowed() {
        assert_eq!("a+".parse(), Ok(Reliability::APlus));
        let refused = "G".parse::<Reliability>().unwrap_err().to_string();
        assert_eq!(refused, "\"G\" is no reliability letter; use one of A+, A, B, C, D, E, F");
    }
}
