//! VirusTotal: what some ninety engines say of an indicator. Rates the basic report by counts and by preferred vendors; few
//! or no detections are no evidence of innocence.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use strum::VariantArray;

use super::http::{self, Api, JsonSource, ReadResult, ThresholdOptions, Thresholds};
use super::json::{self, Object};
use crate::finding::{Disposition, Fact, Finding, Reliability, SourceError, Strength, counted};
use crate::indicator::{Form, Indicator, IndicatorType};
use crate::source::{
    About, Answer, BuildResult, CredentialPlace, HttpMethod, HttpQuestion, OptionDef, Probe, Question, QuotaPer,
    SourceView, check_status,
};

/// The header that carries the key.
const KEY_HEADER: &str = "x-apikey";

/// The daily calls of a free key.
const FREE_PER_DAY: u64 = 500;

/// The options of one type of indicator: how many engines must say malicious, and how many malicious or suspicious.
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
    let thresholds = thresholds.iter().flat_map(ThresholdOptions::specs);
    About {
        kind: "virustotal".into(),
        title: "VirusTotal".into(),
        summary: "Collects what some ninety anti-virus engines and block lists say of an indicator.".into(),
        home_page: "https://www.virustotal.com/".into(),
        terms: "A free key must not be used in commercial products or business workflows. See https://docs.virustotal.com/reference/public-vs-premium-api.".into(),
        forms: Form::VARIANTS.to_vec(),
        credential_env: Some("VIRUSTOTAL_API_KEY".into()),
        base_url: http::base_url("https://www.virustotal.com/api/v3/"),
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

pub(super) fn build(view: &SourceView<'_>) -> BuildResult {
    let vendors = view.get(&PREFERRED_VENDORS)?;
    let source = VirusTotal {
        ip: IP.get(view)?,
        domain: DOMAIN.get(view)?,
        url: URL.get(view)?,
        file: FILE.get(view)?,
        preferred_vendors: vendors.iter().map(|name| plain(name)).collect(),
        preferred_threshold: view.get(&PREFERRED_THRESHOLD)?,
    };
    http::source(&ABOUT, view, CredentialPlace::Header(KEY_HEADER.into()), source)
}

struct VirusTotal {
    ip: Thresholds,
    domain: Thresholds,
    url: Thresholds,
    file: Thresholds,
    /// In lower case.
    preferred_vendors: Vec<String>,
    preferred_threshold: u64,
}

impl JsonSource for VirusTotal {
    fn question(&self, api: &Api, form: Form, value: &str) -> Question {
        match form {
            Form::Ipv4 | Form::Ipv6 => api.get(&["ip_addresses", value]),
            Form::Domain => api.get(&["domains", value]),
            Form::Url => api.get(&["urls", &url_id(value)]),
            Form::Md5 | Form::Sha1 | Form::Sha256 => api.get(&["files", value]),
        }
    }

    fn read(&self, indicator: &Indicator, record: &Object<'_>, received: SystemTime) -> ReadResult {
        let attributes = record.need_object("data.attributes")?;
        let counts = Counts::read(&attributes.need_object("last_analysis_stats")?)?;
        let engines = malicious_engines(&attributes);
        let preferred = self.preferred_saying_malicious(&attributes, &engines)?;
        let mut finding = self.rate(indicator.indicator_type(), &counts, preferred.as_deref());
        let analysed = attributes.first_time(&["last_analysis_date", "last_modification_date"])?;
        finding.observed_time = analysed.or(Some(received));
        finding.facts = facts(&attributes, &counts, &engines, preferred.unwrap_or_default());
        finding.tags = attributes.texts(&["tags"]);
        finding.permalink = Some(permalink(indicator, record));
        Ok(Some(finding))
    }

    fn read_not_found(&self, _: &Indicator, body: &Object<'_>, _: SystemTime) -> ReadResult {
        body.need_word("error.code", &[NOT_FOUND]).map(|_| None)
    }

    /// The refusal with the service's own code.
    fn check(&self, answer: &Answer) -> Result<(), SourceError> {
        check_status(answer).map_err(|error| match known_code(answer) {
            Some(code) => {
                SourceError::new(error.kind, format!("{}: {code}", error.detail)).retry_after(error.retry_after)
            }
            None => error,
        })
    }

    /// The shortest limit is one of a minute.
    fn quota_renewal(&self, _: &Answer) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }

    fn probe(&self, api: &Api) -> Option<Question> {
        Some(Question::Http(HttpQuestion {
            method: HttpMethod::Get,
            url: api.address(&["users", "{credential}"]),
            headers: vec![("accept".to_owned(), "application/json".to_owned())],
            credential: CredentialPlace::HeaderAndPath(KEY_HEADER.into()),
        }))
    }

    fn extend_probe(&self, probe: &mut Probe, answer: &Answer) {
        let status = answer.http().map(|(status, _)| status);
        if status == Ok(404) && known_code(answer) == Some(NOT_FOUND) {
            *probe = Probe::new(Ok(()), Some(false), "the source knows no user of this key".to_owned());
        } else if let (Ok(()), Ok((_, body))) = (&probe.connectivity, answer.http()) {
            add_quotas(probe, body);
        }
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
            for (_, result) in results.entries().filter(|(name, _)| is_preferred(name)) {
                result?.need_text("category")?;
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

/// The code of a 404 by which the service says that it has nothing.
const NOT_FOUND: &str = "NotFoundError";

/// The code of an error body. Only documented codes are passed on.
fn known_code(answer: &Answer) -> Option<&'static str> {
    const CODES: [&str; 18] = [
        "AlreadyExistsError",
        "AuthenticationRequiredError",
        "BadRequestError",
        "DeadlineExceededError",
        "FailedDependencyError",
        "ForbiddenError",
        "InvalidArgumentError",
        "NotAvailableYet",
        NOT_FOUND,
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
    let code = http::text_of(answer, "error.code")?;
    CODES.into_iter().find(|known| known.eq_ignore_ascii_case(&code))
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
    let says = |result: Object<'_>| result.need_word("category", &["malicious"]).is_ok();
    results.entries().filter_map(|(name, result)| says(result.ok()?).then(|| name.to_owned())).collect()
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
    let renamed = &[
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
        ("popular_threat_classification.suggested_threat_label", "malware_family"),
    ];
    let times = &[
        ("last_analysis_date", "last_analysis"),
        ("last_modification_date", "last_modification"),
        ("first_submission_date", "first_seen"),
        ("creation_date", "created"),
    ];
    facts.extend(attributes.facts(&[], renamed, times));
    facts.extend(ranks(attributes));
    facts
}

/// The popularity ranks as `provider: rank`.
fn ranks(attributes: &Object<'_>) -> Option<Fact> {
    let ranks = attributes.object("popularity_ranks").ok()??;
    let rank = |(name, entry): (&str, Result<Object<'_>, SourceError>)| {
        Some(format!("{name}: {}", entry.ok()?.count("rank").ok()??))
    };
    let list: Vec<String> = ranks.entries().filter_map(rank).take(json::LIST_LIMIT).collect();
    (!list.is_empty()).then(|| Fact::new("popularity_ranks", list))
}

/// The page for people. The service's own identifier where it is a hash, since an identifier may be anything.
fn permalink(indicator: &Indicator, record: &Object<'_>) -> String {
    let value = indicator.value();
    match indicator.indicator_type() {
        IndicatorType::Ip => format!("https://www.virustotal.com/gui/ip-address/{value}"),
        IndicatorType::Domain => format!("https://www.virustotal.com/gui/domain/{value}"),
        IndicatorType::File => format!("https://www.virustotal.com/gui/file/{value}"),
        IndicatorType::Url => {
            let given = record.text("data.id").ok().flatten();
            let hash = given.filter(|id| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let id = hash.map_or_else(|| url_id(value), str::to_owned);
            format!("https://www.virustotal.com/gui/url/{id}")
        }
    }
}

/// Adds what the user's record says of quotas and tier.
fn add_quotas(probe: &mut Probe, body: &[u8]) {
    let quotas = read_quotas(body).unwrap_or_default();
    let daily = quotas.iter().find(|quota| quota.window == "day");
    probe.tier = daily.map(|quota| if quota.allowed > FREE_PER_DAY { "premium" } else { "free" }.to_owned());
    for quota in quotas {
        let left = quota.allowed.saturating_sub(quota.used);
        probe.detail.push_str(&format!("; {} of {} left this {}", left, quota.allowed, quota.window));
        probe.quota_left.push((quota.window.to_owned(), left));
    }
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
    let quotas = Object::root(&value).ok()?.object("data.attributes.quotas").ok()??;
    let read = |(member, window): (&str, &'static str)| {
        let quota = quotas.object(member).ok()??;
        Some(Quota { window, used: quota.count("used").ok()??, allowed: quota.count("allowed").ok()?? })
    };
    Some(WINDOWS.into_iter().filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::AnswerBody;

    #[test]
    fn a_user_record_tells_the_tier_and_what_is_left_of_the_quota() {
        let user = |allowed: u64| {
            let quotas = serde_json::json!({
                "api_requests_daily": {"used": 88, "allowed": allowed},
                "api_requests_monthly": {"used": 88, "allowed": 15_500},
            });
            serde_json::to_vec(&serde_json::json!({"data": {"attributes": {"quotas": quotas}}})).expect("JSON")
        };
        let probed = |body: &[u8]| {
            let mut probe = Probe::new(Ok(()), Some(true), String::new());
            add_quotas(&mut probe, body);
            probe
        };
        let free = probed(&user(500));
        assert_eq!(free.tier.as_deref(), Some("free"));
        assert_eq!(free.quota_left, [("day".to_owned(), 412), ("month".to_owned(), 15_412)]);
        assert_eq!(probed(&user(20_000)).tier.as_deref(), Some("premium"));
        assert_eq!(probed(b"{}").tier, None);
    }

    #[test]
    fn an_error_code_that_the_service_does_not_document_is_not_passed_on() {
        let code = |code: &str| {
            let body = serde_json::json!({"error": {"code": code}}).to_string().into_bytes();
            let body = AnswerBody::Http { status: 403, headers: Vec::new(), body };
            known_code(&Answer { received: SystemTime::UNIX_EPOCH, ttl: None, body })
        };
        assert_eq!(code("s3cret"), None);
        assert_eq!(code("forbiddenerror"), Some("ForbiddenError"));
    }
}
