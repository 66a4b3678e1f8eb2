//! The contract of a kind: what it is ([`About`]), what it asks ([`Question`]), how it reads what comes
//! ([`Answer`] to [`Reading`]). A kind does no I/O, keeps no time, sees no credential.
//!
//! The kinds themselves stand in `sources`, the way a question takes in `fetch`, where settings come from in `settings`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use strum::{IntoStaticStr, VariantArray};
use url::Url;

use crate::error::{ParseEnumError, parse_enum};
use crate::finding::{Family, Finding, Reliability, SourceError, SourceErrorKind};
use crate::indicator::{Form, Indicator, Tlp};

mod egress;
mod index;
mod options;
mod settings;

pub use egress::EgressRules;
pub use index::{ListEntry, ListIndex, ListIndexBuilder};
pub use options::{OptionSpec, OptionType, OptionValue};
pub use settings::SourceSettings;

/// An adapter to one sort of source. Pure: writes the question and reads the answer.
pub trait Source: Send + Sync + 'static {
    /// What this kind is and which defaults it has.
    fn about(&self) -> &About;

    /// The first question about an indicator. Never panics for any indicator of the kind's forms.
    ///
    /// # Errors
    /// When the settings lack something without which nothing can be asked.
    fn ask(&self, lookup: &Lookup, view: SourceView<'_>) -> Result<Question, SourceError>;

    /// What is wrong with the options beyond what the type of each tells: the name of the one to change, and the way out.
    fn check_options(&self, view: SourceView<'_>) -> Vec<(&'static str, String)> {
        let _ = view;
        Vec::new()
    }

    /// Reads all answers so far, in the order of their questions. Never panics on any bytes.
    ///
    /// # Errors
    /// When the answers do not answer the question.
    fn read(&self, lookup: &Lookup, view: SourceView<'_>, answers: &[Answer]) -> Result<Reading, SourceError>;

    /// Whether an answer is a refusal, judged before it is kept. The default judges the HTTP status alone.
    ///
    /// # Errors
    /// The refusal as an error of the source.
    fn check(&self, answer: &Answer) -> Result<(), SourceError> {
        check_status(answer)
    }

    /// Questions of the Test button: harmless, and as cheap as the source allows.
    fn probe(&self, view: SourceView<'_>) -> Vec<Question>;

    /// Reads the answers to [`Source::probe`], one per question, each either an answer or why there is none.
    fn read_probe(&self, view: SourceView<'_>, answers: &[Result<Answer, SourceError>]) -> Probe;

    /// Whether this source, as its settings are, looks up this form: a DNS zone of names takes no address.
    fn supports(&self, form: Form, view: SourceView<'_>) -> bool {
        let _ = view;
        self.about().forms.contains(&form)
    }

    /// Which sources of this kind say the same thing: all of them, unless the settings name what they read.
    fn independence_key(&self, view: SourceView<'_>) -> String {
        let _ = view;
        self.about().kind.clone()
    }

    /// Which sources are not independent of this one: its user's word, else its kind's, else [`Source::independence_key`].
    fn family(&self, view: SourceView<'_>) -> Family {
        match (&view.settings.family, &self.about().family) {
            (Some(declared), _) => Family::declared(declared, self.independence_key(view)),
            (None, Some(republished)) => Family::republished(republished, self.independence_key(view)),
            (None, None) => Family::same_kind(self.independence_key(view)),
        }
    }

    /// Whether a list that was loaded under the one settings is what would be loaded under the other, so that it is kept.
    fn same_list_content(&self, one: SourceView<'_>, other: SourceView<'_>) -> bool {
        let _ = (one, other);
        false
    }

    /// Builds the index of a downloaded or local list; only kinds whose transport is a list have one.
    ///
    /// # Errors
    /// When the file is not in the configured format, naming line and way out.
    fn index(&self, view: SourceView<'_>, file: &[u8]) -> Result<ListIndex, SourceError> {
        let _ = (view, file);
        Err(SourceError::malformed("this kind has no list"))
    }
}

/// What a look-up is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lookup {
    /// The indicator.
    pub indicator: Indicator,
}

/// What a kind may see of its source: the settings, and whether there is a credential, never the credential.
#[derive(Clone, Copy, Debug)]
pub struct SourceView<'a> {
    /// The settings in effect.
    pub settings: &'a SourceSettings,
}

impl SourceView<'_> {
    /// The option of this name as a whole number, or the kind's default, which the kind guarantees to exist.
    pub fn integer(&self, name: &str) -> i64 {
        match self.settings.options.get(name) {
            Some(OptionValue::Integer(number)) => *number,
            _ => 0,
        }
    }

    /// The option as a number between the limits its kind declares.
    pub fn number(&self, name: &str) -> f64 {
        match self.settings.options.get(name) {
            Some(OptionValue::Number(number)) => *number,
            Some(OptionValue::Integer(number)) => *number as f64,
            _ => 0.0,
        }
    }

    /// The option as text; empty if unset.
    pub fn text(&self, name: &str) -> &str {
        match self.settings.options.get(name) {
            Some(OptionValue::Text(text)) => text,
            _ => "",
        }
    }

    /// The option as yes or no.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.settings.options.get(name), Some(OptionValue::Flag(true)))
    }

    /// The option as a list of texts; empty if unset.
    pub fn list(&self, name: &str) -> &[String] {
        match self.settings.options.get(name) {
            Some(OptionValue::List(list)) => list,
            _ => &[],
        }
    }

    /// The option as a table of texts; empty if unset.
    pub fn table(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        match self.settings.options.get(name) {
            Some(OptionValue::Table(table)) => Some(table),
            _ => None,
        }
    }
}

