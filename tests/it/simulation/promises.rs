//! What must hold after every schedule.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use concord::error::Error;
use concord::finding::{NotAskedReason, OutcomeBody};
use concord::indicator::Tlp;
use concord::source::EnrichMode;
use concord::verdict::Verdict;

use super::world::{Answered, History, NEVER_SENT, PRIVATE, PUBLIC, Trouble};

const MINUTE: Duration = Duration::from_secs(60);

/// The first promise that the schedule broke.
pub fn broken_promise(history: &History) -> Option<String> {
    let checks = [
        never_over_quota,
        answered_before_the_deadline,
        one_verdict_a_request,
        nobody_is_forgotten,
        every_call_is_in_the_ledger,
        nothing_forbidden_is_asked,
        frugal_stays_in_its_budget,
        decisive_says_what_complete_says,
    ];
    checks.iter().find_map(|check| check(history))
}

/// Counted by the services themselves, in the time that nobody sets.
fn never_over_quota(history: &History) -> Option<String> {
    history.services.iter().zip(&history.quotas).find_map(|(service, quota)| {
        let arrivals = service.arrivals();
        let windows = arrivals.windows(*quota as usize + 1);
        let over = windows.into_iter().find(|window| window[window.len() - 1].at.since(window[0].at) < MINUTE)?;
        Some(format!("{} calls within a minute of {service:?}, which allows {quota}: {over:?}", over.len()))
    })
}

fn answered_before_the_deadline(history: &History) -> Option<String> {
    let late = history.answers.iter().find(|answered| answered.result.is_some() && answered.at > answered.deadline)?;
    Some(format!("late by {:?}: {late:?}", late.at.since(late.deadline)))
}

/// Each request has its own verdict, in the history once, or a reason why it has none.
fn one_verdict_a_request(history: &History) -> Option<String> {
    let mut stored: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &history.verdicts {
        *stored.entry(&record.id).or_default() += 1;
    }
    let mut seen = BTreeSet::new();
    for answered in &history.answers {
        match &answered.result {
            None | Some(Err(Error::Late { .. })) => {}
            Some(Err(error)) => return Some(format!("refused: {error}: {answered:?}")),
            Some(Ok(enriched)) => {
                let id = enriched.record.id.as_str();
                if !enriched.stored || !seen.insert(id) {
                    return Some(format!("verdict {id} is not stored, or of two requests"));
                }
                // A verdict at its deadline is stored after its answer, which a crash may prevent.
                if history.crashes == 0 && stored.get(id) != Some(&1) {
                    return Some(format!("verdict {id} is in the history {:?} times", stored.get(id)));
                }
                let sources: BTreeSet<_> = answered.progress.iter().collect();
                if sources.len() != answered.progress.len() || answered.progress.len() > history.services.len() {
                    return Some(format!("outcomes were reported twice: {answered:?}"));
                }
                if enriched.record.verdict.outcomes.len() != history.services.len() {
                    return Some(format!("a verdict without an outcome of each source: {answered:?}"));
                }
            }
        }
    }
    None
}

fn nobody_is_forgotten(history: &History) -> Option<String> {
    (history.forgotten > 0).then(|| format!("{} requests never end", history.forgotten))
}

/// Who asked is recorded before the question leaves.
fn every_call_is_in_the_ledger(history: &History) -> Option<String> {
    let recorded: BTreeSet<(String, String)> = history
        .disclosures
        .iter()
        .map(|disclosure| (disclosure.source.clone(), disclosure.indicator.value().to_owned()))
        .collect();
    history.services.iter().find_map(|service| {
        let arrivals = service.arrivals().into_iter();
        let missing =
            arrivals.map(|arrival| (service.name.clone(), arrival.indicator)).find(|call| !recorded.contains(call));
        missing.map(|call| format!("a call that is not in the ledger: {call:?}"))
    })
}

fn nothing_forbidden_is_asked(history: &History) -> Option<String> {
    // What is only asked about under TLP:RED may be asked by nobody.
    let may_be_asked: BTreeSet<&str> = history
        .answers
        .iter()
        .filter(|answered| answered.request.tlp != Tlp::Red)
        .map(|answered| answered.request.indicator.value())
        .chain(if history.trouble == Trouble::Calm || history.crashes > 0 { &PUBLIC[..] } else { &[] }.iter().copied())
        .filter(|value| ![NEVER_SENT, PRIVATE].contains(value))
        .collect();
    let arrivals = history.services.iter().flat_map(|service| service.arrivals());
    let forbidden = arrivals.map(|arrival| arrival.indicator).find(|value| !may_be_asked.contains(value.as_str()));
    forbidden.map(|value| format!("{value} was asked about"))
}

fn frugal_stays_in_its_budget(history: &History) -> Option<String> {
    let verdicts =
        history.answers.iter().filter_map(|answered| Some((answered, answered.result.as_ref()?.as_ref().ok()?)));
    verdicts.into_iter().find_map(|(answered, enriched)| {
        let EnrichMode::Frugal { budget } = answered.request.mode else { return None };
        let units: u32 = enriched.receipts.iter().map(|(_, receipt)| receipt.units).sum();
        (units > budget).then(|| format!("{units} units of {budget}: {answered:?}"))
    })
}

pub fn is_settled(verdict: &Verdict) -> bool {
    verdict.outcomes.iter().any(|outcome| {
        matches!(&outcome.body, OutcomeBody::NotAsked(not_asked) if not_asked.reason == NotAskedReason::VerdictSettled)
    })
}

/// Where nothing fails, the disposition is that of asking everybody.
fn decisive_says_what_complete_says(history: &History) -> Option<String> {
    let decisive =
        |answered: &&Answered| answered.request.mode == EnrichMode::Decisive && answered.request.tlp != Tlp::Red;
    history.answers.iter().filter(decisive).find_map(|answered| {
        let verdict = &answered.result.as_ref()?.as_ref().ok()?.record.verdict;
        let (_, complete) = history.complete.iter().find(|(value, _)| value == answered.request.indicator.value())?;
        (!verdict.partial && verdict.disposition != *complete)
            .then(|| format!("decisive says {:?}, complete {complete:?}: {answered:?}", verdict.disposition))
    })
}
