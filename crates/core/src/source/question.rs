//! What goes to a source and what comes back, by transport.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use url::Url;

use super::{FileBody, ListEntry, ListStatus};
use crate::finding::{SourceError, SourceErrorKind};
use crate::indicator::Indicator;

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
    /// POST of a file as `multipart/form-data`. Its name is sent as its SHA-256, since a name may disclose something too.
    PostFile {
        /// Name of the form's field.
        field: &'static str,
        /// The file. Boxed, since most questions have none.
        file: Box<FileBody>,
    },
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

/// The placeholder of a credential in a path, as the URL parser encodes it.
pub const CREDENTIAL_IN_PATH: &str = "%7Bcredential%7D";
/// The same in a query, where it is not encoded.
pub const CREDENTIAL_IN_QUERY: &str = "{credential}";

/// Whether an address has a place for the credential.
pub fn has_credential_placeholder(url: &Url) -> bool {
    url.path().contains(CREDENTIAL_IN_PATH) || url.query().is_some_and(|query| query.contains(CREDENTIAL_IN_QUERY))
}

/// A DNS query for A records (and the TXT that explains a listing is not asked for: it would cost a second query).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsQuestion {
    /// Absolute name without trailing dot; may hold `{credential}`, which the transport fills.
    pub name: String,
    /// The zone of the name, as the disclosure ledger records it: without indicator and credential.
    pub zone: String,
    /// Resolver to ask; `None`: the system's.
    pub resolver: Option<SocketAddr>,
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
    /// How long it may be cached, where the answer says so (a DNS record's TTL).
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
        /// Headers that may be read, names in lower case: `retry-after`, `content-type`, those about quota.
        headers: Vec<(String, String)>,
        /// The body, within the size limit.
        body: Vec<u8>,
    },
    /// A DNS response.
    Dns(DnsAnswer),
    /// What the list says.
    List(ListAnswer),
    /// A further question has no answer, for this reason. It stands in the answer's place.
    Failed(SourceError),
}

/// A DNS response to a query for A records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsAnswer {
    /// These addresses; empty if the name exists without any.
    Addresses(Vec<Ipv4Addr>),
    /// The name does not exist.
    NxDomain,
    /// The server failed or refuses: its code, `SERVFAIL` or `REFUSED`.
    Failure(String),
}

/// What a list says of an indicator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListAnswer {
    /// The list names it: the entry that matched, as the list writes it.
    Listed {
        /// What the entry says.
        entry: ListEntry,
        /// The copy in use.
        status: ListStatus,
    },
    /// The list does not name it.
    NotListed(ListStatus),
    /// The list was never loaded: why.
    NeverLoaded(String),
}

impl Answer {
    /// Status and body of an HTTP answer.
    ///
    /// # Errors
    /// `Malformed` when the answer came by another transport; why there is none, for [`AnswerBody::Failed`].
    pub fn http(&self) -> Result<(u16, &[u8]), SourceError> {
        match &self.body {
            AnswerBody::Http { status, body, .. } => Ok((*status, body)),
            AnswerBody::Dns(_) | AnswerBody::List(_) => Err(SourceError::malformed("not an HTTP answer")),
            AnswerBody::Failed(error) => Err(error.clone()),
        }
    }

    /// Why there is no answer, for [`AnswerBody::Failed`].
    pub fn failure(&self) -> Option<&SourceError> {
        match &self.body {
            AnswerBody::Failed(error) => Some(error),
            AnswerBody::Http { .. } | AnswerBody::Dns(_) | AnswerBody::List(_) => None,
        }
    }

    /// The first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        match &self.body {
            AnswerBody::Http { headers, .. } => {
                headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
            }
            AnswerBody::Dns(_) | AnswerBody::List(_) | AnswerBody::Failed(_) => None,
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
