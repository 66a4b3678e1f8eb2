//! Layer 8, attempt time: innermost, so that each attempt has the source's whole timeout and a retry starts afresh.

use std::sync::Arc;

use tower::ServiceExt;

use super::trip::{Asks, Attempt, Obstacle, Site, layer};
use crate::finding::{SourceError, SourceErrorKind};

/// Gives up an attempt after the source's timeout.
pub(super) fn over<S: Asks>(site: &Arc<Site>, inner: S) -> impl Asks + use<S> {
    layer(site, inner, |site, inner: S, attempt: Attempt| async move {
        let duration = site.settings.timeout;
        tokio::select! {
            biased;
            answer = inner.oneshot(attempt) => answer,
            () = site.clock.sleep(duration) => {
                let detail = format!("no answer within {} ms", duration.as_millis());
                Err(Obstacle::Failed(SourceError::new(SourceErrorKind::Timeout, detail)))
            }
        }
    })
}
