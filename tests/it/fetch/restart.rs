//! The second level of the cache: what a restart still knows, and what it must not use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use concord::clock::Clock;
use concord::fetch::SourceCache;
use concord::finding::{Disposition, OutcomeBody};
use concord::indicator::{Form, Indicator};
use concord::source::{Lookup, OptionValue};
use concord::store::{AnswerCache, BoxFuture, CacheDigest, CachedRow, Maintenance, Memory};

use super::{Harness, SECOND, ScriptedReply, about, finding, pipeline, settings};

const HOUR: Duration = Duration::from_secs(3600);

/// Rows in memory, which counts what is read and can damage it.
#[derive(Default)]
pub(super) struct CountingRows {
    pub(super) memory: Memory,
    read: AtomicUsize,
    deleted: AtomicUsize,
    /// Whether others run while a row is read.
    pub(super) is_slow: AtomicBool,
    is_damaged: AtomicBool,
}

impl AnswerCache for CountingRows {
    fn put_cached(&self, rows: Vec<CachedRow>) -> BoxFuture<'_, ()> {
        self.memory.put_cached(rows)
    }

    fn cached(&self, key: CacheDigest) -> BoxFuture<'_, Option<Arc<[u8]>>> {
        self.read.fetch_add(1, Ordering::Relaxed);
        let row = self.memory.cached(key);
        Box::pin(async move {
            let mut body = row.await?;
            if self.is_slow.load(Ordering::Relaxed) {
                for _ in 0..8 {
                    tokio::task::yield_now().await;
                }
            }
            if self.is_damaged.load(Ordering::Relaxed) {
                body = body.map(|body| body.iter().copied().take(body.len() / 2).collect());
            }
            Ok(body)
        })
    }

    fn delete_cached(&self, key: CacheDigest) -> BoxFuture<'_, ()> {
        self.deleted.fetch_add(1, Ordering::Relaxed);
        self.memory.delete_cached(key)
    }

    fn prune_cached(&self, now: SystemTime) -> BoxFuture<'_, u64> {
        self.memory.prune_cached(now)
    }
}

