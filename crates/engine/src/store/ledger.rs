//! The interface of the ledger: which quota units were spent by whom, and what was disclosed to whom.

use std::time::SystemTime;

use super::{BoxFuture, Cursor, Listed, PageLimit};
use crate::finding::counted;
use crate::indicator::{Indicator, Tlp};
use crate::source::{QuotaLimits, QuotaPer, QuotaWindow, QuotaZone};

/// A request to spend one unit of quota on a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquire {
    /// The unit.
    pub unit: Unit,
    /// The windows that apply. A unit is acquired in all of them or in none.
    pub limits: QuotaLimits,
    /// Units that the caller may spend in a day, for a unit that is charged to one.
    pub budget: Option<u64>,
    /// What the call discloses. Recorded together with the unit, or not at all.
    pub disclosures: Vec<Disclosure>,
}

/// A unit of quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The account whose quota is spent: one per credential, without revealing it.
    pub account: String,
    /// The source for which it is spent.
    pub source: String,
    /// Time of acquisition.
    pub at: SystemTime,
    /// The caller to whose budget it is charged; `None`: to none.
    pub charged_to: Option<String>,
}

impl Unit {
    /// The accounts in which it is recorded: the one whose quota is spent, and that of the caller.
    pub(super) fn accounts(&self) -> impl Iterator<Item = String> {
        std::iter::once(self.account.clone()).chain(self.charged_to.as_deref().map(caller_account))
    }
}

/// The account in which the units of a caller are counted, which no source has.
pub fn caller_account(caller: &str) -> String {
    format!("caller:{caller}")
}

/// The window in which the units of a caller are counted: the day of UTC.
pub fn caller_limits(limit: u64) -> QuotaLimits {
    vec![QuotaWindow { per: QuotaPer::Day, limit }].into()
}

/// The use of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowUse {
    /// Which window.
    pub per: QuotaPer,
    /// Number of calls that it allows.
    pub limit: u64,
    /// Number of calls that are used.
    pub used: u64,
    /// When a unit becomes available. For a sliding minute: when its oldest call is 61 s old, since a call may take a
    /// second to arrive. Otherwise: at the end of the hour, day, week or month.
    pub resets_at: SystemTime,
}

impl WindowUse {
    /// A description such as `4 of 4 calls per minute are used`.
    pub fn describe(&self) -> String {
        let are = if self.used == 1 { "is" } else { "are" };
        format!("{} of {} per {} {are} used", self.used, counted(self.limit, "call"), self.per.as_str())
    }
}

/// The result of an [`Acquire`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The unit is recorded; this is the use of the windows after it.
    Granted(Vec<WindowUse>),
    /// Nothing was acquired, since this window is used up. If several are, the one that resets last.
    Spent(WindowUse),
    /// Nothing was acquired, since the caller has spent its budget of the day.
    OverBudget(WindowUse),
}

/// A record that an indicator was disclosed to a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disclosure {
    /// Identifier; identifiers sort by time.
    pub id: String,
    /// When the record was made, which is before the call is made.
    pub time: SystemTime,
    /// What was disclosed.
    pub indicator: Indicator,
    /// The source that was asked.
    pub source: String,
    /// The host that was asked: the host of a URL, or a DNS zone.
    pub to: String,
    /// The caller.
    pub caller: String,
    /// The TLP of the request.
    pub tlp: Tlp,
    /// Identifier of the submission by which the content itself was given away; `None`: only the indicator was asked about.
    pub submission: Option<String>,
}

impl Disclosure {
    /// Pairs the disclosure with its approximate size in a list, in bytes.
    pub(super) fn with_bytes(self) -> (Self, usize) {
        let texts = [&self.id, &self.source, &self.to, &self.caller];
        let bytes = 64 + self.indicator.value().len() + texts.into_iter().map(String::len).sum::<usize>();
        (self, bytes)
    }
}

/// Which disclosures to list; unset fields do not filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DisclosureFilter {
    /// Only of this indicator.
    pub indicator: Option<Indicator>,
    /// Only to this source.
    pub source: Option<String>,
    /// Only at or after this moment.
    pub from: Option<SystemTime>,
    /// Only before this moment.
    pub until: Option<SystemTime>,
}

/// The ledger: which quota units were spent by whom, and what was disclosed to whom.
pub trait Ledger: Send + Sync {
    /// Acquires units for these calls, in this order, in one transaction that is durable before this resolves. Each
    /// unit is acquired in all its windows together with the record of its disclosures, or not at all. Until it is
    /// settled or given back, a unit counts as spent now.
    fn acquire(&self, calls: Vec<Acquire>) -> BoxFuture<'_, Vec<Acquired>>;
    /// Reports that the wall clock was set forward from `from` to `to`. What was spent in the minute before `from`
    /// counts as spent in the minute before `to`; otherwise that window would wrongly be empty. Not stored: effective
    /// until the process ends.
    fn follow_clock_forward(&self, from: SystemTime, to: SystemTime) -> BoxFuture<'_, ()>;
    /// Records that the call of this unit ended at `ended`. The source received it at some time before, so the unit
    /// counts from
    /// `ended` on, if that is later than its acquisition. Durable before this resolves.
    fn settle(&self, unit: Unit, ended: SystemTime) -> BoxFuture<'_, ()>;
    /// Gives back a unit whose call did not reach the source, in all windows in which it was counted. Durable before
    /// this resolves. Returns the use of the windows after it; `None` if nothing was changed, because the unit was
    /// already given back or its record was moved when the clock was set.
    fn give_back<'a>(&'a self, unit: Unit, limits: &'a QuotaLimits) -> BoxFuture<'a, Option<Vec<WindowUse>>>;
    /// The use of the windows, in their order. Records after `at` count too.
    fn usage<'a>(&'a self, account: &'a str, limits: &'a QuotaLimits, at: SystemTime) -> BoxFuture<'a, Vec<WindowUse>>;
    /// Raises the recorded use of these windows of an account to what the source reports: others spend with the same
    /// credential. Never lowers it. Durable before it resolves. Returns `false` if a window began less than five minutes
    /// before `at`: the source may have reported the one before, so that window is left as it is.
    fn raise<'a>(
        &'a self,
        account: &'a str,
        used: Vec<(QuotaPer, u64)>,
        zone: QuotaZone,
        at: SystemTime,
    ) -> BoxFuture<'a, bool>;
    /// Records a disclosure, before the call is made.
    fn record_disclosure(&self, disclosure: Disclosure) -> BoxFuture<'_, ()>;
    /// Disclosures that match the filter, newest first, starting after `after`.
    fn disclosures(
        &self,
        filter: DisclosureFilter,
        limit: PageLimit,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Listed<Disclosure>>;
    /// Removes disclosures made before this time, and returns their number.
    fn prune_disclosures(&self, before: SystemTime) -> BoxFuture<'_, u64>;
    /// Removes quota records that are too old for any window.
    fn prune_quota(&self, now: SystemTime) -> BoxFuture<'_, ()>;
}
