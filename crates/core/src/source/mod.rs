//! The contract of a kind: what it is ([`About`]), and the [`Source`] it builds from settings, which writes a [`Question`]
//! and reads the [`Answer`]. A source does no I/O, keeps no time and never sees its credential.
//!
//! The kinds themselves stand in `sources`, the way a question takes in `fetch`, where settings come from in `settings`.

#![warn(missing_docs)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::finding::{Family, Finding, SourceError};
use crate::indicator::{Form, Indicator, IndicatorType};

mod about;
mod allowance;
mod calendar;
mod caller_budget;
mod egress;
mod file;
mod index;
mod mode;
mod network_set;
mod options;
mod pacing;
mod priority;
mod proxy;
mod question;
mod rate_limit;
mod settings;
mod submission;
mod unconfigured;

pub use about::{About, CacheTtl, CredentialNeed, QuotaPer, QuotaWindow, Relationship, Tier, TransportKind};
pub use allowance::{Allowance, WindowAllowance};
pub use calendar::{CalendarWindow, QuotaLimits, QuotaZone};
pub use caller_budget::CallerBudgets;
pub use egress::EgressRules;
pub use file::{FileBody, FileContent};
pub use index::{ListEntry, ListIndex, ListIndexBuilder, ListStatus, MAX_LIST_BYTES};
pub use mode::EnrichMode;
pub use options::{
    Choice, OptionData, OptionDef, OptionSpec, OptionType, OptionValue, parse_address, parse_duration, parse_resolver,
};
pub use pacing::{paced_calls, paced_from};
pub use priority::{Priority, reserved_calls, windows_for};
pub use proxy::{EnvironmentProxies, Proxy, ProxyServer};
pub use question::{
    Answer, AnswerBody, CREDENTIAL_IN_PATH, CREDENTIAL_IN_QUERY, CredentialPlace, DnsAnswer, DnsQuestion, HttpMethod,
    HttpQuestion, ListAnswer, ListQuestion, Question, check_status, has_credential_placeholder,
};
pub use rate_limit::RateLimit;
pub use settings::SourceSettings;
pub use submission::{Accepted, AnalysisProgress, SubmissionAbout, SubmissionSource, Visibility};
pub use unconfigured::Unconfigured;

/// An adapter to one sort of source.
pub trait Kind: Send + Sync + 'static {
    /// What this kind is and which defaults it has.
    fn about(&self) -> &About;

    /// The source with these settings. Reports every mistake in them at once.
    ///
    /// # Errors
    /// [`BuildError::Missing`] where something is not set yet, [`BuildError::Invalid`] where something is wrong.
    fn build(&self, view: &SourceView<'_>) -> BuildResult;
}

