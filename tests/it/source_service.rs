use std::sync::Arc;
use std::time::Duration;

use concord::clock::ManualClock;
use concord::pb;
use prost_types::FieldMask;
use prost_types::value::Kind;
use tempfile::TempDir;

use crate::harness::{
    DEADLINE, Refusing, TestServer, malicious_virustotal, report, start_time, virustotal_at, with_deadline,
};

const ALLOWED: &str = "allowed_networks = [\"127.0.0.0/8\"]\n";

fn named(name: &str) -> pb::Source {
    pb::Source { name: format!("sources/{name}"), ..Default::default() }
}

async fn configure(server: &TestServer, source: pb::Source) -> Result<pb::Source, tonic::Status> {
    let request = pb::ConfigureSourceRequest { source: Some(source), allow_missing: true, ..Default::default() };
    Ok(server.sources().configure_source(request).await?.into_inner().source.unwrap())
}

fn number(name: &str, number: f64) -> Option<prost_types::Struct> {
    let value = prost_types::Value { kind: Some(Kind::NumberValue(number)) };
    Some(prost_types::Struct { fields: [(name.to_owned(), value)].into() })
}

#[tokio::test]
async fn a_first_start_has_no_source_and_says_how_to_get_one() {
    let server = TestServer::start("").await;
    let list = server.sources().list_sources(pb::ListSourcesRequest::default()).await.unwrap().into_inner();
    assert!(list.sources.is_empty());
    assert!(list.hint.contains("VIRUSTOTAL_API_KEY"), "{}", list.hint);
    let verdict = server.enrich("198.51.100.7").await.verdict;
    assert_eq!(verdict.disposition(), pb::Disposition::Unknown);
    assert_eq!(verdict.coverage, 0.0);
    server.stop().await;
}

#[tokio::test]
async fn a_source_made_over_the_api_is_asked_at_once_and_survives_a_restart() {
    let virustotal = malicious_virustotal().await;
    let folder = Arc::new(TempDir::new().unwrap());
    let clock = Arc::new(ManualClock::new(start_time()));
    let server = TestServer::start_on(folder.clone(), clock.clone(), ALLOWED).await;
    let source = pb::Source {
        kind: "virustotal".into(),
        credential: "s3cret-credential".into(),
        base_url: format!("http://{}", virustotal.address),
        reliability: pb::Reliability::A.into(),
        ..named("vt")
    };
    let made = configure(&server, source).await.unwrap();
    assert_eq!((made.state(), made.origin()), (pb::SourceState::Active, pb::SourceOrigin::Api));
    assert!(made.credential_set && made.credential.is_empty());
    assert_eq!(server.enrich("198.51.100.7").await.verdict.disposition(), pb::Disposition::Malicious);
    server.stop().await;

    let server = TestServer::start_on(folder, clock, ALLOWED).await;
    let request = pb::GetSourceRequest { name: "sources/vt".into() };
    let kept = server.sources().get_source(request).await.unwrap().into_inner().source.unwrap();
    // How the source fares is no setting.
    let settings = |source| pb::Source { circuit: None, concurrency: None, ..source };
    assert_eq!(settings(kept), settings(made));
    assert_eq!(server.enrich("198.51.100.8").await.verdict.disposition(), pb::Disposition::Malicious);
    let delete = pb::DeleteSourceRequest { name: "sources/vt".into(), ..Default::default() };
    server.sources().delete_source(delete).await.unwrap();
    let list = server.sources().list_sources(pb::ListSourcesRequest::default()).await.unwrap().into_inner();
    assert!(list.sources.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_patch_wins_field_by_field_and_can_be_taken_back() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let patch = pb::Source {
        reliability: pb::Reliability::D.into(),
        options: number("malicious_threshold_ip", 80.0),
        ..named("virustotal")
    };
    let patched = configure(&server, patch).await.unwrap();
    assert_eq!(patched.reliability(), pb::Reliability::D);
    assert_eq!(patched.patched_fields, ["reliability", "options.malicious_threshold_ip"]);
    assert_eq!(patched.origin(), pb::SourceOrigin::File);
    let reset = pb::ConfigureSourceRequest {
        source: Some(named("virustotal")),
        reset_mask: Some(FieldMask { paths: vec!["reliability".into()] }),
        ..Default::default()
    };
    let reset = server.sources().configure_source(reset).await.unwrap().into_inner().source.unwrap();
    assert_eq!(reset.reliability(), pb::Reliability::B);
    assert_eq!(reset.patched_fields, ["options.malicious_threshold_ip"]);
    server.stop().await;
}

#[tokio::test]
async fn a_changed_threshold_judges_the_cached_answer_anew_without_paying() {
    let virustotal = crate::harness::Replay::start(Box::new(|_| (200, report(12, 0)))).await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    assert_eq!(server.enrich("198.51.100.7").await.verdict.disposition(), pb::Disposition::Malicious);
    let patch = pb::Source { options: number("malicious_threshold_ip", 40.0), ..named("virustotal") };
    configure(&server, patch).await.unwrap();
    let enriched = server.enrich("198.51.100.7").await;
    let pb::outcome::Result::Finding(finding) = enriched.outcome("virustotal") else { panic!() };
    assert_eq!(finding.claim(), pb::Disposition::Suspicious);
    assert_eq!(virustotal.calls(), 1);
    server.stop().await;
}

#[tokio::test]
async fn validate_only_changes_nothing_and_a_repeated_request_is_done_once() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let change = |validate_only, request_id: &str, enabled| pb::ConfigureSourceRequest {
        source: Some(pb::Source { enabled: Some(enabled), ..named("virustotal") }),
        validate_only,
        request_id: request_id.into(),
        ..Default::default()
    };
    let checked =
        server.sources().configure_source(change(true, "", false)).await.unwrap().into_inner().source.unwrap();
    assert_eq!(checked.state(), pb::SourceState::Disabled);
    let request = pb::GetSourceRequest { name: "sources/virustotal".into() };
    let now = server.sources().get_source(request).await.unwrap().into_inner().source.unwrap();
    assert_eq!(now.state(), pb::SourceState::Active);
    let first = server.sources().configure_source(change(false, "id-1", false)).await.unwrap().into_inner();
    let again = server.sources().configure_source(change(false, "id-1", false)).await.unwrap().into_inner();
    assert_eq!(first, again);
    let racing =
        || async { server.sources().configure_source(change(false, "id-2", false)).await.unwrap().into_inner() };
    let (one, other) = tokio::join!(racing(), racing());
    assert_eq!(one, other, "a repetition waits for the first");
    let reused = server.sources().configure_source(change(false, "id-1", true)).await.unwrap_err();
    assert_eq!(reused.code(), tonic::Code::InvalidArgument);
    assert_eq!(server.enrich("198.51.100.7").await.not_asked("virustotal"), pb::NotAskedReason::Disabled);
    server.stop().await;
}

