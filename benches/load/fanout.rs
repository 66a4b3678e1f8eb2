//! One uncached enrichment of eight sources, against bare calls of reqwest to the same upstream: its latency over one call, and
//! its CPU over eight calls whose bodies are read into typed structs. Both sides run interleaved, and the bare one in a process of
//! its own, so that the system counts the time of either.
//!
//! `under=PROFILER` starts both under a program that counts instructions, as `under=valgrind --tool=callgrind`: what counts is
//! the difference of two runs, so that the start does not.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::LARGE;
use super::client::Client;
use super::server::{Server, cpu_of};
use super::typed_report::Typed;
use super::upstream::{Behaviour, Upstream};

const SOURCES: usize = 8;
/// Callers at a time where both sides are saturated.
const CALLERS: usize = 8;
const ROUNDS: usize = 5;
/// Instructions of an enrichment over those of the bare calls, from which the bench fails. The aim of 1.6, in time, is not reached
/// (`docs/performance.md`); this keeps what is.
const MAX_INSTRUCTIONS: f64 = 4.8;
/// Time that a caller gives an enrichment.
const DEADLINE: Duration = Duration::from_secs(5);
/// Fan-outs of each side in one round.
const FAN_OUTS: usize = 600;
/// Microseconds of CPU of a fan-out: bare, ours, and ours by thread.
type Round = (f64, f64, Vec<(String, f64)>);

/// The argument that makes this program the bare side.
pub const BARE: &str = "bare";

/// Latency, then CPU.
pub async fn fanout() {
    let slow = Upstream::start(Behaviour::Report(Duration::from_millis(50))).await;
    let sources: Vec<_> = (0..SOURCES).map(|_| (&slow, "")).collect();
    let server = Server::start_at(&sources, LARGE, "").await;
    let client = Client::connect(&server.address).await;
    println!("uncached, {SOURCES} sources of 50 ms, over one bare call to the same upstream: p50, p99");
    latency(&server, &client, &slow, 20.0, 200).await;
    let per_fan_out = latency(&server, &client, &slow, 100.0, 1_000).await;
    latency(&server, &client, &slow, 0.6 / per_fan_out.as_secs_f64(), 2_000).await;
    drop(server);
    let quick = Upstream::start(Behaviour::Report(Duration::ZERO)).await;
    let sources: Vec<_> = (0..SOURCES).map(|_| (&quick, "")).collect();
    let server = Server::start_at(&sources, LARGE, "").await;
    cpu(&server, &quick).await;
}

/// A thousand calls in flight all the time: what comes on top of the time that a slow upstream takes, and the memory.
pub async fn in_flight() {
    let delay = Duration::from_millis(1_500);
    let slow = Upstream::start(Behaviour::Report(delay)).await;
    let sources: Vec<_> = (0..SOURCES).map(|_| (&slow, "max_concurrency = 1000\n")).collect();
    let server = Server::start_at(&sources, LARGE, "").await;
    let client = Client::connect(&server.address).await;
    println!("1,000 calls in flight, {SOURCES} sources of {} ms, over one bare call: p50, p99", delay.as_millis());
    let rate = 1_000.0 / SOURCES as f64 / delay.as_secs_f64();
    latency(&server, &client, &slow, rate, 1_500).await;
    let mebibytes = |bytes: u64| bytes >> 20;
    println!("  resident: {} MiB, at most {} MiB", mebibytes(server.memory()), mebibytes(server.peak_memory()));
}

