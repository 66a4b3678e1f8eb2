//! A source on loopback whose behaviour can be set, and which counts what arrives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What it does with a call.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "each scenario uses some")]
pub enum Behaviour {
    /// "Not found" after this time.
    Delay(Duration),
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
        let router = Router::new().fallback(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            answer(behaviour)
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

async fn answer(behaviour: Behaviour) -> Response {
    match behaviour {
        Behaviour::Delay(delay) => {
            tokio::time::sleep(delay).await;
            let body = r#"{"error":{"code":"NotFoundError","message":"none"}}"#;
            (StatusCode::NOT_FOUND, body).into_response()
        }
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Status(status) => StatusCode::from_u16(status).expect("a status").into_response(),
    }
}
