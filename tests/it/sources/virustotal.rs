//! The rating of VirusTotal: scenarios that an analyst can read, and the laws of the rating.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use concord::finding::{Disposition, FactValue, Finding, SourceError, SourceErrorKind};
use concord::indicator::Indicator;
use concord::source::{Answer, AnswerBody, Kind, Lookup, Question, Reading, Source};
use concord::sources;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{answer, build, set_option, settings};
use crate::recordings;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    name: String,
    indicator: String,
    #[serde(default)]
    settings: BTreeMap<String, Value>,
    #[serde(default)]
    tier: Option<String>,
    #[serde(default)]
    report: Option<Report>,
    #[serde(default)]
    body: Option<Value>,
    #[serde(default)]
    related: Option<Related>,
    /// What each detail is answered with; a number is a status of failure.
    #[serde(default)]
    details: BTreeMap<String, Value>,
    documented: Documented,
    xsoar: Xsoar,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Report {
    malicious: u64,
    suspicious: u64,
    harmless: u64,
    undetected: u64,
    engines: Map<String, Value>,
    ranks: BTreeMap<String, u64>,
    attributes: Map<String, Value>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "snake_case", untagged)]
enum Related {
    Files(BTreeMap<String, Vec<Report>>),
    Refused(Refused),
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Refused {
    Refused,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Documented {
    #[serde(default)]
    claim: Option<String>,
    #[serde(default)]
    strength: Option<f64>,
    #[serde(default)]
    reasons: Vec<String>,
    #[serde(default)]
    facts: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    calls: Option<usize>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Xsoar {
    #[serde(default)]
    claim: Option<String>,
    #[serde(default)]
    fails: Option<String>,
}

impl Report {
    fn attributes(&self) -> Value {
        let results = self.engines.iter().map(|(name, category)| {
            (name.clone(), json!({"category": category, "engine_name": name, "method": "blacklist", "result": "x"}))
        });
        let mut attributes = json!({
            "last_analysis_results": results.collect::<Map<_, _>>(),
            "last_analysis_stats": {
                "malicious": self.malicious, "suspicious": self.suspicious,
                "harmless": self.harmless, "undetected": self.undetected,
            },
        });
        let members = attributes.as_object_mut().expect("an object");
        if !self.ranks.is_empty() {
            let ranks = self.ranks.iter().map(|(name, rank)| (name.clone(), json!({"rank": rank})));
            members.insert("popularity_ranks".into(), ranks.collect::<Map<_, _>>().into());
        }
        members.extend(self.attributes.clone());
        attributes
    }
}

fn virustotal() -> Arc<dyn Kind> {
    sources::find("virustotal").expect("the kind")
}

fn lookup(text: &str) -> Lookup {
    Lookup::new(Indicator::parse(text).unwrap_or_else(|refusal| panic!("{text}: {refusal}")).indicator)
}

fn source(options: &BTreeMap<String, Value>, tier: Option<&str>) -> Arc<dyn Source> {
    let kind = virustotal();
    let mut settings = settings(&kind);
    if let Some(tier) = tier {
        tier.clone_into(&mut settings.tier);
    }
    options.iter().for_each(|(name, value)| set_option(&mut settings, &kind, name, value));
    build(&kind, &settings)
}

fn json_answer(value: &Value) -> Answer {
    answer(200, Vec::new(), value.to_string().into_bytes())
}

fn path_of(question: &Question) -> String {
    let Question::Http(http) = question else { panic!("VirusTotal is asked over HTTP") };
    http.url.path().rsplit('/').next().unwrap_or_default().to_owned()
}

/// Plays a look-up to its end, as the pipeline does. Returns the finding and how many questions it took.
fn play(source: &dyn Source, scenario: &Scenario) -> (Result<Finding, SourceError>, usize) {
    let lookup = lookup(&scenario.indicator);
    let first = source.ask(&lookup).expect("a question");
    assert!(path_of(&first) != "related");
    let report = scenario.report.clone().unwrap_or_default();
    let body = scenario.body.clone().unwrap_or_else(|| json!({"data": {"attributes": report.attributes()}}));
    let (mut answers, mut calls) = (vec![json_answer(&body)], 1);
    let mut reading = source.read(&lookup, &answers);
    loop {
        match reading {
            Ok(Reading::Found(finding)) => return (Ok(finding), calls),
            Ok(Reading::NoRecord) => panic!("{}: no record", scenario.name),
            Err(error) => return (Err(error), calls),
            Ok(Reading::More { next, .. }) => {
                if let Some(error) = source.known_refusal(&lookup, &next) {
                    answers.push(failed(error));
                    reading = source.read(&lookup, &answers);
                    continue;
                }
                calls += 1;
                if let Some(detail) = scenario.details.get(&path_of(&next)) {
                    reading = play_detail(source, &lookup, &mut answers, &next, detail);
                    continue;
                }
                match &scenario.related {
                    Some(Related::Files(files)) => {
                        let files = &files[&path_of(&next)];
                        let files = files.iter().map(|file| json!({"type": "file", "attributes": file.attributes()}));
                        answers.push(json_answer(&json!({"data": files.collect::<Vec<_>>()})));
                        reading = source.read(&lookup, &answers);
                    }
                    Some(Related::Refused(Refused::Refused)) => {
                        reading = play_refusal(source, &lookup, &mut answers, &next);
                    }
                    None => panic!("{}: it asks {} and the scenario has no answer", scenario.name, path_of(&next)),
                }
            }
        }
    }
}

fn forbidden() -> SourceError {
    SourceError::new(SourceErrorKind::Forbidden, "HTTP status 403: ForbiddenError")
}

/// What stands in the place of an answer to a question that failed.
fn failed(error: SourceError) -> Answer {
    Answer { body: AnswerBody::Failed(error), ..answer(0, Vec::new(), Vec::new()) }
}

/// Refuses a question that the report stands without.
fn play_refusal(
    source: &dyn Source,
    lookup: &Lookup,
    answers: &mut Vec<Answer>,
    refused: &Question,
) -> Result<Reading, SourceError> {
    assert!(source.note_refusal(lookup, refused, &forbidden()), "the report does not stand");
    answers.push(failed(forbidden()));
    source.read(lookup, answers)
}

/// Answers the question about a detail, or refuses it.
fn play_detail(
    source: &dyn Source,
    lookup: &Lookup,
    answers: &mut Vec<Answer>,
    asked: &Question,
    detail: &Value,
) -> Result<Reading, SourceError> {
    match detail.as_u64() {
        Some(403) => return play_refusal(source, lookup, answers, asked),
        Some(503) => {
            let error = SourceError::unavailable("HTTP status 503: TransientError");
            assert!(!source.note_refusal(lookup, asked, &error), "a failure is no refusal");
            answers.push(failed(error));
        }
        Some(status) => {
            let body = json!({"error": {"code": "NotFoundError"}}).to_string().into_bytes();
            answers.push(answer(u16::try_from(status).expect("a status"), Vec::new(), body));
        }
        None => answers.push(json_answer(detail)),
    }
    source.read(lookup, answers)
}

/// The texts of a fact of this name.
fn fact(finding: &Finding, name: &str) -> Vec<String> {
    match finding.facts.iter().find(|fact| fact.name == name).map(|fact| &fact.value) {
        Some(FactValue::List(texts)) => texts.clone(),
        Some(FactValue::Text(text)) => vec![text.clone()],
        Some(FactValue::Integer(number)) => vec![number.to_string()],
        Some(other) => panic!("{name} is {other:?}"),
        None => Vec::new(),
    }
}

/// What a scenario states and the reading does not say, one line each.
fn differences(scenario: &Scenario) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut differ = |what: &str, stated: &dyn std::fmt::Debug, is: &dyn std::fmt::Debug| {
        wrong.push(format!("{}: {what} is {is:?}, stated is {stated:?}", scenario.name));
    };
    let (found, calls) = play(&*source(&scenario.settings, scenario.tier.as_deref()), scenario);
    let wanted = &scenario.documented;
    match &found {
        Ok(finding) => {
            if wanted.claim.as_deref() != Some(finding.claim.as_str()) {
                differ("documented", &wanted.claim, &finding.claim);
            }
            let strength = finding.strength.map(|strength| strength.get());
            if wanted.strength.is_some() && wanted.strength != strength {
                differ("strength", &wanted.strength, &strength);
            }
            let mut reasons = finding.reasons.iter();
            if let Some(missing) = wanted.reasons.iter().find(|part| !reasons.any(|reason| reason.contains(*part))) {
                differ("reasons", missing, &finding.reasons);
            }
            for (name, texts) in &wanted.facts {
                if *texts != fact(finding, name) {
                    differ(name, texts, &fact(finding, name));
                }
            }
            if calls != wanted.calls.unwrap_or(1) {
                differ("calls", &wanted.calls, &calls);
            }
            let xsoar = finding.xsoar.as_ref().expect("both ratings");
            match (&scenario.xsoar.claim, &scenario.xsoar.fails) {
                (Some(claim), None) if *claim == xsoar.claim.as_str() => {}
                (None, Some(part)) if xsoar.claim == Disposition::Unknown && xsoar.reason.contains(part) => {}
                (claim, fails) => differ("xsoar", &(claim, fails), xsoar),
            }
        }
        Err(error) if wanted.error.as_ref().is_some_and(|part| error.detail.contains(part)) => {}
        Err(error) => differ("documented", &(&wanted.claim, &wanted.error), error),
    }
    // The rating of that integration alone: it asks for nothing but details, and its failure is an error.
    let mut options = scenario.settings.clone();
    options.insert("rating".into(), "xsoar".into());
    let (found, calls) = play(&*source(&options, scenario.tier.as_deref()), scenario);
    match (&found, &scenario.xsoar.claim, &scenario.xsoar.fails) {
        (Ok(finding), Some(claim), None) if *claim == finding.claim.as_str() && calls == 1 + scenario.details.len() => {
        }
        (Err(error), None, Some(part))
            if error.kind == SourceErrorKind::Malformed && error.detail.contains(part.as_str()) => {}
        // A report on another indicator is refused whatever rates it.
        (Err(error), Some(_), None) if wanted.error.as_ref().is_some_and(|part| error.detail.contains(part)) => {}
        (found, claim, fails) => differ("rating xsoar", &(claim, fails), found),
    }
    wrong
}

#[test]
fn every_scenario_is_rated_as_it_states_by_both_ratings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/virustotal");
    let (mut wrong, mut played) = (Vec::new(), 0);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("the folder").map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "yaml")) {
        let text = std::fs::read_to_string(file).expect("a file");
        let scenarios: Vec<Scenario> =
            serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        played += scenarios.len();
        wrong.extend(scenarios.iter().flat_map(differences));
    }
    assert!(played >= 60, "only {played} scenarios");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How bad a claim is as evidence: benign is better than unknown.
