//! No client locks others out: not by connections without a credential, by answers that it does not read, by idle
//! streams, nor by many requests in flight.

use std::time::Duration;

use concord::pb;
use concord::pb::source_service_client::SourceServiceClient;
use h2::client::SendRequest;
use prost::bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::harness::{Replay, TestServer, indicator, malicious_virustotal, report, virustotal_at};
use crate::surface::framed;

/// SHA-256 of `token` and of `other`.
const TOKENS: &str = "[tokens]\nsoar = \"3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0\"\n\
                      intake = \"d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa\"\n";

/// The start of an HTTP/2 connection: the preface and an empty SETTINGS frame, without any request.
const SILENT_HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// An HTTP/2 client with a fixed flow-control window that is never enlarged.
struct RawClient {
    send: SendRequest<Bytes>,
    /// Ends when the connection does.
    connection: AbortOnDropHandle<()>,
}

impl RawClient {
    async fn connect(server: &TestServer, window: u32) -> Self {
        let stream = TcpStream::connect(server.address()).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        let (send, connection) = builder.handshake(stream).await.unwrap();
        let ended = async {
            // Errors of the connection show up in its calls.
            let _ = connection.await;
        };
        let connection = AbortOnDropHandle::new(TaskTracker::new().spawn(ended));
        Self { send, connection }
    }

    /// Sends a request and returns the response without reading its body.
    async fn call(
        &self,
        path: &str,
        token: Option<&str>,
        message: &impl prost::Message,
    ) -> http::Response<h2::RecvStream> {
        let mut request = http::Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut send = self.send.clone().ready().await.unwrap();
        let (answer, mut body) = send.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(framed(message).into(), true).unwrap();
        answer.await.unwrap()
    }
}

const LIST_KINDS: &str = "/concord.v1.SourceService/ListSourceKinds";
const BATCH: &str = "/concord.v1.EnrichmentService/BatchEnrich";

async fn channel(server: &TestServer) -> Channel {
    Endpoint::from_shared(format!("http://{}", server.address())).unwrap().connect().await.unwrap()
}

fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

async fn list_sources(channel: Channel) -> Result<(), tonic::Status> {
    SourceServiceClient::new(channel).list_sources(pb::ListSourcesRequest::default()).await.map(drop)
}

