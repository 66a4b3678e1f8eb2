//! What the history says of the engines inside VirusTotal, over the API and as it is typed.

use std::sync::Arc;
use std::time::Duration;

use concord::clock::ManualClock;
use concord::finding::{Disposition, Fact, Family, Finding, Outcome, OutcomeBody, Reliability};
use concord::indicator::Indicator;
use concord::pb;
use concord::pb::compare_engines_response::Event as CompareEvent;
use concord::pb::suggest_preferred_vendors_response::Event as SuggestEvent;
use concord::verdict::{Verdict, WeightedRule, fuse_without_analysis};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::compare::serve;
use crate::harness::{Replay, TestServer, start_time, violated, virustotal_at};
use crate::replay::prune_answers;
use crate::statistics::engines::{EngineItem, engine_items};
use crate::statistics::world::{day, policy};
use crate::verdict_diff::concord;

const VERDICTS: usize = 1_000;
const LABELLED: usize = 200;
const VIRUSTOTAL: &str = "[sources.virustotal]\nkind = \"virustotal\"\ncredential = \"s3cret-credential\"\n";

/// The verdict on an item, with the finding that VirusTotal's report makes; with every engine where the option was set.
fn verdict(number: usize, item: &EngineItem, names_silent: bool) -> Verdict {
    let hits: Vec<(&str, &str)> =
        item.results.iter().filter_map(|(engine, said)| Some((engine.as_str(), said.as_ref()?.as_deref()?))).collect();
    let opinions = item.results.iter().filter(|(_, said)| said.is_some()).count();
    let mut finding = Finding::new(Disposition::Unknown, None, "as the world wants it");
    finding.facts = vec![Fact::new("malicious", hits.len() as u64), Fact::new("engines", opinions as u64)];
    let mut list = |name: &str, texts: Vec<String>| {
        if !texts.is_empty() {
            finding.facts.push(Fact::new(name, texts));
        }
    };
    list("engines_malicious", hits.iter().map(|(engine, _)| (*engine).to_owned()).collect());
    list("engine_labels", hits.iter().map(|(engine, label)| format!("{engine}: {label}")).collect());
    if names_silent {
        let result = |(engine, said): &(String, Option<Option<String>>)| match said {
            Some(Some(label)) => format!("{engine}: malicious, {label}, blacklist"),
            Some(None) => format!("{engine}: undetected, blacklist"),
            None => format!("{engine}: timeout, blacklist"),
        };
        list("engine_results", item.results.iter().map(result).collect());
    }
    let at = day(number as u64 % 30);
    let outcome = Outcome {
        source: "virustotal".into(),
        kind: "virustotal".into(),
        reliability: Reliability::B,
        family: Family::same_kind("virustotal"),
        time: at,
        body: OutcomeBody::Finding(finding),
    };
    let domain = Indicator::parse(&format!("host{number}.example.com")).unwrap().indicator;
    let mut verdict = fuse_without_analysis(&policy(&WeightedRule::built_in()), &domain, at, vec![outcome]);
    let merged = if item.is_malicious { Disposition::Malicious } else { Disposition::Unknown };
    (verdict.disposition, verdict.sources_disposition) = (merged, merged);
    verdict
}

/// A server on a generated history, of which every fourth finding does not name the silent engines.
async fn generated(others: usize, configuration: &str, listens: bool) -> (TestServer, Vec<EngineItem>) {
    let items = engine_items(VERDICTS, others, 1);
    let verdicts: Vec<Verdict> =
        items.iter().enumerate().map(|(number, item)| verdict(number, item, number % 4 != 0)).collect();
    let truths = items.iter().take(LABELLED).map(|item| item.is_malicious);
    (serve(&verdicts, truths, configuration, listens).await, items)
}

async fn compared(server: &TestServer, request: pb::CompareEnginesRequest) -> Result<pb::EngineComparison, Status> {
    let mut stream = server.history().compare_engines(request).await?.into_inner();
    let mut read = 0;
    loop {
        match stream.message().await?.expect("a comparison comes").event.unwrap() {
            CompareEvent::Progress(progress) => {
                assert!(progress.read >= read && progress.total > 0, "{progress:?}");
                read = progress.read;
            }
            CompareEvent::Comparison(comparison) => return Ok(comparison),
        }
    }
}

