//! What a caller may spend in a day, and who pays where several wait for the same.

use std::collections::BTreeMap;
use std::time::Duration;

use concord::clock::Clock;
use concord::fetch::Fetched;
use concord::finding::NotAskedReason;
use concord::source::CallerBudgets;

use super::{Harness, SECOND, ScriptedReply, not_asked};

/// A source that finds something at every address, with these budgets.
fn with_budgets(default: Option<u64>, callers: &[(&str, u64)]) -> Harness {
    let harness = Harness::new(&[ScriptedReply::says("found 9").after(SECOND)]);
    let callers: BTreeMap<_, _> = callers.iter().map(|(name, units)| ((*name).to_owned(), *units)).collect();
    harness.parts.acquirer.set_budgets(CallerBudgets { default, callers });
    harness
}

impl Harness {
    async fn look_up_as(&self, caller: &str, last: u8) -> Fetched {
        let mut request = self.request_for(&format!("192.0.2.{last}"), 60 * SECOND);
        request.caller = caller.to_owned();
        self.pipeline.look_up(request).await
    }

    fn charged(&self) -> Vec<String> {
        self.ledger.charged.lock().unwrap().iter().map(|(caller, _)| caller.clone()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_has_spent_its_budget_is_refused_at_once_and_others_are_not() {
    let harness = with_budgets(Some(2), &[("soar", 1)]);
    harness.look_up_as("soar", 1).await;
    let now = harness.clock.now();
    let refused = harness.look_up_as("soar", 2).await;
    let refusal = not_asked(&refused.outcome);
    assert_eq!((refusal.reason, refusal.until), (NotAskedReason::CallerBudget, Some(now + 86_400 * SECOND)));
    assert_eq!(refusal.detail, "1 of the 1 quota unit that soar may spend per day is spent");
    assert_eq!((refused.receipt.units, harness.clock.now()), (0, now));
    for last in 3..=5 {
        harness.look_up_as("analyst", last).await;
    }
    assert_eq!(
        (harness.transport.calls(), harness.charged()),
        (3, ["soar", "analyst", "analyst"].map(str::to_owned).to_vec())
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_cached_costs_no_budget_and_a_budget_of_zero_uses_nothing_else() {
    let harness = with_budgets(None, &[("soar", 0)]);
    harness.look_up_as("analyst", 1).await;
    assert!(harness.look_up_as("soar", 1).await.receipt.from_cache);
    assert_eq!(not_asked(&harness.look_up_as("soar", 2).await.outcome).reason, NotAskedReason::CallerBudget);
    assert_eq!((harness.transport.calls(), harness.charged()), (1, Vec::new()), "without a limit nothing is counted");
}

#[tokio::test(start_paused = true)]
async fn whoever_has_budget_pays_for_all_who_wait_for_the_same() {
    let harness = with_budgets(Some(1), &[("soar", 0)]);
    *harness.ledger.lags.lock().unwrap() = vec![Duration::ZERO, SECOND];
    let mut request = harness.request_for("192.0.2.1", 60 * SECOND);
    request.caller = "soar".to_owned();
    let first = harness.begin(request.clone());
    request.caller = "analyst".to_owned();
    let second = harness.begin(request);
    assert!(first.await.unwrap().outcome.body.finding().is_some());
    assert!(second.await.unwrap().outcome.body.finding().is_some());
    assert_eq!((harness.transport.calls(), harness.charged()), (1, vec!["analyst".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_reaches_nobody_gives_its_unit_back_to_the_caller() {
    let harness = with_budgets(Some(1), &[]);
    harness.transport.script(&[ScriptedReply::unreachable(true), ScriptedReply::says("found 9")]);
    harness.look_up_as("soar", 1).await;
    assert_eq!(harness.charged(), Vec::<String>::new());
    assert!(harness.look_up_as("soar", 1).await.outcome.body.finding().is_some());
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_charged_and_a_budget_that_is_raised_holds_at_once() {
    let harness = with_budgets(Some(1), &[]);
    harness.transport.script(&[ScriptedReply::status(503, None), ScriptedReply::says("found 9")]);
    let fetched = harness.look_up_as("soar", 1).await;
    assert_eq!(super::error(&fetched.outcome).detail, "HTTP status 503", "the retry was not paid for");
    harness.parts.acquirer.set_budgets(CallerBudgets { default: Some(2), ..CallerBudgets::default() });
    assert!(harness.look_up_as("soar", 1).await.outcome.body.finding().is_some());
}
