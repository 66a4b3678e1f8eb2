//! A bounded pool whose slots are shared fairly among owners: once it is full, the owner of the most slots loses one to
//! a newcomer that has fewer.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use crate::clock::Monotonic;
use crate::rpc::auth::Owner;
use crate::rpc::load::Slots;
use crate::sync::lock;

/// A permit that cannot grow by at least `max / MIN_GROWTH_DIVISOR` slots is refused: with fewer, its work would run
/// almost serially and occupy its first slot for very long.
const MIN_GROWTH_DIVISOR: usize = 256;

/// Delay after the first refusal, and the time over which as many retries are spread as there are slots.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// An item that occupies a slot and can be evicted from it.
pub(super) trait Evict: Send + Sync + 'static {
    /// Which of its owner's items is evicted for a newcomer: the one with the highest priority. `None`: this item must
    /// not be evicted.
    fn eviction_priority(&self, newcomer_is_same_owner: bool) -> Option<u64>;

    /// Ends the item. By now its slot belongs to the newcomer.
    fn evict(&self);
}

/// A fixed number of slots, and their current owners.
pub(super) struct FairPool<T: Evict> {
    max: usize,
    /// Upper bound of the slots of one owner, also while others are free.
    max_per_owner: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    used: usize,
    next_number: u64,
    owners: HashMap<Owner, OwnerSlots<T>>,
}

/// The slots of one owner.
struct OwnerSlots<T> {
    slots: usize,
    /// When the next refused item of this owner is to be tried again.
    next_retry: Monotonic,
    entries: HashMap<u64, Entry<T>>,
}

struct Entry<T> {
    slots: usize,
    item: Weak<T>,
}

/// Occupies one or more slots until it is dropped.
pub(super) struct Permit<T: Evict> {
    pool: Arc<FairPool<T>>,
    owner: Owner,
    number: u64,
}

impl<T: Evict> FairPool<T> {
    pub(super) fn new(max: usize, max_per_owner: usize) -> Arc<Self> {
        let state = State { used: 0, next_number: 0, owners: HashMap::new() };
        Arc::new(Self { max, max_per_owner, state: Mutex::new(state) })
    }

    /// Acquires a slot for `item`. If the pool is full, an item of the owner with the most slots is evicted, provided
    /// that it has at least two slots more than this owner. Otherwise, or if this owner is at its own limit, one of its
    /// own items is evicted; returns `None` if none of these may be.
    pub(super) fn acquire(self: &Arc<Self>, owner: Owner, item: &Arc<T>) -> Option<Permit<T>> {
        // Upgraded items are dropped only after the lock is released: dropping the last reference to an item may drop
        // its permit, which takes the same lock.
        let mut inspected = Vec::new();
        let (mut evicted, mut has_room) = (None, false);
        let permit = {
            let mut state = lock(&self.state);
            let own = state.owners.get(&owner).map_or(0, |held| held.slots);
            if own >= self.max_per_owner {
                evicted = state.evict_from(&owner, true, &mut inspected);
            } else if state.used >= self.max {
                evicted = state.evict_for(&owner, own, &mut inspected);
            } else {
                has_room = true;
            }
            if !has_room && evicted.is_none() {
                return None;
            }
            let number = state.next_number;
            state.next_number += 1;
            state.used += 1;
            let held = state.owners.entry(owner.clone()).or_default();
            held.slots += 1;
            held.entries.insert(number, Entry { slots: 1, item: Arc::downgrade(item) });
            Permit { pool: self.clone(), owner, number }
        };
        if let Some(evicted) = evicted.and_then(|evicted| evicted.upgrade()) {
            evicted.evict();
        }
        Some(permit)
    }

    /// How long a refused owner should wait. Retries are spread: if all came at the same time, most would be refused again.
    pub(super) fn retry_after(&self, owner: &Owner, now: Monotonic) -> Duration {
        let mut state = lock(&self.state);
        let Some(held) = state.owners.get_mut(owner) else { return RETRY_AFTER };
        let retry = held.next_retry.max(now + RETRY_AFTER).min(now + MAX_RETRY_AFTER);
        held.next_retry = retry + RETRY_AFTER / u32::try_from(self.max).unwrap_or(u32::MAX);
        retry.since(now)
    }

