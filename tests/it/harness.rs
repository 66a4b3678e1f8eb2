//! Starts a server with sources that are replayed on loopback.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use concord::clock::{Clock, ManualClock, SystemClock};
use concord::pb;
use concord::pb::enrichment_service_client::EnrichmentServiceClient;
use concord::pb::history_service_client::HistoryServiceClient;
use concord::pb::policy_service_client::PolicyServiceClient;
use concord::pb::source_service_client::SourceServiceClient;
use concord::pb::submission_service_client::SubmissionServiceClient;
use concord::pb::verdict_service_client::VerdictServiceClient;
use concord::server::{Listen, Running};
use concord::settings::{Config, Environment, Flags, LoadInput, load};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

/// The deadline of calls that are to meet it. The server's clock moves by hand, so that nobody waits for so long.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// The same request with a deadline.
pub fn with_deadline<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// How long a server or a process may take for anything before its test fails, on a machine however busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The moment at which every test begins.
pub fn start_time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

/// What a replayed source answers, by what stands last in the path.
pub type Answers = Box<dyn Fn(&str) -> (u16, Value) + Send + Sync>;

/// A source on loopback that counts its calls.
pub struct Replay {
    pub address: SocketAddr,
    calls: watch::Sender<usize>,
    paths: Arc<Mutex<Vec<String>>>,
    /// What it says of the key's quota, which it counts apart.
    quotas: Arc<Mutex<(u16, Value)>>,
    quota_readings: watch::Sender<usize>,
    /// Headers of all other answers.
    headers: Arc<Mutex<Vec<(&'static str, &'static str)>>>,
    /// Each answer takes a permit; none are needed once it is closed.
    gate: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Replay {
    /// Answers at once.
    pub async fn start(answers: Answers) -> Self {
        let replay = Self::held(answers).await;
        replay.release();
        replay
    }

    /// Takes calls and answers none before it is released.
    pub async fn held(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = watch::Sender::new(0);
        let gate = Arc::new(Semaphore::new(0));
        let paths = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let quotas = Arc::new(Mutex::new((200, json!({ "data": {} }))));
        let quota_readings = watch::Sender::new(0);
        let headers: Arc<Mutex<Vec<(&str, &str)>>> = Arc::default();
        let (stated, read, sent) = (quotas.clone(), quota_readings.clone(), headers.clone());
        let (counted, seen, answers, passes) = (calls.clone(), paths.clone(), Arc::new(answers), gate.clone());
        let router = Router::new().fallback(move |uri: Uri, _: Bytes| {
            let quotas = uri.path().ends_with("/overall_quotas").then(|| stated.lock().unwrap().clone());
            if quotas.is_some() {
                read.send_modify(|readings| *readings += 1);
            } else {
                seen.lock().unwrap().push(uri.path().to_owned());
                counted.send_modify(|calls| *calls += 1);
            }
            let (answers, passes, sent) = (answers.clone(), passes.clone(), sent.clone());
            async move {
                if let Some((status, body)) = quotas {
                    return reply(status, body);
                }
                if let Ok(permit) = passes.acquire().await {
                    permit.forget();
                }
                let (status, body) = answers(uri.path().rsplit('/').next().unwrap_or_default());
                let mut response = reply(status, body);
                for (name, value) in &*sent.lock().unwrap() {
                    response.headers_mut().insert(*name, value.parse().unwrap());
                }
                response
            }
        });
        let stopped = stop.clone();
        TaskTracker::new().spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                _ = axum::serve(listener, router).into_future() => {}
            }
        });
        Self { address, calls, paths, quotas, quota_readings, headers, gate, stop }
    }

    pub fn calls(&self) -> usize {
        *self.calls.borrow()
    }

    /// Resolves when it was called this often.
    pub async fn called(&self, times: usize) {
        self.calls.subscribe().wait_for(|calls| *calls >= times).await.unwrap();
    }

    /// Says this of the key's quota from now on.
    pub fn tell_quotas(&self, status: u16, body: Value) {
        *self.quotas.lock().unwrap() = (status, body);
    }

    /// Sends these headers from now on.
    pub fn send_headers(&self, headers: &[(&'static str, &'static str)]) {
        *self.headers.lock().unwrap() = headers.to_vec();
    }

    /// How often it was asked about the key's quota.
    pub fn quota_readings(&self) -> usize {
        *self.quota_readings.borrow()
    }

    /// Answers one call.
    pub fn release_one(&self) {
        self.gate.add_permits(1);
    }

    /// Answers every call from now on.
    pub fn release(&self) {
        self.gate.close();
    }

    pub fn paths(&self) -> Vec<String> {
        self.paths.lock().unwrap().clone()
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn reply(status: u16, body: Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    // A text stands for a body that is not JSON.
    let body = body.as_str().map(str::to_owned).unwrap_or_else(|| body.to_string());
    (status, body).into_response()
}

/// A VirusTotal report in its documented form.
pub fn report(malicious: u64, suspicious: u64) -> Value {
    json!({ "data": { "id": "x", "type": "ip_address", "attributes": {
        "last_analysis_date": 1_790_000_000_u64 - 3600,
        "last_analysis_stats": {
            "malicious": malicious, "suspicious": suspicious, "harmless": 0,
            "undetected": 94 - malicious - suspicious, "timeout": 0,
        },
        "last_analysis_results": {},
    } } })
}

/// A VirusTotal that calls everything malicious.
pub async fn malicious_virustotal() -> Replay {
    Replay::start(Box::new(|_| (200, report(60, 0)))).await
}

/// The configuration of one VirusTotal at this address.
pub fn virustotal_at(address: SocketAddr) -> String {
    format!(
        "[sources.virustotal]\nkind = \"virustotal\"\ncredential = \"s3cret-credential\"\nbase_url = \"http://{address}\"\n"
    )
}

/// A server that runs. Its clock moves by hand.
pub struct TestServer {
    running: Running,
    pub clock: Arc<ManualClock>,
    pub channel: Channel,
    pub folder: Arc<TempDir>,
}

impl TestServer {
    /// Starts with this configuration on a new data directory, reached from within the process alone.
    pub async fn start(configuration: &str) -> Self {
        Self::start_on(Arc::new(TempDir::new().unwrap()), Arc::new(ManualClock::new(start_time())), configuration).await
    }

    /// Starts on a data directory that may have been used before.
    pub async fn start_on(folder: Arc<TempDir>, clock: Arc<ManualClock>, configuration: &str) -> Self {
        let running = run(&folder, &clock, configuration, Listen::InProcess).await;
        let mut stream = Some(TokioIo::new(running.connect()));
        let connector = tower::service_fn(move |_| {
            let stream = stream.take().ok_or(std::io::ErrorKind::NotConnected);
            async move { Ok::<_, std::io::Error>(stream?) }
        });
        let channel = Endpoint::from_static("http://local").connect_with_connector(connector).await.unwrap();
        Self { running, clock, channel, folder }
    }

    /// Starts a server that also listens, over TCP and on the socket in its data directory: for tests of what only a
    /// socket shows. Its channel goes over TCP.
    pub async fn listen(configuration: &str) -> Self {
        Self::listen_on(Arc::new(TempDir::new().unwrap()), Arc::new(ManualClock::new(start_time())), configuration)
            .await
    }

    /// As [`Self::listen`], on a data directory that may have been used before.
    pub async fn listen_on(folder: Arc<TempDir>, clock: Arc<ManualClock>, configuration: &str) -> Self {
        let running = run(&folder, &clock, configuration, Listen::Everywhere).await;
        let endpoint = Endpoint::from_shared(format!("http://{}", running.address().unwrap())).unwrap();
        Self { running, clock, channel: endpoint.connect_lazy(), folder }
    }

    /// The address of one that listens.
    pub fn address(&self) -> SocketAddr {
        self.running.address().expect("it was started by `listen`")
    }

    pub fn enrichment(&self) -> EnrichmentServiceClient<Channel> {
        EnrichmentServiceClient::new(self.channel.clone())
    }

    pub fn sources(&self) -> SourceServiceClient<Channel> {
        SourceServiceClient::new(self.channel.clone())
    }

    pub fn policies(&self) -> PolicyServiceClient<Channel> {
        PolicyServiceClient::new(self.channel.clone())
    }

    pub fn verdicts(&self) -> VerdictServiceClient<Channel> {
        VerdictServiceClient::new(self.channel.clone())
    }

    pub fn history(&self) -> HistoryServiceClient<Channel> {
        HistoryServiceClient::new(self.channel.clone())
    }

    pub fn submissions(&self) -> SubmissionServiceClient<Channel> {
        SubmissionServiceClient::new(self.channel.clone())
    }

    /// The engine behind it.
    pub fn engine(&self) -> &Arc<concord::engine::Engine> {
        self.running.engine()
    }

    /// Moves the clock once a source was called this often.
    pub async fn pass_when_called(&self, source: &Replay, times: usize, time: Duration) {
        source.called(times).await;
        self.clock.advance(time);
    }

    /// Enriches one indicator with the usual options.
    pub async fn enrich(&self, value: &str) -> Enriched {
        self.enrich_as(pb::EnrichRequest { indicator: Some(indicator(value)), ..Default::default() }).await
    }

    /// Enriches with these options.
    pub async fn enrich_as(&self, request: pb::EnrichRequest) -> Enriched {
        let answer = self.enrichment().enrich(request).await.unwrap().into_inner();
        Enriched { verdict: answer.decode_verdict().unwrap(), receipt: answer.decode_receipt().unwrap() }
    }

    /// Ends the server as a shutdown does. What is under way must be able to end, since the clock does not move.
    pub async fn stop(self) {
        let clock: &dyn Clock = &SystemClock;
        clock.timeout(PATIENCE, self.running.stop()).await.expect("the server ends");
    }
}

async fn run(folder: &TempDir, clock: &Arc<ManualClock>, configuration: &str, listen: Listen) -> Running {
    let config = config(folder, configuration);
    Running::start(&config, concord::sources::all(), clock.clone(), listen).await.unwrap()
}

/// An answer, decoded.
#[derive(Debug)]
pub struct Enriched {
    pub verdict: pb::Verdict,
    pub receipt: pb::Receipt,
}

impl Enriched {
    /// The outcome of a source.
    pub fn outcome(&self, source: &str) -> &pb::outcome::Result {
        let name = format!("sources/{source}");
        let outcome = self.verdict.outcomes.iter().find(|one| one.source == name);
        outcome.unwrap_or_else(|| panic!("no outcome of {name}")).result.as_ref().unwrap()
    }

    /// Why a source was not asked.
    pub fn not_asked(&self, source: &str) -> pb::NotAskedReason {
        match self.outcome(source) {
            pb::outcome::Result::NotAsked(not_asked) => not_asked.reason(),
            other => panic!("{source} was asked: {other:?}"),
        }
    }
}

/// An address that refuses connections for as long as it is held.
pub struct Refusing(TcpSocket);

impl Refusing {
    /// Bound, so that nobody else gets the port, and never listening.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}

pub fn indicator(value: &str) -> pb::Indicator {
    pb::Indicator { r#type: 0, value: value.to_owned() }
}

/// The configuration, with its data in this folder and a free port.
pub fn config(folder: &TempDir, text: &str) -> Config {
    let file = folder.path().join("concord.toml");
    std::fs::write(&file, text).unwrap();
    let flags = Flags {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        data_directory: Some(folder.path().join("data")),
        ..Flags::default()
    };
    let kinds = concord::sources::all();
    load(LoadInput { file: Some(file), environment: Environment::new(), flags, kinds }).unwrap()
}

/// The fields that a refusal names.
pub fn violated(refused: &tonic::Status) -> Vec<String> {
    let details = refused.get_error_details();
    details
        .bad_request()
        .into_iter()
        .flat_map(|request| &request.field_violations)
        .map(|violation| violation.field.clone())
        .collect()
}
