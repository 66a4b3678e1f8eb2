//! The sentences that explain a verdict: one a term, and the summary that an analyst reads first.
//!
//! A sentence says what went in and what came out; it never decides anything.

use std::time::{Duration, SystemTime};

use super::evidence::{nats, remaining};
use super::fuse::{Judgement, age, was_asked};
use super::policy::TypeNumbers;
use crate::finding::{Disposition, Family, FamilyBasis, Finding, Outcome, OutcomeBody, Reliability};
use crate::indicator::IndicatorType;

const DAY: Duration = Duration::from_secs(86_400);

/// A source's evidence on its own, in its family, and as it stands in the verdict, in micro-nats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights {
    pub own: i64,
    pub pooled: i64,
    pub term: i64,
}

/// The sentence of the prior.
pub(super) fn prior(indicator_type: IndicatorType, prior: f64) -> String {
    let what = match indicator_type {
        IndicatorType::Ip => "address",
        IndicatorType::Domain => "domain",
        IndicatorType::Url => "URL",
        IndicatorType::File => "file",
    };
    format!("Before any source is asked, {} of a looked-up {what} being malicious is assumed.", chance(prior))
}

fn chance(probability: f64) -> String {
    format!("a chance of {:.0} %", probability * 100.0)
}

/// The sentence of the calibration.
pub(super) fn calibration(correction: i64) -> String {
    if correction == 0 {
        "The policy is not corrected by feedback.".to_owned()
    } else {
        format!("Fitting the policy to feedback moves the sum by {}.", signed(correction))
    }
}

/// The sentence of a source that was asked.
pub(super) fn source(numbers: &TypeNumbers, at: SystemTime, outcome: &Outcome, weights: Weights) -> String {
    let who = format!("{} ({})", outcome.source, outcome.reliability);
    match &outcome.body {
        OutcomeBody::Finding(finding) => {
            finding_sentence(&who, numbers, age(outcome, finding, at), outcome, finding, weights)
        }
        OutcomeBody::NoRecord => format!("{who} has no record of it, which speaks neither for nor against it."),
        OutcomeBody::Error(error) => format!("{who} failed ({}), which says nothing of the indicator.", error.kind),
        OutcomeBody::NotAsked(not_asked) => format!("{who} was not asked ({}).", not_asked.reason),
    }
}

fn finding_sentence(
    who: &str,
    numbers: &TypeNumbers,
    age: Duration,
    outcome: &Outcome,
    finding: &Finding,
    weights: Weights,
) -> String {
    if finding.claim == Disposition::Unknown {
        return format!("{who} knows it and takes no side.");
    }
    let mut text = format!("{who} says {}", finding.claim);
    if let Some(strength) = finding.strength {
        text += &format!(" with strength {:.2}", strength.get());
    }
    text += &format!(", affirmed {}", ago(age));
    if outcome.reliability == Reliability::F {
        return text + "; a source that cannot be judged weighs nothing.";
    }
    let left = remaining(numbers.ageing.as_ref(), age);
    if left < 1.0 {
        text += &format!("; with age {} of it still counts", percent(left));
    }
    if weights.pooled != weights.own {
        let share = percent(weights.pooled as f64 / weights.own as f64);
        text += &format!("; {} {share} of its {} is added", company(&outcome.family), signed(weights.own));
    }
    text + &format!(": {}.", signed(weights.term))
}

/// Why a source does not count in full.
fn company(family: &Family) -> String {
    let name = &family.name;
    match family.basis {
        FamilyBasis::Declared => format!("since it shares data with others of the family {name},"),
        FamilyBasis::Republished => format!("since others pass on the data of {name} too,"),
        FamilyBasis::SameKind => format!("since the sources of {name} are not independent,"),
    }
}

fn ago(age: Duration) -> String {
    match age.as_secs() / DAY.as_secs() {
        0 => "within the last day".to_owned(),
        1 => "1 day ago".to_owned(),
        days => format!("{days} days ago"),
    }
}

