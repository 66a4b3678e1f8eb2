//! VirusTotal: what some ninety engines say of an indicator. Rates the basic report by counts and by preferred vendors; few
//! or no detections are no evidence of innocence.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use strum::VariantArray;

use super::http;
use super::json::{self, Object};
use crate::finding::{Disposition, Fact, Finding, Reliability, SourceError, SourceErrorKind, Strength};
use crate::indicator::{Form, IndicatorType, Tlp};
use crate::source::{
    About, Answer, CacheTtl, CredentialNeed, CredentialPlace, Lookup, OptionSpec, OptionType, Probe, Question,
    QuotaPer, QuotaWindow, Reading, Source, SourceView, Tier, TransportKind, check_status,
};

/// The header that carries the key.
const KEY_HEADER: &str = "x-apikey";

/// The daily calls of a free key.
const FREE_PER_DAY: u64 = 500;

/// The kind `virustotal`.
pub(super) struct VirusTotal {
    about: About,
}

impl VirusTotal {
    /// The kind with its description.
    pub(super) fn new() -> Self {
        Self { about: about() }
    }
}

impl Source for VirusTotal {
    fn about(&self) -> &About {
        &self.about
    }

    fn ask(&self, lookup: &Lookup, view: SourceView<'_>) -> Result<Question, SourceError> {
        let (form, value) = http::subject(lookup);
        let address = match form.indicator_type() {
            IndicatorType::Ip => http::address(view, &["ip_addresses", value]),
            IndicatorType::Domain => http::address(view, &["domains", value]),
            IndicatorType::Url => http::address(view, &["urls", &url_id(value)]),
            IndicatorType::File => http::address(view, &["files", value]),
        };
        Ok(http::get(address?, CredentialPlace::Header(KEY_HEADER.into())))
    }

    fn read(&self, lookup: &Lookup, view: SourceView<'_>, answers: &[Answer]) -> Result<Reading, SourceError> {
        let answer = http::only(answers)?;
        if http::status(answer)? == 404 {
            return not_found(answer);
        }
        let value = json::parse(http::success(answer)?)?;
        let data = Object::root(&value)?.need_object("data")?;
        let attributes = data.need_object("attributes")?;
        let wanted = lookup.indicator.indicator_type();
        let counts = Counts::read(&attributes.need_object("last_analysis_stats")?)?;
        let engines = malicious_engines(&attributes);
        let preferred = preferred_saying_malicious(view, &attributes, &engines)?;
        let mut finding = rate(&counts, preferred.as_deref(), &Thresholds::of(view, wanted));
        finding.observed_time = match attributes.time("last_analysis_date")? {
            Some(time) => Some(time),
            None => attributes.time("last_modification_date")?,
        }
        .or(Some(answer.received));
        finding.facts = facts(&attributes, &counts, &engines, preferred.unwrap_or_default());
        finding.tags = tags(&attributes);
        finding.permalink = Some(permalink(lookup, &data));
        Ok(Reading::Found(finding))
    }

    fn check(&self, answer: &Answer) -> Result<(), SourceError> {
        check_status(answer).map_err(|error| {
            let code = answer.http().ok().and_then(|(_, body)| known_code(body));
            explained(error, code)
        })
    }

    fn probe(&self, view: SourceView<'_>) -> Vec<Question> {
        let place = CredentialPlace::HeaderAndPath(KEY_HEADER.into());
        http::probe_with(http::address(view, &["users", "{credential}"]).map(|url| http::get(url, place)))
    }

    fn read_probe(&self, _access: SourceView<'_>, answers: &[Result<Answer, SourceError>]) -> Probe {
        let mut probe = http::probe_result(answers, |answer| self.check(answer), true);
        let Some(Ok(answer)) = answers.first() else { return probe };
        if let (true, Ok(body)) = (probe.connectivity.is_ok(), http::success(answer)) {
            return with_user(probe, body);
        }
        if http::status(answer) == Ok(404) && not_found(answer).is_ok() {
            probe.connectivity = Ok(());
            probe.credential_accepted = Some(false);
            "the source knows no user of this key".clone_into(&mut probe.detail);
        }
        probe
    }
}

/// The name under which the service keeps a URL.
fn url_id(url: &str) -> String {
    URL_SAFE_NO_PAD.encode(url)
}

/// A 404 is an answer only in the service's own words; a wrong base address gives one too.
fn not_found(answer: &Answer) -> Result<Reading, SourceError> {
    let (_, body) = answer.http()?;
    match known_code(body) {
        Some("NotFoundError") => Ok(Reading::NoRecord),
        Some(_) | None => Err(SourceError::malformed("HTTP status 404 without the code NotFoundError")),
    }
}

