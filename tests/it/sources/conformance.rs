//! What holds for every kind: whom it asks, what a status means, that nothing makes it panic.

use std::sync::Arc;
use std::time::Duration;

use concord::finding::{SourceError, SourceErrorKind};
use concord::indicator::{Form, Indicator};
use concord::source::{
    Answer, BuildError, CredentialNeed, CredentialPlace, Kind, Lookup, OptionValue, Question, Source, SourceSettings,
    SourceView, Unconfigured,
};
use concord::sources;
use proptest::prelude::*;
use serde_json::Value;
use strum::VariantArray;

use super::cases::{cases, fixtures};
use super::{KEY, answer, build, http_kinds, http_sources, lookup, outcome, samples, set_option, settings, word};

fn asserts_home(question: &Question, settings: &SourceSettings) {
    let Question::Http(http) = question else { panic!("a kind of HTTP asks over HTTP") };
    let home = settings.base_url.as_ref().expect("a base address");
    assert_eq!(http.url.origin(), home.origin());
    assert!(http.url.path().starts_with(home.path()), "{} is not under {home}", http.url);
    assert!(http.url.username().is_empty() && http.url.password().is_none() && http.url.fragment().is_none());
}

#[test]
fn every_kind_asks_only_under_its_base_address_and_refuses_forms_it_does_not_look_up() {
    for kind in http_kinds() {
        let mut settings = settings(&kind);
        for base in [kind.about().base_url.as_ref().expect("a base address").as_str(), "http://127.0.0.1:9/mirror"] {
            settings.base_url = Some(base.parse().expect("an address"));
            for tier in &kind.about().tiers {
                settings.tier.clone_from(&tier.name);
                let source = build(&kind, &settings);
                for &form in Form::VARIANTS {
                    for value in samples(form) {
                        let asked = source.ask(&lookup(form, value));
                        assert_eq!(asked.is_ok(), source.supports(form), "{form:?}: {asked:?}");
                        assert_eq!(asked.is_ok(), kind.about().forms.contains(&form), "{form:?}: {asked:?}");
                        asked.iter().for_each(|question| asserts_home(question, &settings));
                    }
                }
                let probe = source.probe();
                assert!(!probe.is_empty());
                probe.iter().for_each(|question| asserts_home(question, &settings));
            }
        }
    }
}

#[test]
fn a_source_without_base_address_asks_nothing_and_does_not_panic() {
    for kind in http_kinds() {
        let mut settings = settings(&kind);
        for base in [None, Some("data:text/plain,x".parse().expect("an address"))] {
            settings.base_url = base;
            let Err(BuildError::Missing(reason)) = kind.build(&SourceView::new(&settings)) else {
                panic!("{} is built without an address", kind.about().kind);
            };
            assert!(reason.contains("base_url"), "{reason}");
            let source = Unconfigured::new(kind.clone(), reason);
            for form in &kind.about().forms {
                assert!(source.ask(&lookup(*form, samples(*form)[0])).is_err());
            }
            assert!(source.probe().is_empty());
            assert!(source.read_probe(&[]).connectivity.is_err());
        }
    }
}

#[test]
fn every_kind_lists_exactly_the_options_that_it_reads() {
    for kind in sources::all() {
        let mut settings = settings(kind);
        let required = kind.about().options.iter().filter(|spec| spec.required);
        required.for_each(|spec| set_option(&mut settings, kind, &spec.name, &"zone.example.com".into()));
        let view = SourceView::new(&settings);
        let _ = kind.build(&view);
        let listed: std::collections::BTreeSet<_> =
            kind.about().options.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(view.options_read(), listed, "{}", kind.about().kind);
    }
}

#[test]
fn a_value_of_another_type_is_refused_and_not_replaced_by_the_default() {
    let kind = sources::find("virustotal").unwrap();
    for spec in kind.about().options.iter().filter(|spec| spec.value_type.as_str() == "integer") {
        let mut settings = SourceSettings::from_defaults(kind.about(), "vt");
        settings.options.insert(spec.name.clone(), OptionValue::Flag(true));
        let Err(BuildError::Invalid(violations)) = kind.build(&SourceView::new(&settings)) else {
            panic!("{} is built", spec.name)
        };
        assert_eq!(violations[0].option, spec.name);
    }
}

