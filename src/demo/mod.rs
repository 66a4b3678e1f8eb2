//! The demonstration: the real server, and on loopback a replay of the seven kinds with invented answers.
//!
//! `replay.rs` answers HTTP and DNS, `answers.rs` holds its answers, `script.rs` the lookups and what each shows, `history.rs` a
//! month of look-ups of what `world.rs` makes up, and what they say. Needs no key, no network and no certificates, and discloses
//! nothing.

use std::fmt;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
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
mod history;
mod replay;
mod script;
mod world;

/// Address of a server that is left running, if it is free.
const DEFAULT_ADDRESS: SocketAddr = loopback(7700);

const KEEP_HINT: &str = "To ask these sources yourself, run `concord demo --keep`.";

/// Why the demonstration ended early.
#[derive(Debug)]
pub(crate) enum DemoError {
    /// Something could not be used, in words for the user.
    Failed(String),
    /// Nobody reads the output any more (`| head`).
    ReaderGone,
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => write!(f, "the demonstration could not run: {why}"),
            Self::ReaderGone => f.write_str("nobody reads the demonstration any more"),
        }
    }
}

impl std::error::Error for DemoError {}

impl From<std::io::Error> for DemoError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe { Self::ReaderGone } else { failed(error) }
    }
}

fn failed(error: impl fmt::Display) -> DemoError {
    DemoError::Failed(error.to_string())
}

/// A picture as SVG, or why it could not be drawn.
pub(crate) type Picture = Result<String, Box<dyn std::error::Error>>;

/// How the demonstration shows answers. The command line has the tables, and imports this room.
pub(crate) struct Renderers {
    pub(crate) verdict: fn(&pb::Verdict, Option<&pb::Receipt>) -> String,
    /// With every term in a sentence, and all that would change the verdict.
    pub(crate) explained: fn(&pb::Verdict, Option<&pb::Receipt>) -> String,
    /// With every column.
    pub(crate) wide: fn(&pb::Verdict, Option<&pb::Receipt>) -> String,
    pub(crate) comparisons: fn(&[pb::PolicyComparison], &pb::Verdict) -> String,
    pub(crate) usage: fn(&[pb::SourceUsage]) -> String,
    pub(crate) submission: fn(&pb::Submission) -> String,
    /// As SVG.
    pub(crate) graph: fn(&pb::RelationGraph) -> String,
    pub(crate) sources: fn(&pb::SourceComparison) -> String,
    /// As SVG.
    pub(crate) sources_picture: fn(&pb::SourceComparison) -> Picture,
    pub(crate) letters: fn(&[pb::ReliabilitySuggestion]) -> String,
    pub(crate) threshold: fn(&pb::ThresholdCurve) -> String,
    /// As SVG.
    pub(crate) threshold_picture: fn(&pb::ThresholdCurve) -> Picture,
    pub(crate) replay: fn(&pb::ReplaySummary) -> String,
}

/// Plays the script and writes its results to `out`. With `keep`, a new server on the same sources then runs with full
/// quota until it is terminated.
pub(crate) async fn run(keep: bool, renderers: &Renderers, out: &mut (dyn Write + Send)) -> Result<(), DemoError> {
    let folder = Folder::new()?;
    let replay = replay::Replay::start(Arc::new(SystemClock)).await?;
    std::fs::write(folder.path().join("list.txt"), answers::list())?;
    std::fs::write(folder.path().join("rumours.txt"), answers::rumours())?;
    let scenes = configuration(folder.path(), replay.http(), replay.dns());
    std::fs::write(folder.path().join("concord.toml"), &scenes)?;
    let with_history = scenes + &extra_sources(folder.path(), replay.http(), false);
    std::fs::write(folder.path().join("history.toml"), with_history)?;
    let played = async {
        let settings = config(&folder, "concord.toml", "scenes", loopback(0))?;
        telemetry::init_logs(&settings.log);
        let (server, address) = start(&settings).await?;
        // It outlives the folder, unless the server does too.
        let graph_file = if keep { folder.path().join("graph.svg") } else { folder.path().with_extension("svg") };
        let played = script::play(&server, address, renderers, &graph_file, out).await;
        server.stop().await;
        played?;
        history::fill(&folder).await?;
        let (server, _) = start(&config(&folder, "history.toml", "data", loopback(0))?).await?;
        let pictures = history::Pictures::beside(&graph_file);
        let channel = history::connect(&server).await?;
        let played = history::play(&channel, renderers, &pictures, out).await;
        drop(channel);
        server.stop().await;
        played?;
        if keep { serve(&folder, out).await } else { Ok(writeln!(out, "\n{KEEP_HINT}")?) }
    };
    let result = played.await;
    replay.stop();
    result
}

/// Runs a server with full quota windows until it is terminated.
async fn serve(folder: &Folder, out: &mut (dyn Write + Send)) -> Result<(), DemoError> {
    let terminated = termination()?;
    let free = std::net::TcpListener::bind(DEFAULT_ADDRESS).is_ok();
    let address = if free { DEFAULT_ADDRESS } else { loopback(0) };
    let (server, address) = start(&config(folder, "history.toml", "data", address)?).await?;
    let written = write!(out, "\n{}", next_steps(address)).and_then(|()| out.flush());
    if written.is_ok() {
        terminated.await;
    }
    server.stop().await;
    Ok(written?)
}

/// What a reader types next, ready to be copied.
fn next_steps(server: SocketAddr) -> String {
    format!(
        "The server goes on until Ctrl-C, with full quota. In another terminal:\n\n  \
         export CONCORD_SERVER=http://{server}\n  concord enrich 203.0.113.5\n  concord source test virustotal\n  \
         concord compare sources\n  concord compare threshold virustotal malicious_threshold_ip\n"
    )
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

async fn start(config: &Config) -> Result<(Running, SocketAddr), DemoError> {
    let started = Running::start(config, sources::all(), Arc::new(SystemClock), Listen::Everywhere).await;
    let server = started.map_err(failed)?;
    let address = server.address().ok_or_else(|| failed("the server has no address"))?;
    Ok((server, address))
}

/// The settings of a server in the demonstration's folder.
fn config(folder: &Folder, file: &str, data: &str, listen: SocketAddr) -> Result<Config, DemoError> {
    let flags = Flags { listen: Some(listen), data_directory: Some(folder.path().join(data)), ..Flags::default() };
    let file = Some(folder.path().join(file));
    load(LoadInput { file, environment: Environment::new(), flags, kinds: sources::all() }).map_err(failed)
}

/// The configuration as a user would write it, with the replay's addresses.
fn configuration(folder: &Path, http: SocketAddr, dns: SocketAddr) -> String {
    let list = toml::Value::String(folder.join("list.txt").display().to_string());
    format!(
        r#"never_send = ["customer.example.org"]
log.filter = "error"

[submissions]
sensitive_words = ["Project Falcon"]
sources.virustotal.enabled = true

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

/// Two more sources of the history, which are switched off after it: one hands on what another says, and one is not what it is
/// rated.
fn extra_sources(folder: &Path, http: SocketAddr, enabled: bool) -> String {
    let rumours = toml::Value::String(folder.join("rumours.txt").display().to_string());
    format!(
        r#"
[sources.reseller]
enabled = {enabled}
kind = "abuseipdb"
credential = "demonstration"
base_url = "http://{http}/reseller"
family = "reseller"

[sources.rumours]
enabled = {enabled}
kind = "list"
reliability = "B"
options.path = {rumours}
options.claim = "malicious"

[retention]
answers_age = "90d"
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
