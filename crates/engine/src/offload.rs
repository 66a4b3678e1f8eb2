//! Keeps long computations off the threads on which all requests make progress.

use std::panic::{self, AssertUnwindSafe};
use std::sync::LazyLock;
use std::thread::available_parallelism;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;

/// From so many bytes on, decoding, parsing or encoding takes long enough to be felt by others: about a millisecond.
const LARGE: usize = 128 * 1024;

/// How many large computations run at once: half of the processors, so that the other requests keep the rest.
static PLACES: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, |processors| (processors.get() / 2).max(1))));

/// Whether work on so many bytes is better done by [`offload`].
pub fn is_large(bytes: usize) -> bool {
    bytes >= LARGE
}

/// Does work that goes through this many bytes: at once if they are few, on a thread of its own if they are many. A panic
/// in the work is a panic of the caller's.
pub async fn offload<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if !is_large(bytes) {
        return work();
    }
    // Never closed: without a place the work is done all the same.
    let place = PLACES.acquire().await;
    // The place is held until the work ends, also where the caller has left.
    offload_long(move || (work(), place).0).await
}

/// Does work that takes seconds or waits for the disk, on a thread of its own. It takes no place of [`offload`], where others
/// wait for moments. A panic in the work is a panic of the caller's.
pub async fn offload_long<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = oneshot::channel();
    // Boxed, since what a runtime needs for a task is otherwise compiled anew for each work.
    let work: Box<dyn FnOnce() + Send> = Box::new(move || {
        // Sending fails if the caller has left, which is fine.
        let _ = sender.send(panic::catch_unwind(AssertUnwindSafe(work)));
    });
    spawn_blocking(work);
    match receiver.await {
        Ok(Ok(done)) => done,
        Ok(Err(cause)) => panic::resume_unwind(cause),
        // The runtime shuts down, and the caller's task with it.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn only_large_work_leaves_the_thread() {
        let here = thread::current().id();
        assert_eq!(offload(LARGE - 1, || thread::current().id()).await, here);
        assert_ne!(offload(LARGE, || thread::current().id()).await, here);
    }

    #[tokio::test]
    async fn a_panic_in_large_work_is_the_callers() {
        let work = offload(LARGE, || panic!("a fault of ours"));
        let cause = AssertUnwindSafe(work).catch_unwind().await.expect_err("a panic");
        assert_eq!(cause.downcast_ref::<&str>(), Some(&"a fault of ours"));
        assert_eq!(offload(LARGE, || 7).await, 7, "its place is free again");
    }
}
