//! How long a whole verdict is given again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use concord::pb;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record};
use tokio::net::UdpSocket;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::harness::TestServer;

/// A zone that lists every name for so many seconds, and how often it was asked.
struct Zone {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Zone {
    async fn listing_for(seconds: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = asked.clone();
        let task = TaskTracker::new().spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let query = Message::from_vec(&buffer[..length]).unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let mut message = Message::response(query.metadata.id, query.metadata.op_code);
                message.add_query(query.queries[0].clone());
                let listed = RData::A(A(Ipv4Addr::new(127, 0, 0, 2)));
                message.add_answer(Record::from_rdata(query.queries[0].name().clone(), seconds, listed));
                socket.send_to(&message.to_vec().unwrap(), from).await.unwrap();
            }
        });
        Self { address, asked, _task: AbortOnDropHandle::new(task) }
    }

    fn configuration(&self) -> String {
        let resolver = self.address;
        format!(
            "[sources.zone]\nkind = \"dnsbl\"\noptions.zone = \"zone.example.com\"\noptions.resolver = \"{resolver}\"\n\
             options.codes = {{ \"127.0.0.2\" = \"malicious 0.85 spam\" }}\n"
        )
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_cached_verdict_expires_with_the_dns_record_that_it_is_based_on() {
    let zone = Zone::listing_for(60).await;
    let server = TestServer::start(&zone.configuration()).await;
    let again = async || server.enrich("198.51.100.7").await;
    let first = again().await;
    assert_eq!(first.verdict.disposition(), pb::Disposition::Malicious, "{:?}", first.verdict.outcomes);
    server.clock.advance(Duration::from_secs(50));
    let second = again().await;
    assert!(second.receipt.verdict_from_cache);
    server.clock.advance(Duration::from_secs(11));
    let third = again().await;
    assert!(!third.receipt.verdict_from_cache, "the record stood for 60 seconds");
    assert_eq!(zone.asked(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_verdict_on_a_cached_answer_is_valid_only_for_the_rest_of_its_time() {
    let zone = Zone::listing_for(60).await;
    let server = TestServer::start(&zone.configuration()).await;
    server.enrich("198.51.100.7").await;
    server.clock.advance(Duration::from_secs(40));
    // Another policy: judged anew on the kept answer, which stands for 20 seconds more.
    let by_reliability = pb::EnrichRequest {
        indicator: Some(crate::harness::indicator("198.51.100.7")),
        options: Some(pb::EnrichOptions { policy: "policies/xsoar".into(), ..Default::default() }),
    };
    let other = server.enrich_as(by_reliability.clone()).await;
    assert!(other.receipt.sources[0].from_cache && !other.receipt.verdict_from_cache);
    server.clock.advance(Duration::from_secs(10));
    assert!(server.enrich_as(by_reliability.clone()).await.receipt.verdict_from_cache);
    server.clock.advance(Duration::from_secs(11));
    assert!(!server.enrich_as(by_reliability).await.receipt.verdict_from_cache);
    assert_eq!(zone.asked(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_verdict_on_a_list_is_given_again_until_the_list_changes() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("list.txt");
    std::fs::write(&path, "192.0.2.1\n").unwrap();
    let server = TestServer::start(&format!("[sources.mine]\nkind = \"list\"\noptions.path = {path:?}\n")).await;
    // The first look-up loads the list, so that only later ones have its generation in their key.
    server.enrich("192.0.2.1").await;
    let name = server.enrich("192.0.2.1").await.verdict.name;
    for _ in 0..3 {
        server.clock.advance(Duration::from_secs(7));
        let again = server.enrich("192.0.2.1").await;
        assert!(again.receipt.verdict_from_cache, "{:?}", again.receipt);
        assert_eq!(again.verdict.name, name, "one verdict, and one row of the history");
    }
    std::fs::write(&path, "192.0.2.9\n192.0.2.10\n").unwrap();
    server.clock.advance(Duration::from_secs(7));
    let changed = server.enrich("192.0.2.1").await;
    assert!(!changed.receipt.verdict_from_cache, "{:?}", changed.receipt);
    assert!(matches!(changed.outcome("mine"), pb::outcome::Result::NoRecord(_)), "{changed:?}");
    server.stop().await;
}
