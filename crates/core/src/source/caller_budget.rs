//! How many quota units each caller may spend in a day, over all sources.

use std::collections::BTreeMap;

/// The quota units that callers may spend in a day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerBudgets {
    /// Units of each caller that is not named; `None`: no limit.
    pub default: Option<u64>,
    /// Units of the callers that are named.
    pub callers: BTreeMap<String, u64>,
}

impl CallerBudgets {
    /// The units that this caller may spend in a day; `None`: no limit. What nobody asked for is charged to nobody.
    pub fn limit(&self, caller: &str) -> Option<u64> {
        let named = self.callers.get(caller).copied();
        named.or(self.default).filter(|_| !caller.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_its_own_budget_or_that_of_all_others() {
        let callers = BTreeMap::from([("soar".to_owned(), 0)]);
        let budgets = CallerBudgets { default: Some(9), callers: callers.clone() };
        assert_eq!(["soar", "local", ""].map(|caller| budgets.limit(caller)), [Some(0), Some(9), None]);
        let named = CallerBudgets { default: None, callers };
        assert_eq!(["soar", "local"].map(|caller| named.limit(caller)), [Some(0), None]);
    }
}
