//! Kind `list`: a list of indicators, from a local file or a feed, that is looked up without asking anybody.
//! States what a listing claims; `list/` reads the formats.
//! No file is opened here and nothing downloaded: `fetch` does that and hands the bytes to [`Source::index`].

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::digest;
use strum::{EnumString, IntoStaticStr, VariantArray, VariantNames};
use url::Url;

use super::http;
use crate::finding::{Disposition, Fact, Finding, SourceError, Strength};
use crate::indicator::{Form, Indicator, IndicatorType, Tlp, hex};
use crate::source::{
    About, Answer, AnswerBody, BuildError, Choice, CredentialNeed, ListAnswer, ListEntry, ListIndex, ListLocation,
    ListQuestion, ListStatus, Lookup, OptionDef, OptionViolation, Probe, Question, Reading, Source, SourceView,
    TransportKind, has_credential_placeholder,
};

mod archive;
mod csv;
mod entry;
mod formats;
mod import;
mod json;
mod lines;
mod names;
mod warninglist;

const MINUTE: Duration = Duration::from_secs(60);

const PATH: OptionDef<Option<PathBuf>> = OptionDef::path("path", "file that holds the list; either this or url");
const URL: OptionDef<Option<Url>> = OptionDef::address(
    "url",
    "feed that holds the list; either this or path; {credential} in its path or query stands for the credential",
);
const FORMAT: OptionDef<Format> = OptionDef::choice(
    "format",
    Format::Auto,
    "format (gzip and zip are unpacked); auto: csv if column is set, else recognised by the content",
);
const TYPE: OptionDef<EntryType> = OptionDef::choice(
    "type",
    EntryType::Auto,
    "what the entries are; auto: guessed entry by entry (names of internal networks need: domain)",
);
const COLUMN: OptionDef<Option<String>> = OptionDef::text(
    "column",
    "csv: the entry's column, by number from 1 or by its header's name; unset: found by header or cells",
);
const SEPARATOR: OptionDef<Separator> = OptionDef::choice(
    "separator",
    Separator::Auto,
    "csv: what separates the columns; auto: found by the rows, else comma",
);
const MEMBER: OptionDef<Option<String>> = OptionDef::text(
    "member",
    "json, jsonl: the member that holds the entry, dots go into objects; unset: found by its name",
);
const CLAIM: OptionDef<Disposition> =
    OptionDef::choice("claim", Disposition::Suspicious, "what it means to be on the list");
const STRENGTH: OptionDef<f64> = OptionDef::number(
    "strength",
    0.0,
    1.0,
    0.85,
    "how sure the list is of that, 0 to 1; 0.85 is the full weight of its letter",
);
const TAGS: OptionDef<Vec<String>> = OptionDef::list("tags", "tags of what is listed, such as tor-exit");
const SUBDOMAINS: OptionDef<bool> = OptionDef::flag(
    "subdomains",
    true,
    "whether a name on the list stands for its subdomains too (a warninglist says so itself)",
);
const URLS_BY_HOST: OptionDef<bool> = OptionDef::flag(
    "urls_by_host",
    false,
    "whether a name or address on the list stands for the URLs on it too (a warninglist may say so)",
);
const UNREADABLE: OptionDef<u64> = OptionDef::integer(
    "unreadable",
    0,
    1_000_000,
    0,
    "entries that may be unreadable where most are, before the whole list is refused; fewer than half are always skipped",
);
/// Feeds that are made anew every few minutes ask not to be loaded more often.
const REFRESH: OptionDef<Duration> = OptionDef::duration(
    "refresh",
    MINUTE,
    Duration::from_secs(30 * 86_400),
    Duration::from_secs(3_600),
    "url: time after which the feed is loaded again",
);

/// An enum of words that an option offers, in the order of its variants.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($variant:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
        #[strum(serialize_all = "lowercase")]
        enum $name { $($variant),* }

        impl Choice for $name {}
    };
}

choice!(
    /// The format of a list.
    Format { Auto, Plain, Csv, Warninglist, Jsonl, Json, Hosts, Adblock, Dnsmasq, Checksums, Dshield }
);
choice!(
    /// What the entries of a list are.
    EntryType { Auto, Ip, Domain, Url, File }
);
choice!(
    /// What separates the columns of CSV.
    Separator { Auto, Comma, Semicolon, Tab, Pipe }
);

impl Choice for Disposition {}

