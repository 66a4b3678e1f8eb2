//! The only room that knows what time it is. Everything else takes a [`Clock`] or a moment as an argument.
//!
//! [`SystemClock`] is for running, [`ManualClock`] for tests and the demonstration: its wall time moves only when told,
//! while sleeping follows tokio's clock, which tests pause.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

/// Wall time and sleeping.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// The moment now.
    fn now(&self) -> SystemTime;

    /// Resolves after `duration`.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that is set by hand; sleeping moves it by the duration slept.
#[derive(Debug)]
pub struct ManualClock {
    now: std::sync::Arc<Mutex<SystemTime>>,
}

impl ManualClock {
    /// A clock that shows `now` until it is moved.
    pub fn at(now: SystemTime) -> Self {
        Self { now: std::sync::Arc::new(Mutex::new(now)) }
    }

    /// Sets the clock, forward or back.
    pub fn set(&self, now: SystemTime) {
        *self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = now;
    }

    /// Moves the clock forward.
    pub fn advance(&self, duration: Duration) {
        let mut now = self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now += duration;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let now = self.now.clone();
        Box::pin(async move {
            tokio::time::sleep(duration).await;
            *now.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += duration;
        })
    }
}