fn badness(claim: Disposition) -> u8 {
    match claim {
        Disposition::Benign => 0,
        Disposition::Unknown => 1,
        Disposition::Suspicious => 2,
        Disposition::Malicious => 3,
    }
}

fn rate(report: &Report, indicator: &str) -> Finding {
    let options = BTreeMap::from([
        ("preferred_vendors".to_owned(), json!(["E1", "E3"])),
        ("preferred_threshold".to_owned(), json!(2)),
    ]);
    let body = json!({"data": {"attributes": report.attributes()}});
    match source(&options, None).read(&lookup(indicator), &[json_answer(&body)]) {
        Ok(Reading::Found(finding)) => finding,
        other => panic!("{other:?}"),
    }
}

fn report() -> impl Strategy<Value = Report> {
    let category = prop_oneof![Just("malicious"), Just("suspicious"), Just("harmless"), Just("undetected")];
    let engines = proptest::collection::vec(category, 0..30);
    let ranks = proptest::option::of(1_u64..30_000);
    (engines, ranks, 0_usize..3, any::<bool>()).prop_map(|(categories, rank, yara, is_goodware)| {
        let mut report = Report::default();
        for (index, category) in categories.into_iter().enumerate() {
            match category {
                "malicious" => report.malicious += 1,
                "suspicious" => report.suspicious += 1,
                "harmless" => report.harmless += 1,
                _ => report.undetected += 1,
            }
            report.engines.insert(format!("E{index}"), category.into());
        }
        report.ranks.extend(rank.map(|rank| ("Alexa".to_owned(), rank)));
        report.attributes.insert("crowdsourced_yara_results".into(), json!(vec![json!({}); yara]));
        if is_goodware {
            report.attributes.insert("tags".into(), json!(["nsrl"]));
        }
        report
    })
}

