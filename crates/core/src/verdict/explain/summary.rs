//! The one line that an analyst reads first: the disposition, who says so, who contradicts, and who is missing.

use std::cmp::Reverse;

use super::feedback::pinned;
use super::{percent, plural};
use crate::finding::{Disposition, NotAskedReason, Outcome, OutcomeBody, Reliability};
use crate::verdict::{Contribution, Term, Verdict, Weighing};

/// More names than this would hide the first ones.
const MOST_NAMES: usize = 3;

/// The one line that an analyst reads first.
pub fn summary(verdict: &Verdict) -> String {
    if let Some(pin) = &verdict.pin
        && let Some(left_out) = left_out_for_a_pin(verdict)
        && !verdict.outcomes.iter().any(|outcome| outcome.body.was_attempted())
    {
        // What nobody was asked about, nobody calls unknown.
        return format!("{}: {}; {left_out}", verdict.disposition, pinned(pin));
    }
    let pinned = verdict.pin.as_ref().map(|pin| format!("{}: {}; the sources say ", verdict.disposition, pinned(pin)));
    let mut text = pinned.unwrap_or_default() + &headline(verdict);
    if let Some(name) = &verdict.deciding_source
        && let Some(outcome) = verdict.outcomes.iter().find(|outcome| outcome.source == *name)
    {
        text += &format!("{} ({}) decides; ", outcome.source, outcome.reliability);
    }
    text += &groups(verdict).join("; ");
    if verdict.conflict.is_some_and(|conflict| conflict.flagged) {
        text += "; they contradict each other";
    }
    text
}

/// What the sources say.
fn headline(verdict: &Verdict) -> String {
    let Verdict { sources_disposition: disposition, probability, mean, .. } = verdict;
    let is_evidence = |term: &Contribution| matches!(term.term, Term::Source(_)) && term.micro_nats != 0;
    if verdict.lacks_coverage {
        let evidence = match (probability, mean) {
            (Some(probability), _) => format!(", although the evidence is {}", percent(*probability)),
            (None, Some(mean)) => format!(", although the mean is {mean:.2}"),
            (None, None) => String::new(),
        };
        let answered = percent(verdict.coverage);
        return format!("{disposition}: too few sources answered ({answered}) for this policy{evidence}: ");
    }
    match probability {
        // A percentage would look like a finding.
        Some(probability) if !verdict.contributions.iter().any(is_evidence) => {
            let is_claim = |outcome: &std::sync::Arc<Outcome>| {
                outcome.body.claim().is_some_and(|claim| claim != Disposition::Unknown)
            };
            let claims = verdict.outcomes.iter().any(is_claim);
            let what = if claims { "nothing that weighs" } else { "nothing known" };
            format!("{disposition}: {what} (prior {:.0} %): ", probability * 100.0)
        }
        Some(probability) => format!("{disposition} ({}): ", percent(*probability)),
        None => match mean {
            Some(mean) => format!("{disposition} (mean {mean:.2}): "),
            None => format!("{disposition}: "),
        },
    }
}

