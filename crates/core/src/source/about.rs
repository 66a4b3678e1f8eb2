//! What a kind is, as data: names, terms, defaults, tiers, options.

use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};
use url::Url;

use super::OptionSpec;
use crate::error::{ParseEnumError, parse_enum};
use crate::finding::{OutcomeBody, RelationName, Reliability, Strength};
use crate::indicator::{Form, IndicatorType, Tlp};

/// What a kind is: data, not code. Feeds `ListSourceKinds`, the command line's help and `docs/sources.md`.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// The kind's name, in lower case: `virustotal`.
    pub kind: String,
    /// Its name for people: `VirusTotal`.
    pub title: String,
    /// What it knows, in one sentence.
    pub summary: String,
    /// Its home page.
    pub home_page: String,
    /// What may be done with its answers, in one sentence, with where to read the terms.
    pub terms: String,
    /// The forms of indicators that it looks up.
    pub forms: Vec<Form>,
    /// How the question travels.
    pub transport: TransportKind,
    /// Whether it needs a credential.
    pub credential: CredentialNeed,
    /// The environment variable whose value is a credential for it, and by itself declares a source named like the kind.
    pub credential_env: Option<String>,
    /// Where questions go unless the user says otherwise; `None` for kinds without one address.
    pub base_url: Option<Url>,
    /// Tiers of service, the default first; at least one.
    pub tiers: Vec<Tier>,
    /// Letter unless the user says otherwise.
    pub reliability: Reliability,
    /// The greatest strength that a claim of it has; a greater one is cut to it. At least [`Strength::FULL`], which is what a claim
    /// without strength counts as. What its answer can still change is bounded by it.
    pub greatest_strength: Strength,
    /// Highest TLP that it may see unless the user says otherwise.
    pub max_tlp: Tlp,
    /// Time for one attempt unless the user says otherwise.
    pub timeout: Duration,
    /// How long answers are cached unless the user sets it.
    pub cache_ttl: CacheTtl,
    /// Whose data it republishes, if anybody's.
    pub family: Option<String>,
    /// What the user can set beside what all sources have.
    pub options: Vec<OptionSpec>,
    /// The relationships that a look-up may ask for; empty for sources that are not asked for any.
    pub relationships: &'static [Relationship],
    /// Bumped when requests change; invalidates cached answers.
    pub fetch_revision: u32,
    /// Bumped when ratings change; cached answers are read again.
    pub rating_revision: u32,
}

/// A relationship that a source can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relationship {
    /// The type of indicator that has it.
    pub indicator_type: IndicatorType,
    /// The source's name for it: `contacted_domains`.
    pub name: &'static str,
    /// What it means.
    pub relation: RelationName,
    /// Whether only a paid credential is shown it.
    pub is_premium: bool,
}

impl About {
    /// Whether this is the kind's own address, and not that of a mirror, a gateway or a test.
    pub fn is_own_address(&self, address: Option<&Url>) -> bool {
        let trimmed = |url: Option<&Url>| url.map(|url| url.as_str().trim_end_matches('/').to_owned());
        trimmed(address) == trimmed(self.base_url.as_ref())
    }
}

/// A tier of service: what a free and a paid credential get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Its name: `free`, `premium`.
    pub name: String,
    /// What it is, in a few words.
    pub help: String,
    /// Its quota unless the user sets it; empty means that no quota is counted here.
    pub quota: Vec<QuotaWindow>,
}

/// How long answers are cached before the source is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheTtl {
    /// For a finding. Zero: not cached.
    pub finding: Duration,
    /// For "no record". Zero: not cached.
    pub no_record: Duration,
    /// How long after its time a finding is still used while the source is asked again in the background. Zero: not.
    pub stale_while_revalidate: Duration,
    /// How long after its time a finding is still used if the source cannot be asked or fails. Zero: not.
    pub stale_if_error: Duration,
}

impl CacheTtl {
    /// These times, with the defaults for what is stale: asking in the background spends quota that nobody asked for, but
    /// an old finding that says so is worth more than none.
    pub const fn new(finding: Duration, no_record: Duration) -> Self {
        let stale_if_error = Duration::from_secs(86_400);
        Self { finding, no_record, stale_while_revalidate: Duration::ZERO, stale_if_error }
    }

    /// How long after its time a finding is still of use.
    pub fn longest_stale(&self) -> Duration {
        self.stale_while_revalidate.max(self.stale_if_error)
    }

    /// How long this outcome is cached; `None` for what is no answer.
    pub fn for_body(&self, body: &OutcomeBody) -> Option<Duration> {
        match body {
            OutcomeBody::Finding(_) => Some(self.finding),
            OutcomeBody::NoRecord => Some(self.no_record),
            OutcomeBody::Error(_) | OutcomeBody::NotAsked(_) => None,
        }
    }
}

/// How a kind's questions travel. Only a list is *local*: everything else tells somebody outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum TransportKind {
    /// An HTTP request per question.
    Http,
    /// A DNS query per question.
    Dns,
    /// A look-up in a list that was downloaded or read before.
    List,
}

impl TransportKind {
    /// The word used in outputs.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether a question leaves this machine.
    pub fn is_remote(self) -> bool {
        match self {
            Self::Http | Self::Dns => true,
            Self::List => false,
        }
    }
}

/// Whether a kind needs a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum CredentialNeed {
    /// It has none.
    None,
    /// It works without, and better with one.
    Optional,
    /// It does not work without.
    Required,
}

impl CredentialNeed {
    /// The word used in outputs.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// At most `limit` calls in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuotaWindow {
    /// Which window.
    pub per: QuotaPer,
    /// How many calls it allows, at least 1.
    pub limit: u64,
}

/// The windows in which sources count calls; those of the calendar in the time zone of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum QuotaPer {
    /// A sliding window of 61 seconds: a minute, and a second for calls to arrive.
    Minute,
    /// The hour.
    Hour,
    /// The calendar day.
    Day,
    /// The ISO week: from Monday to Monday.
    Week,
    /// The calendar month.
    Month,
}

impl QuotaPer {
    /// The word used in settings and outputs.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The longest that the window can last.
    pub fn longest(self) -> Duration {
        Duration::from_secs(match self {
            Self::Minute => 61,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 7 * 86_400,
            Self::Month => 31 * 86_400,
        })
    }
}

impl std::str::FromStr for QuotaPer {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_enum(text, "quota window")
    }
}
