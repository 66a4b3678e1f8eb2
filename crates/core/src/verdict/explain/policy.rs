//! Why a policy judges as it does: read beside the same sentence of another policy, why the two differ.

use super::{percent, signed};
use crate::finding::Disposition;
use crate::verdict::{RuleKind, Term, Verdict};

/// Why the policy of this verdict judges as it does, in one sentence.
pub fn policy_sentence(verdict: &Verdict) -> String {
    let Verdict { disposition, policy, .. } = verdict;
    let name = &policy.name;
    if verdict.lacks_coverage {
        return format!(
            "{name} says {disposition}, because it wants more answers than the {} that came.",
            percent(verdict.coverage)
        );
    }
    let why = match policy.rule {
        RuleKind::Weighted => return weighted(verdict),
        RuleKind::Mean => match verdict.mean {
            Some(mean) => format!("because the claims, weighted by letter, have a mean of {mean:.2}"),
            None => "because no claim has weight".to_owned(),
        },
        RuleKind::Xsoar => decided(verdict, "the most reliable source with a claim"),
        RuleKind::Worst => decided(verdict, "whose claim is the worst"),
        RuleKind::Majority => {
            let claims: Vec<Disposition> = verdict
                .outcomes
                .iter()
                .filter_map(|outcome| outcome.body.claim())
                .filter(|claim| *claim != Disposition::Unknown)
                .collect();
            match claims.len() {
                0 => "because no source takes a side".to_owned(),
                all => {
                    let same = claims.iter().filter(|claim| *claim == disposition).count();
                    format!("because {same} of {all} claims are {disposition}, whoever makes them")
                }
            }
        }
    };
    format!("{name} says {disposition}, {why}.")
}

fn decided(verdict: &Verdict, why: &str) -> String {
    let name = verdict.deciding_source.as_deref();
    match verdict.outcomes.iter().find(|outcome| name == Some(&outcome.source)) {
        Some(outcome) => format!("because {} ({}) does, {why}", outcome.source, outcome.reliability),
        None => "because no source takes a side".to_owned(),
    }
}

fn weighted(verdict: &Verdict) -> String {
    let terms = verdict.contributions.iter().filter(|term| matches!(term.term, Term::Source(_)));
    let (mut harm, mut harmless) = (0, 0);
    for term in terms {
        if term.micro_nats > 0 { harm += term.micro_nats } else { harmless += term.micro_nats }
    }
    let probability = percent(verdict.probability.unwrap_or_default());
    let evidence = match (harm, harmless) {
        (0, 0) => "no source adds evidence".to_owned(),
        (harm, 0) => format!("the evidence adds up to {} for harm", signed(harm)),
        (0, harmless) => format!("the evidence adds up to {} for harmlessness", signed(-harmless)),
        (harm, harmless) => {
            format!("{} for harm stand against {} for harmlessness", signed(harm), signed(-harmless))
        }
    };
    format!("{} says {} ({probability}), because {evidence}.", verdict.policy.name, verdict.disposition)
}