const INDICATORS: [&str; 4] = ["192.0.2.1", "example.com", "http://example.com/a", "d41d8cd98f00b204e9800998ecf8427e"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn another_malicious_engine_never_makes_it_better(report in report(), which in 0..INDICATORS.len()) {
        let before = rate(&report, INDICATORS[which]);
        let mut more = report.clone();
        more.malicious += 1;
        more.engines.insert("E99".into(), "malicious".into());
        let after = rate(&more, INDICATORS[which]);
        prop_assert!(badness(after.claim) >= badness(before.claim), "{before:?} became {after:?}");
        if after.claim == before.claim && after.claim == Disposition::Malicious {
            prop_assert!(after.strength >= before.strength);
        }
    }

    #[test]
    fn the_order_of_engines_does_not_matter(report in report(), which in 0..INDICATORS.len()) {
        let mut turned = report.clone();
        turned.engines = report.engines.clone().into_iter().rev().collect();
        let (one, other) = (rate(&report, INDICATORS[which]), rate(&turned, INDICATORS[which]));
        prop_assert_eq!((one.claim, one.strength, one.reasons), (other.claim, other.strength, other.reasons));
    }
}

#[test]
fn a_key_that_is_refused_once_is_not_asked_again_until_it_is_tested() {
    let source = source(&BTreeMap::new(), Some("premium"));
    let lookup = lookup("192.0.2.1");
    let report = Report { harmless: 90, ..Report::default() };
    let answers = [json_answer(&json!({"data": {"attributes": report.attributes()}}))];
    assert_eq!(source.max_questions(&lookup), 4);
    let Ok(Reading::More { next, .. }) = source.read(&lookup, &answers) else { panic!("it asks no further") };
    assert_eq!(source.known_refusal(&lookup, &next), None);
    assert!(source.note_refusal(&lookup, &next, &forbidden()));
    assert!(source.known_refusal(&lookup, &next).is_some(), "it would ask again");
    assert_eq!(source.max_questions(&lookup), 1);
    test(&*source);
    assert_eq!(
        (source.known_refusal(&lookup, &next), source.max_questions(&lookup)),
        (None, 4),
        "the test did not lift it"
    );
}

