//! What is kept of a connection to a source: the connection itself, and its TLS session.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use concord::source::{CredentialPlace, Question};
use futures_util::future::join_all;
use http::header::{CONNECTION, HeaderValue};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rcgen::CertificateParams;
use rustls::HandshakeKind;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::tls::{acceptor_for, authority};
use super::{Bench, bench, get_of, settings};

/// What a server has seen.
#[derive(Debug, Default)]
struct Seen {
    handshakes: Vec<HandshakeKind>,
    requests: Vec<Version>,
}

/// A server over TLS that speaks these protocols, and closes connections of HTTP/1.1 after each answer; with what asks it.
async fn server(protocols: &[&str]) -> (SocketAddr, Arc<Mutex<Seen>>, Bench) {
    let authority = authority();
    let acceptor = acceptor_for(&authority, CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap(), protocols);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Seen>>::default());
    let (tasks, noted) = (TaskTracker::new(), seen.clone());
    tasks.clone().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = acceptor.accept(stream).await.unwrap();
            noted.lock().unwrap().handshakes.extend(stream.get_ref().1.handshake_kind());
            let noted = noted.clone();
            let answer = service_fn(move |request: Request<_>| {
                noted.lock().unwrap().requests.push(request.version());
                let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
                if request.version() == Version::HTTP_11 {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                async move { Ok::<_, Infallible>(response) }
            });
            tasks.spawn(async move {
                let builder = Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    });
    (address, seen, bench(settings("hashlookup", |settings| settings.ca_pem = Some(authority.pem()))))
}

fn question(address: SocketAddr) -> Question {
    get_of(&format!("https://{address}/"), CredentialPlace::None)
}

#[tokio::test]
async fn a_source_that_speaks_http_2_answers_all_questions_over_one_connection() {
    let (address, seen, bench) = server(&["h2", "http/1.1"]).await;
    let question = question(address);
    bench.ask(&question).await.unwrap();
    let answers = join_all((0..8).map(|_| bench.ask(&question))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.requests, [Version::HTTP_2; 9]);
    assert_eq!(seen.handshakes.len(), 1);
}

#[tokio::test]
async fn a_new_connection_resumes_the_tls_session_of_the_one_before() {
    let (address, seen, bench) = server(&["http/1.1"]).await;
    for _ in 0..3 {
        bench.ask(&question(address)).await.unwrap();
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.handshakes, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed]);
}
