//! The one place that wires everything: store, sources, engine, services, listeners.
//!
//! `router.rs` stacks the services on one port, `page.rs` is what a browser sees there, `hosts.rs` keeps foreign web pages out,
//! `listen.rs` accepts connections on the threads of `network.rs`, `tls.rs` accepts TLS. `connections.rs` says who may be
//! connected, `admission.rs` who is worked for, both by `fair_pool.rs`; `active_call.rs` hands answers over. `housekeeping.rs` does
//! periodic work. Nothing is decided here about indicators or sources.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::engine::{Engine, Parts, Rules};
use crate::fetch::SourceCache;
use crate::rpc::load::Load;
use crate::rpc::{BackgroundTasks, EnrichmentRpc, SourceRpc, VerdictRpc};
use crate::settings::{Config, NO_SOURCE_HINT, Registry};
use crate::source::{Kind, Proxy};
use crate::store::{self, DataDirectory, Sealer, Store};
use crate::telemetry;

mod active_call;
mod admission;
mod connections;
mod fair_pool;
mod hosts;
mod housekeeping;
mod listen;
mod network;
mod page;
mod router;
mod tls;

use network::Network;

/// Longest time that a shutdown waits for what is in flight.
const DRAIN: Duration = Duration::from_secs(15);
const SOURCE_CACHE_BYTES: u64 = 256 * 1024 * 1024;
const DUPLEX_BYTES: usize = 64 * 1024;

/// Why a server does not start, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError(pub String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Checks of a configuration what can be checked without starting a server: key and certificate must belong together.
///
/// # Errors
/// What cannot be used, and why.
pub fn check(config: &Config) -> Result<(), StartError> {
    tls::acceptor(config.tls.as_ref()).map(|_| ())
}

/// How a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On the address of the settings, on the socket in the data directory, and from within the process.
    Everywhere,
    /// From within the process alone: the embedded server of one command.
    InProcess,
}

/// A running server.
pub struct Running {
    address: Option<SocketAddr>,
    socket: Option<PathBuf>,
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    store: Arc<dyn Store>,
    reporter: HealthReporter,
    serving: listen::Serving,
    tracker: TaskTracker,
    _network: Option<Network>,
    // Held until the end: it is the lock on the data directory.
    _directory: DataDirectory,
}

impl Running {
    /// Starts a server with these settings and kinds.
    ///
    /// # Errors
    /// When the data directory, a certificate, or the address cannot be used; the text says which and why.
    pub async fn start(
        config: &Config,
        kinds: &[Arc<dyn Kind>],
        clock: Arc<dyn Clock>,
        listen: Listen,
    ) -> Result<Self, StartError> {
        telemetry::upkeep();
        let acceptor = match listen {
            Listen::Everywhere => tls::acceptor(config.tls.as_ref())?,
            Listen::InProcess => None,
        };
        let directory = DataDirectory::open(&config.data_directory).map_err(start_error)?;
        let store = store::open(&directory.database_path(), config.durability).map_err(start_error)?;
        let sealer = match &config.key {
            Some(key) => Sealer::from_base64(key),
            None => Sealer::from_key_file(&directory.key_path()),
        };
        let sealer = Arc::new(sealer.map_err(start_error)?);
        let registry = Registry::open(config, kinds, store.clone(), sealer).await.map_err(start_error)?;
        let registry = Arc::new(registry);
        if registry.snapshot().is_empty() {
            warn!("{NO_SOURCE_HINT}");
        }
        for source in registry.snapshot().iter() {
            for warning in source.source.warnings() {
                warn!(source = source.settings.name, "{warning}");
            }
        }
        if let Some(warning) = ignored_proxies(config, &registry) {
            warn!("{warning}");
        }
        let tracker = TaskTracker::new();
        let engine = Arc::new(Engine::new(Parts {
            registry: registry.clone(),
            store: store.clone(),
            clock: clock.clone(),
            cache: SourceCache::new(SOURCE_CACHE_BYTES),
            tracker: tracker.clone(),
            rules: rules(config),
        }));
        let guard = housekeeping::PruneGuard::from_store(store.as_ref(), clock.as_ref()).await;
        let tasks = BackgroundTasks::new(tracker.clone());
        let services = router::Services {
            enrichment: EnrichmentRpc::new(engine.clone(), registry.clone(), clock.clone(), tasks.clone()),
            sources: SourceRpc::new(registry, store.clone(), engine.clone(), clock.clone(), tasks),
            verdicts: VerdictRpc::new(store.clone(), store.clone()),
        };
        let stop = CancellationToken::new();
        let workers = Handle::current();
        let load = Load::new(workers.clone(), clock.clone());
        let (router, reporter) = router::build(config, services, load, workers, stop.clone()).await?;
        let serving = listen::Serving::new(router, acceptor, &config.limits, stop.clone());
        let (address, socket, network) = match listen {
            Listen::InProcess => (None, None, None),
            Listen::Everywhere => {
                let socket = directory.socket_path();
                tracker.spawn(listen::serve_socket(bind_socket(&socket)?, serving.clone()));
                let network = Network::start().map_err(start_error)?;
                let listener = network
                    .listen(config.listen)
                    .map_err(|error| StartError(format!("cannot listen on {}: {error}", config.listen)))?;
                let address = listener.local_addr().map_err(start_error)?;
                tracker.spawn_on(listen::serve_network(listener, serving.clone()), network.handle());
                if let Some(warning) = exposure_warning(address, config) {
                    warn!(%address, "{warning}");
                }
                info!(%address, tls = config.tls.is_some(), tokens = config.tokens.len(), "listening");
                (Some(address), Some(socket), Some(network))
            }
        };
        tracker.spawn(housekeeping::prune(store.clone(), clock.clone(), guard, config.retention, stop.clone()));
        let health = reporter.clone();
        let report = move |status| {
            let health = health.clone();
            async move { router::report_health(&health, status).await }
        };
        tracker.spawn(housekeeping::watch(store.clone(), report, stop.clone()));
        tracker.spawn(housekeeping::upkeep(telemetry::upkeep, stop));
        Ok(Self {
            address,
            socket,
            engine,
            clock,
            store,
            reporter,
            serving,
            tracker,
            _network: network,
            _directory: directory,
        })
    }

