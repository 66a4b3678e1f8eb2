//! How much of a verdict the command line shows, as it is typed.

use std::process::Command;

use crate::harness::{TestServer, malicious_virustotal, virustotal_at};

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_is_shown_in_eighty_columns_and_in_full_where_wanted() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::listen(&virustotal_at(virustotal.address)).await;
    let enrich = async |more: &[&str]| {
        let folder = server.folder.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_concord"));
        command.env_clear().env("HOME", folder).arg("--data-directory").arg(folder.join("data"));
        command.args(["enrich", "198.51.100.7"]).args(more);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let compact = enrich(&[]).await;
    assert!(compact.lines().all(|line| line.chars().count() <= 80), "{compact}");
    let explained = enrich(&["--explain"]).await;
    for part in ["(prior)", "(sum)", "WITHOUT IT", "unknown (-3.507)", "would make it", "+3.507"] {
        assert!(explained.contains(part), "{part} is missing in\n{explained}");
    }
    let wide = enrich(&["--wide"]).await;
    assert!(wide.contains("AGREES") && wide.contains("cache"), "{wide}");
    let compared = enrich(&["--compare"]).await;
    for part in ["POLICY", "weighted", "xsoar", "worst", "majority", "mean", "because 1 of 1 claims are malicious"] {
        let words = compared.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(part), "{part} is missing in\n{compared}");
    }
    let dbot = enrich(&["--output", "dbot"]).await;
    let contexts: serde_json::Value = serde_json::from_str(&dbot).unwrap();
    let scores = contexts[0].as_object().unwrap().values().next().unwrap();
    let vendors: Vec<_> = scores.as_array().unwrap().iter().map(|score| (&score["Vendor"], &score["Score"])).collect();
    assert_eq!(format!("{vendors:?}"), "[(String(\"virustotal\"), Number(3)), (String(\"Concord\"), Number(3))]");
    assert_eq!(virustotal.calls(), 1);
    server.stop().await;
}
