//! How long the server takes from its start as a process to its first answer, with an empty store and with many stored verdicts.
//! Prints figures. `cargo bench --bench start -- 100000` stores so many verdicts instead.

#![expect(clippy::disallowed_methods, reason = "a bench lives in real time")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use concord::finding::{Disposition, Family, Finding, Outcome, OutcomeBody, Reliability};
use concord::indicator::{Indicator, Tlp};
use concord::pb;
use concord::pb::enrichment_service_client::EnrichmentServiceClient;
use concord::store::{self, DataDirectory, Durability, VerdictRecord, new_id};
use concord::verdict::{Policy, fuse};

#[path = "shared/listening.rs"]
mod listening;

const VERDICTS: u32 = 1_000_000;
const STARTS: usize = 10;
const SETTINGS: &str = "log.filter = \"warn,concord::server=info\"\n";

/// Stores a verdict, and copies it so many times under other identifiers, for other indicators and at other times.
fn fill(folder: &Path, verdicts: u32) {
    let directory = DataDirectory::open(folder).expect("a folder");
    let path = directory.database_path();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = store::open(&path, Durability::Normal).expect("opens");
        let (now, indicator) = (SystemTime::now(), Indicator::parse("192.0.2.1").expect("an address").indicator);
        let outcomes: Vec<_> = (0..8).map(|number| outcome(&format!("source-{number}"), now)).collect();
        let verdict = fuse(&Policy::built_in()[0], &indicator, now, outcomes);
        let (id, caller) = (new_id(now), "bench".to_owned());
        let record =
            VerdictRecord { id, create_time: now, caller, tlp: Tlp::Green, verdict, answers: Vec::new(), units: None };
        store.append(record.into()).await.expect("stored");
        store.close().await.expect("closed");
    });
    let connection = rusqlite::Connection::open(&path).expect("opens");
    let copies = "INSERT INTO verdicts (id, time, form, value, disposition, caller, tlp, body)
        WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1)
        SELECT printf('%026d', n), time - 1000000000 * n, form, printf('10.%d.%d.%d', n >> 16, n >> 8 & 255, n & 255),
            disposition, caller, tlp, body FROM numbers, verdicts";
    connection.execute(copies, [verdicts]).expect("copied");
}

fn outcome(source: &str, time: SystemTime) -> Outcome {
    Outcome {
        source: source.to_owned(),
        kind: "bench".to_owned(),
        reliability: Reliability::B,
        family: Family::declared(source.to_owned(), source),
        time,
        body: OutcomeBody::Finding(Finding::new(Disposition::Malicious, None, "12 of 94 engines malicious")),
    }
}

/// Time from the start of the process to the answer, with the time at which it said that it listens.
fn start(folder: &Path) -> (Duration, Duration) {
    let settings = folder.join("concord.toml");
    fs::write(&settings, SETTINGS).expect("a file");
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_concord"));
    command.arg("--config").arg(&settings).arg("--data-directory").arg(folder.join("data"));
    let (mut child, address) = listening::start(&mut command);
    let listening = begun.elapsed();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client = EnrichmentServiceClient::connect(format!("http://{address}")).await.expect("a channel");
        let indicator = Some(pb::Indicator { r#type: 0, value: "192.0.2.1".into() });
        let request = pb::EnrichRequest { indicator, ..Default::default() };
        client.enrich(request).await.expect("an answer");
    });
    let took = begun.elapsed();
    // Otherwise the server waits for its connection to end.
    drop(runtime);
    let stopped = Command::new("kill").arg(child.id().to_string()).status();
    assert!(stopped.is_ok_and(|status| status.success()));
    child.wait().expect("it ends");
    (took, listening)
}

fn main() {
    let verdicts = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(VERDICTS);
    for verdicts in [0, verdicts] {
        let folder = tempfile::tempdir().expect("a folder");
        if verdicts > 0 {
            fill(&folder.path().join("data"), verdicts);
        }
        let mut took: Vec<_> = (0..STARTS).map(|_| start(folder.path())).collect();
        took.sort_unstable();
        let ((median, listening), (least, _), (most, _)) = (took[STARTS / 2], took[0], took[STARTS - 1]);
        println!(
            "{verdicts} verdicts stored: first answer after {median:.0?} ({least:.0?} to {most:.0?}), listening after \
             {listening:.0?}"
        );
    }
}
