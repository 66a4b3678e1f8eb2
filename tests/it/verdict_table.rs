//! How much of a verdict the command line shows, as it is typed.

use std::process::Command;

use crate::harness::{Replay, TestServer, malicious_virustotal, report, virustotal_at};
use crate::verdict_diff::concord;

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

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_shows_each_answer_and_whether_the_others_can_still_change_the_disposition() {
    let quick = malicious_virustotal().await;
    let slow = Replay::held(Box::new(|_| (200, report(0, 0)))).await;
    // What cannot be judged weighs nothing, whatever it says.
    let other = virustotal_at(slow.address).replace("[sources.virustotal]", "[sources.other]\nreliability = \"F\"");
    let server = TestServer::listen(&(virustotal_at(quick.address) + &other)).await;
    let released = async {
        quick.called(1).await;
        slow.called(1).await;
        slow.release();
    };
    let (output, ()) = tokio::join!(concord(&server, &["enrich", "198.51.100.7", "--stream"]), released);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "  virustotal (B) says malicious; so far malicious (",
        "  other (F) ",
        ", 1 awaited\n",
        "\n\nmalicious  198.51.100.7\n",
    ] {
        assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
    }
    let output = concord(&server, &["enrich", "198.51.100.7", "--stream", "-o", "jsonl", "--max-age", "1h"]).await;
    let documents: Vec<serde_json::Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(documents.len(), 3, "{documents:?}");
    assert_eq!(documents[0]["progress"]["waiting"], 1);
    assert_eq!(documents[2]["final"]["verdict"]["disposition"], "DISPOSITION_MALICIOUS");
    for wrong in [&["198.51.100.8"][..], &["-o", "csv"]] {
        let refused = concord(&server, &[&["enrich", "198.51.100.7", "--stream"], wrong].concat()).await;
        assert_eq!(refused.status.code(), Some(1), "{wrong:?}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.starts_with("concord: --stream "), "{said}");
    }
    server.stop().await;
}