    /// The number of occupied slots.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        lock(&self.state).used
    }
}

impl<T> Default for OwnerSlots<T> {
    fn default() -> Self {
        Self { slots: 0, next_retry: Monotonic::default(), entries: HashMap::new() }
    }
}

impl<T: Evict> State<T> {
    /// Frees a slot of the owner with the most slots if that owner has at least two more than the newcomer, so that the
    /// newcomer does not overtake it; otherwise one of the newcomer's own.
    fn evict_for(&mut self, newcomer: &Owner, own: usize, inspected: &mut Vec<Arc<T>>) -> Option<Weak<T>> {
        let heaviest = self.owners.iter().max_by_key(|(_, held)| held.slots)?;
        let other = (heaviest.1.slots > own + 1).then(|| heaviest.0.clone());
        match other {
            Some(other) => self.evict_from(&other, false, inspected),
            None => self.evict_from(newcomer, true, inspected),
        }
    }

    fn evict_from(
        &mut self,
        owner: &Owner,
        newcomer_is_same_owner: bool,
        inspected: &mut Vec<Arc<T>>,
    ) -> Option<Weak<T>> {
        let mut most: Option<(u64, u64)> = None;
        for (number, entry) in &self.owners.get(owner)?.entries {
            let priority = match entry.item.upgrade() {
                Some(item) => {
                    let priority = item.eviction_priority(newcomer_is_same_owner);
                    inspected.push(item);
                    priority
                }
                // Nobody uses the item any more; its permit is about to be dropped.
                None => Some(u64::MAX),
            };
            most = most.max(priority.map(|priority| (priority, *number)));
        }
        self.remove(owner, most?.1)
    }

    fn remove(&mut self, owner: &Owner, number: u64) -> Option<Weak<T>> {
        let held = self.owners.get_mut(owner)?;
        let entry = held.entries.remove(&number)?;
        held.slots -= entry.slots;
        self.used -= entry.slots;
        if held.entries.is_empty() {
            self.owners.remove(owner);
        }
        Some(entry.item)
    }
}

impl<T: Evict> Slots for Permit<T> {
    /// Takes at most half of the free slots, so that some always remain for others. Returns `None` if that is less than
    /// both
    /// `wanted` and `max / MIN_GROWTH_DIVISOR`.
    fn grow(&self, wanted: usize) -> Option<usize> {
        let mut state = lock(&self.pool.state);
        let more = wanted.min(self.pool.max.saturating_sub(state.used) / 2);
        if more < wanted.min(self.pool.max / MIN_GROWTH_DIVISOR) {
            return None;
        }
        let held = state.owners.get_mut(&self.owner)?;
        let entry = held.entries.get_mut(&self.number)?;
        entry.slots += more;
        held.slots += more;
        state.used += more;
        Some(more)
    }
}

impl<T: Evict> Drop for Permit<T> {
    fn drop(&mut self) {
        // If the item was evicted, its entry is already removed and this does nothing.
        lock(&self.pool.state).remove(&self.owner, self.number);
    }
}