async fn suggested(
    server: &TestServer,
    request: pb::SuggestPreferredVendorsRequest,
) -> Result<pb::PreferredVendorsSuggestion, Status> {
    let mut stream = server.history().suggest_preferred_vendors(request).await?.into_inner();
    loop {
        match stream.message().await?.expect("a suggestion comes").event.unwrap() {
            SuggestEvent::Progress(_) => {}
            SuggestEvent::Suggestion(suggestion) => return Ok(suggestion),
        }
    }
}

fn named<'a>(comparison: &'a pb::EngineComparison, name: &str) -> &'a pb::EngineStatistics {
    comparison.engines.iter().find(|engine| engine.engine == name).expect("an engine of this name")
}

#[tokio::test]
async fn the_engines_of_a_history_are_compared_and_copiers_and_the_one_that_is_wrong_alone_are_named() {
    let (server, items) = generated(6, VIRUSTOTAL, false).await;
    let comparison = compared(&server, pb::CompareEnginesRequest::default()).await.unwrap();
    assert_eq!(comparison.source, "sources/virustotal");
    let groups: Vec<&[String]> = comparison.same_labels.iter().map(|group| &group.engines[..]).collect();
    assert_eq!(groups, [["alpha", "mirror-1", "mirror-2"]]);
    let loner = named(&comparison, "loner");
    assert!(loner.hits > 30 && loner.lone_hits == loner.hits, "{loner:?}");
    assert!(loner.true_hits == 0 && loner.false_hits > 0, "{loner:?}");
    assert!(comparison.engines.iter().all(|engine| engine.engine == "loner" || engine.lone_hits < loner.lone_hits));
    let hits = |name: &str| {
        let is_hit = |item: &&EngineItem| {
            item.results.iter().any(|(engine, said)| engine == name && matches!(said, Some(Some(_))))
        };
        items.iter().filter(is_hit).count() as i64
    };
    assert_eq!(named(&comparison, "bravo").hits, hits("bravo"));
    assert_eq!(named(&comparison, "bravo").opinions, 750, "silence is known of three findings in four");
    assert_eq!(comparison.labelled_malicious + comparison.labelled_benign, LABELLED as i64);

    let coverage = comparison.coverage.unwrap();
    let expected = pb::EngineCoverage {
        verdicts: 1_000,
        findings: 1_000,
        with_all_engines: 750,
        with_hits_only: 250,
        left_out: 0,
        read_again: 0,
        pruned: 250,
        unreadable: 0,
    };
    assert_eq!(coverage, expected, "the raw answers of the others are not stored");
    server.stop().await;
}

#[tokio::test]
async fn the_smallest_list_is_suggested_with_its_setting_and_nothing_is_applied() {
    let (server, items) = generated(6, VIRUSTOTAL, false).await;
    let suggestion = suggested(&server, pb::SuggestPreferredVendorsRequest::default()).await.unwrap();
    let names: Vec<&str> = suggestion.vendors.iter().map(|vendor| vendor.engine.as_str()).collect();
    assert_eq!((names, suggestion.threshold), (vec!["alpha", "bravo", "charlie"], 2));
    let malicious = items.iter().filter(|item| item.is_malicious).count() as i64;
    assert_eq!((suggestion.learned_from, suggestion.kept, suggestion.malicious), (1_000, 1_000, malicious));
    let setting = "[sources.virustotal]\noptions.preferred_vendors = [\"alpha\", \"bravo\", \"charlie\"]\n\
                   options.preferred_threshold = 2\n";
    assert_eq!(suggestion.setting, setting);
    assert_eq!(suggestion.coverage.unwrap().pruned, 0, "hits alone are enough");
    let source = server.sources().get_source(pb::GetSourceRequest { name: "sources/virustotal".into() }).await;
    let options = source.unwrap().into_inner().source.unwrap().options.unwrap_or_default();
    assert!(!format!("{options:?}").contains("alpha"));
    server.stop().await;

    // The setting is one that the server takes.
    let server = TestServer::start(&setting.replacen('\n', "\nkind = \"virustotal\"\ncredential = \"key\"\n", 1)).await;
    server.stop().await;
}

