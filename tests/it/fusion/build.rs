//! Outcomes and policies for the tests.

use std::time::{Duration, SystemTime};

use concord::finding::{
    Disposition, Family, Finding, NotAsked, NotAskedReason, Outcome, OutcomeBody, Reliability, SourceError,
    SourceErrorKind, Strength,
};
use concord::indicator::{Indicator, IndicatorType};
use concord::verdict::{Policy, Rule, Term, Verdict, WeightedRule, fuse};

pub const DAY: u64 = 86_400;

/// The moment for which the tests judge.
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(20_000 * DAY)
}

/// An indicator of this type, from the ranges that are set aside for documentation.
pub fn indicator(indicator_type: IndicatorType) -> Indicator {
    let text = match indicator_type {
        IndicatorType::Ip => "192.0.2.1",
        IndicatorType::Domain => "www.example.com",
        IndicatorType::Url => "http://www.example.com/a",
        IndicatorType::File => "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    };
    Indicator::parse(text).expect("a documentation indicator is read").indicator
}

/// An outcome of a source that is alone in its family.
pub fn outcome(source: &str, letter: Reliability, body: OutcomeBody) -> Outcome {
    Outcome {
        source: source.into(),
        kind: "test".into(),
        reliability: letter,
        family: Family::same_kind(source),
        time: now(),
        body,
    }
}

/// A fresh claim.
pub fn claim(source: &str, letter: Reliability, claim: Disposition) -> Outcome {
    outcome(source, letter, OutcomeBody::Finding(Finding::new(claim, None, "as the test wants it")))
}

/// The same outcome, its claim affirmed this many days ago.
pub fn aged(mut outcome: Outcome, days: i64) -> Outcome {
    if let OutcomeBody::Finding(finding) = &mut outcome.body {
        let span = Duration::from_secs(days.unsigned_abs() * DAY);
        finding.observed_time = Some(if days < 0 { now() + span } else { now() - span });
    }
    outcome
}

/// The same outcome, its claim of this strength.
pub fn strong(mut outcome: Outcome, strength: Option<f64>) -> Outcome {
    if let OutcomeBody::Finding(finding) = &mut outcome.body {
        finding.strength = strength.map(Strength::clamped);
    }
    outcome
}

/// The same outcome, in this family.
pub fn in_family(mut outcome: Outcome, family: Family) -> Outcome {
    outcome.family = family;
    outcome
}

/// A source that failed.
pub fn failed(source: &str, letter: Reliability) -> Outcome {
    outcome(source, letter, OutcomeBody::Error(SourceError::new(SourceErrorKind::Timeout, "no answer in 5 s")))
}

/// A source that was not asked.
pub fn not_asked(source: &str, letter: Reliability, reason: NotAskedReason) -> Outcome {
    outcome(source, letter, OutcomeBody::NotAsked(NotAsked::new(reason, "as the test wants it")))
}

/// The built-in policy of this name.
pub fn policy(name: &str) -> Policy {
    Policy::built_in().into_iter().find(|policy| policy.name == name).expect("the policy is built in")
}

/// The weighted policy with other numbers.
pub fn changed(change: impl FnOnce(&mut WeightedRule)) -> Policy {
    let mut rule = WeightedRule::built_in();
    change(&mut rule);
    Policy { rule: Rule::Weighted(rule), ..policy("weighted") }
}

/// Judged by the default policy.
pub fn judge(indicator_type: IndicatorType, outcomes: Vec<Outcome>) -> Verdict {
    fuse(&policy("weighted"), &indicator(indicator_type), now(), outcomes)
}

/// The term of a source.
pub fn term(verdict: &Verdict, source: &str) -> Option<i64> {
    let wanted = Term::Source(source.into());
    verdict.contributions.iter().find(|contribution| contribution.term == wanted).map(|found| found.micro_nats)
}
