//! Layer 5, retry: only what may succeed moments later, above the quota so that every attempt pays, and within a budget
//! so that a source in trouble is not asked three times as often.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tower::Service;
use tower::ServiceExt;

use crate::finding::SourceError;
use crate::source::Answer;

use super::trip::{Attempt, Obstacle, Passage, Site, lock};

/// Attempts after the first.
const RETRIES: u32 = 2;

/// Wait before the first retry, doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Retries in hand before any question was asked, and the most that can be saved up.
const BUDGET: u32 = 5;

/// A retry costs as much as this many first attempts earn: retries are at most a tenth of all questions.
const PRICE: u32 = 10;

/// Repeats an attempt that failed for the moment.
#[derive(Clone)]
pub(super) struct Retry<S> {
    site: Arc<Site>,
    purse: Arc<Mutex<u32>>,
    inner: S,
}

impl<S> Retry<S> {
    pub(super) fn over(site: &Arc<Site>, inner: S) -> Self {
        Self { site: site.clone(), purse: Arc::new(Mutex::new(BUDGET * PRICE)), inner }
    }
}

impl<S> Service<Attempt> for Retry<S>
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
        let (site, purse, inner) = (self.site.clone(), self.purse.clone(), self.inner.clone());
        Box::pin(async move {
            earn(&purse);
            let mut failure: Option<SourceError> = None;
            let mut number = 0;
            loop {
                let error = match (inner.clone().oneshot(attempt.clone()).await, failure) {
                    (Ok(answer), _) => return Ok(answer),
                    (Err(Obstacle::Failed(error)), _) => error,
                    // A repetition was held back: what the source did before is the truth about it.
                    (Err(Obstacle::Barred(_) | Obstacle::Broken(_)), Some(before)) => {
                        return Err(Obstacle::Failed(before));
                    }
                    (Err(held_back), None) => return Err(held_back),
                };
                let wait = wait_before_retry(&site, &attempt, number, &error);
                let fits = wait < attempt.party.time_left(site.clock.now());
                if number == RETRIES || !error.kind.is_transient() || !fits || !spend(&purse) {
                    return Err(Obstacle::Failed(error));
                }
                site.clock.sleep(wait).await;
                failure = Some(error);
                number += 1;
            }
        })
    }
}

/// Exponential, jittered between half and whole, and never earlier than the source asked for.
fn wait_before_retry(site: &Site, attempt: &Attempt, number: u32, error: &SourceError) -> Duration {
    let whole = FIRST_WAIT.saturating_mul(1 << number.min(8));
    let jittered = whole.mul_f64(0.5 + jitter(site, attempt, number) / 2.0);
    jittered.max(error.retry_after.unwrap_or_default())
}

/// From 0 up to 1, the same for the same question: spread over sources and indicators, yet repeatable in tests.
fn jitter(site: &Site, attempt: &Attempt, number: u32) -> f64 {
    let mut hasher = DefaultHasher::new();
    site.settings.name.hash(&mut hasher);
    attempt.told.as_ref().map(|told| &told.indicator).hash(&mut hasher);
    number.hash(&mut hasher);
    f64::from((hasher.finish() >> 48) as u16) / 65_536.0
}

fn earn(purse: &Mutex<u32>) {
    let mut coins = lock(purse);
    *coins = (*coins + 1).min(BUDGET * PRICE);
}

fn spend(purse: &Mutex<u32>) -> bool {
    let mut coins = lock(purse);
    let enough = *coins >= PRICE;
    if enough {
        *coins -= PRICE;
    }
    enough
}
