//! Which indicators have cached rows. Most look-ups are of new ones, and need not wait for a reader to learn that there is nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use crate::store::CacheDigest;
use crate::sync::lock;

/// The beginning of a key, which all keys of an indicator have in common. Others may share it, which costs a reading.
type Beginning = u32;

/// The beginnings of all keys in the database, and of some that were there. The writer adds those that it writes.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownKeys(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// `None` until all keys have been read once.
    held: Option<HashSet<Beginning>>,
    /// Those written since a renewal began; `None` if none is under way.
    added: Option<HashSet<Beginning>>,
}

/// A renewal under way. Without its end what was known stays.
pub(super) struct Renewal {
    keys: KnownKeys,
    read: HashSet<Beginning>,
}

fn beginning([first, second, third, fourth, ..]: &CacheDigest) -> Beginning {
    u32::from_le_bytes([*first, *second, *third, *fourth])
}

impl KnownKeys {
    /// Whether there may be a row with this key.
    pub(super) fn may_hold(&self, key: &CacheDigest) -> bool {
        lock(&self.0).held.as_ref().is_none_or(|held| held.contains(&beginning(key)))
    }

    /// Notes that a row is being written. For the writer's thread, before the row is.
    pub(super) fn add(&self, key: &CacheDigest) {
        let mut known = lock(&self.0);
        let Known { held, added } = &mut *known;
        for keys in [held, added].into_iter().flatten() {
            keys.insert(beginning(key));
        }
    }

    /// Begins to forget the keys that are there no more. `None` if that is under way already.
    pub(super) fn renew(&self) -> Option<Renewal> {
        let mut known = lock(&self.0);
        if known.added.is_some() {
            return None;
        }
        known.added = Some(HashSet::new());
        Some(Renewal { keys: self.clone(), read: HashSet::new() })
    }
}

impl Renewal {
    /// Adds the key of a row that was read. All must be that were written when the renewal began.
    pub(super) fn add(&mut self, key: &CacheDigest) {
        self.read.insert(beginning(key));
    }

    /// Ends it.
    pub(super) fn end(mut self) {
        let mut held = std::mem::take(&mut self.read);
        let mut known = lock(&self.keys.0);
        held.extend(known.added.iter().flatten());
        held.shrink_to_fit();
        known.held = Some(held);
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        lock(&self.keys.0).added = None;
    }
}
