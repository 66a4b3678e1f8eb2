//! DNS block lists and lists: every code and every format by table, refusals by line, and what holds for any input.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use concord::finding::{Disposition, FactValue, Family, Finding, SourceError, SourceErrorKind};
use concord::indicator::{Form, Indicator};
use concord::source::{
    Answer, AnswerBody, BuildError, DnsAnswer, ListAnswer, ListEntry, ListStatus, Lookup, OptionValue, Question,
    Reading, Source, SourceSettings, SourceView,
};
use concord::{pb, sources};
use proptest::prelude::*;
use serde_json::{Value, json};
use strum::VariantArray;

use crate::harness::{Replay, TestServer};
use crate::recordings;

/// The source of this kind with these options, and a credential if one is given.
fn try_build(kind: &str, options: &[(&str, Value)], credential: Option<&str>) -> Result<Arc<dyn Source>, BuildError> {
    let kind = sources::find(kind).unwrap();
    let mut settings = SourceSettings::from_defaults(kind.about(), "example");
    for (name, value) in options {
        let spec = kind.about().options.iter().find(|spec| spec.name == *name).unwrap();
        settings.options.insert((*name).to_owned(), spec.parse(value).unwrap());
    }
    settings.credential = credential.map(|key| key.to_owned().into());
    kind.build(&SourceView::new(&settings))
}

fn build(kind: &str, options: &[(&str, Value)]) -> Arc<dyn Source> {
    try_build(kind, options, Some("key")).unwrap_or_else(|error| panic!("{options:?}: {error:?}"))
}

/// A list whose file is of no matter.
fn list(options: &[(&str, Value)]) -> Arc<dyn Source> {
    build("list", &[&[("path", json!("lists/example.txt"))], options].concat())
}

fn dnsbl(zone: &str) -> Arc<dyn Source> {
    build("dnsbl", &[("zone", json!(zone))])
}

fn lookup(text: &str) -> Lookup {
    Lookup::new(Indicator::parse(text).unwrap_or_else(|refusal| panic!("{text}: {refusal}")).indicator)
}

fn fixtures(kind: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sources").join(kind)
}

fn cases(kind: &str) -> Vec<Value> {
    let text = std::fs::read(fixtures(kind).join("cases.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn received() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000)
}

fn answer(body: AnswerBody) -> Answer {
    Answer { received: received(), ttl: None, body }
}

fn dns(value: &Value) -> Answer {
    answer(AnswerBody::Dns(match value {
        Value::String(code) if code == "NXDOMAIN" => DnsAnswer::NxDomain,
        Value::String(code) => DnsAnswer::Failure(code.clone()),
        other => DnsAnswer::Addresses(serde_json::from_value(other.clone()).unwrap()),
    }))
}

fn found(reading: Reading) -> Finding {
    match reading {
        Reading::Found(finding) => finding,
        Reading::NoRecord | Reading::More { .. } => panic!("no finding: {reading:?}"),
    }
}

fn fact<'a>(finding: &'a Finding, name: &str) -> Option<&'a FactValue> {
    finding.facts.iter().find(|fact| fact.name == name).map(|fact| &fact.value)
}

