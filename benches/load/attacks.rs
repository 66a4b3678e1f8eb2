//! Callers that mean harm, or are badly written, and what others feel of them: health, metrics, and the calls of somebody with
//! a token of his own, each on a connection of its own, from a thread of its own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use concord::pb;
use concord::pb::enrichment_service_client::EnrichmentServiceClient;
use concord::pb::source_service_client::SourceServiceClient;
use h2::client::{ResponseFuture, SendRequest};
use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use super::LARGE;
use super::client::authorized;
use super::server::Server;
use super::upstream::{Behaviour, Upstream};

/// Two callers, `soar` with `token` and `intake` with `other`.
pub const TOKENS: &str = "[tokens]\nsoar = \"3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0\"\n\
                          intake = \"d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa\"\n";
/// How often a bystander calls.
const EVERY: Duration = Duration::from_millis(20);
const SILENT_HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// What is done to the server.
#[derive(Clone, Copy, Debug)]
enum Attack {
    IdleConnections,
    HealthWatches,
    UnreadAnswers,
    UnreadBatches,
    SilentReflection,
    UnfinishedBodies,
    NewEnrichmentsAtOnce,
    OneCallerWithEverything,
}

/// Every attack for so long, each against a server of its own.
pub async fn attacks(length: Duration, only: Option<&str>) {
    println!("attacks of {} s each, and what bystanders feel of them", length.as_secs());
    use Attack::*;
    for attack in [
        IdleConnections,
        HealthWatches,
        UnreadAnswers,
        UnreadBatches,
        SilentReflection,
        UnfinishedBodies,
        NewEnrichmentsAtOnce,
        OneCallerWithEverything,
    ] {
        if only.is_some_and(|only| only != format!("{attack:?}")) {
            continue;
        }
        let upstream = Upstream::start(Behaviour::Delay(Duration::from_millis(50))).await;
        let server = Server::start_with(&upstream, LARGE, TOKENS).await;
        let bystander = Bystander::start(&server.address);
        let quiet = bystander.take(Duration::from_secs(2)).await;
        let run = attack.run(&server);
        tokio::pin!(run);
        let felt = tokio::select! {
            () = &mut run => unreachable!("an attack has no end"),
            felt = bystander.take(length) => felt,
        };
        println!("  {attack:?}: {felt}; at most {} MB (before: {quiet})", server.peak_memory() >> 20);
    }
}