/// One configured source: writes questions and reads answers under the settings it was built with. Pure, but for the refusals
/// that it remembers ([`Source::note_refusal`]), which no reading depends on.
pub trait Source: Send + Sync + 'static {
    /// What its kind is.
    fn about(&self) -> &About;

    /// The first question about an indicator. Never panics for any indicator.
    ///
    /// # Errors
    /// When the indicator cannot be asked about: a form that the source does not look up, a name too long.
    fn ask(&self, lookup: &Lookup) -> Result<Question, SourceError>;

    /// Reads all answers so far, in the order of their questions. A further question without an answer has
    /// [`AnswerBody::Failed`] in its place. Never panics on any bytes.
    ///
    /// # Errors
    /// When the answers do not answer the question.
    fn read(&self, lookup: &Lookup, answers: &[Answer]) -> Result<Reading, SourceError>;

    /// Takes note that this further question failed with this error. Whether it failed for good, so that the answers are read
    /// without it. `false`: the partial finding counts, and the question is asked again by the next look-up.
    fn note_refusal(&self, lookup: &Lookup, question: &Question, error: &SourceError) -> bool {
        let _ = (lookup, question, error);
        false
    }

    /// Why this further question would be refused, as far as earlier refusals show: it is then not asked, and counts as failed.
    fn known_refusal(&self, lookup: &Lookup, question: &Question) -> Option<SourceError> {
        let _ = (lookup, question);
        None
    }

    /// The further questions that are known to be refused, one bit each. Once one of those behind a cached result is no longer
    /// refused, it is asked.
    fn refusals(&self) -> u32 {
        0
    }

    /// Whether a look-up of this type that names these relationships, or none for those of the settings, brings related indicators.
    fn leads_on(&self, of: IndicatorType, names: &[String]) -> bool {
        let _ = (of, names);
        false
    }

    /// The look-up without what this source does not ask differently for, so that one answer serves all who want the same
    /// of it.
    fn normalize(&self, lookup: &Lookup) -> Lookup {
        Lookup::new(lookup.indicator.clone())
    }

    /// Most questions that a look-up may take, each of which costs a unit of quota; at least 1.
    fn max_questions(&self, lookup: &Lookup) -> u32 {
        let _ = lookup;
        1
    }

    /// What in the settings is probably not meant so, one sentence each: an engine that nobody knows, a threshold that
    /// cannot be reached.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether an answer is a refusal, checked before it is cached. The default checks the HTTP status alone.
    ///
    /// # Errors
    /// The refusal as an error of the source.
    fn check(&self, answer: &Answer) -> Result<(), SourceError> {
        check_status(answer)
    }

    /// Questions of `TestSource`: harmless, and as cheap as the source allows.
    fn probe(&self) -> Vec<Question>;

    /// Reads the answers to [`Source::probe`], one per question, each either an answer or why there is none.
    fn read_probe(&self, answers: &[Result<Answer, SourceError>]) -> Probe;

    /// The question about the allowance of the credential, which costs no quota. `None`: the source does not report it.
    fn allowance_question(&self) -> Option<Question> {
        None
    }

    /// Reads the answer to [`Source::allowance_question`].
    ///
    /// # Errors
    /// When the answer does not say it.
    fn read_allowance(&self, answer: &Answer) -> Result<Allowance, SourceError> {
        let _ = answer;
        Err(SourceError::malformed("this kind does not read allowances"))
    }

    /// What it takes for analysis; `None`: it only looks up.
    fn submissions(&self) -> Option<&dyn SubmissionSource> {
        None
    }

    /// Whether this source looks up this form: a DNS zone of names takes no address.
    fn supports(&self, form: Form) -> bool {
        self.about().forms.contains(&form)
    }

    /// Which sources of this kind say the same thing: all of them, unless the settings name what they read.
    fn independence_key(&self) -> String {
        self.about().kind.clone()
    }

    /// Which sources are not independent of this one: the family its user `declared`, else its kind's, else
    /// [`Source::independence_key`].
    fn family(&self, declared: Option<&str>) -> Family {
        match (declared, &self.about().family) {
            (Some(declared), _) => Family::declared(declared, self.independence_key()),
            (None, Some(republished)) => Family::republished(republished, self.independence_key()),
            (None, None) => Family::same_kind(self.independence_key()),
        }
    }

    /// Where its list is; `None` for sources that ask by another transport.
    fn list_location(&self) -> Option<ListLocation> {
        None
    }

    /// What decides how its list is loaded, location included: under an equal key a loaded list stays good. The way to it
    /// (credential, proxy, certificates) is not part of it.
    fn list_content_key(&self) -> String {
        String::new()
    }

    /// Builds the index of a downloaded or local list.
    ///
    /// # Errors
    /// When the file is not in the configured format, naming line and way out.
    fn index(&self, file: &[u8]) -> Result<ListIndex, SourceError> {
        let _ = file;
        Err(SourceError::malformed("this kind has no list"))
    }
}

/// Where a list is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListLocation {
    /// A file on the server, by its path as it is written.
    File(PathBuf),
    /// A feed that is downloaded.
    Feed {
        /// Its address; `{credential}` in its path or query stands for the credential.
        url: Url,
        /// How often it is downloaded.
        refresh: Duration,
    },
}

/// A source, or why it cannot be built.
pub type BuildResult = Result<Arc<dyn Source>, BuildError>;

/// Why a source cannot be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// Something is not set yet, and nothing is wrong: the source is not configured, with this reason.
    Missing(String),
    /// What is set cannot be meant so.
    Invalid(Vec<OptionViolation>),
}

impl BuildError {
    /// One wrong option.
    pub fn invalid(option: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![OptionViolation { option, message: message.into() }])
    }
}

/// What is wrong with an option beyond what its type tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionViolation {
    /// The option to change.
    pub option: &'static str,
    /// What is wrong, and the way out.
    pub message: String,
}

/// What a lookup is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lookup {
    /// The indicator.
    pub indicator: Indicator,
    /// Which related indicators are wanted beside what the source says of it.
    pub relations: RelationsWanted,
    /// Whether the first answer is enough, as for a node of a graph: what only checks or describes it further is not asked for.
    pub first_only: bool,
}

impl Lookup {
    /// A look-up of this indicator and nothing else.
    pub fn new(indicator: Indicator) -> Self {
        Self { indicator, relations: RelationsWanted::default(), first_only: false }
    }

    /// The whole look-up with the same first question and no further pages; `None` if it is this one. The cached answers of both
    /// serve each other.
    pub fn base(&self) -> Option<Self> {
        if self.relations.max_calls == 0 && !self.first_only {
            return None;
        }
        let relations = RelationsWanted { names: self.relations.names.clone(), ..RelationsWanted::default() };
        Some(Self { indicator: self.indicator.clone(), relations, first_only: false })
    }
}

