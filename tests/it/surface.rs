//! What one port serves: health, reflection, metrics, gRPC-Web, a page for people, and who may call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use concord::pb;
use prost::Message;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::harness::{DEADLINE, Replay, TestServer, indicator, malicious_virustotal, virustotal_at, with_deadline};

/// SHA-256 of `token`.
const TOKEN_HASH: &str = "3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0";

async fn guarded() -> TestServer {
    TestServer::listen(&format!("cors_origins = [\"https://soc.example.com\"]\n[tokens]\nsoar = \"{TOKEN_HASH}\"\n"))
        .await
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[tokio::test]
async fn health_is_open_and_all_else_wants_the_token() {
    let server = guarded().await;
    let mut health = HealthClient::new(server.channel.clone());
    let request = HealthCheckRequest { service: "concord.v1.EnrichmentService".into() };
    assert_eq!(health.check(request).await.unwrap().into_inner().status, 1);
    let refused = server.sources().list_sources(pb::ListSourcesRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(http().get(format!("http://{}/metrics", server.address())).send().await.unwrap().status(), 401);
    let mut request = tonic::Request::new(pb::ListSourcesRequest::default());
    request.metadata_mut().insert("authorization", "Bearer token".parse().unwrap());
    server.sources().list_sources(request).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn without_tokens_an_unknown_host_name_is_refused_and_a_listed_one_is_not() {
    let server = TestServer::listen("host_names = [\"concord.example.com\"]\n").await;
    let called = async |name: &str| {
        let origin = format!("http://{name}").parse().unwrap();
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address())).unwrap();
        let channel = endpoint.origin(origin).connect_lazy();
        let mut sources = pb::source_service_client::SourceServiceClient::new(channel.clone());
        let health = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
        assert!(health.is_ok(), "{health:?}");
        sources.list_sources(pb::ListSourcesRequest::default()).await
    };
    let refused = called("rebound.example.net").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("host_names"), "{refused}");
    called("concord.example.com").await.unwrap();
    let page = http().get(format!("http://{}/metrics", server.address())).header("host", "rebound.example.net");
    assert!(!page.send().await.unwrap().text().await.unwrap().contains("concord_"));
    server.stop().await;
}

#[tokio::test]
async fn a_path_that_is_no_method_makes_no_label() {
    let server = TestServer::listen("").await;
    let text =
        async |path: &str| http().get(format!("http://{}{path}", server.address())).send().await.unwrap().text().await;
    server.sources().list_sources(pb::ListSourcesRequest::default()).await.unwrap();
    for path in ["/concord.v1.EnrichmentService/made-up/Enrich", "/concord.v1.MadeUp/Enrich", "/made-up"] {
        let _ = http().post(format!("http://{}{path}", server.address())).send().await.unwrap();
    }
    let metrics = text("/metrics").await.unwrap();
    assert!(
        metrics.contains("method=\"SourceService/ListSources\"") && metrics.contains("method=\"other\""),
        "{metrics}"
    );
    assert!(!metrics.to_lowercase().contains("made"), "{metrics}");
    server.stop().await;
}

#[tokio::test]
async fn names_that_are_only_tested_make_no_metrics() {
    let virustotal = malicious_virustotal().await;
    let configuration = virustotal_at(virustotal.address);
    let server = TestServer::listen(&format!("allowed_networks = [\"127.0.0.0/8\"]\n{configuration}")).await;
    let test = async |request: pb::TestSourceRequest| server.sources().test_source(request).await.unwrap();
    let made_up = pb::Source {
        name: "sources/never-saved".into(),
        kind: "virustotal".into(),
        credential: "k".into(),
        base_url: format!("http://{}", virustotal.address),
        ..Default::default()
    };
    test(pb::TestSourceRequest { source: Some(made_up), ..Default::default() }).await;
    test(pb::TestSourceRequest { name: "sources/virustotal".into(), ..Default::default() }).await;
    let metrics =
        http().get(format!("http://{}/metrics", server.address())).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("concord_source_calls_total{source=\"virustotal\""), "{metrics}");
    assert!(!metrics.contains("never-saved"), "{metrics}");
    server.stop().await;
}

