//! The program as a process: killed in between, asked to end, and read for secrets in its logs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use concord::pb;
use concord::pb::enrichment_service_client::EnrichmentServiceClient;
use concord::pb::source_service_client::SourceServiceClient;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::harness::{Replay, indicator, malicious_virustotal, report, virustotal_at};

/// A server in a process of its own, killed when the test ends, with the file of its logs.
struct Process(Child, PathBuf);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn start(folder: &Path, configuration: &str) -> (Self, SocketAddr) {
        let file = folder.join("concord.toml");
        std::fs::write(&file, configuration).unwrap();
        // The port is free now; a server that is started anew wants the same kind of luck.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_concord"));
        command.env_clear().env("HOME", folder).env("CONCORD_LOG", "trace").arg("--config").arg(file);
        command.arg("--data-directory").arg(folder.join("data")).args(["serve", "--listen", &address.to_string()]);
        // To a file: a pipe that nobody reads fills up, and the server would wait.
        let logs = folder.join("logs");
        let child = command.stdout(Stdio::null()).stderr(std::fs::File::create(&logs).unwrap()).spawn().unwrap();
        (Self(child, logs), address)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(name).arg(self.0.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end and gives the logs.
    async fn end(mut self) -> (Option<i32>, String) {
        tokio::task::spawn_blocking(move || {
            let code = self.0.wait().unwrap().code();
            (code, std::fs::read_to_string(&self.1).unwrap())
        })
        .await
        .unwrap()
    }
}

/// A channel to a server that is just starting.
async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    for _ in 0..10_000 {
        if let Ok(channel) = endpoint.connect().await {
            return channel;
        }
        tokio::task::yield_now().await;
    }
    panic!("the server at {address} did not start");
}

async fn enrich(channel: &Channel, value: &str) -> pb::Verdict {
    let request = pb::EnrichRequest { indicator: Some(indicator(value)), ..Default::default() };
    let answer = EnrichmentServiceClient::new(channel.clone()).enrich(request).await.unwrap();
    answer.into_inner().decode_verdict().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn four_units_are_never_five_also_with_a_kill_in_between() {
    let virustotal = malicious_virustotal().await;
    let folder = TempDir::new().unwrap();
    // The month counts as the minute does, and does not turn while the test runs.
    let configuration = virustotal_at(virustotal.address) + "quota = { minute = 4, month = 4 }\n";
    let (server, address) = Process::start(folder.path(), &configuration);
    let first = channel(address).await;
    for last in 1..=3 {
        enrich(&first, &format!("198.51.100.{last}")).await;
    }
    server.signal("-KILL");
    let (code, _) = server.end().await;
    assert_eq!(code, None, "killed, not ended");

    let (server, address) = Process::start(folder.path(), &configuration);
    let second = channel(address).await;
    for last in 4..=6 {
        enrich(&second, &format!("198.51.100.{last}")).await;
    }
    assert_eq!(virustotal.calls(), 4);
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_ends_well_when_the_server_is_told_to_end() {
    let delay = std::time::Duration::from_millis(500);
    let slow = Replay::start(delay, Box::new(|_| (200, report(60, 0)))).await;
    let folder = TempDir::new().unwrap();
    let (server, address) = Process::start(folder.path(), &virustotal_at(slow.address));
    let channel = channel(address).await;
    let call = {
        let channel = channel.clone();
        tokio_util::task::TaskTracker::new().spawn(async move { enrich(&channel, "198.51.100.7").await })
    };
    while slow.calls() == 0 {
        tokio::task::yield_now().await;
    }
    server.signal("-TERM");
    // The analysis is old by the machine's clock, so its evidence has aged; that it came is what counts here.
    assert_ne!(call.await.unwrap().disposition(), pb::Disposition::Unknown);
    let (code, _) = server.end().await;
    assert_eq!(code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_stands_in_the_logs_however_much_is_logged() {
    let virustotal = malicious_virustotal().await;
    let folder = TempDir::new().unwrap();
    let token_hash = "3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0";
    let configuration = format!("[tokens]\nsoar = \"{token_hash}\"\n{}", virustotal_at(virustotal.address));
    let (server, address) = Process::start(folder.path(), &configuration);
    let channel = channel(address).await;
    let secret = "sent-t0ken-that-is-wrong";
    let mut wrong = tonic::Request::new(pb::ListSourcesRequest::default());
    wrong.metadata_mut().insert("authorization", format!("Bearer {secret}").parse().unwrap());
    SourceServiceClient::new(channel.clone()).list_sources(wrong).await.unwrap_err();
    let mut right = tonic::Request::new(pb::EnrichRequest {
        indicator: Some(indicator("https://user:hunter2@example.com/")),
        ..Default::default()
    });
    right.metadata_mut().insert("authorization", "Bearer token".parse().unwrap());
    EnrichmentServiceClient::new(channel.clone()).enrich(right).await.unwrap();
    let mut test =
        tonic::Request::new(pb::TestSourceRequest { name: "sources/virustotal".into(), ..Default::default() });
    test.metadata_mut().insert("authorization", "Bearer token".parse().unwrap());
    SourceServiceClient::new(channel.clone()).test_source(test).await.unwrap();
    drop(channel);
    server.signal("-TERM");
    let (_, logs) = server.end().await;
    assert!(logs.contains("listening"), "{logs}");
    for secret in [secret, "Bearer token", "hunter2", "s3cret-credential"] {
        let line = logs.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} is logged: {line:?}");
    }
}
