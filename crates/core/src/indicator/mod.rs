//! Indicators: parsing, refanging, extraction from free text, normal form; also TLP and special-purpose addresses.
//!
//! Pure text work: no I/O, no look-ups. `docs/indicators.md` lists what is accepted and why.

#![warn(missing_docs)]

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use strum::{IntoStaticStr, VariantArray};

use crate::error::{ParseEnumError, parse_enum};

mod address;
mod clean;
mod domain;
mod encoding;
mod extract;
mod gateway;
mod hash;
mod label;
mod parse;
mod percent;
mod prefilter;
mod refang;
mod scan;
mod script;
mod span_map;
mod special;
mod tlp;
mod url;
mod wildcard;
mod wrapping;

pub use encoding::{decode_text, is_utf16};
pub use extract::{ExtractOptions, Extracted, SkippedHash, extract, extract_with_skipped};
pub use hash::{from_hex, hex};
pub use percent::decode_percent;
pub use refang::refang;
pub use special::{SpecialAddress, addresses, is_internal_name};
pub use tlp::Tlp;
pub use url::{UrlParts, redact_text};

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

/// An indicator in normal form. Two spellings that no server can tell apart are equal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Indicator {
    form: Form,
    value: Arc<str>,
}

/// An indicator parsed from text, with notes on how the text was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The indicator.
    pub indicator: Indicator,
    /// How the text was understood, one sentence each: "port 8080 dropped".
    pub notes: Vec<String>,
}

/// Why a text is no supported indicator: what it was understood as, and what to give instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason in one or two sentences. Shows at most the first 100 characters of the text, passwords redacted.
    pub message: String,
    /// Whether the text is well written but of a sort that is not looked up, as a CVE number or an SSDEEP hash.
    pub unsupported: bool,
}

/// The host that an indicator names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name in normal form.
    Name(String),
}

impl Indicator {
    /// Parses one indicator as an analyst pastes it (refanged first), guessing its type.
    ///
    /// # Errors
    /// When the text is no indicator of a supported type.
    pub fn parse(text: &str) -> Result<Parsed, Refusal> {
        parse::parse(text, None)
    }

    /// Parses one indicator of a stated type. A domain need not have a public suffix.
    ///
    /// # Errors
    /// When the text is not of that type.
    pub fn parse_as(text: &str, wanted: IndicatorType) -> Result<Parsed, Refusal> {
        parse::parse(text, Some(wanted))
    }

    /// Parses an indicator that must already be in normal form.
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

    /// An indicator that was in normal form when it was stored. It is not checked: another version may have another normal
    /// form, and stored indicators must stay readable.
    pub fn from_stored(form: Form, value: &str) -> Self {
        Self { form, value: value.into() }
    }

    /// The form: which address family, which hash.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The type of the form.
    pub fn indicator_type(&self) -> IndicatorType {
        self.form.indicator_type()
    }

    /// The normal form. May hold a URL's password: use [`Indicator::redacted`] for people and logs.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The normal form with the user and password of a URL redacted, and those of URLs within it.
    pub fn redacted(&self) -> String {
        let own = if self.has_url_credentials() { url::redact(&self.value) } else { self.value.to_string() };
        let may_hide_more = self.form == Form::Url && ["@", "%40", "%2540"].iter().any(|at| self.value.contains(at));
        if may_hide_more && self.urls_within().iter().any(Self::has_url_credentials) {
            url::redact_tail(&own)
        } else {
            own
        }
    }

    /// The normal form with defang markers, so that no program makes it a link.
    pub fn defanged(&self) -> String {
        match self.form {
            Form::Md5 | Form::Sha1 | Form::Sha256 => self.value.to_string(),
            Form::Ipv4 | Form::Ipv6 | Form::Domain | Form::Url => refang::defang(&self.value),
        }
    }

    /// The Unicode form of a domain, if it differs from the normal form.
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

    /// The host: that of a URL, or the address or domain itself; a file has none.
    pub fn host(&self) -> Option<Host> {
        match self.form {
            Form::Ipv4 | Form::Ipv6 => self.ip().map(Host::Ip),
            Form::Domain => Some(Host::Name(self.value.to_string())),
            Form::Url => url::host(&self.value),
            Form::Md5 | Form::Sha1 | Form::Sha256 => None,
        }
    }

    /// The parts of a URL that tell where it leads.
    pub fn url_parts(&self) -> Option<UrlParts> {
        if self.form == Form::Url { url::parts(&self.value) } else { None }
    }

    /// The URLs that stand within the path or query of a URL, percent-encoded or not: where it redirects to, or what it
    /// shows a copy of. They are as written, not in normal form.
    pub fn urls_within(&self) -> Vec<Self> {
        let urls = self.url_parts().map(|parts| parts.urls_within()).unwrap_or_default();
        urls.iter().map(|url| Self::from_stored(Form::Url, url)).collect()
    }

    /// Whether it is a URL that carries a user or password.
    pub fn has_url_credentials(&self) -> bool {
        self.form == Form::Url && self.value.contains('@') && url::has_credentials(&self.value)
    }
}

impl Refusal {
    /// `why` continues a sentence that begins with the text.
    fn new(text: &str, why: impl fmt::Display) -> Self {
        let shown: String = url::redact_text(text.trim()).chars().take(100).collect();
        Self { message: format!("{shown:?} {why}"), unsupported: false }
    }

    /// The same of a text that is well written but of a sort that is not looked up.
    fn unsupported(text: &str, why: impl fmt::Display) -> Self {
        Self { unsupported: true, ..Self::new(text, why) }
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
