//! The harness of the layers' tests: a manual clock over tokio's paused one, a fake ledger, a scripted transport, and a
//! kind whose answers say in one word what to read in them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use concord::clock::{Clock, ManualClock};
use concord::fetch::{
    Fetched, LookupRequest, PipelineParts, RemotePipeline, SendError, SourceCache, SourceCounters, SourceGuards,
    SourcePipeline, Transport, UnitAcquirer,
};
use concord::finding::{
    Disposition, Family, Finding, NotAsked, Outcome, OutcomeBody, Reliability, SourceError, SourceErrorKind, Strength,
};
use concord::indicator::{Form, Indicator, Tlp};
use concord::source::{
    About, Allowance, Answer, AnswerBody, CacheTtl, CredentialNeed, CredentialPlace, HttpMethod, HttpQuestion, Lookup,
    OptionValue, Priority, Probe, Purpose, Question, QuotaPer, QuotaWindow, Reading, Source, SourceSettings, Tier,
    TransportKind, WindowAllowance,
};
use concord::store::Ledger;
use futures_util::future;
use tokio_util::task::TaskTracker;

mod allowance;
mod budget;
mod cache;
mod coalesce;
mod conversation;
mod day;
mod guards;
mod ledger;
mod list;
mod pacing;
mod quota_and_retry;
mod reported;
mod restart;
mod stale;
mod waiting;

use self::ledger::FakeLedger;

const SECOND: Duration = Duration::from_secs(1);

/// What one call meets: a delay, then an answer or a failure.
#[derive(Clone, Debug)]
struct ScriptedReply {
    delay: Duration,
    result: Result<(u16, String, Option<u64>, Option<Duration>), SendError>,
    headers: Vec<(String, String)>,
}

impl ScriptedReply {
    fn new(result: Result<(u16, String, Option<u64>, Option<Duration>), SendError>) -> Self {
        Self { delay: Duration::ZERO, result, headers: Vec::new() }
    }

    /// Status 200 with this text.
    fn says(text: &str) -> Self {
        Self::new(Ok((200, text.to_owned(), None, None)))
    }

    /// This status, with a `Retry-After` of so many seconds.
    fn status(status: u16, retry_after: Option<u64>) -> Self {
        Self::new(Ok((status, String::new(), retry_after, None)))
    }

    /// A failure of the transport once the question was sent.
    fn fails(error: SourceError) -> Self {
        Self::new(Err(SendError::sent(error)))
    }

    /// No connection.
    fn unreachable(is_permanent: bool) -> Self {
        let error = SendError::not_sent(SourceError::unavailable("no connection"));
        Self::new(Err(SendError { is_permanent, ..error }))
    }

    /// The same, after a while.
    fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same, with this header.
    fn with_header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// The same, to be kept no longer than this.
    fn with_ttl(mut self, ttl: Duration) -> Self {
        if let Ok(answer) = &mut self.result {
            answer.3 = Some(ttl);
        }
        self
    }
}

/// Gives one reply per call, the last for ever, and notes the questions.
struct ScriptedTransport {
    clock: ManualClock,
    replies: Mutex<Vec<ScriptedReply>>,
    asked: Mutex<Vec<(SystemTime, Question)>>,
    /// The same for questions about the allowance.
    allowances: Mutex<Vec<ScriptedReply>>,
    allowance_readings: Mutex<Vec<SystemTime>>,
    log: Log,
}

/// What happened in which order, across ledger and transport.
type Log = Arc<Mutex<Vec<&'static str>>>;

impl fmt::Debug for ScriptedTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedTransport")
    }
}

