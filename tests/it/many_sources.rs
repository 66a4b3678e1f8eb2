//! How much work a change of one source is, beside many others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use concord::settings::{Change, Registry, SourcePatch};
use concord::sources;
use concord::store::{BoxFuture, Memory, Sealer, SourceRow, SourceStore, Swap};
use tempfile::TempDir;

use crate::harness::config;

/// Counts how often rows are read and written.
#[derive(Default)]
struct CountingStore {
    memory: Memory,
    read: AtomicUsize,
    written: AtomicUsize,
}

impl SourceStore for CountingStore {
    fn source_rows(&self) -> BoxFuture<'_, Vec<SourceRow>> {
        self.read.fetch_add(1, Ordering::Relaxed);
        self.memory.source_rows()
    }

    fn put_source_row(&self, row: SourceRow, expected: u64) -> BoxFuture<'_, Swap> {
        self.written.fetch_add(1, Ordering::Relaxed);
        self.memory.put_source_row(row, expected)
    }

    fn delete_source_row<'a>(&'a self, name: &'a str, expected: u64) -> BoxFuture<'a, Swap> {
        self.memory.delete_source_row(name, expected)
    }
}

#[tokio::test]
async fn creating_a_source_takes_the_same_work_however_many_there_are() {
    let (folder, store) = (TempDir::new().unwrap(), Arc::new(CountingStore::default()));
    let sealer = Arc::new(Sealer::from_key_file(&folder.path().join("key")).unwrap());
    let registry = Registry::open(&config(&folder, ""), sources::all(), store.clone(), sealer).await.unwrap();
    for number in 0..100 {
        let before = registry.snapshot();
        let options = BTreeMap::from([("url".to_owned(), "https://example.com/list".into())]);
        let patch = SourcePatch { kind: Some("list".into()), options, ..SourcePatch::default() };
        let name = format!("list-{number}");
        registry.configure(Change { name, patch, allow_missing: true, ..Change::default() }).await.unwrap();
        // All others are the very same: none was resolved or built again.
        let after = registry.snapshot();
        let kept = before.iter().filter(|old| after.iter().any(|new| Arc::ptr_eq(old, new))).count();
        assert_eq!((kept, after.len()), (number, number + 1));
    }
    assert_eq!((store.read.load(Ordering::Relaxed), store.written.load(Ordering::Relaxed)), (1, 100));
}