/// Tests a source, which makes it forget refusals.
fn test(source: &dyn Source) {
    source.read_probe(&[Ok(answer(200, Vec::new(), b"{\"data\": {}}".to_vec()))]);
}

#[test]
fn refusals_and_tests_during_a_look_up_do_not_change_which_answer_belongs_to_which_question() {
    let options = BTreeMap::from(["comments", "resolutions"].map(|name| (name.to_owned(), json!(true))));
    let source = source(&options, Some("premium"));
    let (asked, other) = (lookup("example.com"), lookup("example.net"));
    let report = Report { harmless: 90, ..Report::default() };
    let report = json_answer(&json!({"data": {"attributes": report.attributes()}}));
    let files = json_answer(&json!({"data": []}));
    let next = |lookup: &Lookup, answers: &[Answer]| match source.read(lookup, answers) {
        Ok(Reading::More { next, .. }) => *next,
        other => panic!("{other:?}"),
    };
    let resolutions = json_answer(&json!({"data": [{"attributes": {"ip_address": "192.0.2.7"}}]}));
    let comments = json_answer(&json!({"data": [{"attributes": {"text": "c2"}}]}));
    for related in [vec![files.clone(), files.clone(), files], vec![failed(forbidden())]] {
        let mut answers = vec![report.clone()];
        answers.extend(related);
        // Another look-up is refused both, and a test lifts that.
        for change in [true, false, true] {
            if change {
                let premium = next(&other, std::slice::from_ref(&report));
                assert!(source.note_refusal(&other, &premium, &forbidden()));
                let detail = next(&other, &[report.clone(), failed(forbidden())]);
                assert!(source.note_refusal(&other, &detail, &forbidden()));
            } else {
                test(&*source);
            }
            assert_eq!(path_of(&next(&asked, &answers)), "resolutions");
            let with_resolutions = [&answers[..], std::slice::from_ref(&resolutions)].concat();
            assert_eq!(path_of(&next(&asked, &with_resolutions)), "comments");
            let Ok(Reading::Found(finding)) =
                source.read(&asked, &[&with_resolutions[..], std::slice::from_ref(&comments)].concat())
            else {
                panic!("it asks more")
            };
            assert_eq!(
                (fact(&finding, "resolutions"), fact(&finding, "comments")),
                (vec!["192.0.2.7".into()], vec!["c2".into()])
            );
        }
    }
}

