//! Every kind that asks over HTTP, held to the same rules: its own fixtures read to the outcome they state, recorded
//! answers too, it asks nobody but its base address, and nothing that comes back makes it panic.
//!
//! No test here knows a kind by name, but for what a transport needs to be played back.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use concord::finding::FactValue;
use concord::finding::Finding;
use concord::finding::SourceError;
use concord::finding::SourceErrorKind;
use concord::indicator::Form;
use concord::indicator::Indicator;
use concord::indicator::IndicatorType;
use concord::source::Access;
use concord::source::Answer;
use concord::source::AnswerBody;
use concord::source::CredentialNeed;
use concord::source::CredentialPlace;
use concord::source::ListAnswer;
use concord::source::Lookup;
use concord::source::OptionValue;
use concord::source::Question;
use concord::source::Reading;
use concord::source::Source;
use concord::source::SourceSettings;
use concord::source::Transport;
use concord::sources;
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::Value;

const KEY: &str = "k3y-that-nobody-may-see";

/// 2026-11-25T00:00:00Z, the moment of every answer here.
fn received() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_564_800)
}

fn http_kinds() -> Vec<Arc<dyn Source>> {
    sources::all().iter().filter(|source| source.about().transport == Transport::Http).cloned().collect()
}

fn settings(source: &Arc<dyn Source>) -> SourceSettings {
    let mut settings = SourceSettings::from_defaults(source.about(), "tested");
    settings.credential = Some(SecretString::from(KEY));
    settings
}

fn lookup(form: Form, value: &str) -> Lookup {
    Lookup { indicator: Indicator::from_normal(form, value).expect("a value in normal form") }
}

fn answer(status: u16, headers: Vec<(String, String)>, body: Vec<u8>) -> Answer {
    Answer { received: received(), ttl: None, body: AnswerBody::Http { status, headers, body } }
}

/// Judges and reads one answer as the engine does.
fn outcome(
    source: &Arc<dyn Source>,
    settings: &SourceSettings,
    lookup: &Lookup,
    answer: Answer,
) -> Result<Reading, SourceError> {
    source.check(&answer)?;
    source.read(lookup, Access { settings }, &[answer])
}

fn found(reading: &Result<Reading, SourceError>) -> Option<&Finding> {
    match reading {
        Ok(Reading::Found(finding)) => Some(finding),
        Ok(Reading::NoRecord | Reading::More { .. }) | Err(_) => None,
    }
}

/// The words in which cases and recorded look-ups state an outcome, without the strength.
fn word(reading: &Result<Reading, SourceError>) -> String {
    match reading {
        Ok(Reading::Found(finding)) if finding.strength.is_none() => format!("finding({})", finding.claim),
        Ok(Reading::Found(finding)) => finding.claim.to_string(),
        Ok(Reading::NoRecord) => "no_record".to_owned(),
        Ok(Reading::More { .. }) => "more".to_owned(),
        Err(error) => format!("error: {}", error.kind.as_str().replace('_', " ")),
    }
}

fn reasons(reading: &Result<Reading, SourceError>) -> String {
    match reading {
        Ok(Reading::Found(finding)) => finding.reasons.join("; "),
        Ok(Reading::NoRecord | Reading::More { .. }) => String::new(),
        Err(error) => error.detail.clone(),
    }
}

