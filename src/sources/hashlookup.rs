//! CIRCL hashlookup: which known collections hold a file, by its hash. Being known is not being harmless: its trust value
//! counts collections, so a flag of malice is read first.

use std::sync::{Arc, LazyLock};

use super::http::{self, Api};
use super::json::Object;
use crate::finding::{Disposition, Finding, Reliability, SourceError, Strength};
use crate::indicator::Form;
use crate::source::{
    About, Answer, BuildError, CredentialNeed, CredentialPlace, Lookup, Probe, Question, QuotaPer, Reading, Source,
    SourceView, unsupported,
};

/// The trust value that the service gives to a file of which it knows neither good nor ill.
const NEUTRAL_TRUST: f64 = 50.0;

pub(super) static ABOUT: LazyLock<About> = LazyLock::new(|| {
    About {
    kind: "hashlookup".into(),
    title: "CIRCL hashlookup".into(),
    summary: "Knows files of operating systems and software collections by their hash, and some known bad ones.".into(),
    home_page: "https://hashlookup.circl.lu/".into(),
    terms: "Open data service of CIRCL; no key. It learns which hashes are looked up. See https://www.circl.lu/services/hashlookup/.".into(),
    forms: vec![Form::Md5, Form::Sha1, Form::Sha256],
    credential: CredentialNeed::None,
    base_url: Some("https://hashlookup.circl.lu/".into()),
    tiers: vec![http::tier("open", "without key; the quota is courtesy", &[(QuotaPer::Minute, 60)])],
    reliability: Reliability::B,
    cache_ttl: http::hours(7 * 24, 24),
    rating_revision: 2,
    ..http::about()
}
});

pub(super) fn build(view: &SourceView<'_>) -> Result<Arc<dyn Source>, BuildError> {
    Ok(Arc::new(HashLookup { api: Api::new(view, CredentialPlace::None)? }))
}

struct HashLookup {
    api: Api,
}

impl Source for HashLookup {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn ask(&self, lookup: &Lookup) -> Result<Question, SourceError> {
        match lookup.indicator.form() {
            form @ (Form::Md5 | Form::Sha1 | Form::Sha256) => {
                Ok(self.api.get(&["lookup", form.as_str(), lookup.indicator.value()]))
            }
            form @ (Form::Ipv4 | Form::Ipv6 | Form::Domain | Form::Url) => Err(unsupported(form)),
        }
    }

    fn read(&self, _: &Lookup, answers: &[Answer]) -> Result<Reading, SourceError> {
        let answer = http::only(answers)?;
        if http::status(answer)? == 404 {
            return http::not_found(answer, "query");
        }
        let value = http::document(answer)?;
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

    fn probe(&self) -> Vec<Question> {
        vec![self.api.get(&["info"])]
    }

    fn read_probe(&self, answers: &[Result<Answer, SourceError>]) -> Probe {
        http::read_probe(answers, |answer| http::success(answer).map(|_| ()), false)
    }
}

fn rate(record: &Object<'_>) -> Result<Finding, SourceError> {
    let trust = record.number("hashlookup:trust")?;
    let shown = trust.map_or_else(|| "not given".to_owned(), |trust| trust.to_string());
    if let Some(flag) = record.text("KnownMalicious")? {
        let reason = format!("flagged as known malicious by {flag}, trust {shown} (distrusted below {NEUTRAL_TRUST})");
        return Ok(if trust.is_some_and(|trust| trust < NEUTRAL_TRUST) {
            Finding::new(Disposition::Malicious, Some(Strength::clamped(0.6)), reason)
        } else {
            // The flag is also set on widely known files, such as the four bytes "test".
            Finding::new(Disposition::Unknown, None, format!("{reason}; flagged and widely known"))
        });
    }
    if let Some(collection) = reference_collection(record)? {
        let reason = format!("in the reference collection {collection}, which also lists hacking tools; trust {shown}");
        let mut finding = Finding::new(Disposition::Benign, Some(Strength::FULL), reason);
        finding.tags.push("reference collection".to_owned());
        return Ok(finding);
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
