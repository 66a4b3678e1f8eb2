//! Look-ups in a list that is held in memory: a local file, reloaded when it changes, or a feed, reloaded at its
//! refresh interval.
//!
//! If a reload fails, or shrinks the list by more than half, the last good copy stays in use and the answers say so. A
//! feed that stays that small is eventually accepted. Loads run in tasks of their own: a look-up starts one and uses
//! the current copy. It waits only for the first copy.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::feed::Feed;
use crate::clock::{Clock, Monotonic};
use crate::finding::{SourceError, SourceErrorKind};
use crate::indicator::Indicator;
use crate::source::{
    Answer, AnswerBody, EgressRules, ListAnswer, ListIndex, ListLocation, ListStatus, MAX_LIST_BYTES, Source,
    SourceSettings,
};
use crate::sync::lock;

/// A file is checked for changes at most this often.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a look-up waits for a check that is overdue.
const OVERDUE_WAIT: Duration = Duration::from_millis(500);
/// Upper bound of the delay between a failed load and the next one.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// Time limit of a load, so that one that hangs does not block the next.
const LOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// After this many consecutive loads with less than half of the entries in use, a feed is accepted although it shrank.
const LOADS_TO_SHRINK: u32 = 3;

/// Looks up indicators in the list of one source.
pub struct ListReader {
    loader: Arc<Loader>,
    /// Cancels a load in flight when the reader is dropped, because the source was changed, or tested without being
    /// saved.
    _cancel_on_drop: DropGuard,
}

struct Loader {
    source: Arc<dyn Source>,
    settings: Arc<SourceSettings>,
    location: Location,
    clock: Arc<dyn Clock>,
    copy: ArcSwap<ListCopy>,
    /// When the last check started.
    check_begun: std::sync::Mutex<Monotonic>,
    /// Held by the task that loads.
    loading: Arc<Mutex<()>>,
    tracker: TaskTracker,
    cancelled: CancellationToken,
}

enum Location {
    File { path: PathBuf, rules: EgressRules },
    Feed { feed: Box<Feed>, refresh: Duration },
}

/// The copy in use and the state of its location.
#[derive(Clone, Default)]
struct ListCopy {
    index: Option<Arc<ListIndex>>,
    /// When the copy was successfully loaded.
    loaded: Option<SystemTime>,
    /// When the location is checked again.
    next_check: Option<Monotonic>,
    /// Identifies the version of the list: time, size and inode of a file, or the etag of a feed.
    version: String,
    /// Why the last load was rejected.
    rejected: Option<String>,
    /// Consecutive loads that were rejected for being too small.
    too_small: u32,
    /// Counts the loads that may have changed what the list answers.
    generation: u64,
}

/// Why a load is rejected.
enum Rejection {
    /// The load failed, or its content cannot be read.
    Unusable(String),
    /// The new list has less than half of the entries in use.
    TooSmall { has: usize, had: usize },
}

impl ListReader {
    /// Makes a reader for the list of a source with these settings. Reads nothing before the first look-up, or before it is told
    /// to; loads run in tasks of `tracker`.
    ///
    /// # Errors
    /// If the source has no list, or the egress rules forbid its feed.
    pub fn new(
        source: Arc<dyn Source>,
        settings: Arc<SourceSettings>,
        rules: EgressRules,
        clock: Arc<dyn Clock>,
        tracker: TaskTracker,
    ) -> Result<Self, SourceError> {
        let location = match source.list_location() {
            Some(ListLocation::File(path)) => Location::File { path, rules },
            Some(ListLocation::Feed { url, refresh }) => {
                Location::Feed { feed: Box::new(Feed::new(url, &settings, rules, &clock)?), refresh }
            }
            None => return Err(SourceError::new(SourceErrorKind::BadQuestion, "the source has no list")),
        };
        let cancelled = CancellationToken::new();
        let _cancel_on_drop = cancelled.clone().drop_guard();
        let loader = Loader {
            source,
            settings,
            location,
            clock,
            copy: ArcSwap::from_pointee(ListCopy::default()),
            check_begun: Default::default(),
            loading: Default::default(),
            tracker,
            cancelled,
        };
        Ok(Self { loader: Arc::new(loader), _cancel_on_drop })
    }

    /// Starts to load the list unless it is loaded, so that the first look-up need not wait for all of that.
    pub fn start_loading(&self) {
        let copy = self.loader.copy.load_full();
        if copy.index.is_none() {
            self.loader.check_if_due(&copy);
        }
    }

    /// Counts the loads that may have changed what the list answers. Waits briefly for a check that is overdue, at most for `wait`;
    /// `None` if it is overdue after that, or the list was never loaded.
    pub async fn generation(&self, wait: Duration) -> Option<u64> {
        let copy = self.loader.copy.load_full();
        let is_due = self.loader.check_if_due(&copy);
        copy.index.as_ref()?;
        let late = copy.next_check.map_or(Duration::ZERO, |next| self.loader.clock.monotonic().since(next));
        if !is_due || late <= self.loader.interval() {
            return Some(copy.generation);
        }
        // Whoever checks holds it until the check is over.
        drop(self.loader.clock.timeout(wait, self.loader.loading.lock()).await?);
        Some(self.loader.copy.load().generation)
    }

