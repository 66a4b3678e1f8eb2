//! The demonstration: the real server, and on loopback a replay of the seven kinds with invented answers.
//!
//! `replay.rs` answers HTTP and DNS, `answers.rs` holds its answers, `script.rs` the lookups and what each shows. Needs no
//! key, no network and no certificates, and discloses nothing.

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;

use crate::clock::{Clock, SystemClock};
use crate::indicator::hex;
use crate::pb;
use crate::server::{Listen, Running, termination};
use crate::settings::{Config, Environment, Flags, LoadInput, load};
use crate::sources;
use crate::telemetry;

mod answers;
mod replay;
mod script;

/// Address of a server that is left running, if it is free.
const DEFAULT_ADDRESS: &str = "127.0.0.1:7700";

/// Why the demonstration could not run.
#[derive(Debug)]
pub(crate) struct DemoError(String);

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the demonstration could not run: {}", self.0)
    }
}

impl std::error::Error for DemoError {}

fn failed(error: impl fmt::Display) -> DemoError {
    DemoError(error.to_string())
}

/// How the demonstration shows answers. The command line has the tables, and imports this room.
pub(crate) struct Renderers {
    pub(crate) verdict: fn(&pb::Verdict, Option<&pb::Receipt>) -> String,
    pub(crate) usage: fn(&[pb::SourceUsage]) -> String,
}

/// Plays the script and writes its results to `out`. With `keep`, the server then runs until it is terminated.
pub(crate) async fn run(keep: bool, renderers: &Renderers, out: &mut (dyn Write + Send)) -> Result<(), DemoError> {
    let folder = Folder::new().map_err(failed)?;
    let now = SystemClock.now();
    std::fs::write(folder.path().join("list.txt"), answers::LIST).map_err(failed)?;
    let replay = replay::Replay::start(now).await.map_err(failed)?;
    let config = config(&folder, &replay, keep)?;
    telemetry::init_logs(&config.log);
    let running =
        Running::start(&config, sources::all(), Arc::new(SystemClock), Listen::Everywhere).await.map_err(failed)?;
    let address = running.address().ok_or_else(|| failed("the server has no address"))?;
    let played = script::play(address, renderers, out).await;
    if keep && played.is_ok() {
        let terminated = termination().map_err(failed)?;
        writeln!(out, "server: http://{address}").and_then(|()| out.flush()).map_err(failed)?;
        terminated.await;
    }
    running.stop().await;
    replay.stop();
    played
}

/// The configuration as a user would write it, with the replay's addresses.
fn config(folder: &Folder, replay: &replay::Replay, keep: bool) -> Result<Config, DemoError> {
    let file = folder.path().join("concord.toml");
    std::fs::write(&file, configuration(folder.path(), replay.http(), replay.dns())).map_err(failed)?;
    let default: Option<SocketAddr> = DEFAULT_ADDRESS.parse().ok();
    let free = default.filter(|address| keep && std::net::TcpListener::bind(address).is_ok());
    let flags = Flags {
        listen: free.or_else(|| Some(SocketAddr::from(([127, 0, 0, 1], 0)))),
        data_directory: Some(folder.path().join("data")),
        ..Flags::default()
    };
    let input = LoadInput { file: Some(file), environment: Environment::new(), flags, kinds: sources::all() };
    load(input).map_err(failed)
}

fn configuration(folder: &Path, http: SocketAddr, dns: SocketAddr) -> String {
    let list = toml::Value::String(folder.join("list.txt").display().to_string());
    format!(
        r#"never_send = ["customer.example.org"]
log.filter = "error"

[sources.virustotal]
kind = "virustotal"
credential = "demonstration"
base_url = "http://{http}/virustotal"
quota = {{ minute = 9, day = 500 }}

[sources.abuseipdb]
kind = "abuseipdb"
credential = "demonstration"
base_url = "http://{http}/abuseipdb"

[sources.urlhaus]
kind = "urlhaus"
credential = "demonstration"
base_url = "http://{http}/urlhaus"

[sources.greynoise]
kind = "greynoise"
base_url = "http://{http}/greynoise"
timeout = "300ms"

[sources.hashlookup]
kind = "hashlookup"
base_url = "http://{http}/hashlookup"

[sources.zone]
kind = "dnsbl"
options.zone = "zen.spamhaus.org"
options.resolver = "{dns}"

[sources.our-list]
kind = "list"
reliability = "A"
options.path = {list}
options.claim = "malicious"
"#
    )
}

/// A temporary folder, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let stamp = format!("{:?} {}", SystemClock.now(), std::process::id());
        let hash = digest::digest(&digest::SHA256, stamp.as_bytes());
        let path = std::env::temp_dir().join(format!("concord-demo-{:.16}", hex(hash.as_ref())));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "a temporary folder could not be removed");
        }
    }
}
