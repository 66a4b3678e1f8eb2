//! Verdicts as bytes and back, exactly: JSON of twin structs, compressed with zstd.
//!
//! The twins are ours to keep readable for years; the words of floor 0 stay free of serde. A new field gets a serde
//! default, a changed meaning a new `version`. Numbers with a fraction are kept as text, which reads back bit by bit.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::error::ParseEnumError;
use crate::finding::{
    Disposition, Fact, FactValue, Family, FamilyBasis, Finding, NotAsked, Outcome, OutcomeBody, Relation, Reliability,
    SourceError, Strength,
};
use crate::indicator::{Indicator, Tlp};
use crate::verdict::{Conflict, Contribution, PolicyRef, Term, Verdict};

/// How the body is laid out.
const VERSION: u32 = 1;

/// The level of zstd that costs little time.
const LEVEL: i32 = 3;

/// Compresses.
pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    zstd::encode_all(bytes, LEVEL).map_err(|error| StoreError::new(format!("compressing: {error}")))
}

/// Decompresses what [`compress`] made.
pub(super) fn decompress(bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    zstd::decode_all(bytes).map_err(|error| StoreError::new(format!("a kept body is damaged: {error}")))
}

/// A verdict and the answers behind it, as compressed JSON.
pub(super) fn encode(verdict: &Verdict, answers: &[(String, String)]) -> Result<Vec<u8>, StoreError> {
    let body = BodyTwin { version: VERSION, verdict: VerdictTwin::of(verdict), answers: answers.to_vec() };
    let json = serde_json::to_vec(&body).map_err(|error| StoreError::new(format!("writing a verdict: {error}")))?;
    compress(&json)
}

/// What [`encode`] wrote.
pub(super) fn decode(bytes: &[u8]) -> Result<(Verdict, Vec<(String, String)>), StoreError> {
    let json = decompress(bytes)?;
    let body: BodyTwin = serde_json::from_slice(&json)
        .map_err(|error| StoreError::new(format!("a kept verdict is damaged: {error}")))?;
    if body.version != VERSION {
        return Err(StoreError::new(format!("a kept verdict has layout {}, unknown to this version", body.version)));
    }
    Ok((body.verdict.verdict()?, body.answers))
}

/// The indicator of a form's word and a value that was kept.
pub(super) fn indicator(form: &str, value: &str) -> Result<Indicator, StoreError> {
    Ok(Indicator::from_stored(word(form)?, value))
}

/// The label that this word names.
pub(super) fn tlp(text: &str) -> Result<Tlp, StoreError> {
    word(text)
}

fn word<T: FromStr<Err = ParseEnumError>>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|error: ParseEnumError| StoreError::new(error.to_string()))
}

#[derive(Serialize, Deserialize)]
struct BodyTwin {
    version: u32,
    verdict: VerdictTwin,
    answers: Vec<(String, String)>,
}

/// A number as text: JSON numbers are not read back exactly by every reader, and have no infinity.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct Exact(f64);

impl From<Exact> for String {
    fn from(number: Exact) -> Self {
        format!("{:?}", number.0)
    }
}

impl TryFrom<String> for Exact {
    type Error = std::num::ParseFloatError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

/// A moment: whole seconds since 1970, rounded down, and nanoseconds.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Moment(i64, u32);

impl Moment {
    fn of(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()),
            Err(before) => {
                let duration = before.duration();
                let seconds = i64::try_from(duration.as_secs()).map_or(i64::MIN, |seconds| -seconds);
                match duration.subsec_nanos() {
                    0 => Self(seconds, 0),
                    nanos => Self(seconds.saturating_sub(1), 1_000_000_000 - nanos),
                }
            }
        }
    }

    fn time(self) -> Result<SystemTime, StoreError> {
        let duration = Duration::from_secs(self.0.unsigned_abs());
        let whole = if self.0 < 0 { UNIX_EPOCH.checked_sub(duration) } else { UNIX_EPOCH.checked_add(duration) };
        whole
            .and_then(|whole| whole.checked_add(Duration::from_nanos(u64::from(self.1))))
            .ok_or_else(|| StoreError::new("a kept time is out of range"))
    }
}

