//! AbuseIPDB: how often and how credibly an address was reported for abuse. Reads its confidence score; a low score is no
//! evidence of innocence, and a reserved address is none of its business.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use super::http::{self, Api, JsonSource, ReadResult, Refusal, Sign, ThresholdOptions, Thresholds, found};
use super::json::Object;
use crate::finding::{Disposition, SourceErrorKind, Strength, counted};
use crate::indicator::{Form, Indicator};
use crate::source::{
    About, Answer, BuildResult, CredentialPlace, HttpMethod, OptionDef, Probe, Question, QuotaPer, SourceView,
};

const THRESHOLDS: ThresholdOptions = ThresholdOptions {
    malicious: OptionDef::threshold("malicious_threshold", 1, 100, 75, "Malicious from this score on, 1 to 100."),
    suspicious: OptionDef::threshold("suspicious_threshold", 1, 100, 25, "Suspicious from this score on, 1 to 100."),
};
const MAX_AGE: OptionDef<u64> = OptionDef::integer("max_age_days", 1, 365, 30, "Reports of this many days count.");

pub(super) static ABOUT: LazyLock<About> = LazyLock::new(|| About {
    kind: "abuseipdb".into(),
    title: "AbuseIPDB".into(),
    summary: "Collects reports of abuse by address and scores from 0 to 100 how credible they are.".into(),
    home_page: "https://www.abuseipdb.com/".into(),
    terms: "Free plan for modest use, limits on passing results on; see https://www.abuseipdb.com/legal.".into(),
    forms: vec![Form::Ipv4, Form::Ipv6],
    credential_env: Some("ABUSEIPDB_API_KEY".into()),
    base_url: http::base_url("https://api.abuseipdb.com/api/v2/"),
    tiers: [
        ("standard", "free plan", 1_000),
        ("webmaster", "free plan of verified webmasters", 3_000),
        ("supporter", "free plan of supporters", 5_000),
        ("basic", "paid", 10_000),
        ("premium", "paid", 50_000),
    ]
    .map(|(name, help, limit)| http::tier(name, help, &[(QuotaPer::Day, limit)]))
    .into(),
    cache_ttl: http::hours(6, 6),
    options: THRESHOLDS.specs().into_iter().chain([MAX_AGE.spec()]).collect(),
    greatest_strength: Strength::MAX,
    ..http::about()
});

pub(super) fn build(view: &SourceView<'_>) -> BuildResult {
    let source = AbuseIpDb { thresholds: THRESHOLDS.get_ordered(view)?, max_age_days: view.get(&MAX_AGE)? };
    http::source(&ABOUT, view, CredentialPlace::Header("key".into()), source)
}

struct AbuseIpDb {
    thresholds: Thresholds,
    max_age_days: u64,
}

impl JsonSource for AbuseIpDb {
    const REFUSALS: &'static [Refusal] =
        &[(Sign::Status(402), SourceErrorKind::Forbidden, "HTTP status 402: the key's plan does not allow this")];

    const PAGE: Option<&'static str> = Some("https://www.abuseipdb.com/check/");

    fn question(&self, api: &Api, _: Form, ip: &str) -> Question {
        let mut url = api.address(&["check"]);
        let days = self.max_age_days.to_string();
        url.query_pairs_mut().append_pair("ipAddress", ip).append_pair("maxAgeInDays", &days);
        api.ask(url, HttpMethod::Get)
    }

    fn read(&self, _: &Indicator, record: &Object<'_>, received: SystemTime) -> ReadResult {
        let data = record.need_object("data")?;
        let Some(mut finding) = self.rate(&data, received)? else { return Ok(None) };
        finding.facts = data.facts(&["isp", "domain"], RENAMED_FACTS, &[("lastReportedAt", "last_reported")]);
        Ok(Some(finding))
    }

    fn quota_renewal(&self, answer: &Answer) -> Option<Duration> {
        http::time_until(answer, "x-ratelimit-reset")
    }

    fn extend_probe(&self, probe: &mut Probe, answer: &Answer) {
        let left = answer.header("x-ratelimit-remaining").and_then(|text| text.trim().parse().ok());
        probe.quota_left.extend(left.map(|left| (QuotaPer::Day.as_str().to_owned(), left)));
    }
}

impl AbuseIpDb {
    /// The rating, `None` where the source has nothing on the address.
    fn rate(&self, data: &Object<'_>, received: SystemTime) -> ReadResult {
        if !data.need_flag("isPublic")? {
            return Ok(None);
        }
        let score = data.need_count("abuseConfidenceScore")?;
        if score > 100 {
            return Err(data.unreadable("abuseConfidenceScore", "a score of 0 to 100"));
        }
        let Thresholds { malicious, suspicious } = self.thresholds;
        let mut observed = data.time("lastReportedAt")?;
        let mut finding = if score >= malicious {
            // 0.85 at the threshold, rising evenly to 1 at a score of 100.
            let rise = (score - malicious) as f64 / (100 - malicious).max(1) as f64;
            let reason = format!("abuse confidence score {score} of 100 (malicious from {malicious})");
            found(Disposition::Malicious, 0.85 + 0.15 * rise, reason)
        } else if score >= suspicious {
            let reason = format!("abuse confidence score {score} of 100 (suspicious from {suspicious})");
            found(Disposition::Suspicious, 0.85, reason)
        } else if data.flag("isWhitelisted")?.unwrap_or(false) {
            observed = Some(received);
            let why =
                format!("on the source's whitelist, abuse confidence score {score} (suspicious from {suspicious})");
            found(Disposition::Benign, 0.85, why)
        } else {
            let reports = data.need_count("totalReports")?;
            if reports == 0 {
                return Ok(None);
            }
            let reports = counted(reports, "report");
            let why = format!("{reports}, but abuse confidence score {score} (suspicious from {suspicious})");
            found(Disposition::Unknown, 0.0, why)
        };
        finding.observed_time = observed;
        Ok(Some(finding))
    }
}

const RENAMED_FACTS: &[(&str, &str)] = &[
    ("abuseConfidenceScore", "score"),
    ("totalReports", "reports"),
    ("numDistinctUsers", "reporters"),
    ("isPublic", "public"),
    ("isWhitelisted", "whitelisted"),
    ("countryCode", "country"),
    ("usageType", "usage"),
    ("hostnames", "host_names"),
    ("isTor", "tor"),
];
