//! AbuseIPDB: how often and how credibly an address was reported for abuse. Reads its confidence score; a low score is no
//! evidence of innocence, and a reserved address is none of its business.

use std::time::{Duration, SystemTime};

use super::http;
use super::json::{self, Object};
use crate::finding::{Disposition, Finding, Reliability, SourceError, SourceErrorKind, Strength};
use crate::indicator::{Form, Tlp};
use crate::source::{
    About, Answer, CacheTtl, CredentialNeed, CredentialPlace, Lookup, OptionSpec, OptionType, Probe, Question,
    QuotaPer, QuotaWindow, Reading, Source, SourceView, Tier, TransportKind, check_status,
};

/// The kind `abuseipdb`.
pub(super) struct AbuseIpDb {
    about: About,
}

impl AbuseIpDb {
    /// The kind with its description.
    pub(super) fn new() -> Self {
        Self { about: about() }
    }
}

impl Source for AbuseIpDb {
    fn about(&self) -> &About {
        &self.about
    }

    fn ask(&self, lookup: &Lookup, view: SourceView<'_>) -> Result<Question, SourceError> {
        let (form, value) = http::subject(lookup);
        match form {
            Form::Ipv4 | Form::Ipv6 => question(view, value),
            Form::Domain | Form::Url | Form::Md5 | Form::Sha1 | Form::Sha256 => Err(http::unsupported(form)),
        }
    }

    fn read(&self, lookup: &Lookup, view: SourceView<'_>, answers: &[Answer]) -> Result<Reading, SourceError> {
        let answer = http::only(answers)?;
        let value = json::parse(http::success(answer)?)?;
        let data = Object::root(&value)?.need_object("data")?;
        let Some(mut finding) = rate(&data, view, answer.received)? else { return Ok(Reading::NoRecord) };
        finding.facts = facts(&data);
        finding.permalink = Some(format!("https://www.abuseipdb.com/check/{}", lookup.indicator.value()));
        Ok(Reading::Found(finding))
    }

    fn check(&self, answer: &Answer) -> Result<(), SourceError> {
        let (status, _) = answer.http()?;
        let refused = |error: SourceError| match status {
            402 => SourceError::new(SourceErrorKind::Forbidden, "HTTP status 402: the key's plan does not allow this"),
            429 if error.retry_after.is_none() => error.retry_after(until_reset(answer)),
            _ => error,
        };
        check_status(answer).map_err(refused)
    }

    fn probe(&self, view: SourceView<'_>) -> Vec<Question> {
        http::probe_with(question(view, "127.0.0.1"))
    }

    fn check_options(&self, view: SourceView<'_>) -> Vec<(&'static str, String)> {
        let (name, of) = ("suspicious_threshold", "malicious_threshold");
        let (suspicious, malicious) = (threshold(view, name), threshold(view, of));
        let why =
            format!("{suspicious} is above {of} ({malicious}), so it would never be reached: at most {malicious}");
        if suspicious > malicious { vec![(name, why)] } else { Vec::new() }
    }

    fn read_probe(&self, view: SourceView<'_>, answers: &[Result<Answer, SourceError>]) -> Probe {
        let check = |answer: &Answer| self.check(answer).and_then(|()| http::success(answer).map(|_| ()));
        let mut probe = http::probe_result(answers, check, http::has_credential(view));
        let left = answers.first().and_then(|answer| answer.as_ref().ok()?.header("x-ratelimit-remaining"));
        if let Some(left) = left.and_then(|text| text.trim().parse().ok()) {
            probe.quota_left.push((QuotaPer::Day.as_str().to_owned(), left));
        }
        probe
    }
}

fn question(view: SourceView<'_>, ip: &str) -> Result<Question, SourceError> {
    let mut url = http::address(view, &["check"])?;
    let days = view.integer("max_age_days").clamp(1, 365).to_string();
    url.query_pairs_mut().append_pair("ipAddress", ip).append_pair("maxAgeInDays", &days);
    Ok(http::get(url, CredentialPlace::Header("key".into())))
}

/// The time until the moment at which the source says that the window opens again.
fn until_reset(answer: &Answer) -> Option<Duration> {
    let seconds = answer.header("x-ratelimit-reset")?.trim().parse().ok()?;
    let reset = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    reset.duration_since(answer.received).ok()
}