fn optional_time(moment: Option<Moment>) -> Result<Option<SystemTime>, StoreError> {
    moment.map(Moment::time).transpose()
}

#[derive(Serialize, Deserialize)]
struct IndicatorTwin {
    form: String,
    value: String,
}

impl IndicatorTwin {
    fn of(indicator: &Indicator) -> Self {
        Self { form: indicator.form().as_str().to_owned(), value: indicator.value().to_owned() }
    }

    fn indicator(&self) -> Result<Indicator, StoreError> {
        indicator(&self.form, &self.value)
    }
}

#[derive(Serialize, Deserialize)]
struct VerdictTwin {
    indicator: IndicatorTwin,
    disposition: String,
    summary: String,
    probability: Option<Exact>,
    log_odds_micro: Option<i64>,
    coverage: Exact,
    conflict: Option<(Exact, bool)>,
    contributions: Vec<ContributionTwin>,
    deciding_source: Option<String>,
    outcomes: Vec<OutcomeTwin>,
    policy: (String, u32),
    partial: bool,
    judged_time: Moment,
}

impl VerdictTwin {
    fn of(verdict: &Verdict) -> Self {
        Self {
            indicator: IndicatorTwin::of(&verdict.indicator),
            disposition: verdict.disposition.as_str().to_owned(),
            summary: verdict.summary.clone(),
            probability: verdict.probability.map(Exact),
            log_odds_micro: verdict.log_odds_micro,
            coverage: Exact(verdict.coverage),
            conflict: verdict.conflict.map(|conflict| (Exact(conflict.mass), conflict.flagged)),
            contributions: verdict.contributions.iter().map(ContributionTwin::of).collect(),
            deciding_source: verdict.deciding_source.clone(),
            outcomes: verdict.outcomes.iter().map(OutcomeTwin::of).collect(),
            policy: (verdict.policy.name.clone(), verdict.policy.revision),
            partial: verdict.partial,
            judged_time: Moment::of(verdict.judged_time),
        }
    }

    fn verdict(self) -> Result<Verdict, StoreError> {
        Ok(Verdict {
            indicator: self.indicator.indicator()?,
            disposition: disposition(&self.disposition)?,
            summary: self.summary,
            probability: self.probability.map(|number| number.0),
            log_odds_micro: self.log_odds_micro,
            coverage: self.coverage.0,
            conflict: self.conflict.map(|(mass, flagged)| Conflict { mass: mass.0, flagged }),
            contributions: each(self.contributions, ContributionTwin::contribution)?,
            deciding_source: self.deciding_source,
            outcomes: each(self.outcomes, OutcomeTwin::outcome)?,
            policy: PolicyRef { name: self.policy.0, revision: self.policy.1 },
            partial: self.partial,
            judged_time: self.judged_time.time()?,
        })
    }
}

fn each<A, B>(twins: Vec<A>, read: fn(A) -> Result<B, StoreError>) -> Result<Vec<B>, StoreError> {
    twins.into_iter().map(read).collect()
}

fn disposition(text: &str) -> Result<Disposition, StoreError> {
    word(text)
}

fn reliability(text: &str) -> Result<Reliability, StoreError> {
    word(text)
}