fn texts(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

fn dns_source(case: &Value) -> Arc<dyn Source> {
    let options = [("zone", "zone"), ("lookup", "lookup"), ("codes", "codes_option")];
    let options: Vec<_> =
        options.iter().filter_map(|(name, member)| Some((*name, case.get(*member)?.clone()))).collect();
    try_build("dnsbl", &options, case["credential"].as_str()).unwrap_or_else(|error| panic!("{case}: {error:?}"))
}

#[test]
fn every_answer_of_a_dns_zone_reads_as_its_line_of_the_table_says() {
    for case in cases("dnsbl") {
        let name = case["name"].as_str().unwrap();
        let source = dns_source(&case);
        let lookup = lookup(case["indicator"].as_str().unwrap());
        let question = source.ask(&lookup).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let (Some(asked), Question::Dns(question)) = (case["asked"].as_str(), &question) {
            assert_eq!(question.name, asked, "{name}");
        }
        let answer = dns(&case["answer"]);
        let reading = source.read(&lookup, std::slice::from_ref(&answer));
        assert_eq!(source.check(&answer).err(), reading.clone().err(), "{name}: check and read refuse alike");
        judge(name, &case, reading);
    }
}

fn judge(name: &str, case: &Value, reading: Result<Reading, SourceError>) {
    if let Some(kind) = case["error"].as_str() {
        assert_eq!(reading.map_err(|error| error.kind.as_str()), Err(kind), "{name}");
    } else if case["no_record"] == true {
        assert_eq!(reading, Ok(Reading::NoRecord), "{name}");
    } else {
        let finding = found(reading.unwrap_or_else(|error| panic!("{name}: {error}")));
        assert_eq!(finding.claim.as_str(), case["claim"], "{name}");
        assert_eq!(finding.strength.map(|strength| strength.get()), case["strength"].as_f64(), "{name}");
        if case["codes"].is_array() {
            assert_eq!(fact(&finding, "codes"), Some(&FactValue::List(texts(&case["codes"]))), "{name}");
        }
        if case["tags"].is_array() {
            assert_eq!(finding.tags, texts(&case["tags"]), "{name}");
        }
        if let Some(reason) = case["reason"].as_str() {
            assert_eq!(finding.reasons, [reason], "{name}");
        }
    }
}

#[test]
fn spamhaus_codes_as_published_each_have_a_line_of_their_own() {
    let Some(folder) = recordings::folder_for("spamhaus_codes_as_published_each_have_a_line_of_their_own") else {
        return;
    };
    let file = std::fs::read(folder.join("dnsbl/spamhaus-return-codes.json")).unwrap();
    let published: Value = serde_json::from_slice(&file).unwrap();
    for (zone, indicator) in [("zen.spamhaus.org", "192.0.2.1"), ("dbl.spamhaus.org", "example.com")] {
        let source = dnsbl(zone);
        for (code, meaning) in published[zone].as_object().unwrap() {
            let answer = dns(&json!([code]));
            match source.read(&lookup(indicator), &[answer]) {
                Ok(reading) => {
                    let reasons = found(reading).reasons;
                    assert!(!reasons.concat().contains("no name for"), "{zone} {code} ({meaning}): {reasons:?}");
                }
                Err(error) => assert_eq!(code, "127.0.1.255", "{error}"),
            }
        }
    }
    for code in published["errors"].as_object().unwrap().keys() {
        let error = dnsbl("zen.spamhaus.org").check(&dns(&json!([code]))).unwrap_err();
        assert!(error.detail.contains(code) && error.kind != SourceErrorKind::Malformed, "{error}");
    }
}

#[test]
fn a_zone_takes_only_what_it_lists() {
    let takes = |zone: &str, lookup: &str| {
        let source = build("dnsbl", &[("zone", json!(zone)), ("lookup", json!(lookup))]);
        Form::VARIANTS.iter().copied().filter(|form| source.supports(*form)).collect::<Vec<_>>()
    };
    let (addresses, names) = (vec![Form::Ipv4, Form::Ipv6], vec![Form::Domain]);
    assert_eq!(takes("zen.spamhaus.org", "auto"), addresses);
    assert_eq!(takes("bl.example.com", "auto"), addresses);
    assert_eq!(takes("dbl.spamhaus.org", "auto"), names);
    assert_eq!(takes("multi.surbl.org", "auto"), names);
    assert_eq!(takes("bl.example.com", "domain"), names);
    assert_eq!(takes("bl.example.com", "both"), [addresses, names].concat());
}

#[test]
fn a_zone_that_cannot_be_asked_says_what_is_missing() {
    let refused = |zone: &str, codes: Value| {
        let error = try_build("dnsbl", &[("zone", json!(zone)), ("codes", codes)], None).err().unwrap();
        match error {
            BuildError::Invalid(wrong) => {
                wrong.iter().map(|wrong| format!("{}: {}", wrong.option, wrong.message)).collect::<Vec<_>>().join("; ")
            }
            BuildError::Missing(why) => format!("missing: {why}"),
        }
    };
    let bad = |refusal: String, part: &str| assert!(refusal.contains(part), "{refusal:?} lacks {part}");
    bad(refused(".", json!({})), "zone: option zone is empty");
    bad(refused("bl..example.com", json!({})), "no DNS name");
    bad(refused("bl example com", json!({})), "no DNS name");
    bad(refused("bl.example.com", json!({"10.0.0.1": "malicious"})), "127.0.0.0/8");
    bad(refused("bl.example.com", json!({"127.0.0.2": "evil"})), "codes: option codes, \"127.0.0.2\"");
    bad(refused("bl.example.com", json!({"127.0.0.2": "malicious 2"})), "outside 0 to 1");
    bad(refused("zen.dq.spamhaus.net", json!({})), "missing: the zone needs a key");
    bad(format!("{:?}", try_build("dnsbl", &[], None).err()), "Missing(\"needs options.zone\")");
    let other_form = dnsbl("zen.spamhaus.org").ask(&lookup("example.com")).unwrap_err();
    assert_eq!(other_form.kind, SourceErrorKind::BadQuestion);
    bad(other_form.detail, "lists no domain");
}

#[test]
fn a_key_written_into_the_zone_is_refused_and_shown_nowhere() {
    for zone in ["secretkey.zen.dq.spamhaus.net", "secretkey.xbl.dq.spamhaus.net"] {
        let shown = format!("{:?}", try_build("dnsbl", &[("zone", json!(zone))], Some("key")).err().unwrap());
        assert!(shown.contains("credential") && !shown.contains("secretkey"), "{shown}");
    }
}

#[test]
fn two_ways_to_one_zone_are_one_opinion_and_two_zones_are_two() {
    let family = |zone: &str| dnsbl(zone).family(None);
    assert_eq!(family("zen.spamhaus.org"), Family::same_kind("dnsbl:zen.spamhaus.org"));
    assert_eq!(family("{credential}.zen.dq.spamhaus.net"), family("zen.spamhaus.org"));
    assert_ne!(family("bl.example.com"), family("zen.spamhaus.org"));
    assert_eq!(family("{credential}.bl.example.com"), family("BL.example.com."));
    assert_eq!(dnsbl("zen.spamhaus.org").family(Some("mail")), Family::declared("mail", "dnsbl:zen.spamhaus.org"));
}

#[test]
fn the_test_points_of_a_zone_tell_whether_it_works() {
    let probe = |zone: &str, answers: [Value; 2]| {
        let source = dnsbl(zone);
        let names: Vec<String> = source
            .probe()
            .into_iter()
            .map(|question| match question {
                Question::Dns(question) => question.name,
                Question::Http(_) | Question::List(_) => panic!("not DNS"),
            })
            .collect();
        let answers: Vec<_> = answers.iter().map(|value| Ok(dns(value))).collect();
        (names, source.read_probe(&answers).connectivity.map_err(|error| error.kind))
    };
    let (listed, unlisted) = (json!(["127.0.0.2"]), json!("NXDOMAIN"));
    let zen = probe("zen.spamhaus.org", [listed.clone(), unlisted.clone()]);
    assert_eq!(zen.0, ["2.0.0.127.zen.spamhaus.org", "1.0.0.127.zen.spamhaus.org"]);
    assert_eq!(zen.1, Ok(()));
    let dbl = probe("dbl.spamhaus.org", [listed.clone(), unlisted.clone()]);
    assert_eq!(dbl.0, ["test.dbl.spamhaus.org", "invalid.dbl.spamhaus.org"]);
    let failed = |answers| probe("bl.example.com", answers).1.unwrap_err();
    assert_eq!(failed([unlisted.clone(), unlisted.clone()]), SourceErrorKind::Unavailable);
    assert_eq!(failed([listed.clone(), listed.clone()]), SourceErrorKind::Malformed);
    assert_eq!(failed([json!(["127.255.255.254"]), unlisted]), SourceErrorKind::Refused);
    assert_eq!(failed([listed, json!("SERVFAIL")]), SourceErrorKind::Unavailable);
}

#[test]
fn a_name_too_long_for_dns_is_refused_before_it_is_asked() {
    let long = ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(55), "example.com".into()].join(".");
    let error = dnsbl("dbl.spamhaus.org").ask(&lookup(&long)).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::BadQuestion);
}

