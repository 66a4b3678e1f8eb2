//! How the values of a source's settings are written in the file and in the store. As a module it is the serde form of a
//! field: `#[serde(with = "form")]`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use crate::error::ParseEnumError;
use crate::finding::Reliability;
use crate::indicator::Tlp;
use crate::source::{Proxy, QuotaWindow, QuotaZone, parse_address, parse_duration};

/// Why a quota of zero is refused.
pub(super) const NO_CALLS: &str = "must be at least 1; to stop asking, disable the source";

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// `true` or `false`.
    Flag,
    /// A text of this sort.
    Text(&'static str),
    /// A whole number of this sort.
    Number(&'static str),
    /// Calls by window.
    Quota,
}

/// The value of a field that a layer can also clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clearable<T> {
    /// The value.
    Set(T),
    /// No value, whatever the layer below has.
    Cleared,
}

impl<T> Clearable<T> {
    /// The value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Cleared => None,
        }
    }
}

impl<T> From<Clearable<T>> for Option<T> {
    fn from(value: Clearable<T>) -> Self {
        match value {
            Clearable::Set(value) => Some(value),
            Clearable::Cleared => None,
        }
    }
}

/// A value that file and store hold in a form of their own.
pub(super) trait Written: Sized {
    const SYNTAX: Syntax;

    type Form: Serialize + DeserializeOwned;

    /// Reads it; `None` where the form sets nothing.
    fn read(form: Self::Form) -> Result<Option<Self>, String>;

    fn write(&self) -> Self::Form;
}

impl Written for bool {
    const SYNTAX: Syntax = Syntax::Flag;

    type Form = bool;

    fn read(form: bool) -> Result<Option<Self>, String> {
        Ok(Some(form))
    }

    fn write(&self) -> bool {
        *self
    }
}

impl Written for u32 {
    const SYNTAX: Syntax = Syntax::Number("NUMBER");

    type Form = u32;

    fn read(form: u32) -> Result<Option<Self>, String> {
        Ok(Some(form))
    }

    fn write(&self) -> u32 {
        *self
    }
}

/// Values that are one text.
macro_rules! written_as_text {
    ($($type:ty, $what:literal, $text:ident => $read:expr, $value:ident => $write:expr;)*) => {
        $(impl Written for $type {
            const SYNTAX: Syntax = Syntax::Text($what);

            type Form = String;

            fn read($text: String) -> Result<Option<Self>, String> {
                $read
            }

            fn write(&self) -> String {
                let $value = self;
                $write
            }
        })*
    };
}

written_as_text! {
    String, "TEXT", text => Ok(Some(text)), value => value.clone();
    Reliability, "LETTER",
        text => text.parse().map(Some).map_err(|error: ParseEnumError| error.to_string()), value => value.to_string();
    Tlp, "TLP",
        text => text.parse().map(Some).map_err(|error: ParseEnumError| error.to_string()), value => value.to_string();
    Duration, "TIME",
        text => parse_duration(&text).map(Some), value => humantime::format_duration(*value).to_string();
    Url, "URL",
        text => Some(text.trim()).filter(|text| !text.is_empty()).map(parse_address).transpose(),
        value => value.to_string();
    QuotaZone, "ZONE", text => text.parse().map(Some), value => value.to_string();
    Proxy, "URL",
        text => Some(text.trim()).filter(|text| !text.is_empty()).map(str::parse).transpose(),
        value => value.to_string();
}

impl<T: Written<Form = String>> Written for Clearable<T> {
    const SYNTAX: Syntax = T::SYNTAX;

    type Form = String;

    fn read(text: String) -> Result<Option<Self>, String> {
        if text.trim().is_empty() { Ok(Some(Self::Cleared)) } else { Ok(T::read(text)?.map(Self::Set)) }
    }

    fn write(&self) -> String {
        self.value().map(T::write).unwrap_or_default()
    }
}

/// Calls by window: `minute`, `hour`, `day`, `week`, `month`.
impl Written for Vec<QuotaWindow> {
    const SYNTAX: Syntax = Syntax::Quota;

    type Form = BTreeMap<String, Limit>;

    fn read(limits: Self::Form) -> Result<Option<Self>, String> {
        // Names are checked after all limits, so that a wrong limit is reported under its own path.
        let window = |(per, Limit(limit)): (String, Limit)| {
            let per = per.parse().map_err(|error: ParseEnumError| error.to_string())?;
            Ok(QuotaWindow { per, limit })
        };
        let mut windows = limits.into_iter().map(window).collect::<Result<Self, String>>()?;
        windows.sort_by_key(|window| window.per);
        Ok(Some(windows))
    }

    fn write(&self) -> Self::Form {
        self.iter().map(|window| (window.per.as_str().to_owned(), Limit(window.limit))).collect()
    }
}

/// At least one call.
#[derive(Serialize)]
pub(super) struct Limit(u64);

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            0 => Err(D::Error::custom(NO_CALLS)),
            limit => Ok(Self(limit)),
        }
    }
}

/// A duration in days where it is whole days, so that 365 of them are not taken for a year.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds > 0 && seconds.is_multiple_of(86_400) && duration.subsec_nanos() == 0 {
        return format!("{}d", seconds / 86_400);
    }
    humantime::format_duration(duration).to_string()
}

pub(super) fn serialize<T: Written, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(T::write).serialize(serializer)
}

pub(super) fn deserialize<'de, T: Written, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::read(T::Form::deserialize(deserializer)?).map_err(D::Error::custom)
}
