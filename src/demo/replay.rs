//! Answers as the sources do, over HTTP and DNS on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answers;
use crate::clock::{Clock, SystemClock};

/// How long the slow source takes: longer than its time-out and its retries.
const SLOW: Duration = Duration::from_secs(30);
const TTL: u32 = 300;

/// The replay, while it runs.
pub(super) struct Replay {
    http: SocketAddr,
    dns: SocketAddr,
    stop: CancellationToken,
}

impl Replay {
    /// Starts to answer on two free ports of loopback; ages count back from the time of this clock.
    pub(super) async fn start(clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let stop = CancellationToken::new();
        let replay = Self { http: listener.local_addr()?, dns: socket.local_addr()?, stop: stop.clone() };
        let router = Router::new().fallback(answer).with_state(clock);
        let tasks = TaskTracker::new();
        let ended = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                _ = axum::serve(listener, router).into_future() => {}
            }
        });
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = serve_dns(socket) => {}
            }
        });
        Ok(replay)
    }

    /// Address of the HTTP replay.
    pub(super) fn http(&self) -> SocketAddr {
        self.http
    }

    /// Address of the DNS replay.
    pub(super) fn dns(&self) -> SocketAddr {
        self.dns
    }

    /// Ends it.
    pub(super) fn stop(self) {
        self.stop.cancel();
    }
}

async fn answer(State(clock): State<Arc<dyn Clock>>, uri: Uri, body: Bytes) -> Response {
    let question = answers::Question {
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        form: std::str::from_utf8(&body).unwrap_or_default(),
    };
    let reply = answers::reply(&question, clock.now());
    if reply.slow {
        SystemClock.sleep(SLOW).await;
    }
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(CONTENT_TYPE, "application/json")], reply.body.to_string()).into_response()
}

async fn serve_dns(socket: UdpSocket) {
    let mut buffer = [0; 1500];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let Some(reply) = buffer.get(..length).and_then(reply_dns) else { continue };
        if let Err(error) = socket.send_to(&reply, from).await {
            tracing::debug!(%error, "a DNS answer of the replay could not be sent");
        }
    }
}

fn reply_dns(question: &[u8]) -> Option<Vec<u8>> {
    let mut message = Message::from_vec(question).ok()?;
    let name = message.queries.first()?.name().clone();
    let listed = answers::listed(&name.to_ascii());
    message.metadata.message_type = MessageType::Response;
    if listed.is_empty() {
        message.metadata.response_code = ResponseCode::NXDomain;
    }
    for address in &listed {
        message.add_answer(Record::from_rdata(name.clone(), TTL, RData::A(A(*address))));
    }
    message.to_vec().ok()
}
