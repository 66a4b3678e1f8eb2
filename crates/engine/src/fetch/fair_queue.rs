//! A queue that serves the higher priority first, and the callers of one priority in turn.

use std::collections::{BTreeMap, HashMap, VecDeque};

use strum::VariantArray;

use crate::source::Priority;

/// For whom a unit is spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) priority: Priority,
    pub(super) caller: String,
}

/// What is queued for a claim.
pub(super) trait Claims {
    fn claim(&self) -> &Claim;
}

/// Items by priority and caller.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    classes: BTreeMap<Priority, Turns<T>>,
    length: usize,
}

/// The items of one priority.
#[derive(Debug)]
struct Turns<T> {
    /// The callers that have items, the next one first.
    callers: VecDeque<String>,
    /// The items of each of them, the oldest first.
    items: HashMap<String, VecDeque<T>>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        let turns = || Turns { callers: VecDeque::new(), items: HashMap::new() };
        Self { classes: Priority::VARIANTS.iter().map(|priority| (*priority, turns())).collect(), length: 0 }
    }
}

impl<T: Claims> FairQueue<T> {
    /// Adds an item behind all others of its caller.
    pub(super) fn push(&mut self, item: T) {
        let claim = item.claim().clone();
        let Some(turns) = self.classes.get_mut(&claim.priority) else { return };
        self.length += 1;
        if !turns.items.contains_key(&claim.caller) {
            turns.callers.push_back(claim.caller.clone());
        }
        turns.items.entry(claim.caller).or_default().push_back(item);
    }

    /// Returns an item that was taken to the front of the queue. Several are returned in reverse order.
    pub(super) fn put_back(&mut self, item: T) {
        let claim = item.claim().clone();
        let Some(turns) = self.classes.get_mut(&claim.priority) else { return };
        self.length += 1;
        turns.callers.retain(|caller| *caller != claim.caller);
        turns.callers.push_front(claim.caller.clone());
        turns.items.entry(claim.caller).or_default().push_front(item);
    }

    /// Takes the item of this priority whose turn it is.
    pub(super) fn pop(&mut self, priority: Priority) -> Option<T> {
        let turns = self.classes.get_mut(&priority)?;
        let caller = turns.callers.pop_front()?;
        let items = turns.items.get_mut(&caller)?;
        let item = items.pop_front()?;
        if items.is_empty() {
            turns.items.remove(&caller);
        } else {
            turns.callers.push_back(caller);
        }
        self.length -= 1;
        Some(item)
    }

    /// Removes the items of this priority for which `remains` is false, and returns them.
    pub(super) fn remove_unless(&mut self, priority: Priority, remains: impl Fn(&T) -> bool) -> Vec<T> {
        let Some(turns) = self.classes.get_mut(&priority) else { return Vec::new() };
        let mut removed = Vec::new();
        turns.items.retain(|_, items| {
            for item in std::mem::take(items) {
                if remains(&item) { items.push_back(item) } else { removed.push(item) }
            }
            !items.is_empty()
        });
        let items = &turns.items;
        turns.callers.retain(|caller| items.contains_key(caller));
        self.length -= removed.len();
        removed
    }

    /// Whether there is an item of this priority.
    pub(super) fn has(&self, priority: Priority) -> bool {
        self.classes.get(&priority).is_some_and(|turns| !turns.callers.is_empty())
    }

    /// Whether there is no item.
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The number of items.
    pub(super) fn len(&self) -> usize {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Claims for (Claim, u32) {
        fn claim(&self) -> &Claim {
            &self.0
        }
    }

    const BACKGROUND: Priority = Priority::Background;

    fn item(caller: &str, number: u32) -> (Claim, u32) {
        (Claim { priority: BACKGROUND, caller: caller.to_owned() }, number)
    }

    /// A queue with an item of each of these callers, numbered in this order.
    fn queue_of(callers: &[u8]) -> FairQueue<(Claim, u32)> {
        let mut queue = FairQueue::default();
        for (number, caller) in (0..).zip(callers) {
            queue.push(item(&caller.to_string(), number));
        }
        queue
    }

    fn served(mut queue: FairQueue<(Claim, u32)>) -> Vec<(String, u32)> {
        std::iter::from_fn(|| queue.pop(BACKGROUND)).map(|(claim, number)| (claim.caller, number)).collect()
    }

    #[test]
    fn a_caller_with_one_item_is_served_among_the_next_two_whatever_another_has_waiting() {
        let mut queue = FairQueue::default();
        (0..100).for_each(|number| queue.push(item("busy", number)));
        queue.push(item("other", 0));
        assert!(served(queue).iter().take(2).any(|(caller, _)| caller == "other"));
    }

    #[test]
    fn items_are_served_by_priority_and_removed_where_they_stand() {
        let mut queue = queue_of(&[1, 2, 1]);
        let urgent = Claim { priority: Priority::Interactive, caller: "3".to_owned() };
        queue.push((urgent.clone(), 9));
        assert_eq!(queue.pop(Priority::Interactive), Some((urgent, 9)));
        assert_eq!(queue.remove_unless(BACKGROUND, |(_, number)| *number != 0), [item("1", 0)]);
        assert_eq!((queue.len(), queue.has(Priority::Interactive)), (2, false));
        assert_eq!(served(queue), [("1".to_owned(), 2), ("2".to_owned(), 1)]);
    }

    proptest! {
        #[test]
        fn items_that_are_put_back_are_served_in_the_same_order(callers in prop::collection::vec(0_u8..4, 0..40), taken in 0_usize..40) {
            let mut queue = queue_of(&callers);
            let mut popped: Vec<_> = (0..taken).filter_map(|_| queue.pop(BACKGROUND)).collect();
            let expected = served(queue_of(&callers));
            while let Some(item) = popped.pop() {
                queue.put_back(item);
            }
            prop_assert_eq!(queue.len(), callers.len());
            let taken = taken.min(callers.len());
            prop_assert_eq!(&served(queue)[..taken], &expected[..taken]);
        }

        #[test]
        fn no_caller_is_served_twice_while_another_waits(callers in prop::collection::vec(0_u8..4, 0..40)) {
            let served = served(queue_of(&callers));
            for (place, (caller, _)) in served.iter().enumerate() {
                let since = served[..place].iter().rposition(|(other, _)| other == caller).map_or(0, |last| last + 1);
                let mut between: Vec<_> = served[since..place].iter().map(|(other, _)| other).collect();
                between.sort_unstable();
                let count = between.len();
                between.dedup();
                prop_assert_eq!(between.len(), count, "{} waited too long", caller);
            }
        }
    }
}
