//! The periodic work of a running server: pruning and checking the store, and the upkeep of metrics.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tracing::{error, info, warn};

use crate::clock::{Clock, Monotonic, SystemClock};
use crate::store::{PageLimit, Retention, Store, VerdictFilter, VerdictStore};

const UPKEEP_INTERVAL: Duration = Duration::from_secs(10);
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);
/// Pruning runs more often while the disk is full, since it may free the space that writes need.
const PRUNE_FULL_INTERVAL: Duration = Duration::from_secs(60);
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
const DAY: Duration = Duration::from_secs(86_400);

/// Keeps a wrong wall clock from erasing the history. For the first 24 hours after its start, the server prunes as if
/// the time were at most one day after the newest verdict that it found at the start.
pub(super) struct PruneGuard {
    started: Monotonic,
    /// The latest time to prune by. `None`: the store was empty, so nothing can be lost.
    latest: Option<SystemTime>,
}

impl PruneGuard {
    /// Reads the newest verdict; must be called before anything is written. If it cannot be read, nothing is pruned on
    /// the first day.
    pub(super) async fn from_store(store: &dyn VerdictStore, clock: &dyn Clock) -> Self {
        let newest = store.verdicts(VerdictFilter::default(), PageLimit::rows(1), None).await;
        let latest = match newest {
            Ok(listed) => listed.rows.first().and_then(|record| record.create_time.checked_add(DAY)),
            Err(error) => {
                warn!(%error, "the newest verdict cannot be read, so nothing is pruned on the first day");
                Some(SystemTime::UNIX_EPOCH)
            }
        };
        Self { started: clock.monotonic(), latest }
    }

    fn prune_time(&self, clock: &dyn Clock) -> SystemTime {
        let is_first_day = clock.monotonic().since(self.started) < DAY;
        self.latest.filter(|_| is_first_day).map_or(clock.now(), |latest| clock.now().min(latest))
    }
}

/// Reports the server as not serving while the store's file is missing from its path, and as serving once it is back.
pub(super) async fn watch<F: Future<Output = ()> + Send>(
    store: Arc<dyn Store>,
    report: impl Fn(ServingStatus) -> F,
    stop: CancellationToken,
) {
    let mut is_gone = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = SystemClock.sleep(CHECK_INTERVAL) => {}
        }
        match store.check() {
            Err(error) if !is_gone => {
                error!(%error, "the database is not usable");
                is_gone = true;
                report(ServingStatus::NotServing).await;
            }
            Ok(()) if is_gone => {
                warn!("the database is usable again");
                is_gone = false;
                report(ServingStatus::Serving).await;
            }
            Err(_) | Ok(()) => {}
        }
    }
}

/// Removes records that exceed the retention in age or number: at once, then every hour until the server stops.
pub(super) async fn prune(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    guard: PruneGuard,
    retention: Retention,
    stop: CancellationToken,
) {
    loop {
        match store.prune(retention, guard.prune_time(&*clock)).await {
            Ok(pruned) => info!(
                answers = pruned.answers,
                verdicts = pruned.verdicts,
                disclosures = pruned.disclosures,
                cached = pruned.cached,
                "pruned the store"
            ),
            Err(error) => warn!(%error, "the store could not be pruned"),
        }
        let wait = if store.is_full() { PRUNE_FULL_INTERVAL } else { PRUNE_INTERVAL };
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep(wait) => {}
        }
    }
}

/// Runs the upkeep of metrics every ten seconds. Without it, histograms that nobody scrapes grow without bound. What it awaits has
/// as long as that.
pub(super) async fn upkeep<F: Future<Output = ()> + Send>(run: impl Fn() -> F, stop: CancellationToken) {
    let clock: &dyn Clock = &SystemClock;
    loop {
        let round = async {
            tokio::join!(clock.timeout(UPKEEP_INTERVAL, run()), clock.sleep(UPKEEP_INTERVAL));
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = round => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::clock::ManualClock;
    use crate::finding::Outcome;
    use crate::indicator::{Indicator, Tlp};
    use crate::store::{self, Durability, Memory, VerdictRecord};
    use crate::verdict::{Policy, fuse};

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_far_ahead_does_not_prune_the_history() {
        let store = Memory::default();
        let at = |days: u32| SystemTime::UNIX_EPOCH + days * DAY;
        let clock = ManualClock::new(at(9000));
        let guard = PruneGuard::from_store(&store, &clock).await;
        assert_eq!(guard.prune_time(&clock), at(9000), "an empty store loses nothing");
        let indicator = Indicator::parse("192.0.2.1").unwrap().indicator;
        let verdict = fuse(&Policy::built_in()[0], &indicator, at(100), Vec::<Outcome>::new());
        let append = async |id: &str, create_time| {
            let (id, caller, verdict) = (id.to_owned(), "tester".to_owned(), verdict.clone());
            let record =
                VerdictRecord { id, create_time, caller, tlp: Tlp::Amber, verdict, answers: Vec::new(), units: None };
            store.append(record.into()).await.unwrap();
        };
        append("old", at(100)).await;
        let guard = PruneGuard::from_store(&store, &clock).await;
        // A verdict that is written while the clock is wrong does not move the limit.
        append("wrong", at(9000)).await;
        assert_eq!(guard.prune_time(&clock), at(101));
        clock.set_wall(at(100));
        assert_eq!(guard.prune_time(&clock), at(100));
        clock.advance(DAY);
        clock.set_wall(at(9000));
        assert_eq!(guard.prune_time(&clock), at(9000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_moved_away_is_noticed_within_a_second_and_so_is_its_return() {
        let folder = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (folder.path().join("concord.db"), folder.path().join("moved.db"));
        let store = store::open(&path, Durability::Normal).unwrap();
        let (reported, stop) = (Mutex::new(Vec::new()), CancellationToken::new());
        let report = |status| {
            reported.lock().unwrap().push(status == ServingStatus::Serving);
            std::future::ready(())
        };
        let moves = async {
            SystemClock.sleep(Duration::from_secs(5)).await;
            assert!(reported.lock().unwrap().is_empty(), "nothing changed");
            std::fs::rename(&path, &elsewhere).unwrap();
            SystemClock.sleep(Duration::from_secs(1)).await;
            assert_eq!(*reported.lock().unwrap(), [false]);
            std::fs::rename(&elsewhere, &path).unwrap();
            SystemClock.sleep(Duration::from_secs(1)).await;
            assert_eq!(*reported.lock().unwrap(), [false, true]);
            stop.cancel();
        };
        tokio::join!(watch(store.clone(), report, stop.clone()), moves);
    }

    #[tokio::test(start_paused = true)]
    async fn the_upkeep_of_metrics_runs_every_ten_seconds_until_the_end() {
        let (runs, stop) = (AtomicU32::new(0), CancellationToken::new());
        let count = || {
            runs.fetch_add(1, Ordering::Relaxed);
            std::future::ready(())
        };
        let end = async {
            SystemClock.sleep(Duration::from_secs(35)).await;
            stop.cancel();
        };
        tokio::join!(upkeep(count, stop.clone()), end);
        assert_eq!(runs.load(Ordering::Relaxed), 4, "at once, and after 10, 20 and 30 seconds");
    }
}