#[test]
fn every_list_is_read_as_its_case_says_and_every_refusal_names_its_line() {
    for case in cases("list") {
        let name = format!("{}{} {}", case["file"], case["text"], case["options"]);
        let file = |file| std::fs::read(fixtures("list").join(file)).unwrap();
        let bytes = case["text"].as_str().map_or_else(|| file(case["file"].as_str().unwrap()), |text| text.into());
        let given = case["options"].as_object().into_iter().flatten();
        let options: Vec<_> = given.map(|(name, value)| (name.as_str(), value.clone())).collect();
        let index = list(&options).index(&bytes);
        if case["error"].is_array() {
            let error = index.expect_err(&name);
            assert_eq!(error.kind, SourceErrorKind::Malformed, "{name}");
            for part in texts(&case["error"]) {
                assert!(error.detail.contains(&part), "{name}: {} lacks {part}", error.detail);
            }
            continue;
        }
        let index = index.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(index.len() as u64, case["size"], "{name}");
        let (skipped, note) = (case["skipped"].as_u64().unwrap_or(0), index.skipped_note());
        assert_eq!((index.skipped() as u64, note.is_empty()), (skipped, skipped == 0), "{name}: {note}");
        for part in case["reported"].as_array().into_iter().flatten() {
            assert!(note.contains(part.as_str().unwrap()), "{name}: {note} lacks {part}");
        }
        for (text, expected) in case["finds"].as_object().unwrap() {
            let entry = index.find(&lookup(text).indicator).map(|entry| entry.value);
            assert_eq!(entry.as_deref(), expected.as_str(), "{name}: {text}");
        }
        for (text, expected) in case["notes"].as_object().into_iter().flatten() {
            let note = index.find(&lookup(text).indicator).map(|entry| entry.note);
            assert_eq!(note.as_deref(), expected.as_str(), "{name}: {text}");
        }
    }
}

