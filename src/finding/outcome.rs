//! What came of asking: finding, no record, error and not asked are four different things.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use strum::{Display, IntoStaticStr, VariantArray};

use super::{Disposition, Finding, Reliability};
use crate::error::{ParseEnumError, parse_enum};

/// No quota of a source is longer than a month, and no wait for it need be.
const LONGEST_DELAY: Duration = Duration::from_secs(31 * 86_400);

/// What came of asking one source.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Name of the source, without `sources/`.
    pub source: String,
    /// Its kind.
    pub kind: String,
    /// The letter that its user gives it.
    pub reliability: Reliability,
    /// Which sources are not independent of it.
    pub family: Family,
    /// When the source answered; for an error or a refusal, when that was settled.
    pub time: SystemTime,
    /// What came.
    pub body: OutcomeBody,
}

/// Which of the four things came of asking.
#[derive(Clone, Debug, PartialEq)]
pub enum OutcomeBody {
    /// The source knows the indicator and says this.
    Finding(Finding),
    /// The source was asked and has nothing on the indicator. Not a word about its innocence.
    NoRecord,
    /// The source was asked and did not answer the question.
    Error(SourceError),
    /// The source was not asked.
    NotAsked(NotAsked),
}

impl OutcomeBody {
    /// Whether a source that was meant to speak did not: an error, quota spent, or no time left.
    /// A rule that withholds the question is not such a failure.
    pub fn leaves_verdict_partial(&self) -> bool {
        match self {
            Self::Finding(_) | Self::NoRecord => false,
            Self::Error(_) => true,
            Self::NotAsked(not_asked) => not_asked.reason.leaves_verdict_partial(),
        }
    }

    /// Whether the source gave an answer: a finding or "no record".
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Finding(_) | Self::NoRecord)
    }

    /// The claim of a finding.
    pub fn claim(&self) -> Option<Disposition> {
        match self {
            Self::Finding(finding) => Some(finding.claim),
            Self::NoRecord | Self::Error(_) | Self::NotAsked(_) => None,
        }
    }
}

/// Which sources are not independent of this one, so that their agreement is worth less. Two levels, `verdict` pools both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Family {
    /// Sources with the same name share data: they count for more than one, and for less than independent ones.
    pub name: String,
    /// Who says that they do.
    pub basis: FamilyBasis,
    /// Within a family, sources with the same key are one opinion: the kind; for a list the list, for a DNS zone the zone.
    pub independence_key: String,
}

/// What makes sources one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum FamilyBasis {
    /// The user says that these sources share data.
    Declared,
    /// The kind says whose data it republishes.
    Republished,
    /// Nobody says anything: the independence key is the family.
    SameKind,
}

impl Family {
    /// A family that the user declares.
    pub fn declared(name: impl Into<String>, independence_key: impl Into<String>) -> Self {
        Self { name: name.into(), basis: FamilyBasis::Declared, independence_key: independence_key.into() }
    }

    /// The family of those who republish this one's data.
    pub fn republished(name: impl Into<String>, independence_key: impl Into<String>) -> Self {
        Self { name: name.into(), basis: FamilyBasis::Republished, independence_key: independence_key.into() }
    }

    /// The family of a source that shares data only with sources of the same key.
    pub fn same_kind(independence_key: impl Into<String>) -> Self {
        let key = independence_key.into();
        Self { name: key.clone(), basis: FamilyBasis::SameKind, independence_key: key }
    }
}

/// Why a source that was asked did not answer the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError {
    /// Which failure.
    pub kind: SourceErrorKind,
    /// What happened, for people. Never holds a credential.
    pub detail: String,
    /// When the source says, or its window tells, that asking again can succeed, counted from the outcome's time.
    pub retry_after: Option<Duration>,
}