/// What came of reading the answers so far.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// The source knows the indicator.
    Found(Finding),
    /// The source has nothing on it.
    NoRecord,
    /// One more question is needed; if it cannot be asked or fails, what is known so far stands.
    More {
        /// What is known without the next answer.
        so_far: Option<Finding>,
        /// The next question. Boxed, since most readings have none.
        next: Box<Question>,
    },
}

/// What the Test button learned.
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
    /// Where questions go unless the user says otherwise; `None` for kinds without one address.
    pub base_url: Option<String>,
    /// Tiers of service, the default first; at least one.
    pub tiers: Vec<Tier>,
    /// Letter unless the user says otherwise.
    pub reliability: Reliability,
    /// Highest TLP that it may see unless the user says otherwise.
    pub max_tlp: Tlp,
    /// Time for one attempt unless the user says otherwise.
    pub timeout: Duration,
    /// How long answers are kept unless the user says otherwise.
    pub cache_ttl: CacheTtl,
    /// Whose data it republishes, if anybody's.
    pub family: Option<String>,
    /// What the user can set beside what all sources have.
    pub options: Vec<OptionSpec>,
    /// Revision of how answers are asked for and kept; a change forgets kept answers.
    pub fetch_revision: u32,
    /// Revision of how answers are rated; a change reads kept answers again.
    pub rating_revision: u32,
}

/// A tier of service: what a free and a paid credential get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Its name: `free`, `premium`.
    pub name: String,
    /// What it is, in a few words.
    pub help: String,
    /// Its quota unless the user says otherwise; empty means none that we keep.
    pub quota: Vec<QuotaWindow>,
}

/// How long answers are kept before the source is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheTtl {
    /// For a finding. Zero: not kept.
    pub finding: Duration,
    /// For "no record". Zero: not kept.
    pub no_record: Duration,
}

/// How a kind's questions travel. Only a list is *local*: everything else tells somebody outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
        match self {
            Self::Http => "http",
            Self::Dns => "dns",
            Self::List => "list",
        }
    }

    /// Whether a question leaves this machine.
    pub fn is_outside(self) -> bool {
        match self {
            Self::Http | Self::Dns => true,
            Self::List => false,
        }
    }
}

/// Whether a kind needs a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
        match self {
            Self::None => "none",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

/// At most `limit` calls in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuotaWindow {
    /// Which window.
    pub per: QuotaPer,
    /// How many calls it allows, at least 1.
    pub limit: u64,
}

/// The windows in which sources count calls.
#[derive(Clone, Copy, Debug, IntoStaticStr, VariantArray, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[strum(serialize_all = "snake_case")]
pub enum QuotaPer {
    /// Any 60 seconds: the window slides.
    Minute,
    /// The calendar day of UTC.
    Day,
    /// The calendar month of UTC.
    Month,
}

impl QuotaPer {
    /// The word used in settings and outputs.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl FromStr for QuotaPer {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_enum(text, "quota window")
    }
}

/// What goes to a source. A closed set: sources are many, transports are few.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// An HTTP request.
    Http(HttpQuestion),
    /// A DNS query.
    Dns(DnsQuestion),
    /// A look-up in the source's list.
    List(ListQuestion),
}

/// An HTTP request, complete but for the credential.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpQuestion {
    /// GET, or POST of a form.
    pub method: HttpMethod,
    /// Full address: the settings' base address with path and query.
    pub url: Url,
    /// Further headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Where the transport puts the credential, if there is one.
    pub credential: CredentialPlace,
}

