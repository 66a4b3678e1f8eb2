//! What came of asking one source, in our words: finding, no record, error, or not asked.
//!
//! Four different things, kept apart everywhere: silence is not innocence. Nothing here weighs one source against
//! another; that is `verdict`'s work alone. How an answer becomes a finding stands in `sources`.

#![warn(missing_docs)]

use std::time::SystemTime;

use crate::indicator::Indicator;

mod disposition;
mod outcome;
mod reliability;
mod strength;

pub use disposition::Disposition;
pub use outcome::{Family, FamilyBasis, NotAsked, NotAskedReason, Outcome, OutcomeBody, SourceError, SourceErrorKind};
pub use reliability::Reliability;
pub use strength::Strength;

/// What one source says of an indicator.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Its claim. `Unknown` here means: the source knows the indicator and takes no side.
    pub claim: Disposition,
    /// How sure it is; `None` where it says nothing about that, which counts as full.
    pub strength: Option<Strength>,
    /// When the source last affirmed the claim; evidence ages from here. `None`: when it was fetched.
    pub observed_time: Option<SystemTime>,
    /// Which rules of the source's rating decided, with their numbers, one sentence each.
    pub reasons: Vec<String>,
    /// What the source tells beside its claim, and all that its rating used.
    pub facts: Vec<Fact>,
    /// Other indicators that the same answer names.
    pub relations: Vec<Relation>,
    /// The source's own labels.
    pub tags: Vec<String>,
    /// Where a person can read the source's own page on the indicator.
    pub permalink: Option<String>,
}

impl Finding {
    /// A finding with this claim and reason, and nothing else yet.
    pub fn new(claim: Disposition, strength: Option<Strength>, reason: impl Into<String>) -> Self {
        Self {
            claim,
            strength,
            observed_time: None,
            reasons: vec![reason.into()],
            facts: Vec::new(),
            relations: Vec::new(),
            tags: Vec::new(),
            permalink: None,
        }
    }
}

/// One thing that a source tells: a name in snake_case and a typed value.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Name in snake_case, the same word for the same thing in every kind: `country`, `as_number`, `last_seen`.
    pub name: String,
    /// The value.
    pub value: FactValue,
}

impl Fact {
    /// A fact of this name.
    pub fn new(name: impl Into<String>, value: impl Into<FactValue>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// The value of a [`Fact`].
#[derive(Clone, Debug, PartialEq)]
pub enum FactValue {
    /// Text as the source gives it.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// Yes or no.
    Flag(bool),
    /// A moment.
    Time(SystemTime),
    /// Several texts, in the source's order.
    List(Vec<String>),
}

impl From<&str> for FactValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for FactValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for FactValue {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u64> for FactValue {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for FactValue {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for FactValue {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<SystemTime> for FactValue {
    fn from(time: SystemTime) -> Self {
        Self::Time(time)
    }
}

impl From<Vec<String>> for FactValue {
    fn from(list: Vec<String>) -> Self {
        Self::List(list)
    }
}

/// Another indicator that an answer names, and how it stands to the one looked up.
#[derive(Clone, Debug, PartialEq)]
pub struct Relation {
    /// How they stand to each other, in snake_case: `hosts_url`, `dropped_file`.
    pub relation: String,
    /// The other indicator.
    pub indicator: Indicator,
}
