//! Wires everything together: store, sources, engine, services, listeners.
//!
//! `router.rs` stacks the services and their layers on one port, `page.rs` answers requests that are not gRPC, `hosts.rs`
//! refuses foreign web pages, `calls.rs` takes admitted calls to their services, `body_limit.rs` bounds their bodies.
//! `listen.rs` accepts connections on the threads of `network.rs`, `tls.rs` those with TLS.
//! `connections.rs` limits connections and `admission.rs` requests, both with the `fair_pool.rs`; `early_refusal.rs` admits
//! on arrival, `turns.rs` says which request begins next, `active_call.rs` sends answers, `paced.rs` reads in small steps.
//! `housekeeping.rs` does periodic work, `reload.rs` reads the configuration again, `health.rs` reports health. Nothing here decides about indicators or sources.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::DuplexStream;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::engine::{Engine, Parts, Rules};
use crate::fetch::{SourceCache, transport_for};
use crate::rpc::auth::Authenticator;
use crate::rpc::load::Load;
use crate::rpc::{BackgroundTasks, EnrichmentRpc, HistoryRpc, PolicyRpc, SourceRpc, SubmissionRpc, VerdictRpc};
use crate::settings::{Config, ConfigReader, NO_SOURCE_HINT, NeverSendRules, PolicyRegistry, Registry};
use crate::source::{Kind, Proxy};
use crate::store::{self, DataDirectory, Sealer, Store};
use crate::submission::{SubmissionParts, Submissions};
use crate::telemetry;

mod active_call;
mod admission;
mod body_limit;
mod calls;
mod connections;
mod early_refusal;
mod fair_pool;
mod health;
mod hosts;
mod housekeeping;
mod listen;
mod network;
mod paced;
mod page;
mod reload;
mod router;
mod tls;
mod turns;

use network::Network;
use reload::Reloader;

/// Time limit for a shutdown to wait for calls in flight.
const DRAIN: Duration = Duration::from_secs(15);
/// With the verdict cache, the requests in flight and the program itself less than 250 MB.
const SOURCE_CACHE_BYTES: u64 = 64 * 1024 * 1024;
const DUPLEX_BYTES: usize = 64 * 1024;

/// Why a server does not start, as a message for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError(pub String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Checks the parts of a configuration that can be checked without starting a server: the TLS key must match its
/// certificate.
///
/// # Errors
/// The message says what cannot be used, and why.
pub fn check(config: &Config) -> Result<(), StartError> {
    tls::acceptor(config.tls.as_ref()).map(|_| ())
}

/// How a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Over the configured address, over the socket in the data directory, and from within the process.
    Everywhere,
    /// Only from within the process: the embedded server of a single command.
    InProcess,
}

/// A running server.
pub struct Running {
    address: Option<SocketAddr>,
    socket: Option<PathBuf>,
    engine: Arc<Engine>,
    reloader: Option<Reloader>,
    clock: Arc<dyn Clock>,
    store: Arc<dyn Store>,
    reporter: HealthReporter,
    serving: listen::Serving,
    tracker: TaskTracker,
    _network: Option<Network>,
    // Holds the lock on the data directory until the server is dropped.
    _directory: DataDirectory,
}