/// Which related indicators are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RelationsWanted {
    /// Relationships by the sources' names, sorted, each once; empty: those that each source's settings want.
    pub names: Vec<String>,
    /// Those of which further pages are wanted; empty: all that are asked for.
    pub paged: Vec<String>,
    /// Further calls that one source may be asked for them.
    pub max_calls: u32,
}

/// What a kind may see of the settings: never the credential, only whether there is one.
pub struct SourceView<'a> {
    base_url: Option<&'a Url>,
    tier: &'a str,
    has_credential: bool,
    options: &'a BTreeMap<String, OptionValue>,
    real_files: &'a BTreeMap<String, PathBuf>,
    /// Names of the options that were read, to compare with those that the kind lists.
    read: RefCell<BTreeSet<&'static str>>,
}

impl<'a> SourceView<'a> {
    /// The view of these settings.
    pub fn new(settings: &'a SourceSettings) -> Self {
        Self {
            base_url: settings.base_url.as_ref(),
            tier: &settings.tier,
            has_credential: settings.credential.is_some(),
            options: &settings.options,
            real_files: &settings.real_files,
            read: RefCell::default(),
        }
    }

    /// Where questions go.
    pub fn base_url(&self) -> Option<&Url> {
        self.base_url
    }

    /// Tier of service.
    pub fn tier(&self) -> &str {
        self.tier
    }

    /// Whether there is a credential.
    pub fn has_credential(&self) -> bool {
        self.has_credential
    }

    /// The value of an option: the user's, else its default.
    ///
    /// # Errors
    /// [`BuildError::Missing`] for a required option that is not set; [`BuildError::Invalid`] for a value of another type
    /// than the option's, which is never replaced by the default.
    pub fn get<T: OptionData>(&self, option: &OptionDef<T>) -> Result<T, BuildError> {
        self.read.borrow_mut().insert(option.name);
        if let Some(value) = self.options.get(option.name) {
            return T::from_value(value)
                .ok_or_else(|| BuildError::invalid(option.name, format!("{value} is not of the option's type")));
        }
        let value = option.default.clone().or_else(T::unset);
        value.ok_or_else(|| BuildError::Missing(format!("needs options.{}", option.name)))
    }

    /// Where the file leads that an option names, links followed; `None` where it led nowhere when the settings were read.
    pub fn real_file(&self, option: &OptionDef<Option<PathBuf>>) -> Option<PathBuf> {
        self.real_files.get(option.name).cloned()
    }

    /// Names of the options that [`SourceView::get`] was asked for so far.
    pub fn options_read(&self) -> BTreeSet<&'static str> {
        self.read.borrow().clone()
    }
}

/// The result of reading the answers so far.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// The source knows the indicator.
    Found(Finding),
    /// The source has nothing on it.
    NoRecord,
    /// One more question is needed; if it cannot be asked, or fails and is not optional, the partial finding is used.
    More {
        /// What is known without the next answer.
        partial_finding: Option<Finding>,
        /// The next question. Boxed, since most readings have none.
        next: Box<Question>,
        /// What its answer is for.
        purpose: Purpose,
    },
}

/// What the answer to a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// What the source says of the indicator.
    Claim,
    /// A fact that changes no claim.
    Detail,
    /// A further page of related indicators, which counts against the calls that are allowed for them.
    RelationPage,
}

impl Purpose {
    /// Whether the answers can be read without this one. The question is then asked only once, and if it fails, the others are
    /// asked nevertheless.
    pub fn is_optional(self) -> bool {
        match self {
            Self::Claim => false,
            Self::Detail | Self::RelationPage => true,
        }
    }
}

/// What `TestSource` learned.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Whether the source could be reached at all; the error says why not.
    pub connectivity: Result<(), SourceError>,
    /// Whether it accepts the credential; `None` where none is needed or the source does not tell.
    pub credential_accepted: Option<bool>,
    /// The tier of the credential, where the source tells.
    pub tier: Option<String>,
    /// What is left of which window, where the source tells: `day` and 412.
    pub quota_left: Vec<(String, u64)>,
    /// What was learned, for people.
    pub detail: String,
}

impl Probe {
    /// A probe that tells of neither tier nor quota.
    pub fn new(connectivity: Result<(), SourceError>, credential_accepted: Option<bool>, detail: String) -> Self {
        Self { connectivity, credential_accepted, tier: None, quota_left: Vec::new(), detail }
    }

    /// A probe that reached nothing.
    pub fn failed(error: SourceError) -> Self {
        let detail = error.detail.clone();
        Self::new(Err(error), None, detail)
    }
}
