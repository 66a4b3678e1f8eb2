//! The sentences that explain a verdict: one for each contribution, and the summary that an analyst reads first.
//!
//! A sentence says what went in and what came out; nothing is decided here.

use std::time::Duration;

use super::evidence::{nats, remaining};
use super::policy::TypeNumbers;
use super::{Contribution, Verdict};
use crate::finding::{Disposition, Family, FamilyBasis, Outcome, OutcomeBody, Reliability};
use crate::indicator::IndicatorType;

const DAY: Duration = Duration::from_secs(86_400);

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
pub(super) fn calibration(term: i64) -> String {
    if term == 0 {
        "The policy is not corrected by feedback.".to_owned()
    } else {
        format!("Fitting the policy to feedback moves the sum by {}.", signed(term))
    }
}

/// The sentence of a source's contribution, whose evidence was `own` before and `pooled` after family pooling.
pub(super) fn source(
    outcome: &Outcome,
    contribution: &Contribution,
    own: i64,
    pooled: i64,
    numbers: &TypeNumbers,
) -> String {
    let who = format!("{} ({})", outcome.source, outcome.reliability);
    let finding = match &outcome.body {
        OutcomeBody::Finding(finding) => finding,
        OutcomeBody::NoRecord => return format!("{who} has no record of it, which speaks neither for nor against it."),
        OutcomeBody::Error(error) => {
            return format!("{who} failed ({}), which says nothing of the indicator.", error.kind);
        }
        OutcomeBody::NotAsked(not_asked) => return format!("{who} was not asked ({}).", not_asked.reason),
    };
    if finding.claim == Disposition::Unknown {
        return format!("{who} knows it and takes no side.");
    }
    let mut text = format!("{who} says {}", finding.claim);
    if let Some(strength) = finding.strength {
        text += &format!(" with strength {:.2}", strength.get());
    }
    let age = contribution.age.unwrap_or_default();
    text += &format!(", affirmed {}", ago(age));
    if outcome.reliability == Reliability::F {
        return text + "; a source that cannot be judged weighs nothing.";
    }
    let left = remaining(numbers.ageing.as_ref(), age);
    if left < 1.0 {
        text += &format!("; with age {} of it still counts", percent(left));
    }
    if pooled != own {
        let share = percent(pooled as f64 / own as f64);
        text += &format!("; {} {share} of its {} is added", pooling_reason(&outcome.family), signed(own));
    }
    text + &format!(": {}.", signed(contribution.micro_nats))
}

/// Why a source does not count in full.
fn pooling_reason(family: &Family) -> String {
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
pub(super) fn summary(verdict: &Verdict) -> String {
    let outcomes = &verdict.outcomes;
    let mut text = verdict.disposition.to_string();
    if let Some(probability) = verdict.probability {
        text += &format!(" ({})", percent(probability));
    }
    text += ": ";
    let deciding = verdict.deciding_source.as_ref();
    if let Some(outcome) = deciding.and_then(|name| outcomes.iter().find(|outcome| outcome.source == *name)) {
        text += &format!("{} ({}) decides; ", outcome.source, outcome.reliability);
    }
    text += &counts(verdict.disposition, outcomes);
    if verdict.conflict.is_some_and(|conflict| conflict.flagged) {
        text += "; they contradict each other";
    }
    text
}

/// How many sources said what, those who say what the verdict says first.
fn counts(verdict: Disposition, outcomes: &[Outcome]) -> String {
    let count = |is: &dyn Fn(&OutcomeBody) -> bool| outcomes.iter().filter(|outcome| is(&outcome.body)).count();
    let mut claims = [Disposition::Malicious, Disposition::Suspicious, Disposition::Benign, Disposition::Unknown];
    claims.sort_by_key(|claim| *claim != verdict);
    let mut groups: Vec<(usize, String)> = Vec::new();
    for claim in claims {
        let number = count(&|body| body.claim() == Some(claim));
        groups.push((
            number,
            match claim {
                Disposition::Unknown => format!("{} no side", plural(number, "takes", "take")),
                Disposition::Benign | Disposition::Suspicious | Disposition::Malicious => {
                    format!("{} {claim}", plural(number, "says", "say"))
                }
            },
        ));
    }
    let silent = count(&|body| *body == OutcomeBody::NoRecord);
    groups.push((silent, format!("{} no record", plural(silent, "has", "have"))));
    groups.push((count(&|body| matches!(body, OutcomeBody::Error(_))), "failed".to_owned()));
    groups.retain(|(number, _)| *number > 0);

    let asked = count(&OutcomeBody::was_attempted);
    let mut parts: Vec<String> = groups.iter().map(|(number, what)| format!("{number} {what}")).collect();
    match groups.first() {
        Some((number, what)) => parts[0] = format!("{number} of {asked} {} {what}", plural(asked, "source", "sources")),
        None => parts.push("no source was asked".to_owned()),
    }
    let missed = count(&|body| !body.was_attempted() && body.leaves_verdict_partial());
    if missed > 0 {
        parts.push(format!("{missed} could not be asked in time or quota"));
    }
    parts.join(", ")
}

fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
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
