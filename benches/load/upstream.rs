//! A source on loopback whose behaviour can be set, and which counts what arrives.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A report, and the address that it is on.
static REPORT: LazyLock<String> = LazyLock::new(|| {
    let report: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/fixtures/sources/virustotal/hit.json")).expect("JSON");
    report.to_string()
});
const SUBJECT: &str = "192.0.2.10";

/// What it does with a call.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "each scenario uses some")]
pub enum Behaviour {
    /// "Not found" after this time.
    Delay(Duration),
    /// A report of VirusTotal on the address that is asked about, after this time.
    Report(Duration),
    /// No answer at all.
    Hang,
    /// This status at once.
    Status(u16),
}

/// The source.
pub struct Upstream {
    pub address: SocketAddr,
    calls: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Upstream {
    pub async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let calls = Arc::new(AtomicU64::new(0));
        let counted = calls.clone();
        let router = Router::new().fallback(move |uri: Uri| {
            counted.fetch_add(1, Ordering::Relaxed);
            answer(behaviour, uri)
        });
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { address, calls, serving }
    }

    /// How many calls arrived.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(behaviour: Behaviour, uri: Uri) -> Response {
    match behaviour {
        Behaviour::Report(delay) => {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let subject = uri.path().rsplit('/').next().unwrap_or_default().replace("%3A", ":");
            ([(CONTENT_TYPE, "application/json")], REPORT.replace(SUBJECT, &subject)).into_response()
        }
        Behaviour::Delay(delay) => {
            tokio::time::sleep(delay).await;
            let body = r#"{"error":{"code":"NotFoundError","message":"none"}}"#;
            (StatusCode::NOT_FOUND, body).into_response()
        }
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Status(status) => StatusCode::from_u16(status).expect("a status").into_response(),
    }
}
