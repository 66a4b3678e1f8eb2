//! `concord verdict diff` as it is typed.

use std::process::{Command, Output};
use std::time::Duration;

use crate::harness::{TestServer, malicious_virustotal, virustotal_at};

/// The command line with these arguments, beside this server.
pub async fn concord(server: &TestServer, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_concord"));
    command.env_clear().env("HOME", server.folder.path());
    command.arg("--data-directory").arg(server.folder.path().join("data")).args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_difference_of_two_verdicts_is_shown_term_by_term() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::listen(&virustotal_at(virustotal.address)).await;
    let before = server.enrich("198.51.100.7").await.verdict;
    server.clock.advance(Duration::from_secs(100 * 86_400));
    let after = server.enrich("198.51.100.7").await.verdict;
    let output = concord(&server, &["verdict", "diff", &before.name, &after.name]).await;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in ["198.51.100.7", "virustotal", "(prior)", "(sum)", "DIFFERENCE", "age 100 instead of 0 days"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    let output = concord(&server, &["verdict", "diff", &before.name, &before.name, "-o", "json"]).await;
    let documents: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(documents[0]["differenceMicroNats"], "0");
    assert_eq!(documents[0]["cause"], "DISPOSITION_CAUSE_UNSPECIFIED");
    server.stop().await;
}
