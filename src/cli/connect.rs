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

use super::args::Client;
use super::{Failure, root_cause};
use crate::clock::{Clock, SystemClock};
use crate::pb::enrichment_service_client::EnrichmentServiceClient;
use crate::pb::history_service_client::HistoryServiceClient;
use crate::pb::policy_service_client::PolicyServiceClient;
use crate::pb::source_service_client::SourceServiceClient;
use crate::pb::submission_service_client::SubmissionServiceClient;
use crate::pb::verdict_service_client::VerdictServiceClient;
use crate::server::{Listen, Running};
use crate::settings::{Config, Flags, LoadInput, LogSettings, data_directory, load, process_environment};
use crate::sources;
use crate::store::DataDirectory;
use crate::telemetry;

/// Longest wait for a data directory that another process holds, and the pause between looks.
const DIRECTORY_WAIT: Duration = Duration::from_secs(60);
const DIRECTORY_POLL: Duration = Duration::from_millis(50);
/// After this time a command says what it waits for.
const NOTICE_DELAY: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A verdict with many facts may be larger than gRPC's usual 4 MiB.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

type AuthorizedChannel = InterceptedService<Channel, Bearer>;

/// A connection to a server.
pub(super) struct Connection {
    channel: AuthorizedChannel,
    /// The server of this command, if it started one.
    embedded: Option<Running>,
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
    /// Does the work with the server that the arguments mean, and stops the server if it was started for this command.
    pub(super) async fn with<T>(
        client: &Client,
        work: impl AsyncFnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let connection = Self::open(client).await?;
        let result = work(&connection).await;
        connection.close().await;
        result.map_err(|failure| match failure.unanswered {
            true => Failure::new(format!("the server does not answer: {failure}{}", hint(client))),
            false => failure,
        })
    }

    async fn open(client: &Client) -> Result<Self, Failure> {
        if let Some(server) = client.remote() {
            let channel = connect_network(server, client).await?;
            return Ok(Self { channel: InterceptedService::new(channel, bearer(client)?), embedded: None });
        }
        // A running server has read its secrets already; this command may not be able to.
        if let Some(directory) = data_directory(&input(client, Flags::default()))
            && let Some(Ok(connection)) = Self::to_holder(&directory).await
        {
            return Ok(connection);
        }
        let config = config(client, Flags::default())?;
        telemetry::init_logs(&logs(&config));
        let place = config.data_directory.display();
        let notice = || eprintln!("concord: waiting for the process that uses {place}");
        with_wait_notice(Self::open_directory(&config), notice).await
    }

    /// A connection to the server that runs on the data directory, or starts one for this command. A server for one command
    /// is not reached from outside: its end is waited for, as is that of a server that is just starting or stopping.
    async fn open_directory(config: &Config) -> Result<Self, Failure> {
        let directory = &config.data_directory;
        let started = SystemClock.monotonic();
        loop {
            match Self::to_holder(directory).await {
                Some(Ok(connection)) => return Ok(connection),
                Some(Err(_)) => {}
                None => {
                    match Running::start(config, sources::all(), Arc::new(SystemClock), Listen::InProcess).await {
                        Ok(running) => return Self::to_embedded(running).await,
                        Err(error) if !is_held(directory) => return Err(error.into()),
                        // Another process was faster.
                        Err(_) => {}
                    }
                }
            }
            if SystemClock.monotonic().since(started) >= DIRECTORY_WAIT {
                return Err(Failure::new(format!(
                    "{} is in use by another command, also after {} s: run `concord serve`, which commands share",
                    directory.display(),
                    DIRECTORY_WAIT.as_secs()
                )));
            }
            SystemClock.sleep(DIRECTORY_POLL).await;
        }
    }

    /// A connection to the process that holds the data directory; `None` where no process does.
    async fn to_holder(directory: &Path) -> Option<Result<Self, Failure>> {
        let status = DataDirectory::lock_status(directory).ok().filter(|status| status.is_held())?;
        Some(connect_socket(&status.socket_path()).await.map(|channel| Self::local(channel, None)))
    }

