//! The quota of a credential as the source reports it.

use std::collections::BTreeMap;

use super::{QuotaPer, QuotaWindow};

/// The limits of a credential, and its use by everybody who has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// The tier of the credential, one of those of the kind; `None`: the source does not report it.
    pub tier: Option<String>,
    /// The limit and the use of each window that the source reports.
    pub windows: Vec<WindowAllowance>,
}

/// The limit and the use of one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowAllowance {
    /// The window with its limit.
    pub window: QuotaWindow,
    /// Number of calls that are used.
    pub used: u64,
}

impl Allowance {
    /// These windows and the reported ones, each with the lower limit.
    pub fn bound(&self, windows: &[QuotaWindow]) -> Vec<QuotaWindow> {
        let mut limits: BTreeMap<QuotaPer, u64> = BTreeMap::new();
        for QuotaWindow { per, limit } in self.windows.iter().map(|allowed| &allowed.window).chain(windows) {
            let least = limits.entry(*per).or_insert(*limit);
            *least = (*least).min(*limit);
        }
        limits.into_iter().map(|(per, limit)| QuotaWindow { per, limit }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reported_limit_never_raises_a_configured_one_and_adds_missing_windows() {
        let window = |per, limit| QuotaWindow { per, limit };
        let allowed = [window(QuotaPer::Hour, 9_000), window(QuotaPer::Day, 20_000), window(QuotaPer::Month, 30)];
        let windows = allowed.iter().map(|window| WindowAllowance { window: *window, used: 0 }).collect();
        let allowance = Allowance { tier: None, windows };
        let set = [window(QuotaPer::Minute, 4), window(QuotaPer::Day, 500), window(QuotaPer::Month, 15_500)];
        let bound = allowance.bound(&set);
        let wanted = [(QuotaPer::Minute, 4), (QuotaPer::Hour, 9_000), (QuotaPer::Day, 500), (QuotaPer::Month, 30)];
        assert_eq!(bound, wanted.map(|(per, limit)| window(per, limit)));
        assert_eq!(Allowance::default().bound(&set), set);
    }
}
