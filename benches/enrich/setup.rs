//! What is asked and answered: eight sources on loopback, some of which know the indicator.

use std::path::PathBuf;

use aws_lc_rs::digest;
use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use concord::pb;
use concord::pb::enrichment_service_client::EnrichmentServiceClient;
use prost::Message;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::Request;

use super::process::Process;

/// The one token that callers need.
pub const TOKEN: &str = "a-token-of-the-bench";
/// Indicators of a batch.
pub const BATCH: usize = 100;

pub struct Setup {
    pub folder: TempDir,
    pub config: PathBuf,
    /// The requests as they go over the wire.
    pub unary: PathBuf,
    pub batch: PathBuf,
    /// A cached answer, encoded.
    pub answer: Vec<u8>,
    pub answer_file: PathBuf,
    pub verdict_bytes: usize,
}

impl Setup {
    /// Starts the upstream, and has Concord make the answer that the echo sends.
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().fallback(async |uri: Uri| answer(uri.path()));
        tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("a file");
            path
        };
        let sources = (0..8).map(|number| {
            format!(
                "[sources.vt-{number}]\nkind = \"virustotal\"\ncredential = \"key-{number}\"\n\
                 base_url = \"http://{address}/{number}\"\nquota = {{ minute = 1000000 }}\n"
            )
        });
        let hash = digest::digest(&digest::SHA256, TOKEN.as_bytes());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!(
            "log.filter = \"warn,concord::server=info\"\ntokens.bench = \"{hash}\"\n{}",
            sources.collect::<String>()
        );
        let indicators = (0..BATCH).map(indicator).collect();
        let mut setup = Self {
            config: file("concord.toml", text.as_bytes()),
            unary: file("unary", &framed(&question())),
            batch: file("batch", &framed(&pb::BatchEnrichRequest { indicators, ..Default::default() })),
            answer_file: file("answer", &[]),
            answer: Vec::new(),
            verdict_bytes: 0,
            folder,
        };
        let concord = Process::concord(&setup, None);
        let answer = setup.warm(&concord).await;
        setup.verdict_bytes = answer.verdict.len();
        setup.answer = answer.encode_to_vec();
        std::fs::write(&setup.answer_file, &setup.answer).expect("a file");
        setup
    }

    /// Has everything cached that is asked, and returns a cached answer.
    pub async fn warm(&self, server: &Process) -> pb::EnrichResponse {
        let endpoint =
            tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
        let mut client = EnrichmentServiceClient::new(endpoint.connect().await.expect("a connection"));
        client.enrich(authorized(question())).await.expect("an answer");
        let answer = client.enrich(authorized(question())).await.expect("an answer").into_inner();
        assert!(is_cached(&answer), "the verdict is cached");
        for must_be_cached in [false, true] {
            let indicators = (0..BATCH).map(indicator).collect();
            let request = authorized(pb::BatchEnrichRequest { indicators, ..Default::default() });
            let mut answers = client.batch_enrich(request).await.expect("a stream").into_inner();
            let mut cached = 0;
            while let Some(answer) = answers.message().await.expect("an answer") {
                use pb::batch_enrich_response::Result as Wire;
                let Some(Wire::Answer(answer)) = answer.result else { panic!("no answer: {answer:?}") };
                cached += usize::from(is_cached(&answer));
            }
            assert!(!must_be_cached || cached == BATCH, "{cached} verdicts are cached");
        }
        answer
    }
}

fn is_cached(answer: &pb::EnrichResponse) -> bool {
    answer.decode_receipt().expect("a receipt").verdict_from_cache
}

fn indicator(number: usize) -> pb::Indicator {
    pb::Indicator { r#type: 0, value: format!("93.184.{}.{}", 200 + number / 250, 1 + number % 250) }
}

fn question() -> pb::EnrichRequest {
    pb::EnrichRequest { indicator: Some(indicator(0)), ..Default::default() }
}

fn authorized<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().expect("a token"));
    request
}

fn framed(message: &impl Message) -> Vec<u8> {
    let length = u32::try_from(message.encoded_len()).expect("a small message").to_be_bytes();
    [&[0], length.as_slice(), &message.encode_to_vec()].concat()
}

/// What the sources say: two of eight know the indicator.
fn answer(path: &str) -> Response {
    if !path.starts_with("/0/") && !path.starts_with("/1/") {
        let body = r#"{"error":{"code":"NotFoundError","message":"none"}}"#;
        return (StatusCode::NOT_FOUND, body).into_response();
    }
    let value = path.rsplit('/').next().unwrap_or_default();
    let report = serde_json::json!({
        "data": {
            "id": value,
            "type": "ip_address",
            "attributes": {
                "last_analysis_stats": { "malicious": 9, "suspicious": 1, "harmless": 50, "undetected": 30, "timeout": 0 },
                "last_analysis_results": {},
                "reputation": -12,
                "last_analysis_date": 1_790_000_000,
            }
        }
    });
    report.to_string().into_response()
}
