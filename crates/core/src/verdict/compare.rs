//! What differs between two verdicts on one indicator, term by term, in micro-nats that add up to the difference.
//!
//! Made from the verdicts alone: the numbers of a policy that judged long ago need not exist any more. Its thresholds follow
//! from the margins. Definitions: `docs/fusion.md`, "Two verdicts compared".

use std::collections::BTreeMap;
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};

use super::weighted::Cuts;
use super::{Contribution, PolicyRef, Term, Verdict, Weighing};
use crate::finding::{Disposition, Outcome, OutcomeKind, Reliability, Strength};

/// A value in the earlier and in the later verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeforeAfter<T> {
    /// In the earlier verdict.
    pub before: T,
    /// In the later verdict.
    pub after: T,
}

impl<T: PartialEq> BeforeAfter<T> {
    /// Whether both are the same.
    pub fn is_same(&self) -> bool {
        self.before == self.after
    }
}

/// What differs between two verdicts.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The dispositions.
    pub disposition: BeforeAfter<Disposition>,
    /// What the sources say of verdicts that an analyst pinned; `None` where none did.
    pub under_pin: BeforeAfter<Option<Disposition>>,
    /// Why the disposition is another; `None` where it is the same.
    pub cause: Option<DispositionCause>,
    /// The log-odds in micro-nats; `None` under a policy without a sum.
    pub log_odds_micro: BeforeAfter<Option<i64>>,
    /// The later log-odds less the earlier: the exact sum of the differences of all terms. `None` unless both have a sum.
    pub difference_micro: Option<i64>,
    /// The policies that judged.
    pub policy: BeforeAfter<PolicyRef>,
    /// The thresholds that are others. Empty also where a verdict does not show its thresholds.
    pub thresholds: Vec<ThresholdChange>,
    /// The sources that alone decided, under policies in which one does.
    pub deciding_source: BeforeAfter<Option<String>>,
    /// The shares of the asked sources that answered.
    pub coverage: BeforeAfter<f64>,
    /// The prior and the calibration where both verdicts have a sum, then every source of either, in order of name.
    pub terms: Vec<TermChange>,
}

/// Why two dispositions differ.
#[derive(Clone, Copy, Debug, IntoStaticStr, VariantArray, PartialEq, Eq, Hash)]
#[strum(serialize_all = "snake_case")]
pub enum DispositionCause {
    /// What the sources say, or what it weighs: under the thresholds of either verdict the same change.
    Evidence,
    /// The thresholds of the policy: on the evidence of either verdict the same change.
    Thresholds,
    /// Evidence and thresholds, which cannot be told apart.
    EvidenceAndThresholds,
    /// One of the verdicts is unknown because too few sources answered.
    Coverage,
    /// The policies have different rules.
    Rule,
    /// An analyst pinned one of the verdicts, or another word is pinned.
    Pin,
}

/// A threshold that is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThresholdChange {
    /// The disposition that begins there: malicious and suspicious upwards, benign downwards.
    pub disposition: Disposition,
    /// The log-odds at which it begins, in micro-nats.
    pub micro_nats: BeforeAfter<i64>,
}

/// One term in both verdicts.
#[derive(Clone, Debug, PartialEq)]
pub struct TermChange {
    /// Whose term it is.
    pub term: Term,
    /// The term in the earlier verdict; `None` where the source is not in it.
    pub before: Option<TermState>,
    /// The term in the later verdict; `None` where the source is not in it.
    pub after: Option<TermState>,
    /// The later term less the earlier, in micro-nats. `None` unless both verdicts have a sum.
    pub difference_micro: Option<i64>,
    /// What is different about it, each once. Empty: nothing that matters under the rules.
    pub causes: Vec<Cause>,
    /// The difference in parts that add up to it. Parts without weight are left out.
    pub parts: Vec<Part>,
}

