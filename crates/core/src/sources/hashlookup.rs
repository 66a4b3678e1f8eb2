//! CIRCL hashlookup: which known collections hold a file, by its hash. Being known is not being harmless: its trust value
//! counts collections, so a flag of malice is read first.

use std::sync::LazyLock;
use std::time::SystemTime;

use super::http::{self, Api, JsonSource, ReadResult, found};
use super::json::Object;
use crate::finding::{Disposition, Finding, Reliability, SourceError};
use crate::indicator::{Form, Indicator};
use crate::source::{About, BuildResult, CredentialNeed, CredentialPlace, Question, QuotaPer, SourceView};

/// The trust value that the service gives to a file of which it knows neither good nor ill.
const NEUTRAL_TRUST: f64 = 50.0;

pub(super) static ABOUT: LazyLock<About> = LazyLock::new(|| About {
    kind: "hashlookup".into(),
    title: "CIRCL hashlookup".into(),
    summary: "Knows files of operating systems and software collections by their hash, and some known bad ones.".into(),
    home_page: "https://hashlookup.circl.lu/".into(),
    terms: "Open data service of CIRCL; no key. It learns which hashes are looked up. \
            See https://www.circl.lu/services/hashlookup/."
        .into(),
    forms: vec![Form::Md5, Form::Sha1, Form::Sha256],
    credential: CredentialNeed::None,
    base_url: http::base_url("https://hashlookup.circl.lu/"),
    tiers: vec![http::tier("open", "without key; the quota is courtesy", &[(QuotaPer::Minute, 60)])],
    reliability: Reliability::B,
    cache_ttl: http::hours(7 * 24, 24),
    rating_revision: 2,
    ..http::about()
});

pub(super) fn build(view: &SourceView<'_>) -> BuildResult {
    http::source(&ABOUT, view, CredentialPlace::None, HashLookup)
}

struct HashLookup;

impl JsonSource for HashLookup {
    fn question(&self, api: &Api, form: Form, hash: &str) -> Question {
        api.get(&["lookup", form.as_str(), hash])
    }

    fn read(&self, _: &Indicator, record: &Object<'_>, _: SystemTime) -> ReadResult {
        let mut finding = rate(record)?;
        finding.facts = record.facts(&[], RENAMED_FACTS, &[]);
        Ok(Some(finding))
    }

    fn read_not_found(&self, _: &Indicator, body: &Object<'_>, _: SystemTime) -> ReadResult {
        http::no_record(body, "query")
    }

    fn probe(&self, api: &Api) -> Option<Question> {
        Some(api.get(&["info"]))
    }
}

const RENAMED_FACTS: &[(&str, &str)] = &[
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
];

fn rate(record: &Object<'_>) -> Result<Finding, SourceError> {
    let trust = record.number("hashlookup:trust")?;
    let shown = trust.map_or_else(|| "not given".to_owned(), |trust| trust.to_string());
    if let Some(flag) = record.text("KnownMalicious")? {
        let reason = format!("flagged as known malicious by {flag}, trust {shown} (distrusted below {NEUTRAL_TRUST})");
        return Ok(if trust.is_some_and(|trust| trust < NEUTRAL_TRUST) {
            found(Disposition::Malicious, 0.6, reason)
        } else {
            // The flag is also set on widely known files, such as the four bytes "test".
            found(Disposition::Unknown, 0.0, format!("{reason}; flagged and widely known"))
        });
    }
    if let Some(collection) = reference_collection(record)? {
        let reason = format!("in the reference collection {collection}, which also lists hacking tools; trust {shown}");
        let mut finding = found(Disposition::Benign, 0.85, reason);
        finding.tags.push("reference collection".to_owned());
        return Ok(finding);
    }
    let trust = trust.ok_or_else(|| record.missing("hashlookup:trust"))?;
    let reason = format!("trust {trust} (neutral {NEUTRAL_TRUST}), in no reference collection");
    Ok(if trust > NEUTRAL_TRUST {
        found(Disposition::Benign, 0.6, reason)
    } else if trust < NEUTRAL_TRUST {
        found(Disposition::Suspicious, 0.5, reason)
    } else {
        found(Disposition::Unknown, 0.0, reason)
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
