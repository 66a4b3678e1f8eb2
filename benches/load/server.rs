//! The server as a process of its own, with four sources at the upstream.

use std::collections::BTreeMap;
use std::process::{Child, Command};
use std::time::Duration;

use concord::pb;
use concord::pb::source_service_client::SourceServiceClient;
use concord::pb::verdict_service_client::VerdictServiceClient;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::listening;
use super::upstream::Upstream;

pub struct Server {
    pub address: String,
    child: Child,
    _folder: TempDir,
}

impl Server {
    /// Starts it with four sources that may make `quota` calls a minute each.
    pub async fn start(upstream: &Upstream, quota: u64) -> Self {
        Self::start_with(upstream, quota, "").await
    }

    /// The same with these further settings.
    pub async fn start_with(upstream: &Upstream, quota: u64, settings: &str) -> Self {
        let upstreams: Vec<_> = (0..4).map(|_| (upstream, "")).collect();
        Self::start_at(&upstreams, quota, settings).await
    }

    /// Starts it with a source at each of these upstreams, with these settings of its own.
    pub async fn start_at(upstreams: &[(&Upstream, &str)], quota: u64, settings: &str) -> Self {
        Self::start_under(&[], upstreams, quota, settings).await
    }

    /// The same, started by this command with arguments.
    pub async fn start_under(command: &[String], upstreams: &[(&Upstream, &str)], quota: u64, settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let sources = upstreams.iter().enumerate().map(|(number, (upstream, own))| {
            format!(
                "[sources.vt-{number}]\nkind = \"virustotal\"\ncredential = \"key-{number}\"\n\
                 base_url = \"http://{}/{number}\"\nquota = {{ minute = {quota} }}\n{own}",
                upstream.address
            )
        });
        let text = format!("log.filter = \"warn,concord::server=info\"\n{settings}{}", sources.collect::<String>());
        let file = folder.path().join("concord.toml");
        std::fs::write(&file, text).expect("a file");
        let program = env!("CARGO_BIN_EXE_concord").to_owned();
        let command: Vec<_> = command.iter().chain([&program]).collect();
        let mut start = Command::new(command[0]);
        start.args(&command[1..]).arg("--config").arg(&file).arg("--data-directory").arg(folder.path().join("data"));
        let (child, address) = listening::start(&mut start);
        Self { address: format!("http://{address}"), child, _folder: folder }
    }

    /// The units that all sources paid.
    pub async fn units(&self) -> u64 {
        let mut client = SourceServiceClient::connect(self.address.clone()).await.expect("a channel");
        let usage = client.get_usage(pb::GetUsageRequest::default()).await.expect("the usage").into_inner();
        usage.usage.iter().map(|source| source.units).sum()
    }

    /// The same, asked with this token.
    pub async fn units_as(&self, token: &str) -> u64 {
        let mut client = SourceServiceClient::connect(self.address.clone()).await.expect("a channel");
        let request = super::client::authorized(token, pb::GetUsageRequest::default());
        let usage = client.get_usage(request).await.expect("the usage").into_inner();
        usage.usage.iter().map(|source| source.units).sum()
    }

    /// How many verdicts the history has.
    pub async fn verdicts(&self) -> usize {
        let mut client = VerdictServiceClient::connect(self.address.clone()).await.expect("a channel");
        let (mut verdicts, mut page_token) = (0, String::new());
        loop {
            let request = pb::ListVerdictsRequest { page_token, page_size: 1_000, ..Default::default() };
            let page = client.list_verdicts(request).await.expect("a page").into_inner();
            verdicts += page.verdicts.len();
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return verdicts;
            }
        }
    }

    /// Bytes of memory that it takes now.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Bytes of memory that it has taken at most.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// CPU time that it has taken until now, by the names of its threads.
    pub fn cpu(&self) -> BTreeMap<String, Duration> {
        cpu_of(self.child.id())
    }

    fn status(&self, line: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let value =
            text.lines().find_map(|text| text.strip_prefix(line)?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        value.unwrap_or_default() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself. In its own way, so that what it runs under ends too.
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = id.map(|id| kill_process(id, Signal::TERM));
        let _ = self.child.wait();
    }
}

/// CPU time of the threads of a process, by their names. Of threads that have ended nothing is known.
pub fn cpu_of(process: u32) -> BTreeMap<String, Duration> {
    let mut spent = BTreeMap::new();
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    for thread in threads.map(|thread| thread.path()) {
        let read = |file: &str| std::fs::read_to_string(thread.join(file)).unwrap_or_default();
        let nanos = read("schedstat").split_whitespace().next().and_then(|nanos| nanos.parse().ok());
        *spent.entry(read("comm").trim().to_owned()).or_default() += Duration::from_nanos(nanos.unwrap_or_default());
    }
    spent
}
