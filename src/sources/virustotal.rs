//! VirusTotal: what some ninety engines say of an indicator. Rates the basic report by counts and by preferred vendors; few
//! or no detections are no evidence of innocence.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use strum::VariantArray;

use super::http::{self, Api};
use super::json::{self, Object};
use crate::finding::{Disposition, Fact, Finding, Reliability, SourceError, SourceErrorKind, Strength, counted};
use crate::indicator::{Form, IndicatorType};
use crate::source::{
    About, Answer, BuildError, CredentialPlace, HttpMethod, HttpQuestion, Lookup, OptionDef, Probe, Question, QuotaPer,
    Reading, Source, SourceView, check_status,
};

/// The header that carries the key.
const KEY_HEADER: &str = "x-apikey";

/// The daily calls of a free key.
const FREE_PER_DAY: u64 = 500;

/// The options of one type of indicator: how many engines must say malicious, and how many malicious or suspicious.
struct ThresholdOptions {
    malicious: OptionDef<u64>,
    suspicious: OptionDef<u64>,
}

macro_rules! threshold_options {
    ($type:literal) => {
        ThresholdOptions {
            malicious: engines(
                concat!("malicious_threshold_", $type),
                10,
                concat!("Malicious when this many engines say so of a look-up of type ", $type, "."),
            ),
            suspicious: engines(
                concat!("suspicious_threshold_", $type),
                5,
                concat!("Suspicious when this many engines say malicious or suspicious; type ", $type, "."),
            ),
        }
    };
}

const fn engines(name: &'static str, default: u64, help: &'static str) -> OptionDef<u64> {
    OptionDef::integer(name, 1, 1_000, default, help)
}

const IP: ThresholdOptions = threshold_options!("ip");
const DOMAIN: ThresholdOptions = threshold_options!("domain");
const URL: ThresholdOptions = threshold_options!("url");
const FILE: ThresholdOptions = threshold_options!("file");
const PREFERRED_VENDORS: OptionDef<Vec<String>> = OptionDef::list(
    "preferred_vendors",
    "Engines that you trust most, by name; letter case and outer space do not count.",
);
const PREFERRED_THRESHOLD: OptionDef<u64> =
    engines("preferred_threshold", 5, "Malicious when this many preferred vendors say so, whatever the rest say.");

pub(super) static ABOUT: LazyLock<About> = LazyLock::new(|| {
    let thresholds = [IP, DOMAIN, URL, FILE];
    let thresholds = thresholds.iter().flat_map(|options| [options.malicious.spec(), options.suspicious.spec()]);
    About {
        kind: "virustotal".into(),
        title: "VirusTotal".into(),
        summary: "Collects what some ninety anti-virus engines and block lists say of an indicator.".into(),
        home_page: "https://www.virustotal.com/".into(),
        terms: "A free key must not be used in commercial products or business workflows. See https://docs.virustotal.com/reference/public-vs-premium-api.".into(),
        forms: Form::VARIANTS.to_vec(),
        credential_env: Some("VIRUSTOTAL_API_KEY".into()),
        base_url: Some("https://www.virustotal.com/api/v3/".into()),
        tiers: vec![
            http::tier(
                "free",
                "public key",
                &[(QuotaPer::Minute, 4), (QuotaPer::Day, FREE_PER_DAY), (QuotaPer::Month, 15_500)],
            ),
            http::tier("premium", "paid; the plan sets the quota", &[]),
        ],
        reliability: Reliability::B,
        cache_ttl: http::hours(24, 1),
        options: thresholds.chain([PREFERRED_VENDORS.spec(), PREFERRED_THRESHOLD.spec()]).collect(),
        ..http::about()
    }
});

pub(super) fn build(view: &SourceView<'_>) -> Result<Arc<dyn Source>, BuildError> {
    let thresholds = |options: ThresholdOptions| {
        Ok(Thresholds { malicious: view.get(&options.malicious)?, suspicious: view.get(&options.suspicious)? })
    };
    let vendors = view.get(&PREFERRED_VENDORS)?;
    Ok(Arc::new(VirusTotal {
        api: Api::new(view, CredentialPlace::Header(KEY_HEADER.into()))?,
        ip: thresholds(IP)?,
        domain: thresholds(DOMAIN)?,
        url: thresholds(URL)?,
        file: thresholds(FILE)?,
        preferred_vendors: vendors.iter().map(|name| plain(name)).collect(),
        preferred_threshold: view.get(&PREFERRED_THRESHOLD)?,
    }))
}

struct VirusTotal {
    api: Api,
    ip: Thresholds,
    domain: Thresholds,
    url: Thresholds,
    file: Thresholds,
    /// In lower case.
    preferred_vendors: Vec<String>,
    preferred_threshold: u64,
}

struct Thresholds {
    malicious: u64,
    suspicious: u64,
}

impl Source for VirusTotal {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn ask(&self, lookup: &Lookup) -> Result<Question, SourceError> {
        let value = lookup.indicator.value();
        Ok(match lookup.indicator.indicator_type() {
            IndicatorType::Ip => self.api.get(&["ip_addresses", value]),
            IndicatorType::Domain => self.api.get(&["domains", value]),
            IndicatorType::Url => self.api.get(&["urls", &url_id(value)]),
            IndicatorType::File => self.api.get(&["files", value]),
        })
    }

