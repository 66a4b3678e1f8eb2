//! Options of a kind. Each is declared once, as an [`OptionDef`] whose type is that of its value: what the kind lists in its
//! `About`, what a user may write and what the kind reads all come from it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;
use strum::{IntoStaticStr, VariantNames};
use url::Url;

/// The port of a DNS resolver whose user names none.
const DNS_PORT: u16 = 53;

/// An option as its kind's code declares it. `T` is `Option` where it may be unset.
#[derive(Clone, Debug)]
pub struct OptionDef<T> {
    /// Name in snake_case.
    pub name: &'static str,
    pub(super) default: Option<T>,
    value_type: OptionType,
    help: &'static str,
    is_threshold: bool,
}

impl<T: OptionData> OptionDef<T> {
    const fn new(name: &'static str, value_type: OptionType, default: Option<T>, help: &'static str) -> Self {
        Self { name, default, value_type, help, is_threshold: false }
    }

    /// As it is listed in `About`.
    pub fn spec(&self) -> OptionSpec {
        let default = self.default.as_ref().and_then(T::to_value);
        OptionSpec {
            name: self.name.to_owned(),
            value_type: self.value_type.clone(),
            required: default.is_none() && T::unset().is_none(),
            default,
            help: self.help.to_owned(),
            is_threshold: self.is_threshold,
        }
    }
}

impl OptionDef<u64> {
    /// A whole number from `min` to `max`.
    pub const fn integer(name: &'static str, min: i64, max: i64, default: u64, help: &'static str) -> Self {
        Self::new(name, OptionType::Integer { min, max }, Some(default), help)
    }

    /// A whole number with which a rating compares one number of an answer, so that the claim changes at most once while it
    /// grows. The history is searched for the values at which it does.
    pub const fn threshold(name: &'static str, min: i64, max: i64, default: u64, help: &'static str) -> Self {
        Self { is_threshold: true, ..Self::integer(name, min, max, default, help) }
    }
}

impl OptionDef<f64> {
    /// A number from `min` to `max`.
    pub const fn number(name: &'static str, min: f64, max: f64, default: f64, help: &'static str) -> Self {
        Self::new(name, OptionType::Number { min, max }, Some(default), help)
    }
}

impl OptionDef<bool> {
    /// Yes or no.
    pub const fn flag(name: &'static str, default: bool, help: &'static str) -> Self {
        Self::new(name, OptionType::Flag, Some(default), help)
    }
}

impl OptionDef<Option<bool>> {
    /// Yes or no; unset, something else decides, which `help` names.
    pub const fn optional_flag(name: &'static str, help: &'static str) -> Self {
        Self::new(name, OptionType::Flag, None, help)
    }
}

impl OptionDef<Duration> {
    /// A duration from `min` to `max`.
    pub const fn duration(
        name: &'static str,
        min: Duration,
        max: Duration,
        default: Duration,
        help: &'static str,
    ) -> Self {
        Self::new(name, OptionType::Duration { min, max }, Some(default), help)
    }
}

impl<T: Choice> OptionDef<T> {
    /// One word of several.
    pub const fn choice(name: &'static str, default: T, help: &'static str) -> Self {
        Self::new(name, OptionType::Choice(T::VARIANTS), Some(default), help)
    }
}

impl OptionDef<String> {
    /// A text that the user must set.
    pub const fn required_text(name: &'static str, help: &'static str) -> Self {
        Self::new(name, OptionType::Text, None, help)
    }
}

impl OptionDef<Option<String>> {
    /// A text, unset unless the user sets it.
    pub const fn text(name: &'static str, help: &'static str) -> Self {
        Self::new(name, OptionType::Text, None, help)
    }
}

impl OptionDef<Option<Url>> {
    /// An address, unset unless the user sets it.
    pub const fn address(name: &'static str, help: &'static str) -> Self {
        Self::new(name, OptionType::Address, None, help)
    }
}

impl OptionDef<Option<PathBuf>> {
    /// A file, unset unless the user sets it.
    pub const fn path(name: &'static str, help: &'static str) -> Self {
        Self::new(name, OptionType::Path, None, help)
    }
}