#[test]
fn recorded_lists_name_what_the_table_of_look_ups_says() {
    use crate::recordings;

    let Some(folder) = recordings::folder_for("recorded_lists_name_what_the_table_of_look_ups_says") else { return };
    let find = |file: &str, options: &[(&str, Value)], text: &str| {
        let index = list(options).index(&std::fs::read(folder.join(file)).unwrap());
        index.unwrap_or_else(|error| panic!("{file}: {error}")).find(&lookup(text).indicator).map(|entry| entry.value)
    };
    let member = [("member", json!("cidr"))];
    let drop = "local-lists/spamhaus-drop-v4-head.ndjson";
    assert_eq!(find(drop, &member, "1.10.16.77").as_deref(), Some("1.10.16.0/20"));
    assert_eq!(find(drop, &member, "8.8.8.8"), None);
    let rfc5735 = "local-lists/misp-warninglist-rfc5735.json";
    assert_eq!(find(rfc5735, &[], "192.0.2.9").as_deref(), Some("192.0.2.0/24"));
    let country = "local-lists/urlhaus-country-feed-head.csv";
    let host = [("column", json!("host"))];
    assert_eq!(find(country, &host, "124.255.20.23").as_deref(), Some("124.255.20.23"));
}

fn listed(entry: &str, note: &str, stale: Option<&str>) -> Answer {
    let entry = ListEntry { value: entry.into(), note: note.into() };
    answer(AnswerBody::List(ListAnswer::Listed { entry, status: status(stale) }))
}

fn status(stale: Option<&str>) -> ListStatus {
    let stale = stale.map(str::to_owned);
    ListStatus { loaded: received(), stale, entries: 7, skipped: 0, skipped_note: String::new() }
}

