//! One source of eight that never answers: what it costs those who ask all eight.

use std::time::Duration;

use super::LARGE;
use super::client::Client;
use super::server::Server;
use super::upstream::{Behaviour, Upstream};

const DEADLINE: Duration = Duration::from_millis(500);
const CALLS: usize = 200;
const INTERVAL: Duration = Duration::from_millis(20);

/// Calls with a deadline of 500 ms: without that source, while its circuit is closed, and once it is open.
pub async fn hanging() {
    println!(
        "one of eight sources hangs, {CALLS} calls of 500 ms, 50 a second: p50, p99, sources that answered at least"
    );
    let quick = Upstream::start(Behaviour::Delay(Duration::from_millis(50))).await;
    let hung = Upstream::start(Behaviour::Hang).await;
    let others: Vec<_> = (0..7).map(|_| (&quick, "")).collect();
    let with = |own| [&others[..], &[(&hung, own)]].concat();
    let server = Server::start_at(&others, LARGE, "").await;
    let client = Client::connect(&server.address).await;
    report("without it", &client).await;
    // It does not time out while this is measured, so the circuit stays closed.
    let server = Server::start_at(&with("timeout = \"30s\"\n"), LARGE, "").await;
    let client = Client::connect(&server.address).await;
    report("circuit closed", &client).await;
    let server = Server::start_at(&with("timeout = \"1s\"\n"), LARGE, "").await;
    let client = Client::connect(&server.address).await;
    client.paced(10, INTERVAL, DEADLINE).await;
    // Until five have timed out; the first probe is made five seconds after that at the earliest.
    tokio::time::sleep(Duration::from_millis(800)).await;
    let before = hung.calls();
    report("circuit open", &client).await;
    println!("  calls to it while its circuit was open: {}", hung.calls() - before);
}

async fn report(what: &str, client: &Client) {
    // Connections are warm, as in a server that runs.
    client.paced(5, INTERVAL, DEADLINE).await;
    let answers = client.paced(CALLS, INTERVAL, DEADLINE).await;
    let mut times: Vec<_> = answers.iter().map(|(took, _)| *took).collect();
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(0, Duration::as_millis);
    let least = answers.iter().map(|(_, answered)| *answered).min().unwrap_or_default();
    println!("  {what:>14}: {:>4} ms, {:>4} ms, {least}", at(50), at(99));
}