/// How an HTTP question is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum HttpMethod {
    /// GET.
    Get,
    /// POST with these fields as `application/x-www-form-urlencoded`.
    PostForm(Vec<(String, String)>),
}

/// Where a credential goes in a request. The adapter names the place, only the transport knows the credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialPlace {
    /// Nowhere.
    None,
    /// In the header of this lower-case name, as it is.
    Header(String),
    /// In place of the text `{credential}` in the address's path (percent-encoded there as `%7Bcredential%7D`).
    Path,
    /// Both in the header of this lower-case name and in place of `{credential}` in the path.
    HeaderAndPath(String),
}

/// A DNS query for A records (and the TXT that explains a listing is not asked for: it would cost a second query).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsQuestion {
    /// Absolute name without trailing dot; may hold `{credential}`, which the transport fills.
    pub name: String,
    /// Resolver to ask, address and port; `None`: the system's.
    pub resolver: Option<String>,
}

/// A look-up in the list that the source's settings name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuestion {
    /// What is looked for.
    pub indicator: Indicator,
}

/// What came back, with the moment it was received.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// When it was received.
    pub received: SystemTime,
    /// How long it may be kept, where the answer itself says (a DNS record's TTL).
    pub ttl: Option<Duration>,
    /// What it says.
    pub body: AnswerBody,
}

/// The content of an [`Answer`], by transport.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerBody {
    /// An HTTP response.
    Http {
        /// Status code.
        status: u16,
        /// Headers that adapters may read, names in lower case: `retry-after`, `content-type`, `x-ratelimit-*`.
        headers: Vec<(String, String)>,
        /// The body, within the size limit.
        body: Vec<u8>,
    },
    /// A DNS response.
    Dns(DnsAnswer),
    /// What the list says.
    List(ListAnswer),
}

/// A DNS response to a query for A records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsAnswer {
    /// These addresses; empty if the name exists without any.
    Addresses(Vec<Ipv4Addr>),
    /// The name does not exist.
    NameError,
    /// The server failed or refuses: its code, `SERVFAIL` or `REFUSED`.
    Failure(String),
}

/// What a list says of an indicator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListAnswer {
    /// The list names it: the entry that matched, as it stands in the list.
    Listed {
        /// What the entry says.
        entry: ListEntry,
        /// When the copy in use was last loaded with success.
        loaded: SystemTime,
        /// Why the last reload was not taken, if it was not.
        stale: Option<String>,
    },
    /// The list does not name it.
    NotListed {
        /// When the copy in use was last loaded with success.
        loaded: SystemTime,
        /// Why the last reload was not taken, if it was not.
        stale: Option<String>,
    },
    /// The list was never loaded: why.
    NeverLoaded(String),
}

impl Answer {
    /// Status and body of an HTTP answer.
    ///
    /// # Errors
    /// `Malformed` when the answer came by another transport.
    pub fn http(&self) -> Result<(u16, &[u8]), SourceError> {
        match &self.body {
            AnswerBody::Http { status, body, .. } => Ok((*status, body)),
            AnswerBody::Dns(_) | AnswerBody::List(_) => Err(SourceError::malformed("not an HTTP answer")),
        }
    }

    /// The first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        match &self.body {
            AnswerBody::Http { headers, .. } => {
                headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
            }
            AnswerBody::Dns(_) | AnswerBody::List(_) => None,
        }
    }

    /// The delay that a `Retry-After` header asks for: seconds, or a date judged by the time of receipt.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.header("retry-after")?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let date = jiff::fmt::rfc2822::parse(text).ok()?;
        SystemTime::from(date.timestamp()).duration_since(self.received).ok()
    }
}

/// Judges the HTTP status alone, as most sources mean it; a kind whose 404 or 422 says something else has its own.
///
/// # Errors
/// Every status of 400 and above, but 404, which each kind reads itself.
pub fn check_status(answer: &Answer) -> Result<(), SourceError> {
    let AnswerBody::Http { status, .. } = answer.body else { return Ok(()) };
    let kind = match status {
        200..=299 | 404 => return Ok(()),
        300..=399 => SourceErrorKind::Refused,
        401 => SourceErrorKind::Unauthorized,
        403 => SourceErrorKind::Forbidden,
        408 => SourceErrorKind::Timeout,
        429 => SourceErrorKind::QuotaExhausted,
        400..=499 => SourceErrorKind::BadQuestion,
        _ => SourceErrorKind::Unavailable,
    };
    Err(SourceError::new(kind, format!("HTTP status {status}")).retry_after(answer.retry_after()))
}
