//! A server process under load: bursts, deadlines, batches, takes of the ledger. Sources are one loopback upstream that can
//! be slow, failing or silent. Calls start when the schedule says, whether or not earlier ones were answered, and their time
//! counts from the schedule, so that a server that stalls is not spared the calls it kept from starting.
//!
//! `cargo bench --bench load` runs everything; `cargo bench --bench load -- bursts deadlines` runs these, and
//! `cargo bench --bench load -- mixed seconds=600` the mixed load for ten minutes. `attack=UnreadBatches` picks one attack.

#![expect(clippy::disallowed_methods, reason = "a load client lives in real time")]

mod attacks;
mod client;
mod fanout;
mod frames;
mod hanging;
#[path = "../shared/listening.rs"]
mod listening;
mod mixed;
mod server;
#[path = "../shared/typed_report.rs"]
mod typed_report;
mod upstream;

use std::time::{Duration, Instant};

use client::Client;
use concord::source::{QuotaLimits, QuotaPer, QuotaWindow};
use concord::store::{Acquire, Acquired, Durability, Unit};
use server::Server;
use upstream::{Behaviour, Upstream};

/// Large enough to hold nobody back, so that every distinct look-up should be paid and asked.
const LARGE: u64 = 100_000;

fn main() {
    if let [_, side, upstream] = &std::env::args().collect::<Vec<_>>()[..]
        && side == fanout::BARE
    {
        return fanout::bare(upstream);
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let length = wanted.iter().find_map(|argument| argument.strip_prefix("seconds=")?.parse().ok());
    let only = wanted.iter().find_map(|argument| argument.strip_prefix("attack="));
    let profiler = wanted.iter().find_map(|argument| argument.strip_prefix("under="));
    let wanted: Vec<_> = wanted.iter().filter(|argument| !argument.contains('=')).collect();
    // Callers are elsewhere in reality: here they give way to the server and to whoever measures.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .on_thread_start(|| {
            // Where it is refused, all are equal.
            let _ = rustix::process::setpriority_process(None, 10);
        })
        .enable_all()
        .build()
        .expect("a runtime");
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| *wanted == name);
    runtime.block_on(async {
        if is_wanted("bursts") {
            bursts().await;
        }
        if is_wanted("hot") {
            hot().await;
        }
        if is_wanted("hanging") {
            hanging::hanging().await;
        }
        if is_wanted("fanout") {
            match profiler {
                Some(profiler) => fanout::instructions(profiler).await,
                None => fanout::fanout().await,
            }
        }
        if is_wanted("in_flight") {
            fanout::in_flight().await;
        }
        if is_wanted("deadlines") {
            deadlines().await;
        }
        if is_wanted("frames") {
            frames().await;
        }
        if is_wanted("batches") {
            batches().await;
        }
        if is_wanted("takes") {
            takes().await;
        }
        if is_wanted("attacks") {
            attacks::attacks(Duration::from_secs(length.unwrap_or(15)), only).await;
        }
        if is_wanted("mixed") {
            mixed::mixed(Duration::from_secs(length.unwrap_or(60))).await;
        }
    });
}

/// Distinct look-ups, all at once: what was paid must be what left.
async fn bursts() {
    println!("bursts of distinct look-ups, 4 sources, 10 s deadline: units paid and calls that arrived");
    for quota in [LARGE, 100] {
        for callers in [300, 1_000, 3_000] {
            let upstream = Upstream::start(Behaviour::Delay(Duration::from_millis(50))).await;
            let server = Server::start(&upstream, quota).await;
            let client = Client::connect(&server.address).await;
            let report = client.at_once(callers, Duration::from_secs(10)).await;
            // What was under way when its caller had left may still pay or arrive.
            tokio::time::sleep(Duration::from_secs(2)).await;
            let (units, calls) = (server.units().await, upstream.calls());
            let verdict = if units == calls { "equal" } else { "DIFFERENT" };
            println!(
                "  quota {quota:>6} a minute, {callers:>5} callers: {units:>6} units, {calls:>6} calls, {verdict}; {report}"
            );
        }
    }
}