fn signed(micro: i64) -> String {
    if micro == 0 { "no evidence".to_owned() } else { format!("{:+.3} nats", nats(micro)) }
}

/// A share in percent. Only what is exactly 0 or 1 is shown as 0 or 100: rounding must not feign certainty.
fn percent(share: f64) -> String {
    let shown = share * 100.0;
    if share > 0.0 && shown < 0.05 {
        "<0.1 %".to_owned()
    } else if share < 1.0 && shown >= 99.95 {
        ">99.9 %".to_owned()
    } else {
        format!("{shown:.1} %")
    }
}

/// The one line that an analyst reads first.
pub(super) fn summary(judgement: &Judgement, outcomes: &[Outcome]) -> String {
    let mut text = judgement.disposition.to_string();
    if let Some(probability) = judgement.probability {
        text += &format!(" ({})", percent(probability));
    }
    text += ": ";
    let deciding = judgement.deciding_source.as_ref();
    if let Some(outcome) = deciding.and_then(|name| outcomes.iter().find(|outcome| outcome.source == *name)) {
        text += &format!("{} ({}) decides; ", outcome.source, outcome.reliability);
    }
    text += &tally(judgement.disposition, outcomes);
    if judgement.conflict.is_some_and(|conflict| conflict.flagged) {
        text += "; they contradict each other";
    }
    text
}

/// How many sources said what, those who say what the verdict says first.
fn tally(verdict: Disposition, outcomes: &[Outcome]) -> String {
    let asked = outcomes.iter().filter(|outcome| was_asked(outcome)).count();
    let mut claims = [Disposition::Malicious, Disposition::Suspicious, Disposition::Benign, Disposition::Unknown];
    claims.sort_by_key(|claim| *claim != verdict);
    let mut groups: Vec<(usize, String)> = claims.iter().map(|claim| claimed(*claim, outcomes)).collect();
    let silent = outcomes.iter().filter(|outcome| outcome.body == OutcomeBody::NoRecord).count();
    groups.push((silent, format!("{} no record", verb(silent, "has", "have"))));
    let failed = outcomes.iter().filter(|outcome| matches!(outcome.body, OutcomeBody::Error(_))).count();
    groups.push((failed, "failed".to_owned()));
    groups.retain(|(count, _)| *count > 0);

    let mut parts: Vec<String> = groups.iter().map(|(count, what)| format!("{count} {what}")).collect();
    match (parts.first_mut(), groups.first()) {
        (Some(part), Some((count, what))) => {
            *part = format!("{count} of {asked} {} {what}", verb(asked, "source", "sources"));
        }
        _ => parts.push("no source was asked".to_owned()),
    }
    let missed = outcomes.iter().filter(|outcome| !was_asked(outcome) && outcome.body.leaves_verdict_partial()).count();
    if missed > 0 {
        parts.push(format!("{missed} could not be asked in time or quota"));
    }
    parts.join(", ")
}

fn claimed(claim: Disposition, outcomes: &[Outcome]) -> (usize, String) {
    let count = outcomes.iter().filter(|outcome| outcome.body.claim() == Some(claim)).count();
    let what = match claim {
        Disposition::Unknown => format!("{} no side", verb(count, "takes", "take")),
        Disposition::Benign | Disposition::Suspicious | Disposition::Malicious => {
            format!("{} {claim}", verb(count, "says", "say"))
        }
    };
    (count, what)
}

fn verb<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_never_feigns_certainty() {
        assert_eq!(percent(0.999_97), ">99.9 %");
        assert_eq!(percent(0.000_01), "<0.1 %");
        assert_eq!(percent(0.973_4), "97.3 %");
        assert_eq!(percent(0.0), "0.0 %");
    }

    #[test]
    fn ages_are_told_in_whole_days() {
        assert_eq!(ago(Duration::from_secs(3600)), "within the last day");
        assert_eq!(ago(DAY), "1 day ago");
        assert_eq!(ago(60 * DAY), "60 days ago");
    }
}
