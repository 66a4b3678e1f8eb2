//! CIRCL hashlookup: which known collections hold a file, by its hash. Being known is not being harmless: its trust value
//! counts collections, so a flag of malice is read first.

use std::time::Duration;

use super::http;
use super::json::{self, Object};
use crate::finding::{Disposition, Finding, Reliability, SourceError, Strength};
use crate::indicator::{Form, Tlp};
use crate::source::{
    About, Answer, CacheTtl, CredentialNeed, CredentialPlace, Lookup, Probe, Question, QuotaPer, QuotaWindow, Reading,
    Source, SourceView, Tier, TransportKind,
};

/// The trust value that the service gives to a file of which it knows neither good nor ill.
const NEUTRAL_TRUST: f64 = 50.0;

/// The kind `hashlookup`.
pub(super) struct HashLookup {
    about: About,
}

impl HashLookup {
    /// The kind with its description.
    pub(super) fn new() -> Self {
        Self { about: about() }
    }
}

impl Source for HashLookup {
    fn about(&self) -> &About {
        &self.about
    }

    fn ask(&self, lookup: &Lookup, view: SourceView<'_>) -> Result<Question, SourceError> {
        let (form, value) = http::subject(lookup);
        match form {
            Form::Md5 | Form::Sha1 | Form::Sha256 => {
                Ok(http::get(http::address(view, &["lookup", form.as_str(), value])?, CredentialPlace::None))
            }
            Form::Ipv4 | Form::Ipv6 | Form::Domain | Form::Url => Err(http::unsupported(form)),
        }
    }

    fn read(&self, _lookup: &Lookup, _access: SourceView<'_>, answers: &[Answer]) -> Result<Reading, SourceError> {
        let answer = http::only(answers)?;
        if http::status(answer)? == 404 {
            return Ok(Reading::NoRecord);
        }
        let value = json::parse(http::success(answer)?)?;
        let record = Object::root(&value)?;
        let mut finding = rate(&record)?;
        finding.facts = record.facts(&[
            ("KnownMalicious", "known_malicious"),
            ("hashlookup:trust", "trust"),
            ("db", "database"),
            ("source", "data_source"),
            ("FileName", "file_name"),
            ("FileSize", "size"),
            ("mimetype", "file_type"),
            ("MD5", "md5"),
            ("SHA-1", "sha1"),
            ("SHA-256", "sha256"),
            ("SSDEEP", "ssdeep"),
            ("TLSH", "tlsh"),
            ("hashlookup:parent-total", "packages_holding_it"),
        ]);
        Ok(Reading::Found(finding))
    }

    fn probe(&self, view: SourceView<'_>) -> Vec<Question> {
        http::probe_with(http::address(view, &["info"]).map(|url| http::get(url, CredentialPlace::None)))
    }

    fn read_probe(&self, _access: SourceView<'_>, answers: &[Result<Answer, SourceError>]) -> Probe {
        http::probe_result(answers, |answer| http::success(answer).map(|_| ()), false)
    }
}

fn rate(record: &Object<'_>) -> Result<Finding, SourceError> {
    let flag = record.text("KnownMalicious")?;
    let trust = record.number("hashlookup:trust")?;
    let distrusted = trust.is_some_and(|trust| trust < NEUTRAL_TRUST);
    let shown = trust.map_or_else(|| "not given".to_owned(), |trust| trust.to_string());
    if let Some(flag) = flag {
        let reason = format!("flagged as known malicious by {flag}, trust {shown} (distrusted below {NEUTRAL_TRUST})");
        let claim = if distrusted { Disposition::Malicious } else { Disposition::Suspicious };
        return Ok(Finding::new(claim, Some(Strength::FULL), reason));
    }
    if let Some(collection) = reference_collection(record)? {
        let reason = format!("in the reference collection {collection}, which also lists hacking tools; trust {shown}");
        return Ok(Finding::new(Disposition::Benign, Some(Strength::clamped(0.6)), reason));
    }
    let trust = trust.ok_or_else(|| record.missing("hashlookup:trust"))?;
    let reason = format!("trust {trust} (neutral {NEUTRAL_TRUST}), in no reference collection");
    Ok(if trust > NEUTRAL_TRUST {
        Finding::new(Disposition::Benign, Some(Strength::clamped(0.6)), reason)
    } else if trust < NEUTRAL_TRUST {
        Finding::new(Disposition::Suspicious, Some(Strength::clamped(0.5)), reason)
    } else {
        Finding::new(Disposition::Unknown, None, reason)
    })
}

/// The member that names the national software reference library, however it is spelt.
fn reference_collection<'a>(record: &Object<'a>) -> Result<Option<&'a str>, SourceError> {
    for member in ["db", "source"] {
        let Some(text) = record.text(member)? else { continue };
        let lower = text.to_ascii_lowercase();
        if lower.contains("nsrl") || lower.contains("rds") {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn about() -> About {
    let quota = vec![QuotaWindow { per: QuotaPer::Minute, limit: 60 }];
    About {
        kind: "hashlookup".into(),
        title: "CIRCL hashlookup".into(),
        summary: "Knows files of operating systems and software collections by their hash, and some known bad ones.".into(),
        home_page: "https://hashlookup.circl.lu/".into(),
        terms: "Open data service of CIRCL; no key. It learns which hashes are looked up. See https://www.circl.lu/services/hashlookup/.".into(),
        forms: vec![Form::Md5, Form::Sha1, Form::Sha256],
        transport: TransportKind::Http,
        credential: CredentialNeed::None,
        base_url: Some("https://hashlookup.circl.lu/".into()),
        tiers: vec![Tier { name: "open".into(), help: "without key; the quota is courtesy".into(), quota }],
        reliability: Reliability::C,
        max_tlp: Tlp::Amber,
        timeout: Duration::from_secs(5),
        cache_ttl: CacheTtl { finding: Duration::from_secs(7 * 86_400), no_record: Duration::from_secs(86_400) },
        family: None,
        options: Vec::new(),
        fetch_revision: 1,
        rating_revision: 1,
    }
}