impl ScriptedTransport {
    /// How many calls left.
    fn calls(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Replaces the replies to come.
    fn script(&self, replies: &[ScriptedReply]) {
        *self.replies.lock().unwrap() = replies.to_vec();
    }

    /// When each call left, counted from the first.
    fn times(&self) -> Vec<Duration> {
        let asked = self.asked.lock().unwrap();
        let first = asked.first().map_or(UNIX_EPOCH, |(time, _)| *time);
        asked.iter().map(|(time, _)| time.duration_since(first).unwrap_or_default()).collect()
    }
}

impl Transport for ScriptedTransport {
    fn send<'a>(&'a self, question: &'a Question) -> future::BoxFuture<'a, Result<Answer, SendError>> {
        Box::pin(async move {
            let is_look_up = !matches!(question, Question::Http(http) if http.url.path() == "/allowance");
            let replies = if is_look_up {
                self.log.lock().unwrap().push("sent");
                self.asked.lock().unwrap().push((self.clock.now(), question.clone()));
                &self.replies
            } else {
                self.allowance_readings.lock().unwrap().push(self.clock.now());
                &self.allowances
            };
            let reply = {
                let mut replies = replies.lock().unwrap();
                if replies.len() > 1 {
                    replies.remove(0)
                } else {
                    replies.first().cloned().unwrap_or_else(|| ScriptedReply::says("none"))
                }
            };
            self.clock.sleep(reply.delay).await;
            let (status, text, retry_after, ttl) = reply.result?;
            let headers = retry_after.map(|seconds| ("retry-after".to_owned(), seconds.to_string()));
            let headers = headers.into_iter().chain(reply.headers).collect();
            let body = AnswerBody::Http { status, headers, body: text.into_bytes() };
            Ok(Answer { received: self.clock.now(), ttl, body })
        })
    }
}

/// A kind that reads `found 5`, `none` and `more 5`; 5 is malicious if the option `threshold` is not above it. With the option
/// `extra` it asks one optional question after the first.
struct Word {
    about: About,
    options: BTreeMap<String, OptionValue>,
}

impl Source for Word {
    fn about(&self) -> &About {
        &self.about
    }

    fn ask(&self, lookup: &Lookup) -> Result<Question, SourceError> {
        if lookup.indicator.value() == "198.51.100.66" {
            return Err(SourceError::new(SourceErrorKind::BadQuestion, "nothing to ask"));
        }
        let depth = self.options.get("depth").map(ToString::to_string).unwrap_or_default();
        Ok(question(&format!("{}{depth}", lookup.indicator.value()), 1))
    }

    fn read(&self, lookup: &Lookup, answers: &[Answer]) -> Result<Reading, SourceError> {
        let last = answers.iter().rfind(|answer| answer.failure().is_none());
        let last = last.ok_or_else(|| SourceError::malformed("no answer"))?;
        let text = String::from_utf8_lossy(last.http()?.1).into_owned();
        let failure = answers.last().and_then(Answer::failure);
        let rated = |number: &str| {
            let number: i64 = number.parse().map_err(|_| SourceError::malformed("not a number"))?;
            let malicious =
                matches!(self.options.get("threshold"), Some(OptionValue::Integer(least)) if number >= *least);
            let claim = if malicious { Disposition::Malicious } else { Disposition::Suspicious };
            Ok::<_, SourceError>(Finding::new(claim, None, format!("the source says {number}")))
        };
        let next = || Box::new(question(lookup.indicator.value(), answers.len() + 1));
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("found", number) if self.options.contains_key("extra") && answers.len() == 1 => {
                Ok(Reading::More { partial_finding: Some(rated(number)?), next: next(), purpose: Purpose::Detail })
            }
            ("found", number) => {
                let mut finding = rated(number)?;
                finding.reasons.extend(failure.map(|error| format!("no more: {}", error.detail)));
                Ok(Reading::Found(finding))
            }
            ("more", "") => Ok(Reading::More { partial_finding: None, next: next(), purpose: Purpose::Claim }),
            ("more", number) => {
                Ok(Reading::More { partial_finding: Some(rated(number)?), next: next(), purpose: Purpose::Claim })
            }
            ("none", _) if self.options.contains_key("strict") => Err(SourceError::malformed("none is no answer")),
            ("fault", _) => panic!("a fault in the kind"),
            ("none", _) => Ok(Reading::NoRecord),
            _ => Err(SourceError::malformed("an unknown word")),
        }
    }

    fn allowance_question(&self) -> Option<Question> {
        self.options.contains_key("allowance").then(|| question("allowance", 1))
    }