impl Running {
    /// Starts a server with these settings and kinds.
    ///
    /// # Errors
    /// If the data directory, a certificate or the address cannot be used; the message says which and why.
    //
    // Boxed, so that the code of the whole server is made in this crate once, and not in each program that starts one.
    pub fn start<'a>(
        config: &'a Config,
        kinds: &'a [Arc<dyn Kind>],
        clock: Arc<dyn Clock>,
        listen: Listen,
    ) -> BoxFuture<'a, Result<Self, StartError>> {
        Box::pin(Self::start_all(config, kinds, clock, listen))
    }

    async fn start_all(
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
        let registry = Registry::open(config, kinds, store.clone(), sealer.clone()).await.map_err(start_error)?;
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
        let policies = PolicyRegistry::open(config, store.clone(), clock.clone()).await.map_err(start_error)?;
        if let Err(missing) = policies.get(None) {
            return Err(StartError(format!("default_policy: {missing}")));
        }
        let policies = Arc::new(policies);
        let never_send = Arc::new(NeverSendRules::open(config, store.clone()).await.map_err(start_error)?);
        let tracker = TaskTracker::new();
        let engine = Arc::new(Engine::new(Parts {
            registry: registry.clone(),
            policies: policies.clone(),
            store: store.clone(),
            clock: clock.clone(),
            cache: SourceCache::new(SOURCE_CACHE_BYTES, store.clone(), store.clone(), &*clock, tracker.clone()),
            transports: Arc::new(transport_for),
            tracker: tracker.clone(),
            rules: rules(config, never_send.clone()),
        }));
        engine.load_feedback().await.map_err(start_error)?;
        let guard = housekeeping::PruneGuard::from_store(store.as_ref(), clock.as_ref()).await;
        let tasks = BackgroundTasks::new(tracker.clone());
        let stop = CancellationToken::new();
        let submissions = Submissions::open(SubmissionParts {
            engine: engine.clone(),
            store: store.clone(),
            clock: clock.clone(),
            tracker: tracker.clone(),
            rules: config.submissions.clone(),
            internal_suffixes: config.internal_suffixes.clone(),
            folder: directory.spool_path(),
            sealer,
            stop: stop.clone(),
        });
        let submissions = submissions.await.map_err(start_error)?;
        let services = router::Services {
            enrichment: EnrichmentRpc::new(engine.clone(), registry.clone(), clock.clone(), tasks.clone()),
            sources: SourceRpc::new(
                registry.clone(),
                never_send.clone(),
                store.clone(),
                engine.clone(),
                clock.clone(),
                tasks.clone(),
            ),
            policies: PolicyRpc::new(policies.clone(), clock.clone(), tasks.clone()),
            verdicts: VerdictRpc::new(store.clone(), engine.clone(), clock.clone(), tasks.clone()),
            history: HistoryRpc::new(engine.clone(), registry.clone(), tasks.clone()),
            submissions: SubmissionRpc::new(submissions, clock.clone(), tasks),
        };
        let authenticator = Authenticator::new(config.tokens.clone());
        let reloader = Reloader::new(
            config.clone(),
            never_send.clone(),
            registry.clone(),
            policies.clone(),
            engine.clone(),
            authenticator.clone(),
        );
        let workers = Handle::current();
        let load = Load::new(workers.clone(), clock.clone());
        let (entry, reporter) =
            router::build(config, authenticator.clone(), services, load, workers, stop.clone()).await?;
        let of_sources = health::SourceHealth::start(engine.clone(), reporter.clone()).await;
        let serving = listen::Serving::new(entry, acceptor, &config.limits, stop.clone());
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
        let of_store = reporter.clone();
        let report = move |status| {
            let of_store = of_store.clone();
            async move { health::report(&of_store, status).await }
        };
        tracker.spawn(housekeeping::watch(store.clone(), report, stop.clone()));
        tracker.spawn(of_sources.watch(stop.clone()));
        if listen == Listen::Everywhere {
            let engine = engine.clone();
            tracker.spawn(async move { engine.start_loading_lists() });
        }
        // Nobody reads the log or the metrics of a server within a command.
        let forecasting = (listen == Listen::Everywhere).then(|| engine.clone());
        let keep_metrics = move || {
            telemetry::upkeep();
            let forecasting = forecasting.clone();
            async move {
                if let Some(engine) = forecasting {
                    engine.note_forecasts().await;
                }
            }
        };
        tracker.spawn(housekeeping::upkeep(keep_metrics, stop));
        Ok(Self {
            address,
            socket,
            engine,
            reloader: Some(reloader),
            clock,
            store,
            reporter,
            serving,
            tracker,
            _network: network,
            _directory: directory,
        })
    }

    /// The network address that the server listens on, if any.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Reads the configuration again whenever its file changes, and on each of these signals.
    pub fn reload_from(&mut self, reader: ConfigReader, signals: Signal) {
        if let Some(reloader) = self.reloader.take() {
            self.tracker.spawn(reloader.run(reader, signals, self.clock.clone(), self.serving.stop.clone()));
        }
    }

    /// Opens a connection from within the process. Its caller is `local`, as over the socket.
    pub fn connect(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(DUPLEX_BYTES);
        self.serving.serve_local(server);
        client
    }

    /// The engine behind the services.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Shuts down: accepts no new calls, waits for those in flight, and completes pending writes to the store.
    pub async fn stop(self) {
        info!("shutting down");
        health::report(&self.reporter, ServingStatus::NotServing).await;
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
            () = self.clock.sleep(DRAIN) => warn!("calls were still in flight at the end of the shutdown's time limit"),
        }
        if let Err(error) = self.store.close().await {
            warn!(%error, "the store could not be closed cleanly");
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

/// Resolves on SIGINT or SIGTERM. The handlers are installed when this is called, not when the future is first polled.
pub fn termination() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// The signals with which an operator asks for the configuration to be read again. From this call on they do not end the
/// process.
pub fn hang_ups() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// The warning that the environment names a proxy but no source uses it, which users of other programs would expect.
fn ignored_proxies(config: &Config, registry: &Registry) -> Option<String> {
    let used = registry.snapshot().iter().any(|source| source.settings.proxy == Some(Proxy::Environment));
    let variables = config.proxies.variables.join(", ");
    (!used && !variables.is_empty()).then(|| {
        format!("{variables} of the environment is ignored: a source uses it where it sets proxy = \"environment\"")
    })
}

fn rules(config: &Config, never_send: Arc<NeverSendRules>) -> Rules {
    Rules {
        never_send,
        internal_suffixes: config.internal_suffixes.clone(),
        egress: config.egress(false),
        default_deadline: config.default_deadline,
        caller_budgets: config.caller_budgets.clone(),
    }
}

fn start_error(error: impl fmt::Display) -> StartError {
    StartError(error.to_string())
}

/// The warning about listening beyond loopback without TLS or tokens.
fn exposure_warning(address: SocketAddr, config: &Config) -> Option<&'static str> {
    match (address.ip().is_loopback(), config.tokens.is_empty(), config.tls.is_none()) {
        (true, _, _) | (false, false, false) => None,
        (false, true, _) => Some("listening beyond loopback without tokens: anybody who reaches it can call"),
        (false, false, true) => {
            Some("listening beyond loopback without TLS: tokens and answers can be read on their way")
        }
    }
}

/// Opens the Unix socket with permissions for this user only. A socket file that a killed server left behind is
/// replaced: the lock on the data directory guarantees that no other server listens on it.
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
