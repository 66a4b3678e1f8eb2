//! Who may spend how much of a source's quota.

use strum::{IntoStaticStr, VariantArray};

use super::QuotaWindow;
use crate::error::{ParseEnumError, parse_enum};

/// How urgent a request is. The greater one is served first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Priority {
    /// A job that nobody watches. It leaves the reserve of each quota window to people.
    Background,
    /// A person waits for the answer.
    #[default]
    Interactive,
}

impl Priority {
    /// The word used in outputs.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl std::str::FromStr for Priority {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_enum(text, "priority")
    }
}

/// The calls of a window that a reserve of this many percent keeps for interactive requests: rounded up, so that a small
/// window keeps one too, but below 100 % background requests keep at least one call.
pub fn reserved_calls(limit: u64, percent: u32) -> u64 {
    let percent = u64::from(percent.min(100));
    let reserved = u128::from(limit) * u128::from(percent);
    let reserved = u64::try_from(reserved.div_ceil(100)).unwrap_or(limit);
    if percent == 100 { limit } else { reserved.min(limit.saturating_sub(1)) }
}

/// The windows as they apply to requests of this priority.
pub fn windows_for(priority: Priority, windows: &[QuotaWindow], reserve_percent: u32) -> Vec<QuotaWindow> {
    let available = |window: &QuotaWindow| match priority {
        Priority::Interactive => *window,
        Priority::Background => {
            QuotaWindow { limit: window.limit - reserved_calls(window.limit, reserve_percent), ..*window }
        }
    };
    windows.iter().map(available).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_window_of_four_keeps_one_call_and_a_window_of_one_keeps_none() {
        let reserved = [(4, 20), (500, 20), (1, 20), (1, 100), (4, 100), (4, 0), (u64::MAX, 100)];
        let reserved = reserved.map(|(limit, percent)| reserved_calls(limit, percent));
        assert_eq!(reserved, [1, 100, 0, 1, 4, 0, u64::MAX]);
    }

    proptest! {
        #[test]
        fn a_reserve_is_at_least_its_share_and_leaves_a_call_below_100_percent(limit in 2_u64.., percent in 0_u32..100) {
            let reserved = reserved_calls(limit, percent);
            prop_assert!(u128::from(reserved) * 100 >= u128::from(limit) * u128::from(percent) || reserved == limit - 1);
            prop_assert!(reserved < limit);
        }
    }
}
