//! Finds the server that a command talks to: the one named, the one that runs on the data directory, or one started in
//! this process for as long as the command runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tower::service_fn;

use super::Failure;
use super::args::Client;
use crate::clock::{Clock, SystemClock};
use crate::pb::enrichment_service_client::EnrichmentServiceClient;
use crate::pb::source_service_client::SourceServiceClient;
use crate::pb::verdict_service_client::VerdictServiceClient;
use crate::server::{Listen, Running};
use crate::settings::{Config, Flags, LoadInput, LogSettings, data_directory, load, process_environment};
use crate::sources;
use crate::store::{DataDirectory, LockStatus};
use crate::telemetry;

/// A server that is just starting or ending is waited for this often and this long.
const TRIES: u32 = 200;
/// After so long a command says what it waits for.
const BEFORE_WORD: Duration = Duration::from_secs(1);
/// How many servers of other commands may end before a command gives up.
const SERVERS: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);
const CONNECT: Duration = Duration::from_secs(5);
/// A verdict with many facts may be larger than gRPC's usual 4 MiB.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

type Wire = InterceptedService<Channel, Bearer>;

/// A way to a server.
pub(super) struct Connection {
    wire: Wire,
    embedded: Option<Running>,
    /// Whether it leads to the server of another command or process on the data directory.
    foreign: bool,
}

