//! What the report of a private scan means. No anti-virus engine sees such a file, and few block lists see such a URL, so
//! thresholds of counts do not apply: VirusTotal's own verdict decides, and without one whoever objects.

use std::time::SystemTime;

use super::check_subject;
use crate::finding::{Disposition, Fact, Finding, SourceError, Strength, counted};
use crate::indicator::Indicator;
use crate::sources::json::Object;

/// Where a report may have a verdict of VirusTotal's own.
const VERDICTS: [&str; 2] = ["threat_verdict", "gti_assessment.verdict.value"];

/// How many say malicious, and how many suspicious.
#[derive(Clone, Copy, Default)]
struct Objections {
    malicious: u64,
    suspicious: u64,
}

/// Reads a report on this file or URL.
///
/// # Errors
/// If it is on another one, or a member that a rule reads is not of its form.
pub(super) fn read_report(
    indicator: &Indicator,
    record: &Object<'_>,
    received: SystemTime,
) -> Result<Finding, SourceError> {
    check_subject(indicator, record)?;
    let attributes = record.need_object("data.attributes")?;
    let (claim, reasons) = rate(&attributes)?;
    let strength = (claim != Disposition::Unknown).then_some(Strength::FULL);
    let mut finding = Finding::new(claim, strength, String::new());
    finding.reasons = reasons;
    finding.observed_time = attributes.first_time(&["last_analysis_date"])?.or(Some(received));
    finding.tags = attributes.texts(&["tags"]);
    finding.facts = facts(&attributes);
    Ok(finding)
}

fn rate(attributes: &Object<'_>) -> Result<(Disposition, Vec<String>), SourceError> {
    let (engines, sandboxes) = (engines(attributes)?, sandboxes(attributes)?);
    let own = own_verdict(attributes)?;
    let objections = |what: &str, Objections { malicious, suspicious }: Objections| {
        let parts = [(malicious, "malicious"), (suspicious, "suspicious")].map(|(count, word)| {
            let say = if count == 1 { "says" } else { "say" };
            (count > 0).then(|| format!("{} {say} {word}", counted(count, what)))
        });
        parts.into_iter().flatten().collect::<Vec<_>>()
    };
    let mut reasons = [objections("engine", engines), objections("sandbox run", sandboxes)].concat();
    let claim = match own {
        Some((claim, reason)) => {
            reasons.insert(0, reason.to_owned());
            claim
        }
        None if engines.malicious + sandboxes.malicious > 0 => Disposition::Malicious,
        None if engines.suspicious + sandboxes.suspicious > 0 => Disposition::Suspicious,
        None => Disposition::Unknown,
    };
    if claim == Disposition::Unknown {
        reasons.push("nothing was detected, which is no evidence of innocence".to_owned());
    }
    reasons.push("a private scan, which few or no engines take part in".to_owned());
    Ok((claim, reasons))
}

/// VirusTotal's own verdict, with the words for a reason. That nothing was detected decides nothing.
fn own_verdict(attributes: &Object<'_>) -> Result<Option<(Disposition, &'static str)>, SourceError> {
    for path in VERDICTS {
        match attributes.text(path)? {
            Some("VERDICT_MALICIOUS") => {
                return Ok(Some((Disposition::Malicious, "VirusTotal's verdict is malicious")));
            }
            Some("VERDICT_SUSPICIOUS") => {
                return Ok(Some((Disposition::Suspicious, "VirusTotal's verdict is suspicious")));
            }
            Some(_) | None => {}
        }
    }
    Ok(None)
}

/// Files have no engines.
fn engines(attributes: &Object<'_>) -> Result<Objections, SourceError> {
    let Some(stats) = attributes.object("last_analysis_stats")? else { return Ok(Objections::default()) };
    let count = |name| stats.count(name).map(Option::unwrap_or_default);
    Ok(Objections { malicious: count("malicious")?, suspicious: count("suspicious")? })
}

