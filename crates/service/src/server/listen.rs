//! Accepts connections over TCP (with or without TLS), over the Unix socket and from within the process, and serves
//! HTTP/1.1 and HTTP/2 on each.

use std::io::{self, Cursor};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures_util::FutureExt;
use futures_util::future::Either;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::calls::panic_response;
use super::connections::{Connection, Connections};
use super::early_refusal::Arrival;
use super::paced::Paced;
use super::router::Entry;
use super::tls;
use crate::clock::{Clock, SystemClock};
use crate::rpc::auth::Peer;
use crate::settings::Limits;

/// Time limit for a TLS handshake, for the first bytes of a connection, and for the headers of an HTTP/1.1 request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first bytes of every HTTP/2 connection (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// HTTP/2 send buffer of one call.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Pause after a failed accept, which would otherwise repeat at once, for example while too many files are open.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// What is needed to serve a connection; shared by all of them.
#[derive(Clone)]
pub(super) struct Serving {
    entry: Arc<Entry>,
    acceptor: Option<TlsAcceptor>,
    connections: Arc<Connections>,
    /// Limit of concurrent calls on one connection.
    max_calls: u32,
    /// Time in which a client must accept at least some of the bytes that are waiting to be written.
    send_timeout: Duration,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// Accepts network connections until the server stops.
pub(super) async fn serve_network(listener: TcpListener, serving: Serving) {
    loop {
        let accepted = tokio::select! {
            () = serving.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let Some(connection) = serving.connections.accept(address.ip()) else {
                    debug!("refused a connection: limits.max_connections_without_credential is reached");
                    continue;
                };
                let serving = serving.clone();
                serving.tasks.clone().spawn(async move {
                    tokio::select! {
                        () = serving.serve_tcp(stream, connection.clone()) => {}
                        () = connection.supervise() => {}
                    }
                });
            }
            Err(error) => accept_failed(error).await,
        }
    }
}

/// Accepts connections over the Unix socket until the server stops.
pub(super) async fn serve_socket(listener: UnixListener, serving: Serving) {
    loop {
        let accepted = tokio::select! {
            () = serving.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                serving.serve_local(stream);
            }
            Err(error) => accept_failed(error).await,
        }
    }
}

async fn accept_failed(error: io::Error) {
    warn!(%error, "a connection could not be accepted");
    SystemClock.sleep(ACCEPT_RETRY_DELAY).await;
}

