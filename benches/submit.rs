//! How long a file of 100 MiB takes from the caller over the spool to a source on loopback, and how much memory the server
//! takes for it beyond what it had before: as the first call after its start, and once more. Fails if that is more than it may.

#![expect(clippy::disallowed_methods, reason = "a caller lives in real time")]

use std::fmt;
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
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

#[path = "shared/listening.rs"]
mod listening;

const FILE_BYTES: usize = 100 << 20;
const PIECE: usize = 256 << 10;
const MAX_GROWTH: u64 = 32 << 20;
/// How often memory is read.
const EVERY: Duration = Duration::from_millis(5);

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

/// The memory of a process while something is done.
struct Memory {
    is_over: Arc<AtomicBool>,
    watching: JoinHandle<Growth>,
}

/// How much resident memory a process took, and how much more it took at most.
struct Growth {
    before: u64,
    all: u64,
    /// Without what is mapped from files, which is its own code for the most part.
    own: u64,
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, all, own] = [self.before, self.all, self.own].map(|bytes| bytes as f64 / f64::from(1 << 20));
        write!(f, "{before:.1} MiB before, at most {all:.1} MiB more, {own:.1} without code")
    }
}

impl Memory {
    fn watch(process: u32) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, before) = (is_over.clone(), resident(process));
        let watching = std::thread::spawn(move || {
            let mut most = before;
            while !over.load(Ordering::Relaxed) {
                let (all, own) = resident(process);
                most = (most.0.max(all), most.1.max(own));
                std::thread::sleep(EVERY);
            }
            Growth { before: before.0, all: most.0 - before.0, own: most.1 - before.1 }
        });
        Self { is_over, watching }
    }

    fn end(self) -> Growth {
        self.is_over.store(true, Ordering::Relaxed);
        self.watching.join().expect("watched")
    }
}

/// The resident memory of a process in bytes: all of it, and without what is mapped from files.
fn resident(process: u32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = |name: &str| {
        let value = text.lines().find_map(|text| text.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok());
        value.unwrap_or(0_u64) * 1024
    };
    (line("VmRSS:"), line("RssAnon:"))
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

/// Submits a file, and tells after which time it was taken and after which it was sent.
async fn send(client: &mut SubmissionServiceClient<Channel>, seed: u64) -> (Duration, Duration) {
    let begun = Instant::now();
    let header = pb::SubmittedFileHeader {
        source: "sources/virustotal".into(),
        file_name: "noise.bin".into(),
        tlp: pb::Tlp::Clear.into(),
        ..Default::default()
    };
    let pieces = (0..FILE_BYTES / PIECE).map(move |number| Part::Content(noise(seed << 32 | number as u64)));
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
    let (child, address) = listening::start(&mut command);
    let server = Server(child);

    let mut client = SubmissionServiceClient::connect(format!("http://{address}")).await.expect("a channel");
    for (seed, what) in [(1, "first"), (2, "second")] {
        let memory = Memory::watch(server.0.id());
        let (taken, sent) = send(&mut client, seed).await;
        let growth = memory.end();
        println!("{what}: taken after {} ms, sent after {} ms", taken.as_millis(), sent.as_millis());
        println!("  memory: {growth}");
        assert!(growth.all < MAX_GROWTH, "more than {} MiB", MAX_GROWTH >> 20);
    }
    receiving.abort();
}