/// The code of an error body. Only codes that the service documents: whatever else stands there is not passed on.
fn known_code(body: &[u8]) -> Option<&'static str> {
    const CODES: [&str; 18] = [
        "AlreadyExistsError",
        "AuthenticationRequiredError",
        "BadRequestError",
        "DeadlineExceededError",
        "FailedDependencyError",
        "ForbiddenError",
        "InvalidArgumentError",
        "NotAvailableYet",
        "NotFoundError",
        "QuotaExceededError",
        "TooManyRequestsError",
        "TransientError",
        "UnselectiveContentQueryError",
        "UnsupportedContentQueryError",
        "UnauthorizedError",
        "UserNotActiveError",
        "WrongCredentialsError",
        "InternalError",
    ];
    let value = json::parse(body).ok()?;
    let error = Object::root(&value).ok()?.object("error").ok()??;
    let code = error.text("code").ok()??;
    CODES.into_iter().find(|known| known.eq_ignore_ascii_case(code))
}

/// The refusal with the service's own code, and with the end of the minute where it names no time.
fn explained(error: SourceError, code: Option<&'static str>) -> SourceError {
    let silent = error.kind == SourceErrorKind::QuotaExhausted && error.retry_after.is_none();
    let delay = if silent { Some(Duration::from_secs(60)) } else { error.retry_after };
    match code {
        Some(code) => SourceError::new(error.kind, format!("{}: {code}", error.detail)).retry_after(delay),
        None => error.retry_after(delay),
    }
}

/// How many engines say what.
struct Counts {
    malicious: u64,
    suspicious: u64,
    harmless: u64,
    undetected: u64,
}

impl Counts {
    fn read(stats: &Object<'_>) -> Result<Self, SourceError> {
        let count = |name| stats.count(name).map(Option::unwrap_or_default);
        Ok(Self {
            malicious: count("malicious")?,
            suspicious: count("suspicious")?,
            harmless: count("harmless")?,
            undetected: count("undetected")?,
        })
    }

    /// Engines that gave an opinion; those that failed, timed out or do not know the type have none.
    fn engines(&self) -> u64 {
        let sum = self.malicious.saturating_add(self.suspicious);
        sum.saturating_add(self.harmless).saturating_add(self.undetected)
    }
}

struct Thresholds {
    malicious: u64,
    suspicious: u64,
    preferred: u64,
}

impl Thresholds {
    fn of(view: SourceView<'_>, wanted: IndicatorType) -> Self {
        let read = |name: &str| u64::try_from(view.integer(name)).unwrap_or(0).max(1);
        Self {
            malicious: read(&format!("malicious_threshold_{}", wanted.as_str())),
            suspicious: read(&format!("suspicious_threshold_{}", wanted.as_str())),
            preferred: read("preferred_threshold"),
        }
    }
}

/// The rating of the counts. `preferred`: the preferred vendors that say malicious, `None` without such a list.
fn rate(counts: &Counts, preferred: Option<&[String]>, thresholds: &Thresholds) -> Finding {
    let (m, s, t) = (counts.malicious, counts.suspicious, thresholds.malicious);
    let vendors = preferred.map_or(0, |names| names.len() as u64);
    let by_vendors = preferred.is_some() && vendors >= thresholds.preferred;
    let of_engines = format!("of {} engines say", counts.engines());
    let vendor_reason = || format!("{vendors} preferred vendors say malicious (threshold {})", thresholds.preferred);
    if m >= t {
        let strength = if by_vendors { Strength::over(m, t).at_least(0.95) } else { Strength::over(m, t) };
        let reason = format!("{m} {of_engines} malicious (threshold {t})");
        let mut finding = Finding::new(Disposition::Malicious, Some(strength), reason);
        finding.reasons.extend(by_vendors.then(vendor_reason));
        return finding;
    }
    if by_vendors {
        return Finding::new(Disposition::Malicious, Some(Strength::clamped(0.95)), vendor_reason());
    }
    let both = m.saturating_add(s);
    let reason = format!("{both} {of_engines} malicious or suspicious (threshold {})", thresholds.suspicious);
    if both >= thresholds.suspicious {
        return Finding::new(Disposition::Suspicious, Some(Strength::FULL), reason);
    }
    Finding::new(Disposition::Unknown, None, format!("{reason}; few or none are no evidence of innocence"))
}

/// The engines that say malicious, by name.
fn malicious_engines(attributes: &Object<'_>) -> Vec<String> {
    let Ok(Some(results)) = attributes.object("last_analysis_results") else { return Vec::new() };
    let says = |result: &Object<'_>| matches!(result.text("category"), Ok(Some(category)) if category.eq_ignore_ascii_case("malicious"));
    results.entries().filter(|(_, result)| says(result)).map(|(name, _)| name.to_owned()).collect()
}