#[tokio::test]
async fn every_kind_is_listed_with_its_options_in_full() {
    let server = TestServer::start("").await;
    let kinds = server.sources().list_source_kinds(pb::ListSourceKindsRequest {}).await.unwrap().into_inner().kinds;
    let names: Vec<_> = kinds.iter().map(|kind| kind.kind.as_str()).collect();
    assert_eq!(names, ["abuseipdb", "dnsbl", "greynoise", "hashlookup", "list", "urlhaus", "virustotal"]);
    for kind in &kinds {
        assert!(!kind.summary.is_empty() && !kind.terms.is_empty() && !kind.tiers.is_empty(), "{}", kind.kind);
        for option in &kind.options {
            assert!(!option.help.is_empty(), "{}.{}", kind.kind, option.name);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn the_test_button_tells_reachability_and_whether_the_credential_is_accepted() {
    let refusing = crate::harness::Replay::start(Box::new(|_| {
        (401, serde_json::json!({ "error": { "code": "WrongCredentialsError" } }))
    }))
    .await;
    let server = TestServer::start(&virustotal_at(refusing.address)).await;
    let request = pb::TestSourceRequest { name: "sources/virustotal".into(), ..Default::default() };
    let tested = server.sources().test_source(request).await.unwrap().into_inner();
    assert!(tested.reachable, "{tested:?}");
    assert_eq!(tested.credential_accepted, Some(false));
    server.stop().await;

    let refusing = Refusing::new();
    let server = TestServer::start(&virustotal_at(refusing.address())).await;
    let request = pb::TestSourceRequest { name: "sources/virustotal".into(), ..Default::default() };
    let tested = server.sources().test_source(request).await.unwrap().into_inner();
    assert!(!tested.reachable);
    assert_eq!(tested.error.unwrap().kind(), pb::SourceErrorKind::Unavailable);
    server.stop().await;
}

#[tokio::test]
async fn a_test_of_unsaved_settings_does_not_send_a_stored_credential_elsewhere() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&(ALLOWED.to_owned() + &virustotal_at(virustotal.address))).await;
    let elsewhere = malicious_virustotal().await;
    let request = pb::TestSourceRequest {
        source: Some(pb::Source { base_url: format!("http://{}", elsewhere.address), ..named("virustotal") }),
        ..Default::default()
    };
    let refused = server.sources().test_source(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert_eq!(elsewhere.calls(), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_test_pays_the_saved_windows_whatever_the_unsaved_settings_say() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    for last in 1..=4 {
        server.enrich(&format!("198.51.100.{last}")).await;
    }
    for unsaved in [pb::Source { tier: "premium".into(), ..named("virustotal") }, named("virustotal")] {
        let request = pb::TestSourceRequest { source: Some(unsaved), ..Default::default() };
        let tested = server.sources().test_source(request).await.unwrap().into_inner();
        assert!(!tested.reachable, "nothing was asked, so nothing is known: {tested:?}");
        assert!(tested.detail.contains("4 of 4"), "{}", tested.detail);
    }
    assert_eq!(virustotal.calls(), 4);
    server.stop().await;
}

#[tokio::test]
async fn a_test_answers_before_its_deadline() {
    let hung = crate::harness::Replay::held(Box::new(|_| (200, report(60, 0)))).await;
    let server = TestServer::start(&virustotal_at(hung.address)).await;
    let request = pb::TestSourceRequest { name: "sources/virustotal".into(), ..Default::default() };
    let mut client = server.sources();
    let test = client.test_source(with_deadline(request));
    let (tested, ()) = tokio::join!(test, server.pass_when_called(&hung, 1, DEADLINE));
    let tested = tested.unwrap().into_inner();
    assert_eq!(tested.error.unwrap().kind(), pb::SourceErrorKind::Timeout);
    hung.release();
    server.stop().await;
}

#[tokio::test]
async fn a_source_without_windows_counts_on_the_account_that_it_shares() {
    let virustotal = malicious_virustotal().await;
    let free = virustotal_at(virustotal.address).replace("[sources.virustotal]", "[sources.free]");
    let premium = free.replace("[sources.free]", "[sources.premium]") + "tier = \"premium\"\n";
    let server = TestServer::start(&(free + &premium)).await;
    let only = |name: &str, value: &str| pb::EnrichRequest {
        indicator: Some(crate::harness::indicator(value)),
        options: Some(pb::EnrichOptions { sources: vec![format!("sources/{name}")], ..Default::default() }),
    };
    for last in 1..=4 {
        server.enrich_as(only("premium", &format!("198.51.100.{last}"))).await;
    }
    let spent = server.enrich_as(only("free", "198.51.100.9")).await;
    assert_eq!(spent.not_asked("free"), pb::NotAskedReason::QuotaSpent);
    server.stop().await;
}

#[tokio::test]
async fn a_delete_can_be_checked_first_and_is_done_once() {
    let server = TestServer::start("").await;
    let source = pb::Source { kind: "hashlookup".into(), ..named("hashes") };
    configure(&server, source.clone()).await.unwrap();
    let delete = |validate_only| pb::DeleteSourceRequest {
        name: "sources/hashes".into(),
        validate_only,
        request_id: "delete-1".into(),
        ..Default::default()
    };
    server.sources().delete_source(delete(true)).await.unwrap();
    let request = pb::GetSourceRequest { name: "sources/hashes".into() };
    server.sources().get_source(request.clone()).await.unwrap();
    server.sources().delete_source(delete(false)).await.unwrap();
    server.sources().delete_source(delete(false)).await.unwrap();
    assert_eq!(server.sources().get_source(request).await.unwrap_err().code(), tonic::Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn a_list_that_is_not_fresh_says_so_also_where_it_names_nothing() {
    let folder = tempfile::TempDir::new().unwrap();
    let list = folder.path().join("list.txt");
    std::fs::write(&list, "198.51.100.7\n198.51.100.8\n").unwrap();
    let configuration = format!("[sources.ours]\nkind = \"list\"\noptions.path = \"{}\"\n", list.display());
    let server = TestServer::start(&configuration).await;
    let fresh = server.enrich("198.51.100.9").await;
    assert_eq!(fresh.receipt.sources[0].note, "");
    std::fs::remove_file(&list).unwrap();
    // The first look-up after a second finds out, the next ones say it.
    let mut note = String::new();
    for n in 10..250 {
        server.clock.advance(Duration::from_secs(2));
        let enriched = server.enrich(&format!("198.51.100.{n}")).await;
        assert!(matches!(enriched.outcome("ours"), pb::outcome::Result::NoRecord(_)));
        note = enriched.receipt.sources[0].note.clone();
        if !note.is_empty() {
            break;
        }
    }
    assert!(note.starts_with("the copy in use is not fresh: "), "{note:?}");
    // Another letter does not cost the copy, although the file is gone.
    let letter = pb::Source { reliability: pb::Reliability::D.into(), ..named("ours") };
    configure(&server, letter).await.unwrap();
    let listed = server.enrich("198.51.100.7").await;
    assert!(matches!(listed.outcome("ours"), pb::outcome::Result::Finding(_)));
    // So does the receipt of a verdict that comes from cache as a whole.
    server.enrich("198.51.100.251").await;
    let again = server.enrich("198.51.100.251").await;
    assert!(again.receipt.verdict_from_cache);
    assert!(again.receipt.sources[0].note.starts_with("the copy in use is not fresh: "), "{:?}", again.receipt);
    server.stop().await;
}
