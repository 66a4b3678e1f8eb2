//! What each engine says, from the facts of a finding that was recorded: `facts` writes them.

use std::collections::HashMap;

use crate::finding::{FactValue, Finding};
use crate::statistics::{EngineOpinion, EngineReport, EngineResult};

/// What the engines say in this finding; `None` where it does not name all that say malicious, as for a report without single
/// results.
pub fn engine_report(finding: &Finding) -> Option<EngineReport<'_>> {
    let malicious = list(finding, "engines_malicious");
    if integer(finding, "malicious") != i64::try_from(malicious.len()).ok() {
        return None;
    }
    let labels: HashMap<&str, &str> =
        list(finding, "engine_labels").iter().filter_map(|entry| entry.split_once(": ")).collect();
    let result = |engine, opinion| EngineResult { engine, opinion, label: labels.get(engine).copied() };
    let opinions = list(finding, "engine_results").iter().filter_map(|entry| opinion(entry));
    let results: Vec<EngineResult<'_>> = opinions.map(|(engine, opinion)| result(engine, opinion)).collect();
    // The list may have been too long to be recorded whole.
    let names_silent = integer(finding, "engines") == i64::try_from(results.len()).ok();
    let hits = || malicious.iter().map(|engine| result(engine, EngineOpinion::Malicious)).collect();
    Some(EngineReport { results: if names_silent { results } else { hits() }, names_silent })
}

/// An engine with its opinion, of `name: category, label, ...`. An engine that failed or does not know the type has none.
fn opinion(entry: &str) -> Option<(&str, EngineOpinion)> {
    let (engine, said) = entry.split_once(": ")?;
    let opinion = match said.split(", ").next()? {
        "malicious" => EngineOpinion::Malicious,
        "suspicious" => EngineOpinion::Suspicious,
        "harmless" | "undetected" => EngineOpinion::NoObjection,
        _ => return None,
    };
    Some((engine, opinion))
}

fn list<'a>(finding: &'a Finding, name: &str) -> &'a [String] {
    match value(finding, name) {
        Some(FactValue::List(texts)) => texts,
        Some(
            FactValue::Text(_) | FactValue::Integer(_) | FactValue::Number(_) | FactValue::Flag(_) | FactValue::Time(_),
        )
        | None => &[],
    }
}

fn integer(finding: &Finding, name: &str) -> Option<i64> {
    match value(finding, name)? {
        FactValue::Integer(number) => Some(*number),
        FactValue::Text(_) | FactValue::Number(_) | FactValue::Flag(_) | FactValue::Time(_) | FactValue::List(_) => {
            None
        }
    }
}

fn value<'a>(finding: &'a Finding, name: &str) -> Option<&'a FactValue> {
    finding.facts.iter().find(|fact| fact.name == name).map(|fact| &fact.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Disposition, Fact};

    fn finding(counts: [(&str, u64); 2], lists: &[(&str, &[&str])]) -> Finding {
        let mut finding = Finding::new(Disposition::Unknown, None, "");
        finding.facts.extend(counts.map(|(name, count)| Fact::new(name, count)));
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        finding.facts.extend(lists.iter().map(|(name, list)| Fact::new(*name, texts(list))));
        finding
    }

    #[test]
    fn a_finding_with_every_engine_names_those_with_an_opinion_and_their_labels() {
        let found = finding(
            [("malicious", 1), ("engines", 3)],
            &[
                ("engines_malicious", &["Avast"]),
                ("engine_labels", &["Avast: Win32:Evo-gen [Trj], new", "ZoneAlarm: riskware"]),
                (
                    "engine_results",
                    &[
                        "Avast: malicious, Win32:Evo-gen [Trj], new, blacklist, 22.1",
                        "ZoneAlarm: suspicious, riskware, blacklist",
                        "Zillya: undetected, blacklist, 2.0",
                        "Trapmine: type-unsupported, blacklist",
                    ],
                ),
            ],
        );
        let report = engine_report(&found).expect("it names the engines");
        let result = |engine, opinion, label| EngineResult { engine, opinion, label };
        let expected = [
            result("Avast", EngineOpinion::Malicious, Some("Win32:Evo-gen [Trj], new")),
            result("ZoneAlarm", EngineOpinion::Suspicious, Some("riskware")),
            result("Zillya", EngineOpinion::NoObjection, None),
        ];
        assert_eq!((report.results.as_slice(), report.names_silent), (&expected[..], true));
    }

    #[test]
    fn a_finding_that_does_not_name_all_that_say_malicious_is_no_report() {
        let counts = [("malicious", 2), ("engines", 90)];
        assert_eq!(engine_report(&finding(counts, &[])), None);
        assert_eq!(engine_report(&finding(counts, &[("engines_malicious", &["Avast"])])), None);
        let hits =
            finding(counts, &[("engines_malicious", &["Avast", "Zillya"]), ("engine_results", &["Zoner: harmless"])]);
        let report = engine_report(&hits).expect("it names all that say malicious");
        assert_eq!((report.results.len(), report.names_silent), (2, false));
        let without_hits = finding([("malicious", 0), ("engines", 90)], &[]);
        let none = engine_report(&without_hits).expect("no engine says malicious");
        assert_eq!(none.results, []);
    }
}