#[tokio::test]
async fn verdicts_that_a_list_would_change_are_counted_and_named() {
    let mut items = engine_items(VERDICTS, 4, 2);
    for item in items.iter_mut().take(14) {
        item.is_malicious = true;
        item.results.iter_mut().for_each(|(_, said)| *said = Some(None));
    }
    let verdicts: Vec<Verdict> = items.iter().enumerate().map(|(number, item)| verdict(number, item, false)).collect();
    let server = serve(&verdicts, std::iter::empty(), VIRUSTOTAL, false).await;
    let suggestion = suggested(&server, pb::SuggestPreferredVendorsRequest::default()).await.unwrap();
    let (missed, raised) = (suggestion.missed.unwrap(), suggestion.raised.unwrap());
    assert_eq!((missed.count, missed.examples.len(), raised.count), (14, 10, 0));
    assert_eq!(suggestion.kept, 986);
    let newest = &missed.examples[0];
    assert_eq!(newest.verdict, "verdicts/00013");
    assert_eq!(newest.indicator.as_ref().unwrap().value, "host13.example.com");
    server.stop().await;
}

/// A report in which as many engines call an address malicious as its last byte says, of twenty.
fn report(path: &str) -> Value {
    let malicious: usize = path.rsplit('.').next().and_then(|last| last.parse().ok()).unwrap_or(0);
    let result = |number: usize| {
        let category = if number < malicious { "malicious" } else { "harmless" };
        let label = if number < malicious { "Trojan.Generic" } else { "clean" };
        let result = json!({ "category": category, "result": label, "method": "blacklist", "engine_name": "x" });
        (format!("engine-{number:02}"), result)
    };
    json!({ "data": { "id": "x", "type": "ip_address", "attributes": {
        "last_analysis_date": 1_790_000_000_u64 - 3600,
        "last_analysis_stats": { "malicious": malicious, "suspicious": 0, "harmless": 20 - malicious, "undetected": 0 },
        "last_analysis_results": (0..20).map(result).collect::<Map<String, Value>>(),
    } } })
}

