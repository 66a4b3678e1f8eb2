//! What callers see when the store cannot be written: nothing is asked that could not be recorded, and what is there can be
//! read.

use std::fs;
use std::time::Duration;

use concord::pb;
use concord::pb::outcome::Result as Outcome;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{TestServer, malicious_virustotal, virustotal_at};

async fn listed(server: &TestServer) -> usize {
    let list = server.verdicts().list_verdicts(pb::ListVerdictsRequest::default()).await.unwrap();
    list.into_inner().verdicts.len()
}

#[tokio::test]
async fn while_the_store_is_moved_no_source_is_asked_and_health_says_so_until_it_is_back() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    let mut watch = HealthClient::new(server.channel.clone());
    let mut watch = watch.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let mut health = async || watch.message().await.unwrap().unwrap().status();
    assert_eq!(health().await, ServingStatus::Serving);
    let stored = server.enrich("198.51.100.1").await.verdict;
    let (path, elsewhere) = (server.folder.path().join("data/concord.db"), server.folder.path().join("moved.db"));
    for is_deleted in [false, true] {
        match is_deleted {
            false => fs::rename(&path, &elsewhere).unwrap(),
            // Its bytes live on under the other name.
            true => {
                fs::hard_link(&path, &elsewhere).unwrap();
                fs::remove_file(&path).unwrap();
            }
        }
        assert_eq!(health().await, ServingStatus::NotServing);
        let calls = virustotal.calls();
        let answer = server.enrich("198.51.100.2").await;
        let Outcome::Error(error) = answer.outcome("virustotal") else { panic!("{answer:?}") };
        assert!(error.detail.contains("the store's file was moved, deleted or replaced"), "{error:?}");
        assert_eq!((virustotal.calls(), answer.verdict.name.as_str()), (calls, ""));
        assert!(answer.receipt.notes.iter().any(|note| note.contains("could not be stored")), "{:?}", answer.receipt);
        fs::rename(&elsewhere, &path).unwrap();
        assert_eq!(health().await, ServingStatus::Serving);
    }
    assert_eq!(listed(&server).await, 1, "only the first was stored");
    let again = server.enrich("198.51.100.2").await;
    assert_eq!((virustotal.calls(), again.verdict.disposition), (2, stored.disposition));
    assert_eq!(listed(&server).await, 2);
    server.stop().await;
}

#[tokio::test]
async fn on_a_full_disk_sources_are_asked_and_paid_and_verdicts_stay_without_a_name_until_there_is_space() {
    let virustotal = malicious_virustotal().await;
    let folder = std::sync::Arc::new(tempfile::TempDir::new().unwrap());
    // Where the space that is kept in reserve cannot be had, the disk counts as full.
    let reserve = folder.path().join("data/concord.db.reserve");
    fs::create_dir_all(reserve.join("in the way")).unwrap();
    let clock = std::sync::Arc::new(concord::clock::ManualClock::new(crate::harness::start_time()));
    let server = TestServer::start_on(folder, clock, &virustotal_at(virustotal.address)).await;
    let answer = server.enrich("198.51.100.1").await;
    assert!(matches!(answer.outcome("virustotal"), Outcome::Finding(_)), "{answer:?}");
    assert_eq!(answer.verdict.name, "");
    assert!(answer.receipt.notes.iter().any(|note| note.contains("could not be stored")), "{:?}", answer.receipt);
    let usage = server.sources().get_usage(pb::GetUsageRequest::default()).await.unwrap().into_inner();
    assert_eq!(usage.usage[0].units, 1, "what is paid is recorded");
    assert_eq!(listed(&server).await, 0);
    fs::remove_dir_all(&reserve).unwrap();
    // Pruning looks every minute whether there is space.
    server.clock.advance(Duration::from_secs(61));
    let mut last = 2;
    while server.enrich(&format!("198.51.100.{last}")).await.verdict.name.is_empty() {
        last += 1;
        server.clock.advance(Duration::from_secs(61));
    }
    assert!(listed(&server).await > 0);
    server.stop().await;
}