    /// The address that it listens on, if any.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// A new connection from within the process. Its caller is `local`, as over the socket.
    pub fn connect(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(DUPLEX_BYTES);
        self.serving.serve_local(server);
        client
    }

    /// The engine behind the services.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Takes no new calls, lets those in flight end, and writes what is not yet written.
    pub async fn stop(self) {
        info!("shutting down");
        router::report_health(&self.reporter, ServingStatus::NotServing).await;
        self.serving.stop.cancel();
        self.tracker.close();
        self.serving.tasks.close();
        let drained = async {
            self.serving.tasks.wait().await;
            self.engine.release();
            self.tracker.wait().await;
        };
        tokio::select! {
            () = drained => {}
            () = self.clock.sleep(DRAIN) => warn!("calls were still in flight when the time to drain ended"),
        }
        if let Err(error) = self.store.close().await {
            warn!(%error, "the store did not close well");
        }
        if let Some(Err(error)) = self.socket.map(std::fs::remove_file) {
            warn!(%error, "the socket could not be removed");
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Resolves at SIGINT or SIGTERM. Both are caught from the call on, not only once it is awaited.
pub(crate) fn termination() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// The warning that the environment names a proxy and no source uses it: other programs would.
fn ignored_proxies(config: &Config, registry: &Registry) -> Option<String> {
    let used = registry.snapshot().iter().any(|source| source.settings.proxy == Some(Proxy::Environment));
    let variables = config.proxies.variables.join(", ");
    (!used && !variables.is_empty()).then(|| {
        format!("{variables} of the environment is ignored: a source uses it where it sets proxy = \"environment\"")
    })
}

fn rules(config: &Config) -> Rules {
    Rules {
        never_send: config.never_send.clone(),
        internal_suffixes: config.internal_suffixes.clone(),
        egress: config.egress(false),
        default_deadline: config.default_deadline,
        default_policy: config.default_policy.clone(),
    }
}

fn start_error(error: impl fmt::Display) -> StartError {
    StartError(error.to_string())
}

/// The warning of what others can do at this address without TLS or tokens.
fn exposure_warning(address: SocketAddr, config: &Config) -> Option<&'static str> {
    match (address.ip().is_loopback(), config.tokens.is_empty(), config.tls.is_none()) {
        (true, _, _) | (false, false, false) => None,
        (false, true, _) => Some("listening beyond loopback without tokens: anybody who reaches it can call"),
        (false, false, true) => {
            Some("listening beyond loopback without TLS: tokens and answers can be read on their way")
        }
    }
}

/// Opens the socket that only processes of this user can reach. One that a killed server left is replaced: the lock on the
/// directory guarantees that nobody listens on it.
fn bind_socket(path: &Path) -> Result<UnixListener, StartError> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |error: std::io::Error| StartError(format!("cannot open the socket {}: {error}", path.display()));
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::settings::{Environment, Flags, LoadInput, TlsConfig, load};
    use crate::sources;

    fn config(text: &str) -> Config {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("concord.toml");
        std::fs::write(&file, text).unwrap();
        let (environment, kinds) = (Environment::new(), sources::all());
        load(LoadInput { file: Some(file), environment, flags: Flags::default(), kinds }).unwrap()
    }

    #[test]
    fn listening_beyond_loopback_without_tls_or_tokens_gives_a_warning() {
        let (outside, loopback) = ("192.0.2.1:50051".parse().unwrap(), "127.0.0.1:50051".parse().unwrap());
        let token = format!("[tokens]\nsoar = \"{}\"\n", "0f".repeat(32));
        assert_eq!(exposure_warning(loopback, &config("")), None);
        assert!(exposure_warning(outside, &config("")).unwrap().contains("without tokens"));
        assert!(exposure_warning(outside, &config(&token)).unwrap().contains("without TLS"));
        let tls = TlsConfig { certificate: "server.pem".into(), key: "server.key".into(), client_ca: None };
        let with_tls = |text: &str| Config { tls: Some(tls.clone()), ..config(text) };
        assert_eq!(exposure_warning(outside, &with_tls(&token)), None);
        assert!(exposure_warning(outside, &with_tls("")).unwrap().contains("without tokens"));
    }
}