#[test]
fn what_is_listed_is_what_the_settings_claim_as_of_the_last_load() {
    let options = [("claim", json!("malicious")), ("strength", json!(0.6)), ("tags", json!(["tor-exit"]))];
    let answer = listed("192.0.2.0/24", "EX1", Some("the file shrank by more than half"));
    let finding = found(list(&options).read(&lookup("192.0.2.7"), &[answer]).unwrap());
    assert_eq!((finding.claim, finding.strength.map(|s| s.get())), (Disposition::Malicious, Some(0.6)));
    assert_eq!(finding.observed_time, Some(received()));
    assert_eq!(finding.tags, ["tor-exit"]);
    let reasons = [
        "the list names 192.0.2.0/24, which covers it (EX1)",
        "the last reload of the list was not taken: the file shrank by more than half",
    ];
    assert_eq!(finding.reasons, reasons);
}

#[test]
fn by_default_a_listing_is_suspicious_at_full_weight() {
    let reading = list(&[]).read(&lookup("192.0.2.7"), &[listed("192.0.2.7", "", None)]);
    let finding = found(reading.unwrap());
    assert_eq!((finding.claim, finding.strength.map(|s| s.get())), (Disposition::Suspicious, Some(0.85)));
    assert_eq!(finding.reasons, ["the list names 192.0.2.7"]);
}

#[test]
fn a_list_that_was_never_loaded_is_an_error_and_not_no_record() {
    let list = list(&[]);
    let never = answer(AnswerBody::List(ListAnswer::NeverLoaded("no such file".into())));
    let error = list.read(&lookup("192.0.2.7"), std::slice::from_ref(&never)).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unavailable);
    assert!(error.detail.contains("no such file"));
    assert!(list.read_probe(&[Ok(never)]).connectivity.is_err());
    let unlisted = answer(AnswerBody::List(ListAnswer::NotListed(status(None))));
    assert_eq!(list.read(&lookup("192.0.2.7"), std::slice::from_ref(&unlisted)), Ok(Reading::NoRecord));
    let probe = list.read_probe(&[Ok(unlisted)]);
    assert_eq!(probe.connectivity, Ok(()));
    assert!(probe.detail.starts_with("example.txt was loaded at 2026-"), "{}", probe.detail);
    assert!(probe.detail.ends_with(" with 7 entries"), "{}", probe.detail);
    let single = answer(AnswerBody::List(ListAnswer::NotListed(ListStatus { entries: 1, ..status(None) })));
    let probe = list.read_probe(&[Ok(single)]);
    assert!(probe.detail.ends_with(" with 1 entry"), "{}", probe.detail);
}

#[test]
fn a_list_needs_either_a_file_or_a_feed() {
    let ask = |options: &[(&str, Value)]| Ok(try_build("list", options, None)?.ask(&lookup("192.0.2.7")));
    let (path, url) = (("path", json!("a.txt")), ("url", json!("https://example.com/a")));
    assert!(matches!(ask(&[]), Err(BuildError::Invalid(_))));
    assert!(matches!(ask(&[path.clone(), url.clone()]), Err(BuildError::Invalid(_))));
    assert!(matches!(ask(&[path]), Ok(Ok(Question::List(_)))));
    assert!(matches!(ask(&[url]), Ok(Ok(Question::List(_)))));
}

#[test]
fn a_feed_is_known_by_its_address_without_what_may_be_a_key() {
    let kind = sources::find("list").unwrap();
    let mut settings = SourceSettings::from_defaults(kind.about(), "example");
    let url = "https://user:pass@example.com/feed.txt?key=secret#part".parse().unwrap();
    settings.options.insert("url".into(), OptionValue::Address(url));
    let family = kind.build(&SourceView::new(&settings)).ok().unwrap().family(None);
    let name = &family.name;
    assert!(name.starts_with("list:https://example.com/feed.txt#"), "{name}");
    assert!(!["user", "pass", "secret", "part"].iter().any(|word| name.contains(word)), "{name}");
}

