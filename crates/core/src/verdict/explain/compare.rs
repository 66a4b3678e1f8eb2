//! The sentences on what differs between two verdicts.

use super::{joined, percent, signed};
use crate::finding::{Disposition, OutcomeKind};
use crate::verdict::evidence::probability;
use crate::verdict::{Cause, Comparison, DispositionCause, Part, Term, TermChange, TermState};

/// More terms than this would hide the first ones.
const MOST_TERMS: usize = 3;

/// What differs between two verdicts, on one line.
pub fn comparison_summary(comparison: &Comparison) -> String {
    let Comparison { disposition, under_pin, log_odds_micro, .. } = comparison;
    let before = shown(disposition.before, under_pin.before, log_odds_micro.before);
    let after = shown(disposition.after, under_pin.after, log_odds_micro.after);
    let is_pinned = under_pin.before.is_some() || under_pin.after.is_some();
    let mut parts = vec![match (comparison.cause, log_odds_micro.before) {
        (Some(cause), _) => format!("It went from {before} to {after}, {}", cause_words(cause)),
        (None, _) if is_pinned && before != after => format!("It stays {after}, and was {before}"),
        (None, Some(earlier)) if !is_pinned && !log_odds_micro.is_same() => {
            format!("It stays {after}, which was {}", percent(probability(earlier)))
        }
        (None, _) => format!("It stays {after}"),
    }];
    if let Some(difference) = comparison.difference_micro.filter(|difference| *difference != 0) {
        parts.push(format!("{} in all{}", signed(difference), largest_terms(comparison)));
    }
    if !comparison.policy.is_same() {
        let [before, after] = [&comparison.policy.before, &comparison.policy.after]
            .map(|policy| format!("{} revision {}", policy.name, policy.revision));
        parts.push(format!("judged by policy {after} instead of {before}"));
    }
    for threshold in &comparison.thresholds {
        let [before, after] = [threshold.micro_nats.before, threshold.micro_nats.after].map(probability).map(percent);
        parts.push(format!("{} now begins at {after} instead of {before}", threshold.disposition));
    }
    if !comparison.deciding_source.is_same() {
        let [before, after] = [&comparison.deciding_source.before, &comparison.deciding_source.after]
            .map(|source| source.as_deref().unwrap_or("no source"));
        parts.push(format!("{after} decides instead of {before}"));
    }
    let changed = comparison.terms.iter().filter(|term| !term.causes.is_empty()).count();
    if parts.len() == 1 && changed == 0 && comparison.cause.is_none() {
        parts.push("nothing that matters is different".to_owned());
    }
    parts.join("; ") + "."
}

/// A disposition with the probability behind it. A pinned one has none: that of the sources goes with what they say.
fn shown(disposition: Disposition, under_pin: Option<Disposition>, log_odds: Option<i64>) -> String {
    let percentage = log_odds.map(|log_odds| percent(probability(log_odds)));
    match (under_pin, percentage) {
        (Some(sources), Some(percentage)) => format!("{disposition} (pinned; the sources say {sources}, {percentage})"),
        (Some(sources), None) => format!("{disposition} (pinned; the sources say {sources})"),
        (None, Some(percentage)) => format!("{disposition} ({percentage})"),
        (None, None) => disposition.to_string(),
    }
}

fn cause_words(cause: DispositionCause) -> &'static str {
    match cause {
        DispositionCause::Evidence => "by what the sources say",
        DispositionCause::Thresholds => "by the thresholds of the policy alone",
        DispositionCause::EvidenceAndThresholds => "by the evidence and the thresholds",
        DispositionCause::Coverage => "by how many sources answered",
        DispositionCause::Rule => "by the rule of the policy",
        DispositionCause::Pin => "by an analyst's word",
    }
}

fn largest_terms(comparison: &Comparison) -> String {
    let mut terms: Vec<(String, i64)> = comparison
        .terms
        .iter()
        .filter_map(|term| Some((name(&term.term), term.difference_micro.filter(|difference| *difference != 0)?)))
        .collect();
    terms.sort_by_key(|(_, difference)| std::cmp::Reverse(difference.unsigned_abs()));
    let more = terms.len().saturating_sub(MOST_TERMS);
    let mut shown: Vec<String> =
        terms.iter().take(MOST_TERMS).map(|(name, difference)| format!("{name} {}", signed(*difference))).collect();
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    format!(" ({})", joined(&shown))
}

fn name(term: &Term) -> String {
    match term {
        Term::Prior => "the prior".to_owned(),
        Term::Calibration => "the calibration".to_owned(),
        Term::Source(source) => source.clone(),
    }
}

