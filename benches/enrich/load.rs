//! The load: `h2load`, which costs less than a client of tonic.

use std::path::PathBuf;
use std::process::Command;

use super::process::Process;
use super::setup::{BATCH, Setup, TOKEN};

/// One kind of call.
pub struct Load {
    path: &'static str,
    request: PathBuf,
    /// Connections, and calls in flight on each.
    connections: usize,
    calls_in_flight: usize,
    /// Answers of a call.
    pub per_call: usize,
    /// The fewest bytes of an answer that is no refusal.
    least_bytes: usize,
}

/// What one run came to.
pub struct Run {
    /// Server CPU for one answer.
    pub cpu_micros: f64,
    /// Calls a second.
    pub rate: f64,
}

impl Load {
    pub fn unary(setup: &Setup) -> Self {
        let (path, request) = ("/concord.v1.EnrichmentService/Enrich", setup.unary.clone());
        Self { path, request, connections: 8, calls_in_flight: 8, per_call: 1, least_bytes: setup.verdict_bytes }
    }

    pub fn batch(setup: &Setup) -> Self {
        let (path, request) = ("/concord.v1.EnrichmentService/BatchEnrich", setup.batch.clone());
        Self { path, request, connections: 4, calls_in_flight: 1, per_call: BATCH, least_bytes: setup.verdict_bytes }
    }

    /// Makes so many calls, all of which must be answered.
    pub fn run(&self, server: &Process, calls: usize) -> Run {
        let before = server.cpu_seconds();
        let output = Command::new("h2load")
            .args(["-t", "1", "-w", "24", "-W", "24", "-n", &calls.to_string(), "-c", &self.connections.to_string()])
            .args(["-m", &self.calls_in_flight.to_string(), "-d"])
            .arg(&self.request)
            .args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "grpc-timeout: 60S"])
            .args(["-H", &format!("authorization: Bearer {TOKEN}")])
            .arg(format!("http://{}{}", server.address, self.path))
            .output()
            .expect("h2load runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let cpu = server.cpu_seconds() - before;
        let number_before = |line: &str, what: &str| {
            let line = text.lines().find(|text| text.starts_with(line)).unwrap_or_default();
            let number =
                line.split(what).next().and_then(|text| text.rsplit(|c: char| !c.is_ascii_digit() && c != '.').next());
            number.and_then(|number| number.parse::<f64>().ok()).unwrap_or_default()
        };
        assert_eq!(number_before("requests:", " succeeded"), calls as f64, "{text}");
        let answers = calls * self.per_call;
        // A refusal is a status without data.
        assert!(number_before("traffic:", ") data") >= (answers * self.least_bytes) as f64, "{text}");
        Run { cpu_micros: cpu * 1e6 / answers as f64, rate: number_before("finished in", " req/s") }
    }
}
