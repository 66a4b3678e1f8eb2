//! The bearer token in `CONCORD_TOKEN` on every request, if there is one.

use tonic::metadata::AsciiMetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// A connection to this server.
pub async fn connect(server: String) -> Result<InterceptedService<Channel, Token>, Box<dyn std::error::Error>> {
    #[expect(clippy::disallowed_methods, reason = "an example has no settings")]
    let token = std::env::var("CONCORD_TOKEN").ok().map(|token| format!("Bearer {token}").parse()).transpose()?;
    let channel = Channel::from_shared(server)?.connect().await?;
    Ok(InterceptedService::new(channel, Token(token)))
}

#[derive(Clone)]
pub struct Token(Option<AsciiMetadataValue>);

impl tonic::service::Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}