/// Enrichments at this rate a second, and a bare call half an interval after each. Returns the CPU of an enrichment.
async fn latency(server: &Server, client: &Client, upstream: &Upstream, rate: f64, calls: usize) -> Duration {
    let interval = Duration::from_secs_f64(1.0 / rate);
    let bare = reqwest::Client::builder().no_proxy().build().expect("a client");
    let warm = client.paced(20, interval, DEADLINE).await;
    assert!(warm.iter().all(|(_, answered)| *answered == SOURCES), "every source answers");
    let before = server.cpu();
    let (enriched, called) = tokio::join!(client.paced(calls, interval, DEADLINE), async {
        tokio::time::sleep(interval / 2).await;
        let mut running = tokio::task::JoinSet::new();
        for number in 0..calls {
            let (bare, url) = (bare.clone(), address(upstream.address, 0, number));
            running.spawn(async move {
                let sent = Instant::now();
                bare.get(url).send().await.expect("an answer").bytes().await.expect("a body");
                sent.elapsed()
            });
            tokio::time::sleep(interval).await;
        }
        running.join_all().await
    });
    let cpu = (total(&server.cpu()) - total(&before)) / u32::try_from(calls).unwrap_or(1);
    let least = enriched.iter().map(|(_, answered)| *answered).min().unwrap_or_default();
    let (ours, bare) = (sorted(enriched.into_iter().map(|(took, _)| took)), sorted(called.into_iter()));
    let over = |share: usize| {
        let at = |times: &[Duration]| times[times.len() * share / 100].as_secs_f64() * 1e3;
        format!("{:.1} over {:.1}: {:+.1} ms", at(&ours), at(&bare), at(&ours) - at(&bare))
    };
    println!(
        "  {rate:>5.0} a second ({:.0} % of a core): p50 {}, p99 {}; at least {least} of {SOURCES} answered",
        cpu.as_secs_f64() * rate * 100.0,
        over(50),
        over(99)
    );
    cpu
}

/// The CPU time of both sides, interleaved.
async fn cpu(server: &Server, upstream: &Upstream) {
    println!(
        "CPU of an enrichment over {SOURCES} bare calls with typed reading, {CALLERS} callers, {ROUNDS} rounds of {FAN_OUTS}"
    );
    let mut bare = Bare::start(upstream, &[]);
    let client = Client::connect(&server.address).await;
    client.saturated(CALLERS, 100).await;
    bare.run(100);
    let mut rounds: Vec<Round> = Vec::new();
    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / FAN_OUTS as f64;
    for _ in 0..ROUNDS {
        let before = cpu_of(bare.child.id());
        bare.run(FAN_OUTS);
        let of_bare = each(total(&cpu_of(bare.child.id())) - total(&before));
        let before = server.cpu();
        assert_eq!(client.saturated(CALLERS, FAN_OUTS).await, FAN_OUTS * SOURCES, "every source answers");
        // What is recorded after the answer.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let after = server.cpu();
        let of_thread = |(name, spent): (&String, &Duration)| {
            (name.clone(), each(spent.saturating_sub(before.get(name).copied().unwrap_or_default())))
        };
        rounds.push((of_bare, each(total(&after) - total(&before)), after.iter().map(of_thread).collect()));
    }
    rounds.sort_by(|(bare, ours, _), (other_bare, other, _)| (ours / bare).total_cmp(&(other / other_bare)));
    let ratio = |round: usize| rounds[round].1 / rounds[round].0;
    let (bare, ours, threads) = &rounds[ROUNDS / 2];
    println!("  {:.2} [{:.2}..{:.2}]: {ours:.0} µs over {bare:.0} µs", ours / bare, ratio(0), ratio(ROUNDS - 1));
    for (name, spent) in threads.iter().filter(|(_, spent)| *spent >= 1.0) {
        println!("    {name:>16}: {spent:>5.0} µs, {:.2}", spent / bare);
    }
}

