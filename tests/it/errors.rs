//! Every mistake of a request is answered with its field; the texts are a golden file (`UPDATE_GOLDEN=1` writes it).

use std::fmt::Write;
use std::path::PathBuf;

use concord::pb;
use strum::VariantArray;
use tonic::Status;
use tonic_types::StatusExt;

use crate::harness::{TestServer, indicator, malicious_virustotal, virustotal_at};

fn ask(value: &str) -> pb::EnrichRequest {
    pb::EnrichRequest { indicator: Some(indicator(value)), ..Default::default() }
}

fn ask_with(sources: &[&str], policy: &str) -> pb::EnrichRequest {
    let sources = sources.iter().map(|&name| name.to_owned()).collect();
    let options = pb::EnrichOptions { sources, policy: policy.into(), ..Default::default() };
    pb::EnrichRequest { options: Some(options), ..ask("192.0.2.1") }
}

fn describe(what: &str, status: &Status, text: &mut String) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    writeln!(text, "## {what}\n{:?} {reason}: {}", status.code(), status.message()).unwrap();
    for violation in details.bad_request().into_iter().flat_map(|one| &one.field_violations) {
        writeln!(text, "  {}: {}", violation.field, violation.description).unwrap();
    }
    for violation in details.precondition_failure().into_iter().flat_map(|one| &one.violations) {
        writeln!(text, "  {} {}: {}", violation.r#type, violation.subject, violation.description).unwrap();
    }
    if let Some(resource) = details.resource_info() {
        writeln!(text, "  {} {}: {}", resource.resource_type, resource.resource_name, resource.description).unwrap();
    }
    text.push('\n');
}

