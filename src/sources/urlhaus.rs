//! URLhaus: addresses from which malware is spread, the hosts that serve them and the files that they deliver. What is
//! offline was bad, and says so for as long as it is fresh.

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use super::http::{self, Api};
use super::json::{self, Object};
use crate::finding::{
    Disposition, Fact, Finding, Relation, Reliability, SourceError, SourceErrorKind, Strength, counted,
};
use crate::indicator::{Form, Indicator, IndicatorType};
use crate::source::{
    About, Answer, BuildError, CredentialPlace, HttpMethod, Lookup, OptionDef, Probe, Question, QuotaPer, Reading,
    Source, SourceView, check_status, unsupported,
};

const RECENT_DAYS: OptionDef<u64> = OptionDef::integer(
    "recent_days",
    1,
    3_650,
    30,
    "A URL that is offline counts as malicious for this many days, then as suspicious.",
);

pub(super) static ABOUT: LazyLock<About> = LazyLock::new(|| About {
    kind: "urlhaus".into(),
    title: "URLhaus".into(),
    summary: "Lists URLs that spread malware, with their hosts and the files that they deliver.".into(),
    home_page: "https://urlhaus.abuse.ch/".into(),
    terms: "Free key, fair use; commercial use by agreement. See https://urlhaus.abuse.ch/api/.".into(),
    forms: vec![Form::Ipv4, Form::Ipv6, Form::Domain, Form::Url, Form::Md5, Form::Sha256],
    credential_env: Some("URLHAUS_AUTH_KEY".into()),
    base_url: Some("https://urlhaus-api.abuse.ch/v1/".into()),
    tiers: vec![http::tier("free", "with a free key; the quota is courtesy", &[(QuotaPer::Minute, 60)])],
    reliability: Reliability::A,
    cache_ttl: http::hours(1, 1),
    options: vec![RECENT_DAYS.spec()],
    rating_revision: 2,
    ..http::about()
});

pub(super) fn build(view: &SourceView<'_>) -> Result<Arc<dyn Source>, BuildError> {
    let api = Api::new(view, CredentialPlace::Header("auth-key".into()))?;
    Ok(Arc::new(UrlHaus { api, recent_days: view.get(&RECENT_DAYS)? }))
}

struct UrlHaus {
    api: Api,
    recent_days: u64,
}

impl Source for UrlHaus {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn ask(&self, lookup: &Lookup) -> Result<Question, SourceError> {
        let value = lookup.indicator.value();
        match lookup.indicator.form() {
            Form::Ipv4 | Form::Ipv6 | Form::Domain => Ok(self.question("host", "host", value)),
            Form::Url => Ok(self.question("url", "url", value)),
            Form::Md5 => Ok(self.question("payload", "md5_hash", value)),
            Form::Sha256 => Ok(self.question("payload", "sha256_hash", value)),
            Form::Sha1 => Err(unsupported(Form::Sha1)),
        }
    }

    fn read(&self, lookup: &Lookup, answers: &[Answer]) -> Result<Reading, SourceError> {
        let answer = http::only(answers)?;
        let value = http::document(answer)?;
        let record = Object::root(&value)?;
        match record.need_text("query_status")?.to_ascii_lowercase().as_str() {
            "ok" => {}
            "no_results" => return Ok(Reading::NoRecord),
            _ => return Err(record.unreadable("query_status", "a word that we know")),
        }
        let form = lookup.indicator.form();
        let finding = match form {
            Form::Url => Some(rate_url(&record, self.recent_days, answer.received)?),
            Form::Ipv4 | Form::Ipv6 | Form::Domain => rate_host(&record, answer.received)?,
            Form::Md5 | Form::Sha256 => rate_payload(&record, answer.received)?,
            Form::Sha1 => return Err(unsupported(form)),
        };
        Ok(match finding {
            Some(finding) => Reading::Found(described(finding, &record, form)),
            None => Reading::NoRecord,
        })
    }

