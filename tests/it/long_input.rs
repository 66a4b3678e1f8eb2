//! `concord enrich` with more inputs than one call carries: in order, resumed, interrupted.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::harness::{TestServer, malicious_virustotal, virustotal_at};

fn concord(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_concord"));
    command.env_clear().env("HOME", folder).current_dir(folder).args(["--data-directory", "data", "enrich"]);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// So many lines, of which one is no indicator and one is longer than any.
fn lines(count: usize) -> String {
    let line = |index: usize| match index {
        3 => "no indicator".to_owned(),
        1203 => "a".repeat(200_000),
        _ => format!("10.0.{}.{}", index / 250, index % 250),
    };
    (0..count).fold("\u{feff}# a comment\n\n".to_owned(), |mut text, index| {
        writeln!(text, "{}", line(index)).unwrap();
        text
    })
}

fn resume(folder: &Path, output: &str) -> Output {
    let mut command = concord(folder);
    command.args(["--file", "lines.txt", "-o", output, "--out", "answers", "--resume"]);
    command.output().unwrap()
}

#[test]
fn a_resumed_look_up_has_every_input_once_and_in_order_wherever_it_was_cut() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("lines.txt"), lines(1500)).unwrap();
    let answers = folder.path().join("answers");
    let indexes = || -> Vec<u64> {
        let documents = std::fs::read_to_string(&answers).unwrap();
        let documents = documents.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        documents.map(|document| document["index"].as_u64().unwrap()).collect()
    };
    let whole = resume(folder.path(), "jsonl");
    let stderr = text(&whole.stderr);
    assert_eq!(whole.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("1500 indicators") && stderr.contains("2 refused"), "{stderr}");
    assert!(stderr.contains("longer than 64 KiB"), "{stderr}");
    let bytes = std::fs::read(&answers).unwrap();
    assert_eq!(indexes(), (0..1500).collect::<Vec<_>>());
    for cut in [0, 1, bytes.len() / 3, bytes.len() - 1] {
        std::fs::write(&answers, &bytes[..cut]).unwrap();
        resume(folder.path(), "jsonl");
        assert_eq!(indexes(), (0..1500).collect::<Vec<_>>(), "cut at {cut}");
    }
    let done = resume(folder.path(), "jsonl");
    assert!(text(&done.stderr).contains("all 1500 indicators already"), "{}", text(&done.stderr));
    std::fs::write(folder.path().join("lines.txt"), lines(1499)).unwrap();
    let shorter = resume(folder.path(), "jsonl");
    assert!(text(&shorter.stderr).contains("only 1499 indicators"), "{}", text(&shorter.stderr));
    let other = resume(folder.path(), "csv");
    assert!(text(&other.stderr).contains("holds no answers in this form"), "{}", text(&other.stderr));
}

#[test]
fn an_interrupted_look_up_says_how_far_it_came_and_ends_cleanly() {
    let folder = TempDir::new().unwrap();
    let mut command = concord(folder.path());
    command.args(["-", "-o", "jsonl"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Standard input stays open, so more lines may come.
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines(1001).as_bytes()).unwrap();
    let answers = BufReader::new(child.stdout.take().unwrap()).lines().take(1000);
    assert_eq!(answers.map_while(Result::ok).count(), 1000);
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("interrupted: 1000 indicators answered"), "{stderr}");
    drop(input);
}

#[test]
fn answers_are_written_to_a_file_only_in_a_form_that_can_be_gone_on_with() {
    let folder = TempDir::new().unwrap();
    let run = |arguments: &[&str]| concord(folder.path()).arg("10.0.0.1").args(arguments).output().unwrap();
    let refused = run(&["--out", "answers"]);
    assert!(text(&refused.stderr).contains("-o jsonl or -o csv"), "{}", text(&refused.stderr));
    assert!(!folder.path().join("answers").exists());
    assert_eq!(run(&["--resume"]).status.code(), Some(2), "there is no file to go on with");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_server_cannot_store_is_no_answer_of_a_file_that_is_gone_on_with() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::listen(&virustotal_at(virustotal.address)).await;
    let (path, elsewhere) = (server.folder.path().join("data/concord.db"), server.folder.path().join("moved.db"));
    std::fs::rename(&path, &elsewhere).unwrap();
    let answers = server.folder.path().join("answers");
    let mut command = concord(server.folder.path());
    let address = format!("http://{}", server.address());
    command.args(["198.51.100.7", "--server", &address, "-o", "jsonl", "--out", "answers"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let ended = tokio::task::spawn_blocking(move || {
        let mut notice = String::new();
        stderr.read_line(&mut notice).unwrap();
        assert!(notice.contains("could not store 1 answer"), "{notice}");
        assert_eq!(std::fs::read_to_string(&answers).unwrap(), "");
        std::fs::rename(&elsewhere, &path).unwrap();
        assert!(child.wait().unwrap().success());
        std::fs::read_to_string(&answers).unwrap()
    });
    let written = ended.await.unwrap();
    assert_eq!(written.lines().count(), 1, "{written}");
    assert!(written.contains("\"name\":\"verdicts/") && written.contains("MALICIOUS"), "{written}");
    assert_eq!(virustotal.calls(), 1);
    server.stop().await;
}
