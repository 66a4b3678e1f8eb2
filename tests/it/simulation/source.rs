//! A kind whose answers say the claim in one word, and the services behind its sources: each with a temper of its own, and a
//! count of what arrives, which is what it would bill.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use concord::clock::{Clock, ManualClock, Monotonic};
use concord::fetch::{SendError, Transport};
use concord::finding::{Disposition, Finding, Reliability, SourceError, Strength};
use concord::indicator::{Form, Tlp};
use concord::source::{
    About, Answer, AnswerBody, BuildResult, CacheTtl, CredentialNeed, CredentialPlace, HttpMethod, HttpQuestion, Kind,
    Lookup, Probe, Question, Reading, Source, SourceView, Tier, TransportKind,
};
use futures_util::future::BoxFuture;

use super::random::Random;

const SECOND: Duration = Duration::from_secs(1);
/// Far beyond every deadline.
const FOR_EVER: Duration = Duration::from_secs(7 * 86_400);

/// The kind of all sources in a simulation.
pub struct Simulated(About);

impl Simulated {
    pub fn kind() -> Arc<dyn Kind> {
        Arc::new(Self(about()))
    }
}

impl Kind for Simulated {
    fn about(&self) -> &About {
        &self.0
    }

    fn build(&self, _: &SourceView<'_>) -> BuildResult {
        Ok(Arc::new(Self(about())))
    }
}

impl Source for Simulated {
    fn about(&self) -> &About {
        &self.0
    }

    fn ask(&self, lookup: &Lookup) -> Result<Question, SourceError> {
        let url = format!("https://source.example.com/{}", lookup.indicator.value());
        Ok(Question::Http(HttpQuestion {
            method: HttpMethod::Get,
            url: url.parse().expect("an address"),
            headers: Vec::new(),
            credential: CredentialPlace::None,
        }))
    }

    fn read(&self, _: &Lookup, answers: &[Answer]) -> Result<Reading, SourceError> {
        let answer = answers.last().ok_or_else(|| SourceError::malformed("no answer"))?;
        let claim = match answer.http()?.1 {
            b"none" => return Ok(Reading::NoRecord),
            b"malicious" => Disposition::Malicious,
            b"suspicious" => Disposition::Suspicious,
            b"benign" => Disposition::Benign,
            _ => return Err(SourceError::malformed("an unknown word")),
        };
        Ok(Reading::Found(Finding::new(claim, None, "the word")))
    }

    fn probe(&self) -> Vec<Question> {
        Vec::new()
    }

    fn read_probe(&self, _: &[Result<Answer, SourceError>]) -> Probe {
        Probe::new(Ok(()), None, String::new())
    }
}

fn about() -> About {
    About {
        kind: "simulated".into(),
        title: "Simulated".into(),
        summary: "Says one word.".into(),
        home_page: "https://example.com".into(),
        terms: "None.".into(),
        forms: vec![Form::Ipv4],
        transport: TransportKind::Http,
        credential: CredentialNeed::None,
        credential_env: None,
        base_url: "https://source.example.com".parse().ok(),
        tiers: vec![Tier { name: "free".into(), help: String::new(), quota: Vec::new() }],
        reliability: Reliability::B,
        greatest_strength: Strength::FULL,
        max_tlp: Tlp::Amber,
        timeout: 3 * SECOND,
        cache_ttl: CacheTtl::new(3_600 * SECOND, 600 * SECOND),
        family: None,
        options: Vec::new(),
        relationships: &[],
        fetch_revision: 1,
        rating_revision: 1,
    }
}

/// How a service behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// Answers within a second.
    Well,
    /// Fails, breaks off, cannot be reached or answers nonsense, now and then.
    Flaky,
    /// Answers late, or never.
    Slow,
    /// Fails for a minute, is well for a minute, and so on.
    ComesAndGoes,
    /// Refuses with 429 now and then, with and without `Retry-After`.
    Refusing,
}

/// The service behind one source.
pub struct Service {
    pub name: String,
    seed: u64,
    temper: Temper,
    clock: ManualClock,
    arrivals: Mutex<Vec<Arrival>>,
}

/// One question that reached the service.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub at: Monotonic,
    pub indicator: String,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.name, self.temper)
    }
}

impl Service {
    pub fn new(name: String, seed: u64, temper: Temper, clock: ManualClock) -> Self {
        Self { name, seed, temper, clock, arrivals: Mutex::default() }
    }

    /// Counts a question as if it had been asked.
    pub fn arrive(&self, arrival: Arrival) {
        self.arrivals.lock().unwrap().push(arrival);
    }

    pub fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().unwrap().clone()
    }

    /// What it knows of the indicator, whenever it is asked.
    fn word(&self, indicator: &str) -> &'static str {
        let words = ["none", "none", "none", "malicious", "malicious", "suspicious", "benign"];
        Random::of(self.seed, &format!("{} {indicator}", self.name)).pick::<&str>(&words)
    }

    async fn answer(&self, indicator: &str) -> Result<(u16, Vec<(String, String)>, &'static str), SendError> {
        let number = self.arrivals.lock().unwrap().len();
        let mut random = Random::of(self.seed, &format!("{} answers {number}", self.name));
        let is_reached = !(self.temper == Temper::Flaky && random.chance(10));
        if !is_reached {
            self.clock.sleep(random.millis(0, 2_000)).await;
            return Err(SendError::not_sent(SourceError::unavailable("no connection")));
        }
        let at = self.clock.monotonic();
        self.arrivals.lock().unwrap().push(Arrival { at, indicator: indicator.to_owned() });
        let well = Ok((200, Vec::new(), self.word(indicator)));
        let failure = Ok((500, Vec::new(), "failed"));
        let (delay, answer) = match self.temper {
            Temper::Well => (random.millis(1, 1_000), well),
            Temper::Flaky => match random.below(6) {
                0 => (random.millis(1, 500), failure),
                1 => (random.millis(1, 4_000), Err(SendError::sent(SourceError::unavailable("it broke off")))),
                2 => (random.millis(1, 500), Ok((200, Vec::new(), "nonsense"))),
                _ => (random.millis(1, 1_000), well),
            },
            Temper::Slow => match random.below(4) {
                0 => (FOR_EVER, well),
                1 => (random.millis(2_500, 3_500), well),
                _ => (random.millis(100, 5_000), well),
            },
            Temper::ComesAndGoes => {
                let is_down = (at.since(Monotonic::default()).as_secs() / 60).is_multiple_of(2);
                (random.millis(1, 400), if is_down { failure } else { well })
            }
            Temper::Refusing => match random.below(4) {
                0 => (random.millis(1, 200), Ok((429, Vec::new(), "too many"))),
                1 => {
                    let seconds = random.below(90).to_string();
                    (random.millis(1, 200), Ok((429, vec![("retry-after".into(), seconds)], "too many")))
                }
                _ => (random.millis(1, 1_000), well),
            },
        };
        self.clock.sleep(delay).await;
        answer
    }
}

impl Transport for Service {
    fn send<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Answer, SendError>> {
        Box::pin(async move {
            let Question::Http(question) = question else { unreachable!("the kind asks over HTTP") };
            let indicator = question.url.path().trim_start_matches('/').to_owned();
            let (status, headers, body) = self.answer(&indicator).await?;
            let body = AnswerBody::Http { status, headers, body: body.into() };
            Ok(Answer { received: self.clock.now(), ttl: None, body })
        })
    }
}
