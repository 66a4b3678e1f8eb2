//! An HTTP server that says what its script says, byte by byte, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// What one request gets.
pub struct Reply {
    bytes: Vec<u8>,
    held: Option<Arc<Notify>>,
}

impl Reply {
    /// Exactly these bytes.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), held: None }
    }

    /// This status line (`200 OK`), these headers (each with its line end) and this body, complete.
    pub fn new(status: &str, headers: &str, body: &[u8]) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
        Self::raw([head.as_bytes(), body].concat())
    }

    /// The same, but only once it is released.
    pub fn when(mut self, released: &Arc<Notify>) -> Self {
        self.held = Some(released.clone());
        self
    }
}

/// A server whose every connection gets the next reply.
pub struct ScriptedServer {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl ScriptedServer {
    pub async fn start(replies: Vec<Reply>) -> Self {
        Self::serve(replies, None).await
    }

    pub async fn serve(replies: Vec<Reply>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let requests = seen.clone();
        TaskTracker::new().spawn(async move {
            for reply in replies {
                let (stream, _) = listener.accept().await.unwrap();
                match &tls {
                    None => answer(stream, reply, &requests).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => answer(stream, reply, &requests).await,
                        Err(_) => continue,
                    },
                }
            }
        });
        Self { address, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requests so far, each as it came.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, reply: Reply, seen: &Mutex<Vec<String>>) {
    let request = read(&mut stream).await;
    seen.lock().unwrap().push(request);
    if let Some(released) = reply.held {
        released.notified().await;
    }
    // Who has read enough hangs up: that is the other side's right.
    let _ = stream.write_all(&reply.bytes).await;
    let _ = stream.shutdown().await;
}

/// Head and body of a request.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => return text,
        }
    }
}
