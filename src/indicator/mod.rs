//! What is looked up: one normal form for everything an analyst may paste.
//!
//! Parses, refangs, extracts from free text, names special addresses, orders TLP. Pure text work: no I/O, no look-ups.
//! The decisions are written down in `docs/indicators.md`.

#![warn(missing_docs)]

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use strum::{IntoStaticStr, VariantArray};

use crate::error::{ParseEnumError, parse_enum};

mod domain;
mod extract;
mod hash;
mod parse;
mod refang;
mod scan;
mod span_map;
mod special;
#[cfg(test)]
mod tests;
mod tlp;
mod url;

pub use extract::{ExtractOptions, Extracted, extract};
pub use hash::hex;
pub use refang::refang;
pub use special::{Special, addresses, is_internal_name};
pub use tlp::Tlp;
pub use url::masked_text;

/// The four types of indicators.
#[derive(Clone, Copy, Debug, IntoStaticStr, VariantArray, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[strum(serialize_all = "snake_case")]
pub enum IndicatorType {
    /// An IPv4 or IPv6 address.
    Ip,
    /// A domain name.
    Domain,
    /// A URL.
    Url,
    /// A file, by its hash.
    File,
}

/// The exact form of an indicator: which address family, which hash.
#[derive(Clone, Copy, Debug, IntoStaticStr, VariantArray, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[strum(serialize_all = "snake_case")]
pub enum Form {
    /// An IPv4 address in dotted decimal.
    Ipv4,
    /// An IPv6 address as RFC 5952 writes it.
    Ipv6,
    /// A domain name in lower case, punycode, without trailing dot.
    Domain,
    /// An http, https or ftp URL as the WHATWG standard serialises it, without fragment.
    Url,
    /// 32 hexadecimal digits in lower case.
    Md5,
    /// 40 hexadecimal digits in lower case.
    Sha1,
    /// 64 hexadecimal digits in lower case.
    Sha256,
}

/// An indicator in its one normal form. Two spellings that no server can tell apart are equal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Indicator {
    form: Form,
    value: Arc<str>,
}

/// An indicator read from text, with what was changed on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The indicator.
    pub indicator: Indicator,
    /// What the reader should know of how the text was understood, one sentence each: "port 8080 dropped".
    pub notes: Vec<String>,
}

/// Why a text is no indicator that we look up: what was understood, and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason in one or two sentences. Shows at most the first 100 characters of the text, passwords masked.
    pub message: String,
}

/// The host of an indicator: of a URL its host, of an address or name itself. A file has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name in normal form.
    Name(String),
}

impl Indicator {
    /// Reads one indicator as an analyst pastes it (refanged first), guessing its type.
    ///
    /// # Errors
    /// When the text is no indicator of a supported type; the refusal says what it was understood as.
    pub fn parse(text: &str) -> Result<Parsed, Refusal> {
        parse::parse(text, None)
    }

    /// Reads one indicator whose type the caller states; the form alone decides (no suffix list).
    ///
    /// # Errors
    /// When the text is not of that type.
    pub fn parse_as(text: &str, wanted: IndicatorType) -> Result<Parsed, Refusal> {
        parse::parse(text, Some(wanted))
    }

    /// Takes back an indicator that was written by us before (a store, a page token).
    ///
    /// # Errors
    /// When the value is not in its normal form.
    pub fn from_normal(form: Form, value: &str) -> Result<Self, Refusal> {
        let read = parse::parse(value, Some(form.indicator_type()))?.indicator;
        if read.form == form && &*read.value == value {
            Ok(read)
        } else {
            Err(Refusal::new(value, format!("is not the normal form of an indicator of the form {}", form.as_str())))
        }
    }

    /// An indicator that was in normal form when it was kept. It is not judged anew: a later version may know another normal
    /// form, and what is on record must stay readable.
    pub fn from_stored(form: Form, value: &str) -> Self {
        Self { form, value: value.into() }
    }

    /// Its form.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Its type.
    pub fn indicator_type(&self) -> IndicatorType {
        self.form.indicator_type()
    }

    /// The normal form. A URL's password stands in it: use [`Indicator::redacted`] wherever people or logs read.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The normal form as it may be shown: the user and password of a URL masked.
    pub fn redacted(&self) -> String {
        if self.has_url_credentials() { url::masked(&self.value) } else { self.value.to_string() }
    }

    /// The normal form so that no program takes it for a link.
    pub fn defanged(&self) -> String {
        match self.form {
            Form::Md5 | Form::Sha1 | Form::Sha256 => self.value.to_string(),
            Form::Ipv4 | Form::Ipv6 | Form::Domain | Form::Url => refang::defang(&self.value),
        }
    }

    /// The Unicode form of a domain, where it differs.
    pub fn unicode(&self) -> Option<String> {
        if self.form == Form::Domain { domain::unicode(&self.value) } else { None }
    }

    /// The address of an IP indicator.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.form {
            Form::Ipv4 | Form::Ipv6 => self.value.parse().ok(),
            Form::Domain | Form::Url | Form::Md5 | Form::Sha1 | Form::Sha256 => None,
        }
    }

    /// The host: of a URL its host, of an address or name itself; a file has none.
    pub fn host(&self) -> Option<Host> {
        match self.form {
            Form::Ipv4 | Form::Ipv6 => self.ip().map(Host::Ip),
            Form::Domain => Some(Host::Name(self.value.to_string())),
            Form::Url => url::host(&self.value),
            Form::Md5 | Form::Sha1 | Form::Sha256 => None,
        }
    }

    /// Whether it is a URL that carries a user or password.
    pub fn has_url_credentials(&self) -> bool {
        self.form == Form::Url && self.value.contains('@') && url::has_credentials(&self.value)
    }
}

impl Refusal {
    /// `text` is no indicator, for this reason.
    fn new(text: &str, why: impl fmt::Display) -> Self {
        let shown: String = url::masked_text(text.trim()).chars().take(100).collect();
        Self { message: format!("{shown:?} {why}") }
    }
}

impl fmt::Debug for Indicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Indicator({} {})", self.form.as_str(), self.redacted())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

impl IndicatorType {
    /// The word used in settings and outputs: `ip`, `domain`, `url`, `file`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl FromStr for IndicatorType {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_enum(text, "type of indicator")
    }
}

impl FromStr for Form {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_enum(text, "form of an indicator")
    }
}

impl Form {
    /// The word used in outputs: `ipv4`, `ipv6`, `domain`, `url`, `md5`, `sha1`, `sha256`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The type that this is a form of.
    pub fn indicator_type(self) -> IndicatorType {
        match self {
            Self::Ipv4 | Self::Ipv6 => IndicatorType::Ip,
            Self::Domain => IndicatorType::Domain,
            Self::Url => IndicatorType::Url,
            Self::Md5 | Self::Sha1 | Self::Sha256 => IndicatorType::File,
        }
    }
}
