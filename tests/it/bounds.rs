//! What one source, one page and one change can make the server hold.

use std::time::Duration;

use concord::pb;
use concord::pb::fact::Value as FactWire;
use prost::Message;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{DEADLINE, Replay, TestServer, indicator, report, virustotal_at, with_deadline};

/// A VirusTotal that names so many engines, each with a name of so many characters.
async fn talkative_virustotal(engines: usize, length: usize) -> (Replay, String) {
    let name = |number: usize| format!("{number:0length$}");
    let results: serde_json::Map<_, _> =
        (0..engines).map(|number| (name(number), json!({ "category": "malicious" }))).collect();
    let virustotal = Replay::start(Box::new(move |_| {
        let mut answer = report(60, 0);
        answer["data"]["attributes"]["last_analysis_results"] = json!(results);
        (200, answer)
    }))
    .await;
    let configuration = format!("{}quota = {{ minute = 1000 }}\n", virustotal_at(virustotal.address));
    (virustotal, configuration)
}

fn full() -> Option<pb::EnrichOptions> {
    Some(pb::EnrichOptions { view: pb::View::Full.into(), ..Default::default() })
}

#[tokio::test]
async fn a_finding_holds_no_more_than_its_bounds_and_says_what_was_left_out() {
    let (_virustotal, configuration) = talkative_virustotal(5_000, 20).await;
    let server = TestServer::start(&configuration).await;
    let request = pb::EnrichRequest { indicator: Some(indicator("198.51.100.7")), options: full() };
    let enriched = server.enrich_as(request).await;
    let pb::outcome::Result::Finding(finding) = enriched.outcome("virustotal") else { panic!("{enriched:?}") };
    assert_eq!(finding.claim(), pb::Disposition::Malicious);
    let engines = finding.facts.iter().find(|fact| fact.name == "engines_malicious").unwrap();
    let Some(FactWire::List(engines)) = &engines.value else { panic!("{engines:?}") };
    assert_eq!(engines.values.len(), 128);
    let last = finding.reasons.last().unwrap();
    assert_eq!(last, "left out of a large answer: 4872 texts of engines_malicious");
    server.stop().await;
}

#[tokio::test]
async fn a_page_of_verdicts_ends_at_its_bytes_and_the_next_goes_on_from_there() {
    const VERDICTS: usize = 50;
    let (_virustotal, configuration) = talkative_virustotal(128, 450).await;
    let server = TestServer::start(&configuration).await;
    for number in 0..VERDICTS {
        server.enrich(&format!("198.51.100.{number}")).await;
    }
    let (mut seen, mut pages, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let request =
            pb::ListVerdictsRequest { page_size: 1000, view: pb::View::Full.into(), page_token, ..Default::default() };
        let page = server.verdicts().list_verdicts(request).await.unwrap().into_inner();
        assert!(page.encoded_len() < 2 * 1024 * 1024 + 1024, "{}", page.encoded_len());
        seen.extend(page.verdicts.into_iter().map(|verdict| verdict.indicator.unwrap().value));
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, 2, "each verdict takes about 60 KB");
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), VERDICTS);
    server.stop().await;
}

async fn create_source(server: &TestServer, number: usize, ca_pem: String) {
    let name = format!("sources/s{number:03}");
    let source = pb::Source { name, kind: "hashlookup".into(), ca_pem, ..Default::default() };
    let request = pb::ConfigureSourceRequest { source: Some(source), allow_missing: true, ..Default::default() };
    server.sources().configure_source(request).await.unwrap();
}

#[tokio::test]
async fn a_page_of_sources_ends_at_its_bytes_and_the_next_goes_on_from_there() {
    let server = TestServer::start("").await;
    let authorities = format!("-----BEGIN CERTIFICATE-----\n{}", "A".repeat(600_000));
    for number in 0..5 {
        create_source(&server, number, authorities.clone()).await;
    }
    let page = async |page_token| {
        let request = pb::ListSourcesRequest { page_size: 1000, page_token };
        let page = server.sources().list_sources(request).await.unwrap().into_inner();
        let names: Vec<_> = page.sources.into_iter().map(|source| source.name).collect();
        (names, page.next_page_token)
    };
    let (first, token) = page(String::new()).await;
    assert_eq!(first, ["sources/s000", "sources/s001", "sources/s002"]);
    let (second, token) = page(token).await;
    assert_eq!((second, token.as_str()), (vec!["sources/s003".to_owned(), "sources/s004".to_owned()], ""));
    server.stop().await;
}

#[tokio::test]
async fn a_source_that_sends_a_byte_a_second_is_given_up_at_its_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let configuration = virustotal_at(listener.local_addr().unwrap()) + "timeout = \"3s\"\n";
    let server = TestServer::start(&configuration).await;
    let dripping = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await.unwrap();
        for _ in 0..3 {
            stream.write_all(b"x").await.unwrap();
            server.clock.advance(Duration::from_secs(1));
        }
        // Whoever gave up has closed its end.
        while stream.read(&mut request).await.is_ok_and(|bytes| bytes > 0) {}
        server.clock.advance(DEADLINE);
        stream
    };
    let request = pb::EnrichRequest { indicator: Some(indicator("198.51.100.7")), ..Default::default() };
    let mut client = server.enrichment();
    let (answer, _stream) = tokio::join!(client.enrich(with_deadline(request)), dripping);
    let verdict = answer.unwrap().into_inner().decode_verdict().unwrap();
    let Some(pb::outcome::Result::Error(error)) = &verdict.outcomes[0].result else { panic!("{verdict:?}") };
    // The caller's time may end before it is settled that nothing is asked again.
    let given_up = ["no answer within 3000 ms", "no answer before the deadline"];
    assert!(given_up.contains(&error.detail.as_str()), "{error:?}");
    server.stop().await;
}
