//! Sources that answer without end: as much as they like, as slowly as they like. Each is given up at a bound, with an error of
//! its own and without holding what it sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use concord::finding::SourceErrorKind;
use concord::source::{CredentialPlace, Question};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::scripted_server::{Reply, ScriptedServer};
use super::{bench, get_of, gzip, settings};

/// A server that sends a head, and then the same bytes for as long as anybody reads them.
struct Endless {
    address: SocketAddr,
    sent: Arc<AtomicUsize>,
}

impl Endless {
    async fn start(head: &'static str, again: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let count = sent.clone();
        TaskTracker::new().spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(head.as_bytes()).await;
                while stream.write_all(again).await.is_ok() {
                    count.fetch_add(again.len(), Ordering::Relaxed);
                }
            }
        });
        Self { address, sent }
    }
}

fn question(address: SocketAddr) -> Question {
    get_of(&format!("http://{address}/"), CredentialPlace::None)
}

/// More than the greatest answer, and what the buffers of both ends and the loopback hold beside it.
const BOUND: usize = 32 * 1024 * 1024;

#[tokio::test]
async fn a_body_of_a_gigabyte_is_given_up_at_the_bound_whatever_length_it_declares() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 503 Service Unavailable\r\n\r\n",
    ] {
        let endless = Endless::start(head, &[b'x'; 65_536]).await;
        let failure = bench(settings("hashlookup", |_| {})).fail(&question(endless.address)).await;
        assert_eq!(failure.error.kind, SourceErrorKind::TooLarge, "{head}: {failure:?}");
        assert!(failure.is_sent);
        let sent = endless.sent.load(Ordering::Relaxed);
        assert!(sent < BOUND, "{sent} bytes were taken");
    }
}

#[tokio::test]
async fn chunks_without_end_are_given_up_at_the_bound() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let endless = Endless::start(head, b"10\r\n0123456789abcdef\r\n").await;
    let failure = bench(settings("hashlookup", |_| {})).fail(&question(endless.address)).await;
    assert_eq!(failure.error.kind, SourceErrorKind::TooLarge, "{failure:?}");
}

#[tokio::test]
async fn headers_without_end_are_given_up_before_they_fill_the_memory() {
    for again in [&b"x-more: and more\r\n"[..], &[b'x'; 4096]] {
        let endless = Endless::start("HTTP/1.1 200 OK\r\nx-first: ", again).await;
        let failure = bench(settings("hashlookup", |_| {})).fail(&question(endless.address)).await;
        assert!(failure.is_sent, "{failure:?}");
        let sent = endless.sent.load(Ordering::Relaxed);
        assert!(sent < BOUND, "{sent} bytes were taken");
    }
}

#[tokio::test]
async fn a_bomb_within_an_answer_is_unpacked_once() {
    let bomb = gzip::bomb(64 * 1024);
    let inside = gzip::stored(&bomb);
    let server = ScriptedServer::start(vec![Reply::new("200 OK", "content-encoding: gzip\r\n", &inside)]).await;
    let answer = bench(settings("hashlookup", |_| {})).ask(&question(server.address)).await.unwrap();
    assert_eq!(answer.http().unwrap().1, bomb);
}
