//! Policies over the protocol and on the command line.

use std::process::{Command, Output};
use std::sync::Arc;

use concord::clock::ManualClock;
use concord::pb;
use concord::pb::policy::Rule;
use prost::Message;
use prost_types::FieldMask;
use tempfile::TempDir;

use crate::fuzz::{Random, mutate};
use crate::harness::{Replay, TestServer, malicious_virustotal, report, start_time, violated, virustotal_at};

const MINE: &str = "policies/mine";
/// What a check of a range may forget.
const NUMBERS: [f64; 8] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX, f64::MIN_POSITIVE, -1.0, 1e-320];

/// The policy `mine`, with this probability from which on a verdict is malicious.
fn malicious_from(threshold: f64) -> pb::Policy {
    let thresholds = Some(pb::Thresholds { malicious: Some(threshold), ..Default::default() });
    let rule = pb::WeightedRule { thresholds, ..Default::default() };
    pb::Policy { name: MINE.into(), rule: Some(Rule::Weighted(rule)), ..Default::default() }
}

fn change(policy: pb::Policy) -> pb::ConfigurePolicyRequest {
    pb::ConfigurePolicyRequest { policy: Some(policy), allow_missing: true, ..Default::default() }
}

async fn configure(server: &TestServer, request: pb::ConfigurePolicyRequest) -> Result<pb::Policy, tonic::Status> {
    Ok(server.policies().configure_policy(request).await?.into_inner().policy.unwrap())
}

async fn get(server: &TestServer, name: &str, revision: u32) -> Result<pb::Policy, tonic::Status> {
    let request = pb::GetPolicyRequest { name: name.into(), revision };
    Ok(server.policies().get_policy(request).await?.into_inner().policy.unwrap())
}

fn weighted(policy: &pb::Policy) -> &pb::WeightedRule {
    let Some(Rule::Weighted(rule)) = &policy.rule else { panic!("{policy:?}") };
    rule
}

fn threshold(policy: &pb::Policy) -> f64 {
    weighted(policy).thresholds.as_ref().unwrap().malicious.unwrap()
}

async fn judge(server: &TestServer, policy: &str) -> (pb::Disposition, String, u32) {
    let request = pb::EnrichRequest {
        indicator: Some(crate::harness::indicator("198.51.100.7")),
        options: Some(pb::EnrichOptions { policy: policy.into(), ..Default::default() }),
    };
    let verdict = server.enrichment().enrich(request).await.unwrap().into_inner().decode_verdict().unwrap();
    (verdict.disposition(), verdict.policy, verdict.policy_revision)
}

#[tokio::test]
async fn every_policy_is_listed_page_by_page_with_every_number() {
    let server = TestServer::start("default_policy = \"worst\"").await;
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListPoliciesRequest { page_size: 2, page_token: token };
        let page = server.policies().list_policies(request).await.unwrap().into_inner();
        assert_eq!(page.default_policy, "policies/worst");
        names.extend(page.policies.iter().map(|policy| policy.name.clone()));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["policies/majority", "policies/mean", "policies/weighted", "policies/worst", "policies/xsoar"]);
    let policy = get(&server, "policies/weighted", 0).await.unwrap();
    assert_eq!((policy.origin(), policy.minimum_coverage), (pb::PolicyOrigin::BuiltIn, Some(0.0)));
    assert!(policy.create_time.is_none() && !policy.summary.is_empty());
    let rule = weighted(&policy);
    assert_eq!((rule.family_correlation, rule.ip.as_ref().unwrap().prior), (Some(0.7), Some(0.19)));
    let mode = |numbers: &Option<pb::TypeNumbers>| numbers.as_ref().unwrap().decay.as_ref().unwrap().mode;
    let days = |days: i64| Some(prost_types::Duration { seconds: days * 86_400, nanos: 0 });
    let fading = pb::HalfLife { grace: days(14), half_life: days(14) };
    assert_eq!(mode(&rule.url), Some(pb::decay::Mode::HalfLife(fading)));
    assert_eq!(mode(&rule.file), Some(pb::decay::Mode::None(true)));
    assert!(matches!(get(&server, "policies/xsoar", 0).await.unwrap().rule, Some(Rule::Xsoar(_))));
    server.stop().await;
}

