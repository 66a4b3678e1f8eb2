//! The only room that knows what time it is. Everything else takes a [`Clock`] or a moment as an argument.
//!
//! Two clocks in one trait. Wall time is for records and for what is shown; it may be set forward or back at any moment.
//! [`Monotonic`] time is for deadlines, ages, waits and expiry inside this process. [`SystemClock`] is for running,
//! [`ManualClock`] for tests.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// A moment on a clock that nobody sets. It means nothing outside this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// Where clocks begin: late enough that a moment before the start of the process is one too.
    const START: Self = Self(Duration::from_secs(100 * 366 * 86_400));

    /// Time since an earlier moment; zero if that is still to come.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// A number that grows with time, to order by.
    pub fn nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
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
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

impl dyn Clock {
    /// What the future resolves to, or `None` if that takes longer than `limit`. A future that is ready always wins.
    pub fn timeout<T>(&self, limit: Duration, future: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
        // Held by an `async` block itself it would take its size twice: once as it comes and once while it runs.
        let mut future = Box::pin(future);
        async move {
            tokio::select! {
                biased;
                value = &mut future => Some(value),
                () = self.sleep(limit) => None,
            }
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
        Monotonic::START + tokio::time::Instant::now().saturating_duration_since(start)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock for tests and for the past of the demonstration. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct ManualClock {
    time: watch::Sender<ManualTime>,
    follows_tokio: bool,
}

#[derive(Clone, Copy, Debug)]
struct ManualTime {
    wall: SystemTime,
    monotonic: Monotonic,
    /// Sleeps of at most this end at once.
    skipped: Duration,
}

impl ManualClock {
    /// A clock that moves by hand alone: a sleep ends when the clock is moved to its end.
    pub fn new(now: SystemTime) -> Self {
        let time = ManualTime { wall: now, monotonic: Monotonic::START, skipped: Duration::ZERO };
        Self { time: watch::Sender::new(time), follows_tokio: false }
    }

    /// A clock that also moves by its sleeps, which wait for tokio's time: for tests that pause that time. Sleeps that
    /// overlap move the clock to the end of the latest.
    pub fn following_tokio(now: SystemTime) -> Self {
        Self { follows_tokio: true, ..Self::new(now) }
    }

    /// Lets sleeps of at most this duration, such as the wait before a retry, end at once and move the clock.
    pub fn skip_sleeps(&self, longest: Duration) {
        self.time.send_modify(|time| time.skipped = longest);
    }

    /// Moves both clocks forward.
    pub fn advance(&self, duration: Duration) {
        self.time.send_modify(|time| {
            time.wall += duration;
            time.monotonic = time.monotonic + duration;
        });
    }

    /// Sets the wall clock alone, forward or back.
    pub fn set_wall(&self, now: SystemTime) {
        self.time.send_modify(|time| time.wall = now);
    }

    fn advance_to(&self, end: Monotonic) {
        self.advance(end.since(self.monotonic()));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        self.time.borrow().wall
    }

    fn monotonic(&self) -> Monotonic {
        self.time.borrow().monotonic
    }

    #[expect(clippy::disallowed_methods, reason = "the clock of tests may follow tokio's time")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (clock, end) = (self.clone(), self.monotonic() + duration);
        Box::pin(async move {
            if clock.follows_tokio {
                tokio::time::sleep(duration).await;
                clock.advance_to(end);
            } else if duration <= clock.time.borrow().skipped {
                clock.advance_to(end);
            } else {
                // This cannot fail: the future holds a sender itself.
                let _ = clock.time.subscribe().wait_for(|time| time.monotonic >= end).await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sleeps_that_overlap_move_a_manual_clock_once() {
        let clock = ManualClock::following_tokio(SystemTime::UNIX_EPOCH);
        tokio::join!(clock.sleep(Duration::from_secs(5)), clock.sleep(Duration::from_secs(3)));
        assert_eq!(clock.monotonic(), Monotonic::START + Duration::from_secs(5));
        assert_eq!(clock.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(5));
    }

    #[tokio::test]
    async fn a_sleep_on_a_clock_moved_by_hand_ends_when_the_clock_reaches_its_end() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        let sleep = clock.sleep(Duration::from_secs(5));
        tokio::pin!(sleep);
        for _ in 0..5 {
            assert!(futures_util::poll!(sleep.as_mut()).is_pending());
            clock.advance(Duration::from_secs(1));
        }
        sleep.await;
    }

    #[tokio::test(start_paused = true)]
    async fn setting_the_wall_clock_leaves_monotonic_time_alone() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(100));
        clock.advance(Duration::from_secs(1));
        clock.set_wall(SystemTime::UNIX_EPOCH);
        let expected = (SystemTime::UNIX_EPOCH, Monotonic::START + Duration::from_secs(1));
        assert_eq!((clock.now(), clock.monotonic()), expected);
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
