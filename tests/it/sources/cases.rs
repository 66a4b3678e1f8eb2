//! The fixtures of every kind, read to what `cases.json` beside them states.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use concord::finding::{FactValue, Finding, SourceError};
use concord::indicator::Form;
use concord::source::{CredentialNeed, HttpMethod, Kind, Question, Reading, Source, SourceSettings};
use serde_json::Value;

use super::{agrees, answer, build, found, http_kinds, lookup, outcome, reasons, set_option, settings, word};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) file: String,
    pub(crate) form: String,
    pub(crate) indicator: String,
    pub(crate) status: u16,
    expect: String,
    /// The question, as `GET address` or `POST address field=value`.
    #[serde(default)]
    asks: Option<String>,
    #[serde(default)]
    tier: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    options: BTreeMap<String, Value>,
    /// Part of a reason or of an error's detail.
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    facts: BTreeMap<String, Value>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    /// Relation and indicator, a space between.
    #[serde(default)]
    relations: Option<Vec<String>>,
    #[serde(default)]
    permalink: Option<String>,
    /// Seconds since 1970.
    #[serde(default)]
    observed: Option<u64>,
    /// Seconds.
    #[serde(default)]
    retry_after: Option<u64>,
}

pub(crate) fn fixtures(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sources").join(kind)
}

