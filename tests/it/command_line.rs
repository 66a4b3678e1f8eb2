//! The program as it is typed: its output, its exit codes, a second process beside the first.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{Refusing, TestServer, malicious_virustotal, virustotal_at};

fn concord(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_concord"));
    command.env_clear().env("HOME", folder).arg("--data-directory").arg(folder.join("data"));
    command
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_enrich_starts_one_and_asks_nobody_who_is_not_declared() {
    let folder = TempDir::new().unwrap();
    let mut command = concord(folder.path());
    command.args(["enrich", "192.0.2.1", "--output", "json"]);
    let output = run(command).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let documents: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let verdict = &documents[0]["answer"]["verdict"];
    assert_eq!(verdict["disposition"], "DISPOSITION_UNKNOWN");
    assert!(verdict["name"].as_str().unwrap().starts_with("verdicts/"));
    assert!(text(&output.stderr).contains("VIRUSTOTAL_API_KEY"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_connects_to_the_first_through_its_socket() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::listen(&virustotal_at(virustotal.address)).await;
    let mut command = concord(server.folder.path());
    command.args(["enrich", "198.51.100[.]7", "--exit-code"]);
    let output = run(command).await;
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(20), "{}", text(&output.stderr));
    for part in ["malicious", "198.51.100.7", "virustotal", "60 of 94 engines", "LETTER", "WEIGHT", "It would be"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "colour without a terminal");
    assert_eq!(virustotal.calls(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_reached_is_reported_with_its_cause() {
    let server = TestServer::listen("").await;
    let stderr_of = async |url: String| {
        let mut command = concord(server.folder.path());
        command.args(["source", "list", "--server", &url]);
        let output = run(command).await;
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    let plain = stderr_of(format!("https://{}", server.address())).await;
    assert!(plain.contains("does not speak TLS: try http://"), "{plain}");
    let unschemed = stderr_of(server.address().to_string()).await;
    assert!(unschemed.contains("give http://HOST:PORT"), "{unschemed}");
    let refusing = Refusing::new();
    let url = format!("http://{}", refusing.address());
    let refused = stderr_of(url.clone()).await;
    assert!(refused.contains(&format!("cannot reach {url}: Connection refused")), "{refused}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_a_url_that_is_refused_is_not_repeated() {
    let folder = TempDir::new().unwrap();
    for line in ["enrich --output json", "plan"] {
        let mut command = concord(folder.path());
        command.args(line.split(' ')).arg("http://user:hunter2@*.example.com/");
        let output = run(command).await;
        let shown = text(&output.stdout) + &text(&output.stderr);
        assert!(shown.contains("*.example.com") && !shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_needs_no_secret_of_the_server_that_runs_already() {
    let server = TestServer::listen("").await;
    let file = server.folder.path().join("secret.toml");
    let data = server.folder.path().join("data").display().to_string();
    let source = "[sources.vt]\nkind = \"virustotal\"\ncredential = \"env:NOT_IN_THIS_SHELL\"\n";
    std::fs::write(&file, format!("data_directory = {data:?}\n{source}")).unwrap();
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_concord"));
        command.env_clear().env("HOME", server.folder.path()).arg("--config").arg(&file).arg("usage");
        command
    };
    let output = run(command()).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (again, _folder) = (command(), server.folder.clone());
    server.stop().await;
    // Without a server it would have to be one itself, and then the secret is needed.
    let output = run(again).await;
    assert!(text(&output.stderr).contains("NOT_IN_THIS_SHELL"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_is_misspelt_leads_to_no_other_server() {
    let server = TestServer::listen("").await;
    let file = server.folder.path().join("misspelt.toml");
    std::fs::write(&file, "data_directry = \"/srv/other\"\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_concord"));
    // The usual place of data is where a server runs.
    std::os::unix::fs::symlink(server.folder.path().join("data"), server.folder.path().join("concord")).unwrap();
    command.env_clear().env("XDG_DATA_HOME", server.folder.path()).arg("--config").arg(&file).arg("usage");
    let output = run(command).await;
    assert!(text(&output.stderr).contains("did you mean data_directory?"), "{}", text(&output.stderr));
    let mut command = Command::new(env!("CARGO_BIN_EXE_concord"));
    command.env_clear().env("XDG_DATA_HOME", server.folder.path()).arg("usage");
    let output = run(command).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_copied_without_the_secrets_and_certificates_of_its_server() {
    let server = TestServer::listen("").await;
    let file = server.folder.path().join("tls.toml");
    let source = "[sources.vt]\nkind = \"virustotal\"\ncredential = \"env:NOT_IN_THIS_SHELL\"\n";
    std::fs::write(&file, format!("[tls]\ncertificate = \"/nowhere/a\"\nkey = \"/nowhere/b\"\n{source}")).unwrap();
    let copy = server.folder.path().join("copy");
    let mut command = concord(server.folder.path());
    command.arg("--config").arg(&file).args(["store", "backup"]).arg(&copy);
    let output = run(command).await;
    assert!(output.status.success() && copy.exists(), "{}", text(&output.stderr));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_sources_keeps_what_is_copied_whole_and_says_why_one_is_not_asked() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("concord.toml");
    std::fs::write(&file, "[sources.a-source-with-a-long-name]\nkind = \"virustotal\"\n").unwrap();
    let mut command = concord(folder.path());
    command.arg("--config").arg(&file).args(["source", "list"]);
    let shown = text(&run(command).await.stdout);
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].contains("MAX TLP") && lines[0].contains("DECLARED"), "{shown}");
    assert!(lines[1].contains("a-source-with-a-long-name") && lines[1].contains("not configured"), "{shown}");
    assert!(lines[1].trim_end().ends_with("file"), "{shown}");
    let detail = lines[2..].iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    assert!(detail.contains("a credential is needed") && detail.contains("concord.toml"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stated_type_is_not_guessed() {
    let server = TestServer::listen("").await;
    let enrich = async |arguments: &[&str]| {
        let mut command = concord(server.folder.path());
        command.arg("enrich").args(arguments);
        run(command).await
    };
    let guessed = enrich(&["host.corp"]).await;
    assert!(text(&guessed.stderr).contains("state the type"), "{}", text(&guessed.stderr));
    let stated = enrich(&["--type", "domain", "host.corp"]).await;
    assert!(text(&stated.stdout).contains("unknown  host.corp"), "{}", text(&stated.stderr));
    let sample = server.folder.path().join("sample.zip");
    std::fs::write(&sample, "abc").unwrap();
    let mut command = concord(server.folder.path());
    command.current_dir(server.folder.path()).args(["enrich", "--type", "file", "sample.zip"]);
    let hashed = text(&run(command).await.stdout);
    assert!(hashed.contains("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), "{hashed}");
    let absent = enrich(&["--type", "file", "absent.exe"]).await;
    assert!(text(&absent.stderr).contains("absent.exe: no hash, and no file here"), "{}", text(&absent.stderr));
    let wrong = enrich(&["--type", "mail", "host.corp"]).await;
    assert!(text(&wrong.stderr).contains("use one of ip, domain, url, file"), "{}", text(&wrong.stderr));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filter_of_a_servers_logs_is_not_that_of_a_command() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("loud.toml");
    std::fs::write(&file, "log.filter = \"trace\"\n").unwrap();
    let command = || {
        let mut command = concord(folder.path());
        command.arg("--config").arg(&file).args(["source", "kinds"]);
        command
    };
    let output = run(command()).await;
    assert_eq!(text(&output.stderr), "");
    let mut asked = command();
    asked.env("CONCORD_LOG", "debug");
    assert_ne!(text(&run(asked).await.stderr), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_hashed_here_and_only_its_hash_is_sent() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::listen(&virustotal_at(virustotal.address)).await;
    let file = server.folder.path().join("sample.bin");
    std::fs::write(&file, b"abc").unwrap();
    let mut command = concord(server.folder.path());
    command.arg("enrich").arg(&file);
    let output = run(command).await;
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert!(text(&output.stdout).contains(hash), "{}", text(&output.stdout));
    assert_eq!(virustotal.paths(), [format!("/files/{hash}")]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn indicators_are_pulled_out_of_pasted_text_and_written_as_rows() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::listen(&virustotal_at(virustotal.address)).await;
    let mut command = concord(server.folder.path());
    command.args([
        "enrich",
        "--extract",
        "--output",
        "csv",
        "seen hxxp://bad[.]example[.]com/a from 198.51.100[.]9 today",
    ]);
    let output = run(command).await;
    let rows = text(&output.stdout);
    assert_eq!(rows.lines().count(), 3, "{rows}");
    assert!(rows.contains("http://bad.example.com/a") && rows.contains("198.51.100.9"), "{rows}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_utf_16_is_read_as_windows_programs_save_it() {
    let folder = TempDir::new().unwrap();
    let pasted = "Gesehen: hxxp://b\u{e4}d[.]example[.]com/a\r\nvon 198.51.100[.]9\r\n";
    let units = || pasted.encode_utf16();
    let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
    let marked = |mark: &[u8], bytes: &[u8]| [mark, bytes].concat();
    let forms = [
        ("little", little.clone()),
        ("big", big.clone()),
        ("little-marked", marked(b"\xff\xfe", &little)),
        ("big-marked", marked(b"\xfe\xff", &big)),
        ("cut", little[..little.len() - 1].to_vec()),
    ];
    for (name, bytes) in forms {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        let mut command = concord(folder.path());
        command.args(["enrich", "--extract", "-o", "csv", "--file"]).arg(&file);
        let output = run(command).await;
        let rows = text(&output.stdout);
        assert_eq!(rows.lines().count(), 3, "{name}: {rows}{}", text(&output.stderr));
        assert!(rows.contains("http://xn--bd-via.example.com/a") && rows.contains("198.51.100.9"), "{name}: {rows}");
    }
    // One value a line, and from standard input.
    let mut command = concord(folder.path());
    let lines: Vec<u8> = "evil.example.com\r\n198.51.100.9\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let file = folder.path().join("lines");
    std::fs::write(&file, marked(b"\xff\xfe", &lines)).unwrap();
    command.args(["enrich", "-o", "csv", "-"]).stdin(std::fs::File::open(&file).unwrap());
    let output = run(command).await;
    let rows = text(&output.stdout);
    assert!(rows.contains("evil.example.com") && rows.contains("198.51.100.9"), "{rows}{}", text(&output.stderr));
    assert_eq!(rows.lines().count(), 3, "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_indicator_is_named_and_fails_the_command_after_the_others() {
    let folder = TempDir::new().unwrap();
    let mut command = concord(folder.path());
    command.args(["enrich", "192.0.2.1", "10.0.0.0/8"]);
    let output = run(command).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("10.0.0.0/8"), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("192.0.2.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_a_file_here_and_a_domain_too_is_sent_by_neither() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("sample.zip"), "abc").unwrap();
    let enrich = |value: &str| {
        let mut command = concord(folder.path());
        command.current_dir(folder.path()).args(["enrich", value]);
        run(command)
    };
    let both = enrich("sample.zip").await;
    assert_eq!(both.status.code(), Some(1));
    assert!(text(&both.stderr).contains("./sample.zip") && both.stdout.is_empty(), "{}", text(&both.stderr));
    let file = enrich("./sample.zip").await;
    assert!(text(&file.stdout).contains("ba7816bf8f01cfea"), "{}", text(&file.stdout));
    let missing = enrich("./absent.zip").await;
    assert!(text(&missing.stderr).contains("No such file"), "{}", text(&missing.stderr));
    let directory = enrich("../").await;
    assert!(text(&directory.stderr).contains("not a file"), "{}", text(&directory.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_stands_beside_its_verdict_and_beside_its_refusal_for_machines_too() {
    let folder = TempDir::new().unwrap();
    let enrich = |output: &str| {
        let mut command = concord(folder.path());
        command.args(["enrich", "--output", output, "hxxp://example[.]com:80/x#top", "10.0.0.0/8"]);
        run(command)
    };
    let output = enrich("json").await;
    let documents: serde_json::Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    let answer = &documents[0]["answer"];
    assert_eq!(answer["receipt"]["text"], "hxxp://example[.]com:80/x#top");
    assert_eq!(answer["verdict"]["indicator"]["value"], "http://example.com/x");
    assert!(!answer["receipt"]["notes"].as_array().unwrap().is_empty(), "{documents:#}");
    assert_eq!(documents[1]["error"]["text"], "10.0.0.0/8");
    assert_eq!(documents[1]["error"]["reason"], "INDICATOR_INVALID");
    let lines = text(&enrich("jsonl").await.stdout);
    assert!(lines.lines().all(|line| line.contains("\"text\"")), "{lines}");
    let rows = text(&enrich("csv").await.stdout);
    assert!(rows.lines().nth(1).unwrap().ends_with(",hxxp://example[.]com:80/x#top"), "{rows}");
    let refused = rows.lines().nth(2).unwrap();
    assert!(refused.contains("is a network") && refused.ends_with(",10.0.0.0/8"), "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_can_be_checked_and_printed_with_its_secrets_masked() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, "[sources.vt]\nkind = \"virustotal\"\ncredential = \"s3cret\"\n").unwrap();
    let mut command = concord(folder.path());
    command.arg("--config").arg(&file).args(["serve", "--print-config"]);
    let printed = text(&run(command).await.stdout);
    assert!(printed.contains("[sources.vt]") && printed.contains("***") && !printed.contains("s3cret"), "{printed}");
    std::fs::write(&file, "listn = \"127.0.0.1:1\"\n[sources.vt]\nkind = \"virustotle\"\n").unwrap();
    let mut command = concord(folder.path());
    command.arg("--config").arg(&file).args(["serve", "--check-config"]);
    let output = run(command).await;
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("listn") && stderr.contains("did you mean listen") && stderr.contains("sources.vt.kind"),
        "{stderr}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_of_tls_that_is_missing_is_reported_with_its_setting_when_the_configuration_is_checked() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tls.toml");
    std::fs::write(&file, "[tls]\ncertificate = \"/nowhere/a\"\nkey = \"/nowhere/b\"\nclient_ca = \"/nowhere/c\"\n")
        .unwrap();
    let mut command = concord(folder.path());
    command.arg("--config").arg(&file).args(["serve", "--check-config"]);
    let output = run(command).await;
    let stderr = text(&output.stderr);
    for part in ["tls.certificate: /nowhere/a", "tls.key: /nowhere/b", "tls.client_ca: /nowhere/c"] {
        assert!(stderr.contains(part), "{stderr}");
    }
    let mut command = concord(folder.path());
    command.env("CONCORD_KEY", "short").args(["serve", "--check-config"]);
    let stderr = text(&run(command).await.stderr);
    assert!(stderr.contains("CONCORD_KEY: "), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_output_ends_the_command_quietly() {
    let folder = TempDir::new().unwrap();
    let mut command = concord(folder.path());
    command.args(["source", "kinds"]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Closed before anything can be written.
    drop(child.stdout.take());
    let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{:?} {}", output.status, text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_benign_ends_with_zero_and_many_end_with_their_totals() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::listen(&virustotal_at(virustotal.address)).await;
    let enrich = async |arguments: &str| {
        let mut command = concord(server.folder.path());
        command.args(["enrich", "--exit-code"]).args(arguments.split(' '));
        run(command).await
    };
    let unasked = enrich("10.0.0.1").await;
    assert_eq!(unasked.status.code(), Some(5), "{}", text(&unasked.stderr));
    assert!(!text(&unasked.stderr).contains("indicators"), "{}", text(&unasked.stderr));
    let refused = enrich("10.0.0.1 10.0.0.0/8").await;
    assert_eq!(refused.status.code(), Some(1));
    let malicious = enrich("10.0.0.1 198.51.100.1 198.51.100.2 198.51.100.3 198.51.100.4 198.51.100.5").await;
    assert_eq!(malicious.status.code(), Some(20));
    let totals = "concord: 6 indicators: 3 malicious, 3 unknown, 2 partial, 3 about which nobody was asked; \
                  held back by quota: virustotal (2 indicators, until 2026-";
    assert!(text(&malicious.stderr).contains(totals), "{}", text(&malicious.stderr));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_quota_gets_every_answer() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::listen(&virustotal_at(virustotal.address)).await;
    let mut command = concord(server.folder.path());
    command.args(["enrich", "--exit-code", "--wait", "1h", "--output", "jsonl"]);
    command.args((1..=6).map(|last| format!("198.51.100.{last}")));
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let clock = server.clock.clone();
    let waited = tokio::task::spawn_blocking(move || {
        let mut lines = stderr.lines().map(Result::unwrap);
        let notice = lines.find(|line| line.contains("waiting for quota")).unwrap();
        clock.advance(Duration::from_secs(61));
        (notice, lines.last().unwrap(), child.wait_with_output().unwrap())
    });
    let (notice, totals, output) = waited.await.unwrap();
    assert!(notice.ends_with("for 3 indicators"), "{notice}");
    assert!(totals.ends_with("6 indicators: 6 malicious"), "{totals}");
    assert_eq!(output.status.code(), Some(20));
    assert_eq!(text(&output.stdout).lines().count(), 6);
    assert_eq!(virustotal.calls(), 6);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_indicators_have_a_line_each_and_the_whole_tables_where_wanted() {
    let folder = TempDir::new().unwrap();
    let enrich = |more: &[&str]| {
        let mut command = concord(folder.path());
        command.arg("enrich").args((1..=10).map(|last| format!("192.0.2.{last}"))).args(more);
        run(command)
    };
    let short = text(&enrich(&[]).await.stdout);
    assert_eq!(short.lines().count(), 10, "{short}");
    assert!(short.lines().next().unwrap().starts_with("unknown     192.0.2.1  "), "{short}");
    let long = text(&enrich(&["--long"]).await.stdout);
    assert!(long.contains("policies/weighted"), "{long}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_for_many_uses_quota_up_and_every_list_has_a_form_for_machines() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::listen(&virustotal_at(virustotal.address)).await;
    let run_line = async |line: &str| {
        let mut command = concord(server.folder.path());
        command.args(line.split(' '));
        let output = run(command).await;
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        output
    };
    let json = async |line: &str| -> serde_json::Value {
        serde_json::from_slice(&run_line(line).await.stdout).unwrap_or_else(|error| panic!("{line}: {error}"))
    };
    let addresses = (1..=6).map(|last| format!("198.51.100.{last}")).collect::<Vec<_>>().join(" ");
    let plan = run_line(&format!("plan {addresses} 198.51.100.6")).await;
    let total =
        "6 indicators, 1 given again: 4 quota units (virustotal 4); held back by quota: virustotal (2 indicators";
    assert!(text(&plan.stderr).contains(total), "{}", text(&plan.stderr));
    assert_eq!(virustotal.calls(), 0);
    let plans = json(&format!("plan {addresses} --output json")).await;
    assert_eq!(plans[5]["sources"][0]["notAsked"]["reason"], "NOT_ASKED_REASON_QUOTA_SPENT", "{plans:#}");
    run_line("enrich 198.51.100.1").await;
    assert_eq!(json("usage -o json").await[0]["units"], "1");
    assert_eq!(json("source list -o json").await[0]["kind"], "virustotal");
    assert_eq!(json("source get virustotal -o jsonl").await["name"], "sources/virustotal");
    assert_eq!(json("source kinds list -o json").await[0]["kind"], "list");
    assert_eq!(json("verdict list -o json").await[0]["disposition"], "DISPOSITION_MALICIOUS");
    assert_eq!(json("disclosures -o jsonl").await["source"], "sources/virustotal");
    assert_eq!(json("disclosures --since 1s -o json").await, serde_json::json!([]), "it was disclosed in the past");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_hides_no_verdict() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::listen(&virustotal_at(virustotal.address)).await;
    let closed = async |line: &str| {
        let mut command = concord(server.folder.path());
        if !line.starts_with("enrich") {
            // These use no data directory.
            command = Command::new(env!("CARGO_BIN_EXE_concord"));
        }
        command.args(line.split(' ')).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().unwrap()
    };
    for line in ["completions bash", "demo", "demo --keep", "enrich 198.51.100.7"] {
        let output = closed(line).await;
        assert!(output.status.success() && output.stderr.is_empty(), "{line}: {}", text(&output.stderr));
    }
    assert_eq!(closed("enrich 198.51.100.7 --exit-code").await.status.code(), Some(20));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn help_shows_connection_flags_only_where_they_matter_and_errors_name_commands() {
    let server = TestServer::listen("[sources.virustotal]\nkind = \"virustotal\"\n").await;
    let concord = async |line: &str| {
        let mut command = concord(server.folder.path());
        command.args(line.split(' '));
        let output = run(command).await;
        text(&output.stdout) + &text(&output.stderr)
    };
    let enrich = concord("enrich --help").await;
    for part in ["Connection:", "Examples:", "Exit codes", "  20  malicious", "--color"] {
        assert!(enrich.contains(part), "{part} is missing in\n{enrich}");
    }
    assert!(!concord("completions --help").await.contains("Connection:"));
    let serve = concord("serve --help").await;
    assert!(serve.contains("--data-directory") && !serve.contains("--token"), "{serve}");
    let source = concord("enrich 192.0.2.1 --source virustotal,somebody").await;
    assert!(source.contains("`concord source list`"), "{source}");
    let source = concord("enrich 192.0.2.1 --source virustotl").await;
    assert!(source.contains("did you mean sources/virustotal?"), "{source}");
    let policy = concord("enrich 192.0.2.1 --policy wieghted").await;
    assert!(policy.contains("did you mean policies/weighted?"), "{policy}");
    let mask = concord("source set virustotal --reset relability").await;
    assert!(mask.contains("did you mean reliability?"), "{mask}");
    let swapped = "--option malicious_threshold_ip=2 --option suspicious_threshold_ip=5";
    let swapped = concord(&format!("source set virustotal {swapped} --validate-only")).await;
    let warning =
        "warning: sources/virustotal: options.suspicious_threshold_ip (5) is above malicious_threshold_ip (2)";
    assert!(swapped.contains(warning), "{swapped}");
    let vendor = concord("source set virustotal --option preferred_vendors=[\"Kasperski\"]").await;
    assert!(vendor.contains("warning: sources/virustotal: ") && vendor.contains("Kasperski"), "{vendor}");
    assert!(concord("source get virustotal").await.contains("warning: sources/virustotal: "));
    for line in ["disclosures --since yesterday", "enrich 192.0.2.1 --max-age 5", "enrich 192.0.2.1 --timeout soon"] {
        let time = concord(line).await;
        assert!(time.contains("write it with its unit: 5s, 15m, 24h, 7d"), "{time}");
    }
    let kind = concord("source kinds virustotle").await;
    assert!(kind.contains("did you mean virustotal?"), "{kind}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn colour_is_forced_or_left_out_as_asked() {
    let folder = TempDir::new().unwrap();
    let kinds = |colour: &str| {
        let mut command = concord(folder.path());
        command.args(["source", "kinds", "--color", colour]);
        run(command)
    };
    assert!(text(&kinds("always").await.stdout).contains('\u{1b}'));
    for colour in ["auto", "never"] {
        assert!(!text(&kinds(colour).await.stdout).contains('\u{1b}'));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_in_use_is_copied_but_not_pruned() {
    let server = TestServer::listen("").await;
    let copy = server.folder.path().join("copy.db");
    let mut command = concord(server.folder.path());
    command.args(["store", "backup"]).arg(&copy);
    let output = run(command).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(copy.is_file());
    let mut command = concord(server.folder.path());
    command.args(["store", "prune"]);
    let output = run(command).await;
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("is held by process"), "{}", text(&output.stderr));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_at_the_same_moment_take_turns_and_all_succeed() {
    let folder = TempDir::new().unwrap();
    let commands = (1..=8).map(|last| {
        let mut command = concord(folder.path());
        command.args(["enrich", &format!("192.0.2.{last}")]);
        run(command)
    });
    let others = ["source list", "usage", "disclosures", "verdict list", "plan 192.0.2.1", "source kinds"];
    let others = others.map(|line| {
        let mut command = concord(folder.path());
        command.args(line.split(' '));
        run(command)
    });
    let (enriched, others) =
        tokio::join!(futures_util::future::join_all(commands), futures_util::future::join_all(others));
    for output in &enriched {
        assert!(text(&output.stdout).starts_with("unknown  192.0.2."), "{}", text(&output.stdout));
    }
    for output in enriched.iter().chain(&others) {
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
}