    /// Looks the indicator up. Waits for the first copy, and briefly for an overdue check; the caller bounds the time.
    pub async fn find(&self, indicator: &Indicator) -> Answer {
        let copy = self.loader.current().await;
        let answer = match (&copy.index, copy.loaded) {
            (Some(index), Some(loaded)) => {
                let status = ListStatus {
                    loaded,
                    stale: copy.rejected.clone(),
                    entries: index.len(),
                    skipped: index.skipped(),
                    skipped_note: index.skipped_note().to_owned(),
                };
                match index.find(indicator) {
                    Some(entry) => ListAnswer::Listed { entry, status },
                    None => ListAnswer::NotListed(status),
                }
            }
            _ => ListAnswer::NeverLoaded(copy.rejected.clone().unwrap_or_else(|| "it was not read yet".into())),
        };
        Answer { received: self.loader.clock.now(), ttl: None, body: AnswerBody::List(answer) }
    }
}

impl Loader {
    /// The copy to use. If the location is due for a check, starts a task that does it.
    async fn current(self: &Arc<Self>) -> Arc<ListCopy> {
        let now = self.clock.monotonic();
        let copy = self.copy.load_full();
        if !self.check_if_due(&copy) {
            return copy;
        }
        match copy.next_check.filter(|_| copy.index.is_some()) {
            Some(next) if now.since(next) > self.interval() => self.wait_for_overdue(copy, now.since(next)).await,
            Some(_) => copy,
            // Without a copy, the look-up has to wait for the load.
            None => {
                drop(self.loading.lock().await);
                self.copy.load_full()
            }
        }
    }

    /// Starts a task that checks the location if that is due and none does yet. Returns whether it is due.
    fn check_if_due(self: &Arc<Self>, copy: &ListCopy) -> bool {
        let now = self.clock.monotonic();
        if copy.next_check.is_some_and(|next| now < next) {
            return false;
        }
        if let Ok(guard) = self.loading.clone().try_lock_owned() {
            *lock(&self.check_begun) = now;
            let loader = self.clone();
            self.tracker.spawn(async move {
                loader.check().await;
                drop(guard);
            });
        }
        true
    }

    /// Waits briefly for an overdue check: checks are only triggered by look-ups, so after a while without any the copy
    /// may be old. Once that time is over, look-ups use the old copy immediately.
    async fn wait_for_overdue(&self, copy: Arc<ListCopy>, late: Duration) -> Arc<ListCopy> {
        let waited = self.clock.monotonic().since(*lock(&self.check_begun));
        let wait = OVERDUE_WAIT.min(self.settings.timeout / 2).saturating_sub(waited);
        if self.clock.timeout(wait, self.loading.lock()).await.is_some() {
            return self.copy.load_full();
        }
        let why = format!("not looked at since it was due {} s ago; it is being loaded", late.as_secs());
        let rejected = copy.rejected.clone().or(Some(why));
        Arc::new(ListCopy { rejected, ..ListCopy::clone(&copy) })
    }

    /// How often the location is checked while nothing fails.
    fn interval(&self) -> Duration {
        match &self.location {
            Location::File { .. } => FILE_CHECK_INTERVAL,
            Location::Feed { refresh, .. } => *refresh,
        }
    }

    async fn check(&self) {
        let before = self.copy.load_full();
        let begun = self.clock.now();
        let mut copy = (*before).clone();
        let loaded = self.load_in_time(&before).await;
        copy.generation += u64::from(!matches!(loaded, Ok(None)));
        match loaded {
            // The location is unchanged, so an earlier rejection still applies. After a failed load the version is
            // empty, so this case does not occur.
            Ok(None) => {}
            Ok(Some((version, bytes))) => {
                copy.version = version;
                match self.index(&before, bytes).await {
                    Ok(index) => {
                        copy.index = Some(Arc::new(index));
                        copy.loaded = Some(begun);
                        copy.rejected = None;
                        copy.too_small = 0;
                    }
                    Err(rejection) => self.reject(&mut copy, rejection),
                }
            }
            Err(why) => {
                // Without a version the next load reads the list even if it did not change.
                copy.version.clear();
                self.reject(&mut copy, Rejection::Unusable(why));
            }
        }
        if let Some(why) = copy.rejected.as_ref().filter(|_| before.rejected != copy.rejected) {
            tracing::warn!(source = self.settings.name, why, "a reload of the list was rejected");
        }
        copy.next_check = Some(self.clock.monotonic() + self.wait(&copy));
        self.copy.store(Arc::new(copy));
    }

    /// How long until the location is checked again.
    fn wait(&self, copy: &ListCopy) -> Duration {
        // A feed that shrank is loaded at its normal interval, so that it is not accepted within minutes.
        if copy.rejected.is_some() && copy.too_small == 0 {
            self.interval().min(RETRY_INTERVAL)
        } else {
            self.interval()
        }
    }

