//! The bench of the layers' tests: a clock that follows tokio's paused one, a ledger in memory, a scripted transport and
//! a kind whose answers say in one word what to read in them.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_util::task::TaskTracker;

use super::trip::{Suspension, lock};
use super::{Fetched, Parts, Request, SourceCache, SourceStack, Tally, Transport};
use crate::clock::Clock;
use crate::finding::{Disposition, Family, Finding, Outcome, OutcomeBody, Reliability, SourceError, SourceErrorKind};
use crate::indicator::{Form, Indicator, Tlp};
use crate::source::{
    About, Answer, AnswerBody, CacheTtl, CredentialNeed, CredentialPlace, HttpMethod, HttpQuestion, Lookup,
    OptionValue, Probe, Question, QuotaPer, QuotaWindow, Reading, Source, SourceSettings, Tier, TransportKind,
};
use crate::store::{
    Acquire, Acquired, AnswerStore, BoxFuture, Cursor, Disclosure, DisclosureFilter, Ledger, RawAnswer, StoreError,
    WindowUse,
};

mod keeping;
mod paying;
mod sharing;
mod talking;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Wall time that follows tokio's clock.
#[derive(Debug)]
pub(super) struct TestClock {
    start: tokio::time::Instant,
    back: Mutex<Duration>,
}

impl TestClock {
    /// Sets it back.
    pub(super) fn step_back(&self, duration: Duration) {
        *self.back.lock().unwrap() += duration;
    }
}

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.start.elapsed() - *self.back.lock().unwrap()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// What one call meets: a delay, then an answer or a failure.
#[derive(Clone, Debug)]
pub(super) struct Act {
    delay: Duration,
    result: Result<(u16, String, Option<u64>, Option<Duration>), SourceError>,
}

impl Act {
    /// Status 200 with this text.
    pub(super) fn says(text: &str) -> Self {
        Self { delay: Duration::ZERO, result: Ok((200, text.to_owned(), None, None)) }
    }

    /// This status, with a `Retry-After` of so many seconds.
    pub(super) fn status(status: u16, retry_after: Option<u64>) -> Self {
        Self { delay: Duration::ZERO, result: Ok((status, String::new(), retry_after, None)) }
    }

    /// A failure of the transport.
    pub(super) fn fails(error: SourceError) -> Self {
        Self { delay: Duration::ZERO, result: Err(error) }
    }

    /// The same, after a while.
    pub(super) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same, to be kept no longer than this.
    pub(super) fn for_at_most(mut self, ttl: Duration) -> Self {
        if let Ok(answer) = &mut self.result {
            answer.3 = Some(ttl);
        }
        self
    }
}

/// Plays one act per call, the last for ever, and notes the questions.
pub(super) struct Stage {
    clock: Arc<TestClock>,
    acts: Mutex<Vec<Act>>,
    pub(super) asked: Mutex<Vec<(SystemTime, Question)>>,
    pub(super) log: Log,
}

/// What happened in which order, across ledger and transport.
pub(super) type Log = Arc<Mutex<Vec<&'static str>>>;

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stage")
    }
}

impl Stage {
    /// How many calls left.
    pub(super) fn calls(&self) -> usize {
        lock(&self.asked).len()
    }

    /// Replaces the acts to come.
    pub(super) fn play(&self, acts: &[Act]) {
        *lock(&self.acts) = acts.to_vec();
    }

    /// When each call left, counted from the first.
    pub(super) fn times(&self) -> Vec<Duration> {
        let asked = lock(&self.asked);
        let first = asked.first().map_or(UNIX_EPOCH, |(time, _)| *time);
        asked.iter().map(|(time, _)| time.duration_since(first).unwrap_or_default()).collect()
    }
}

impl Transport for Stage {
    fn send<'a>(
        &'a self,
        question: &'a Question,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, SourceError>> + Send + 'a>> {
        Box::pin(async move {
            lock(&self.log).push("sent");
            lock(&self.asked).push((self.clock.now(), question.clone()));
            let act = {
                let mut acts = lock(&self.acts);
                if acts.len() > 1 { acts.remove(0) } else { acts.first().cloned().unwrap_or_else(|| Act::says("none")) }
            };
            tokio::time::sleep(act.delay).await;
            let (status, text, retry_after, ttl) = act.result?;
            let headers = retry_after.map(|seconds| ("retry-after".to_owned(), seconds.to_string()));
            let headers = headers.into_iter().collect();
            let body = AnswerBody::Http { status, headers, body: text.into_bytes() };
            Ok(Answer { received: self.clock.now(), ttl, body })
        })
    }
}

