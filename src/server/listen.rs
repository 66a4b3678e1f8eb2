//! Accepts connections: TCP with or without TLS, and the socket. HTTP/1.1 and HTTP/2 on each.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::UnixListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::debug;
use tracing::warn;

use crate::rpc::auth::Peer;

use super::tls;

/// A client that has not finished its handshake or its headers by then is dropped.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failed accept (too many open files), the next try waits so long.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// What every connection is served with.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) router: Router,
    pub(super) acceptor: Option<TlsAcceptor>,
    pub(super) stop: CancellationToken,
    pub(super) connections: TaskTracker,
}

/// Serves the network until the server stops.
pub(super) async fn serve_network(listener: TcpListener, serving: Serving) {
    loop {
        let accepted = tokio::select! {
            () = serving.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let one = serving.clone();
                serving.connections.spawn(async move { one.serve_tcp(stream).await });
            }
            Err(error) => failed(error).await,
        }
    }
}

/// Serves the socket until the server stops.
pub(super) async fn serve_socket(listener: UnixListener, serving: Serving) {
    loop {
        let accepted = tokio::select! {
            () = serving.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let one = serving.clone();
                serving.connections.spawn(async move { one.serve(stream, Peer::Socket).await });
            }
            Err(error) => failed(error).await,
        }
    }
}

async fn failed(error: io::Error) {
    warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(AFTER_FAILURE).await;
}

impl Serving {
    async fn serve_tcp(self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "no TCP_NODELAY");
        }
        let Some(acceptor) = self.acceptor.clone() else {
            // Which version of HTTP is spoken is told by the first bytes, and nothing else bounds the wait for them.
            return match tokio::time::timeout(PATIENCE, stream.peek(&mut [0])).await {
                Ok(Ok(_)) => self.serve(stream, Peer::Network(None)).await,
                Ok(Err(error)) => debug!(%error, "a connection broke off"),
                Err(_) => debug!("a connection said nothing"),
            };
        };
        match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let peer = Peer::Network(certificate.map(tls::fingerprint));
                self.serve(stream, peer).await;
            }
            Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
            Err(_) => debug!("a TLS handshake took too long"),
        }
    }

    /// Serves one connection; once the server stops, the calls under way end and no other begins.
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
        let peer = Arc::new(peer);
        let router = self.router;
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            router.clone().oneshot(request.map(axum::body::Body::new))
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(30)));
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%error, "a connection ended with an error");
        }
    }
}
