//! Layer 4, total time: bounds all steps and attempts together, also where a later waiter would wait for ever.
//!
//! The waiters' own deadlines are kept above, by `coalesce`; when the last has left, nothing below begins anew.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;
use tower::ServiceExt;

use super::trip::{Concluded, Passage, Site, Trip};

/// Ends a conversation when its total time is up; what is known by then stands.
#[derive(Clone)]
pub(super) struct TotalTime<S> {
    site: Arc<Site>,
    inner: S,
}

impl<S> TotalTime<S> {
    pub(super) fn over(site: &Arc<Site>, inner: S) -> Self {
        Self { site: site.clone(), inner }
    }
}

impl<S> Service<Trip> for TotalTime<S>
where
    S: Service<Trip, Response = Concluded, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Concluded;
    type Error = Infallible;
    type Future = Passage<Concluded, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, trip: Trip) -> Self::Future {
        let (site, inner) = (self.site.clone(), self.inner.clone());
        Box::pin(async move {
            let party = trip.party.clone();
            let to_begin = party.end().duration_since(site.clock.now()).unwrap_or_default();
            let span = to_begin.saturating_add(site.settings.timeout);
            tokio::select! {
                biased;
                concluded = inner.oneshot(trip) => concluded,
                () = site.clock.sleep(span) => {
                    let why = format!("no answer within {} ms over all attempts", span.as_millis());
                    let (body, time) = party.so_far(site.clock.now(), &why);
                    Ok(Concluded::nothing(body, time))
                }
            }
        })
    }
}
