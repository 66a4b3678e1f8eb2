//! Places that holders share fairly: once all are taken, whoever has most gives one up to whoever has less.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use crate::rpc::auth::Holder;
use crate::rpc::load::Places;
use crate::sync::lock;

/// Of all places, one in so many is the least that something large needs beside its first.
const LEAST_GROWTH: usize = 256;

/// What can take a place and be made to leave it.
pub(super) trait Evict: Send + Sync + 'static {
    /// How well it can be spared for a newcomer: of one holder's, the greatest goes first. `None`: it stays.
    fn expendability(&self, newcomer_is_same_holder: bool) -> Option<u64>;

    /// Makes it leave. Its place is given away already.
    fn evict(&self);
}

/// A number of places, and who holds them.
pub(super) struct Shares<T: Evict> {
    max: usize,
    /// The most places of one holder.
    max_per_holder: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    taken: usize,
    next_number: u64,
    holders: HashMap<Holder, Held<T>>,
}

/// What one holder has.
struct Held<T> {
    places: usize,
    entries: HashMap<u64, Entry<T>>,
}

struct Entry<T> {
    places: usize,
    item: Weak<T>,
}

/// A place, or several, until it is dropped.
pub(super) struct Share<T: Evict> {
    shares: Arc<Shares<T>>,
    holder: Holder,
    number: u64,
}

impl<T: Evict> Shares<T> {
    pub(super) fn new(max: usize, max_per_holder: usize) -> Arc<Self> {
        let state = State { taken: 0, next_number: 0, holders: HashMap::new() };
        Arc::new(Self { max, max_per_holder, state: Mutex::new(state) })
    }

    /// Takes a place. Where none is free, the holder of most gives one up; `None` where nobody has more than this holder and
    /// nothing of its own can be spared.
    pub(super) fn take(self: &Arc<Self>, holder: Holder, item: &Arc<T>) -> Option<Share<T>> {
        // What is looked at under the lock is dropped after it: the last reference to it may give a place back.
        let mut looked_at = Vec::new();
        let (mut evicted, mut has_room) = (None, false);
        let share = {
            let mut state = lock(&self.state);
            let own = state.holders.get(&holder).map_or(0, |held| held.places);
            if own >= self.max_per_holder {
                evicted = state.evict_from(&holder, true, &mut looked_at);
            } else if state.taken >= self.max {
                evicted = state.make_room(&holder, own, &mut looked_at);
            } else {
                has_room = true;
            }
            if !has_room && evicted.is_none() {
                return None;
            }
            let number = state.next_number;
            state.next_number += 1;
            state.taken += 1;
            let held = state.holders.entry(holder.clone()).or_default();
            held.places += 1;
            held.entries.insert(number, Entry { places: 1, item: Arc::downgrade(item) });
            Share { shares: self.clone(), holder, number }
        };
        if let Some(evicted) = evicted.and_then(|evicted| evicted.upgrade()) {
            evicted.evict();
        }
        Some(share)
    }

    /// How many places are taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        lock(&self.state).taken
    }
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { places: 0, entries: HashMap::new() }
    }
}

impl<T: Evict> State<T> {
    /// Takes a place from whoever has most: another who has at least two more than the newcomer, else the newcomer itself.
    fn make_room(&mut self, newcomer: &Holder, own: usize, looked_at: &mut Vec<Arc<T>>) -> Option<Weak<T>> {
        let heaviest = self.holders.iter().max_by_key(|(_, held)| held.places)?;
        let other = (heaviest.1.places > own + 1).then(|| heaviest.0.clone());
        match other {
            Some(other) => self.evict_from(&other, false, looked_at),
            None => self.evict_from(newcomer, true, looked_at),
        }
    }

    fn evict_from(
        &mut self,
        holder: &Holder,
        newcomer_is_same_holder: bool,
        looked_at: &mut Vec<Arc<T>>,
    ) -> Option<Weak<T>> {
        let mut most: Option<(u64, u64)> = None;
        for (number, entry) in &self.holders.get(holder)?.entries {
            let expendability = match entry.item.upgrade() {
                Some(item) => {
                    let expendability = item.expendability(newcomer_is_same_holder);
                    looked_at.push(item);
                    expendability
                }
                // About to be dropped.
                None => Some(u64::MAX),
            };
            most = most.max(expendability.map(|expendability| (expendability, *number)));
        }
        self.remove(holder, most?.1)
    }

    fn remove(&mut self, holder: &Holder, number: u64) -> Option<Weak<T>> {
        let held = self.holders.get_mut(holder)?;
        let entry = held.entries.remove(&number)?;
        held.places -= entry.places;
        self.taken -= entry.places;
        if held.entries.is_empty() {
            self.holders.remove(holder);
        }
        Some(entry.item)
    }
}