/// Whether the reading is what the text states: `malicious .85`, `finding(unknown)`, `no_record`, `error: timeout`.
fn agrees(reading: &Result<Reading, SourceError>, stated: &str) -> bool {
    let wanted = word(reading);
    match found(reading).and_then(|finding| finding.strength) {
        None => stated == wanted,
        Some(strength) => {
            let number = stated.strip_prefix(&wanted).and_then(|text| text.trim().parse::<f64>().ok());
            number.is_some_and(|number| (number - strength.get()).abs() < 1e-9)
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    file: String,
    form: String,
    indicator: String,
    status: u16,
    expect: String,
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

fn fixtures(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sources").join(kind)
}

fn cases(kind: &str) -> Vec<Case> {
    let path = fixtures(kind).join("cases.json");
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn option(value: &Value) -> OptionValue {
    match value {
        Value::Number(number) => OptionValue::Integer(number.as_i64().expect("a whole number")),
        Value::Bool(flag) => OptionValue::Flag(*flag),
        Value::String(text) => OptionValue::Text(text.clone()),
        Value::Array(items) => {
            OptionValue::List(items.iter().map(|item| item.as_str().expect("a text").to_owned()).collect())
        }
        Value::Null | Value::Object(_) => panic!("cases set numbers, flags, texts and lists only"),
    }
}

fn form(word: &str) -> Form {
    Form::ALL.into_iter().find(|form| form.as_str() == word).expect("a form")
}

fn case_settings(source: &Arc<dyn Source>, case: &Case) -> SourceSettings {
    let mut settings = settings(source);
    if let Some(tier) = &case.tier {
        assert!(source.about().tiers.iter().any(|known| known.name == *tier), "no tier {tier}");
        settings.tier.clone_from(tier);
    }
    for (name, value) in &case.options {
        assert!(source.about().options.iter().any(|spec| spec.name == *name), "no option {name}");
        settings.options.insert(name.clone(), option(value));
    }
    settings
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
            finding.relations.iter().map(|other| format!("{} {}", other.relation, other.indicator.value())).collect();
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
    for source in http_kinds() {
        let kind = &source.about().kind;
        for case in cases(kind) {
            let body = std::fs::read(fixtures(kind).join(&case.file)).expect("the case's file");
            let headers = case.headers.clone().into_iter().collect();
            let lookup = lookup(form(&case.form), &case.indicator);
            let reading = outcome(&source, &case_settings(&source, &case), &lookup, answer(case.status, headers, body));
            let place = format!("{kind}/{} ({})", case.file, case.expect);
            wrong.extend(differences(&case, &reading).into_iter().map(|line| format!("{place}: {line}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_kind_has_a_hit_a_miss_a_refusal_a_limit_and_a_malformed_answer_among_its_cases() {
    for source in http_kinds() {
        let about = source.about();
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
    for source in http_kinds() {
        let kind = &source.about().kind;
        let cases = cases(kind);
        for entry in std::fs::read_dir(fixtures(kind)).expect("the kind's fixtures") {
            let name = entry.expect("a file").file_name().into_string().expect("a name in UTF-8");
            assert!(name == "cases.json" || cases.iter().any(|case| case.file == name), "{kind}/{name} is in no case");
        }
    }
}

fn samples(form: Form) -> &'static [&'static str] {
    match form {
        Form::Ipv4 => &["192.0.2.10"],
        Form::Ipv6 => &["2001:db8::10"],
        Form::Domain => &["example.com", "xn--bcher-kva.example.com"],
        Form::Url => &["http://example.com/a?b=c&d=%20#", "https://user:pass@example.com/../x", "ftp://192.0.2.1/"],
        Form::Md5 => &["cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"],
        Form::Sha1 => &["efefefefefefefefefefefefefefefefefefefef"],
        Form::Sha256 => &["abababababababababababababababababababababababababababababababab"],
    }
}

fn asserts_home(question: &Question, settings: &SourceSettings) {
    let Question::Http(http) = question else { panic!("a kind of HTTP asks over HTTP") };
    let home = settings.base_url.as_ref().expect("a base address");
    assert_eq!(http.url.origin(), home.origin());
    assert!(http.url.path().starts_with(home.path()), "{} is not under {home}", http.url);
    assert!(http.url.username().is_empty() && http.url.password().is_none() && http.url.fragment().is_none());
}

#[test]
fn every_kind_asks_only_under_its_base_address_and_refuses_forms_it_does_not_look_up() {
    for source in http_kinds() {
        let mut settings = settings(&source);
        for base in [source.about().base_url.as_deref().expect("a base address"), "http://127.0.0.1:9/mirror"] {
            settings.base_url = Some(base.parse().expect("an address"));
            for tier in &source.about().tiers {
                settings.tier.clone_from(&tier.name);
                let access = Access { settings: &settings };
                for form in Form::ALL {
                    for value in samples(form) {
                        let asked = source.ask(&lookup(form, value), access);
                        assert_eq!(asked.is_ok(), source.about().forms.contains(&form), "{form:?}: {asked:?}");
                        asked.iter().for_each(|question| asserts_home(question, &settings));
                    }
                }
                let probe = source.probe(access);
                assert!(!probe.is_empty());
                probe.iter().for_each(|question| asserts_home(question, &settings));
            }
        }
    }
}

#[test]
fn a_source_without_base_address_asks_nothing_and_does_not_panic() {
    for source in http_kinds() {
        let mut settings = settings(&source);
        for base in [None, Some("data:text/plain,x".parse().expect("an address"))] {
            settings.base_url = base;
            let access = Access { settings: &settings };
            for form in &source.about().forms {
                assert!(source.ask(&lookup(*form, samples(*form)[0]), access).is_err());
            }
            assert!(source.probe(access).is_empty());
            assert!(source.read_probe(access, &[]).connectivity.is_err());
        }
    }
}

#[test]
fn a_credential_has_a_place_exactly_where_the_kind_takes_one_and_is_never_shown() {
    for source in http_kinds() {
        let settings = settings(&source);
        let access = Access { settings: &settings };
        let takes = source.about().credential != CredentialNeed::None;
        for form in &source.about().forms {
            let question = source.ask(&lookup(*form, samples(*form)[0]), access).expect("a question");
            let Question::Http(http) = &question else { panic!("a kind of HTTP asks over HTTP") };
            assert_eq!(http.credential != CredentialPlace::None, takes);
            assert!(!format!("{question:?}").contains(KEY));
        }
        assert!(!format!("{access:?}{settings:?}{:?}", source.probe(access)).contains(KEY));
    }
}

#[test]
fn statuses_mean_the_same_for_every_kind_and_a_delay_is_taken_from_the_header() {
    let statuses = [
        (401, SourceErrorKind::Unauthorized),
        (403, SourceErrorKind::Forbidden),
        (400, SourceErrorKind::BadQuestion),
        (422, SourceErrorKind::BadQuestion),
        (429, SourceErrorKind::QuotaExhausted),
        (302, SourceErrorKind::Refused),
        (500, SourceErrorKind::Unavailable),
        (504, SourceErrorKind::Timeout),
    ];
    for source in http_kinds() {
        for (status, kind) in statuses {
            let delay = vec![("retry-after".to_owned(), "77".to_owned())];
            let error = source.check(&answer(status, delay, b"<html>".to_vec())).expect_err("a refusal");
            assert_eq!(error.kind, kind, "{} {status}", source.about().kind);
            assert_eq!(error.retry_after, Some(Duration::from_secs(77)), "{} {status}", source.about().kind);
        }
    }
}

#[test]
fn a_probe_tells_a_wrong_credential_from_a_source_that_cannot_be_reached() {
    for source in http_kinds() {
        let settings = settings(&source);
        let access = Access { settings: &settings };
        let refused = source.read_probe(access, &[Ok(answer(401, Vec::new(), Vec::new()))]);
        assert_eq!((refused.connectivity, refused.credential_accepted), (Ok(()), Some(false)));
        let away = source.read_probe(access, &[Err(SourceError::unavailable("connection refused"))]);
        assert!(away.connectivity.is_err());
        assert_eq!(away.credential_accepted, None);
        let spent = source.read_probe(access, &[Ok(answer(429, Vec::new(), Vec::new()))]);
        assert_eq!((spent.connectivity, spent.credential_accepted), (Ok(()), None));
    }
}

#[test]
fn a_probe_of_a_user_record_reads_tier_and_what_is_left_of_the_quota() {
    let body = serde_json::json!({"data": {"attributes": {"quotas": {
        "api_requests_daily": {"used": 88, "allowed": 500}, "api_requests_monthly": {"used": 88, "allowed": 15500}}}}});
    let body = serde_json::to_vec(&body).expect("JSON");
    let source = sources::find("virustotal").expect("the kind");
    let settings = settings(&source);
    let probe = source.read_probe(Access { settings: &settings }, &[Ok(answer(200, Vec::new(), body))]);
    assert_eq!(probe.credential_accepted, Some(true));
    assert_eq!(probe.tier.as_deref(), Some("free"));
    assert_eq!(probe.quota_left, [("day".to_owned(), 412), ("month".to_owned(), 15_412)]);
}

#[test]
fn kinds_are_found_by_name_and_their_descriptions_hold_together() {
    for source in sources::all() {
        let about = source.about();
        let same = sources::find(&format!(" {} ", about.kind.to_uppercase())).expect("found by name");
        assert_eq!(same.about().kind, about.kind);
        assert!(!about.tiers.is_empty() && !about.forms.is_empty(), "{}", about.kind);
        assert!(about.tiers.iter().flat_map(|tier| &tier.quota).all(|window| window.limit > 0));
        let settings = SourceSettings::from_defaults(about, "name");
        assert_eq!(settings.tier, about.tiers[0].name);
        assert_eq!(settings.quota, about.tiers[0].quota);
        assert_eq!(settings.base_url.is_some(), about.base_url.is_some());
        assert_eq!(settings.options.len(), about.options.iter().filter(|spec| spec.default.is_some()).count());
        let names: std::collections::BTreeSet<_> = about.options.iter().map(|spec| &spec.name).collect();
        assert_eq!(names.len(), about.options.len(), "an option of {} stands there twice", about.kind);
    }
    assert!(sources::find("no such kind").is_none());
}

/// Replaces the member at this place, counted through the whole value, with another.
fn mutate(value: &mut Value, place: &mut usize, with: &Value) {
    if *place == 0 {
        *value = with.clone();
    }
    *place = place.wrapping_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| mutate(item, place, with)),
        Value::Object(members) => members.values_mut().for_each(|item| mutate(item, place, with)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn any_member() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| serde_json::json!(number)),
        ".{0,12}".prop_map(Value::from),
        Just(serde_json::json!([])),
        Just(serde_json::json!({})),
        Just(serde_json::json!([{}, 1, "a", null])),
    ]
}

fn read_all_forms(source: &Arc<dyn Source>, answer: &Answer) {
    let mut settings = settings(source);
    for tier in &source.about().tiers {
        settings.tier.clone_from(&tier.name);
        let access = Access { settings: &settings };
        let _ = source.check(answer);
        let _ = source.read_probe(access, &[Ok(answer.clone())]);
        for form in Form::ALL {
            let _ = source.read(&lookup(form, samples(form)[0]), access, std::slice::from_ref(answer));
        }
    }
}

proptest! {
    #[test]
    fn no_body_makes_a_kind_panic(status in 100_u16..600, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        for source in http_kinds() {
            read_all_forms(&source, &answer(status, Vec::new(), body.clone()));
        }
    }

    #[test]
    fn no_value_of_any_header_makes_a_kind_panic(text in "[ -~]{0,24}", body in Just(b"{}".to_vec())) {
        let headers = ["retry-after", "x-ratelimit-reset", "x-ratelimit-remaining"].map(|name| (name.to_owned(), text.clone()));
        for source in http_kinds() {
            read_all_forms(&source, &answer(429, headers.to_vec(), body.clone()));
        }
    }

    #[test]
    fn no_indicator_makes_a_kind_panic_or_ask_elsewhere(text in "\\PC{0,60}") {
        for source in http_kinds() {
            let settings = settings(&source);
            for form in Form::ALL {
                let asked = source.ask(&lookup(form, &text), Access { settings: &settings });
                asked.iter().for_each(|question| asserts_home(question, &settings));
            }
        }
    }

    #[test]
    fn an_answer_with_any_member_changed_is_read_without_panic(place in 0_usize..60, with in any_member(), pick in any::<usize>()) {
        for source in http_kinds() {
            let cases = cases(&source.about().kind);
            let case = &cases[pick % cases.len()];
            let body = std::fs::read(fixtures(&source.about().kind).join(&case.file)).expect("the case's file");
            let Ok(mut value) = serde_json::from_slice::<Value>(&body) else { continue };
            mutate(&mut value, &mut place.clone(), &with);
            read_all_forms(&source, &answer(case.status, Vec::new(), serde_json::to_vec(&value).expect("JSON")));
        }
    }
}

#[test]
fn what_cannot_be_read_is_never_taken_for_a_record() {
    for source in http_kinds() {
        let settings = settings(&source);
        let form = source.about().forms[0];
        for body in ["", "null", "[]", "<html>", "{", "{}", "\"text\"", "{\"data\": []}", "{\"data\": {}}"] {
            let reading =
                outcome(&source, &settings, &lookup(form, samples(form)[0]), answer(200, Vec::new(), body.into()));
            assert_eq!(word(&reading), "error: malformed", "{} {body}", source.about().kind);
        }
    }
}

/// One line of the list of recorded look-ups.
struct Row<'a> {
    file: &'a str,
    kind: &'a str,
    indicator: &'a str,
    status: &'a str,
    outcome: &'a str,
    note: &'a str,
}

fn rows(text: &str) -> Vec<Row<'_>> {
    let lines = text.lines().skip(1).filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let mut columns = line.split('\t').map(str::trim);
            let mut next = || columns.next().unwrap_or_default();
            Row { file: next(), kind: next(), indicator: next(), status: next(), outcome: next(), note: next() }
        })
        .collect()
}

/// The recording's indicator, its type guessed by its look: recordings name no internal or odd ones.
fn recorded(indicator: &str) -> Lookup {
    let guessed = match indicator.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => Form::Ipv4,
        Ok(std::net::IpAddr::V6(_)) => Form::Ipv6,
        Err(_) if indicator.contains("://") => Form::Url,
        Err(_) => match indicator.len() {
            32 if !indicator.contains('.') => Form::Md5,
            40 if !indicator.contains('.') => Form::Sha1,
            64 if !indicator.contains('.') => Form::Sha256,
            _ => Form::Domain,
        },
    };
    lookup(guessed, indicator)
}

/// The value that a note gives after these words, up to the next semicolon.
fn noted<'a>(note: &'a str, words: &str) -> Option<&'a str> {
    note.split(';').find_map(|part| part.trim().strip_prefix(words)).map(str::trim)
}

