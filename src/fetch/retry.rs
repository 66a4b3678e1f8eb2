//! Layer 5, retry: only what may succeed moments later, above the quota so that every attempt pays, and within a budget
//! so that a source in trouble is not asked three times as often.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower::ServiceExt;

use super::trip::{Asks, Attempt, Obstacle, Site, layer, lock};
use crate::finding::SourceError;

/// Attempts after the first.
const RETRIES: u32 = 2;

/// Wait before the first retry, doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Retries in hand before any question was asked, and the most that can be saved up.
const BUDGET: u32 = 5;

/// A retry costs as much as this many first attempts earn: retries are at most a tenth of all questions.
const PRICE: u32 = 10;

/// Repeats an attempt that failed for the moment.
pub(super) fn over<S: Asks>(site: &Arc<Site>, inner: S) -> impl Asks + use<S> {
    let purse = Arc::new(Mutex::new(BUDGET * PRICE));
    layer(site, inner, move |site, inner: S, attempt: Attempt| {
        let purse = purse.clone();
        async move {
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
        }
    })
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
