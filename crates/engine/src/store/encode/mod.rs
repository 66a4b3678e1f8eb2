//! Lossless encoding of verdicts: the messages of `proto/concord/store/v1`, compressed with zstd.
//!
//! An unknown enum value, a missing part or a number out of range is an error and never becomes a default. The proto
//! file says how the messages may change.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost::Message;
use zstd::bulk::Compressor;

/// Maps an enum to that of the store's proto file and back. Both matches are exhaustive, so that a new variant on
/// either side does not compile until it is listed.
macro_rules! stored_enum {
    ($name:ident: $($variant:ident)+) => {
        impl From<$name> for stored::$name {
            fn from(value: $name) -> Self {
                match value {
                    $($name::$variant => Self::$variant,)+
                }
            }
        }

        impl TryFrom<stored::$name> for $name {
            type Error = StoreError;

            fn try_from(value: stored::$name) -> Result<Self, StoreError> {
                match value {
                    $(stored::$name::$variant => Ok(Self::$variant),)+
                    stored::$name::Unspecified => Err(unreadable(concat!("unknown ", stringify!($name)))),
                }
            }
        }
    };
}

mod analysis;
mod cached;
mod feedback;
mod submission;

pub(super) use submission::{decode_submission, encode_submission};

use super::{StoreError, VerdictRecord};
use crate::finding::{
    Disposition, Fact, FactValue, Family, FamilyBasis, Finding, NotAsked, NotAskedReason, Outcome, OutcomeBody,
    Relation, RelationName, Reliability, SourceError, SourceErrorKind, Strength, XsoarClaim,
};
use crate::indicator::{Form, Indicator};
use crate::verdict::{
    Analysis, AnalystJudgement, Assumption, Conflict, Contribution, PolicyRef, RuleKind, Term, Verdict, Weighing,
};

#[allow(clippy::all, missing_docs, unreachable_pub, reason = "generated code")]
mod stored {
    include!(concat!(env!("OUT_DIR"), "/concord.store.v1.rs"));
}

/// A zstd level that costs little time.
const LEVEL: i32 = 3;

thread_local! {
    /// Kept, since making one takes longer than compressing a small body. It takes a few megabytes at most.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    let compressed = COMPRESSOR.with_borrow_mut(|compressor| match compressor {
        Some(compressor) => compressor.compress(bytes),
        None => compressor.insert(Compressor::new(LEVEL)?).compress(bytes),
    });
    compressed.map_err(|error| StoreError::unavailable(format!("compressing: {error}")))
}

/// Reverses [`compress`].
pub(super) fn decompress(bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    zstd::decode_all(bytes).map_err(unreadable)
}

/// What the body of a row holds: a verdict, the answers behind it (source and hash), and the units that were spent for them.
pub(super) type Body = (Verdict, Vec<(String, String)>, Option<BTreeMap<String, u32>>);

/// Encodes the body of a row.
pub(super) fn encode(record: &VerdictRecord) -> Vec<u8> {
    let answer = |(source, hash): &(String, String)| stored::AnswerRef { source: source.clone(), hash: hash.clone() };
    let of_source = |(source, units): (&String, &u32)| stored::SourceUnits { source: source.clone(), units: *units };
    let body = stored::VerdictBody {
        verdict: Some((&record.verdict).into()),
        answers: record.answers.iter().map(answer).collect(),
        units: record.units.as_ref().map(|units| stored::Units { sources: units.iter().map(of_source).collect() }),
    };
    body.encode_to_vec()
}

/// Reverses [`encode`].
pub(super) fn decode(bytes: &[u8]) -> Result<Body, StoreError> {
    let body = stored::VerdictBody::decode(bytes).map_err(unreadable)?;
    let answers = body.answers.into_iter().map(|answer| (answer.source, answer.hash)).collect();
    let units = |units: stored::Units| units.sources.into_iter().map(|of| (of.source, of.units)).collect();
    Ok((required(body.verdict)?.try_into()?, answers, body.units.map(units)))
}

fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::corrupt(format!("a stored body cannot be read: {error}"))
}

fn required<T>(field: Option<T>) -> Result<T, StoreError> {
    field.ok_or_else(|| unreadable(format_args!("{} is missing", std::any::type_name::<T>())))
}

fn time(stored: prost_types::Timestamp) -> Result<SystemTime, StoreError> {
    stored.try_into().map_err(unreadable)
}

fn stored_duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: duration.subsec_nanos().cast_signed() }
}

