//! Changes a threshold of a source, asks again, and takes the change back.
//!
//! ```sh
//! cargo run --example threshold -- http://127.0.0.1:7700
//! ```

use std::error::Error;

use concord::pb::enrichment_service_client::EnrichmentServiceClient;
use concord::pb::outcome::Result::Finding;
use concord::pb::source_service_client::SourceServiceClient;
use concord::pb::{ConfigureSourceRequest, EnrichRequest, Indicator, Source};
use prost_types::value::Kind;
use prost_types::{FieldMask, Struct, Value};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

mod token;

const SOURCE: &str = "sources/virustotal";
const OPTION: &str = "malicious_threshold_ip";
const INDICATOR: &str = "203.0.113.5";

type Connection = InterceptedService<Channel, token::Token>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Some(server) = std::env::args().nth(1) else { return Err("usage: threshold http://SERVER:PORT".into()) };
    let connection = token::connect(server).await?;
    let mut sources = SourceServiceClient::new(connection.clone());
    let path = Some(FieldMask { paths: vec![format!("options.{OPTION}")] });
    show(&connection, "as configured").await?;

    let options = Struct { fields: [(OPTION.to_owned(), Value { kind: Some(Kind::NumberValue(20.0)) })].into() };
    let changed = Source { name: SOURCE.into(), options: Some(options), ..Source::default() };
    let change = ConfigureSourceRequest { source: Some(changed), update_mask: path.clone(), ..Default::default() };
    sources.configure_source(change).await?;
    show(&connection, &format!("{OPTION} = 20")).await?;

    let unchanged = Source { name: SOURCE.into(), ..Source::default() };
    let change = ConfigureSourceRequest { source: Some(unchanged), reset_mask: path, ..Default::default() };
    sources.configure_source(change).await?;
    show(&connection, "taken back").await
}

/// Prints the verdict, and by which rule the source came to its claim.
async fn show(connection: &Connection, when: &str) -> Result<(), Box<dyn Error>> {
    let indicator = Some(Indicator { r#type: 0, value: INDICATOR.to_owned() });
    let request = EnrichRequest { indicator, options: None };
    let answer = EnrichmentServiceClient::new(connection.clone()).enrich(request).await?.into_inner();
    let verdict = answer.decode_verdict()?;
    let outcome = verdict.outcomes.iter().find(|outcome| outcome.source == SOURCE);
    let Some(Finding(finding)) = outcome.and_then(|outcome| outcome.result.as_ref()) else {
        return Err(format!("{SOURCE} has no finding").into());
    };
    println!("{when}: {}\n    {}", finding.reasons.join("; "), verdict.summary);
    Ok(())
}