#[tokio::test]
async fn beyond_the_limit_calls_are_refused_for_now_and_metrics_and_health_still_answer() {
    let server = TestServer::listen("limits.max_in_flight = 1\n").await;
    let list = async || server.sources().list_sources(pb::ListSourcesRequest::default()).await;
    // A call whose body has not come yet. That the server asks for the body says that the call is under way.
    let mut unfinished = TcpStream::connect(server.address()).await.unwrap();
    let head = "POST /concord.v1.SourceService/ListSources HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                expect: 100-continue\r\ncontent-type: application/grpc-web+proto\r\ncontent-length: 5\r\n\r\n";
    unfinished.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    unfinished.read_exact(&mut go_on).await.unwrap();
    let refused = list().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_error_details().retry_info().unwrap().retry_delay.is_some());
    let metrics = http().get(format!("http://{}/metrics", server.address())).send().await.unwrap();
    assert_eq!(metrics.status(), 200);
    assert!(metrics.text().await.unwrap().contains("concord_requests_total"));
    let mut health = HealthClient::new(server.channel.clone());
    let checked = health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
    assert_eq!(checked.into_inner().status, 1);
    unfinished.write_all(&framed(&pb::ListSourcesRequest::default())).await.unwrap();
    unfinished.read_to_end(&mut Vec::new()).await.unwrap();
    list().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_watch_of_the_health_reports_the_shutdown_and_does_not_delay_it() {
    let server = TestServer::start("").await;
    let mut health = HealthClient::new(server.channel.clone());
    let mut watch = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
    // Would wait for ever where the watch is waited for, since the clock does not move.
    server.stop().await;
    assert_eq!(watch.message().await.unwrap().unwrap().status, 2);
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn the_health_of_a_source_says_whether_it_can_be_asked_and_never_is_that_of_the_server() {
    let is_right = Arc::new(AtomicBool::new(false));
    let right = is_right.clone();
    let virustotal = Replay::start(Box::new(move |_| match right.load(Ordering::Relaxed) {
        true => (200, json!({"data": {}})),
        false => (401, json!({"error": {"code": "WrongCredentialsError"}})),
    }));
    let virustotal = virustotal.await;
    let off = "[sources.off]\nkind = \"urlhaus\"\ncredential = \"x\"\nenabled = false\n";
    let server = TestServer::start(&(virustotal_at(virustotal.address) + off)).await;
    let client = HealthClient::new(server.channel.clone());
    let check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        client.clone().check(request).await.map(|checked| checked.into_inner().status).map_err(|status| status.code())
    };
    assert_eq!((check("sources/off").await, check("sources/nobody").await), (Ok(2), Err(Code::NotFound)));
    let request = HealthCheckRequest { service: "sources/virustotal".to_owned() };
    let mut watch = client.clone().watch(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
    server.enrich("198.51.100.7").await;
    assert_eq!(watch.message().await.unwrap().unwrap().status, 2, "its credential was refused");
    assert_eq!((check("sources/virustotal").await, check("").await), (Ok(2), Ok(1)));
    is_right.store(true, Ordering::Relaxed);
    let test = pb::TestSourceRequest { name: "sources/virustotal".into(), ..Default::default() };
    server.sources().test_source(test).await.unwrap();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1, "a test lifts it");
    let source = pb::Source { name: "sources/virustotal".into(), enabled: Some(false), ..Default::default() };
    let change = pb::ConfigureSourceRequest { source: Some(source), ..Default::default() };
    server.sources().configure_source(change).await.unwrap();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 2, "it is switched off");
    server.stop().await;
}

#[tokio::test]
async fn loading_a_list_does_not_delay_a_shutdown() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/list", silent.local_addr().unwrap());
    let server =
        TestServer::start(&format!("[sources.feed]\nkind = \"list\"\ntimeout = \"30s\"\noptions.url = \"{url}\"\n"))
            .await;
    let request = pb::EnrichRequest { indicator: Some(indicator("192.0.2.1")), ..Default::default() };
    let mut client = server.enrichment();
    let begun = async {
        let connection = silent.accept().await.unwrap();
        server.clock.advance(DEADLINE);
        connection
    };
    let (answer, _connection) = tokio::join!(client.enrich(with_deadline(request)), begun);
    answer.unwrap();
    // Would wait for ever where the list is waited for, since the clock does not move any more.
    server.stop().await;
}