pub(super) static ABOUT: LazyLock<About> = LazyLock::new(|| About {
    kind: "list".into(),
    title: "Local list or feed".into(),
    summary: "Whether a list of your own, or one that is downloaded, names an indicator; nobody is asked.".into(),
    home_page: "https://github.com/MISP/misp-warninglists".into(),
    terms: "Those of the list.".into(),
    forms: Form::VARIANTS.to_vec(),
    transport: TransportKind::List,
    credential: CredentialNeed::Optional,
    tiers: vec![http::tier("standard", "no quota", &[])],
    max_tlp: Tlp::Red,
    options: vec![
        PATH.spec(),
        URL.spec(),
        FORMAT.spec(),
        TYPE.spec(),
        COLUMN.spec(),
        SEPARATOR.spec(),
        MEMBER.spec(),
        CLAIM.spec(),
        STRENGTH.spec(),
        TAGS.spec(),
        SUBDOMAINS.spec(),
        URLS_BY_HOST.spec(),
        UNREADABLE.spec(),
        REFRESH.spec(),
    ],
    greatest_strength: Strength::MAX,
    ..http::about()
});

pub(super) fn build(view: &SourceView<'_>) -> Result<Arc<dyn Source>, BuildError> {
    let mut wrong = Vec::new();
    let mut refuse = |option, message: &str| wrong.push(OptionViolation { option, message: message.to_owned() });
    let (path, url, refresh) = (view.get(&PATH)?, view.get(&URL)?, view.get(&REFRESH)?);
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default().to_ascii_lowercase();
    if host.contains('{') || host.contains("%7b") {
        refuse(URL.name, "{credential} may stand in the path or the query, not in the host");
    }
    let location = match (path, url) {
        (Some(path), None) => Some(ListLocation::File(path)),
        (None, Some(url)) => Some(ListLocation::Feed { url, refresh }),
        (None, None) => {
            refuse(PATH.name, "no list: set option path to a file, or option url to a feed");
            None
        }
        (Some(_), Some(_)) => {
            refuse(PATH.name, "options path and url are both set: keep the one that is meant");
            None
        }
    };
    let column = view.get(&COLUMN)?;
    let column = match column.as_deref().map(|text| (text.trim(), text.trim().parse::<usize>())) {
        None | Some(("", _)) => None,
        Some((_, Ok(0))) => {
            refuse(COLUMN.name, "columns are counted from 1");
            None
        }
        Some((_, Ok(number))) => Some(Column::Number(number - 1)),
        Some((name, Err(_))) => Some(Column::Name(name.to_owned())),
    };
    let import = ListFormat {
        format: view.get(&FORMAT)?,
        entries: view.get(&TYPE)?,
        column,
        separator: view.get(&SEPARATOR)?,
        member: view.get(&MEMBER)?,
        subdomains: view.get(&SUBDOMAINS)?,
        urls_by_host: view.get(&URLS_BY_HOST)?,
        unreadable: view.get(&UNREADABLE)?,
    };
    let (claim, strength, tags) = (view.get(&CLAIM)?, view.get(&STRENGTH)?, view.get(&TAGS)?);
    let Some(location) = location.filter(|_| wrong.is_empty()) else { return Err(BuildError::Invalid(wrong)) };
    if let ListLocation::Feed { url, .. } = &location
        && has_credential_placeholder(url)
        && !view.has_credential()
    {
        return Err(BuildError::Missing("the feed's address needs a key: set the source's credential".into()));
    }
    let real_path = view.real_file(&PATH);
    Ok(Arc::new(List { location, real_path, import, claim, strength: Strength::clamped(strength), tags }))
}

struct List {
    location: ListLocation,
    /// The file with links followed.
    real_path: Option<PathBuf>,
    import: ListFormat,
    claim: Disposition,
    strength: Strength,
    tags: Vec<String>,
}

/// How the entries of a list are written.
#[derive(Debug)]
struct ListFormat {
    format: Format,
    entries: EntryType,
    column: Option<Column>,
    separator: Separator,
    member: Option<String>,
    subdomains: bool,
    urls_by_host: bool,
    unreadable: u64,
}

/// Which column of CSV holds the entry.
#[derive(Debug)]
enum Column {
    /// The column of this number, from 0.
    Number(usize),
    /// The column that the header calls so.
    Name(String),
}

impl EntryType {
    /// The type that every entry has; `None`: guessed for each.
    fn indicator_type(self) -> Option<IndicatorType> {
        match self {
            Self::Auto => None,
            Self::Ip => Some(IndicatorType::Ip),
            Self::Domain => Some(IndicatorType::Domain),
            Self::Url => Some(IndicatorType::Url),
            Self::File => Some(IndicatorType::File),
        }
    }
}

impl Source for List {
    fn about(&self) -> &About {
        &ABOUT
    }

    /// A name that may be shown, and a hash of where the list is, which may not.
    fn independence_key(&self) -> String {
        let place = match &self.location {
            ListLocation::File(path) => self.real_path.as_ref().unwrap_or(path).as_os_str().as_encoded_bytes(),
            ListLocation::Feed { url, .. } => url.as_str().as_bytes(),
        };
        let hash = digest::digest(&digest::SHA256, place);
        let name = match (&self.location, &self.real_path) {
            (ListLocation::File(_), Some(real)) => file_name(real),
            (ListLocation::File(_), None) | (ListLocation::Feed { .. }, _) => self.display_name(),
        };
        format!("list:{name}#{:.8}", hex(hash.as_ref()))
    }

