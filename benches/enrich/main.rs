//! A cached `Enrich` and a cached `BatchEnrich` against a bare tonic echo of the same structured message: each server is a
//! process of its own, loaded by `h2load`. Instructions are counted by `valgrind`, as the difference of two run lengths; CPU
//! time and requests a second are interleaved in rounds.
//!
//! `cargo bench --bench enrich` runs everything that these programs allow, and fails if too many instructions are needed;
//! `-- time` and `-- instructions` run one half, and `profile=FOLDER` keeps the profiles of callgrind.

#![expect(clippy::disallowed_methods, reason = "a load client lives in real time")]

mod echo;
#[path = "../shared/listening.rs"]
mod listening;
mod load;
mod process;
mod setup;

use std::path::Path;

use load::{Load, Run};
use process::{Process, has_program};
use setup::Setup;

/// As in the program: the echo must not pay for another one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds in which all sides have their turn.
const ROUNDS: usize = 7;
/// Calls of one side in one round; those of batches carry [`setup::BATCH`] indicators each.
const UNARY_CALLS: usize = 20_000;
const BATCH_CALLS: usize = 400;
/// The two run lengths of which the difference is counted.
const UNARY_LENGTHS: [usize; 2] = [1_000, 6_000];
const BATCH_LENGTHS: [usize; 2] = [10, 110];
/// What is aimed at: the first two are instructions, which do not depend on what else the machine does.
const MAX_UNARY_INSTRUCTIONS: f64 = 0.80;
const MAX_BATCH_INSTRUCTIONS: f64 = 0.20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let [mode, file] = arguments.as_slice()
        && mode == "echo"
    {
        return echo::serve(Path::new(file));
    }
    let is_wanted =
        |name: &str| arguments.iter().all(|argument| argument.contains('=')) || arguments.contains(&name.into());
    let profiles = arguments.iter().find_map(|argument| argument.strip_prefix("profile="));
    if !has_program("h2load") {
        return println!("skipped: h2load, of nghttp2, is not installed");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let setup = runtime.block_on(Setup::new());
    println!("the answer has {} bytes, its verdict {}", setup.answer.len(), setup.verdict_bytes);
    let loads = [Load::unary(&setup), Load::batch(&setup)];
    if is_wanted("time") {
        time(&runtime, &setup, &loads);
    }
    if is_wanted("instructions") {
        if !has_program("valgrind") {
            return println!("instructions: skipped, valgrind is not installed");
        }
        instructions(&runtime, &setup, &loads, profiles.map(Path::new));
    }
}

fn time(runtime: &tokio::runtime::Runtime, setup: &Setup, [unary, batch]: &[Load; 2]) {
    let (echo, concord) = (Process::echo(setup, None), Process::concord(setup, None));
    runtime.block_on(setup.warm(&concord));
    let mut rounds = Vec::new();
    // The first round only warms up.
    for round in 0..=ROUNDS {
        let runs = [unary.run(&echo, UNARY_CALLS), unary.run(&concord, UNARY_CALLS), batch.run(&concord, BATCH_CALLS)];
        if round > 0 {
            rounds.push(runs);
        }
    }
    let show = |what: &str, of: &dyn Fn(&[Run; 3]) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        println!("{what}: {:.2} [{:.2}..{:.2}]", values[values.len() / 2], values[0], values[values.len() - 1]);
    };
    println!("medians and spread of {ROUNDS} interleaved rounds of {UNARY_CALLS} calls, {BATCH_CALLS} of batches:");
    show("  echo, µs of server CPU a call", &|[echo, _, _]| echo.cpu_micros);
    show("  cached Enrich, µs of server CPU a call", &|[_, cached, _]| cached.cpu_micros);
    show("  cached Enrich / echo, server CPU a call", &|[echo, cached, _]| cached.cpu_micros / echo.cpu_micros);
    show("  cached Enrich / echo, calls a second (aim: at least 1.00)", &|[echo, cached, _]| cached.rate / echo.rate);
    show("  cached BatchEnrich, µs of server CPU an indicator", &|[_, _, batch]| batch.cpu_micros);
    show("  cached BatchEnrich / echo, server CPU an indicator (aim: at most 0.20)", &|[echo, _, batch]| {
        batch.cpu_micros / echo.cpu_micros
    });
}

fn instructions(runtime: &tokio::runtime::Runtime, setup: &Setup, [unary, batch]: &[Load; 2], profiles: Option<&Path>) {
    let count = |name: &str, load: &Load, lengths: [usize; 2]| {
        let [short, long] = lengths.map(|calls| {
            let profile = profiles.map(|folder| folder.join(format!("callgrind.{name}.{calls}")));
            let is_echo = name == "echo";
            let start = if is_echo { Process::echo } else { Process::concord };
            let server = start(setup, Some(profile.as_deref().unwrap_or(Path::new("/dev/null"))));
            if !is_echo {
                runtime.block_on(setup.warm(&server));
            }
            load.run(&server, calls);
            server.instructions()
        });
        (long as f64 - short as f64) / ((lengths[1] - lengths[0]) * load.per_call) as f64
    };
    let echo = count("echo", unary, UNARY_LENGTHS);
    let cached = count("enrich", unary, UNARY_LENGTHS);
    let batched = count("batch", batch, BATCH_LENGTHS);
    println!(
        "instructions: echo {echo:.0} a call, cached Enrich {cached:.0} a call, cached BatchEnrich {batched:.0} an indicator"
    );
    let (unary, batch) = (cached / echo, batched / echo);
    println!("  cached Enrich / echo: {unary:.2} (at most {MAX_UNARY_INSTRUCTIONS:.2})");
    println!("  cached BatchEnrich, an indicator / echo: {batch:.2} (at most {MAX_BATCH_INSTRUCTIONS:.2})");
    assert!(unary <= MAX_UNARY_INSTRUCTIONS && batch <= MAX_BATCH_INSTRUCTIONS, "too many instructions");
}