fn play_http(source: &Arc<dyn Source>, row: &Row<'_>, body: Vec<u8>, status: u16) -> Result<Reading, SourceError> {
    let mut settings = settings(source);
    if let Some(tier) = noted(row.note, "tier ") {
        tier.clone_into(&mut settings.tier);
    }
    let delay = noted(row.note, "Retry-After:").map(|delay| ("retry-after".to_owned(), delay.to_owned()));
    outcome(source, &settings, &recorded(row.indicator), answer(status, delay.into_iter().collect(), body))
}

fn play_list(source: &Arc<dyn Source>, row: &Row<'_>, file: &[u8]) -> Result<Reading, SourceError> {
    let mut settings = settings(source);
    settings.options.insert("path".into(), OptionValue::Text(row.file.into()));
    if row.note.contains("member cidr") || row.file.ends_with(".ndjson") {
        settings.options.insert("member".into(), OptionValue::Text("cidr".into()));
    }
    if row.outcome.contains("benign") {
        settings.options.insert("claim".into(), OptionValue::Text("benign".into()));
    }
    let access = Access { settings: &settings };
    let lookup = recorded(row.indicator);
    let index = source.index(access, file)?;
    let said = match index.find(&lookup.indicator) {
        Some(entry) => ListAnswer::Listed { entry, loaded: received(), stale: None },
        None => ListAnswer::NotListed { loaded: received(), stale: None },
    };
    source.read(&lookup, access, &[Answer { received: received(), ttl: None, body: AnswerBody::List(said) }])
}

