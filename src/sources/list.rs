//! Kind `list`: a list of indicators, from a local file or a feed, that is looked up without asking anybody.
//! States what a listing claims; how the formats are read stands in `list/`.
//! No file is opened here and nothing downloaded: `fetch` does that and hands the bytes to [`Source::index`].

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use secrecy::ExposeSecret;
use strum::VariantArray;
use url::Url;

use crate::finding::{Disposition, Fact, Finding, Reliability, SourceError, SourceErrorKind, Strength};
use crate::indicator::{Form, Indicator, Tlp, hex};
use crate::source::{
    About, Answer, AnswerBody, CacheTtl, CredentialNeed, ListAnswer, ListEntry, ListIndex, ListQuestion, Lookup,
    OptionSpec, OptionType, OptionValue, Probe, Question, Reading, Source, SourceView, Tier, TransportKind,
};

mod csv;
mod entry;
mod formats;

/// Stands for the credential in the address of a feed.
const CREDENTIAL: &str = "{credential}";
/// Options that say what a listing means, not what is loaded.
const JUDGED_LATER: [&str; 3] = ["claim", "strength", "tags"];

/// The kind `list`.
#[derive(Clone, Copy, Debug, Default)]
pub struct List;

static ABOUT: LazyLock<About> = LazyLock::new(|| About {
    kind: "list".into(),
    title: "Local list or feed".into(),
    summary: "Whether a list of your own, or one that is downloaded, names an indicator; nobody is asked.".into(),
    home_page: "https://github.com/MISP/misp-warninglists".into(),
    terms: "Those of the list.".into(),
    forms: Form::VARIANTS.to_vec(),
    transport: TransportKind::List,
    credential: CredentialNeed::Optional,
    base_url: None,
    tiers: vec![Tier { name: "standard".into(), help: "no quota".into(), quota: Vec::new() }],
    reliability: Reliability::C,
    max_tlp: Tlp::Red,
    timeout: Duration::from_secs(5),
    cache_ttl: CacheTtl { finding: Duration::ZERO, no_record: Duration::ZERO },
    family: None,
    options: options(),
    fetch_revision: 1,
    rating_revision: 1,
});

fn options() -> Vec<OptionSpec> {
    let choice = |words: &[&str]| OptionType::Choice(words.iter().map(|word| (*word).to_owned()).collect());
    let text = |word: &str| OptionValue::from(word);
    // Feeds that are made anew every few minutes ask not to be loaded more often.
    let refresh = OptionType::Duration { min: Duration::from_secs(60), max: Duration::from_secs(30 * 86_400) };
    vec![
        OptionSpec::unset("path", OptionType::Path, "file that holds the list; either this or url"),
        OptionSpec::unset(
            "url",
            OptionType::Address,
            "feed that holds the list; either this or path; {credential} in its path or query stands for the credential",
        ),
        OptionSpec::new(
            "format",
            choice(&["auto", "plain", "csv", "warninglist", "jsonl"]),
            text("auto"),
            "format; auto: csv if column is set, jsonl if member is, MISP warninglist by its content, else plain lines",
        ),
        OptionSpec::new(
            "type",
            choice(&["auto", "ip", "domain", "url", "file"]),
            text("auto"),
            "what the entries are; auto: guessed entry by entry (names of internal networks need: domain)",
        ),
        OptionSpec::unset(
            "column",
            OptionType::Text,
            "csv: the entry's column, by number from 1 or by its header's name",
        ),
        OptionSpec::new(
            "separator",
            choice(&["comma", "semicolon", "tab"]),
            text("comma"),
            "csv: what separates the columns",
        ),
        OptionSpec::unset("member", OptionType::Text, "jsonl: the member that holds the entry; dots go into objects"),
        OptionSpec::new(
            "claim",
            choice(&["malicious", "suspicious", "benign", "unknown"]),
            text("suspicious"),
            "what it means to be on the list",
        ),
        OptionSpec::new(
            "strength",
            OptionType::Number { min: 0.0, max: 1.0 },
            OptionValue::Number(Strength::FULL.get()),
            "how sure the list is of that, 0 to 1; 0.85 is the full weight of its letter",
        ),
        OptionSpec::unset("tags", OptionType::TextList, "tags of what is listed, such as tor-exit"),
        OptionSpec::new(
            "subdomains",
            OptionType::Flag,
            OptionValue::Flag(true),
            "whether a name on the list stands for its subdomains too (a warninglist says so itself)",
        ),
        OptionSpec::new(
            "urls_by_host",
            OptionType::Flag,
            OptionValue::Flag(false),
            "whether a name or address on the list stands for the URLs on it too",
        ),
        OptionSpec::new(
            "unreadable",
            OptionType::Integer { min: 0, max: 1_000_000 },
            OptionValue::Integer(0),
            "entries that may be unreadable before the whole list is refused",
        ),
        OptionSpec::new("refresh", refresh, text("1h"), "url: time after which the feed is loaded again"),
    ]
}

