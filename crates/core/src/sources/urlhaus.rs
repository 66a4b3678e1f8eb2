//! URLhaus: addresses from which malware is spread, the hosts that serve them and the files that they deliver. What is
//! offline was bad, and says so for as long as it is fresh.

use std::sync::LazyLock;
use std::time::SystemTime;

use super::http::{self, Api, JsonSource, ReadResult, Refusal, Sign, found};
use super::json::Object;
use crate::finding::SourceErrorKind::{BadQuestion, QuotaExhausted, Unauthorized};
use crate::finding::{Disposition, Fact, Finding, RelationName, Reliability, SourceError, Strength, counted};
use crate::indicator::{Form, Indicator, IndicatorType};
use crate::source::{About, BuildResult, CredentialPlace, HttpMethod, OptionDef, Question, QuotaPer, SourceView};

const RECENT_DAYS: OptionDef<u64> = OptionDef::threshold(
    "recent_days",
    1,
    3_650,
    30,
    "An offline URL is malicious for this many days, then suspicious.",
);

pub(super) static ABOUT: LazyLock<About> = LazyLock::new(|| About {
    kind: "urlhaus".into(),
    title: "URLhaus".into(),
    summary: "Lists URLs that spread malware, with their hosts and the files that they deliver.".into(),
    home_page: "https://urlhaus.abuse.ch/".into(),
    terms: "Free key, fair use; commercial use by agreement. See https://urlhaus.abuse.ch/api/.".into(),
    forms: vec![Form::Ipv4, Form::Ipv6, Form::Domain, Form::Url, Form::Md5, Form::Sha256],
    credential_env: Some("URLHAUS_AUTH_KEY".into()),
    base_url: http::base_url("https://urlhaus-api.abuse.ch/v1/"),
    tiers: vec![http::tier("free", "with a free key; the quota is courtesy", &[(QuotaPer::Minute, 60)])],
    reliability: Reliability::A,
    cache_ttl: http::hours(1, 1),
    options: vec![RECENT_DAYS.spec()],
    rating_revision: 2,
    greatest_strength: Strength::clamped(0.95),
    ..http::about()
});

pub(super) fn build(view: &SourceView<'_>) -> BuildResult {
    let source = UrlHaus { recent_days: view.get(&RECENT_DAYS)? };
    http::source(&ABOUT, view, CredentialPlace::Header("auth-key".into()), source)
}

struct UrlHaus {
    recent_days: u64,
}