#[test]
fn a_file_is_recognised_by_its_name_and_content() {
    let family = |path: &str| build("list", &[("path", json!(path))]).family(None).name;
    let (ours, theirs) = (family("/srv/ours/list.txt"), family("/srv/theirs/list.txt"));
    assert!(ours.starts_with("list:list.txt#") && theirs.starts_with("list:list.txt#"), "{ours} {theirs}");
    assert_ne!(ours, theirs);
    assert_eq!(ours, family("/srv/ours/list.txt"));
}

const FORMATS: [&str; 11] =
    ["auto", "plain", "csv", "warninglist", "jsonl", "json", "hosts", "adblock", "dnsmasq", "checksums", "dshield"];

proptest! {
    #[test]
    fn no_bytes_make_a_list_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        format in prop::sample::select(FORMATS.to_vec()),
    ) {
        let _ = list(&[("format", json!(format)), ("member", json!("a.b"))]).index(&bytes);
    }

    #[test]
    fn no_text_near_the_formats_makes_a_list_panic(text in "[\"\\[\\]{}:,;#*./0-9a-f é\n]{0,120}") {
        for format in FORMATS {
            let _ = list(&[("format", json!(format))]).index(text.as_bytes());
        }
    }

    #[test]
    fn whatever_a_zone_returns_is_read_without_panic_and_in_any_order_alike(
        octets in prop::collection::vec(any::<[u8; 4]>(), 0..6),
        zone in prop::sample::select(vec!["zen.spamhaus.org", "bl.example.com"]),
        local in any::<bool>(),
    ) {
        let source = dnsbl(zone);
        let first = |[a, b, c, d]: [u8; 4]| if local { [127, 0, 0, d] } else { [a, b, c, d] };
        let mut addresses: Vec<Ipv4Addr> = octets.into_iter().map(|octets| Ipv4Addr::from(first(octets))).collect();
        let read = |addresses: Vec<Ipv4Addr>| {
            let answer = answer(AnswerBody::Dns(DnsAnswer::Addresses(addresses)));
            source.read(&lookup("192.0.2.1"), &[answer])
        };
        let one = read(addresses.clone());
        addresses.reverse();
        prop_assert_eq!(one, read(addresses));
    }
}

#[tokio::test]
async fn skipped_entries_of_a_list_stand_in_the_receipt_in_a_test_of_the_source_and_in_the_metrics() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("list.txt");
    std::fs::write(&path, "192.0.2.1\n192.0.2.2\n192.0.2.999\n").unwrap();
    let server = TestServer::listen(&format!("[sources.mine]\nkind = \"list\"\noptions.path = {path:?}\n")).await;
    let note = "1 of 3 entries of the list skipped: line 3: \"192.0.2.999\" has a number above 255";
    for address in ["192.0.2.1", "192.0.2.7"] {
        let receipt = server.enrich(address).await.receipt;
        assert!(receipt.sources[0].note.starts_with(note), "{receipt:?}");
    }
    let request = pb::TestSourceRequest { name: "sources/mine".into(), ..Default::default() };
    let tested = server.sources().test_source(request).await.unwrap().into_inner();
    assert!(tested.detail.contains(&format!(" with 2 entries; {note}")), "{}", tested.detail);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let metrics = http.get(format!("http://{}/metrics", server.address())).send().await.unwrap().text().await.unwrap();
    for line in ["concord_list_entries{source=\"mine\"} 2", "concord_list_entries_skipped{source=\"mine\"} 1"] {
        assert!(metrics.contains(line), "{line} is not among {metrics}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_server_loads_its_lists_before_the_first_look_up() {
    let feed = Replay::start(Box::new(|_| (200, json!("192.0.2.1\n")))).await;
    let configuration = format!("[sources.ours]\nkind = \"list\"\noptions.url = \"http://{}/list\"\n", feed.address);
    let server = TestServer::listen(&configuration).await;
    feed.called(1).await;
    assert_eq!(server.enrich("192.0.2.1").await.receipt.sources.len(), 1);
    assert_eq!(feed.paths(), ["/list"]);
    server.stop().await;
}