    /// The service gives its refusals as words, with whatever HTTP status.
    fn check(&self, answer: &Answer) -> Result<(), SourceError> {
        let (status, body) = answer.http()?;
        // What cannot be read is no refusal by a word: `read` says what is wrong with it.
        let value = json::parse(body).unwrap_or_default();
        let record = Object::root(&value).ok();
        let word = record.and_then(|record| Some(record.text("query_status").ok()??.to_ascii_lowercase()));
        let (kind, detail) = match (word.as_deref(), status) {
            (Some("ratelimited"), _) => (SourceErrorKind::QuotaExhausted, "the source says: ratelimited"),
            (_, 402) => (SourceErrorKind::QuotaExhausted, "HTTP status 402"),
            (Some("unknown_auth_key" | "unauthorized"), _) => {
                (SourceErrorKind::Unauthorized, "the source does not know the key")
            }
            (Some("http_post_expected"), _) => (SourceErrorKind::BadQuestion, "the source wants a POST"),
            (Some(word), _) if word.starts_with("invalid_") => {
                (SourceErrorKind::BadQuestion, "the source calls the value invalid")
            }
            (Some(_) | None, _) => return check_status(answer),
        };
        Err(SourceError::new(kind, detail).retry_after(answer.retry_after()))
    }

    fn probe(&self) -> Vec<Question> {
        vec![self.question("host", "host", "example.com")]
    }

    fn read_probe(&self, answers: &[Result<Answer, SourceError>]) -> Probe {
        http::read_probe(answers, |answer| self.check(answer), self.api.has_credential)
    }
}

impl UrlHaus {
    fn question(&self, call: &str, field: &str, value: &str) -> Question {
        // The service answers only with the slash at the end.
        let form = HttpMethod::PostForm(vec![(field.to_owned(), value.to_owned())]);
        self.api.ask(self.api.address(&[call, ""]), form)
    }
}

fn is_online(record: &Object<'_>) -> Result<bool, SourceError> {
    match record.need_text("url_status")?.to_ascii_lowercase().as_str() {
        "online" => Ok(true),
        "offline" | "unknown" => Ok(false),
        _ => Err(record.unreadable("url_status", "online, offline or unknown")),
    }
}

/// When the source last affirmed its record: the first of these members that is there.
fn affirmed(record: &Object<'_>) -> Result<Option<SystemTime>, SourceError> {
    for member in ["last_online", "lastseen", "date_added", "firstseen"] {
        if let Some(time) = record.time(member)? {
            return Ok(Some(time));
        }
    }
    Ok(None)
}

fn found(claim: Disposition, strength: f64, reason: String, observed: Option<SystemTime>) -> Finding {
    let mut finding = Finding::new(claim, Some(Strength::clamped(strength)), reason);
    finding.observed_time = observed;
    finding
}

fn rate_url(record: &Object<'_>, recent: u64, received: SystemTime) -> Result<Finding, SourceError> {
    if is_online(record)? {
        let reason = "the URL is online and spreads malware".to_owned();
        return Ok(found(Disposition::Malicious, 0.95, reason, Some(received)));
    }
    let last = match record.time("last_online")? {
        Some(time) => time,
        None => record.time("date_added")?.ok_or_else(|| record.missing("date_added"))?,
    };
    // A date after the answer is a clock that differs: as fresh as can be.
    let age = received.duration_since(last).unwrap_or_default();
    let days = age.as_secs() / 86_400;
    let days_before = counted(days, "day");
    let reason = format!("the URL spread malware, last known {days_before} before the answer (recent: under {recent})");
    let claim = if days < recent { Disposition::Malicious } else { Disposition::Suspicious };
    Ok(found(claim, 0.85, reason, affirmed(record)?))
}

/// The rating of a host; `None` where none of its URLs is listed. A host is not its worst file: the edge of a network that
/// delivers for others has bad URLs too.
fn rate_host(record: &Object<'_>, received: SystemTime) -> Result<Option<Finding>, SourceError> {
    let count = record.count("url_count")?;
    let urls = match record.objects("urls")? {
        Some(urls) => urls,
        None if count == Some(0) => Vec::new(),
        None => return Err(record.missing("urls")),
    };
    let mut online = 0_usize;
    let mut newest = None;
    for url in &urls {
        online += usize::from(is_online(url)?);
        newest = newest.max(affirmed(url)?);
    }
    let observed = if online > 0 { Some(received) } else { newest.or(record.time("firstseen")?) };
    // An answer may count URLs that it does not show.
    let listed = count.unwrap_or_default().max(urls.len() as u64);
    let are = if online == 1 { "is" } else { "are" };
    let counts = format!("{online} of {} of the host {are} online", counted(listed, "listed malware URL"));
    if let Some(word) = abused(record)? {
        let reason = format!("{counts}, but Spamhaus DBL calls it an abused legitimate host ({word})");
        return Ok(Some(found(Disposition::Suspicious, 0.5, reason, observed)));
    }
    if count.unwrap_or(urls.len() as u64) == 0 {
        return Ok(None);
    }
    let claim = if online > 0 { Disposition::Malicious } else { Disposition::Suspicious };
    Ok(Some(found(claim, 0.6, counts, observed)))
}