/// The preferred vendors that say malicious; `None` without such a list.
fn preferred_saying_malicious(
    view: SourceView<'_>,
    attributes: &Object<'_>,
    engines: &[String],
) -> Result<Option<Vec<String>>, SourceError> {
    let plain = |name: &str| name.trim().to_lowercase();
    let wanted: Vec<String> = view.list("preferred_vendors").iter().map(|name| plain(name)).collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    // A report without single results is known; one whose results cannot be read is not.
    if let Some(results) = attributes.object("last_analysis_results")? {
        for name in results.names().filter(|name| wanted.contains(&plain(name))) {
            results.need_object(name)?.need_text("category")?;
        }
    }
    let saying = engines.iter().filter(|engine| wanted.contains(&plain(engine)));
    Ok(Some(saying.cloned().collect()))
}

fn facts(attributes: &Object<'_>, counts: &Counts, engines: &[String], preferred: Vec<String>) -> Vec<Fact> {
    let mut facts = vec![
        Fact::new("malicious", counts.malicious),
        Fact::new("suspicious", counts.suspicious),
        Fact::new("harmless", counts.harmless),
        Fact::new("undetected", counts.undetected),
        Fact::new("engines", counts.engines()),
    ];
    if !engines.is_empty() {
        facts.push(Fact::new("engines_malicious", engines.to_vec()));
    }
    if !preferred.is_empty() {
        facts.push(Fact::new("preferred_malicious", preferred));
    }
    facts.extend(attributes.facts(&[
        ("reputation", "reputation"),
        ("country", "country"),
        ("asn", "as_number"),
        ("as_owner", "as_owner"),
        ("network", "network"),
        ("registrar", "registrar"),
        ("names", "names"),
        ("meaningful_name", "file_name"),
        ("size", "size"),
        ("type_description", "file_type"),
        ("type_tag", "file_type_tag"),
        ("md5", "md5"),
        ("sha1", "sha1"),
        ("sha256", "sha256"),
        ("title", "title"),
        ("last_final_url", "final_url"),
        ("last_http_response_code", "http_status"),
        ("threat_names", "threat_names"),
        ("times_submitted", "times_submitted"),
    ]));
    facts.extend(attributes.time_facts(&[
        ("last_analysis_date", "last_analysis"),
        ("last_modification_date", "last_modification"),
        ("first_submission_date", "first_seen"),
        ("creation_date", "created"),
    ]));
    facts.extend(ranks(attributes));
    facts.extend(threat_label(attributes));
    facts
}