/// A term as it stands in one verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct TermState {
    /// Evidence in micro-nats, 0 for a source that was not asked; `None` under a policy without a sum.
    pub micro_nats: Option<i64>,
    /// What came of asking the source; `None` for the prior and the calibration.
    pub outcome: Option<OutcomeKind>,
    /// The source's letter.
    pub reliability: Option<Reliability>,
    /// Its claim under the rule of the verdict.
    pub claim: Option<Disposition>,
    /// How sure it is of it.
    pub strength: Option<Strength>,
    /// Time since it last affirmed it.
    pub age: Option<Duration>,
    weighing: Option<Weighing>,
}

/// Why a term is another.
#[derive(Clone, Copy, Debug, IntoStaticStr, VariantArray, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[strum(serialize_all = "snake_case")]
pub enum Cause {
    /// The source is not in the earlier verdict.
    Appeared,
    /// The source is not in the later verdict.
    Gone,
    /// Another kind of outcome: a finding where it failed, no record where it had one.
    Outcome,
    /// Another claim.
    Claim,
    /// Another reliability letter.
    Letter,
    /// Another strength of the claim.
    Strength,
    /// The claim is older, or was affirmed again.
    Age,
    /// What the other sources of its family say weakens it more or less.
    Family,
    /// The share that the calibration adds or takes away.
    Calibration,
    /// The numbers of the policy.
    Policy,
}

/// A part of a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it comes from. Several causes: they cannot be told apart.
    pub causes: Vec<Cause>,
    /// How much, in micro-nats.
    pub micro_nats: i64,
}

/// What differs between two verdicts on the same indicator.
pub fn compare(before: &Verdict, after: &Verdict) -> Comparison {
    let have_sums = before.log_odds_micro.is_some() && after.log_odds_micro.is_some();
    let policy = BeforeAfter { before: before.policy.clone(), after: after.policy.clone() };
    let cuts = BeforeAfter { before: cuts(before), after: cuts(after) };
    let mut terms = Vec::new();
    if have_sums {
        for term in [Term::Prior, Term::Calibration] {
            let [before, after] = [before, after].map(|verdict| unsourced(verdict, &term));
            terms.push(term_change(term, before, after, &policy, true));
        }
    }
    let mut sources: BTreeMap<&str, [Option<TermState>; 2]> = BTreeMap::new();
    for (place, verdict) in [before, after].into_iter().enumerate() {
        for outcome in &verdict.outcomes {
            let [earlier, later] = sources.entry(&outcome.source).or_default();
            *(if place == 0 { earlier } else { later }) = Some(of_source(verdict, outcome));
        }
    }
    for (source, [before, after]) in sources {
        terms.push(term_change(Term::Source(source.to_owned()), before, after, &policy, have_sums));
    }
    let log_odds_micro = BeforeAfter { before: before.log_odds_micro, after: after.log_odds_micro };
    Comparison {
        disposition: BeforeAfter { before: before.disposition, after: after.disposition },
        under_pin: BeforeAfter { before: under_pin(before), after: under_pin(after) },
        cause: disposition_cause(before, after, &cuts),
        log_odds_micro,
        difference_micro: log_odds_micro.after.zip(log_odds_micro.before).map(|(after, before)| after - before),
        thresholds: threshold_changes(&cuts),
        deciding_source: BeforeAfter { before: before.deciding_source.clone(), after: after.deciding_source.clone() },
        coverage: BeforeAfter { before: before.coverage, after: after.coverage },
        policy,
        terms,
    }
}

fn under_pin(verdict: &Verdict) -> Option<Disposition> {
    verdict.pin.as_ref().map(|_| verdict.sources_disposition)
}

/// The term of the prior or of the calibration.
fn unsourced(verdict: &Verdict, term: &Term) -> Option<TermState> {
    let contribution = contribution(verdict, term)?;
    Some(TermState {
        micro_nats: Some(contribution.micro_nats),
        outcome: None,
        reliability: None,
        claim: None,
        strength: None,
        age: None,
        weighing: None,
    })
}

