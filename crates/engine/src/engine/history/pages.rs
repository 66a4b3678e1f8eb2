//! Reads stored verdicts page by page, newest first.

use std::sync::Arc;
use std::time::Duration;

use super::{HistoryFilter, no_verdicts};
use crate::clock::{Clock, Monotonic};
use crate::error::Error;
use crate::store::{Cursor, PageLimit, Store, VerdictRecord};

/// Bounds of a page: few enough bytes to hold in memory, and rows enough that a page is worth its query.
const PAGE: PageLimit = PageLimit { rows: 1_000, bytes: 4 * 1024 * 1024 };

/// The verdicts that match a filter.
pub(super) struct HistoryPages {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    filter: HistoryFilter,
    after: Option<Cursor>,
    is_done: bool,
    read: u64,
    total: u64,
    began: Monotonic,
}

/// A page of verdicts.
pub(super) struct HistoryPage {
    pub(super) records: Vec<VerdictRecord>,
    /// Their size where they are stored.
    pub(super) bytes: usize,
}

/// How far the history was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanProgress {
    /// Verdicts that were read, also those that the store cannot filter out.
    pub read: u64,
    /// Verdicts when the reading began.
    pub total: u64,
    /// Time since it began.
    pub elapsed: Duration,
}

impl ScanProgress {
    /// Time that the rest will take at the pace so far; `None` as long as it is not known.
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.total.saturating_sub(self.read) as f64;
        (self.read > 0).then(|| self.elapsed.mul_f64(left / self.read as f64))
    }
}

impl HistoryPages {
    /// Begins to read.
    ///
    /// # Errors
    /// [`Error::NotReady`] if no verdict matches, or if the store cannot be read.
    pub(super) async fn open(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        filter: HistoryFilter,
    ) -> Result<Self, Error> {
        let total = store.count_verdicts(filter.verdicts.clone()).await?;
        if total == 0 {
            return Err(no_verdicts());
        }
        let began = clock.monotonic();
        Ok(Self { store, clock, filter, after: None, is_done: false, read: 0, total, began })
    }

    /// The next page; `None` after the last. A page may be empty.
    pub(super) async fn next(&mut self) -> Result<Option<HistoryPage>, Error> {
        if self.is_done {
            return Ok(None);
        }
        let listed = self.store.verdicts(self.filter.verdicts.clone(), PAGE, self.after.take()).await?;
        self.is_done = !listed.has_more;
        self.after = listed.rows.last().map(|last| Cursor { time: last.create_time, id: last.id.clone() });
        self.read += listed.rows.len() as u64;
        let wanted = self.filter.indicator_type;
        let is_wanted =
            |record: &VerdictRecord| wanted.is_none_or(|wanted| record.verdict.indicator.indicator_type() == wanted);
        let records = listed.rows.into_iter().filter(is_wanted).collect();
        Ok(Some(HistoryPage { records, bytes: listed.bytes }))
    }

    /// How far it has come.
    pub(super) fn progress(&self) -> ScanProgress {
        ScanProgress { read: self.read, total: self.total, elapsed: self.clock.monotonic().since(self.began) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_estimated_at_the_pace_so_far() {
        let progress = |read| ScanProgress { read, total: 1_000, elapsed: Duration::from_secs(10) };
        assert_eq!(progress(250).remaining(), Some(Duration::from_secs(30)));
        assert_eq!(progress(1_000).remaining(), Some(Duration::ZERO));
        assert_eq!(progress(1_200).remaining(), Some(Duration::ZERO), "more came meanwhile");
        assert_eq!(progress(0).remaining(), None);
    }
}
