//! Verdicts as Cortex XSOAR's entry context: a `DBotScore` for each source that answered and one for the verdict, and the
//! indicator with who calls it malicious.

use serde_json::{Map, Value, json};

use crate::convert::indicator::{read_disposition, read_reliability};
use crate::finding::{Disposition, Reliability};
use crate::pb;
use crate::pb::contribution::Term;
use crate::pb::outcome::Result as Wire;

/// The vendor of the verdict's own score.
const VENDOR: &str = "Concord";

/// The entry context of one verdict.
pub(super) fn context(verdict: &pb::Verdict) -> Value {
    let indicator = verdict.indicator.clone().unwrap_or_default();
    let (score_type, name, key) = names(&indicator);
    let score = |vendor: &str, disposition: Disposition, reliability: Reliability, message: &str| {
        let mut score = Map::new();
        score.insert("Indicator".into(), json!(indicator.value));
        score.insert("Type".into(), json!(score_type));
        score.insert("Vendor".into(), json!(vendor));
        score.insert("Score".into(), json!(disposition.dbot_score()));
        score.insert("Reliability".into(), json!(label(reliability)));
        if !message.is_empty() {
            score.insert("Message".into(), json!(message));
        }
        Value::Object(score)
    };
    let answers: Vec<_> = verdict.outcomes.iter().filter_map(|outcome| answer(verdict, outcome)).collect();
    let mut scores: Vec<Value> = answers
        .iter()
        .map(|(source, claim, reliability, message)| score(source, *claim, *reliability, message))
        .collect();
    let disposition = claimed(verdict.disposition);
    let reliability = of_verdict(verdict, &answers, disposition);
    scores.push(score(VENDOR, disposition, reliability, &verdict.summary));

    let mut entry = Map::new();
    entry.insert(key.into(), json!(indicator.value));
    let malicious: Vec<Value> = scores
        .iter()
        .filter(|score| score["Score"] == 3)
        .map(|score| json!({"Vendor": score["Vendor"], "Description": score["Message"]}))
        .collect();
    if !malicious.is_empty() {
        entry.insert("Malicious".into(), Value::Array(malicious));
    }
    json!({
        "DBotScore(val.Indicator && val.Indicator == obj.Indicator && val.Vendor == obj.Vendor && val.Type == obj.Type)":
            scores,
        format!("{name}(val.{key} && val.{key} == obj.{key})"): [entry],
    })
}

/// How reliable the verdict is: as the user's own word where an analyst pinned it, else as the source that decides, else as the
/// best source on its side.
fn of_verdict(
    verdict: &pb::Verdict,
    answers: &[(String, Disposition, Reliability, String)],
    disposition: Disposition,
) -> Reliability {
    if verdict.pin.is_some() {
        return Reliability::APlus;
    }
    let decides = |source: &str| verdict.deciding_source.trim_start_matches("sources/") == source;
    let agrees = |source: &str| {
        verdict.contributions.iter().any(|term| {
            let is_of = matches!(&term.term, Some(Term::Source(name)) if name.trim_start_matches("sources/") == source);
            is_of && term.agrees == Some(true)
        })
    };
    let found = |is: &dyn Fn(&str, Disposition) -> bool| {
        let these = answers.iter().filter(|(source, claim, ..)| is(source, *claim));
        these.map(|(_, _, reliability, _)| *reliability).min()
    };
    found(&|source, _| decides(source))
        .or_else(|| found(&|source, _| agrees(source)))
        .or_else(|| found(&|_, claim| claim == disposition))
        .unwrap_or(Reliability::F)
}

/// Source, claim, reliability and reasons of an answer. A source that failed or was not asked has no score: 0 would say that
/// it knows nothing.
fn answer(verdict: &pb::Verdict, outcome: &pb::Outcome) -> Option<(String, Disposition, Reliability, String)> {
    let source = outcome.source.trim_start_matches("sources/").to_owned();
    let reliability = read_reliability(outcome.reliability, "").ok().flatten().unwrap_or(Reliability::F);
    match &outcome.result {
        Some(Wire::Finding(finding)) => {
            let (claim, message) = match &finding.xsoar {
                Some(xsoar) if verdict.rule == "xsoar" => (xsoar.claim, xsoar.reason.clone()),
                _ => (finding.claim, finding.reasons.join("; ")),
            };
            Some((source, claimed(claim), reliability, message))
        }
        Some(Wire::NoRecord(_)) => Some((source, Disposition::Unknown, reliability, "no record".to_owned())),
        Some(Wire::Error(_) | Wire::NotAsked(_)) | None => None,
    }
}

