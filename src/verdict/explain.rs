//! The sentences that explain a verdict: one for each contribution, and the summary that an analyst reads first.
//!
//! A sentence states what went in and what came out. Nothing is decided here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::evidence::nats;
use super::{Contribution, Term, Verdict, xsoar};
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

/// The stages of one source's evidence on the way to its term, in micro-nats.
#[derive(Clone, Copy)]
pub(super) struct Evidence {
    /// As if the source had just affirmed the claim.
    pub(super) fresh: i64,
    /// After decay by age.
    pub(super) own: i64,
    /// After pooling with its family.
    pub(super) pooled: i64,
}

/// The sentence of a source's contribution.
pub(super) fn source(outcome: &Outcome, contribution: &Contribution, evidence: Evidence) -> String {
    let Evidence { fresh, own, pooled } = evidence;
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
    if own != fresh {
        text += &format!("; with age {} of its evidence still counts", percent(own as f64 / fresh as f64));
    }
    if pooled != own {
        let share = percent(pooled as f64 / own as f64);
        text += &format!("; {} {share} of its {} is added", pooling_reason(&outcome.family), signed(own));
    }
    text + &format!(": {}.", signed(contribution.micro_nats))
}

/// Why a source does not count in full.
fn pooling_reason(family: &Family) -> String {
    // The key of a list ends with its location, which does not help a reader.
    let name = family.name.strip_prefix("list:").unwrap_or(&family.name);
    let name = name.rsplit_once('#').map_or(name, |(name, _)| name);
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

/// A share in percent. Only exactly 0 or 1 is shown as 0 or 100, since rounding must not suggest certainty.
pub(crate) fn percent(share: f64) -> String {
    // Avoids a negative zero.
    let shown = share * 100.0 + 0.0;
    if share > 0.0 && shown < 0.05 {
        "<0.1 %".to_owned()
    } else if share < 1.0 && shown >= 99.95 {
        ">99.9 %".to_owned()
    } else {
        format!("{shown:.1} %")
    }
}

/// The one line that an analyst reads first.
pub(super) fn summary(verdict: &Verdict, weaknesses: &[Weakness]) -> String {
    let outcomes = &verdict.outcomes;
    let is_evidence = |term: &Contribution| matches!(term.term, Term::Source(_)) && term.micro_nats != 0;
    let mut text = match verdict.probability {
        // A percentage would look like a finding.
        Some(probability) if !verdict.contributions.iter().any(is_evidence) => {
            let claims =
                outcomes.iter().any(|outcome| outcome.body.claim().is_some_and(|claim| claim != Disposition::Unknown));
            let what = if claims { "nothing that weighs" } else { "nothing known" };
            format!("{}: {what} (prior {:.0} %): ", verdict.disposition, probability * 100.0)
        }
        Some(probability) => format!("{} ({}): ", verdict.disposition, percent(probability)),
        None => format!("{}: ", verdict.disposition),
    };
    let deciding = verdict.deciding_source.as_ref();
    if let Some(outcome) = deciding.and_then(|name| outcomes.iter().find(|outcome| outcome.source == *name)) {
        text += &format!("{} ({}) decides; ", outcome.source, outcome.reliability);
    }
    // Only a policy without evidence has no probability.
    let claim = if verdict.probability.is_some() { OutcomeBody::claim } else { xsoar::claim };
    text += &counts(verdict.disposition, outcomes, claim, weaknesses);
    if verdict.conflict.is_some_and(|conflict| conflict.flagged) {
        text += "; they contradict each other";
    }
    text
}

/// How many sources made each claim; those that agree with the verdict come first.
fn counts(
    verdict: Disposition,
    outcomes: &[Outcome],
    claim_of: fn(&OutcomeBody) -> Option<Disposition>,
    weaknesses: &[Weakness],
) -> String {
    let count = |is: &dyn Fn(&OutcomeBody) -> bool| outcomes.iter().filter(|outcome| is(&outcome.body)).count();
    let mut claims = [Disposition::Malicious, Disposition::Suspicious, Disposition::Benign, Disposition::Unknown];
    claims.sort_by_key(|claim| *claim != verdict);
    let mut groups: Vec<(usize, String)> = Vec::new();
    for claim in claims {
        let number = count(&|body| claim_of(body) == Some(claim));
        let weak = weak(claim, weaknesses);
        groups.push((
            number,
            match claim {
                Disposition::Unknown => format!("{} no side", plural(number, "takes", "take")),
                Disposition::Benign | Disposition::Suspicious | Disposition::Malicious => {
                    format!("{} {claim}{weak}", plural(number, "says", "say"))
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

/// How many of these claims count for less than they seem, and why: ` (1 faded, 2 mirrored)`.
fn weak(claim: Disposition, weaknesses: &[Weakness]) -> String {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    for weakness in weaknesses.iter().filter(|weakness| weakness.claim == claim) {
        *numbers.entry(weakness.word).or_default() += 1;
    }
    let parts: Vec<String> = numbers.iter().map(|(word, number)| format!("{number} {word}")).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// A claim that counts for less than half of its letter's evidence, and the reason in one word.
pub(super) struct Weakness {
    claim: Disposition,
    word: &'static str,
}

/// Whether, and why, a claim counts for less than it seems.
pub(super) fn weakness(outcome: &Outcome, evidence: Evidence) -> Option<Weakness> {
    let claim = outcome.body.claim().filter(|claim| *claim != Disposition::Unknown)?;
    let less_than_half = |part: i64, whole: i64| part.unsigned_abs() < whole.unsigned_abs().div_ceil(2);
    let word = if outcome.reliability == Reliability::F {
        "of letter F"
    } else if less_than_half(evidence.pooled, evidence.own) {
        "mirrored"
    } else if less_than_half(evidence.own, evidence.fresh) {
        "faded"
    } else {
        return None;
    };
    Some(Weakness { claim, word })
}

fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_never_suggests_certainty() {
        assert_eq!(percent(0.999_97), ">99.9 %");
        assert_eq!(percent(0.000_01), "<0.1 %");
        assert_eq!(percent(0.973_4), "97.3 %");
        assert_eq!(percent(0.0), "0.0 %");
        assert_eq!(percent(-0.0), "0.0 %");
    }

    #[test]
    fn ages_are_shown_in_whole_days() {
        assert_eq!(ago(Duration::from_secs(3600)), "within the last day");
        assert_eq!(ago(DAY), "1 day ago");
        assert_eq!(ago(60 * DAY), "60 days ago");
    }
}