impl<T: Evict> Places for Share<T> {
    /// At most half of the free places, so that there is always room for others, and at least one in [`LEAST_GROWTH`] of all.
    fn grow(&self, wanted: usize) -> Option<usize> {
        let mut state = lock(&self.shares.state);
        let more = wanted.min(self.shares.max.saturating_sub(state.taken) / 2);
        if more < wanted.min(self.shares.max / LEAST_GROWTH) {
            return None;
        }
        let held = state.holders.get_mut(&self.holder)?;
        let entry = held.entries.get_mut(&self.number)?;
        entry.places += more;
        held.places += more;
        state.taken += more;
        Some(more)
    }
}

impl<T: Evict> Drop for Share<T> {
    fn drop(&mut self) {
        // Gone already if it was evicted.
        lock(&self.shares.state).remove(&self.holder, self.number);
    }
}

impl<T: Evict> fmt::Debug for Share<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("holder", &self.holder).field("number", &self.number).finish_non_exhaustive()
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
        fn expendability(&self, newcomer_is_same_holder: bool) -> Option<u64> {
            (!newcomer_is_same_holder).then_some(self.rank)
        }

        fn evict(&self) {
            self.is_evicted.store(true, Ordering::SeqCst);
        }
    }

    fn item(rank: u64) -> Arc<Item> {
        Arc::new(Item { rank, ..Item::default() })
    }

    fn caller(name: &str) -> Holder {
        Holder::Caller(name.into())
    }

    #[test]
    fn whoever_has_most_gives_its_most_expendable_up_to_whoever_has_less() {
        let shares = Shares::new(4, 4);
        let items: Vec<_> = [3, 9, 5, 1].map(item).into();
        let _held: Vec<_> = items.iter().map(|item| shares.take(caller("heavy"), item).unwrap()).collect();
        let evicted = || items.iter().map(|item| item.is_evicted.load(Ordering::SeqCst)).collect::<Vec<_>>();
        assert!(shares.take(caller("heavy"), &item(0)).is_none(), "nobody has more than it");
        let first = item(0);
        let _first = shares.take(caller("light"), &first).unwrap();
        assert_eq!(evicted(), [false, true, false, false]);
        let second = item(0);
        let _second = shares.take(caller("light"), &second).unwrap();
        assert_eq!(evicted(), [false, true, true, false]);
        let third = item(0);
        assert!(shares.take(caller("light"), &third).is_none(), "both have as many");
        assert_eq!(shares.taken(), 4);
    }

    #[test]
    fn a_place_is_free_again_once_it_is_dropped_and_an_evicted_one_frees_no_other() {
        let shares = Shares::new(2, 2);
        let heavy = item(0);
        let (one, other) =
            (shares.take(caller("heavy"), &heavy).unwrap(), shares.take(caller("heavy"), &heavy).unwrap());
        let light = item(0);
        let newcomer = shares.take(caller("light"), &light).unwrap();
        drop((one, other));
        assert_eq!(shares.taken(), 1, "the newcomer's");
        drop(newcomer);
        assert_eq!(shares.taken(), 0);
        assert!(lock(&shares.state).holders.is_empty());
    }

    #[test]
    fn one_holder_has_no_more_than_it_may_although_places_are_free() {
        let shares = Shares::new(10, 2);
        let items = [item(0), item(0), item(0)];
        let _held = (shares.take(caller("a"), &items[0]).unwrap(), shares.take(caller("a"), &items[1]).unwrap());
        assert!(shares.take(caller("a"), &items[2]).is_none());
        assert!(shares.take(caller("b"), &items[2]).is_some());
    }

    #[test]
    fn a_batch_is_refused_where_almost_nothing_is_free() {
        let shares = Shares::new(1024, 1024);
        let items: Vec<_> = (0..1018).map(item).collect();
        let held: Vec<_> = items.iter().map(|item| shares.take(caller("a"), item).unwrap()).collect();
        assert_eq!(held[0].grow(15), None, "three of six would be less than four");
        assert_eq!(held[0].grow(2), Some(2), "a small one needs no more");
    }

    #[test]
    fn a_batch_grows_by_half_of_what_is_free_at_most() {
        let shares = Shares::new(17, 17);
        let item = item(0);
        let batch = shares.take(caller("a"), &item).unwrap();
        assert_eq!((batch.grow(15), shares.taken()), (Some(8), 9));
        assert_eq!((batch.grow(15), shares.taken()), (Some(4), 13));
        drop(batch);
        assert_eq!(shares.taken(), 0);
    }
}
