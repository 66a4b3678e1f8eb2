//! What the tests store.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use concord::finding::{
    Disposition, Fact, FactValue, Family, Finding, NotAsked, NotAskedReason, Outcome, OutcomeBody, Relation,
    RelationName, Reliability, SourceError, SourceErrorKind, Strength,
};
use concord::indicator::{Form, Indicator, Tlp};
use concord::source::{QuotaLimits, QuotaPer, QuotaWindow};
use concord::store::{
    Acquire, Acquired, Disclosure, RawAnswer, Retention, SourceRow, Store, StoreError, Unit, VerdictRecord, WindowUse,
};
use concord::verdict::{
    Analysis, AnalystJudgement, AnalystWord, Assumption, Conflict, Contribution, Flip, LeaveOneOut, Margin, Newcomers,
    PolicyRef, Reach, ReportChange, RuleKind, Term, Verdict, Weighing,
};

/// 2026-03-31T23:59:00Z: the last minute of a month.
pub const MONTH_END: Duration = Duration::from_secs(1_775_001_540);

pub fn at(seconds: f64) -> SystemTime {
    UNIX_EPOCH + MONTH_END + Duration::from_secs_f64(seconds)
}

pub fn second(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn ip(value: &str) -> Indicator {
    Indicator::from_normal(Form::Ipv4, value).expect("an address in normal form")
}

pub fn outcome(source: &str, body: OutcomeBody) -> Outcome {
    Outcome {
        source: source.into(),
        kind: "test".into(),
        reliability: Reliability::APlus,
        family: Family::same_kind("test"),
        time: at(1.5),
        body,
    }
}

/// One of everything that a verdict can hold. The frozen fixtures hold it too: what is added later goes into another one.
pub fn rich_verdict(indicator: Indicator) -> Verdict {
    let mut finding = Finding::new(Disposition::Malicious, Some(Strength::clamped(0.1 + 0.2)), "7 of 70 engines");
    finding.observed_time = Some(UNIX_EPOCH - Duration::new(1, 1));
    finding.permalink = Some("https://example.com/report".into());
    finding.tags = vec!["botnet".into(), "ümlaut".into()];
    let forms = [Form::Ipv4, Form::Ipv6, Form::Domain, Form::Url, Form::Md5, Form::Sha1, Form::Sha256];
    finding.relations = forms
        .map(|form| Relation {
            name: RelationName::RelatedTo,
            source_name: String::new(),
            indicator: Indicator::from_stored(form, form.as_str()),
        })
        .into();
    finding.facts = vec![
        Fact::new("country", "NL"),
        Fact::new("as_number", -7_i64),
        Fact::new("score", 0.1_f64 + 0.7),
        Fact::new("listed", true),
        Fact::new("last_seen", at(0.123_456_789)),
        Fact::new("names", FactValue::List(vec!["a.example.com".into(), String::new()])),
    ];
    let mut error = SourceError::new(SourceErrorKind::Timeout, "no answer in 5 s");
    error.retry_after = Some(Duration::new(3, 7));
    let mut not_asked = NotAsked::new(NotAskedReason::QuotaSpent, "4 a minute");
    not_asked.until = Some(at(60.0));
    let mut declared = outcome("c", OutcomeBody::Error(error));
    declared.family = Family::declared("shared", "list:feed.txt");
    let mut republished = outcome("d", OutcomeBody::NotAsked(not_asked));
    republished.family = Family::republished("origin", "collector");
    let term = |term, micro_nats| Contribution {
        term,
        reliability: Some(Reliability::B),
        claim: Some(Disposition::Suspicious),
        strength: Some(Strength::FULL),
        age: Some(Duration::new(86_400, 999_999_999)),
        micro_nats,
        agrees: Some(true),
        weighing: Some(Weighing { fresh: -7, own: -6, pooled: i64::MIN }),
    };
    let bare = Contribution {
        reliability: None,
        claim: None,
        strength: None,
        age: None,
        agrees: None,
        weighing: None,
        ..term(Term::Prior, i64::MIN)
    };
    use NotAskedReason as Reason;
    use SourceErrorKind as Kind;
    let mut outcomes =
        vec![outcome("a", OutcomeBody::Finding(finding)), outcome("b", OutcomeBody::NoRecord), declared, republished];
    let letters = [Reliability::A, Reliability::B, Reliability::C, Reliability::D, Reliability::E, Reliability::F];
    outcomes.extend(letters.map(|reliability| Outcome { reliability, ..outcome("e", OutcomeBody::NoRecord) }));
    let kinds = [
        Kind::Unauthorized,
        Kind::Forbidden,
        Kind::BadQuestion,
        Kind::QuotaExhausted,
        Kind::Refused,
        Kind::Unavailable,
        Kind::Malformed,
        Kind::TooLarge,
    ];
    outcomes.extend(kinds.map(|kind| outcome("f", OutcomeBody::Error(SourceError::new(kind, "")))));
    let reasons = [
        Reason::TypeUnsupported,
        Reason::Disabled,
        Reason::NotConfigured,
        Reason::Tlp,
        Reason::NeverSend,
        Reason::PrivateAddress,
        Reason::InternalName,
        Reason::UrlCredentials,
        Reason::Deadline,
    ];
    outcomes.extend(reasons.map(|reason| outcome("g", OutcomeBody::NotAsked(NotAsked::new(reason, "")))));
    outcomes.extend(
        [Disposition::Unknown, Disposition::Benign, Disposition::Suspicious]
            .map(|claim| outcome("h", OutcomeBody::Finding(Finding::new(claim, None, "")))),
    );
    Verdict {
        indicator,
        disposition: Disposition::Malicious,
        sources_disposition: Disposition::Suspicious,
        pin: Some(word(AnalystJudgement::TruePositive, Some(at(9.000_000_001)))),
        feedback: vec![word(AnalystJudgement::FalsePositive, None), word(AnalystJudgement::Benign, Some(at(9.0)))],
        lacks_coverage: true,
        mean: Some(-0.0),
        analysis: rich_analysis(),
        probability: Some(0.999_999_999_999_999_9),
        log_odds_micro: Some(i64::MAX),
        coverage: 2.0 / 3.0,
        conflict: Some(Conflict { mass: 0.1 * 3.0, flagged: true }),
        contributions: vec![bare, term(Term::Calibration, 0), term(Term::Source("a".into()), -5)],
        deciding_source: Some("a".into()),
        outcomes: outcomes.into_iter().map(Into::into).collect(),
        policy: PolicyRef { name: "weighted".into(), revision: 3, rule: RuleKind::Majority },
        partial: true,
        judged_time: at(2.000_000_001),
    }
}

fn word(judgement: AnalystJudgement, expire_time: Option<SystemTime>) -> AnalystWord {
    AnalystWord {
        feedback: "f1".into(),
        judgement,
        author: "alice".into(),
        caller: "soar".into(),
        reason: "our scanner".into(),
        create_time: at(1.000_000_001),
        expire_time,
    }
}

/// With every kind of change, and each part that may be absent both ways.
fn rich_analysis() -> Analysis {
    let left_out = |micro_nats| LeaveOneOut { source: "a".into(), micro_nats, disposition: Disposition::Unknown };
    let flip = |assumption, from, log_odds_micro| Flip {
        disposition: Disposition::Benign,
        assumption,
        changes: vec![ReportChange { source: "b".into(), from, to: Disposition::Unknown }],
        log_odds_micro,
    };
    let newcomers = Newcomers { count: 2, reliability: Reliability::E, claim: Disposition::Malicious };
    let margin = |micro_nats, example| Margin { disposition: Disposition::Suspicious, micro_nats, example };
    Analysis {
        leave_one_out: vec![left_out(None), left_out(Some(i64::MIN))],
        flips: vec![
            flip(Assumption::MissingAnswers, None, None),
            flip(Assumption::WrongAnswers, Some(Disposition::Malicious), Some(i64::MAX)),
        ],
        margins: vec![margin(-1, None), margin(0, Some(newcomers))],
        reach: Reach { can_change: true, sources: vec!["b".into(), "c".into()] },
    }
}

pub fn record(id: &str, address: &str, disposition: Disposition, seconds: f64) -> VerdictRecord {
    let mut verdict = rich_verdict(ip(address));
    verdict.disposition = disposition;
    VerdictRecord {
        id: id.into(),
        create_time: at(seconds),
        caller: "analyst".into(),
        tlp: Tlp::AmberStrict,
        verdict,
        answers: vec![("b".into(), "f00d".into()), ("a".into(), "beef".into())],
        units: Some([("a".into(), 1), ("b".into(), u32::MAX)].into()),
    }
}

pub fn ids(records: &[VerdictRecord]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

pub fn acquire(account: &str, windows: &[(QuotaPer, u64)], seconds: f64) -> Acquire {
    Acquire { unit: unit(account, seconds), limits: windows_of(windows), budget: None, disclosures: Vec::new() }
}

pub fn unit(account: &str, seconds: f64) -> Unit {
    Unit { account: account.into(), source: "test".into(), at: at(seconds), charged_to: None }
}

/// One take, whose call ends at once.
pub async fn take(store: &dyn Store, acquire: Acquire) -> Result<Acquired, StoreError> {
    let unit = acquire.unit.clone();
    let acquired = store.acquire(vec![acquire]).await?.remove(0);
    let ended = unit.at;
    store.settle(unit, ended).await?;
    Ok(acquired)
}

pub fn windows_of(windows: &[(QuotaPer, u64)]) -> QuotaLimits {
    windows.iter().map(|(per, limit)| QuotaWindow { per: *per, limit: *limit }).collect::<Vec<_>>().into()
}

pub async fn granted(store: &dyn Store, windows: &[(QuotaPer, u64)], seconds: f64) -> Vec<u64> {
    match take(store, acquire("account", windows, seconds)).await.expect("a take") {
        Acquired::Granted(uses) => uses.iter().map(|window| window.used).collect(),
        Acquired::Spent(window) | Acquired::OverBudget(window) => panic!("spent: {window:?}"),
    }
}

pub async fn spent(store: &dyn Store, windows: &[(QuotaPer, u64)], seconds: f64) -> WindowUse {
    match take(store, acquire("account", windows, seconds)).await.expect("a take") {
        Acquired::Granted(uses) => panic!("granted: {uses:?}"),
        Acquired::OverBudget(window) => panic!("over budget: {window:?}"),
        Acquired::Spent(window) => window,
    }
}

pub fn answer(hash: &str, body: &[u8], seconds: f64) -> RawAnswer {
    RawAnswer { hash: hash.into(), source: "test".into(), received: at(seconds), body: body.into() }
}

pub fn everything_stays() -> Retention {
    let long = second(365 * 86_400);
    Retention {
        answers_age: long,
        answers_bytes: u64::MAX,
        verdicts_age: long,
        disclosures_age: long,
        store_bytes: u64::MAX,
    }
}

pub fn disclosure(id: &str, address: &str, source: &str, seconds: f64) -> Disclosure {
    Disclosure {
        id: id.into(),
        time: at(seconds),
        indicator: ip(address),
        source: source.into(),
        to: "api.example.com".into(),
        caller: "analyst".into(),
        tlp: Tlp::Green,
        submission: None,
    }
}

pub fn row(revision: u64, document: &str) -> SourceRow {
    SourceRow { name: "alpha".into(), revision, document: document.into(), credential: Some(vec![0, 159, 255]) }
}

/// A number that looks like chance.
pub fn noise(seed: u32) -> u64 {
    u64::from(seed)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
}
