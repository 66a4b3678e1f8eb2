//! What all kinds that ask over HTTP share: questions under the base address, the body of a good answer, what a probe
//! learns from the way its question ended. Sends nothing and knows no source.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use url::Url;

use super::json::{self, Object};
use crate::finding::{Reliability, SourceError, SourceErrorKind};
use crate::indicator::Tlp;
use crate::source::{
    About, Answer, BuildError, CacheTtl, CredentialNeed, CredentialPlace, HttpMethod, HttpQuestion, Probe, Question,
    QuotaPer, QuotaWindow, Reading, SourceView, Tier, TransportKind, check_status,
};

/// What most kinds that ask over HTTP have in common; each adds its names, forms, tiers and times to live.
pub(super) fn about() -> About {
    About {
        kind: String::new(),
        title: String::new(),
        summary: String::new(),
        home_page: String::new(),
        terms: String::new(),
        forms: Vec::new(),
        transport: TransportKind::Http,
        credential: CredentialNeed::Required,
        credential_env: None,
        base_url: None,
        tiers: Vec::new(),
        reliability: Reliability::C,
        max_tlp: Tlp::Amber,
        timeout: Duration::from_secs(5),
        cache_ttl: CacheTtl { finding: Duration::ZERO, no_record: Duration::ZERO },
        family: None,
        options: Vec::new(),
        fetch_revision: 1,
        rating_revision: 1,
    }
}

/// Times to live in hours.
pub(super) fn hours(finding: u64, no_record: u64) -> CacheTtl {
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    CacheTtl { finding: hours(finding), no_record: hours(no_record) }
}

/// A tier with these quota windows.
pub(super) fn tier(name: &str, help: &str, quota: &[(QuotaPer, u64)]) -> Tier {
    let quota = quota.iter().map(|(per, limit)| QuotaWindow { per: *per, limit: *limit }).collect();
    Tier { name: name.into(), help: help.into(), quota }
}

/// Where a source is asked, and where its credential goes.
pub(super) struct Api {
    base: Url,
    credential: CredentialPlace,
    pub(super) has_credential: bool,
}

impl Api {
    pub(super) fn new(view: &SourceView<'_>, credential: CredentialPlace) -> Result<Self, BuildError> {
        let usable = view.base_url().filter(|url| !url.cannot_be_a_base());
        let base = usable.ok_or_else(|| BuildError::Missing("needs base_url, an address of http or https".into()))?;
        Ok(Self { base: base.clone(), credential, has_credential: view.has_credential() })
    }

    /// The address of these path segments under the base address, each percent-encoded.
    pub(super) fn address(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        // Fails only for addresses that `new` refuses.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// A GET of these path segments.
    pub(super) fn get(&self, segments: &[&str]) -> Question {
        self.ask(self.address(segments), HttpMethod::Get)
    }

    /// A question to this address.
    pub(super) fn ask(&self, url: Url, method: HttpMethod) -> Question {
        let headers = vec![("accept".to_owned(), "application/json".to_owned())];
        Question::Http(HttpQuestion { method, url, headers, credential: self.credential.clone() })
    }
}

/// The answer to the one question that was asked.
pub(super) fn only(answers: &[Answer]) -> Result<&Answer, SourceError> {
    answers.first().ok_or_else(|| SourceError::malformed("there is no answer to read"))
}

/// The JSON of an answer with a status of success.
pub(super) fn document(answer: &Answer) -> Result<Value, SourceError> {
    json::parse(success(answer)?)
}

/// The body of an answer with a status of success.
pub(super) fn success(answer: &Answer) -> Result<&[u8], SourceError> {
    let (status, body) = answer.http()?;
    check_status(answer)?;
    match status {
        200..=299 => Ok(body),
        _ => Err(SourceError::malformed(format!("HTTP status {status}, which this source does not give"))),
    }
}

/// The HTTP status of an answer.
pub(super) fn status(answer: &Answer) -> Result<u16, SourceError> {
    answer.http().map(|(status, _)| status)
}

/// Reads a 404: no record only in the source's own words, a JSON object with a message that repeats in the member `subject`
/// what was asked about. A gateway's page has no message, and a gateway's message no subject.
pub(super) fn not_found(answer: &Answer, subject: &str) -> Result<Reading, SourceError> {
    let value = json::parse(answer.http()?.1)?;
    let object = Object::root(&value)?;
    object.need_text("message")?;
    object.need_text(subject).map(|_| Reading::NoRecord)
}

/// The time until the moment, in seconds since 1970, that this header gives.
pub(super) fn time_until(answer: &Answer, header: &str) -> Option<Duration> {
    let seconds = answer.header(header)?.trim().parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?.duration_since(answer.received).ok()
}

/// What a probe learns from how its question ended. `has_credential`: whether one was sent.
pub(super) fn read_probe(
    answers: &[Result<Answer, SourceError>],
    check: impl Fn(&Answer) -> Result<(), SourceError>,
    has_credential: bool,
) -> Probe {
    let outcome = match answers.first() {
        None => Err(SourceError::new(SourceErrorKind::BadQuestion, "nothing was asked")),
        Some(Err(error)) => Err(error.clone()),
        // A success that is no JSON object is not the source's: a login page of the network, a wrong base address.
        Some(Ok(answer)) => check(answer).and_then(|()| Object::root(&document(answer)?).map(|_| ())),
    };
    let Err(error) = outcome else {
        return Probe::new(Ok(()), has_credential.then_some(true), "the source answers".to_owned());
    };
    let detail = error.to_string();
    match error.kind {
        // A refusal shows that the source was reached.
        SourceErrorKind::Unauthorized => Probe::new(Ok(()), Some(false), detail),
        SourceErrorKind::Forbidden | SourceErrorKind::QuotaExhausted => Probe::new(Ok(()), None, detail),
        SourceErrorKind::BadQuestion
        | SourceErrorKind::Refused
        | SourceErrorKind::Unavailable
        | SourceErrorKind::Timeout
        | SourceErrorKind::Malformed
        | SourceErrorKind::TooLarge => Probe::new(Err(error), None, detail),
    }
}
