//! Work that does not run within the future of its call. A change is completed even if its caller disconnects; a stream
//! ends when its caller does. A panic in either becomes a status.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::{FutureExt, Stream};
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::status;
use crate::error::Error;

/// The response stream of a streaming call.
pub(super) type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Spawns the work of calls. A shutdown waits for all of it.
#[derive(Clone, Debug)]
pub(crate) struct BackgroundTasks {
    tracker: TaskTracker,
}

impl BackgroundTasks {
    pub(crate) fn new(tracker: TaskTracker) -> Self {
        Self { tracker }
    }

    /// Completes the work even if the caller disconnects: a change that is stored must also take effect.
    pub(super) async fn run_to_completion<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel();
        self.spawn(async move {
            // Sending fails if the caller has disconnected, which is fine.
            let _ = sender.send(AssertUnwindSafe(work).catch_unwind().await);
        });
        match receiver.await {
            Ok(Ok(result)) => result,
            Ok(Err(cause)) => Err(status::panicked(cause.as_ref())),
            // Nobody aborts this task, so it can only be cancelled by a shutdown of the runtime.
            Err(_) => Err(status::panicked(&"the runtime was shut down amid the work")),
        }
    }

    /// Spawns boxed futures alone: what a runtime needs for a task is otherwise compiled anew for each method of the protocol.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let work: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(work);
        self.tracker.spawn(work);
    }

    /// Whether the server stops, so that no further part of a call should begin.
    pub(super) fn is_stopping(&self) -> bool {
        self.tracker.is_closed()
    }

    /// Runs `work`, which sends messages into the returned stream, until it ends or the caller disconnects. At most
    /// `capacity` messages are buffered for a slow reader.
    pub(super) fn stream<T, F>(&self, capacity: usize, work: impl FnOnce(Sender<Result<T, Status>>) -> F) -> Streamed<T>
    where
        T: Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(capacity);
        let caller = sender.clone();
        let work = AssertUnwindSafe(work(sender)).catch_unwind();
        self.spawn(async move {
            tokio::select! {
                () = caller.closed() => {}
                result = work => if let Err(cause) = result {
                    // Without this, a stream that broke off would look complete. Sending fails if the caller has
                    // disconnected, which is fine.
                    let _ = caller.send(Err(status::of(status::panicked(cause.as_ref())))).await;
                }
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use futures_util::{StreamExt, poll};
    use tonic::Code;

    use super::*;

    fn tasks() -> BackgroundTasks {
        BackgroundTasks::new(TaskTracker::new())
    }

    async fn ended(tasks: BackgroundTasks) {
        tasks.tracker.close();
        tasks.tracker.wait().await;
    }

    #[tokio::test]
    async fn a_change_is_completed_after_its_caller_disconnects() {
        let (tasks, done) = (tasks(), Arc::new(AtomicBool::new(false)));
        let (go_on, wait) = oneshot::channel::<()>();
        let change = {
            let done = done.clone();
            async move {
                wait.await.unwrap();
                done.store(true, Ordering::SeqCst);
                Ok(())
            }
        };
        {
            let call = tasks.run_to_completion(change);
            tokio::pin!(call);
            assert!(poll!(call.as_mut()).is_pending());
        }
        go_on.send(()).unwrap();
        ended(tasks).await;
        assert!(done.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn the_work_for_a_stream_ends_when_its_caller_disconnects() {
        let tasks = tasks();
        let mut stream = tasks.stream(1, |sender| async move {
            sender.send(Ok(1)).await.unwrap();
            pending::<()>().await;
        });
        assert_eq!(stream.next().await.unwrap().unwrap(), 1);
        drop(stream);
        // This would wait forever if the work continued.
        ended(tasks).await;
    }

    #[tokio::test]
    async fn a_stream_whose_work_panics_keeps_what_was_sent_and_ends_with_internal() {
        let stream = tasks().stream(1, |sender| async move {
            sender.send(Ok(1)).await.unwrap();
            panic!("a bug");
        });
        let items: Vec<Result<i32, Status>> = stream.collect().await;
        assert_eq!(*items[0].as_ref().unwrap(), 1);
        let last = items[1].as_ref().unwrap_err();
        assert_eq!(last.code(), Code::Internal);
        assert!(last.message().contains("incident") && !last.message().contains("a bug"), "{last}");
        assert_eq!(items.len(), 2);
    }

    #[tokio::test]
    async fn a_slow_reader_limits_how_many_messages_are_produced() {
        let (tasks, sent) = (tasks(), Arc::new(AtomicUsize::new(0)));
        let mut stream = {
            let sent = sent.clone();
            tasks.stream(2, |sender| async move {
                while sender.send(Ok(())).await.is_ok() {
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        stream.next().await.unwrap().unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(sent.load(Ordering::SeqCst), 3, "one is read, and two wait");
    }

    #[tokio::test]
    async fn a_change_that_panics_is_internal() {
        let done: Result<(), _> = tasks().run_to_completion(async { panic!("a bug") }).await;
        assert!(matches!(done, Err(Error::Internal { .. })), "{done:?}");
    }
}