/// Reads until the bytes are the HTTP/2 preface or differ from it, which decides the version of HTTP.
async fn sniff_protocol(stream: &mut (impl AsyncRead + Unpin), first: &mut Vec<u8>) -> io::Result<()> {
    while first.len() < PREFACE.len() && PREFACE.starts_with(first) {
        if stream.read_buf(first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

impl Serving {
    pub(super) fn new(entry: Entry, acceptor: Option<TlsAcceptor>, limits: &Limits, stop: CancellationToken) -> Self {
        Self {
            entry: Arc::new(entry),
            acceptor,
            connections: Connections::new(limits),
            max_calls: limits.max_calls_per_connection,
            send_timeout: limits.send_timeout,
            stop,
            tasks: TaskTracker::new(),
        }
    }

    /// Serves a connection of the same user in a background task.
    pub(super) fn serve_local(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (serving, connection) = (self.clone(), self.connections.accept_local());
        self.tasks.spawn(async move {
            tokio::select! {
                () = serving.serve(stream, Peer::Local, connection.clone()) => {}
                () = connection.supervise() => {}
            }
        });
    }

    async fn serve_tcp(self, stream: TcpStream, connection: Arc<Connection>) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "could not set TCP_NODELAY");
        }
        let Some(acceptor) = self.acceptor.clone() else {
            return self.sniff_and_serve(stream, Peer::Network(None), connection).await;
        };
        match self.within_timeout(acceptor.accept(stream)).await {
            Some(Ok(stream)) => {
                let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let peer = Peer::Network(certificate.map(tls::fingerprint));
                self.sniff_and_serve(stream, peer, connection).await;
            }
            Some(Err(error)) => debug!(%error, "a TLS handshake failed"),
            None => debug!("a TLS handshake took too long"),
        }
    }

    /// The result of a handshake; `None` if it takes too long or the server stops.
    async fn within_timeout<T>(&self, handshake: impl Future<Output = T>) -> Option<T> {
        let clock: &dyn Clock = &SystemClock;
        tokio::select! {
            done = clock.timeout(HANDSHAKE_TIMEOUT, handshake) => done,
            () = self.stop.cancelled() => None,
        }
    }

    /// Reads the HTTP version from the first bytes under a time limit, then serves the connection. hyper's own
    /// detection would wait for these bytes forever.
    async fn sniff_and_serve(
        self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        connection: Arc<Connection>,
    ) {
        let mut first = Vec::new();
        match self.within_timeout(sniff_protocol(&mut stream, &mut first)).await {
            Some(Ok(())) => {
                let (read, write) = tokio::io::split(stream);
                self.serve(tokio::io::join(Cursor::new(first).chain(read), write), peer, connection).await;
            }
            Some(Err(error)) => debug!(%error, "a connection ended before its first request"),
            None => debug!("a connection did not send the start of a request in time"),
        }
    }

    /// Serves one connection. Once the server stops or the connection must be closed, calls in flight are completed and
    /// no new ones are accepted.
    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        connection: Arc<Connection>,
    ) {
        let (peer, served) = (Arc::new(peer), connection.clone());
        let entry = self.entry;
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            let call = served.new_call();
            let answer = match entry.early_refusal.check(&request, &peer, &served, &call) {
                Arrival::Refused(refusal) => return Either::Left(std::future::ready(Ok(refusal))),
                Arrival::Admitted(admitted) => {
                    let calls = entry.calls.clone();
                    let answer = async move { calls.serve(request, admitted).await };
                    let answer = AssertUnwindSafe(answer).catch_unwind();
                    Either::Left(answer.map(|answer| Ok(answer.unwrap_or_else(panic_response))))
                }
                Arrival::Unknown => {
                    request.extensions_mut().insert(peer.clone());
                    request.extensions_mut().insert(call.clone());
                    request.extensions_mut().insert(served.clone());
                    Either::Right(entry.router.clone().oneshot(request.map(Body::new)))
                }
            };
            served.register(&call);
            Either::Right(async move { answer.await.map(|answer| answer.map(|body| call.chunk_body(body))) })
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_TIMEOUT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .max_concurrent_streams(self.max_calls)
            // When many calls of one connection reach their deadline together, the client resets all of them at once.
            // hyper's default limit would take that for an attack and close the connection.
            .max_pending_accept_reset_streams(usize::try_from(self.max_calls).unwrap_or(usize::MAX))
            .max_send_buf_size(SEND_BUFFER_BYTES);
        let mut stream = TimeoutStream::new(Paced::new(stream));
        stream.set_write_timeout(Some(self.send_timeout));
        let http = builder.serve_connection(TokioIo::new(Box::pin(stream)), service);
        tokio::pin!(http);
        let ended = tokio::select! {
            ended = http.as_mut() => ended,
            () = self.stop.cancelled() => {
                http.as_mut().graceful_shutdown();
                http.await
            }
            () = connection.closing() => {
                http.as_mut().graceful_shutdown();
                http.await
            }
        };
        if let Err(error) = ended {
            debug!(%error, "a connection ended with an error");
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use tokio::io::AsyncWriteExt;
    use tokio::runtime::Handle;

    use super::*;
    use crate::rpc::auth::Authenticator;
    use crate::rpc::load::Load;
    use crate::server::admission::Admission;
    use crate::server::body_limit::BodyLimit;
    use crate::server::calls::Calls;
    use crate::server::early_refusal::EarlyRefusal;
    use crate::server::fair_pool::FairPool;
    use crate::server::hosts::Hosts;
    use crate::server::turns::Turns;

    fn serving() -> Serving {
        let limits = Limits {
            max_in_flight: 1,
            max_connections: 1,
            max_connections_without_credential: 1,
            credential_timeout: HANDSHAKE_TIMEOUT,
            max_calls_per_connection: 1,
            max_health_watches: 1,
            send_timeout: HANDSHAKE_TIMEOUT,
            max_message_bytes: 65_536,
        };
        let admission = Admission {
            slots: FairPool::new(1, 1),
            load: Load::new(Handle::current(), Arc::new(SystemClock)),
            default_deadline: HANDSHAKE_TIMEOUT,
        };
        let (authenticator, hosts) = (Authenticator::new(Vec::new()), Hosts::new(false, &[], &[]));
        let stop = CancellationToken::new();
        let calls = Arc::new(Calls {
            services: Router::new(),
            from_cache: Box::new(|_, _| None),
            turns: Turns::new(Handle::current()),
            body_limit: BodyLimit::new(65_536, 1, stop.clone()),
        });
        let early_refusal = EarlyRefusal { authenticator, hosts, admission };
        Serving::new(Entry { router: Router::new(), calls, early_refusal }, None, &limits, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_show_its_http_version_is_dropped() {
        for first_bytes in ["", "PRI * HTTP/2.0\r\n\r\nSM", "P"] {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(first_bytes.as_bytes()).await.unwrap();
            let serving = serving();
            let connection = serving.connections.accept([127, 0, 0, 1].into()).unwrap();
            serving.sniff_and_serve(server, Peer::Network(None), connection).await;
            assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "{first_bytes:?}");
        }
    }

    #[tokio::test]
    async fn sniffing_ends_once_the_protocol_is_known() {
        let mut first = Vec::new();
        sniff_protocol(&mut &b"GET / HTTP/1.1\r\n"[..], &mut first).await.unwrap();
        assert!(first.starts_with(b"G"));
        let mut first = Vec::new();
        let mut pieces = (&PREFACE[..5]).chain(&PREFACE[5..]);
        sniff_protocol(&mut pieces, &mut first).await.unwrap();
        assert_eq!(first, PREFACE);
        assert!(sniff_protocol(&mut &b"PRI"[..], &mut Vec::new()).await.is_err());
    }
}
