//! Asks Concord about one indicator, with a deadline, and reads the details of an error. A server with tokens takes the one
//! in `CONCORD_TOKEN`.
//!
//! ```sh
//! cargo run --example enrich -- http://127.0.0.1:7700 203.0.113.9
//! ```

use std::error::Error;
use std::time::Duration;

use concord::pb::enrichment_service_client::EnrichmentServiceClient;
use concord::pb::{EnrichOptions, EnrichRequest, Indicator, Tlp};
use tonic::Request;
use tonic_types::StatusExt;

mod token;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(value)) = (arguments.next(), arguments.next()) else {
        return Err("usage: enrich http://SERVER:PORT INDICATOR".into());
    };
    let mut client = EnrichmentServiceClient::new(token::connect(server).await?);

    let verdict = client.enrich(request(&value)).await?.into_inner().decode_verdict()?;
    println!("{value}: {}", verdict.summary);
    for contribution in &verdict.contributions {
        println!("  {:+.3} nats  {}", contribution.micro_nats as f64 / 1e6, contribution.sentence);
    }

    let Err(status) = client.enrich(request("CVE-2024-3094")).await else {
        return Err("a CVE number was taken for an indicator".into());
    };
    println!("refused with {:?}:", status.code());
    for violation in status.get_details_bad_request().into_iter().flat_map(|details| details.field_violations) {
        println!("  {}: {}", violation.field, violation.description);
    }
    Ok(())
}

fn request(value: &str) -> Request<EnrichRequest> {
    let indicator = Some(Indicator { r#type: 0, value: value.to_owned() });
    let options = EnrichOptions { tlp: Tlp::Green.into(), ..EnrichOptions::default() };
    let mut request = Request::new(EnrichRequest { indicator, options: Some(options) });
    request.set_timeout(Duration::from_secs(5));
    request
}