impl Source for List {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn independence_key(&self, view: SourceView<'_>) -> String {
        format!("list:{}", identity(view))
    }

    fn ask(&self, lookup: &Lookup, view: SourceView<'_>) -> Result<Question, SourceError> {
        check_settings(view)?;
        if view.text("url").contains(CREDENTIAL) && view.settings.credential.is_none() {
            let why = "the feed's address needs a key: set the source's credential";
            return Err(SourceError::new(SourceErrorKind::Unauthorized, why));
        }
        Ok(Question::List(ListQuestion { indicator: lookup.indicator.clone() }))
    }

    fn check(&self, answer: &Answer) -> Result<(), SourceError> {
        list_lookup(answer).map(|_| ())
    }

    fn read(&self, lookup: &Lookup, view: SourceView<'_>, answers: &[Answer]) -> Result<Reading, SourceError> {
        let answer = answers.last().ok_or_else(|| SourceError::malformed("no answer"))?;
        let ListLookup { entry, loaded, stale } = list_lookup(answer)?;
        let Some(entry) = entry else { return Ok(Reading::NoRecord) };
        Ok(Reading::Found(finding(&lookup.indicator, view, entry, loaded, stale)))
    }

    fn check_options(&self, view: SourceView<'_>) -> Vec<(&'static str, String)> {
        let mut wrong: Vec<_> = check_settings(view).err().map(|error| ("path", error.detail)).into_iter().collect();
        let host = Url::parse(view.text("url")).ok().and_then(|url| url.host_str().map(str::to_lowercase));
        if host.is_some_and(|host| host.contains('{') || host.contains("%7b")) {
            wrong.push(("url", "{credential} may stand in the path or the query, not in the host".into()));
        }
        if view.text("column").trim().parse() == Ok(0) {
            wrong.push(("column", "columns are counted from 1".into()));
        }
        wrong
    }

    fn probe(&self, view: SourceView<'_>) -> Vec<Question> {
        // An address of the documentation: any look-up tells whether the list is there.
        let indicator = Indicator::from_normal(Form::Ipv4, "192.0.2.1").ok().filter(|_| check_settings(view).is_ok());
        indicator.map(|indicator| Question::List(ListQuestion { indicator })).into_iter().collect()
    }

    fn read_probe(&self, view: SourceView<'_>, answers: &[Result<Answer, SourceError>]) -> Probe {
        let (connectivity, detail) = match probed(view, answers) {
            Ok(detail) => (Ok(()), detail),
            Err(error) => (Err(error.clone()), error.detail),
        };
        Probe { connectivity, credential_accepted: None, tier: None, quota_left: Vec::new(), detail }
    }

    fn same_list_content(&self, one: SourceView<'_>, other: SourceView<'_>) -> bool {
        let loading = |view: SourceView<'_>| {
            let settings = view.settings;
            let options = settings.options.iter().filter(|(name, _)| !JUDGED_LATER.contains(&name.as_str()));
            let options: Vec<_> = options.map(|(name, value)| (name.clone(), value.clone())).collect();
            let key = settings.credential.as_ref().map(|key| key.expose_secret().to_owned());
            (options, settings.proxy.clone(), settings.ca_pem.clone(), key)
        };
        loading(one) == loading(other)
    }

    fn index(&self, view: SourceView<'_>, file: &[u8]) -> Result<ListIndex, SourceError> {
        formats::index(view, file)
    }
}

/// What a list that was loaded says.
struct ListLookup<'a> {
    entry: Option<&'a ListEntry>,
    loaded: SystemTime,
    stale: Option<&'a str>,
}

