//! Everything at once for as long as is wanted: look-ups known and new, batches, lists, unread answers and idle connections.
//! What was paid must be what left, and neither memory nor waiting may grow.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use concord::pb;
use concord::pb::enrichment_service_client::EnrichmentServiceClient;
use concord::pb::verdict_service_client::VerdictServiceClient;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use super::LARGE;
use super::attacks::{Bystander, TOKENS, background_attacks};
use super::client::authorized;
use super::server::Server;
use super::upstream::{Behaviour, Upstream};

/// Look-ups a second of indicators that were asked about before.
const KNOWN: u64 = 200;
/// How many there are of these.
const KNOWN_INDICATORS: u64 = 1_000;
/// Look-ups a second of indicators that nobody asked about.
const NEW: u64 = 20;
/// Parts of the run that are reported one by one.
const PARTS: u32 = 10;

struct Counts {
    begun: Instant,
    answered: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    /// How often each failure came, and when first.
    failures: Mutex<BTreeMap<String, (u64, Duration)>>,
}

/// The mixed load for so long.
pub async fn mixed(length: Duration) {
    println!(
        "mixed load for {} s: {KNOWN} known and {NEW} new look-ups a second, a batch of 100 and lists each second,",
        length.as_secs()
    );
    println!("  200 idle connections and 40 unread answers at any time");
    let upstream = Upstream::start(Behaviour::Delay(Duration::from_millis(50))).await;
    let server = Server::start_with(&upstream, LARGE, TOKENS).await;
    let endpoint = Endpoint::from_shared(server.address.clone()).expect("an address");
    let channel = endpoint.connect().await.expect("a connection");
    let counts = Arc::new(Counts::new());
    // A connection without a credential would make way for the idle ones of the same address.
    let mut client = VerdictServiceClient::new(channel.clone());
    client.list_verdicts(authorized("token", pb::ListVerdictsRequest::default())).await.expect("a list");
    let mut load = JoinSet::new();
    load.spawn(look_ups(channel.clone(), counts.clone()));
    load.spawn(batches(channel.clone(), counts.clone()));
    load.spawn(lists(channel, counts.clone()));
    let attacked = server.address.clone();
    load.spawn(async move { background_attacks(&attacked).await });
    let bystander = Bystander::start(&server.address);
    let begun = Instant::now();
    for part in 1..=PARTS {
        let felt = bystander.take(length / PARTS).await;
        println!(
            "  {part:>2}: after {:>4} s {} answered, {} refused, {} failed; memory {} MB; bystander: {felt}",
            begun.elapsed().as_secs(),
            counts.answered.load(Ordering::Relaxed),
            counts.refused.load(Ordering::Relaxed),
            counts.failed.load(Ordering::Relaxed),
            server.memory() >> 20,
        );
    }
    for (failure, (times, first)) in counts.failures.lock().expect("the failures").iter() {
        println!("  {times} failed, the first after {} ms: {failure}", first.as_millis());
    }
    load.shutdown().await;
    drop(bystander);
    // What was under way when its caller had left may still pay or arrive.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (units, calls) = (server.units_as("other").await, upstream.calls());
    let verdict = if units == calls { "equal" } else { "DIFFERENT" };
    println!("  {units} units, {calls} calls: {verdict}; at most {} MB", server.peak_memory() >> 20);
}

async fn look_ups(channel: Channel, counts: Arc<Counts>) {
    let mut schedule = tokio::time::interval(Duration::from_secs(1) / u32::try_from(KNOWN + NEW).unwrap_or(1));
    let mut calls = JoinSet::new();
    for number in 0_u64.. {
        schedule.tick().await;
        let value = match number % ((KNOWN + NEW) / NEW) {
            0 => format!("2001:db8:1:{:x}::{:x}", number >> 16, number & 0xffff),
            _ => format!("2001:db8::{:x}", number % KNOWN_INDICATORS),
        };
        let request = pb::EnrichRequest { indicator: Some(pb::Indicator { r#type: 0, value }), ..Default::default() };
        let (mut client, counts) = (EnrichmentServiceClient::new(channel.clone()), counts.clone());
        calls.spawn(async move { counts.note("enrich", client.enrich(authorized("token", request)).await) });
        while calls.try_join_next().is_some() {}
    }
}

async fn batches(channel: Channel, counts: Arc<Counts>) {
    let mut schedule = tokio::time::interval(Duration::from_secs(1));
    for number in 0_u64.. {
        schedule.tick().await;
        let value = |place: u64| format!("2001:db8::{:x}", (number * 37 + place) % KNOWN_INDICATORS);
        let indicators = (0..100).map(|place| pb::Indicator { r#type: 0, value: value(place) }).collect();
        let request = pb::BatchEnrichRequest { indicators, ..Default::default() };
        let mut client = EnrichmentServiceClient::new(channel.clone());
        let answered = client.batch_enrich(authorized("token", request)).await;
        if let Ok(stream) = counts.note("batch", answered) {
            let mut stream = stream.into_inner();
            while let Ok(Some(_)) = stream.message().await {}
        }
    }
}

async fn lists(channel: Channel, counts: Arc<Counts>) {
    let mut schedule = tokio::time::interval(Duration::from_secs(1));
    loop {
        schedule.tick().await;
        let request = pb::ListVerdictsRequest { page_size: 50, ..Default::default() };
        let mut client = VerdictServiceClient::new(channel.clone());
        let _ = counts.note("list", client.list_verdicts(authorized("token", request)).await);
    }
}

impl Counts {
    fn new() -> Self {
        let (answered, refused, failed) = Default::default();
        Self { begun: Instant::now(), answered, refused, failed, failures: Mutex::default() }
    }

    fn note<T>(&self, what: &str, result: Result<T, tonic::Status>) -> Result<T, tonic::Status> {
        let counter = match &result {
            Ok(_) => &self.answered,
            Err(status) if status.code() == tonic::Code::ResourceExhausted => &self.refused,
            Err(status) => {
                let mut failures = self.failures.lock().expect("the failures");
                let entry = failures.entry(format!("{what}: {status:?}")).or_insert((0, self.begun.elapsed()));
                entry.0 += 1;
                &self.failed
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        result
    }
}
