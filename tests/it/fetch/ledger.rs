//! A ledger whose windows slide, which can be slow, hang and be unreachable.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use concord::clock::{Clock, ManualClock};
use concord::source::{QuotaLimits, QuotaPer, QuotaWindow, QuotaZone};
use concord::store::{
    Acquire, Acquired, AnswerStore, BoxFuture, Cursor, Disclosure, DisclosureFilter, Ledger, Listed, PageLimit,
    RawAnswer, StoreError, Unit, WindowUse,
};

use super::{Log, SECOND};

/// A ledger and a store of answers in memory.
#[derive(Debug)]
pub(super) struct FakeLedger {
    pub(super) clock: ManualClock,
    pub(super) acquired_at: Mutex<Vec<SystemTime>>,
    pub(super) disclosures: Mutex<Vec<Disclosure>>,
    pub(super) raw_answers: Mutex<Vec<RawAnswer>>,
    pub(super) unreachable: Mutex<bool>,
    pub(super) hangs: Mutex<bool>,
    /// How long each take acquired_at, in order; afterwards no time.
    pub(super) lags: Mutex<Vec<Duration>>,
    /// When calls ended whose unit was taken.
    pub(super) settled_at: Mutex<Vec<SystemTime>>,
    /// How many units were asked for.
    pub(super) asked: Mutex<usize>,
    /// The callers to which units were charged, and when.
    pub(super) charged: Mutex<Vec<(String, SystemTime)>>,
    pub(super) log: Log,
}

impl FakeLedger {
    fn window(&self, window: QuotaWindow, at: SystemTime) -> WindowUse {
        let duration = match window.per {
            QuotaPer::Minute => 60 * SECOND,
            QuotaPer::Hour => 3_600 * SECOND,
            QuotaPer::Day => 86_400 * SECOND,
            QuotaPer::Week => 7 * 86_400 * SECOND,
            QuotaPer::Month => 30 * 86_400 * SECOND,
        };
        let acquired_at = self.acquired_at.lock().unwrap();
        let inside: Vec<_> = acquired_at.iter().filter(|time| **time + duration > at).collect();
        let resets_at = inside.first().map_or(at, |oldest| **oldest + duration);
        WindowUse { per: window.per, limit: window.limit, used: inside.len() as u64, resets_at }
    }

    /// How many statements took units.
    pub(super) fn statements(&self) -> usize {
        let mut moments = self.acquired_at.lock().unwrap().clone();
        moments.dedup();
        moments.len()
    }

    fn reachable(&self) -> Result<(), StoreError> {
        if *self.unreachable.lock().unwrap() { Err(StoreError::unavailable("unreachable")) } else { Ok(()) }
    }
}

impl Ledger for FakeLedger {
    fn acquire(&self, calls: Vec<Acquire>) -> BoxFuture<'_, Vec<Acquired>> {
        Box::pin(async move {
            if *self.hangs.lock().unwrap() {
                std::future::pending::<()>().await;
            }
            let lag = self.lags.lock().unwrap().pop();
            self.clock.sleep(lag.unwrap_or_default()).await;
            self.reachable()?;
            *self.asked.lock().unwrap() += calls.len();
            let take = |Acquire { unit, limits, budget, disclosures }| {
                let mut charged = self.charged.lock().unwrap();
                if let (Some(caller), Some(limit)) = (&unit.charged_to, budget) {
                    let used = charged.iter().filter(|(other, _)| other == caller).count() as u64;
                    if used >= limit {
                        let resets_at = unit.at + 86_400 * SECOND;
                        return Acquired::OverBudget(WindowUse { per: QuotaPer::Day, limit, used, resets_at });
                    }
                }
                let uses =
                    |ledger: &Self| limits.windows.iter().map(|window| ledger.window(*window, unit.at)).collect();
                let before: Vec<WindowUse> = uses(self);
                let spent = before.iter().filter(|used| used.used >= used.limit).max_by_key(|used| used.resets_at);
                if let Some(spent) = spent {
                    return Acquired::Spent(*spent);
                }
                self.log.lock().unwrap().push("taken");
                self.log.lock().unwrap().extend(disclosures.iter().map(|_| "disclosed"));
                self.disclosures.lock().unwrap().extend(disclosures);
                self.acquired_at.lock().unwrap().push(unit.at);
                charged.extend(unit.charged_to.map(|caller| (caller, unit.at)));
                Acquired::Granted(uses(self))
            };
            Ok(calls.into_iter().map(take).collect())
        })
    }

    fn follow_clock_forward(&self, _: SystemTime, _: SystemTime) -> BoxFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn settle(&self, _: Unit, ended: SystemTime) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.reachable()?;
            self.settled_at.lock().unwrap().push(ended);
            Ok(())
        })
    }

    fn give_back<'a>(&'a self, unit: Unit, limits: &'a QuotaLimits) -> BoxFuture<'a, Option<Vec<WindowUse>>> {
        Box::pin(async move {
            self.reachable()?;
            self.log.lock().unwrap().push("given back");
            let mut acquired_at = self.acquired_at.lock().unwrap();
            let Some(place) = acquired_at.iter().position(|time| *time == unit.at) else { return Ok(None) };
            acquired_at.remove(place);
            drop(acquired_at);
            self.charged
                .lock()
                .unwrap()
                .retain(|entry| Some(&entry.0) != unit.charged_to.as_ref() || entry.1 != unit.at);
            Ok(Some(limits.windows.iter().map(|window| self.window(*window, unit.at)).collect()))
        })
    }

    fn usage<'a>(&'a self, _: &'a str, limits: &'a QuotaLimits, at: SystemTime) -> BoxFuture<'a, Vec<WindowUse>> {
        Box::pin(async move { Ok(limits.windows.iter().map(|window| self.window(*window, at)).collect()) })
    }

    fn raise<'a>(
        &'a self,
        _: &'a str,
        used: Vec<(QuotaPer, u64)>,
        _: QuotaZone,
        at: SystemTime,
    ) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let most = used.iter().map(|(_, used)| *used as usize).max().unwrap_or_default();
            let mut acquired_at = self.acquired_at.lock().unwrap();
            let more = most.saturating_sub(acquired_at.len());
            acquired_at.extend(std::iter::repeat_n(at, more));
            Ok(true)
        })
    }

    fn record_disclosure(&self, disclosure: Disclosure) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.reachable()?;
            self.log.lock().unwrap().push("disclosed");
            self.disclosures.lock().unwrap().push(disclosure);
            Ok(())
        })
    }

    fn disclosures(&self, _: DisclosureFilter, _: PageLimit, _: Option<Cursor>) -> BoxFuture<'_, Listed<Disclosure>> {
        Box::pin(async { Ok(Listed { rows: self.disclosures.lock().unwrap().clone(), has_more: false, bytes: 0 }) })
    }

    fn prune_disclosures(&self, _: SystemTime) -> BoxFuture<'_, u64> {
        Box::pin(async { Ok(0) })
    }

    fn prune_quota(&self, _: SystemTime) -> BoxFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

impl AnswerStore for FakeLedger {
    fn keep_answers(&self, answers: Vec<RawAnswer>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.raw_answers.lock().unwrap().extend(answers);
            Ok(())
        })
    }

    fn answer<'a>(&'a self, hash: &'a str) -> BoxFuture<'a, Option<RawAnswer>> {
        Box::pin(async move { Ok(self.raw_answers.lock().unwrap().iter().find(|raw| raw.hash == hash).cloned()) })
    }

    fn prune_answers(&self, _: SystemTime, _: u64) -> BoxFuture<'_, u64> {
        Box::pin(async { Ok(0) })
    }
}
