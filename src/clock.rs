//! The only room that knows what time it is. Everything else takes a [`Clock`] or a moment as an argument.
//!
//! Two clocks in one trait. Wall time is for records and for what is shown; it may be set forward or back at any moment.
//! [`Monotonic`] time is for deadlines, ages, waits and expiry inside this process. [`SystemClock`] is for running,
//! [`ManualClock`] for tests.

use std::fmt;
use std::future::Future;
use std::ops::{Add, Sub};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use crate::sync::lock;

/// A moment on a clock that nobody sets. It means nothing outside this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// Time since an earlier moment; zero if that is still to come.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Sub<Duration> for Monotonic {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

/// Wall time, monotonic time and sleeping.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// The wall time.
    fn now(&self) -> SystemTime;

    /// The monotonic time.
    fn monotonic(&self) -> Monotonic;

    /// Resolves after `duration`.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

impl dyn Clock {
    /// What the future resolves to, or `None` if that takes longer than `limit`. A future that is ready always wins.
    pub async fn timeout<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            value = future => Some(value),
            () = self.sleep(limit) => None,
        }
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clocks")]
impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Monotonic {
        // tokio's instant follows a runtime whose time is paused, as sleeping does. The start lies in the past, since such a
        // runtime may have stopped its time before anybody asked.
        static START: LazyLock<tokio::time::Instant> = LazyLock::new(|| {
            let now = tokio::time::Instant::now();
            now.checked_sub(Duration::from_secs(86_400)).unwrap_or(now)
        });
        let start = *START;
        Monotonic(tokio::time::Instant::now().saturating_duration_since(start))
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock for tests that moves only by hand, or by a sleep that ends. Clones are the same clock.
///
/// Sleeping waits for tokio's time, which tests pause. Sleeps that overlap move the clock to the end of the latest.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<(SystemTime, Monotonic)>>);

impl ManualClock {
    /// A clock whose wall time is `now`.
    pub fn new(now: SystemTime) -> Self {
        Self(Arc::new(Mutex::new((now, Monotonic::default()))))
    }

    /// Moves both clocks forward.
    pub fn advance(&self, duration: Duration) {
        let mut time = lock(&self.0);
        *time = (time.0 + duration, time.1 + duration);
    }

    /// Sets the wall clock alone, forward or back.
    pub fn set_wall(&self, now: SystemTime) {
        lock(&self.0).0 = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        lock(&self.0).0
    }

    fn monotonic(&self) -> Monotonic {
        lock(&self.0).1
    }

    #[expect(clippy::disallowed_methods, reason = "the clock of tests waits for tokio's time")]
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (clock, end) = (self.clone(), self.monotonic() + duration);
        Box::pin(async move {
            tokio::time::sleep(duration).await;
            clock.advance(end.since(clock.monotonic()));
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sleeps_that_overlap_move_a_manual_clock_once() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        tokio::join!(clock.sleep(Duration::from_secs(5)), clock.sleep(Duration::from_secs(3)));
        assert_eq!(clock.monotonic(), Monotonic::default() + Duration::from_secs(5));
        assert_eq!(clock.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn setting_the_wall_clock_leaves_monotonic_time_alone() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(100));
        clock.advance(Duration::from_secs(1));
        clock.set_wall(SystemTime::UNIX_EPOCH);
        assert_eq!((clock.now(), clock.monotonic()), (SystemTime::UNIX_EPOCH, Monotonic(Duration::from_secs(1))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_out_gives_nothing_and_a_ready_future_always_wins() {
        let clock: &dyn Clock = &SystemClock;
        let begun = clock.monotonic();
        assert_eq!(clock.timeout(Duration::from_secs(2), std::future::pending::<()>()).await, None);
        assert_eq!(clock.monotonic().since(begun), Duration::from_secs(2));
        assert_eq!(clock.timeout(Duration::ZERO, std::future::ready(1)).await, Some(1));
    }
}