/// A kind that reads `found 5`, `none` and `more 5`; 5 is malicious if the option `threshold` is not above it.
pub(super) struct Word {
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
        let last = answers.last().ok_or_else(|| SourceError::malformed("no answer"))?;
        let text = String::from_utf8_lossy(last.http()?.1).into_owned();
        let rated = |number: &str| {
            let number: i64 = number.parse().map_err(|_| SourceError::malformed("not a number"))?;
            let malicious =
                matches!(self.options.get("threshold"), Some(OptionValue::Integer(least)) if number >= *least);
            let claim = if malicious { Disposition::Malicious } else { Disposition::Suspicious };
            Ok::<_, SourceError>(Finding::new(claim, None, format!("the source says {number}")))
        };
        let next = || Box::new(question(lookup.indicator.value(), answers.len() + 1));
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("found", number) => Ok(Reading::Found(rated(number)?)),
            ("more", "") => Ok(Reading::More { so_far: None, next: next() }),
            ("more", number) => Ok(Reading::More { so_far: Some(rated(number)?), next: next() }),
            ("none", _) if self.options.contains_key("strict") => Err(SourceError::malformed("none is no answer")),
            ("fault", _) => panic!("a fault in the kind"),
            ("none", _) => Ok(Reading::NoRecord),
            _ => Err(SourceError::malformed("an unknown word")),
        }
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

pub(super) fn about() -> About {
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
        base_url: Some("https://source.example.com".into()),
        tiers: vec![Tier { name: "free".into(), help: String::new(), quota: Vec::new() }],
        reliability: Reliability::B,
        max_tlp: Tlp::Amber,
        timeout: 10 * SECOND,
        cache_ttl: CacheTtl { finding: 3600 * SECOND, no_record: 600 * SECOND },
        family: None,
        options: Vec::new(),
        fetch_revision: 1,
        rating_revision: 1,
    }
}

pub(super) fn settings(about: &About) -> SourceSettings {
    let options = BTreeMap::from([("threshold".to_owned(), OptionValue::Integer(5))]);
    SourceSettings { tier: "free".into(), options, ..SourceSettings::from_defaults(about, "word") }
}

/// A ledger and a store of answers in memory.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) takes: Mutex<Vec<SystemTime>>,
    pub(super) disclosures: Mutex<Vec<Disclosure>>,
    pub(super) raw: Mutex<Vec<RawAnswer>>,
    pub(super) away: Mutex<bool>,
    pub(super) hangs: Mutex<bool>,
    pub(super) suspended: Suspension,
    /// How long each take takes, in order; afterwards no time.
    pub(super) lags: Mutex<Vec<Duration>>,
    log: Log,
}

impl Books {
    fn window(&self, window: QuotaWindow, at: SystemTime) -> WindowUse {
        let duration = match window.per {
            QuotaPer::Minute => 60 * SECOND,
            QuotaPer::Day => 86_400 * SECOND,
            QuotaPer::Month => 30 * 86_400 * SECOND,
        };
        let takes = lock(&self.takes);
        let inside: Vec<_> = takes.iter().filter(|time| **time + duration > at).collect();
        let resets_at = inside.first().map_or(at, |oldest| **oldest + duration);
        WindowUse { per: window.per, limit: window.limit, used: inside.len() as u64, resets_at }
    }

    fn reachable(&self) -> Result<(), StoreError> {
        if *lock(&self.away) { Err(StoreError::unavailable("away")) } else { Ok(()) }
    }
}

impl Ledger for Books {
    fn acquire(&self, acquire: Acquire) -> BoxFuture<'_, Acquired> {
        Box::pin(async move {
            if *lock(&self.hangs) {
                std::future::pending::<()>().await;
            }
            let lag = lock(&self.lags).pop();
            tokio::time::sleep(lag.unwrap_or_default()).await;
            self.reachable()?;
            lock(&self.log).push("taken");
            let uses: Vec<_> = acquire.windows.iter().map(|window| self.window(*window, acquire.at)).collect();
            if let Some(spent) = uses.iter().filter(|used| used.used >= used.limit).max_by_key(|used| used.resets_at) {
                return Ok(Acquired::Spent(*spent));
            }
            lock(&self.takes).push(acquire.at);
            Ok(Acquired::Granted(acquire.windows.iter().map(|window| self.window(*window, acquire.at)).collect()))
        })
    }

    fn usage<'a>(&'a self, _: &'a str, windows: &'a [QuotaWindow], at: SystemTime) -> BoxFuture<'a, Vec<WindowUse>> {
        Box::pin(async move { Ok(windows.iter().map(|window| self.window(*window, at)).collect()) })
    }

    fn disclose(&self, disclosure: Disclosure) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.reachable()?;
            lock(&self.log).push("disclosed");
            lock(&self.disclosures).push(disclosure);
            Ok(())
        })
    }

    fn disclosures(&self, _: DisclosureFilter, _: usize, _: Option<Cursor>) -> BoxFuture<'_, Vec<Disclosure>> {
        Box::pin(async { Ok(lock(&self.disclosures).clone()) })
    }

    fn prune_disclosures(&self, _: SystemTime) -> BoxFuture<'_, u64> {
        Box::pin(async { Ok(0) })
    }

    fn prune_quota(&self, _: SystemTime) -> BoxFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

