//! Layer 8, attempt time: innermost, so that each attempt has the source's whole timeout and a retry starts afresh.

use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;
use tower::ServiceExt;

use crate::finding::SourceError;
use crate::finding::SourceErrorKind;
use crate::source::Answer;

use super::trip::{Attempt, Obstacle, Passage, Site};

/// Gives up an attempt after the source's timeout.
#[derive(Clone)]
pub(super) struct AttemptTime<S> {
    site: Arc<Site>,
    inner: S,
}

impl<S> AttemptTime<S> {
    pub(super) fn over(site: &Arc<Site>, inner: S) -> Self {
        Self { site: site.clone(), inner }
    }
}

impl<S> Service<Attempt> for AttemptTime<S>
where
    S: Service<Attempt, Response = Answer, Error = Obstacle> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Answer;
    type Error = Obstacle;
    type Future = Passage<Answer, Obstacle>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Obstacle>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, attempt: Attempt) -> Self::Future {
        let (site, inner) = (self.site.clone(), self.inner.clone());
        Box::pin(async move {
            let span = site.settings.timeout;
            tokio::select! {
                biased;
                answer = inner.oneshot(attempt) => answer,
                () = site.clock.sleep(span) => {
                    let detail = format!("no answer within {} ms", span.as_millis());
                    Err(Obstacle::Failed(SourceError::new(SourceErrorKind::Timeout, detail)))
                }
            }
        })
    }
}