/// The rating, `None` where the source has nothing on the address.
fn rate(data: &Object<'_>, view: SourceView<'_>, received: SystemTime) -> Result<Option<Finding>, SourceError> {
    if !data.need_flag("isPublic")? {
        return Ok(None);
    }
    let score = data.count("abuseConfidenceScore")?.ok_or_else(|| data.missing("abuseConfidenceScore"))?;
    if score > 100 {
        return Err(data.unreadable("abuseConfidenceScore", "a score of 0 to 100"));
    }
    let malicious = threshold(view, "malicious_threshold");
    let suspicious = threshold(view, "suspicious_threshold");
    let reported = data.time("lastReportedAt")?;
    let observed = |mut finding: Finding, time| {
        finding.observed_time = time;
        Ok(Some(finding))
    };
    if score >= malicious {
        let reason = format!("abuse confidence score {score} of 100 (malicious from {malicious})");
        return observed(Finding::new(Disposition::Malicious, Some(strength(score, malicious)), reason), reported);
    }
    if score >= suspicious {
        let reason = format!("abuse confidence score {score} of 100 (suspicious from {suspicious})");
        return observed(Finding::new(Disposition::Suspicious, Some(Strength::FULL), reason), reported);
    }
    if data.flag("isWhitelisted")?.unwrap_or(false) {
        let reason =
            format!("on the source's whitelist, abuse confidence score {score} (suspicious from {suspicious})");
        return observed(Finding::new(Disposition::Benign, Some(Strength::FULL), reason), Some(received));
    }
    let reports = data.count("totalReports")?.ok_or_else(|| data.missing("totalReports"))?;
    if reports == 0 {
        return Ok(None);
    }
    let reason = format!("{reports} reports, but abuse confidence score {score} (suspicious from {suspicious})");
    observed(Finding::new(Disposition::Unknown, None, reason), reported)
}

fn threshold(view: SourceView<'_>, name: &str) -> u64 {
    u64::try_from(view.integer(name)).unwrap_or(0).clamp(1, 100)
}

/// 0.85 at the threshold, rising evenly to 1 at a score of 100.
fn strength(score: u64, threshold: u64) -> Strength {
    let room = 100_u64.saturating_sub(threshold);
    if room == 0 {
        return Strength::FULL;
    }
    Strength::clamped(0.85 + 0.15 * score.saturating_sub(threshold) as f64 / room as f64)
}

fn facts(data: &Object<'_>) -> Vec<crate::finding::Fact> {
    let mut facts = data.facts(&[
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
    ]);
    facts.extend(data.time_facts(&[("lastReportedAt", "last_reported")]));
    facts
}

fn about() -> About {
    let percent = || OptionType::Integer { min: 1, max: 100 };
    About {
        kind: "abuseipdb".into(),
        title: "AbuseIPDB".into(),
        summary: "Collects reports of abuse by address and scores from 0 to 100 how credible they are.".into(),
        home_page: "https://www.abuseipdb.com/".into(),
        terms: "Free plan for modest use, limits on passing results on; see https://www.abuseipdb.com/legal.".into(),
        forms: vec![Form::Ipv4, Form::Ipv6],
        transport: TransportKind::Http,
        credential: CredentialNeed::Required,
        base_url: Some("https://api.abuseipdb.com/api/v2/".into()),
        tiers: [
            ("standard", "free plan", 1_000),
            ("webmaster", "free plan of verified webmasters", 3_000),
            ("supporter", "free plan of supporters", 5_000),
            ("basic", "paid", 10_000),
            ("premium", "paid", 50_000),
        ]
        .map(|(name, help, limit)| Tier {
            name: name.into(),
            help: help.into(),
            quota: vec![QuotaWindow { per: QuotaPer::Day, limit }],
        })
        .into(),
        reliability: Reliability::C,
        max_tlp: Tlp::Amber,
        timeout: Duration::from_secs(5),
        cache_ttl: CacheTtl { finding: Duration::from_secs(6 * 3_600), no_record: Duration::from_secs(6 * 3_600) },
        family: None,
        options: vec![
            OptionSpec::new("malicious_threshold", percent(), 75_i64.into(), "Malicious from this score on, 1 to 100."),
            OptionSpec::new(
                "suspicious_threshold",
                percent(),
                25_i64.into(),
                "Suspicious from this score on, 1 to 100.",
            ),
            OptionSpec::new(
                "max_age_days",
                OptionType::Integer { min: 1, max: 365 },
                30_i64.into(),
                "Reports of this many days count.",
            ),
        ],
        fetch_revision: 1,
        rating_revision: 1,
    }
}
