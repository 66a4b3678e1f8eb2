//! GreyNoise: who scans the whole internet, and which addresses are common business services. The tier decides which of
//! its two services is asked. What the plan hides is not taken for absent.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use super::http::{self, Api, JsonSource, ReadResult, found};
use super::json::Object;
use crate::finding::{Disposition, Fact, Finding, Reliability, SourceError};
use crate::indicator::{Form, Indicator};
use crate::source::{About, Answer, BuildResult, CredentialNeed, CredentialPlace, Question, QuotaPer, SourceView};

pub(super) static ABOUT: LazyLock<About> = LazyLock::new(|| About {
    kind: "greynoise".into(),
    title: "GreyNoise".into(),
    summary: "Knows which addresses scan the whole internet, with what intent, and which are common services.".into(),
    home_page: "https://www.greynoise.io/".into(),
    terms: "The community service is for individuals; automation and commercial use need a plan. \
            See https://www.greynoise.io/terms."
        .into(),
    forms: vec![Form::Ipv4],
    credential: CredentialNeed::Optional,
    credential_env: Some("GREYNOISE_API_KEY".into()),
    base_url: http::base_url("https://api.greynoise.io/"),
    tiers: vec![
        http::tier("community", "free, with or without key", &[(QuotaPer::Day, 100)]),
        http::tier("v3", "paid; the key's plan sets the quota", &[]),
    ],
    reliability: Reliability::B,
    cache_ttl: http::hours(12, 12),
    rating_revision: 2,
    ..http::about()
});

pub(super) fn build(view: &SourceView<'_>) -> BuildResult {
    http::source(&ABOUT, view, CredentialPlace::Header("key".into()), GreyNoise { is_v3: view.tier() == "v3" })
}

struct GreyNoise {
    is_v3: bool,
}

impl JsonSource for GreyNoise {
    const PAGE: Option<&'static str> = Some("https://viz.greynoise.io/ip/");

    fn question(&self, api: &Api, _: Form, ip: &str) -> Question {
        if self.is_v3 { api.get(&["v3", "ip", ip]) } else { api.get(&["v3", "community", ip]) }
    }

    fn read(&self, _: &Indicator, record: &Object<'_>, received: SystemTime) -> ReadResult {
        if self.is_v3 { read_v3(record, received) } else { read_community(record, received) }
    }

    fn read_not_found(&self, _: &Indicator, record: &Object<'_>, received: SystemTime) -> ReadResult {
        if self.is_v3 { read_v3(record, received) } else { http::no_record(record, "ip") }
    }

    /// When a limit longer than a day is renewed the source does not say, so it is asked once a day.
    fn quota_renewal(&self, answer: &Answer) -> Option<Duration> {
        let texts = ["rate-limit", "message"].map(|member| http::text_of(answer, member).unwrap_or_default());
        let says = texts.join(" ").to_ascii_lowercase();
        let is_long = ["day", "daily", "week", "month"].iter().any(|period| says.contains(period));
        if is_long { http::until_next_day(answer.received) } else { None }
    }

    /// The service's own ping costs no look-up, but answers only with a key.
    fn probe(&self, api: &Api) -> Option<Question> {
        api.has_credential.then(|| api.get(&["ping"]))
    }
}

fn read_community(record: &Object<'_>, received: SystemTime) -> ReadResult {
    let riot = record.need_flag("riot");
    let service = riot.map(|riot| riot.then_some((Disposition::Benign, "belongs to a common business service (RIOT)")));
    let mut finding = rate(record, service, received)?;
    finding.facts.extend(record.facts(&["classification", "noise", "name"], &[("riot", "business_service")], &[]));
    Ok(Some(finding))
}

