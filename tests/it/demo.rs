//! The demonstration: what it shows, and the server that it leaves running.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

fn concord(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_concord"));
    command.env_clear().args(line.split_whitespace());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A demonstration that goes on, killed when the test ends.
pub struct KeptDemo {
    child: Child,
    folder: TempDir,
    /// Where its server is: `127.0.0.1:7700`.
    pub address: String,
    /// What it printed after that.
    next_steps: Vec<String>,
}

impl KeptDemo {
    /// Starts it and waits until it says where its server is.
    pub fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let mut command = concord("demo --keep");
        // A server that is named for other commands does not concern it.
        command.env("TMPDIR", folder.path()).env("CONCORD_SERVER", "http://192.0.2.1:1");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let export = lines.by_ref().find(|line| line.contains("export CONCORD_SERVER=")).expect("it tells its address");
        let address = export.trim().trim_start_matches("export CONCORD_SERVER=http://").to_owned();
        let next_steps = lines.by_ref().take(4).collect();
        Self { child, folder, address, next_steps }
    }

    fn run(&self, line: &str) -> Output {
        let output = concord(line).env("CONCORD_SERVER", format!("http://{}", self.address)).output().unwrap();
        assert!(output.status.success(), "{line}: {}{}", text(&output.stdout), text(&output.stderr));
        output
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_slice(&self.run(line).stdout).unwrap()
    }
}

impl Drop for KeptDemo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_demonstration_shows_every_scene_without_network_or_certificates() {
    let folder = TempDir::new().unwrap();
    let mut command = concord("demo");
    command.env("TMPDIR", folder.path());
    let output = command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent").output().unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}\n{shown}", text(&output.stderr));
    let parts = [
        "agreement",
        "contradict",
        "would make it unknown",
        "WITHOUT IT",
        "majority says benign, because 2 of 3 claims are benign",
        "mean says suspicious",
        "worst says malicious",
        "0 of 94 engines",
        "timeout",
        "quota spent",
        "private address",
        "policies/xsoar",
        "tlp:",
        "5 of 94 engines say malicious or suspicious (threshold 5)",
        "2 of 3 downloaded files are suspicious or malicious (threshold 2)",
        "calls to VirusTotal: 2",
        "files.example.com communicated-by 5f1c0de0",
        "from cache: yes, nobody was asked",
        "held: the listed word Project Falcon (plan.txt)",
        "analysing (queued)",
        "sent to 127.0.0.1",
        "Share data, and should be one family: abuseipdb, reseller",
        "which letter each behaves like",
        "virustotal.malicious_threshold_ip, now 10: 201 findings on ip read again",
        "300 verdicts judged again",
        "run `concord demo --keep`",
    ];
    // Paragraphs are broken to the width of a terminal.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let in_one_line = words(&shown);
    for part in parts {
        assert!(in_one_line.contains(&words(part)), "{part} is missing in\n{shown}");
    }
    let pictures: Vec<&str> = shown.lines().filter_map(|line| line.strip_prefix("the picture of it: ")).collect();
    assert_eq!(pictures.len(), 3, "of a graph, the sources and a threshold");
    for picture in pictures {
        assert!(std::fs::read_to_string(picture).unwrap().starts_with("<svg"), "{picture}");
    }
}

#[test]
fn a_demonstration_left_running_has_full_quota_passes_every_test_and_cleans_up() {
    let mut kept = KeptDemo::start();
    let windows: Vec<Value> = kept.json("usage -o json").as_array().unwrap().clone();
    let windows: Vec<&Value> = windows.iter().filter_map(|usage| usage["quota"].as_array()).flatten().collect();
    assert!(windows.len() >= 6, "{windows:?}");
    for window in windows {
        assert_eq!(window["left"], window["limit"], "{window}");
    }
    for step in &kept.next_steps {
        let shown = text(&kept.run(step.trim().strip_prefix("concord ").unwrap()).stdout);
        assert!(
            [
                "suspicious  203.0.113.5",
                "credential accepted: yes",
                " verdicts, 173 labelled",
                " findings on ip read again"
            ]
            .iter()
            .any(|part| shown.contains(part)),
            "{shown}"
        );
    }
    let sources = kept.json("source list -o json");
    let names: Vec<&str> = sources.as_array().unwrap().iter().map(|source| source["name"].as_str().unwrap()).collect();
    assert!(names.len() >= 7, "{names:?}");
    for name in names {
        kept.run(&format!("source test {}", name.trim_start_matches("sources/")));
    }
    let ended = Command::new("kill").args(["-INT", &kept.child.id().to_string()]).status().unwrap();
    assert!(ended.success() && kept.child.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(kept.folder.path()).unwrap().count(), 0, "its folder is removed");
}

#[test]
fn the_demonstration_refuses_what_it_does_not_use() {
    for (line, unused) in
        [("demo --server http://192.0.2.1:1", "--server"), ("demo --data-directory x", "--data-directory")]
    {
        let output = concord(line).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}");
        let refusal = text(&output.stderr);
        assert!(refusal.contains(&format!("`concord demo` does not use {unused}")), "{refusal}");
    }
    let serve = concord("serve --check-config --token t").output().unwrap();
    assert!(text(&serve.stderr).contains("`concord serve` does not use --token"), "{}", text(&serve.stderr));
    let serve = concord("serve --check-config").env("CONCORD_SERVER", "http://192.0.2.1:1").output().unwrap();
    assert!(serve.status.success(), "a server that is named for other commands: {}", text(&serve.stderr));
}
