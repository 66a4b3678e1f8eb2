//! The program as a process: killed in between, asked to end, and read for secrets in its logs.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use concord::clock::{Clock, SystemClock};
use concord::pb;
use concord::pb::enrichment_service_client::EnrichmentServiceClient;
use concord::pb::source_service_client::SourceServiceClient;
use concord::pb::verdict_service_client::VerdictServiceClient;
use tempfile::TempDir;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

use crate::harness::{PATIENCE, Replay, indicator, malicious_virustotal, report, virustotal_at};

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let clock: &dyn Clock = &SystemClock;
    clock.timeout(PATIENCE, future).await.expect("in time")
}

/// A server in a process of its own, killed when the test ends.
pub struct Process {
    child: Child,
    /// What it has logged so far.
    logs: watch::Receiver<String>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts a server on a port that it chooses, and connects to it once it says which.
    pub async fn start(folder: &Path, configuration: &str) -> (Self, Channel) {
        Self::start_with(folder, configuration, &[]).await
    }

    /// The same with these variables in its environment.
    async fn start_with(folder: &Path, configuration: &str, environment: &[(&str, &str)]) -> (Self, Channel) {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_concord")), folder, configuration, environment).await
    }

    /// The same where no file can grow beyond so many bytes. A write that goes further fails as on a full disk.
    async fn start_with_short_files(folder: &Path, configuration: &str, bytes: usize) -> (Self, Channel) {
        let mut command = Command::new("/bin/sh");
        let limit = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512);
        command.args(["-c", &limit, env!("CARGO_BIN_EXE_concord")]);
        Self::start_by(command, folder, configuration, &[]).await
    }

    async fn start_by(
        mut command: Command,
        folder: &Path,
        configuration: &str,
        environment: &[(&str, &str)],
    ) -> (Self, Channel) {
        let file = folder.join("concord.toml");
        std::fs::write(&file, configuration).unwrap();
        command.env_clear().env("HOME", folder).env("CONCORD_LOG", "trace").arg("--config").arg(file);
        command.envs(environment.iter().copied());
        command.arg("--data-directory").arg(folder.join("data")).args(["serve", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (written, logs) = watch::channel(String::new());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                written.send_modify(|logs| *logs += &(line + "\n"));
            }
        });
        let process = Self { child, logs };
        let logs = process.logged("\"listening\"").await;
        let line = logs.lines().find(|line| line.contains("\"listening\"")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", line["address"].as_str().unwrap())).unwrap();
        (process, endpoint.connect().await.unwrap())
    }

    /// Waits until it logs this, and gives the logs up to then.
    async fn logged(&self, text: &str) -> String {
        let mut logs = self.logs.clone();
        let found = in_time(logs.wait_for(|logs| logs.contains(text))).await;
        found.unwrap_or_else(|_| panic!("it ended without {text}:\n{}", *self.logs.borrow())).clone()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(name).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end and gives all logs.
    pub async fn end(mut self) -> (Option<i32>, String) {
        let mut logs = self.logs.clone();
        let closed = async { while logs.changed().await.is_ok() {} };
        in_time(closed).await;
        let code = self.child.wait().unwrap().code();
        (code, self.logs.borrow().clone())
    }
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
    let (server, first) = Process::start(folder.path(), &configuration).await;
    for last in 1..=3 {
        enrich(&first, &format!("198.51.100.{last}")).await;
    }
    server.signal("-KILL");
    let (code, _) = server.end().await;
    assert_eq!(code, None, "killed, not ended");

    let (server, second) = Process::start(folder.path(), &configuration).await;
    for last in 4..=6 {
        enrich(&second, &format!("198.51.100.{last}")).await;
    }
    assert_eq!(virustotal.calls(), 4);
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn once_no_unit_can_be_written_no_source_is_asked_and_what_was_paid_is_known_after_a_restart() {
    let virustotal = malicious_virustotal().await;
    let folder = TempDir::new().unwrap();
    let configuration = virustotal_at(virustotal.address) + "quota = { minute = 100000, month = 100000 }\n";
    let (server, channel) = Process::start_with_short_files(folder.path(), &configuration, 512 * 1024).await;
    let mut last = 0;
    let error = loop {
        let verdict = enrich(&channel, &format!("198.51.100.{last}")).await;
        let Some(pb::outcome::Result::Finding(_)) = &verdict.outcomes[0].result else { break verdict };
        assert_eq!(verdict.name, "", "history gives way");
        last += 1;
        assert!(last < 250, "the log has no room for so many");
    };
    let Some(pb::outcome::Result::Error(error)) = &error.outcomes[0].result else { panic!("{error:?}") };
    assert!(error.detail.contains("the source was not asked"), "{error:?}");
    let asked = virustotal.calls();
    assert_eq!(asked, last);
    let list = VerdictServiceClient::new(channel).list_verdicts(pb::ListVerdictsRequest::default()).await.unwrap();
    assert!(list.into_inner().verdicts.is_empty(), "and what is there can be read");
    drop(server);
    let (server, channel) = Process::start(folder.path(), &configuration).await;
    let plan = pb::PlanEnrichmentRequest { indicator: Some(indicator("192.0.2.7")), ..Default::default() };
    let plan = EnrichmentServiceClient::new(channel).plan_enrichment(plan).await.unwrap().into_inner();
    let text = format!("{plan:?}");
    assert!(text.contains(&format!("used: {asked}")), "{asked} in {text}");
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_waits_for_a_call_under_way() {
    let slow = Replay::held(Box::new(|_| (200, report(60, 0)))).await;
    let folder = TempDir::new().unwrap();
    let (server, channel) = Process::start(folder.path(), &virustotal_at(slow.address)).await;
    let call = {
        let channel = channel.clone();
        tokio_util::task::TaskTracker::new().spawn(async move { enrich(&channel, "198.51.100.7").await })
    };
    slow.called(1).await;
    server.signal("-TERM");
    server.logged("shutting down").await;
    slow.release();
    // The analysis is old by the machine's clock, so its evidence has aged; that it came is what counts here.
    assert_ne!(call.await.unwrap().disposition(), pb::Disposition::Unknown);
    let (code, _) = server.end().await;
    assert_eq!(code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn unused_proxies_of_the_environment_are_logged_as_ignored_without_their_login() {
    let variable = [("https_proxy", "http://us3r:s3cret@proxy.example.com:3128")];
    for (proxy, is_ignored) in [("", true), ("proxy = \"environment\"\n", false)] {
        let folder = TempDir::new().unwrap();
        let configuration = format!("[sources.hashes]\nkind = \"hashlookup\"\n{proxy}");
        let (server, channel) = Process::start_with(folder.path(), &configuration, &variable).await;
        drop(channel);
        server.signal("-TERM");
        let (_, logs) = server.end().await;
        let ignored = logs.lines().filter(|line| line.contains("HTTPS_PROXY of the environment is ignored")).count();
        assert_eq!(ignored, usize::from(is_ignored), "{logs}");
        assert!(!logs.contains("us3r") && !logs.contains("s3cret"), "{logs}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_stands_in_the_logs_however_much_is_logged() {
    let virustotal = malicious_virustotal().await;
    let folder = TempDir::new().unwrap();
    let token_hash = "3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0";
    let configuration = format!("[tokens]\nsoar = \"{token_hash}\"\n{}", virustotal_at(virustotal.address));
    let (server, channel) = Process::start(folder.path(), &configuration).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_takes_effect_without_a_restart_and_a_bad_one_changes_nothing() {
    let virustotal = malicious_virustotal().await;
    let folder = TempDir::new().unwrap();
    let source = virustotal_at(virustotal.address);
    let (server, channel) = Process::start(folder.path(), &source).await;
    let write = |text: String| std::fs::write(folder.path().join("concord.toml"), text).unwrap();
    let reason = |verdict: &pb::Verdict| match &verdict.outcomes[0].result {
        Some(pb::outcome::Result::NotAsked(not_asked)) => Some((not_asked.reason(), not_asked.detail.clone())),
        _ => None,
    };
    let withheld = Some((pb::NotAskedReason::NeverSend, "never-send rule 198.51.100.0/24".to_owned()));
    assert_eq!(reason(&enrich(&channel, "198.51.100.7").await), None);

    write(format!("never_send = [\"198.51.100.0/24\"]\n{source}"));
    server.signal("-HUP");
    server.logged("the configuration was read again").await;
    assert_eq!(reason(&enrich(&channel, "198.51.100.8").await), withheld);

    // The file is watched, too.
    write(format!("never_send = [\"no rule\"]\nno_setting = 1\n{source}"));
    let logs = server.logged("the changed configuration is not used").await;
    assert!(logs.contains("never_send[0]") && logs.contains("no_setting"), "{logs}");
    assert_eq!(reason(&enrich(&channel, "198.51.100.9").await), withheld);

    write(format!(
        "host_names = [\"concord.example.com\"]\n{}",
        source.replace("virustotal]", "another]\nreliability = \"C\"")
    ));
    server.logged("only after a restart").await;
    let verdict = enrich(&channel, "198.51.100.10").await;
    assert_eq!(reason(&verdict), None);
    assert_eq!(verdict.outcomes[0].source, "sources/another");
    drop(channel);
    server.signal("-TERM");
    let (code, logs) = server.end().await;
    assert_eq!(code, Some(0), "{logs}");
    assert_eq!(logs.matches("is not used").count(), 1, "a bad file is logged once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_budget_of_callers_holds_from_the_next_call_on_and_counts_what_was_spent_before() {
    let virustotal = malicious_virustotal().await;
    let folder = TempDir::new().unwrap();
    let configuration =
        |units: u32| format!("{}[caller_budget]\nunits_per_day = {units}\n", virustotal_at(virustotal.address));
    let (server, channel) = Process::start(folder.path(), &configuration(1)).await;
    let spent = async |value: &str| match &enrich(&channel, value).await.outcomes[0].result {
        Some(pb::outcome::Result::NotAsked(not_asked)) => not_asked.reason() == pb::NotAskedReason::CallerBudget,
        _ => false,
    };
    assert_eq!((spent("198.51.100.1").await, spent("198.51.100.2").await), (false, true));
    std::fs::write(folder.path().join("concord.toml"), configuration(2)).unwrap();
    server.signal("-HUP");
    server.logged("the configuration was read again").await;
    assert_eq!((spent("198.51.100.3").await, spent("198.51.100.4").await), (false, true));
    assert_eq!(virustotal.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_in_a_file_of_its_own_is_watched_as_the_configuration_is() {
    let refuses = Replay::start(Box::new(|_| (401, serde_json::json!({})))).await;
    let folder = TempDir::new().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "first\n").unwrap();
    let source = virustotal_at(refuses.address).replace("s3cret-credential", &format!("file:{}", key.display()));
    let (server, channel) = Process::start(folder.path(), &source).await;
    enrich(&channel, "198.51.100.7").await;
    enrich(&channel, "198.51.100.8").await;
    assert_eq!(refuses.calls(), 1, "the credential was refused");
    std::fs::write(&key, "second\n").unwrap();
    server.logged("the configuration was read again").await;
    enrich(&channel, "198.51.100.9").await;
    assert_eq!(refuses.calls(), 2, "there is another one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_taken_out_of_the_configuration_is_refused_from_then_on() {
    let folder = TempDir::new().unwrap();
    let tokens = |hash: &str| format!("[tokens]\nsoar = \"{hash}\"\n");
    let hash = "3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0";
    let (server, channel) = Process::start(folder.path(), &tokens(hash)).await;
    let list = async || {
        let mut request = tonic::Request::new(pb::ListSourcesRequest::default());
        request.metadata_mut().insert("authorization", "Bearer token".parse().unwrap());
        SourceServiceClient::new(channel.clone()).list_sources(request).await.map_err(|status| status.code())
    };
    list().await.unwrap();
    std::fs::write(folder.path().join("concord.toml"), tokens(&"0f".repeat(32))).unwrap();
    server.signal("-HUP");
    server.logged("the configuration was read again").await;
    assert_eq!(list().await.unwrap_err(), tonic::Code::Unauthenticated);
    // Without any token everybody could call: that is not what an edit of a running server's file may bring about.
    std::fs::write(folder.path().join("concord.toml"), "").unwrap();
    server.logged("only after a restart").await;
    assert_eq!(list().await.unwrap_err(), tonic::Code::Unauthenticated);
}
