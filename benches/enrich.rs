//! A cached `Enrich` over loopback against a bare tonic echo of the same message, in one run.

use std::sync::Arc;
use std::time::Duration;

use concord::clock::SystemClock;
use concord::pb;
use concord::pb::enrichment_service_client::EnrichmentServiceClient;
use concord::pb::enrichment_service_server::{EnrichmentService, EnrichmentServiceServer};
use concord::server::{Listen, Running};
use concord::settings::{Environment, Flags, LoadInput, load};
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Sends the same answer to every question.
struct Echo(pb::EnrichResponse);

type Nothing<T> = tokio_stream::Empty<Result<T, Status>>;

#[tonic::async_trait]
impl EnrichmentService for Echo {
    async fn enrich(&self, _: Request<pb::EnrichRequest>) -> Result<Response<pb::EnrichResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }

    type StreamEnrichStream = Nothing<pb::StreamEnrichResponse>;

    async fn stream_enrich(
        &self,
        _: Request<pb::StreamEnrichRequest>,
    ) -> Result<Response<Self::StreamEnrichStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }

    type BatchEnrichStream = Nothing<pb::BatchEnrichResponse>;

    async fn batch_enrich(
        &self,
        _: Request<pb::BatchEnrichRequest>,
    ) -> Result<Response<Self::BatchEnrichStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }

    async fn plan_enrichment(
        &self,
        _: Request<pb::PlanEnrichmentRequest>,
    ) -> Result<Response<pb::PlanEnrichmentResponse>, Status> {
        Ok(Response::new(pb::PlanEnrichmentResponse::default()))
    }
}

fn question() -> pb::EnrichRequest {
    let indicator = Some(pb::Indicator { r#type: 0, value: "10.0.0.1".into() });
    pb::EnrichRequest { indicator, ..Default::default() }
}

/// A server with a dozen sources; the indicator is private, so that its verdict needs nobody and is kept.
async fn concord_server(folder: &std::path::Path) -> (Running, EnrichmentServiceClient<Channel>) {
    let file = folder.join("concord.toml");
    let sources = (0..12).map(|n| format!("[sources.vt-{n}]\nkind = \"virustotal\"\ncredential = \"k{n}\"\n"));
    let text = "log.filter = \"off\"\n".to_owned() + &sources.collect::<String>();
    std::fs::write(&file, text).expect("a file");
    let flags = Flags {
        listen: Some(([127, 0, 0, 1], 0).into()),
        data_directory: Some(folder.join("data")),
        ..Flags::default()
    };
    let kinds = concord::sources::all();
    let config =
        load(LoadInput { file: Some(file), environment: Environment::new(), flags, kinds }).expect("a configuration");
    let running = Running::start(&config, kinds, Arc::new(SystemClock), Listen::Everywhere).await.expect("a server");
    let address = running.address().expect("an address");
    let client = EnrichmentServiceClient::connect(format!("http://{address}")).await.expect("a channel");
    (running, client)
}

async fn echo_server(answer: pb::EnrichResponse) -> EnrichmentServiceClient<Channel> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let service = EnrichmentServiceServer::new(Echo(answer));
    let serve = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    tokio_util::task::TaskTracker::new().spawn(serve);
    EnrichmentServiceClient::connect(format!("http://{address}")).await.expect("a channel")
}

fn enrich(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let folder = tempfile::TempDir::new().expect("a folder");
    let (running, mut concord) = runtime.block_on(concord_server(folder.path()));
    let answer = runtime.block_on(async {
        concord.enrich(question()).await.expect("an answer");
        concord.enrich(question()).await.expect("an answer").into_inner()
    });
    assert!(answer.receipt.as_ref().is_some_and(|receipt| receipt.verdict_from_cache), "the verdict is kept");
    println!("the answer has {} bytes", prost::Message::encoded_len(&answer));
    let echo = runtime.block_on(echo_server(answer));
    let mut group = criterion.benchmark_group("enrich");
    group.measurement_time(Duration::from_secs(5));
    for (name, client) in [("echo of the same message", echo), ("cached", concord)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(async { client.clone().enrich(question()).await.expect("an answer") }));
        });
    }
    group.finish();
    runtime.block_on(running.stop());
}

criterion_group!(benches, enrich);
criterion_main!(benches);