impl OptionDef<Option<SocketAddr>> {
    /// A DNS resolver, unset unless the user sets it.
    pub const fn resolver(name: &'static str, help: &'static str) -> Self {
        Self::new(name, OptionType::Resolver, None, help)
    }
}

impl OptionDef<Vec<String>> {
    /// Texts, none unless the user sets some.
    pub const fn list(name: &'static str, help: &'static str) -> Self {
        Self::new(name, OptionType::TextList, None, help)
    }
}

impl OptionDef<BTreeMap<String, String>> {
    /// A table, empty unless the user fills it.
    pub const fn table(name: &'static str, help: &'static str) -> Self {
        Self::new(name, OptionType::TextTable, None, help)
    }
}

/// An enum whose words are the choices of an option.
pub trait Choice: Copy + FromStr + Into<&'static str> + VariantNames + 'static {}

/// What the value of an option is in code.
pub trait OptionData: Clone + 'static {
    /// Reads the value; `None` where it is of another type.
    fn from_value(value: &OptionValue) -> Option<Self>;

    /// As a value; `None` for what is unset.
    fn to_value(&self) -> Option<OptionValue>;

    /// What an option without default is while nobody sets it; `None`: it must be set.
    fn unset() -> Option<Self> {
        None
    }
}

impl<T: Choice> OptionData for T {
    fn from_value(value: &OptionValue) -> Option<Self> {
        match value {
            OptionValue::Choice(word) => word.parse().ok(),
            _ => None,
        }
    }

    fn to_value(&self) -> Option<OptionValue> {
        Some(OptionValue::Choice((*self).into()))
    }
}

impl<T: OptionData> OptionData for Option<T> {
    fn from_value(value: &OptionValue) -> Option<Self> {
        T::from_value(value).map(Some)
    }

    fn to_value(&self) -> Option<OptionValue> {
        self.as_ref().and_then(T::to_value)
    }

    fn unset() -> Option<Self> {
        Some(None)
    }
}

impl OptionData for u64 {
    fn from_value(value: &OptionValue) -> Option<Self> {
        match value {
            OptionValue::Integer(number) => Self::try_from(*number).ok(),
            _ => None,
        }
    }

    fn to_value(&self) -> Option<OptionValue> {
        i64::try_from(*self).ok().map(OptionValue::Integer)
    }
}

macro_rules! option_data {
    ($($type:ty => $variant:ident $(, $unset:expr)?;)*) => {$(
        impl OptionData for $type {
            fn from_value(value: &OptionValue) -> Option<Self> {
                match value {
                    OptionValue::$variant(value) => Some(value.clone()),
                    _ => None,
                }
            }

            fn to_value(&self) -> Option<OptionValue> {
                Some(OptionValue::$variant(self.clone()))
            }

            $(fn unset() -> Option<Self> {
                Some($unset)
            })?
        }
    )*};
}

option_data! {
    f64 => Number;
    bool => Flag;
    String => Text;
    Duration => Duration;
    Url => Address;
    PathBuf => Path;
    SocketAddr => Resolver;
    Vec<String> => List, Vec::new();
    BTreeMap<String, String> => Table, BTreeMap::new();
}

/// An option as it is listed to people: name, type, default and one line of help.
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
    /// Whether it is a threshold, of which the history can say what each value would have said.
    pub is_threshold: bool,
}

/// What an option may hold.
#[derive(Clone, Debug, PartialEq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
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
    Choice(&'static [&'static str]),
    /// Texts in any number.
    #[strum(serialize = "list of texts")]
    TextList,
    /// A table from text to text.
    #[strum(serialize = "table of texts")]
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
        self.into()
    }

    /// Whether its value decides which address is reached or which file is read.
    pub fn is_location(&self) -> bool {
        match self {
            Self::Address | Self::Resolver | Self::Path => true,
            Self::Integer { .. }
            | Self::Number { .. }
            | Self::Flag
            | Self::Text
            | Self::Choice(_)
            | Self::TextList
            | Self::TextTable
            | Self::Duration { .. } => false,
        }
    }
}

