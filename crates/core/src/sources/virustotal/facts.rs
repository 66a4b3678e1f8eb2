//! What a report says beside its rating.

use super::options::Options;
use super::report::{Objection, Report, objections, results};
use crate::finding::Fact;
use crate::sources::json::{self, Object};

/// The facts of a report, as far as they can be read; `report` is what its rating reads, if that can be.
pub(super) fn read(attributes: &Object<'_>, report: Option<&Report<'_>>, options: &Options) -> Vec<Fact> {
    let mut facts = Vec::new();
    if let Some(report) = report {
        let counts = &report.counts;
        facts.extend([
            Fact::new("malicious", counts.malicious),
            Fact::new("suspicious", counts.suspicious),
            Fact::new("harmless", counts.harmless),
            Fact::new("undetected", counts.undetected),
            Fact::new("engines", counts.engines()),
        ]);
        let preferred = report.malicious_engines().filter(|engine| options.vendors.contains(engine));
        facts.extend(all("engines_malicious", report.malicious_engines().map(str::to_owned)));
        facts.extend(all("preferred_malicious", preferred.map(str::to_owned)));
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
        ("total_votes.harmless", "votes_harmless"),
        ("total_votes.malicious", "votes_malicious"),
        ("gti_assessment.verdict.value", "gti_verdict"),
        ("gti_assessment.severity.value", "gti_severity"),
        ("gti_assessment.threat_score.value", "gti_score"),
        ("last_https_certificate.subject.CN", "certificate_subject"),
        ("last_https_certificate.issuer.CN", "certificate_issuer"),
        ("last_https_certificate.thumbprint_sha256", "certificate_sha256"),
        ("last_https_certificate.validity.not_after", "certificate_expires"),
        ("signature_info.verified", "signature"),
        ("signature_info.signers", "signers"),
        ("signature_info.product", "signed_product"),
        ("exiftool.OriginalFileName", "original_file_name"),
        ("exiftool.FileTypeExtension", "file_extension"),
        ("exiftool.CompanyName", "file_company"),
        ("exiftool.ProductName", "file_product"),
        ("continent", "continent"),
        ("regional_internet_registry", "internet_registry"),
    ];
    let times = &[
        ("last_analysis_date", "last_analysis"),
        ("last_modification_date", "last_modification"),
        ("first_submission_date", "first_seen"),
        ("last_submission_date", "last_seen"),
        ("creation_date", "created"),
    ];
    facts.extend(attributes.facts(&["jarm", "magic", "ssdeep", "tlsh"], renamed, times));
    facts.extend(
        [
            ranks(attributes),
            categories(attributes),
            match report {
                Some(report) => engine_labels(report.objections.iter().copied()),
                None => engine_labels(objections(attributes)),
            },
            sandbox_verdicts(attributes),
            dns_records(attributes),
            rules(attributes, "crowdsourced_yara_results", "yara_rules", &["rule_name", "ruleset_name", "author"]),
            rules(attributes, "sigma_analysis_results", "sigma_rules", &["rule_title", "rule_level", "rule_source"]),
            rules(attributes, "crowdsourced_ids_results", "ids_rules", &["rule_msg", "alert_severity", "rule_source"]),
        ]
        .into_iter()
        .flatten(),
    );
    facts.extend(whois(attributes));
    if options.extended_data {
        facts.extend(engine_results(attributes));
    }
    facts
}

/// A fact of these texts, as many as a fact holds; none without any.
fn list(name: &str, texts: impl Iterator<Item = String>) -> Option<Fact> {
    all(name, texts.take(json::LIST_LIMIT))
}

/// A fact of all these texts; none without any.
fn all(name: &str, texts: impl Iterator<Item = String>) -> Option<Fact> {
    let texts: Vec<String> = texts.collect();
    (!texts.is_empty()).then(|| Fact::new(name, texts))
}

/// The members of an object as `name: text`.
fn categories(attributes: &Object<'_>) -> Option<Fact> {
    let categories = attributes.object("categories").ok()??;
    let said = categories.members().iter().filter_map(|(name, value)| Some((name, value.as_text()?)));
    list("categories", said.map(|(name, text)| format!("{name}: {text}")))
}