    /// Records why the last load was rejected, and what can be done about it.
    fn reject(&self, copy: &mut ListCopy, rejection: Rejection) {
        let (has, had) = match rejection {
            Rejection::Unusable(why) => {
                copy.too_small = 0;
                copy.rejected = Some(why);
                return;
            }
            Rejection::TooSmall { has, had } => (has, had),
        };
        copy.too_small = copy.too_small.saturating_add(1);
        let way_out = match &self.location {
            Location::File { .. } => "if that is meant, restart the server".to_owned(),
            Location::Feed { .. } if has == 0 => {
                "an empty one is never taken; if that is meant, restart the server".into()
            }
            Location::Feed { .. } => {
                // With a version the feed would answer "not modified", and the load would not be repeated.
                copy.version.clear();
                format!("it is taken if {LOADS_TO_SHRINK} loads in a row bring so few (now {})", copy.too_small)
            }
        };
        copy.rejected = Some(format!("the new copy has {has} entries, less than half of the {had} in use; {way_out}"));
    }

    async fn load_in_time(&self, before: &ListCopy) -> Result<Option<(String, Vec<u8>)>, String> {
        let loaded = self.cancelled.run_until_cancelled(self.load(before));
        match self.clock.timeout(LOAD_TIMEOUT, loaded).await {
            Some(Some(loaded)) => loaded,
            Some(None) => Err("the source was changed or removed".into()),
            None => Err(format!("not loaded within {} s", LOAD_TIMEOUT.as_secs())),
        }
    }

    /// Loads the list's version and bytes; `None` if it did not change.
    async fn load(&self, before: &ListCopy) -> Result<Option<(String, Vec<u8>)>, String> {
        match &self.location {
            Location::File { path, rules } => {
                // Callers see this message, so it names the file without its folders.
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                load_file(path, rules, before).await.map_err(|why| format!("{name}: {why}"))
            }
            Location::Feed { feed, .. } => {
                // Without a copy in use, the feed must be downloaded even if it did not change.
                let version = before.index.as_ref().map_or("", |_| before.version.as_str());
                feed.load(version).await
            }
        }
    }

    /// Builds the index of the list, on a blocking thread.
    async fn index(&self, before: &ListCopy, bytes: Vec<u8>) -> Result<ListIndex, Rejection> {
        let source = self.source.clone();
        let build = move || source.index(&bytes);
        let built = tokio::task::spawn_blocking(build).await;
        let built = built.map_err(|_| Rejection::Unusable("the list could not be read".into()))?;
        let index = built.map_err(|error| Rejection::Unusable(error.detail))?;
        let (has, had) = (index.len(), before.index.as_ref().map_or(0, |index| index.len()));
        if has.saturating_mul(2) < had && !self.is_accepted(before, has) {
            return Err(Rejection::TooSmall { has, had });
        }
        Ok(index)
    }

    /// Whether a list that is too small has been loaded often enough to be accepted.
    fn is_accepted(&self, before: &ListCopy, has: usize) -> bool {
        match &self.location {
            Location::File { .. } => false,
            Location::Feed { .. } => has > 0 && before.too_small.saturating_add(1) >= LOADS_TO_SHRINK,
        }
    }
}

/// Reads the file's version and bytes; `None` if it did not change. The rules are checked each time, since a symbolic
/// link may have been changed.
async fn load_file(
    path: &Path,
    rules: &EgressRules,
    before: &ListCopy,
) -> Result<Option<(String, Vec<u8>)>, Box<dyn std::error::Error + Send + Sync>> {
    let real = tokio::fs::canonicalize(path).await;
    let mut folders = Vec::new();
    for folder in &rules.list_folders {
        folders.extend(tokio::fs::canonicalize(folder).await);
    }
    rules.check_file(real.as_deref().ok(), &folders)?;
    let real = real?;
    let metadata = tokio::fs::metadata(&real).await?;
    let version = format!("{:?} {} {}", metadata.modified()?, metadata.len(), metadata.ino());
    if version == before.version {
        return Ok(None);
    }
    if !metadata.is_file() {
        return Err("not a file".into());
    }
    // Reads up to one byte more than the limit, since a file can grow after its size was read.
    let limit = u64::try_from(MAX_LIST_BYTES).unwrap_or(u64::MAX);
    let size = usize::try_from(metadata.len()).unwrap_or(MAX_LIST_BYTES);
    // With room for one byte more, the end of the file is seen without growing.
    let mut bytes = Vec::with_capacity(size.min(MAX_LIST_BYTES) + 1);
    let file = tokio::fs::File::open(&real).await?;
    let opened = file.metadata().await?;
    // The file may have been replaced by a link between the check and the opening.
    if (opened.dev(), opened.ino()) != (metadata.dev(), metadata.ino()) {
        return Err("changed while it was opened".into());
    }
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).await?;
    if bytes.len() > MAX_LIST_BYTES {
        return Err(format!("more than {MAX_LIST_BYTES} bytes").into());
    }
    Ok(Some((version, bytes)))
}

impl fmt::Debug for ListReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListReader").field("source", &self.loader.settings.name).finish_non_exhaustive()
    }
}