fn of_source(verdict: &Verdict, outcome: &Outcome) -> TermState {
    let contribution = contribution(verdict, &Term::Source(outcome.source.clone()));
    let micro_nats = contribution.map_or(0, |contribution| contribution.micro_nats);
    TermState {
        micro_nats: verdict.log_odds_micro.map(|_| micro_nats),
        outcome: Some((&outcome.body).into()),
        reliability: Some(outcome.reliability),
        claim: verdict.claim_of(outcome),
        strength: outcome.body.finding().and_then(|finding| finding.strength),
        age: contribution.and_then(|contribution| contribution.age),
        weighing: contribution.and_then(|contribution| contribution.weighing),
    }
}

fn contribution<'v>(verdict: &'v Verdict, term: &Term) -> Option<&'v Contribution> {
    verdict.contributions.iter().find(|contribution| contribution.term == *term)
}

fn term_change(
    term: Term,
    before: Option<TermState>,
    after: Option<TermState>,
    policy: &BeforeAfter<PolicyRef>,
    have_sums: bool,
) -> TermChange {
    let mut causes = kind_of_change(&term, before.as_ref(), after.as_ref());
    let micro = |state: &Option<TermState>| state.as_ref().and_then(|state| state.micro_nats).unwrap_or_default();
    let difference = micro(&after) - micro(&before);
    let parts =
        if have_sums { parts(&causes, before.as_ref(), after.as_ref(), policy, difference) } else { Vec::new() };
    causes.extend(parts.iter().flat_map(|part| part.causes.iter().copied()));
    causes.sort_unstable();
    causes.dedup();
    TermChange { term, before, after, difference_micro: have_sums.then_some(difference), causes, parts }
}

/// What is different about what the source said, whether it weighs or not.
fn kind_of_change(term: &Term, before: Option<&TermState>, after: Option<&TermState>) -> Vec<Cause> {
    if !matches!(term, Term::Source(_)) {
        return Vec::new();
    }
    match (before, after) {
        (None, None) => Vec::new(),
        (None, Some(_)) => vec![Cause::Appeared],
        (Some(_), None) => vec![Cause::Gone],
        (Some(before), Some(after)) => {
            let said = if before.outcome != after.outcome {
                Some(Cause::Outcome)
            } else {
                (before.claim != after.claim).then_some(Cause::Claim)
            };
            let letter = (before.reliability != after.reliability).then_some(Cause::Letter);
            said.into_iter().chain(letter).collect()
        }
    }
}

/// The difference in parts. Where the source says the same as before, they follow the way of the evidence to the term: fresh,
/// at its age, beside its family, with the calibration.
fn parts(
    changes: &[Cause],
    before: Option<&TermState>,
    after: Option<&TermState>,
    policy: &BeforeAfter<PolicyRef>,
    difference: i64,
) -> Vec<Part> {
    let says_other = [Cause::Appeared, Cause::Gone, Cause::Outcome, Cause::Claim];
    if let Some(cause) = changes.iter().find(|cause| says_other.contains(cause)) {
        return one_part(vec![*cause], difference);
    }
    let (Some(before), Some(after)) = (before, after) else { return one_part(vec![Cause::Policy], difference) };
    let mut inputs = Vec::new();
    inputs.extend((before.reliability != after.reliability).then_some(Cause::Letter));
    inputs.extend((before.strength != after.strength).then_some(Cause::Strength));
    inputs.extend((!policy.is_same()).then_some(Cause::Policy));
    let mut aged = inputs.clone();
    if before.age != after.age {
        aged.push(Cause::Age);
    }
    for causes in [&mut inputs, &mut aged] {
        // Nothing that the verdicts show is different: it must be the numbers that they do not show.
        if causes.is_empty() {
            causes.push(Cause::Policy);
        }
        causes.sort_unstable();
    }
    let (Some(earlier), Some(later)) = (before.weighing, after.weighing) else { return one_part(aged, difference) };
    let (fresh, own, pooled) = (later.fresh - earlier.fresh, later.own - earlier.own, later.pooled - earlier.pooled);
    let steps = [
        (inputs, fresh),
        (aged, own - fresh),
        (vec![Cause::Family], pooled - own),
        (vec![Cause::Calibration], difference - pooled),
    ];
    let mut parts: Vec<Part> = Vec::new();
    for (causes, micro_nats) in steps {
        match parts.iter_mut().find(|part| part.causes == causes) {
            Some(part) => part.micro_nats += micro_nats,
            None => parts.push(Part { causes, micro_nats }),
        }
    }
    parts.retain(|part| part.micro_nats != 0);
    parts
}