pub(crate) fn cases(kind: &str) -> Vec<Case> {
    let path = fixtures(kind).join("cases.json");
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn form(word: &str) -> Form {
    word.parse().expect("a form")
}

fn case_source(kind: &Arc<dyn Kind>, case: &Case) -> Arc<dyn Source> {
    build(kind, &case_settings(kind, case))
}

/// The settings under which a case is read.
pub(crate) fn case_settings(kind: &Arc<dyn Kind>, case: &Case) -> SourceSettings {
    let mut settings = settings(kind);
    if let Some(tier) = &case.tier {
        assert!(kind.about().tiers.iter().any(|known| known.name == *tier), "no tier {tier}");
        settings.tier.clone_from(tier);
    }
    case.options.iter().for_each(|(name, value)| set_option(&mut settings, kind, name, value));
    settings
}

/// The question in one line.
fn asked(question: &Question) -> String {
    let Question::Http(http) = question else { panic!("a kind of HTTP asks over HTTP") };
    match &http.method {
        HttpMethod::Get => format!("GET {}", http.url),
        HttpMethod::PostForm(fields) => {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("POST {} {}", http.url, fields.join("&"))
        }
        HttpMethod::PostFile { .. } => panic!("a look-up sends no file"),
    }
}

#[test]
fn every_question_is_the_one_that_its_case_states() {
    for kind in http_kinds() {
        let cases = cases(&kind.about().kind);
        assert!(cases.iter().any(|case| case.asks.is_some()), "{}: no case states its question", kind.about().kind);
        for case in &cases {
            let Some(stated) = &case.asks else { continue };
            let question = case_source(&kind, case).ask(&lookup(form(&case.form), &case.indicator));
            assert_eq!(asked(&question.expect("a question")), *stated);
        }
    }
}

fn shown(value: &FactValue) -> Value {
    match value {
        FactValue::Text(text) => text.clone().into(),
        FactValue::Integer(number) => (*number).into(),
        FactValue::Number(number) => (*number).into(),
        FactValue::Flag(flag) => (*flag).into(),
        FactValue::Time(time) => seconds(*time).into(),
        FactValue::List(list) => list.clone().into(),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// What a case says and the reading does not, one line each.
fn differences(case: &Case, reading: &Result<Reading, SourceError>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |what: &str, stated: String, is: String| {
        if stated != is {
            wrong.push(format!("{what}: states {stated}, is {is}"));
        }
    };
    let none = Finding::new(concord::finding::Disposition::Unknown, None, "");
    let finding = found(reading).unwrap_or(&none);
    if !agrees(reading, &case.expect) {
        let strength = finding.strength.map(|strength| strength.get());
        compare("outcome", case.expect.clone(), format!("{} {strength:?}", word(reading)));
    }
    let reason = reasons(reading);
    if case.reason.as_ref().is_some_and(|part| !reason.contains(part)) {
        compare("reason", format!("{:?}", case.reason), reason);
    }
    for (name, value) in &case.facts {
        let is = finding.facts.iter().find(|fact| fact.name == *name).map(|fact| shown(&fact.value));
        compare(name, value.to_string(), is.unwrap_or_default().to_string());
    }
    if let Some(tags) = &case.tags {
        compare("tags", format!("{tags:?}"), format!("{:?}", finding.tags));
    }
    if let Some(relations) = &case.relations {
        let is: Vec<_> =
            finding.relations.iter().map(|other| format!("{} {}", other.name, other.indicator.value())).collect();
        compare("relations", format!("{relations:?}"), format!("{is:?}"));
    }
    if case.permalink.is_some() {
        compare("permalink", format!("{:?}", case.permalink), format!("{:?}", finding.permalink));
    }
    if case.observed.is_some() {
        compare("observed", format!("{:?}", case.observed), format!("{:?}", finding.observed_time.map(seconds)));
    }
    let delay = reading.as_ref().err().and_then(|error| error.retry_after).map(|delay| delay.as_secs());
    if case.retry_after.is_some() {
        compare("retry after", format!("{:?}", case.retry_after), format!("{delay:?}"));
    }
    wrong
}

#[test]
fn every_fixture_reads_to_the_outcome_that_its_case_states() {
    let mut wrong = Vec::new();
    for kind in http_kinds() {
        let name = &kind.about().kind;
        for case in cases(name) {
            let body = std::fs::read(fixtures(name).join(&case.file)).expect("the case's file");
            let headers = case.headers.clone().into_iter().collect();
            let lookup = lookup(form(&case.form), &case.indicator);
            let source = case_source(&kind, &case);
            let reading = outcome(source.as_ref(), &lookup, answer(case.status, headers, body));
            let place = format!("{name}/{} ({})", case.file, case.expect);
            wrong.extend(differences(&case, &reading).into_iter().map(|line| format!("{place}: {line}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_probe_takes_every_refusal_of_a_credential_for_one() {
    for kind in http_kinds() {
        let refusals = cases(&kind.about().kind).into_iter().filter(|case| case.expect == "error: unauthorized");
        for case in refusals {
            let body = std::fs::read(fixtures(&kind.about().kind).join(&case.file)).expect("the case's file");
            let probe = case_source(&kind, &case).read_probe(&[Ok(answer(case.status, Vec::new(), body))]);
            let place = format!("{}/{} ({})", kind.about().kind, case.file, case.status);
            assert_eq!((probe.connectivity, probe.credential_accepted), (Ok(()), Some(false)), "{place}");
        }
    }
}

#[test]
fn every_kind_has_a_hit_a_miss_a_refusal_a_limit_and_a_malformed_answer_among_its_cases() {
    for kind in http_kinds() {
        let about = kind.about();
        let refusal = match about.credential {
            CredentialNeed::None => ("unavailable.json", "error: unavailable"),
            CredentialNeed::Optional | CredentialNeed::Required => ("unauthorized.json", "error: unauthorized"),
        };
        let wanted = [
            ("miss.json", "no_record"),
            refusal,
            ("limited.json", "error: quota exhausted"),
            ("malformed.json", "error: malformed"),
        ];
        let cases = cases(&about.kind);
        assert!(
            cases.iter().any(|case| case.file == "hit.json" && !case.expect.starts_with("error")),
            "{}",
            about.kind
        );
        for (file, outcome) in wanted {
            let there = cases.iter().any(|case| case.file == file && case.expect == outcome);
            assert!(there, "{}: no case {file} that states {outcome}", about.kind);
        }
    }
}

#[test]
fn every_fixture_file_stands_in_a_case() {
    for kind in http_kinds() {
        let kind = &kind.about().kind;
        let cases = cases(kind);
        for entry in std::fs::read_dir(fixtures(kind)).expect("the kind's fixtures") {
            let name = entry.expect("a file").file_name().into_string().expect("a name in UTF-8");
            assert!(name == "cases.json" || cases.iter().any(|case| case.file == name), "{kind}/{name} is in no case");
        }
    }
}
