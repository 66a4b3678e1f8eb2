//! GreyNoise: who scans the whole internet, and which addresses are common business services. The tier decides which of
//! its two services is asked. What the plan hides is not taken for absent.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use super::http::{self, Api};
use super::json::{self, Object};
use crate::finding::{Disposition, Fact, Finding, Reliability, SourceError, SourceErrorKind, Strength};
use crate::indicator::Form;
use crate::source::{
    About, Answer, BuildError, CredentialNeed, CredentialPlace, Lookup, Probe, Question, QuotaPer, Reading, Source,
    SourceView, check_status, unsupported,
};

const V3: &str = "v3";

pub(super) static ABOUT: LazyLock<About> = LazyLock::new(|| {
    About {
    kind: "greynoise".into(),
    title: "GreyNoise".into(),
    summary: "Knows which addresses scan the whole internet, with what intent, and which are common services.".into(),
    home_page: "https://www.greynoise.io/".into(),
    terms: "The community service is for individuals; automation and commercial use need a plan. See https://www.greynoise.io/terms.".into(),
    forms: vec![Form::Ipv4],
    credential: CredentialNeed::Optional,
    credential_env: Some("GREYNOISE_API_KEY".into()),
    base_url: Some("https://api.greynoise.io/".into()),
    tiers: vec![
        http::tier("community", "free, with or without key", &[(QuotaPer::Day, 100)]),
        http::tier(V3, "paid; the key's plan sets the quota", &[]),
    ],
    reliability: Reliability::B,
    cache_ttl: http::hours(12, 12),
    rating_revision: 2,
    ..http::about()
}
});

pub(super) fn build(view: &SourceView<'_>) -> Result<Arc<dyn Source>, BuildError> {
    let api = Api::new(view, CredentialPlace::Header("key".into()))?;
    Ok(Arc::new(GreyNoise { api, is_v3: view.tier() == V3 }))
}

struct GreyNoise {
    api: Api,
    is_v3: bool,
}

impl Source for GreyNoise {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn ask(&self, lookup: &Lookup) -> Result<Question, SourceError> {
        match lookup.indicator.form() {
            Form::Ipv4 => Ok(self.question(lookup.indicator.value())),
            form @ (Form::Ipv6 | Form::Domain | Form::Url | Form::Md5 | Form::Sha1 | Form::Sha256) => {
                Err(unsupported(form))
            }
        }
    }

    fn read(&self, lookup: &Lookup, answers: &[Answer]) -> Result<Reading, SourceError> {
        let answer = http::only(answers)?;
        let finding = if self.is_v3 { read_v3(answer)? } else { read_community(answer)? };
        let Some(mut finding) = finding else { return Ok(Reading::NoRecord) };
        finding.permalink = Some(format!("https://viz.greynoise.io/ip/{}", lookup.indicator.value()));
        Ok(Reading::Found(finding))
    }

    fn check(&self, answer: &Answer) -> Result<(), SourceError> {
        check_status(answer).map_err(|error| {
            let silent = error.kind == SourceErrorKind::QuotaExhausted && error.retry_after.is_none();
            if silent && has_long_limit(answer) { error.retry_after(until_next_day(answer)) } else { error }
        })
    }

    fn probe(&self) -> Vec<Question> {
        // The service's own ping costs no look-up, but answers only with a key.
        vec![if self.api.has_credential { self.api.get(&["ping"]) } else { self.question("8.8.8.8") }]
    }

    fn read_probe(&self, answers: &[Result<Answer, SourceError>]) -> Probe {
        http::read_probe(answers, |answer| self.check(answer), self.api.has_credential)
    }
}

impl GreyNoise {
    fn question(&self, ip: &str) -> Question {
        if self.is_v3 { self.api.get(&[V3, "ip", ip]) } else { self.api.get(&["v3", "community", ip]) }
    }
}

/// Whether the refusal says, in its limit or its message, that the limit is one of a day or longer.
fn has_long_limit(answer: &Answer) -> bool {
    let value = answer.http().and_then(|(_, body)| json::parse(body)).unwrap_or_default();
    let Ok(refusal) = Object::root(&value) else { return false };
    let texts = ["rate-limit", "message"].map(|member| refusal.text(member).ok().flatten().unwrap_or_default());
    let says = texts.join(" ").to_ascii_lowercase();
    ["day", "daily", "week", "month"].iter().any(|period| says.contains(period))
}