    async fn to_embedded(running: Running) -> Result<Self, Failure> {
        let mut stream = Some(running.connect());
        let connector = service_fn(move |_| {
            let stream = stream.take().map(TokioIo::new);
            async move { stream.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
        });
        let channel = Endpoint::from_static("http://local").connect_with_connector(connector).await;
        let channel = channel.map_err(|error| unreachable("the server of this command", &error))?;
        Ok(Self::local(channel, Some(running)))
    }

    /// A local connection needs no token.
    fn local(channel: Channel, embedded: Option<Running>) -> Self {
        Self { channel: InterceptedService::new(channel, Bearer(None)), embedded }
    }

    pub(super) fn enrichment(&self) -> EnrichmentServiceClient<AuthorizedChannel> {
        EnrichmentServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(super) fn sources(&self) -> SourceServiceClient<AuthorizedChannel> {
        SourceServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(super) fn policies(&self) -> PolicyServiceClient<AuthorizedChannel> {
        PolicyServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(super) fn verdicts(&self) -> VerdictServiceClient<AuthorizedChannel> {
        VerdictServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(super) fn history(&self) -> HistoryServiceClient<AuthorizedChannel> {
        HistoryServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(super) fn submissions(&self) -> SubmissionServiceClient<AuthorizedChannel> {
        SubmissionServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    async fn close(self) {
        drop(self.channel);
        let Some(running) = self.embedded else { return };
        let notice = || eprintln!("concord: waiting for what is still in flight in the server of this command");
        with_wait_notice(running.stop(), notice).await;
    }
}

fn is_held(directory: &Path) -> bool {
    DataDirectory::lock_status(directory).is_ok_and(|status| status.is_held())
}

/// Waits for the work, and gives the notice if it takes longer than [`NOTICE_DELAY`].
async fn with_wait_notice<T>(work: impl Future<Output = T>, notice: impl FnOnce()) -> T {
    tokio::pin!(work);
    tokio::select! {
        biased;
        result = work.as_mut() => return result,
        () = SystemClock.sleep(NOTICE_DELAY) => {}
    }
    notice();
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

/// Where the configuration that the arguments mean is read from.
pub(super) fn input(client: &Client, mut flags: Flags) -> LoadInput<'static> {
    flags.data_directory = client.data_directory.clone();
    LoadInput { file: client.config.clone(), environment: process_environment(), flags, kinds: sources::all() }
}

/// The logs of an embedded server: failures alone, unless the environment asks for more.
fn logs(config: &Config) -> LogSettings {
    if process_environment().contains_key("CONCORD_LOG") {
        return config.log.clone();
    }
    LogSettings { filter: "error".into(), ..config.log.clone() }
}

/// What is likely wrong where a server was reached and did not answer.
fn hint(client: &Client) -> &'static str {
    match client.remote() {
        Some(server) if server.starts_with("http://") => "; if it speaks TLS, write https://",
        Some(_) if client.client_certificate.is_none() => {
            "; if it wants a client certificate, give --client-certificate and --client-key"
        }
        Some(_) => "",
        None => "; the server on the data directory is gone",
    }
}

async fn connect_socket(path: &Path) -> Result<Channel, Failure> {
    let path = path.to_owned();
    let connector = service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://local").connect_timeout(CONNECT_TIMEOUT);
    endpoint.connect_with_connector(connector).await.map_err(|error| unreachable("the server's socket", &error))
}

async fn connect_network(server: &str, client: &Client) -> Result<Channel, Failure> {
    if !server.starts_with("http://") && !server.starts_with("https://") {
        return Err(Failure::new(format!("--server {server}: give http://HOST:PORT or https://HOST:PORT")));
    }
    let endpoint = Endpoint::from_shared(server.to_owned())
        .map_err(|_| Failure::new(format!("--server {server}: give http://HOST:PORT or https://HOST:PORT")))?
        .connect_timeout(CONNECT_TIMEOUT);
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

/// tonic's errors say little by themselves: their root cause helps.
fn unreachable(what: &str, error: &tonic::transport::Error) -> Failure {
    let cause = root_cause(error).unwrap_or_else(|| error.to_string());
    // The error of rustls for an answer that is not TLS.
    let plain = what.starts_with("https://") && cause.contains("InvalidContentType");
    let hint = if plain { " (it does not speak TLS: try http://)" } else { "" };
    Failure::new(format!("cannot reach {what}: {cause}{hint}"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tempfile::TempDir;

    use super::*;
    use crate::pb;

    fn client(folder: &TempDir) -> Client {
        let file = folder.path().join("concord.toml");
        std::fs::write(&file, "log.filter = \"error\"\n").unwrap();
        Client {
            server: None,
            local: false,
            token: None,
            ca: None,
            client_certificate: None,
            client_key: None,
            config: Some(file),
            data_directory: Some(folder.path().join("data")),
        }
    }

    async fn list(connection: &Connection) -> Result<(), Failure> {
        connection.sources().list_sources(pb::ListSourcesRequest::default()).await?;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_waits_for_the_data_directory_that_another_command_uses() {
        let folder = TempDir::new().unwrap();
        let client = client(&folder);
        let other = DataDirectory::open(&folder.path().join("data")).unwrap();
        let end_other = async {
            SystemClock.sleep(DIRECTORY_WAIT / 2).await;
            drop(other);
        };
        let (listed, ()) = tokio::join!(Connection::with(&client, list), end_other);
        listed.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_data_directory_that_stays_in_use_is_reported_with_what_to_do() {
        let folder = TempDir::new().unwrap();
        let _other = DataDirectory::open(&folder.path().join("data")).unwrap();
        let failure = Connection::with(&client(&folder), list).await.unwrap_err().to_string();
        assert!(failure.contains("in use by another command") && failure.contains("concord serve"), "{failure}");
    }

    #[tokio::test]
    async fn local_wins_over_a_server_that_is_named() {
        let folder = TempDir::new().unwrap();
        let client = Client { server: Some("no url".into()), ..client(&folder) };
        assert!(Connection::with(&client, list).await.is_err());
        Connection::with(&Client { local: true, ..client }, list).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_is_announced_once() {
        let notices = AtomicU32::new(0);
        let notice = || {
            notices.fetch_add(1, Ordering::Relaxed);
        };
        assert_eq!(with_wait_notice(async { 1 }, notice).await, 1);
        with_wait_notice(SystemClock.sleep(NOTICE_DELAY / 2), notice).await;
        assert_eq!(notices.load(Ordering::Relaxed), 0);
        with_wait_notice(SystemClock.sleep(NOTICE_DELAY * 5), notice).await;
        assert_eq!(notices.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_hint_depends_on_where_the_server_was_looked_for() {
        let folder = TempDir::new().unwrap();
        let at = |server: Option<&str>| Client { server: server.map(str::to_owned), ..client(&folder) };
        assert!(hint(&at(Some("http://192.0.2.1:7700"))).contains("https://"));
        assert!(hint(&at(Some("https://192.0.2.1:7700"))).contains("--client-certificate"));
        let with = Client { client_certificate: Some("c.pem".into()), ..at(Some("https://192.0.2.1:7700")) };
        assert_eq!(hint(&with), "");
        assert!(hint(&at(None)).contains("data directory"));
    }
}