impl JsonSource for UrlHaus {
    const REFUSALS: &'static [Refusal] = &[
        (Sign::Text("query_status", "ratelimited"), QuotaExhausted, "the source says: ratelimited"),
        (Sign::Status(402), QuotaExhausted, "HTTP status 402"),
        (Sign::Text("query_status", "unknown_auth_key"), Unauthorized, "the source does not know the key"),
        (Sign::Text("query_status", "unauthorized"), Unauthorized, "the source does not know the key"),
        (Sign::Text("query_status", "http_post_expected"), BadQuestion, "the source wants a POST"),
        (Sign::Prefix("query_status", "invalid_"), BadQuestion, "the source calls the value invalid"),
    ];

    fn question(&self, api: &Api, form: Form, value: &str) -> Question {
        let (call, field) = match form {
            Form::Ipv4 | Form::Ipv6 | Form::Domain => ("host", "host".to_owned()),
            Form::Url => ("url", "url".to_owned()),
            Form::Md5 | Form::Sha1 | Form::Sha256 => ("payload", format!("{}_hash", form.as_str())),
        };
        // The service answers only with the slash at the end.
        api.ask(api.address(&[call, ""]), HttpMethod::PostForm(vec![(field, value.to_owned())]))
    }

    fn read(&self, indicator: &Indicator, record: &Object<'_>, received: SystemTime) -> ReadResult {
        if record.need_word("query_status", &["ok", "no_results"])? == "no_results" {
            return Ok(None);
        }
        let wanted = indicator.indicator_type();
        let is_url = wanted == IndicatorType::Url;
        let urls = if is_url { vec![*record] } else { record.objects("urls")?.unwrap_or_default() };
        let (mut online, mut affirmed) = (0, record.first_time(AFFIRMED)?);
        for url in &urls {
            online += u64::from(url.need_word("url_status", &["online", "offline", "unknown"])? == "online");
            affirmed = affirmed.max(url.first_time(AFFIRMED)?);
        }
        // An answer may count URLs that it does not show.
        let listed = record.count("url_count")?.unwrap_or_default().max(urls.len() as u64);
        let counts = format!("{}, {online} of them online", counted(listed, "listed malware URL"));
        let finding = match wanted {
            IndicatorType::Url if online > 0 => {
                Some(found(Disposition::Malicious, 0.95, "the URL is online and spreads malware"))
            }
            IndicatorType::Url => Some(rate_offline_url(record, self.recent_days, received)?),
            IndicatorType::Ip | IndicatorType::Domain => rate_host(record, listed, online, &counts)?,
            IndicatorType::File => {
                let is_known = record.text("md5_hash")?.or(record.text("sha256_hash")?).is_some();
                let reason = format!("the file was delivered by {counts}");
                is_known.then(|| found(Disposition::Malicious, 0.95, reason))
            }
        };
        let Some(mut finding) = finding else { return Ok(None) };
        // What is online the source affirms now.
        finding.observed_time = if online > 0 { Some(received) } else { affirmed };
        finding.facts = record.facts(SAME_FACTS, RENAMED_FACTS, TIMES);
        finding.facts.extend((!is_url).then(|| Fact::new("urls_online", online)));
        finding.tags = record.texts(&["tags", "urls.tags"]);
        let relation = if wanted == IndicatorType::File { RelationName::HostedOn } else { RelationName::Hosts };
        finding.relations = record.relations("urls.url", IndicatorType::Url, relation);
        finding.relations.extend(record.relations(
            "payloads.response_sha256",
            IndicatorType::File,
            RelationName::Hosts,
        ));
        finding.permalink = record.link("urlhaus_reference", "https://urlhaus.abuse.ch/");
        Ok(Some(finding))
    }
}

fn rate_offline_url(record: &Object<'_>, recent: u64, received: SystemTime) -> Result<Finding, SourceError> {
    let last = record.first_time(&["last_online", "date_added"])?.ok_or_else(|| record.missing("date_added"))?;
    // A date after the answer is a clock that differs: as fresh as can be.
    let days = received.duration_since(last).unwrap_or_default().as_secs() / 86_400;
    let claim = if days < recent { Disposition::Malicious } else { Disposition::Suspicious };
    let days = counted(days, "day");
    let reason = format!("the URL spread malware, last known {days} before the answer (recent: under {recent})");
    Ok(found(claim, 0.85, reason))
}

/// A host is not its worst file: the edge of a network that delivers for others has bad URLs too.
fn rate_host(record: &Object<'_>, listed: u64, online: u64, counts: &str) -> ReadResult {
    if record.count("url_count")? != Some(0) && record.objects("urls")?.is_none() {
        return Err(record.missing("urls"));
    }
    // The words by which Spamhaus DBL says that a legitimate host is being abused.
    let abuse = record.text("blacklists.spamhaus_dbl")?.filter(|word| word.to_ascii_lowercase().starts_with("abused_"));
    if let Some(word) = abuse {
        let reason = format!("the host has {counts}, but Spamhaus DBL calls it an abused legitimate host ({word})");
        return Ok(Some(found(Disposition::Suspicious, 0.5, reason)));
    }
    let claim = if online > 0 { Disposition::Malicious } else { Disposition::Suspicious };
    Ok((listed > 0).then(|| found(claim, 0.6, format!("the host has {counts}"))))
}

/// The moments at which the source affirmed its record, the best first.
const AFFIRMED: &[&str] = &["last_online", "lastseen", "date_added", "firstseen"];

const SAME_FACTS: &[&str] = &["url_status", "threat", "host", "url_count", "reporter", "file_type"];
const RENAMED_FACTS: &[(&str, &str)] = &[
    ("signature", "malware_family"),
    ("file_size", "size"),
    ("md5_hash", "md5"),
    ("sha256_hash", "sha256"),
    ("blacklists.spamhaus_dbl", "spamhaus_dbl"),
    ("blacklists.surbl", "surbl"),
];
const TIMES: &[(&str, &str)] = &[
    ("date_added", "first_seen"),
    ("firstseen", "first_seen"),
    ("last_online", "last_online"),
    ("lastseen", "last_seen"),
];
