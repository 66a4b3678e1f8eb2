//! The compatible policy: the most reliable source wins, a tie goes to the worse claim. No probability, no terms.
//!
//! It follows the public script of Cortex XSOAR: claims of "unknown" are dropped before the rule, so that a source of
//! any letter with a claim beats a silent better one. Of equals the first name decides, which changes nothing but it.

use std::cmp::Reverse;

use super::fuse::Judgement;
use crate::finding::{Disposition, Outcome};

/// The claim of the most reliable source that makes one.
pub(super) fn judge(outcomes: &[Outcome]) -> Judgement {
    let deciding = outcomes
        .iter()
        .filter_map(|outcome| Some((outcome, outcome.body.claim().filter(|claim| *claim != Disposition::Unknown)?)))
        .min_by_key(|(outcome, claim)| (outcome.reliability, Reverse(*claim), &outcome.source));
    match deciding {
        Some((outcome, claim)) => {
            Judgement { disposition: claim, deciding_source: Some(outcome.source.clone()), ..Judgement::default() }
        }
        None => Judgement::default(),
    }
}