/// What is different about one term, in one sentence; empty where nothing that matters is.
pub fn term_change_sentence(change: &TermChange) -> String {
    if change.causes.is_empty() {
        return String::new();
    }
    let difference = change.difference_micro.map(|micro| format!(": {}", signed(micro))).unwrap_or_default();
    let Term::Source(source) = &change.term else {
        let values = [&change.before, &change.after]
            .map(|state| signed(state.as_ref().and_then(|state| state.micro_nats).unwrap_or_default()));
        let [before, after] = values;
        return format!(
            "The policy has another value for {}, {after} instead of {before}{difference}.",
            name(&change.term)
        );
    };
    match (&change.before, &change.after) {
        (None, None) => String::new(),
        (None, Some(after)) => {
            format!("{} was not among the sources before and {}{difference}.", who(source, after), now(after))
        }
        (Some(before), None) => {
            format!("{} {} and is not among the sources any more{difference}.", who(source, before), then(before))
        }
        (Some(before), Some(after)) => {
            let same = before.outcome == after.outcome && before.claim == after.claim;
            let what = if same {
                format!("still {}", now(after))
            } else {
                format!("{} before and now {}", then(before), now(after))
            };
            let why = match change.parts.as_slice() {
                [] if same => format!("; {}", causes(&change.causes, before, after)),
                // The words before say it.
                [] => String::new(),
                [Part { causes, .. }] if causes.iter().all(|cause| matches!(cause, Cause::Outcome | Cause::Claim)) => {
                    String::new()
                }
                parts => format!("; {}", parts_words(parts, before, after)),
            };
            format!("{} {what}{why}{difference}.", who(source, after))
        }
    }
}

fn who(source: &str, state: &TermState) -> String {
    state.reliability.map_or_else(|| source.to_owned(), |letter| format!("{source} ({letter})"))
}

fn now(state: &TermState) -> String {
    match (state.outcome, state.claim) {
        (Some(OutcomeKind::Finding), Some(Disposition::Unknown) | None) => "takes no side".to_owned(),
        (Some(OutcomeKind::Finding), Some(claim)) => format!("says {claim}"),
        (Some(OutcomeKind::NoRecord), _) => "has no record".to_owned(),
        (Some(OutcomeKind::Error), _) => "fails".to_owned(),
        (Some(OutcomeKind::NotAsked) | None, _) => "is not asked".to_owned(),
    }
}

fn then(state: &TermState) -> String {
    match (state.outcome, state.claim) {
        (Some(OutcomeKind::Finding), Some(Disposition::Unknown) | None) => "took no side".to_owned(),
        (Some(OutcomeKind::Finding), Some(claim)) => format!("said {claim}"),
        (Some(OutcomeKind::NoRecord), _) => "had no record".to_owned(),
        (Some(OutcomeKind::Error), _) => "failed".to_owned(),
        (Some(OutcomeKind::NotAsked) | None, _) => "was not asked".to_owned(),
    }
}

fn parts_words(parts: &[Part], before: &TermState, after: &TermState) -> String {
    match parts {
        [one] => causes(&one.causes, before, after),
        several => {
            let part = |part: &Part| format!("{} {}", causes(&part.causes, before, after), signed(part.micro_nats));
            several.iter().map(part).collect::<Vec<_>>().join(", ")
        }
    }
}

fn causes(causes: &[Cause], before: &TermState, after: &TermState) -> String {
    let words: Vec<String> = causes.iter().map(|cause| cause_with_values(*cause, before, after)).collect();
    joined(&words)
}

fn cause_with_values(cause: Cause, before: &TermState, after: &TermState) -> String {
    match cause {
        Cause::Appeared => "new".to_owned(),
        Cause::Gone => "gone".to_owned(),
        Cause::Outcome => "another outcome".to_owned(),
        Cause::Claim => "another claim".to_owned(),
        Cause::Letter => {
            let [before, after] =
                [before, after].map(|state| state.reliability.map(|letter| letter.to_string()).unwrap_or_default());
            format!("letter {after} instead of {before}")
        }
        Cause::Strength => {
            let [before, after] = [before, after].map(|state| {
                state.strength.map_or_else(|| "none given".to_owned(), |strength| format!("{:.2}", strength.get()))
            });
            format!("strength {after} instead of {before}")
        }
        Cause::Age => {
            let [before, after] = [before, after].map(|state| state.age.unwrap_or_default().as_secs() / 86_400);
            format!("age {after} instead of {before} days")
        }
        Cause::Family => "the others of its family".to_owned(),
        Cause::Calibration => "calibration".to_owned(),
        Cause::Policy => "the policy's numbers".to_owned(),
    }
}