    /// `9 of 500`: of a day.
    fn read_allowance(&self, answer: &Answer) -> Result<Allowance, SourceError> {
        let text = String::from_utf8_lossy(answer.http()?.1).into_owned();
        let (used, limit) = text.split_once(" of ").ok_or_else(|| SourceError::malformed("no allowance"))?;
        let number = |text: &str| text.parse().map_err(|_| SourceError::malformed("not a number"));
        let window = QuotaWindow { per: QuotaPer::Day, limit: number(limit)? };
        Ok(Allowance { tier: None, windows: vec![WindowAllowance { window, used: number(used)? }] })
    }

    fn probe(&self) -> Vec<Question> {
        vec![question("probe", 1)]
    }

    fn read_probe(&self, answers: &[Result<Answer, SourceError>]) -> Probe {
        let connectivity = answers.first().cloned().map_or(Ok(()), |answer| answer.map(|_| ()));
        Probe::new(connectivity, None, String::new())
    }
}

fn question(what: &str, step: usize) -> Question {
    let url = url::Url::parse(&format!("https://source.example.com/{what}?step={step}")).expect("an address");
    Question::Http(HttpQuestion {
        method: HttpMethod::Get,
        url,
        headers: Vec::new(),
        credential: CredentialPlace::None,
    })
}

fn about() -> About {
    About {
        kind: "word".into(),
        title: "Word".into(),
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
        timeout: 10 * SECOND,
        cache_ttl: CacheTtl::new(3600 * SECOND, 600 * SECOND),
        family: None,
        options: Vec::new(),
        relationships: &[],
        fetch_revision: 1,
        rating_revision: 1,
    }
}

fn settings(about: &About) -> SourceSettings {
    let options = BTreeMap::from([("threshold".to_owned(), OptionValue::Integer(5))]);
    SourceSettings { tier: "free".into(), options, ..SourceSettings::from_defaults(about, "word") }
}

/// One source with all that surrounds it.
struct Harness {
    pipeline: SourcePipeline,
    transport: Arc<ScriptedTransport>,
    ledger: Arc<FakeLedger>,
    /// The second level of the cache.
    rows: Arc<restart::CountingRows>,
    clock: ManualClock,
    log: Log,
    parts: PipelineParts,
}

impl Harness {
    /// A source without quota that plays these replies.
    fn new(replies: &[ScriptedReply]) -> Self {
        Self::with(about(), settings(&about()), replies)
    }

    /// A source with this quota per minute.
    fn per_minute(limit: u64, replies: &[ScriptedReply]) -> Self {
        let mut settings = settings(&about());
        settings.quota = vec![QuotaWindow { per: QuotaPer::Minute, limit }];
        Self::with(about(), settings, replies)
    }