/// What the engines that object call it.
fn engine_labels<'a>(objections: impl Iterator<Item = Objection<'a>>) -> Option<Fact> {
    list(
        "engine_labels",
        objections.filter_map(|Objection { engine, label, .. }| Some(format!("{engine}: {}", label?))),
    )
}

/// Every engine as `name: category, label, method, version`.
fn engine_results(attributes: &Object<'_>) -> Option<Fact> {
    let result = |(name, result): (&str, Object<'_>)| {
        let said = ["category", "result", "method", "engine_version"];
        let said: Vec<_> = said.iter().filter_map(|member| result.text_if_any(member)).collect();
        (!said.is_empty()).then(|| format!("{name}: {}", said.join(", ")))
    };
    list("engine_results", results(attributes).filter_map(result))
}

fn sandbox_verdicts(attributes: &Object<'_>) -> Option<Fact> {
    let sandboxes = attributes.object("sandbox_verdicts").ok()??;
    let verdict = |(name, sandbox): (&str, Object<'_>)| {
        let mut said = vec![sandbox.text_if_any("category")?.to_owned()];
        said.extend(sandbox.texts(&["malware_names", "malware_classification"]));
        Some(format!("{name}: {}", said.join(", ")))
    };
    list("sandbox_verdicts", sandboxes.objects_by_name().filter_map(verdict))
}

fn dns_records(attributes: &Object<'_>) -> Option<Fact> {
    let records = attributes.list_or_one("last_dns_records");
    let record = |record: Object<'_>| Some(format!("{} {}", record.text_if_any("type")?, record.text_if_any("value")?));
    list("dns_records", records.filter_map(record))
}

/// Rules that match, each by these members.
fn rules(attributes: &Object<'_>, path: &str, name: &str, members: &[&str]) -> Option<Fact> {
    let rules = attributes.list_or_one(path);
    let rule = |rule: Object<'_>| {
        let said: Vec<_> = members.iter().filter_map(|member| rule.text_if_any(member)).collect();
        let (first, rest) = said.split_first()?;
        Some(if rest.is_empty() { (*first).to_owned() } else { format!("{first} ({})", rest.join(", ")) })
    };
    list(name, rules.filter_map(rule))
}

/// The lines of a WHOIS record that analysts look for, by our names. A key that is repeated makes a list.
fn whois(attributes: &Object<'_>) -> Vec<Fact> {
    const KEYS: [(&str, &str); 13] = [
        ("Creation Date", "whois_created"),
        ("Updated Date", "whois_updated"),
        ("Registry Expiry Date", "whois_expires"),
        ("Registrar", "whois_registrar"),
        ("Registrar Abuse Contact Email", "whois_abuse_email"),
        ("Registrar Abuse Contact Phone", "whois_abuse_phone"),
        ("Registrant Organization", "whois_registrant"),
        ("Registrant Country", "whois_registrant_country"),
        ("Registrant Email", "whois_registrant_email"),
        ("Admin Organization", "whois_admin"),
        ("Admin Email", "whois_admin_email"),
        ("Admin Country", "whois_admin_country"),
        ("Name Server", "whois_name_servers"),
    ];
    let Some(text) = attributes.text_if_any("whois") else { return Vec::new() };
    let lines: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.trim(), value.trim()))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let fact = |(key, name): &(&str, &str)| {
        let values = lines.iter().filter(|(known, _)| known.eq_ignore_ascii_case(key));
        let values: Vec<String> = values.map(|(_, value)| (*value).to_owned()).take(json::LIST_LIMIT).collect();
        match values.as_slice() {
            [] => None,
            [one] => Some(Fact::new(*name, one.clone())),
            _ => Some(Fact::new(*name, values)),
        }
    };
    KEYS.iter().filter_map(fact).collect()
}

/// The popularity ranks as `provider: rank`.
fn ranks(attributes: &Object<'_>) -> Option<Fact> {
    let ranks = attributes.object("popularity_ranks").ok()??;
    let rank = |(name, entry): (&str, Object<'_>)| Some(format!("{name}: {}", entry.count("rank").ok()??));
    list("popularity_ranks", ranks.objects_by_name().filter_map(rank))
}