/// The time until the next day of UTC. When a longer window turns the source does not say, so it is asked once a day.
fn until_next_day(answer: &Answer) -> Option<Duration> {
    let second = answer.received.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs() % 86_400;
    Some(Duration::from_secs(86_400 - second))
}

fn read_community(answer: &Answer) -> Result<Option<Finding>, SourceError> {
    if http::status(answer)? == 404 {
        return http::not_found(answer, "ip").map(|_| None);
    }
    let value = http::document(answer)?;
    let record = Object::root(&value)?;
    let seen = record.time("last_seen")?;
    let class = class(&record)?;
    let (mut finding, observed) = match class {
        Some(Class::Malicious | Class::Suspicious) => (scanner(class, false), seen),
        // A scanner is one when it was last seen; a business service is one now.
        Some(Class::Benign | Class::Unknown) | None if record.need_flag("riot")? => {
            let reason = "belongs to a common business service (RIOT)";
            (Finding::new(Disposition::Benign, Some(Strength::FULL), reason), Some(answer.received))
        }
        Some(Class::Benign) => (scanner(class, false), seen),
        Some(Class::Unknown) => (unknown("scans the internet, intent not known", "scanner"), seen),
        None => return Err(record.missing("classification")),
    };
    finding.observed_time = observed;
    finding.facts = record.facts(&[
        ("classification", "classification"),
        ("noise", "noise"),
        ("riot", "business_service"),
        ("name", "name"),
    ]);
    finding.facts.extend(seen.map(|time| Fact::new("last_seen", time)));
    Ok(Some(finding))
}

fn read_v3(answer: &Answer) -> Result<Option<Finding>, SourceError> {
    let body = if http::status(answer)? == 404 { answer.http()?.1 } else { http::success(answer)? };
    let value = json::parse(body)?;
    let root = Object::root(&value)?;
    let scanner_found = found(&root, SCANNER)?;
    let service_found = found(&root, SERVICE)?;
    if scanner_found == Some(false) && service_found == Some(false) {
        return Ok(None);
    }
    let scanner = root.object(SCANNER)?.filter(|_| scanner_found == Some(true));
    let service = root.object(SERVICE)?.filter(|_| service_found == Some(true));
    let mut finding = if scanner.is_none() && service.is_none() {
        Finding::new(Disposition::Unknown, None, "hidden by the plan of the key")
    } else {
        rate_v3(scanner.as_ref(), service.as_ref(), answer.received)?
    };
    finding.facts.extend(scanner.as_ref().map(scanner_facts).unwrap_or_default());
    finding.facts.extend(service.as_ref().map(service_facts).unwrap_or_default());
    finding.tags.extend(scanner.as_ref().map(tag_names).unwrap_or_default());
    Ok(Some(finding))
}

const SCANNER: &str = "internet_scanner_intelligence";
const SERVICE: &str = "business_service_intelligence";

/// Whether one of the two parts knows the address; `None` where the plan hides it.
fn found(root: &Object<'_>, part: &str) -> Result<Option<bool>, SourceError> {
    if root.is_null(part) {
        return Ok(None);
    }
    let part = root.need_object(part)?;
    if part.is_null("found") { Ok(None) } else { part.need_flag("found").map(Some) }
}

fn rate_v3(
    scanner_part: Option<&Object<'_>>,
    service: Option<&Object<'_>>,
    received: SystemTime,
) -> Result<Finding, SourceError> {
    let class = scanner_part.map(class).transpose()?.flatten();
    let spoofable = scanner_part.map(|part| part.flag("spoofable")).transpose()?.flatten().unwrap_or(false);
    let seen = scanner_part.map(last_seen).transpose()?.flatten();
    let bad = matches!(class, Some(Class::Malicious | Class::Suspicious));
    let level = if bad { None } else { service.map(trust_level).transpose()? };
    let (mut finding, observed) = match level {
        Some(1) => {
            let reason = "a business service of trust level 1 (reasonably ignored)";
            (Finding::new(Disposition::Benign, Some(Strength::FULL), reason), Some(received))
        }
        _ if bad || class == Some(Class::Benign) => (scanner(class, spoofable), seen),
        Some(_) => (unknown("a business service of trust level 2 (commonly seen)", "common service"), Some(received)),
        None if class == Some(Class::Unknown) => (unknown("scans the internet, intent not known", "scanner"), seen),
        None => return Err(SourceError::malformed(format!("member {SCANNER}.classification is missing"))),
    };
    finding.observed_time = observed;
    Ok(finding)
}