    /// A source of this kind and with these settings.
    fn with(about: About, settings: SourceSettings, replies: &[ScriptedReply]) -> Self {
        let clock = ManualClock::following_tokio(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let log = Log::default();
        let transport = Arc::new(ScriptedTransport {
            clock: clock.clone(),
            replies: Mutex::new(replies.to_vec()),
            asked: Mutex::default(),
            allowances: Mutex::default(),
            allowance_readings: Mutex::default(),
            log: log.clone(),
        });
        let ledger = Arc::new(FakeLedger {
            clock: clock.clone(),
            acquired_at: Mutex::default(),
            disclosures: Mutex::default(),
            raw_answers: Mutex::default(),
            unreachable: Mutex::default(),
            hangs: Mutex::default(),
            lags: Mutex::default(),
            settled_at: Mutex::default(),
            asked: Mutex::default(),
            charged: Mutex::default(),
            log: log.clone(),
        });
        let (shared_clock, tracker): (Arc<dyn Clock>, _) = (Arc::new(clock.clone()), TaskTracker::new());
        let rows = Arc::new(restart::CountingRows::default());
        let parts = PipelineParts {
            source: Arc::new(Word { about, options: settings.options.clone() }),
            family: Family::same_kind("word"),
            account: "account".into(),
            account_state: Arc::default(),
            guards: Arc::new(SourceGuards::new(&settings)),
            transport: transport.clone(),
            withhold: Arc::new(|_| None),
            acquirer: UnitAcquirer::new(ledger.clone(), shared_clock.clone(), tracker.clone()),
            ledger: ledger.clone(),
            clock: shared_clock,
            cache: SourceCache::new(1 << 20, rows.clone(), ledger.clone(), &clock, tracker.clone()),
            tracker,
            counters: Arc::new(SourceCounters::new(&settings.name)),
            settings: Arc::new(settings),
        };
        Self { pipeline: pipeline(parts.clone()), transport, ledger, rows, clock, log, parts }
    }

    /// The same source over this ledger, with this clock.
    fn over(mut self, ledger: Arc<dyn Ledger>) -> Self {
        let (clock, tracker) = (self.parts.clock.clone(), self.parts.tracker.clone());
        self.parts.acquirer = UnitAcquirer::new(ledger.clone(), clock, tracker);
        self.parts.ledger = ledger;
        self.pipeline = pipeline(self.parts.clone());
        self
    }

    /// The same source under this rule.
    fn withhold(&mut self, rule: impl Fn(&Indicator) -> Option<NotAsked> + Send + Sync + 'static) {
        self.parts.withhold = Arc::new(rule);
        self.pipeline = pipeline(self.parts.clone());
    }

    /// The same surroundings under another kind or other settings, as after a change of settings.
    fn change(&mut self, about: About, settings: SourceSettings) {
        let (source, settings) = (Arc::new(Word { about, options: settings.options.clone() }), Arc::new(settings));
        self.pipeline = pipeline(PipelineParts { source, settings, ..self.parts.clone() });
    }

    /// Until when the account is left alone.
    fn suspended_until(&self) -> Option<SystemTime> {
        self.parts.account_state.suspended_until(&self.clock)
    }

    /// A request about 192.0.2.1 with a minute's time.
    fn request(&self) -> LookupRequest {
        self.request_for("192.0.2.1", 60 * SECOND)
    }

    /// A request about an address, with this much time.
    fn request_for(&self, address: &str, time: Duration) -> LookupRequest {
        let indicator = Indicator::from_normal(Form::Ipv4, address).expect("an address");
        LookupRequest {
            lookup: Lookup::new(indicator),
            deadline: self.clock.monotonic() + time,
            max_age: None,
            priority: Priority::Interactive,
            max_units: None,
            caller: "tester".into(),
            tlp: Tlp::Green,
        }
    }

    /// Looks up 192.0.2.1.
    async fn look_up(&self) -> Fetched {
        self.pipeline.look_up(self.request()).await
    }

    /// Looks up on a task of its own.
    fn begin(&self, request: LookupRequest) -> tokio::task::JoinHandle<Fetched> {
        let pipeline = self.pipeline.clone();
        self.parts.tracker.spawn(async move { pipeline.look_up(request).await })
    }

    /// Waits for every task.
    async fn tasks(&self) {
        self.parts.tracker.close();
        self.parts.tracker.wait().await;
        self.parts.tracker.reopen();
    }
}

fn pipeline(parts: PipelineParts) -> SourcePipeline {
    SourcePipeline::Remote(Arc::new(RemotePipeline::new(parts)))
}

/// The claim and the reasons of a finding.
fn finding(outcome: &Outcome) -> (Disposition, Vec<String>) {
    match &outcome.body {
        OutcomeBody::Finding(finding) => (finding.claim, finding.reasons.clone()),
        other => panic!("no finding: {other:?}"),
    }
}

/// The error of an outcome.
fn error(outcome: &Outcome) -> SourceError {
    match &outcome.body {
        OutcomeBody::Error(error) => error.clone(),
        other => panic!("no error: {other:?}"),
    }
}

/// Why a source was not asked.
fn not_asked(outcome: &Outcome) -> concord::finding::NotAsked {
    match &outcome.body {
        OutcomeBody::NotAsked(not_asked) => not_asked.clone(),
        other => panic!("asked: {other:?}"),
    }
}