#[tokio::test]
async fn a_policy_judges_from_the_next_request_on_and_every_verdict_names_its_revision() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    configure(&server, change(malicious_from(0.999))).await.unwrap();
    assert_eq!(judge(&server, MINE).await, (pb::Disposition::Suspicious, MINE.into(), 1));
    assert_eq!(judge(&server, MINE).await.2, 1);
    configure(&server, change(malicious_from(0.6))).await.unwrap();
    assert_eq!(judge(&server, MINE).await, (pb::Disposition::Malicious, MINE.into(), 2));
    assert_eq!(judge(&server, "").await.1, "policies/weighted");
    assert_eq!(virustotal.calls(), 1, "the cached answer is judged anew");
    server.stop().await;
}

#[tokio::test]
async fn revisions_survive_changes_a_deletion_and_a_restart() {
    let folder = Arc::new(TempDir::new().unwrap());
    let clock = Arc::new(ManualClock::new(start_time()));
    let server = TestServer::start_on(folder.clone(), clock.clone(), "").await;
    let first = configure(&server, change(malicious_from(0.9))).await.unwrap();
    assert_eq!((first.revision, first.origin(), threshold(&first)), (1, pb::PolicyOrigin::Api, 0.9));
    assert_eq!(configure(&server, change(malicious_from(0.9))).await.unwrap(), first, "nothing changed");
    let second = configure(&server, change(malicious_from(0.95))).await.unwrap();
    assert_eq!((second.revision, threshold(&second)), (2, 0.95));
    server.stop().await;

    let server = TestServer::start_on(folder.clone(), clock.clone(), "").await;
    assert_eq!(get(&server, MINE, 0).await.unwrap(), second);
    assert_eq!(get(&server, MINE, 1).await.unwrap(), first);
    let delete = |etag: &str| pb::DeletePolicyRequest { name: MINE.into(), etag: etag.into(), ..Default::default() };
    let refused = server.policies().delete_policy(delete(&first.etag)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Aborted);
    server.policies().delete_policy(delete(&second.etag)).await.unwrap();
    assert_eq!(get(&server, MINE, 0).await.unwrap_err().code(), tonic::Code::NotFound);
    assert_eq!(get(&server, MINE, 2).await.unwrap(), second);
    server.stop().await;

    let server = TestServer::start_on(folder, clock, "").await;
    assert_eq!(get(&server, MINE, 1).await.unwrap(), first);
    let third = configure(&server, change(malicious_from(0.9))).await.unwrap();
    assert_eq!(third.revision, 3);
    server.stop().await;
}

#[tokio::test]
async fn a_mask_writes_what_it_names_and_takes_back_what_is_not_set() {
    let server = TestServer::start("").await;
    let row = || pb::SourceRow {
        coverage: Some(pb::LearnedCoverage { if_malicious: Some(0.9), if_benign: Some(0.5) }),
        claims: None,
    };
    let mut policy = malicious_from(0.9);
    let Some(Rule::Weighted(rule)) = &mut policy.rule else { panic!() };
    rule.sources.insert("vt".into(), row());
    rule.family_correlation = Some(0.5);
    let made = configure(&server, change(policy)).await.unwrap();
    assert_eq!(weighted(&made).sources["vt"], row());
    let mask = |paths: &[&str], policy| pb::ConfigurePolicyRequest {
        update_mask: Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
        ..change(policy)
    };
    let masked = configure(&server, mask(&["weighted.sources.vt", "weighted.thresholds"], malicious_from(0.95))).await;
    let masked = masked.unwrap();
    assert!(weighted(&masked).sources.is_empty());
    assert_eq!((threshold(&masked), weighted(&masked).family_correlation), (0.95, Some(0.5)));
    let reset = configure(&server, mask(&["weighted"], pb::Policy { name: MINE.into(), ..Default::default() })).await;
    let built_in = get(&server, "policies/weighted", 0).await.unwrap();
    assert_eq!(reset.unwrap().rule, built_in.rule);
    server.stop().await;
}

