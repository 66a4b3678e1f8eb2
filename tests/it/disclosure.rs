use concord::pb;

use crate::harness::{TestServer, indicator, malicious_virustotal, virustotal_at};

async fn with_never_send() -> (crate::harness::Replay, TestServer) {
    let virustotal = malicious_virustotal().await;
    let rules = "never_send = [\"customer.example.org\", \"203.0.113.0/24\", \"https://example.com/private/\"]\n";
    let server = TestServer::start(&(rules.to_owned() + &virustotal_at(virustotal.address))).await;
    (virustotal, server)
}

#[tokio::test]
async fn what_must_not_leave_does_not_leave_and_says_why() {
    use pb::NotAskedReason as Reason;
    let (virustotal, server) = with_never_send().await;
    let withheld = [
        ("10.1.2.3", Reason::PrivateAddress),
        ("127.0.0.1", Reason::PrivateAddress),
        ("169.254.1.1", Reason::PrivateAddress),
        ("100.64.0.1", Reason::PrivateAddress),
        ("fd00::1", Reason::PrivateAddress),
        ("http://192.168.1.1/admin", Reason::PrivateAddress),
        ("http://intranet/wiki", Reason::InternalName),
        ("https://wiki.corp/start", Reason::InternalName),
        ("https://user:hunter2@example.com/", Reason::UrlCredentials),
        ("www.customer.example.org", Reason::NeverSend),
        ("https://customer.example.org/a", Reason::NeverSend),
        ("203.0.113.77", Reason::NeverSend),
        ("https://example.com/private/plan", Reason::NeverSend),
        ("https://example.com/%2570RIVATE;x/plan", Reason::NeverSend),
        ("http://app.10.0.0.1.nip.io/", Reason::PrivateAddress),
        ("c0a80101.nip.io", Reason::PrivateAddress),
        ("http://lvh.me/", Reason::PrivateAddress),
        ("http://[2001:db8::5efe:10.0.0.1]/", Reason::PrivateAddress),
        ("http://localhost.localdomain/", Reason::InternalName),
        // What stands in the link of a mail gateway, or within a URL, is disclosed as well.
        (
            "https://nam02.safelinks.protection.outlook.com/?url=http%3A%2F%2F192-168-1-1.sslip.io%2F&data=x",
            Reason::PrivateAddress,
        ),
        ("https://example.net/login?next=https%253A%252F%252Fexample.com%252Fprivate%252F", Reason::NeverSend),
        ("https://example.net/copy/http:/wiki.corp/start", Reason::InternalName),
        ("https://example.net/?u=http%3A%2F%2Fuser:hunter2@example.com%2F", Reason::UrlCredentials),
    ];
    for (value, reason) in withheld {
        let enriched = server.enrich(value).await;
        assert_eq!(enriched.not_asked("virustotal"), reason, "{value}");
        assert_eq!(enriched.verdict.disposition(), pb::Disposition::Unknown, "{value}");
        assert!(!enriched.verdict.partial, "{value}: a rule is no failure");
    }
    assert_eq!(virustotal.calls(), 0);
    server.stop().await;
}

#[tokio::test]
async fn what_no_rule_names_is_asked_about() {
    let (virustotal, server) = with_never_send().await;
    let asked = [
        "192.0.2.1",
        "198.51.100.1.nip.io",
        "http://example.net/?u=https://www.example.org/private/",
        "https://example.com/privates",
    ];
    for value in asked {
        server.enrich(value).await;
    }
    assert_eq!(virustotal.calls(), asked.len());
    server.stop().await;
}

#[tokio::test]
async fn a_source_sees_nothing_above_its_own_tlp_limit() {
    let (virustotal, server) = with_never_send().await;
    let ask = async |value: &str, tlp: pb::Tlp| {
        let indicator = Some(indicator(value));
        let options = pb::EnrichOptions { tlp: tlp.into(), ..Default::default() };
        server.enrich_as(pb::EnrichRequest { indicator, options: Some(options) }).await
    };
    for (value, tlp) in [("198.51.100.1", pb::Tlp::AmberStrict), ("198.51.100.2", pb::Tlp::Red)] {
        assert_eq!(ask(value, tlp).await.not_asked("virustotal"), pb::NotAskedReason::Tlp);
    }
    assert_eq!(virustotal.calls(), 0);
    for (value, tlp) in [("198.51.100.1", pb::Tlp::Clear), ("198.51.100.2", pb::Tlp::Amber)] {
        assert_eq!(ask(value, tlp).await.verdict.disposition(), pb::Disposition::Malicious);
    }
    // Nothing leaves when the answer is kept already.
    assert_eq!(ask("198.51.100.1", pb::Tlp::Red).await.verdict.disposition(), pb::Disposition::Malicious);
    assert_eq!(virustotal.calls(), 2);
    server.stop().await;
}

#[tokio::test]
async fn the_ledger_says_what_was_disclosed_to_whom_and_for_whom() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::listen(&virustotal_at(virustotal.address)).await;
    server.enrich("198.51.100.1").await;
    server.enrich("198.51.100.2").await;
    server.enrich("10.0.0.1").await;
    let list = async |request: pb::ListDisclosuresRequest| {
        server.sources().list_disclosures(request).await.unwrap().into_inner()
    };
    let all = list(pb::ListDisclosuresRequest::default()).await.disclosures;
    assert_eq!(all.len(), 2, "{all:?}");
    let listed =
        list(pb::ListDisclosuresRequest { indicator: Some(indicator("198.51.100.1")), ..Default::default() }).await;
    let one = &listed.disclosures[0];
    assert_eq!(one.source, "sources/virustotal");
    assert_eq!(one.caller, "anonymous");
    assert_eq!(one.to, virustotal.address.ip().to_string());
    assert_eq!(one.tlp(), pb::Tlp::Amber);
    let first = list(pb::ListDisclosuresRequest { page_size: 1, ..Default::default() }).await;
    assert!(!first.next_page_token.is_empty());
    let second = pb::ListDisclosuresRequest { page_size: 1, page_token: first.next_page_token, ..Default::default() };
    assert_ne!(list(second).await.disclosures[0].id, first.disclosures[0].id);
    server.stop().await;
}
