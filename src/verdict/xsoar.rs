//! The policy `xsoar`: the most reliable source decides; in a tie, the worse claim. There is no probability and no
//! contribution.
//!
//! It follows the public script of Cortex XSOAR: claims of "unknown" are dropped first, so that a source with a claim
//! beats a more reliable one without. Among equals, the first by name is the deciding source. If a finding contains the
//! claim that Cortex XSOAR's own integration computes from the same answer, that claim counts.

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

/// The source's claim under this policy.
pub(super) fn claim(body: &OutcomeBody) -> Option<Disposition> {
    let finding = body.finding()?;
    Some(finding.xsoar.as_ref().map_or(finding.claim, |xsoar| xsoar.claim))
}
