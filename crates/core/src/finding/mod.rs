//! What one source says of an indicator, and the outcome of asking it: finding, no record, error, or not asked.
//!
//! The four are never mixed, since silence is no evidence of innocence. Nothing here weighs one source against
//! another: that is done in `verdict` alone. How an answer becomes a finding is up to the kinds in `sources`.

#![warn(missing_docs)]

use std::fmt;
use std::time::SystemTime;

mod bounds;
mod disposition;
mod outcome;
mod relation;
mod reliability;
mod strength;

pub use bounds::MAX_RELATIONS;
pub use disposition::Disposition;
pub use outcome::{
    Family, FamilyBasis, NotAsked, NotAskedReason, Outcome, OutcomeBody, OutcomeKind, SourceError, SourceErrorKind,
};
pub use relation::{Relation, RelationName};
pub use reliability::Reliability;
pub use strength::Strength;

/// What one source says of an indicator.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The claim. `Unknown` means that the source knows the indicator and takes no side.
    pub claim: Disposition,
    /// How sure the source is of its claim; `None` if it does not say, which counts as full.
    pub strength: Option<Strength>,
    /// When the source last affirmed the claim; evidence ages from here. `None`: when the answer was received.
    pub observed_time: Option<SystemTime>,
    /// The rules that decided the claim, with their numbers, one sentence each.
    pub reasons: Vec<String>,
    /// What the source says beside its claim, and every number that the claim was derived from.
    pub facts: Vec<Fact>,
    /// Other indicators that the same answer names.
    pub relations: Vec<Relation>,
    /// The source's own labels.
    pub tags: Vec<String>,
    /// The source's own page on the indicator.
    pub permalink: Option<String>,
    /// What Cortex XSOAR's integration for this source computes from the same answer, by which the policy `xsoar` judges;
    /// `None` for sources whose claim that integration would share.
    pub xsoar: Option<XsoarClaim>,
}

/// What Cortex XSOAR's integration for a source computes from an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct XsoarClaim {
    /// The claim; `Unknown` where the integration would fail.
    pub claim: Disposition,
    /// Why, in one sentence.
    pub reason: String,
}

impl Finding {
    /// A finding with this claim and reason, and nothing else.
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
            xsoar: None,
        }
    }
}

/// A named, typed value that a source gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Name in snake_case, the same for the same thing in every kind: `country`, `as_number`, `last_seen`.
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
    /// A point in time.
    Time(SystemTime),
    /// Several texts, in the source's order.
    List(Vec<String>),
}

impl From<&str> for FactValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for FactValue {
    /// Numbers above `i64::MAX` become `i64::MAX`.
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// The conversions that only wrap the value.
macro_rules! wrap_fact_value {
    ($($type:ty => $variant:ident),+) => {
        $(impl From<$type> for FactValue {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        })+
    };
}

wrap_fact_value!(String => Text, i64 => Integer, f64 => Number, bool => Flag, SystemTime => Time, Vec<String> => List);

/// A number with its noun: `1 engine`, `2 engines`.
pub fn counted<N: PartialEq + From<u8> + fmt::Display>(count: N, noun: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