/// The trust level of a business service, 1 or 2, which comes as a text or as a number.
fn trust_level(service: &Object<'_>) -> Result<u64, SourceError> {
    match service.count("trust_level")? {
        Some(level @ (1 | 2)) => Ok(level),
        Some(_) => Err(service.unreadable("trust_level", "1 or 2")),
        None => Err(service.missing("trust_level")),
    }
}

fn last_seen(scanner: &Object<'_>) -> Result<Option<SystemTime>, SourceError> {
    Ok(scanner.time("last_seen_timestamp")?.or(scanner.time("last_seen")?))
}

/// The source's own classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Malicious,
    Suspicious,
    Benign,
    Unknown,
}

fn class(record: &Object<'_>) -> Result<Option<Class>, SourceError> {
    let Some(word) = record.text("classification")? else { return Ok(None) };
    match word.to_ascii_lowercase().as_str() {
        "malicious" => Ok(Some(Class::Malicious)),
        "suspicious" => Ok(Some(Class::Suspicious)),
        "benign" => Ok(Some(Class::Benign)),
        "unknown" => Ok(Some(Class::Unknown)),
        _ => Err(record.unreadable("classification", "a class that we know")),
    }
}

/// The finding on a scanner; one whose address can be forged is half the evidence of harm.
fn scanner(class: Option<Class>, spoofable: bool) -> Finding {
    let (claim, word) = match class {
        Some(Class::Malicious) => (Disposition::Malicious, "malicious"),
        Some(Class::Suspicious) => (Disposition::Suspicious, "suspicious"),
        Some(Class::Benign) => (Disposition::Benign, "benign"),
        Some(Class::Unknown) | None => (Disposition::Unknown, "unknown"),
    };
    let forged = spoofable && claim >= Disposition::Suspicious;
    let strength = if forged { Strength::clamped(0.5) } else { Strength::FULL };
    let note = if forged { ", but the address may be forged (spoofable)" } else { "" };
    Finding::new(claim, Some(strength), format!("classified as {word} scanner{note}"))
}

fn unknown(reason: &str, tag: &str) -> Finding {
    let mut finding = Finding::new(Disposition::Unknown, None, reason);
    finding.tags.push(tag.to_owned());
    finding
}

fn scanner_facts(part: &Object<'_>) -> Vec<Fact> {
    let mut facts = part.facts(&[
        ("classification", "classification"),
        ("spoofable", "spoofable"),
        ("actor", "actor"),
        ("bot", "bot"),
        ("vpn", "vpn"),
        ("vpn_service", "vpn_service"),
        ("tor", "tor"),
    ]);
    facts.extend(last_seen(part).ok().flatten().map(|time| Fact::new("last_seen", time)));
    if let Ok(Some(metadata)) = part.object("metadata") {
        facts.extend(metadata.facts(&[
            ("asn", "as_number"),
            ("organization", "as_owner"),
            ("source_country_code", "country"),
            ("category", "usage"),
            ("rdns", "host_name"),
        ]));
    }
    facts
}

fn service_facts(part: &Object<'_>) -> Vec<Fact> {
    part.facts(&[("name", "business_service"), ("category", "service_category"), ("trust_level", "trust_level")])
}

fn tag_names(part: &Object<'_>) -> Vec<String> {
    let tags = part.objects("tags").ok().flatten().unwrap_or_default();
    let names = tags.iter().filter_map(|tag| tag.text("name").ok().flatten());
    names.take(json::LIST_LIMIT).map(str::to_owned).collect()
}
