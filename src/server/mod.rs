//! The one place that wires everything: store, sources, engine, services, listeners.
//!
//! `router.rs` stacks the services on one port, `listen.rs` accepts connections, `tls.rs` makes TLS of the certificates,
//! `housekeeping.rs` prunes and folds now and then. Nothing is decided here about indicators or sources.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::server::HealthReporter;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::engine::{Engine, Parts, Rules};
use crate::fetch::SourceCache;
use crate::settings::{Config, NO_SOURCE_HINT, Registry};
use crate::source::Kind;
use crate::store::{self, DataDirectory, Sealer, Store};
use crate::telemetry;

mod housekeeping;
mod listen;
mod router;
mod seal;
mod tls;

/// How long a shutdown waits for what is under way.
const DRAIN: Duration = Duration::from_secs(15);
/// How many bytes of kept answers the cache holds.
const KEPT_BYTES: u64 = 256 * 1024 * 1024;

/// Why a server does not start, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError(pub String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Whether a server could start with this configuration, as far as can be told without starting one: key and certificate
/// must belong together.
///
/// # Errors
/// What cannot be used, and why.
pub fn check(config: &Config) -> Result<(), StartError> {
    tls::acceptor(config.tls.as_ref()).map(|_| ())
}

/// How a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On the address of the settings, and on the socket in the data directory.
    Everywhere,
    /// On the socket alone: the embedded server of one command.
    SocketOnly,
}

/// A server that runs.
pub struct Running {
    address: Option<SocketAddr>,
    socket: PathBuf,
    engine: Arc<Engine>,
    store: Arc<dyn Store>,
    reporter: HealthReporter,
    stop: CancellationToken,
    tracker: TaskTracker,
    connections: TaskTracker,
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
            Listen::SocketOnly => None,
        };
        let directory = DataDirectory::open(&config.data_directory).map_err(said)?;
        let store = store::open(&directory.database_path(), config.durability).map_err(said)?;
        let sealer = match &config.key {
            Some(key) => Sealer::from_base64(key),
            None => Sealer::from_key_file(&directory.key_path()),
        };
        let registry =
            Registry::open(config, kinds, store.clone(), Arc::new(sealer.map_err(said)?)).await.map_err(said)?;
        let tracker = TaskTracker::new();
        let engine = Arc::new(Engine::new(Parts {
            registry: Arc::new(registry),
            store: store.clone(),
            clock: clock.clone(),
            cache: SourceCache::new(KEPT_BYTES),
            tracker: tracker.clone(),
            rules: rules(config),
        }));
        if engine.registry().snapshot().is_empty() {
            warn!("{NO_SOURCE_HINT}");
        }
        let first_day = housekeeping::FirstDay::of(store.as_ref()).await;
        let stop = CancellationToken::new();
        let (router, reporter) = router::build(config, engine.clone(), stop.clone()).await?;
        let connections = TaskTracker::new();
        let free = Arc::new(Semaphore::new(config.limits.max_connections));
        let serving = listen::Serving { router, acceptor, free, stop: stop.clone(), connections: connections.clone() };

        let socket = directory.socket_path();
        let unix = bind_socket(&socket)?;
        tracker.spawn(listen::serve_socket(unix, serving.clone()));
        let address = match listen {
            Listen::SocketOnly => None,
            Listen::Everywhere => {
                let listener = TcpListener::bind(config.listen)
                    .await
                    .map_err(|error| StartError(format!("cannot listen on {}: {error}", config.listen)))?;
                let address = listener.local_addr().map_err(said)?;
                tracker.spawn(listen::serve_network(listener, serving));
                if let Some(lack) = lack(address, config) {
                    warn!(%address, "{lack}");
                }
                info!(%address, tls = config.tls.is_some(), tokens = config.tokens.len(), "listening");
                Some(address)
            }
        };
        tracker.spawn(housekeeping::prune(engine.clone(), first_day, config.retention, stop.clone()));
        tracker.spawn(housekeeping::upkeep(telemetry::upkeep, stop.clone()));
        Ok(Self { address, socket, engine, store, reporter, stop, tracker, connections, _directory: directory })
    }

    /// The address that it listens on, if any.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The socket that it listens on.
    pub fn socket(&self) -> &PathBuf {
        &self.socket
    }

    /// The engine behind the services.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Takes no new calls, lets those under way end, and writes what is not yet written.
    pub async fn stop(self) {
        info!("shutting down");
        router::not_serving(&self.reporter).await;
        self.stop.cancel();
        self.tracker.close();
        self.connections.close();
        let drained = async {
            self.connections.wait().await;
            self.engine.release();
            self.tracker.wait().await;
        };
        tokio::select! {
            () = drained => {}
            () = self.engine.clock().sleep(DRAIN) => warn!("calls were still under way when the time to drain ended"),
        }
        if let Err(error) = self.store.close().await {
            warn!(%error, "the store did not close well");
        }
        if let Err(error) = std::fs::remove_file(&self.socket) {
            warn!(%error, "the socket could not be removed");
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
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

fn said(error: impl fmt::Display) -> StartError {
    StartError(error.to_string())
}

/// What those who can reach this address could do for want of TLS or tokens.
fn lack(address: SocketAddr, config: &Config) -> Option<&'static str> {
    match (address.ip().is_loopback(), config.tokens.is_empty(), config.tls.is_none()) {
        (true, _, _) | (false, false, false) => None,
        (false, true, _) => Some("listening beyond loopback without tokens: whoever reaches it can call"),
        (false, false, true) => {
            Some("listening beyond loopback without TLS: tokens and answers can be read on their way")
        }
    }
}

/// The socket that only this user's processes reach. One left by a server that was killed is replaced: the lock on the
/// directory says that nobody listens on it.
fn bind_socket(path: &std::path::Path) -> Result<UnixListener, StartError> {
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
    fn what_an_open_address_lacks_is_told() {
        let (outside, loopback) = ("192.0.2.1:50051".parse().unwrap(), "127.0.0.1:50051".parse().unwrap());
        let token = format!("[tokens]\nsoar = \"{}\"\n", "0f".repeat(32));
        assert_eq!(lack(loopback, &config("")), None);
        assert!(lack(outside, &config("")).unwrap().contains("without tokens"));
        assert!(lack(outside, &config(&token)).unwrap().contains("without TLS"));
        let tls = TlsConfig { certificate: "server.pem".into(), key: "server.key".into(), client_ca: None };
        let with_tls = |text: &str| Config { tls: Some(tls.clone()), ..config(text) };
        assert_eq!(lack(outside, &with_tls(&token)), None);
        assert!(lack(outside, &with_tls("")).unwrap().contains("without tokens"));
    }
}