impl<T: Evict> fmt::Debug for Permit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("owner", &self.owner).field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Default)]
    struct Item {
        rank: u64,
        is_evicted: AtomicBool,
    }

    impl Evict for Item {
        fn eviction_priority(&self, newcomer_is_same_owner: bool) -> Option<u64> {
            (!newcomer_is_same_owner).then_some(self.rank)
        }

        fn evict(&self) {
            self.is_evicted.store(true, Ordering::SeqCst);
        }
    }

    fn item(rank: u64) -> Arc<Item> {
        Arc::new(Item { rank, ..Item::default() })
    }

    fn caller(name: &str) -> Owner {
        Owner::Caller(name.into())
    }

    #[test]
    fn the_owner_of_the_most_slots_loses_the_item_of_highest_priority_to_an_owner_of_fewer() {
        let pool = FairPool::new(4, 4);
        let items: Vec<_> = [3, 9, 5, 1].map(item).into();
        let _held: Vec<_> = items.iter().map(|item| pool.acquire(caller("heavy"), item).unwrap()).collect();
        let evicted = || items.iter().map(|item| item.is_evicted.load(Ordering::SeqCst)).collect::<Vec<_>>();
        assert!(pool.acquire(caller("heavy"), &item(0)).is_none(), "no other owner has more");
        let first = item(0);
        let _first = pool.acquire(caller("light"), &first).unwrap();
        assert_eq!(evicted(), [false, true, false, false]);
        let second = item(0);
        let _second = pool.acquire(caller("light"), &second).unwrap();
        assert_eq!(evicted(), [false, true, true, false]);
        let third = item(0);
        assert!(pool.acquire(caller("light"), &third).is_none(), "both owners have equally many");
        assert_eq!(pool.used(), 4);
    }

    #[test]
    fn a_dropped_permit_frees_its_slot_and_an_evicted_one_frees_no_other() {
        let pool = FairPool::new(2, 2);
        let heavy = item(0);
        let (one, other) =
            (pool.acquire(caller("heavy"), &heavy).unwrap(), pool.acquire(caller("heavy"), &heavy).unwrap());
        let light = item(0);
        let newcomer = pool.acquire(caller("light"), &light).unwrap();
        drop((one, other));
        assert_eq!(pool.used(), 1, "the newcomer's");
        drop(newcomer);
        assert_eq!(pool.used(), 0);
        assert!(lock(&pool.state).owners.is_empty());
    }

    #[test]
    fn an_owner_at_its_limit_is_refused_although_slots_are_free() {
        let pool = FairPool::new(10, 2);
        let items = [item(0), item(0), item(0)];
        let _held = (pool.acquire(caller("a"), &items[0]).unwrap(), pool.acquire(caller("a"), &items[1]).unwrap());
        assert!(pool.acquire(caller("a"), &items[2]).is_none());
        assert!(pool.acquire(caller("b"), &items[2]).is_some());
    }

    #[test]
    fn a_batch_is_refused_while_almost_no_slot_is_free() {
        let pool = FairPool::new(1024, 1024);
        let items: Vec<_> = (0..1018).map(item).collect();
        let held: Vec<_> = items.iter().map(|item| pool.acquire(caller("a"), item).unwrap()).collect();
        assert_eq!(held[0].grow(15), None, "half of the six free slots is less than the minimum of four");
        assert_eq!(held[0].grow(2), Some(2), "a small batch needs no more than that");
    }

    #[test]
    fn a_batch_grows_by_at_most_half_of_the_free_slots() {
        let pool = FairPool::new(17, 17);
        let item = item(0);
        let batch = pool.acquire(caller("a"), &item).unwrap();
        assert_eq!((batch.grow(15), pool.used()), (Some(8), 9));
        assert_eq!((batch.grow(15), pool.used()), (Some(4), 13));
        drop(batch);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn retries_of_refused_items_are_spread() {
        let pool = FairPool::new(10, 10);
        let (item, now) = (item(0), Monotonic::default());
        assert_eq!(pool.retry_after(&caller("a"), now), RETRY_AFTER);
        let _held = pool.acquire(caller("a"), &item);
        let times: Vec<_> = (0..11).map(|_| pool.retry_after(&caller("a"), now).as_millis()).collect();
        assert_eq!((times[0], times[1], times[10]), (1_000, 1_100, 2_000));
        assert_eq!(pool.retry_after(&caller("b"), now), RETRY_AFTER, "it waits for its own only");
        for _ in 0..1_000 {
            pool.retry_after(&caller("a"), now);
        }
        assert_eq!(pool.retry_after(&caller("a"), now), MAX_RETRY_AFTER);
        assert_eq!(pool.retry_after(&caller("a"), now + Duration::from_secs(60)), RETRY_AFTER);
    }
}