/// The popularity ranks as `provider: rank`.
fn ranks(attributes: &Object<'_>) -> Option<Fact> {
    let ranks = attributes.object("popularity_ranks").ok()??;
    let rank = |(name, entry): (&str, Object<'_>)| Some(format!("{name}: {}", entry.count("rank").ok()??));
    let list: Vec<String> = ranks.entries().filter_map(rank).take(json::LIST_LIMIT).collect();
    (!list.is_empty()).then(|| Fact::new("popularity_ranks", list))
}

fn threat_label(attributes: &Object<'_>) -> Option<Fact> {
    let classification = attributes.object("popular_threat_classification").ok()??;
    classification.fact("suggested_threat_label", "malware_family")
}

fn tags(attributes: &Object<'_>) -> Vec<String> {
    attributes.texts("tags")
}

/// The page for people. The service's own identifier where it is a hash, since an identifier may be anything.
fn permalink(lookup: &Lookup, data: &Object<'_>) -> String {
    let value = lookup.indicator.value();
    match lookup.indicator.indicator_type() {
        IndicatorType::Ip => format!("https://www.virustotal.com/gui/ip-address/{value}"),
        IndicatorType::Domain => format!("https://www.virustotal.com/gui/domain/{value}"),
        IndicatorType::File => format!("https://www.virustotal.com/gui/file/{value}"),
        IndicatorType::Url => {
            let given = data.text("id").ok().flatten();
            let hash = given.filter(|id| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let id = hash.map_or_else(|| url_id(value), str::to_owned);
            format!("https://www.virustotal.com/gui/url/{id}")
        }
    }
}

/// The probe with what the user's record says of quotas and tier.
fn with_user(mut probe: Probe, body: &[u8]) -> Probe {
    let quotas = read_quotas(body).unwrap_or_default();
    let daily = quotas.iter().find(|quota| quota.window == "day");
    probe.tier = daily.map(|quota| if quota.allowed > FREE_PER_DAY { "premium" } else { "free" }.to_owned());
    for quota in quotas {
        let left = quota.allowed.saturating_sub(quota.used);
        probe.detail.push_str(&format!("; {} of {} left this {}", left, quota.allowed, quota.window));
        probe.quota_left.push((quota.window.to_owned(), left));
    }
    probe
}

struct Quota {
    window: &'static str,
    used: u64,
    allowed: u64,
}

fn read_quotas(body: &[u8]) -> Option<Vec<Quota>> {
    const WINDOWS: [(&str, &str); 3] =
        [("api_requests_hourly", "hour"), ("api_requests_daily", "day"), ("api_requests_monthly", "month")];
    let value = json::parse(body).ok()?;
    let attributes = Object::root(&value).ok()?.object("data").ok()??.object("attributes").ok()??;
    let quotas = attributes.object("quotas").ok()??;
    let read = |(member, window): (&str, &'static str)| {
        let quota = quotas.object(member).ok()??;
        Some(Quota { window, used: quota.count("used").ok()??, allowed: quota.count("allowed").ok()?? })
    };
    Some(WINDOWS.into_iter().filter_map(read).collect())
}

fn about() -> About {
    let window = |per, limit| QuotaWindow { per, limit };
    About {
        kind: "virustotal".into(),
        title: "VirusTotal".into(),
        summary: "Collects what some ninety anti-virus engines and block lists say of an indicator.".into(),
        home_page: "https://www.virustotal.com/".into(),
        terms: "A free key must not be used in commercial products or business workflows. See https://docs.virustotal.com/reference/public-vs-premium-api.".into(),
        forms: Form::VARIANTS.to_vec(),
        transport: TransportKind::Http,
        credential: CredentialNeed::Required,
        base_url: Some("https://www.virustotal.com/api/v3/".into()),
        tiers: vec![
            Tier {
                name: "free".into(),
                help: "public key".into(),
                quota: vec![
                    window(QuotaPer::Minute, 4),
                    window(QuotaPer::Day, FREE_PER_DAY),
                    window(QuotaPer::Month, 15_500),
                ],
            },
            Tier { name: "premium".into(), help: "paid; the plan sets the quota".into(), quota: Vec::new() },
        ],
        reliability: Reliability::B,
        max_tlp: Tlp::Amber,
        timeout: Duration::from_secs(5),
        cache_ttl: CacheTtl { finding: Duration::from_secs(86_400), no_record: Duration::from_secs(3_600) },
        family: None,
        options: options(),
        fetch_revision: 1,
        rating_revision: 1,
    }
}

fn options() -> Vec<OptionSpec> {
    let engines = || OptionType::Integer { min: 1, max: 1_000 };
    let mut options = Vec::new();
    for wanted in IndicatorType::VARIANTS.iter().map(|wanted| wanted.as_str()) {
        let help = format!("Malicious when this many engines say so of a look-up of type {wanted}.");
        options.push(OptionSpec::new(&format!("malicious_threshold_{wanted}"), engines(), 10_i64.into(), &help));
        let help = format!("Suspicious when this many engines say malicious or suspicious; type {wanted}.");
        options.push(OptionSpec::new(&format!("suspicious_threshold_{wanted}"), engines(), 5_i64.into(), &help));
    }
    let help = "Engines that you trust most, by name; letter case and outer space do not count.";
    options.push(OptionSpec::unset("preferred_vendors", OptionType::TextList, help));
    let help = "Malicious when this many preferred vendors say so, whatever the rest say.";
    options.push(OptionSpec::new("preferred_threshold", engines(), 5_i64.into(), help));
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_record_tells_the_tier_and_what_is_left_of_the_quota() {
        let user = |allowed: u64| {
            let quotas = serde_json::json!({
                "api_requests_daily": {"used": 88, "allowed": allowed},
                "api_requests_monthly": {"used": 88, "allowed": 15_500},
            });
            serde_json::to_vec(&serde_json::json!({"data": {"attributes": {"quotas": quotas}}})).expect("JSON")
        };
        let blank = || http::probe_result(&[], |_| Ok(()), true);
        let free = with_user(blank(), &user(500));
        assert_eq!(free.tier.as_deref(), Some("free"));
        assert_eq!(free.quota_left, [("day".to_owned(), 412), ("month".to_owned(), 15_412)]);
        assert_eq!(with_user(blank(), &user(20_000)).tier.as_deref(), Some("premium"));
        assert_eq!(with_user(blank(), b"{}").tier, None);
    }

    #[test]
    fn an_error_code_that_the_service_does_not_document_is_not_passed_on() {
        assert_eq!(known_code(br#"{"error": {"code": "s3cret"}}"#), None);
        assert_eq!(known_code(br#"{"error": {"code": "NotFoundError"}}"#), Some("NotFoundError"));
    }

    #[test]
    fn every_threshold_that_the_rating_reads_is_an_option() {
        let about = about();
        for wanted in IndicatorType::VARIANTS.iter().map(|wanted| wanted.as_str()) {
            for prefix in ["malicious_threshold", "suspicious_threshold"] {
                let name = format!("{prefix}_{wanted}");
                assert!(about.options.iter().any(|spec| spec.name == name), "no option {name}");
            }
        }
    }
}
