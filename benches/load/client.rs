//! Callers with deadlines, and what became of their calls.

use std::fmt;
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use concord::pb;
use concord::pb::enrichment_service_client::EnrichmentServiceClient;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

/// Connections that the callers share.
const CONNECTIONS: usize = 16;

/// The message as a request with this bearer token.
pub fn authorized<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a token"));
    request
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    InTime,
    Late,
    /// Refused for lack of room.
    Shed,
    Failed(Code),
}

/// The outcomes of many calls, each with its time.
pub struct Report(Vec<(Outcome, Duration)>);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |wanted: fn(&Outcome) -> bool| {
            let mut times: Vec<_> =
                self.0.iter().filter(|(outcome, _)| wanted(outcome)).map(|(_, time)| *time).collect();
            times.sort_unstable();
            times
        };
        let percentile = |times: &[Duration], share: usize| {
            times.get((times.len() * share / 100).min(times.len().saturating_sub(1))).map_or(0, Duration::as_millis)
        };
        let (answered, late) = (of(|outcome| *outcome == Outcome::InTime), of(|outcome| *outcome == Outcome::Late));
        let (shed, failed) =
            (of(|outcome| *outcome == Outcome::Shed), of(|outcome| matches!(outcome, Outcome::Failed(_))));
        write!(
            f,
            "{} in time (p50 {} ms, p99 {} ms), {} late, {} shed (p99 {} ms), {} failed",
            answered.len(),
            percentile(&answered, 50),
            percentile(&answered, 99),
            late.len(),
            shed.len(),
            percentile(&shed, 99),
            failed.len()
        )?;
        let code = self.0.iter().find_map(|(outcome, _)| match outcome {
            Outcome::Failed(code) => Some(format!(" ({code:?})")),
            Outcome::InTime | Outcome::Late | Outcome::Shed => None,
        });
        f.write_str(&code.unwrap_or_default())
    }
}

pub struct Client {
    channels: Vec<Channel>,
    next: AtomicU64,
}

impl Client {
    pub async fn connect(address: &str) -> Self {
        let endpoint = Endpoint::from_shared(address.to_owned()).expect("an address");
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(endpoint.connect().await.expect("a connection"));
        }
        Self { channels, next: AtomicU64::new(0) }
    }

    /// An address that nobody asked about before.
    fn fresh_indicator(&self) -> pb::Indicator {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let address = Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(number));
        pb::Indicator { r#type: 0, value: address.to_string() }
    }

    /// So many callers at the same moment, each about another indicator.
    pub async fn at_once(&self, callers: usize, deadline: Duration) -> Report {
        self.about(callers, deadline, || self.fresh_indicator()).await
    }

    /// So many callers at the same moment, all about one indicator that is new.
    pub async fn at_once_about_one(&self, callers: usize, deadline: Duration) -> Report {
        let indicator = self.fresh_indicator();
        self.about(callers, deadline, || indicator.clone()).await
    }

    async fn about(&self, callers: usize, deadline: Duration, indicator: impl Fn() -> pb::Indicator) -> Report {
        let mut calls = JoinSet::new();
        let start = Instant::now();
        for number in 0..callers {
            let channel = self.channels[number % CONNECTIONS].clone();
            let indicator = Some(indicator());
            calls.spawn(async move {
                let mut request = Request::new(pb::EnrichRequest { indicator, ..Default::default() });
                // The deadline counts from when the call should have begun.
                let left = deadline.saturating_sub(start.elapsed());
                request.set_timeout(left);
                let sent = Instant::now();
                let outcome = match EnrichmentServiceClient::new(channel).enrich(request).await {
                    Ok(_) if sent.elapsed() <= left => Outcome::InTime,
                    Ok(_) => Outcome::Late,
                    Err(status) => match status.code() {
                        Code::ResourceExhausted => Outcome::Shed,
                        Code::DeadlineExceeded | Code::Cancelled => Outcome::Late,
                        code => Outcome::Failed(code),
                    },
                };
                (outcome, sent.elapsed())
            });
        }
        Report(calls.join_all().await)
    }

    /// So many calls, one every `interval`, each about another indicator: how long each took, and how many sources answered.
    pub async fn paced(&self, calls: usize, interval: Duration, deadline: Duration) -> Vec<(Duration, usize)> {
        let mut running = JoinSet::new();
        for number in 0..calls {
            let channel = self.channels[number % CONNECTIONS].clone();
            let indicator = Some(self.fresh_indicator());
            running.spawn(async move {
                let mut request = Request::new(pb::EnrichRequest { indicator, ..Default::default() });
                request.set_timeout(deadline);
                let sent = Instant::now();
                let answer = EnrichmentServiceClient::new(channel).enrich(request).await;
                let took = sent.elapsed();
                (took, answered_sources(answer))
            });
            tokio::time::sleep(interval).await;
        }
        running.join_all().await
    }

    /// So many calls by so many callers, each of whom makes the next once the last is answered, all about other indicators:
    /// how many sources answered.
    pub async fn saturated(&self, callers: usize, calls: usize) -> usize {
        let mut running = JoinSet::new();
        for caller in 0..callers {
            let channel = self.channels[caller % CONNECTIONS].clone();
            let indicators: Vec<_> = (caller..calls).step_by(callers).map(|_| self.fresh_indicator()).collect();
            running.spawn(async move {
                let mut answered = 0;
                for indicator in indicators {
                    let request = pb::EnrichRequest { indicator: Some(indicator), ..Default::default() };
                    let answer = EnrichmentServiceClient::new(channel.clone()).enrich(request).await;
                    answered += answered_sources(answer);
                }
                answered
            });
        }
        running.join_all().await.into_iter().sum()
    }

    /// One batch: how many places were answered before the deadline, and when the last of them.
    pub async fn batch(&self, size: usize, deadline: Duration) -> (usize, Duration) {
        let indicators = (0..size).map(|_| self.fresh_indicator()).collect();
        let mut request = Request::new(pb::BatchEnrichRequest { indicators, ..Default::default() });
        request.set_timeout(deadline);
        let start = Instant::now();
        let (mut answered, mut last) = (0, Duration::ZERO);
        let mut client = EnrichmentServiceClient::new(self.channels[0].clone());
        let Ok(stream) = client.batch_enrich(request).await else { return (0, start.elapsed()) };
        let mut stream = stream.into_inner();
        while let Ok(Some(_)) = stream.message().await {
            if start.elapsed() <= deadline {
                answered += 1;
                last = start.elapsed();
            }
        }
        (answered, last)
    }
}

/// How many sources answered in this verdict.
fn answered_sources(answer: Result<tonic::Response<pb::EnrichResponse>, tonic::Status>) -> usize {
    use pb::outcome::Result as Outcome;
    let verdict = answer.ok().and_then(|answer| answer.into_inner().decode_verdict().ok()).unwrap_or_default();
    let has_answered =
        |outcome: &&pb::Outcome| matches!(outcome.result, Some(Outcome::Finding(_) | Outcome::NoRecord(_)));
    verdict.outcomes.iter().filter(has_answered).count()
}
