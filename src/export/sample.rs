//! Two verdicts that together have every member an export can write. Built by hand, so that a change of the judge
//! does not change what is tested here.

use std::time::{Duration, SystemTime};

use crate::finding::{
    Disposition, Fact, FactValue, Family, Finding, NotAsked, NotAskedReason, Outcome, OutcomeBody, Relation,
    Reliability, SourceError, SourceErrorKind, Strength,
};
use crate::indicator::Indicator;
use crate::verdict::{Conflict, Contribution, PolicyRef, Term, Verdict};

/// 2025-06-01T12:00:00Z.
fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_748_779_200)
}

fn read(text: &str) -> Indicator {
    Indicator::parse(text).unwrap().indicator
}

fn outcome(source: &str, reliability: Reliability, family: Family, body: OutcomeBody) -> Outcome {
    Outcome { source: source.into(), kind: "test".into(), reliability, family, time: noon(), body }
}

fn found() -> Finding {
    Finding {
        observed_time: Some(noon() - Duration::from_secs(86_400)),
        facts: vec![
            Fact::new("country", "NL"),
            Fact::new("as_number", 64_496_i64),
            Fact::new("score", 0.5),
            Fact::new("is_tor", false),
            Fact::new("first_seen", noon() - Duration::from_millis(1500)),
            Fact { name: "rules".into(), value: FactValue::List(vec!["one".into(), "two".into()]) },
        ],
        relations: vec![Relation { relation: "resolves".into(), indicator: read("www.example.com") }],
        tags: vec!["=botnet".into()],
        permalink: Some("https://example.com/192.0.2.1".into()),
        ..Finding::new(Disposition::Malicious, Some(Strength::FULL), "12 of 94 engines malicious, threshold 10")
    }
}

fn outcomes() -> Vec<Outcome> {
    let timeout = SourceError::new(SourceErrorKind::Timeout, "no answer in 5 s");
    let spent = NotAsked {
        until: Some(noon() + Duration::from_secs(43_200)),
        ..NotAsked::new(NotAskedReason::QuotaSpent, "500 of 500 calls used today")
    };
    vec![
        outcome("a", Reliability::B, Family::same_kind("virustotal"), OutcomeBody::Finding(found())),
        outcome("b", Reliability::APlus, Family::declared("mirror", "list:feed.txt"), OutcomeBody::NoRecord),
        outcome(
            "c",
            Reliability::C,
            Family::republished("urlhaus", "collector"),
            OutcomeBody::Error(timeout.retry_after(Some(Duration::from_millis(29_500)))),
        ),
        outcome("d", Reliability::D, Family::same_kind("d"), OutcomeBody::NotAsked(spent)),
    ]
}

fn term(term: Term, micro_nats: i64, sentence: &str) -> Contribution {
    let sentence = sentence.to_owned();
    Contribution { term, reliability: None, claim: None, strength: None, age: None, micro_nats, agrees: None, sentence }
}

/// A verdict with probability and terms.
pub(super) fn weighted() -> Verdict {
    let claim = Contribution {
        reliability: Some(Reliability::B),
        claim: Some(Disposition::Malicious),
        strength: Some(Strength::FULL),
        age: Some(Duration::from_secs(86_400)),
        agrees: Some(true),
        ..term(Term::Source("a".into()), 3_075_775, "a says malicious.")
    };
    Verdict {
        indicator: read("192.0.2.1"),
        disposition: Disposition::Malicious,
        summary: "malicious (80.5 %): 1 of 3 sources says malicious, 1 has no record, 1 failed".into(),
        probability: Some(0.805),
        log_odds_micro: Some(1_417_547),
        coverage: 0.625,
        conflict: Some(Conflict { mass: 0.0, flagged: false }),
        contributions: vec![
            term(Term::Prior, -1_658_228, "The prior."),
            term(Term::Calibration, 0, "No correction."),
            claim,
        ],
        deciding_source: None,
        outcomes: outcomes(),
        policy: PolicyRef { name: "weighted".into(), revision: 1 },
        partial: true,
        judged_time: noon(),
    }
}

/// A verdict that one source decided.
pub(super) fn compatible() -> Verdict {
    Verdict {
        indicator: read("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        disposition: Disposition::Benign,
        summary: "@benign, \"a\" decides".into(),
        probability: None,
        log_odds_micro: None,
        conflict: None,
        contributions: Vec::new(),
        deciding_source: Some("a".into()),
        outcomes: Vec::new(),
        policy: PolicyRef { name: "xsoar".into(), revision: 2 },
        partial: false,
        ..weighted()
    }
}