/// What a list is configured to say in these rows, in the words of the other outcomes.
fn configured(row: &Row<'_>) -> String {
    match row.outcome {
        "as configured" => "suspicious .85".to_owned(),
        "as configured (benign)" => "benign .85".to_owned(),
        other => other.to_owned(),
    }
}

fn statuses(row: &Row<'_>) -> Vec<u16> {
    let also = noted(row.note, "the same with ").and_then(|status| status.parse().ok());
    row.status.parse().into_iter().chain(also).collect()
}

#[test]
fn every_recorded_look_up_reads_to_the_outcome_that_the_list_states() {
    let Some(folder) = std::env::var_os("CONCORD_FIXTURES").map(PathBuf::from) else {
        println!("skipped: CONCORD_FIXTURES names no folder of recorded answers");
        return;
    };
    let text = std::fs::read_to_string(folder.join("lookups.tsv")).expect("the list of look-ups");
    let rows = rows(&text);
    assert!(!rows.is_empty(), "the list of look-ups is empty");
    let mut wrong = Vec::new();
    for row in &rows {
        let Some(source) = sources::find(row.kind) else {
            println!("{} skipped: there is no kind {}", row.file, row.kind);
            continue;
        };
        let file = std::fs::read(folder.join(row.file)).expect("the recorded answer");
        let readings = match source.about().transport {
            Transport::Http => {
                statuses(row).into_iter().map(|status| play_http(&source, row, file.clone(), status)).collect()
            }
            Transport::List => vec![play_list(&source, row, &file)],
            Transport::Dns => {
                println!("{} skipped: DNS answers are not kept as files", row.file);
                continue;
            }
        };
        assert!(!readings.is_empty(), "{}: no status", row.file);
        for reading in readings {
            println!("{} -> {} -> {}", row.file, word(&reading), reasons(&reading));
            if !agrees(&reading, &configured(row)) {
                wrong.push(format!("{}: states {}, reads {reading:?}", row.file, row.outcome));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_type_names_the_thresholds_of_the_kind_that_has_them_by_type() {
    let source = sources::find("virustotal").expect("the kind");
    for wanted in IndicatorType::ALL {
        for prefix in ["malicious_threshold", "suspicious_threshold"] {
            let name = format!("{prefix}_{}", wanted.as_str());
            assert!(source.about().options.iter().any(|spec| spec.name == name), "no option {name}");
        }
    }
}