impl AnswerStore for Books {
    fn keep_answer(&self, answer: RawAnswer) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            lock(&self.raw).push(answer);
            Ok(())
        })
    }

    fn answer<'a>(&'a self, hash: &'a str) -> BoxFuture<'a, Option<RawAnswer>> {
        Box::pin(async move { Ok(lock(&self.raw).iter().find(|raw| raw.hash == hash).cloned()) })
    }

    fn prune_answers(&self, _: SystemTime, _: u64) -> BoxFuture<'_, u64> {
        Box::pin(async { Ok(0) })
    }
}

/// One source with all that surrounds it.
pub(super) struct Bench {
    pub(super) stack: Arc<SourceStack>,
    pub(super) stage: Arc<Stage>,
    pub(super) books: Arc<Books>,
    pub(super) clock: Arc<TestClock>,
    pub(super) tracker: TaskTracker,
    pub(super) log: Log,
    cache: SourceCache,
}

impl Bench {
    /// A source without quota that plays these acts.
    pub(super) fn new(acts: &[Act]) -> Self {
        Self::with(about(), settings(&about()), acts)
    }

    /// A source with this quota per minute.
    pub(super) fn per_minute(limit: u64, acts: &[Act]) -> Self {
        let mut settings = settings(&about());
        settings.quota = vec![QuotaWindow { per: QuotaPer::Minute, limit }];
        Self::with(about(), settings, acts)
    }

    /// A source of this kind and with these settings.
    pub(super) fn with(about: About, settings: SourceSettings, acts: &[Act]) -> Self {
        let clock = Arc::new(TestClock { start: tokio::time::Instant::now(), back: Mutex::default() });
        let log = Log::default();
        let stage = Arc::new(Stage {
            clock: clock.clone(),
            acts: Mutex::new(acts.to_vec()),
            asked: Mutex::default(),
            log: log.clone(),
        });
        let books = Arc::new(Books { log: log.clone(), ..Books::default() });
        let (cache, tracker) = (SourceCache::new(1 << 20), TaskTracker::new());
        let stack = Arc::new(build(about, settings, &stage, &books, &clock, &cache, &tracker));
        Self { stack, stage, books, clock, tracker, log, cache }
    }

    /// The same surroundings under another kind or other settings, as after a change of settings.
    pub(super) fn change(&mut self, about: About, settings: SourceSettings) {
        let stack = build(about, settings, &self.stage, &self.books, &self.clock, &self.cache, &self.tracker);
        self.stack = Arc::new(stack);
    }

    /// A request about 192.0.2.1 with a minute's time.
    pub(super) fn request(&self) -> Request {
        self.request_for("192.0.2.1", 60 * SECOND)
    }

    /// A request about an address, with this much time.
    pub(super) fn request_for(&self, address: &str, time: Duration) -> Request {
        let indicator = Indicator::from_normal(Form::Ipv4, address).expect("an address");
        Request {
            lookup: Lookup { indicator },
            deadline: self.clock.now() + time,
            max_age: None,
            caller: "tester".into(),
            tlp: Tlp::Green,
        }
    }

    /// Looks up 192.0.2.1.
    pub(super) async fn look_up(&self) -> Fetched {
        self.stack.look_up(self.request()).await
    }

    /// Looks up on a task of its own.
    pub(super) fn begin(&self, request: Request) -> tokio::task::JoinHandle<Fetched> {
        let stack = self.stack.clone();
        self.tracker.spawn(async move { stack.look_up(request).await })
    }

    /// Waits for every task.
    pub(super) async fn settle(&self) {
        self.tracker.close();
        self.tracker.wait().await;
        self.tracker.reopen();
    }
}

fn build(
    about: About,
    settings: SourceSettings,
    stage: &Arc<Stage>,
    books: &Arc<Books>,
    clock: &Arc<TestClock>,
    cache: &SourceCache,
    tracker: &TaskTracker,
) -> SourceStack {
    let tally = Arc::new(Tally::of(&settings.name));
    SourceStack::new(Parts {
        source: Arc::new(Word { about, options: settings.options.clone() }),
        settings: Arc::new(settings),
        family: Family::same_kind("word"),
        account: "account".into(),
        suspended: books.suspended.clone(),
        transport: stage.clone(),
        ledger: books.clone(),
        answers: books.clone(),
        clock: clock.clone(),
        cache: cache.clone(),
        tracker: tracker.clone(),
        tally,
    })
}

/// The claim and the reasons of a finding.
pub(super) fn finding(outcome: &Outcome) -> (Disposition, Vec<String>) {
    match &outcome.body {
        OutcomeBody::Finding(finding) => (finding.claim, finding.reasons.clone()),
        other => panic!("no finding: {other:?}"),
    }
}

/// The error of an outcome.
pub(super) fn error(outcome: &Outcome) -> SourceError {
    match &outcome.body {
        OutcomeBody::Error(error) => error.clone(),
        other => panic!("no error: {other:?}"),
    }
}

/// Why a source was not asked.
pub(super) fn not_asked(outcome: &Outcome) -> crate::finding::NotAsked {
    match &outcome.body {
        OutcomeBody::NotAsked(not_asked) => not_asked.clone(),
        other => panic!("asked: {other:?}"),
    }
}