#[tokio::test]
async fn raw_answers_are_read_again_for_silence_and_without_them_hits_count_alone() {
    let virustotal = Replay::start(Box::new(|path| (200, report(path)))).await;
    let configuration = virustotal_at(virustotal.address) + "quota = { minute = 1000 }\n";
    let folder = Arc::new(TempDir::new().unwrap());
    let clock = Arc::new(ManualClock::new(start_time()));
    let server = TestServer::start_on(folder.clone(), clock.clone(), &configuration).await;
    for last in 1..=14 {
        server.enrich(&format!("198.51.100.{last}")).await;
    }
    let calls = virustotal.calls();
    let comparison = compared(&server, pb::CompareEnginesRequest::default()).await.unwrap();
    let coverage = comparison.coverage.unwrap();
    assert_eq!((coverage.with_all_engines, coverage.read_again, coverage.pruned, coverage.unreadable), (14, 14, 0, 0));
    assert_eq!(comparison.engines.len(), 20);
    let fourth = named(&comparison, "engine-03");
    assert_eq!((fourth.hits, fourth.opinions), (11, 14));
    assert_eq!(virustotal.calls(), calls, "nobody is asked");
    server.stop().await;

    assert_eq!(prune_answers(&folder).await, 14);
    let server = TestServer::start_on(folder, clock, &configuration).await;
    let comparison = compared(&server, pb::CompareEnginesRequest::default()).await.unwrap();
    let coverage = comparison.coverage.unwrap();
    assert_eq!((coverage.with_hits_only, coverage.read_again, coverage.pruned), (14, 0, 14));
    let fourth = named(&comparison, "engine-03");
    assert_eq!((comparison.engines.len(), fourth.hits, fourth.opinions), (14, 11, 0));
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_answered_of_engines_is_refused_with_what_is_missing() {
    let list = "[sources.ours]\nkind = \"list\"\noptions.path = \"/lists/ours\"\n";
    let (server, _) = generated(2, &format!("{VIRUSTOTAL}{list}"), false).await;
    let of = |source: &str| pb::CompareEnginesRequest { source: source.into(), ..Default::default() };
    let unknown = compared(&server, of("sources/virustotl")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("sources/virustotal"), "{}", unknown.message());
    let other = compared(&server, of("sources/ours")).await.unwrap_err();
    assert_eq!((other.code(), violated(&other)), (Code::InvalidArgument, vec!["source".to_owned()]));
    assert!(other.message().contains("of the kind list"), "{}", other.message());
    let wrong = pb::CompareEnginesRequest {
        filter: Some(pb::HistoryFilter { indicator_type: 77, ..Default::default() }),
        source: "virustotal".into(),
    };
    let wrong = compared(&server, wrong).await.unwrap_err();
    assert_eq!(violated(&wrong), ["filter.indicator_type", "source"]);

    let since = |number| Some(pb::HistoryFilter { from_time: Some(day(number).into()), ..Default::default() });
    let empty = pb::CompareEnginesRequest { filter: since(44), ..Default::default() };
    let empty = compared(&server, empty).await.unwrap_err();
    assert_eq!(empty.code(), Code::FailedPrecondition);
    assert!(empty.message().contains("no verdict matches"), "{}", empty.message());
    let few = pb::SuggestPreferredVendorsRequest { filter: since(29), ..Default::default() };
    let few = suggested(&server, few).await.unwrap_err();
    assert_eq!(few.code(), Code::FailedPrecondition);
    let message = few.message();
    assert!(message.contains("not enough data") && message.contains("30 of each are needed"), "{message}");
    server.stop().await;

    let (none, _) = generated(2, list, false).await;
    let refused = compared(&none, pb::CompareEnginesRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("no source of the kind virustotal"), "{}", refused.message());
    none.stop().await;

    let second = VIRUSTOTAL.replace("sources.virustotal", "sources.vt");
    let (two, _) = generated(2, &format!("{VIRUSTOTAL}{second}"), false).await;
    let refused = compared(&two, pb::CompareEnginesRequest::default()).await.unwrap_err();
    assert_eq!(violated(&refused), ["source"]);
    assert!(refused.message().contains("virustotal, vt"), "{}", refused.message());
    let without = compared(&two, of("sources/vt")).await.unwrap_err();
    assert_eq!(without.code(), Code::FailedPrecondition);
    assert!(without.message().contains("of 1000 verdicts 0 have a finding of vt"), "{}", without.message());
    two.stop().await;
}

#[tokio::test]
async fn a_reader_of_engines_who_leaves_frees_the_history_for_the_next() {
    let (server, _) = generated(2, VIRUSTOTAL, false).await;
    for _ in 0..3 {
        drop(server.history().compare_engines(pb::CompareEnginesRequest::default()).await.unwrap());
    }
    assert!(compared(&server, pb::CompareEnginesRequest::default()).await.is_ok());
    server.clock.advance(Duration::from_secs(1));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_show_the_engines_and_the_list() {
    let (server, _) = generated(55, VIRUSTOTAL, true).await;
    let shown = async |arguments: &[&str]| {
        let output = concord(&server, arguments).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let picture = server.folder.path().join("engines.svg").display().to_string();
    let text = shown(&["compare", "engines", "--plot", &picture]).await;
    for part in [
        "1000 verdicts, 1000 with a finding of virustotal",
        "250 would say more",
        "ALONE",
        "other-54",
        "one opinion: alpha, mirror-1, mirror-2",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let drawn = std::fs::read_to_string(&picture).unwrap();
    let parsed = roxmltree::Document::parse(&drawn).unwrap();
    let texts: Vec<&str> = parsed.descendants().filter_map(|node| node.text()).map(str::trim).collect();
    for part in ["mirror-2", "other-54", "lone hits", "agrees with merged", "identical labels: one opinion"] {
        assert!(texts.contains(&part), "{part} is missing in the picture: {texts:?}");
    }
    let text = shown(&["compare", "vendors"]).await;
    for part in [
        "Malicious where 2 of these 3 say so",
        "KEPT WITHOUT IT",
        "Nothing is applied",
        "options.preferred_threshold = 2",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let line = text.lines().find_map(|line| line.trim().strip_prefix("concord ")).expect("a command to try");
    let arguments: Vec<String> = line.split(' ').map(|part| part.trim_matches('\'').to_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert!(shown(&arguments).await.contains("1000 verdicts judged again"));
    let json: Value = serde_json::from_str(&shown(&["compare", "vendors", "-o", "json"]).await).unwrap();
    assert!(json.to_string().contains("preferred_threshold = 2"), "{json}");
    server.stop().await;
}
