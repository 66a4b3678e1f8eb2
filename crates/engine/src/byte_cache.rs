//! A cache bounded by the memory that its entries take.

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

/// Parts of a cache that are locked and bounded each by itself: an entry that does not fit into its share is not cached. It does
/// not depend on the machine, so that what fits does not either.
const PARTS: usize = 16;

/// Weighs an entry by the memory that it takes, in bytes.
#[derive(Debug)]
pub struct ByBytes<K, V>(fn(&K, &V) -> usize);

/// A cache whose entries together take so many bytes at most.
pub type ByteCache<K, V> = Cache<K, V, ByBytes<K, V>>;

/// Makes a cache of so many bytes. `usual_entry` is what most entries take, by which it estimates how many there will be.
pub fn byte_cache<K, V>(bytes: u64, usual_entry: u64, weight: fn(&K, &V) -> usize) -> ByteCache<K, V>
where
    K: Eq + std::hash::Hash,
    V: Clone,
{
    let entries = usize::try_from(bytes / usual_entry).unwrap_or(usize::MAX);
    let options = OptionsBuilder::new().shards(PARTS).weight_capacity(bytes).estimated_items_capacity(entries).build();
    let options = options.expect("both capacities are given");
    Cache::with_options(options, ByBytes(weight), DefaultHashBuilder::default(), DefaultLifecycle::default())
}

impl<K, V> Clone for ByBytes<K, V> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<K, V> Weighter<K, V> for ByBytes<K, V> {
    fn weight(&self, key: &K, value: &V) -> u64 {
        (self.0)(key, value) as u64
    }
}