#[tokio::test]
async fn both_versions_of_reflection_name_the_services() {
    use tonic_reflection::pb::v1::ServerReflectionRequest as V1;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient as ClientV1;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest as MessageV1;
    use tonic_reflection::pb::v1alpha::ServerReflectionRequest as Alpha;
    use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient as ClientAlpha;
    use tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest as MessageAlpha;
    let server = TestServer::start("").await;
    let ask = V1 { host: String::new(), message_request: Some(MessageV1::ListServices(String::new())) };
    let mut client = ClientV1::new(server.channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let text = format!("{:?}", answers.message().await.unwrap());
    let ask = Alpha { host: String::new(), message_request: Some(MessageAlpha::ListServices(String::new())) };
    let mut client = ClientAlpha::new(server.channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let alpha = format!("{:?}", answers.message().await.unwrap());
    for service in
        ["EnrichmentService", "HistoryService", "PolicyService", "SourceService", "SubmissionService", "VerdictService"]
    {
        let service = &format!("concord.v1.{service}");
        assert!(text.contains(service) && alpha.contains(service), "{service}");
    }
    server.stop().await;
}

#[tokio::test]
async fn reflection_knows_the_details_of_errors() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let server = TestServer::start("").await;
    let ask = async |request: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let mut client = ServerReflectionClient::new(server.channel.clone());
        let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        match answers.message().await.unwrap().unwrap().message_response {
            Some(MessageResponse::FileDescriptorResponse(file)) => file.file_descriptor_proto,
            other => panic!("{other:?}"),
        }
    };
    let mut pool = prost_reflect::DescriptorPool::new();
    // As a client resolves a name: the file that holds it, and first the files that this one imports.
    for name in ["google.rpc.BadRequest", "google.rpc.ErrorInfo", "google.rpc.Status"] {
        let mut wanted = ask(MessageRequest::FileContainingSymbol(name.into())).await;
        while let Some(file) = wanted.pop() {
            let read = prost_types::FileDescriptorProto::decode(file.as_slice()).unwrap();
            let missing = read.dependency.iter().find(|import| pool.get_file_by_name(import).is_none());
            match missing {
                Some(import) => {
                    wanted.push(file);
                    wanted.extend(ask(MessageRequest::FileByFilename(import.clone())).await);
                }
                None => pool.add_file_descriptor_proto(read).unwrap(),
            }
        }
        assert!(pool.get_message_by_name(name).is_some(), "{name}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_browser_or_curl_is_shown_what_this_port_is_over_http_1_and_http_2() {
    let server = guarded().await;
    let http2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for client in [http(), http2] {
        let page = client.get(format!("http://{}/", server.address())).send().await.unwrap();
        assert_eq!(page.status(), 200);
        assert_eq!(page.headers()["content-type"], "text/plain; charset=utf-8");
        let text = page.text().await.unwrap();
        let call = format!("concord enrich 192.0.2.1 --server http://{}\n", server.address());
        assert!(text.contains("gRPC") && text.contains("buf curl") && text.contains(&call), "{text}");

        let elsewhere = client.get(format!("http://{}/login", server.address())).header("accept", "text/html,*/*");
        let elsewhere = elsewhere.send().await.unwrap();
        assert_eq!(elsewhere.status(), 404);
        assert_eq!(elsewhere.headers()["content-type"], "text/html; charset=utf-8");
        assert!(elsewhere.text().await.unwrap().contains("<pre>\nConcord"));

        let method = format!("http://{}/concord.v1.EnrichmentService/Enrich", server.address());
        let json = client.post(method).header("content-type", "application/json").body("{}").send().await.unwrap();
        assert_eq!(json.status(), 415, "a call that is not gRPC");
        assert!(json.text().await.unwrap().contains("buf curl"));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_host_that_could_be_markup_is_not_repeated() {
    let server = TestServer::listen("").await;
    let page =
        http().get(format!("http://{}/", server.address())).header("host", "a'onload='x").header("accept", "text/html");
    let text = page.send().await.unwrap().text().await.unwrap();
    assert!(text.contains("http://HOST:PORT") && !text.contains("onload"), "{text}");
    server.stop().await;
}

/// A message in the frame of gRPC.
pub fn framed(message: &impl prost::Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    frame.extend(bytes);
    frame
}

#[tokio::test]
async fn a_browser_calls_by_grpc_web_over_http_1() {
    let server = guarded().await;
    let call = http()
        .post(format!("http://{}/concord.v1.SourceService/ListSourceKinds", server.address()))
        .header("content-type", "application/grpc-web+proto")
        .header("x-grpc-web", "1")
        .header("origin", "https://soc.example.com")
        .bearer_auth("token")
        .body(framed(&pb::ListSourceKindsRequest {}));
    let answer = call.send().await.unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_11);
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://soc.example.com");
    let body = answer.bytes().await.unwrap();
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains("virustotal") && text.contains("grpc-status:0"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn a_preflight_of_a_listed_origin_succeeds_without_a_token_and_no_other_does() {
    let server = guarded().await;
    let preflight = async |origin: &str| {
        let url = format!("http://{}/concord.v1.SourceService/ListSources", server.address());
        let call = http()
            .request(reqwest::Method::OPTIONS, url)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type,x-grpc-web,grpc-timeout");
        call.send().await.unwrap()
    };
    let answer = preflight("https://soc.example.com").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://soc.example.com");
    let allowed = answer.headers()["access-control-allow-headers"].to_str().unwrap().to_owned();
    for name in ["authorization", "content-type", "x-grpc-web", "grpc-timeout"] {
        assert!(allowed.contains(name), "{name} is not in {allowed}");
    }
    let other = preflight("https://evil.example.com").await;
    assert!(other.headers().get("access-control-allow-origin").is_none());
    server.stop().await;
}

#[tokio::test]
async fn the_socket_needs_no_token_and_its_caller_is_local() {
    use std::os::unix::fs::PermissionsExt;
    let server = guarded().await;
    let socket = concord::store::DataDirectory::lock_status(&server.folder.path().join("data")).unwrap().socket_path();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
    });
    let channel =
        tonic::transport::Endpoint::from_static("http://local").connect_with_connector(connector).await.unwrap();
    let mut client = pb::source_service_client::SourceServiceClient::new(channel);
    client.list_sources(pb::ListSourcesRequest::default()).await.unwrap();
    server.stop().await;
}