#[tokio::test]
async fn every_mistake_is_answered_with_its_field_and_the_way_out() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let mut text = String::new();

    let enrichments = [
        ("no indicator", pb::EnrichRequest::default()),
        ("a network", ask("10.0.0.0/8")),
        ("leading zeros", ask("198.51.100.007")),
        (
            "an unknown type",
            pb::EnrichRequest { indicator: Some(pb::Indicator { r#type: 9, value: "x".into() }), ..Default::default() },
        ),
        (
            "everything at once",
            pb::EnrichRequest {
                indicator: Some(indicator("CVE-2024-3094")),
                options: Some(pb::EnrichOptions {
                    sources: vec!["virustotal".into(), "sources/".into()],
                    policy: "weighted".into(),
                    tlp: 42,
                    max_age: Some(prost_types::Duration { seconds: -5, nanos: 0 }),
                    view: -1,
                    request_id: "a b".into(),
                    relations: Some(pb::RelationOptions {
                        names: vec!["contacted_domainz".into()],
                        max_calls: 101,
                        depth: 4,
                    }),
                    compare_policies: vec!["policies/worst".into(), "xsoar".into(), "policies/strict".into()],
                    priority: 7,
                    mode: 9,
                    budget: Some(1001),
                }),
            },
        ),
        (
            "a wrong type and a wrong value",
            pb::EnrichRequest {
                indicator: Some(pb::Indicator { r#type: 9, value: "bad..x".into() }),
                ..Default::default()
            },
        ),
        (
            "a malformed, an unknown source and an unknown policy",
            ask_with(&["virustotal", "sources/nothing"], "policies/strict"),
        ),
        ("an unknown source", ask_with(&["sources/virustotl"], "")),
        ("two unknown sources", ask_with(&["sources/a", "sources/virustotal", "sources/b"], "")),
        ("an unknown policy", ask_with(&[], "policies/strict")),
    ];
    for (what, request) in enrichments {
        describe(what, &server.enrichment().enrich(request).await.unwrap_err(), &mut text);
    }

    let lists = [
        ("a negative page", pb::ListVerdictsRequest { page_size: -1, ..Default::default() }),
        ("a damaged token", pb::ListVerdictsRequest { page_token: "AAAA".into(), ..Default::default() }),
        (
            "times the wrong way round",
            pb::ListVerdictsRequest {
                from_time: Some(prost_types::Timestamp { seconds: 20, nanos: 0 }),
                until_time: Some(prost_types::Timestamp { seconds: 10, nanos: 0 }),
                ..Default::default()
            },
        ),
        (
            "a wrong filter",
            pb::ListVerdictsRequest { disposition: 77, indicator: Some(indicator("??")), ..Default::default() },
        ),
    ];
    for (what, request) in lists {
        describe(what, &server.verdicts().list_verdicts(request).await.unwrap_err(), &mut text);
    }
    let missing = pb::GetVerdictRequest { name: "verdicts/nothing".into(), view: 0 };
    describe("no such verdict", &server.verdicts().get_verdict(missing).await.unwrap_err(), &mut text);

    let source = |source: pb::Source| pb::ConfigureSourceRequest {
        source: Some(source),
        allow_missing: true,
        ..Default::default()
    };
    let option = |name: &str, number: f64| prost_types::Struct {
        fields: [(name.to_owned(), prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(number)) })]
            .into(),
    };
    let changes = [
        ("no source", pb::ConfigureSourceRequest::default()),
        (
            "an unknown kind",
            source(pb::Source { name: "sources/x".into(), kind: "virustotle".into(), ..Default::default() }),
        ),
        (
            "a wrong option",
            source(pb::Source {
                name: "sources/virustotal".into(),
                options: Some(option("malicious_treshold_ip", 3.0)),
                ..Default::default()
            }),
        ),
        (
            "an option out of its limits",
            source(pb::Source {
                name: "sources/virustotal".into(),
                options: Some(option("malicious_threshold_ip", 0.0)),
                tier: "gold".into(),
                ..Default::default()
            }),
        ),
        (
            "quota settings out of their limits",
            source(pb::Source {
                name: "sources/virustotal".into(),
                quota: vec![pb::QuotaWindow { period: pb::QuotaPeriod::Day.into(), limit: 0 }],
                quota_reserve: Some(101),
                quota_time_zone: "Mars/Olympus".into(),
                ..Default::default()
            }),
        ),
        (
            "a credential by reference",
            source(pb::Source {
                name: "sources/virustotal".into(),
                credential: "env:SECRET".into(),
                ..Default::default()
            }),
        ),
        (
            "another address for a stored credential",
            source(pb::Source {
                name: "sources/virustotal".into(),
                base_url: "https://virustotal.example.com/".into(),
                ..Default::default()
            }),
        ),
        (
            "an address that the API may not set",
            source(pb::Source {
                name: "sources/virustotal".into(),
                base_url: "http://169.254.169.254/".into(),
                credential: "new".into(),
                ..Default::default()
            }),
        ),
        (
            "a mask that names nothing",
            pb::ConfigureSourceRequest {
                update_mask: Some(prost_types::FieldMask { paths: vec!["colour".into()] }),
                ..source(pb::Source { name: "sources/virustotal".into(), ..Default::default() })
            },
        ),
        (
            "everything that is wrong with a source at once",
            pb::ConfigureSourceRequest {
                request_id: "a b".into(),
                update_mask: Some(prost_types::FieldMask {
                    paths: ["kind", "credential", "base_url", "tier", "timeout", "options", "colour"]
                        .map(str::to_owned)
                        .to_vec(),
                }),
                ..source(pb::Source {
                    name: "sources/virustotal".into(),
                    kind: "abuseipdb".into(),
                    credential: "file:/etc/passwd".into(),
                    reliability: 42,
                    base_url: "http://169.254.169.254/".into(),
                    tier: "gold".into(),
                    timeout: Some(prost_types::Duration { seconds: -5, nanos: 0 }),
                    options: Some(option("malicious_threshold_ip", 0.0)),
                    ..Default::default()
                })
            },
        ),
        (
            "an unknown kind and more",
            source(pb::Source {
                name: "sources/x".into(),
                kind: "virustotle".into(),
                base_url: "ftp://example.com/".into(),
                credential: "env:SECRET".into(),
                timeout: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
                ..Default::default()
            }),
        ),
        (
            "a wrong name and more",
            source(pb::Source {
                name: "sources/No Name".into(),
                kind: "virustotal".into(),
                tier: "gold".into(),
                ..Default::default()
            }),
        ),
        (
            "a source that does not exist, with a mistake",
            pb::ConfigureSourceRequest {
                allow_missing: false,
                ..source(pb::Source { name: "sources/new".into(), max_tlp: 42, ..Default::default() })
            },
        ),
        (
            "an old etag",
            source(pb::Source {
                name: "sources/virustotal".into(),
                etag: "r7".into(),
                enabled: Some(false),
                ..Default::default()
            }),
        ),
        (
            "without allow_missing",
            pb::ConfigureSourceRequest {
                allow_missing: false,
                ..source(pb::Source { name: "sources/new".into(), kind: "virustotal".into(), ..Default::default() })
            },
        ),
    ];
    for (what, request) in changes {
        describe(what, &server.sources().configure_source(request).await.unwrap_err(), &mut text);
    }
    let delete = pb::DeleteSourceRequest { name: "sources/virustotal".into(), ..Default::default() };
    let refused = server.sources().delete_source(delete).await.unwrap_err();
    describe("deleting what the file declares", &refused, &mut text);
    policy_errors(&server, &mut text).await;
    server.stop().await;

    // The file's place differs from run to run.
    let folder = std::env::temp_dir().display().to_string();
    let text: String = text.lines().map(|line| mask_place(line, &folder) + "\n").collect();
    golden("errors.txt", &text);
}

/// What is wrong with policies that a request makes.
async fn policy_errors(server: &TestServer, text: &mut String) {
    let configure =
        |policy| pb::ConfigurePolicyRequest { policy: Some(policy), allow_missing: true, ..Default::default() };
    let weighted = |rule| {
        configure(pb::Policy {
            name: "policies/mine".into(),
            rule: Some(pb::policy::Rule::Weighted(rule)),
            ..Default::default()
        })
    };
    let thresholds = |malicious, suspicious, benign| pb::WeightedRule {
        thresholds: Some(pb::Thresholds { malicious, suspicious, benign }),
        ..Default::default()
    };
    let shares = |benign| {
        let shares = pb::ClaimShares { benign: Some(benign), ..Default::default() };
        let row = pb::LetterRow { if_malicious: None, if_benign: Some(shares) };
        pb::WeightedRule { letters: Some(pb::LetterTable { b: Some(row), ..Default::default() }), ..Default::default() }
    };
    let lasting = |seconds| {
        let grace = Some(prost_types::Duration { seconds, nanos: 0 });
        let mode = pb::decay::Mode::HalfLife(pb::HalfLife { grace, half_life: None });
        let decay = Some(pb::Decay { mode: Some(mode) });
        pb::WeightedRule { ip: Some(pb::TypeNumbers { prior: None, decay }), ..Default::default() }
    };
    let masked = |paths: &[&str]| pb::ConfigurePolicyRequest {
        update_mask: Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
        ..weighted(pb::WeightedRule::default())
    };
    let named = |name: &str| configure(pb::Policy { name: name.into(), ..Default::default() });
    let requests = [
        ("no policy", pb::ConfigurePolicyRequest { policy: None, ..named("") }),
        ("thresholds that do not rise", weighted(thresholds(Some(0.2), Some(0.27), Some(0.1)))),
        ("a prior that would already be a verdict", weighted(thresholds(None, None, Some(0.2)))),
        ("a negative correlation", weighted(pb::WeightedRule { family_correlation: Some(-0.1), ..Default::default() })),
        ("shares that do not add up", weighted(shares(0.5))),
        ("a negative duration", weighted(lasting(-1))),
        (
            "a row of a source without anything",
            weighted(pb::WeightedRule {
                sources: [("vt".to_owned(), pb::SourceRow::default())].into(),
                ..Default::default()
            }),
        ),
        ("a mask with letters that do not exist", masked(&["weighted.letters.g", "weighted.tresholds", "etag"])),
        (
            "a mask that is wrong beside a number that is",
            pb::ConfigurePolicyRequest {
                update_mask: Some(prost_types::FieldMask {
                    paths: vec!["weighted.colour".into(), "minimum_coverage".into()],
                }),
                ..configure(pb::Policy {
                    name: "policies/mine".into(),
                    minimum_coverage: Some(1.5),
                    ..Default::default()
                })
            },
        ),
        ("a policy that is built in", named("policies/weighted")),
        (
            "a base that does not exist",
            pb::ConfigurePolicyRequest { base: "policies/wieghted".into(), ..named("policies/mine") },
        ),
        ("without allow_missing", pb::ConfigurePolicyRequest { allow_missing: false, ..named("policies/mine") }),
        (
            "everything at once",
            pb::ConfigurePolicyRequest {
                request_id: "x y".into(),
                base: "weighted".into(),
                ..weighted(pb::WeightedRule {
                    family_correlation: Some(2.0),
                    ..thresholds(Some(0.2), Some(0.27), Some(0.1))
                })
            },
        ),
    ];
    for (what, request) in requests {
        let refused = server.policies().configure_policy(request).await.unwrap_err();
        describe(&format!("policies: {what}"), &refused, text);
    }
    let delete = pb::DeletePolicyRequest { name: "policies/xsoar".into(), ..Default::default() };
    let refused = server.policies().delete_policy(delete).await.unwrap_err();
    describe("policies: deleting one that is built in", &refused, text);
    let get = pb::GetPolicyRequest { name: "policies/weighted".into(), revision: 1 };
    let refused = server.policies().get_policy(get).await.unwrap_err();
    describe("policies: an earlier revision of one that is built in", &refused, text);
}

fn mask_place(line: &str, folder: &str) -> String {
    match (line.find(folder), line.find("concord.toml")) {
        (Some(from), Some(to)) if from < to => format!("{}FOLDER/{}", &line[..from], &line[to..]),
        _ => line.to_owned(),
    }
}

fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, kept, "{} differs; UPDATE_GOLDEN=1 writes it anew", path.display());
}

#[tokio::test]
async fn the_reasons_of_the_program_are_those_of_the_protocol() {
    for &reason in concord::error::Reason::VARIANTS {
        let name = format!("REASON_{}", reason.as_str());
        assert!(pb::Reason::from_str_name(&name).is_some(), "{name}");
    }
    let ours: Vec<_> =
        concord::error::Reason::VARIANTS.iter().map(|reason| format!("REASON_{}", reason.as_str())).collect();
    for reason in (1..1000).filter_map(|number| pb::Reason::try_from(number).ok()) {
        assert!(ours.iter().any(|name| name == reason.as_str_name()), "{reason:?} is never given");
    }
}

#[tokio::test]
async fn an_oversized_message_keeps_the_code_of_the_protocol() {
    let server = TestServer::start("").await;
    let huge = "x".repeat(5 * 1024 * 1024);
    let refused = server.enrichment().enrich(ask(&huge)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange, "{refused:?}");
    server.stop().await;
}