fn list_lookup(answer: &Answer) -> Result<ListLookup<'_>, SourceError> {
    match &answer.body {
        AnswerBody::List(ListAnswer::Listed { entry, loaded, stale }) => {
            Ok(ListLookup { entry: Some(entry), loaded: *loaded, stale: stale.as_deref() })
        }
        AnswerBody::List(ListAnswer::NotListed { loaded, stale }) => {
            Ok(ListLookup { entry: None, loaded: *loaded, stale: stale.as_deref() })
        }
        AnswerBody::List(ListAnswer::NeverLoaded(why)) => {
            Err(SourceError::unavailable(format!("the list was never loaded: {why}")))
        }
        AnswerBody::Http { .. } | AnswerBody::Dns(_) => Err(SourceError::malformed("not an answer of a list")),
    }
}

fn finding(
    indicator: &Indicator,
    view: SourceView<'_>,
    entry: &ListEntry,
    loaded: SystemTime,
    stale: Option<&str>,
) -> Finding {
    let claim = view.text("claim").parse().unwrap_or(Disposition::Suspicious);
    let strength = (claim != Disposition::Unknown).then(|| Strength::clamped(view.number("strength")));
    let mut finding = Finding::new(claim, strength, reason(indicator, entry));
    finding.observed_time = Some(loaded);
    finding.tags = view.list("tags").to_vec();
    finding.facts = vec![Fact::new("list_entry", entry.value.as_str()), Fact::new("list_loaded", loaded)];
    if !entry.note.is_empty() {
        finding.facts.push(Fact::new("list_note", entry.note.as_str()));
    }
    if let Some(why) = stale {
        finding.reasons.push(format!("the last reload of the list was not taken: {why}"));
        finding.facts.push(Fact::new("list_stale", why));
    }
    finding
}

fn reason(indicator: &Indicator, entry: &ListEntry) -> String {
    let covers = if entry.value == indicator.redacted() { "" } else { ", which covers it" };
    let note = if entry.note.is_empty() { String::new() } else { format!(" ({})", entry.note) };
    format!("the list names {}{covers}{note}", entry.value)
}

fn probed(view: SourceView<'_>, answers: &[Result<Answer, SourceError>]) -> Result<String, SourceError> {
    check_settings(view)?;
    let answer = answers.first().ok_or_else(|| SourceError::unavailable("the list was not looked up"))?;
    let ListLookup { loaded, stale, .. } = list_lookup(answer.as_ref().map_err(Clone::clone)?)?;
    let when = jiff::Timestamp::try_from(loaded).map_or_else(|_| "before".into(), |time| format!("at {time:.0}"));
    let stale = stale.map_or(String::new(), |why| format!("; the last reload was not taken: {why}"));
    Ok(format!("{} was loaded {when}{stale}", shown(view)))
}

fn check_settings(view: SourceView<'_>) -> Result<(), SourceError> {
    let bad = |detail: &str| Err(SourceError::new(SourceErrorKind::BadQuestion, detail));
    match (view.text("path").is_empty(), view.text("url").is_empty()) {
        (true, true) => bad("no list: set option path to a file, or option url to a feed"),
        (false, false) => bad("options path and url are both set: keep the one that is meant"),
        (true, false) | (false, true) => Ok(()),
    }
}

/// What tells this list from others: a name that may be shown, and a hash of where it is, which may not.
fn identity(view: SourceView<'_>) -> String {
    let written = view.text("path");
    let path = view.settings.real_files.get("path").map(PathBuf::as_path).unwrap_or(Path::new(written));
    let (name, place) = match written.is_empty() {
        false => (file_name(path), path.as_os_str().as_encoded_bytes()),
        true => (shown(view), view.text("url").as_bytes()),
    };
    let hash = digest::digest(&digest::SHA256, place);
    format!("{name}#{:.8}", hex(hash.as_ref()))
}

/// The list as whoever asks may see it: a file without its folders, a feed without user, query and fragment, which may
/// hold a key.
fn shown(view: SourceView<'_>) -> String {
    let path = view.text("path");
    if !path.is_empty() {
        return file_name(Path::new(path));
    }
    let Ok(mut url) = Url::parse(view.text("url")) else { return String::new() };
    url.set_query(None);
    url.set_fragment(None);
    // Fails only for addresses that can hold neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