/// The value of an option.
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
    /// One of the words that the option allows.
    Choice(&'static str),
    /// A duration.
    Duration(Duration),
    /// An http or https address.
    Address(Url),
    /// A file, by its path as it is written.
    Path(PathBuf),
    /// A DNS resolver.
    Resolver(SocketAddr),
    /// Texts.
    List(Vec<String>),
    /// A table from text to text.
    Table(BTreeMap<String, String>),
}

impl OptionValue {
    /// The value as people and the API write it.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Integer(number) => (*number).into(),
            Self::Number(number) => (*number).into(),
            Self::Flag(flag) => (*flag).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Choice(word) => (*word).into(),
            Self::Duration(duration) => humantime::format_duration(*duration).to_string().into(),
            Self::Address(url) => {
                // The parser percent-encodes the placeholder in a path; in a query the encoded form is plain text.
                let path = url.path().replace("%7Bcredential%7D", "{credential}");
                url.as_str().replacen(url.path(), &path, 1).into()
            }
            Self::Path(path) => path.to_string_lossy().into(),
            Self::Resolver(address) if address.port() == DNS_PORT => address.ip().to_string().into(),
            Self::Resolver(address) => address.to_string().into(),
            Self::List(list) => list.clone().into(),
            Self::Table(table) => table.iter().map(|(key, text)| (key.clone(), Value::from(text.as_str()))).collect(),
        }
    }
}

impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_json() {
            Value::String(text) => f.write_str(&text),
            value => value.fmt(f),
        }
    }
}

impl OptionSpec {
    /// Reads what a user wrote.
    ///
    /// # Errors
    /// What the option may hold instead.
    pub fn parse(&self, value: &Value) -> Result<OptionValue, String> {
        match &self.value_type {
            OptionType::Integer { min, max } => parse_integer(value, *min, *max),
            OptionType::Number { min, max } => match value.as_f64().or_else(|| number_in_text(value)) {
                Some(number) if (*min..=*max).contains(&number) => Ok(OptionValue::Number(number)),
                _ => Err(format!("must be a number from {min} to {max}, not {value}")),
            },
            OptionType::Flag => match (value, value.as_str()) {
                (Value::Bool(flag), _) => Ok(OptionValue::Flag(*flag)),
                (_, Some("true")) => Ok(OptionValue::Flag(true)),
                (_, Some("false")) => Ok(OptionValue::Flag(false)),
                _ => Err(format!("must be true or false, not {value}")),
            },
            // A number that names something, such as a column by its place, is as good as its digits.
            OptionType::Text if value.is_number() => Ok(OptionValue::Text(digits(value))),
            OptionType::Text => text(value).map(|text| OptionValue::Text(text.to_owned())),
            OptionType::Choice(words) => {
                let chosen = text(value)?;
                let word = words.iter().find(|word| word.eq_ignore_ascii_case(chosen));
                let word = word.ok_or_else(|| format!("{chosen:?} is not allowed; use one of {}", words.join(", ")))?;
                Ok(OptionValue::Choice(word))
            }
            OptionType::Address => parse_address(text(value)?).map(OptionValue::Address),
            OptionType::Path => text(value).map(|text| OptionValue::Path(text.into())),
            OptionType::Resolver => parse_resolver(text(value)?).map(OptionValue::Resolver),
            OptionType::Duration { min, max } => {
                let duration = parse_duration(text(value)?)?;
                if !(*min..=*max).contains(&duration) {
                    let shown = humantime::format_duration;
                    return Err(format!("must be from {} to {}, not {}", shown(*min), shown(*max), shown(duration)));
                }
                Ok(OptionValue::Duration(duration))
            }
            OptionType::TextList => {
                let list: Result<_, _> = serde_json::from_value(value.clone());
                list.map(OptionValue::List).map_err(|_| format!("must be a list of texts, not {value}"))
            }
            OptionType::TextTable => {
                let table: Result<_, _> = serde_json::from_value(value.clone());
                table.map(OptionValue::Table).map_err(|_| format!("must be a table from text to text, not {value}"))
            }
        }
    }
}