impl Harness {
    /// The same store under an empty memory, as after a restart of the server.
    pub(super) async fn restart(&mut self) {
        self.tasks().await;
        let tracker = self.parts.tracker.clone();
        self.parts.cache = SourceCache::new(1 << 20, self.rows.clone(), self.ledger.clone(), &self.clock, tracker);
        self.pipeline = pipeline(self.parts.clone());
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_asks_for_nothing_that_is_cached() {
    // The first is found, the others are not.
    let mut harness = Harness::new(&[ScriptedReply::says("found 9"), ScriptedReply::says("none")]);
    let addresses: Vec<_> = (0..50).map(|number| format!("198.51.100.{number}")).collect();
    let mut before = Vec::new();
    for address in &addresses {
        before.push(harness.pipeline.look_up(harness.request_for(address, 60 * SECOND)).await);
    }
    harness.restart().await;
    harness.clock.sleep(10 * SECOND).await;
    for (address, before) in addresses.iter().zip(before) {
        let after = harness.pipeline.look_up(harness.request_for(address, 60 * SECOND)).await;
        assert_eq!(after.outcome, before.outcome);
        assert_eq!(after.receipt.answers, before.receipt.answers);
        assert_eq!((after.receipt.from_cache, after.receipt.age), (true, 10 * SECOND));
    }
    assert_eq!(harness.transport.calls(), 50);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_no_record_still_ends_in_its_time() {
    let mut harness = Harness::new(&[ScriptedReply::says("none")]);
    harness.look_up().await;
    harness.clock.sleep(599 * SECOND).await;
    harness.restart().await;
    let fetched = harness.look_up().await;
    assert_eq!((fetched.receipt.from_cache, fetched.receipt.age), (true, 599 * SECOND));
    harness.clock.sleep(SECOND).await;
    assert!(!harness.look_up().await.receipt.from_cache);
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_a_time_still_to_come_is_deleted_and_asked_anew() {
    let mut harness = Harness::new(&[ScriptedReply::says("none")]);
    harness.look_up().await;
    harness.clock.set_wall(harness.clock.now() - HOUR);
    harness.restart().await;
    assert!(!harness.look_up().await.receipt.from_cache);
    harness.tasks().await;
    assert_eq!((harness.transport.calls(), harness.rows.deleted.load(Ordering::Relaxed)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_clock_that_was_ahead_does_not_become_young_later() {
    let mut harness = Harness::new(&[ScriptedReply::says("none")]);
    let right = harness.clock.now();
    harness.clock.set_wall(right + HOUR);
    harness.restart().await;
    harness.look_up().await;
    harness.clock.set_wall(right);
    harness.restart().await;
    // By the wall clock the answer is five minutes old now, in truth an hour.
    harness.clock.sleep(HOUR + 300 * SECOND).await;
    assert!(!harness.look_up().await.receipt.from_cache);
    assert_eq!(harness.transport.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_forward_only_makes_the_source_be_asked_again() {
    let mut harness = Harness::new(&[ScriptedReply::says("found 9")]);
    harness.look_up().await;
    harness.clock.set_wall(harness.clock.now() + 24 * HOUR);
    harness.restart().await;
    assert!(!harness.look_up().await.receipt.from_cache);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_another_threshold_reads_the_stored_raw_answer_again() {
    let mut harness = Harness::new(&[ScriptedReply::says("found 7")]);
    harness.look_up().await;
    harness.restart().await;
    let mut stricter = settings(&about());
    stricter.options.insert("threshold".into(), OptionValue::Integer(8));
    harness.change(about(), stricter.clone());
    let reread = harness.look_up().await;
    assert_eq!((finding(&reread.outcome).0, reread.receipt.from_cache), (Disposition::Suspicious, true));
    // Without the raw answer only the source can tell.
    harness.restart().await;
    harness.ledger.raw_answers.lock().unwrap().clear();
    stricter.options.insert("threshold".into(), OptionValue::Integer(6));
    harness.change(about(), stricter);
    let asked = harness.look_up().await;
    assert_eq!((finding(&asked.outcome).0, asked.receipt.from_cache), (Disposition::Malicious, false));
    assert_eq!(harness.transport.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_an_interrupted_conversation_goes_on_where_it_stopped() {
    let replies = [ScriptedReply::says("more 9"), ScriptedReply::status(403, None), ScriptedReply::says("found 9")];
    let mut harness = Harness::new(&replies);
    harness.look_up().await;
    harness.restart().await;
    assert_eq!(finding(&harness.look_up().await.outcome).1, vec!["the source says 9"]);
    assert_eq!(harness.transport.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_row_is_deleted_and_asked_anew() {
    let mut harness = Harness::new(&[ScriptedReply::says("found 9")]);
    harness.look_up().await;
    harness.restart().await;
    harness.rows.is_damaged.store(true, Ordering::Relaxed);
    assert_eq!(finding(&harness.look_up().await.outcome).0, Disposition::Malicious);
    harness.tasks().await;
    assert_eq!((harness.transport.calls(), harness.rows.deleted.load(Ordering::Relaxed)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_costs_no_verdict() {
    let mut harness = Harness::new(&[ScriptedReply::says("found 9")]);
    harness.rows.memory.close().await.unwrap();
    assert_eq!(finding(&harness.look_up().await.outcome).0, Disposition::Malicious);
    assert!(harness.look_up().await.receipt.from_cache, "memory still has it");
    harness.restart().await;
    assert!(!harness.look_up().await.receipt.from_cache);
}

#[tokio::test(start_paused = true)]
async fn callers_that_come_at_once_read_the_store_once() {
    let mut harness = Harness::new(&[ScriptedReply::says("found 9")]);
    harness.look_up().await;
    harness.restart().await;
    let before = harness.rows.read.load(Ordering::Relaxed);
    let all: Vec<_> = (0..100).map(|_| harness.begin(harness.request())).collect();
    for one in all {
        assert!(one.await.unwrap().receipt.from_cache);
    }
    assert_eq!(harness.transport.calls(), 1);
    assert_eq!(harness.rows.read.load(Ordering::Relaxed) - before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_look_up_of_a_url_with_a_password_is_not_stored() {
    let mut harness = Harness::new(&[ScriptedReply::says("none")]);
    let mut request = harness.request();
    let url = Indicator::from_normal(Form::Url, "https://alice:s3cret@example.com/a").unwrap();
    request.lookup = Lookup::new(url);
    harness.pipeline.look_up(request.clone()).await;
    assert!(harness.pipeline.look_up(request.clone()).await.receipt.from_cache);
    harness.restart().await;
    assert!(!harness.pipeline.look_up(request).await.receipt.from_cache);
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_is_pruned() {
    let harness = Harness::new(&[ScriptedReply::says("none")]);
    let fetched = harness.look_up().await;
    assert!(matches!(fetched.outcome.body, OutcomeBody::NoRecord));
    harness.tasks().await;
    let received = fetched.outcome.time;
    assert_eq!(harness.rows.prune_cached(received + 599 * SECOND).await, Ok(0));
    assert_eq!(harness.rows.prune_cached(received + 600 * SECOND).await, Ok(1));
}
