//! How long a file of 100 MiB takes from the caller over the spool to a source on loopback, and how much memory the server
//! takes for it beyond what it had before. Fails if that is more than it may.

#![expect(clippy::disallowed_methods, reason = "a caller lives in real time")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use concord::pb;
use concord::pb::submission_service_client::SubmissionServiceClient;
use concord::pb::submit_file_request::Part;
use futures_util::StreamExt;
use tokio::net::TcpListener;
use tonic::Request;
use tonic::transport::Channel;

const FILE_BYTES: usize = 100 << 20;
const PIECE: usize = 256 << 10;
const MAX_GROWTH: u64 = 32 << 20;

/// Takes an upload without keeping it, and knows nothing.
async fn receive(address: SocketAddr, method: Method, uri: Uri, body: Body) -> Response {
    if method == Method::POST {
        let mut pieces = body.into_data_stream();
        while let Some(Ok(_)) = pieces.next().await {}
        return (StatusCode::OK, r#"{"data":{"id":"an-1"}}"#).into_response();
    }
    if uri.path().ends_with("/upload_url") {
        return (StatusCode::OK, format!(r#"{{"data":"http://{address}/upload"}}"#)).into_response();
    }
    (StatusCode::NOT_FOUND, r#"{"error":{"code":"NotFoundError"}}"#).into_response()
}

/// A process that ends with the bench.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// A line of what the system says of the process, in bytes.
    fn status(&self, line: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let value =
            text.lines().find_map(|text| text.strip_prefix(line)?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        value.unwrap_or_default() * 1024
    }
}

/// Bytes that no program packs and no pattern matches.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..PIECE).map(|_| next()).collect()
}

fn authorized<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", "Bearer token".parse().expect("a header"));
    request
}

/// Submits a file of so many bytes, and tells after which time it was taken and after which it was sent.
async fn send(client: &mut SubmissionServiceClient<Channel>, bytes: usize) -> (Duration, Duration) {
    let begun = Instant::now();
    let header = pb::SubmittedFileHeader {
        source: "sources/virustotal".into(),
        file_name: "noise.bin".into(),
        tlp: pb::Tlp::Clear.into(),
        ..Default::default()
    };
    let pieces = (0..bytes / PIECE).map(move |number| Part::Content(noise((bytes + number) as u64)));
    let parts = std::iter::once(Part::Header(header)).chain(pieces);
    let parts = tokio_stream::iter(parts.map(|part| pb::SubmitFileRequest { part: Some(part) }));
    let submission = client.submit_file(authorized(parts)).await.expect("taken").into_inner().submission;
    let taken = begun.elapsed();
    let watch = pb::WatchSubmissionRequest { name: submission.expect("a submission").name };
    let mut states = client.watch_submission(authorized(watch)).await.expect("watched").into_inner();
    while let Some(message) = states.message().await.expect("a state") {
        let submission = message.submission.expect("a submission");
        assert!(submission.hold_reasons.is_empty(), "{submission:?}");
        if submission.state() == pb::SubmissionState::Analysing {
            break;
        }
    }
    (taken, begun.elapsed())
}

#[tokio::main]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let receiver = listener.local_addr().expect("an address");
    let router = Router::new().fallback(move |method, uri, body| receive(receiver, method, uri, body));
    let receiving = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("concord.toml");
    let token = "3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0";
    let text = format!(
        "log.filter = \"warn,concord::server=info\"\ntokens.soar = \"{token}\"\nsubmissions.submitters = [\"soar\"]\n\
         submissions.sources.virustotal.enabled = true\n[sources.virustotal]\nkind = \"virustotal\"\ncredential = \"k\"\n\
         base_url = \"http://{receiver}\"\nquota = {{ minute = 1000 }}\n"
    );
    std::fs::write(&file, text).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_concord"));
    command.arg("--config").arg(&file).arg("--data-directory").arg(folder.path().join("data"));
    let child = command.args(["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut server = Server(child.expect("starts"));
    let mut log = BufReader::new(server.0.stderr.take().expect("its log")).lines();
    let line = log.by_ref().map_while(Result::ok).find(|line| line.contains("\"listening\"")).expect("it listens");
    // Reads on, or the server would wait for its log to be read.
    std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
    let line: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
    let address = format!("http://{}", line["address"].as_str().expect("an address"));

    let mut client = SubmissionServiceClient::connect(address).await.expect("a channel");
    // What the first submission takes, whatever its size, is not counted: code that is read, threads that start.
    send(&mut client, PIECE).await;
    let before = server.status("VmRSS:");
    let (taken, sent) = send(&mut client, FILE_BYTES).await;
    let growth = server.status("VmHWM:").saturating_sub(before);
    println!("taken after {} ms, sent after {} ms", taken.as_millis(), sent.as_millis());
    println!("memory: {} MiB before, at most {} MiB more", before >> 20, growth >> 20);
    assert!(growth < MAX_GROWTH, "more than {} MiB", MAX_GROWTH >> 20);
    receiving.abort();
}
