//! Layer 4, total time: bounds all steps and attempts together, also where a later waiter would wait for ever.
//!
//! The waiters' own deadlines are kept above, by `coalesce`; when the last has left, nothing below begins anew.

use std::sync::Arc;

use tower::ServiceExt;

use super::trip::{Concluded, Site, Talks, Trip, layer};

/// Ends a conversation when its total time is up; what is known by then stands.
pub(super) fn over<S: Talks>(site: &Arc<Site>, inner: S) -> impl Talks + use<S> {
    layer(site, inner, |site, inner: S, trip: Trip| async move {
        let party = trip.party.clone();
        let to_begin = party.end().duration_since(site.clock.now()).unwrap_or_default();
        let duration = to_begin.saturating_add(site.settings.timeout);
        tokio::select! {
            biased;
            concluded = inner.oneshot(trip) => concluded,
            () = site.clock.sleep(duration) => {
                let why = format!("no answer within {} ms over all attempts", duration.as_millis());
                let (body, time) = party.so_far(site.clock.now(), &why);
                Ok(Concluded::nothing(body, time))
            }
        }
    })
}
