//! What would change a verdict, as bytes and back.

use super::{StoreError, stored, unreadable};
use crate::verdict::{Flip, LeaveOneOut, Margin, Newcomers, Reach, ReportChange};

impl From<&LeaveOneOut> for stored::LeaveOneOut {
    fn from(left_out: &LeaveOneOut) -> Self {
        Self {
            source: left_out.source.clone(),
            micro_nats: left_out.micro_nats,
            disposition: stored::Disposition::from(left_out.disposition).into(),
        }
    }
}

impl TryFrom<stored::LeaveOneOut> for LeaveOneOut {
    type Error = StoreError;

    fn try_from(left_out: stored::LeaveOneOut) -> Result<Self, StoreError> {
        Ok(Self {
            disposition: left_out.disposition().try_into()?,
            source: left_out.source,
            micro_nats: left_out.micro_nats,
        })
    }
}

impl From<&Flip> for stored::Flip {
    fn from(flip: &Flip) -> Self {
        let change = |change: &ReportChange| stored::ReportChange {
            source: change.source.clone(),
            from: change.from.map(|from| stored::Disposition::from(from).into()),
            to: stored::Disposition::from(change.to).into(),
        };
        Self {
            disposition: stored::Disposition::from(flip.disposition).into(),
            assumption: stored::Assumption::from(flip.assumption).into(),
            changes: flip.changes.iter().map(change).collect(),
            log_odds_micro: flip.log_odds_micro,
        }
    }
}

impl TryFrom<stored::Flip> for Flip {
    type Error = StoreError;

    fn try_from(flip: stored::Flip) -> Result<Self, StoreError> {
        let change = |change: stored::ReportChange| {
            Ok::<_, StoreError>(ReportChange {
                from: change.from.map(|_| change.from().try_into()).transpose()?,
                to: change.to().try_into()?,
                source: change.source,
            })
        };
        Ok(Self {
            disposition: flip.disposition().try_into()?,
            assumption: flip.assumption().try_into()?,
            changes: flip.changes.into_iter().map(change).collect::<Result<_, _>>()?,
            log_odds_micro: flip.log_odds_micro,
        })
    }
}

impl From<&Margin> for stored::Margin {
    fn from(margin: &Margin) -> Self {
        let example = |example: &Newcomers| stored::Newcomers {
            count: example.count,
            reliability: stored::Reliability::from(example.reliability).into(),
            claim: stored::Disposition::from(example.claim).into(),
        };
        Self {
            disposition: stored::Disposition::from(margin.disposition).into(),
            micro_nats: margin.micro_nats,
            example: margin.example.as_ref().map(example),
        }
    }
}

impl TryFrom<stored::Margin> for Margin {
    type Error = StoreError;

    fn try_from(margin: stored::Margin) -> Result<Self, StoreError> {
        let example = |example: stored::Newcomers| {
            if example.count == 0 {
                return Err(unreadable("a margin has an example of no source"));
            }
            Ok(Newcomers {
                count: example.count,
                reliability: example.reliability().try_into()?,
                claim: example.claim().try_into()?,
            })
        };
        Ok(Self {
            disposition: margin.disposition().try_into()?,
            micro_nats: margin.micro_nats,
            example: margin.example.map(example).transpose()?,
        })
    }
}

impl From<&Reach> for stored::Reach {
    fn from(reach: &Reach) -> Self {
        Self { can_change: reach.can_change, sources: reach.sources.clone() }
    }
}

impl From<stored::Reach> for Reach {
    fn from(reach: stored::Reach) -> Self {
        Self { can_change: reach.can_change, sources: reach.sources }
    }
}