/// One part for each thing that sources said or did, those who say what the verdict says first.
fn groups(verdict: &Verdict) -> Vec<String> {
    let outcomes: Vec<&Outcome> = verdict.outcomes.iter().map(AsRef::as_ref).collect();
    let asked = outcomes.iter().filter(|outcome| outcome.body.was_attempted()).count();
    let mut claims = [Disposition::Malicious, Disposition::Suspicious, Disposition::Benign, Disposition::Unknown];
    claims.sort_by_key(|claim| *claim != verdict.sources_disposition);
    let mut parts = Vec::new();
    let mut part = |members: Vec<&Outcome>, text: &dyn Fn(usize) -> String| {
        let count = members.len();
        if count > 0 {
            // The first part says of how many.
            let number = if parts.is_empty() {
                format!("{count} of {asked} {}", plural(asked, "source", "sources"))
            } else {
                count.to_string()
            };
            parts.push(format!("{number} {}", text(count)));
        }
    };
    for claim in claims {
        let mut members: Vec<_> =
            outcomes.iter().copied().filter(|outcome| verdict.claim_of(outcome) == Some(claim)).collect();
        members.sort_by_key(|outcome| (Reverse(weight(verdict, outcome)), outcome.reliability));
        let names = names(&members, true);
        let weak = weak(verdict, &members);
        part(members, &|count| match claim {
            Disposition::Unknown => format!("{} no side", plural(count, "takes", "take")),
            Disposition::Benign | Disposition::Suspicious | Disposition::Malicious => {
                format!("{} {claim}{weak}: {names}", plural(count, "says", "say"))
            }
        });
    }
    let silent = outcomes.iter().copied().filter(|outcome| outcome.body == OutcomeBody::NoRecord).collect();
    part(silent, &|count| format!("{} no record", plural(count, "has", "have")));
    let failed: Vec<_> =
        outcomes.iter().copied().filter(|outcome| matches!(outcome.body, OutcomeBody::Error(_))).collect();
    let failed_names = names(&failed, false);
    part(failed, &|_| format!("failed: {failed_names}"));
    if asked == 0 {
        parts.push("no source was asked".to_owned());
    }
    let is_missed = |outcome: &&Outcome| !outcome.body.was_attempted() && outcome.body.leaves_verdict_partial();
    let missed: Vec<_> = outcomes.iter().copied().filter(is_missed).collect();
    if !missed.is_empty() {
        parts.push(format!("{} could not be asked in time or quota: {}", missed.len(), names(&missed, false)));
    }
    parts.extend(left_out_for_a_pin(verdict));
    parts
}

/// Who was not asked since an analyst had pinned the verdict; `None`: nobody.
fn left_out_for_a_pin(verdict: &Verdict) -> Option<String> {
    let is_left_out = |outcome: &&Outcome| match &outcome.body {
        OutcomeBody::NotAsked(not_asked) => not_asked.reason == NotAskedReason::Pinned,
        OutcomeBody::Finding(_) | OutcomeBody::NoRecord | OutcomeBody::Error(_) => false,
    };
    let left_out: Vec<_> = verdict.outcomes.iter().map(AsRef::as_ref).filter(is_left_out).collect();
    let count = left_out.len();
    let were = plural(count, "source was", "sources were");
    (count > 0).then(|| format!("{count} {were} not asked since it is pinned: {}", names(&left_out, false)))
}

/// How much evidence the source adds, whatever its side.
fn weight(verdict: &Verdict, outcome: &Outcome) -> u64 {
    contribution(verdict, outcome).map_or(0, |contribution| contribution.micro_nats.unsigned_abs())
}

fn contribution<'v>(verdict: &'v Verdict, outcome: &Outcome) -> Option<&'v Contribution> {
    let is_of = |term: &&Contribution| matches!(&term.term, Term::Source(source) if *source == outcome.source);
    verdict.contributions.iter().find(is_of)
}

fn names(members: &[&Outcome], letters: bool) -> String {
    let name = |outcome: &&Outcome| {
        if letters { format!("{} ({})", outcome.source, outcome.reliability) } else { outcome.source.clone() }
    };
    let more = members.len().saturating_sub(MOST_NAMES);
    // One name takes no more room than "and 1 more".
    let shown = if more == 1 { members.len() } else { MOST_NAMES };
    let mut names: Vec<String> = members.iter().take(shown).map(name).collect();
    if more > 1 {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

/// How many of these claims weigh less than half of what their letter says, and why: ` (1 faded, 2 mirrored)`.
fn weak(verdict: &Verdict, members: &[&Outcome]) -> String {
    let words: Vec<_> = members.iter().filter_map(|outcome| weakness(verdict, outcome)).collect();
    let parts: Vec<String> = ["faded", "mirrored", "of letter F"]
        .into_iter()
        .map(|word| (words.iter().filter(|other| **other == word).count(), word))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// Why a claim weighs less than half of what its letter says, in a word.
fn weakness(verdict: &Verdict, outcome: &Outcome) -> Option<&'static str> {
    outcome.body.claim().filter(|claim| *claim != Disposition::Unknown)?;
    let Weighing { fresh, own, pooled } = contribution(verdict, outcome)?.weighing?;
    let less_than_half = |part: i64, whole: i64| part.unsigned_abs() < whole.unsigned_abs().div_ceil(2);
    if fresh == 0 && outcome.reliability == Reliability::F {
        Some("of letter F")
    } else if less_than_half(pooled, own) {
        Some("mirrored")
    } else if less_than_half(own, fresh) {
        Some("faded")
    } else {
        None
    }
}