async fn check_health(channel: Channel) -> Result<(), tonic::Status> {
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.map(drop)
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_aborted_and_frees_its_slot() {
    let virustotal = malicious_virustotal().await;
    let configuration =
        format!("limits.max_in_flight = 1\nlimits.send_timeout = \"200ms\"\n{}", virustotal_at(virustotal.address));
    let server = TestServer::listen(&configuration).await;
    let indicators = (1..100).map(|last| indicator(&format!("198.51.100.{last}"))).collect();
    let batch = pb::BatchEnrichRequest { indicators, ..Default::default() };
    // A closed window, and one that lets only the start of the answer through.
    for window in [0, 1000] {
        for is_batch in [false, true] {
            let reader = RawClient::connect(&server, window).await;
            let answer = match is_batch {
                true => reader.call(BATCH, None, &batch).await,
                false => reader.call(LIST_KINDS, None, &pb::ListSourceKindsRequest {}).await,
            };
            assert_eq!(answer.status(), 200);
            let other = channel(&server).await;
            if window == 0 {
                let refused = list_sources(other.clone()).await.unwrap_err();
                assert_eq!(refused.code(), Code::ResourceExhausted, "the slot is occupied");
            }
            reader.connection.await.unwrap();
            list_sources(other).await.unwrap();
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn other_calls_of_a_connection_are_answered_before_it_is_closed_for_an_unread_one() {
    let slow = Replay::held(Box::new(|_| (200, report(60, 0)))).await;
    let server = TestServer::listen(&format!("limits.send_timeout = \"100ms\"\n{}", virustotal_at(slow.address))).await;
    let (reader, other) = (RawClient::connect(&server, 0).await, RawClient::connect(&server, 0).await);
    let request = pb::EnrichRequest { indicator: Some(indicator("198.51.100.7")), ..Default::default() };
    let in_flight = reader.call("/concord.v1.EnrichmentService/Enrich", None, &request);
    let unread = async {
        slow.called(1).await;
        let _first = reader.call(LIST_KINDS, None, &pb::ListSourceKindsRequest {}).await;
        let _second = other.call(LIST_KINDS, None, &pb::ListSourceKindsRequest {}).await;
        // The answer that was sent later is aborted by now, so the earlier one is too.
        other.connection.await.unwrap();
        slow.release();
    };
    let (answer, ()) = tokio::join!(in_flight, unread);
    assert_eq!(answer.status(), 200);
    reader.connection.await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn idle_reflection_streams_and_health_watches_occupy_no_slot() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    let server = TestServer::listen("limits.max_in_flight = 1\n").await;
    let mut reflection = ServerReflectionClient::new(server.channel.clone());
    let silent = tokio_stream::pending::<ServerReflectionRequest>();
    let _reflection = reflection.server_reflection_info(silent).await.unwrap();
    let mut health = HealthClient::new(server.channel.clone());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    list_sources(server.channel.clone()).await.unwrap();
    // None of them keeps the server from ending: its clock does not move, so that the time to drain would never be over.
    server.stop().await;
}

#[tokio::test]
async fn a_health_watch_beyond_the_limit_is_refused_until_another_ends() {
    // One address may have a quarter of them.
    let server = TestServer::listen("limits.max_health_watches = 8\n").await;
    let watch = async || HealthClient::new(server.channel.clone()).watch(HealthCheckRequest::default()).await;
    let mut first = watch().await.unwrap().into_inner();
    let _second = watch().await.unwrap();
    let refused = watch().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_error_details().retry_info().is_some());
    check_health(server.channel.clone()).await.unwrap();
    first.message().await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn only_a_connection_without_a_credential_is_closed_after_the_timeout() {
    let server = TestServer::listen(&format!("limits.credential_timeout = \"200ms\"\n{TOKENS}")).await;
    let authenticated = RawClient::connect(&server, 65_535).await;
    authenticated.call(LIST_KINDS, Some("token"), &pb::ListSourceKindsRequest {}).await;
    for first_bytes in [b"".as_slice(), b"GET / HTTP/1.1\r\nhost: localhost\r\n", SILENT_HTTP2] {
        let mut silent = TcpStream::connect(server.address()).await.unwrap();
        silent.write_all(first_bytes).await.unwrap();
        // Ends when the server closes the connection.
        let _ = silent.read_to_end(&mut Vec::new()).await;
    }
    let wrong = RawClient::connect(&server, 65_535).await;
    wrong.call(LIST_KINDS, Some("guessed"), &pb::ListSourceKindsRequest {}).await;
    wrong.connection.await.unwrap();
    let answer = authenticated.call(LIST_KINDS, Some("token"), &pb::ListSourceKindsRequest {}).await;
    assert_eq!(answer.status(), 200, "on the connection from the start of the test");
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_keeps_calling_without_a_valid_credential_is_closed() {
    let server = TestServer::listen(TOKENS).await;
    let guessing = RawClient::connect(&server, 65_535).await;
    for number in 0..=64 {
        let answer = guessing.call(LIST_KINDS, Some(&format!("guess-{number}")), &pb::ListSourceKindsRequest {}).await;
        assert_eq!(answer.headers()["grpc-status"], "16");
    }
    guessing.connection.await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn idle_connections_without_a_credential_are_evicted_for_health_and_for_callers_with_one() {
    let configuration = format!("limits.max_connections_without_credential = 4\n{TOKENS}");
    let server = TestServer::listen(&configuration).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut connection = TcpStream::connect(server.address()).await.unwrap();
        connection.write_all(SILENT_HTTP2).await.unwrap();
        silent.push(connection);
    }
    let prober = channel(&server).await;
    check_health(prober).await.unwrap();
    let caller = SourceServiceClient::new(channel(&server).await);
    caller.clone().list_sources(with_token("token", pb::ListSourcesRequest::default())).await.unwrap();
    // The first connection was evicted, possibly by a reset.
    let _ = silent[0].read_to_end(&mut Vec::new()).await;
    server.stop().await;
}

#[tokio::test]
async fn an_authenticated_connection_is_not_evicted_for_unauthenticated_ones() {
    let configuration = format!("limits.max_connections_without_credential = 2\n{TOKENS}");
    let server = TestServer::listen(&configuration).await;
    let authenticated = RawClient::connect(&server, 65_535).await;
    authenticated.call(LIST_KINDS, Some("token"), &pb::ListSourceKindsRequest {}).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.address()).await.unwrap());
    }
    check_health(channel(&server).await).await.unwrap();
    authenticated.call(LIST_KINDS, Some("token"), &pb::ListSourceKindsRequest {}).await;
    server.stop().await;
}

#[tokio::test]
async fn beyond_the_connection_limit_the_longest_idle_connection_is_closed() {
    let server = TestServer::listen(&format!("limits.max_connections = 2\n{TOKENS}")).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let client = RawClient::connect(&server, 65_535).await;
        let mut answer = client.call(LIST_KINDS, Some("token"), &pb::ListSourceKindsRequest {}).await.into_body();
        while let Some(data) = answer.data().await {
            answer.flow_control().release_capacity(data.unwrap().len()).unwrap();
        }
        clients.push(client);
    }
    clients.remove(0).connection.await.unwrap();
    for client in clients {
        client.call(LIST_KINDS, Some("token"), &pb::ListSourceKindsRequest {}).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn the_caller_with_the_most_requests_in_flight_loses_one_to_a_caller_with_fewer() {
    let slow = Replay::held(Box::new(|_| (200, report(60, 0)))).await;
    let configuration = format!("limits.max_in_flight = 4\n{TOKENS}{}", virustotal_at(slow.address));
    let server = TestServer::listen(&configuration).await;
    let enrich = async |token: &str, value: String| {
        let request = pb::EnrichRequest { indicator: Some(indicator(&value)), ..Default::default() };
        server.enrichment().enrich(with_token(token, request)).await
    };
    let heavy = futures_util::future::join_all((1..=4).map(|last| enrich("token", format!("198.51.100.{last}"))));
    let light = async {
        slow.called(4).await;
        let refused = enrich("token", "198.51.100.5".into()).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "no other caller has more");
        let list = SourceServiceClient::new(server.channel.clone());
        list.clone().list_sources(with_token("other", pb::ListSourcesRequest::default())).await.unwrap();
        slow.release();
    };
    let (heavy, ()) = tokio::join!(heavy, light);
    let shed: Vec<_> = heavy.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!(shed.len(), 1, "{shed:?}");
    assert_eq!(shed[0].code(), Code::ResourceExhausted);
    assert_eq!(shed[0].get_error_details().retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    server.stop().await;
}

#[tokio::test]
async fn large_request_bodies_occupy_slots_and_are_refused_once_none_is_free() {
    let server = TestServer::listen("limits.max_in_flight = 100\n").await;
    let client = RawClient::connect(&server, 65_535).await;
    let mut unfinished = Vec::new();
    for _ in 0..5 {
        let request = http::Request::post(format!("http://localhost{LIST_KINDS}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let mut send = client.send.clone().ready().await.unwrap();
        let (answer, mut body) = send.send_request(request.body(()).unwrap(), false).unwrap();
        let length = 4_000_000_u32;
        let mut message = vec![0];
        message.extend(length.to_be_bytes());
        message.resize(length as usize, 0);
        body.send_data(message.into(), false).unwrap();
        unfinished.push((answer, body));
    }
    let (answers, _bodies): (Vec<_>, Vec<_>) = unfinished.into_iter().unzip();
    let (refused, _, _others) = futures_util::future::select_all(answers).await;
    assert_eq!(refused.unwrap().headers()["grpc-status"], "8");
    // A caller with less in flight is still admitted.
    list_sources(channel(&server).await).await.unwrap();
    // A shutdown would wait for the unfinished bodies until their time limit.
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn the_number_of_concurrent_calls_on_one_connection_is_limited() {
    let server = TestServer::listen("limits.max_calls_per_connection = 7\n").await;
    let client = RawClient::connect(&server, 65_535).await;
    client.call(LIST_KINDS, None, &pb::ListSourceKindsRequest {}).await;
    assert_eq!(client.send.current_max_send_streams(), 7);
    server.stop().await;
}
