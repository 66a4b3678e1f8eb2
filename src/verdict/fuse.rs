//! The weighted policy: log-odds fusion in integer micro-nats.

use std::time::SystemTime;

use super::{Policy, PolicyRef, Verdict};
use crate::finding::{Disposition, Outcome};
use crate::indicator::Indicator;

/// Judges: what all outcomes together say of the indicator at this moment. Cannot fail, and the order of the outcomes
/// does not matter.
pub fn fuse(policy: &Policy, indicator: &Indicator, at: SystemTime, outcomes: Vec<Outcome>) -> Verdict {
    Verdict {
        indicator: indicator.clone(),
        disposition: Disposition::Unknown,
        summary: String::new(),
        probability: None,
        log_odds_micro: None,
        coverage: 0.0,
        conflict: None,
        contributions: Vec::new(),
        deciding_source: None,
        outcomes,
        policy: PolicyRef { name: policy.name.clone(), revision: policy.revision },
        partial: false,
        judged_time: at,
    }
}