fn one_part(causes: Vec<Cause>, micro_nats: i64) -> Vec<Part> {
    if micro_nats == 0 { Vec::new() } else { vec![Part { causes, micro_nats }] }
}

fn disposition_cause(before: &Verdict, after: &Verdict, cuts: &BeforeAfter<Option<Cuts>>) -> Option<DispositionCause> {
    if before.disposition == after.disposition {
        return None;
    }
    let pin = |verdict: &Verdict| verdict.pin.as_ref().map(|pin| pin.feedback.clone());
    if pin(before) != pin(after) {
        return Some(DispositionCause::Pin);
    }
    if before.policy.rule != after.policy.rule {
        return Some(DispositionCause::Rule);
    }
    if before.lacks_coverage != after.lacks_coverage {
        return Some(DispositionCause::Coverage);
    }
    let ((Some(old), Some(new)), (Some(earlier), Some(later))) =
        ((cuts.before, cuts.after), (before.log_odds_micro, after.log_odds_micro))
    else {
        return Some(DispositionCause::Evidence);
    };
    // The later evidence under the earlier thresholds, and the earlier evidence under the later ones.
    let crossed = (old.disposition(later), new.disposition(earlier));
    Some(if crossed == (after.disposition, before.disposition) {
        DispositionCause::Evidence
    } else if crossed == (before.disposition, after.disposition) {
        DispositionCause::Thresholds
    } else {
        DispositionCause::EvidenceAndThresholds
    })
}

/// The thresholds by which a verdict was judged, as its margins show them.
fn cuts(verdict: &Verdict) -> Option<Cuts> {
    let log_odds = verdict.log_odds_micro?;
    let nearest = |disposition: Disposition| {
        let margin = verdict.analysis.margins.iter().find(|margin| margin.disposition == disposition)?;
        Some(log_odds + margin.micro_nats)
    };
    // A margin leads to the nearest log-odds of the other disposition: from above that is its greatest, from below its least.
    Some(match verdict.sources_disposition {
        Disposition::Malicious => Cuts {
            malicious: nearest(Disposition::Suspicious)? + 1,
            suspicious: nearest(Disposition::Unknown)? + 1,
            benign: nearest(Disposition::Benign)?,
        },
        Disposition::Suspicious => Cuts {
            malicious: nearest(Disposition::Malicious)?,
            suspicious: nearest(Disposition::Unknown)? + 1,
            benign: nearest(Disposition::Benign)?,
        },
        Disposition::Unknown => Cuts {
            malicious: nearest(Disposition::Malicious)?,
            suspicious: nearest(Disposition::Suspicious)?,
            benign: nearest(Disposition::Benign)?,
        },
        Disposition::Benign => Cuts {
            malicious: nearest(Disposition::Malicious)?,
            suspicious: nearest(Disposition::Suspicious)?,
            benign: nearest(Disposition::Unknown)? - 1,
        },
    })
}

fn threshold_changes(cuts: &BeforeAfter<Option<Cuts>>) -> Vec<ThresholdChange> {
    let Some((before, after)) = cuts.before.zip(cuts.after) else { return Vec::new() };
    let all = [
        (Disposition::Malicious, before.malicious, after.malicious),
        (Disposition::Suspicious, before.suspicious, after.suspicious),
        (Disposition::Benign, before.benign, after.benign),
    ];
    all.into_iter()
        .map(|(disposition, before, after)| ThresholdChange { disposition, micro_nats: BeforeAfter { before, after } })
        .filter(|change| !change.micro_nats.is_same())
        .collect()
}