fn sandboxes(attributes: &Object<'_>) -> Result<Objections, SourceError> {
    let mut objections = Objections::default();
    let Some(sandboxes) = attributes.object("sandbox_verdicts")? else { return Ok(objections) };
    for (_, sandbox) in sandboxes.entries() {
        match sandbox?.text("category")? {
            Some("malicious") => objections.malicious += 1,
            Some("suspicious") => objections.suspicious += 1,
            Some(_) | None => {}
        }
    }
    Ok(objections)
}

fn facts(attributes: &Object<'_>) -> Vec<Fact> {
    let renamed = &[
        ("threat_verdict", "verdict"),
        ("threat_severity.threat_severity_level", "severity"),
        ("gti_assessment.verdict.value", "gti_verdict"),
        ("gti_assessment.severity.value", "gti_severity"),
        ("gti_assessment.threat_score.value", "gti_score"),
        ("size", "size"),
        ("type_description", "file_type"),
        ("md5", "md5"),
        ("sha1", "sha1"),
        ("sha256", "sha256"),
        ("title", "title"),
        ("last_final_url", "final_url"),
        ("last_http_response_code", "http_status"),
    ];
    attributes.facts(&["magic", "ssdeep", "tlsh"], renamed, &[("last_analysis_date", "last_analysis")])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sources::json;

    const HASH: &str = "11a77c3d96c06974b53d7f40a577e6813739eb5c811b2a86f59038ea90add772";

    fn read(attributes: &Value) -> Result<Finding, SourceError> {
        let indicator = Indicator::parse(HASH).unwrap().indicator;
        let body = json!({ "data": { "id": HASH, "type": "private_file", "attributes": attributes } }).to_string();
        let document = json::parse(body.as_bytes())?;
        read_report(&indicator, &Object::root(&document)?, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn the_own_verdict_decides_and_without_one_whoever_objects() {
        let sandbox = |category: &str| json!({ "sandbox_verdicts": { "Zenbox": { "category": category } } });
        let cases = [
            (json!({ "threat_verdict": "VERDICT_MALICIOUS" }), Disposition::Malicious),
            (json!({ "threat_verdict": "VERDICT_SUSPICIOUS" }), Disposition::Suspicious),
            (json!({ "threat_verdict": "VERDICT_UNDETECTED" }), Disposition::Unknown),
            (json!({ "gti_assessment": { "verdict": { "value": "VERDICT_MALICIOUS" } } }), Disposition::Malicious),
            (sandbox("malicious"), Disposition::Malicious),
            (sandbox("suspicious"), Disposition::Suspicious),
            (sandbox("harmless"), Disposition::Unknown),
            (json!({ "last_analysis_stats": { "malicious": 1, "harmless": 4 } }), Disposition::Malicious),
            (json!({ "last_analysis_stats": { "malicious": 0, "harmless": 1 } }), Disposition::Unknown),
            (json!({}), Disposition::Unknown),
        ];
        for (attributes, claim) in cases {
            let finding = read(&attributes).unwrap();
            assert_eq!(finding.claim, claim, "{attributes}");
            assert_eq!(finding.strength.is_some(), claim != Disposition::Unknown, "{attributes}");
            assert!(finding.reasons.iter().any(|reason| reason.contains("private scan")), "{attributes}");
        }
    }

    #[test]
    fn a_report_that_cannot_be_read_or_is_on_another_file_is_refused() {
        assert!(read(&json!({ "threat_verdict": 7 })).is_err());
        assert!(read(&json!({ "sandbox_verdicts": { "Zenbox": "malicious" } })).is_err());
        let other = Indicator::parse(&"ab".repeat(32)).unwrap().indicator;
        let body = json!({ "data": { "id": HASH, "attributes": {} } }).to_string();
        let document = json::parse(body.as_bytes()).unwrap();
        assert!(read_report(&other, &Object::root(&document).unwrap(), SystemTime::UNIX_EPOCH).is_err());
    }
}
