//! The policy `xsoar`: the most reliable source decides, a tie goes to the worse claim. No probability, no contributions.
//!
//! It follows the public script of Cortex XSOAR: claims of "unknown" are dropped first, so that a source of any letter
//! with a claim beats a better one without. Of equals the first name is the deciding source. Where a finding says what Cortex
//! XSOAR's own integration computes from the same answer, that claim counts.

use std::cmp::Reverse;

use super::Verdict;
use crate::finding::{Disposition, OutcomeBody};

/// Sets the disposition and the deciding source.
pub(super) fn judge(verdict: &mut Verdict) {
    let claims = verdict.outcomes.iter().filter_map(|outcome| Some((outcome, claim(&outcome.body)?)));
    let deciding = claims
        .filter(|(_, claim)| *claim != Disposition::Unknown)
        .min_by_key(|(outcome, claim)| (outcome.reliability, Reverse(*claim), &outcome.source));
    if let Some((outcome, claim)) = deciding {
        verdict.disposition = claim;
        verdict.deciding_source = Some(outcome.source.clone());
    }
}

/// What the source says under this policy.
pub(super) fn claim(body: &OutcomeBody) -> Option<Disposition> {
    let finding = body.finding()?;
    Some(finding.xsoar.as_ref().map_or(finding.claim, |xsoar| xsoar.claim))
}