#[test]
fn every_recorded_report_is_rated_both_ways_in_one_table() {
    let Some(folder) = recordings::folder_for("every_recorded_report_is_rated_both_ways_in_one_table") else { return };
    let text = std::fs::read_to_string(folder.join("lookups.tsv")).expect("the list of look-ups");
    let source = source(&BTreeMap::new(), None);
    let mut rated = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("virustotal/")) {
        let columns: Vec<_> = line.split('\t').collect();
        let (file, indicator, status) = (columns[0], columns[2], columns[3]);
        if status != "200" {
            continue;
        }
        let body = std::fs::read(folder.join(file)).expect("the recording");
        let reading = source.read(&lookup(indicator), &[answer(200, Vec::new(), body)]);
        let Ok(Reading::Found(finding)) = reading else { panic!("{file}: {reading:?}") };
        let xsoar = finding.xsoar.expect("both ratings");
        println!("{file:66} {:10} {:10} {}", finding.claim, xsoar.claim, xsoar.reason);
        rated.insert(file.to_owned(), (finding.claim, xsoar.claim));
    }
    // What that integration makes of the reports that it was tested with.
    let xsoar = |file: &str| rated[&format!("virustotal/{file}")].1;
    assert_eq!(xsoar("domain-8-malicious-with-relationships.json"), Disposition::Suspicious);
    assert_eq!(xsoar("ip-5-malicious-2-suspicious.json"), Disposition::Suspicious);
    assert_eq!(xsoar("url-xsoar-test.json"), Disposition::Suspicious);
    assert_eq!(xsoar("file-eicar-like-undetected-with-relationships.json"), Disposition::Benign);
    assert!(rated.len() >= 16, "only {} reports", rated.len());
}

#[test]
fn preferred_vendors_of_the_recorded_url_are_cut_off_in_that_integration() {
    let test = "preferred_vendors_of_the_recorded_url_are_cut_off_in_that_integration";
    let Some(folder) = recordings::folder_for(test) else { return };
    let body = std::fs::read(folder.join("virustotal/url-xsoar-test.json")).expect("the recording");
    let rate = |threshold: u64| {
        let vendors = json!(["BitDefender", "ESET", "Fortinet", "Kaspersky", "Sophos"]);
        let options = BTreeMap::from([
            ("preferred_vendors".to_owned(), vendors),
            ("preferred_threshold".to_owned(), json!(threshold)),
        ]);
        let answer = answer(200, Vec::new(), body.clone());
        let lookup = lookup("http://something_definitely_unsecure.com");
        match source(&options, None).read(&lookup, &[answer]) {
            Ok(Reading::Found(finding)) => (finding.claim, finding.xsoar.expect("both ratings").claim),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(rate(1), (Disposition::Malicious, Disposition::Malicious));
    // Only one of them is among the first twenty engines of the report.
    assert_eq!(rate(2), (Disposition::Malicious, Disposition::Suspicious));
}

#[test]
fn recorded_resolutions_and_comments_are_facts() {
    let Some(folder) = recordings::folder_for("recorded_resolutions_and_comments_are_facts") else { return };
    let recorded = |file: &str| answer(200, Vec::new(), std::fs::read(folder.join("virustotal").join(file)).unwrap());
    let report =
        json_answer(&json!({"data": {"attributes": Report { harmless: 90, ..Report::default() }.attributes()}}));
    let options = BTreeMap::from(["comments", "resolutions"].map(|name| (name.to_owned(), json!(true))));
    let source = source(&options, None);
    for (indicator, file, first) in [
        ("jppost-ge.top", "domain-resolutions.json", "193.148.69.9 (2019-08-08)"),
        ("45.83.140.140", "ip-resolutions-paged.json", "jppost-ayu.top (2019-08-20)"),
    ] {
        let answers = [report.clone(), recorded(file), recorded("comments-page.json")];
        let Ok(Reading::Found(finding)) = source.read(&lookup(indicator), &answers) else { panic!("{file}") };
        assert_eq!(fact(&finding, "resolutions")[0], first);
        assert_eq!(fact(&finding, "comments")[0], "2021-03-21: another comment");
        assert_eq!(finding.claim, Disposition::Unknown);
    }
}
