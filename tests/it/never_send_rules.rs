//! Never-send rules over the API, beside those of the configuration file.

use std::collections::HashSet;

use concord::pb;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{Enriched, TestServer, malicious_virustotal, virustotal_at};

async fn create(server: &TestServer, rule: &str, validate_only: bool) -> Result<pb::NeverSendRule, tonic::Status> {
    let rule = pb::NeverSendRule { rule: rule.into(), comment: "a customer".into(), ..Default::default() };
    let request = pb::CreateNeverSendRuleRequest { never_send_rule: Some(rule), validate_only };
    let created = server.sources().create_never_send_rule(request).await?.into_inner();
    Ok(created.never_send_rule.unwrap())
}

async fn list(server: &TestServer, page_size: i32, page_token: &str) -> pb::ListNeverSendRulesResponse {
    let request = pb::ListNeverSendRulesRequest { page_size, page_token: page_token.into() };
    server.sources().list_never_send_rules(request).await.unwrap().into_inner()
}

async fn delete(server: &TestServer, name: &str) -> Result<(), tonic::Status> {
    let request = pb::DeleteNeverSendRuleRequest { name: name.into(), validate_only: false };
    server.sources().delete_never_send_rule(request).await.map(|_| ())
}

/// Why VirusTotal was not asked; `None`: it was.
fn withheld(enriched: &Enriched) -> Option<String> {
    match enriched.outcome("virustotal") {
        pb::outcome::Result::NotAsked(not_asked) => Some(not_asked.detail.clone()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_holds_from_the_next_question_until_it_is_deleted_also_after_a_restart() {
    let virustotal = malicious_virustotal().await;
    let configuration = virustotal_at(virustotal.address);
    let server = TestServer::start(&configuration).await;
    let rule = create(&server, "198.51.100.7/24", false).await.unwrap();
    assert_eq!((rule.rule.as_str(), rule.comment.as_str()), ("198.51.100.0/24", "a customer"));
    assert_eq!((rule.creator.as_str(), rule.declared_in.as_str()), ("local", ""));
    assert!(rule.create_time.is_some());
    let expected = Some("never-send rule 198.51.100.0/24".to_owned());
    assert_eq!(withheld(&server.enrich("198.51.100.7").await), expected);
    assert_eq!(virustotal.calls(), 0);

    let (folder, clock) = (server.folder.clone(), server.clock.clone());
    server.stop().await;
    let server = TestServer::start_on(folder, clock, &configuration).await;
    assert_eq!(list(&server, 0, "").await.never_send_rules, std::slice::from_ref(&rule));
    assert_eq!(withheld(&server.enrich("198.51.100.7").await), expected);

    delete(&server, &rule.name).await.unwrap();
    assert_eq!(withheld(&server.enrich("198.51.100.7").await), None);
    assert_eq!(virustotal.calls(), 1);
    assert_eq!(delete(&server, &rule.name).await.unwrap_err().code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn a_rule_is_made_once_whatever_its_spelling_and_validation_makes_none() {
    let server = TestServer::start("never_send = [\"example.org\"]\n").await;
    create(&server, "example.com", true).await.unwrap();
    assert_eq!(list(&server, 0, "").await.never_send_rules.len(), 1);
    create(&server, "*.Example.COM.", false).await.unwrap();
    for again in ["example.com", ".example.com", "example.org"] {
        assert_eq!(create(&server, again, false).await.unwrap_err().code(), Code::AlreadyExists, "{again}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_rule_of_the_file_is_listed_and_cannot_be_deleted() {
    let server = TestServer::start("never_send = [\"example.org\"]\n").await;
    let rules = list(&server, 0, "").await.never_send_rules;
    let [rule] = rules.as_slice() else { panic!("{rules:?}") };
    assert!(rule.declared_in.ends_with("concord.toml") && rule.creator.is_empty(), "{rule:?}");
    let refused = delete(&server, &rule.name).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("concord.toml"), "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let server = TestServer::start("").await;
    let rule = pb::NeverSendRule { comment: "two\nlines".into(), ..Default::default() };
    let request = pb::CreateNeverSendRuleRequest { never_send_rule: Some(rule), validate_only: false };
    let refused = server.sources().create_never_send_rule(request).await.unwrap_err();
    let violations = refused.get_error_details().bad_request().unwrap().field_violations.clone();
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["never_send_rule.rule", "never_send_rule.comment"]);
    for wrong in ["10.0.0.0/99", "no rule", "example.com/path"] {
        assert_eq!(create(&server, wrong, false).await.unwrap_err().code(), Code::InvalidArgument, "{wrong}");
    }
    assert_eq!(delete(&server, "rules/1").await.unwrap_err().code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn rules_are_bounded_and_listed_page_by_page() {
    let server = TestServer::start("").await;
    for number in 0..1000 {
        create(&server, &format!("host-{number}.example.com"), false).await.unwrap();
    }
    assert_eq!(create(&server, "one-more.example.com", false).await.unwrap_err().code(), Code::ResourceExhausted);
    let (mut names, mut token) = (HashSet::new(), String::new());
    loop {
        let page = list(&server, 300, &token).await;
        names.extend(page.never_send_rules.into_iter().map(|rule| rule.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names.len(), 1000);
    server.stop().await;
}