    fn read(&self, lookup: &Lookup, answers: &[Answer]) -> Result<Reading, SourceError> {
        let answer = http::only(answers)?;
        if http::status(answer)? == 404 {
            return not_found(answer);
        }
        let value = http::document(answer)?;
        let data = Object::root(&value)?.need_object("data")?;
        let attributes = data.need_object("attributes")?;
        let counts = Counts::read(&attributes.need_object("last_analysis_stats")?)?;
        let engines = malicious_engines(&attributes);
        let preferred = self.preferred_saying_malicious(&attributes, &engines)?;
        let mut finding = self.rate(lookup.indicator.indicator_type(), &counts, preferred.as_deref());
        let analysed = attributes.time("last_analysis_date")?;
        let modified = if analysed.is_none() { attributes.time("last_modification_date")? } else { None };
        finding.observed_time = analysed.or(modified).or(Some(answer.received));
        finding.facts = facts(&attributes, &counts, &engines, preferred.unwrap_or_default());
        finding.tags = attributes.texts("tags");
        finding.permalink = Some(permalink(lookup, &data));
        Ok(Reading::Found(finding))
    }

    fn check(&self, answer: &Answer) -> Result<(), SourceError> {
        check_status(answer).map_err(|error| {
            let code = answer.http().ok().and_then(|(_, body)| known_code(body));
            explained(error, code)
        })
    }

    fn probe(&self) -> Vec<Question> {
        vec![Question::Http(HttpQuestion {
            method: HttpMethod::Get,
            url: self.api.address(&["users", "{credential}"]),
            headers: vec![("accept".to_owned(), "application/json".to_owned())],
            credential: CredentialPlace::HeaderAndPath(KEY_HEADER.into()),
        })]
    }

    fn read_probe(&self, answers: &[Result<Answer, SourceError>]) -> Probe {
        let mut probe = http::read_probe(answers, |answer| self.check(answer), true);
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

impl VirusTotal {
    /// The rating of the counts. `preferred`: the preferred vendors that say malicious, `None` without such a list.
    fn rate(&self, wanted: IndicatorType, counts: &Counts, preferred: Option<&[String]>) -> Finding {
        let thresholds = match wanted {
            IndicatorType::Ip => &self.ip,
            IndicatorType::Domain => &self.domain,
            IndicatorType::Url => &self.url,
            IndicatorType::File => &self.file,
        };
        let (m, s, t) = (counts.malicious, counts.suspicious, thresholds.malicious);
        let vendors = preferred.map_or(0, |names| names.len() as u64);
        let by_vendors = preferred.is_some() && vendors >= self.preferred_threshold;
        let say = |count: u64| if count == 1 { "says" } else { "say" };
        let of_engines = |count: u64| format!("{count} of {} {}", counted(counts.engines(), "engine"), say(count));
        let vendor_reason = || {
            let vendors = format!("{} {}", counted(vendors, "preferred vendor"), say(vendors));
            format!("{vendors} malicious (threshold {})", self.preferred_threshold)
        };
        if m >= t {
            let strength = if by_vendors { Strength::over(m, t).at_least(0.95) } else { Strength::over(m, t) };
            let reason = format!("{} malicious (threshold {t})", of_engines(m));
            let mut finding = Finding::new(Disposition::Malicious, Some(strength), reason);
            finding.reasons.extend(by_vendors.then(vendor_reason));
            return finding;
        }
        if by_vendors {
            return Finding::new(Disposition::Malicious, Some(Strength::clamped(0.95)), vendor_reason());
        }
        let both = m.saturating_add(s);
        let reason = format!("{} malicious or suspicious (threshold {})", of_engines(both), thresholds.suspicious);
        if both >= thresholds.suspicious {
            return Finding::new(Disposition::Suspicious, Some(Strength::FULL), reason);
        }
        Finding::new(Disposition::Unknown, None, format!("{reason}; few or none are no evidence of innocence"))
    }

    /// The preferred vendors that say malicious; `None` without such a list.
    fn preferred_saying_malicious(
        &self,
        attributes: &Object<'_>,
        engines: &[String],
    ) -> Result<Option<Vec<String>>, SourceError> {
        if self.preferred_vendors.is_empty() {
            return Ok(None);
        }
        let is_preferred = |name: &str| self.preferred_vendors.contains(&plain(name));
        // A report without single results is known; one whose results cannot be read is not.
        if let Some(results) = attributes.object("last_analysis_results")? {
            for name in results.names().filter(|name| is_preferred(name)) {
                results.need_object(name)?.need_text("category")?;
            }
        }
        Ok(Some(engines.iter().filter(|engine| is_preferred(engine)).cloned().collect()))
    }
}

/// The name of a vendor as names are compared.
fn plain(name: &str) -> String {
    name.trim().to_lowercase()
}

/// The service's identifier of a URL.
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

/// The code of an error body. Only documented codes are passed on.
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

/// The engines that say malicious, by name.
fn malicious_engines(attributes: &Object<'_>) -> Vec<String> {
    let Ok(Some(results)) = attributes.object("last_analysis_results") else { return Vec::new() };
    let says = |result: &Object<'_>| matches!(result.text("category"), Ok(Some(category)) if category.eq_ignore_ascii_case("malicious"));
    results.entries().filter(|(_, result)| says(result)).map(|(name, _)| name.to_owned()).collect()
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
        let blank = || http::read_probe(&[], |_| Ok(()), true);
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
}