fn read_v3(record: &Object<'_>, received: SystemTime) -> ReadResult {
    let known = |part: &str| record.need_flag_or_null(&format!("{part}.found"));
    let (scans, serves) = (known(SCANNER)?, known(SERVICE)?);
    if (scans, serves) == (Some(false), Some(false)) {
        return Ok(None);
    }
    if scans != Some(true) && serves != Some(true) {
        return Ok(Some(found(Disposition::Unknown, 0.0, "hidden by the plan of the key")));
    }
    let scanner = if scans == Some(true) { record.need_object(SCANNER)? } else { Object::empty() };
    let service = if serves == Some(true) { Some(record.need_object(SERVICE)?) } else { None };
    let mut finding = rate(&scanner, service.as_ref().map(trust).transpose(), received)?;
    finding.facts.extend(scanner.facts(SCANNER_FACTS, RENAMED_SCANNER_FACTS, &[]));
    finding.facts.extend(service.iter().flat_map(|part| part.facts(&["trust_level"], SERVICE_FACTS, &[])));
    finding.tags.extend(scanner.texts(&["tags.name"]));
    Ok(Some(finding))
}

const SCANNER: &str = "internet_scanner_intelligence";
const SERVICE: &str = "business_service_intelligence";
const SCANNER_FACTS: &[&str] = &["classification", "spoofable", "actor", "bot", "vpn", "vpn_service", "tor"];
const RENAMED_SCANNER_FACTS: &[(&str, &str)] = &[
    ("metadata.asn", "as_number"),
    ("metadata.organization", "as_owner"),
    ("metadata.source_country_code", "country"),
    ("metadata.category", "usage"),
    ("metadata.rdns", "host_name"),
];
const SERVICE_FACTS: &[(&str, &str)] = &[("name", "business_service"), ("category", "service_category")];

/// What belonging to a business service claims, and why. The level comes as a text or as a number.
fn trust(service: &Object<'_>) -> Result<(Disposition, &'static str), SourceError> {
    match service.need_count("trust_level")? {
        1 => Ok((Disposition::Benign, "a business service of trust level 1 (reasonably ignored)")),
        2 => Ok((Disposition::Unknown, "a business service of trust level 2 (commonly seen)")),
        _ => Err(service.unreadable("trust_level", "1 or 2")),
    }
}

/// The finding on a scanner and on what belonging to a business service claims. The service decides unless the scanner's
/// class is worse. A scanner is one when it was last seen, a business service is one now.
fn rate(
    scanner: &Object<'_>,
    service: Result<Option<(Disposition, &str)>, SourceError>,
    received: SystemTime,
) -> Result<Finding, SourceError> {
    let class: Option<Disposition> = scanner.parsed("classification", "a class that we know")?;
    let seen = scanner.first_time(&["last_seen_timestamp", "last_seen"])?;
    // Beside evidence of harm a service counts for nothing, whatever is wrong with it.
    let service = if class < Some(Disposition::Suspicious) { service? } else { None };
    let by_service = service.filter(|(claim, _)| Some(*claim) >= class);
    let claim = by_service.map(|(claim, _)| claim).or(class).ok_or_else(|| scanner.missing("classification"))?;
    let is_forgeable = scanner.flag("spoofable")?.unwrap_or(false) && claim >= Disposition::Suspicious;
    let (strength, reason) = match by_service {
        Some((_, reason)) => (0.85, reason.to_owned()),
        None if claim == Disposition::Unknown => (0.0, "scans the internet, intent not known".to_owned()),
        // An address that can be forged is half the evidence of harm.
        None if is_forgeable => {
            (0.5, format!("classified as {claim} scanner, but the address may be forged (spoofable)"))
        }
        None => (0.85, format!("classified as {claim} scanner")),
    };
    let mut finding = found(claim, strength, reason);
    finding.observed_time = if by_service.is_some() { Some(received) } else { seen };
    if claim == Disposition::Unknown {
        finding.tags.push(if by_service.is_some() { "common service" } else { "scanner" }.to_owned());
    }
    finding.facts.extend(seen.map(|time| Fact::new("last_seen", time)));
    Ok(finding)
}