#[test]
fn a_credential_has_a_place_exactly_where_the_kind_takes_one_and_is_never_shown() {
    for kind in http_kinds() {
        let settings = settings(&kind);
        let source = build(&kind, &settings);
        let takes = kind.about().credential != CredentialNeed::None;
        for form in &kind.about().forms {
            let question = source.ask(&lookup(*form, samples(*form)[0])).expect("a question");
            let Question::Http(http) = &question else { panic!("a kind of HTTP asks over HTTP") };
            assert_eq!(http.credential != CredentialPlace::None, takes);
            assert!(!format!("{question:?}").contains(KEY));
        }
        assert!(!format!("{settings:?}{:?}", source.probe()).contains(KEY));
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
        (504, SourceErrorKind::Unavailable),
    ];
    for source in http_sources() {
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
    for source in http_sources() {
        let refused = source.read_probe(&[Ok(answer(401, Vec::new(), Vec::new()))]);
        assert_eq!((refused.connectivity, refused.credential_accepted), (Ok(()), Some(false)));
        let away = source.read_probe(&[Err(SourceError::unavailable("connection refused"))]);
        assert!(away.connectivity.is_err());
        assert_eq!(away.credential_accepted, None);
        let spent = source.read_probe(&[Ok(answer(429, Vec::new(), Vec::new()))]);
        assert_eq!((spent.connectivity, spent.credential_accepted), (Ok(()), None));
    }
}

#[test]
fn a_probe_takes_no_page_of_something_else_for_the_source() {
    for source in http_sources() {
        for (status, body) in [(200, "<html>log in</html>"), (200, ""), (200, "[]"), (404, "<html>nothing here</html>")]
        {
            let probe = source.read_probe(&[Ok(answer(status, Vec::new(), body.into()))]);
            let what = format!("{} {status} {body:?}", source.about().kind);
            assert!(probe.connectivity.is_err(), "{what}");
            assert_eq!(probe.credential_accepted, None, "{what}");
        }
    }
}

#[test]
fn kinds_are_found_by_name_and_their_descriptions_are_consistent() {
    for kind in sources::all() {
        let about = kind.about();
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

fn read_all_forms(kind: &Arc<dyn Kind>, answer: &Answer) {
    let mut settings = settings(kind);
    for tier in &kind.about().tiers {
        settings.tier.clone_from(&tier.name);
        let source = build(kind, &settings);
        let _ = source.check(answer);
        let _ = source.read_probe(&[Ok(answer.clone())]);
        for &form in Form::VARIANTS {
            let _ = source.read(&lookup(form, samples(form)[0]), std::slice::from_ref(answer));
        }
    }
}

proptest! {
    #[test]
    fn no_body_makes_a_kind_panic(status in 100_u16..600, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        for kind in http_kinds() {
            read_all_forms(&kind, &answer(status, Vec::new(), body.clone()));
        }
    }

    #[test]
    fn no_value_of_any_header_makes_a_kind_panic(text in "[ -~]{0,24}", body in Just(b"{}".to_vec())) {
        let headers = ["retry-after", "x-ratelimit-reset", "x-ratelimit-remaining"].map(|name| (name.to_owned(), text.clone()));
        for kind in http_kinds() {
            read_all_forms(&kind, &answer(429, headers.to_vec(), body.clone()));
        }
    }

    #[test]
    fn no_indicator_makes_a_kind_panic_or_ask_elsewhere(text in "\\PC{0,60}") {
        for kind in http_kinds() {
            let settings = settings(&kind);
            let source = build(&kind, &settings);
            for &form in Form::VARIANTS {
                let Ok(parsed) = Indicator::parse_as(&text, form.indicator_type()) else { continue };
                let lookup = Lookup::new(parsed.indicator);
                let asked = source.ask(&lookup);
                asked.iter().for_each(|question| asserts_home(question, &settings));
            }
        }
    }

    #[test]
    fn an_answer_with_any_member_changed_is_read_without_panic(place in 0_usize..60, with in any_member(), pick in any::<usize>()) {
        for kind in http_kinds() {
            let cases = cases(&kind.about().kind);
            let case = &cases[pick % cases.len()];
            let body = std::fs::read(fixtures(&kind.about().kind).join(&case.file)).expect("the case's file");
            let Ok(mut value) = serde_json::from_slice::<Value>(&body) else { continue };
            mutate(&mut value, &mut place.clone(), &with);
            read_all_forms(&kind, &answer(case.status, Vec::new(), serde_json::to_vec(&value).expect("JSON")));
        }
    }
}

#[test]
fn an_unreadable_answer_is_never_a_finding() {
    for source in http_sources() {
        let form = source.about().forms[0];
        for body in ["", "null", "[]", "<html>", "{", "{}", "\"text\"", "{\"data\": []}", "{\"data\": {}}"] {
            let lookup = lookup(form, samples(form)[0]);
            let reading = outcome(source.as_ref(), &lookup, answer(200, Vec::new(), body.into()));
            assert_eq!(word(&reading), "error: malformed", "{} {body}", source.about().kind);
        }
    }
}