/// Puts the token on every request.
#[derive(Clone)]
pub(super) struct Bearer(Option<AsciiMetadataValue>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, tonic::Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl Connection {
    /// Does the work with the server that the arguments mean. Where the server of another command ends before it takes the
    /// first call, the next one is looked for. A server that ends lets calls under way end, so that what is done twice can
    /// only be a call that outlasted that.
    pub(super) async fn with<T>(
        client: &Client,
        work: impl AsyncFn(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut tries = 0;
        loop {
            let connection = Self::open(client).await?;
            let (foreign, done) = (connection.foreign, work(&connection).await);
            connection.close().await;
            tries += 1;
            match done {
                Err(failure) if failure.lost && foreign && tries < SERVERS => {}
                Err(failure) if failure.lost => {
                    return Err(Failure::new(format!("the server does not answer: {failure}{}", likely(client))));
                }
                done => return done,
            }
        }
    }

    /// Connects to the server that the arguments mean.
    async fn open(client: &Client) -> Result<Self, Failure> {
        if let Some(server) = &client.server {
            let channel = over_network(server, client).await?;
            return Ok(Self {
                wire: InterceptedService::new(channel, bearer(client)?),
                embedded: None,
                foreign: false,
            });
        }
        if let Some(running) = Self::running(client).await {
            return Ok(running);
        }
        let config = config(client, Flags::default())?;
        telemetry::init_logs(&logs(&config));
        let place = config.data_directory.display();
        with_word(Self::on(&config), || eprintln!("concord: waiting for the server on {place} to start or to end"))
            .await
    }

    /// The server that runs on the data directory, if one does: it has what its configuration names, whatever this command
    /// can read of that.
    async fn running(client: &Client) -> Option<Self> {
        let held = DataDirectory::lock_status(&data_directory(&input(client, Flags::default()))?)
            .ok()
            .filter(LockStatus::is_held)?;
        let channel = over_socket(&held.socket_path()).await.ok()?;
        Some(Self::local(channel, None))
    }

    /// A way through a socket: to the server started here, or to another's. Neither wants a token.
    fn local(channel: Channel, embedded: Option<Running>) -> Self {
        let wire = InterceptedService::new(channel, Bearer(None));
        Self { wire, foreign: embedded.is_none(), embedded }
    }

    /// The server on this data directory, or one started here. Another process may be just starting or ending one: then
    /// it is tried again.
    async fn on(config: &Config) -> Result<Self, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            let held = DataDirectory::lock_status(&config.data_directory).ok().filter(LockStatus::is_held);
            let failure = match held {
                Some(held) => match over_socket(&held.socket_path()).await {
                    Ok(channel) => {
                        return Ok(Self::local(channel, None));
                    }
                    Err(failure) => failure,
                },
                None => match Running::start(config, sources::all(), Arc::new(SystemClock), Listen::SocketOnly).await {
                    Ok(running) => {
                        let channel = over_socket(running.socket()).await?;
                        return Ok(Self::local(channel, Some(running)));
                    }
                    // Whoever holds the directory now was faster; anything else will not mend itself.
                    Err(error)
                        if tries < TRIES
                            && DataDirectory::lock_status(&config.data_directory)
                                .is_ok_and(|status| status.is_held()) =>
                    {
                        error.into()
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            if tries >= TRIES {
                return Err(failure);
            }
            SystemClock.sleep(BETWEEN_TRIES).await;
        }
    }

    /// The client of `EnrichmentService`.
    pub(super) fn enrichment(&self) -> EnrichmentServiceClient<Wire> {
        EnrichmentServiceClient::new(self.wire.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// The client of `SourceService`.
    pub(super) fn sources(&self) -> SourceServiceClient<Wire> {
        SourceServiceClient::new(self.wire.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// The client of `VerdictService`.
    pub(super) fn verdicts(&self) -> VerdictServiceClient<Wire> {
        VerdictServiceClient::new(self.wire.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// Ends the server that was started for this command, if one was.
    async fn close(self) {
        drop(self.wire);
        let Some(running) = self.embedded else { return };
        let word = || eprintln!("concord: waiting for what is still under way in the server of this command");
        with_word(running.stop(), word).await;
    }
}

/// Waits for the work, and says the word where it takes longer than people wait without one.
async fn with_word<T>(work: impl Future<Output = T>, word: impl FnOnce()) -> T {
    tokio::pin!(work);
    tokio::select! {
        biased;
        done = work.as_mut() => return done,
        () = SystemClock.sleep(BEFORE_WORD) => {}
    }
    word();
    work.await
}

/// The configuration that the arguments mean.
pub(super) fn config(client: &Client, flags: Flags) -> Result<Config, Failure> {
    load(input(client, flags)).map_err(|errors| Failure::new(errors.to_string()))
}

/// The data directory that the arguments mean, as far as possible without the rest of the configuration.
pub(super) fn directory(client: &Client) -> Result<PathBuf, Failure> {
    let directory = data_directory(&input(client, Flags::default()));
    directory.map_or_else(|| config(client, Flags::default()).map(|config| config.data_directory), Ok)
}

fn input(client: &Client, mut flags: Flags) -> LoadInput<'static> {
    flags.data_directory = client.data_directory.clone();
    LoadInput { file: client.config.clone(), environment: process_environment(), flags, kinds: sources::all() }
}

/// The logs of a server that runs inside one command: its failures alone, unless the environment asks for more.
fn logs(config: &Config) -> LogSettings {
    if process_environment().contains_key("CONCORD_LOG") {
        return config.log.clone();
    }
    LogSettings { filter: "error".into(), ..config.log.clone() }
}

/// What is likely wrong where a server was reached and never answered.
fn likely(client: &Client) -> &'static str {
    match client.server.as_deref() {
        Some(server) if server.starts_with("http://") => "; if it speaks TLS, write https://",
        Some(_) if client.client_certificate.is_none() => {
            "; if it wants a client certificate, give --client-certificate and --client-key"
        }
        Some(_) => "",
        None => "; the server on the data directory is gone",
    }
}

/// A channel over a server's socket.
pub(super) async fn over_socket(path: &Path) -> Result<Channel, Failure> {
    let path = path.to_owned();
    let connector = service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://local").connect_timeout(CONNECT);
    endpoint.connect_with_connector(connector).await.map_err(|error| unreachable("the server's socket", &error))
}

async fn over_network(server: &str, client: &Client) -> Result<Channel, Failure> {
    if !server.starts_with("http://") && !server.starts_with("https://") {
        return Err(Failure::new(format!("--server {server}: give http://HOST:PORT or https://HOST:PORT")));
    }
    let endpoint = Endpoint::from_shared(server.to_owned())
        .map_err(|_| Failure::new(format!("--server {server}: give http://HOST:PORT or https://HOST:PORT")))?
        .connect_timeout(CONNECT);
    let endpoint = if server.starts_with("https://") {
        endpoint.tls_config(tls(client)?).map_err(|error| unreachable(server, &error))?
    } else {
        endpoint
    };
    endpoint.connect().await.map_err(|error| unreachable(server, &error))
}

fn tls(client: &Client) -> Result<ClientTlsConfig, Failure> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| Failure::io(path.display(), &error));
    let mut tls = match &client.ca {
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
        None => ClientTlsConfig::new().with_enabled_roots(),
    };
    match (&client.client_certificate, &client.client_key) {
        (Some(certificate), Some(key)) => tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?)),
        (None, None) => {}
        _ => return Err(Failure::new("--client-certificate and --client-key go together")),
    }
    Ok(tls)
}

fn bearer(client: &Client) -> Result<Bearer, Failure> {
    let token = client.token.as_ref().map(|token| format!("Bearer {token}").parse::<AsciiMetadataValue>());
    let token = token.transpose().map_err(|_| Failure::new("the token holds characters that no header may hold"))?;
    Ok(Bearer(token))
}

/// tonic's errors say little by themselves: the cause behind them is what helps.
fn unreachable(what: &str, error: &tonic::transport::Error) -> Failure {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let cause = causes.last().map_or_else(|| error.to_string(), ToString::to_string);
    // What rustls says of an answer that is not TLS.
    let plain = what.starts_with("https://") && cause.contains("InvalidContentType");
    let hint = if plain { " (it does not speak TLS: try http://)" } else { "" };
    Failure::new(format!("cannot reach {what}: {cause}{hint}"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tempfile::TempDir;
    use tokio::sync::Mutex;

    use super::*;
    use crate::pb;

    fn client(folder: &TempDir) -> Client {
        let file = folder.path().join("concord.toml");
        std::fs::write(&file, "log.filter = \"error\"\n").unwrap();
        Client {
            server: None,
            token: None,
            ca: None,
            client_certificate: None,
            client_key: None,
            config: Some(file),
            data_directory: Some(folder.path().join("data")),
        }
    }

    async fn server(client: &Client) -> Running {
        let config = config(client, Flags::default()).unwrap();
        Running::start(&config, sources::all(), Arc::new(SystemClock), Listen::SocketOnly).await.unwrap()
    }

    async fn list(connection: &Connection) -> Result<(), Failure> {
        connection.sources().list_sources(pb::ListSourcesRequest::default()).await?;
        Ok(())
    }

    #[tokio::test]
    async fn a_command_whose_server_ends_before_its_call_looks_for_another() {
        let folder = TempDir::new().unwrap();
        let client = client(&folder);
        let (other, foreign) = (Mutex::new(Some(server(&client).await)), Mutex::new(Vec::new()));
        let done = Connection::with(&client, async |connection| {
            foreign.lock().await.push(connection.foreign);
            if let Some(running) = other.lock().await.take() {
                running.stop().await;
            }
            list(connection).await
        });
        assert!(done.await.is_ok());
        assert_eq!(*foreign.lock().await, [true, false], "first the other's server, then one of its own");
    }

    #[tokio::test]
    async fn what_a_server_refuses_is_not_asked_again() {
        let folder = TempDir::new().unwrap();
        let client = client(&folder);
        let (running, asked) = (server(&client).await, AtomicU32::new(0));
        let done = Connection::with(&client, async |connection| {
            asked.fetch_add(1, Ordering::Relaxed);
            connection.sources().get_source(pb::GetSourceRequest::default()).await?;
            Ok(())
        });
        assert!(done.await.unwrap_err().to_string().contains("sources/NAME"));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        running.stop().await;
    }

    #[tokio::test]
    async fn what_was_shown_in_part_is_not_begun_anew() {
        let folder = TempDir::new().unwrap();
        let client = client(&folder);
        let (other, asked) = (Mutex::new(Some(server(&client).await)), AtomicU32::new(0));
        let done = Connection::with(&client, async |connection| {
            asked.fetch_add(1, Ordering::Relaxed);
            if let Some(running) = other.lock().await.take() {
                running.stop().await;
            }
            list(connection).await.map_err(Failure::midway)
        });
        assert!(done.await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_long_is_told_once_what_for() {
        let told = AtomicU32::new(0);
        let word = || {
            told.fetch_add(1, Ordering::Relaxed);
        };
        assert_eq!(with_word(async { 1 }, word).await, 1);
        with_word(tokio::time::sleep(BEFORE_WORD / 2), word).await;
        assert_eq!(told.load(Ordering::Relaxed), 0);
        with_word(tokio::time::sleep(BEFORE_WORD * 5), word).await;
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_likely_wrong_is_told_by_where_the_server_was_looked_for() {
        let folder = TempDir::new().unwrap();
        let at = |server: Option<&str>| Client { server: server.map(str::to_owned), ..client(&folder) };
        assert!(likely(&at(Some("http://192.0.2.1:7700"))).contains("https://"));
        assert!(likely(&at(Some("https://192.0.2.1:7700"))).contains("--client-certificate"));
        let with = Client { client_certificate: Some("c.pem".into()), ..at(Some("https://192.0.2.1:7700")) };
        assert_eq!(likely(&with), "");
        assert!(likely(&at(None)).contains("data directory"));
    }
}
