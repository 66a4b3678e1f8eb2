//! The outcome of asking one source.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use strum::{Display, EnumDiscriminants, IntoStaticStr, VariantArray};

use super::{Disposition, Finding, Reliability};
use crate::error::{ParseEnumError, parse_enum};

/// No quota of a source is longer than a month, and no wait for it need be.
const MAX_DELAY: Duration = Duration::from_secs(31 * 86_400);

/// The outcome of asking one source.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Name of the source, without `sources/`.
    pub source: String,
    /// Kind of the source: `virustotal`.
    pub kind: String,
    /// Reliability that the user gives the source.
    pub reliability: Reliability,
    /// Which sources are not independent of this one.
    pub family: Family,
    /// When the answer was received; without an answer, when the error occurred or it was decided not to ask.
    pub time: SystemTime,
    /// The result.
    pub body: OutcomeBody,
}

/// The result of asking one source.
#[derive(Clone, Debug, PartialEq, EnumDiscriminants, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[strum_discriminants(name(OutcomeKind), derive(Hash, VariantArray), doc = "Which result asking a source had.")]
pub enum OutcomeBody {
    /// The source knows the indicator.
    Finding(Finding),
    /// The source answered that it has nothing on the indicator. This is no evidence of innocence.
    NoRecord,
    /// No answer to the question: the source failed, or something local did (ledger unreachable, egress rule, name not
    /// resolved).
    Error(SourceError),
    /// The source was not asked.
    NotAsked(NotAsked),
}

impl OutcomeBody {
    /// The word used in outputs, in snake_case.
    pub fn as_str(&self) -> &'static str {
        self.into()
    }

    /// Whether the verdict lacks an opinion that was expected: an error, quota spent, an open circuit, or no time left.
    /// A rule by which the source is not asked does not make a verdict partial.
    pub fn leaves_verdict_partial(&self) -> bool {
        match self {
            Self::Finding(_) | Self::NoRecord => false,
            Self::Error(_) => true,
            Self::NotAsked(not_asked) => not_asked.reason.leaves_verdict_partial(),
        }
    }

    /// Whether asking the source was attempted, with any result. An error counts, also a local one before anything was
    /// sent.
    pub fn was_attempted(&self) -> bool {
        !matches!(self, Self::NotAsked(_))
    }

    /// Whether the source gave an answer: a finding or "no record".
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Finding(_) | Self::NoRecord)
    }

    /// The finding, if there is one.
    pub fn finding(&self) -> Option<&Finding> {
        match self {
            Self::Finding(finding) => Some(finding),
            Self::NoRecord | Self::Error(_) | Self::NotAsked(_) => None,
        }
    }

    /// The claim of the finding, if there is one.
    pub fn claim(&self) -> Option<Disposition> {
        self.finding().map(|finding| finding.claim)
    }
}

/// Which sources are not independent of this one, so that their agreement is worth less (`docs/fusion.md`, "Families").
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Family {
    /// Sources with the same name share data: together they count more than one, and less than independent ones.
    pub name: String,
    /// Who says that they share data.
    pub basis: FamilyBasis,
    /// Within a family, sources with the same key are one opinion: the kind; for a list the list, for a DNS zone the zone.
    pub independence_key: String,
}

/// What makes sources one family.
#[derive(Clone, Copy, Debug, IntoStaticStr, VariantArray, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[strum(serialize_all = "snake_case")]
pub enum FamilyBasis {
    /// The user says that these sources share data.
    Declared,
    /// The kind says whose data it republishes.
    Republished,
    /// Neither says so: the family is named by the independence key.
    SameKind,
}

impl Family {
    /// A family that the user declares.
    pub fn declared(name: impl Into<String>, independence_key: impl Into<String>) -> Self {
        Self { name: name.into(), basis: FamilyBasis::Declared, independence_key: independence_key.into() }
    }

    /// The family of the sources that republish the data of `name`.
    pub fn republished(name: impl Into<String>, independence_key: impl Into<String>) -> Self {
        Self { name: name.into(), basis: FamilyBasis::Republished, independence_key: independence_key.into() }
    }

    /// The family of a source that shares data only with sources of the same key.
    pub fn same_kind(independence_key: impl Into<String>) -> Self {
        let key = independence_key.into();
        Self { name: key.clone(), basis: FamilyBasis::SameKind, independence_key: key }
    }
}

/// Why an attempt to ask brought no answer. It may be local: ledger unreachable, egress rule, name not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError {
    /// The kind of failure.
    pub kind: SourceErrorKind,
    /// What happened, for people. Never holds a credential.
    pub detail: String,
    /// Time from the outcome until asking again can succeed, at most 31 days; `None` if unknown.
    pub retry_after: Option<Duration>,
}

/// Why an attempt to ask brought no answer, as a closed list.
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
    /// The source refuses to serve us (a blocked address, a public resolver, a redirect elsewhere), or our own egress
    /// rules refuse its address.
    Refused,
    /// No answer could be had: connection, TLS, DNS, a 5xx status, a list that was never loaded, an unreachable ledger.
    Unavailable,
    /// No answer within the source's timeout or the deadline.
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
}

impl FromStr for SourceErrorKind {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_enum(text, "kind of source error")
    }
}

impl SourceError {
    /// A failure with its explanation, and no time after which to ask again.
    pub fn new(kind: SourceErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after: None }
    }

    /// The same failure, with the time after which asking again can succeed, cut to 31 days.
    #[must_use]
    pub fn retry_after(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay.map(|delay| delay.min(MAX_DELAY));
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
    /// The rule or limit.
    pub reason: NotAskedReason,
    /// The rule or limit with its values, for people.
    pub detail: String,
    /// When the limit ends; `None` for a rule, or if unknown.
    pub until: Option<SystemTime>,
}

impl NotAsked {
    /// Not asked for this reason, without a known end.
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
    /// The indicator or its host is an address of an internal network.
    PrivateAddress,
    /// The indicator or its host is a name of an internal network.
    InternalName,
    /// The URL carries a user or password.
    UrlCredentials,
    /// No unit of a quota window is left.
    QuotaSpent,
    /// No time was left before the deadline.
    Deadline,
    /// What is left of a quota window is reserved for interactive requests.
    QuotaReserve,
    /// No answer of the source could change the disposition, and the request wanted no more than that.
    VerdictSettled,
    /// The request's budget of quota units does not allow it.
    Budget,
    /// The source keeps failing, so it is left alone for a while.
    CircuitOpen,
    /// The caller has spent its quota units of the day.
    CallerBudget,
    /// Background requests are spread over the day, and have used their share of it.
    Pacing,
    /// An analyst has pinned the verdict, and the request wanted no more than a disposition.
    Pinned,
}

impl NotAskedReason {
    /// The word used in outputs, in snake_case.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether a limit prevented an opinion that was expected. The other reasons are rules, and that none was needed.
    pub fn leaves_verdict_partial(self) -> bool {
        match self {
            Self::QuotaSpent
            | Self::Deadline
            | Self::QuotaReserve
            | Self::Budget
            | Self::CircuitOpen
            | Self::CallerBudget
            | Self::Pacing => true,
            Self::TypeUnsupported
            | Self::Disabled
            | Self::NotConfigured
            | Self::Tlp
            | Self::NeverSend
            | Self::PrivateAddress
            | Self::InternalName
            | Self::UrlCredentials
            | Self::VerdictSettled
            | Self::Pinned => false,
        }
    }
}

impl FromStr for NotAskedReason {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_enum(text, "reason not to ask")
    }
}