/// The disposition of this number; one that a newer server may send says nothing.
fn claimed(number: i32) -> Disposition {
    read_disposition(number, "").ok().flatten().unwrap_or_default()
}

/// The indicator's type in a `DBotScore`, the name of its context, and the key of its value there.
fn names(indicator: &pb::Indicator) -> (&'static str, &'static str, &'static str) {
    match indicator.r#type() {
        pb::IndicatorType::Domain => ("domain", "Domain", "Name"),
        pb::IndicatorType::Url => ("url", "URL", "Data"),
        pb::IndicatorType::File => match indicator.value.len() {
            32 => ("file", "File", "MD5"),
            40 => ("file", "File", "SHA1"),
            _ => ("file", "File", "SHA256"),
        },
        pb::IndicatorType::Ip | pb::IndicatorType::Unspecified => ("ip", "IP", "Address"),
    }
}

/// The letter as Cortex XSOAR spells it.
fn label(reliability: Reliability) -> &'static str {
    match reliability {
        Reliability::APlus => "A+ - 3rd party enrichment",
        Reliability::A => "A - Completely reliable",
        Reliability::B => "B - Usually reliable",
        Reliability::C => "C - Fairly reliable",
        Reliability::D => "D - Not usually reliable",
        Reliability::E => "E - Unreliable",
        Reliability::F => "F - Reliability cannot be judged",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(source: &str, reliability: pb::Reliability, result: Wire) -> pb::Outcome {
        let source = format!("sources/{source}");
        pb::Outcome { source, reliability: reliability.into(), result: Some(result), ..Default::default() }
    }

    #[test]
    fn each_answer_has_a_score_with_its_reliability_and_a_failure_has_none() {
        let finding = pb::Finding {
            claim: pb::Disposition::Malicious.into(),
            reasons: vec!["12 of 94 engines say malicious (threshold 10)".into()],
            ..Default::default()
        };
        let verdict = pb::Verdict {
            indicator: Some(pb::Indicator {
                r#type: pb::IndicatorType::Domain.into(),
                value: "www.example.com".into(),
            }),
            disposition: pb::Disposition::Malicious.into(),
            summary: "malicious".into(),
            outcomes: vec![
                outcome("virustotal", pb::Reliability::B, Wire::Finding(finding)),
                outcome("otx", pb::Reliability::C, Wire::NoRecord(pb::NoRecord {})),
                outcome("broken", pb::Reliability::A, Wire::Error(pb::SourceError::default())),
            ],
            ..Default::default()
        };
        let context = context(&verdict);
        let members: Vec<_> = context.as_object().unwrap().iter().collect();
        let scores: Vec<_> = members[0].1.as_array().unwrap().iter().collect();
        let part = |score: &Value, key: &str| score[key].as_str().unwrap_or_default().to_owned();
        let rows: Vec<_> = scores
            .iter()
            .map(|score| (part(score, "Vendor"), score["Score"].clone(), part(score, "Reliability")))
            .collect();
        assert_eq!(
            rows,
            [
                ("virustotal".to_owned(), json!(3), "B - Usually reliable".to_owned()),
                ("otx".to_owned(), json!(0), "C - Fairly reliable".to_owned()),
                ("Concord".to_owned(), json!(3), "B - Usually reliable".to_owned()),
            ]
        );
        assert_eq!(members[1].0, "Domain(val.Name && val.Name == obj.Name)");
        assert_eq!(members[1].1[0]["Name"], "www.example.com");
        assert_eq!(members[1].1[0]["Malicious"][0]["Vendor"], "virustotal");
        assert_eq!(scores[0]["Type"], "domain");
    }

    #[test]
    fn a_hash_is_named_by_its_algorithm() {
        let key = |length: usize| {
            names(&pb::Indicator { r#type: pb::IndicatorType::File.into(), value: "a".repeat(length) }).2
        };
        assert_eq!([32, 40, 64].map(key), ["MD5", "SHA1", "SHA256"]);
    }
}
