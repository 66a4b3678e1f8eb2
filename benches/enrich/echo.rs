//! The echo: a tonic server with nothing but the one method, which clones and encodes the structured message of each answer.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use concord::pb;
use prost::Message;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

/// `concord.v1.EnrichResponse` with its verdict as a message.
#[derive(Clone, PartialEq, Message)]
pub struct StructuredResponse {
    #[prost(message, optional, tag = "1")]
    pub verdict: Option<pb::Verdict>,
    #[prost(message, optional, tag = "2")]
    pub receipt: Option<pb::Receipt>,
}

/// Sends the same answer to every question.
#[derive(Clone)]
struct Echo(Arc<StructuredResponse>);

impl NamedService for Echo {
    const NAME: &'static str = "concord.v1.EnrichmentService";
}

impl UnaryService<pb::EnrichRequest> for Echo {
    type Response = StructuredResponse;
    type Future = Ready<Result<Response<StructuredResponse>, Status>>;

    fn call(&mut self, _: Request<pb::EnrichRequest>) -> Self::Future {
        ready(Ok(Response::new(StructuredResponse::clone(&self.0))))
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(echo, request).await) })
    }
}

/// Serves the message in this file until the process is terminated; the address goes to standard output.
pub fn serve(file: &Path) {
    let bytes = std::fs::read(file).expect("the answer");
    let answer = StructuredResponse::decode(bytes.as_slice()).expect("an answer");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut terminate = signal(SignalKind::terminate()).expect("a handler");
        println!("{}", listener.local_addr().expect("an address"));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serve =
            tonic::transport::Server::builder().add_service(Echo(Arc::new(answer))).serve_with_incoming(incoming);
        tokio::select! {
            served = serve => served.expect("serves"),
            _ = terminate.recv() => {}
        }
    });
}
