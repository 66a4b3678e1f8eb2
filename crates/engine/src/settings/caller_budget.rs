//! How many quota units each caller may spend in a day, as the configuration file says it.

use super::raw::RawCallerBudget;
use crate::error::Violation;
use crate::source::CallerBudgets;

/// More than any caller spends in a day.
const MAX_UNITS: u64 = 1_000_000_000;

/// Reads the budgets. `is_caller` knows the names under which somebody may call.
pub(super) fn read(
    raw: RawCallerBudget,
    is_caller: impl Fn(&str) -> bool,
    violations: &mut Vec<Violation>,
) -> CallerBudgets {
    let budgets = CallerBudgets { default: raw.units_per_day, callers: raw.callers };
    let default = budgets.default.map(|units| ("units_per_day".to_owned(), units));
    let named = budgets.callers.iter().map(|(name, units)| (format!("callers.{name}"), *units));
    for (field, _) in default.into_iter().chain(named).filter(|(_, units)| *units > MAX_UNITS) {
        let message = "must be at most 1000000000 units; leave it out for no limit";
        violations.push(Violation::invalid(format!("caller_budget.{field}"), message));
    }
    for name in budgets.callers.keys().filter(|name| !is_caller(name)) {
        let message =
            format!("{name:?} is no caller; name one of [tokens], local, anonymous, or certificate:FINGERPRINT");
        violations.push(Violation::invalid(format!("caller_budget.callers.{name}"), message));
    }
    budgets
}