#[tokio::test]
async fn validate_only_changes_nothing_and_a_repeated_request_is_done_once() {
    let server = TestServer::start("").await;
    let checked = pb::ConfigurePolicyRequest { validate_only: true, ..change(malicious_from(0.9)) };
    assert_eq!(configure(&server, checked).await.unwrap().revision, 1);
    assert!(get(&server, MINE, 0).await.is_err());
    let with_id =
        |threshold| pb::ConfigurePolicyRequest { request_id: "id-1".into(), ..change(malicious_from(threshold)) };
    let first = configure(&server, with_id(0.9)).await.unwrap();
    configure(&server, change(malicious_from(0.95))).await.unwrap();
    assert_eq!(configure(&server, with_id(0.9)).await.unwrap(), first, "the first answer");
    assert_eq!(threshold(&get(&server, MINE, 0).await.unwrap()), 0.95);
    let reused = configure(&server, with_id(0.7)).await.unwrap_err();
    assert_eq!(reused.code(), tonic::Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn a_server_does_not_start_with_a_default_that_does_not_exist() {
    let folder = TempDir::new().unwrap();
    let config = crate::harness::config(&folder, "default_policy = \"calmest\"");
    let clock = Arc::new(ManualClock::new(start_time()));
    let started =
        concord::server::Running::start(&config, concord::sources::all(), clock, concord::server::Listen::InProcess);
    let error = started.await.unwrap_err().to_string();
    assert!(error.starts_with("default_policy: policies/calmest not found"), "{error}");
}

async fn concord(server: &TestServer, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_concord"));
    command.env_clear().env("HOME", server.folder.path());
    command.arg("--data-directory").arg(server.folder.path().join("data")).args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn cells(output: &Output) -> Vec<Vec<String>> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_made_shown_compared_and_deleted_on_the_command_line() {
    let server = TestServer::listen("").await;
    let succeeds = async |arguments: &[&str]| {
        let output = concord(&server, arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        cells(&output)
    };
    let has = |rows: &[Vec<String>], row: &[&str]| rows.iter().any(|cells| cells == row);
    let set = ["policy", "set", "mine", "--base", "weighted", "--set", "weighted.thresholds.malicious=0.9"];
    let made = succeeds(&set).await;
    assert!(has(&made, &["weighted.thresholds.malicious", "0.9", "probability"]), "{made:?}");
    assert!(has(&made, &["weighted.ip.decay.half_life.grace", "14d", "time"]), "{made:?}");
    let file = server.folder.path().join("policy.toml");
    std::fs::write(&file, "weighted.ip.decay.polynomial = { lifetime = \"120d\", speed = 2 }\n").unwrap();
    let made = succeeds(&["policy", "set", "mine", "--file", file.to_str().unwrap()]).await;
    assert!(has(&made, &["revision", "2"]), "{made:?}");
    let diff = succeeds(&["policy", "diff", "weighted", "mine"]).await;
    assert!(has(&diff, &["weighted.thresholds.malicious", "0.8", "0.9", "probability"]), "{diff:?}");
    assert!(has(&diff, &["weighted.ip.decay.polynomial.speed", "2", "factor"]), "{diff:?}");
    assert!(!diff.iter().flatten().any(|cell| cell.contains("letters")), "{diff:?}");
    let diff = succeeds(&["policy", "diff", "mine@1", "mine"]).await;
    assert!(!diff.iter().flatten().any(|cell| cell.contains("thresholds")), "{diff:?}");
    let list = succeeds(&["policy", "list"]).await;
    assert!(list.iter().any(|row| row.iter().take(3).eq(["mine", "weighted", "2"])), "{list:?}");
    succeeds(&["policy", "set", "mine", "--reset", "weighted.thresholds"]).await;
    let old = succeeds(&["policy", "show", "mine", "--revision", "1"]).await;
    assert!(has(&old, &["weighted.thresholds.malicious", "0.9", "probability"]), "{old:?}");
    succeeds(&["policy", "delete", "mine"]).await;

    for (arguments, part) in [
        (vec!["policy", "show", "mine"], "policies/mine not found"),
        (
            vec!["policy", "set", "mine", "--set", "weighted.thresholds.malicous=0.9"],
            "weighted.thresholds.malicous: no such field",
        ),
        (
            vec!["policy", "set", "mine", "--set", "weighted.thresholds.malicious=0.2"],
            "policy.weighted.thresholds: must rise",
        ),
        (
            vec![
                "policy",
                "set",
                "mine",
                "--set",
                "weighted.ip.decay.none=true",
                "--set",
                "weighted.ip.decay.half_life.grace=1d",
            ],
            "contradicts another field",
        ),
        (vec!["policy", "set", "weighted", "--set", "minimum_coverage=0.5"], "is built in and cannot be changed"),
    ] {
        let output = concord(&server, &arguments).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(part), "{text}");
    }
    server.stop().await;
}

#[tokio::test]
async fn no_bytes_given_to_configure_policy_make_it_panic() {
    let server = TestServer::start("").await;
    let listed = server.policies().list_policies(pb::ListPoliciesRequest::default()).await.unwrap().into_inner();
    let mut seeds: Vec<Vec<u8>> = vec![change(malicious_from(0.9)).encode_to_vec()];
    for policy in listed.policies {
        let mask = FieldMask { paths: vec!["summary".into(), "minimum_coverage".into()] };
        let request = change(pb::Policy { name: MINE.into(), etag: String::new(), ..policy });
        seeds.push(pb::ConfigurePolicyRequest { update_mask: Some(mask), ..request.clone() }.encode_to_vec());
        seeds.push(request.encode_to_vec());
    }
    let (mut random, mut read, mut done) = (Random(0x9e37_79b9_7f4a_7c15), 0, 0);
    for number in 0..3000 {
        let (seed, other) = (&seeds[number % seeds.len()], &seeds[random.below(seeds.len())]);
        let mut bytes = if random.below(2) == 0 { mutate(&mut random, seed, other) } else { seed.clone() };
        for _ in 0..random.below(3) {
            let at = random.below(bytes.len());
            let number = NUMBERS[random.below(NUMBERS.len())].to_le_bytes();
            bytes.iter_mut().skip(at).zip(number).for_each(|(byte, new)| *byte = new);
        }
        let Ok(request) = pb::ConfigurePolicyRequest::decode(bytes.as_slice()) else { continue };
        read += 1;
        match configure(&server, request.clone()).await {
            Ok(_) => done += 1,
            Err(refused) => {
                let broken =
                    [tonic::Code::Internal, tonic::Code::Unknown, tonic::Code::Cancelled, tonic::Code::Unavailable];
                assert!(!broken.contains(&refused.code()), "{refused:?} on {request:?}");
            }
        }
    }
    assert!(read > 500 && done > 50, "{read} requests were read, {done} done");
    server.stop().await;
}

#[tokio::test]
async fn a_change_with_too_many_rows_or_paths_is_refused_without_looking_at_each() {
    let server = TestServer::start("").await;
    let mut policy = malicious_from(0.9);
    let Some(Rule::Weighted(rule)) = &mut policy.rule else { unreachable!("it is weighted") };
    rule.sources = (0..50_000).map(|number| (format!("AA{number}"), pb::SourceRow::default())).collect();
    let paths = (0..50_000).map(|number| format!("weighted.no_field_{number}")).collect();
    let request = pb::ConfigurePolicyRequest { update_mask: Some(FieldMask { paths }), ..change(policy) };
    for validate_only in [true, false] {
        let request = pb::ConfigurePolicyRequest { validate_only, ..request.clone() };
        let refused = configure(&server, request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        let fields = violated(&refused);
        assert!(fields.contains(&"policy.weighted.sources".to_owned()), "{fields:?}");
        assert!(fields.contains(&"update_mask".to_owned()) && fields.len() < 10, "{fields:?}");
    }
    let long = FieldMask { paths: vec!["x".repeat(1_000_000)] };
    let request = pb::ConfigurePolicyRequest { update_mask: Some(long), ..change(malicious_from(0.9)) };
    let refused = configure(&server, request).await.unwrap_err();
    assert_eq!(violated(&refused), ["update_mask"]);
    assert!(refused.message().len() < 1_000, "the path is not repeated");
    server.stop().await;
}

#[tokio::test]
async fn a_policy_that_is_deleted_while_sources_are_asked_is_compared_as_it_was() {
    let virustotal = Replay::held(Box::new(|_| (200, report(60, 0)))).await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    configure(&server, change(malicious_from(0.9))).await.unwrap();
    let options = pb::EnrichOptions { compare_policies: vec![MINE.into()], ..Default::default() };
    let request =
        pb::EnrichRequest { indicator: Some(crate::harness::indicator("198.51.100.7")), options: Some(options) };
    let delete = async {
        virustotal.called(1).await;
        let request = pb::DeletePolicyRequest { name: MINE.into(), ..Default::default() };
        server.policies().delete_policy(request).await.unwrap();
        virustotal.release();
    };
    let mut client = server.enrichment();
    let (answer, ()) = tokio::join!(client.enrich(request), delete);
    let compared = answer.expect("what was paid is answered").into_inner().comparisons;
    assert_eq!(compared.iter().map(|one| one.policy.as_str()).collect::<Vec<_>>(), [MINE]);
    server.stop().await;
}