    fn ask(&self, lookup: &Lookup) -> Result<Question, SourceError> {
        Ok(Question::List(ListQuestion { indicator: lookup.indicator.clone() }))
    }

    fn check(&self, answer: &Answer) -> Result<(), SourceError> {
        list_lookup(answer).map(|_| ())
    }

    fn read(&self, lookup: &Lookup, answers: &[Answer]) -> Result<Reading, SourceError> {
        let answer = answers.last().ok_or_else(|| SourceError::malformed("no answer"))?;
        let (status, entry) = list_lookup(answer)?;
        let Some(entry) = entry else { return Ok(Reading::NoRecord) };
        Ok(Reading::Found(self.finding(&lookup.indicator, entry, status)))
    }

    fn probe(&self) -> Vec<Question> {
        // An address of the documentation: any look-up tells whether the list is there.
        let indicator = Indicator::from_normal(Form::Ipv4, "192.0.2.1").ok();
        indicator.map(|indicator| Question::List(ListQuestion { indicator })).into_iter().collect()
    }

    fn read_probe(&self, answers: &[Result<Answer, SourceError>]) -> Probe {
        let answer =
            answers.first().cloned().unwrap_or_else(|| Err(SourceError::unavailable("the list was not asked")));
        match answer.as_ref().map_err(Clone::clone).and_then(list_lookup) {
            Err(error) => Probe::failed(error),
            Ok((status, _)) => Probe::new(Ok(()), None, format!("{} {}", self.display_name(), loading(status))),
        }
    }

    fn list_location(&self) -> Option<ListLocation> {
        Some(self.location.clone())
    }

    fn list_content_key(&self) -> String {
        format!("{:?} {:?}", self.location, self.import)
    }

    fn index(&self, file: &[u8]) -> Result<ListIndex, SourceError> {
        formats::index(&self.import, file)
    }
}

impl List {
    fn finding(&self, indicator: &Indicator, entry: &ListEntry, status: &ListStatus) -> Finding {
        let strength = (self.claim != Disposition::Unknown).then_some(self.strength);
        let mut finding = Finding::new(self.claim, strength, reason(indicator, entry));
        finding.observed_time = Some(status.loaded);
        finding.tags.clone_from(&self.tags);
        finding.facts = vec![Fact::new("list_entry", entry.value.as_str()), Fact::new("list_loaded", status.loaded)];
        if !entry.note.is_empty() {
            finding.facts.push(Fact::new("list_note", entry.note.as_str()));
        }
        if let Some(why) = &status.stale {
            finding.reasons.push(format!("the last reload of the list was not taken: {why}"));
            finding.facts.push(Fact::new("list_stale", why.as_str()));
        }
        finding
    }

    /// The list as callers may see it: a file without its folders, a feed without user, query and fragment, which may
    /// hold a key.
    fn display_name(&self) -> String {
        let mut url = match &self.location {
            ListLocation::File(path) => return file_name(path),
            ListLocation::Feed { url, .. } => url.clone(),
        };
        url.set_query(None);
        url.set_fragment(None);
        // Fails only for addresses that can hold neither.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.to_string()
    }
}

/// The copy of the list that answered, and its entry for the indicator.
fn list_lookup(answer: &Answer) -> Result<(&ListStatus, Option<&ListEntry>), SourceError> {
    match &answer.body {
        AnswerBody::List(ListAnswer::Listed { entry, status }) => Ok((status, Some(entry))),
        AnswerBody::List(ListAnswer::NotListed(status)) => Ok((status, None)),
        AnswerBody::List(ListAnswer::NeverLoaded(why)) => {
            Err(SourceError::unavailable(format!("the list was never loaded: {why}")))
        }
        AnswerBody::Http { .. } | AnswerBody::Dns(_) => Err(SourceError::malformed("not an answer of a list")),
        AnswerBody::Failed(error) => Err(error.clone()),
    }
}

/// When the copy in use was loaded, and what is wrong with it.
fn loading(status: &ListStatus) -> String {
    let loaded = jiff::Timestamp::try_from(status.loaded);
    let when = loaded.map_or_else(|_| "before".into(), |time| format!("at {time:.0}"));
    let entries = if status.entries == 1 { "entry" } else { "entries" };
    let mut text = format!("was loaded {when} with {} {entries}", status.entries);
    if !status.skipped_note.is_empty() {
        text.push_str(&format!("; {}", status.skipped_note));
    }
    if let Some(why) = &status.stale {
        text.push_str(&format!("; the last reload was not taken: {why}"));
    }
    text
}

fn reason(indicator: &Indicator, entry: &ListEntry) -> String {
    let covers = if entry.value == indicator.redacted() { "" } else { ", which covers it" };
    let note = if entry.note.is_empty() { String::new() } else { format!(" ({})", entry.note) };
    format!("the list names {}{covers}{note}", entry.value)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