/// Instructions of both sides, by a profiler that writes the sum of each process into a file.
pub async fn instructions(profiler: &str) {
    println!("instructions of an enrichment over {SOURCES} bare calls with typed reading, {CALLERS} callers");
    let upstream = Upstream::start(Behaviour::Report(Duration::ZERO)).await;
    let sources: Vec<_> = (0..SOURCES).map(|_| (&upstream, "")).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let (short, long) = (100, 400);
    let mut counts = Vec::new();
    for fan_outs in [short, long] {
        let file = |side: &str| folder.path().join(format!("{side}-{fan_outs}"));
        let command = |side: &str| -> Vec<String> {
            let file = format!("--callgrind-out-file={}", file(side).display());
            profiler.split_whitespace().map(str::to_owned).chain([file]).collect()
        };
        let mut bare = Bare::start(&upstream, &command(BARE));
        bare.run(fan_outs);
        drop(bare);
        let server = Server::start_under(&command("server"), &sources, LARGE, "").await;
        let client = Client::connect(&server.address).await;
        client.saturated(CALLERS, fan_outs).await;
        drop((client, server));
        counts.push([BARE, "server"].map(|side| counted(&file(side))));
    }
    let [bare, ours] = [0, 1].map(|side| (counts[1][side] - counts[0][side]) / (long - short) as u64);
    let ratio = ours as f64 / bare as f64;
    println!("  {ratio:.2}: {ours} over {bare} (at most {MAX_INSTRUCTIONS:.2})");
    assert!(ratio <= MAX_INSTRUCTIONS, "too many instructions");
}

/// The instructions that a profiler has counted of one process.
fn counted(file: &std::path::Path) -> u64 {
    let text = std::fs::read_to_string(file).expect("the profiler's file");
    let line = text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    line.and_then(|count| count.trim().parse().ok()).expect("a count")
}

fn total<'a>(threads: impl IntoIterator<Item = (&'a String, &'a Duration)>) -> Duration {
    threads.into_iter().map(|(_, spent)| *spent).sum()
}

fn sorted(times: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    times
}

/// The address of a report on an address that no other number has.
fn address(upstream: std::net::SocketAddr, source: usize, number: usize) -> String {
    let indicator = std::net::Ipv6Addr::from_bits((0x2001_0db8_ffff << 80) | number as u128);
    format!("http://{upstream}/{source}/ip_addresses/{indicator}")
}

/// The bare side, told over its input how many fan-outs to make.
struct Bare {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Bare {
    fn start(upstream: &Upstream, under: &[String]) -> Self {
        let program = std::env::current_exe().expect("this program").display().to_string();
        let command: Vec<_> = under.iter().chain([&program]).collect();
        let mut child = Command::new(command[0])
            .args(&command[1..])
            .args([BARE, &upstream.address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let (input, output) = (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
        Self { child, input, output: BufReader::new(output) }
    }

    fn run(&mut self, fan_outs: usize) {
        writeln!(self.input, "{fan_outs}").expect("it reads");
        self.output.read_line(&mut String::new()).expect("it answers");
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It ends at the end of its input; a profiler writes its file then.
        let _ = writeln!(self.input, "end");
        let _ = self.child.wait();
    }
}

/// The bare side: so many fan-outs of eight calls for each number that it reads, by eight callers.
pub fn bare(upstream: &str) {
    let upstream = upstream.parse().expect("an address");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut next = 0;
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let Ok(fan_outs) = line.parse::<usize>() else { return };
        let callers = (0..CALLERS).map(|caller| {
            let (client, first) = (client.clone(), next + caller);
            runtime.spawn(async move {
                for number in (first..first + fan_outs - caller % CALLERS).step_by(CALLERS) {
                    let calls = (0..SOURCES).map(|source| call(&client, address(upstream, source, number)));
                    futures_util::future::join_all(calls).await;
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            runtime.block_on(caller).expect("it ends");
        }
        next += fan_outs;
        println!("done");
    }
}

async fn call(client: &reqwest::Client, url: String) {
    let request = client.get(url).header("accept", "application/json").header("x-apikey", "key");
    let body = request.send().await.expect("an answer").bytes().await.expect("a body");
    let report: Typed<'_> = serde_json::from_slice(&body).expect("a report");
    std::hint::black_box(&report);
}