/// The failures a source can have.
#[derive(Clone, Copy, Debug, Display, IntoStaticStr, VariantArray, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[strum(serialize_all = "snake_case")]
pub enum SourceErrorKind {
    /// The credential is missing or wrong.
    Unauthorized,
    /// The credential's plan does not allow this question.
    Forbidden,
    /// The source says that the question is malformed.
    BadQuestion,
    /// The source says that the quota is used up.
    QuotaExhausted,
    /// The source refuses to serve us: a blocked address, a public resolver, a redirect elsewhere.
    Refused,
    /// No answer could be had: connection, TLS, DNS, a 5xx status, a list that was never loaded.
    Unavailable,
    /// No answer in the source's time.
    Timeout,
    /// An answer that cannot be read.
    Malformed,
    /// An answer over the size limit.
    TooLarge,
}

impl SourceErrorKind {
    /// The word used in outputs, in snake_case.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether the same question may succeed moments later.
    pub fn is_transient(self) -> bool {
        match self {
            Self::Unavailable | Self::Timeout => true,
            Self::Unauthorized
            | Self::Forbidden
            | Self::BadQuestion
            | Self::QuotaExhausted
            | Self::Refused
            | Self::Malformed
            | Self::TooLarge => false,
        }
    }

    /// Whether the source itself is at fault, rather than our question, credential or quota.
    pub fn blames_source(self) -> bool {
        match self {
            Self::Unavailable | Self::Timeout | Self::Malformed | Self::TooLarge => true,
            Self::Unauthorized | Self::Forbidden | Self::BadQuestion | Self::QuotaExhausted | Self::Refused => false,
        }
    }
}

impl FromStr for SourceErrorKind {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_enum(text, "kind of source error")
    }
}

impl SourceError {
    /// A failure with its explanation.
    pub fn new(kind: SourceErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after: None }
    }

    /// The same failure, with the time after which asking again can succeed; at most 31 days, whatever the source says.
    #[must_use]
    pub fn retry_after(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay.map(|delay| delay.min(LONGEST_DELAY));
        self
    }

    /// An answer that cannot be read: `detail` says which member and why.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(SourceErrorKind::Malformed, detail)
    }

    /// No answer could be had.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(SourceErrorKind::Unavailable, detail)
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.detail)
    }
}

impl std::error::Error for SourceError {}

/// Why a source was not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAsked {
    /// Which rule or limit.
    pub reason: NotAskedReason,
    /// The rule with its values, for people.
    pub detail: String,
    /// When the limit ends, where it does.
    pub until: Option<SystemTime>,
}

impl NotAsked {
    /// Not asked, for this reason.
    pub fn new(reason: NotAskedReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), until: None }
    }
}

/// The rules and limits by which a source is not asked.
#[derive(Clone, Copy, Debug, Display, IntoStaticStr, VariantArray, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[strum(serialize_all = "snake_case")]
pub enum NotAskedReason {
    /// The kind does not look up this type of indicator.
    TypeUnsupported,
    /// The user switched the source off.
    Disabled,
    /// The source lacks a credential or an option that its kind needs.
    NotConfigured,
    /// The request's TLP is above the highest that the source may see.
    Tlp,
    /// A never-send rule names the indicator or its host.
    NeverSend,
    /// The indicator is, or its host is, an address of an internal network.
    PrivateAddress,
    /// The indicator is, or its host is, a name of an internal network.
    InternalName,
    /// The URL carries a user or password.
    UrlCredentials,
    /// No unit of a quota window is left.
    QuotaSpent,
    /// No time was left before the deadline.
    Deadline,
}

impl NotAskedReason {
    /// The word used in outputs, in snake_case.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether a source that was meant to speak did not, for this reason.
    pub fn leaves_verdict_partial(self) -> bool {
        match self {
            Self::QuotaSpent | Self::Deadline => true,
            Self::TypeUnsupported
            | Self::Disabled
            | Self::NotConfigured
            | Self::Tlp
            | Self::NeverSend
            | Self::PrivateAddress
            | Self::InternalName
            | Self::UrlCredentials => false,
        }
    }
}

impl FromStr for NotAskedReason {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_enum(text, "reason not to ask")
    }
}
