//! AbuseIPDB: how often and how credibly an address was reported for abuse. Reads its confidence score; a low score is no
//! evidence of innocence, and a reserved address is none of its business.

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use super::http::{self, Api};
use super::json::Object;
use crate::finding::{Disposition, Finding, SourceError, SourceErrorKind, Strength, counted};
use crate::indicator::Form;
use crate::source::{
    About, Answer, BuildError, CredentialPlace, HttpMethod, Lookup, OptionDef, Probe, Question, QuotaPer, Reading,
    Source, SourceView, check_status, unsupported,
};

const MALICIOUS: OptionDef<u64> =
    OptionDef::integer("malicious_threshold", 1, 100, 75, "Malicious from this score on, 1 to 100.");
const SUSPICIOUS: OptionDef<u64> =
    OptionDef::integer("suspicious_threshold", 1, 100, 25, "Suspicious from this score on, 1 to 100.");
const MAX_AGE: OptionDef<u64> = OptionDef::integer("max_age_days", 1, 365, 30, "Reports of this many days count.");

pub(super) static ABOUT: LazyLock<About> = LazyLock::new(|| About {
    kind: "abuseipdb".into(),
    title: "AbuseIPDB".into(),
    summary: "Collects reports of abuse by address and scores from 0 to 100 how credible they are.".into(),
    home_page: "https://www.abuseipdb.com/".into(),
    terms: "Free plan for modest use, limits on passing results on; see https://www.abuseipdb.com/legal.".into(),
    forms: vec![Form::Ipv4, Form::Ipv6],
    credential_env: Some("ABUSEIPDB_API_KEY".into()),
    base_url: Some("https://api.abuseipdb.com/api/v2/".into()),
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
    options: vec![MALICIOUS.spec(), SUSPICIOUS.spec(), MAX_AGE.spec()],
    ..http::about()
});

pub(super) fn build(view: &SourceView<'_>) -> Result<Arc<dyn Source>, BuildError> {
    let (malicious, suspicious) = (view.get(&MALICIOUS)?, view.get(&SUSPICIOUS)?);
    if suspicious > malicious {
        let of = MALICIOUS.name;
        let why =
            format!("{suspicious} is above {of} ({malicious}), so it would never be reached: at most {malicious}");
        return Err(BuildError::invalid(SUSPICIOUS.name, why));
    }
    let api = Api::new(view, CredentialPlace::Header("key".into()))?;
    Ok(Arc::new(AbuseIpDb { malicious, suspicious, max_age_days: view.get(&MAX_AGE)?, api }))
}

struct AbuseIpDb {
    malicious: u64,
    suspicious: u64,
    max_age_days: u64,
    api: Api,
}

impl Source for AbuseIpDb {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn ask(&self, lookup: &Lookup) -> Result<Question, SourceError> {
        match lookup.indicator.form() {
            Form::Ipv4 | Form::Ipv6 => Ok(self.question(lookup.indicator.value())),
            form @ (Form::Domain | Form::Url | Form::Md5 | Form::Sha1 | Form::Sha256) => Err(unsupported(form)),
        }
    }

    fn read(&self, lookup: &Lookup, answers: &[Answer]) -> Result<Reading, SourceError> {
        let answer = http::only(answers)?;
        let value = http::document(answer)?;
        let data = Object::root(&value)?.need_object("data")?;
        let Some(mut finding) = self.rate(&data, answer.received)? else { return Ok(Reading::NoRecord) };
        finding.facts = data.facts(FACTS);
        finding.facts.extend(data.time_facts(&[("lastReportedAt", "last_reported")]));
        finding.permalink = Some(format!("https://www.abuseipdb.com/check/{}", lookup.indicator.value()));
        Ok(Reading::Found(finding))
    }

    fn check(&self, answer: &Answer) -> Result<(), SourceError> {
        let (status, _) = answer.http()?;
        check_status(answer).map_err(|error| match status {
            402 => SourceError::new(SourceErrorKind::Forbidden, "HTTP status 402: the key's plan does not allow this"),
            429 if error.retry_after.is_none() => error.retry_after(http::time_until(answer, "x-ratelimit-reset")),
            _ => error,
        })
    }

    fn probe(&self) -> Vec<Question> {
        vec![self.question("127.0.0.1")]
    }

    fn read_probe(&self, answers: &[Result<Answer, SourceError>]) -> Probe {
        let mut probe = http::read_probe(answers, |answer| self.check(answer), self.api.has_credential);
        let left = answers.first().and_then(|answer| answer.as_ref().ok()?.header("x-ratelimit-remaining"));
        if let Some(left) = left.and_then(|text| text.trim().parse().ok()) {
            probe.quota_left.push((QuotaPer::Day.as_str().to_owned(), left));
        }
        probe
    }
}

impl AbuseIpDb {
    fn question(&self, ip: &str) -> Question {
        let mut url = self.api.address(&["check"]);
        let days = self.max_age_days.to_string();
        url.query_pairs_mut().append_pair("ipAddress", ip).append_pair("maxAgeInDays", &days);
        self.api.ask(url, HttpMethod::Get)
    }

    /// The rating, `None` where the source has nothing on the address.
    fn rate(&self, data: &Object<'_>, received: SystemTime) -> Result<Option<Finding>, SourceError> {
        if !data.need_flag("isPublic")? {
            return Ok(None);
        }
        let score = data.count("abuseConfidenceScore")?.ok_or_else(|| data.missing("abuseConfidenceScore"))?;
        if score > 100 {
            return Err(data.unreadable("abuseConfidenceScore", "a score of 0 to 100"));
        }
        let Self { malicious, suspicious, .. } = self;
        let mut observed = data.time("lastReportedAt")?;
        let (claim, strength, reason) = if score >= *malicious {
            // 0.85 at the threshold, rising evenly to 1 at a score of 100.
            let rise = (score - malicious) as f64 / (100 - malicious).max(1) as f64;
            let reason = format!("abuse confidence score {score} of 100 (malicious from {malicious})");
            (Disposition::Malicious, Some(Strength::clamped(0.85 + 0.15 * rise)), reason)
        } else if score >= *suspicious {
            let reason = format!("abuse confidence score {score} of 100 (suspicious from {suspicious})");
            (Disposition::Suspicious, Some(Strength::FULL), reason)
        } else if data.flag("isWhitelisted")?.unwrap_or(false) {
            observed = Some(received);
            let why =
                format!("on the source's whitelist, abuse confidence score {score} (suspicious from {suspicious})");
            (Disposition::Benign, Some(Strength::FULL), why)
        } else {
            let reports = data.count("totalReports")?.ok_or_else(|| data.missing("totalReports"))?;
            if reports == 0 {
                return Ok(None);
            }
            let reports = counted(reports, "report");
            let why = format!("{reports}, but abuse confidence score {score} (suspicious from {suspicious})");
            (Disposition::Unknown, None, why)
        };
        let mut finding = Finding::new(claim, strength, reason);
        finding.observed_time = observed;
        Ok(Some(finding))
    }
}

/// Members of the answer that become facts, each under our name.
const FACTS: &[(&str, &str)] = &[
    ("abuseConfidenceScore", "score"),
    ("totalReports", "reports"),
    ("numDistinctUsers", "reporters"),
    ("isPublic", "public"),
    ("isWhitelisted", "whitelisted"),
    ("countryCode", "country"),
    ("usageType", "usage"),
    ("isp", "isp"),
    ("domain", "domain"),
    ("hostnames", "host_names"),
    ("isTor", "tor"),
];
