//! Accepts connections: TCP with or without TLS, and the socket. HTTP/1.1 and HTTP/2 on each.

use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::tls;
use crate::rpc::auth::Peer;

/// A client that has not finished its handshake or its headers by then is dropped.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a connection of HTTP/2 begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// After a failed accept (too many open files), the next try waits so long.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// What every connection is served with.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) router: Router,
    pub(super) acceptor: Option<TlsAcceptor>,
    /// Places for connections over the network; the socket has its own way in.
    pub(super) free: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
    pub(super) connections: TaskTracker,
}

/// Serves the network until the server stops.
pub(super) async fn serve_network(listener: TcpListener, serving: Serving) {
    loop {
        // Beyond the limit connections wait to be accepted, as they do where open files run out.
        let accepted = tokio::select! {
            () = serving.stop.cancelled() => return,
            accepted = accept(&listener, &serving.free) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let one = serving.clone();
                serving.connections.spawn(async move {
                    one.serve_tcp(stream).await;
                    drop(place);
                });
            }
            Err(error) => failed(error).await,
        }
    }
}

/// The next connection, and its place among those that there may be.
async fn accept(listener: &TcpListener, free: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = free.clone().acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept().await?.0, place))
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

/// Reads until the bytes are either all of what HTTP/2 begins with, or cannot become it.
async fn told(stream: &mut (impl AsyncRead + Unpin), first: &mut Vec<u8>) -> io::Result<()> {
    while first.len() < PREFACE.len() && PREFACE.starts_with(first) {
        if stream.read_buf(first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

impl Serving {
    async fn serve_tcp(self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "no TCP_NODELAY");
        }
        let Some(acceptor) = self.acceptor.clone() else {
            return self.open(stream, Peer::Network(None)).await;
        };
        match self.in_time(acceptor.accept(stream)).await {
            Some(Ok(stream)) => {
                let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let peer = Peer::Network(certificate.map(tls::fingerprint));
                self.open(stream, peer).await;
            }
            Some(Err(error)) => debug!(%error, "a TLS handshake failed"),
            None => debug!("a TLS handshake took too long"),
        }
    }

    /// What comes of a connection's beginning; `None` where it takes too long, or the server ends.
    async fn in_time<T>(&self, beginning: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            begun = tokio::time::timeout(PATIENCE, beginning) => begun.ok(),
            () = self.stop.cancelled() => None,
        }
    }

    /// Serves a connection once its first bytes tell which version of HTTP is spoken: nothing else bounds the wait for them.
    async fn open(self, mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
        let mut first = Vec::new();
        match self.in_time(told(&mut stream, &mut first)).await {
            Some(Ok(())) => {
                let (read, write) = tokio::io::split(stream);
                self.serve(tokio::io::join(Cursor::new(first).chain(read), write), peer).await;
            }
            Some(Err(error)) => debug!(%error, "a connection broke off"),
            None => debug!("a connection did not say what it speaks"),
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

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn serving() -> Serving {
        let (stop, connections) = (CancellationToken::new(), TaskTracker::new());
        Serving { router: Router::new(), acceptor: None, free: Arc::new(Semaphore::new(1)), stop, connections }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_say_what_it_speaks_is_dropped() {
        for said in ["", "PRI * HTTP/2.0\r\n\r\nSM", "P"] {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(said.as_bytes()).await.unwrap();
            serving().open(server, Peer::Network(None)).await;
            assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "{said:?}");
        }
    }

    #[tokio::test]
    async fn the_first_bytes_are_read_no_further_than_they_tell() {
        let mut first = Vec::new();
        told(&mut &b"GET / HTTP/1.1\r\n"[..], &mut first).await.unwrap();
        assert!(first.starts_with(b"G"));
        let mut first = Vec::new();
        let mut pieces = (&PREFACE[..5]).chain(&PREFACE[5..]);
        told(&mut pieces, &mut first).await.unwrap();
        assert_eq!(first, PREFACE);
        assert!(told(&mut &b"PRI"[..], &mut Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait_for_a_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let free = Arc::new(Semaphore::new(1));
        let address = listener.local_addr().unwrap();
        let (_one, _other) = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        let (_, place) = accept(&listener, &free).await.unwrap();
        {
            let next = accept(&listener, &free);
            tokio::pin!(next);
            assert!(poll!(next.as_mut()).is_pending());
        }
        drop(place);
        assert!(accept(&listener, &free).await.is_ok());
    }
}
