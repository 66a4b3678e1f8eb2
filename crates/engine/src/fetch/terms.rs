//! Which part of a quota window a request may spend, by its priority, and what it is told where there is none.

use std::time::SystemTime;

use super::attempt::quota_spent;
use crate::finding::{NotAsked, NotAskedReason, counted};
use crate::source::{Priority, QuotaLimits, QuotaPer, paced_calls, paced_from, reserved_calls, windows_for};
use crate::store::WindowUse;

/// Why a call gets no unit now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    /// The outcome if nobody waits for a unit.
    pub(super) not_asked: NotAsked,
    /// The use of the whole window that is used up; `None`: it is none of the settings.
    pub(super) window: Option<WindowUse>,
    /// The caller whose budget is spent, if that is why: others may still get a unit.
    pub(super) caller: Option<String>,
}

impl Refusal {
    /// The caller has spent its units of the day.
    pub(super) fn over_budget(caller: &str, day: &WindowUse) -> Self {
        let not_asked = over_budget(caller, day);
        Self { not_asked, window: None, caller: Some(caller.to_owned()) }
    }
}

/// The outcome for a caller that has spent its units of the day.
pub fn over_budget(caller: &str, day: &WindowUse) -> NotAsked {
    let are = if day.used == 1 { "is" } else { "are" };
    let units = counted(day.limit, "quota unit");
    let detail = format!("{} of the {units} that {caller} may spend per day {are} spent", day.used);
    NotAsked { until: Some(day.resets_at), ..NotAsked::new(NotAskedReason::CallerBudget, detail) }
}

/// The limits under which units of an account are spent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Terms {
    pub(super) account: String,
    pub(super) limits: QuotaLimits,
    /// Percentage of each window that only interactive requests may spend.
    pub(super) reserve: u32,
    /// Whether background requests are spread over the day.
    pub(super) is_paced: bool,
}

impl Terms {
    /// The limits as they apply to this priority now.
    pub(super) fn limits_for(&self, priority: Priority, now: SystemTime) -> QuotaLimits {
        let mut windows = windows_for(priority, &self.limits.windows, self.reserve);
        if self.paces(priority)
            && let Some(day) = self.limits.zone.window(QuotaPer::Day, now)
        {
            for window in windows.iter_mut().filter(|window| window.per == QuotaPer::Day) {
                window.limit = paced_calls(window.limit, day, now);
            }
        }
        QuotaLimits { windows, zone: self.limits.zone.clone() }
    }

    /// The most calls of this priority that may ask for a unit at once. Those that are paced come one by one.
    pub(super) fn most_at_once(&self, priority: Priority) -> Option<u64> {
        if self.paces(priority) && self.limits.windows.iter().any(|window| window.per == QuotaPer::Day) {
            return Some(1);
        }
        windows_for(priority, &self.limits.windows, self.reserve).iter().map(|window| window.limit).min()
    }

    fn paces(&self, priority: Priority) -> bool {
        self.is_paced && priority == Priority::Background
    }

    /// The use of the whole windows, given their use as it applies to a priority.
    pub(super) fn whole(&self, mut uses: Vec<WindowUse>) -> Vec<WindowUse> {
        uses.iter_mut().for_each(|window| *window = self.whole_window(*window));
        uses
    }

    /// The use of the whole window, given its use as it applies to a priority.
    pub(super) fn whole_window(&self, window: WindowUse) -> WindowUse {
        let whole = self.limits.windows.iter().find(|whole| whole.per == window.per);
        WindowUse { limit: whole.map_or(window.limit, |whole| whole.limit), ..window }
    }

    /// Why a window is used up for this priority now, given its use as it applies to that.
    pub(super) fn refusal(&self, priority: Priority, window: &WindowUse, now: SystemTime) -> Refusal {
        let whole = self.whole_window(*window);
        let unreserved = whole.limit - reserved_calls(whole.limit, self.reserve);
        let day = self.limits.zone.window(QuotaPer::Day, now).filter(|_| whole.per == QuotaPer::Day);
        let not_asked = match priority {
            Priority::Background if self.is_paced && whole.used < unreserved && day.is_some() => {
                let detail = format!("{}; background requests are spread over the day", whole.describe());
                let until = day.map(|day| paced_from(unreserved, whole.used, day));
                NotAsked { until, ..NotAsked::new(NotAskedReason::Pacing, detail) }
            }
            Priority::Background if whole.used < whole.limit => {
                let reserved = counted(reserved_calls(whole.limit, self.reserve), "call");
                let detail = format!("{}; {reserved} reserved for interactive requests", whole.describe());
                let reserve = NotAsked::new(NotAskedReason::QuotaReserve, detail);
                NotAsked { until: Some(window.resets_at), ..reserve }
            }
            Priority::Background | Priority::Interactive => quota_spent(whole.describe(), window.resets_at),
        };
        Refusal { not_asked, window: Some(whole), caller: None }
    }
}
