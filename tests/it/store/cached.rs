//! The part of the contract that concerns cached answers.

use std::sync::Arc;

use concord::store::{CachedRow, Retention, Store};

use super::samples::{at, everything_stays};

pub async fn a_cached_row_is_replaced_deleted_and_pruned_by_its_end(store: Arc<dyn Store>) {
    let row = |key: u8, text: &[u8], end: f64| CachedRow {
        key: [key; 16],
        time: at(0.0),
        expire_time: at(end),
        body: text.into(),
    };
    let body = async |key: u8| store.cached([key; 16]).await.expect("read").map(|body| body.to_vec());
    store.put_cached(vec![row(1, b"a", 10.0), row(2, b"b", 20.0), row(3, b"c", 30.0)]).await.expect("stored");
    store.put_cached(vec![row(1, b"A", 15.0)]).await.expect("replaced");
    assert_eq!((body(1).await, body(9).await), (Some(b"A".to_vec()), None));
    store.delete_cached([3; 16]).await.expect("deleted");
    store.delete_cached([3; 16]).await.expect("deleting again does nothing");
    assert_eq!(store.prune_cached(at(14.0)).await, Ok(0));
    assert_eq!(store.prune_cached(at(15.0)).await, Ok(1));
    assert_eq!((body(1).await, body(2).await, body(3).await), (None, Some(b"b".to_vec()), None));
    let small = Retention { store_bytes: 0, ..everything_stays() };
    assert_eq!(store.prune(small, at(16.0)).await.expect("pruned").cached, 1, "the size of the store bounds them too");
}