/// One indicator that everybody asks about at once, of which nothing is cached: each source is called once.
async fn hot() {
    println!("callers at once about one new indicator, 4 sources, 10 s deadline: calls that arrived");
    for callers in [100, 1_000, 10_000] {
        let upstream = Upstream::start(Behaviour::Delay(Duration::from_millis(50))).await;
        let limits = "limits.max_in_flight = 20000\nlimits.max_calls_per_connection = 1000\n";
        let server = Server::start_with(&upstream, LARGE, limits).await;
        let client = Client::connect(&server.address).await;
        let report = client.at_once_about_one(callers, Duration::from_secs(10)).await;
        let (calls, units, verdicts) = (upstream.calls(), server.units().await, server.verdicts().await);
        println!("  {callers:>6} callers: {calls} calls, {units} units, {verdicts} verdicts stored; {report}");
    }
}

/// Sources that never answer: an answer is in time, or the call is shed at once.
async fn deadlines() {
    println!("callers against hanging sources: every answer before the deadline, the rest shed");
    for deadline in [100, 500, 2_000].map(Duration::from_millis) {
        for callers in [20, 200, 1_000, 5_000] {
            let upstream = Upstream::start(Behaviour::Hang).await;
            let server = Server::start(&upstream, LARGE).await;
            let client = Client::connect(&server.address).await;
            // Connections and caches are warm, as in a server that runs.
            client.at_once(20, Duration::from_millis(300)).await;
            let report = client.at_once(callers, deadline).await;
            println!("  {callers:>5} callers, {:>4} ms: {report}", deadline.as_millis());
        }
    }
}

/// The same by a client that costs nothing, so that whatever is late is late by the server.
async fn frames() {
    println!("callers whose requests are all sent at once, against hanging sources: what the server makes of them");
    for deadline in [100, 500].map(Duration::from_millis) {
        for callers in [20, 200, 1_000, 5_000] {
            let upstream = Upstream::start(Behaviour::Hang).await;
            let server = Server::start(&upstream, LARGE).await;
            let client = Client::connect(&server.address).await;
            client.at_once(20, Duration::from_millis(300)).await;
            let address = server.address.clone();
            let report = tokio::task::spawn_blocking(move || frames::at_once(&address, callers, deadline)).await;
            println!("  {callers:>5} callers, {:>4} ms: {}", deadline.as_millis(), report.expect("a report"));
        }
    }
}

/// One batch of a thousand: every place answered in time.
async fn batches() {
    println!("one batch of 1,000 against hanging sources: places answered before the deadline");
    for deadline in [300, 500, 1_000].map(Duration::from_millis) {
        let upstream = Upstream::start(Behaviour::Hang).await;
        let server = Server::start(&upstream, LARGE).await;
        let client = Client::connect(&server.address).await;
        let (answered, took) = client.batch(1_000, deadline).await;
        println!("  {:>4} ms: {answered} of 1000, the last after {} ms", deadline.as_millis(), took.as_millis());
    }
}

/// Durable takes of one account, a thousand waiting at any time.
async fn takes() {
    println!("durable takes a second, one account, minute and day windows, 1,000 waiting");
    let folder = tempfile::tempdir().expect("a folder");
    let store = concord::store::open(&folder.path().join("store.db"), Durability::Normal).expect("a store");
    let limit = 10_000_000;
    let limits = vec![QuotaWindow { per: QuotaPer::Minute, limit }, QuotaWindow { per: QuotaPer::Day, limit }];
    let limits = QuotaLimits::from(limits);
    for round in 1..=5 {
        let begun = Instant::now();
        let (rounds, waiting) = (20, 1_000);
        let workers = (0..waiting).map(|_| {
            let (store, limits) = (store.clone(), limits.clone());
            tokio::spawn(async move {
                for _ in 0..rounds {
                    let at = std::time::SystemTime::now();
                    let unit = Unit { account: "a".into(), source: "s".into(), at, charged_to: None };
                    let call = Acquire { unit, limits: limits.clone(), budget: None, disclosures: Vec::new() };
                    let acquired = store.acquire(vec![call]).await.expect("a store");
                    assert!(matches!(acquired[..], [Acquired::Granted(_)]), "the windows are large");
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await.expect("a worker");
        }
        let rate = f64::from(rounds * waiting) / begun.elapsed().as_secs_f64();
        println!("  round {round}, {} in the minute before: {rate:.0} a second", (round - 1) * rounds * waiting);
    }
}
