//! Waits for the calls that are about to ask for a unit, so that one statement of the ledger acquires those of all sources that
//! a request asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use futures_util::poll;
use tokio::sync::Notify;

/// After so many were waited for, more have come meanwhile than one request makes.
const MOST: u64 = 32;

/// Work that was begun, and may ask for units as soon as it runs. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Gathering(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    /// Those that have asked, or wait for something else.
    passed: AtomicU64,
    changed: Notify,
}

struct Announced(Gathering);

impl Gathering {
    /// Does `work`. The calls that it makes at once are waited for, even if it does not run yet.
    pub(super) fn announce<F: Future + Unpin>(&self, mut work: F) -> impl Future<Output = F::Output> + use<F> {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        let announced = Announced(self.clone());
        async move {
            let first = poll!(&mut work);
            drop(announced);
            match first {
                Poll::Ready(done) => done,
                Poll::Pending => work.await,
            }
        }
    }

    /// Waits for what was announced.
    pub(super) async fn wait(&self) {
        let Counts { begun, passed, changed } = &*self.0;
        let until = passed.load(Ordering::Acquire) + MOST;
        loop {
            let mut woken = std::pin::pin!(changed.notified());
            woken.as_mut().enable();
            let now = passed.load(Ordering::Acquire);
            if now >= begun.load(Ordering::Relaxed) || now >= until {
                return;
            }
            woken.await;
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.0.0.passed.fetch_add(1, Ordering::Release);
        self.0.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::future;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_was_announced_is_waited_for_until_it_ran_or_was_dropped() {
        let gathering = Gathering::default();
        assert!(gathering.wait().now_or_never().is_some());
        let mut hanging = Box::pin(gathering.announce(future::pending::<()>()));
        let dropped = gathering.announce(future::pending::<()>());
        let mut waiting = Box::pin(gathering.wait());
        assert!((&mut waiting).now_or_never().is_none());
        assert!((&mut hanging).now_or_never().is_none());
        assert!((&mut waiting).now_or_never().is_none(), "the other has not run");
        drop(dropped);
        assert!(waiting.now_or_never().is_some());
        assert_eq!(gathering.announce(future::ready(7)).now_or_never(), Some(7));
    }

    #[test]
    fn what_is_announced_without_end_is_not_waited_for() {
        let gathering = Gathering::default();
        let _never_run = gathering.announce(future::pending::<()>());
        let mut waiting = Box::pin(gathering.wait());
        for _ in 0..MOST {
            assert!((&mut waiting).now_or_never().is_none());
            gathering.announce(future::ready(())).now_or_never();
        }
        assert!(waiting.now_or_never().is_some());
    }
}
