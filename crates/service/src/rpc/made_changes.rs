//! Remembers the results of changes, so that a change that is repeated under the same request identifier is made only
//! once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use prost::Message;
use tokio::sync::Mutex;

use crate::clock::{Clock, Monotonic};
use crate::error::{Error, Reason};

/// How long the repetition of a change is recognised by its request identifier.
const REPEAT_WINDOW: Duration = Duration::from_secs(600);

/// Approximate memory of an entry in addition to its bytes.
const ENTRY_OVERHEAD: usize = 512;

/// The caller and the identifier of the request.
pub(super) type ChangeKey = (String, String);

/// Changes that were made, bounded by their bytes: the oldest are forgotten first. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct MadeChanges {
    /// Held while a change is made, so that a concurrent repetition waits for its result.
    made: Arc<Mutex<Remembered>>,
}

#[derive(Debug)]
struct Remembered {
    changes: HashMap<ChangeKey, MadeChange>,
    /// Their keys, the oldest first.
    order: VecDeque<ChangeKey>,
    bytes: usize,
    capacity_bytes: usize,
}

/// A change that was made: a digest of its request, which does not reveal the credential in it, and its result.
#[derive(Debug)]
struct MadeChange {
    request_digest: Vec<u8>,
    time: Monotonic,
    /// Kept encoded, since the decoded message takes several times the memory.
    result: Vec<u8>,
}

impl MadeChanges {
    pub(super) fn new(capacity_bytes: usize) -> Self {
        Self { made: Arc::new(Mutex::new(Remembered::new(capacity_bytes))) }
    }

    /// Makes a change, unless this caller already made it under the same request identifier; then returns the result of
    /// that one. Changes with an empty identifier are always made.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the identifier was used for another change, else what the change fails with.
    pub(super) async fn once<M: Message + Default>(
        &self,
        key: ChangeKey,
        request_digest: Vec<u8>,
        clock: &dyn Clock,
        change: impl Future<Output = Result<M, Error>>,
    ) -> Result<M, Error> {
        let mut remembered = self.made.lock().await;
        if key.1.is_empty() {
            return change.await;
        }
        if let Some(made) = remembered.get(&key, clock.monotonic()) {
            let message = "was used for another change within the last ten minutes: use a new one for each change";
            if made.request_digest != request_digest {
                return Err(Error::invalid("request_id", Reason::FieldInvalid, message));
            }
            return Ok(M::decode(made.result.as_slice()).unwrap_or_default());
        }
        let result = change.await?;
        remembered.insert(key, request_digest, clock.monotonic(), &result);
        Ok(result)
    }
}

impl Remembered {
    fn new(capacity_bytes: usize) -> Self {
        Self { changes: HashMap::new(), order: VecDeque::new(), bytes: 0, capacity_bytes }
    }

    /// The change that was made under this key, if it is still remembered.
    fn get(&self, key: &ChangeKey, now: Monotonic) -> Option<&MadeChange> {
        self.changes.get(key).filter(|made| now.since(made.time) < REPEAT_WINDOW)
    }

    fn insert(&mut self, key: ChangeKey, request_digest: Vec<u8>, time: Monotonic, result: &impl Message) {
        // Also the one that was made under this key before, if any.
        while self.order.front().is_some_and(|oldest| self.get(oldest, time).is_none()) {
            self.forget_oldest();
        }
        let made = MadeChange { request_digest, time, result: result.encode_to_vec() };
        // The others are worth more than one that is larger than all may be.
        if bytes_of(&key, &made) > self.capacity_bytes {
            return;
        }
        self.bytes += bytes_of(&key, &made);
        self.order.push_back(key.clone());
        self.changes.insert(key, made);
        while self.bytes > self.capacity_bytes {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.order.pop_front().and_then(|key| self.changes.remove_entry(&key));
        let bytes = oldest.map_or(self.bytes, |(key, made)| bytes_of(&key, &made));
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

fn bytes_of(key: &ChangeKey, made: &MadeChange) -> usize {
    2 * (key.0.len() + key.1.len()) + made.result.len() + ENTRY_OVERHEAD
}

/// A digest by which a repeated request is recognised.
pub(super) fn digest_of(request: &impl Message) -> Vec<u8> {
    digest::digest(&digest::SHA256, &request.encode_to_vec()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb;

    fn key(number: usize) -> ChangeKey {
        ("caller".to_owned(), number.to_string())
    }

    fn source(bytes: usize) -> pb::Source {
        pb::Source { name: "x".repeat(bytes), ..Default::default() }
    }

    #[test]
    fn remembered_changes_stay_within_their_bytes_and_the_newest_are_kept() {
        let mut changes = Remembered::new(1 << 20);
        for number in 0..200 {
            changes.insert(key(number), vec![1], Monotonic::default(), &source(100_000));
            assert!(changes.bytes <= 1 << 20, "{}", changes.bytes);
        }
        let known = |number| changes.get(&key(number), Monotonic::default()).is_some();
        assert_eq!([0, 180, 195, 199].map(known), [false, false, true, true]);
        let last = changes.get(&key(199), Monotonic::default()).unwrap();
        assert_eq!(last.result, source(100_000).encode_to_vec());
        changes.insert(key(200), vec![1], Monotonic::default(), &source(2 << 20));
        let known = |number| changes.get(&key(number), Monotonic::default()).is_some();
        assert_eq!([200, 199].map(known), [false, true], "larger than all may be");
    }

    #[test]
    fn a_change_is_forgotten_after_ten_minutes_and_may_be_made_again() {
        let mut changes = Remembered::new(1 << 20);
        let at = |seconds| Monotonic::default() + Duration::from_secs(seconds);
        changes.insert(key(1), vec![1], at(0), &source(1));
        changes.insert(key(2), vec![2], at(1), &source(1));
        assert_eq!([0, 599, 600].map(|second| changes.get(&key(1), at(second)).is_some()), [true, true, false]);
        changes.insert(key(1), vec![3], at(600), &source(1));
        assert_eq!(changes.order, [key(2), key(1)]);
        assert_eq!(changes.get(&key(1), at(1199)).map(|made| made.request_digest.clone()), Some(vec![3]));
        changes.insert(key(3), vec![4], at(2000), &source(1));
        assert_eq!((changes.changes.len(), changes.order.len()), (1, 1), "their memory is freed");
    }
}
