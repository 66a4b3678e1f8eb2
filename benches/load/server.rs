//! The server as a process of its own, with four sources at the upstream.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use concord::pb;
use concord::pb::source_service_client::SourceServiceClient;
use tempfile::TempDir;

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
        let mut child = Command::new(env!("CARGO_BIN_EXE_concord"))
            .arg("--config")
            .arg(&file)
            .arg("--data-directory")
            .arg(folder.path().join("data"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut log = BufReader::new(child.stderr.take().expect("its log")).lines();
        let line = log.by_ref().map_while(Result::ok).find(|line| line.contains("\"listening\"")).expect("it listens");
        // Reads on, or the server would wait for its log to be read.
        std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
        let line: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
        let address = format!("http://{}", line["address"].as_str().expect("an address"));
        Self { address, child, _folder: folder }
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

    /// Bytes of memory that it takes now.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Bytes of memory that it has taken at most.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
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
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