impl Attack {
    async fn run(self, server: &Server) {
        let address = server.address.trim_start_matches("http://").to_owned();
        match self {
            Self::IdleConnections => idle_connections(&address, 2_000).await,
            Self::HealthWatches => {
                let watch = HealthCheckRequest { service: String::new() };
                hold(&address, 65_535, 40, 500, "/grpc.health.v1.Health/Watch", None, &framed(&watch), true).await;
            }
            Self::UnreadAnswers => {
                let list = framed(&pb::ListSourceKindsRequest {});
                let path = "/concord.v1.SourceService/ListSourceKinds";
                hold(&address, 0, 4, 300, path, Some("token"), &list, true).await;
            }
            Self::UnreadBatches => {
                let value = |n: u32| format!("198.51.{}.{}", n / 250, n % 250);
                let indicators = (0..1_000).map(|n| pb::Indicator { r#type: 0, value: value(n) }).collect();
                let batch = framed(&pb::BatchEnrichRequest { indicators, ..Default::default() });
                let path = "/concord.v1.EnrichmentService/BatchEnrich";
                hold(&address, 0, 4, 300, path, Some("token"), &batch, true).await;
            }
            Self::SilentReflection => {
                let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
                hold(&address, 65_535, 4, 300, path, Some("token"), &[], false).await;
            }
            Self::UnfinishedBodies => {
                let path = "/concord.v1.SourceService/ListSources";
                hold(&address, 65_535, 4, 300, path, Some("token"), &[0, 0], false).await;
            }
            Self::NewEnrichmentsAtOnce => new_enrichments(&address).await,
            Self::OneCallerWithEverything => everything(&server.address, 10_000).await,
        }
    }
}

/// Connections that say nothing, or only what they speak; each is opened again when it is closed.
async fn idle_connections(address: &str, count: usize) {
    let mut connections = JoinSet::new();
    for number in 0..count {
        let address = address.to_owned();
        connections.spawn(async move {
            loop {
                if let Ok(mut stream) = TcpStream::connect(&address).await {
                    let first = if number % 2 == 0 { SILENT_HTTP2 } else { &[] };
                    let _ = stream.write_all(first).await;
                    let _ = stream.readable().await;
                    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
    }
    connections.join_all().await;
}

/// Calls whose answer is not read, over so many connections with a window as wide as this; what is refused or ended is tried
/// again a while later.
#[allow(clippy::too_many_arguments, reason = "each attack names what it varies")]
async fn hold(
    address: &str,
    window: u32,
    connections: usize,
    calls: usize,
    path: &'static str,
    token: Option<&'static str>,
    body: &[u8],
    ends: bool,
) {
    let body = Bytes::copy_from_slice(body);
    let mut held = JoinSet::new();
    for _ in 0..connections {
        let (address, body) = (address.to_owned(), body.clone());
        held.spawn(async move {
            loop {
                if let Ok(client) = RawClient::connect(&address, window).await {
                    let mut answers = Vec::new();
                    for _ in 0..calls {
                        let Ok(sent) = client.send(path, token, body.clone(), ends).await else { break };
                        answers.push(sent);
                    }
                    // Until the connection ends, or for a while: what was refused is sent again then.
                    let _ = tokio::time::timeout(Duration::from_secs(5), client.ended).await;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }
    held.join_all().await;
}

/// A thousand enrichments of new indicators at the same moment, behind a shut window, every five seconds.
async fn new_enrichments(address: &str) {
    for round in 0_u64.. {
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(RawClient::connect(address, 0).await.expect("a connection"));
        }
        let calls = (0..1_000_usize).map(|number| {
            let client = &clients[number % clients.len()];
            async move {
                let value = format!("2001:db8:2:{round:x}::{number:x}");
                let indicator = Some(pb::Indicator { r#type: 0, value });
                let request = framed(&pb::EnrichRequest { indicator, ..Default::default() });
                let path = "/concord.v1.EnrichmentService/Enrich";
                client.send(path, Some("token"), Bytes::from(request), true).await
            }
        });
        let _answers = futures_util::future::join_all(calls).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// One caller who has as many calls waiting at any time.
async fn everything(address: &str, calls: usize) {
    let mut channels = Vec::new();
    for _ in 0..16 {
        let endpoint = Endpoint::from_shared(address.to_owned()).expect("an address");
        channels.push(endpoint.connect().await.expect("a connection"));
    }
    let mut waiting = JoinSet::new();
    for number in 0..calls {
        let mut client = EnrichmentServiceClient::new(channels[number % channels.len()].clone());
        waiting.spawn(async move {
            for round in 0_u64.. {
                let value = format!("2001:db8:{:x}:{:x}::{:x}", round & 0xffff, number / 0x1_0000, number % 0x1_0000);
                let request =
                    pb::EnrichRequest { indicator: Some(pb::Indicator { r#type: 0, value }), ..Default::default() };
                let refused = client.enrich(authorized("token", request)).await.err();
                // As a client does that is told when to come back.
                let pause = refused.and_then(|status| status.get_error_details().retry_info()?.retry_delay);
                tokio::time::sleep(pause.unwrap_or_default()).await;
            }
        });
    }
    waiting.join_all().await;
}

pub fn framed(message: &impl Message) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).expect("a small message"));
    message.encode(&mut frame).expect("it has room");
    frame.to_vec()
}

/// A client of HTTP/2 that reads nothing by itself.
struct RawClient {
    send: SendRequest<Bytes>,
    ended: tokio::task::JoinHandle<()>,
}

impl RawClient {
    async fn connect(address: &str, window: u32) -> Result<Self, h2::Error> {
        let stream = TcpStream::connect(address).await.map_err(|error| h2::Error::from(io_reason(error)))?;
        let (send, connection) = h2::client::Builder::new().initial_window_size(window).handshake(stream).await?;
        let ended = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { send, ended })
    }

    async fn send(
        &self,
        path: &str,
        token: Option<&str>,
        body: Bytes,
        ends: bool,
    ) -> Result<(ResponseFuture, h2::SendStream<Bytes>), h2::Error> {
        let request = http::Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let request = match token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        let mut send = self.send.clone().ready().await?;
        let (answer, mut sent) = send.send_request(request.body(()).expect("a request"), false)?;
        if !body.is_empty() || ends {
            sent.send_data(body, ends)?;
        }
        Ok((answer, sent))
    }
}

fn io_reason(_: std::io::Error) -> h2::Reason {
    h2::Reason::CONNECT_ERROR
}

/// Somebody who calls on schedule and measures, on a thread of its own.
pub struct Bystander {
    measured: std::sync::Mutex<std::sync::mpsc::Receiver<Measured>>,
    stop: Arc<AtomicBool>,
}

/// How long a call of this sort took and when it ended, or why it failed.
type Measured = Result<(Duration, usize, Instant), String>;

/// What a bystander felt.
pub struct Felt {
    pub times: Vec<(Duration, usize)>,
    /// When the last call ended that took more than 50 ms, from the beginning on, and how many there were.
    pub slow: (usize, Duration),
    pub failures: Vec<String>,
}

impl Bystander {
    /// Calls health (over a new connection each time), metrics and a source list (over one that stays), and enriches.
    pub fn start(address: &str) -> Self {
        let (sender, measured) = std::sync::mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (address, stopped) = (address.to_owned(), stop.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let endpoint = Endpoint::from_shared(address.clone()).expect("an address");
                let channel = endpoint.connect_lazy();
                let web = reqwest::Client::builder().no_proxy().build().expect("a client");
                let mut calls = JoinSet::new();
                let mut schedule = tokio::time::interval(EVERY);
                for number in 0_u64.. {
                    let due = schedule.tick().await.into_std();
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let (endpoint, channel, web, address) =
                        (endpoint.clone(), channel.clone(), web.clone(), address.clone());
                    let sender = sender.clone();
                    calls.spawn(async move {
                        let call = async {
                            match number % 4 {
                                0 => {
                                    let channel =
                                        endpoint.connect().await.map_err(|error| format!("connect {error:?}"))?;
                                    let check = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
                                    check.map(drop).map_err(|error| format!("health {error}"))
                                }
                                1 => {
                                    let metrics = web.get(format!("{address}/metrics")).bearer_auth("other").send();
                                    let text = metrics.await.and_then(reqwest::Response::error_for_status);
                                    text.map(drop).map_err(|error| format!("metrics {error}"))
                                }
                                2 => {
                                    let request = authorized("other", pb::ListSourcesRequest::default());
                                    let list = SourceServiceClient::new(channel).list_sources(request).await;
                                    list.map(drop).map_err(|error| format!("list {error}"))
                                }
                                _ => {
                                    let value = "192.0.2.1".to_owned();
                                    let request = pb::EnrichRequest {
                                        indicator: Some(pb::Indicator { r#type: 0, value }),
                                        ..Default::default()
                                    };
                                    let mut request = authorized("other", request);
                                    request.set_timeout(Duration::from_secs(2));
                                    let enriched = EnrichmentServiceClient::new(channel).enrich(request).await;
                                    enriched.map(drop).map_err(|error| format!("enrich {error}"))
                                }
                            }
                        };
                        let result = tokio::time::timeout(Duration::from_secs(10), call).await;
                        let result = result.unwrap_or_else(|_| Err(format!("nothing in 10 s of {}", number % 4)));
                        let _ = sender.send(result.map(|()| (due.elapsed(), number as usize % 4, Instant::now())));
                    });
                    while calls.try_join_next().is_some() {}
                }
            });
        });
        Self { measured: std::sync::Mutex::new(measured), stop }
    }

    /// What is felt from now on for so long. Calls count when they end.
    pub async fn take(&self, length: Duration) -> Felt {
        let measured = || self.measured.lock().expect("one reader").try_iter().collect::<Vec<_>>();
        drop(measured());
        let begun = Instant::now();
        tokio::time::sleep(length.saturating_sub(begun.elapsed())).await;
        let mut felt = Felt { times: Vec::new(), slow: Default::default(), failures: Vec::new() };
        for result in measured() {
            match result {
                Ok((time, kind, ended)) => {
                    felt.times.push((time, kind));
                    if time > Duration::from_millis(50) {
                        felt.slow = (felt.slow.0 + 1, ended.saturating_duration_since(begun));
                    }
                }
                Err(why) => felt.failures.push(why),
            }
        }
        felt.times.sort_unstable();
        felt
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// In milliseconds; the times are in order.
fn percentile(times: Vec<Duration>, share: usize) -> f64 {
    let place = (times.len() * share / 100).min(times.len().saturating_sub(1));
    times.get(place).copied().unwrap_or_default().as_secs_f64() * 1000.0
}

impl fmt::Display for Felt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |share: usize| percentile(self.times.iter().map(|(time, _)| *time).collect(), share);
        let of =
            |kind: usize| percentile(self.times.iter().filter(|time| time.1 == kind).map(|time| time.0).collect(), 99);
        let (count, failed) = (self.times.len(), self.failures.len());
        write!(
            f,
            "{count} answered, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms, {} above 50 ms, the last after {:.1} s, {failed} failed",
            at(50),
            at(99),
            at(100),
            self.slow.0,
            self.slow.1.as_secs_f64()
        )?;
        write!(f, " (p99: health {:.1}, metrics {:.1}, list {:.1}, enrich {:.1})", of(0), of(1), of(2), of(3))?;
        let first = self.failures.first().map(|why| format!(" ({})", why.chars().take(120).collect::<String>()));
        f.write_str(&first.unwrap_or_default())
    }
}

/// A few of everything, for the mixed load.
pub async fn background_attacks(address: &str) {
    let address = address.trim_start_matches("http://");
    let list = framed(&pb::ListSourceKindsRequest {});
    let path = "/concord.v1.SourceService/ListSourceKinds";
    tokio::join!(idle_connections(address, 200), hold(address, 0, 2, 20, path, Some("token"), &list, true));
}