/// The word by which Spamhaus DBL says that a legitimate host is being abused.
fn abused<'a>(record: &Object<'a>) -> Result<Option<&'a str>, SourceError> {
    let Some(blacklists) = record.object("blacklists")? else { return Ok(None) };
    let word = blacklists.text("spamhaus_dbl")?;
    Ok(word.filter(|word| word.to_ascii_lowercase().starts_with("abused_")))
}

fn rate_payload(record: &Object<'_>, received: SystemTime) -> Result<Option<Finding>, SourceError> {
    if record.text("md5_hash")?.is_none() && record.text("sha256_hash")?.is_none() {
        return Ok(None);
    }
    let urls = record.objects("urls")?.unwrap_or_default();
    let online: Vec<bool> = urls.iter().map(is_online).collect::<Result<_, _>>()?;
    let online = online.into_iter().filter(|online| *online).count();
    let observed = if online > 0 { Some(received) } else { affirmed(record)? };
    let listed = counted(record.count("url_count")?.unwrap_or_default().max(urls.len() as u64), "listed malware URL");
    let reason = format!("the file was delivered by {listed}, {online} of them online");
    Ok(Some(found(Disposition::Malicious, 0.95, reason, observed)))
}

/// The finding with all that the answer tells beside the claim.
fn described(mut finding: Finding, record: &Object<'_>, form: Form) -> Finding {
    finding.facts = facts(record);
    finding.tags = tags(record);
    finding.relations = relations(record, form);
    let page = record.text("urlhaus_reference").ok().flatten();
    finding.permalink = page.filter(|page| page.starts_with("https://urlhaus.abuse.ch/")).map(str::to_owned);
    finding
}

fn facts(record: &Object<'_>) -> Vec<Fact> {
    let mut facts = record.facts(&[
        ("url_status", "url_status"),
        ("threat", "threat"),
        ("host", "host"),
        ("url_count", "url_count"),
        ("reporter", "reporter"),
        ("signature", "malware_family"),
        ("file_type", "file_type"),
        ("file_size", "size"),
        ("md5_hash", "md5"),
        ("sha256_hash", "sha256"),
    ]);
    facts.extend(record.time_facts(&[
        ("date_added", "first_seen"),
        ("firstseen", "first_seen"),
        ("last_online", "last_online"),
        ("lastseen", "last_seen"),
    ]));
    if let Ok(Some(blacklists)) = record.object("blacklists") {
        facts.extend(blacklists.facts(&[("spamhaus_dbl", "spamhaus_dbl"), ("surbl", "surbl")]));
    }
    let urls = record.objects("urls").ok().flatten();
    let online = |urls: Vec<Object<'_>>| urls.iter().filter(|url| matches!(is_online(url), Ok(true))).count() as u64;
    facts.extend(urls.map(|urls| Fact::new("urls_online", online(urls))));
    facts
}

/// The labels of the record and of its URLs, each once, in the order in which they come.
fn tags(record: &Object<'_>) -> Vec<String> {
    let mut tags = record.texts("tags");
    for url in record.objects("urls").ok().flatten().unwrap_or_default() {
        for tag in url.texts("tags") {
            if tags.len() < json::LIST_LIMIT && !tags.contains(&tag) {
                tags.push(tag);
            }
        }
    }
    tags
}

/// The URLs of a host or of a file, and the files of a URL; what is no indicator is left out.
fn relations(record: &Object<'_>, form: Form) -> Vec<Relation> {
    let (list, member, wanted, word) = match form {
        Form::Url => ("payloads", "response_sha256", IndicatorType::File, "delivers_file"),
        Form::Ipv4 | Form::Ipv6 | Form::Domain => ("urls", "url", IndicatorType::Url, "hosts_url"),
        Form::Md5 | Form::Sha1 | Form::Sha256 => ("urls", "url", IndicatorType::Url, "delivered_by_url"),
    };
    let items = record.objects(list).ok().flatten().unwrap_or_default();
    let others = items.iter().filter_map(|item| {
        let parsed = Indicator::parse_as(item.text(member).ok()??, wanted).ok()?;
        Some(Relation { relation: word.to_owned(), indicator: parsed.indicator })
    });
    others.take(json::LIST_LIMIT).collect()
}
