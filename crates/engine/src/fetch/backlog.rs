//! What waits to be stored in the background. While one write is under way, what comes meanwhile gathers for the next.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use tokio_util::task::TaskTracker;

use crate::sync::lock;

/// Maximum of bytes that wait. What exceeds it is not stored.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Values to be stored, each under its key: a later one takes the place of an earlier. Until they are stored, they are
/// found here. Clones share them.
#[derive(Debug)]
pub(super) struct Backlog<K, V>(Arc<Mutex<Waiting<K, V>>>);

#[derive(Debug)]
struct Waiting<K, V> {
    /// Each with its bytes.
    values: HashMap<K, (V, usize)>,
    /// The sum of their bytes.
    bytes: usize,
    /// Those that are being stored.
    under_way: HashMap<K, V>,
    /// Whether a task is storing them.
    is_draining: bool,
}

impl<K, V> Clone for Backlog<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Default for Backlog<K, V> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Waiting {
            values: HashMap::new(),
            bytes: 0,
            under_way: HashMap::new(),
            is_draining: false,
        })))
    }
}

impl<K: Hash + Eq + Send + 'static, V: Clone + Send + 'static> Backlog<K, V> {
    /// Queues a value of so many bytes, to be stored by `write` in a task of `tracker`. Returns `false` if too much is waiting
    /// already.
    pub(super) fn add<F: Future<Output = ()> + Send>(
        &self,
        (key, value): (K, V),
        bytes: usize,
        tracker: &TaskTracker,
        write: impl Fn(Vec<V>) -> F + Send + 'static,
    ) -> bool {
        let mut waiting = lock(&self.0);
        let others = waiting.bytes - waiting.values.get(&key).map_or(0, |(_, bytes)| *bytes);
        // A single one may be larger than all that may wait.
        if others > 0 && others.saturating_add(bytes) > MAX_BYTES {
            return false;
        }
        waiting.bytes = others + bytes;
        waiting.values.insert(key, (value, bytes));
        if !std::mem::replace(&mut waiting.is_draining, true) {
            drop(waiting);
            let backlog = self.clone();
            tracker.spawn(async move {
                while let Some(values) = backlog.take() {
                    write(values).await;
                }
            });
        }
        true
    }

    /// The value under this key, unless it is stored or was never added.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let waiting = lock(&self.0);
        waiting.values.get(key).map(|(value, _)| value).or_else(|| waiting.under_way.get(key)).cloned()
    }

    /// Takes all that waits, once what was taken before is stored. If there is nothing, the next value begins a new task.
    fn take(&self) -> Option<Vec<V>> {
        let mut waiting = lock(&self.0);
        waiting.bytes = 0;
        waiting.under_way =
            std::mem::take(&mut waiting.values).into_iter().map(|(key, (value, _))| (key, value)).collect();
        waiting.is_draining = !waiting.under_way.is_empty();
        waiting.is_draining.then(|| waiting.under_way.values().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn what_comes_during_a_write_is_stored_by_the_next_and_the_rest_is_bounded() {
        let (backlog, tracker) = (Backlog::default(), TaskTracker::new());
        let (gate, written) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let add = |key: u32, value: u32, bytes: usize| {
            let (gate, written) = (gate.clone(), written.clone());
            let write = move |mut values: Vec<u32>| {
                let (gate, written) = (gate.clone(), written.clone());
                async move {
                    gate.acquire().await.unwrap().forget();
                    values.sort_unstable();
                    lock(&written).push(values);
                }
            };
            backlog.add((key, value), bytes, &tracker, write)
        };
        assert!(add(1, 10, 2 * MAX_BYTES), "a large one alone");
        tokio::task::yield_now().await;
        assert!(add(2, 20, MAX_BYTES - 1));
        assert!(add(2, 22, MAX_BYTES), "in place of the other");
        assert!(add(2, 21, MAX_BYTES - 1));
        assert!(!add(3, 30, 2), "too much waits");
        assert_eq!(
            [1, 2, 3].map(|key| backlog.get(&key)),
            [Some(10), Some(21), None],
            "what is not stored yet is here"
        );
        gate.add_permits(2);
        tracker.close();
        tracker.wait().await;
        assert_eq!(*lock(&written), [vec![10], vec![21]]);
        assert_eq!([1, 2].map(|key| backlog.get(&key)), [None, None], "what is stored is no longer here");
        tracker.reopen();
        assert!(add(4, 40, 1));
        gate.add_permits(1);
        tracker.close();
        tracker.wait().await;
        assert_eq!(*lock(&written), [vec![10], vec![21], vec![40]]);
    }
}
