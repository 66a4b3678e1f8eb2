//! The ledger in memory.

use std::collections::HashSet;
use std::time::SystemTime;

use super::{Memory, exists, newest, removed};
use crate::source::{QuotaLimits, QuotaPer, QuotaZone};
use crate::store::quota::{Calendar, Moment, spent_window};
use crate::store::time::nanos;
use crate::store::windows::AccountWindows;
use crate::store::{
    Acquire, Acquired, BoxFuture, Cursor, Disclosure, DisclosureFilter, Ledger, Listed, PageLimit, Unit, WindowUse,
    caller_account, caller_limits,
};

impl Ledger for Memory {
    fn acquire(&self, calls: Vec<Acquire>) -> BoxFuture<'_, Vec<Acquired>> {
        self.run(move |state| {
            let mut ids = HashSet::new();
            for disclosure in calls.iter().flat_map(|call| &call.disclosures) {
                if state.disclosure_ids.contains(&disclosure.id) || !ids.insert(&disclosure.id) {
                    return Err(exists(disclosure));
                }
            }
            let take = |Acquire { unit, limits, budget, disclosures }| {
                let calendar = Calendar::new(unit.at, &limits.zone)?;
                let at = calendar.at;
                for name in unit.accounts() {
                    state.accounts.entry(name).or_default().follow_clock(&at);
                }
                let charged = unit.charged_to.as_deref().map(caller_account);
                if let (Some(charged), Some(limit)) = (&charged, budget) {
                    let account = state.accounts.entry(charged.clone()).or_default();
                    let budget = caller_limits(limit);
                    let day = Calendar::new(unit.at, &budget.zone)?;
                    if let Some(spent) = spent_window(&account.uses(&budget.windows, &day)) {
                        return Ok(Acquired::OverBudget(spent));
                    }
                }
                let account = state.accounts.entry(unit.account).or_default();
                let acquired = account.acquire(&limits.windows, &calendar);
                if matches!(acquired, Acquired::Granted(_)) {
                    account.begin(&at);
                    if let Some(charged) = charged {
                        let account = state.accounts.entry(charged).or_default();
                        account.record(&at);
                        account.begin(&at);
                    }
                    disclosures.into_iter().try_for_each(|disclosure| state.disclose(disclosure))?;
                }
                Ok(acquired)
            };
            calls.into_iter().map(take).collect()
        })
    }

    fn follow_clock_forward(&self, from: SystemTime, to: SystemTime) -> BoxFuture<'_, ()> {
        self.run(move |state| {
            let (from, to) = (Moment::at(from), Moment::at(to));
            state.accounts.values_mut().for_each(|account| account.follow_clock_forward(&from, &to));
            Ok(())
        })
    }

    fn settle(&self, unit: Unit, ended: SystemTime) -> BoxFuture<'_, ()> {
        self.run(move |state| {
            let (at, ended) = (Moment::at(unit.at), Moment::at(ended));
            for name in unit.accounts() {
                if let Some(account) = state.accounts.get_mut(&name) {
                    account.redate(&at, &ended);
                    account.end(&at);
                }
            }
            Ok(())
        })
    }

    fn give_back<'a>(&'a self, unit: Unit, limits: &'a QuotaLimits) -> BoxFuture<'a, Option<Vec<WindowUse>>> {
        self.run(move |state| {
            let calendar = Calendar::new(unit.at, &limits.zone)?;
            let at = calendar.at;
            let mut is_given_back = false;
            for name in unit.accounts() {
                let Some(account) = state.accounts.get_mut(&name) else { continue };
                account.end(&at);
                is_given_back |= account.give_back(&at);
            }
            let account = state.accounts.get(&unit.account).filter(|_| is_given_back);
            Ok(account.map(|account| account.uses(&limits.windows, &calendar)))
        })
    }

    fn usage<'a>(&'a self, account: &'a str, limits: &'a QuotaLimits, at: SystemTime) -> BoxFuture<'a, Vec<WindowUse>> {
        self.run(move |state| {
            let calendar = Calendar::new(at, &limits.zone)?;
            let none = AccountWindows::default();
            Ok(state.accounts.get(account).unwrap_or(&none).uses(&limits.windows, &calendar))
        })
    }

    fn raise<'a>(
        &'a self,
        account: &'a str,
        used: Vec<(QuotaPer, u64)>,
        zone: QuotaZone,
        at: SystemTime,
    ) -> BoxFuture<'a, bool> {
        self.run(move |state| {
            let calendar = Calendar::new(at, &zone)?;
            let raised = state.accounts.entry(account.to_owned()).or_default().raise(&used, &calendar);
            Ok(raised.iter().all(Option::is_some))
        })
    }

    fn record_disclosure(&self, disclosure: Disclosure) -> BoxFuture<'_, ()> {
        self.run(move |state| state.disclose(disclosure))
    }

    fn disclosures(
        &self,
        filter: DisclosureFilter,
        limit: PageLimit,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Listed<Disclosure>> {
        self.run(move |state| {
            let matching = newest(&state.disclosures, after).filter(|disclosure| filter.matches(disclosure));
            Listed::fill(limit, matching.map(|disclosure| Ok(disclosure.clone().with_bytes())))
        })
    }

    fn prune_disclosures(&self, before: SystemTime) -> BoxFuture<'_, u64> {
        self.run(move |state| {
            let (oldest, count) = (nanos(before), state.disclosures.len());
            let ids = &mut state.disclosure_ids;
            state.disclosures.retain(|(time, id), _| *time >= oldest || !ids.remove(id));
            Ok(removed(count, state.disclosures.len()))
        })
    }

    fn prune_quota(&self, now: SystemTime) -> BoxFuture<'_, ()> {
        self.run(move |state| {
            let at = Moment::at(now);
            state.accounts.values_mut().for_each(|account| account.prune(&at));
            Ok(())
        })
    }
}
