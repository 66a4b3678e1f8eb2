//! Layer 5, retry: repeats attempts after transient failures. It is outside the quota layer, so that every attempt
//! pays, and has a budget, so that a failing source does not get three times as many calls.

use std::hash::Hash;
use std::sync::Mutex;
use std::time::Duration;

use super::attempt::AttemptError;
use super::breaker::{CircuitBreaker, jittered};
use super::waiters::Waiters;
use crate::clock::Clock;
use crate::finding::SourceError;
use crate::source::Answer;
use crate::sync::lock;

/// Maximum of retries after the first attempt.
const RETRIES: u32 = 2;

/// Delay before the first retry; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Tokens that a retry costs. Each first attempt deposits one token, so there is at most one retry per ten questions
/// over time.
const COST: u32 = 10;

/// Initial and maximum number of tokens: enough for five retries.
const MAX_TOKENS: u32 = 5 * COST;

/// A token bucket that bounds the retries of a source.
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

/// Runs an attempt and repeats it after transient failures. `seed` determines the jitter: it differs between sources
/// and indicators, but is the same for the same question, so that tests are reproducible.
pub(super) async fn with_retries<F>(
    budget: &RetryBudget,
    breaker: &CircuitBreaker,
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
            // Concord itself prevented the retry, so the source's earlier error is the result.
            (Err(AttemptError::NotAttempted(_) | AttemptError::Local(_)), Some(before)) => {
                waiters.note_limited();
                return Err(AttemptError::Source(before));
            }
            (Err(prevented), None) => return Err(prevented),
        };
        // A retry is never earlier than the source asked for.
        let wait = backoff(number, &seed).max(error.retry_after.unwrap_or_default());
        let fits = wait < waiters.time_left(clock.monotonic());
        if !fits {
            waiters.note_limited();
        }
        if number == RETRIES || !error.kind.is_transient() || !fits || !breaker.is_closed() || !budget.withdraw() {
            return Err(AttemptError::Source(error));
        }
        clock.sleep(wait).await;
        failure = Some(error);
        number += 1;
    }
}

/// Exponential backoff, multiplied by a jitter between 0.5 and 1.
fn backoff(number: u32, seed: &impl Hash) -> Duration {
    jittered(FIRST_WAIT.saturating_mul(1 << number.min(8)), &(seed, number))
}