fn duration(stored: prost_types::Duration) -> Result<Duration, StoreError> {
    match (u64::try_from(stored.seconds), u32::try_from(stored.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(unreadable("a duration is out of range")),
    }
}

stored_enum!(Form: Ipv4 Ipv6 Domain Url Md5 Sha1 Sha256);
stored_enum!(Disposition: Unknown Benign Suspicious Malicious);
stored_enum!(Reliability: APlus A B C D E F);
stored_enum!(FamilyBasis: Declared Republished SameKind);
stored_enum!(SourceErrorKind: Unauthorized Forbidden BadQuestion QuotaExhausted Refused Unavailable Timeout Malformed TooLarge);
stored_enum!(NotAskedReason: TypeUnsupported Disabled NotConfigured Tlp NeverSend PrivateAddress InternalName UrlCredentials QuotaSpent Deadline VerdictSettled Budget QuotaReserve CircuitOpen CallerBudget Pacing Pinned);
stored_enum!(Assumption: MissingAnswers WrongAnswers);
stored_enum!(AnalystJudgement: TruePositive FalsePositive Benign);
stored_enum!(RuleKind: Weighted Xsoar Worst Majority Mean);

impl From<&Indicator> for stored::Indicator {
    fn from(indicator: &Indicator) -> Self {
        // The password of a URL is never stored.
        Self { form: stored::Form::from(indicator.form()).into(), value: indicator.redacted() }
    }
}

impl TryFrom<stored::Indicator> for Indicator {
    type Error = StoreError;

    fn try_from(indicator: stored::Indicator) -> Result<Self, StoreError> {
        Ok(Self::from_stored(indicator.form().try_into()?, &indicator.value))
    }
}

impl From<&Verdict> for stored::Verdict {
    fn from(verdict: &Verdict) -> Self {
        let analysis = &verdict.analysis;
        let policy = stored::Policy {
            name: verdict.policy.name.clone(),
            revision: verdict.policy.revision,
            rule: stored::RuleKind::from(verdict.policy.rule).into(),
        };
        Self {
            indicator: Some((&verdict.indicator).into()),
            disposition: stored::Disposition::from(verdict.disposition).into(),
            summary: String::new(),
            probability: verdict.probability,
            mean: verdict.mean,
            lacks_coverage: verdict.lacks_coverage,
            leave_one_out: analysis.leave_one_out.iter().map(Into::into).collect(),
            flips: analysis.flips.iter().map(Into::into).collect(),
            margins: analysis.margins.iter().map(Into::into).collect(),
            reach: Some((&analysis.reach).into()),
            pin: verdict.pin.as_ref().map(Into::into),
            feedback: verdict.feedback.iter().map(Into::into).collect(),
            sources_disposition: Some(stored::Disposition::from(verdict.sources_disposition).into()),
            log_odds_micro: verdict.log_odds_micro,
            coverage: Some(verdict.coverage),
            conflict: verdict
                .conflict
                .map(|conflict| stored::Conflict { mass: Some(conflict.mass), flagged: conflict.flagged }),
            contributions: verdict.contributions.iter().map(Into::into).collect(),
            deciding_source: verdict.deciding_source.clone(),
            outcomes: verdict.outcomes.iter().map(|outcome| stored::Outcome::from(outcome.as_ref())).collect(),
            policy: Some(policy),
            partial: verdict.partial,
            judged_time: Some(verdict.judged_time.into()),
        }
    }
}

impl TryFrom<stored::Verdict> for Verdict {
    type Error = StoreError;

    fn try_from(verdict: stored::Verdict) -> Result<Self, StoreError> {
        let policy = required(verdict.policy.as_ref())?;
        let conflict = |conflict: stored::Conflict| {
            Ok::<_, StoreError>(Conflict { mass: required(conflict.mass)?, flagged: conflict.flagged })
        };
        let sources_disposition = match verdict.sources_disposition {
            Some(_) => verdict.sources_disposition(),
            None => verdict.disposition(),
        };
        Ok(Self {
            disposition: verdict.disposition().try_into()?,
            sources_disposition: sources_disposition.try_into()?,
            pin: verdict.pin.map(TryInto::try_into).transpose()?,
            feedback: verdict.feedback.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            policy: PolicyRef { name: policy.name.clone(), revision: policy.revision, rule: rule(policy)? },
            indicator: required(verdict.indicator)?.try_into()?,
            lacks_coverage: verdict.lacks_coverage,
            mean: verdict.mean,
            analysis: Analysis {
                leave_one_out: verdict.leave_one_out.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
                flips: verdict.flips.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
                margins: verdict.margins.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
                reach: verdict.reach.map(Into::into).unwrap_or_default(),
            },
            probability: verdict.probability,
            log_odds_micro: verdict.log_odds_micro,
            coverage: required(verdict.coverage)?,
            conflict: verdict.conflict.map(conflict).transpose()?,
            contributions: verdict.contributions.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            deciding_source: verdict.deciding_source,
            outcomes: verdict.outcomes.into_iter().map(shared_outcome).collect::<Result<_, _>>()?,
            partial: verdict.partial,
            judged_time: time(required(verdict.judged_time)?)?,
        })
    }
}

/// The rule of a policy. The first version had two policies and did not say it.
fn rule(policy: &stored::Policy) -> Result<RuleKind, StoreError> {
    match policy.rule() {
        stored::RuleKind::Unspecified if policy.name == "xsoar" => Ok(RuleKind::Xsoar),
        stored::RuleKind::Unspecified => Ok(RuleKind::Weighted),
        rule => rule.try_into(),
    }
}

impl From<&Contribution> for stored::Contribution {
    fn from(contribution: &Contribution) -> Self {
        Self {
            term: Some(match &contribution.term {
                Term::Prior => stored::contribution::Term::Prior(()),
                Term::Calibration => stored::contribution::Term::Calibration(()),
                Term::Source(name) => stored::contribution::Term::Source(name.clone()),
            }),
            reliability: contribution.reliability.map(|letter| stored::Reliability::from(letter).into()),
            claim: contribution.claim.map(|claim| stored::Disposition::from(claim).into()),
            strength: contribution.strength.map(Strength::get),
            age: contribution.age.map(stored_duration),
            micro_nats: contribution.micro_nats,
            agrees: contribution.agrees,
            sentence: String::new(),
            weighing: contribution.weighing.map(|weighing| stored::Weighing {
                fresh: weighing.fresh,
                own: weighing.own,
                pooled: weighing.pooled,
            }),
        }
    }
}

impl TryFrom<stored::Contribution> for Contribution {
    type Error = StoreError;

    fn try_from(contribution: stored::Contribution) -> Result<Self, StoreError> {
        Ok(Self {
            reliability: contribution.reliability.map(|_| contribution.reliability().try_into()).transpose()?,
            claim: contribution.claim.map(|_| contribution.claim().try_into()).transpose()?,
            term: match required(contribution.term)? {
                stored::contribution::Term::Prior(()) => Term::Prior,
                stored::contribution::Term::Calibration(()) => Term::Calibration,
                stored::contribution::Term::Source(name) => Term::Source(name),
            },
            strength: contribution.strength.map(Strength::clamped),
            age: contribution.age.map(duration).transpose()?,
            micro_nats: contribution.micro_nats,
            agrees: contribution.agrees,
            weighing: contribution.weighing.map(|weighing| Weighing {
                fresh: weighing.fresh,
                own: weighing.own,
                pooled: weighing.pooled,
            }),
        })
    }
}

fn shared_outcome(outcome: stored::Outcome) -> Result<Arc<Outcome>, StoreError> {
    Outcome::try_from(outcome).map(Arc::new)
}

impl From<&Outcome> for stored::Outcome {
    fn from(outcome: &Outcome) -> Self {
        Self {
            source: outcome.source.clone(),
            kind: outcome.kind.clone(),
            reliability: stored::Reliability::from(outcome.reliability).into(),
            family: Some(stored::Family {
                name: outcome.family.name.clone(),
                basis: stored::FamilyBasis::from(outcome.family.basis).into(),
                independence_key: outcome.family.independence_key.clone(),
            }),
            time: Some(outcome.time.into()),
            body: Some(match &outcome.body {
                OutcomeBody::Finding(finding) => stored::outcome::Body::Finding(finding.into()),
                OutcomeBody::NoRecord => stored::outcome::Body::NoRecord(()),
                OutcomeBody::Error(error) => stored::outcome::Body::Error(stored::SourceError {
                    kind: stored::SourceErrorKind::from(error.kind).into(),
                    detail: error.detail.clone(),
                    retry_after: error.retry_after.map(stored_duration),
                }),
                OutcomeBody::NotAsked(not_asked) => stored::outcome::Body::NotAsked(stored::NotAsked {
                    reason: stored::NotAskedReason::from(not_asked.reason).into(),
                    detail: not_asked.detail.clone(),
                    until: not_asked.until.map(Into::into),
                }),
            }),
        }
    }
}

impl TryFrom<stored::Outcome> for Outcome {
    type Error = StoreError;

    fn try_from(outcome: stored::Outcome) -> Result<Self, StoreError> {
        let reliability = outcome.reliability().try_into()?;
        let family = required(outcome.family)?;
        Ok(Self {
            reliability,
            source: outcome.source,
            kind: outcome.kind,
            family: Family {
                basis: family.basis().try_into()?,
                name: family.name,
                independence_key: family.independence_key,
            },
            time: time(required(outcome.time)?)?,
            body: match required(outcome.body)? {
                stored::outcome::Body::Finding(finding) => OutcomeBody::Finding(finding.try_into()?),
                stored::outcome::Body::NoRecord(()) => OutcomeBody::NoRecord,
                stored::outcome::Body::Error(error) => OutcomeBody::Error(SourceError {
                    kind: error.kind().try_into()?,
                    detail: error.detail,
                    retry_after: error.retry_after.map(duration).transpose()?,
                }),
                stored::outcome::Body::NotAsked(not_asked) => OutcomeBody::NotAsked(NotAsked {
                    reason: not_asked.reason().try_into()?,
                    detail: not_asked.detail,
                    until: not_asked.until.map(time).transpose()?,
                }),
            },
        })
    }
}

impl From<&Finding> for stored::Finding {
    fn from(finding: &Finding) -> Self {
        let relation = |relation: &Relation| stored::Relation {
            relation: relation.name.as_str().to_owned(),
            indicator: Some((&relation.indicator).into()),
            source_name: relation.source_name.clone(),
        };
        Self {
            claim: stored::Disposition::from(finding.claim).into(),
            strength: finding.strength.map(Strength::get),
            observed_time: finding.observed_time.map(Into::into),
            reasons: finding.reasons.clone(),
            facts: finding.facts.iter().map(Into::into).collect(),
            relations: finding.relations.iter().map(relation).collect(),
            tags: finding.tags.clone(),
            permalink: finding.permalink.clone(),
            xsoar: finding.xsoar.as_ref().map(|xsoar| stored::XsoarClaim {
                claim: stored::Disposition::from(xsoar.claim).into(),
                reason: xsoar.reason.clone(),
            }),
        }
    }
}

impl TryFrom<stored::Finding> for Finding {
    type Error = StoreError;

    fn try_from(finding: stored::Finding) -> Result<Self, StoreError> {
        let relation = |relation: stored::Relation| {
            Ok(Relation {
                // A later version may know more names.
                name: relation.relation.parse().unwrap_or(RelationName::RelatedTo),
                source_name: relation.source_name,
                indicator: required(relation.indicator)?.try_into()?,
            })
        };
        let xsoar = |xsoar: stored::XsoarClaim| {
            Ok::<_, StoreError>(XsoarClaim { claim: xsoar.claim().try_into()?, reason: xsoar.reason })
        };
        Ok(Self {
            claim: finding.claim().try_into()?,
            strength: finding.strength.map(Strength::clamped),
            observed_time: finding.observed_time.map(time).transpose()?,
            reasons: finding.reasons,
            facts: finding.facts.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            relations: finding.relations.into_iter().map(relation).collect::<Result<_, StoreError>>()?,
            tags: finding.tags,
            permalink: finding.permalink,
            xsoar: finding.xsoar.map(xsoar).transpose()?,
        })
    }
}

impl From<&Fact> for stored::Fact {
    fn from(fact: &Fact) -> Self {
        let value = match &fact.value {
            FactValue::Text(text) => stored::fact::Value::Text(text.clone()),
            FactValue::Integer(number) => stored::fact::Value::Integer(*number),
            FactValue::Number(number) => stored::fact::Value::Number(*number),
            FactValue::Flag(flag) => stored::fact::Value::Flag(*flag),
            FactValue::Time(time) => stored::fact::Value::Time((*time).into()),
            FactValue::List(texts) => stored::fact::Value::List(stored::TextList { texts: texts.clone() }),
        };
        Self { name: fact.name.clone(), value: Some(value) }
    }
}

impl TryFrom<stored::Fact> for Fact {
    type Error = StoreError;

    fn try_from(fact: stored::Fact) -> Result<Self, StoreError> {
        let value = match required(fact.value)? {
            stored::fact::Value::Text(text) => FactValue::Text(text),
            stored::fact::Value::Integer(number) => FactValue::Integer(number),
            stored::fact::Value::Number(number) => FactValue::Number(number),
            stored::fact::Value::Flag(flag) => FactValue::Flag(flag),
            stored::fact::Value::Time(stored) => FactValue::Time(time(stored)?),
            stored::fact::Value::List(list) => FactValue::List(list.texts),
        };
        Ok(Self { name: fact.name, value })
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;
    use crate::indicator::Tlp;
    use crate::verdict::{Policy, fuse};

    fn verdict() -> Verdict {
        let indicator = Indicator::parse("192.0.2.1").expect("an address").indicator;
        fuse(&Policy::built_in()[0], &indicator, UNIX_EPOCH, Vec::<Outcome>::new())
    }

    fn encoded(verdict: Verdict) -> Vec<u8> {
        let (id, create_time, caller) = ("v1".to_owned(), UNIX_EPOCH, "tester".to_owned());
        encode(&VerdictRecord { id, create_time, caller, tlp: Tlp::Red, verdict, answers: Vec::new(), units: None })
    }

    fn decoded(verdict: &Verdict) -> Verdict {
        decode(&encoded(verdict.clone())).expect("decoded").0
    }

    fn check_number(number: f64) {
        let conflict = Some(Conflict { mass: number, flagged: false });
        let written = Verdict { probability: Some(number), coverage: number, conflict, ..verdict() };
        let read = decoded(&written);
        for read in [read.probability.expect("a number"), read.coverage, read.conflict.expect("a conflict").mass] {
            assert_eq!(read.to_bits(), number.to_bits(), "{number}");
        }
    }

    fn check_time(time: SystemTime) {
        assert_eq!(decoded(&Verdict { judged_time: time, ..verdict() }).judged_time, time);
    }

    #[test]
    fn numbers_survive_bit_for_bit() {
        for number in [0.1 + 0.2, f64::MIN_POSITIVE, 1.0e300, 0.0, -0.0, f64::INFINITY, 0.123_456_789_012_345_67] {
            check_number(number);
        }
    }

    #[test]
    fn moments_survive_to_the_nanosecond_on_both_sides_of_1970() {
        let duration = Duration::new(3, 999_999_999);
        for time in [UNIX_EPOCH, UNIX_EPOCH + duration, UNIX_EPOCH - duration, UNIX_EPOCH - Duration::from_secs(2)] {
            check_time(time);
        }
    }

    #[test]
    fn a_damaged_body_is_an_error() {
        assert!(decode(b"").is_err(), "fields are missing");
        let whole = compress(&encoded(verdict())).expect("compressed");
        assert!(decompress(whole.get(..5).unwrap_or_default()).is_err(), "cut off");
        assert!(decompress(b"").is_err(), "empty");
    }

    #[test]
    fn an_enum_value_of_a_newer_version_is_an_error() {
        for disposition in [0, 99] {
            let verdict = Some(stored::Verdict { disposition, ..(&verdict()).into() });
            let bytes = stored::VerdictBody { verdict, answers: Vec::new(), units: None }.encode_to_vec();
            let error = decode(&bytes).expect_err("refused");
            assert!(error.detail.contains("unknown Disposition"), "{error}");
            assert!(!error.is_transient());
        }
    }

    #[test]
    fn a_time_or_duration_out_of_range_is_an_error() {
        for (seconds, nanos) in [(i64::MIN, 0), (i64::MIN, i32::MIN), (-1, 0), (0, -1), (0, 1_000_000_000)] {
            assert!(duration(prost_types::Duration { seconds, nanos }).is_err(), "{seconds} {nanos}");
        }
        for (seconds, nanos) in [(i64::MIN, i32::MIN), (i64::MIN, 0), (i64::MAX, i32::MAX)] {
            // The result depends on the range of the system's clock; it must not panic.
            let _ = time(prost_types::Timestamp { seconds, nanos });
        }
    }

    proptest! {
        #[test]
        fn any_number_and_any_time_survive(bits: u64, seconds in 0..400_000_000_000_u64, nanos in 0..1_000_000_000_u32) {
            let duration = Duration::new(seconds, nanos);
            check_number(f64::from_bits(bits));
            check_time(UNIX_EPOCH + duration);
            check_time(UNIX_EPOCH - duration);
        }

        #[test]
        fn any_bytes_are_a_verdict_or_an_error(bytes: Vec<u8>, place: prop::sample::Index, byte: u8) {
            let _ = decode(&bytes);
            let _ = decompress(&bytes);
            let mut damaged = encoded(verdict());
            let place = place.index(damaged.len());
            damaged[place] = byte;
            let _ = decode(&damaged);
        }
    }
}
