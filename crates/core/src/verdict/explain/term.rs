//! The sentence of one term of the sum.

use std::time::Duration;

use super::{percent, signed};
use crate::finding::{Disposition, Family, FamilyBasis, Outcome, OutcomeBody, Reliability};
use crate::indicator::IndicatorType;
use crate::verdict::{Contribution, Term, Verdict, Weighing, evidence};

const DAY: Duration = Duration::from_secs(86_400);

/// One contribution of this verdict in one sentence.
pub fn sentence(verdict: &Verdict, contribution: &Contribution) -> String {
    let source = match &contribution.term {
        Term::Prior => return prior(verdict.indicator.indicator_type(), contribution.micro_nats),
        Term::Calibration => return calibration(contribution.micro_nats),
        Term::Source(source) => source,
    };
    // Outcomes are in order of name.
    let outcome = verdict.outcomes.binary_search_by(|outcome| outcome.source.cmp(source)).ok();
    outcome
        .and_then(|place| verdict.outcomes.get(place))
        .map(|outcome| of_source(outcome, contribution))
        .unwrap_or_default()
}

fn prior(indicator_type: IndicatorType, micro: i64) -> String {
    let what = match indicator_type {
        IndicatorType::Ip => "address",
        IndicatorType::Domain => "domain",
        IndicatorType::Url => "URL",
        IndicatorType::File => "file",
    };
    let chance = evidence::probability(micro) * 100.0;
    format!("Before any source is asked, a chance of {chance:.0} % of a looked-up {what} being malicious is assumed.")
}

fn calibration(term: i64) -> String {
    if term == 0 {
        "The policy is not corrected by feedback.".to_owned()
    } else {
        format!("Fitting the policy to feedback moves the sum by {}.", signed(term))
    }
}

fn of_source(outcome: &Outcome, contribution: &Contribution) -> String {
    let term = contribution.micro_nats;
    let Weighing { fresh, own, pooled } =
        contribution.weighing.unwrap_or(Weighing { fresh: term, own: term, pooled: term });
    let who = format!("{} ({})", outcome.source, outcome.reliability);
    let mut text = match &outcome.body {
        OutcomeBody::Finding(finding) if finding.claim == Disposition::Unknown => {
            return format!("{who} knows it and takes no side.");
        }
        OutcomeBody::Finding(finding) => {
            let mut text = format!("{who} says {}", finding.claim);
            if let Some(strength) = finding.strength {
                text += &format!(" with strength {:.2}", strength.get());
            }
            text + &format!(", affirmed {}", ago(contribution.age.unwrap_or_default()))
        }
        OutcomeBody::NoRecord if own == 0 => {
            return format!("{who} has no record of it, which speaks neither for nor against it.");
        }
        OutcomeBody::NoRecord => {
            format!("{who} has no record of it, which by what it is known to cover speaks {}", side(own))
        }
        OutcomeBody::Error(error) => {
            return format!("{who} failed ({}), which says nothing of the indicator.", error.kind);
        }
        OutcomeBody::NotAsked(not_asked) => return format!("{who} was not asked ({}).", not_asked.reason),
    };
    if fresh == 0 && outcome.reliability == Reliability::F {
        return text + "; a source that cannot be judged weighs nothing.";
    }
    if own != fresh {
        text += &format!("; with age {} of its evidence still counts", percent(own as f64 / fresh as f64));
    }
    if pooled != own {
        let share = percent(pooled as f64 / own as f64);
        text += &format!("; {} {share} of its {} is added", pooling_reason(&outcome.family), signed(own));
    }
    text + &format!(": {}.", signed(term))
}

fn side(micro: i64) -> &'static str {
    if micro < 0 { "for harmlessness" } else { "for harm" }
}

/// Why a source does not count in full.
fn pooling_reason(family: &Family) -> String {
    // The key of a list ends with its location, which is no use in a sentence.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_shown_in_whole_days() {
        assert_eq!(ago(Duration::from_secs(3600)), "within the last day");
        assert_eq!(ago(DAY), "1 day ago");
        assert_eq!(ago(60 * DAY), "60 days ago");
    }
}