fn strength(number: Exact) -> Strength {
    Strength::clamped(number.0)
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TermTwin {
    Prior,
    Calibration,
    Source(String),
}

#[derive(Serialize, Deserialize)]
struct ContributionTwin {
    term: TermTwin,
    reliability: Option<String>,
    claim: Option<String>,
    strength: Option<Exact>,
    age: Option<Duration>,
    micro_nats: i64,
    agrees: Option<bool>,
    sentence: String,
}

impl ContributionTwin {
    fn of(contribution: &Contribution) -> Self {
        Self {
            term: match &contribution.term {
                Term::Prior => TermTwin::Prior,
                Term::Calibration => TermTwin::Calibration,
                Term::Source(name) => TermTwin::Source(name.clone()),
            },
            reliability: contribution.reliability.map(|letter| letter.as_str().to_owned()),
            claim: contribution.claim.map(|claim| claim.as_str().to_owned()),
            strength: contribution.strength.map(|strength| Exact(strength.get())),
            age: contribution.age,
            micro_nats: contribution.micro_nats,
            agrees: contribution.agrees,
            sentence: contribution.sentence.clone(),
        }
    }

    fn contribution(self) -> Result<Contribution, StoreError> {
        Ok(Contribution {
            term: match self.term {
                TermTwin::Prior => Term::Prior,
                TermTwin::Calibration => Term::Calibration,
                TermTwin::Source(name) => Term::Source(name),
            },
            reliability: self.reliability.as_deref().map(reliability).transpose()?,
            claim: self.claim.as_deref().map(disposition).transpose()?,
            strength: self.strength.map(strength),
            age: self.age,
            micro_nats: self.micro_nats,
            agrees: self.agrees,
            sentence: self.sentence,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct FamilyTwin {
    name: String,
    basis: FamilyBasisTwin,
    independence_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FamilyBasisTwin {
    Declared,
    Republished,
    SameKind,
}

#[derive(Serialize, Deserialize)]
struct OutcomeTwin {
    source: String,
    kind: String,
    reliability: String,
    family: FamilyTwin,
    time: Moment,
    body: OutcomeBodyTwin,
}

impl OutcomeTwin {
    fn of(outcome: &Outcome) -> Self {
        Self {
            source: outcome.source.clone(),
            kind: outcome.kind.clone(),
            reliability: outcome.reliability.as_str().to_owned(),
            family: FamilyTwin {
                name: outcome.family.name.clone(),
                basis: match outcome.family.basis {
                    FamilyBasis::Declared => FamilyBasisTwin::Declared,
                    FamilyBasis::Republished => FamilyBasisTwin::Republished,
                    FamilyBasis::SameKind => FamilyBasisTwin::SameKind,
                },
                independence_key: outcome.family.independence_key.clone(),
            },
            time: Moment::of(outcome.time),
            body: OutcomeBodyTwin::of(&outcome.body),
        }
    }

    fn outcome(self) -> Result<Outcome, StoreError> {
        Ok(Outcome {
            source: self.source,
            kind: self.kind,
            reliability: reliability(&self.reliability)?,
            family: Family {
                name: self.family.name,
                basis: match self.family.basis {
                    FamilyBasisTwin::Declared => FamilyBasis::Declared,
                    FamilyBasisTwin::Republished => FamilyBasis::Republished,
                    FamilyBasisTwin::SameKind => FamilyBasis::SameKind,
                },
                independence_key: self.family.independence_key,
            },
            time: self.time.time()?,
            body: self.body.body()?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutcomeBodyTwin {
    Finding(FindingTwin),
    NoRecord,
    Error { kind: String, detail: String, retry_after: Option<Duration> },
    NotAsked { reason: String, detail: String, until: Option<Moment> },
}

impl OutcomeBodyTwin {
    fn of(body: &OutcomeBody) -> Self {
        match body {
            OutcomeBody::Finding(finding) => Self::Finding(FindingTwin::of(finding)),
            OutcomeBody::NoRecord => Self::NoRecord,
            OutcomeBody::Error(error) => Self::Error {
                kind: error.kind.as_str().to_owned(),
                detail: error.detail.clone(),
                retry_after: error.retry_after,
            },
            OutcomeBody::NotAsked(not_asked) => Self::NotAsked {
                reason: not_asked.reason.as_str().to_owned(),
                detail: not_asked.detail.clone(),
                until: not_asked.until.map(Moment::of),
            },
        }
    }

    fn body(self) -> Result<OutcomeBody, StoreError> {
        Ok(match self {
            Self::Finding(finding) => OutcomeBody::Finding(finding.finding()?),
            Self::NoRecord => OutcomeBody::NoRecord,
            Self::Error { kind, detail, retry_after } => {
                let kind = word(&kind)?;
                OutcomeBody::Error(SourceError { kind, detail, retry_after })
            }
            Self::NotAsked { reason, detail, until } => {
                let reason = word(&reason)?;
                OutcomeBody::NotAsked(NotAsked { reason, detail, until: optional_time(until)? })
            }
        })
    }
}

#[derive(Serialize, Deserialize)]
struct FindingTwin {
    claim: String,
    strength: Option<Exact>,
    observed_time: Option<Moment>,
    reasons: Vec<String>,
    facts: Vec<(String, FactTwin)>,
    relations: Vec<(String, IndicatorTwin)>,
    tags: Vec<String>,
    permalink: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FactTwin {
    Text(String),
    Integer(i64),
    Number(Exact),
    Flag(bool),
    Time(Moment),
    List(Vec<String>),
}

impl FactTwin {
    fn of(value: &FactValue) -> Self {
        match value {
            FactValue::Text(text) => Self::Text(text.clone()),
            FactValue::Integer(number) => Self::Integer(*number),
            FactValue::Number(number) => Self::Number(Exact(*number)),
            FactValue::Flag(flag) => Self::Flag(*flag),
            FactValue::Time(time) => Self::Time(Moment::of(*time)),
            FactValue::List(list) => Self::List(list.clone()),
        }
    }

    fn value(self) -> Result<FactValue, StoreError> {
        Ok(match self {
            Self::Text(text) => FactValue::Text(text),
            Self::Integer(number) => FactValue::Integer(number),
            Self::Number(number) => FactValue::Number(number.0),
            Self::Flag(flag) => FactValue::Flag(flag),
            Self::Time(moment) => FactValue::Time(moment.time()?),
            Self::List(list) => FactValue::List(list),
        })
    }
}

impl FindingTwin {
    fn of(finding: &Finding) -> Self {
        let relation = |relation: &Relation| (relation.relation.clone(), IndicatorTwin::of(&relation.indicator));
        Self {
            claim: finding.claim.as_str().to_owned(),
            strength: finding.strength.map(|strength| Exact(strength.get())),
            observed_time: finding.observed_time.map(Moment::of),
            reasons: finding.reasons.clone(),
            facts: finding.facts.iter().map(|fact| (fact.name.clone(), FactTwin::of(&fact.value))).collect(),
            relations: finding.relations.iter().map(relation).collect(),
            tags: finding.tags.clone(),
            permalink: finding.permalink.clone(),
        }
    }

    fn finding(self) -> Result<Finding, StoreError> {
        Ok(Finding {
            claim: disposition(&self.claim)?,
            strength: self.strength.map(strength),
            observed_time: optional_time(self.observed_time)?,
            reasons: self.reasons,
            facts: each(self.facts, |(name, value)| Ok(Fact { name, value: value.value()? }))?,
            relations: each(self.relations, |(relation, twin)| {
                Ok(Relation { relation, indicator: twin.indicator()? })
            })?,
            tags: self.tags,
            permalink: self.permalink,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_bit_by_bit() {
        for number in [0.1 + 0.2, f64::MIN_POSITIVE, 1.0e300, -0.0, f64::INFINITY, 0.123_456_789_012_345_67] {
            let json = serde_json::to_string(&Exact(number)).expect("written");
            let read: Exact = serde_json::from_str(&json).expect("read");
            assert_eq!(read.0.to_bits(), number.to_bits(), "{json}");
        }
    }

    #[test]
    fn moments_survive_to_the_nanosecond_on_both_sides_of_1970() {
        let duration = Duration::new(3, 999_999_999);
        for time in [UNIX_EPOCH, UNIX_EPOCH + duration, UNIX_EPOCH - duration, UNIX_EPOCH - Duration::from_secs(2)] {
            assert_eq!(Moment::of(time).time().expect("read"), time);
        }
    }

    #[test]
    fn a_damaged_body_is_an_error() {
        let body = compress(b"{\"version\":1}").expect("compressed");
        assert!(decode(&body).is_err(), "fields are missing");
        assert!(decode(body.get(..5).unwrap_or_default()).is_err(), "cut off");
        assert!(decode(b"").is_err(), "empty");
    }
}
