//! Options of a kind: their types, limits and values. `settings` checks what a user writes against them.

use std::collections::BTreeMap;
use std::time::Duration;

/// An option that sources of a kind have: name, type, default and one line of help.
#[derive(Clone, Debug, PartialEq)]
pub struct OptionSpec {
    /// Name in snake_case.
    pub name: String,
    /// What it may hold.
    pub value_type: OptionType,
    /// What holds while the user says nothing; `None`: the option is then unset.
    pub default: Option<OptionValue>,
    /// Whether a source without it is not configured.
    pub required: bool,
    /// One line of help, with unit.
    pub help: String,
}

impl OptionSpec {
    /// An option with a default.
    pub fn new(name: &str, value_type: OptionType, default: OptionValue, help: &str) -> Self {
        Self { name: name.into(), value_type, default: Some(default), required: false, help: help.into() }
    }

    /// An option that is unset unless the user sets it.
    pub fn unset(name: &str, value_type: OptionType, help: &str) -> Self {
        Self { name: name.into(), value_type, default: None, required: false, help: help.into() }
    }

    /// An option that the user must set.
    pub fn required(name: &str, value_type: OptionType, help: &str) -> Self {
        Self { name: name.into(), value_type, default: None, required: true, help: help.into() }
    }
}

/// What an option may hold.
#[derive(Clone, Debug, PartialEq)]
pub enum OptionType {
    /// A whole number within these limits, both included.
    Integer {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
    /// A number within these limits, both included.
    Number {
        /// Least value.
        min: f64,
        /// Greatest value.
        max: f64,
    },
    /// Yes or no.
    Flag,
    /// Any text.
    Text,
    /// One of these words.
    Choice(Vec<String>),
    /// Texts in any number.
    TextList,
    /// A table from text to text.
    TextTable,
    /// An http or https address to read from. Egress rules hold.
    Address,
    /// A file on the server. Over the API only under the folders that the configuration names.
    Path,
    /// A DNS resolver, `address` or `address:port`. Egress rules hold.
    Resolver,
    /// A duration within these limits, both included, written with its unit: `30s`, `1h`.
    Duration {
        /// Least value.
        min: Duration,
        /// Greatest value.
        max: Duration,
    },
}

impl OptionType {
    /// The word used in outputs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Integer { .. } => "integer",
            Self::Number { .. } => "number",
            Self::Flag => "flag",
            Self::Text => "text",
            Self::Choice(_) => "choice",
            Self::TextList => "list of texts",
            Self::TextTable => "table of texts",
            Self::Address => "address",
            Self::Path => "path",
            Self::Resolver => "resolver",
            Self::Duration { .. } => "duration",
        }
    }
}

/// The value of an option. Addresses, paths, resolvers, choices and durations (as written, with unit) are texts.
#[derive(Clone, Debug, PartialEq)]
pub enum OptionValue {
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// Yes or no.
    Flag(bool),
    /// Text.
    Text(String),
    /// Texts.
    List(Vec<String>),
    /// A table from text to text.
    Table(BTreeMap<String, String>),
}

impl From<i64> for OptionValue {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<f64> for OptionValue {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for OptionValue {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<&str> for OptionValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