fn parse_integer(value: &Value, min: i64, max: i64) -> Result<OptionValue, String> {
    // A protobuf Struct knows only floating-point numbers: a whole one is an integer.
    let number = value.as_f64().or_else(|| number_in_text(value));
    let whole = number.filter(|number| number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0);
    match value.as_i64().or_else(|| whole.map(|number| number as i64)) {
        Some(number) if (min..=max).contains(&number) => Ok(OptionValue::Integer(number)),
        _ => Err(format!("must be a whole number from {min} to {max}, not {value}")),
    }
}

/// A number as people write it: protobuf knows only floating point, where 1 is 1.0.
fn digits(value: &Value) -> String {
    let whole = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 1e15);
    whole.map_or_else(|| value.to_string(), |number| format!("{number:.0}"))
}

fn number_in_text(value: &Value) -> Option<f64> {
    value.as_str()?.trim().parse().ok()
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty()).ok_or_else(|| format!("must be a text, not {value}"))
}

/// Reads a duration written with its unit.
///
/// # Errors
/// How durations are written.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("{text:?} is no duration; write it with its unit: 5s, 15m, 24h, 7d"))
}

/// Reads an http or https address without user and password.
///
/// # Errors
/// How addresses are written.
pub fn parse_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no address ({error}); write https://HOST/"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("must be an http or https address".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or password: a source's credential has its own field".into());
    }
    Ok(url)
}

/// Reads a DNS resolver: `address`, or `address:port`.
///
/// # Errors
/// How resolvers are written.
pub fn parse_resolver(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    with_port
        .or_else(|_| text.parse())
        .map_err(|_| format!("{text:?} is no resolver; write its address, or address:port"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_may_be_written_as_a_number() {
        let spec = OptionDef::<Option<String>>::text("column", "").spec();
        for value in [json!(1), json!(1.0), json!("1")] {
            assert_eq!(spec.parse(&value), Ok(OptionValue::Text("1".into())));
        }
        assert!(spec.parse(&json!(true)).is_err());
    }

    #[test]
    fn a_whole_number_may_come_as_floating_point_and_a_fraction_may_not() {
        let spec = OptionDef::integer("n", 1, 10, 5, "").spec();
        assert_eq!(spec.parse(&json!(7.0)), Ok(OptionValue::Integer(7)));
        assert_eq!(spec.parse(&json!("7")), Ok(OptionValue::Integer(7)));
        for wrong in [json!(7.5), json!(0), json!(11), json!([1])] {
            let refused = spec.parse(&wrong).unwrap_err();
            assert!(refused.starts_with("must be a whole number from 1 to 10, not "), "{refused}");
        }
    }

    #[test]
    fn only_the_placeholder_in_a_path_is_shown_as_it_was_written() {
        let spec = OptionDef::<Option<Url>>::address("url", "").spec();
        for text in ["https://example.com/{credential}/a?k={credential}", "https://example.com/a?k=%7Bcredential%7D"] {
            assert_eq!(spec.parse(&json!(text)).unwrap().to_json(), json!(text));
        }
    }

    #[test]
    fn a_resolver_is_an_address_with_or_without_a_port() {
        assert_eq!(parse_resolver("127.0.0.1:5353"), Ok(SocketAddr::from(([127, 0, 0, 1], 5353))));
        assert_eq!(parse_resolver("9.9.9.9"), Ok(SocketAddr::from(([9, 9, 9, 9], 53))));
        assert!(parse_resolver("resolver.example.com").unwrap_err().contains("write its address"));
    }

    #[test]
    fn a_value_is_shown_as_it_may_be_written() {
        let url = OptionDef::<Option<Url>>::address("url", "").spec();
        let resolver = OptionDef::<Option<SocketAddr>>::resolver("resolver", "").spec();
        for (spec, text) in [
            (&url, "https://feeds.example.com/{credential}/list?key={credential}"),
            (&resolver, "192.0.2.53"),
            (&resolver, "[2001:db8::53]:5353"),
        ] {
            assert_eq!(spec.parse(&json!(text)).unwrap().to_json(), json!(text));
        }
    }
}
