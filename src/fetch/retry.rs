//! Layer 5, retry: repeats what may succeed moments later. Above the quota, so that every attempt pays, and within a
//! budget, so that a source in trouble is not asked three times as often.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::time::Duration;

use super::attempt::AttemptError;
use super::waiters::Waiters;
use crate::clock::Clock;
use crate::finding::SourceError;
use crate::source::Answer;
use crate::sync::lock;

/// Attempts after the first.
const RETRIES: u32 = 2;

/// Wait before the first retry, doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Tokens that a retry costs. A first attempt deposits one, so that retries are at most a tenth of all questions.
const COST: u32 = 10;

/// Tokens at the start, and the most that can be saved up: five retries.
const MAX_TOKENS: u32 = 5 * COST;

/// The remaining retries of a source.
#[derive(Debug)]
pub(super) struct RetryBudget {
    tokens: Mutex<u32>,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { tokens: Mutex::new(MAX_TOKENS) }
    }
}

impl RetryBudget {
    fn deposit(&self) {
        let mut tokens = lock(&self.tokens);
        *tokens = (*tokens + 1).min(MAX_TOKENS);
    }

    fn withdraw(&self) -> bool {
        let mut tokens = lock(&self.tokens);
        let left = tokens.checked_sub(COST);
        *tokens = left.unwrap_or(*tokens);
        left.is_some()
    }
}

/// Repeats an attempt that failed for the moment. `seed` spreads the waits over sources and indicators, yet the same
/// question waits the same, so that tests can repeat it.
pub(super) async fn with_retries<F>(
    budget: &RetryBudget,
    waiters: &Waiters,
    clock: &dyn Clock,
    seed: impl Hash,
    attempt: impl Fn() -> F,
) -> Result<Answer, AttemptError>
where
    F: Future<Output = Result<Answer, AttemptError>>,
{
    budget.deposit();
    let mut failure: Option<SourceError> = None;
    let mut number = 0;
    loop {
        let error = match (attempt().await, failure) {
            (Ok(answer), _) => return Ok(answer),
            (Err(AttemptError::Source(error)), _) => error,
            (Err(unreachable @ AttemptError::Unreachable(_)), _) => return Err(unreachable),
            // A retry was held back: what the source did before is the truth about it.
            (Err(AttemptError::NotAttempted(_) | AttemptError::Local(_)), Some(before)) => {
                return Err(AttemptError::Source(before));
            }
            (Err(held_back), None) => return Err(held_back),
        };
        // Never earlier than the source asked for.
        let wait = backoff(number, &seed).max(error.retry_after.unwrap_or_default());
        let fits = wait < waiters.time_left(clock.monotonic());
        if number == RETRIES || !error.kind.is_transient() || !fits || !budget.withdraw() {
            return Err(AttemptError::Source(error));
        }
        clock.sleep(wait).await;
        failure = Some(error);
        number += 1;
    }
}

/// Exponential, with a jitter between half and the whole of it.
fn backoff(number: u32, seed: &impl Hash) -> Duration {
    let mut hasher = DefaultHasher::new();
    (seed, number).hash(&mut hasher);
    let jitter = f64::from((hasher.finish() >> 48) as u16) / 65_536.0;
    FIRST_WAIT.saturating_mul(1 << number.min(8)).mul_f64(0.5 + jitter / 2.0)
}
